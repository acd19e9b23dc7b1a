//! Runs: those alive from the view, those ended from the history.

use forest_proto::record::{Delay, Execution, Outcome, Role, Snapshot, Spread, decode};
use forest_proto::time::Instant;
use forest_proto::{GroupName, JobId, RunId};

use super::{Admin, AdminError, Page, PageRequest};
use crate::access::Scope;
use crate::core::routing::queue::{self, Waiting};
use crate::core::runs::{Place, Run};
use crate::core::view::View;
use crate::store::{Entry, Filter, PageToken};

/// So many documents of executions are read at once: with parameters and checkpoints they can be large.
const DOCUMENTS: usize = 16;
/// Of what waits, so many groups, targets and needs are told apart at most.
const MAX_WAITING: usize = 200;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunState {
    Delayed,
    Pending,
    Queued,
    Running,
    Finished,
}

/// What is known of a run. Of a run that is being executed the view keeps little.
#[derive(Debug, Clone)]
pub(crate) struct RunSummary {
    pub(crate) id: String,
    pub(crate) state: RunState,
    pub(crate) group: String,
    pub(crate) client: String,
    pub(crate) job_id: String,
    pub(crate) entry: Option<Box<Entry>>,
    pub(crate) snapshot: Option<Box<Snapshot>>,
    pub(crate) execution: Option<Box<Execution>>,
    pub(crate) fencing_token: i64,
    /// Of a broadcast, where it is asked for: the last attempt of each shard.
    pub(crate) shards: Vec<RunSummary>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct RunFilter {
    pub(crate) group: String,
    pub(crate) job_id: String,
    pub(crate) client: String,
    pub(crate) outcome: String,
    pub(crate) since: Option<Instant>,
    pub(crate) live_only: bool,
}

impl Admin {
    /// A run, wherever it is.
    pub(crate) async fn run(&self, id: &str) -> Result<RunSummary, AdminError> {
        if let Ok(run) = id.parse::<RunId>() {
            let looked = run.clone();
            let live = self.read(move |now| Some(summarise(&looked, now.view.runs.get(&looked)?))).await?;
            if let Some(mut summary) = live {
                self.may_see(&summary)?;
                self.complete(&mut summary).await?;
                summary.shards = self.shards(&run).await?;
                return Ok(summary);
            }
        }
        match self.inner.history.get(id).await? {
            Some(entry) => {
                let mut summary = from_history(entry);
                self.may_see(&summary)?;
                // Only what never was at a client can have been spread over several.
                if summary.client.is_empty()
                    && let Ok(run) = id.parse()
                {
                    summary.shards = self.shards(&run).await?;
                }
                Ok(summary)
            }
            None => Err(AdminError::not_found("run", id)),
        }
    }

    fn may_see(&self, run: &RunSummary) -> Result<(), AdminError> {
        // The original took any text for a group: what has no name of ours is seen by those who see all.
        match GroupName::new(&run.group) {
            Ok(group) => self.require_in(Role::Viewer, &group),
            Err(_) => self.require(Role::Viewer, Scope::Everywhere),
        }
    }

    /// Reads what the view does not keep.
    async fn complete(&self, summary: &mut RunSummary) -> Result<(), AdminError> {
        if summary.snapshot.is_some() || summary.execution.is_some() || summary.state == RunState::Delayed {
            return Ok(());
        }
        let (Ok(group), Ok(run)) = (GroupName::new(&summary.group), summary.id.parse::<RunId>()) else {
            return Ok(());
        };
        let client = summary.client.parse().ok();
        let key = self.inner.keys.execution(&group, client.as_ref(), &run);
        if let Some(kv) = self.inner.store.get(&key).await? {
            summary.execution = decode(&kv.value).ok().map(Box::new);
        }
        Ok(())
    }

