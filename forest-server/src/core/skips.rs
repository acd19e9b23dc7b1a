//! Skipped fires that are counted, so that a job that fires each second and hangs does not fill the history.
//!
//! The first fire of a job that is skipped has a record at once. Those that follow in the same minute of the clock,
//! for the same reason, are only counted in the document of the cursor, which is written with each of them anyway.
//! The last one of the minute, or whatever comes in between, turns the counter into one record, as missed fires have
//! one. So a job costs two records a minute, and a counter stands for fires one after the other.
//!
//! A counter never waits for the clock: it is closed in the transaction that decides the job's last fire of the
//! minute. Only when somebody changes, pauses or deletes the job is it left over, and closed by itself.

use std::collections::BTreeMap;

use forest_proto::record::{Execution, Job, Outcome, SkipReason, Skips};
use forest_proto::time::Instant;
use forest_proto::{JobId, RunId};

use super::compose::{Composer, Occasion};
use super::jobs::PlannedJob;

/// At most so many jobs of a segment are counted at once: each is a part of its cursor's document. The fires of
/// others are recorded one by one.
pub(crate) const MAX_OPEN: usize = 200;

const MINUTE_MS: i64 = 60_000;

/// The minute of the clock, in UTC.
pub(crate) fn minute(at_ms: i64) -> i64 {
    at_ms.div_euclid(MINUTE_MS)
}

/// A fire that is skipped.
pub(crate) struct SkippedFire<'a> {
    pub(crate) id: &'a JobId,
    pub(crate) at: i64,
    pub(crate) why: SkipReason,
    pub(crate) job: &'a PlannedJob,
}

impl SkippedFire<'_> {
    /// Whether the job fires again in the same minute.
    fn has_next(&self) -> bool {
        let next = self.job.timing.as_ref().and_then(|timing| timing.next_after(self.at));
        next.is_some_and(|next| minute(next) == minute(self.at))
    }
}

/// What is to be recorded of a fire that was skipped.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Nothing yet.
    Counted,
    /// The fire itself.
    Alone,
    /// It was the last one of the minute: everything that was counted, and it.
    Last(Skips),
}

/// The counters of a segment, as a batch changes them.
#[derive(Debug, Default)]
pub(crate) struct Counters(BTreeMap<JobId, Skips>);

impl Counters {
    /// Those of a cursor. What was opened in an earlier minute, and never counted anything, is nothing any more.
    pub(crate) fn of(skips: &BTreeMap<JobId, Skips>, now_ms: i64) -> Self {
        let open = |skips: &Skips| skips.count > 0 || minute(skips.first.as_ms()) >= minute(now_ms);
        Self(
            skips
                .iter()
                .filter(|(_, skips)| open(skips))
                .map(|(id, skips)| (id.clone(), skips.clone()))
                .collect(),
        )
    }

    pub(crate) fn into_document(self) -> BTreeMap<JobId, Skips> {
        self.0
    }

    /// Whether a fire is counted by the counter that its job has.
    pub(crate) fn go_on_with(&self, fire: &SkippedFire<'_>) -> bool {
        self.0.get(fire.id).is_some_and(|skips| {
            skips.why == fire.why
                && skips.job_revision == fire.job.revision
                && minute(skips.first.as_ms()) == minute(fire.at)
        })
    }

    /// Takes a fire. Another counter of its job was [closed](Self::close) before.
    pub(crate) fn take(&mut self, fire: &SkippedFire<'_>) -> Taken {
        let (at, more) = (Instant::from_ms(fire.at), fire.has_next());
        let Some(skips) = self.0.get_mut(fire.id) else {
            if more && self.0.len() < MAX_OPEN {
                let (group, job_revision) = (fire.job.group.clone(), fire.job.revision);
                let skips = Skips { why: fire.why, first: at, last: at, count: 0, group, job_revision };
                self.0.insert(fire.id.clone(), skips);
            }
            return Taken::Alone;
        };
        if skips.count == 0 {
            skips.first = at;
        }
        (skips.last, skips.count) = (at, skips.count + 1);
        if more {
            return Taken::Counted;
        }
        self.0.remove(fire.id).map_or(Taken::Alone, Taken::Last)
    }

    /// Ends the counter of a job; what it has counted is to be recorded.
    pub(crate) fn close(&mut self, id: &JobId) -> Option<Skips> {
        self.0.remove(id).filter(|skips| skips.count > 0)
    }
}

/// Whether nothing more can come to a counter, and its record is to be written. `job`: as it is now, with its next
/// fire.
pub(crate) fn is_left_over(skips: &Skips, job: Option<&PlannedJob>) -> bool {
    let goes_on = job.is_some_and(|job| {
        job.revision == skips.job_revision
            && job.next_ms().is_some_and(|next| minute(next) == minute(skips.first.as_ms()))
    });
    skips.count > 0 && !goes_on
}

/// The record of all that was counted, under the id of the last of those fires.
pub(crate) fn record(composer: &Composer<'_>, job: &Job, skips: &Skips) -> Execution {
    let run = RunId::scheduled(&job.id, skips.last, 1);
    let mut snapshot = composer.snapshot(job, Occasion::fire(run, None));
    snapshot.missed_fires = skips.count.saturating_sub(1);
    let why = match skips.count {
        0 | 1 => skips.why.as_words().to_owned(),
        count => {
            let (first, last, why) = (skips.first, skips.last, skips.why.as_words());
            format!("{count} fires from {first} to {last} were skipped: {why}")
        }
    };
    composer.never_started(snapshot, Outcome::OverlapSkipped, &why)
}
