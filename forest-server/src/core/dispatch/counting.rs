//! What a batch does with the counters of skipped fires.

use forest_proto::JobId;
use forest_proto::record::{Job, Outcome, Snapshot};

use super::Decider;
use crate::core::compose::ghost;
use crate::core::jobs::PlannedJob;
use crate::core::skips::{self, SkippedFire, Taken};

impl<'a> Decider<'a, Box<dyn Iterator<Item = &'a (i64, JobId)> + 'a>> {
    /// A fire that is skipped because a run is alive. One that stands for missed ones is not counted with others.
    pub(super) fn skip_fire(&mut self, fire: &SkippedFire<'_>, job: &Job, snapshot: Snapshot) {
        let stands_for_others = snapshot.missed_fires > 0;
        if stands_for_others || !self.counters.go_on_with(fire) {
            self.close_counter(fire.id);
        }
        let taken = if stands_for_others { Taken::Alone } else { self.counters.take(fire) };
        let execution = match taken {
            Taken::Counted => return,
            Taken::Last(skips) => skips::record(self.composer, job, &skips),
            Taken::Alone => {
                self.composer.never_started(snapshot, Outcome::OverlapSkipped, fire.why.as_words())
            }
        };
        self.put_decision(job, &execution);
    }

    /// Records what was counted of a job, before something else becomes of its fires.
    pub(super) fn close_counter(&mut self, id: &JobId) {
        let Some(skips) = self.counters.close(id) else { return };
        let job = self.jobs.get(id).and_then(PlannedJob::job).unwrap_or_else(|| ghost(id, &skips.group));
        let execution = skips::record(self.composer, &job, &skips);
        self.put_decision(&job, &execution);
    }

    pub(super) fn close_left_over(&mut self) {
        for id in self.jobs.left_over() {
            if self.is_full() {
                break;
            }
            self.close_counter(id);
        }
    }
}
