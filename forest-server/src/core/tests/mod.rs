//! What the core promises, driven for real: its transactions are committed to an etcd in memory, and what they
//! write comes back to its view as changes.
//!
//! * [`fake`]: etcd, with its limits. [`audit`]: the promises that every single revision must keep; it works out
//!   for itself which fires are due, and with [`backfills`] those of the past that are asked for. [`world`]: etcd, a clock, and those who write beside the leader.
//!   [`leader`]: the shell around the core, without tasks and waits.
//! * [`fires`], [`chaos`] and [`cancel`] are random, the rest are single stories. [`guards`] takes the guards of the
//!   transactions away one by one and shows what each of them is for.
#![allow(clippy::unwrap_used)]

mod again;
mod audit;
mod backfill;
mod backfills;
mod broadcast;
mod calendars;
mod cancel;
mod chaos;
mod dependencies;
mod drains;
mod edits;
mod fake;
mod feed;
mod fires;
mod following;
mod guards;
mod jobs;
mod leader;
mod limits;
mod lost;
mod misfire;
mod originals;
mod overlap;
mod parked;
mod queues;
mod roll;
mod routing;
mod skips;
mod step_down;
mod tally;
mod triggers;
mod view;
mod world;

use std::time::Duration;

use forest_proto::record::{Job, JobStatus, Overlap};
use forest_proto::time::Instant;
use forest_proto::{ClientId, GroupName, JobId, TargetName};

use super::clients::Seat;

/// 2027-01-15T08:00:00Z.
const START: i64 = 1_800_000_000_000;
const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

const CLIENT_TTL: Duration = Duration::from_secs(5);
const LOST_GRACE: Duration = Duration::from_secs(2);

fn id(text: &str) -> JobId {
    JobId::new(text).unwrap()
}

fn group() -> GroupName {
    GroupName::new("trade").unwrap()
}

fn target() -> TargetName {
    TargetName::new("bill").unwrap()
}

fn seat(client: &str) -> Seat {
    (group(), ClientId::new(client).unwrap())
}

/// An enabled job that counts from the start of the story. Overlap is allowed, for fires that have nothing to
/// do with each other.
fn job(name: &str, cron: &str) -> Job {
    let at = Some(Instant::from_ms(START));
    Job {
        cron: cron.to_owned(),
        status: JobStatus::Enabled,
        overlap: Overlap::Allow,
        created_at: at,
        effective_after: at,
        ..Job::new(id(name), name, group(), target())
    }
}

fn forbidding(name: &str, cron: &str) -> Job {
    Job { overlap: Overlap::Forbid, ..job(name, cron) }
}
