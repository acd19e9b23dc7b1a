//! `job run`: asks for a run, and waits for its end if told to.

use std::time::Duration;

use forest_proto::admin::v1::{Run, RunJobRequest};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{document, find};
use crate::args::RunJob;
use crate::commands::{Context, run as runs};
use crate::connect::{Api, Client};
use crate::error::Failure;
use crate::output::{printable_line, span};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

pub(super) async fn run(context: &mut Context<'_>, args: RunJob) -> Result<(), Failure> {
    let params = document::params(args.params, context.console)?;
    let id = find(&mut context.api, &args.job).await?.id;
    let request = RunJobRequest { id, params, idempotency_key: args.key, client: args.client };
    let call = async |mut client: Client| client.run_job(request.clone()).await;
    // With a key, asking again gives the same run.
    let asked = match request.idempotency_key.as_str() {
        "" => context.api.write("run the job", call).await,
        _ => context.api.read("run the job", call).await,
    };
    started(context, asked?.run_id, args.wait.then_some(args.wait_timeout)).await
}

/// Says which run was made, and waits for its end if that is wanted.
pub(in crate::commands) async fn started(
    context: &mut Context<'_>,
    id: String,
    wait_for: Option<Duration>,
) -> Result<(), Failure> {
    let json = context.view.format.is_document();
    if !json {
        context.console.print(&format!("{}\n", printable_line(&id)))?;
    }
    let Some(limit) = wait_for else {
        return if json { print_json(context, &json!({ "run_id": id })) } else { Ok(()) };
    };
    let Waited { last, trouble } = wait(&mut context.api, &id, limit).await;
    if json {
        print_json(context, &json!({ "run_id": id, "run": last.as_ref().map(runs::to_json) }))?;
    }
    judge(context, &id, Waited { last, trouble }, limit)
}

/// Whether a run that was waited for came to a good end.
pub(in crate::commands) fn judge(
    context: &mut Context<'_>,
    id: &str,
    waited: Waited,
    limit: Duration,
) -> Result<(), Failure> {
    match (waited.last, waited.trouble) {
        (_, Some(failure)) => Err(failure),
        (Some(run), None) if run.state == FINISHED => judge_end(context, &run),
        (last, None) => {
            let state = last.map_or_else(|| "unknown".to_owned(), |run| printable_line(&run.state));
            let waited = span(i64::try_from(limit.as_millis()).unwrap_or(i64::MAX));
            let id = printable_line(id);
            let line = format!("run {id} is still {state} after {waited}; it goes on, see `run get`");
            Err(Failure::refused(line))
        }
    }
}

const FINISHED: &str = "finished";
const SUCCEEDED: &str = "succeeded";

fn print_json(context: &mut Context<'_>, json: &serde_json::Value) -> Result<(), Failure> {
    context.view.data(context.console, json)
}

/// What waiting came to.
pub(in crate::commands) struct Waited {
    /// The run as it was last seen.
    pub(in crate::commands) last: Option<Run>,
    /// Why it could not be seen at the end.
    pub(in crate::commands) trouble: Option<Failure>,
}

/// Waits until the run has finished or the time is up. The run goes on whether we can see it or not, so
/// no failure on the way ends the wait.
pub(in crate::commands) async fn wait(api: &mut Api, id: &str, limit: Duration) -> Waited {
    let start = Instant::now();
    let mut pause = FIRST_PAUSE;
    let mut waited = Waited { last: None, trouble: None };
    loop {
        match runs::get(api, id.to_owned()).await {
            Ok(run) => waited = Waited { last: Some(run), trouble: None },
            Err(failure) => waited.trouble = Some(failure),
        }
        let finished = waited.last.as_ref().is_some_and(|run| run.state == FINISHED);
        let left = limit.saturating_sub(start.elapsed());
        if finished || left.is_zero() {
            return waited;
        }
        sleep(pause.min(left)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn judge_end(context: &mut Context<'_>, run: &Run) -> Result<(), Failure> {
    let id = printable_line(&run.id);
    if run.outcome == SUCCEEDED {
        context.console.note(&format!("run {id} succeeded after {}", span(run.duration_ms)));
        return Ok(());
    }
    let outcome = printable_line(runs::state(run));
    let result: String = printable_line(&run.result).chars().take(200).collect();
    let why = if result.is_empty() { String::new() } else { format!(": {result}") };
    Err(Failure::refused(format!("run {id} ended as {outcome}{why}")))
}
