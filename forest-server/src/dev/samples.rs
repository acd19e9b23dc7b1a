//! The sample jobs, and the worker that executes them. They do real, small things: nothing outside this machine is
//! touched, and nothing is written.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use forest_client::{EtcdConfig, JobContext, Worker};
use forest_proto::admin::v1::admin_client::AdminClient;
use forest_proto::admin::v1::{
    AddGroupRequest, AddJobRequest, GetClusterRequest, GetGroupRequest, ListJobsRequest, RunJobRequest,
};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::port::Place;
use super::screen::Screen;
use super::{Api, DRAIN_GRACE, HANDLER_GRACE};

const GROUP: &str = "samples";
/// An API that needs longer is not well.
const API_PATIENCE: Duration = Duration::from_secs(3);
/// Steps of the long job, and how long each takes.
const STEPS: u32 = 5;
const STEP: Duration = Duration::from_secs(5);

/// The documents of the four jobs.
fn jobs() -> [Value; 4] {
    let job = |name: &str, cron: &str, remark: &str| {
        json!({
            "name": name, "group": GROUP, "target": name, "cron": cron, "status": 1, "remark": remark,
        })
    };
    let mut flaky =
        job("sometimes-fails", "*/20 * * * * *", "About half of its first attempts fail, to show a retry");
    flaky["max_attempts"] = json!(3);
    flaky["retry_delays_ms"] = json!([1_000, 2_000]);
    [
        job("api-check", "*/5 * * * * *", "Connects to this Forest's own API and asks it for its state"),
        job("disk-usage", "@every 15s", "How full the file system of the data is"),
        flaky,
        job(
            "long-task",
            "0 * * * * *",
            "Takes 25 seconds, tells how far it is, and stops when it is asked to",
        ),
    ]
}

/// Creates group and jobs if there is no such group yet; in any case runs each job once now, so that there is
/// something to see.
pub(super) async fn begin(api: &mut Api) -> anyhow::Result<()> {
    // Whatever else stands in the way stands in the way of the next call too.
    if api.get_group(GetGroupRequest { name: GROUP.into() }).await.is_err() {
        let remark = "The sample jobs of forest-server dev".into();
        api.add_group(AddGroupRequest { name: GROUP.into(), remark, ..Default::default() }).await?;
        for job in jobs() {
            api.add_job(AddJobRequest { document: job.to_string() }).await?;
        }
    }
    let stored = ListJobsRequest { page_size: 200, group: GROUP.into(), ..Default::default() };
    for job in api.list_jobs(stored).await?.into_inner().jobs {
        let document: Value = serde_json::from_str(&job.document)?;
        let of_ours = jobs().iter().any(|ours| ours["name"] == document["name"]);
        // Somebody who disabled a sample does not want to see it.
        if let Some(id) = document["id"].as_str().filter(|_| of_ours && document["status"] == 1) {
            api.run_job(RunJobRequest { id: id.into(), ..Default::default() }).await?;
        }
    }
    Ok(())
}

/// A worker of the samples' group.
pub(super) fn worker(
    etcd: EtcdConfig,
    api: Place,
    data: &Path,
    screen: Screen,
    shutdown: CancellationToken,
) -> Result<Worker, forest_client::Error> {
    let data = data.to_owned();
    Worker::builder(GROUP)
        .etcd_config(etcd)
        .name("dev")
        .drain_grace(DRAIN_GRACE)
        .kill_grace(HANDLER_GRACE)
        .job("api-check", move |_: JobContext| check_api(api))
        .job("disk-usage", move |_: JobContext| disk_usage(data.clone()))
        .job("sometimes-fails", sometimes_fails)
        .job("long-task", move |ctx: JobContext| long_task(ctx, screen, shutdown.clone()))
        .build()
}

