//! `forest-server dev`: the real program, and other programs beside it that use its ports.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Instant;

use forest_tests::admin::{Admin, document_of};
use forest_tests::names::unique;
use forest_tests::process::WorkerProcess;
use forest_tests::services::{Child, DataDir, build_dir};
use forest_tests::wait::{eventually, within_or_last};
use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::stage::SOON;

const SAMPLES: [&str; 4] = ["api-check", "disk-usage", "long-task", "sometimes-fails"];

/// A running one.
struct Dev {
    child: Child,
    api: SocketAddr,
    etcd: SocketAddr,
    _folder: DataDir,
}

/// Starts the program; it need not come up.
fn launch(arguments: &[&str]) -> (Child, DataDir) {
    let folder = DataDir::new("dev");
    let program = build_dir().join("forest-server");
    let arguments = std::iter::once("dev").chain(arguments.iter().copied()).map(Into::into).collect();
    let child = Child::new("forest-server dev", &program, arguments, folder.path());
    let child = child.with_variables(vec![("LC_ALL".into(), "C".into())]);
    child.launch().expect("forest-server is built");
    (child, folder)
}

impl Dev {
    /// Starts it and waits until it says where it is.
    async fn start(arguments: &[&str]) -> Self {
        let (child, folder) = launch(arguments);
        let said = async || {
            if let Some(status) = child.exited() {
                panic!("it ended: {status}\n{}", child.tail());
            }
            let output = child.output();
            let after = |name: &str| {
                let line = output.lines().find_map(|line| line.trim_start().strip_prefix(name))?;
                let address = line.split_whitespace().next()?;
                address.trim_start_matches("http://").parse().ok()
            };
            Some((after("API")?, after("etcd")?))
        };
        let said = within_or_last(SOON, said).await;
        let (api, etcd) = said.unwrap_or_else(|_| panic!("it does not come up\n{}", child.tail()));
        Self { child, api, etcd, _folder: folder }
    }

    async fn any() -> Self {
        Self::start(&["--listen", "127.0.0.1:0", "--etcd-listen", "127.0.0.1:0"]).await
    }

    async fn in_folder(folder: &str) -> Self {
        Self::start(&["--listen", "localhost:0", "--etcd-listen", "localhost:0", "--data", folder]).await
    }

    fn admin(&self) -> Admin {
        Admin::new(vec![self.api])
    }

    /// Waits until its output has this.
    async fn says(&self, text: &str) {
        let said = within_or_last(SOON, async || self.child.output().contains(text)).await;
        assert!(said.is_ok(), "it does not say {text:?}\n{}", self.child.tail());
    }

    /// The id of a run of this job that succeeded.
    async fn succeeded(&self, job: &str) -> String {
        let admin = self.admin();
        let found = async || {
            let jobs = admin.list_jobs("samples").await.ok()?;
            let id =
                jobs.iter().filter_map(|job| document_of(job).ok()).find(|found| found["name"] == job)?;
            let runs = admin.runs_of(id["id"].as_str()?).await.ok()?;
            runs.into_iter().find(|run| run.outcome == "succeeded").map(|run| run.id)
        };
        eventually("a run succeeds", SOON, found).await
    }

    /// The names of the jobs of a group.
    async fn jobs(&self, group: &str) -> Vec<String> {
        let jobs = self.admin().list_jobs(group).await.expect("jobs can be listed");
        let names = jobs.iter().filter_map(|job| Some(document_of(job).ok()?["name"].as_str()?.to_owned()));
        let mut names: Vec<_> = names.collect();
        names.sort_unstable();
        names
    }

    /// What `forest-cli` prints on this line, of words without spaces.
    async fn cli(&self, line: &str) -> String {
        let mut command = tokio::process::Command::new(build_dir().join("forest-cli"));
        command.args(line.split(' ')).env("FOREST_SERVER", format!("http://{}", self.api));
        let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
        let output = tokio::time::timeout(SOON, output).await.expect("it ends").expect("forest-cli is built");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {err}\n{}", self.child.tail());
        text
    }

    /// Ends it with this signal.
    async fn end(&self, signal: Signal) {
        let asked = Instant::now();
        self.child.signal(signal);
        let status = self.child.wait_exit(SOON).await;
        eprintln!("from the signal to the end: {:?}", asked.elapsed());
        assert_eq!(status.code(), Some(0), "{}", self.child.tail());
    }
}

