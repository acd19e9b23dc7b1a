//! A snapshot: `client/snapshot/{group}/{client}/{run}`, and parked under `server/pending/{group}/{run}`.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::execution::Outcome;
use super::policy::{OnLost, Routing};
use super::shard::{Shard, ShardParams};
use super::{is_default, lenient};
use crate::name::{ClientId, GroupName, JobId, TargetName};
use crate::run_id::RunId;
use crate::time::Instant;
use crate::trace::TraceParent;

/// Where a run comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The job's schedule.
    #[default]
    Schedule,
    /// Somebody asked for it.
    Manual,
    /// An earlier attempt failed or was lost.
    Retry,
    /// Fires were missed and the job makes up for them.
    Misfire,
    /// The end of another job's run.
    Dependency,
    /// Somebody asked for the fires of a time that is over.
    Backfill,
}

impl Origin {
    /// Its name, as in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::Manual => "manual",
            Self::Retry => "retry",
            Self::Misfire => "misfire",
            Self::Dependency => "dependency",
            Self::Backfill => "backfill",
        }
    }
}

/// One run that a client is given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The run.
    pub id: RunId,
    /// Its job.
    #[serde(rename = "jobId")]
    pub job_id: JobId,
    /// The job's name.
    #[serde(default, deserialize_with = "lenient::text")]
    pub name: String,
    /// The client it was given to; empty while it is parked.
    #[serde(default, deserialize_with = "lenient::text")]
    pub ip: String,
    /// The group.
    pub group: GroupName,
    /// The job's cron text.
    #[serde(default, deserialize_with = "lenient::text")]
    pub cron: String,
    /// Which handler it calls.
    pub target: TargetName,
    /// What the handler is given.
    #[serde(default, deserialize_with = "lenient::text")]
    pub params: String,
    /// Whom to call, as the original keeps it.
    #[serde(default, deserialize_with = "lenient::text")]
    pub mobile: String,
    /// The job's remark.
    #[serde(default, deserialize_with = "lenient::text")]
    pub remark: String,
    /// When the run was created, `yyyy-MM-dd HH:mm:ss` in the server's zone.
    #[serde(rename = "createTime", default, deserialize_with = "lenient::text")]
    pub create_time: String,

    /// The fire time, or when somebody asked. The epoch in what a worker of the original wrote; the run id
    /// has it too.
    #[serde(default)]
    pub scheduled_at: Instant,
    /// When the run was created. The epoch in what a worker of the original wrote.
    #[serde(default)]
    pub created_at: Instant,
    /// Which attempt this is, from 1.
    #[serde(default = "one")]
    pub attempt: u32,
    /// How many attempts there may be.
    #[serde(default = "one")]
    pub max_attempts: u32,
    /// What becomes of it if its client vanishes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_lost: OnLost,
    /// Only these outcomes are tried again. Empty: every failure.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retry_if: Vec<Outcome>,
    /// How many milliseconds its handler may take. `None`: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// The last checkpoint of the attempts so far. In the document of a run that is executed it is replaced by
    /// each one that the handler saves. At most 64 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
    /// Where it comes from.
    #[serde(default, skip_serializing_if = "is_default")]
    pub origin: Origin,
    /// The job's version it was made from.
    #[serde(default)]
    pub job_version: u64,
    /// The run of another job whose end made this one; or, of the same job, the one that somebody had run again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<RunId>,
    /// Its trace, and the span in which it was created. Absent where nobody makes spans. What is no `traceparent` is read
    /// as none.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "crate::trace::lenient")]
    pub traceparent: Option<TraceParent>,
    /// After this instant it is not worth starting any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_deadline: Option<Instant>,
    /// Whether it has to wait, parked, for earlier runs of its job to end.
    #[serde(default, skip_serializing_if = "is_default")]
    pub waits: bool,
    /// How many missed fires it stands for, beside its own.
    #[serde(default, skip_serializing_if = "is_default")]
    pub missed_fires: u64,
    /// Which of the able clients gets it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub routing: Routing,
    /// Labels that its client must carry.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Larger goes first among the runs of its group that wait.
    #[serde(default, skip_serializing_if = "is_default")]
    pub priority: i32,
    /// The only client that may take it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<ClientId>,
    /// Whether its job had a limit of runs in flight when it was created.
    #[serde(default, skip_serializing_if = "is_default")]
    pub limited: bool,
    /// Which shard of a broadcast it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<Shard>,
    /// Of a broadcast that is still to be spread: the parameters of its shards.
    #[serde(default, skip_serializing_if = "ShardParams::is_empty")]
    pub shard_params: ShardParams,
    /// Whether something follows from its end that only the leader can settle (other jobs follow it, or it is a shard):
    /// its client then leaves it undecided, whatever the end is.
    #[serde(default, skip_serializing_if = "is_default")]
    pub followed: bool,
    /// The node that created it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub node: String,
    /// The term in which it was created.
    #[serde(default)]
    pub term: i64,
    /// IANA name of the server's zone, for the local times. Empty: UTC.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub server_zone: String,
}

fn one() -> u32 {
    1
}

impl Snapshot {
    /// Whether it is to become one run for each client.
    #[must_use]
    pub fn is_broadcast(&self) -> bool {
        self.routing == Routing::Broadcast && self.shard.is_none() && self.id.attempt() == 1
    }

    /// The zone of its local times. An unknown name counts as UTC.
    #[must_use]
    pub fn zone(&self) -> TimeZone {
        match self.server_zone.as_str() {
            "" => TimeZone::UTC,
            name => TimeZone::get(name).unwrap_or(TimeZone::UTC),
        }
    }
}