/// Over the port, as any other program would.
async fn check_api(api: Place) -> anyhow::Result<String> {
    let began = Instant::now();
    let asked = async {
        let mut client = AdminClient::connect(api.url()).await.context("cannot connect")?;
        Ok::<_, anyhow::Error>(client.get_cluster(GetClusterRequest {}).await?.into_inner())
    };
    let cluster = tokio::time::timeout(API_PATIENCE, asked).await.context("no answer in time")??;
    let took = began.elapsed().as_millis();
    let (address, jobs, clients) = (api.address, cluster.jobs, cluster.clients);
    Ok(format!("{address} answered in {took} ms; jobs: {jobs}, clients: {clients}"))
}

async fn disk_usage(path: PathBuf) -> anyhow::Result<String> {
    // A file system may be far away and slow.
    let read = {
        let path = path.clone();
        tokio::task::spawn_blocking(move || rustix::fs::statvfs(&path)).await?
    };
    let fs = read.with_context(|| format!("cannot read the file system of {}", path.display()))?;
    Ok(format!("{} on the file system of {}", Usage::of(&fs), path.display()))
}

/// In bytes.
#[derive(Debug, PartialEq, Eq)]
struct Usage {
    used: u64,
    /// For anybody; the superuser may have some more.
    free: u64,
    whole: u64,
}

impl Usage {
    fn of(fs: &rustix::fs::StatVfs) -> Self {
        let bytes = |blocks: u64| blocks.saturating_mul(fs.f_frsize);
        let used = bytes(fs.f_blocks.saturating_sub(fs.f_bfree));
        Self { used, free: bytes(fs.f_bavail), whole: bytes(fs.f_blocks) }
    }
}

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // What is kept for the superuser counts neither as used nor as free, as `df` has it.
        let percent = (self.used.saturating_mul(100)).checked_div(self.used + self.free).unwrap_or(0);
        let gib = |bytes: u64| bytes as f64 / f64::from(1_u32 << 30);
        write!(f, "{percent} % used, {:.1} GiB free of {:.1} GiB", gib(self.free), gib(self.whole))
    }
}

async fn sometimes_fails(ctx: JobContext) -> Result<String, &'static str> {
    match ctx.attempt() {
        1 if fastrand::bool() => Err("on purpose, this time: the next attempt will do"),
        1 => Ok("well at once".into()),
        attempt => Ok(format!("well on attempt {attempt}")),
    }
}

/// A process that ends asks handlers to stop only after a while; this one need not wait for that.
async fn long_task(ctx: JobContext, screen: Screen, shutdown: CancellationToken) -> Result<String, String> {
    let asked_to_stop = async || {
        tokio::select! {
            () = ctx.cancelled() => {}
            () = shutdown.cancelled() => {}
        }
    };
    for step in 1..=STEPS {
        tokio::select! {
            biased;
            () = asked_to_stop() => {
                screen.stopped(&ctx, step - 1, STEPS);
                return Err(format!("asked to stop after {} of {STEPS} steps", step - 1));
            }
            () = tokio::time::sleep(STEP) => {}
        }
        ctx.progress(u8::try_from(100 * step / STEPS).unwrap_or(100), format!("step {step} of {STEPS}"));
        if step < STEPS {
            screen.progress(&ctx, step, STEPS);
        }
    }
    Ok(format!("{STEPS} steps of {} s", STEP.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_told_as_df_does() {
        let gib = |n: u64| n << 30;
        let usage = Usage { used: gib(30), free: gib(60), whole: gib(100) };
        assert_eq!(usage.to_string(), "33 % used, 60.0 GiB free of 100.0 GiB");
        assert_eq!(Usage { used: 0, free: 0, whole: 0 }.to_string(), "0 % used, 0.0 GiB free of 0.0 GiB");
    }

    #[tokio::test]
    async fn the_usage_of_a_real_file_system_is_real() {
        let folder = tempfile::tempdir().expect("a folder");
        let usage = Usage::of(&rustix::fs::statvfs(folder.path()).expect("readable"));
        assert!(usage.whole > 0 && usage.used <= usage.whole && usage.free <= usage.whole, "{usage:?}");
        let refused = disk_usage(folder.path().join("none")).await.expect_err("not there");
        assert!(format!("{refused:#}").contains("none"), "{refused:#}");
    }
}
