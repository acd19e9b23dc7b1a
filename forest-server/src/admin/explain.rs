//! What became of one planned fire, and why.
//!
//! A fire was decided with a run, or with a record; of several missed ones one record stands for all, under the id of
//! the last of them. Where neither is there, the job as it is now tells why it did not fire.

use std::sync::Arc;

use forest_proto::RunId;
use forest_proto::record::Job;
use forest_proto::time::Instant;

use super::runs::{RunState, RunSummary};
use super::{Admin, AdminError};
use crate::core::timing::Timing;
use crate::store::{Entry, Filter};

/// Rows that are looked through for the record that stands for a missed fire.
const MAX_ROWS: usize = 4_000;
const PAGE: usize = 200;

/// The fate of a fire.
#[derive(Debug, Clone)]
pub(crate) struct Explanation {
    /// The job's outcome for it in one word: that of the run, or `planned`, `not_a_fire`, `disabled`,
    /// `schedule_changed`, `undecided`, `unknown`.
    pub(crate) outcome: String,
    /// In a sentence.
    pub(crate) reason: String,
    /// The run, or the record that stands for the fire.
    pub(crate) run: Option<RunSummary>,
    /// The fires of the job as it is now, just before and just after.
    pub(crate) before: Option<Instant>,
    pub(crate) after: Option<Instant>,
}

impl Admin {
    /// Says what became of the fire of a job at an instant.
    pub(crate) async fn explain(&self, id: &str, at: Instant) -> Result<Explanation, AdminError> {
        let stored = self.job(id).await?;
        let job = stored.job;
        let schedule = self.compiler().await?.compile_job(&job)?;
        let timing = schedule.map(|schedule| Timing::new(Arc::new(schedule), &job));
        let mut found = Explanation {
            outcome: String::new(),
            reason: String::new(),
            run: None,
            before: timing.as_ref().and_then(|t| last_before(t, at)),
            after: timing.as_ref().and_then(|t| t.next_after(at.as_ms())).map(Instant::from_ms),
        };
        for run in [RunId::scheduled(&job.id, at, 1), RunId::planned(&job.id, at)] {
            match self.run(run.as_str()).await {
                Ok(run) => {
                    (found.outcome, found.reason) = of_run(&run);
                    found.run = Some(run);
                    return Ok(found);
                }
                Err(AdminError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let fires = timing.as_ref().is_some_and(|t| t.next_after(at.as_ms() - 1) == Some(at.as_ms()));
        if fires
            && let Some(timing) = &timing
            && let Some(record) = self.standing_for(&job, timing, at).await?
        {
            let outcome = record.outcome.map_or("unknown", forest_proto::record::Outcome::as_str);
            found.outcome = outcome.to_owned();
            found.reason = format!(
                "it was missed, and run {} stands for it and {} more: {}",
                record.id, record.missed_fires, record.result
            );
            found.run = Some(super::runs::from_history(record));
            return Ok(found);
        }
        (found.outcome, found.reason) = self.without_a_trace(&job, at, fires);
        Ok(found)
    }

    /// The record of a later fire that decided this one too.
    async fn standing_for(
        &self,
        job: &Job,
        timing: &Timing,
        at: Instant,
    ) -> Result<Option<Entry>, AdminError> {
        let filter = Filter { job_id: Some(job.id.to_string()), since: Some(at), ..Filter::default() };
        let (mut from, mut rows, mut nearest) = (None, 0, None);
        loop {
            let page = self.inner.history.list(&filter, PAGE, from.as_ref()).await?;
            rows += page.rows.len();
            // Newest first: the last one that covers it is the one that decided it.
            nearest = page.rows.into_iter().rfind(|row| covers(row, timing, at)).or(nearest);
            from = page.next;
            if from.is_none() || rows >= MAX_ROWS {
                return Ok(nearest);
            }
        }
    }

    fn without_a_trace(&self, job: &Job, at: Instant, fires: bool) -> (String, String) {
        let say = |outcome: &str, reason: String| (outcome.to_owned(), reason);
        if job.effective_after.is_some_and(|since| at <= since) {
            let since = job.effective_after.unwrap_or(at);
            let why = format!(
                "the schedule counts from {since} on: the job was added, changed or enabled then, and no run of \
                 an earlier schedule at this time is known"
            );
            return say("schedule_changed", why);
        }
        if !fires {
            return say("not_a_fire", "the job, as it is now, does not fire at this time".into());
        }
        if !job.is_enabled() {
            let why = match job.pause_reason.as_str() {
                "" => "the job is disabled".to_owned(),
                reason => format!("the job is disabled: {reason}"),
            };
            return say("disabled", why);
        }
        if at > self.now() {
            return say("planned", "it is still to come".into());
        }
        if self.now().as_ms() - at.as_ms() < UNDECIDED_MS {
            return say("undecided", "it is due, and not decided yet: is there a leader?".into());
        }
        say(
            "unknown",
            "no record of it is left: the history may have been cleaned, or etcd was restored".into(),
        )
    }
}

/// What is decided later than this is strange.
const UNDECIDED_MS: i64 = 60_000;

/// Whether a row decided this fire beside its own.
fn covers(row: &Entry, timing: &Timing, at: Instant) -> bool {
    let Some(last) = row.scheduled_at.filter(|last| row.missed_fires > 0 && *last >= at) else {
        return false;
    };
    let (between, _) = timing.count_between(at.as_ms() - 1, last.as_ms());
    between <= row.missed_fires.unsigned_abs() + 1
}

fn last_before(timing: &Timing, at: Instant) -> Option<Instant> {
    timing.count_between(0, at.as_ms() - 1).1.map(Instant::from_ms)
}

fn of_run(run: &RunSummary) -> (String, String) {
    let (outcome, reason) = match run.state {
        RunState::Delayed => ("planned", "it is planned and not due yet".to_owned()),
        RunState::Pending => ("pending", "the run waits: see `pending list` for why".to_owned()),
        RunState::Queued => ("dispatched", format!("the run was given to {}", run.client)),
        RunState::Running if run.client.is_empty() => {
            ("dispatched", "its shards are with the clients".to_owned())
        }
        RunState::Running => ("dispatched", format!("{} executes it", run.client)),
        RunState::Finished => {
            let ended = run.entry.as_ref().map(|entry| (entry.outcome, entry.result.clone()));
            let ended = ended.or_else(|| {
                run.execution.as_ref().map(|execution| (execution.outcome, execution.result.clone()))
            });
            let (outcome, result) = ended.unwrap_or_default();
            return (outcome.map_or("dispatched", forest_proto::record::Outcome::as_str).to_owned(), result);
        }
    };
    (outcome.to_owned(), reason)
}
