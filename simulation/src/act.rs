//! What people ask of a cluster: each act is one call of one node's API, as the command line would make it.

use std::collections::BTreeMap;
use std::time::Duration;

use forest_etcd::Process;
use forest_proto::admin::v1 as api;
use forest_proto::record::{Misfire, Overlap, Routing};
use forest_proto::time::Instant;
use forest_proto::{Key, Keyspace, RunId};
use serde_json::json;
use tonic::Status;

use crate::clock::{BEGIN_MS, simulated_ms};
use crate::etcd::Cluster;
use crate::machine::{Api, Work};
use crate::plan::{Act, GROUPS, JobSpec};
use crate::record::Record;

/// Runs of a job that may wait for earlier ones.
pub const QUEUE_LIMIT: u32 = 2;

/// A backfill of more fires is refused: they would pile up, and then nothing drains.
const BACKFILL_FIRES: u32 = 4;

/// Nobody waits longer for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The ids of the jobs that were added, in the plan's order.
pub type JobIds = BTreeMap<usize, String>;

/// A call, ready to be made.
pub enum Call {
    /// With how many runs may be at its clients.
    AddGroup(&'static str, Option<u32>),
    DeleteGroup(&'static str),
    Add {
        number: usize,
        document: String,
    },
    Edit {
        id: String,
        patch: String,
    },
    Enable {
        id: String,
        enabled: bool,
    },
    Delete {
        id: String,
    },
    Run {
        id: String,
        key: String,
    },
    Cancel {
        run: RunId,
    },
    Backfill {
        id: String,
        from_ms: i64,
        to_ms: i64,
    },
    Drain {
        group: String,
        client: String,
        drained: bool,
    },
    StepDown {
        hold_ms: u64,
    },
}

/// What became of a call; the id of a job that was added.
pub type Made = Option<(usize, String)>;

fn document(number: usize, spec: &JobSpec, jobs: &JobIds) -> Option<String> {
    let mut document = patch(spec, jobs)?;
    document["name"] = json!(format!("job-{number}"));
    Some(document.to_string())
}

/// `None`: one of the jobs that it follows was never added.
fn patch(spec: &JobSpec, jobs: &JobIds) -> Option<serde_json::Value> {
    let work = Work { takes_ms: spec.takes_ms, fails: spec.fails, listens: spec.listens };
    let (cron, trigger) = spec.fires.fields(jobs)?;
    let mut patch = json!({
        "group": spec.group,
        "target": "work",
        "cron": cron,
        "trigger": trigger,
        "params": serde_json::to_string(&work).unwrap_or_default(),
        "overlap": spec.overlap,
        "queue_limit": (spec.overlap == Overlap::QueueAll).then_some(QUEUE_LIMIT),
        "misfire": spec.misfire,
        "misfire_cap": (spec.misfire == Misfire::FireAll).then_some(3),
        "routing": spec.routing,
        "priority": spec.priority,
        "max_attempts": spec.max_attempts,
        "retry_delays_ms": [spec.retry_delay_ms],
        "on_lost": if spec.retry_lost { "retry" } else { "fail" },
    });
    if let Some(count) = spec.max_in_flight {
        patch["max_in_flight"] = json!(count);
    }
    if spec.routing == Routing::Broadcast {
        patch["shard_params"] = json!("0=first,1=second");
    } else {
        patch["shard_params"] = json!(null);
    }
    if let Some(ms) = spec.timeout_ms {
        patch["timeout_ms"] = json!(ms);
    }
    if let Some(ms) = spec.start_deadline_ms {
        patch["start_deadline_ms"] = json!(ms);
    }
    Some(patch)
}

/// `None`: there is nothing that it could be about.
pub fn call(act: &Act, number: usize, jobs: &JobIds, cluster: &Cluster) -> Option<Call> {
    Some(match act {
        Act::Add { spec } => Call::Add { number, document: document(number, spec, jobs)? },
        Act::Edit { job, spec } => {
            Call::Edit { id: jobs.get(job)?.clone(), patch: patch(spec, jobs)?.to_string() }
        }
        Act::Enable { job, enabled } => Call::Enable { id: jobs.get(job)?.clone(), enabled: *enabled },
        Act::Delete { job } => Call::Delete { id: jobs.get(job)?.clone() },
        Act::Run { job, key } => Call::Run { id: jobs.get(job)?.clone(), key: format!("ask-{key}") },
        Act::Cancel { pick } => {
            let alive = alive(cluster);
            Call::Cancel { run: alive.get(pick % alive.len().max(1))?.clone() }
        }
        Act::AddGroup { group } => Call::AddGroup(GROUPS[*group], None),
        Act::Backfill { job, ago_ms, span_ms } => {
            let to_ms = BEGIN_MS + i64::try_from(simulated_ms()).unwrap_or(i64::MAX) - ago_ms;
            Call::Backfill { id: jobs.get(job)?.clone(), from_ms: to_ms - span_ms, to_ms }
        }
        Act::DeleteGroup { group } => Call::DeleteGroup(GROUPS[*group]),
        Act::Drain { pick, drained } => {
            let clients = clients(cluster);
            let (group, client) = clients.get(pick % clients.len().max(1))?.clone();
            Call::Drain { group, client, drained: *drained }
        }
        Act::StepDown { hold_ms } => Call::StepDown { hold_ms: *hold_ms },
    })
}

/// The registered clients, by group.
fn clients(cluster: &Cluster) -> Vec<(String, String)> {
    let keys = Keyspace::default();
    let seat = |key: &[u8]| match keys.parse(&String::from_utf8_lossy(key))? {
        Key::Client { group, client } => Some((group.to_string(), client.to_string())),
        _ => None,
    };
    cluster.list(&keys.all()).iter().filter_map(|kv| seat(&kv.key)).collect()
}

/// The runs that are somewhere in etcd.
fn alive(cluster: &Cluster) -> Vec<RunId> {
    let keys = Keyspace::default();
    let mut runs: Vec<RunId> = cluster
        .list(&keys.all())
        .iter()
        .filter_map(|kv| match keys.parse(&String::from_utf8_lossy(&kv.key))? {
            Key::Delay { run, .. } | Key::Pending { run, .. } | Key::Spread { run, .. } => Some(run),
            Key::Snapshot { run, .. } | Key::Execution { run, .. } => Some(run),
            _ => None,
        })
        .collect();
    runs.sort();
    runs.dedup();
    runs
}

impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AddGroup(group, _) => write!(f, "add group {group}"),
            Self::DeleteGroup(group) => write!(f, "delete group {group}"),
            Self::Add { number, document } => write!(f, "add job {number}: {document}"),
            Self::Edit { id, patch } => write!(f, "edit {id}: {patch}"),
            Self::Enable { id, enabled } => write!(f, "{} {id}", if *enabled { "enable" } else { "disable" }),
            Self::Delete { id } => write!(f, "delete {id}"),
            Self::Run { id, key } => write!(f, "run {id}, asked as {key}"),
            Self::Cancel { run } => write!(f, "cancel {run}"),
            Self::Backfill { id, from_ms, to_ms } => {
                let [from, to] = [from_ms, to_ms].map(|ms| Instant::from_ms(*ms));
                write!(f, "backfill {id} from {from} to {to}")
            }
            Self::Drain { group, client, drained } => {
                write!(f, "{} {group}/{client}", if *drained { "drain" } else { "undrain" })
            }
            Self::StepDown { hold_ms } => write!(f, "step down for {hold_ms} ms"),
        }
    }
}

