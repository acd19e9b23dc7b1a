//! Part c: how long after its fire a run starts, at a steady rate.
//!
//! Jobs of one second's period, either all at the same instant (a burst every second) or each at a millisecond
//! of its own. The admin API cuts the instant from which a period counts to whole seconds, so the documents are
//! written straight into etcd.

use std::collections::HashMap;
use std::time::Duration;

use forest_proto::JobId;
use forest_proto::record::encode;
use forest_proto::time::Instant;

use crate::ground::{Ground, second_after, sleep_until};
use crate::observe::EtcdCounters;
use crate::options::Options;
use crate::path::collected;
use crate::raw::{milliseconds, put_to_event};
use crate::report::{Aim, Report};
use crate::stats::Sample;
use crate::worker::{Start, WorkerProcess};

/// From the first fires to the first that count.
const WARM_UP_MS: i64 = 2_000;
/// From the last fires that count to the removal of the jobs.
const COOL_DOWN_MS: i64 = 500;

/// One rate, in one shape.
struct Load {
    name: &'static str,
    rate: usize,
    /// Only fires in this span of milliseconds count.
    from_ms: i64,
    to_ms: i64,
    jobs: Vec<JobId>,
    /// What etcd did meanwhile, warm-up included.
    counted: EtcdCounters,
    used: String,
}

pub(crate) async fn measure(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let ground = Ground::start(options, 1).await?;
    let workers = WorkerProcess::start_all(options, &ground)?;
    ground.wait_for_clients(options.workers).await;
    let mut yardsticks = Vec::new();
    for rate in &options.rates {
        let length = Duration::from_secs(options.raw_seconds);
        yardsticks.push((*rate, put_to_event(&ground.cluster.etcd().endpoint(), *rate, length).await?));
    }
    let mut loads = Vec::new();
    for rate in &options.rates {
        for (name, spread) in [("spread", true), ("burst", false)] {
            loads.push(run(options, &ground, &workers, name, *rate, spread).await?);
        }
    }
    let mut starts = Vec::new();
    for worker in workers {
        starts.extend(worker.end().await?);
    }
    collected(&ground).await?;
    let at_the_last = options.rates.last();
    for load in &loads {
        let yardstick = yardsticks.iter().find(|(rate, _)| *rate == load.rate).map(|(_, sample)| sample);
        let stages = stages(&ground, load, &starts).await?;
        tell(report, load, &stages, yardstick, Some(&load.rate) == at_the_last);
    }
    Ok(())
}

async fn run(
    options: &Options,
    ground: &Ground,
    workers: &[WorkerProcess],
    name: &'static str,
    rate: usize,
    spread: bool,
) -> anyhow::Result<Load> {
    crate::say(format!("   {rate} runs/s, {name}"));
    let first_ms = second_after(Duration::from_secs(1));
    let mut documents = Vec::new();
    for n in 0..rate {
        let mut job = ground.job(format!("{name}-{rate}-{n}"))?;
        job.cron = "@every 1s".into();
        let offset_ms = if spread { i64::try_from(n * 1_000 / rate)? } else { 0 };
        job.effective_after = Some(Instant::from_ms(first_ms + offset_ms - 1_000));
        documents.push((job.id.clone(), encode(&job)));
    }
    let jobs: Vec<JobId> = documents.iter().map(|(id, _)| id.clone()).collect();
    ground.write(documents.into_iter().map(|(id, document)| (id, Some(document)))).await?;
    let mut processes = ground.processes();
    workers.iter().for_each(|worker| processes.add("workers", worker.pid()));
    let (before, used) = (ground.counters().await?, processes.seconds());
    let from_ms = first_ms + WARM_UP_MS;
    let to_ms = from_ms + i64::try_from(options.delay_seconds)? * 1_000;
    sleep_until(to_ms + COOL_DOWN_MS).await;
    let (counted, used) = (ground.counters().await?.since(before), processes.used_since(&used));
    ground.write(jobs.iter().map(|id| (id.clone(), None))).await?;
    Ok(Load { name, rate, from_ms, to_ms, jobs, counted, used })
}

/// The parts of the way from fire to start, in milliseconds.
#[derive(Default)]
struct Stages {
    /// From the fire until the leader wrote the snapshot's document.
    decided: Sample,
    /// From there until the client wrote the claim's document.
    seen: Sample,
    /// From there until the handler ran.
    claimed: Sample,
    all: Sample,
}

/// Joins what the workers noted with the history of the same runs.
async fn stages(ground: &Ground, load: &Load, starts: &[Start]) -> anyhow::Result<Stages> {
    let span = load.from_ms..load.to_ms;
    let noted: HashMap<(&str, i64), i64> = starts
        .iter()
        .filter(|start| span.contains(&start.scheduled_ms))
        .map(|start| ((start.job.as_str(), start.scheduled_ms), start.started_us))
        .collect();
    let history = ground.cluster.history();
    let (mut decided, mut seen, mut claimed, mut all) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for job in &load.jobs {
        for row in history.rows(job.as_str()).await? {
            let (Some(scheduled), Some(created), Some(started)) =
                (row.scheduled_at, row.created_at, row.started_at)
            else {
                continue;
            };
            let Some(ran_us) = noted.get(&(job.as_str(), scheduled.as_ms())) else { continue };
            let ms = |instant: Instant| milliseconds(instant.as_ms() * 1_000);
            decided.push(ms(created) - ms(scheduled));
            seen.push(ms(started) - ms(created));
            claimed.push(milliseconds(*ran_us) - ms(started));
            all.push(milliseconds(*ran_us - scheduled.as_ms() * 1_000));
        }
    }
    let [decided, seen, claimed, all] = [decided, seen, claimed, all].map(Sample::new);
    Ok(Stages { decided, seen, claimed, all })
}

fn tell(report: &mut Report, load: &Load, stages: &Stages, yardstick: Option<&Sample>, aimed: bool) {
    let delays = &stages.all;
    let what = format!("{}/s {}: fire to start", load.rate, load.name);
    let expected = load.rate * usize::try_from((load.to_ms - load.from_ms) / 1_000).unwrap_or(0);
    report.figure("c", format!("{what}, p50"), delays.percentile(50), "ms");
    report.note(format!("{} of {expected} runs; most {:.1} ms", delays.len(), delays.most()));
    report.figure("c", format!("{what}, p99"), delays.percentile(99), "ms");
    let stage = |sample: &Sample| format!("{:.0}/{:.0}", sample.percentile(50), sample.percentile(99));
    report.note(format!(
        "p50/p99 in ms: fire to decided {}, to seen by the client {}, to claimed and started {}; {}; {}",
        stage(&stages.decided),
        stage(&stages.seen),
        stage(&stages.claimed),
        load.counted.text(),
        load.used
    ));
    let Some(yardstick) = yardstick else { return };
    let multiple = delays.percentile(99) / yardstick.percentile(99);
    let what = format!("{what}, p99 : put to event, p99");
    if aimed && load.name == "spread" {
        report.aimed("c", what, multiple, "", Aim::AtMost(5.0));
    } else {
        report.figure("c", what, multiple, "");
    }
    report.note(format!(
        "put to event p50 {:.2}, p99 {:.2} ms over {} puts",
        yardstick.percentile(50),
        yardstick.percentile(99),
        yardstick.len()
    ));
}
