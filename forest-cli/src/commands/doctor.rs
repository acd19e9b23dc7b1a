//! `doctor`: looks for what is wrong, and says what to do about it.
//!
//! It only reads. What it may not see is a warning and no failure.

use std::collections::BTreeSet;

use forest_proto::admin::v1::{
    self as api, Cluster, GetClusterRequest, ListClientsRequest, ListNodesRequest, ListPendingRequest, Node,
    WhoAmIRequest,
};
use serde_json::{Value, json};

use super::Context;
use crate::connect::Client;
use crate::error::{Exit, Failure};
use crate::output::{List, printable_line, span};
use crate::paging::{Listed, Paging, collect};

/// Dispatch is held by more than that.
const SKEW_TO_FAIL_MS: i64 = 1000;
const SKEW_TO_WARN_MS: i64 = 250;
const PENDING_TO_FAIL_MS: i64 = 600_000;
const PENDING_TO_WARN_MS: i64 = 60_000;
/// No more names than this in a line.
const MAX_NAMES: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Ok,
    Warn,
    Fail,
}

impl State {
    fn text(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        }
    }

    /// By how far a figure is.
    fn of(figure: i64, warn: i64, fail: i64) -> Self {
        match figure {
            figure if figure > fail => Self::Fail,
            figure if figure > warn => Self::Warn,
            _ => Self::Ok,
        }
    }
}

/// One line of the answer.
struct Finding {
    state: State,
    check: &'static str,
    /// How it is.
    text: String,
    /// What to do. Empty: nothing.
    advice: String,
}

fn finding(state: State, check: &'static str, text: impl Into<String>, advice: &str) -> Finding {
    let advice = if state == State::Ok { "" } else { advice };
    Finding { state, check, text: printable_line(&text.into()), advice: advice.to_owned() }
}

/// Ends with 1 if anything fails; with the code of the reason, if not even the first question is answered.
pub(super) async fn run(context: &mut Context<'_>) -> Result<(), Failure> {
    let call = async |mut client: Client| client.get_cluster(GetClusterRequest {}).await;
    let (findings, end) = match context.api.read("get the status", call).await {
        Ok(cluster) => {
            let findings = all(context, &cluster).await;
            let fails = findings.iter().any(|finding| finding.state == State::Fail);
            (findings, fails.then_some(Exit::Refused))
        }
        Err(failure) => (vec![finding(State::Fail, "server", failure.to_string(), "")], Some(failure.exit)),
    };
    show(context, findings)?;
    end.map_or(Ok(()), |exit| Err(Failure::told(exit)))
}

async fn all(context: &mut Context<'_>, cluster: &Cluster) -> Vec<Finding> {
    let mut findings =
        vec![finding(State::Ok, "server", format!("{} answers", cluster.node), ""), login(context).await];
    let call = async |mut client: Client| client.list_nodes(ListNodesRequest {}).await;
    match context.api.read("list the nodes", call).await {
        Ok(answer) => findings.extend([versions(cluster, &answer.nodes), nodes(&answer.nodes)]),
        Err(failure) => findings.push(unseen("nodes", &failure)),
    }
    findings.extend(of_cluster(cluster));
    findings.push(clients(context, cluster).await);
    findings.push(pending(context, cluster).await);
    findings
}

fn unseen(check: &'static str, failure: &Failure) -> Finding {
    finding(State::Warn, check, failure.to_string(), "not looked at")
}

async fn login(context: &mut Context<'_>) -> Finding {
    let call = async |mut client: Client| client.who_am_i(WhoAmIRequest {}).await;
    match context.api.read("ask who you are", call).await {
        Ok(identity) if identity.login => {
            finding(State::Ok, "login", format!("you are {}", identity.who), "")
        }
        Ok(_) => {
            let advice = "let nobody else reach the port, or turn the login on";
            finding(State::Warn, "login", "whoever reaches the port may do everything", advice)
        }
        Err(failure) => unseen("login", &failure),
    }
}

fn versions(cluster: &Cluster, nodes: &[Node]) -> Finding {
    let ours = env!("CARGO_PKG_VERSION");
    let all = nodes.iter().map(|node| node.version.as_str()).chain([cluster.version.as_str(), ours]);
    let versions: BTreeSet<&str> = all.collect();
    let state = if versions.len() > 1 { State::Warn } else { State::Ok };
    let text = format!(
        "this program and {} nodes: {}",
        nodes.len(),
        versions.into_iter().collect::<Vec<_>>().join(", ")
    );
    finding(state, "version", text, "finish the update, so that all are of one version")
}

