//! Part a: dispatch alone. Many jobs are due at once, and their clients never claim.

use anyhow::ensure;

use crate::ground::{Ground, sleep_until};
use crate::options::Options;
use crate::raw::{milliseconds, yardstick};
use crate::report::{Aim, Report};
use crate::stats::number;

const CLIENTS: usize = 4;

pub(crate) async fn measure(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let ground = Ground::start(options, 1).await?;
    let raw_before = yardstick(options, &ground.store).await?;
    ground.register_idle_clients(CLIENTS).await?;
    let burst = ground.load_burst(options.burst_jobs, raw_before).await?;
    sleep_until(burst.due_ms - 150).await;
    let processes = ground.processes();
    let (before, used) = (ground.counters().await?, processes.seconds());
    let dispatched = ground.dispatched(&burst).await?;
    let used = processes.used_since(&used);
    let counted = ground.counters().await?.since(before);
    let (snapshots, executions, parked) = ground.runs_in_etcd().await?;
    ensure!(
        snapshots == options.burst_jobs && executions == 0,
        "{snapshots} snapshots, {executions} executions and {parked} parked runs of {}",
        options.burst_jobs
    );
    let raw_after = yardstick(options, &ground.store).await?;
    let raw = f64::midpoint(raw_before, raw_after);
    report.figure("a", "raw keys/s", raw, "keys/s");
    report.note(format!("{raw_before:.0} before, {raw_after:.0} after"));
    let seconds = milliseconds(dispatched.last_us) / 1_000.0;
    report.figure("a", "due to first snapshot", milliseconds(dispatched.first_us), "ms");
    report.figure("a", "dispatch", number(snapshots) / seconds, "snapshots/s");
    report.note(format!("{snapshots} snapshots in {seconds:.2} s; {used}"));
    report.figure("a", "keys written", counted.mutations() / seconds, "keys/s");
    report.note(counted.text());
    report.aimed("a", "keys/s as part of raw", counted.mutations() / seconds / raw, "", Aim::AtLeast(0.5));
    Ok(())
}
