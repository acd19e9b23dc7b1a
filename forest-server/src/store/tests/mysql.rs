//! What only a real MySQL or MariaDB server shows.

use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::{AssertSqlSafe, Connection, Executor, MySqlConnection};
use tokio::time::Instant as Clock;

use super::*;

/// The table as the original makes it, with rows as it leaves them.
const ORIGINAL: &str = "
CREATE TABLE `job_execute_snapshot` (
  `id` varchar(64) NOT NULL, `job_id` varchar(32) NOT NULL, `name` varchar(32) NOT NULL,
  `group` varchar(32) NOT NULL, `cron` varchar(32) NOT NULL, `target` varchar(255) NOT NULL,
  `params` varchar(255) DEFAULT NULL, `ip` varchar(32) NOT NULL,
  `status` tinyint(4) NOT NULL COMMENT '1-执行中 2-完成 3-未知 4-错误', `mobile` varchar(32) DEFAULT NULL,
  `remark` varchar(255) DEFAULT NULL, `create_time` varchar(32) NOT NULL, `start_time` varchar(255) DEFAULT NULL,
  `finish_time` varchar(32) DEFAULT NULL, `times` bigint(20) DEFAULT NULL, `result` varchar(255) DEFAULT NULL,
  PRIMARY KEY (`id`), KEY `idx_ip` (`ip`), KEY `idx_job_id` (`job_id`), KEY `idx_status` (`status`),
  KEY `idx_group` (`group`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8;
INSERT INTO job_execute_snapshot VALUES
 ('a1','20191108','旧任务','trade','0 0 * * * ?','t','','10.0.0.1',2,'','','2019-11-08 20:00:00','2019-11-08 20:00:01','2019-11-08 20:00:03',2,'success'),
 ('a2','20191108','旧任务','trade','0 0 * * * ?','t',NULL,'10.0.0.1',-1,NULL,NULL,'2019-11-08 21:00:00','','',NULL,NULL),
 ('a3','20191108','旧任务','trade','0 0 * * * ?','t','','10.0.0.1',1,'','','','','',0,''),
 ('a4','20191108','旧任务','trade','0 0 * * * ?','t','','10.0.0.1',3,'','','2019-02-30 99:00:00','','',0,''),
 ('a5','20191108','旧任务','trade','0 0 * * * ?','t','','10.0.0.1',4,'','','0000-00-00 00:00:00','','',0,'');";

struct Database {
    url: String,
    admin: MySqlConnection,
}

impl Database {
    /// A database of its own on the test server, or `None`, loudly, if there is no server.
    async fn create() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let Ok(server) = std::env::var("FOREST_TEST_MYSQL") else {
            assert!(std::env::var_os("CI").is_none(), "FOREST_TEST_MYSQL must be set in CI");
            eprintln!("SKIPPED: FOREST_TEST_MYSQL is not the URL of a MySQL or MariaDB server");
            return None;
        };
        let server = server.trim_end_matches('/').to_owned();
        let name = format!("forest_test_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let mut root = MySqlConnection::connect(&format!("{server}/mysql")).await.expect("the test server");
        let create = format!("CREATE DATABASE {name} CHARACTER SET latin1");
        root.execute(AssertSqlSafe(create)).await.expect("may create databases");
        let url = format!("{server}/{name}");
        let admin = MySqlConnection::connect(&url).await.expect("the new database");
        Some(Self { url, admin })
    }

    fn history(&self) -> History {
        History::connect(&self.url.parse().expect("a url"), 8).expect("lazy")
    }

    async fn run(&mut self, sql: &str) {
        self.admin.execute(AssertSqlSafe(sql)).await.expect("the test's own statement");
    }

    async fn migrated(&self) -> History {
        let history = self.history();
        history.migrate(&TimeZone::UTC).await.expect("migrated");
        history
    }

    async fn drop(mut self) {
        let name = self.url.rsplit('/').next().unwrap_or_default().to_owned();
        self.run(&format!("DROP DATABASE {name}")).await;
    }
}

macro_rules! on_mysql {
    ($($name:ident: $check:ident;)*) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            let Some(database) = Database::create().await else { return };
            let history = database.migrated().await;
            $check(&history).await;
            history.close().await;
            database.drop().await;
        })*
    };
}

on_mysql! {
    every_field_survives: check_every_field_survives;
    a_row_only_moves_forward: check_a_row_only_moves_forward;
    a_late_completion_may_come_first: check_a_late_completion_may_come_first;
    savers_in_any_order_end_alike: check_savers_in_any_order_end_alike;
    pages_are_complete_newest_first_and_filtered: check_pages_are_complete_newest_first_and_filtered;
    the_rows_of_an_instant_are_found: check_the_rows_of_an_instant_are_found;
    large_texts_are_kept_whole_and_shown_short: check_large_texts_are_kept_whole_and_shown_short;
    a_run_is_counted_once: check_a_run_is_counted_once;
    times_are_added_up: check_times_are_added_up;
    counts_are_filtered_and_come_in_pages: check_counts_are_filtered_and_come_in_pages;
}

