//! What nodes write for each other, under `server/`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::is_default;
use super::shard::Shard;
use super::skips::Skips;
use super::snapshot::Origin;
use crate::name::{ClientId, GroupName, JobId, NodeId, RequestKey};
use crate::run_id::RunId;
use crate::time::Instant;
use crate::trace::TraceParent;

/// The layout that this version reads and writes.
pub const SCHEMA_VERSION: u32 = 1;

/// `server/meta`: written once, when a cluster is first initialised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// The layout of the keys and documents.
    pub schema: u32,
    /// How many segments there are.
    pub segments: u16,
    /// When it was written.
    pub created_at: Instant,
}

/// `server/node/{node}`: put anew every few seconds, so that others can compare clocks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its id.
    pub name: NodeId,
    /// Where its API answers.
    pub address: String,
    /// Its version.
    pub version: String,
    /// When it started.
    pub started_at: Instant,
    /// Its wall clock when it wrote this.
    pub wall: Instant,
    /// The log level with which it was started. Empty from nodes of before there was this field.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub log_level: String,
}

/// `server/cursor/{segment}`: every fire of the segment up to and including (`fire_at`, `job`), in that
/// order, has been decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The fire time of the last decided fire.
    pub fire_at: Instant,
    /// Its job; the empty text before the first one.
    pub job: String,
    /// The term in which it was decided.
    pub term: i64,
    /// While many jobs have missed fires they are gone through one job after the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sweep: Option<Sweep>,
    /// Fires that are decided and have no record yet, because they are only counted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub skips: BTreeMap<JobId, Skips>,
}

impl Cursor {
    /// Every fire up to `fire_at` is decided; of those at that very instant, the ones of jobs up to `job`.
    #[must_use]
    pub fn at(fire_at: Instant, job: impl Into<String>, term: i64) -> Self {
        Self { fire_at, job: job.into(), term, sweep: None, skips: BTreeMap::new() }
    }
}

/// How far the missed fires of a segment are decided, in the order (`job`, fire time).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sweep {
    /// Of the jobs before `job`, every fire up to this instant has been decided.
    pub until: Instant,
    /// The job that was last looked at.
    pub job: String,
    /// Of that job, every fire up to this instant has been decided.
    pub fire_at: Instant,
}

/// `server/delay/{segment}/{due}.{run}`: a run to create when it is due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delay {
    /// The run.
    pub run: RunId,
    /// Its job.
    pub job: JobId,
    /// The job's group, to record what became of it even when the job is gone.
    pub group: GroupName,
    /// The fire time of the first attempt.
    pub scheduled_at: Instant,
    /// Where it comes from.
    pub origin: Origin,
    /// Parameters in place of the job's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params: Option<String>,
    /// Of the next run of a fixed delay: the `effective_after` of the job it was planned for. If the job has another
    /// one by now, the plan is void.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planned_for: Option<Instant>,
    /// The last checkpoint of the attempts so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
    /// The only client that may take the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientId>,
    /// The run of another job whose end made this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<RunId>,
    /// Which shard of a broadcast it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<Shard>,
    /// The trace of the attempt before.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "crate::trace::lenient")]
    pub traceparent: Option<TraceParent>,
}

/// What an administrator asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestKind {
    /// Run the job now.
    Run,
    /// Stop the run.
    Cancel,
}

/// `server/request/{segment}/{key}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// What to do.
    pub kind: RequestKind,
    /// The job.
    pub job: JobId,
    /// The run to create or to stop.
    pub run: RunId,
    /// When somebody asked.
    pub requested_at: Instant,
    /// Parameters in place of the job's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params: Option<String>,
    /// The only client that may take the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientId>,
    /// Who asked.
    #[serde(default, skip_serializing_if = "is_default")]
    pub by: String,
    /// The run of the same job that is to be run again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<RunId>,
    /// Of a run that is run again: the time that it was for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled_at: Option<Instant>,
    /// The trace of the call, if it was part of one.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "crate::trace::lenient")]
    pub traceparent: Option<TraceParent>,
}

/// `server/backfill/{segment}/{job}`: the fires of a range of the past, as far as they are still to be run. It is gone
/// with the last one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backfill {
    /// Which one of the job's backfills it is: its runs have a mark that comes from this.
    pub id: RequestKey,
    /// The job.
    pub job: JobId,
    /// Only fires from this instant on.
    pub from: Instant,
    /// Only fires before this instant.
    pub to: Instant,
    /// The next fire: those before have their runs.
    pub next: Instant,
    /// How many runs there are.
    pub created: u32,
    /// How many fires there were in the range when it was asked for.
    pub total: u32,
    /// It ends after so many runs, also if the job has more fires by then.
    pub max_fires: u32,
    /// When somebody asked.
    pub requested_at: Instant,
    /// Parameters in place of the job's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params: Option<String>,
}

impl Backfill {
    /// How many runs one may make where nobody says.
    pub const FIRES: u32 = 100;
    /// How many runs one may make at most.
    pub const MOST_FIRES: u32 = 10_000;
}

/// `server/answer/{segment}/{key}`: kept for a while, so that a repeated request gets the first answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The job of the first request.
    pub job: JobId,
    /// The run that the first request made.
    pub run: RunId,
}
