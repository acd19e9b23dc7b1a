//! Whole clusters while the network, etcd or the history database fail them.
//!
//! Most tests watch a job that fires every second through a fault, and then ask for the same: each second has
//! exactly one run, which was started once. Faults that hurt etcd itself have an etcd of their own.

mod start;

use std::collections::BTreeSet;
use std::time::Duration;

use forest_proto::record::{Job, decode};
use forest_proto::{JobId, Keyspace, SegmentCount};
use forest_tests::cluster::{Cluster, ClusterBuilder};
use forest_tests::process::WorkerProcess;
use forest_tests::proxy::{Protocol, Proxy};
use forest_tests::services::EtcdOptions;
use forest_tests::wait::eventually;
use serde_json::json;

use crate::leader::assert_every_second_once;
use crate::stage::{SOON, Stage, fire_of, now, seconds};

/// A cluster whose job fires every second, with a worker past all proxies.
struct Ticking {
    stage: Stage,
    job: String,
    _worker: WorkerProcess,
}

impl Ticking {
    async fn start(builder: ClusterBuilder) -> Option<Self> {
        let stage = Stage::set(builder).await?;
        let worker = stage.worker("worker", &[]).await;
        let job = stage.job(json!({"cron": "* * * * * *", "misfire_threshold_ms": 60_000})).await;
        let ticking = Self { stage, job, _worker: worker };
        ticking.fires().await;
        Some(ticking)
    }

    /// Waits for the row of a fire that is later than this call.
    async fn fires(&self) {
        let mark = now();
        eventually("a later fire is in the history", SOON, async || {
            let last = self.stage.rows(&self.job).await.last().map(|row| fire_of(&row.id));
            last.filter(|at| *at > mark).ok_or(format!("last {last:?}, wanted later than {mark}"))
        })
        .await;
    }

    /// Waits until another node than this one leads.
    async fn another_leads(&self, than: &str) {
        eventually("another node leads", SOON, async || {
            let leader = self.stage.cluster.leader().await.server.name();
            if leader == than { Err(format!("{leader} leads")) } else { Ok(()) }
        })
        .await;
    }

    /// Every second until now has one run, which was started once.
    async fn assert_nothing_lost_or_doubled(&self) {
        let until = now();
        // Rows of one fault may come in another order than their fires.
        eventually("the history has no holes", Duration::from_secs(40), async || {
            let rows = self.stage.rows(&self.job).await;
            let fires: Vec<_> = rows.iter().map(|row| fire_of(&row.id)).filter(|at| *at <= until).collect();
            let missing: Vec<_> =
                seconds(fires[0], until).into_iter().filter(|at| !fires.contains(at)).collect();
            if missing.is_empty() { Ok(()) } else { Err(format!("missing: {missing:?}")) }
        })
        .await;
        assert_every_second_once(&self.stage, &self.job, until).await;
    }

