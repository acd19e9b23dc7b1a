//! What became of one planned fire, and why.
//!
//! A fire was decided with a run, or with a record; of several missed or skipped ones one record stands for all,
//! under the id of the last of them. Skipped ones of the present minute may only be counted yet. Where nothing is
//! there, the job as it is now tells why it did not fire.

use std::sync::Arc;

use forest_proto::record::{Job, Outcome, Skips, Trigger};
use forest_proto::time::Instant;
use forest_proto::{JobId, RunId};

use super::runs::{self, RunState, RunSummary};
use super::{Admin, AdminError, dependencies};
use crate::core::routing::queue::{self, Reason};
use crate::core::runs::{Place, is_planned_for};
use crate::core::skips::minute;
use crate::core::timing::Timing;
use crate::store::{Entry, Filter, History, StoreError};

/// Rows that are looked through for the record that stands for a fire.
const MAX_ROWS: usize = 4_000;
const PAGE: usize = 200;
/// Fires of one minute that may have given their id to a record.
const MAX_FIRES: usize = 600;
/// Rows of one instant that are looked through for runs of a fixed delay.
const MAX_PLANNED: usize = 200;
/// The record of a fire that was decided in time is created so soon after it.
const SOON_MS: i64 = 2 * 60_000;

/// The fate of a fire.
#[derive(Debug, Clone)]
pub(crate) struct Explanation {
    /// The job's outcome for it in one word: that of the run, or `planned`, `pending`, `limited`,
    /// `no_client`, `dispatched`, `paused`, `calendar_excluded`, `schedule_changed`, `not_a_fire`, `undecided`,
    /// `unknown`.
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
        let compiler = self.compiler().await?;
        let timing_of = |job: &Job| -> Result<Option<Timing>, AdminError> {
            let schedule = compiler.compile_job(job)?;
            Ok(schedule.map(|schedule| Timing::new(Arc::new(schedule), job)))
        };
        let timing = timing_of(&job)?;
        let mut found = Explanation {
            outcome: String::new(),
            reason: String::new(),
            run: None,
            before: timing.as_ref().and_then(|t| last_before(t, at)),
            after: timing.as_ref().and_then(|t| t.next_after(at.as_ms())).map(Instant::from_ms),
        };
        for run in self.runs_at(&job, at).await? {
            match self.run(run.as_str()).await {
                Ok(run) => {
                    (found.outcome, found.reason) = match run.state {
                        RunState::Pending => self.of_pending(&run).await?,
                        _ => of_run(&run),
                    };
                    found.run = Some(run);
                    return Ok(found);
                }
                Err(AdminError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let is_fire = |timing: &Timing| timing.next_after(at.as_ms() - 1) == Some(at.as_ms());
        let fires = timing.as_ref().is_some_and(is_fire);
        if fires && let Some(timing) = &timing {
            if let Some(skips) = self.counter(&job.id).await?.filter(|skips| counts(skips, at)) {
                (found.outcome, found.reason) = of_counter(&skips);
                return Ok(found);
            }
            let standing = match self.uncollected(&job.id, timing, at).await? {
                Some(record) => Some(record),
                None => standing_for(&self.inner.history, &job.id, timing, at).await?.map(runs::from_history),
            };
            if let Some(record) = standing {
                (found.outcome, found.reason) = of_record(&record);
                found.run = Some(record);
                return Ok(found);
            }
        }
        let everyday = Job { calendars: Vec::new(), ..job.clone() };
        let excluded = !fires && timing_of(&everyday)?.as_ref().is_some_and(is_fire);
        (found.outcome, found.reason) = self.without_a_trace(&job, at, fires, excluded);
        Ok(found)
    }

    /// What a run waits for.
    async fn of_pending(&self, run: &RunSummary) -> Result<(String, String), AdminError> {
        let id = run.id.parse::<RunId>().ok();
        let why = self
            .read(move |now| {
                let run = now.view.runs.get(&id?)?;
                let Place::Pending { need, waits, .. } = &run.place else { return None };
                Some((*waits, queue::why(now.view, &run.group, need)))
            })
            .await?;
        let (outcome, reason) = match why {
            Some((true, _)) => ("pending", "the run waits for earlier runs of its job"),
            None | Some((false, None)) => ("pending", "the run waits, and is about to go"),
            Some((false, Some(Reason::NoClient))) => ("no_client", "the run waits: no client would take it"),
            Some((false, Some(Reason::NoRoom))) => ("limited", "the run waits: the clients are full"),
            Some((false, Some(Reason::JobLimit))) => ("limited", "the run waits: the job's limit is reached"),
            Some((false, Some(Reason::GroupLimit))) => {
                ("limited", "the run waits: the group's limit is reached")
            }
            Some((false, Some(Reason::Rate))) => ("limited", "the run waits: the group's rate is reached"),
        };
        Ok((outcome.to_owned(), reason.to_owned()))
    }

    /// The ids under which runs of a job for an instant may be known, other than those that somebody asked for.
    async fn runs_at(&self, job: &Job, at: Instant) -> Result<Vec<RunId>, AdminError> {
        let looked = job.clone();
        let (chain, mut planned, live) = self
            .read(move |now| {
                let chain = dependencies::chain(&now.view.jobs, &looked);
                let planned: Vec<_> =
                    chain.iter().flat_map(|job| now.view.runs.planned_at(job, at)).cloned().collect();
                let mut live = dependencies::runs_at(&chain, &planned, at);
                live.retain(|run| now.view.runs.get(run).is_some());
                (chain, planned, live)
            })
            .await?;
        // What is here is told without the history, which may be away.
        if !live.is_empty() {
            return Ok(live);
        }
        // A history that is away is told of when what is looked for is only there.
        for job in &chain {
            let rows = self
                .inner
                .history
                .of_instant(&RunId::scheduled(job, at, 1), MAX_PLANNED)
                .await
                .unwrap_or_default();
            let runs = rows.iter().filter_map(|row| row.id.parse::<RunId>().ok());
            planned.extend(runs.filter(|run| run.job() == job.as_str() && is_planned_for(run, at)));
        }
        Ok(dependencies::runs_at(&chain, &planned, at))
    }

    /// What is counted of a job and not recorded yet.
    async fn counter(&self, job: &JobId) -> Result<Option<Skips>, AdminError> {
        let job = job.clone();
        self.read(move |now| {
            let jobs = &now.view.jobs;
            jobs.segment(jobs.segment_of(&job)).decided()?.skips.get(&job).cloned()
        })
        .await
    }

    /// A record of skipped fires that is on its way to the history. It has the id of a fire of the same minute.
    async fn uncollected(
        &self,
        job: &JobId,
        timing: &Timing,
        at: Instant,
    ) -> Result<Option<RunSummary>, AdminError> {
        let fires = std::iter::successors(timing.next_after(at.as_ms() - 1), |fire| timing.next_after(*fire));
        let fires = fires.take_while(|fire| minute(*fire) == minute(at.as_ms())).take(MAX_FIRES);
        let ids: Vec<_> = fires.map(|fire| RunId::scheduled(job, Instant::from_ms(fire), 1)).collect();
        let found = self.read(move |now| {
            let is_record = |id: &RunId| {
                let run = now.view.runs.get(id);
                run.is_some_and(|run| matches!(run.place, Place::Ended { client: None, .. }))
            };
            ids.into_iter().find(is_record)
        });
        let Some(id) = found.await? else { return Ok(None) };
        match self.run(id.as_str()).await {
            Ok(record) => Ok(Some(record).filter(|record| covers(id.at(), missed_fires(record), timing, at))),
            Err(AdminError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// `excluded`: without its calendars, the job would fire.
    fn without_a_trace(&self, job: &Job, at: Instant, fires: bool, excluded: bool) -> (String, String) {
        let say = |outcome: &str, reason: String| (outcome.to_owned(), reason);
        if matches!(job.trigger, Trigger::After(_)) {
            let why = "the job follows others, and no end of theirs has led to a run for this time: the fire time or \
                       the beginning of the hour or day of what it follows";
            return say("not_a_fire", why.to_owned());
        }
        if job.effective_after.is_some_and(|since| at <= since) {
            let since = job.effective_after.unwrap_or(at);
            let why = format!(
                "the schedule counts from {since} on: the job was added, changed or enabled then, and no run of \
                 an earlier schedule at this time is known"
            );
            return say("schedule_changed", why);
        }
        if excluded {
            return say(
                "calendar_excluded",
                format!("the job's calendars leave this day out: {}", job.calendars.join(", ")),
            );
        }
        if !fires {
            return say("not_a_fire", "the job, as it is now, does not fire at this time".into());
        }
        if !job.is_enabled() {
            let why = match job.pause_reason.as_str() {
                "" => "the job is disabled".to_owned(),
                reason => format!("the job is disabled: {reason}"),
            };
            return say("paused", why);
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

/// The record of a later fire that decided this one too.
pub(crate) async fn standing_for(
    history: &History,
    job: &JobId,
    timing: &Timing,
    at: Instant,
) -> Result<Option<Entry>, StoreError> {
    // Most are decided when they are due. What is decided after an outage may be anywhere later.
    let soon = Some(Instant::from_ms(at.as_ms() + SOON_MS));
    for until in [soon, None] {
        let filter = Filter { job_id: Some(job.to_string()), since: Some(at), until, ..Filter::default() };
        let (mut from, mut rows, mut nearest) = (None, 0, None);
        loop {
            let page = history.list(&filter, PAGE, from.as_ref()).await?;
            rows += page.rows.len();
            let stands = |row: &Entry| {
                row.scheduled_at.is_some_and(|last| covers(last, row.missed_fires.unsigned_abs(), timing, at))
            };
            // Newest first: the last one that covers it is the one that decided it.
            nearest = page.rows.into_iter().rfind(stands).or(nearest);
            from = page.next;
            if from.is_none() || rows >= MAX_ROWS {
                break;
            }
        }
        if nearest.is_some() {
            return Ok(nearest);
        }
    }
    Ok(None)
}

/// Whether a record under the id of the fire `last` decided this fire too.
fn covers(last: Instant, missed_fires: u64, timing: &Timing, at: Instant) -> bool {
    missed_fires > 0 && last >= at && {
        let (between, _) = timing.count_between(at.as_ms() - 1, last.as_ms());
        between <= missed_fires + 1
    }
}

fn missed_fires(record: &RunSummary) -> u64 {
    let on_its_way = record.execution.as_ref().map(|execution| execution.snapshot.missed_fires);
    on_its_way.or_else(|| Some(record.entry.as_ref()?.missed_fires.unsigned_abs())).unwrap_or(0)
}

/// Whether a fire of the job is one that is counted.
pub(crate) fn counts(skips: &Skips, at: Instant) -> bool {
    skips.count > 0 && (skips.first..=skips.last).contains(&at)
}

fn of_counter(skips: &Skips) -> (String, String) {
    let reason = format!(
        "{}; it is counted with {} more since {}, and will be stored within a minute",
        skips.why.as_words(),
        skips.count - 1,
        skips.first
    );
    (Outcome::OverlapSkipped.as_str().to_owned(), reason)
}

fn of_record(record: &RunSummary) -> (String, String) {
    let (outcome, result) = of_run(record);
    let (what, missed) = (&record.id, missed_fires(record));
    let reason = if outcome == Outcome::OverlapSkipped.as_str() {
        format!("record {what} stands for it: {result}")
    } else {
        format!("it was missed, and run {what} stands for it and {missed} more: {result}")
    };
    (outcome, reason)
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
