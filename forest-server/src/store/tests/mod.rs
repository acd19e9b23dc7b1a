//! What the history promises, checked on SQLite always, and on a MySQL or MariaDB server if
//! `FOREST_TEST_MYSQL` is the URL of one in which databases may be made (`mysql://root@127.0.0.1:3306`).

mod mysql;
mod tally;

use forest_proto::record::{Execution, Origin, Outcome, Snapshot, Status};
use forest_proto::time::Instant;
use forest_proto::{GroupName, JobId, RunId, TargetName};

use super::*;
use tally::{
    check_a_run_is_counted_once, check_counts_are_filtered_and_come_in_pages, check_times_are_added_up,
};

/// 2026-11-18T11:06:40Z
const START_MS: i64 = 1_795_000_000_000;

fn minute(n: usize) -> Instant {
    Instant::from_ms(START_MS + 60_000 * i64::try_from(n).expect("small"))
}

/// Run `n` of job `job-{n % 7}` in group `g{n % 3}`, one a minute; running if there is no outcome.
pub(super) fn execution(n: usize, outcome: Option<Outcome>, result: &str) -> Execution {
    let job = JobId::new(format!("job-{}", n % 7)).expect("valid");
    let snapshot = Snapshot {
        id: RunId::scheduled(&job, minute(n), 1),
        job_id: job,
        name: format!("bill {}", n % 5),
        ip: "worker-1.a1b2".into(),
        group: GroupName::new(format!("g{}", n % 3)).expect("valid"),
        cron: "0 * * * * *".into(),
        target: TargetName::new("billing").expect("valid"),
        params: "{}".into(),
        mobile: "1380".into(),
        remark: "for tests".into(),
        create_time: minute(n).to_local_text(&TimeZone::UTC),
        scheduled_at: minute(n),
        created_at: minute(n),
        attempt: 1,
        max_attempts: 3,
        on_lost: Default::default(),
        retry_if: Vec::new(),
        timeout_ms: None,
        checkpoint: None,
        origin: Origin::Manual,
        job_version: 4,
        cause: "20261118110640000-p-1".parse().ok(),
        traceparent: None,
        start_deadline: None,
        waits: false,
        missed_fires: 2,
        routing: Default::default(),
        labels: Default::default(),
        priority: 0,
        pinned: None,
        limited: false,
        shard: None,
        shard_params: Default::default(),
        followed: false,
        node: "node-1".into(),
        term: 77,
        server_zone: String::new(),
    };
    let mut execution = Execution::claimed(snapshot, minute(n));
    if let Some(outcome) = outcome {
        execution.finish(outcome, result.into(), Instant::from_ms(minute(n).as_ms() + 1234), 1234);
    }
    execution
}

fn decided(n: usize, outcome: Outcome, result: &str) -> Execution {
    let mut execution = execution(n, Some(outcome), result);
    execution.decided = true;
    execution
}

async fn sqlite(directory: &tempfile::TempDir) -> History {
    let url = format!("sqlite://{}", directory.path().join("history.db").display());
    let history = History::connect(&url.parse().expect("a url"), 4).expect("lazy");
    history.migrate(&TimeZone::UTC).await.expect("an empty file");
    history
}

async fn entry(history: &History, id: &str) -> Entry {
    history.get(id).await.expect("readable").expect("it was saved")
}

/// The ids of all pages, of the given size.
async fn walk(history: &History, filter: &Filter, page_size: usize) -> Vec<String> {
    let (mut ids, mut token) = (Vec::new(), None);
    loop {
        let page = history.list(filter, page_size, token.as_ref()).await.expect("readable");
        assert!(page.rows.len() <= page_size);
        ids.extend(page.rows.into_iter().map(|row| row.id));
        match page.next {
            // Opaque to callers, so it goes through its text.
            Some(next) => token = Some(next.to_string().parse().expect("our own token")),
            None => return ids,
        }
    }
}

