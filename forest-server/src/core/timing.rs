//! When a job fires, all told: its schedule, from when on it counts, its window and its jitter.
//!
//! The jitter is one delay for all fires of a job, taken from its id: so fires keep their order, and every leader
//! computes the same ones. The window is about the fires of the schedule, before that delay.

use std::hash::Hasher;
use std::sync::Arc;

use forest_proto::record::Job;

use forest_schedule::{Note, Schedule};

#[derive(Debug, Clone)]
pub(crate) struct Timing {
    schedule: Arc<Schedule>,
    /// Intervals are counted from here.
    anchor_ms: i64,
    /// Only fires after this count.
    after_ms: i64,
    /// No fire after this.
    until_ms: i64,
    delay_ms: i64,
}

impl Timing {
    pub(crate) fn new(schedule: Arc<Schedule>, job: &Job) -> Self {
        let effective_ms = job.effective_after.map_or(0, |at| at.as_ms());
        let delay_ms = delay_ms(job.id.as_str(), job.jitter_ms);
        // An interval with a start begins at just that.
        let starts_ms = job.starts_at.map(|at| at.as_ms());
        let phase_ms = starts_ms.zip(schedule.period_ms()).map(|(start, period)| start - period);
        Self {
            anchor_ms: phase_ms.unwrap_or(effective_ms),
            // What is delayed beyond the change of a job counts: it was not decided before.
            after_ms: effective_ms.saturating_sub(delay_ms).max(starts_ms.map_or(0, |at| at - 1)),
            until_ms: job.ends_at.map_or(i64::MAX, |at| at.as_ms()),
            schedule,
            delay_ms,
        }
    }

    /// An expression alone: its intervals are counted from `anchor_ms`, and its fires after `after_ms` count.
    pub(crate) fn plain(schedule: Arc<Schedule>, anchor_ms: i64, after_ms: i64) -> Self {
        Self { schedule, anchor_ms, after_ms, until_ms: i64::MAX, delay_ms: 0 }
    }

    /// The same fires, and those before the job counted. Its window stays.
    pub(crate) fn backdated(&self, job: &Job) -> Self {
        let after_ms = job.starts_at.map_or(0, |at| at.as_ms() - 1);
        let anchor_ms = match self.schedule.period_ms() {
            Some(period) if job.starts_at.is_none() => self.anchor_ms.rem_euclid(period),
            _ => self.anchor_ms,
        };
        Self { anchor_ms, after_ms, ..self.clone() }
    }

    /// What clocks and calendars did between one fire, or any instant, and the next one.
    pub(crate) fn notes(&self, before_ms: i64, at_ms: i64) -> Vec<Note> {
        let before_ms = before_ms.saturating_sub(self.delay_ms).max(self.after_ms);
        self.schedule.notes(before_ms, at_ms - self.delay_ms, self.anchor_ms)
    }

    /// The first fire strictly after an instant; `None`: never again.
    pub(crate) fn next_after(&self, at_ms: i64) -> Option<i64> {
        let after_ms = at_ms.saturating_sub(self.delay_ms).max(self.after_ms);
        let fire = self.schedule.next_after(after_ms, self.anchor_ms)?;
        (fire <= self.until_ms).then(|| fire + self.delay_ms)
    }

    /// The number of fires in `after_ms < fire <= until_ms`, and the last of them.
    pub(crate) fn count_between(&self, after_ms: i64, until_ms: i64) -> (u64, Option<i64>) {
        let (after_ms, until_ms) = self.span(after_ms, until_ms);
        let (count, last) = self.schedule.count_between(after_ms, until_ms, self.anchor_ms, u64::MAX);
        (count, last.map(|last| last + self.delay_ms))
    }

    /// The instant from which on the fires in `after_ms < fire <= until_ms` are the last `count` of them.
    pub(crate) fn start_of_last(&self, count: u64, after_ms: i64, until_ms: i64) -> i64 {
        let (after_ms, until_ms) = self.span(after_ms, until_ms);
        self.schedule.start_of_last(count, after_ms, until_ms, self.anchor_ms) + self.delay_ms
    }

    fn span(&self, after_ms: i64, until_ms: i64) -> (i64, i64) {
        let shift = |at: i64| at.saturating_sub(self.delay_ms);
        (shift(after_ms).max(self.after_ms), shift(until_ms).min(self.until_ms))
    }
}

