//! The documents that a leader writes: snapshots, decisions, delays.

use forest_proto::record::{Delay, Execution, Job, Origin, Outcome, Snapshot};
use forest_proto::time::Instant;
use forest_proto::{ClientId, RunId};
use jiff::tz::TimeZone;

use super::term::Term;

/// Retries come after 1, 5 and 10 minutes where a job does not say.
const RETRY_DELAYS_MS: [u64; 3] = [60_000, 300_000, 600_000];

/// What jobs that do not say get, and how local times are written.
#[derive(Debug, Clone)]
pub(crate) struct Defaults {
    pub(crate) misfire_threshold_ms: i64,
    pub(crate) start_deadline_ms: i64,
    pub(crate) zone_name: String,
    pub(crate) zone: TimeZone,
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
    /// The only client that may take it.
    pub(crate) pinned: Option<ClientId>,
}

impl Occasion {
    pub(crate) fn fire(run: RunId, missed: Option<u64>) -> Self {
        Self {
            scheduled_at: run.at(),
            run,
            origin: if missed.is_some() { Origin::Misfire } else { Origin::Schedule },
            missed_fires: missed.unwrap_or(0),
            params: None,
            pinned: None,
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
        Snapshot {
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
            origin: occasion.origin,
            job_version: job.version,
            start_deadline: Some(Instant::from_ms(self.now_ms.saturating_add(wait))),
            missed_fires: occasion.missed_fires,
            routing: job.routing,
            labels: job.labels.clone(),
            priority: job.priority,
            pinned: occasion.pinned,
            limited: job.max_in_flight.is_some(),
            node: self.term.node().to_string(),
            term: self.term.number(),
            server_zone: zone_name,
        }
    }

    /// A decision about a run that never started.
    pub(crate) fn never_started(&self, snapshot: Snapshot, outcome: Outcome, why: &str) -> Execution {
        Execution::never_started(snapshot, outcome, why, self.now())
    }

    /// The next attempt of a run, and when it is due.
    pub(crate) fn retry(&self, job: &Job, ended: &Snapshot) -> (Instant, Delay) {
        let given = &job.retry_delays_ms;
        let delays = if given.is_empty() { RETRY_DELAYS_MS.as_slice() } else { given.as_slice() };
        let attempt = ended.id.attempt();
        let index = (attempt as usize - 1).min(delays.len() - 1);
        let wait = i64::try_from(delays[index]).unwrap_or(i64::MAX);
        let delay = Delay {
            run: ended.id.with_attempt(attempt + 1),
            job: job.id.clone(),
            group: ended.group.clone(),
            // A worker of the original does not hand the fire time on; the run has it too.
            scheduled_at: ended.id.at(),
            origin: Origin::Retry,
            params: (ended.params != job.params).then(|| ended.params.clone()),
            client: ended.pinned.clone(),
        };
        (Instant::from_ms(self.now_ms.saturating_add(wait)), delay)
    }
}