    async fn assert_terms_sorted(&self) {
        let rows = self.stage.rows(&self.job).await;
        let terms: Vec<_> = rows.iter().filter_map(|row| row.term).collect();
        assert!(terms.is_sorted(), "a run of an older term came after one of a newer: {terms:?}");
        assert!(terms.first() < terms.last(), "nobody took over: {terms:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispatch_whose_reply_is_lost_is_neither_repeated_nor_forgotten() {
    let Some(ticking) = Ticking::start(Cluster::builder().proxied()).await else { return };
    let keys = Keyspace::new(ticking.stage.cluster.key_root()).expect("a valid root");
    let segment = SegmentCount::DEFAULT.segment_of(&JobId::new(&ticking.job).expect("a valid id"));
    let cursor = keys.cursor(segment);
    for _ in 0..5 {
        let etcd = &ticking.stage.cluster.leader().await.network().etcd;
        etcd.lose_reply_to(&cursor).happened(SOON).await;
        ticking.fires().await;
    }
    let log = ticking.stage.cluster.nodes()[0].server.output();
    assert_eq!(log.matches("the answer to a dispatch was lost").count(), 5, "what was lost were dispatches");
    ticking.assert_nothing_lost_or_doubled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_loses_replies_starts_each_run_once_and_records_its_result() {
    const RUNS: usize = 4;
    let Some(stage) = Stage::set(Cluster::builder()).await else { return };
    let proxy = Proxy::start(stage.cluster.etcd().address(), Protocol::Http2).await;
    let mut arguments = stage.worker_arguments("worker", &[]);
    arguments[1] = proxy.endpoint();
    let _worker = WorkerProcess::start("worker", arguments).expect("the worker starts");
    let client = stage.client_named("worker").await;
    let job = stage.job(json!({"target": "sleep", "params": r#"{"sleep_ms":1500}"#})).await;
    let executions = format!("{}/client/execute/snapshot/{}/", stage.cluster.key_root(), stage.group);
    for _ in 0..RUNS {
        let mut claim = proxy.lose_reply_to(&executions);
        let run = stage.run(&job).await;
        claim.happened(SOON).await;
        eventually("the run starts", SOON, async || stage.played().contains_key(&run)).await;
        // That of this run: the completion of the one before may just be sent again.
        let mut completion = proxy.lose_reply_to(format!("{executions}{client}/{run}"));
        completion.happened(SOON).await;
        assert_eq!(stage.played()[&run].ended, 1, "what was lost was the reply to a completion");
        let row = stage.ended(&run).await;
        assert_eq!(row.outcome.as_deref(), Some("succeeded"), "{row:?}");
        assert_eq!(row.result.as_deref(), Some(r#"{"sleep_ms":1500}"#), "{row:?}");
    }
    stage.assert_played_once(RUNS);
    assert_eq!(stage.rows(&job).await.len(), RUNS);
}

/// For ten seconds, all that the leader asks of etcd arrives four seconds later.
async fn requests_are_late(builder: ClusterBuilder) -> Option<Ticking> {
    let ticking = Ticking::start(builder.proxied()).await?;
    let etcd = &ticking.stage.cluster.leader().await.network().etcd;
    etcd.delay_requests(Duration::from_secs(4)).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    etcd.pass().await;
    ticking.fires().await;
    ticking.assert_nothing_lost_or_doubled().await;
    Some(ticking)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_requests_arrive_after_its_lease_doubles_and_loses_nothing() {
    let builder = Cluster::builder().nodes(2).lease_ttl(Duration::from_secs(2));
    let Some(ticking) = requests_are_late(builder).await else { return };
    ticking.assert_terms_sorted().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_requests_arrive_late_within_its_lease_doubles_and_loses_nothing() {
    let builder = Cluster::builder().lease_ttl(Duration::from_secs(15));
    let builder = builder.configure(|options| options.misfire_threshold = Some(Duration::from_secs(20)));
    let Some(ticking) = requests_are_late(builder).await else { return };
    let rows = ticking.stage.rows(&ticking.job).await;
    let terms: BTreeSet<_> = rows.iter().map(|row| row.term).collect();
    assert_eq!(terms.len(), 1, "a lease that is renewed in time is kept: {terms:?}");
}

/// Which way the leader loses etcd.
enum Lost {
    Cut,
    BlackHole,
}

async fn the_leader_loses_etcd(lost: Lost) {
    let builder = Cluster::builder().nodes(2).proxied().lease_ttl(Duration::from_secs(2));
    let Some(ticking) = Ticking::start(builder).await else { return };
    for _ in 0..2 {
        let node = ticking.stage.cluster.leader().await;
        match lost {
            Lost::Cut => node.network().etcd.cut().await,
            Lost::BlackHole => node.network().etcd.black_hole().await,
        }
        ticking.another_leads(node.server.name()).await;
        ticking.fires().await;
        assert!(node.server.is_running(), "a node outlives the loss of etcd");
        node.network().etcd.pass().await;
        ticking.fires().await;
    }
    ticking.assert_nothing_lost_or_doubled().await;
    ticking.assert_terms_sorted().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_is_replaced_and_comes_back_harmless() {
    the_leader_loses_etcd(Lost::Cut).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_packets_vanish_is_replaced_and_comes_back_harmless() {
    the_leader_loses_etcd(Lost::BlackHole).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_missed_a_compaction_knows_all_jobs_and_can_lead() {
    let builder = Cluster::builder().nodes(2).proxied().private_etcd(EtcdOptions::default());
    let Some(ticking) = Ticking::start(builder).await else { return };
    let stage = &ticking.stage;
    let deleted = stage.job(json!({"cron": "* * * * * *"})).await;
    let edited = stage.job(json!({})).await;
    let (leader, follower) = (stage.cluster.leader().await, stage.cluster.followers().await[0]);
    let (here, there) = (leader.server.admin(), follower.server.admin());
    let jobs = async |admin: &forest_tests::admin::Admin| {
        let jobs = admin.list_jobs(&stage.group).await.map_err(|e| e.to_string())?;
        // Without the next fire, which moves on between two looks.
        let mut jobs: Vec<_> = jobs.into_iter().map(|job| (job.document, job.revision)).collect();
        jobs.sort();
        Ok::<_, String>(jobs)
    };
    eventually("the follower knows three jobs", SOON, async || {
        jobs(&there).await.is_ok_and(|j| j.len() == 3)
    })
    .await;

    follower.network().etcd.cut().await;
    let document = json!({
        "name": "added", "group": stage.group, "target": "echo", "cron": "* * * * * *", "overlap": "allow",
    });
    let added = here.add_job(&document).await.expect("a job can be added");
    here.edit_job(&edited, &json!({"cron": "* * * * * *"})).await.expect("a job can be edited");
    here.delete_job(&deleted).await.expect("a job can be deleted");
    let gateway = stage.cluster.etcd().gateway().await;
    gateway.compact(gateway.revision().await.expect("a revision")).await.expect("etcd compacts");
    follower.network().etcd.pass().await;

    let wanted = jobs(&here).await.expect("the leader lists its jobs");
    assert_eq!(wanted.len(), 3);
    eventually("the follower lists the same jobs", SOON, async || {
        let seen = jobs(&there).await?;
        if seen == wanted { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
    let log = follower.server.output();
    assert!(log.contains("the changes since then are compacted"), "the follower had to list anew");

    leader.server.kill9();
    ticking.another_leads(leader.server.name()).await;
    let mark = now();
    for job in [&added, &edited] {
        eventually("the new leader fires what it missed", SOON, async || {
            stage.rows(job).await.last().is_some_and(|row| fire_of(&row.id) > mark)
        })
        .await;
    }
    ticking.assert_nothing_lost_or_doubled().await;
    let after = stage.rows(&deleted).await.into_iter().find(|row| fire_of(&row.id) > mark);
    assert_eq!(after, None, "a deleted job fired");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_reset_every_second_lose_and_double_nothing() {
    let Some(ticking) = Ticking::start(Cluster::builder().nodes(2).proxied()).await else { return };
    let nodes = ticking.stage.cluster.nodes();
    let before = nodes[0].network().etcd.connections();
    for node in nodes {
        node.network().etcd.reset_every(Duration::from_secs(1)).await;
    }
    tokio::time::sleep(Duration::from_secs(12)).await;
    for node in nodes {
        node.network().etcd.pass().await;
    }
    let reset = nodes[0].network().etcd.connections() - before;
    assert!(reset >= 8, "only {reset} connections were made anew");
    ticking.fires().await;
    ticking.assert_nothing_lost_or_doubled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_addition_that_arrives_once_more_brings_no_deleted_job_back() {
    let builder = Cluster::builder().nodes(2).proxied().lease_ttl(Duration::from_secs(8));
    let Some(stage) = Stage::set(builder).await else { return };
    let [slow, quick] = stage.cluster.nodes() else { panic!("two nodes") };
    let job = |name: &str| json!({ "name": name, "group": stage.group, "target": "echo", "cron": "@yearly" });
    let (late, direct) = (slow.server.admin(), quick.server.admin());
    late.add_job(&job("first")).await.expect("all is well");
    // Longer than a node waits for etcd, so that it sends again what will arrive.
    slow.network().etcd.delay_requests(Duration::from_millis(3_300)).await;
    let document = job("late");
    let jobs = async || {
        let jobs = direct.list_jobs(&stage.group).await.expect("a list");
        let read =
            |job: &forest_proto::admin::v1::Job| decode::<Job>(job.document.as_bytes()).expect("a job");
        jobs.iter().map(read).collect::<Vec<_>>()
    };
    let delete = async {
        let added = async || jobs().await.into_iter().find(|job| job.name == "late");
        let added = eventually("the job is there", SOON, added).await;
        direct.delete_job(added.id.as_str()).await.expect("deleted");
    };
    let (added, ()) = tokio::join!(late.add_job(&document), delete);
    assert!(added.is_err(), "its answers were late: {added:?}");
    tokio::time::sleep(Duration::from_millis(3_500)).await;
    let names: Vec<_> = jobs().await.into_iter().map(|job| job.name).collect();
    assert_eq!(names, ["first"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_that_stands_still_for_a_while_loses_and_doubles_nothing() {
    let builder = Cluster::builder().nodes(2).private_etcd(EtcdOptions::default());
    let Some(ticking) = Ticking::start(builder).await else { return };
    let etcd = ticking.stage.cluster.etcd();
    etcd.stop().await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    etcd.cont().await;
    ticking.fires().await;
    ticking.assert_nothing_lost_or_doubled().await;
}
