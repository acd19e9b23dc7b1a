use forest_proto::admin::v1::Run;
use serde_json::json;

use crate::error::Exit;
use crate::fake::{Fake, run_in};

const RANGE: [&str; 4] = ["--from", "2026-11-18T00:00:00Z", "--to", "2026-11-18 11:00"];

async fn fake() -> Fake {
    let fake = Fake::start().await;
    fake.add_job("7", "bill");
    fake
}

fn line<'a>(more: &[&'a str]) -> Vec<&'a str> {
    ["backfill", "start", "bill"].into_iter().chain(RANGE).chain(more.iter().copied()).collect()
}

#[tokio::test]
async fn a_dry_run_tells_what_would_be_run() {
    let fake = fake().await;
    let ran = fake.cli(&line(&["--dry-run", "--max", "2"])).await;
    let expected = "\
job      7
from     2026-11-18 00:00:00+00
to       2026-11-18 11:00:00+00
fires    3
first    2026-11-18 08:06:40+00
last     2026-11-18 10:06:40+00
refused  1 more than --max 2
";
    assert_eq!((ran.exit, ran.stdout.as_str()), (Exit::Ok, expected), "{}", ran.stderr);
    assert!(fake.state().backfill.is_none());
    let json = fake.cli(&line(&["--dry-run", "-o", "json"])).await.json();
    assert_eq!(
        (&json["fires"], &json["backfill"], &json["beyond_max"]),
        (&json!(3), &json!(null), &json!(0))
    );
    let asked = fake.state().backfill_asked.clone().expect("asked");
    assert_eq!((asked.from, asked.to - asked.from), (1_794_960_000_000, 11 * 3_600_000));
}

#[tokio::test]
async fn a_backfill_is_started_listed_and_cancelled() {
    let fake = fake().await;
    let ran = fake.cli(&line(&["--params", "again", "-o", "json"])).await;
    assert_eq!(ran.json()["backfill"]["params"], "again", "{}", ran.stderr);
    let listed = fake.cli(&["backfill", "list"]).await.stdout;
    let expected = "\
JOB  NAME  CREATED  ALIVE  NEXT                    STATE
7    bill  0/3      0      2026-11-18 08:06:40+00  running
";
    assert_eq!(listed, expected);
    let second = fake.cli(&line(&[])).await;
    assert_eq!(second.exit, Exit::Refused, "{}", second.stderr);
    let cancelled = fake.cli(&["backfill", "cancel", "bill"]).await;
    assert_eq!(
        (cancelled.exit, cancelled.stderr.as_str()),
        (Exit::Ok, "forest-cli: deleted backfill of job 7\n")
    );
    assert_eq!(fake.cli(&["backfill", "cancel", "7"]).await.exit, Exit::NotFound);
}

#[tokio::test]
async fn waiting_ends_with_the_last_run() {
    let fake = fake().await;
    fake.state().polls.push_back(Ok(run_in("finished", "succeeded")));
    let ran = fake.cli(&line(&["--wait"])).await;
    assert_eq!(ran.exit, Exit::Ok, "{}", ran.stderr);
    let expected = "\
forest-cli: 1 of 3 runs created, 0 alive
forest-cli: all 3 runs have ended, see `run list --job`
";
    assert_eq!(ran.stderr, expected);
}

#[tokio::test]
async fn waiting_tells_of_a_backfill_that_ended_early() {
    let fake = fake().await;
    let missing = || Err::<Run, _>(tonic::Status::not_found("no run r7"));
    fake.state().polls.push_back(missing());
    let ran = fake.cli(&line(&["--wait"])).await;
    assert_eq!(ran.exit, Exit::Refused);
    assert!(ran.stderr.contains("ended before its last fire"), "{}", ran.stderr);
}

#[tokio::test]
async fn a_range_that_cannot_be_read_is_a_usage_error() {
    let fake = fake().await;
    let ran = fake.cli(&["backfill", "start", "7", "--from", "noon", "--to", "1h"]).await;
    assert_eq!(ran.exit, Exit::Usage);
    assert!(ran.stderr.contains("--from: \"noon\""), "{}", ran.stderr);
}
