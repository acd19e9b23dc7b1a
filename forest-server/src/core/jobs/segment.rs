//! The jobs of one segment, how far its fires are decided, and the plan of those that are not.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Included, Unbounded};

use forest_proto::JobId;
use forest_proto::record::{Cursor, Skips, Sweep};
use forest_proto::time::Instant;

use super::NEVER;
use super::planned::PlannedJob;
use crate::core::skips;
use crate::core::timing::Timing;

/// How far a segment is decided, and by which write of the cursor that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decided {
    pub(crate) fire_ms: i64,
    pub(crate) job: String,
    pub(crate) revision: i64,
    pub(crate) sweep: Option<Sweep>,
    pub(crate) skips: BTreeMap<JobId, Skips>,
}

impl Decided {
    pub(super) fn by(cursor: &Cursor, revision: i64) -> Self {
        let (fire_ms, job) = (cursor.fire_at.as_ms(), cursor.job.clone());
        Self { fire_ms, job, revision, sweep: cursor.sweep.clone(), skips: cursor.skips.clone() }
    }

    /// The instant up to which the fires of a job are decided. Fires at the cursor's own instant are behind it
    /// for jobs with a larger id.
    pub(super) fn until(&self, id: &JobId) -> i64 {
        let cursor = if id.as_str() > self.job.as_str() { self.fire_ms - 1 } else { self.fire_ms };
        let swept = self.sweep.as_ref().map_or(cursor, |sweep| match id.as_str().cmp(&sweep.job) {
            Ordering::Less => sweep.until.as_ms(),
            Ordering::Equal => sweep.fire_at.as_ms(),
            Ordering::Greater => cursor,
        });
        swept.max(cursor)
    }

    /// The same position, as a document.
    pub(crate) fn cursor(&self, term: i64) -> Cursor {
        let (sweep, skips) = (self.sweep.clone(), self.skips.clone());
        Cursor { sweep, skips, ..Cursor::at(Instant::from_ms(self.fire_ms), self.job.clone(), term) }
    }
}

#[derive(Debug, Default)]
pub(crate) struct SegmentJobs {
    pub(super) jobs: BTreeMap<JobId, PlannedJob>,
    plan: BTreeSet<(i64, JobId)>,
    decided: Option<Decided>,
    /// Mod revision of the segment's `jobgen`; 0 = no job was ever stored in it.
    jobgen: i64,
    /// How often it was put.
    changes: i64,
    /// As of this revision something is missing here that etcd has: nothing is decided before a listing.
    doubted_at: Option<i64>,
    /// Jobs whose skipped fires were counted, and nothing more comes to that.
    left_over: BTreeSet<JobId>,
    pub(super) enabled: usize,
}

impl SegmentJobs {
    pub(crate) fn decided(&self) -> Option<&Decided> {
        self.decided.as_ref()
    }

    pub(crate) fn jobgen(&self) -> i64 {
        self.jobgen
    }

    pub(super) fn set_jobgen(&mut self, revision: i64, changes: i64, listed: bool) {
        if revision <= self.jobgen {
            return;
        }
        if !listed && self.changes > 0 && changes > self.changes + 1 {
            self.doubted_at = Some(revision);
        }
        (self.jobgen, self.changes) = (revision, changes);
    }

    pub(super) fn forget_jobgen(&mut self, revision: i64) {
        if self.jobgen < revision {
            (self.jobgen, self.changes) = (0, 0);
        }
    }

    pub(super) fn doubt(&mut self, revision: i64) {
        self.doubted_at = self.doubted_at.max(Some(revision));
    }

    pub(super) fn listed(&mut self, revision: i64) {
        self.doubted_at = self.doubted_at.filter(|at| *at > revision);
    }

