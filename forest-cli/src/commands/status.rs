//! `status`: how the cluster is, as the answering node sees it.

use forest_proto::admin::v1::{Cluster, GetClusterRequest};
use serde_json::{Value, json};

use super::Context;
use crate::connect::Client;
use crate::error::Failure;
use crate::output::{Field, field, span};

pub(super) async fn show(context: &mut Context<'_>) -> Result<(), Failure> {
    let call = async |mut client: Client| client.get_cluster(GetClusterRequest {}).await;
    let cluster = context.api.read("get the status", call).await?;
    context.view.show(context.console, "", &to_json(&cluster), fields(&cluster))
}

fn fields(cluster: &Cluster) -> Vec<Field> {
    let oldest = match cluster.runs_pending {
        0 => String::new(),
        _ => format!(" (the oldest for {})", span(cluster.oldest_pending_ms)),
    };
    let leader = match cluster.leader.as_str() {
        "" => "none at the moment".to_owned(),
        leader => format!("{leader} (term {})", cluster.term),
    };
    let pick = |yes: bool, if_yes: &str, if_no: &str| if yes { if_yes } else { if_no }.to_owned();
    vec![
        field("leader", leader),
        field("answered by", format!("{} (version {})", cluster.node, cluster.version)),
        field("etcd", cluster.etcd_version.as_str()),
        field("history", pick(cluster.history_available, "available", "UNAVAILABLE: results wait in etcd")),
        field("dispatch", pick(cluster.dispatch_held, "HELD: clocks stepped or disagree", "running")),
        field("clock skew", span(cluster.max_clock_skew_ms)),
        field("groups", cluster.groups.to_string()),
        field("jobs", format!("{} ({} enabled)", cluster.jobs, cluster.enabled_jobs)),
        field("clients", cluster.clients.to_string()),
        field("runs pending", format!("{}{oldest}", cluster.runs_pending)),
        field("runs queued", cluster.runs_queued.to_string()),
        field("runs running", cluster.runs_running.to_string()),
        field("retries to come", cluster.runs_delayed.to_string()),
        field("uncollected", cluster.runs_uncollected.to_string()),
        field("quarantined", cluster.quarantined.to_string()),
        field("segments", cluster.segments.to_string()),
    ]
}

fn to_json(cluster: &Cluster) -> Value {
    json!({
        "version": cluster.version,
        "node": cluster.node,
        "leader": cluster.leader,
        "term": cluster.term,
        "segments": cluster.segments,
        "jobs": cluster.jobs,
        "enabled_jobs": cluster.enabled_jobs,
        "groups": cluster.groups,
        "clients": cluster.clients,
        "runs_pending": cluster.runs_pending,
        "runs_queued": cluster.runs_queued,
        "runs_running": cluster.runs_running,
        "runs_delayed": cluster.runs_delayed,
        "runs_uncollected": cluster.runs_uncollected,
        "oldest_pending_ms": cluster.oldest_pending_ms,
        "etcd_version": cluster.etcd_version,
        "history_available": cluster.history_available,
        "dispatch_held": cluster.dispatch_held,
        "quarantined": cluster.quarantined,
        "max_clock_skew_ms": cluster.max_clock_skew_ms,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use crate::error::Exit;
    use crate::fake::Fake;

    #[tokio::test]
    async fn status_as_a_table() {
        let fake = Fake::start().await;
        let ran = fake.cli(&["status"]).await;
        assert_eq!((ran.exit, ran.stderr.as_str()), (Exit::Ok, ""));
        let expected = "\
leader           n1 (term 42)
answered by      n1 (version 0.1.0)
etcd             3.4.23
history          available
dispatch         running
clock skew       12ms
groups           1
jobs             3 (2 enabled)
clients          2
runs pending     1 (the oldest for 1m30s)
runs queued      0
runs running     4
retries to come  0
uncollected      0
quarantined      0
segments         16
";
        assert_eq!(ran.stdout, expected);
    }

    #[tokio::test]
    async fn status_as_json_has_every_field() {
        let fake = Fake::start().await;
        let json = fake.cli(&["status", "-o", "json"]).await.json();
        assert_eq!(json.as_object().map(serde_json::Map::len), Some(20));
        assert_eq!((&json["leader"], &json["oldest_pending_ms"]), (&"n1".into(), &90_000.into()));
        assert_eq!(json["history_available"], Value::Bool(true));
    }

    #[tokio::test]
    async fn nobody_there() {
        let ran = crate::fake::cli("http://127.0.0.1:1", &["status"], "").await;
        assert_eq!((ran.exit, ran.stdout.as_str()), (Exit::Unreachable, ""));
        assert!(ran.stderr.starts_with("forest-cli: cannot get the status: no server can be reached"));
        assert_eq!(ran.stderr.lines().count(), 1);
    }
}
