//! `backfill start --wait`: shows how far it is, until all its runs have ended.
//!
//! Where stderr is a terminal there is a bar, else a line now and then. The backfill goes on whether it is watched
//! or not.

use std::time::Duration;

use forest_proto::RunId;
use forest_proto::admin::v1::{Backfill, GetBackfillRequest, GetRunRequest, ListRunsRequest};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::{Instant, sleep};

use crate::commands::Context;
use crate::connect::{Api, Client};
use crate::console::Console;
use crate::error::{Exit, Failure};

const PAUSE: Duration = Duration::from_millis(200);
/// Between two lines where there is no bar.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Runs of the job that are looked at in one go.
const PAGE: u32 = 200;

pub(super) async fn until_over(
    context: &mut Context<'_>,
    backfill: &Backfill,
    last_run: &str,
) -> Result<(), Failure> {
    let mut shown = Shown::new(context.console, backfill);
    while let Some(now) = get(&mut context.api, backfill).await? {
        let waits = if now.state == super::PAUSED { ", waits for the job to be enabled" } else { "" };
        shown.at(context.console, now.created, &format!("{} alive{waits}", now.live));
        sleep(PAUSE).await;
    }
    if !exists(&mut context.api, last_run).await? {
        shown.end();
        let what =
            "the backfill ended before its last fire: it was cancelled, or the job was changed or deleted";
        return Err(Failure::refused(what));
    }
    loop {
        let left = alive(&mut context.api, &backfill.job_id, last_run).await?;
        shown.at(context.console, backfill.total, &format!("{left} alive"));
        if left == 0 {
            break;
        }
        sleep(PAUSE).await;
    }
    shown.end();
    context.console.note(&format!("all {} runs have ended, see `run list --job`", backfill.total));
    Ok(())
}

/// `None`: it is over.
async fn get(api: &mut Api, backfill: &Backfill) -> Result<Option<Backfill>, Failure> {
    let request = GetBackfillRequest { job_id: backfill.job_id.clone() };
    let call = async |mut client: Client| client.get_backfill(request.clone()).await;
    match api.read("look at the backfill", call).await {
        Ok(found) => Ok(Some(found).filter(|found| found.id == backfill.id)),
        Err(failure) if failure.exit == Exit::NotFound => Ok(None),
        Err(failure) => Err(failure),
    }
}

async fn exists(api: &mut Api, run: &str) -> Result<bool, Failure> {
    let request = GetRunRequest { id: run.to_owned() };
    let call = async |mut client: Client| client.get_run(request.clone()).await;
    match api.read("look at the last run", call).await {
        Ok(_) => Ok(true),
        Err(failure) if failure.exit == Exit::NotFound => Ok(false),
        Err(failure) => Err(failure),
    }
}

/// How many runs of the same backfill have not ended.
async fn alive(api: &mut Api, job: &str, last_run: &str) -> Result<usize, Failure> {
    let mark = |run: &str| run.parse::<RunId>().ok().and_then(|run| run.backfill_mark().map(str::to_owned));
    let ours = mark(last_run);
    let request = ListRunsRequest {
        job_id: job.to_owned(),
        live_only: true,
        page_size: PAGE,
        ..ListRunsRequest::default()
    };
    let call = async |mut client: Client| client.list_runs(request.clone()).await;
    let runs = api.read("look at its runs", call).await?;
    Ok(runs.live.iter().filter(|run| ours.is_some() && mark(&run.id) == ours).count())
}

/// What of it is shown.
enum Shown {
    Bar(ProgressBar),
    Lines { total: u32, last: Option<(Instant, String)> },
}

impl Shown {
    fn new(console: &Console, backfill: &Backfill) -> Self {
        if !console.live {
            return Self::Lines { total: backfill.total, last: None };
        }
        let target = ProgressDrawTarget::stderr();
        let bar = ProgressBar::with_draw_target(Some(backfill.total.into()), target);
        let style = ProgressStyle::with_template("{bar:40} {pos}/{len} runs, {msg} {eta}");
        Self::Bar(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())))
    }

    fn at(&mut self, console: &mut Console, created: u32, message: &str) {
        match self {
            Self::Bar(bar) => {
                bar.set_position(created.into());
                bar.set_message(message.to_owned());
            }
            Self::Lines { total, last } => {
                let line = format!("{created} of {total} runs created, {message}");
                let new =
                    last.as_ref().is_none_or(|(at, shown)| at.elapsed() >= LINE_EVERY && *shown != line);
                if new {
                    console.note(&line);
                    *last = Some((Instant::now(), line));
                }
            }
        }
    }

    fn end(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}