#[tokio::test]
async fn what_cannot_be_counted_is_not_saved() {
    let Some(mut database) = Database::create().await else { return };
    let history = database.migrated().await;
    let rows = [Row::new(decided(1, Outcome::Failed, ""), 1), Row::new(decided(2, Outcome::Failed, ""), 1)];
    database.run("RENAME TABLE forest_job_hour TO elsewhere").await;
    let error = history.save(&rows).await.expect_err("there is nothing to count in");
    assert!(matches!(error, StoreError::Invalid { .. }), "{error}");
    assert_eq!(history.count(&Filter::default()).await.expect("readable"), 0, "neither row is there");
    database.run("RENAME TABLE elsewhere TO forest_job_hour").await;
    assert_eq!(history.save(&rows).await.expect("saved").stored, 2);
    tally::check_against_rows(&history).await;
    database.drop().await;
}

#[tokio::test]
async fn statistics_are_found_by_an_index_and_no_row_of_the_history_is_read() {
    use super::super::tally::{By, TallyFilter};
    let Some(mut database) = Database::create().await else { return };
    let history = database.migrated().await;
    // 40 jobs in 4 groups for 100 days.
    database
        .run(
            "INSERT INTO forest_job_hour (job_id, hour, `group`, succeeded) \
             WITH RECURSIVE d (day) AS (SELECT 0 UNION ALL SELECT day + 1 FROM d WHERE day < 99), \
             h (hours) AS (SELECT 0 UNION ALL SELECT hours + 1 FROM h WHERE hours < 23), \
             j (k) AS (SELECT 0 UNION ALL SELECT k + 1 FROM j WHERE k < 39) \
             SELECT CONCAT('job-', k), '2026-01-01 00:00:00' + INTERVAL 24 * day + hours HOUR, CONCAT('g', k % 4), 1 \
             FROM d, h, j",
        )
        .await;
    database.run("ANALYZE TABLE forest_job_hour").await;
    let at = |text: &str| text.parse::<Instant>().expect("an instant");
    let day = TallyFilter {
        since: at("2026-02-01T00:00:00Z"),
        until: at("2026-02-02T00:00:00Z"),
        ..TallyFilter::default()
    };
    let text = |text: &str| Some(text.to_owned());
    let Backend::MySql(backend) = &history.backend else { panic!("it is MySQL") };
    for (group, job_id, rows) in [
        (None, None, 960),
        (text("g1"), None, 240),
        (None, text("job-3"), 24),
        (text("g3"), text("job-3"), 24),
    ] {
        for by in [By::Hour, By::Day, By::Job, By::Group] {
            let filter = TallyFilter { by, group: group.clone(), job_id: job_id.clone(), ..day.clone() };
            let mut explained = super::super::tally::list(backend, &filter, 50);
            explained.sql = explained.sql.replacen(
                <super::super::mysql::MySql as statement::Dialect>::SELECT,
                "EXPLAIN SELECT",
                1,
            );
            let (table, key, read) = backend.explained(explained).await;
            assert_eq!(table, "forest_job_hour", "{filter:?}");
            assert!(key.is_some() && read <= 3 * rows, "{filter:?}: {key:?} reads {read} rows");
        }
    }
    database.drop().await;
}

