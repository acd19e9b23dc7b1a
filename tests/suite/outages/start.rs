//! Nodes that start while a service is away.

use std::time::Duration;

use forest_tests::cluster::Cluster;
use forest_tests::services::EtcdOptions;
use forest_tests::wait::{eventually, holds};
use serde_json::json;

use crate::stage::{SOON, Stage};

/// The kernel counts processor time for other programs in hundredths of a second.
const TICKS_PER_SECOND: u64 = 100;

/// How much processor time a process has used so far.
fn processor_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process lives");
    // The name is in parentheses and may contain anything.
    let (_, fields) = stat.rsplit_once(')').expect("a name");
    // The state comes first; the times in user and kernel mode are the twelfth and thirteenth after the name.
    let ticks = fields.split_whitespace().skip(11).take(2).map(|n| n.parse::<u64>().expect("a number"));
    Duration::from_millis(ticks.sum::<u64>() * 1000 / TICKS_PER_SECOND)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_starts_without_etcd_waits_for_it_quietly() {
    let builder = Cluster::builder().private_etcd(EtcdOptions::default());
    let Some(stage) = Stage::set(builder).await else { return };
    let server = &stage.cluster.nodes()[0].server;
    server.kill9();
    stage.cluster.etcd().kill();
    let written = server.output().len();
    server.restart();
    eventually("the log says what it waits for", SOON, async || {
        let output = server.output()[written..].to_owned();
        if output.contains("waiting for etcd") { Ok(()) } else { Err(output) }
    })
    .await;
    let pid = server.pid().expect("it runs");
    let before = processor_time(pid);
    holds("it stays alive", Duration::from_secs(5), async || server.is_running()).await;
    let used = processor_time(pid).saturating_sub(before);
    assert!(used < Duration::from_secs(2), "{used:?} of processor time to wait for five seconds");

    stage.cluster.etcd().restart().await;
    server.wait_ready().await;
    let _worker = stage.worker("worker", &[]).await;
    let job = stage.job(json!({})).await;
    let row = stage.ended(&stage.run(&job).await).await;
    assert_eq!(row.outcome.as_deref(), Some("succeeded"), "{row:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_starts_without_its_history_schedules_and_reports_later() {
    let Some(stage) = Stage::set(Cluster::builder().proxied()).await else { return };
    let (node, history) = (&stage.cluster.nodes()[0], stage.cluster.history());
    let job = stage.job(json!({"cron": "* * * * * *"})).await;
    node.server.kill9();
    node.network().mariadb.cut().await;
    // As at the very first start: there is nothing to write to even when the database comes back.
    for table in history.texts("SHOW TABLES").await.expect("the tables can be listed") {
        history.execute(&format!("DROP TABLE `{table}`")).await.expect("a table can be dropped");
    }
    node.server.restart();
    node.server.wait_ready().await;
    let _worker = stage.worker("worker", &[]).await;
    let run = stage.run(&job).await;
    eventually("runs are executed without a history", SOON, async || {
        let played = stage.played();
        let ended = played.values().filter(|played| played.ended == 1).count();
        if ended >= 4 && played.contains_key(&run) { Ok(()) } else { Err(format!("{played:?}")) }
    })
    .await;
    let tables = history.texts("SHOW TABLES").await.expect("the tables can be listed");
    assert_eq!(tables, Vec::<String>::new(), "the database is out of reach");

    let executed = stage.played();
    node.network().mariadb.pass().await;
    for run in executed.keys() {
        let row = stage.ended(run).await;
        assert_eq!(row.outcome.as_deref(), Some("succeeded"), "{row:?}");
    }
    let again: Vec<_> = stage.played().into_iter().filter(|(_, played)| played.started != 1).collect();
    assert!(again.is_empty(), "started more than once: {again:?}");
}
