//! What a job that follows several others has seen of them: `server/join/{segment}/{job}`.
//!
//! It refuses to count a time twice: one for which the job has run, or which is older than what is remembered.

use serde::{Deserialize, Serialize};

use crate::name::JobId;
use crate::time::Instant;

/// So many times are remembered; of older ones nothing counts any more.
pub const MAX_JOIN_DATES: usize = 128;

/// The ends that counted, by the time to which they belong.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Join {
    /// The job's `effective_after` when they counted. What counted before a change does not count after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Instant>,
    /// Nothing counts for this time any more, nor for an earlier one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<Instant>,
    /// In the order of their times, at most [`MAX_JOIN_DATES`].
    #[serde(default)]
    pub dates: Vec<JoinDate>,
}

/// One time: an instant, or the beginning of an hour or day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinDate {
    /// The time.
    pub at: Instant,
    /// The jobs that ended as they should. Empty once the job has run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ended: Vec<JobId>,
    /// Whether the job has run for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fired: bool,
}

impl Join {
    /// Begins anew after a change of the job. That it has run for a time stays known.
    pub fn restart(&mut self, since: Option<Instant>) {
        if self.since != since {
            self.since = since;
            self.dates.retain(|date| date.fired);
        }
    }

    /// Counts the end of a run of `job`; `is_enough` says of the jobs that have ended whether the time has come. `None`
    /// if nothing changes; else whether it has.
    pub fn count(
        &mut self,
        at: Instant,
        job: &JobId,
        is_enough: impl FnOnce(&[JobId]) -> bool,
    ) -> Option<bool> {
        if self.floor.is_some_and(|floor| at <= floor) {
            return None;
        }
        let index = match self.dates.binary_search_by_key(&at, |date| date.at) {
            Ok(index) => index,
            Err(index) => {
                self.dates.insert(index, JoinDate { at, ended: Vec::new(), fired: false });
                index
            }
        };
        let date = &mut self.dates[index];
        if date.fired || date.ended.contains(job) {
            return None;
        }
        date.ended.push(job.clone());
        if is_enough(&date.ended) {
            date.fired = true;
            date.ended.clear();
        }
        let fired = date.fired;
        while self.dates.len() > MAX_JOIN_DATES {
            self.floor = Some(self.dates.remove(0).at);
        }
        Some(fired)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{decode, encode};

    fn id(text: &str) -> JobId {
        JobId::new(text).expect("valid")
    }

    fn at(ms: i64) -> Instant {
        Instant::from_ms(ms)
    }

    #[test]
    fn a_time_comes_once() {
        let mut join = Join::default();
        let both = |ended: &[JobId]| ended.len() == 2;
        assert_eq!(join.count(at(1), &id("a"), both), Some(false));
        assert_eq!(join.count(at(1), &id("a"), both), None, "the same one again");
        assert_eq!(join.count(at(2), &id("b"), both), Some(false), "another time");
        assert_eq!(join.count(at(1), &id("b"), both), Some(true));
        assert_eq!(join.count(at(1), &id("b"), |_| true), None);
        assert_eq!(decode::<Join>(&encode(&join)).expect("reads"), join);
    }

    #[test]
    fn a_change_forgets_what_counted_and_not_what_has_run() {
        let mut join = Join::default();
        join.count(at(1), &id("a"), |_| true);
        join.count(at(2), &id("a"), |_| false);
        join.restart(Some(at(3)));
        let dates: Vec<_> = join.dates.iter().map(|date| date.at.as_ms()).collect();
        assert_eq!((dates, join.since), (vec![1], Some(at(3))));
        assert_eq!(join.count(at(1), &id("b"), |_| true), None);
    }

    #[test]
    fn what_falls_out_does_not_come_again() {
        let mut join = Join::default();
        for ms in 1..=200 {
            assert_eq!(join.count(at(ms), &id("a"), |_| true), Some(true));
        }
        assert_eq!((join.dates.len(), join.floor), (MAX_JOIN_DATES, Some(at(72))));
        join.restart(Some(at(5)));
        assert_eq!(join.count(at(72), &id("a"), |_| true), None);
        let mut old = Join::default();
        for ms in 2..=129 {
            old.count(at(ms), &id("a"), |_| false);
        }
        assert_eq!(old.count(at(1), &id("a"), |_| true), Some(true), "older than all, and there was room");
        assert_eq!(old.floor, Some(at(1)), "it fell out at once");
        assert_eq!(old.count(at(1), &id("a"), |_| true), None);
    }
}