/// Makes a call as a part of the node's process, and records what came of it.
pub async fn make(call: Call, (process, api): (Process, Api), node: String, record: Record) -> Made {
    let what = call.to_string();
    let answer = tokio::time::timeout(PATIENCE, process.run(send(call, api))).await;
    let (said, made) = match answer {
        Ok(Ok((said, made))) => (said, made),
        Ok(Err(status)) => (format!("{:?}: {}", status.code(), status.message()), None),
        Err(_) => ("no answer".into(), None),
    };
    record.tell(format!("{node} was asked to {what} -> {said}"));
    made
}

async fn send(call: Call, mut api: Api) -> Result<(String, Made), Status> {
    let done = || ("done".to_owned(), None);
    Ok(match call {
        Call::AddGroup(name, max_in_flight) => {
            let group = api::AddGroupRequest { name: name.into(), max_in_flight, ..Default::default() };
            api.add_group(group).await?;
            done()
        }
        Call::DeleteGroup(name) => {
            api.delete_group(api::DeleteGroupRequest { name: name.into() }).await?;
            done()
        }
        Call::Add { number, document } => {
            let job = api.add_job(api::AddJobRequest { document }).await?.into_inner();
            let id = serde_json::from_str::<serde_json::Value>(&job.document).ok();
            let id = id.and_then(|document| document["id"].as_str().map(str::to_owned)).unwrap_or_default();
            (format!("it is {id}"), Some((number, id)))
        }
        Call::Edit { id, patch } => {
            api.edit_job(api::EditJobRequest { id, patch, version: 0 }).await?;
            done()
        }
        Call::Enable { id, enabled } => {
            api.set_job_enabled(api::SetJobEnabledRequest { id, enabled, reason: String::new() }).await?;
            done()
        }
        Call::Delete { id } => {
            api.delete_job(api::DeleteJobRequest { id, version: 0 }).await?;
            done()
        }
        Call::Run { id, key } => {
            let request = api::RunJobRequest { id, idempotency_key: key, ..Default::default() };
            (format!("it is {}", api.run_job(request).await?.into_inner().run_id), None)
        }
        Call::Backfill { id, from_ms, to_ms } => {
            let request = api::StartBackfillRequest {
                job_id: id,
                from: from_ms,
                to: to_ms,
                max_fires: BACKFILL_FIRES,
                ..Default::default()
            };
            (format!("it has {} fires", api.start_backfill(request).await?.into_inner().fires), None)
        }
        Call::Drain { group, client, drained: true } => {
            api.drain_client(api::DrainClientRequest { group, client }).await?;
            done()
        }
        Call::Drain { group, client, drained: false } => {
            api.undrain_client(api::UndrainClientRequest { group, client }).await?;
            done()
        }
        Call::StepDown { hold_ms } => {
            let request = api::StepDownRequest { node: String::new(), hold_ms: Some(hold_ms) };
            let stepped = api.step_down(request).await?.into_inner();
            (format!("{} leads after {}", stepped.leader, stepped.from), None)
        }
        Call::Cancel { run } => {
            api.cancel_run(api::CancelRunRequest { id: run.to_string() }).await?;
            done()
        }
    })
}
