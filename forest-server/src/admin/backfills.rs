//! Backfills: runs of the fires of a range of the past. Asked for here, made by the leader.

use std::sync::Arc;

use forest_etcd::Txn;
use forest_proto::record::{Backfill, Job, Role, Trigger, encode};
use forest_proto::time::Instant;
use forest_proto::{JobId, RunId};

use super::audit::Deed;
use super::write::{Written, random_key};
use super::{Admin, AdminError, Page, PageRequest, validate};
use crate::access::Scope;
use crate::core::timing::Timing;
use crate::core::view::View;

/// What somebody asks for.
#[derive(Debug, Clone)]
pub(crate) struct BackfillQuery {
    pub(crate) job: String,
    pub(crate) from: Option<Instant>,
    pub(crate) to: Option<Instant>,
    pub(crate) dry_run: bool,
    /// 0: as many as are usual.
    pub(crate) max_fires: u32,
    pub(crate) params: Option<String>,
}

/// The fires of a range.
#[derive(Debug, Clone)]
pub(crate) struct BackfillPlan {
    pub(crate) fires: u64,
    pub(crate) first: Option<Instant>,
    pub(crate) last: Option<Instant>,
    pub(crate) beyond_max: u64,
    /// What was stored, unless only the plan was asked for, and the run of the last fire.
    pub(crate) stored: Option<(BackfillSummary, RunId)>,
}

/// A backfill that still has runs to create.
#[derive(Debug, Clone)]
pub(crate) struct BackfillSummary {
    pub(crate) backfill: Backfill,
    pub(crate) job_name: String,
    /// Its runs that have not ended.
    pub(crate) live: usize,
    /// Whether it waits for its job to be enabled, or to be schedulable.
    pub(crate) paused: bool,
}

fn summary(view: &View, id: &JobId) -> Option<BackfillSummary> {
    let backfill = view.backfills.get(id)?.backfill.clone();
    let planned = view.jobs.get(id);
    Some(BackfillSummary {
        backfill,
        job_name: planned.and_then(|planned| planned.job()).map(|job| job.name).unwrap_or_default(),
        live: view.runs.of_job(id).filter(|run| run.backfill_mark().is_some()).count(),
        paused: planned.is_some_and(|planned| !planned.enabled || planned.problem().is_some()),
    })
}

impl Admin {
    /// Tells what a backfill would run, and has it run unless that is all that was asked for.
    pub(crate) async fn start_backfill(&self, query: BackfillQuery) -> Result<BackfillPlan, AdminError> {
        query.params.as_deref().map_or(Ok(()), validate::check_params)?;
        let stored = self.job(&query.job).await?;
        let job = stored.job;
        if !query.dry_run {
            self.require_in(Role::Operator, &job.group)?;
        }
        let (from, to) = self.range(&query)?;
        let max_fires = match query.max_fires {
            0 => Backfill::FIRES,
            max if max <= Backfill::MOST_FIRES => max,
            max => {
                let what = format!("{max} is more than {}", Backfill::MOST_FIRES);
                return Err(AdminError::invalid("max_fires", what));
            }
        };
        let timing = self.backdated(&job).await?;
        let before = from.as_ms() - 1;
        let (fires, last) = timing.count_between(before, to.as_ms() - 1);
        let (first, last) = (timing.next_after(before).filter(|_| fires > 0), last.filter(|_| fires > 0));
        let (first, last) = (first.map(Instant::from_ms), last.map(Instant::from_ms));
        let beyond_max = fires.saturating_sub(max_fires.into());
        let mut plan = BackfillPlan { fires, first, last, beyond_max, stored: None };
        if query.dry_run {
            return Ok(plan);
        }
        let (Some(next), Some(last)) = (first, last) else {
            return Err(AdminError::invalid("from", "the job has no fire in this range"));
        };
        let Some(total) = u32::try_from(fires).ok().filter(|_| beyond_max == 0) else {
            let what = format!(
                "{max_fires} is less than the {fires} fires of this range: ask for more, or for a shorter range"
            );
            return Err(AdminError::invalid("max_fires", what));
        };
        let backfill = Backfill {
            id: random_key(),
            job: job.id.clone(),
            from,
            to,
            next,
            created: 0,
            total,
            max_fires,
            requested_at: self.now(),
            params: query.params,
        };
        let run = |at| RunId::backfilled(&job.id, at, &backfill.id);
        let last = run(last);
        self.store_backfill(&job, &backfill, stored.revision).await?;
        let begun = BackfillSummary {
            backfill,
            job_name: job.name.clone(),
            live: 0,
            paused: !job.is_enabled() || stored.problem.is_some(),
        };
        plan.stored = Some((begun, last));
        Ok(plan)
    }

