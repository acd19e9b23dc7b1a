//! Jobs for which a run is being created and the view does not show it yet.
//!
//! A segment's pipeline and the steps of requests write at the same time. Where runs of a job must not
//! overlap, each has to know of the other's unfinished business: the pipeline stops before such a job, and
//! a request for it waits.

use std::collections::{BTreeMap, BTreeSet};

use forest_proto::{JobId, Segment};

#[derive(Debug, Default)]
pub(crate) struct Starting {
    dispatched: BTreeMap<Segment, BTreeSet<JobId>>,
    requested: BTreeMap<JobId, usize>,
}

impl Starting {
    /// A batch of the segment with these jobs is on its way.
    pub(crate) fn dispatch(&mut self, segment: Segment, jobs: BTreeSet<JobId>) {
        self.dispatched.insert(segment, jobs);
    }

    /// What the segment had on its way is in the view, or certain never to commit.
    pub(crate) fn dispatched(&mut self, segment: Segment) {
        self.dispatched.remove(&segment);
    }

    pub(crate) fn request(&mut self, job: &JobId) {
        *self.requested.entry(job.clone()).or_default() += 1;
    }

    pub(crate) fn requested(&mut self, job: &JobId) {
        if let Some(count) = self.requested.get_mut(job) {
            *count -= 1;
            if *count == 0 {
                self.requested.remove(job);
            }
        }
    }

    pub(crate) fn by_request(&self, job: &JobId) -> bool {
        self.requested.contains_key(job)
    }

    pub(crate) fn by_any(&self, segment: Segment, job: &JobId) -> bool {
        self.by_request(job) || self.dispatched.get(&segment).is_some_and(|jobs| jobs.contains(job))
    }
}
