//! What fires jobs beside cron, and what becomes of fires while earlier runs are alive: on a real cluster.

use std::time::Duration;

use forest_proto::admin::v1::NextFiresRequest;
use forest_proto::time::Instant;
use forest_tests::cluster::Cluster;
use forest_tests::history::HistoryRow;
use forest_tests::wait::eventually;
use serde_json::{Value, json};

use crate::stage::{SOON, Stage, now};

/// The rows of a job, once there are so many, in the order of their times.
async fn rows(stage: &Stage, job: &str, count: usize) -> Vec<HistoryRow> {
    eventually("the runs are in the history", SOON, async || stage.rows(job).await.len() >= count).await;
    let mut rows = stage.rows(job).await;
    rows.sort_by_key(|row| row.scheduled_at);
    rows
}

fn sleeping(ms: u64, rules: Value) -> Value {
    let mut fields = json!({"target": "sleep", "params": json!({"sleep_ms": ms}).to_string()});
    if let (Value::Object(fields), Value::Object(rules)) = (&mut fields, rules) {
        fields.extend(rules);
    }
    fields
}

#[tokio::test(flavor = "multi_thread")]
async fn each_trigger_fires_as_it_says() {
    let Some(stage) = Stage::set(Cluster::builder()).await else { return };
    let _worker = stage.worker("w", &[]).await;
    let admin = stage.cluster.admin();
    let trigger = |kind: Value| json!({"cron": "", "trigger": kind});

    let once = stage.job(trigger(json!({"kind": "once", "in_ms": 1500}))).await;
    let rate = stage.job(trigger(json!({"kind": "fixed_rate", "every_ms": 1000}))).await;
    let manual = stage.job(trigger(json!({"kind": "manual"}))).await;
    let delay = stage.job(sleeping(400, trigger(json!({"kind": "fixed_delay", "every_ms": 1000})))).await;

    let fires = async |job: &str| {
        let request = NextFiresRequest { id: job.into(), count: 3, ..Default::default() };
        admin.next_fires(request).await.expect("an answer").fires.len()
    };
    assert_eq!((fires(&once).await, fires(&rate).await, fires(&manual).await), (1, 3, 0));

    assert_eq!(rows(&stage, &once, 1).await[0].outcome.as_deref(), Some("succeeded"));
    let times = |rows: &[HistoryRow]| -> Vec<i64> {
        rows.iter().filter_map(|row| row.scheduled_at).map(Instant::as_ms).collect()
    };
    let every_second = times(&rows(&stage, &rate, 3).await);
    assert!(every_second.windows(2).all(|pair| pair[1] - pair[0] == 1000), "{every_second:?}");
    let after_the_end = rows(&stage, &delay, 3).await;
    for pair in after_the_end.windows(2) {
        let (ended, next) =
            (pair[0].finished_at.map(Instant::as_ms), pair[1].scheduled_at.map(Instant::as_ms));
        assert!(next >= ended.map(|ended| ended + 950), "{pair:?}");
    }
    assert_eq!(fires(&delay).await.min(1), fires(&delay).await, "at most the planned one is known");
    let asked = stage.run(&manual).await;
    assert_eq!(stage.ended(&asked).await.outcome.as_deref(), Some("succeeded"));
    assert_eq!((stage.rows(&manual).await.len(), stage.rows(&once).await.len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_wait_for_each_other_or_replace_each_other() {
    let Some(stage) = Stage::set(Cluster::builder()).await else { return };
    let _worker = stage.worker("w", &[]).await;
    let manual = |overlap: &str| json!({"cron": "", "trigger": {"kind": "manual"}, "overlap": overlap});

    let queue = stage.job(sleeping(700, manual("queue_all"))).await;
    let asked = [stage.run(&queue).await, stage.run(&queue).await, stage.run(&queue).await];
    let mut before: Option<HistoryRow> = None;
    for run in &asked {
        let row = stage.ended(run).await;
        assert_eq!(row.outcome.as_deref(), Some("succeeded"), "{row:?}");
        let started = row.started_at;
        assert!(before.is_none_or(|before| before.finished_at <= started), "{row:?}");
        before = Some(row);
    }

    let replaced = stage.job(sleeping(60_000, manual("cancel_running"))).await;
    let first = stage.run(&replaced).await;
    stage.until(&first, "running").await;
    let second = stage.run(&replaced).await;
    assert_eq!(stage.ended(&first).await.outcome.as_deref(), Some("cancelled"));
    stage.until(&second, "running").await;
    stage.cluster.admin().cancel_run(&second).await.expect("asked to stop");
    assert_eq!(stage.ended(&second).await.outcome.as_deref(), Some("cancelled"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fixed_delay_goes_on_when_the_leader_dies() {
    let Some(stage) = Stage::set(Cluster::builder().nodes(2)).await else { return };
    let _worker = stage.worker("w", &[]).await;
    let job = json!({"cron": "", "trigger": {"kind": "fixed_delay", "every_ms": 1000}});
    let job = stage.job(job).await;
    rows(&stage, &job, 2).await;
    let killed_at = now();
    stage.cluster.kill_leader().await;
    let since = async || {
        let rows = stage.rows(&job).await;
        rows.iter().filter(|row| row.scheduled_at.is_some_and(|at| at > killed_at)).count() >= 3
    };
    eventually("it goes on", 2 * SOON, since).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let rows = stage.rows(&job).await;
    assert!(rows.iter().all(|row| row.outcome.as_deref() == Some("succeeded")), "{rows:?}");
    for row in &rows {
        let said =
            stage.cluster.admin().explain(&job, row.scheduled_at.expect("a time")).await.expect("an answer");
        assert_eq!(
            said.run.map(|run| run.id),
            Some(row.id.clone()),
            "found, though its id cannot be guessed"
        );
    }
    stage.cluster.admin().disable(&job).await.expect("paused");
    stage.quiet(SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_became_of_a_fire_is_explained() {
    let Some(stage) = Stage::set(Cluster::builder()).await else { return };
    let _worker = stage.worker("w", &[]).await;
    let admin = stage.cluster.admin();
    let rules = json!({"cron": "* * * * * *", "overlap": "forbid"});
    let job = stage.job(sleeping(60_000, rules)).await;
    let skipped = async || {
        let rows = stage.rows(&job).await;
        rows.iter().find(|row| row.outcome.as_deref() == Some("overlap_skipped"))?.scheduled_at
    };
    let skipped = eventually("a fire is skipped", SOON, skipped).await;
    let said = admin.explain(&job, skipped).await.expect("an answer");
    assert_eq!(said.outcome, "overlap_skipped");
    assert!(said.reason.contains("still alive") && said.run.is_some(), "{said:?}");
    assert_eq!((said.before, said.after), (skipped.as_ms() - 1000, skipped.as_ms() + 1000));

    // The next ones are counted, and recorded together at the latest when the job is paused.
    let later = Instant::from_ms(skipped.as_ms() + 2_000);
    let counted = async || {
        let said = admin.explain(&job, later).await.expect("an answer");
        (said.outcome == "overlap_skipped").then_some(said.reason)
    };
    let reason = eventually("a later one is skipped", SOON, counted).await;
    assert!(reason.contains("still alive"), "{reason}");
    let outcome = async |ms: i64| admin.explain(&job, Instant::from_ms(ms)).await.expect("an answer").outcome;
    let now_ms = now().as_ms();
    assert_eq!(outcome(now_ms / 1000 * 1000 + 3_600_000).await, "planned");
    assert_eq!(outcome(now_ms / 1000 * 1000 + 3_600_001).await, "not_a_fire");
    assert_eq!(outcome(now_ms - 86_400_000).await, "schedule_changed");
    admin.disable(&job).await.expect("paused");
    assert_eq!(outcome(now_ms / 1000 * 1000 + 3_600_000).await, "paused");
    let recorded = async || {
        let said = admin.explain(&job, later).await.expect("an answer");
        said.run.is_some().then_some(said)
    };
    let said = eventually("it is recorded", SOON, recorded).await;
    assert_eq!(said.outcome, "overlap_skipped", "{said:?}");
    // Nobody takes it.
    let rules = json!({"cron": "* * * * * *", "target": "nowhere"});
    let lonely = stage.job(sleeping(0, rules)).await;
    let waits = eventually("a run waits", SOON, async || {
        admin.list_pending(&stage.group).await.ok()?.into_iter().find(|run| run.job_id == lonely)
    });
    let at = waits.await.id.parse::<forest_proto::RunId>().expect("an id").at();
    assert_eq!(admin.explain(&lonely, at).await.expect("an answer").outcome, "no_client");
    admin.disable(&lonely).await.expect("paused");
    assert!(admin.explain("99", skipped).await.is_err());
}
