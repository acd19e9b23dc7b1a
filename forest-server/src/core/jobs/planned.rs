//! What planning needs of one job.

use std::borrow::Cow;

use forest_proto::GroupName;
use forest_proto::record::{Job, Misfire, Overlap, Trigger, decode};

use super::NEVER;
use crate::core::timing::Timing;
use forest_schedule::{ScheduleError, normalise_original};

#[derive(Debug)]
pub(crate) struct PlannedJob {
    pub(crate) revision: i64,
    pub(crate) group: GroupName,
    pub(super) listing: u32,
    pub(super) next_ms: i64,
    /// `None`: the clock does not fire it.
    pub(crate) timing: Option<Timing>,
    /// Milliseconds from the end of one run to the next one.
    pub(crate) fixed_delay_ms: Option<u64>,
    pub(crate) enabled: bool,
    /// Why it cannot be scheduled.
    pub(super) problem: Option<Box<str>>,
    /// Whether the document names calendars.
    pub(super) on_calendars: bool,
    /// Whether it follows other jobs.
    pub(super) follows: bool,
    pub(crate) overlap: Overlap,
    pub(crate) misfire: Misfire,
    pub(crate) misfire_threshold_ms: Option<u32>,
    pub(crate) misfire_cap: u32,
    pub(crate) queue_limit: u32,
    pub(crate) max_in_flight: Option<u32>,
    pub(super) document: Box<[u8]>,
}

impl PlannedJob {
    /// The whole job. It was read before it was taken in, so it can be read again.
    pub(crate) fn job(&self) -> Option<Job> {
        decode(&self.document).ok()
    }

    /// About how long a record about it is, without what the record adds.
    pub(crate) fn bytes(&self) -> usize {
        self.document.len()
    }

    /// Why it cannot be scheduled.
    pub(crate) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    pub(crate) fn next_ms(&self) -> Option<i64> {
        (self.next_ms != NEVER).then_some(self.next_ms)
    }
}

/// What the clock fires, as text of our dialect; `None`: a single fire, or nothing.
pub(crate) fn cron_text(job: &Job) -> Result<Option<Cow<'_, str>>, ScheduleError> {
    match job.trigger {
        Trigger::Cron => normalised_cron(job).map(Some),
        Trigger::FixedRate { every_ms } => Ok(Some(format!("@every {every_ms}ms").into())),
        Trigger::Once { .. } | Trigger::FixedDelay { .. } | Trigger::Manual | Trigger::After(_) => Ok(None),
    }
}

/// A job's cron text in our dialect. A document without our creation time was written by the original, whose
/// dialect differs: there, five fields begin with the seconds.
pub(crate) fn normalised_cron(job: &Job) -> Result<Cow<'_, str>, ScheduleError> {
    match job.created_at {
        Some(_) => Ok(Cow::Borrowed(&job.cron)),
        None => normalise_original(&job.cron).map(Cow::Owned),
    }
}
