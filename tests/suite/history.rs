//! The history database away, and back: nothing waits for it, and nothing is lost or doubled.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant as Clock};

use forest_proto::admin::v1::ListRunsRequest;
use forest_proto::admin::v1::admin_client::AdminClient;
use forest_tests::cluster::Cluster;
use forest_tests::history::{History, HistoryRow};
use forest_tests::names::{key_root, unique};
use forest_tests::process::{ServerOptions, ServerProcess, WorkerProcess};
use forest_tests::services::{shared_etcd, shared_mariadb};
use forest_tests::wait::{eventually, holds};
use serde_json::json;

use crate::stage::{SOON, Stage, fire_of, seconds};

const JOBS: usize = 100;

fn outage() -> Duration {
    let long = std::env::var("FOREST_LONG_TESTS").is_ok_and(|long| long == "1");
    Duration::from_secs(if long { 60 } else { 20 })
}

#[derive(Clone, Copy, PartialEq)]
enum Away {
    Frozen,
    Killed,
}

/// A hundred runs a second, and the database away for a while.
async fn scheduling_goes_on_while_it_is(away: Away) {
    let builder = Cluster::builder().private_mariadb().configure(|options| options.log_level = "info".into());
    let Some(stage) = Stage::set(builder).await else { return };
    let _worker = stage.worker("worker", &["--capacity", "200"]).await;
    let fields = json!({"cron": "* * * * * *", "misfire_threshold_ms": 600_000});
    let jobs = stage.jobs_due_together(JOBS, Duration::ZERO, fields).await;
    eventually("rows come in", SOON, async || stage.rows(&jobs[0]).await.len() >= 2).await;

    let (before, begun) = (stage.played().len(), Clock::now());
    match away {
        Away::Frozen => stage.cluster.mariadb().stop().await,
        Away::Killed => stage.cluster.mariadb().kill(),
    }
    let mut slowest = Duration::ZERO;
    let mut last = (before, Clock::now());
    while begun.elapsed() < outage() {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let played = stage.played().len();
        if played > last.0 {
            slowest = slowest.max(last.1.elapsed());
            last = (played, Clock::now());
        }
    }
    let (during, seconds_away) = (last.0 - before, begun.elapsed().as_secs() as usize);
    assert!(during >= JOBS * (seconds_away - 4), "{during} runs in {seconds_away} s without the database");
    assert!(slowest < Duration::from_secs(5), "nothing ran for {slowest:?}");
    let admin = stage.cluster.admin();
    let cluster = admin.cluster().await.expect("the API answers all the same");
    assert!(!cluster.history_available, "{cluster:?}");
    let gateway = stage.cluster.etcd().gateway().await;
    let results = format!("{}/client/execute/", stage.cluster.key_root());
    let waiting = gateway.count(&results).await.expect("counted");
    assert!(waiting >= during / 2, "{waiting} results wait in etcd");
    match away {
        Away::Frozen => stage.cluster.mariadb().cont().await,
        Away::Killed => stage.cluster.mariadb().restart().await,
    }

    for job in &jobs {
        admin.disable(job).await.expect("disabled");
    }
    stage.quiet(2 * SOON).await;
    assert_eq!(gateway.count(&results).await.expect("counted"), 0, "etcd holds results no longer");
    let rows = stage.cluster.history().all().await.expect("read");
    assert!(rows.iter().all(|row| row.outcome.as_deref() == Some("succeeded")));
    stage.assert_played_once(rows.len());
    assert_counted(&stage.cluster.history()).await;
    let mut fires: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for row in &rows {
        fires.entry(&row.job_id).or_default().push(fire_of(&row.id));
    }
    assert_eq!(fires.len(), JOBS);
    for (job, fires) in fires {
        let whole = seconds(fires[0], *fires.last().expect("not empty"));
        assert_eq!(fires, whole, "each second of {job} once");
        assert!(fires.len() >= seconds_away, "{job}: {}", fires.len());
    }
    eventually("the API knows that it is back", SOON, async || {
        admin.cluster().await.is_ok_and(|cluster| cluster.history_available)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_hangs_delays_and_loses_no_run() {
    scheduling_goes_on_while_it_is(Away::Frozen).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_crashes_delays_and_loses_no_run() {
    scheduling_goes_on_while_it_is(Away::Killed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_killed_between_saving_a_row_and_deleting_its_result_leaves_one_row_each() {
    const ROUNDS: usize = 4;
    const RUNS: usize = 50;
    let builder = Cluster::builder().proxied().lease_ttl(Duration::from_secs(2));
    let Some(stage) = Stage::set(builder).await else { return };
    let _worker = stage.worker("worker", &["--capacity", "100"]).await;
    let node = &stage.cluster.nodes()[0];
    let (gateway, history) = (stage.cluster.etcd().gateway().await, stage.cluster.history());
    let results = format!("{}/client/execute/snapshot/", stage.cluster.key_root());
    let mut seen: BTreeMap<String, HistoryRow> = BTreeMap::new();
    for round in 1..=ROUNDS {
        // The database is away until all have ended and the node has their results in hand.
        node.network().mariadb.black_hole().await;
        let job = json!({"misfire_threshold_ms": 600_000});
        stage.jobs_due_together(RUNS, Duration::from_secs(2), job).await;
        eventually("all have ended", SOON, async || {
            let entries = gateway.list(&results).await.map_err(|e| e.to_string())?;
            let ended = entries.iter().filter(|entry| entry.value.contains(r#""decided":true"#)).count();
            if ended == RUNS { Ok(()) } else { Err(format!("{ended} of {}", entries.len())) }
        })
        .await;
        // From here on it can save, but not delete.
        node.network().etcd.black_hole().await;
        node.network().mariadb.pass().await;
        node.network().mariadb.reset();
        let saved = eventually("some rows are saved", 2 * SOON, async || {
            let count = history.count().await.map_err(|e| e.to_string())?;
            if count > ((round - 1) * RUNS) as i64 { Ok(count) } else { Err(format!("{count} rows")) }
        })
        .await;
        assert_eq!(
            gateway.count(&results).await.expect("counted"),
            RUNS,
            "none is deleted, {saved} are saved"
        );
        for row in history.all().await.expect("read") {
            seen.insert(row.id.clone(), row);
        }
        node.server.kill9();
        node.network().etcd.pass().await;
        node.network().etcd.reset();
        node.server.restart();
        node.server.wait_ready().await;
        eventually("the results are collected", 2 * SOON, async || {
            let left = gateway.count(&results).await.map_err(|e| e.to_string())?;
            if left == 0 { Ok(()) } else { Err(format!("{left}")) }
        })
        .await;
        let rows = history.all().await.expect("read");
        assert_eq!(rows.len(), round * RUNS);
        let now: BTreeMap<_, _> = rows.into_iter().map(|row| (row.id.clone(), row)).collect();
        for (run, row) in &seen {
            assert_eq!(now.get(run), Some(row), "saving it again changed nothing");
        }
        assert_counted(&history).await;
    }
    stage.assert_played_once(ROUNDS * RUNS);
}

/// Each row that there is was counted, and once.
async fn assert_counted(history: &History) {
    let (rows, counted) = (history.outcomes().await.expect("read"), history.counted().await.expect("read"));
    assert!(!rows.is_empty());
    assert_eq!(counted, rows);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_refuses_is_complained_about_and_asked_again() {
    let Some(stage) = Stage::set(Cluster::builder()).await else { return };
    let _worker = stage.worker("worker", &[]).await;
    let (history, job) = (stage.cluster.history(), stage.job(json!({})).await);
    stage.ended(&stage.run(&job).await).await;
    let server = &stage.cluster.nodes()[0].server;
    let gateway = stage.cluster.etcd().gateway().await;
    let results = format!("{}/client/execute/snapshot/", stage.cluster.key_root());

    // The table is gone.
    drop(history.execute("RENAME TABLE job_execute_snapshot TO mislaid").await.expect("renamed"));
    let run = stage.run(&job).await;
    let line = server.wait_for_line("cannot save to the history", SOON).await;
    assert!(line.contains("job_execute_snapshot") && line.contains("WARN"), "{line}");
    let mut api = AdminClient::connect(format!("http://{}", server.address())).await.expect("it answers");
    let listed = api.list_runs(ListRunsRequest::default()).await.expect_err("no table");
    assert_eq!(listed.code(), tonic::Code::Unavailable, "{listed}");
    assert_eq!(gateway.count(&results).await.expect("counted"), 1, "the result stays where it is");
    drop(history.execute("RENAME TABLE mislaid TO job_execute_snapshot").await.expect("renamed"));
    assert_eq!(stage.ended(&run).await.outcome.as_deref(), Some("succeeded"));

    // It can be read and not written.
    let lock = history.execute("LOCK TABLES job_execute_snapshot READ").await.expect("locked");
    let run = stage.run(&job).await;
    eventually("it has run", SOON, async || stage.played().get(&run).is_some_and(|played| played.ended == 1))
        .await;
    holds("it is not in the table", Duration::from_secs(1), async || {
        history.row(&run).await.is_ok_and(|row| row.is_none())
    })
    .await;
    let others = stage.run(&job).await;
    eventually("others run as well", SOON, async || stage.played().contains_key(&others)).await;
    drop(lock);
    for run in [&run, &others] {
        assert_eq!(stage.ended_within(run, 2 * SOON).await.outcome.as_deref(), Some("succeeded"));
    }
    stage.quiet(SOON).await;
    stage.assert_played_once(4);
    assert_eq!(history.count().await.expect("counted"), 4);
}

/// The table as the original publishes it.
const PUBLISHED: &str = "CREATE TABLE job_execute_snapshot (
    id varchar(64) NOT NULL, job_id varchar(32) DEFAULT NULL, name varchar(32) DEFAULT NULL,
    `group` varchar(32) DEFAULT NULL, cron varchar(32) DEFAULT NULL, target varchar(255) DEFAULT NULL,
    params varchar(255) DEFAULT NULL, ip varchar(32) DEFAULT NULL, status tinyint(4) DEFAULT NULL,
    mobile varchar(32) DEFAULT NULL, remark varchar(255) DEFAULT NULL, create_time varchar(32) DEFAULT NULL,
    start_time varchar(255) DEFAULT NULL, finish_time varchar(32) DEFAULT NULL, times int(11) DEFAULT NULL,
    result varchar(255) DEFAULT NULL,
    PRIMARY KEY (id), KEY ip (ip), KEY job_id (job_id), KEY status (status), KEY `group` (`group`)
  ) ENGINE=InnoDB DEFAULT CHARSET=utf8;
  INSERT INTO job_execute_snapshot VALUES
    ('202001020304050123451', 'j1', '账单', 'trade', '0 0 1 * * ?', 'bill', 'a=1', '10.0.0.1', 2, '', '', '2020-01-02 03:04:05', '2020-01-02 03:04:05', '2020-01-02 03:04:12', 7, 'ok'),
    ('202001020304060123451', 'j1', '账单', 'trade', '0 0 1 * * ?', 'bill', 'a=1', '10.0.0.2', -1, '', '', '2020-01-02 03:04:06', '2020-01-02 03:04:06', '2020-01-02 03:04:07', 1, 'no'),
    ('202001020304070123451', 'j2', 'x', 'trade', '', 'bill', NULL, NULL, 3, NULL, NULL, NULL, NULL, NULL, NULL, NULL)";

/// A query as programs have it that were written for the original.
const OLD_QUERY: &str = "SELECT CONCAT_WS('|', id, job_id, name, `group`, cron, target, params, ip, status, mobile, remark, \
    create_time, start_time, finish_time, times, result) FROM job_execute_snapshot \
    WHERE `group` = 'trade' AND ip = '10.0.0.1' ORDER BY id";

#[tokio::test(flavor = "multi_thread")]
async fn the_published_table_is_taken_over_with_its_rows() {
    let etcd = forest_tests::require!(shared_etcd().await);
    let database = forest_tests::require!(shared_mariadb().await).database("published").await;
    let history = History::new(&database.url).expect("the harness wrote the URL");
    drop(history.execute(PUBLISHED).await.expect("created"));
    let before = history.texts(OLD_QUERY).await.expect("read");

    let root = key_root("published");
    let mut options = ServerOptions::new(vec![etcd.endpoint()], &root, &database.url, &unique("node"));
    options.lease_ttl = Some(Duration::from_secs(2));
    let server = ServerProcess::start(&options).expect("it starts");
    server.wait_ready().await;
    let admin = server.admin();
    let listed = eventually("the old rows are listed", SOON, async || {
        let request = ListRunsRequest { page_size: 50, group: "trade".into(), ..Default::default() };
        let runs = admin.list_runs(request).await.map_err(|e| e.to_string())?.runs;
        // Their instants are filled in after the table has its columns.
        let dated = runs.iter().filter(|run| run.created_at != 0).count();
        if (runs.len(), dated) == (3, 2) { Ok(runs) } else { Err(format!("{runs:?}")) }
    })
    .await;
    let outcomes: BTreeMap<_, _> = listed.iter().map(|run| (run.id.as_str(), run.outcome.as_str())).collect();
    let expected = [
        ("202001020304050123451", "succeeded"),
        ("202001020304060123451", "failed"),
        ("202001020304070123451", "lost"),
    ];
    assert_eq!(outcomes, BTreeMap::from(expected));
    let newest = listed.iter().find(|run| run.id == "202001020304060123451").expect("listed");
    assert_eq!((newest.created_at, newest.client.as_str()), (1_577_934_246_000, "10.0.0.2"));
    assert_eq!(history.texts(OLD_QUERY).await.expect("the old query still runs"), before);

    // New runs stand beside them, as that query sees them too.
    let group = unique("group");
    admin.add_group(&group).await.expect("added");
    let arguments = ["--etcd", &etcd.endpoint(), "--key-root", &root, "--group", &group, "--name", "new"];
    let _worker = WorkerProcess::start("new", arguments.map(str::to_owned).to_vec()).expect("it starts");
    let job = json!({"name": "new", "group": group, "target": "echo", "cron": "@daily", "params": "späť 🌲"});
    let run = admin.run_job(&admin.add_job(&job).await.expect("added"), None, None).await.expect("a run");
    eventually("it is in the table", SOON, async || {
        history.row(&run).await.is_ok_and(|row| row.is_some_and(|row| row.status == 2))
    })
    .await;
    let sql = format!("SELECT result FROM job_execute_snapshot WHERE `group` = '{group}' AND status = 2");
    assert_eq!(history.texts(&sql).await.expect("read"), ["späť 🌲"]);
    let ids: BTreeSet<_> =
        history.texts("SELECT id FROM job_execute_snapshot").await.expect("read").into_iter().collect();
    assert_eq!(ids.len(), 4);
}