    fn range(&self, query: &BackfillQuery) -> Result<(Instant, Instant), AdminError> {
        let missing = |field| AdminError::invalid(field, "is missing: a backfill needs a range");
        let from = query.from.ok_or_else(|| missing("from"))?;
        let to = query.to.ok_or_else(|| missing("to"))?;
        if from >= to {
            return Err(AdminError::invalid("to", "is not after `from`"));
        }
        if to > self.now() {
            return Err(AdminError::invalid("to", "is in the future: those fires are the schedule's"));
        }
        Ok((from, to))
    }

    /// The fires of a job, also of the time before it counted.
    async fn backdated(&self, job: &Job) -> Result<Timing, AdminError> {
        let refuse = |what: &str| {
            AdminError::invalid("job_id", format!("{what}: only cron and fixed_rate have fires of the past"))
        };
        match job.trigger {
            Trigger::Cron | Trigger::FixedRate { .. } => {}
            Trigger::FixedDelay { .. } => return Err(refuse("its runs follow each other's ends")),
            Trigger::Once { .. } => return Err(refuse("it fires once")),
            Trigger::After(_) => return Err(refuse("it follows other jobs")),
            Trigger::Manual => return Err(refuse("it has no schedule")),
        }
        let schedule = self.compiler().await?.compile_job(job)?;
        let schedule = schedule.ok_or_else(|| refuse("it has no schedule"))?;
        Ok(Timing::new(Arc::new(schedule), job).backdated(job))
    }

    async fn store_backfill(&self, job: &Job, backfill: &Backfill, revision: i64) -> Result<(), AdminError> {
        let (segment, keys) = (self.segment_of(&backfill.job).await?, &self.inner.keys);
        let key = keys.backfill(segment, &backfill.job);
        let txn = Txn::new()
            .absent(key.clone())
            .modified(keys.job(&backfill.job), revision)
            .put(key.clone(), encode(backfill))
            .or_get(key);
        let deed = Deed::new("backfill.start", job.id.as_str(), Some(&job.group))
            .saying("from", backfill.from.to_string())
            .saying("to", backfill.to.to_string())
            .saying("fires", backfill.total);
        match self.commit(self.audited(txn, deed)).await? {
            Written::Done => Ok(()),
            Written::Refused(found) if matches!(found.first(), Some(Some(_))) => {
                Err(AdminError::BackfillExists { job: backfill.job.to_string() })
            }
            Written::Refused(_) => Err(AdminError::Conflict { what: format!("job {}", backfill.job) }),
        }
    }

    pub(crate) async fn backfill(&self, id: &str) -> Result<BackfillSummary, AdminError> {
        let job = self.job(id).await?.job.id;
        let found = self.read(move |now| summary(now.view, &job)).await?;
        found.ok_or_else(|| AdminError::not_found("backfill of job", id))
    }

    pub(crate) async fn backfills(&self, page: PageRequest) -> Result<Page<BackfillSummary>, AdminError> {
        self.require(Role::Viewer, Scope::Somewhere)?;
        let (size, after, caller) = (page.size()?, page.after::<JobId>()?, self.caller.clone());
        let found = self.read(move |now| {
            let ids = now.view.backfills.after(after.as_ref()).map(|(id, _)| id);
            let seen = ids.filter(|id| now.view.jobs.get(id).is_some_and(|job| caller.sees(&job.group)));
            seen.take(size + 1).filter_map(|id| summary(now.view, id)).collect()
        });
        Ok(Page::of(found.await?, size, |summary: &BackfillSummary| summary.backfill.job.to_string()))
    }

    /// Ends a backfill, however far it has come by now: no further runs are created.
    pub(crate) async fn cancel_backfill(&self, id: &str) -> Result<(), AdminError> {
        let missing = || AdminError::not_found("backfill of job", id);
        let group = self.job(id).await?.job.group;
        self.require_in(Role::Operator, &group)?;
        let job = JobId::new(id).map_err(|_| missing())?;
        let wanted = job.clone();
        let created = self.read(move |now| now.view.backfills.get(&wanted).map(|known| known.created));
        let created = created.await?.ok_or_else(missing)?;
        let key = self.inner.keys.backfill(self.segment_of(&job).await?, &job);
        let txn = Txn::new().created(key.clone(), created).delete(key);
        let deed = Deed::new("backfill.cancel", id, Some(&group));
        match self.commit(self.audited(txn, deed)).await? {
            Written::Done => Ok(()),
            // It has come to its end, or another one has begun.
            Written::Refused(_) => Err(missing()),
        }
    }
}
