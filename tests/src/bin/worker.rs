//! `forest-test-worker`: a worker for tests and for the demo, with handlers that behave as they are told.
//!
//! What it started and ended goes into a journal, line by line, with one write each, so that several processes
//! can share a file and nothing that happened is lost with the process: `START {run} {attempt} {token}` and
//! `END {run} {attempt} {token}`.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use forest_client::{JobContext, Worker};
use forest_etcd::{EtcdConfig, TlsConfig};
use serde::Deserialize;

#[derive(Parser)]
struct Options {
    #[arg(long, value_delimiter = ',')]
    etcd: Vec<String>,
    #[arg(long)]
    etcd_user: Option<String>,
    #[arg(long)]
    etcd_password: Option<String>,
    #[arg(long)]
    etcd_ca: Option<PathBuf>,
    #[arg(long)]
    etcd_cert: Option<PathBuf>,
    #[arg(long)]
    etcd_key: Option<PathBuf>,
    #[arg(long, default_value = "/forest")]
    key_root: String,
    #[arg(long)]
    group: String,
    #[arg(long, default_value = "worker")]
    name: String,
    #[arg(long, default_value_t = 64)]
    capacity: u32,
    #[arg(long, default_value = "3s", value_parser = seconds)]
    lease_ttl: Duration,
    #[arg(long, default_value = "2s", value_parser = seconds)]
    kill_grace: Duration,
    #[arg(long, default_value = "30s", value_parser = seconds)]
    drain_grace: Duration,
    /// Which of the handlers to serve: echo, sleep, fail, panic, stubborn, pages, shard.
    #[arg(long, value_delimiter = ',', default_value = "echo,sleep,fail,panic,stubborn,pages,shard")]
    targets: Vec<String>,
    #[arg(long)]
    journal: Option<PathBuf>,
    /// Where spans of the handlers go.
    #[arg(long)]
    otlp: Option<String>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.trim_end_matches('s').parse().map_err(|_| format!("{text:?} is not like 3s"))?;
    Ok(Duration::from_secs(number))
}

/// What a run is told to do, as its parameters.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Orders {
    /// Take so long.
    sleep_ms: u64,
    /// Fail as long as the attempt is below this.
    succeed_at: u32,
}

struct Journal(Option<File>);

impl Journal {
    fn write(&self, what: &str, ctx: &JobContext) {
        let line = format!("{what} {} {} {}\n", ctx.run_id(), ctx.attempt(), ctx.fencing_token());
        if let Some(mut file) = self.0.as_ref() {
            // A test that finds no line fails: no need to fail here.
            let _ = file.write_all(line.as_bytes());
        }
    }
}

async fn perform(target: &str, journal: &Journal, ctx: JobContext) -> Result<String, String> {
    journal.write("START", &ctx);
    let orders: Orders = serde_json::from_str(ctx.params()).unwrap_or_default();
    match target {
        "fail" if ctx.attempt() >= orders.succeed_at && orders.succeed_at > 0 => {}
        "fail" => return Err("told to fail".into()),
        "panic" => panic!("told to panic"),
        // Does not listen when it is asked to stop.
        "stubborn" => tokio::time::sleep(Duration::from_millis(orders.sleep_ms)).await,
        "sleep" => tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(orders.sleep_ms)) => {}
            () = ctx.cancelled() => return Err("stopped".into()),
        },
        // Tells and saves how far it is, and goes on where the attempt before it had come to.
        "pages" => {
            if let Some(last) = ctx.last_checkpoint() {
                return Ok(format!("went on at {last}"));
            }
            ctx.progress(40, "page 4");
            ctx.checkpoint("page 4").await.map_err(|error| error.to_string())?;
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(orders.sleep_ms)) => {}
                () = ctx.cancelled() => return Err("stopped".into()),
            }
        }
        // Tells which shard it is. That with index 1 fails as it is told to.
        "shard" => {
            let shard = ctx.shard().ok_or("no shard of anything")?;
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(orders.sleep_ms)) => {}
                () = ctx.cancelled() => return Err("stopped".into()),
            }
            if shard.index == 1 && ctx.attempt() < orders.succeed_at {
                return Err("told to fail".into());
            }
            journal.write("END", &ctx);
            let params = shard.params.as_deref().unwrap_or_default();
            return Ok(format!("{} of {}: {params}", shard.index, shard.total));
        }
        _ => {}
    }
    journal.write("END", &ctx);
    Ok(ctx.params().to_owned())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let options = Options::parse();
    let file =
        options.journal.map(|path| OpenOptions::new().create(true).append(true).open(path)).transpose()?;
    let journal = Arc::new(Journal(file));
    let (cert_file, key_file) = (options.etcd_cert, options.etcd_key);
    let tls = options.etcd_ca.map(|ca_file| TlsConfig { ca_file, cert_file, key_file, server_name: None });
    let (user, password) = (options.etcd_user, options.etcd_password);
    let spans = options.otlp.map(|endpoint| forest_tests::otlp::send_spans(&endpoint)).transpose()?;
    let mut worker = Worker::builder(options.group)
        .etcd_config(EtcdConfig { user, password, tls, ..EtcdConfig::new(options.etcd) })
        .key_root(options.key_root)
        .name(options.name)
        .capacity(options.capacity)
        .lease_ttl(options.lease_ttl)
        .kill_grace(options.kill_grace)
        .stop_grace(options.kill_grace)
        .drain_grace(options.drain_grace);
    for target in options.targets {
        let (journal, name) = (journal.clone(), target.clone());
        worker = worker.job(target, move |ctx: JobContext| {
            let (journal, name) = (journal.clone(), name.clone());
            async move { perform(&name, &journal, ctx).await }
        });
    }
    println!("ready");
    worker.build()?.run().await?;
    if let Some(spans) = spans {
        tokio::task::spawn_blocking(move || spans.shutdown()).await??;
    }
    Ok(())
}
