//! The documents that a leader writes: snapshots, decisions, delays.

use std::hash::Hasher;

use fnv::FnvHasher;
use forest_proto::record::{
    Delay, Execution, Job, Origin, Outcome, RetryBackoff, Routing, Shard, ShardParams, Snapshot,
};
use forest_proto::time::Instant;
use forest_proto::{ClientId, GroupName, JobId, RunId, TargetName, TraceParent};
use jiff::tz::TimeZone;

use super::term::Term;
use super::trace;

/// Retries come after 1, 5 and 10 minutes where a job does not say.
const RETRY_DELAYS_MS: [u64; 3] = [60_000, 300_000, 600_000];

/// What jobs that do not say get, and how local times are written.
#[derive(Debug, Clone)]
pub(crate) struct Defaults {
    pub(crate) misfire_threshold_ms: i64,
    pub(crate) start_deadline_ms: i64,
    pub(crate) zone_name: String,
    pub(crate) zone: TimeZone,
    /// Which part of the traces is kept; `None`: this cluster makes no spans.
    pub(crate) trace_ratio: Option<f64>,
}

/// Writes documents in the name of a term, at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Composer<'a> {
    pub(crate) term: &'a Term,
    pub(crate) defaults: &'a Defaults,
    pub(crate) now_ms: i64,
}

/// What distinguishes one run of a job from another.
#[derive(Debug, Clone)]
pub(crate) struct Occasion {
    pub(crate) run: RunId,
    pub(crate) scheduled_at: Instant,
    pub(crate) origin: Origin,
    pub(crate) missed_fires: u64,
    pub(crate) params: Option<String>,
    /// What the attempts before it have left.
    pub(crate) checkpoint: Option<String>,
    /// The only client that may take it.
    pub(crate) pinned: Option<ClientId>,
    /// The run of another job that it follows, or the one of its own job that it repeats.
    pub(crate) cause: Option<RunId>,
    /// Which shard of a broadcast it is.
    pub(crate) shard: Option<Shard>,
    /// The trace that it comes with.
    pub(crate) traceparent: Option<TraceParent>,
}

impl Occasion {
    pub(crate) fn fire(run: RunId, missed: Option<u64>) -> Self {
        Self {
            scheduled_at: run.at(),
            run,
            origin: if missed.is_some() { Origin::Misfire } else { Origin::Schedule },
            missed_fires: missed.unwrap_or(0),
            params: None,
            checkpoint: None,
            pinned: None,
            cause: None,
            shard: None,
            traceparent: None,
        }
    }
}

impl Composer<'_> {
    pub(crate) fn now(&self) -> Instant {
        Instant::from_ms(self.now_ms)
    }

    pub(crate) fn snapshot(&self, job: &Job, occasion: Occasion) -> Snapshot {
        let wait = job
            .start_deadline_ms
            .map_or(self.defaults.start_deadline_ms, |ms| i64::try_from(ms).unwrap_or(i64::MAX));
        let zone_name =
            if self.defaults.zone_name == "UTC" { String::new() } else { self.defaults.zone_name.clone() };
        let spreads = job.routing == Routing::Broadcast && occasion.shard.is_none();
        Snapshot {
            traceparent: trace::context(&occasion.run, occasion.traceparent, self.defaults.trace_ratio),
            attempt: occasion.run.attempt(),
            id: occasion.run,
            job_id: job.id.clone(),
            name: job.name.clone(),
            ip: String::new(),
            group: job.group.clone(),
            cron: job.cron.clone(),
            target: job.target.clone(),
            params: occasion.params.unwrap_or_else(|| job.params.clone()),
            mobile: job.mobile.clone(),
            remark: job.remark.clone(),
            create_time: self.now().to_local_text(&self.defaults.zone),
            scheduled_at: occasion.scheduled_at,
            created_at: self.now(),
            max_attempts: job.max_attempts,
            on_lost: job.on_lost,
            retry_if: job.retry_if.clone(),
            timeout_ms: job.timeout_ms,
            checkpoint: occasion.checkpoint,
            origin: occasion.origin,
            job_version: job.version,
            cause: occasion.cause,
            start_deadline: Some(Instant::from_ms(self.now_ms.saturating_add(wait))),
            waits: false,
            missed_fires: occasion.missed_fires,
            routing: job.routing,
            labels: job.labels.clone(),
            priority: job.priority,
            pinned: occasion.pinned,
            limited: job.max_in_flight.is_some(),
            followed: occasion.shard.is_some(),
            shard: occasion.shard,
            shard_params: if spreads { job.shard_params.clone() } else { ShardParams::default() },
            node: self.term.node().to_string(),
            term: self.term.number(),
            server_zone: zone_name,
        }
    }

    /// A decision about a run that never started. What becomes of a shard is still to be settled with its parent.
    pub(crate) fn never_started(&self, snapshot: Snapshot, outcome: Outcome, why: &str) -> Execution {
        let mut execution = Execution::never_started(snapshot, outcome, why, self.now());
        execution.decided = execution.snapshot.shard.is_none();
        execution
    }

    /// The next attempt of a run, and when it is due.
    pub(crate) fn retry(&self, job: &Job, ended: &Snapshot) -> (Instant, Delay) {
        let attempt = ended.id.attempt();
        let run = ended.id.with_attempt(attempt + 1);
        let wait = match &job.retry_backoff {
            Some(backoff) => backoff_ms(backoff, &run),
            None => listed_ms(&job.retry_delays_ms, attempt),
        };
        let wait = i64::try_from(wait).unwrap_or(i64::MAX);
        let delay = Delay {
            run,
            job: job.id.clone(),
            group: ended.group.clone(),
            // A worker of the original does not hand the fire time on; the run has it too.
            // A worker of the original does not hand it on; the id has it, but for a run that was run again.
            scheduled_at: if ended.scheduled_at.as_ms() == 0 { ended.id.at() } else { ended.scheduled_at },
            origin: Origin::Retry,
            params: (ended.params != job.params).then(|| ended.params.clone()),
            planned_for: None,
            checkpoint: ended.checkpoint.clone(),
            client: ended.pinned.clone(),
            cause: ended.cause.clone(),
            shard: ended.shard.clone(),
            traceparent: ended.traceparent,
        };
        (Instant::from_ms(self.now_ms.saturating_add(wait)), delay)
    }
}

