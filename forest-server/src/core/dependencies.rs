//! Which jobs follow which, and to what time the end of a run belongs for a job that follows.
//!
//! Owns the index from a job to those that follow it, so that the end of a run costs as much as there are jobs that
//! wait for it. What an end then leads to is decided in [`super::steps`].

use std::collections::{BTreeMap, BTreeSet};

use forest_proto::record::{After, Job, Need, Outcome, Trigger, Within};
use forest_proto::time::Instant;
use forest_proto::{JobId, RunId};
use jiff::Timestamp;
use jiff::tz::TimeZone;

const HOUR_MS: i64 = 3_600_000;

/// So many jobs may follow one: all of them are part of the transaction that settles the end of its run, which etcd
/// limits to 128 operations.
pub(crate) const MAX_FOLLOWERS: usize = 32;

#[derive(Debug, Default)]
pub(crate) struct Followers {
    /// By the job as its followers name it: it may not exist.
    of: BTreeMap<JobId, BTreeSet<JobId>>,
}

impl Followers {
    pub(crate) fn of(&self, job: &JobId) -> impl Iterator<Item = &JobId> {
        self.of.get(job).into_iter().flatten()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    pub(crate) fn has(&self, job: &JobId) -> bool {
        self.of.contains_key(job)
    }

    pub(super) fn join(&mut self, job: &Job) {
        for followed in followed_by(job) {
            self.of.entry(followed.clone()).or_default().insert(job.id.clone());
        }
    }

    pub(super) fn leave(&mut self, job: &Job) {
        for followed in followed_by(job) {
            let Some(followers) = self.of.get_mut(followed) else { continue };
            followers.remove(&job.id);
            if followers.is_empty() {
                self.of.remove(followed);
            }
        }
    }
}

/// The jobs that a job follows.
pub(crate) fn followed_by(job: &Job) -> &[JobId] {
    match &job.trigger {
        Trigger::After(after) => &after.jobs,
        _ => &[],
    }
}

/// Whether each run of the one job that is followed has a successor of its own. Otherwise ends are counted.
pub(crate) fn is_plain(after: &After) -> bool {
    after.jobs.len() == 1 && after.within == Within::Fire
}

/// Whether enough of the jobs that are followed have ended.
pub(crate) fn is_enough(after: &After, ended: &[JobId]) -> bool {
    match after.need {
        Need::Any => true,
        Need::All => after.jobs.iter().all(|job| ended.contains(job)),
    }
}

/// The time to which the end of a run belongs; `None`: it does not count for the job that follows. A run counts whose
/// own instant is after the last change of the job that follows, and within its window.
pub(crate) fn time_of(job: &Job, zone: &TimeZone, run: &RunId, outcome: Outcome) -> Option<Instant> {
    let Trigger::After(after) = &job.trigger else { return None };
    let at = run.at();
    let counts = job.is_enabled()
        && after.on.counts(outcome)
        && job.effective_after.is_none_or(|since| at > since)
        && job.starts_at.is_none_or(|start| at >= start)
        && job.ends_at.is_none_or(|end| at <= end);
    counts.then(|| beginning(after.within, zone, at))
}

fn beginning(within: Within, zone: &TimeZone, at: Instant) -> Instant {
    let timestamp = Timestamp::from_millisecond(at.as_ms()).unwrap_or_default();
    match within {
        Within::Fire => at,
        // On the clock of the zone: where that is put back, the hour that comes twice is two hours.
        Within::Hour => {
            let offset_ms = i64::from(zone.to_offset(timestamp).seconds()) * 1_000;
            Instant::from_ms((at.as_ms() + offset_ms).div_euclid(HOUR_MS) * HOUR_MS - offset_ms)
        }
        Within::Day => {
            let start = timestamp.to_zoned(zone.clone()).start_of_day();
            start.map_or(at, |start| Instant::from_ms(start.timestamp().as_millisecond()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beginning_of(within: Within, zone: &str, at: &str) -> String {
        let at: Timestamp = at.parse().expect("a time");
        let zone = TimeZone::get(zone).expect("a zone");
        let begins = beginning(within, &zone, Instant::from_ms(at.as_millisecond()));
        Timestamp::from_millisecond(begins.as_ms()).expect("a time").to_string()
    }

    #[test]
    fn hours_and_days_are_those_of_the_zone() {
        let of = beginning_of;
        assert_eq!(of(Within::Fire, "Asia/Shanghai", "2027-01-15T17:20:30Z"), "2027-01-15T17:20:30Z");
        assert_eq!(of(Within::Day, "Asia/Shanghai", "2027-01-15T17:20:30Z"), "2027-01-15T16:00:00Z");
        assert_eq!(of(Within::Hour, "Asia/Kolkata", "2027-01-15T17:20:30Z"), "2027-01-15T16:30:00Z");
        // Clocks are put back at 3:00: the hour from 2:00 on comes twice, and is two.
        assert_eq!(of(Within::Hour, "Europe/Berlin", "2027-10-31T00:20:00Z"), "2027-10-31T00:00:00Z");
        assert_eq!(of(Within::Hour, "Europe/Berlin", "2027-10-31T01:20:00Z"), "2027-10-31T01:00:00Z");
        assert_eq!(of(Within::Day, "Europe/Berlin", "2027-10-31T20:00:00Z"), "2027-10-30T22:00:00Z");
        // There the day begins at 1:00 when clocks are put forward.
        assert_eq!(of(Within::Day, "America/Asuncion", "2023-10-01T20:00:00Z"), "2023-10-01T04:00:00Z");
    }
}
