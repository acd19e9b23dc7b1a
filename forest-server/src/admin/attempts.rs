//! All attempts of one run, from the view and from the history: what became of it from its beginning.

use std::collections::BTreeMap;

use forest_proto::{JobId, RunId};

use super::runs::{RunSummary, from_history, summarise};
use super::{Admin, AdminError};

/// Rows looked through for attempts: shards of the same instant stand among them.
const MAX_ROWS: usize = 2_000;

/// The attempts of one run, the first one first.
#[derive(Debug)]
pub(crate) struct Attempts {
    pub(crate) runs: Vec<RunSummary>,
    /// Whether the last one has ended, and none can follow.
    pub(crate) ended: bool,
}

impl Admin {
    /// The attempts of the run that `id` is one of.
    pub(crate) async fn attempts(&self, id: &str) -> Result<Attempts, AdminError> {
        // Also who may see it is asked there.
        let asked = self.run(id).await?;
        let Ok(run) = id.parse::<RunId>() else {
            let ended = asked.is_over();
            return Ok(Attempts { runs: vec![asked], ended });
        };
        let mut attempts: BTreeMap<u32, RunSummary> = BTreeMap::new();
        let first = run.with_attempt(1);
        let is_attempt = |other: &RunId| other.with_attempt(1) == first;
        for entry in self.inner.history.of_instant(&run, MAX_ROWS).await.unwrap_or_default() {
            if let Some(other) = entry.id.parse::<RunId>().ok().filter(is_attempt) {
                attempts.insert(other.attempt(), from_history(entry));
            }
        }
        let (job, of) = (JobId::new(run.job()).ok(), first.clone());
        let live = self.read(move |now| {
            let runs = job.iter().flat_map(|job| now.view.runs.of_job(job));
            let alive = runs.filter(|other| other.with_attempt(1) == of);
            let summary = |run: &RunId| Some(summarise(run, now.view.runs.get(run)?));
            alive.filter_map(summary).collect::<Vec<_>>()
        });
        let live = self.with_documents(live.await?).await;
        // What is settled in etcd and in the history is the same.
        attempts
            .extend(live.into_iter().filter_map(|run| Some((run.id.parse::<RunId>().ok()?.attempt(), run))));
        attempts.entry(run.attempt()).or_insert(asked);
        let ended = attempts.values().all(RunSummary::is_over);
        Ok(Attempts { runs: attempts.into_values().collect(), ended })
    }
}
