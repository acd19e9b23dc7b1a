//! Runs that are run again, and what became of all attempts of one: with real workers and the command line.

use forest_tests::cluster::Cluster;
use serde_json::json;

use crate::cli::Cli;
use crate::stage::{SOON, Stage};

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_run_is_run_again_once_for_the_same_time_with_the_same_parameters() {
    let Some(stage) = Stage::set(Cluster::builder()).await else { return };
    let _worker = stage.worker("worker", &[]).await;
    let cli = Cli::of(&stage);
    let params = json!({"sleep_ms": 0, "succeed_at": 9}).to_string();
    let job = stage.job(json!({"target": "fail", "max_attempts": 2, "retry_delays_ms": [100]})).await;
    let admin = stage.cluster.admin();
    let failed = admin.run_job(&job, Some(&params), None).await.expect("asked");
    stage.quiet(SOON).await;
    let before = admin.get_run(&failed).await.expect("there");

    let again = cli.json(&format!("run retry {failed}")).await["run_id"].as_str().expect("an id").to_owned();
    let same = cli.json(&format!("run retry {failed}")).await;
    assert_eq!(same["run_id"], again.as_str(), "asked for twice, it is one");
    stage.ended(&again).await;
    stage.quiet(SOON).await;
    let run = admin.get_run(&again).await.expect("there");
    assert_eq!((run.cause.as_str(), run.params.as_str()), (failed.as_str(), params.as_str()), "{run:?}");
    assert_eq!((run.scheduled_at, run.origin.as_str()), (before.scheduled_at, "manual"));
    assert_eq!(stage.rows(&job).await.len(), 4, "two attempts each");
    let other = cli.json(&format!("run retry {failed} --key other")).await;
    assert_ne!(other["run_id"], again.as_str());
    stage.quiet(SOON).await;

    let log = cli.json(&format!("run logs {failed}")).await;
    let events: Vec<_> = log["events"].as_array().expect("events").iter().collect();
    let told: Vec<_> =
        events.iter().map(|event| (event["attempt"].clone(), event["event"].clone())).collect();
    let told: Vec<_> = told
        .iter()
        .map(|(attempt, event)| format!("{attempt} {}", event.as_str().unwrap_or_default()))
        .collect();
    let expected = ["1 created", "1 started", "1 ended", "2 created", "2 started", "2 ended"];
    assert_eq!(told, expected, "{log}");
    assert!(events[2]["text"].as_str().is_some_and(|text| text.starts_with("failed after")), "{log}");
    assert_eq!(log["ended"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_alive_is_not_run_again_and_its_log_is_followed_to_the_end() {
    let Some(stage) = Stage::set(Cluster::builder()).await else { return };
    let _worker = stage.worker("worker", &[]).await;
    let cli = Cli::of(&stage);
    let job = stage.job(json!({"target": "pages"})).await;
    let params = json!({"sleep_ms": 2_500}).to_string();
    let run = stage.cluster.admin().run_job(&job, Some(&params), None).await.expect("asked");
    stage.until(&run, "running").await;
    cli.refused(&format!("run retry {run}"), 1, "RUN_ALIVE").await;
    let told = cli.ok(&format!("run logs {run} --follow --time utc")).await;
    for part in [
        " created: manual",
        " started: on ",
        " progress: 40 % page 4",
        "checkpoint: page 4",
        " ended: succeeded after 2.",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    cli.refused("run retry 20270101000000000-1-1", 3, "run").await;
}
