//! What the end of a run means for the jobs that follow its job.
//!
//! It becomes part of the transaction that settles the end: so there is one successor for it, or none, whoever
//! settles it and how often that is tried. Which jobs follow is compared by the generation of the job's segment, which
//! each of them puts when it is saved; and each as it was looked at. Where ends are counted, so is what was counted
//! before.

use forest_etcd::Txn;
use forest_proto::record::{Condition, Delay, Job, Join, Origin, Outcome, Snapshot, Trigger, encode};
use forest_proto::time::Instant;
use forest_proto::{JobId, RunId};
use jiff::tz::TimeZone;

use super::Situation;
use crate::core::dependencies::{self, is_enough, is_plain};
use forest_schedule::find_zone;

/// Four operations for each, beside those of the end itself, fit into a request. More jobs than this follow one only
/// where another program stored them.
const MOST: usize = 60;

impl Situation<'_> {
    /// Adds what the end of a run leads to. Nothing else can follow that end.
    pub(super) fn follow(&self, txn: Txn, snapshot: &Snapshot, outcome: Option<Outcome>) -> Txn {
        let run = &snapshot.id;
        let Ok(ended) = JobId::new(run.job()) else { return txn };
        // Of a broadcast the whole is followed, not its shards.
        if run.shard().is_some() {
            return txn;
        }
        let Some(outcome) = outcome.filter(|outcome| Condition::End.counts(*outcome)) else { return txn };
        if !snapshot.followed && !self.view.jobs.followers().has(&ended) {
            return txn;
        }
        let segment = self.view.jobs.segment_of(&ended);
        let jobgen = self.view.jobs.segment(segment).jobgen();
        let mut txn = txn.modified(self.view.keys.jobgen(segment), jobgen);
        for follower in self.view.jobs.followers().of(&ended).take(MOST) {
            let Some(planned) = self.view.jobs.get(follower) else { continue };
            txn = txn.modified(self.view.keys.job(follower), planned.revision);
            if let Some(job) = planned.job() {
                txn = self.follow_with(txn, &job, run, &ended, outcome);
            }
        }
        txn
    }

    fn follow_with(&self, txn: Txn, job: &Job, run: &RunId, ended: &JobId, outcome: Outcome) -> Txn {
        let Trigger::After(after) = &job.trigger else { return txn };
        let zone = self.zone_of(job);
        let Some(at) = dependencies::time_of(job, &zone, run, outcome) else { return txn };
        if is_plain(after) {
            return self.succeed(txn, job, RunId::following(&job.id, at, Some(run)), run);
        }
        let known = self.view.joins.entry(&job.id);
        let mut join = known.map_or_else(Join::default, |entry| entry.value.clone());
        join.restart(job.effective_after);
        let fired = join.count(at, ended, |all| is_enough(after, all));
        let Some(fired) = fired else {
            // It had been counted, or its time is over: no later write changes that.
            return txn;
        };
        let key = self.view.keys.join(self.view.jobs.segment_of(&job.id), &job.id);
        let txn = txn.modified(key.clone(), known.map_or(0, |entry| entry.revision)).put(key, encode(&join));
        if fired { self.succeed(txn, job, RunId::following(&job.id, at, None), run) } else { txn }
    }

    /// The run that follows, due at once.
    fn succeed(&self, txn: Txn, job: &Job, run: RunId, cause: &RunId) -> Txn {
        let due = Instant::from_ms(self.composer.now_ms);
        let key = self.view.keys.delay(self.view.jobs.segment_of(&job.id), due, &run);
        let delay = Delay {
            scheduled_at: run.at(),
            run,
            job: job.id.clone(),
            group: job.group.clone(),
            origin: Origin::Dependency,
            params: None,
            planned_for: None,
            checkpoint: None,
            client: None,
            cause: Some(cause.clone()),
            shard: None,
            traceparent: None,
        };
        txn.put(key, encode(&delay))
    }

    fn zone_of(&self, job: &Job) -> TimeZone {
        let name = if job.time_zone.is_empty() { self.view.jobs.default_zone() } else { &job.time_zone };
        find_zone(name).unwrap_or(TimeZone::UTC)
    }
}
