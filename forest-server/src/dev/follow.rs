//! Tells of every run that has ended, as soon as it is in the history.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use forest_proto::admin::v1::{ListRunsRequest, Run};

use super::Api;
use super::screen::Screen;

/// Between two looks.
const PERIOD: Duration = Duration::from_millis(250);
/// What one look sees. Runs that many newer ones have overtaken are not told of.
const WINDOW: u32 = 100;

/// Goes on for ever. Only runs that were created since are told of: what a kept history has is known already.
pub(super) async fn follow(mut api: Api, screen: Screen, since_ms: i64) -> Infallible {
    let mut told = BTreeSet::new();
    let request = ListRunsRequest { page_size: WINDOW, since: since_ms, ..Default::default() };
    loop {
        match api.list_runs(request.clone()).await {
            Ok(answer) => tell(answer.into_inner().runs, &mut told, screen),
            // While the history is being prepared; it says in the log what else may be wrong with it.
            Err(error) => tracing::debug!(%error, "cannot read the history"),
        }
        tokio::time::sleep(PERIOD).await;
    }
}

/// Oldest first. Only what is in sight needs to be remembered.
fn tell(runs: Vec<Run>, told: &mut BTreeSet<String>, screen: Screen) {
    for run in runs.iter().rev().filter(|run| !told.contains(&run.id)) {
        screen.ended(run);
    }
    *told = runs.into_iter().map(|run| run.id).collect();
}
