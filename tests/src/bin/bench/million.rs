//! Part d: many jobs. Memory per job, and how soon a node that becomes the leader dispatches.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use forest_proto::JobId;
use forest_proto::record::encode;
use forest_tests::cluster::ClusterNode;

use crate::failover::{Ending, Fall, fall, start_ticking};
use crate::ground::{Ground, PATIENCE};
use crate::observe::own_memory;
use crate::options::Options;
use crate::report::{Aim, Report};
use crate::stats::number;

/// One for each leader that falls, and the one that follows both.
const NODES: usize = 3;
/// How long a node may take to list all jobs before nobody waits any longer.
const LISTED_WITHIN: Duration = Duration::from_secs(60);
const BYTES_PER_JOB: f64 = 600.0;
const FIRST_SNAPSHOT_MS: f64 = 1_000.0;
/// Memory is looked at when a node has had nothing to do for so long.
const SETTLE: Duration = Duration::from_secs(2);
const MONTH_MS: i64 = 31 * 24 * 3_600_000;

pub(crate) async fn measure(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let ground = Ground::start(options, NODES).await?;
    let ticking = start_ticking(&ground).await?;
    let follower = a_follower(&ground).await?;
    tokio::time::sleep(SETTLE).await;
    let empty = memory(follower)?;

    let (began, bytes) = (Instant::now(), load(&ground, options.jobs).await?);
    let seconds = began.elapsed().as_secs_f64();
    report.figure("d", "jobs stored in etcd", number(options.jobs) / seconds, "jobs/s");
    report.note(format!("{} jobs of {bytes:.0} B in {seconds:.1} s", options.jobs));
    let all = options.jobs + ticking;
    let stored = Instant::now();
    for node in ground.cluster.nodes() {
        ensure!(ground.knows_jobs(node, all, PATIENCE).await, "a node does not see the jobs");
    }
    report.figure("d", "nodes behind the last job", stored.elapsed().as_secs_f64(), "s");
    tokio::time::sleep(SETTLE).await;
    let per_job = (memory(follower)? - empty) / number(options.jobs);
    report.aimed("d", "memory, follower that watched", per_job, "B/job", Aim::AtMost(BYTES_PER_JOB));

    let (fallen, took) = fall(&ground, Ending::Kill).await?;
    tell(report, "kill -9", &took);
    let (_, took) = fall(&ground, Ending::Term).await?;
    tell(report, "SIGTERM", &took);

    let began = Instant::now();
    fallen.server.restart();
    let listed = ground.knows_jobs(fallen, all, LISTED_WITHIN).await;
    report.figure("d", "start of a node to all jobs listed", began.elapsed().as_secs_f64(), "s");
    if !listed {
        report.note("not even then; its memory is not measured");
        return Ok(());
    }
    tokio::time::sleep(SETTLE).await;
    let per_job = (memory(fallen)? - empty) / number(options.jobs);
    report.aimed("d", "memory, follower that listed", per_job, "B/job", Aim::AtMost(BYTES_PER_JOB));
    Ok(())
}

fn tell(report: &mut Report, how: &str, took: &Fall) {
    report.aimed(
        "d",
        format!("{how}: leader key to first snapshot"),
        took.key_to_snapshot_ms,
        "ms",
        Aim::AtMost(FIRST_SNAPSHOT_MS),
    );
    report.note(format!("{:.0} ms from the signal", took.signal_to_snapshot_ms));
}

async fn a_follower(ground: &Ground) -> anyhow::Result<&ClusterNode> {
    ground.cluster.followers().await.first().copied().context("no follower")
}

fn memory(node: &ClusterNode) -> anyhow::Result<f64> {
    own_memory(node.server.pid().context("the node runs")?)
}

/// Stores jobs that are not due for half a year; the mean length of their documents.
async fn load(ground: &Ground, count: usize) -> anyhow::Result<f64> {
    let far = forest_proto::time::Instant::from_ms(crate::ground::wall_ms() + 6 * MONTH_MS).to_string();
    let month = far.split('-').nth(1).context("a date has a month")?.to_owned();
    let template = ground.job("template".into())?;
    let mut bytes = 0;
    let jobs = (0..count).filter_map(|n| {
        let mut job = template.clone();
        job.id = JobId::new(format!("{n:010}")).ok()?;
        job.name = format!("job {n}");
        job.params = format!("{{\"order\":{n}}}");
        job.cron = format!("0 {} {} 1 {month} *", n % 60, n / 60 % 24);
        let document = encode(&job);
        bytes += document.len();
        Some((job.id, Some(document)))
    });
    ground.write(jobs).await?;
    Ok(number(bytes) / number(count))
}