fn nodes(nodes: &[Node]) -> Finding {
    let state = if nodes.len() < 2 { State::Warn } else { State::Ok };
    let advice = "start a second one: nobody takes over from the only one";
    finding(state, "nodes", nodes.len().to_string(), advice)
}

fn of_cluster(cluster: &Cluster) -> Vec<Finding> {
    let yes = |good: bool| if good { State::Ok } else { State::Fail };
    let leader = match cluster.leader.as_str() {
        "" => "none".to_owned(),
        leader => format!("{leader} since term {}", cluster.term),
    };
    let history = match (cluster.history_available, cluster.runs_uncollected) {
        (true, 0) => "available".to_owned(),
        (true, waiting) => format!("available; {waiting} results wait in etcd"),
        (false, waiting) => format!("away; {waiting} results wait in etcd"),
    };
    let etcd = if cluster.etcd_version.is_empty() { "does not answer" } else { &cluster.etcd_version };
    let skew = State::of(cluster.max_clock_skew_ms.abs(), SKEW_TO_WARN_MS, SKEW_TO_FAIL_MS);
    let (skew, held) = match cluster.dispatch_held {
        true => (State::Fail, ", and dispatch is held"),
        false => (skew, ""),
    };
    let quarantined = if cluster.quarantined == 0 { State::Ok } else { State::Warn };
    let clock = format!("{} apart{held}", span(cluster.max_clock_skew_ms));
    vec![
        finding(
            yes(!cluster.leader.is_empty()),
            "leader",
            leader,
            "wait for twice the lease; then look at the nodes' logs and at etcd: nothing fires without a leader",
        ),
        finding(yes(!cluster.etcd_version.is_empty()), "etcd", etcd, "look at etcd's members and their logs"),
        finding(
            yes(cluster.history_available),
            "history",
            history,
            "look at the database; jobs go on, and results are kept in etcd as long as it has room",
        ),
        finding(skew, "clocks", clock, "let NTP or chrony set the clocks of all nodes"),
        finding(
            quarantined,
            "quarantined",
            format!("{} keys that nobody understands", cluster.quarantined),
            "the leader's log names each key: repair or delete it in etcd",
        ),
    ]
}

async fn clients(context: &mut Context<'_>, cluster: &Cluster) -> Finding {
    let listed = collect(Paging::ALL, async |page_size, page_token| {
        let request = ListClientsRequest { page_size, page_token, ..ListClientsRequest::default() };
        let call = async |mut client: Client| client.list_clients(request.clone()).await;
        let page = context.api.read("list the clients", call).await?;
        Ok((page.clients, page.next_page_token))
    });
    let clients = match listed.await {
        Ok(listed) => listed.items,
        Err(failure) => return unseen("clients", &failure),
    };
    if clients.is_empty() {
        let state = if cluster.enabled_jobs > 0 { State::Fail } else { State::Warn };
        return finding(state, "clients", "none", "start workers: without them runs wait and then expire");
    }
    let is_full = |client: &&api::Client| client.queued + client.running >= client.capacity;
    let full: Vec<&str> = clients.iter().filter(is_full).map(|client| client.id.as_str()).collect();
    let names = full.iter().take(MAX_NAMES).copied().collect::<Vec<_>>().join(", ");
    let more = if full.len() > MAX_NAMES { ", ..." } else { "" };
    match full.len() {
        0 => finding(State::Ok, "clients", format!("{}, all with room", clients.len()), ""),
        count => {
            let text = format!("{count} of {} have no room: {names}{more}", clients.len());
            finding(State::Warn, "clients", text, "start more workers, or raise their capacity")
        }
    }
}

async fn pending(context: &mut Context<'_>, cluster: &Cluster) -> Finding {
    if cluster.runs_pending == 0 {
        return finding(State::Ok, "pending", "no run waits for a client", "");
    }
    let state = State::of(cluster.oldest_pending_ms, PENDING_TO_WARN_MS, PENDING_TO_FAIL_MS);
    let mut text =
        format!("{} runs wait, the oldest for {}", cluster.runs_pending, span(cluster.oldest_pending_ms));
    let request = ListPendingRequest { page_size: 1, ..ListPendingRequest::default() };
    let call = async |mut client: Client| client.list_pending(request.clone()).await;
    // Without it the figures say enough.
    if let Ok(answer) = context.api.read("list the pending runs", call).await {
        let oldest = answer.waiting.iter().min_by_key(|waiting| waiting.oldest_scheduled_at);
        if let Some(oldest) = oldest {
            text += &format!(", in {}/{}: {}", oldest.group, oldest.target, super::pending::reason(oldest));
        }
    }
    finding(state, "pending", text, "`pending list` says what they wait for; start workers that serve it")
}