async fn check_every_field_survives(history: &History) {
    let mut e = decided(1, Outcome::TimedOut, "took too long \u{1f570} 组 \0 'quoted' \\");
    e.result_truncated = true;
    history.save(&[Row::new(e.clone(), 4711)]).await.expect("saved");
    let s = &e.snapshot;
    let read = entry(history, s.id.as_str()).await;
    let expected = Entry {
        id: s.id.to_string(),
        job_id: s.job_id.to_string(),
        name: s.name.clone(),
        group: s.group.to_string(),
        cron: s.cron.clone(),
        target: s.target.to_string(),
        params: s.params.clone(),
        client: s.ip.clone(),
        status: Status::Error,
        mobile: s.mobile.clone(),
        remark: s.remark.clone(),
        create_time: s.create_time.clone(),
        start_time: e.start_time.clone(),
        finish_time: e.finish_time.clone(),
        times: 1,
        result: e.result.clone(),
        outcome: Some(Outcome::TimedOut),
        origin: "manual".into(),
        cause: "20261118110640000-p-1".into(),
        attempt: 1,
        max_attempts: 3,
        scheduled_at: Some(s.scheduled_at),
        created_at: Some(s.created_at),
        started_at: e.started_at,
        finished_at: e.finished_at,
        duration_ms: 1234,
        result_truncated: true,
        missed_fires: 2,
        job_version: 4,
        node: "node-1".into(),
        term: 77,
        fencing_token: 4711,
        late: None,
    };
    assert_eq!(read, expected);
    assert_eq!(history.get("no such run").await.expect("readable"), None);
}

/// The states of a run, each with the outcome that must stand once it has been saved, in any order.
async fn check_a_row_only_moves_forward(history: &History) {
    let running = || Row::new(execution(1, None, ""), 9);
    let ended = || Row::new(execution(1, Some(Outcome::Failed), "once"), 9);
    let decided = || Row::new(decided(1, Outcome::Lost, "declared lost"), 9);
    let late = || Row::late(execution(1, Some(Outcome::Succeeded), "came late"), 9);
    let id = running().id().to_owned();

    history.save(&[running(), ended()]).await.expect("saved");
    assert_eq!(entry(history, &id).await.outcome, Some(Outcome::Failed));
    history.save(&[running()]).await.expect("saved");
    assert_eq!(entry(history, &id).await.outcome, Some(Outcome::Failed), "not back to running");

    history.save(&[late()]).await.expect("saved");
    assert_eq!(entry(history, &id).await.outcome, Some(Outcome::Failed), "a late one decides nothing");
    history.save(&[decided()]).await.expect("saved");
    let other = Row::new(super::tests::decided(1, Outcome::Succeeded, "another decision"), 10);
    history.save(&[ended(), other, running()]).await.expect("saved");
    let read = entry(history, &id).await;
    assert_eq!((read.outcome, read.result.as_str()), (Some(Outcome::Lost), "declared lost"));
    assert_eq!((read.fencing_token, read.status), (9, Status::Unknown));
    let late = read.late.expect("kept beside it");
    assert_eq!((late.outcome, late.result.as_str()), (Some(Outcome::Succeeded), "came late"));
}

async fn check_a_late_completion_may_come_first(history: &History) {
    let late = Row::late(execution(2, Some(Outcome::Succeeded), "came late"), 9);
    let id = late.id().to_owned();
    history.save(&[late]).await.expect("saved");
    assert_eq!(entry(history, &id).await.outcome, Some(Outcome::Lost));
    let lost = decided(2, Outcome::Lost, "declared lost");
    history.save(&[Row::new(lost, 9)]).await.expect("saved");
    let read = entry(history, &id).await;
    assert_eq!(read.result, "declared lost");
    assert!(read.started_at.is_some() && read.late.is_some());
}

