//! Statistics of real runs, as the API tells them.

use forest_proto::admin::v1::GetStatisticsRequest;
use forest_tests::cluster::Cluster;
use serde_json::json;

use crate::stage::{SOON, Stage};

#[tokio::test(flavor = "multi_thread")]
async fn each_run_is_counted_under_its_job_and_its_end() {
    let Some(stage) = Stage::set(Cluster::builder()).await else { return };
    let _worker = stage.worker("worker", &[]).await;
    let admin = stage.cluster.admin();
    let good = stage.job(json!({"name": "good"})).await;
    let sleepy = json!({"target": "sleep", "params": json!({"sleep_ms": 1_100}).to_string()});
    let slow = stage.job(sleepy).await;
    let bad = stage.job(json!({"target": "fail", "max_attempts": 2, "retry_delays_ms": [100]})).await;
    let mut runs = vec![stage.run(&slow).await, stage.run(&bad).await];
    for _ in 0..3 {
        runs.push(stage.run(&good).await);
    }
    for run in &runs {
        stage.ended(run).await;
    }
    stage.quiet(SOON).await;

    let by = |by: &str, job_id: &str| {
        let request = GetStatisticsRequest { by: by.into(), job_id: job_id.into(), ..Default::default() };
        admin.statistics(request)
    };
    let jobs = by("job", "").await.expect("counted");
    let of = |job: &str| jobs.iter().find(|of| of.job_id == job).expect("it ran").clone();
    assert_eq!((of(&good).runs, of(&good).succeeded, of(&good).job_name.as_str()), (3, 3, "good"));
    assert_eq!((of(&bad).runs, of(&bad).failed), (2, 2), "each attempt is a run");
    let took = of(&slow).duration.expect("it began");
    assert!(took.max_ms >= 1_100 && took.sum_ms == took.max_ms, "{took:?}");
    assert_eq!(took.parts.iter().sum::<u64>(), 1);
    assert_eq!(took.parts[..2], [0, 0], "longer than a second");
    let group = by("group", "").await.expect("counted");
    assert_eq!((group.len(), group[0].group.as_str(), group[0].runs), (1, stage.group.as_str(), 6));
    let hours = by("hour", &good).await.expect("counted");
    assert_eq!(hours.iter().map(|hour| hour.succeeded).sum::<u64>(), 3);
    let rows = stage.cluster.history().outcomes().await.expect("read");
    assert_eq!(stage.cluster.history().counted().await.expect("read"), rows);
}
