//! The JSON documents in etcd.
//!
//! The fixed documents keep the original's field names (`jobId`, `createTime`, ...) and always write all
//! of them; fields of ours stand beside them in `snake_case` and are left out where they have their
//! default. Readers ignore fields that they don't know, and take a missing field for its default.

mod access;
mod audit;
mod calendar;
mod client;
mod drain;
mod execution;
mod group;
mod job;
mod join;
mod lenient;
mod log_level;
mod policy;
mod server;
mod shard;
mod shared;
mod skips;
mod snapshot;
mod step_down;

pub use access::{Grants, Role, RoleError, Session, Token, User};
pub use audit::{Audit, Change, Face};
pub use calendar::{CALENDAR_YEARS, Calendar, DayError, DayRange, MAX_CALENDAR_DAYS};
pub use client::{ClientRecord, DEFAULT_CAPACITY};
pub use drain::Drain;
pub use execution::{Execution, ExecutionState, Outcome, Progress, Status};
pub use group::Group;
pub use job::{Job, JobStatus};
pub use join::{Join, JoinDate, MAX_JOIN_DATES};
pub use log_level::LogLevel;
pub use policy::{
    After, Condition, DstFold, DstGap, Misfire, Need, OnLost, Overlap, RetryBackoff, Routing, Trigger, Within,
};
pub use server::{Answer, Backfill, Cursor, Delay, Meta, Node, Request, RequestKind, SCHEMA_VERSION, Sweep};
pub use shard::{MAX_SHARD_PARAMS, MAX_SHARDS, Shard, ShardParams, ShardParamsError, Spread};
pub use shared::{LockHolder, MAX_VALUE, QueueTail, RECENT_PUSHES, StateValue};
pub use skips::{SkipReason, Skips};
pub use snapshot::{Origin, Snapshot};
pub use step_down::StepDown;

/// At most this many bytes of parameters, on jobs and on runs.
pub const MAX_PARAMS: usize = 64 * 1024;

/// At most this many bytes of a result are kept; longer ones are cut and marked.
pub const MAX_RESULT: usize = 64 * 1024;

/// At most this many bytes of a checkpoint.
pub const MAX_CHECKPOINT: usize = 64 * 1024;

/// At most this many bytes of the words that go with a progress; longer ones are cut.
pub const MAX_PROGRESS_TEXT: usize = 1024;

/// Reads a document.
///
/// # Errors
/// The JSON error, with line and column.
pub fn decode<'a, T: serde::Deserialize<'a>>(value: &'a [u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(value)
}

/// Writes a document. Our records have only text keys and finite numbers: writing them cannot fail.
#[must_use]
pub fn encode<T: serde::Serialize>(record: &T) -> Vec<u8> {
    serde_json::to_vec(record).unwrap_or_default()
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
