//! The shards of one broadcast: those alive from the view, those ended from the history.

use std::collections::BTreeMap;

use forest_proto::RunId;
use forest_proto::record::{MAX_SHARDS, Spread, decode};

use super::runs::{RunSummary, from_history, summarise};
use super::{Admin, AdminError};
use crate::core::runs::Place;
use crate::core::view::View;

/// Rows looked through for the attempts of shards.
const MAX_ROWS: usize = 4 * MAX_SHARDS as usize;
/// What was settled a moment ago is looked for among so many attempts.
const ATTEMPTS: u32 = 10;

impl Admin {
    /// The last attempt of each shard of a run, by index; empty if it has none. A history that is away leaves out what
    /// is only there.
    pub(super) async fn shards(&self, parent: &RunId) -> Result<Vec<RunSummary>, AdminError> {
        if parent.parent().is_some() {
            return Ok(Vec::new());
        }
        let mut shards: BTreeMap<u32, RunSummary> = BTreeMap::new();
        let mut last: BTreeMap<u32, u32> = BTreeMap::new();
        let mut take = |run: RunId, summary: RunSummary| {
            let Some(index) = run.shard().filter(|_| run.parent().as_ref() == Some(parent)) else { return };
            if last.get(&index).is_none_or(|attempt| run.attempt() >= *attempt) {
                last.insert(index, run.attempt());
                shards.insert(index, summary);
            }
        };
        for entry in self.inner.history.of_instant(parent, MAX_ROWS).await.unwrap_or_default() {
            if let Ok(run) = entry.id.parse::<RunId>() {
                take(run, from_history(entry));
            }
        }
        let whole = parent.clone();
        let live = self.read(move |now| live_shards(now.view, &whole)).await?;
        live.into_iter().for_each(|(run, summary)| take(run, summary));
        Ok(shards.into_values().collect())
    }
}

fn live_shards(view: &View, parent: &RunId) -> Vec<(RunId, RunSummary)> {
    let summary = |run: &RunId| Some((run.clone(), summarise(run, view.runs.get(run)?)));
    let mut shards: Vec<_> = view.runs.shards(parent).filter_map(summary).collect();
    let spread = view.runs.get(parent).filter(|run| matches!(run.place, Place::Spread { .. }));
    if let Some(spread) = spread.and_then(|run| decode::<Spread>(run.value.as_deref()?).ok()) {
        // Ended, and perhaps not in the history yet.
        let first = spread.ended.keys().filter_map(|index| parent.shard_run(*index));
        let attempts = 1..=spread.snapshot.max_attempts.min(ATTEMPTS);
        let all = first.flat_map(|first| attempts.clone().map(move |attempt| first.with_attempt(attempt)));
        shards.extend(all.filter_map(|run| summary(&run)));
    }
    shards
}