/// A disk that is full, where the log goes to, costs lines of the log and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cannot_be_written_ends_nothing() {
    let folder = DataDir::new("dev-full");
    let full = std::fs::File::options().write(true).open("/dev/full").expect("Linux has it");
    let mut dev = tokio::process::Command::new(build_dir().join("forest-server"))
        .args(["dev", "--listen", "127.0.0.1:0", "--etcd-listen", "127.0.0.1:0", "--log-level", "debug"])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(full)
        .kill_on_drop(true)
        .spawn()
        .expect("forest-server is built");
    let mut lines = BufReader::new(dev.stdout.take().expect("piped")).lines();
    let succeeds = async {
        while let Some(line) = lines.next_line().await.expect("text") {
            if line.contains(" succeeded ") {
                return;
            }
        }
        panic!("it ended");
    };
    tokio::time::timeout(SOON, succeeds).await.expect("a run succeeds");
    assert!(dev.try_wait().expect("a child").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_command_is_a_whole_forest_that_other_programs_can_use() {
    let began = Instant::now();
    let dev = Dev::any().await;
    dev.says(" succeeded ").await;
    eprintln!("from the start to the first run that is told of: {:?}", began.elapsed());

    let listed = dev.cli("job list -o json").await;
    assert!(SAMPLES.iter().all(|name| listed.contains(name)), "{listed}");
    dev.succeeded("api-check").await;
    let runs = dev.cli("run list -o json").await;
    assert!(runs.contains("succeeded"), "{runs}");
    dev.cli("status").await;

    let (group, etcd) = (unique("group").replace('_', "-"), format!("http://{}", dev.etcd));
    dev.cli(&format!("group add {group}")).await;
    dev.cli(&format!("job add --group {group} --name mine --target echo --cron @yearly")).await;
    let arguments = ["--etcd", &etcd, "--group", &group, "--targets", "echo"].map(str::to_owned);
    let worker = WorkerProcess::start("outside", arguments.into()).expect("the worker starts");
    let ran = dev.cli("job run mine --wait --params hello -o json").await;
    assert!(ran.contains("succeeded") && ran.contains("hello"), "{ran}");
    dev.says("  mine succeeded ").await;

    let data = dev.child.output();
    let data = data.lines().find_map(|line| line.trim_start().strip_prefix("data"));
    let data = data.and_then(|line| line.trim_start().split(',').next()).expect("it says where").to_owned();
    assert!(std::path::Path::new(&data).is_dir(), "{data}");
    // The worker outside still holds its streams to the etcd.
    dev.end(Signal::TERM).await;
    assert!(!std::path::Path::new(&data).exists(), "{data} is removed");
    worker.kill9();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_folder_keeps_jobs_and_history_and_samples_do_not_come_twice() {
    let kept = tempfile::tempdir().expect("a folder");
    let folder = kept.path().join("new").to_string_lossy().into_owned();
    let first = Dev::in_folder(&folder).await;
    let run = first.succeeded("api-check").await;
    assert_eq!(first.jobs("samples").await, SAMPLES);
    first.cli("job add --group samples --name mine --target disk-usage --cron @yearly").await;
    first.cli("job delete disk-usage --yes").await;

    let (other, _folder) = launch(&["--data", &folder]);
    let status = other.wait_exit(SOON).await;
    assert!(status.code() == Some(1) && other.output().contains("in use"), "{status}: {}", other.output());

    first.end(Signal::TERM).await;
    let expected = ["api-check", "long-task", "mine", "sometimes-fails"];
    let second = Dev::in_folder(&folder).await;
    assert_eq!(second.jobs("samples").await, expected);
    assert_eq!(second.admin().get_run(&run).await.expect("it is kept").outcome, "succeeded");
    second.says("  api-check succeeded ").await;
    second.child.kill();

    let third = Dev::in_folder(&folder).await;
    assert_eq!(third.jobs("samples").await, expected);
    assert_eq!(third.admin().get_run(&run).await.expect("it is kept").outcome, "succeeded");
    third.says("  api-check succeeded ").await;
    third.end(Signal::TERM).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_one_finds_other_ports_and_knows_nothing_of_the_first() {
    let first = Dev::start(&[]).await;
    let second = Dev::start(&[]).await;
    assert!(first.api != second.api && first.etcd != second.etcd);
    let said = second.child.output();
    assert_eq!(said.matches("is taken)").count(), 2, "{said}");
    first.cli("group add first").await;
    assert!(!second.cli("group list -o json").await.contains("first"));

    let (third, _folder) = launch(&["--listen", &second.api.to_string()]);
    let status = third.wait_exit(SOON).await;
    let said = third.output();
    assert!(status.code() == Some(1) && said.contains("--listen: cannot listen on"), "{status}: {said}");

    first.end(Signal::INT).await;
    second.succeeded("api-check").await;
    second.end(Signal::TERM).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_task_stops_when_its_run_is_cancelled_and_when_everything_ends() {
    let dev = Dev::any().await;
    let admin = dev.admin();
    // The samples are stored one after the other.
    let is_long = |job: &&forest_proto::admin::v1::Job| job.document.contains("\"long-task\"");
    let look = async || document_of(admin.list_jobs("samples").await.ok()?.iter().find(is_long)?).ok();
    let long = eventually("one is long", SOON, look).await;
    let running = async || {
        let live = admin.list_runs(forest_proto::admin::v1::ListRunsRequest {
            group: "samples".into(),
            live_only: true,
            ..Default::default()
        });
        live.await
            .ok()?
            .live
            .into_iter()
            .find(|run| run.state == "running" && long["id"] == run.job_id.as_str())
            .map(|run| run.id)
    };
    let run = eventually("the long task runs", SOON, running).await;
    dev.cli(&format!("run cancel {run}")).await;
    dev.says("  long-task: stops after step 0 of 5").await;
    let outcome = async || admin.get_run(&run).await.is_ok_and(|run| run.outcome == "cancelled");
    eventually("it is recorded", SOON, outcome).await;

    let again = dev.cli("job run long-task").await;
    let again = again.trim();
    eventually("it runs again", SOON, async || {
        admin.get_run(again).await.is_ok_and(|run| run.state == "running")
    })
    .await;
    dev.end(Signal::TERM).await;
    let stops = dev.child.output().matches("long-task: stops").count();
    assert_eq!(stops, 2, "{}", dev.child.tail());
}
