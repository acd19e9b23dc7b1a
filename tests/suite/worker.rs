//! The worker SDK against a real etcd, with the test in the server's place: it gives snapshots, takes
//! leases away, declares runs lost, and reads what the worker leaves behind.

#![allow(clippy::unwrap_used)] // A failed step is a failed test.

mod bench;
mod long;
mod shared;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use forest_client::{JobContext, StopReason};
use forest_etcd::{EtcdConfig, Store, Txn};
use forest_proto::record::{Execution, OnLost, Outcome, Status, decode, encode};
use forest_proto::time::Instant;
use forest_proto::{Key, RunId};
use forest_tests::proxy::{Protocol, Proxy};
use forest_tests::require;
use forest_tests::services::{Etcd, EtcdOptions, shared_etcd};
use forest_tests::wait::{eventually, holds};

use bench::{Bench, FIRST_FIRE_MS, Gated, Running, SOON, text};

/// Returns an error that names the reason, as soon as it is asked to stop.
async fn until_stopped(ctx: JobContext) -> Result<(), String> {
    ctx.cancelled().await;
    Err(format!("{:?}", ctx.stop_reason()))
}

/// Never listens.
async fn deaf(_: JobContext) -> Result<(), String> {
    std::future::pending().await
}

#[derive(serde::Deserialize)]
struct Pay {
    cents: u32,
}

