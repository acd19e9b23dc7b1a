//! Workers that share work, die, freeze, drain and misbehave; and one that knows only the published layout.

use std::collections::BTreeSet;
use std::time::Duration;

use forest_proto::time::Instant;
use forest_proto::{JobId, RunId};
use forest_tests::cluster::{Cluster, ClusterBuilder};
use forest_tests::process::WorkerProcess;
use forest_tests::services::Gateway;
use forest_tests::wait::eventually;
use serde_json::{Value, json};

use crate::stage::{SOON, Stage, now};

/// What a worker of these tests has, and the longest that the server may believe in it after its death.
const CLIENT_TTL: Duration = Duration::from_secs(3);
const LOST_GRACE: Duration = Duration::from_secs(1);
/// For a machine that is busy with other tests.
const SLACK: Duration = Duration::from_secs(15);

fn cluster() -> ClusterBuilder {
    Cluster::builder().configure(|options| options.lost_grace = Some(LOST_GRACE))
}

/// After a client died: its lease, then as long again and the grace until its runs are given up.
const LOST_WITHIN: Duration = Duration::from_secs(3 + 3 + 1 + 15);

fn sleeping(ms: u64) -> Value {
    json!({"target": "sleep", "params": json!({"sleep_ms": ms}).to_string()})
}

async fn until_started(stage: &Stage, run: &str) {
    eventually("the handler starts", SOON, async || stage.played().contains_key(run)).await;
}

