//! What nodes write for each other, under `server/`.

use serde::{Deserialize, Serialize};

use super::is_default;
use super::shard::Shard;
use super::snapshot::Origin;
use crate::name::{ClientId, GroupName, JobId, NodeId};
use crate::run_id::RunId;
use crate::time::Instant;

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
    /// Which shard of a broadcast it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<Shard>,
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
}

/// `server/answer/{segment}/{key}`: kept for a while, so that a repeated request gets the first answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The job of the first request.
    pub job: JobId,
    /// The run that the first request made.
    pub run: RunId,
}
