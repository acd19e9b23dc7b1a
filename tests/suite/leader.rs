//! Leaders that die, freeze and come back.

use std::time::Duration;

use forest_proto::time::Instant;
use forest_tests::cluster::Cluster;
use forest_tests::history::HistoryRow;
use forest_tests::wait::eventually;
use serde_json::json;

use crate::stage::{Stage, fire_of, seconds};

/// Every second between the first and the last row has exactly one row, and every run that the journal has
/// was started once.
pub(crate) async fn assert_every_second_once(stage: &Stage, job: &str, until: Instant) {
    eventually("the history reaches the end", Duration::from_secs(40), async || {
        let last = stage.rows(job).await.last().map(|row| fire_of(&row.id));
        last.filter(|at| *at >= until).ok_or(format!("last row {last:?}, wanted {until}"))
    })
    .await;
    let fires: Vec<_> =
        stage.rows(job).await.iter().map(|row| fire_of(&row.id)).filter(|at| *at <= until).collect();
    assert_eq!(fires, seconds(fires[0], until), "each second once");
    for row in stage.rows(job).await.iter().filter(|row| fire_of(&row.id) <= until) {
        assert_eq!(row.outcome.as_deref(), Some("succeeded"), "{row:?}");
    }
    let twice: Vec<_> = stage.played().into_iter().filter(|(_, played)| played.started != 1).collect();
    assert!(twice.is_empty(), "started more than once: {twice:?}");
}

fn now() -> Instant {
    Instant::from_ms(jiff::Timestamp::now().as_millisecond())
}