#[tokio::test]
async fn a_table_of_the_original_is_taken_over_with_its_rows() {
    let Some(mut database) = Database::create().await else { return };
    database.run(ORIGINAL).await;
    let shanghai = TimeZone::get("Asia/Shanghai").expect("bundled");
    let history = database.history();
    history.migrate(&shanghai).await.expect("migrated");
    history.migrate(&shanghai).await.expect("twice is fine");

    let page = history.list(&Filter::default(), 10, None).await.expect("readable");
    let seen: Vec<_> = page.rows.iter().map(|row| (row.id.as_str(), row.status, row.outcome)).collect();
    let expected = [
        ("a2", Status::Error, Some(Outcome::Failed)),
        ("a1", Status::Done, Some(Outcome::Succeeded)),
        ("a5", Status::Error, Some(Outcome::Failed)),
        ("a4", Status::Unknown, Some(Outcome::Lost)),
        ("a3", Status::Running, None),
    ];
    assert_eq!(seen, expected, "newest first, those without a readable time at the end");
    assert_eq!(page.rows[1].created_at, Some("2019-11-08T12:00:00Z".parse().expect("an instant")));
    assert_eq!((page.rows[1].name.as_str(), page.rows[1].times), ("旧任务", 2));
    assert_eq!(page.rows[4].created_at, None);
    assert_eq!(walk(&history, &Filter::default(), 1).await, ["a2", "a1", "a5", "a4", "a3"]);
    let errors = Filter { status: Some(Status::Error), ..Filter::default() };
    assert_eq!(walk(&history, &errors, 10).await, ["a2", "a5"]);

    check_every_field_survives(&history).await;
    // What the original's own program does still works.
    database
        .run(
            "INSERT INTO job_execute_snapshot (id,job_id,name,`group`,cron,target,params,ip,status,mobile,remark,\
             create_time,start_time,finish_time,times,result) VALUES ('b1','1','n','g','c','t','','i',1,'','',\
             '2027-01-01 08:00:00','','',0,'');\
             UPDATE job_execute_snapshot SET status=2,result='ok' WHERE id='b1';\
             SELECT id,job_id,name,`group`,times FROM job_execute_snapshot WHERE `group`='g' AND status=2 LIMIT 10",
        )
        .await;
    assert_eq!(entry(&history, "b1").await.outcome, Some(Outcome::Succeeded));
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_start_together_migrate_once() {
    let Some(mut database) = Database::create().await else { return };
    database.run(ORIGINAL).await;
    let mut nodes = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let history = database.history();
        nodes.spawn(async move { history.migrate(&TimeZone::UTC).await });
    }
    for migrated in nodes.join_all().await {
        migrated.expect("each of them");
    }
    assert_eq!(walk(&database.migrated().await, &Filter::default(), 10).await.len(), 5);
    database.drop().await;
}

#[tokio::test]
async fn a_migration_that_was_interrupted_is_run_again() {
    let Some(mut database) = Database::create().await else { return };
    database.migrated().await.close().await;
    // As if the server had died after the ALTER and before the note that it is done.
    database.run("UPDATE _sqlx_migrations SET success = FALSE WHERE version = 2").await;
    database.run("DELETE FROM _sqlx_migrations WHERE version > 2").await;
    let history = database.migrated().await;
    check_every_field_survives(&history).await;
    // A newer version has been here: its additions don't disturb.
    database
        .run("INSERT INTO _sqlx_migrations SELECT 9999, description, installed_on, success, checksum, 0 FROM _sqlx_migrations WHERE version = 1")
        .await;
    database.migrated().await.ping().await.expect("usable");
    database.drop().await;
}

#[tokio::test]
async fn a_row_that_the_server_refuses_is_set_apart() {
    let Some(mut database) = Database::create().await else { return };
    let history = database.migrated().await;
    database
        .run(
            "CREATE TRIGGER veto BEFORE INSERT ON job_execute_snapshot FOR EACH ROW BEGIN \
             IF NEW.result LIKE '%\u{1f4a3}%' OR NEW.ip = 'bad' THEN SIGNAL SQLSTATE '22001'; END IF; END",
        )
        .await;
    let mut rows: Vec<Row> = (0..600).map(|n| Row::new(decided(n, Outcome::Failed, "fine"), 1)).collect();
    rows[100] = Row::new(decided(100, Outcome::Failed, "\u{1f4a3}"), 1);
    let mut hopeless = decided(599, Outcome::Failed, "fine");
    hopeless.snapshot.ip = "bad".into();
    rows[599] = Row::new(hopeless, 1);
    let saved = history.save(&rows).await.expect("the server is there");
    assert_eq!((saved.stored, saved.marked.len(), saved.rejected.len()), (599, 1, 1));
    assert_eq!(saved.rejected[0].id, rows[599].id());
    assert_eq!(history.count(&Filter::default()).await.expect("readable"), 599);

    // A table that somebody made too narrow: the row is stored without its text.
    database.run("DROP TRIGGER veto").await;
    database.run("ALTER TABLE job_execute_snapshot MODIFY result varchar(255) CHARACTER SET latin1").await;
    let wide = Row::new(decided(1000, Outcome::Failed, "组"), 1);
    let saved = history.save(std::slice::from_ref(&wide)).await.expect("the server is there");
    assert_eq!((saved.stored, saved.marked.len()), (1, 1), "{saved:?}");
    database.drop().await;
}