/// A job's own share of its jitter.
fn delay_ms(job: &str, jitter_ms: u64) -> i64 {
    if jitter_ms == 0 {
        return 0;
    }
    let mut hasher = fnv::FnvHasher::default();
    hasher.write(job.as_bytes());
    // The low bits of this hash follow the last characters too closely.
    let spread = hasher.finish().wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 16;
    i64::try_from(spread % jitter_ms).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use forest_proto::record::{DstFold, DstGap};
    use forest_proto::time::Instant;
    use forest_proto::{GroupName, JobId, TargetName};

    use super::*;

    const MINUTE: i64 = 60_000;
    const START: i64 = 1_800_000_000_000;

    fn job(id: &str) -> Job {
        let group = GroupName::new("trade").expect("valid");
        Job::new(JobId::new(id).expect("valid"), id, group, TargetName::new("bill").expect("valid"))
    }

    fn every_minute(job: &Job) -> Timing {
        let schedule = Schedule::compile("0 * * * * *", "", DstGap::default(), DstFold::default());
        Timing::new(Arc::new(schedule.expect("valid")), job)
    }

    fn fires(timing: &Timing, after: i64, count: usize) -> Vec<i64> {
        let next = |at: &i64| timing.next_after(*at);
        std::iter::successors(timing.next_after(after), next).take(count).collect()
    }

    #[test]
    fn a_window_has_its_first_and_its_last_fire() {
        let at = |minutes: i64| Some(Instant::from_ms(START + minutes * MINUTE));
        let timing = every_minute(&Job { starts_at: at(3), ends_at: at(5), ..job("a") });
        let expected: Vec<_> = (3..=5).map(|minute| START + minute * MINUTE).collect();
        assert_eq!(fires(&timing, START, 10), expected);
        assert_eq!(timing.count_between(START, i64::MAX - 1), (3, Some(START + 5 * MINUTE)));
        assert_eq!(timing.count_between(START + 3 * MINUTE, START + 4 * MINUTE).0, 1);
    }

    #[test]
    fn an_interval_with_a_start_begins_there() {
        let starts_at = Some(Instant::from_ms(START + 7));
        let effective_after = Some(Instant::from_ms(START - 12_345));
        let job = Job { starts_at, effective_after, ..job("a") };
        let timing = Timing::new(Arc::new(Schedule::every(5_000).expect("valid")), &job);
        assert_eq!(fires(&timing, 0, 3), [START + 7, START + 5_007, START + 10_007]);
    }

    #[test]
    fn jitter_delays_each_job_by_an_amount_of_its_own() {
        let mut delays = std::collections::BTreeSet::new();
        for number in 0..200 {
            let id = format!("20261121090000{number:06}");
            let timing = every_minute(&Job { jitter_ms: 30_000, ..job(&id) });
            let all = fires(&timing, START, 5);
            let delay = all[0] - (START + if all[0] < START + MINUTE { 0 } else { MINUTE });
            assert!((0..30_000).contains(&delay), "{delay}");
            assert!(all.windows(2).all(|pair| pair[1] - pair[0] == MINUTE));
            assert_eq!(timing.count_between(START, all[4]), (5, Some(all[4])));
            assert_eq!(timing.next_after(all[1] - 1), Some(all[1]));
            assert_eq!(timing.next_after(all[1]), Some(all[2]));
            delays.insert(delay);
        }
        assert!(delays.len() > 190, "{} of 200 differ", delays.len());
    }

    #[test]
    fn backdated_fires_are_those_of_the_schedule() {
        let effective_after = Some(Instant::from_ms(START + 17));
        let counts = Job { effective_after, jitter_ms: 5_000, ..job("a") };
        let interval = Timing::new(Arc::new(Schedule::every(7_000).expect("valid")), &counts);
        let all = fires(&interval.backdated(&counts), START - 70_000, 20);
        assert_eq!(all[11..], fires(&interval, 0, 9), "and one at the anchor");
        assert!(all.windows(2).all(|pair| pair[1] - pair[0] == 7_000));
        let cron = every_minute(&counts);
        assert_eq!(fires(&cron.backdated(&counts), 0, 1), [MINUTE + fires(&cron, START, 1)[0] % MINUTE]);
        assert_eq!(fires(&cron.backdated(&counts), START, 5), fires(&cron, START, 5));

        let windowed = Job { starts_at: Some(Instant::from_ms(START - 3 * MINUTE)), ..counts };
        for timing in [
            every_minute(&windowed),
            Timing::new(Arc::new(Schedule::every(7_000).expect("valid")), &windowed),
        ] {
            let first = fires(&timing.backdated(&windowed), 0, 1)[0];
            assert!((0..5_000).contains(&(first - (START - 3 * MINUTE))), "{first}");
        }
    }

    #[test]
    fn the_last_fires_of_a_span_are_found() {
        let timing = every_minute(&Job { jitter_ms: 5_000, ..job("a") });
        let until = START + 1_000 * MINUTE;
        let (all, last) = timing.count_between(START, until);
        assert_eq!(all, 1_000);
        for count in [1, 2, 100, 999, 1_000] {
            let start = timing.start_of_last(count, START, until);
            assert_eq!(timing.count_between(start - 1, until), (count, last));
            assert_eq!(timing.count_between(START, start - 1).0, all - count);
        }
        assert_eq!(timing.start_of_last(5_000, START, until), START + 1, "there are fewer");
    }
}
