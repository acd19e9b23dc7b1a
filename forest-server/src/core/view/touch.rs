//! What a change gives reason to look at again, beside the key itself.

use forest_proto::{JobId, RunId};

use super::View;
use crate::core::jobs::Replanned;
use crate::core::runs::Place;

impl View {
    /// Jobs whose calendars changed can be scheduled now, or cannot any more.
    pub(super) fn note_replanned(&mut self, jobs: Vec<Replanned>) {
        for job in jobs {
            let key = self.keys.job(&job.id);
            match job.problem {
                Some(reason) => self.reject(&key, job.revision, &reason),
                None => self.quarantine.forget(&key),
            }
        }
    }

    /// A job's backfill, and what a job of a fixed delay has planned, is looked at whenever something about it changes.
    pub(super) fn touch_chain(&mut self, job: &JobId) {
        if self.backfills.get(job).is_some() {
            self.touched.backfills.insert(job.clone());
        }
        if self.jobs.get(job).is_some_and(|job| job.fixed_delay_ms.is_some()) {
            self.touched.jobs.insert(job.clone());
            let runs: Vec<_> = self.runs.of_job(job).cloned().collect();
            runs.iter().for_each(|run| self.runs.mark(run));
        }
    }

    /// The same, of the job whose run changed or went.
    pub(super) fn touch_chain_of(&mut self, run: &RunId) {
        let followed = self.jobs.has_chains() || self.backfills.len() > 0;
        let Some(job) = followed.then(|| JobId::new(run.job()).ok()).flatten() else { return };
        if self.backfills.get(&job).is_some() {
            self.touched.backfills.insert(job.clone());
        }
        if self.jobs.get(&job).is_some_and(|job| job.fixed_delay_ms.is_some()) {
            self.touched.jobs.insert(job);
        }
    }

    /// A run that leaves a client's hands makes room for one that waits.
    pub(super) fn touch_freed(&mut self, run: &RunId, to: &Place) {
        let stays = matches!(to, Place::Queued { .. } | Place::Running { .. });
        if let Some(before) = self.runs.get(run)
            && !stays
            && before.seat().is_some()
        {
            self.touched.groups.insert(before.group.clone());
        }
    }
}
