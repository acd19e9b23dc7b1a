//! Runs that take long: their deadlines, what they say while they run, and handlers that block.

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use forest_client::{CheckpointError, JobContext, StopReason};
use forest_proto::record::{Execution, Outcome, Progress, Snapshot, Status};
use forest_proto::time::Instant;
use forest_proto::{ClientId, Key, RunId};
use forest_tests::proxy::{Protocol, Proxy};
use forest_tests::require;
use forest_tests::services::shared_etcd;
use forest_tests::wait::{eventually, holds};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::bench::{Answer, Bench, FIRST_FIRE_MS, Running, SOON, text};
use super::{deaf, pay, until_stopped};

const GRACE: Duration = Duration::from_millis(300);

/// A run with a time limit, and with one more attempt to follow.
fn limited(bench: &Bench, number: i64, target: &str, timeout_ms: u64) -> Snapshot {
    let mut snapshot = bench.snapshot(number, target, "");
    (snapshot.timeout_ms, snapshot.max_attempts) = (Some(timeout_ms), 2);
    snapshot
}

/// Finishes its work although it was asked to stop.
async fn stubborn(ctx: JobContext) -> Result<String, String> {
    ctx.cancelled().await;
    Ok(format!("done, {:?} left", ctx.remaining()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_takes_too_long_is_stopped_and_recorded_as_timed_out() {
    let bench = Bench::new(require!(shared_etcd().await)).await;
    let listens = |ctx: JobContext| {
        while !ctx.is_cancelled() {
            std::thread::sleep(Duration::from_millis(2));
        }
        Err::<(), _>(format!("{:?}", ctx.stop_reason()))
    };
    let worker = bench.worker().job("wait", until_stopped).job("deaf", deaf).job("stubborn", stubborn);
    let running = Running::start(worker.blocking_job("blocks", listens).stop_grace(GRACE));
    let client = bench.client(None).await;
    let check = async |number, target, outcome, decided, says: &str| {
        let run = bench.give(&client, &limited(&bench, number, target, 400)).await;
        let execution = bench.ended(&client, &run).await;
        assert_eq!((execution.outcome, execution.decided), (Some(outcome), decided), "{target}");
        assert!(execution.result.contains(says), "{target}: {}", execution.result);
        execution.duration_ms
    };
    let told = "timed out: Some(TimedOut)";
    let took = check(1, "wait", Outcome::TimedOut, false, told).await;
    assert!((400..2_000).contains(&took), "{took}");
    check(2, "blocks", Outcome::TimedOut, false, told).await;
    let took = check(3, "deaf", Outcome::TimedOut, false, "was dropped").await;
    assert!((700..3_000).contains(&took), "{took}");
    // Its work is done: to do it again would be worse than to have it late.
    check(4, "stubborn", Outcome::Succeeded, true, "done, Some(0ns) left").await;
    running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_fast_enough_does_not_feel_its_deadline() {
    let bench = Bench::new(require!(shared_etcd().await)).await;
    let brief = async |ctx: JobContext| {
        tokio::time::sleep(Duration::from_millis(50)).await;
        Ok::<_, String>(format!("{} {}", ctx.deadline().is_some(), ctx.is_cancelled()))
    };
    let running = Running::start(bench.worker().job("brief", brief));
    let client = bench.client(None).await;
    let run = bench.give(&client, &limited(&bench, 1, "brief", 60_000)).await;
    let execution = bench.ended(&client, &run).await;
    assert_eq!((execution.outcome, execution.result.as_str()), (Some(Outcome::Succeeded), "true false"));
    running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timed_out_run_that_was_also_cancelled_leaves_the_request_to_the_leader() {
    let bench = Bench::new(require!(shared_etcd().await)).await;
    let running = Running::start(bench.worker().job("deaf", deaf).stop_grace(Duration::from_secs(2)));
    let client = bench.client(None).await;
    let run = bench.give(&client, &limited(&bench, 1, "deaf", 300)).await;
    bench.started(&client, &run).await;
    tokio::time::sleep(Duration::from_millis(800)).await;
    let key = bench.keys.cancel(&bench.group, &client, &run);
    bench.gateway.put(&key, "{}").await.unwrap();
    let execution = bench.ended(&client, &run).await;
    assert_eq!((execution.outcome, execution.decided), (Some(Outcome::TimedOut), false));
    assert!(bench.gateway.get(&key).await.unwrap().is_some(), "it says that no attempt is to follow");
    running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocking_handler_that_does_not_stop_keeps_its_place_until_it_ends() {
    let bench = Bench::new(require!(shared_etcd().await)).await;
    let (open, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let stuck = move |_: JobContext| gate.lock().unwrap().recv().map_err(|e| e.to_string());
    let worker = bench.worker().blocking_job("stuck", stuck).job("pay", pay).capacity(1).stop_grace(GRACE);
    let running = Running::start(worker);
    let client = bench.client(None).await;
    let run = bench.give(&client, &limited(&bench, 1, "stuck", 200)).await;
    let execution = bench.ended(&client, &run).await;
    assert_eq!(execution.outcome, Some(Outcome::TimedOut));
    assert!(execution.result.contains("its thread goes on"), "{}", execution.result);

    let next = bench.give(&client, &bench.snapshot(2, "pay", r#"{"cents":5}"#)).await;
    let unclaimed = async || bench.execution(&client, &next).await.is_none();
    holds("the place is taken", Duration::from_millis(300), unclaimed).await;
    open.send(()).unwrap();
    assert_eq!(bench.ended(&client, &next).await.outcome, Some(Outcome::Succeeded));
    let after = bench.execution(&client, &run).await.unwrap();
    assert_eq!(after, execution, "what it returned then is not recorded");
    running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thread_that_never_ends_does_not_keep_a_worker_from_draining() {
    let bench = Bench::new(require!(shared_etcd().await)).await;
    let (open, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let stuck = move |_: JobContext| gate.lock().unwrap().recv().map_err(|e| e.to_string());
    let worker = bench.worker().blocking_job("stuck", stuck).drain_grace(GRACE).kill_grace(GRACE);
    let running = Running::start(worker);
    let client = bench.client(None).await;
    let run = bench.give(&client, &bench.snapshot(1, "stuck", "")).await;
    bench.started(&client, &run).await;
    running.drain().await;
    let execution = bench.execution(&client, &run).await.unwrap();
    assert_eq!(execution.outcome, Some(Outcome::Lost), "{}", execution.result);
    drop(open);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_dropped_leaves_no_thread_waiting() {
    let bench = Bench::new(require!(shared_etcd().await)).await;
    let (ended, end) = mpsc::channel();
    let ended = Mutex::new(ended);
    let listens = move |ctx: JobContext| {
        while !ctx.is_cancelled() {
            std::thread::sleep(Duration::from_millis(2));
        }
        let said = (ctx.stop_reason(), ctx.checkpoint_blocking("in vain"));
        ended.lock().unwrap().send(said).map_err(|e| e.to_string())
    };
    let worker = bench.worker().blocking_job("listens", listens).build().unwrap();
    let task = tokio::spawn(worker.run_until(CancellationToken::new()));
    let client = bench.client(None).await;
    let run = bench.give(&client, &bench.snapshot(1, "listens", "")).await;
    bench.started(&client, &run).await;
    task.abort();
    let said = tokio::task::spawn_blocking(move || end.recv_timeout(SOON)).await.unwrap();
    assert_eq!(said, Ok((Some(StopReason::Shutdown), Err(CheckpointError::Ended))));
}

/// How a run's record changes until it has ended.
async fn records(bench: &Bench, client: &ClientId, run: &RunId) -> Vec<(i64, Execution)> {
    let key = bench.keys.execution(&bench.group, Some(client), run);
    let mut seen: Vec<(i64, Execution)> = Vec::new();
    let ended = async || {
        let entry = bench.gateway.get(&key).await.ok()??;
        let execution: Execution = forest_proto::record::decode(entry.value.as_bytes()).unwrap();
        if seen.last().is_none_or(|(revision, _)| *revision < entry.mod_revision) {
            seen.push((entry.mod_revision, execution.clone()));
        }
        (execution.status != Status::Running).then_some(())
    };
    eventually("the end of the run", SOON, ended).await;
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_is_written_once_a_second_and_the_last_word_counts() {
    let bench = Bench::new(require!(shared_etcd().await)).await;
    let chatty = async |ctx: JobContext| {
        for step in 1..=110 {
            ctx.progress(step, format!("step {step}"));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok::<_, String>(ctx.fencing_token().to_string())
    };
    let running = Running::start(bench.worker().job("chatty", chatty));
    let client = bench.client(None).await;
    let run = bench.give(&client, &bench.snapshot(1, "chatty", "")).await;
    let records = records(&bench, &client, &run).await;
    let percents: Vec<_> =
        records.iter().filter_map(|(_, seen)| Some(seen.progress.as_ref()?.percent)).collect();
    assert!(percents.is_sorted() && percents.len() >= 3, "{percents:?}");
    let key = bench.keys.execution(&bench.group, Some(&client), &run);
    let entry = bench.gateway.get(&key).await.unwrap().unwrap();
    let last = &records.last().unwrap().1;
    assert_eq!(last.result, entry.create_revision.to_string(), "the token is still that of the claim");
    let Some(Progress { percent: 100, text, .. }) = &last.progress else { panic!("{last:?}") };
    assert_eq!((text.as_str(), last.decided), ("step 110", true));
    // A claim, one write a second for some 2.5 s or, on a busy machine, for longer, and the end.
    let most = 4 + last.duration_ms / 1_000;
    assert!(u64::try_from(records.len()).unwrap() <= most, "{} records", records.len());
    running.drain().await;
}

/// Saves a checkpoint for each permit; a failure ends it.
fn saving(gate: &Arc<Semaphore>, saved: &Arc<Mutex<Vec<Saved>>>) -> impl Fn(JobContext) -> Answer + use<> {
    let (gate, saved) = (Arc::clone(gate), Arc::clone(saved));
    move |ctx| {
        let (gate, saved) = (Arc::clone(&gate), Arc::clone(&saved));
        Box::pin(async move {
            for page in 1.. {
                gate.acquire().await.unwrap().forget();
                let verdict = ctx.checkpoint(format!("page {page}")).await;
                saved.lock().unwrap().push(verdict.clone());
                if page == 3 || verdict.is_err() {
                    break;
                }
            }
            // Nobody waits for this one.
            let last = tokio::time::timeout(Duration::ZERO, ctx.checkpoint("page 4")).await;
            Err(format!("{last:?}, began at {:?}", ctx.last_checkpoint()))
        })
    }
}

type Saved = Result<(), CheckpointError>;

fn checkpoint_of(execution: &Execution) -> Option<&str> {
    execution.snapshot.checkpoint.as_deref()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_is_durable_when_it_is_acknowledged_also_when_replies_are_lost() {
    let etcd = require!(shared_etcd().await);
    let mut bench = Bench::new(etcd).await;
    let proxy = Proxy::start(etcd.address(), Protocol::Http2).await;
    bench.endpoint = proxy.endpoint();
    let (gate, saved) = (Arc::new(Semaphore::new(0)), Arc::default());
    let worker = bench.worker().job("save", saving(&gate, &saved)).lease_ttl(Duration::from_secs(60));
    let running = Running::start(worker);
    let client = bench.client(None).await;
    let mut snapshot = bench.snapshot(1, "save", "");
    (snapshot.max_attempts, snapshot.checkpoint) = (2, Some("page 0".into()));
    let run = bench.give(&client, &snapshot).await;
    bench.started(&client, &run).await;
    let key = bench.keys.execution(&bench.group, Some(&client), &run);
    for page in 1..=3 {
        let lost = (page != 2).then(|| proxy.lose_reply_to(&key));
        gate.add_permits(1);
        if let Some(mut lost) = lost {
            lost.happened(SOON).await;
        }
        eventually("the checkpoint", SOON, async || saved.lock().unwrap().len() == page).await;
        let execution = bench.execution(&client, &run).await.unwrap();
        let newest = checkpoint_of(&execution).unwrap().to_owned();
        assert!([format!("page {page}"), "page 4".into()].contains(&newest), "{newest} after page {page}");
    }
    let execution = bench.ended(&client, &run).await;
    assert_eq!((execution.outcome, execution.decided), (Some(Outcome::Failed), false));
    assert_eq!(checkpoint_of(&execution), Some("page 4"), "with the end, at the latest");
    assert!(execution.result.ends_with(r#"began at Some("page 0")"#), "{}", execution.result);
    assert_eq!(saved.lock().unwrap().clone(), vec![Ok(()); 3]);
    running.drain().await;
    let all = bench.gateway.list(&bench.keys.all()).await.unwrap();
    assert!(!all.iter().any(|entry| matches!(bench.keys.parse(&entry.key), Some(Key::Late { .. }))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completion_does_not_wait_for_what_was_said_just_before_and_is_not_lost() {
    const RUNS: i64 = 200;
    let bench = Bench::new(require!(shared_etcd().await)).await;
    let hasty = async |ctx: JobContext| {
        ctx.progress(10, "begun");
        if fastrand::bool() {
            tokio::time::sleep(Duration::from_micros(fastrand::u64(..3_000))).await;
        }
        ctx.progress(90, "nearly");
        Ok::<_, String>("done")
    };
    let running = Running::start(bench.worker().job("hasty", hasty));
    let client = bench.client(None).await;
    let mut runs = Vec::new();
    for number in 1..=RUNS {
        runs.push(bench.give(&client, &bench.snapshot(number, "hasty", "")).await);
    }
    for run in &runs {
        let execution = bench.ended(&client, run).await;
        assert_eq!(execution.outcome, Some(Outcome::Succeeded));
        assert_eq!(execution.progress.map(|told| told.percent), Some(90));
        assert!(execution.duration_ms < 900, "it waited {} ms", execution.duration_ms);
    }
    running.drain().await;
    let all = bench.gateway.list(&bench.keys.all()).await.unwrap();
    assert!(!all.iter().any(|entry| matches!(bench.keys.parse(&entry.key), Some(Key::Late { .. }))));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_over_the_servers_word_that_a_run_is_lost() {
    let bench = Bench::new(require!(shared_etcd().await)).await;
    let (gate, saved) = (Arc::new(Semaphore::new(0)), Arc::default());
    let running = Running::start(bench.worker().job("save", saving(&gate, &saved)));
    let client = bench.client(None).await;
    let run = bench.give(&client, &bench.snapshot(1, "save", "")).await;
    gate.add_permits(1);
    eventually("the checkpoint", SOON, async || saved.lock().unwrap().len() == 1).await;
    let mut lost = bench.execution(&client, &run).await.unwrap();
    lost.finish(Outcome::Lost, "gave up".into(), Instant::from_ms(FIRST_FIRE_MS), 0);
    let key = bench.keys.execution(&bench.group, Some(&client), &run);
    bench.gateway.put(&key, &text(&lost)).await.unwrap();
    gate.add_permits(1);
    eventually("the refusal", SOON, async || saved.lock().unwrap().len() == 2).await;
    assert_eq!(saved.lock().unwrap()[1], Err(CheckpointError::GivenUp));
    let late = bench.keys.late(&bench.group, &client, &run);
    eventually("the late result", SOON, async || bench.gateway.get(&late).await.ok().flatten()).await;
    assert_eq!(bench.execution(&client, &run).await.unwrap(), lost, "the decision stands");
    running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocking_handler_saves_checkpoints_too() {
    let bench = Bench::new(require!(shared_etcd().await)).await;
    let saves = |ctx: JobContext| {
        let too_long = ctx.checkpoint_blocking("x".repeat(64 * 1024 + 1));
        let saved = ctx.checkpoint_blocking("half");
        Err::<(), _>(format!("{too_long:?} {saved:?}"))
    };
    let running = Running::start(bench.worker().blocking_job("saves", saves));
    let client = bench.client(None).await;
    let run = bench.give(&client, &limited(&bench, 1, "saves", 60_000)).await;
    let execution = bench.ended(&client, &run).await;
    assert_eq!(execution.result, "Err(TooLarge { bytes: 65537 }) Ok(())");
    assert_eq!(checkpoint_of(&execution), Some("half"));
    running.drain().await;
}
