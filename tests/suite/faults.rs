//! Networks that lose answers, come late, break, or are not there.

use std::time::Duration;

use forest_tests::cluster::Cluster;
use forest_tests::process::{ServerOptions, ServerProcess, WorkerProcess};
use forest_tests::proxy::{Protocol, Proxy};
use forest_tests::services::{Etcd, EtcdOptions, available, shared_mariadb};
use forest_tests::wait::eventually;
use serde_json::json;

use crate::leader::assert_every_second_once;
use crate::stage::{SOON, Stage, now};

const TTL: Duration = Duration::from_secs(3);

async fn every_second(stage: &Stage) -> String {
    let job = stage.job(json!({"cron": "* * * * * *", "misfire_threshold_ms": 60_000})).await;
    eventually("the first run", SOON, async || !stage.rows(&job).await.is_empty()).await;
    job
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispatch_whose_answer_is_lost_is_neither_lost_nor_repeated() {
    let Some(stage) = Stage::set(Cluster::builder().proxied().lease_ttl(TTL)).await else { return };
    let _worker = stage.worker("worker", &[]).await;
    let job = every_second(&stage).await;
    for _ in 0..5 {
        let network = stage.cluster.leader().await.network();
        network.etcd.lose_reply_to("/server/cursor/").happened(SOON).await;
        let mark = stage.rows(&job).await.len();
        eventually("it goes on", SOON, async || stage.rows(&job).await.len() > mark).await;
    }
    assert_every_second_once(&stage, &job, now()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_and_completions_whose_answers_are_lost_are_neither_lost_nor_repeated() {
    let Some(stage) = Stage::set(Cluster::builder()).await else { return };
    let proxy = Proxy::start(stage.cluster.etcd().address(), Protocol::Http2).await;
    let mut arguments = stage.worker_arguments("worker", &[]);
    let endpoint = arguments.iter().position(|argument| argument == "--etcd").expect("given") + 1;
    arguments[endpoint] = proxy.endpoint();
    let _worker = WorkerProcess::start("worker", arguments).expect("the worker starts");
    eventually("the worker registers", SOON, async || stage.clients().await == 1).await;
    let job = every_second(&stage).await;
    for _ in 0..4 {
        // A claim and a completion both put it; which of them comes next is left to chance.
        proxy.lose_reply_to("/client/execute/snapshot/").happened(SOON).await;
        let mark = stage.rows(&job).await.len();
        eventually("it goes on", SOON, async || stage.rows(&job).await.len() > mark).await;
    }
    assert_every_second_once(&stage, &job, now()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_that_arrive_seconds_late_change_nothing() {
    let builder = Cluster::builder().proxied().lease_ttl(Duration::from_secs(8));
    let Some(stage) = Stage::set(builder).await else { return };
    let _worker = stage.worker("worker", &[]).await;
    let job = every_second(&stage).await;
    let etcd = &stage.cluster.leader().await.network().etcd;
    // Longer than the deadline of a call: the leader has given each up, and it is applied all the same.
    etcd.delay_requests(Duration::from_secs(4)).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    etcd.pass().await;
    assert_every_second_once(&stage, &job, now()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_gives_way_and_does_no_harm_when_it_is_back() {
    let Some(stage) = Stage::set(Cluster::builder().nodes(2).proxied().lease_ttl(TTL)).await else { return };
    let _worker = stage.worker("worker", &[]).await;
    let job = every_second(&stage).await;
    for black_hole in [false, true] {
        let cut_off = stage.cluster.leader().await;
        let etcd = &cut_off.network().etcd;
        if black_hole {
            etcd.black_hole().await
        } else {
            etcd.cut().await
        }
        eventually("another one leads", SOON, async || {
            let mut others =
                stage.cluster.nodes().iter().filter(|node| node.server.name() != cut_off.server.name());
            let other = others.next().expect("two nodes").server.admin();
            let leader = other.cluster().await.map(|cluster| cluster.leader).unwrap_or_default();
            !leader.is_empty() && !leader.starts_with(cut_off.server.name())
        })
        .await;
        etcd.pass().await;
        let mark = stage.rows(&job).await.len();
        eventually("it goes on", SOON, async || stage.rows(&job).await.len() > mark + 2).await;
    }
    assert_every_second_once(&stage, &job, now()).await;
    let terms: Vec<_> = stage.rows(&job).await.iter().filter_map(|row| row.term).collect();
    assert!(terms.is_sorted(), "an older term came after a newer: {terms:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_missed_changes_which_are_compacted_away_lists_again_and_can_lead() {
    let builder = Cluster::builder().nodes(2).proxied().private_etcd(EtcdOptions::default()).lease_ttl(TTL);
    let Some(stage) = Stage::set(builder).await else { return };
    let _worker = stage.worker("worker", &[]).await;
    let gone = stage.job(json!({"name": "gone"})).await;
    let follower = stage.cluster.followers().await.remove(0);
    follower.network().etcd.cut().await;
    // What it does not see: a job that comes, one that goes, and enough else to be compacted.
    let leader = stage.cluster.leader().await;
    leader.server.admin().delete_job(&gone).await.expect("deleted");
    let document = json!({"name": "new", "group": stage.group, "target": "echo", "cron": "* * * * * *",
        "overlap": "allow", "misfire_threshold_ms": 60_000});
    let job = leader.server.admin().add_job(&document).await.expect("added");
    eventually("it fires", SOON, async || stage.rows(&job).await.len() > 2).await;
    let gateway = stage.cluster.etcd().gateway().await;
    gateway.compact(gateway.revision().await.expect("answers")).await.expect("compacted");
    follower.network().etcd.pass().await;
    eventually("it lists what there is", SOON, async || {
        let jobs = follower.server.admin().list_jobs(&stage.group).await.unwrap_or_default();
        jobs.len() == 1 && jobs[0].document.contains("\"new\"")
    })
    .await;
    stage.cluster.kill_leader().await;
    assert_every_second_once(&stage, &job, forest_proto::time::Instant::from_ms(now().as_ms() + 8_000)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_break_every_second_lose_and_double_nothing() {
    let Some(stage) = Stage::set(Cluster::builder().proxied().lease_ttl(TTL)).await else { return };
    let _worker = stage.worker("worker", &[]).await;
    let job = every_second(&stage).await;
    let etcd = &stage.cluster.leader().await.network().etcd;
    etcd.reset_every(Duration::from_secs(1)).await;
    tokio::time::sleep(Duration::from_secs(12)).await;
    etcd.pass().await;
    assert_every_second_once(&stage, &job, now()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_that_stands_still_for_a_while_loses_no_fire() {
    let builder = Cluster::builder().private_etcd(EtcdOptions::default()).lease_ttl(TTL);
    let Some(stage) = Stage::set(builder).await else { return };
    let _worker = stage.worker("worker", &[]).await;
    let job = every_second(&stage).await;
    stage.cluster.etcd().stop().await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    stage.cluster.etcd().cont().await;
    assert_every_second_once(&stage, &job, now()).await;
}

/// Processor time that a process has used, in hundredths of a second.
fn processor_time(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let fields: Vec<_> = stat.rsplit(')').next().expect("a name").split_whitespace().collect();
    fields[11].parse::<u64>().expect("a number") + fields[12].parse::<u64>().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_starts_before_etcd_waits_says_so_and_does_not_spin() {
    let Some(etcd) = available(Etcd::start(EtcdOptions::default()).await) else { return };
    let Some(mariadb) = available(shared_mariadb().await) else { return };
    let database = mariadb.database("forest").await;
    etcd.kill();
    let options = ServerOptions::new(vec![etcd.endpoint()], "/early", &database.url, "early");
    let node = ServerProcess::start(&options).expect("it starts");
    node.wait_for_line("waiting for etcd", SOON).await;
    let pid = node.pid().expect("it runs");
    let before = processor_time(pid);
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(node.is_running());
    assert!(
        processor_time(pid) - before < 200,
        "it spins: {} hundredths in 4 s",
        processor_time(pid) - before
    );
    etcd.restart().await;
    eventually("it leads", SOON, async || node.admin().cluster().await.is_ok_and(|c| !c.leader.is_empty()))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_at_the_start_delays_rows_and_nothing_else() {
    let Some(mariadb) = available(shared_mariadb().await) else { return };
    let Some(etcd) = available(Etcd::start(EtcdOptions::default()).await) else { return };
    let database = mariadb.database("forest").await;
    let proxy = Proxy::start(mariadb.address(), Protocol::Plain).await;
    proxy.cut().await;
    let url = forest_tests::services::mariadb::url(proxy.address(), &database.name);
    let node = ServerProcess::start(&ServerOptions::new(vec![etcd.endpoint()], "/early", &url, "early"));
    let node = node.expect("it starts");
    node.wait_for_line("waiting for the history database", SOON).await;
    eventually("it leads", SOON, async || node.admin().cluster().await.is_ok_and(|c| !c.leader.is_empty()))
        .await;
    node.admin().add_group("g").await.expect("added");
    let folder = tempfile::tempdir().expect("a folder");
    let journal = folder.path().join("journal");
    let endpoint = etcd.endpoint();
    let journal_text = journal.to_string_lossy();
    let arguments = ["--etcd", &endpoint, "--key-root", "/early", "--group", "g", "--journal", &journal_text];
    let arguments = arguments.map(str::to_owned).to_vec();
    let _worker = WorkerProcess::start("worker", arguments).expect("the worker starts");
    let document =
        json!({"name": "j", "group": "g", "target": "echo", "cron": "* * * * * *", "overlap": "allow"});
    let job = node.admin().add_job(&document).await.expect("added");
    eventually("runs are executed", SOON, async || {
        std::fs::read_to_string(&journal).is_ok_and(|text| text.matches("END").count() >= 3)
    })
    .await;
    proxy.pass().await;
    let history = forest_tests::history::History::new(&database.url).expect("a URL");
    eventually("their rows arrive", SOON, async || {
        history.rows(&job).await.is_ok_and(|rows| rows.len() >= 3)
    })
    .await;
}
