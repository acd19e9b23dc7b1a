//! The soak: `forest-server dev` under a steady load of empty runs, watched for what grows and must not.
//!
//! Every ten seconds it prints what both processes hold; in the end it fits a line to their memory, compares their
//! file handles, and counts whether every fire has its row. Exit code 1 if one of these is not as it should be.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Parser;
use comfy_table::Table;
use forest_etcd::{Clock, SystemClock};
use forest_tests::admin::Admin;
use forest_tests::process::WorkerProcess;
use forest_tests::services::{Child, DataDir, build_dir};
use serde_json::json;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};

const SAMPLE_EVERY: Duration = Duration::from_secs(10);
/// The first third is left to caches that fill.
const WARM_UP: f64 = 1.0 / 3.0;
/// Memory may grow by so much; a run that left 100 bytes behind would be 340 MB an hour at 1,000 runs a second.
const MAX_GROWTH_MB_PER_HOUR: f64 = 60.0;
const MAX_HANDLES_APART: usize = 16;
const GROUP: &str = "soak";

/// A steady load of empty runs on the embedded mode, watched for what grows.
#[derive(Parser)]
struct Options {
    /// How long the load lasts
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// Runs a second: so many jobs that fire every second
    #[arg(long, default_value_t = 1_000)]
    rate: usize,
}

/// What a process holds.
#[derive(Clone, Copy)]
struct Held {
    resident_kb: f64,
    handles: usize,
}

struct Sample {
    at: Duration,
    rows: i64,
    server: Held,
    worker: Held,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    let folder = DataDir::new("soak");
    let data = folder.path().join("data");
    let server = start(folder.path(), &data)?;
    let (api, etcd) = addresses(&server).await?;
    let admin = Admin::new(vec![api.parse()?]);
    let arguments = ["--etcd", &etcd, "--group", GROUP, "--targets", "echo", "--capacity", "2000"];
    let worker = WorkerProcess::start("soak-worker", arguments.map(str::to_owned).to_vec())?;
    let jobs = add_jobs(&admin, options.rate).await?;
    let history = data.join("history.db");
    let rows =
        SqlitePool::connect_with(SqliteConnectOptions::new().filename(&history).read_only(true)).await?;