/// A stand-in for a job that is gone, to record what became of its last fires.
pub(crate) fn ghost(job: &JobId, group: &GroupName) -> Job {
    let target = TargetName::new("deleted").unwrap_or_else(|_| unreachable!("a constant name is valid"));
    Job::new(job.clone(), "", group.clone(), target)
}

/// The delay after an attempt, from a list whose last entry repeats.
fn listed_ms(given: &[u64], attempt: u32) -> u64 {
    let delays = if given.is_empty() { RETRY_DELAYS_MS.as_slice() } else { given };
    delays[(attempt as usize - 1).min(delays.len() - 1)]
}

/// The growing delay before the attempt `run`. What the jitter takes off is a function of the run's id: any
/// leader, asked any number of times, comes to the same.
fn backoff_ms(backoff: &RetryBackoff, run: &RunId) -> u64 {
    // In parts of a millisecond, so that small delays grow too.
    const PARTS: u128 = 1_000_000;
    let most = u128::from(backoff.max_ms) * PARTS;
    let mut wait = (u128::from(backoff.first_ms) * PARTS).min(most);
    for _ in 2..run.attempt() {
        wait = (wait * u128::from(backoff.factor_percent) / 100).min(most);
    }
    let mut hasher = FnvHasher::default();
    hasher.write(run.as_str().as_bytes());
    let share = u128::from(hasher.finish() % 10_001) * u128::from(backoff.jitter_percent.min(100));
    let wait = (wait - wait * share / (10_000 * 100)) / PARTS;
    u64::try_from(wait).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: RetryBackoff =
        RetryBackoff { first_ms: 1_000, max_ms: 10_000, factor_percent: 200, jitter_percent: 0 };

    fn run(attempt: u32) -> RunId {
        let first: RunId = "20270115080000000-j1-1".parse().expect("a run id");
        first.with_attempt(attempt)
    }

    fn waits(backoff: &RetryBackoff, attempts: std::ops::RangeInclusive<u32>) -> Vec<u64> {
        attempts.map(|attempt| backoff_ms(backoff, &run(attempt))).collect()
    }

    #[test]
    fn delays_grow_up_to_the_longest() {
        assert_eq!(waits(&PLAIN, 2..=7), [1_000, 2_000, 4_000, 8_000, 10_000, 10_000]);
        let slow = RetryBackoff { first_ms: 1, factor_percent: 150, ..PLAIN };
        assert_eq!(waits(&slow, 2..=6), [1, 1, 2, 3, 5]);
        let level = RetryBackoff { factor_percent: 100, ..PLAIN };
        assert_eq!(waits(&level, 2..=4), [1_000; 3]);
        let wild = RetryBackoff { max_ms: u64::MAX, factor_percent: u32::MAX, ..PLAIN };
        assert_eq!(backoff_ms(&wild, &run(100)), u64::MAX, "no overflow");
    }

    #[test]
    fn jitter_takes_off_up_to_its_share_and_always_the_same() {
        let jittered = RetryBackoff { jitter_percent: 30, factor_percent: 100, ..PLAIN };
        let once = waits(&jittered, 2..=99);
        assert_eq!(once, waits(&jittered, 2..=99));
        assert!(once.iter().all(|wait| (700..=1_000).contains(wait)), "{once:?}");
        let (least, most) = (once.iter().min().expect("some"), once.iter().max().expect("some"));
        assert!(*least < 750 && *most > 950, "spread over all of it: {least} to {most}");
    }

    #[test]
    fn the_last_listed_delay_repeats() {
        assert_eq!([1, 2, 3].map(|attempt| listed_ms(&[5, 7], attempt)), [5, 7, 7]);
        assert_eq!([1, 3, 9].map(|attempt| listed_ms(&[], attempt)), [60_000, 600_000, 600_000]);
    }
}
