//! `client`: the worker processes.

use std::collections::BTreeMap;

use forest_proto::admin::v1 as api;
use serde_json::{Value, json};

use super::Context;
use crate::args::ClientCommand;
use crate::connect::Client;
use crate::error::Failure;
use crate::output::{List, View, instant_json};
use crate::paging::collect;

pub(super) async fn run(context: &mut Context<'_>, command: ClientCommand) -> Result<(), Failure> {
    let ClientCommand::List(args) = command;
    let listed = collect(args.paging, async |page_size, page_token| {
        let request = api::ListClientsRequest { group: args.group.clone(), page_size, page_token };
        let call = async |mut client: Client| client.list_clients(request.clone()).await;
        let page = context.api.read("list the clients", call).await?;
        Ok((page.clients, page.next_page_token))
    });
    let listed = listed.await?;
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

fn row(client: &api::Client, view: &View) -> Vec<String> {
    let busy = client.queued + client.running;
    vec![
        client.id.clone(),
        client.group.clone(),
        client.address.clone(),
        format!("{busy}/{}", client.capacity),
        if client.any_target { "any".to_owned() } else { client.targets.join(", ") },
        if client.draining { "draining" } else { "ready" }.to_owned(),
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
        "labels": client.labels,
        "started_at": instant_json(client.started_at),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

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
}
