//! Running an ended run again: a new run of the same job for the same time with the same parameters, which says which one
//! it repeats.
//!
//! It is a run that somebody asks for, so limits and the job's overlap count for it as for any other one.

use std::hash::Hasher;

use fnv::FnvHasher;
use forest_proto::record::Role;
use forest_proto::time::Instant;
use forest_proto::{JobId, RunId};

use super::audit::Deed;
use super::requests::Wanted;
use super::runs::{RunState, RunSummary};
use super::{Admin, AdminError};

/// What the history has in place of texts that the database refused.
const NOT_STORED: &str = "[not stored]";

impl Admin {
    /// Asks for an ended run to be run again. Within an hour the same run is run again once, unless a key says otherwise:
    /// the same key gives the same new run.
    pub(crate) async fn retry_run(&self, id: &str, key: &str) -> Result<RunId, AdminError> {
        let ended = self.run(id).await?;
        let run: RunId =
            id.parse().map_err(|_| not_now("RUN_FOREIGN", "the run is not one of this server's"))?;
        let job = self.job(ended_job(&run, id)?.as_str()).await?;
        self.require_in(Role::Operator, &job.job.group)?;
        if let Some(parent) = run.parent() {
            let what = format!("run {id} is a shard, and was settled with its broadcast: run {parent} again");
            return Err(AdminError::NotNow { reason: "RUN_IS_SHARD", what });
        }
        let attempts = self.attempts(id).await?;
        if !attempts.ended {
            let alive = attempts.runs.last().map_or(id, |last| last.id.as_str());
            let what = format!("run {alive} has not ended: wait for it, or cancel it");
            return Err(AdminError::NotNow { reason: "RUN_ALIVE", what });
        }
        let (params, scheduled_at) = what_for(&ended);
        if params.as_deref() == Some(NOT_STORED) {
            return Err(not_now(
                "PARAMS_NOT_STORED",
                "the history does not have its parameters: use job run",
            ));
        }
        let key = if key.is_empty() { key_of(&run) } else { key.to_owned() };
        let wanted = Wanted { params, scheduled_at, retry_of: Some(run.clone()), client: None };
        self.ask_run(job, wanted, &key, Deed::new("run.retry", id, None)).await
    }
}

fn not_now(reason: &'static str, what: &str) -> AdminError {
    AdminError::NotNow { reason, what: what.to_owned() }
}

fn ended_job(run: &RunId, id: &str) -> Result<JobId, AdminError> {
    JobId::new(run.job()).map_err(|_| AdminError::not_found("run", id))
}

/// With which parameters and for what time it was.
fn what_for(ended: &RunSummary) -> (Option<String>, Option<Instant>) {
    let snapshot = ended.snapshot.as_deref();
    let snapshot = snapshot.or(ended.execution.as_deref().map(|execution| &execution.snapshot));
    match (ended.entry.as_deref(), snapshot) {
        (Some(entry), _) => (Some(entry.params.clone()), entry.scheduled_at),
        (None, Some(snapshot)) => (Some(snapshot.params.clone()), Some(snapshot.scheduled_at)),
        (None, None) => (None, None),
    }
}

/// The key of whoever gives none. All attempts of a run are one here.
fn key_of(run: &RunId) -> String {
    let mut hasher = FnvHasher::default();
    hasher.write(run.with_attempt(1).as_str().as_bytes());
    format!("retry-{:016x}", hasher.finish())
}

impl RunSummary {
    /// Whether nothing of it is still to come: neither its own end nor the decision about a further attempt.
    pub(super) fn is_over(&self) -> bool {
        let decided = self.execution.as_ref().is_none_or(|execution| execution.decided);
        self.state == RunState::Finished && decided
    }
}