/// Four savers, each with every state of every run in an order of its own.
async fn check_savers_in_any_order_end_alike(history: &History) {
    let runs = 150;
    let mut savers = tokio::task::JoinSet::new();
    for saver in 0..4 {
        let mut rows: Vec<Row> = (0..runs)
            .flat_map(|n| {
                [
                    Row::new(execution(n, None, ""), 5),
                    Row::new(execution(n, Some(Outcome::Failed), "undecided"), 5),
                    Row::new(decided(n, Outcome::Failed, "final"), 5),
                ]
            })
            .collect();
        fastrand::Rng::with_seed(saver).shuffle(&mut rows);
        let history = history.clone();
        savers.spawn(async move {
            for part in rows.chunks(40) {
                let mut tries = 0;
                while let Err(error) = history.save(part).await {
                    tries += 1;
                    assert!(matches!(error, StoreError::Unavailable { .. }) && tries < 50, "{error}");
                }
            }
        });
    }
    savers.join_all().await;
    let ids = walk(history, &Filter::default(), 200).await;
    assert_eq!(ids.len(), runs);
    for id in ids {
        let read = entry(history, &id).await;
        assert_eq!((read.result.as_str(), read.status), ("final", Status::Error), "{id}");
    }
    tally::check_against_rows(history).await;
}

async fn check_pages_are_complete_newest_first_and_filtered(history: &History) {
    let outcomes = [Outcome::Succeeded, Outcome::Failed, Outcome::MisfireSkipped];
    let mut rows: Vec<Row> = (0..120).map(|n| Row::new(decided(n, outcomes[n % 3], ""), 1)).collect();
    // Many of one instant: the order then is that of the ids.
    for n in 120..170 {
        let mut e = execution(n, None, "");
        e.snapshot.created_at = minute(60);
        rows.push(Row::new(e, 1));
    }
    history.save(&rows).await.expect("saved");

    let all = walk(history, &Filter::default(), 200).await;
    assert_eq!(all.len(), 170);
    for page_size in [1, 7, 169, 170] {
        assert_eq!(walk(history, &Filter::default(), page_size).await, all, "pages of {page_size}");
    }
    let text = |text: &str| Some(text.to_owned());
    let check = async |filter: Filter, expected: u64| {
        let ids = walk(history, &filter, 50).await;
        assert_eq!(ids.len() as u64, expected, "{filter:?}");
        let count = history.count(&filter).await.expect("readable");
        assert_eq!(count, expected, "{filter:?}");
    };
    check(Filter { group: text("g1"), ..Filter::default() }, 57).await;
    check(Filter { group: text("G1"), ..Filter::default() }, 0).await;
    check(Filter { job_id: text("job-3"), ..Filter::default() }, 24).await;
    check(Filter { client: text("worker-1.a1b2"), ..Filter::default() }, 170).await;
    check(Filter { client: text("worker-2"), ..Filter::default() }, 0).await;
    check(Filter { name: text("bill 4"), job_id: text("job-4"), ..Filter::default() }, 5).await;
    check(Filter { name: text("' OR 1=1 --"), ..Filter::default() }, 0).await;
    check(Filter { status: Some(Status::Running), ..Filter::default() }, 50).await;
    check(Filter { status: Some(Status::Error), ..Filter::default() }, 40).await;
    check(Filter { outcome: Some(Outcome::MisfireSkipped), ..Filter::default() }, 40).await;
    check(Filter { since: Some(minute(110)), ..Filter::default() }, 10).await;
}

async fn check_large_texts_are_kept_whole_and_shown_short(history: &History) {
    let result = "\u{1f600}".repeat(20_000);
    let mut e = execution(1, None, "");
    e.snapshot.params = "x".repeat(100_000);
    e.status = Status::Done;
    e.result = result.clone();
    e.snapshot.name = "组".repeat(200);
    let row = Row::new(e, 1);
    let id = row.id().to_owned();
    history.save(&[row]).await.expect("saved");
    let read = entry(history, &id).await;
    assert_eq!(read.result.len(), 64 * 1024);
    assert!(result.starts_with(&read.result) && read.result_truncated);
    assert_eq!((read.params.len(), read.name.chars().count()), (64 * 1024, 128));
    let page = history.list(&Filter::default(), 10, None).await.expect("readable");
    assert_eq!(page.rows[0].result.chars().count(), entry::SHOWN_CHARS);
    assert_eq!(page.rows[0].params.len(), entry::SHOWN_CHARS);
}

