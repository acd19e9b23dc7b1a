//! The next run of a backfill: the fires of a range of the past, one after the other.
//!
//! Each step creates one run and moves the backfill's document on, in one transaction that compares the document.
//! So every fire of the range gets one run, whoever leads. With the last run the document goes.
//!
//! It takes its time: of a job whose runs must not overlap the next run comes when nothing else of the job is
//! alive, and never skips, queues or replaces another one. Where overlap is allowed only so many are alive at once,
//! so that nothing is flooded. Fires that the clock has still to decide are left to it.

use forest_etcd::Txn;
use forest_proto::record::{Backfill, Job, Origin, Overlap, Trigger, encode};
use forest_proto::time::Instant;
use forest_proto::{JobId, RunId};

use super::{Situation, Step};
use crate::core::compose::Occasion;
use crate::core::jobs::PlannedJob;
use crate::core::routing::Router;

/// So many runs of one backfill are alive at once, where overlap is allowed.
pub(crate) const MOST_ALIVE: usize = 100;

impl Situation<'_> {
    /// The next step of a job's backfill.
    pub(crate) fn of_backfill(&self, router: &mut Router, id: &JobId) -> Step {
        let Some(entry) = self.view.backfills.entry(id) else { return Step::Nothing };
        let backfill = &entry.value.backfill;
        let segment = self.view.jobs.segment_of(id);
        let key = self.view.keys.backfill(segment, id);
        let planned = self.view.jobs.get(id);
        let txn = self
            .composer
            .term
            .txn()
            .modified(key.clone(), entry.revision)
            .modified(self.view.keys.job(id), planned.map_or(0, |planned| planned.revision));
        let Some(planned) = planned else { return txn.delete(key).into() };
        let Some(job) = planned.job().filter(|_| planned.enabled && planned.problem().is_none()) else {
            return Step::Nothing;
        };
        // Days of calendars change without their jobs.
        let jobgen = self.view.jobs.segment(segment).jobgen();
        let txn = match job.calendars.is_empty() {
            true => txn,
            false => txn.modified(self.view.keys.jobgen(segment), jobgen),
        };
        let mut fires = fires(planned, &job, backfill);
        let Some(fire) = fires.next() else { return txn.delete(key).into() };
        if self.is_left_to_the_clock(planned, id, fire) {
            return Step::Wait;
        }
        if self.is_crowded(planned, id) {
            return Step::Nothing;
        }
        let txn = moved_on(txn, key, backfill, fires.next());
        let fire = Instant::from_ms(fire);
        let occasion = Occasion {
            run: RunId::backfilled(id, fire, &backfill.id),
            scheduled_at: fire,
            origin: Origin::Backfill,
            missed_fires: 0,
            params: backfill.params.clone(),
            checkpoint: None,
            pinned: None,
            cause: None,
            shard: None,
            traceparent: None,
        };
        self.admit(router, txn, planned, &job, occasion)
    }

    /// The clock decides a fire that is due in its time. What lies before the job's next fire is decided, or was
    /// never to be.
    fn is_left_to_the_clock(&self, planned: &PlannedJob, id: &JobId, fire: i64) -> bool {
        let segment = self.view.jobs.segment(self.view.jobs.segment_of(id));
        segment.decided().is_none() || planned.next_ms().is_some_and(|next| next <= fire)
    }

    fn is_crowded(&self, planned: &PlannedJob, id: &JobId) -> bool {
        let runs = &self.view.runs;
        if planned.overlap != Overlap::Allow {
            return runs.is_active(id, None);
        }
        let ours = runs.of_job(id).filter(|run| run.backfill_mark().is_some());
        ours.take(MOST_ALIVE).count() == MOST_ALIVE
    }
}

/// The fires that are still to be run. A job that was changed to another kind of trigger has none any more.
fn fires(planned: &PlannedJob, job: &Job, backfill: &Backfill) -> impl Iterator<Item = i64> + use<> {
    let can = matches!(job.trigger, Trigger::Cron | Trigger::FixedRate { .. });
    let timing = planned.timing.as_ref().filter(|_| can).map(|timing| timing.backdated(job));
    let (mut after, to) = (backfill.next.as_ms() - 1, backfill.to.as_ms());
    let left = backfill.max_fires.saturating_sub(backfill.created) as usize;
    let next = move || {
        after = timing.as_ref()?.next_after(after).filter(|at| *at < to)?;
        Some(after)
    };
    std::iter::from_fn(next).take(left)
}

/// The document after one more run; with the last one it goes.
fn moved_on(txn: Txn, key: String, backfill: &Backfill, next: Option<i64>) -> Txn {
    let Some(next) = next.map(Instant::from_ms) else { return txn.delete(key) };
    txn.put(key, encode(&Backfill { next, created: backfill.created + 1, ..backfill.clone() }))
}