#[tokio::test]
async fn a_locked_or_missing_table_and_a_wrong_account_are_told_apart() {
    let Some(mut database) = Database::create().await else { return };
    let history = database.history();
    let error = history.list(&Filter::default(), 10, None).await.expect_err("no table yet");
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    history.migrate(&TimeZone::UTC).await.expect("migrated");

    let row = Row::new(decided(1, Outcome::Failed, ""), 1);
    history.save(std::slice::from_ref(&row)).await.expect("saved");
    database.run("BEGIN").await;
    database.run("UPDATE job_execute_snapshot SET times = 5").await;
    let error = history.save(std::slice::from_ref(&row)).await.expect_err("the row is locked");
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    assert!(error.to_string().contains("1205"), "{error}");
    database.run("ROLLBACK").await;
    history.save(&[row]).await.expect("free again");
    database.run("DROP TABLE job_execute_snapshot").await;
    let error = history.list(&Filter::default(), 10, None).await.expect_err("no table any more");
    assert!(matches!(error, StoreError::Invalid { .. }), "{error}");

    let wrong = database.url.replacen("root", "nobody:s3cret", 1);
    let history = History::connect(&wrong.parse().expect("a url"), 1).expect("lazy");
    let error = history.ping().await.expect_err("there is no such account");
    assert!(matches!(error, StoreError::Invalid { .. }), "{error}");
    assert!(!format!("{error} {error:?}").contains("s3cret"));
    database.drop().await;
}

#[tokio::test]
async fn an_account_that_may_only_read_and_write_rows_is_enough_once_the_table_is_there() {
    let Some(mut database) = Database::create().await else { return };
    let name = database.url.rsplit('/').next().unwrap_or_default().to_owned();
    database.run(&format!("CREATE USER '{name}' IDENTIFIED BY 'x'")).await;
    database.run(&format!("GRANT SELECT, INSERT, UPDATE ON {name}.* TO '{name}'")).await;
    let url = database.url.replacen("root@", &format!("{name}:x@"), 1);
    let limited = History::connect(&url.parse().expect("a url"), 2).expect("lazy");

    let error = limited.migrate(&TimeZone::UTC).await.expect_err("it may not create a table");
    assert!(
        matches!(error, StoreError::Invalid { .. }) && error.to_string().contains("privileges"),
        "{error}"
    );
    database.migrated().await.close().await;
    limited.migrate(&TimeZone::UTC).await.expect("nothing to do");
    check_every_field_survives(&limited).await;
    database.run(&format!("DROP USER '{name}'")).await;
    database.drop().await;
}

#[tokio::test]
async fn a_slow_read_is_ended_by_the_server() {
    let Some(mut database) = Database::create().await else { return };
    let history = database.migrated().await;
    history.save(&[Row::new(decided(1, Outcome::Failed, ""), 1)]).await.expect("saved");
    let slow = "CREATE VIEW slow AS SELECT SLEEP(20) AS n";
    database.run(slow).await;
    let Backend::MySql(backend) = &history.backend else { panic!("it is MySQL") };
    let sql = format!("{} n FROM slow", <super::super::mysql::MySql as statement::Dialect>::SELECT);
    let begun = Clock::now();
    let ended = backend.number(statement::Statement { sql, args: Vec::new() }).await;
    // MySQL makes SLEEP() return 1 when it is interrupted; MariaDB fails the statement.
    assert!(ended.is_err() || matches!(ended, Ok(1)), "{ended:?}");
    assert!(begun.elapsed() < 3 * READ_TIMEOUT, "{:?}, and it would sleep for 20 s", begun.elapsed());
    database.drop().await;
}

#[tokio::test]
async fn a_server_that_is_away_is_unavailable_and_not_waited_for() {
    let url = "mysql://root@127.0.0.1:1/forest".parse().expect("a url");
    let history = History::connect(&url, 2).expect("lazy");
    let begun = Clock::now();
    for error in [
        history.save(&[Row::new(execution(1, None, ""), 1)]).await.map(|_| ()),
        history.migrate(&TimeZone::UTC).await,
    ] {
        let error = error.expect_err("nobody listens there");
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    }
    assert!(begun.elapsed() < 2 * CONNECT_TIMEOUT + Duration::from_secs(2));
}

#[tokio::test]
async fn rates_are_printed() {
    let Some(database) = Database::create().await else { return };
    let history = database.migrated().await;
    let rows: Vec<Row> = (0..20_000)
        .map(|n| Row::new(decided(n, Outcome::Succeeded, "processed 1234 of 1234 rows"), 1))
        .collect();
    for turn in ["inserting", "saving again"] {
        let begun = Clock::now();
        let saved = history.save(&rows).await.expect("saved");
        assert_eq!(saved.stored, rows.len());
        let seconds = begun.elapsed().as_secs_f64();
        println!("{turn}: {:.0} rows/s", 20_000.0 / seconds);
    }
    let begun = Clock::now();
    let ids = walk(&history, &Filter { group: Some("g1".into()), ..Filter::default() }, 200).await;
    println!("reading {} rows in pages of 200: {:?}", ids.len(), begun.elapsed());
    assert_eq!(ids.len(), 6667);
    assert_eq!(history.count(&Filter::default()).await.expect("counted"), 20_000);
    database.drop().await;
}