    /// The live runs (on the first page) and a page of ended ones, newest first.
    pub(crate) async fn runs(
        &self,
        mut filter: RunFilter,
        page: PageRequest,
    ) -> Result<(Vec<RunSummary>, Page<RunSummary>), AdminError> {
        filter.group = self.listed_group(&filter.group)?.into_owned();
        let size = page.size()?;
        let wanted = history_filter(&filter)?;
        let from = match page.token.as_str() {
            "" => None,
            token => Some(
                token.parse::<PageToken>().map_err(|e| AdminError::invalid("page_token", e.to_string()))?,
            ),
        };
        let live = match (&from, &wanted.outcome) {
            (None, None) => self.with_documents(self.live_runs(filter.clone(), size).await?).await,
            _ => Vec::new(),
        };
        if filter.live_only {
            return Ok((live, Page { items: Vec::new(), next: String::new(), previous: String::new() }));
        }
        let rows = self.inner.history.list(&wanted, size, from.as_ref()).await?;
        let text = |token: Option<PageToken>| token.map(|token| token.to_string()).unwrap_or_default();
        let (next, previous) = (text(rows.next), text(rows.previous));
        Ok((live, Page { items: rows.rows.into_iter().map(from_history).collect(), next, previous }))
    }

    /// Reads the documents of those that are being executed: how far they are is nowhere else. An etcd that does
    /// not answer leaves the list as it is.
    pub(super) async fn with_documents(&self, mut runs: Vec<RunSummary>) -> Vec<RunSummary> {
        let key = |summary: &RunSummary| {
            let (group, run) = (GroupName::new(&summary.group).ok()?, summary.id.parse::<RunId>().ok()?);
            Some(self.inner.keys.execution(&group, summary.client.parse().ok().as_ref(), &run))
        };
        let running = runs.iter_mut().filter(|run| run.state == RunState::Running);
        let mut running: Vec<_> = running.filter_map(|run| Some((key(run)?, run))).collect();
        for part in running.chunks_mut(DOCUMENTS) {
            let keys: Vec<_> = part.iter().map(|(key, _)| key.clone()).collect();
            let Ok((_, found)) = self.inner.store.get_many(&keys).await else { break };
            for ((_, summary), kv) in part.iter_mut().zip(found) {
                summary.execution = kv.and_then(|kv| decode(&kv.value).ok()).map(Box::new);
            }
        }
        runs
    }

    async fn live_runs(&self, filter: RunFilter, size: usize) -> Result<Vec<RunSummary>, AdminError> {
        self.read(move |now| {
            let passes = |id: &RunId, run: &Run| {
                let client = run.seat().map(|(_, client)| client.to_string()).unwrap_or_default();
                (filter.group.is_empty() || run.group.as_str() == filter.group)
                    && (filter.client.is_empty() || client == filter.client)
                    && filter.since.is_none_or(|since| id.at() >= since)
            };
            let candidates: Box<dyn Iterator<Item = (&RunId, &Run)>> = match JobId::new(&filter.job_id) {
                Ok(job) => {
                    let of_job: Vec<_> = now.view.runs.of_job(&job).collect();
                    Box::new(of_job.into_iter().filter_map(|id| Some((id, now.view.runs.get(id)?))))
                }
                Err(_) => Box::new(now.view.runs.iter()),
            };
            let mut runs: Vec<_> = candidates.filter(|(id, run)| passes(id, run)).collect();
            runs.sort_unstable_by(|a, b| b.0.cmp(a.0));
            runs.into_iter().take(size).map(|(id, run)| summarise(id, run)).collect()
        })
        .await
    }

    /// Runs that wait for a client, oldest first.
    pub(crate) async fn pending(
        &self,
        group: &str,
        page: PageRequest,
    ) -> Result<Page<RunSummary>, AdminError> {
        let (size, after, group) =
            (page.size()?, page.after::<RunId>()?, self.listed_group(group)?.into_owned());
        let runs = self.read(move |now| list_pending(now.view, &group, after.as_ref(), size + 1)).await?;
        Ok(Page::of(runs, size, |run| run.id.clone()))
    }

    /// What waits, and why.
    pub(crate) async fn waiting(&self, group: &str) -> Result<Vec<Waiting>, AdminError> {
        let group = self.listed_group(group)?.into_owned();
        self.read(move |now| {
            let groups = now.view.runs.parked_groups().map(|(name, _)| name);
            let wanted = groups.filter(|name| group.is_empty() || name.as_str() == group);
            wanted.flat_map(|name| queue::waiting(now.view, name)).take(MAX_WAITING).collect()
        })
        .await
    }

