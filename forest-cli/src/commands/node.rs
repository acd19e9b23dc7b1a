//! `node`: the server processes.

use forest_proto::admin::v1::{ListNodesRequest, Node};
use serde_json::{Value, json};

use super::Context;
use super::log_level::{self, Change};
use crate::args::NodeCommand;
use crate::connect::Client;
use crate::error::Failure;
use crate::output::{List, instant_json};
use crate::paging::Listed;

pub(super) async fn run(context: &mut Context<'_>, command: NodeCommand) -> Result<(), Failure> {
    match command {
        NodeCommand::List => list(context).await,
        NodeCommand::LogLevel { filter, node, lives, reset } => {
            let change = match (filter, reset) {
                (Some(filter), _) => Change::Set { filter, lives_ms: lives },
                (None, true) => Change::Reset,
                (None, false) => Change::None,
            };
            log_level::run(context, node, change).await
        }
    }
}

async fn list(context: &mut Context<'_>) -> Result<(), Failure> {
    let call = async |mut client: Client| client.list_nodes(ListNodesRequest {}).await;
    let answer = context.api.read("list the nodes", call).await?;
    let view = &context.view;
    let row = |node: &Node| {
        vec![
            node.id.clone(),
            if node.leader { "leader" } else { "follower" }.to_owned(),
            node.address.clone(),
            node.version.clone(),
            format!("{:+}ms", node.clock_skew_ms),
            view.second(node.started_at),
        ]
    };
    let list = List {
        id: &|node: &Node| node.id.clone(),
        header: &["NODE", "ROLE", "ADDRESS", "VERSION", "CLOCK", "STARTED"],
        narrow: 6,
        row: &row,
        json: &to_json,
    };
    view.list(context.console, "nodes", &Listed::whole(answer.nodes), &list)
}

fn to_json(node: &Node) -> Value {
    json!({
        "id": node.id,
        "address": node.address,
        "version": node.version,
        "leader": node.leader,
        "started_at": instant_json(node.started_at),
        "clock_skew_ms": node.clock_skew_ms,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::fake::Fake;

    #[tokio::test]
    async fn nodes_in_both_forms() {
        let fake = Fake::start().await;
        let expected = "\
NODE  ROLE      ADDRESS        VERSION  CLOCK  STARTED
n1    leader    10.0.0.1:2856  0.1.0    +0ms   2026-11-18 11:06:40+00
n2    follower  10.0.0.2:2856  0.1.0    -12ms  2026-11-18 11:06:40+00
";
        assert_eq!(fake.cli(&["node", "list"]).await.stdout, expected);
        let json = fake.cli(&["node", "list", "-o", "json"]).await.json();
        let second = json!({
            "id": "n2",
            "address": "10.0.0.2:2856",
            "version": "0.1.0",
            "leader": false,
            "started_at": "2026-11-18T11:06:40.000Z",
            "clock_skew_ms": -12,
        });
        assert_eq!(json["nodes"][1], second);
    }
}