async fn pay(ctx: JobContext, pay: Pay) -> Result<String, String> {
    match pay.cents {
        0 => Err("nothing to pay".into()),
        13 => panic!("unlucky {}", ctx.job_id()),
        cents => Ok(format!("{cents} with token {}", ctx.fencing_token())),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_claimed_executed_and_decided() {
    let bench = Bench::new(require!(shared_etcd().await)).await;
    let running = Running::start(bench.worker().job("pay", pay).capacity(7).label("zone", "a"));
    let client = bench.client(None).await;
    let (record, lease) = bench.clients().await.remove(&client).unwrap();
    assert_eq!((record.capacity, record.targets.unwrap()[0].as_str(), lease != 0), (7, "pay", true));

    let run = bench.give(&client, &bench.snapshot(1, "pay", r#"{"cents":5}"#)).await;
    let execution = bench.ended(&client, &run).await;
    let entry =
        bench.gateway.get(&bench.keys.execution(&bench.group, Some(&client), &run)).await.unwrap().unwrap();
    assert_eq!((execution.outcome, execution.decided), (Some(Outcome::Succeeded), true));
    assert_eq!(execution.result, format!("5 with token {}", entry.create_revision));
    assert!(entry.mod_revision > entry.create_revision && entry.lease == 0);
    let snapshot_key = bench.keys.snapshot(&bench.group, &client, &run);
    assert!(bench.gateway.get(&snapshot_key).await.unwrap().is_none());
    running.drain().await;
    assert!(bench.clients().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_handler_fails_its_run_and_nothing_else() {
    let bench = Bench::new(require!(shared_etcd().await)).await;
    let running = Running::start(bench.worker().job("pay", pay));
    let client = bench.client(None).await;
    for (number, params, expected) in [
        (1, r#"{"cents":0}"#, "nothing to pay"),
        (2, r#"{"cents":13}"#, "panicked: unlucky j1"),
        (3, r#"{"cents":"x"}"#, "the parameters do not fit target `pay`"),
        (4, "", "the parameters do not fit target `pay`"),
    ] {
        let run = bench.give(&client, &bench.snapshot(number, "pay", params)).await;
        let execution = bench.ended(&client, &run).await;
        assert!(execution.result.starts_with(expected), "{}", execution.result);
        assert_eq!((execution.outcome, execution.status), (Some(Outcome::Failed), Status::Error));
    }
    let run = bench.give(&client, &bench.snapshot(5, "pay", r#"{"cents":5}"#)).await;
    assert_eq!(bench.ended(&client, &run).await.outcome, Some(Outcome::Succeeded));
    running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_for_this_worker_stays_untouched() {
    let bench = Bench::new(require!(shared_etcd().await)).await;
    let running = Running::start(bench.worker().job("pay", pay));
    let client = bench.client(None).await;
    let other = bench.give(&client, &bench.snapshot(1, "mail", "")).await;
    let mut late = bench.snapshot(2, "pay", r#"{"cents":5}"#);
    late.start_deadline = Some(Instant::from_ms(FIRST_FIRE_MS));
    let late = bench.give(&client, &late).await;
    let broken = bench.keys.snapshot(&bench.group, &client, &bench.snapshot(3, "pay", "").id);
    bench.gateway.put(&broken, "{").await.unwrap();

    // What comes after them is executed; so they have been seen, and left.
    let run = bench.give(&client, &bench.snapshot(4, "pay", r#"{"cents":5}"#)).await;
    bench.ended(&client, &run).await;
    for key in
        [&other, &late].map(|run| bench.keys.snapshot(&bench.group, &client, run)).iter().chain([&broken])
    {
        assert!(bench.gateway.get(key).await.unwrap().is_some(), "{key}");
    }
    assert!(
        bench.execution(&client, &other).await.is_none() && bench.execution(&client, &late).await.is_none()
    );
    running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_is_executed_once_each_within_the_capacity() {
    const RUNS: usize = 2_000;
    let bench = Bench::new(require!(shared_etcd().await)).await;
    let seen = Arc::new(Mutex::new(HashMap::<RunId, usize>::new()));
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let handler = {
        let (seen, now, most) = (seen.clone(), now.clone(), most.clone());
        move |ctx: JobContext| {
            let (seen, now, most) = (seen.clone(), now.clone(), most.clone());
            async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                *seen.lock().unwrap().entry(ctx.run_id().clone()).or_default() += 1;
                tokio::time::sleep(Duration::from_millis(1)).await;
                now.fetch_sub(1, Ordering::SeqCst);
                Ok::<_, String>(())
            }
        }
    };
    let running = Running::start(bench.worker().job("pay", handler).capacity(64));
    let client = bench.client(None).await;
    let store = Store::new(&EtcdConfig::new([&bench.endpoint])).unwrap();
    let txns = (0..RUNS).map(|number| {
        let snapshot = bench.snapshot(i64::try_from(number).unwrap(), "pay", "");
        Txn::new().put(bench.keys.snapshot(&bench.group, &client, &snapshot.id), encode(&snapshot))
    });
    let begin = std::time::Instant::now();
    store.commit_all(txns.collect()).await.into_iter().for_each(|verdict| drop(verdict.unwrap()));
    let done = async || {
        let entries = bench.gateway.list(&bench.keys.all()).await.unwrap_or_default();
        let done = entries.iter().filter(|entry| entry.value.contains(r#""outcome":"succeeded""#)).count();
        if done == RUNS { Ok(()) } else { Err(format!("{done} done")) }
    };
    eventually("all runs are done", Duration::from_secs(60), done).await;
    println!("{RUNS} runs in {:?}, at most {} at once", begin.elapsed(), most.load(Ordering::SeqCst));
    assert!((2..=64).contains(&most.load(Ordering::SeqCst)));
    let seen = seen.lock().unwrap().clone();
    assert!(seen.len() == RUNS && seen.values().all(|calls| *calls == 1));
    running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_lease_is_gone_stops_its_handlers_and_returns_under_a_new_id() {
    let bench = Bench::new(require!(shared_etcd().await)).await;
    let worker = bench.worker().job("wait", until_stopped).job("deaf", deaf).job("pay", pay);
    let running = Running::start(worker.kill_grace(Duration::from_millis(500)));
    let client = bench.client(None).await;
    let waits = bench.give(&client, &bench.snapshot(1, "wait", "")).await;
    let mut retried = bench.snapshot(2, "deaf", "");
    (retried.max_attempts, retried.on_lost) = (2, OnLost::Retry);
    let deaf = bench.give(&client, &retried).await;
    bench.started(&client, &waits).await;
    bench.started(&client, &deaf).await;

    let lease = bench.clients().await[&client].1;
    bench.gateway.revoke(lease).await.unwrap();
    let new = bench.client(Some(&client)).await;
    let execution = bench.ended(&client, &waits).await;
    assert_eq!((execution.outcome, execution.decided), (Some(Outcome::Lost), true));
    assert!(execution.result.contains(&format!("{:?}", Some(StopReason::LeaseLost))), "{}", execution.result);
    let execution = bench.ended(&client, &deaf).await;
    assert_eq!((execution.outcome, execution.decided), (Some(Outcome::Lost), false), "a retry is to follow");

    let run = bench.give(&new, &bench.snapshot(3, "pay", r#"{"cents":5}"#)).await;
    assert_eq!(bench.ended(&new, &run).await.outcome, Some(Outcome::Succeeded));
    running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_survives_an_etcd_that_does_not_answer() {
    let etcd = require!(Etcd::start(EtcdOptions::default()).await);
    let bench = Bench::new(&etcd).await;
    let gated = Gated::new();
    let running =
        Running::start(bench.worker().job("pay", gated.handler()).lease_ttl(Duration::from_secs(60)));
    let client = bench.client(None).await;
    let run = bench.give(&client, &bench.snapshot(1, "pay", "")).await;
    bench.started(&client, &run).await;

    etcd.stop().await;
    gated.open();
    tokio::time::sleep(Duration::from_secs(8)).await;
    etcd.cont().await;
    let execution = bench.ended(&client, &run).await;
    assert_eq!((execution.outcome, execution.result.as_str()), (Some(Outcome::Succeeded), "let through"));
    etcd.kill();
    let next = Gated::clone(&gated);
    etcd.restart().await;
    let run = bench.give(&client, &bench.snapshot(2, "pay", "")).await;
    next.open();
    assert_eq!(bench.ended(&client, &run).await.outcome, Some(Outcome::Succeeded));
    assert_eq!(gated.calls(), 2);
    running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_outlives_its_lease_counts_if_nobody_gave_up_on_it() {
    let etcd = require!(Etcd::start(EtcdOptions::default()).await);
    let bench = Bench::new(&etcd).await;
    let gated = Gated::new();
    let worker = bench.worker().job("pay", gated.handler()).lease_ttl(Duration::from_secs(2));
    let running = Running::start(worker.kill_grace(Duration::from_secs(30)));
    let client = bench.client(None).await;
    let run = bench.give(&client, &bench.snapshot(1, "pay", "")).await;
    bench.started(&client, &run).await;
    etcd.stop().await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    gated.open();
    etcd.cont().await;
    assert_eq!(bench.ended(&client, &run).await.outcome, Some(Outcome::Succeeded));
    assert_ne!(bench.client(Some(&client)).await, client);
    running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_replies_start_nothing_twice_and_lose_nothing() {
    let etcd = require!(shared_etcd().await);
    let mut bench = Bench::new(etcd).await;
    let proxy = Proxy::start(etcd.address(), Protocol::Http2).await;
    bench.endpoint = proxy.endpoint();
    let gated = Gated::new();
    let running = Running::start(bench.worker().job("pay", gated.handler()));
    let client = bench.client(None).await;
    for number in 1..=5 {
        let snapshot = bench.snapshot(number, "pay", "");
        let key = bench.keys.execution(&bench.group, Some(&client), &snapshot.id);
        let mut claim = proxy.lose_reply_to(&key);
        let run = bench.give(&client, &snapshot).await;
        claim.happened(SOON).await;
        let calls = usize::try_from(number).unwrap();
        eventually("the handler", SOON, async || gated.calls() == calls).await;
        let mut completion = proxy.lose_reply_to(&key);
        gated.open();
        completion.happened(SOON).await;
        assert_eq!(bench.ended(&client, &run).await.outcome, Some(Outcome::Succeeded));
    }
    running.drain().await;
    assert_eq!(gated.calls(), 5);
    let late = bench.gateway.list(&bench.keys.all()).await.unwrap();
    assert!(!late.iter().any(|entry| matches!(bench.keys.parse(&entry.key), Some(Key::Late { .. }))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_needs_its_registration_unless_it_was_made_before() {
    let bench = Bench::new(require!(shared_etcd().await)).await;
    let running = Running::start(bench.worker().job("pay", pay));
    let client = bench.client(None).await;
    // Another registration under the same key: not the one that the worker made.
    let registration = bench.keys.client(&bench.group, &client);
    let record = bench.gateway.get(&registration).await.unwrap().unwrap().value;
    bench.gateway.delete(&registration).await.unwrap();
    bench.gateway.put(&registration, &record).await.unwrap();
    let unclaimable = bench.give(&client, &bench.snapshot(1, "pay", r#"{"cents":5}"#)).await;

    // As an earlier claim leaves it whose reply was lost.
    let snapshot = bench.snapshot(2, "pay", r#"{"cents":5}"#);
    let key = bench.keys.execution(&bench.group, Some(&client), &snapshot.id);
    let claimed = Execution::claimed(snapshot.clone(), Instant::from_ms(FIRST_FIRE_MS));
    bench.gateway.put(&key, &text(&claimed)).await.unwrap();
    let token = bench.gateway.get(&key).await.unwrap().unwrap().create_revision;
    let run = bench.give(&client, &snapshot).await;
    assert_eq!(bench.ended(&client, &run).await.result, format!("5 with token {token}"));
    assert!(bench.execution(&client, &unclaimable).await.is_none());
    running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_takes_effect_after_its_reply_was_given_up_is_found_and_run_once() {
    let etcd = require!(shared_etcd().await);
    let mut bench = Bench::new(etcd).await;
    let proxy = Proxy::start(etcd.address(), Protocol::Http2).await;
    bench.endpoint = proxy.endpoint();
    let gated = Gated::new();
    let running =
        Running::start(bench.worker().job("pay", gated.handler()).lease_ttl(Duration::from_secs(60)));
    let client = bench.client(None).await;
    let first = bench.give(&client, &bench.snapshot(0, "pay", "")).await;
    gated.open();
    bench.ended(&client, &first).await;
    // Later than the worker waits for an answer, so that the claims arrive when nobody waits any more.
    proxy.delay_requests(Duration::from_millis(3_300)).await;
    let mut runs = Vec::new();
    for number in 1..=4 {
        runs.push(bench.give(&client, &bench.snapshot(number, "pay", "")).await);
    }
    bench.started(&client, &runs[0]).await;
    assert_eq!(gated.calls(), 1, "claimed, and the worker does not know it");
    proxy.pass().await;
    eventually("the handlers", SOON, async || gated.calls() == 5).await;
    (0..4).for_each(|_| gated.open());
    for run in &runs {
        assert_eq!(bench.ended(&client, run).await.outcome, Some(Outcome::Succeeded));
    }
    running.drain().await;
    assert_eq!(gated.calls(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_waits_for_an_etcd_that_is_not_there_yet() {
    let etcd = require!(Etcd::start(EtcdOptions::default()).await);
    let bench = Bench::new(&etcd).await;
    etcd.kill();
    let running = Running::start(bench.worker().job("pay", pay));
    tokio::time::sleep(Duration::from_millis(500)).await;
    etcd.restart().await;
    let client = bench.client(None).await;
    let run = bench.give(&client, &bench.snapshot(1, "pay", r#"{"cents":5}"#)).await;
    assert_eq!(bench.ended(&client, &run).await.outcome, Some(Outcome::Succeeded));
    etcd.kill();
    let begin = std::time::Instant::now();
    running.drain().await;
    assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_can_be_cancelled() {
    let bench = Bench::new(require!(shared_etcd().await)).await;
    let gated = Gated::new();
    let worker = bench.worker().job("wait", until_stopped).job("deaf", deaf).job("gated", gated.handler());
    let running = Running::start(worker.stop_grace(Duration::from_millis(300)));
    let client = bench.client(None).await;
    for (number, target) in [(1, "wait"), (2, "deaf")] {
        let run = bench.give(&client, &bench.snapshot(number, target, "")).await;
        bench.started(&client, &run).await;
        let key = bench.keys.cancel(&bench.group, &client, &run);
        bench.gateway.put(&key, "{}").await.unwrap();
        assert_eq!(bench.ended(&client, &run).await.outcome, Some(Outcome::Cancelled), "{target}");
        assert!(bench.gateway.get(&key).await.unwrap().is_none(), "removed with the result");
    }
    // After the end there is nothing to cancel. The request is the leader's to take away: of a failure it says that
    // there is to be no further attempt.
    let run = bench.give(&client, &bench.snapshot(3, "gated", "")).await;
    gated.open();
    bench.ended(&client, &run).await;
    let key = bench.keys.cancel(&bench.group, &client, &run);
    bench.gateway.put(&key, "{}").await.unwrap();
    assert_eq!(bench.ended(&client, &run).await.outcome, Some(Outcome::Succeeded));
    running.drain().await;
    assert!(bench.gateway.get(&key).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_comes_after_the_run_was_declared_lost_is_kept_aside() {
    let bench = Bench::new(require!(shared_etcd().await)).await;
    let gated = Gated::new();
    let running = Running::start(bench.worker().job("pay", gated.handler()));
    let client = bench.client(None).await;
    let run = bench.give(&client, &bench.snapshot(1, "pay", "")).await;
    bench.started(&client, &run).await;
    let mut lost = bench.execution(&client, &run).await.unwrap();
    lost.finish(Outcome::Lost, "gave up".into(), Instant::from_ms(FIRST_FIRE_MS), 0);
    let key = bench.keys.execution(&bench.group, Some(&client), &run);
    bench.gateway.put(&key, &text(&lost)).await.unwrap();

    gated.open();
    let late = bench.keys.late(&bench.group, &client, &run);
    let entry =
        eventually("the late result", SOON, async || bench.gateway.get(&late).await.ok().flatten()).await;
    let kept: Execution = decode(entry.value.as_bytes()).unwrap();
    assert_eq!((kept.outcome, kept.result.as_str()), (Some(Outcome::Succeeded), "let through"));
    assert_eq!(bench.execution(&client, &run).await.unwrap(), lost, "the decision stands");
    running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_worker_finishes_what_it_runs_and_takes_nothing_new() {
    let bench = Bench::new(require!(shared_etcd().await)).await;
    let gated = Gated::new();
    let running = Running::start(bench.worker().job("pay", gated.handler()));
    let client = bench.client(None).await;
    let run = bench.give(&client, &bench.snapshot(1, "pay", "")).await;
    bench.started(&client, &run).await;
    running.shutdown.cancel();
    let draining = async || bench.clients().await.get(&client).is_some_and(|(record, _)| record.draining);
    eventually("the announcement", SOON, draining).await;
    let lease = bench.clients().await[&client].1;
    assert_ne!(lease, 0, "the registration still hangs on the lease");

    let second = bench.give(&client, &bench.snapshot(2, "pay", "")).await;
    let unclaimed = async || bench.execution(&client, &second).await.is_none();
    holds("the second run is not claimed", Duration::from_millis(300), unclaimed).await;
    gated.open();
    running.drain().await;
    assert_eq!(bench.execution(&client, &run).await.unwrap().outcome, Some(Outcome::Succeeded));
    assert!(bench.clients().await.is_empty());
    assert!(!bench.gateway.leases().await.unwrap().contains(&lease), "the lease was given back");
    let left = bench.gateway.get(&bench.keys.snapshot(&bench.group, &client, &second)).await.unwrap();
    assert!(left.is_some() && gated.calls() == 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_end_while_draining_is_stopped_and_reported() {
    let bench = Bench::new(require!(shared_etcd().await)).await;
    let worker = bench.worker().job("wait", until_stopped).job("deaf", deaf);
    let worker = worker.drain_grace(Duration::from_millis(300)).kill_grace(Duration::from_millis(300));
    let running = Running::start(worker);
    let client = bench.client(None).await;
    let mut runs = Vec::new();
    for (number, target) in [(1, "wait"), (2, "deaf")] {
        runs.push(bench.give(&client, &bench.snapshot(number, target, "")).await);
        bench.started(&client, &runs[runs.len() - 1]).await;
    }
    running.drain().await;
    for run in &runs {
        let execution = bench.execution(&client, run).await.unwrap();
        assert_eq!(execution.outcome, Some(Outcome::Lost), "{}", execution.result);
        assert!(execution.result.starts_with("the client was shut down"), "{}", execution.result);
    }
}
