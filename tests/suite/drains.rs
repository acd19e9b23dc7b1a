//! Clients that somebody drains, with real workers: nothing new, under any leader, until the process is another one.

use std::time::Duration;

use forest_tests::cluster::Cluster;
use forest_tests::wait::eventually;
use serde_json::json;
use tonic::Code;

use crate::stage::{SOON, Stage};

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_client_gets_nothing_until_it_is_undrained_or_starts_anew() {
    let builder = Cluster::builder().nodes(2).lease_ttl(Duration::from_secs(2));
    let Some(stage) = Stage::set(builder).await else { return };
    let admin = stage.cluster.admin();
    let worker = stage.worker("worker", &["--capacity", "4"]).await;
    let client = stage.client_named("worker").await;
    let long = stage.job(json!({"target": "sleep", "params": json!({"sleep_ms": 4_000}).to_string()})).await;
    let job = stage.job(json!({})).await;
    let running = stage.run(&long).await;
    stage.until(&running, "running").await;

    let drained = admin.drain_client(&stage.group, &client).await.expect("drained");
    assert!(drained.drained && drained.drained_at > 0 && drained.running == 1, "{drained:?}");
    admin.drain_client(&stage.group, &client).await.expect("again is fine");
    let waiting = stage.run(&job).await;
    stage.until(&waiting, "pending").await;
    assert_eq!(stage.ended(&running).await.outcome.as_deref(), Some("succeeded"));

    // The next leader knows it too.
    stage.cluster.kill_leader().await;
    stage.cluster.leader().await;
    let second = stage.run(&job).await;
    stage.until(&second, "pending").await;
    assert_eq!(admin.get_run(&waiting).await.expect("there").state, "pending");
    let undrained = admin.undrain_client(&stage.group, &client).await.expect("undrained");
    assert!(!undrained.drained, "{undrained:?}");
    for run in [&waiting, &second] {
        assert_eq!(stage.ended(run).await.outcome.as_deref(), Some("succeeded"));
    }

    // With the process it ends.
    admin.drain_client(&stage.group, &client).await.expect("drained");
    worker.kill9();
    eventually("its registration is gone", SOON, async || stage.clients().await == 0).await;
    let gateway = stage.cluster.etcd().gateway().await;
    let drains = format!("{}/server/drain/", stage.cluster.key_root());
    eventually("nothing is left of it", SOON, async || gateway.count(&drains).await.is_ok_and(|n| n == 0))
        .await;
    let _worker = stage.worker("worker", &[]).await;
    let third = stage.run(&job).await;
    assert_eq!(stage.ended(&third).await.outcome.as_deref(), Some("succeeded"));
    let gone = admin.drain_client(&stage.group, &client).await.expect_err("it is another one");
    assert_eq!(gone.code(), Code::NotFound, "{gone:?}");
}
