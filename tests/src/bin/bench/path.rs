//! Part b: from due to collected and deleted, with worker processes whose handler does nothing, and MariaDB.

use std::time::Duration;

use anyhow::{Context, ensure};

use crate::ground::{Ground, PATIENCE, sleep_until, wall_us};
use crate::options::Options;
use crate::raw::{milliseconds, yardstick};
use crate::report::{Aim, Report};
use crate::stats::number;
use crate::worker::WorkerProcess;

/// How often it is looked whether all is done.
const LOOK: Duration = Duration::from_millis(50);

pub(crate) async fn measure(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let ground = Ground::start(options, 1).await?;
    let raw_before = yardstick(options, &ground.store).await?;
    let workers = WorkerProcess::start_all(options, &ground)?;
    ground.wait_for_clients(options.workers).await;
    let burst = ground.load_burst(options.runs, raw_before).await?;
    sleep_until(burst.due_ms - 150).await;
    let mut processes = ground.processes();
    workers.iter().for_each(|worker| processes.add("workers", worker.pid()));
    let (before, used) = (ground.counters().await?, processes.seconds());
    let dispatched = ground.dispatched(&burst).await?;
    let done_us = collected(&ground).await? - burst.due_ms * 1_000;
    let used = processes.used_since(&used);
    let counted = ground.counters().await?.since(before);
    let rows = usize::try_from(ground.cluster.history().count().await?)?;
    ensure!(rows == options.runs, "{rows} rows in the history for {} runs", options.runs);
    let raw_after = yardstick(options, &ground.store).await?;
    let raw = f64::midpoint(raw_before, raw_after);
    report.figure("b", "raw keys/s", raw, "keys/s");
    report.note(format!("{raw_before:.0} before, {raw_after:.0} after"));
    let seconds = milliseconds(done_us) / 1_000.0;
    report.figure("b", "due to all dispatched", milliseconds(dispatched.last_us) / 1_000.0, "s");
    report.figure("b", "due to all collected and deleted", seconds, "s");
    report.figure("b", "runs", number(rows) / seconds, "runs/s");
    report.note(format!("{rows} runs, {} workers; {used}", options.workers));
    report.figure("b", "keys written and deleted", counted.mutations() / seconds, "keys/s");
    let per_run = counted.mutations() / number(rows);
    report.note(format!("{per_run:.2} a run; {}", counted.text()));
    report.aimed("b", "keys/s as part of raw", counted.mutations() / seconds / raw, "", Aim::AtLeast(0.5));
    for worker in workers {
        worker.end().await?;
    }
    Ok(())
}

/// Waits until no run is left in etcd; the time at which that was seen.
pub(crate) async fn collected(ground: &Ground) -> anyhow::Result<i64> {
    let looking = async {
        loop {
            let (snapshots, executions, parked) = ground.runs_in_etcd().await?;
            if snapshots + executions + parked == 0 {
                return anyhow::Ok(wall_us());
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.context("the runs were not collected in time")?
}