fn started(stage: &Stage, run: &str) -> usize {
    stage.played().get(run).map_or(0, |played| played.started)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clients_of_one_name_share_the_work_and_run_nothing_twice() {
    const RUNS: usize = 1000;
    let Some(stage) = Stage::set(cluster()).await else { return };
    let _workers = [stage.worker("twin", &[]).await, stage.worker("twin", &[]).await];
    let clients = stage.cluster.admin().list_clients(&stage.group).await.expect("listed");
    let ids: BTreeSet<_> = clients.iter().map(|client| client.id.clone()).collect();
    assert!(ids.len() == 2 && clients.iter().all(|client| client.name == "twin"), "{clients:?}");

    stage.jobs_due_together(RUNS, Duration::from_secs(4), json!({})).await;
    let history = stage.cluster.history();
    eventually("all runs are in the history", 2 * SOON, async || {
        let count = history.count().await.map_err(|e| e.to_string())?;
        if count >= RUNS as i64 { Ok(()) } else { Err(format!("{count}")) }
    })
    .await;
    stage.quiet(SOON).await;
    stage.assert_played_once(RUNS);
    let rows = history.all().await.expect("read");
    assert_eq!(rows.len(), RUNS);
    assert!(rows.iter().all(|row| row.outcome.as_deref() == Some("succeeded")));
    let shared: BTreeSet<_> = rows.iter().filter_map(|row| row.ip.clone()).collect();
    assert_eq!(shared, ids, "both worked");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_client_had_not_claimed_runs_elsewhere_once_and_soon() {
    const EACH: usize = 100;
    let Some(stage) = Stage::set(cluster()).await else { return };
    let doomed = stage.worker("doomed", &["--capacity", "100"]).await;
    stage.jobs_due_together(EACH, Duration::from_secs(3), sleeping(600_000)).await;
    eventually("all its handlers are busy", SOON, async || stage.played().len() == EACH).await;
    let busy: BTreeSet<_> = stage.played().into_keys().collect();
    stage.jobs_due_together(EACH, Duration::from_secs(3), json!({})).await;
    let admin = stage.cluster.admin();
    eventually("as many wait for it", SOON, async || {
        let clients = admin.list_clients(&stage.group).await.map_err(|e| e.to_string())?;
        let queued = clients.iter().map(|client| client.queued).sum::<u32>();
        if queued == EACH as u32 { Ok(()) } else { Err(format!("{queued}")) }
    })
    .await;
    let _heir = stage.worker("heir", &["--capacity", "100"]).await;
    let heir = stage.client_named("heir").await;
    doomed.kill9();

    let within = CLIENT_TTL + Duration::from_secs(2) + SLACK;
    eventually("what waited runs", within, async || {
        let played = stage.played();
        if played.len() == 2 * EACH { Ok(()) } else { Err(format!("{}", played.len())) }
    })
    .await;
    eventually("nothing is on its way", LOST_WITHIN, async || {
        let c = admin.cluster().await.map_err(|e| e.to_string())?;
        if c.runs_running + c.runs_queued + c.runs_pending + c.runs_uncollected == 0 {
            Ok(())
        } else {
            Err(format!("{c:?}"))
        }
    })
    .await;
    for (run, played) in stage.played() {
        assert_eq!(played.started, 1, "{run}");
    }
    for row in stage.cluster.history().all().await.expect("read") {
        let expected = if busy.contains(&row.id) { "lost" } else { "succeeded" };
        assert_eq!(row.outcome.as_deref(), Some(expected), "{row:?}");
        assert_eq!(row.ip.as_deref() == Some(heir.as_str()), expected == "succeeded", "{row:?}");
    }
    assert_eq!(stage.cluster.history().count().await.expect("read"), 2 * EACH as i64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_client_died_is_lost_and_not_run_again() {
    let Some(stage) = Stage::set(cluster()).await else { return };
    let doomed = stage.worker("doomed", &[]).await;
    let job = stage.job(sleeping(600_000)).await;
    let run = stage.run(&job).await;
    until_started(&stage, &run).await;
    let _other = stage.worker("other", &[]).await;
    doomed.kill9();
    let row = stage.ended_within(&run, LOST_WITHIN).await;
    assert_eq!((row.status, row.outcome.as_deref(), row.attempt), (3, Some("lost"), 1));
    stage.quiet(SOON).await;
    assert_eq!((stage.rows(&job).await.len(), stage.played().len(), started(&stage, &run)), (1, 1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_run_is_tried_again_elsewhere_with_a_larger_token_if_its_job_says_so() {
    let Some(stage) = Stage::set(cluster()).await else { return };
    let doomed = stage.worker("doomed", &[]).await;
    let mut fields = sleeping(6000);
    (fields["on_lost"], fields["max_attempts"], fields["retry_delays_ms"]) =
        (json!("retry"), json!(2), json!([100]));
    let job = stage.job(fields).await;
    let run = stage.run(&job).await;
    until_started(&stage, &run).await;
    doomed.kill9();
    let _other = stage.worker("other", &[]).await;
    let first = stage.ended_within(&run, LOST_WITHIN).await;
    let second = run.parse::<RunId>().expect("a run id").with_attempt(2).to_string();
    let second = stage.ended(&second).await;
    assert_eq!((first.outcome.as_deref(), second.outcome.as_deref()), (Some("lost"), Some("succeeded")));
    assert_eq!((first.attempt, second.attempt), (1, 2));
    assert!(second.fencing_token > first.fencing_token && first.ip != second.ip, "{first:?} {second:?}");
    stage.quiet(SOON).await;
    let played = stage.played();
    assert_eq!(stage.rows(&job).await.len(), 2);
    assert_eq!((played.len(), played[&second.id].started, played[&second.id].ended), (2, 1, 1));
    assert_eq!(played[&second.id].tokens[0], second.fencing_token.expect("a token"));
}

fn paging(fields: Value) -> Value {
    let mut job = sleeping(600_000);
    job["target"] = json!("pages");
    for (name, value) in fields.as_object().expect("fields") {
        job[name] = value.clone();
    }
    job
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_run_goes_on_elsewhere_at_its_last_checkpoint() {
    let Some(stage) = Stage::set(cluster()).await else { return };
    let doomed = stage.worker("doomed", &[]).await;
    let job =
        stage.job(paging(json!({"on_lost": "retry", "max_attempts": 2, "retry_delays_ms": [100]}))).await;
    let run = stage.run(&job).await;
    let admin = stage.cluster.admin();
    let told = eventually("its progress", SOON, async || admin.get_run(&run).await.ok()?.progress).await;
    assert_eq!((told.percent, told.text.as_str()), (40, "page 4"));
    assert!((now().as_ms() - told.at).abs() < 60_000, "{}", told.at);
    let listed = admin.runs_of(&job).await.expect("listed");
    assert_eq!(listed[0].progress.as_ref().map(|told| told.percent), Some(40), "{listed:?}");

    // By the time it is killed the checkpoint, which was said after the progress, has been saved too.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    doomed.kill9();
    let _other = stage.worker("other", &[]).await;
    let first = stage.ended_within(&run, LOST_WITHIN).await;
    let second = run.parse::<RunId>().expect("a run id").with_attempt(2).to_string();
    let second = stage.ended(&second).await;
    assert_eq!((first.outcome.as_deref(), second.outcome.as_deref()), (Some("lost"), Some("succeeded")));
    assert_eq!(second.result.as_deref(), Some("went on at page 4"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_takes_too_long_is_tried_again_by_the_rules_of_its_job() {
    let Some(stage) = Stage::set(cluster()).await else { return };
    let _worker = stage.worker("worker", &[]).await;
    let backoff = json!({"first_ms": 100, "max_ms": 1000, "factor_percent": 200, "jitter_percent": 10});
    let rules = json!({
        "timeout_ms": 2000, "max_attempts": 3, "retry_backoff": backoff, "retry_if": ["timed_out"],
    });
    let job = stage.job(paging(rules)).await;
    let run = stage.run(&job).await;
    let first = stage.ended(&run).await;
    assert_eq!((first.status, first.outcome.as_deref()), (4, Some("timed_out")), "{first:?}");
    assert_eq!(first.result.as_deref(), Some("timed out: stopped"));
    let second = run.parse::<RunId>().expect("a run id").with_attempt(2).to_string();
    let second = stage.ended(&second).await;
    assert_eq!(second.result.as_deref(), Some("went on at page 4"));

    let mut failing = json!({"target": "fail", "max_attempts": 3, "retry_if": ["timed_out"]});
    failing["retry_delays_ms"] = json!([100]);
    let job = stage.job(failing).await;
    let run = stage.run(&job).await;
    assert_eq!(stage.ended(&run).await.outcome.as_deref(), Some("failed"));
    stage.quiet(SOON).await;
    assert_eq!(stage.rows(&job).await.len(), 1, "a failure is not among the outcomes to try again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_was_frozen_past_its_lease_neither_restarts_nor_rewrites_anything() {
    let Some(stage) = Stage::set(cluster()).await else { return };
    let frozen = stage.worker("frozen", &["--capacity", "1"]).await;
    let old = stage.client_named("frozen").await;
    let mut fields = sleeping(4000);
    fields["target"] = json!("stubborn");
    let long = stage.job(fields).await;
    let running = stage.run(&long).await;
    until_started(&stage, &running).await;
    let echo = stage.job(json!({})).await;
    let waiting = stage.run(&echo).await;
    stage.until(&waiting, "queued").await;
    let _other = stage.worker("other", &["--capacity", "1"]).await;
    let other = stage.client_named("other").await;

    frozen.stop().await;
    let moved = stage.ended_within(&waiting, CLIENT_TTL + Duration::from_secs(2) + SLACK).await;
    let lost = stage.ended_within(&running, LOST_WITHIN).await;
    assert_eq!((lost.status, lost.outcome.as_deref(), lost.late_outcome.as_deref()), (3, Some("lost"), None));
    assert_eq!((moved.outcome.as_deref(), moved.ip.as_deref()), (Some("succeeded"), Some(other.as_str())));

    frozen.cont().await;
    let history = stage.cluster.history();
    let late = eventually("what it did all the same is kept", SOON, async || {
        let row = history.row(&running).await.map_err(|e| e.to_string())?.ok_or("no row")?;
        if row.late_outcome.is_some() { Ok(row) } else { Err(format!("{row:?}")) }
    })
    .await;
    assert_eq!(
        (late.status, late.outcome.as_deref(), late.late_outcome.as_deref()),
        (3, Some("lost"), Some("succeeded"))
    );
    let new = stage.client_named("frozen").await;
    assert_ne!(new, old, "an id is never used again");
    // Two at once: with a capacity of one each, both clients get one.
    let again = [stage.run(&echo).await, stage.run(&echo).await];
    for run in &again {
        assert_eq!(stage.ended(run).await.outcome.as_deref(), Some("succeeded"));
    }
    let played = stage.played();
    assert_eq!((started(&stage, &running), started(&stage, &waiting)), (1, 1), "{played:?}");
    assert_eq!(played.len(), 4);
    let gateway = stage.cluster.etcd().gateway().await;
    let left = gateway.list(&format!("{}/client/execute/", stage.cluster.key_root())).await.expect("listed");
    assert!(left.iter().all(|entry| !entry.key.contains(&old)), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_lease_is_revoked_stops_its_handlers_and_comes_back_as_another() {
    let Some(stage) = Stage::set(cluster()).await else { return };
    let _worker = stage.worker("worker", &[]).await;
    let old = stage.client_named("worker").await;
    let job = stage.job(sleeping(600_000)).await;
    let run = stage.run(&job).await;
    until_started(&stage, &run).await;
    let gateway = stage.cluster.etcd().gateway().await;
    let key = format!("{}/client/{}/clients/{old}", stage.cluster.key_root(), stage.group);
    let entry = gateway.get(&key).await.expect("read").expect("registered");
    gateway.revoke(entry.lease).await.expect("revoked");

    let row = stage.ended_within(&run, LOST_WITHIN).await;
    assert_eq!((row.status, row.outcome.as_deref()), (3, Some("lost")));
    let result = row.result.unwrap_or_default();
    assert!(result.contains("cut off") && result.contains("stopped"), "its handler was told: {result}");
    eventually("it is registered anew", SOON, async || stage.client_named("worker").await != old).await;
    let echo = stage.job(json!({})).await;
    let next = stage.ended(&stage.run(&echo).await).await;
    assert_eq!(next.outcome.as_deref(), Some("succeeded"));
    assert_ne!(next.ip.as_deref(), Some(old.as_str()));
    assert_eq!((started(&stage, &run), stage.played()[&run].ended), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_told_to_end_finishes_what_runs_and_gives_back_the_rest() {
    let Some(stage) = Stage::set(cluster()).await else { return };
    let leaving = stage.worker("leaving", &["--capacity", "2"]).await;
    let id = stage.client_named("leaving").await;
    let (long, echo) = (stage.job(sleeping(5000)).await, stage.job(json!({})).await);
    let running = [stage.run(&long).await, stage.run(&long).await];
    for run in &running {
        until_started(&stage, run).await;
    }
    let waiting = [stage.run(&echo).await, stage.run(&echo).await];
    for run in &waiting {
        stage.until(run, "queued").await;
    }
    let _staying = stage.worker("staying", &["--capacity", "2"]).await;
    leaving.term();
    for run in &waiting {
        let row = stage.ended(run).await;
        assert_eq!(row.outcome.as_deref(), Some("succeeded"));
        assert_ne!(row.ip.as_deref(), Some(id.as_str()), "given back: {row:?}");
    }
    let status = leaving.wait_exit(SOON).await;
    assert!(status.success(), "exit {status}");
    for run in &running {
        let row = stage.ended(run).await;
        assert_eq!((row.outcome.as_deref(), row.ip.as_deref()), (Some("succeeded"), Some(id.as_str())));
    }
    stage.assert_played_once(4);
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_restarted_one_after_the_other_under_load_fail_and_lose_nothing() {
    const ROUNDS: usize = 3;
    let Some(stage) = Stage::set(cluster()).await else { return };
    let mut workers = vec![stage.worker("rolling", &[]).await, stage.worker("rolling", &[]).await];
    let mut jobs = Vec::new();
    for _ in 0..10 {
        let mut fields = sleeping(300);
        (fields["cron"], fields["misfire_threshold_ms"]) = (json!("* * * * * *"), json!(60_000));
        jobs.push(stage.job(fields).await);
    }
    eventually("the first runs", SOON, async || stage.played().len() > jobs.len()).await;
    for _ in 0..ROUNDS {
        for worker in &mut workers {
            worker.term();
            let status = worker.wait_exit(SOON).await;
            assert!(status.success(), "exit {status}");
            *worker =
                WorkerProcess::start("rolling", stage.worker_arguments("rolling", &[])).expect("it starts");
            let before = stage.played().len();
            eventually("the load goes on", SOON, async || stage.played().len() > before + jobs.len()).await;
        }
    }
    for job in &jobs {
        stage.cluster.admin().disable(job).await.expect("disabled");
    }
    stage.quiet(SOON).await;
    let rows = stage.cluster.history().all().await.expect("read");
    let bad: Vec<_> = rows.iter().filter(|row| row.outcome.as_deref() != Some("succeeded")).collect();
    assert!(bad.is_empty(), "{bad:?}");
    stage.assert_played_once(rows.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_fails_its_run_with_the_message_and_nothing_else() {
    let Some(stage) = Stage::set(cluster()).await else { return };
    let worker = stage.worker("worker", &[]).await;
    let job = stage.job(json!({"target": "panic"})).await;
    let row = stage.ended(&stage.run(&job).await).await;
    assert_eq!((row.status, row.outcome.as_deref()), (4, Some("failed")));
    assert_eq!(row.result.as_deref(), Some("panicked: told to panic"));
    let echo = stage.job(json!({})).await;
    assert_eq!(stage.ended(&stage.run(&echo).await).await.outcome.as_deref(), Some("succeeded"));
    assert!(worker.is_running());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_attempt_has_its_row_and_the_last_one_decides() {
    let Some(stage) = Stage::set(cluster()).await else { return };
    let _worker = stage.worker("worker", &[]).await;
    let fields = json!({"target": "fail", "max_attempts": 3, "retry_delays_ms": [100]});
    let hopeless = stage.job(fields.clone()).await;
    let mut fields = fields;
    fields["params"] = json!(r#"{"succeed_at":2}"#);
    let second_time = stage.job(fields).await;
    for (job, expected) in
        [(&hopeless, &["failed", "failed", "failed"][..]), (&second_time, &["failed", "succeeded"][..])]
    {
        let first: RunId = stage.run(job).await.parse().expect("a run id");
        let last = first.with_attempt(u32::try_from(expected.len()).expect("few"));
        stage.ended(last.as_str()).await;
        stage.quiet(SOON).await;
        let rows = stage.rows(job).await;
        let outcomes: Vec<_> = rows.iter().filter_map(|row| row.outcome.as_deref()).collect();
        assert_eq!(outcomes, expected, "{rows:?}");
        let attempts: Vec<_> = rows.iter().map(|row| row.attempt).collect();
        assert_eq!(attempts, (1..=expected.len() as i64).collect::<Vec<_>>());
        assert!(rows.windows(2).all(|two| two[0].fencing_token < two[1].fencing_token), "{rows:?}");
        assert!(rows.iter().all(|row| row.scheduled_at == rows[0].scheduled_at), "{rows:?}");
        assert!(rows.iter().all(|row| started(&stage, &row.id) == 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_for_a_target_that_nobody_serves_waits_for_a_client_that_does() {
    let Some(stage) = Stage::set(cluster()).await else { return };
    let _worker = stage.worker("deaf", &["--targets", "echo"]).await;
    let job = stage.job(sleeping(1)).await;
    let run = stage.run(&job).await;
    stage.until(&run, "pending").await;
    // What comes later for the client that is there passes it by.
    let echo = stage.job(json!({})).await;
    stage.ended(&stage.run(&echo).await).await;
    let pending = stage.cluster.admin().list_pending(&stage.group).await.expect("listed");
    assert_eq!(pending.iter().map(|pending| pending.id.as_str()).collect::<Vec<_>>(), [run.as_str()]);
    let _able = stage.worker("able", &["--targets", "sleep"]).await;
    let row = stage.ended(&run).await;
    assert_eq!(row.outcome.as_deref(), Some("succeeded"));
    assert_eq!(row.ip, Some(stage.client_named("able").await));
    assert_eq!(started(&stage, &run), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_its_client_cannot_execute_is_moved_and_never_claimed_by_it() {
    let Some(stage) = Stage::set(cluster()).await else { return };
    let _deaf = stage.worker("deaf", &["--targets", "echo"]).await;
    let deaf = stage.client_named("deaf").await;
    let job = stage.job(sleeping(1)).await;
    let run = RunId::scheduled(&JobId::new(&job).expect("valid"), now(), 1);
    let snapshot = json!({
        "id": run.as_str(), "jobId": job, "name": "by hand", "ip": deaf, "group": stage.group, "cron": "",
        "target": "sleep", "params": "", "mobile": "", "remark": "", "createTime": "",
    });
    let gateway = stage.cluster.etcd().gateway().await;
    let root = stage.cluster.key_root();
    let key = format!("{root}/client/snapshot/{}/{deaf}/{run}", stage.group);
    gateway.put(&key, &snapshot.to_string()).await.expect("put");
    stage.until(run.as_str(), "pending").await;
    assert!(gateway.get(&key).await.expect("read").is_none());
    let _able = stage.worker("able", &["--targets", "sleep"]).await;
    let row = stage.ended(run.as_str()).await;
    assert_eq!((row.outcome.as_deref(), row.ip), (Some("succeeded"), Some(stage.client_named("able").await)));
    assert_eq!(started(&stage, run.as_str()), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_no_client_takes_in_time_is_given_up_and_says_so() {
    const WAIT_MS: i64 = 1000;
    let Some(stage) = Stage::set(cluster()).await else { return };
    let job = stage.job(json!({"start_deadline_ms": WAIT_MS})).await;
    let run = stage.run(&job).await;
    stage.until(&run, "pending").await;
    // The slow scan, which looks twice a minute, is what finds it at the latest.
    let row = stage.ended_within(&run, SOON + SLACK).await;
    assert_eq!((row.status, row.outcome.as_deref()), (3, Some("no_client")));
    let waited = row.finished_at.map(Instant::as_ms).zip(row.created_at.map(Instant::as_ms));
    assert!(waited.is_some_and(|(end, start)| end - start >= WAIT_MS), "{row:?}");
    let _worker = stage.worker("too-late", &[]).await;
    let echo = stage.job(json!({})).await;
    stage.ended(&stage.run(&echo).await).await;
    assert_eq!(started(&stage, &run), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_a_job_cancels_its_parked_run() {
    let Some(stage) = Stage::set(cluster()).await else { return };
    let job = stage.job(json!({})).await;
    let run = stage.run(&job).await;
    stage.until(&run, "pending").await;
    stage.cluster.admin().delete_job(&job).await.expect("deleted");
    let row = stage.ended(&run).await;
    assert_eq!((row.status, row.outcome.as_deref(), row.started_at), (4, Some("cancelled"), None));
    assert_eq!(stage.cluster.admin().list_pending(&stage.group).await.expect("listed"), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_cancelled_wherever_it_is() {
    let Some(stage) = Stage::set(cluster()).await else { return };
    let admin = stage.cluster.admin();
    let parked = stage.run(&stage.job(json!({})).await).await;
    stage.until(&parked, "pending").await;
    admin.cancel_run(&parked).await.expect("asked");
    assert_eq!(stage.ended(&parked).await.outcome.as_deref(), Some("cancelled"));

    let _worker = stage.worker("worker", &["--capacity", "1"]).await;
    let running = stage.run(&stage.job(sleeping(600_000)).await).await;
    until_started(&stage, &running).await;
    let queued = stage.run(&stage.job(json!({})).await).await;
    stage.until(&queued, "queued").await;
    for run in [&queued, &running] {
        admin.cancel_run(run).await.expect("asked");
        let row = stage.ended(run).await;
        assert_eq!((row.status, row.outcome.as_deref()), (4, Some("cancelled")), "{row:?}");
    }
    let late = admin.cancel_run(&running).await.expect_err("it has ended");
    assert_eq!(late.code(), tonic::Code::NotFound, "{late}");

    let delayed = json!({"target": "fail", "max_attempts": 2, "retry_delays_ms": [600_000]});
    let first: RunId = stage.run(&stage.job(delayed).await).await.parse().expect("a run id");
    let second = first.with_attempt(2);
    stage.until(second.as_str(), "delayed").await;
    admin.cancel_run(second.as_str()).await.expect("asked");
    assert_eq!(stage.ended(second.as_str()).await.outcome.as_deref(), Some("cancelled"));

    assert_eq!(stage.played().len(), 2, "neither of those that waited was started: {:?}", stage.played());
    let gateway = stage.cluster.etcd().gateway().await;
    let left = gateway.list(&format!("{}/client/cancel/", stage.cluster.key_root())).await.expect("listed");
    assert!(left.is_empty(), "{left:?}");
}

/// A worker that does what the original's do: no lease that is renewed, no guards, documents of its own fields.
struct Legacy {
    gateway: Gateway,
    root: String,
    group: String,
    ip: &'static str,
}

impl Legacy {
    async fn register(stage: &Stage, ip: &'static str) -> Self {
        let gateway = stage.cluster.etcd().gateway().await;
        let (root, group) = (stage.cluster.key_root().to_owned(), stage.group.clone());
        gateway.put(&format!("{root}/client/{group}/clients/{ip}"), ip).await.expect("put");
        Self { gateway, root, group, ip }
    }

    /// Takes a snapshot: deletes it and says that it runs.
    async fn take(&self, run: &str) -> Value {
        let key = format!("{}/client/snapshot/{}/{}/{run}", self.root, self.group, self.ip);
        let entry = eventually("the snapshot is there", SOON, async || {
            self.gateway.get(&key).await.map_err(|e| e.to_string())?.ok_or_else(|| "none".to_owned())
        })
        .await;
        let given: Value = serde_json::from_str(&entry.value).expect("JSON");
        let fields = "id jobId name ip group cron target params mobile remark createTime";
        let mut record = json!({"startTime": "2026-11-21 10:00:00", "finishTime": "", "times": 0, "status": 1, "result": ""});
        for field in fields.split(' ') {
            record[field] = given.get(field).unwrap_or_else(|| panic!("no {field} in {given}")).clone();
        }
        assert_eq!(record["ip"], self.ip, "{given}");
        assert!(self.gateway.delete(&key).await.expect("deleted"));
        self.put(run, &record).await;
        record
    }

    async fn end(&self, run: &str, mut record: Value, status: i64, result: &str) {
        (record["status"], record["result"]) = (json!(status), json!(result));
        (record["finishTime"], record["times"]) = (json!("2026-11-21 10:00:07"), json!(7));
        self.put(run, &record).await;
    }

    async fn put(&self, run: &str, record: &Value) {
        let key = format!("{}/client/execute/snapshot/{}/{}/{run}", self.root, self.group, self.ip);
        self.gateway.put(&key, &record.to_string()).await.expect("put");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_of_the_original_gets_runs_and_its_records_become_rows() {
    let Some(stage) = Stage::set(cluster()).await else { return };
    let legacy = Legacy::register(&stage, "10.0.0.7").await;
    let job = stage.job(json!({"target": "whatever-it-serves"})).await;
    for (status, expected) in [(2, (2, "succeeded")), (-1, (4, "failed")), (3, (3, "lost"))] {
        let run = stage.run(&job).await;
        let record = legacy.take(&run).await;
        stage.until(&run, "running").await;
        legacy.end(&run, record, status, "so it went").await;
        let row = stage.ended(&run).await;
        assert_eq!((row.status, row.outcome.as_deref()), (expected.0, Some(expected.1)), "{row:?}");
        assert_eq!((row.ip.as_deref(), row.result.as_deref()), (Some("10.0.0.7"), Some("so it went")));
        assert_eq!(row.job_id, job);
    }
    let twice = stage.job(json!({"max_attempts": 2, "retry_delays_ms": [100]})).await;
    let first: RunId = stage.run(&twice).await.parse().expect("a run id");
    let second = first.with_attempt(2);
    for (run, status) in [(&first, -1), (&second, 2)] {
        let record = legacy.take(run.as_str()).await;
        legacy.end(run.as_str(), record, status, "").await;
    }
    stage.ended(second.as_str()).await;
    let rows = stage.rows(&twice).await;
    let outcomes: Vec<_> = rows.iter().filter_map(|row| row.outcome.as_deref()).collect();
    assert_eq!(outcomes, ["failed", "succeeded"], "{rows:?}");
    stage.quiet(SOON).await;
    let left = legacy.gateway.list(&format!("{}/client/execute/", legacy.root)).await.expect("listed");
    assert!(left.is_empty(), "{left:?}");
}
