//! Which runs must follow the end of a run: worked out from the jobs as they are stored when a leader settles it.
//!
//! An end is settled by its client only where nobody followed the job when the run was created. Of a fire that is
//! certain, so there a client may not settle what is followed.

use std::collections::{BTreeMap, BTreeSet};

use forest_proto::record::{After, Condition, Job, Need, Outcome, Trigger, Within};
use forest_proto::time::Instant;
use forest_proto::{JobId, RunId};

use super::fires::Fires;
use super::{Broken, Promise};

const HOUR_MS: i64 = 3_600_000;

#[derive(Default)]
pub(super) struct Following {
    /// What has ended for a job and a time, since the job was last changed.
    ended: BTreeMap<(JobId, i64, Option<Instant>), BTreeSet<JobId>>,
    fired: BTreeSet<(JobId, i64)>,
}

pub(super) fn followed(job: &Job) -> &[JobId] {
    match &job.trigger {
        Trigger::After(After { jobs, .. }) => jobs,
        _ => &[],
    }
}

/// No job comes before itself.
pub(super) fn check_circles(fires: &Fires, job: &JobId, broken: &mut Broken) {
    let (mut seen, mut open) = (BTreeSet::new(), vec![job]);
    while let Some(id) = open.pop() {
        for before in fires.get(id).into_iter().flat_map(followed) {
            if before == job {
                return broken.note(Promise::Followed, format!("{job} follows itself, by way of {id}"));
            }
            if seen.insert(before) {
                open.push(before);
            }
        }
    }
}

impl Following {
    /// The runs that must begin because a run has ended.
    pub(super) fn ended(&mut self, fires: &Fires, run: &RunId, outcome: Outcome) -> Vec<RunId> {
        // Of a broadcast the whole is followed, not its shards.
        if run.shard().is_some() {
            return Vec::new();
        }
        let followers = fires.jobs().filter(|job| followed(job).iter().any(|id| id.as_str() == run.job()));
        followers.filter_map(|job| self.follows(job, run, outcome)).collect()
    }

    fn follows(&mut self, job: &Job, run: &RunId, outcome: Outcome) -> Option<RunId> {
        let Trigger::After(after) = &job.trigger else { return None };
        let at = run.at();
        let early = job.effective_after.is_some_and(|since| at <= since);
        if early || !job.is_enabled() || !counts(after.on, outcome) {
            return None;
        }
        // All is in UTC here.
        let begins = match after.within {
            Within::Fire if after.jobs.len() == 1 => return Some(RunId::following(&job.id, at, Some(run))),
            Within::Fire => at.as_ms(),
            Within::Hour => at.as_ms() / HOUR_MS * HOUR_MS,
            Within::Day => at.as_ms() / (24 * HOUR_MS) * (24 * HOUR_MS),
        };
        let ended = self.ended.entry((job.id.clone(), begins, job.effective_after)).or_default();
        ended.extend(JobId::new(run.job()));
        let enough = after.need == Need::Any || after.jobs.iter().all(|job| ended.contains(job));
        let fires = enough && self.fired.insert((job.id.clone(), begins));
        fires.then(|| RunId::following(&job.id, Instant::from_ms(begins), None))
    }
}

fn counts(on: Condition, outcome: Outcome) -> bool {
    use Outcome::{Cancelled, Failed, Lost, NoClient, Succeeded, TimedOut};
    match on {
        Condition::Success => outcome == Succeeded,
        Condition::Failure => [Failed, TimedOut, Lost, NoClient].contains(&outcome),
        Condition::End => [Succeeded, Failed, TimedOut, Lost, NoClient, Cancelled].contains(&outcome),
    }
}
