//! How a run begins: from a delayed attempt, from the plan of a fixed delay, after a run of another job, and at which
//! client.
//!
//! Whether it may begin beside others of its job is asked of [`overlap`].

use forest_etcd::Txn;
use forest_proto::record::{Delay, Job, Origin, Outcome, Overlap, Snapshot, Trigger, encode};
use forest_proto::time::Instant;
use forest_proto::{JobId, RunId, Segment};

use super::{Planned, Situation, Step, document};
use crate::core::clients::Seat;
use crate::core::compose::{Occasion, ghost};
use crate::core::jobs::PlannedJob;
use crate::core::overlap::{self, Admission, Undecided};
use crate::core::routing::Router;
use crate::core::runs::Run;

impl Situation<'_> {
    /// What is due becomes a run, unless its job was deleted, or disabled and nobody asked for it.
    pub(super) fn of_delayed(
        &self,
        router: &mut Router,
        id: &RunId,
        run: &Run,
        segment: Segment,
        due_ms: i64,
    ) -> Step {
        let Some(delay) = document::<Delay>(run) else { return Step::Nothing };
        let key = self.view.keys.delay(segment, Instant::from_ms(due_ms), id);
        let txn = self.composer.term.txn().modified(key.clone(), run.revision).delete(key);
        let found = self.job(id);
        let txn =
            txn.modified(self.view.keys.job(&delay.job), found.as_ref().map_or(0, |(_, job)| job.revision));
        let job = found.as_ref().and_then(|(_, planned)| planned.job());
        if delay.planned_for.is_some() && !job.as_ref().is_some_and(|job| is_planned_by(&delay, job)) {
            // Nothing that was due: the job plans anew.
            return txn.into();
        }
        if due_ms > self.composer.now_ms {
            return Step::Nothing;
        }
        let occasion = occasion_of(&delay);
        match found.zip(job.filter(|job| job.is_enabled() || id.is_manual())) {
            Some(((_, planned), job)) if id.attempt() == 1 => {
                self.admit(router, txn, planned, &job, occasion)
            }
            Some((_, job)) => self.create(router, txn, &job, occasion),
            None => {
                let why = "the job was deleted or disabled before this attempt was due";
                self.refuse(txn, &ghost(&delay.job, &delay.group), occasion, Outcome::Cancelled, why)
            }
        }
    }

    /// Creates the first attempt of a run, if earlier runs of the job let it.
    ///
    /// What decides fires of the segment compares the cursor. Writing it here as well keeps a fire that is on its
    /// way, or whose answer was lost, from committing beside this run, and this run beside it.
    pub(super) fn admit(
        &self,
        router: &mut Router,
        txn: Txn,
        planned: &PlannedJob,
        job: &Job,
        occasion: Occasion,
    ) -> Step {
        if planned.overlap == Overlap::Allow {
            return self.create(router, txn, job, occasion);
        }
        let Some(txn) = self.beside_no_fire(txn, &job.id) else { return Step::Wait };
        match overlap::admit(planned, &self.view.runs, &job.id, Some(&occasion.run), Undecided::default()) {
            Admission::Start => self.create(router, txn, job, occasion),
            Admission::Wait => {
                let snapshot = Snapshot { waits: true, ..self.snapshot(job, occasion) };
                txn.put(self.view.keys.pending(&job.group, &snapshot.id), encode(&snapshot)).into()
            }
            Admission::Skip(why) => self.refuse(txn, job, occasion, Outcome::OverlapSkipped, why.as_words()),
        }
    }

    /// Compares the cursor of a job's segment and writes it as it is; `None`: there is none yet.
    pub(super) fn beside_no_fire(&self, txn: Txn, job: &JobId) -> Option<Txn> {
        let segment = self.view.jobs.segment_of(job);
        let decided = self.view.jobs.segment(segment).decided()?;
        let (cursor, key) = (decided.cursor(self.composer.term.number()), self.view.keys.cursor(segment));
        Some(txn.modified(key.clone(), decided.revision).put(key, encode(&cursor)))
    }

    /// A job with a fixed delay has its next run planned whenever nothing of it is there.
    pub(crate) fn of_job(&self, id: &JobId) -> Step {
        let Some(planned) = self.view.jobs.get(id).filter(|planned| planned.enabled) else {
            return Step::Nothing;
        };
        let (Some(delay_ms), false) = (planned.fixed_delay_ms, self.view.runs.is_there(id)) else {
            return Step::Nothing;
        };
        let Some(job) = planned.job() else { return Step::Nothing };
        let earliest = self.composer.now_ms.saturating_add_unsigned(delay_ms);
        let due = job.starts_at.map_or(earliest, |at| at.as_ms().max(earliest));
        if job.ends_at.is_some_and(|at| due > at.as_ms()) {
            return Step::Nothing;
        }
        let due = Instant::from_ms(due);
        let txn = self.composer.term.txn().modified(self.view.keys.job(id), planned.revision);
        let Some(txn) = self.beside_no_fire(txn, id) else { return Step::Wait };
        let segment = self.view.jobs.segment_of(id);
        // Each plan writes the cursor, so the next one sees another revision: should the clock of the next leader be
        // behind, it may come to the same millisecond, but not to the same run.
        let cursor = self.view.jobs.segment(segment).decided().map_or(0, |decided| decided.revision);
        let run = RunId::planned(id, due, cursor);
        let key = self.view.keys.delay(segment, due, &run);
        let delay = Delay {
            run,
            job: id.clone(),
            group: job.group,
            scheduled_at: due,
            origin: Origin::Schedule,
            params: None,
            planned_for: job.effective_after,
            checkpoint: None,
            client: None,
            cause: None,
            shard: None,
            traceparent: None,
        };
        txn.put(key, encode(&delay)).into()
    }

    /// Creates a run at a client, or parked.
    pub(super) fn create(&self, router: &mut Router, txn: Txn, job: &Job, occasion: Occasion) -> Step {
        let snapshot = self.snapshot(job, occasion);
        let promised = router.pick_new(self.view, &snapshot);
        let txn = match &promised {
            Some(promise) => self.give(txn, snapshot, &promise.seat),
            None => txn.put(self.view.keys.pending(&job.group, &snapshot.id), encode(&snapshot)),
        };
        Step::Commit(Planned { txn, promised })
    }

    fn snapshot(&self, job: &Job, occasion: Occasion) -> Snapshot {
        let followed = occasion.shard.is_some() || self.view.jobs.followers().has(&job.id);
        Snapshot { followed, ..self.composer.snapshot(job, occasion) }
    }

    pub(super) fn give(&self, txn: Txn, mut snapshot: Snapshot, seat: &Seat) -> Txn {
        snapshot.ip = seat.1.to_string();
        snapshot.waits = false;
        txn.put(self.view.keys.snapshot(&seat.0, &seat.1, &snapshot.id), encode(&snapshot))
    }

    pub(super) fn refuse(
        &self,
        txn: Txn,
        job: &Job,
        occasion: Occasion,
        outcome: Outcome,
        why: &str,
    ) -> Step {
        let snapshot = self.composer.snapshot(job, occasion);
        self.end(txn, snapshot, outcome, why).into()
    }
}

/// Whether a planned run is still what its job plans.
pub(super) fn is_planned_by(delay: &Delay, job: &Job) -> bool {
    job.is_enabled()
        && matches!(job.trigger, Trigger::FixedDelay { .. })
        && delay.planned_for == job.effective_after
}

pub(super) fn occasion_of(delay: &Delay) -> Occasion {
    Occasion {
        run: delay.run.clone(),
        scheduled_at: delay.scheduled_at,
        origin: delay.origin,
        missed_fires: 0,
        params: delay.params.clone(),
        checkpoint: delay.checkpoint.clone(),
        pinned: delay.client.clone(),
        cause: delay.cause.clone(),
        shard: delay.shard.clone(),
        traceparent: delay.traceparent,
    }
}
