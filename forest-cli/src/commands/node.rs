//! `node`: the server processes.

use forest_proto::admin::v1::{ListNodesRequest, Node, StepDownRequest, StepDownResponse};
use serde_json::{Value, json};

use super::Context;
use super::log_level::{self, Change};
use crate::args::NodeCommand;
use crate::connect::Client;
use crate::error::{Exit, Failure};
use crate::output::{List, instant_json, printable_line, span};
use crate::paging::Listed;

pub(super) async fn run(context: &mut Context<'_>, command: NodeCommand) -> Result<(), Failure> {
    match command {
        NodeCommand::List => list(context).await,
        NodeCommand::StepDown { node, hold } => step_down(context, node, hold).await,
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

async fn step_down(context: &mut Context<'_>, node: String, hold: u64) -> Result<(), Failure> {
    let node = if node.is_empty() { node } else { find(context, node).await? };
    let request = StepDownRequest { node, hold_ms: Some(hold) };
    let call = async |mut client: Client| client.step_down(request.clone()).await;
    let stepped = context.api.write("ask the leader to step down", call).await?;
    let StepDownResponse { from, term, others, leader, leader_term, took_ms } = &stepped;
    let took = span(i64::try_from(*took_ms).unwrap_or(i64::MAX));
    let message = match (leader.as_str(), others) {
        ("", _) => format!("{from} was asked to step down, and no node leads after {took}: see `node list`"),
        (same, 0) if same == from => {
            format!("there is no other node: {from} took the leadership again after {took}")
        }
        (leader, _) => format!("{from} stepped down, {leader} leads after {took}"),
    };
    if context.view.format.is_document() {
        let json = json!({
            "from": from, "term": term, "others": others, "leader": leader, "leader_term": leader_term, "took_ms": took_ms,
        });
        context.view.data(context.console, &json)?;
    } else {
        context.console.note(&printable_line(&message));
    }
    if leader.is_empty() { Err(Failure::told(Exit::Refused)) } else { Ok(()) }
}

/// A node by its id, or by the name that its id begins with. One that is not there is for the server to refuse.
async fn find(context: &mut Context<'_>, node: String) -> Result<String, Failure> {
    let nodes = nodes(context).await?;
    let is_named = |id: &str| id.rsplit_once('-').is_some_and(|(name, _)| name == node);
    let mut named = nodes.iter().filter(|other| is_named(&other.id));
    match (nodes.iter().any(|other| other.id == node), named.next(), named.next()) {
        (false, Some(only), None) => Ok(only.id.clone()),
        _ => Ok(node),
    }
}

async fn nodes(context: &mut Context<'_>) -> Result<Vec<Node>, Failure> {
    let call = async |mut client: Client| client.list_nodes(ListNodesRequest {}).await;
    Ok(context.api.read("list the nodes", call).await?.nodes)
}

async fn list(context: &mut Context<'_>) -> Result<(), Failure> {
    let nodes = nodes(context).await?;
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
    view.list(context.console, "nodes", &Listed::whole(nodes), &list)
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

    use crate::error::Exit;
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

    #[tokio::test]
    async fn a_leader_that_steps_down_and_one_that_cannot() {
        let fake = Fake::start().await;
        let stepped = fake.cli(&["node", "step-down"]).await;
        assert_eq!((stepped.exit, stepped.stdout.as_str()), (Exit::Ok, ""));
        assert_eq!(stepped.stderr, "forest-cli: n1 stepped down, n2 leads after 12ms\n");
        let json = fake.cli(&["node", "step-down", "n1", "--hold", "30s", "-o", "json"]).await.json();
        assert_eq!((&json["leader"], &json["leader_term"]), (&json!("n2"), &json!(43)));
        let asked = fake.state().step_down_asked.clone().expect("asked");
        assert_eq!((asked.node.as_str(), asked.hold_ms), ("n1", Some(30_000)));
        assert_eq!(fake.cli(&["node", "step-down", "n2"]).await.exit, Exit::Refused);
    }
}
