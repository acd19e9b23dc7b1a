//! What a node tells Prometheus about calls, runs and what it stands on.

use forest_tests::cluster::Cluster;
use forest_tests::wait::eventually;
use serde_json::json;

use crate::stage::{SOON, Stage};

/// The values of the series whose name and labels all of these are part of.
fn values(text: &str, parts: &[&str]) -> Vec<f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let meant = lines.filter(|line| parts.iter().all(|part| line.contains(part)));
    meant.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect()
}

#[tokio::test]
async fn calls_are_counted_by_their_form_and_runs_by_their_times() {
    let Some(stage) = Stage::set(Cluster::builder()).await else { return };
    let _worker = stage.worker("worker", &[]).await;
    let job = stage.job(json!({"cron": "@every 1s"})).await;
    let deserted = stage.job(json!({"target": "nobody-serves-it"})).await;
    stage.run(&deserted).await;
    let address = stage.cluster.nodes()[0].server.address();
    let http = reqwest::Client::new();
    let get = async |path: &str| http.get(format!("http://{address}{path}")).send().await.expect("an answer");
    get(&format!("/api/v1/jobs/{job}")).await;
    get("/api/v1/nothing-of-that-name").await;
    let strange = reqwest::Method::from_bytes(b"CONJURE").expect("a method");
    http.request(strange, format!("http://{address}/api/v1/jobs")).send().await.expect("an answer");

    let text = eventually("runs of the clock are told", SOON, async || {
        let text = get("/metrics").await.text().await.unwrap_or_default();
        let started = values(&text, &["forest_start_delay_seconds_count"]);
        if started.first().is_some_and(|count| *count >= 2.0) {
            Ok(text)
        } else {
            Err(format!("{started:?}"))
        }
    })
    .await;
    let one = |parts: &[&str]| match values(&text, parts).as_slice() {
        [value] => *value,
        other => panic!("{parts:?}: {other:?}\n{text}"),
    };
    let calls = "forest_requests_total";
    assert_eq!(one(&[calls, "call=\"GET /api/v1/jobs/{id}\"", "face=\"http\"", "status=\"200\""]), 1.0);
    assert!(one(&[calls, "call=\"AddJob\"", "face=\"grpc\"", "status=\"0\""]) >= 2.0);
    assert!(!text.contains("nothing-of-that-name") && !text.contains("CONJURE"), "nobody makes up labels");
    assert!(!values(&text, &[calls, "call=\"other\""]).is_empty());
    assert!(one(&["forest_request_seconds_count", "call=\"AddJob\""]) >= 2.0);
    assert!(one(&["forest_run_seconds_count", "outcome=\"succeeded\""]) >= 2.0);
    assert_eq!(one(&["forest_history_available"]), 1.0);
    assert!(one(&["forest_watch_age_seconds"]) < 60.0);
    assert_eq!(one(&["forest_groups_without_client"]), 0.0, "it has one, though not for every target");
    assert_eq!(one(&["forest_is_leader"]), 1.0);
}
