//! `node log-level`: how much nodes log.

use forest_proto::admin::v1::{
    GetLogLevelRequest, ListNodesRequest, LogLevel, ResetLogLevelRequest, SetLogLevelRequest,
};
use serde_json::{Value, json};

use super::Context;
use crate::connect::Client;
use crate::error::Failure;
use crate::output::{List, instant_json};
use crate::paging::Listed;

/// What is to become of it.
pub(super) enum Change {
    None,
    Set { filter: String, lives_ms: i64 },
    Reset,
}

/// Of these nodes, or of all.
pub(super) async fn run(
    context: &mut Context<'_>,
    mut nodes: Vec<String>,
    change: Change,
) -> Result<(), Failure> {
    if nodes.is_empty() {
        let call = async |mut client: Client| client.list_nodes(ListNodesRequest {}).await;
        let answer = context.api.read("list the nodes", call).await?;
        nodes = answer.nodes.into_iter().map(|node| node.id).collect();
    }
    let mut levels = Vec::new();
    for node in nodes {
        levels.push(of_node(context, node, &change).await?);
    }
    let view = &context.view;
    let row = |level: &LogLevel| {
        let until = if level.expires_at == 0 { "-".to_owned() } else { view.second(level.expires_at) };
        let by = if level.by.is_empty() { "-" } else { level.by.as_str() };
        vec![level.node.clone(), level.filter.clone(), until, level.configured.clone(), by.to_owned()]
    };
    let list = List {
        id: &|level: &LogLevel| level.node.clone(),
        header: &["NODE", "LEVEL", "UNTIL", "CONFIGURED", "BY"],
        narrow: 4,
        row: &row,
        json: &to_json,
    };
    context.view.list(context.console, "log_levels", &Listed::whole(levels), &list)
}

async fn of_node(context: &mut Context<'_>, node: String, change: &Change) -> Result<LogLevel, Failure> {
    match change {
        Change::None => {
            let request = GetLogLevelRequest { node };
            let call = async |mut client: Client| client.get_log_level(request.clone()).await;
            context.api.read("get the log level", call).await
        }
        Change::Set { filter, lives_ms } => {
            let request = SetLogLevelRequest { node, filter: filter.clone(), lives_ms: *lives_ms };
            let call = async |mut client: Client| client.set_log_level(request.clone()).await;
            context.api.write("change the log level", call).await
        }
        Change::Reset => {
            let request = ResetLogLevelRequest { node };
            let call = async |mut client: Client| client.reset_log_level(request.clone()).await;
            context.api.write("set the log level back", call).await
        }
    }
}

fn to_json(level: &LogLevel) -> Value {
    json!({
        "node": level.node,
        "filter": level.filter,
        "configured": level.configured,
        "expires_at": instant_json(level.expires_at),
        "by": level.by,
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use crate::args::Cli;
    use crate::error::Exit;
    use crate::fake::Fake;

    #[tokio::test]
    async fn every_node_or_one_is_shown_and_changed() {
        let fake = Fake::start().await;
        let shown = "NODE  LEVEL  UNTIL  CONFIGURED\nn1    info   -      info\nn2    info   -      info\n";
        assert_eq!(fake.cli(&["node", "log-level"]).await.stdout, shown);
        let line = ["node", "log-level", "info,sqlx=debug", "--node", "n2", "--for", "1h", "-o", "json"];
        let level = &fake.cli(&line).await.json()["log_levels"][0];
        assert_eq!((&level["filter"], &level["node"]), (&"info,sqlx=debug".into(), &"n2".into()));
        assert_eq!(level["expires_at"], "2026-11-18T12:06:40.000Z");
        assert_eq!(fake.cli(&["node", "log-level", "--reset"]).await.stdout, shown);
    }

    #[tokio::test]
    async fn what_cannot_be_is_refused() {
        let fake = Fake::start().await;
        let missing = fake.cli(&["node", "log-level", "debug", "--node", "n3"]).await;
        assert_eq!(missing.exit, Exit::NotFound, "{}", missing.stderr);
        for line in ["debug --reset", "debug --for x", "debug --for 0s"] {
            let line = ["forest-cli", "node", "log-level"].into_iter().chain(line.split(' '));
            assert!(Cli::try_parse_from(line.clone()).is_err(), "{line:?}");
        }
    }
}
