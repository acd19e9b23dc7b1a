//! Broadcasts on a real cluster: one run for each worker, and one end of all of them.

use std::collections::BTreeSet;

use forest_tests::cluster::Cluster;
use forest_tests::wait::eventually;
use serde_json::{Value, json};

use crate::stage::{SOON, Stage};

fn broadcast(params: Value, rules: Value) -> Value {
    let mut fields = json!({
        "cron": "", "trigger": {"kind": "manual"}, "target": "shard", "routing": "broadcast",
        "shard_params": "0=Beijing,1=Shanghai", "params": params.to_string(),
    });
    if let (Value::Object(fields), Value::Object(rules)) = (&mut fields, rules) {
        fields.extend(rules);
    }
    fields
}

#[tokio::test(flavor = "multi_thread")]
async fn each_worker_gets_its_shard_and_a_failed_one_is_tried_again_though_the_leader_dies() {
    let Some(stage) = Stage::set(Cluster::builder().nodes(2)).await else { return };
    let admin = stage.cluster.admin();
    let _workers =
        [stage.worker("w0", &[]).await, stage.worker("w1", &[]).await, stage.worker("w2", &[]).await];
    let rules = json!({"max_attempts": 2, "retry_delays_ms": [500]});
    let job = stage.job(broadcast(json!({"sleep_ms": 1500, "succeed_at": 2}), rules)).await;
    let stored: Value =
        serde_json::from_str(&admin.get_job(&job).await.expect("it is there").document).expect("JSON");
    assert_eq!(stored["shard_params"], json!({"0": "Beijing", "1": "Shanghai"}), "text is read once");

    let run = stage.run(&job).await;
    let running = async || {
        let shards = admin.get_run(&run).await.map_err(|e| e.to_string())?.shards;
        if shards.len() == 3 && shards.iter().all(|shard| shard.state == "running") {
            Ok(())
        } else {
            Err(format!("{shards:?}"))
        }
    };
    eventually("all shards are running", SOON, running).await;
    stage.cluster.kill_leader().await;
    let whole = stage.ended_within(&run, 2 * SOON).await;
    assert_eq!(whole.outcome.as_deref(), Some("succeeded"), "{whole:?}");
    assert_eq!(whole.result.as_deref(), Some("3 of 3 shards succeeded"));
    stage.quiet(SOON).await;

    let shown = admin.get_run(&run).await.expect("it is kept");
    let told: Vec<_> = shown.shards.iter().map(|shard| (shard.attempt, shard.result.as_str())).collect();
    assert_eq!(told, [(1, "0 of 3: Beijing"), (2, "1 of 3: Shanghai"), (1, "2 of 3: ")]);
    let clients: BTreeSet<_> = shown.shards.iter().map(|shard| shard.client.clone()).collect();
    assert_eq!(clients.len(), 3, "{clients:?}");
    let parents = shown.shards.iter().map(|shard| shard.shard.as_ref().map(|shard| shard.parent.clone()));
    assert!(parents.into_iter().all(|parent| parent.as_ref() == Some(&run)));
    assert_eq!(stage.rows(&job).await.len(), 5, "the whole, three shards and one more attempt");
    let played = stage.played();
    assert!(played.len() == 4 && played.values().all(|played| played.started == 1), "{played:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_broadcast_stops_every_worker() {
    let Some(stage) = Stage::set(Cluster::builder()).await else { return };
    let admin = stage.cluster.admin();
    let _workers = [stage.worker("w0", &[]).await, stage.worker("w1", &[]).await];
    let job = stage.job(broadcast(json!({"sleep_ms": 60_000}), json!({}))).await;
    let run = stage.run(&job).await;
    let started = async || stage.played().len() == 2;
    eventually("both shards are running", SOON, started).await;
    admin.cancel_run(&run).await.expect("asked to stop");
    let whole = stage.ended(&run).await;
    assert_eq!(whole.outcome.as_deref(), Some("cancelled"));
    let expected = "0 of 2 shards succeeded; cancelled: 0, 1; cancelled on request";
    assert_eq!(whole.result.as_deref(), Some(expected));
    stage.quiet(SOON).await;
}
