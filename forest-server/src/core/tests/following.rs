//! Which runs must follow the end of a run, worked out from the history alone.

use std::collections::{BTreeMap, BTreeSet};

use forest_proto::record::{After, Job, Need, Outcome, Trigger, Within};
use forest_proto::time::Instant;
use forest_proto::{JobId, RunId};

use super::tally::Tally;
use super::{DAY, HOUR};

#[derive(Default)]
pub(super) struct Following {
    /// What has ended for a job and a time, since the job was last changed.
    ended: BTreeMap<(JobId, i64, Option<Instant>), BTreeSet<JobId>>,
    fired: BTreeSet<(JobId, i64)>,
}

impl Following {
    /// The runs that must begin because a run has ended.
    pub(super) fn ended(&mut self, tally: &Tally, run: &RunId, outcome: Outcome) -> Vec<RunId> {
        // Of a broadcast the whole is followed, not its shards.
        if run.shard().is_some() {
            return Vec::new();
        }
        let followers = tally.jobs().filter_map(|job| match &job.trigger {
            Trigger::After(after) if after.jobs.iter().any(|id| id.as_str() == run.job()) => {
                Some((job, after))
            }
            _ => None,
        });
        followers.filter_map(|(job, after)| self.follows(job, after, run, outcome)).collect()
    }

    fn follows(&mut self, job: &Job, after: &After, run: &RunId, outcome: Outcome) -> Option<RunId> {
        let at = run.at();
        let since = job.effective_after;
        let outside = since.is_some_and(|since| at <= since)
            || job.starts_at.is_some_and(|start| at < start)
            || job.ends_at.is_some_and(|end| at > end);
        if !job.is_enabled() || outside || !after.on.counts(outcome) {
            return None;
        }
        // The stories are told in UTC.
        let begins = match after.within {
            Within::Fire if after.jobs.len() == 1 => return Some(RunId::following(&job.id, at, Some(run))),
            Within::Fire => at.as_ms(),
            Within::Hour => at.as_ms() / HOUR * HOUR,
            Within::Day => at.as_ms() / DAY * DAY,
        };
        let ended = self.ended.entry((job.id.clone(), begins, since)).or_default();
        ended.insert(JobId::new(run.job()).unwrap());
        let enough = match after.need {
            Need::Any => true,
            Need::All => after.jobs.iter().all(|job| ended.contains(job)),
        };
        let fires = enough && self.fired.insert((job.id.clone(), begins));
        fires.then(|| RunId::following(&job.id, Instant::from_ms(begins), None))
    }
}