    /// The soonest fires.
    pub(crate) async fn plan(
        &self,
        group: &str,
        size: u32,
    ) -> Result<Vec<(i64, forest_proto::record::Job)>, AdminError> {
        let size = PageRequest { size, token: String::new() }.size()?;
        let group = self.listed_group(group)?.into_owned();
        self.read(move |now| {
            // A group's fires may stand far behind those of others: look through a bounded part of the plan.
            let depth = if group.is_empty() { size } else { 20 * size };
            let fires = now.view.jobs.soonest(depth).into_iter();
            let jobs = fires.filter_map(|(at, id)| Some((at, now.view.jobs.get(id)?)));
            let wanted = jobs.filter(|(_, job)| group.is_empty() || job.group.as_str() == group);
            wanted.filter_map(|(at, job)| Some((at, job.job()?))).take(size).collect()
        })
        .await
    }
}

fn history_filter(filter: &RunFilter) -> Result<Filter, AdminError> {
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let outcome = match filter.outcome.as_str() {
        "" => None,
        text => Some(
            serde_json::from_value::<Outcome>(text.into())
                .map_err(|error| AdminError::shape("outcome", &error))?,
        ),
    };
    Ok(Filter {
        group: given(&filter.group),
        job_id: given(&filter.job_id),
        client: given(&filter.client),
        since: filter.since,
        outcome,
        ..Filter::default()
    })
}

fn list_pending(view: &View, group: &str, after: Option<&RunId>, limit: usize) -> Vec<RunSummary> {
    let groups = view.runs.parked_groups().filter(|(name, _)| group.is_empty() || name.as_str() == group);
    let mut runs: Vec<_> =
        groups.flat_map(|(_, runs)| runs).filter(|run| after.is_none_or(|at| *run > at)).collect();
    runs.sort_unstable();
    runs.into_iter().take(limit).filter_map(|run| Some(summarise(run, view.runs.get(run)?))).collect()
}

pub(super) fn summarise(id: &RunId, run: &Run) -> RunSummary {
    let value = run.value.as_deref();
    let snapshot = || value.and_then(|value| decode::<Snapshot>(value).ok()).map(Box::new);
    let mut summary = RunSummary {
        id: id.to_string(),
        state: RunState::Finished,
        group: run.group.to_string(),
        client: String::new(),
        job_id: id.job().to_owned(),
        entry: None,
        snapshot: None,
        execution: None,
        fencing_token: 0,
        shards: Vec::new(),
    };
    match &run.place {
        Place::Delayed { .. } => {
            summary.state = RunState::Delayed;
            summary.job_id =
                value.and_then(|v| decode::<Delay>(v).ok()).map_or(summary.job_id, |d| d.job.to_string());
        }
        Place::Pending { .. } => (summary.state, summary.snapshot) = (RunState::Pending, snapshot()),
        Place::Queued { client, .. } => {
            (summary.state, summary.snapshot, summary.client) =
                (RunState::Queued, snapshot(), client.to_string());
        }
        Place::Spread { .. } => {
            let spread = value.and_then(|value| decode::<Spread>(value).ok());
            summary.state = RunState::Running;
            summary.snapshot = spread.map(|spread| Box::new(spread.snapshot));
        }
        Place::Running { client } => {
            (summary.state, summary.client, summary.fencing_token) =
                (RunState::Running, client.to_string(), run.created);
        }
        Place::Ended { client, .. } => {
            summary.client = client.as_ref().map(ToString::to_string).unwrap_or_default();
            summary.execution = value.and_then(|value| decode(value).ok()).map(Box::new);
            summary.fencing_token = run.created;
        }
    }
    summary
}

pub(super) fn from_history(entry: Entry) -> RunSummary {
    RunSummary {
        id: entry.id.clone(),
        state: if entry.outcome.is_some() { RunState::Finished } else { RunState::Running },
        group: entry.group.clone(),
        client: entry.client.clone(),
        job_id: entry.job_id.clone(),
        snapshot: None,
        execution: None,
        fencing_token: entry.fencing_token,
        shards: Vec::new(),
        entry: Some(Box::new(entry)),
    }
}
