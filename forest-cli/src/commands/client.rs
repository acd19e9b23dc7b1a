//! `client`: the worker processes.

use std::collections::BTreeMap;
use std::time::Duration;

use forest_proto::admin::v1 as api;
use serde_json::{Value, json};

use super::Context;
use crate::args::{ClientCommand, OfGroup, OneClient};
use crate::connect::Client;
use crate::error::Failure;
use crate::output::{List, View, instant_json};
use crate::paging::{Listed, Paging, collect};

/// Between two looks at a client that is waited for.
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);

pub(super) async fn run(context: &mut Context<'_>, command: ClientCommand) -> Result<(), Failure> {
    match command {
        ClientCommand::List(args) => list(context, args).await,
        ClientCommand::Drain { client, wait, wait_timeout } => {
            drain(context, &client, wait.then_some(wait_timeout)).await
        }
        ClientCommand::Undrain { client } => undrain(context, &client).await,
    }
}

async fn drain(context: &mut Context<'_>, of: &OneClient, wait: Option<Duration>) -> Result<(), Failure> {
    let found = find(context, of).await?;
    let request = api::DrainClientRequest { group: found.group, client: found.id };
    let call = async |mut client: Client| client.drain_client(request.clone()).await;
    let mut drained = context.api.write("drain the client", call).await?;
    if let Some(limit) = wait {
        drained = until_idle(context, drained, limit).await?;
    }
    let message = match drained.queued + drained.running {
        0 => format!("client {} gets no new runs and has none", drained.id),
        busy => format!("client {} gets no new runs; it still has {busy}", drained.id),
    };
    context.done("drained", "client", &drained.id, &message)
}

async fn undrain(context: &mut Context<'_>, of: &OneClient) -> Result<(), Failure> {
    let found = find(context, of).await?;
    let request = api::UndrainClientRequest { group: found.group, client: found.id };
    let call = async |mut client: Client| client.undrain_client(request.clone()).await;
    let undrained = context.api.write("undrain the client", call).await?;
    let message = match undrained.draining {
        true => format!("client {} is about to stop: it gets no new runs all the same", undrained.id),
        false => format!("client {} gets runs again", undrained.id),
    };
    context.done("undrained", "client", &undrained.id, &message)
}

/// Waits until the client has nothing to do, or is gone.
async fn until_idle(
    context: &mut Context<'_>,
    mut client: api::Client,
    limit: Duration,
) -> Result<api::Client, Failure> {
    let begun = tokio::time::Instant::now();
    while client.queued + client.running > 0 {
        if begun.elapsed() >= limit {
            let busy = client.queued + client.running;
            let line =
                format!("client {} still has {busy} runs after {limit:?}; it stays drained", client.id);
            return Err(Failure::refused(line));
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
        let all = clients(context, &client.group, Paging::ALL).await?;
        match all.items.into_iter().find(|other| other.id == client.id) {
            Some(now) => client = now,
            None => (client.queued, client.running) = (0, 0),
        }
    }
    Ok(client)
}

/// By its id, or by its name if that is of one alone.
async fn find(context: &mut Context<'_>, of: &OneClient) -> Result<api::Client, Failure> {
    let all = clients(context, &of.group, Paging::ALL).await?.items;
    let (ids, names): (Vec<_>, Vec<_>) = all
        .into_iter()
        .filter(|client| client.id == of.client || client.name == of.client)
        .partition(|client| client.id == of.client);
    let mut found = if ids.is_empty() { names } else { ids };
    match (found.pop(), found.len()) {
        (Some(client), 0) => Ok(client),
        (Some(_), others) => Err(Failure::usage(format!(
            "{:?} is {} clients: say which by its id and --group, see `client list`",
            of.client,
            others + 1
        ))),
        (None, _) => Err(Failure::not_found(format!("no client {:?}", of.client))),
    }
}

async fn list(context: &mut Context<'_>, args: OfGroup) -> Result<(), Failure> {
    let listed = clients(context, &args.group, args.paging).await?;
    let view = &context.view;
    let list = List {
        id: &|client: &api::Client| client.id.clone(),
        header: &["CLIENT", "GROUP", "ADDRESS", "BUSY", "TARGETS", "STATE", "VERSION", "LABELS", "SINCE"],
        narrow: 6,
        row: &|client| row(client, view),
        json: &to_json,
    };
    view.list(context.console, "clients", &listed, &list)
}

async fn clients(
    context: &mut Context<'_>,
    group: &str,
    paging: Paging,
) -> Result<Listed<api::Client>, Failure> {
    collect(paging, async |page_size, page_token| {
        let request = api::ListClientsRequest { group: group.to_owned(), page_size, page_token };
        let call = async |mut client: Client| client.list_clients(request.clone()).await;
        let page = context.api.read("list the clients", call).await?;
        Ok((page.clients, page.next_page_token))
    })
    .await
}

/// What it would do with a new run.
fn state(client: &api::Client) -> &'static str {
    match (client.draining, client.drained) {
        (true, _) => "draining",
        (false, true) => "drained",
        (false, false) => "ready",
    }
}