    let began = SystemClock.boot();
    let until = began + Duration::from_secs(60 * options.minutes);
    let (server_pid, worker_pid) =
        (server.pid().context("the server ended")?, worker.pid().context("the worker ended")?);
    let mut samples = Vec::new();
    println!("   time      rows  server MB  handles  worker MB  handles  history MB");
    while SystemClock.boot() < until {
        tokio::time::sleep(SAMPLE_EVERY).await;
        let sample = Sample {
            at: SystemClock.boot() - began,
            rows: count(&rows).await?,
            server: held(server_pid)?,
            worker: held(worker_pid)?,
        };
        println!(
            "{:>6.0}s {:>9} {:>10.1} {:>8} {:>10.1} {:>8} {:>11.1}",
            sample.at.as_secs_f64(),
            sample.rows,
            sample.server.resident_kb / 1024.0,
            sample.server.handles,
            sample.worker.resident_kb / 1024.0,
            sample.worker.handles,
            megabytes(&history)
        );
        samples.push(sample);
    }
    for job in &jobs {
        admin.disable(job).await.with_context(|| format!("job {job} is not disabled"))?;
    }
    let gaps = wait_for_rows(&rows).await?;
    let good = judge(&samples, &gaps);
    drop(worker);
    server.signal(rustix::process::Signal::TERM);
    server.wait_exit(Duration::from_secs(30)).await;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn start(folder: &Path, data: &Path) -> anyhow::Result<Child> {
    let data = data.to_str().context("the folder's name is not text")?;
    let arguments = ["dev", "--listen", "127.0.0.1:0", "--etcd-listen", "127.0.0.1:0", "--data", data];
    let program = build_dir().join("forest-server");
    let server = Child::new("forest-server dev", &program, arguments.map(Into::into).to_vec(), folder);
    let server = server.with_variables(vec![("LC_ALL".into(), "C".into())]);
    server.launch()?;
    Ok(server)
}

/// The API's address and etcd's, as the server says them.
async fn addresses(server: &Child) -> anyhow::Result<(String, String)> {
    for _ in 0..300 {
        let output = server.output();
        let after = |name: &str| {
            let line = output.lines().find_map(|line| line.trim_start().strip_prefix(name))?;
            Some(line.split_whitespace().next()?.trim_start_matches("http://").to_owned())
        };
        if let (Some(api), Some(etcd)) = (after("API"), after("etcd")) {
            return Ok((api, etcd));
        }
        ensure!(server.exited().is_none(), "forest-server dev ended:\n{}", server.tail());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    anyhow::bail!("forest-server dev does not come up:\n{}", server.tail())
}

async fn add_jobs(admin: &Admin, count: usize) -> anyhow::Result<Vec<String>> {
    admin.add_group(GROUP).await.context("the group is not added")?;
    let mut jobs = Vec::new();
    for number in 0..count {
        let document = json!({
            "name": format!("soak-{number}"), "group": GROUP, "target": "echo", "cron": "@every 1s",
            "overlap": "allow", "misfire": "skip",
        });
        jobs.push(admin.add_job(&document).await.context("a job is not added")?);
    }
    println!("{count} jobs are added, each fires every second");
    Ok(jobs)
}

fn held(pid: u32) -> anyhow::Result<Held> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let resident = resident.and_then(|rest| rest.split_whitespace().next()).context("no VmRSS")?;
    let handles = fs::read_dir(format!("/proc/{pid}/fd"))?.count();
    Ok(Held { resident_kb: resident.parse()?, handles })
}

#[allow(clippy::cast_precision_loss)] // For people.
fn megabytes(file: &PathBuf) -> f64 {
    fs::metadata(file).map_or(0.0, |metadata| metadata.len() as f64 / 1024.0 / 1024.0)
}

async fn count(rows: &SqlitePool) -> anyhow::Result<i64> {
    let query = "SELECT COUNT(*) FROM job_execute_snapshot WHERE `group` = 'soak'";
    Ok(sqlx::query_scalar(query).fetch_one(rows).await?)
}

/// What the history says when it says no more.
struct Gaps {
    rows: i64,
    not_succeeded: i64,
    /// Jobs whose rows are not one for each second from the first to the last.
    jobs: i64,
}

async fn wait_for_rows(rows: &SqlitePool) -> anyhow::Result<Gaps> {
    let mut known = -1;
    loop {
        let now = count(rows).await?;
        if now == known {
            break;
        }
        known = now;
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    let not_succeeded =
        "SELECT COUNT(*) FROM job_execute_snapshot WHERE `group` = 'soak' AND outcome <> 'succeeded'";
    let jobs = "SELECT COUNT(*) FROM (SELECT COUNT(*) + SUM(missed_fires) AS found, \
         strftime('%s', MAX(scheduled_at)) - strftime('%s', MIN(scheduled_at)) + 1 AS due \
         FROM job_execute_snapshot WHERE `group` = 'soak' GROUP BY job_id) WHERE found <> due";
    Ok(Gaps {
        rows: known,
        not_succeeded: sqlx::query_scalar(not_succeeded).fetch_one(rows).await?,
        jobs: sqlx::query_scalar(jobs).fetch_one(rows).await?,
    })
}

fn judge(samples: &[Sample], gaps: &Gaps) -> bool {
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let warm = (samples.len() as f64 * WARM_UP) as usize;
    let steady = &samples[warm.min(samples.len())..];
    let mut table = Table::new();
    table.set_header(["what", "found", "allowed"]);
    let mut good = true;
    for (name, held) in [("server", server as fn(&Sample) -> Held), ("worker", worker as _)] {
        let growth = growth_mb_per_hour(steady, |sample| held(sample).resident_kb);
        good &= growth <= MAX_GROWTH_MB_PER_HOUR;
        let allowed = format!("at most {MAX_GROWTH_MB_PER_HOUR:.0} MB/h");
        table.add_row([format!("{name}: memory grows by"), format!("{growth:.1} MB/h"), allowed]);
        let handles = steady.iter().map(|sample| held(sample).handles);
        let (least, most) = (handles.clone().min().unwrap_or(0), handles.max().unwrap_or(0));
        good &= most - least <= MAX_HANDLES_APART;
        let allowed = format!("at most {MAX_HANDLES_APART} apart");
        table.add_row([format!("{name}: file handles"), format!("{least} to {most}"), allowed]);
    }
    good &= gaps.jobs == 0 && gaps.not_succeeded == 0 && gaps.rows > 0;
    table.add_row(["rows".into(), gaps.rows.to_string(), "more than none".to_owned()]);
    table.add_row(["jobs with a fire that has no row".into(), gaps.jobs.to_string(), "0".to_owned()]);
    table.add_row(["rows that did not succeed".into(), gaps.not_succeeded.to_string(), "0".to_owned()]);
    println!("{table}");
    println!("{}", if good { "flat, and nothing is lost" } else { "NOT as it should be" });
    good
}

fn server(sample: &Sample) -> Held {
    sample.server
}

fn worker(sample: &Sample) -> Held {
    sample.worker
}

/// The slope of the line that fits best.
#[allow(clippy::cast_precision_loss)]
fn growth_mb_per_hour(samples: &[Sample], kb: impl Fn(&Sample) -> f64) -> f64 {
    let count = samples.len().max(1) as f64;
    let hours = |sample: &Sample| sample.at.as_secs_f64() / 3600.0;
    let (mean_x, mean_y) =
        (samples.iter().map(hours).sum::<f64>() / count, samples.iter().map(&kb).sum::<f64>() / count);
    let over: f64 = samples.iter().map(|sample| (hours(sample) - mean_x) * (kb(sample) - mean_y)).sum();
    let under: f64 = samples.iter().map(|sample| (hours(sample) - mean_x).powi(2)).sum();
    if under == 0.0 { 0.0 } else { over / under / 1024.0 }
}