async fn check_the_rows_of_an_instant_are_found(history: &History) {
    let rows = |run: RunId| {
        let mut execution = decided(1, Outcome::Succeeded, "");
        execution.snapshot.id = run;
        Row::new(execution, 9)
    };
    let job = |id: &str| JobId::new(id).expect("valid");
    let whole = RunId::scheduled(&job("job-1"), minute(1), 1);
    let shard = |index| whole.shard_run(index).expect("fits");
    let wanted = [whole.clone(), shard(0), shard(10), shard(10).with_attempt(2)];
    let others = [
        RunId::scheduled(&job("job-1"), minute(2), 1),
        RunId::scheduled(&job("job-1.a"), minute(1), 1),
        RunId::scheduled(&job("job-10"), minute(1), 1),
        RunId::scheduled(&job("job"), minute(1), 1),
    ];
    let all: Vec<_> = wanted.iter().chain(&others).cloned().map(rows).collect();
    history.save(&all).await.expect("saved");
    let found = history.of_instant(&whole, 10).await.expect("readable");
    let found: Vec<_> = found.into_iter().map(|entry| entry.id).collect();
    assert_eq!(found, wanted.clone().map(|run| run.to_string()));
    assert_eq!(history.of_instant(&whole, 2).await.expect("readable").len(), 2);
}

macro_rules! on_sqlite {
    ($($name:ident: $check:ident;)*) => {
        $(#[tokio::test]
        async fn $name() {
            let directory = tempfile::tempdir().expect("a directory");
            let history = sqlite(&directory).await;
            $check(&history).await;
            history.close().await;
        })*
    };
}

on_sqlite! {
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
async fn a_file_that_is_there_is_opened_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let history = sqlite(&directory).await;
    history.ping().await.expect("open");
    history.save(&[Row::new(decided(1, Outcome::Succeeded, ""), 1)]).await.expect("saved");
    history.close().await;
    let history = sqlite(&directory).await;
    assert_eq!(walk(&history, &Filter::default(), 10).await.len(), 1);
}

#[tokio::test]
async fn a_row_that_a_trigger_refuses_is_set_apart() {
    let directory = tempfile::tempdir().expect("a directory");
    let history = sqlite(&directory).await;
    let Backend::Sqlite(backend) = &history.backend else { panic!("it is SQLite") };
    let trigger = "CREATE TRIGGER veto BEFORE INSERT ON job_execute_snapshot \
        WHEN NEW.result = 'bad' OR NEW.ip = 'bad' BEGIN SELECT RAISE(ABORT, 'vetoed'); END";
    let statement = statement::Statement { sql: trigger.into(), args: Vec::new() };
    assert!(upsert::Writer::execute(backend, &statement).await.is_ok());

    let mut rows: Vec<Row> = (0..300).map(|n| Row::new(decided(n, Outcome::Failed, "fine"), 1)).collect();
    rows[100] = Row::new(decided(100, Outcome::Failed, "bad"), 1);
    let mut hopeless = decided(200, Outcome::Failed, "bad");
    hopeless.snapshot.ip = "bad".into();
    rows[200] = Row::new(hopeless, 1);

    let saved = history.save(&rows).await.expect("the database is there");
    assert_eq!((saved.stored, saved.marked.len(), saved.rejected.len()), (299, 1, 1));
    assert_eq!(saved.rejected[0].id, rows[200].id());
    assert!(saved.rejected[0].reason.contains("vetoed"));
    let marked = entry(&history, rows[100].id()).await;
    assert!(marked.result.contains("not stored") && marked.outcome == Some(Outcome::Failed));
    assert_eq!(history.count(&Filter::default()).await.expect("readable"), 299);
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_is_an_error_that_says_so() {
    let url = "sqlite:///no/such/directory/history.db".parse().expect("a url");
    let history = History::connect(&url, 1).expect("lazy");
    let error = history.migrate(&TimeZone::UTC).await.expect_err("there is no such directory");
    assert!(matches!(error, StoreError::Invalid { .. }), "{error}");
    assert!(error.to_string().contains("db_url"), "{error}");
}