fn row(client: &api::Client, view: &View) -> Vec<String> {
    let busy = client.queued + client.running;
    vec![
        client.id.clone(),
        client.group.clone(),
        client.address.clone(),
        format!("{busy}/{}", client.capacity),
        if client.any_target { "any".to_owned() } else { client.targets.join(", ") },
        state(client).to_owned(),
        client.version.clone(),
        labels(client),
        view.second(client.started_at),
    ]
}

/// In the order of their names, however they came.
fn labels(client: &api::Client) -> String {
    let labels: BTreeMap<_, _> = client.labels.iter().collect();
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(", ")
}

fn to_json(client: &api::Client) -> Value {
    json!({
        "id": client.id,
        "name": client.name,
        "group": client.group,
        "address": client.address,
        "version": client.version,
        "capacity": client.capacity,
        "queued": client.queued,
        "running": client.running,
        "targets": client.targets,
        "any_target": client.any_target,
        "draining": client.draining,
        "drained": client.drained,
        "drained_by": client.drained_by,
        "drained_at": instant_json(client.drained_at),
        "labels": client.labels,
        "started_at": instant_json(client.started_at),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::error::Exit;
    use crate::fake::Fake;

    #[tokio::test]
    async fn clients_as_a_table() {
        let fake = Fake::start().await;
        let expected = "\
CLIENT    GROUP  ADDRESS   BUSY  TARGETS    STATE
w1-7f3a9  trade  10.0.0.1  3/16  bill, tax  ready
w2        trade            0/1   any        draining
";
        assert_eq!(fake.cli(&["client", "list"]).await.stdout, expected);
    }

    #[tokio::test]
    async fn clients_as_a_wide_table() {
        let fake = Fake::start().await;
        let shown = fake.cli(&["client", "list", "--group", "trade", "-o", "wide"]).await.stdout;
        let words: Vec<_> = shown.split_whitespace().collect();
        assert_eq!(words[..9].join(" "), "CLIENT GROUP ADDRESS BUSY TARGETS STATE VERSION LABELS SINCE");
        for word in ["size=small,", "zone=a", "0.1.0", "2026-11-18"] {
            assert!(words.contains(&word), "{word}: {shown}");
        }
    }

    #[tokio::test]
    async fn clients_as_json() {
        let fake = Fake::start().await;
        let json = fake.cli(&["client", "list", "--group", "trade", "-o", "json"]).await.json();
        assert_eq!((&json["more"], &json["clients"][0]["targets"]), (&json!(false), &json!(["bill", "tax"])));
        assert_eq!(json["clients"][0]["started_at"], "2026-11-18T11:06:40.000Z");
        assert_eq!(json["clients"][0]["labels"], json!({ "size": "small", "zone": "a" }));
        assert_eq!(json["clients"][1]["started_at"], Value::Null);
        let none = fake.cli(&["client", "list", "--group", "other", "-o", "json"]).await.json();
        assert_eq!(none["clients"], json!([]), "the group is passed on");
    }

    #[tokio::test]
    async fn a_client_is_drained_by_its_id_or_its_name() {
        let fake = Fake::start().await;
        let drained = fake.cli(&["client", "drain", "w1"]).await;
        let note = "forest-cli: client w1-7f3a9 gets no new runs; it still has 3\n";
        assert_eq!((drained.exit, drained.stderr.as_str()), (Exit::Ok, note));
        assert!(fake.cli(&["client", "list"]).await.stdout.contains("bill, tax  drained"));
        let waited = ["client", "drain", "w1-7f3a9", "--group", "trade", "--wait", "--wait-timeout", "0s"];
        assert_eq!(fake.cli(&waited).await.exit, Exit::Refused);
        let json = fake.cli(&["client", "undrain", "w1-7f3a9", "-o", "json"]).await.json();
        assert_eq!(json, json!({ "undrained": { "client": "w1-7f3a9" } }));
        assert_eq!(fake.state().drained.as_slice(), [true, true, false]);
    }

    #[tokio::test]
    async fn who_is_not_there_is_not_drained() {
        let fake = Fake::start().await;
        for line in [["client", "drain", "w9"], ["client", "undrain", "w9"]] {
            assert_eq!(fake.cli(&line).await.exit, Exit::NotFound);
        }
    }
}