fn show(context: &mut Context<'_>, findings: Vec<Finding>) -> Result<(), Failure> {
    let row = |finding: &Finding| {
        let text = match finding.advice.as_str() {
            "" => finding.text.clone(),
            advice => format!("{} - {advice}", finding.text),
        };
        vec![finding.check.to_owned(), finding.state.text().to_owned(), text]
    };
    let json = |finding: &Finding| -> Value {
        json!({
            "check": finding.check,
            "state": finding.state.text().to_ascii_lowercase(),
            "finding": finding.text,
            "advice": finding.advice,
        })
    };
    let list = List {
        id: &|finding: &Finding| finding.check.to_owned(),
        header: &["CHECK", "STATE", "FINDING"],
        narrow: 3,
        row: &row,
        json: &json,
    };
    context.view.list(context.console, "findings", &Listed::whole(findings), &list)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use tonic::Status;

    use super::{Cluster, State, of_cluster};
    use crate::error::Exit;
    use crate::fake::Fake;

    #[tokio::test]
    async fn a_cluster_without_failures_ends_well() {
        let fake = Fake::start().await;
        let ran = fake.cli_with_token("forest_1f2e_x", &["doctor", "-o", "wide"]).await;
        let expected = "\
CHECK        STATE  FINDING
server       ok     n1 answers
login        ok     you are token:1f2e
version      ok     this program and 2 nodes: 0.1.0
nodes        ok     2
leader       ok     n1 since term 42
etcd         ok     3.4.23
history      ok     available
clocks       ok     12ms apart
quarantined  ok     0 keys that nobody understands
clients      ok     2, all with room
pending      warn   1 runs wait, the oldest for 1m30s, in trade/bill: no client would take them - `pending list` says what they wait for; start workers that serve it
";
        assert_eq!((ran.exit, ran.stdout.as_str(), ran.stderr.as_str()), (Exit::Ok, expected, ""));
        let json = fake.cli(&["doctor", "-o", "json"]).await.json();
        let login = &json["findings"][1];
        assert_eq!((&login["state"], &login["check"]), (&Value::from("warn"), &Value::from("login")));
    }

    #[test]
    fn each_thing_that_can_be_wrong_is_found() {
        let healthy = || Cluster {
            leader: "n1".into(),
            etcd_version: "3.4.23".into(),
            history_available: true,
            ..Cluster::default()
        };
        let state = |cluster: Cluster, check: &str| {
            let found =
                of_cluster(&cluster).into_iter().find(|finding| finding.check == check).expect("checked");
            assert_eq!(found.advice.is_empty(), found.state == State::Ok, "{check}");
            found.state
        };
        assert!(of_cluster(&healthy()).iter().all(|finding| finding.state == State::Ok));
        assert_eq!(state(Cluster { leader: String::new(), ..healthy() }, "leader"), State::Fail);
        assert_eq!(state(Cluster { etcd_version: String::new(), ..healthy() }, "etcd"), State::Fail);
        assert_eq!(state(Cluster { history_available: false, ..healthy() }, "history"), State::Fail);
        assert_eq!(state(Cluster { max_clock_skew_ms: -300, ..healthy() }, "clocks"), State::Warn);
        assert_eq!(state(Cluster { max_clock_skew_ms: 2000, ..healthy() }, "clocks"), State::Fail);
        assert_eq!(state(Cluster { dispatch_held: true, ..healthy() }, "clocks"), State::Fail);
        assert_eq!(state(Cluster { quarantined: 1, ..healthy() }, "quarantined"), State::Warn);
    }

    #[tokio::test]
    async fn who_is_not_let_in_or_finds_nobody_is_told_so_by_the_code_too() {
        let fake = Fake::start().await;
        fake.state().refuse_all = Some(Status::unauthenticated("a login is required"));
        let refused = fake.cli(&["doctor"]).await;
        assert_eq!(refused.exit, Exit::Denied);
        assert!(refused.stdout.contains("server  FAIL   cannot get the status"), "{}", refused.stdout);
        let nobody = crate::fake::cli("http://127.0.0.1:1", &["doctor"], "").await;
        assert_eq!((nobody.exit, nobody.stderr.as_str()), (Exit::Unreachable, ""));
    }
}