    pub(crate) fn is_doubted(&self) -> bool {
        self.doubted_at.is_some()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    pub(crate) fn get(&self, job: &JobId) -> Option<&PlannedJob> {
        self.jobs.get(job)
    }

    /// The fires in order, from the soonest.
    pub(crate) fn fires(&self) -> impl Iterator<Item = &(i64, JobId)> {
        self.plan.iter()
    }

    /// The jobs from this id on, in the order of their ids.
    pub(crate) fn jobs_from(&self, id: &str) -> impl Iterator<Item = (&JobId, &PlannedJob)> {
        self.jobs.range::<str, _>((Included(id), Unbounded))
    }

    pub(crate) fn next_due(&self) -> Option<i64> {
        self.plan.first().map(|(at, _)| *at)
    }

    /// Jobs whose counter of skipped fires is to be closed.
    pub(crate) fn left_over(&self) -> impl Iterator<Item = &JobId> {
        self.left_over.iter()
    }

    pub(crate) fn has_left_over(&self) -> bool {
        !self.left_over.is_empty()
    }

    fn look_at_counter(&mut self, id: &JobId) {
        let skips = self.decided.as_ref().and_then(|decided| decided.skips.get(id));
        if skips.is_some_and(|skips| skips::is_left_over(skips, self.jobs.get(id))) {
            self.left_over.insert(id.clone());
        } else {
            self.left_over.remove(id);
        }
    }

    fn look_at_counters(&mut self) {
        let counted = self.decided.iter().flat_map(|decided| &decided.skips);
        let is_left_over = |(id, skips): &(&JobId, &Skips)| skips::is_left_over(skips, self.jobs.get(*id));
        self.left_over = counted.filter(is_left_over).map(|(id, _)| id.clone()).collect();
    }

    pub(super) fn insert(&mut self, id: JobId, mut job: PlannedJob) -> Option<PlannedJob> {
        let before = self.take(&id);
        self.enabled += usize::from(job.enabled);
        if let Some(decided) = &self.decided {
            job.next_ms = first_fire(&job, &id, decided);
            self.plan_fire(&job, &id);
        }
        self.jobs.insert(id.clone(), job);
        self.look_at_counter(&id);
        before
    }

    pub(super) fn plan_fire(&mut self, job: &PlannedJob, id: &JobId) {
        if job.next_ms != NEVER {
            self.plan.insert((job.next_ms, id.clone()));
        }
    }

    pub(super) fn take(&mut self, id: &JobId) -> Option<PlannedJob> {
        let job = self.jobs.remove(id)?;
        self.enabled -= usize::from(job.enabled);
        if job.next_ms != NEVER {
            self.plan.remove(&(job.next_ms, id.clone()));
        }
        Some(job)
    }

    pub(super) fn reschedule(&mut self, id: &JobId, timing: Option<Timing>, problem: Option<&str>) {
        if let Some(mut job) = self.take(id) {
            (job.timing, job.problem, job.next_ms) = (timing, problem.map(Into::into), NEVER);
            self.insert(id.clone(), job);
        }
    }

    pub(super) fn remove(&mut self, id: &JobId, revision: i64) -> Option<PlannedJob> {
        self.jobs.get(id).filter(|job| job.revision < revision)?;
        let job = self.take(id);
        self.look_at_counter(id);
        job
    }

    /// Moves the cursor, and with it every fire that it passes. Cursors of the past are ignored.
    pub(crate) fn set_decided(&mut self, decided: Decided) {
        match &self.decided {
            Some(known) if known.revision >= decided.revision => {}
            Some(_) => self.advance(decided),
            None => {
                self.decided = Some(decided);
                self.plan_all();
            }
        }
        self.look_at_counters();
    }

    pub(super) fn plan_all(&mut self) {
        let Some(decided) = &self.decided else { return };
        let mut plan = Vec::new();
        for (id, job) in &mut self.jobs {
            job.next_ms = first_fire(job, id, decided);
            if job.next_ms != NEVER {
                plan.push((job.next_ms, id.clone()));
            }
        }
        self.plan = plan.into_iter().collect();
    }

    /// The cursor is gone: nothing is planned before there is another one.
    pub(super) fn forget_decided(&mut self, revision: i64) {
        if self.decided.as_ref().is_some_and(|decided| decided.revision < revision) {
            self.decided = None;
            self.left_over.clear();
            self.plan.clear();
            self.jobs.values_mut().for_each(|job| job.next_ms = NEVER);
        }
    }

    pub(super) fn advance(&mut self, decided: Decided) {
        while let Some((at, id)) = self.plan.first()
            && (*at, id.as_str()) <= (decided.fire_ms, decided.job.as_str())
        {
            let Some((_, id)) = self.plan.pop_first() else { break };
            if let Some(job) = self.jobs.get_mut(&id) {
                job.next_ms = first_fire(job, &id, &decided);
                if job.next_ms != NEVER {
                    self.plan.insert((job.next_ms, id));
                }
            }
        }
        let job_of = |decided: &Decided| decided.sweep.as_ref().map(|sweep| sweep.job.clone());
        let (from, to) = (self.decided.as_ref().and_then(job_of), job_of(&decided));
        self.decided = Some(decided);
        to.iter().for_each(|to| self.plan_swept(from.as_deref(), to));
    }

    /// Plans anew the jobs that a sweep has passed.
    pub(super) fn plan_swept(&mut self, from: Option<&str>, to: &str) {
        let Some(decided) = &self.decided else { return };
        for (id, job) in self.jobs.range_mut::<str, _>((from.map_or(Unbounded, Included), Included(to))) {
            if job.next_ms != NEVER && job.next_ms <= decided.until(id) {
                self.plan.remove(&(job.next_ms, id.clone()));
                job.next_ms = first_fire(job, id, decided);
                if job.next_ms != NEVER {
                    self.plan.insert((job.next_ms, id.clone()));
                }
            }
        }
    }
}

/// The first fire of a job that is not decided.
fn first_fire(job: &PlannedJob, id: &JobId, decided: &Decided) -> i64 {
    let Some(timing) = job.timing.as_ref().filter(|_| job.enabled) else { return NEVER };
    timing.next_after(decided.until(id)).unwrap_or(NEVER)
}