#[tokio::test(flavor = "multi_thread")]
async fn leaders_killed_at_any_moment_of_a_second_lose_and_double_nothing() {
    const KILLS: u64 = 20;
    let Some(stage) = Stage::set(Cluster::builder().nodes(3).lease_ttl(Duration::from_secs(2))).await else {
        return;
    };
    let _worker = stage.worker("worker", &[]).await;
    let job = stage.job(json!({"cron": "* * * * * *", "misfire_threshold_ms": 60_000})).await;
    eventually("the first run", Duration::from_secs(20), async || !stage.rows(&job).await.is_empty()).await;
    for kill in 0..KILLS {
        // Another twentieth of a second each time.
        let into = Duration::from_millis(kill * 50);
        let since_second = Duration::from_millis(u64::try_from(now().as_ms() % 1000).expect("not negative"));
        tokio::time::sleep((into + Duration::from_secs(1)).saturating_sub(since_second)).await;
        let killed = stage.cluster.kill_leader().await;
        stage.cluster.leader().await;
        killed.server.restart();
    }
    assert_every_second_once(&stage, &job, now()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_leader_cannot_dispatch() {
    let Some(stage) = Stage::set(Cluster::builder().nodes(2).lease_ttl(Duration::from_secs(2))).await else {
        return;
    };
    let _worker = stage.worker("worker", &[]).await;
    let job = stage.job(json!({"cron": "* * * * * *", "misfire_threshold_ms": 60_000})).await;
    // Not while one of them prepares the table: the other one would wait for that.
    eventually("the first run", Duration::from_secs(20), async || !stage.rows(&job).await.is_empty()).await;
    for _ in 0..3 {
        let frozen = stage.cluster.leader().await;
        frozen.server.stop().await;
        // The other one has taken over and decided fires that the frozen one has planned, too.
        eventually("another node leads", Duration::from_secs(20), async || {
            let others =
                stage.cluster.nodes().iter().filter(|node| node.server.name() != frozen.server.name());
            for node in others {
                if node.server.admin().cluster().await.is_ok_and(|c| c.leader.starts_with(node.server.name()))
                {
                    return true;
                }
            }
            false
        })
        .await;
        let mark = now();
        eventually("it dispatches", Duration::from_secs(20), async || {
            stage.rows(&job).await.last().is_some_and(|row| fire_of(&row.id) > mark)
        })
        .await;
        frozen.server.cont().await;
    }
    assert_every_second_once(&stage, &job, now()).await;
    let rows = stage.rows(&job).await;
    let terms: Vec<_> = rows.iter().filter_map(|row| row.term).collect();
    assert!(terms.is_sorted(), "a run of an older term came after one of a newer: {terms:?}");
    assert!(terms.iter().collect::<std::collections::BTreeSet<_>>().len() >= 3, "{terms:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_told_to_end_hands_over_at_once() {
    let Some(stage) = Stage::set(Cluster::builder().nodes(2).lease_ttl(Duration::from_secs(8))).await else {
        return;
    };
    let _worker = stage.worker("worker", &[]).await;
    let job = stage.job(json!({"cron": "* * * * * *"})).await;
    eventually("the first run", Duration::from_secs(20), async || !stage.rows(&job).await.is_empty()).await;
    let leader = stage.cluster.leader().await;
    leader.server.term();
    let status = leader.server.wait_exit(Duration::from_secs(10)).await;
    assert!(status.success(), "exit {status}");
    let handed_over = now();
    // Long before the lease of eight seconds would have run out: nothing is late enough to be a misfire.
    assert_every_second_once(&stage, &job, Instant::from_ms(handed_over.as_ms() + 3000)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_asked_to_step_down_hands_over_and_loses_and_doubles_nothing() {
    const TIMES: usize = 6;
    // The lease is of no help: it would take far too long.
    let Some(stage) = Stage::set(Cluster::builder().nodes(3).lease_ttl(Duration::from_secs(8))).await else {
        return;
    };
    let _worker = stage.worker("worker", &[]).await;
    let fields = json!({"cron": "* * * * * *", "misfire_threshold_ms": 60_000});
    let job = stage.job(fields.clone()).await;
    // More than one pipeline is busy.
    for _ in 0..20 {
        stage.job(fields.clone()).await;
    }
    eventually("the first run", Duration::from_secs(20), async || !stage.rows(&job).await.is_empty()).await;
    let mut slowest = 0;
    for _ in 0..TIMES {
        let leader = stage.cluster.leader().await;
        // Through a node that does not lead.
        let admin = stage.cluster.followers().await[0].server.admin();
        let stepped = admin.step_down("").await.expect("it follows");
        assert!(stepped.from.starts_with(leader.server.name()), "{stepped:?}");
        assert!(stepped.others == 2 && stepped.leader_term > stepped.term, "{stepped:?}");
        assert_ne!(stepped.leader, stepped.from, "another one leads");
        slowest = slowest.max(stepped.took_ms);
        let refused = admin.step_down(&stepped.from).await.expect_err("it leads no more");
        assert_eq!(refused.code(), tonic::Code::FailedPrecondition, "{refused:?}");
        tokio::time::sleep(Duration::from_millis(1_300)).await;
    }
    println!("the slowest of {TIMES} changes of leaders took {slowest} ms");
    assert!(slowest < 4_000, "{slowest} ms");
    let until = now();
    assert_every_second_once(&stage, &job, until).await;
    let rows: Vec<_> = stage.rows(&job).await.into_iter().filter(|row| fire_of(&row.id) <= until).collect();
    let gap = |row: &HistoryRow| row.created_at.map_or(0, |at| at.as_ms()) - fire_of(&row.id).as_ms();
    let latest = rows.iter().map(gap).max().unwrap_or_default();
    println!("the latest of {} fires was created {latest} ms after its time", rows.len());
    assert!(latest < 4_000, "{latest} ms");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_without_another_node_takes_the_leadership_again() {
    let Some(stage) = Stage::set(Cluster::builder().lease_ttl(Duration::from_secs(8))).await else { return };
    let admin = stage.cluster.admin();
    let stepped = admin.step_down("").await.expect("it follows");
    assert_eq!((stepped.others, &stepped.leader), (0, &stepped.from), "{stepped:?}");
    assert!(stepped.leader_term > stepped.term, "{stepped:?}");
    let gateway = stage.cluster.etcd().gateway().await;
    let wish = format!("{}/server/stepdown", stage.cluster.key_root());
    assert_eq!(gateway.count(&wish).await.expect("counted"), 0, "what was followed is gone");
}
