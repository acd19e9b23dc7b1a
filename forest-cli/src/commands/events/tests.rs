use forest_proto::admin::v1::Event;
use serde_json::{Value, json};
use tonic::Status;

use crate::error::Exit;
use crate::fake::Fake;

const T0: i64 = 1_795_000_000_000;
const RUN: &str = "20261118110640000-10-1";

fn event(id: &str, kind: &str) -> Event {
    Event { id: id.into(), r#type: kind.into(), at: T0, ..Event::default() }
}

fn sign(id: &str, kind: &str) -> Event {
    Event { at: 0, ..event(id, kind) }
}

/// One of each family.
fn events() -> Vec<Result<Event, Status>> {
    let of_job =
        |id: &str, kind: &str| Event { group: "trade".into(), job_id: "10".into(), ..event(id, kind) };
    let of_run = |id: &str, kind: &str, state: &str| Event {
        run_id: RUN.into(),
        state: state.into(),
        ..of_job(id, kind)
    };
    let all = vec![
        sign("100", "heartbeat"),
        Event {
            job_name: "bi\u{1b}ll".into(),
            job_version: 1,
            state: "enabled".into(),
            ..of_job("101.1", "job.created")
        },
        of_run("102.1", "run.created", "pending"),
        Event { client: "w1".into(), at: T0 + 5, ..of_run("103.3", "run.claimed", "running") },
        Event {
            client: "w1".into(),
            outcome: "succeeded".into(),
            duration_ms: 1500,
            ..of_run("104.1", "run.ended", "finished")
        },
        Event { outcome: "overlap_skipped".into(), ..of_run("105.1", "run.ended", "finished") },
        Event { group: "trade".into(), client: "w2".into(), ..event("106.1", "client.left") },
        Event { calendar: "days".into(), ..event("107.1", "calendar.updated") },
        Event { node: "n1".into(), term: 42, ..event("108.1", "leader.changed") },
        Event { node: "n2".into(), ..event("109.1", "node.left") },
        Event { group: "trade".into(), ..event("110.1", "group.deleted") },
    ];
    all.into_iter().map(Ok).collect()
}

#[tokio::test]
async fn what_the_server_remembers_as_lines() {
    let fake = Fake::start().await;
    fake.state().told = [events()].into();
    let expected = "\
2026-11-18 11:06:40+00      job.created       trade  10 bi\u{fffd}ll
2026-11-18 11:06:40+00      run.created       trade  20261118110640000-10-1 pending
2026-11-18 11:06:40.005+00  run.claimed       trade  20261118110640000-10-1 at w1 running
2026-11-18 11:06:40+00      run.ended         trade  20261118110640000-10-1 at w1 succeeded in 1.5s
2026-11-18 11:06:40+00      run.ended         trade  20261118110640000-10-1 overlap_skipped
2026-11-18 11:06:40+00      client.left       trade  w2
2026-11-18 11:06:40+00      calendar.updated  -  days
2026-11-18 11:06:40+00      leader.changed    -  n1 term 42
2026-11-18 11:06:40+00      node.left         -  n2
2026-11-18 11:06:40+00      group.deleted     trade  -
";
    let ran = fake.cli(&["events"]).await;
    assert_eq!((ran.exit, ran.stdout.as_str(), ran.stderr.as_str()), (Exit::Ok, expected, ""));
    let asked = fake.state().events_asked.remove(0);
    assert_eq!((asked.since.as_str(), asked.until_now), ("0", true));
}

#[tokio::test]
async fn events_as_documents_and_ids() {
    let fake = Fake::start().await;
    fake.state().told = [events(), events(), events()].into();
    let whole = fake.cli(&["events", "-o", "json"]).await.json();
    let lines = fake.cli(&["events", "-o", "jsonl"]).await.stdout;
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(whole["events"], Value::Array(lines.clone()));
    let ended = json!({
        "id": "104.1", "type": "run.ended", "at": "2026-11-18T11:06:40.000Z", "group": "trade",
        "job_id": "10", "job_name": "", "job_version": 0, "run_id": RUN, "client": "w1", "state": "finished",
        "outcome": "succeeded", "duration_ms": 1500, "calendar": "", "node": "", "term": 0,
    });
    assert_eq!(lines[3], ended);
    let ids = fake.cli(&["events", "-o", "name"]).await.stdout;
    assert!(ids.starts_with("101.1\n102.1\n103.3\n"), "{ids}");
    let endless = fake.cli(&["events", "-f", "-o", "json"]).await;
    assert_eq!(endless.exit, Exit::Usage, "{}", endless.stderr);
}

#[tokio::test]
async fn what_is_asked_for_is_passed_on() {
    let fake = Fake::start().await;
    fake.add_job("10", "bill");
    let ask = async |line: &[&str]| {
        fake.state().told = [Vec::new()].into();
        let ran = fake.cli(line).await;
        assert_eq!(ran.exit, Exit::Ok, "{line:?}: {}", ran.stderr);
        fake.state().events_asked.pop().expect("asked")
    };
    let asked =
        ask(&["events", "--group", "trade", "--job", "bill", "--type", "job,run.ended", "--type", "node"])
            .await;
    assert_eq!((asked.group.as_str(), asked.job_id.as_str()), ("trade", "10"));
    assert_eq!(asked.types, ["job", "run.ended", "node"]);
    assert_eq!(ask(&["events", "--job", "deleted"]).await.job_id, "deleted", "events may outlive a job");
    assert_eq!(ask(&["events", "--since", "12.3"]).await.since, "12.3");
    let wrong = fake.cli(&["events", "--since", "yesterday"]).await;
    assert_eq!(wrong.exit, Exit::Usage);
    assert!(wrong.stderr.contains("--since") && wrong.stderr.contains("120.3"), "{}", wrong.stderr);
}

#[tokio::test]
async fn an_instant_cuts_off_what_was_before() {
    let fake = Fake::start().await;
    fake.state().told = [events()].into();
    let shown = fake.cli(&["events", "--since", "2026-11-18T11:06:40.001Z", "-o", "name"]).await;
    assert_eq!(shown.stdout, "103.3\n");
    assert_eq!(fake.state().events_asked[0].since, "0");
}

#[tokio::test]
async fn following_goes_on_where_it_stopped_and_says_what_is_missing() {
    let fake = Fake::start().await;
    let first =
        vec![Ok(sign("100", "heartbeat")), Ok(event("101.1", "node.left")), Err(Status::unavailable("bye"))];
    let second = vec![Ok(sign("101.1", "heartbeat")), Ok(event("102.1", "node.left"))];
    let third =
        vec![Ok(sign("120", "reset")), Ok(event("121.1", "node.left")), Err(Status::unauthenticated("gone"))];
    fake.state().told = [first, second, third].into();
    let ran = fake.cli(&["events", "-f", "-o", "name"]).await;
    assert_eq!((ran.exit, ran.stdout.as_str()), (Exit::Denied, "101.1\n102.1\n121.1\n"), "{}", ran.stderr);
    assert!(ran.stderr.contains("events are missing here"), "{}", ran.stderr);
    let asked: Vec<_> = fake.state().events_asked.iter().map(|asked| asked.since.clone()).collect();
    assert_eq!(asked, ["", "101.1", "102.1"]);
    // A program sees it among the events.
    fake.state().told = [vec![Ok(sign("120", "reset"))]].into();
    let ran = fake.cli(&["events", "-o", "jsonl"]).await;
    assert_eq!(ran.json()["type"], "reset");
}

#[tokio::test]
async fn who_cannot_listen_at_all_is_told_at_once() {
    let nobody = crate::fake::cli("http://127.0.0.1:1", &["events", "-f"], "").await;
    assert_eq!(nobody.exit, Exit::Unreachable, "{}", nobody.stderr);
    let fake = Fake::start().await;
    fake.state().refuse_all = Some(Status::resource_exhausted("there are 32 streams of yours already"));
    let refused = fake.cli(&["events", "-f"]).await;
    assert_eq!(refused.exit, Exit::Refused);
    assert!(refused.stderr.contains("cannot listen: there are 32 streams"), "{}", refused.stderr);
}
