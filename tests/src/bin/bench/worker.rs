//! The benchmark's workers: processes of this same program, with a handler that does nothing, or notes when it
//! was started.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use forest_client::{JobContext, Worker};
use forest_tests::services::{Child, DataDir};

use crate::ground::{Ground, TARGET, wall_us};
use crate::options::{Options, WorkerOptions};

/// A run's start: its job, the instant it was scheduled for in milliseconds, and when its handler began in
/// microseconds.
#[derive(Debug, Clone)]
pub(crate) struct Start {
    pub(crate) job: String,
    pub(crate) scheduled_ms: i64,
    pub(crate) started_us: i64,
}

/// The worker process itself.
pub(crate) async fn run(options: WorkerOptions) -> anyhow::Result<()> {
    let starts: Arc<Mutex<Vec<Start>>> = Arc::default();
    let (noted, noting) = (Arc::clone(&starts), options.starts.is_some());
    let handler = move |ctx: JobContext| {
        let started_us = wall_us();
        if noting {
            let start = Start {
                job: ctx.job_id().as_str().to_owned(),
                scheduled_ms: ctx.scheduled_at().as_ms(),
                started_us,
            };
            noted.lock().unwrap_or_else(PoisonError::into_inner).push(start);
        }
        std::future::ready(Ok::<(), String>(()))
    };
    let worker = Worker::builder(options.group).etcd([options.etcd]).key_root(options.key_root);
    let worker = worker.name(options.name).capacity(options.capacity).job(TARGET, handler);
    worker.build()?.run().await?;
    if let Some(path) = options.starts {
        let mut text = String::new();
        for start in starts.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            writeln!(text, "{} {} {}", start.job, start.scheduled_ms, start.started_us)?;
        }
        std::fs::write(path, text)?;
    }
    Ok(())
}

/// A worker process as the benchmark sees it.
pub(crate) struct WorkerProcess {
    child: Child,
    starts: PathBuf,
    _folder: DataDir,
}

impl WorkerProcess {
    /// Starts as many as the options say.
    pub(crate) fn start_all(options: &Options, ground: &Ground) -> anyhow::Result<Vec<Self>> {
        (0..options.workers).map(|n| Self::start(options, ground, &format!("worker-{n}"))).collect()
    }

    fn start(options: &Options, ground: &Ground, name: &str) -> anyhow::Result<Self> {
        let folder = DataDir::new("bench-worker");
        let starts = folder.path().join("starts");
        let mut arguments = vec!["worker".into()];
        let capacity = options.capacity.to_string();
        let endpoint = ground.cluster.etcd().endpoint();
        let flags = [
            ("--etcd", endpoint.as_str()),
            ("--key-root", ground.cluster.key_root()),
            ("--group", ground.group.as_str()),
            ("--name", name),
            ("--capacity", &capacity),
        ];
        arguments.extend(flags.iter().flat_map(|(flag, value)| [(*flag).into(), (*value).into()]));
        arguments.extend(["--starts".into(), starts.clone().into()]);
        let child = Child::new(name, &std::env::current_exe()?, arguments, folder.path());
        child.launch()?;
        Ok(Self { child, starts, _folder: folder })
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.pid()
    }

    /// Tells it to end, and reads what it noted.
    pub(crate) async fn end(self) -> anyhow::Result<Vec<Start>> {
        self.child.signal(rustix::process::Signal::TERM);
        let status = self.child.wait_exit(Duration::from_secs(60)).await;
        anyhow::ensure!(status.success(), "a worker ended with {status}\n{}", self.child.tail());
        let text = std::fs::read_to_string(&self.starts).context("what a worker noted")?;
        text.lines().map(|line| read(line).with_context(|| format!("a worker noted {line:?}"))).collect()
    }
}

fn read(line: &str) -> Option<Start> {
    let mut words = line.split(' ');
    Some(Start {
        job: words.next()?.to_owned(),
        scheduled_ms: words.next()?.parse().ok()?,
        started_us: words.next()?.parse().ok()?,
    })
}
