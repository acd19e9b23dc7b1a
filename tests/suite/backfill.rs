//! Backfills across processes: from the command line to the history, and over the death of a leader.

use std::collections::BTreeSet;

use forest_proto::time::Instant;
use forest_tests::cluster::Cluster;
use forest_tests::history::HistoryRow;
use forest_tests::wait::eventually;
use serde_json::json;

use crate::cli::Cli;
use crate::stage::{SOON, Stage};

/// 2026-01-01T00:00:00Z, long before any of the jobs here.
const NEW_YEAR: i64 = 1_767_225_600_000;
const MINUTE: i64 = 60_000;

fn times(rows: &[HistoryRow]) -> Vec<i64> {
    rows.iter().filter_map(|row| row.scheduled_at).map(Instant::as_ms).collect()
}

fn minutes(count: i64) -> Vec<i64> {
    (0..count).map(|minute| NEW_YEAR + minute * MINUTE).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fires_of_a_range_are_run_from_the_command_line() {
    let Some(stage) = Stage::set(Cluster::builder()).await else { return };
    let _worker = stage.worker("w", &[]).await;
    let cli = Cli::of(&stage);
    let job = stage.job(json!({"cron": "0 * * * * *", "overlap": "allow"})).await;
    let start = format!("backfill start {job} --from 2026-01-01T00:00:00Z");

    let plan = cli.json(&format!("{start} --to 2026-01-01T00:10:00Z --dry-run --max 4")).await;
    assert_eq!((&plan["fires"], &plan["beyond_max"]), (&json!(10), &json!(6)), "{plan}");
    assert_eq!(plan["last_at"], "2026-01-01T00:09:00.000Z");
    assert!(
        stage
            .rows(&job)
            .await
            .iter()
            .all(|row| row.scheduled_at > Some(Instant::from_ms(NEW_YEAR + MINUTE * 60)))
    );
    cli.refused(&format!("{start} --to 2026-01-01T00:10:00Z --max 4"), 1, "fires of this range").await;
    cli.refused(&format!("{start} --to 2099-01-01"), 1, "in the future").await;
    cli.refused(&format!("{start} --to 2025-01-01"), 1, "not after").await;
    cli.refused(&format!("backfill cancel {job}"), 3, "backfill").await;

    cli.ok(&format!("{start} --to 2026-01-01T00:10:00Z --params again --wait")).await;
    let done = async || {
        let rows = stage.rows(&job).await;
        rows.into_iter().filter(|row| row.id.contains("-1b")).collect::<Vec<_>>()
    };
    let rows = eventually("they are in the history", SOON, async || {
        Some(done().await).filter(|rows| rows.len() == 10)
    });
    let mut rows = rows.await;
    rows.sort_by_key(|row| row.scheduled_at);
    assert_eq!(times(&rows), minutes(10));
    assert!(rows.iter().all(|row| row.result.as_deref() == Some("again")), "{rows:?}");
    let empty = cli.json("backfill list").await;
    assert_eq!(empty["backfills"], json!([]));

    let manual = stage.job(json!({"cron": "", "trigger": {"kind": "manual"}})).await;
    let line = format!("backfill start {manual} --from 2h --to 1h");
    cli.refused(&line, 1, "only cron and fixed_rate").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_goes_on_in_order_when_the_leader_dies() {
    let Some(stage) = Stage::set(Cluster::builder().nodes(2)).await else { return };
    let _worker = stage.worker("w", &[]).await;
    let sleeping = json!({"sleep_ms": 150}).to_string();
    let job = json!({"cron": "0 * * * * *", "target": "sleep", "params": sleeping, "overlap": "queue_all"});
    let job = stage.job(job).await;
    let cli = Cli::of(&stage);
    let start = format!("backfill start {job} --from 2026-01-01T00:00:00Z --to 2026-01-01T00:30:00Z");
    cli.ok(&start).await;
    cli.refused(&start, 1, "has a backfill already").await;
    let ours = async || {
        let rows = stage.rows(&job).await;
        let mut rows: Vec<_> = rows.into_iter().filter(|row| row.id.contains("-1b")).collect();
        rows.sort_by_key(|row| row.started_at);
        rows
    };
    eventually("some have run", SOON, async || ours().await.len() >= 5).await;
    stage.cluster.kill_leader().await;
    eventually("all have run", 2 * SOON, async || ours().await.len() == 30).await;
    let rows = ours().await;
    assert_eq!(times(&rows), minutes(30), "each once, in order");
    let overlaps = rows.windows(2).any(|pair| pair[0].finished_at > pair[1].started_at);
    assert!(!overlaps, "{rows:?}");
    let terms: BTreeSet<_> = rows.iter().map(|row| row.term).collect();
    assert!(
        terms.len() == 2 && rows.iter().all(|row| row.outcome.as_deref() == Some("succeeded")),
        "{rows:?}"
    );
}
