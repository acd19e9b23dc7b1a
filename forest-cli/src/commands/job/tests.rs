//! The job commands against a server.

use serde_json::{Value, json};
use tonic::Status;

use crate::error::Exit;
use crate::fake::{Fake, run_in};

const ADD: [&str; 10] =
    ["job", "add", "--name", "账单", "--group", "trade", "--target", "bill", "--cron", "0 0 2 * * ?"];

#[tokio::test]
async fn adding_shows_the_id_and_the_next_fires() {
    let fake = Fake::start().await;
    let added = fake.cli(&ADD).await;
    assert_eq!((added.exit, added.stderr.as_str()), (Exit::Ok, ""));
    let expected = "\
id          1
name        账单
version     1
next fires  2026-11-18 11:06:40+00 (after a gap)
            2026-11-18 12:06:40+00
            2026-11-18 13:06:40+00
";
    assert_eq!(added.stdout, expected);
    let stored = fake.document("1");
    let expected = json!({
        "id": "1", "version": 1, "name": "账单", "group": "trade", "target": "bill", "cron": "0 0 2 * * ?",
        "status": 1,
    });
    assert_eq!(stored, expected);
}

#[tokio::test]
async fn a_saved_job_is_not_called_failed_when_its_fires_are_unknown() {
    let fake = Fake::start().await;
    fake.state().refuse_next = Some(Status::internal("oops"));
    let added = fake.cli(&ADD).await;
    assert_eq!(added.exit, Exit::Ok);
    assert_eq!(added.stderr, "forest-cli: the job is saved, but: cannot compute the next fires: oops\n");
    assert!(added.stdout.contains("id          1\n"), "{}", added.stdout);
}

#[tokio::test]
async fn jobs_in_a_list() {
    let fake = Fake::start().await;
    fake.cli(&ADD).await;
    fake.cli(&[&ADD[..], &["--disabled"]].concat()).await;
    let expected = "\
JOB  NAME  GROUP  TARGET  CRON         NEXT FIRE
1    账单  trade  bill    0 0 2 * * ?  2026-11-18 11:06:40+00
2    账单  trade  bill    0 0 2 * * ?  disabled
";
    assert_eq!(fake.cli(&["job", "list"]).await.stdout, expected);
    let disabled = fake.cli(&["job", "list", "--disabled", "-o", "json"]).await.json();
    assert_eq!(disabled["jobs"].as_array().map(Vec::len), Some(1));
    assert_eq!(disabled["jobs"][0]["document"]["id"], "2");
    assert_eq!(disabled["jobs"][0]["next_fire_at"], Value::Null);
}

#[tokio::test]
async fn a_job_is_found_by_id_or_name_and_shown_whole() {
    let fake = Fake::start().await;
    let more = ["--retry-delays", "1m,90s", "--start-deadline", "1h", "--time-zone", "Asia/Shanghai"];
    fake.cli(&[&ADD[..], &more].concat()).await;
    let expected = "\
id              1
name            账单
group           trade
target          bill
cron            0 0 2 * * ?
time zone       Asia/Shanghai
enabled         yes
next fire       2026-11-18 11:06:40+00
retry delays    1m, 1m30s
start deadline  1h
remark
params
version         1
revision        101
note            a note
";
    assert_eq!(fake.cli(&["job", "get", "1"]).await.stdout, expected);
    assert_eq!(fake.cli(&["job", "get", "账单"]).await.stdout, expected);
    let json = fake.cli(&["job", "get", "账单", "-o", "json"]).await.json();
    assert_eq!(json["document"], fake.document("1"));
    assert_eq!((&json["revision"], &json["notes"]), (&json!(101), &json!(["a note"])));
    assert_eq!(json["next_fire_at"], "2026-11-18T11:06:40.000Z");

    let missing = fake.cli(&["job", "get", "nothing"]).await;
    assert_eq!(missing.exit, Exit::NotFound);
    assert_eq!(missing.stderr, "forest-cli: there is no job whose id or name is \"nothing\"\n");
}

#[tokio::test]
async fn an_ambiguous_name_is_refused_with_the_ids() {
    let fake = Fake::start().await;
    fake.add_job("7", "bill");
    fake.add_job("8", "bill");
    let ran = fake.cli(&["job", "delete", "bill", "--yes"]).await;
    assert_eq!(ran.exit, Exit::Refused);
    assert_eq!(ran.stderr, "forest-cli: several jobs are named \"bill\": say which id: 7, 8\n");
    assert_eq!(fake.state().jobs.len(), 2);
}

#[tokio::test]
async fn editing_sends_only_what_was_given() {
    let fake = Fake::start().await;
    fake.cli(&ADD).await;
    let edited = fake.cli(&["job", "edit", "账单", "--every", "90s", "--version", "1"]).await;
    assert_eq!(edited.exit, Exit::Ok, "{}", edited.stderr);
    let patch = fake.state().patch.clone().expect("was asked");
    assert_eq!((patch.id.as_str(), patch.patch.as_str()), ("1", r#"{"cron":"@every 90s"}"#));
    assert_eq!(fake.document("1")["version"], 2);

    let stale = fake.cli(&["job", "edit", "1", "--remark", "x", "--version", "1"]).await;
    assert_eq!((stale.exit, stale.stdout.as_str()), (Exit::Conflict, ""));
    assert!(
        stale.stderr.starts_with("forest-cli: cannot edit the job: the job is at version 2, not 1 [VERSION"),
        "{}",
        stale.stderr
    );
}

#[tokio::test]
async fn a_document_can_be_read_changed_and_written_back() {
    let fake = Fake::start().await;
    fake.cli(&ADD).await;
    let mut document = fake.cli(&["job", "get", "1", "-o", "json"]).await.json()["document"].take();
    document["remark"] = "changed".into();
    let edited = fake.cli_with_stdin(&["job", "edit", "1", "-f", "-"], &document.to_string()).await;
    assert_eq!(edited.exit, Exit::Ok, "{}", edited.stderr);
    assert_eq!(fake.document("1")["remark"], "changed");
    assert_eq!(fake.state().patch.as_ref().map(|patch| patch.version), Some(1), "it was the version read");
}

#[tokio::test]
async fn a_wrong_field_is_named_with_its_flag() {
    let fake = Fake::start().await;
    let refused = fake.cli(&[&ADD[..], &["--time-zone", "Mars"]].concat()).await;
    assert_eq!((refused.exit, refused.stdout.as_str()), (Exit::Refused, ""));
    let expected = "forest-cli: cannot add the job: time_zone (--time-zone): no such zone\n";
    assert_eq!(refused.stderr, expected);
}

#[tokio::test]
async fn enabling_and_disabling() {
    let fake = Fake::start().await;
    fake.cli(&ADD).await;
    let disabled = fake.cli(&["job", "disable", "1", "--reason", "holidays"]).await;
    assert!(disabled.stdout.contains("next fires  disabled\n"), "{}", disabled.stdout);
    assert_eq!(fake.document("1")["pause_reason"], "holidays");
    let enabled = fake.cli(&["job", "enable", "账单", "-o", "json"]).await.json();
    assert_eq!(
        (&enabled["document"]["status"], &enabled["fires"][0]["note"]),
        (&json!(1), &json!("after a gap"))
    );
}

#[tokio::test]
async fn deleting_asks_and_deletes_what_was_shown() {
    let fake = Fake::start().await;
    fake.cli(&ADD).await;
    let no = fake.cli_at_terminal(&["job", "delete", "1"], "n\n").await;
    assert_eq!((no.exit, no.stdout.as_str()), (Exit::Refused, ""));
    assert_eq!(no.stderr, "Delete job 账单 (1) of group trade? [y/N] forest-cli: nothing was done\n");
    assert_eq!(fake.cli(&["job", "delete", "1"]).await.exit, Exit::Usage, "nobody is there to answer");
    assert_eq!(fake.state().jobs.len(), 1);
    let yes = fake.cli_at_terminal(&["job", "delete", "账单"], "y\n").await;
    assert_eq!((yes.exit, fake.state().jobs.len()), (Exit::Ok, 0));
    assert_eq!(fake.state().deleted_version, Some(1));

    fake.cli(&ADD).await;
    let deleted = fake.cli(&["job", "delete", "2", "--yes", "-o", "json"]).await;
    assert_eq!(deleted.json(), json!({ "deleted": { "job": "2" } }));
    assert_eq!(fake.state().deleted_version, Some(0));
}

#[tokio::test]
async fn next_fires_of_an_expression() {
    let fake = Fake::start().await;
    let line = ["job", "next", "--cron", "0 30 2 * * ?", "--time-zone", "Europe/Paris", "-n", "2"];
    let expected = "\
FIRES                   IN Europe/Paris            NOTE
2026-11-18 11:06:40+00  2026-11-18T12:06:40+01:00  after a gap
2026-11-18 12:06:40+00  2026-11-18T13:06:40+01:00
";
    assert_eq!(fake.cli(&line).await.stdout, expected);
    let asked = fake.state().next_asked.clone().expect("was asked");
    assert_eq!((asked.id.as_str(), asked.cron.as_str(), asked.count), ("", "0 30 2 * * ?", 2));
    assert_eq!((asked.dst_gap.as_str(), asked.dst_fold.as_str()), ("next_valid", "first"));
    let json = fake.cli(&[&line[..], &["-o", "json"]].concat()).await.json();
    let second =
        json!({ "at": "2026-11-18T12:06:40.000Z", "local": "2026-11-18T13:06:40+01:00", "note": "" });
    assert_eq!((&json["time_zone"], &json["fires"][1]), (&json!("Europe/Paris"), &second));
}

#[tokio::test]
async fn calendars_are_named_one_by_one_and_taken_out_by_nothing() {
    let fake = Fake::start().await;
    fake.add_job("7", "bill");
    for (given, patched) in [("cn,hk", json!(["cn", "hk"])), ("", json!([]))] {
        assert_eq!(fake.cli(&["job", "edit", "7", "--calendars", given]).await.exit, Exit::Ok);
        assert_eq!(fake.document("7")["calendars"], patched);
    }
}

#[tokio::test]
async fn next_fires_of_a_job() {
    let fake = Fake::start().await;
    fake.add_job("7", "bill");
    assert_eq!(fake.cli(&["job", "next", "bill"]).await.stdout.lines().count(), 6);
    let asked = fake.state().next_asked.clone().expect("was asked");
    assert_eq!((asked.id.as_str(), asked.cron.as_str(), asked.count), ("7", "", 5));
}

#[tokio::test]
async fn running_prints_the_id_of_the_run() {
    let fake = Fake::start().await;
    fake.add_job("7", "bill");
    let ran = fake
        .cli_with_stdin(&["job", "run", "bill", "--params-file", "-", "--key", "k1", "--client", "w-1"], "{}")
        .await;
    assert_eq!((ran.exit, ran.stdout.as_str(), ran.stderr.as_str()), (Exit::Ok, "r7\n", ""));
    let asked = fake.state().run_asked.clone().expect("was asked");
    assert_eq!((asked.params.as_deref(), asked.idempotency_key.as_str()), (Some("{}"), "k1"));
    assert_eq!(asked.client, "w-1");
    let json = fake.cli(&["job", "run", "7", "-o", "json"]).await.json();
    assert_eq!(json, json!({ "run_id": "r7" }));
    assert_eq!(fake.state().run_asked.clone().expect("was asked").params, None, "the job's own");
}

#[tokio::test]
async fn waiting_ends_with_the_run() {
    let fake = Fake::start().await;
    fake.add_job("7", "bill");
    let polls =
        [Err(Status::not_found("no run r7")), Ok(run_in("running", "")), Ok(run_in("finished", "succeeded"))];
    fake.state().polls = polls.into();
    let ran = fake.cli(&["job", "run", "7", "--wait"]).await;
    assert_eq!((ran.exit, ran.stdout.as_str()), (Exit::Ok, "r7\n"));
    assert_eq!(ran.stderr, "forest-cli: run r7 succeeded after 1.5s\n");

    fake.state().polls = [Ok(run_in("finished", "failed"))].into();
    let ran = fake.cli(&["job", "run", "7", "--wait", "-o", "json"]).await;
    assert_eq!(ran.exit, Exit::Refused);
    assert_eq!(ran.stderr, "forest-cli: run r7 ended as failed: line one line two\n");
    let json = ran.json();
    assert_eq!((&json["run_id"], &json["run"]["outcome"]), (&json!("r7"), &json!("failed")));
}

#[tokio::test]
async fn waiting_does_not_last_for_ever() {
    let fake = Fake::start().await;
    fake.add_job("7", "bill");
    fake.state().polls = [Ok(run_in("queued", ""))].into();
    let ran = fake.cli(&["job", "run", "7", "--wait", "--wait-timeout", "150ms"]).await;
    assert_eq!((ran.exit, ran.stdout.as_str()), (Exit::Refused, "r7\n"));
    assert_eq!(ran.stderr, "forest-cli: run r7 is still queued after 150ms; it goes on, see `run get`\n");
}

#[tokio::test]
async fn a_job_that_follows_others_shows_the_chain() {
    let fake = Fake::start().await;
    fake.add_job("7", "账单");
    let line = ["job", "add", "--name", "report", "--group", "trade", "--target", "report"];
    let after = ["--after", "账单", "--after-on", "end", "--after-within", "day"];
    let added = fake.cli(&[&line[..], &after].concat()).await;
    assert_eq!(added.exit, Exit::Ok, "{}", added.stderr);
    assert!(added.stdout.contains("next fires  after the end of bill (7), of one day\n"), "{}", added.stdout);
    let stored = fake.document("1");
    assert_eq!(stored["trigger"], json!({"kind": "after", "jobs": ["7"], "on": "end", "within": "day"}));
    assert_eq!(stored["cron"], "");

    fake.state().jobs[0].insert("followers".into(), json!(["1", "gone"]));
    let shown = fake.cli(&["job", "get", "7"]).await.stdout;
    assert!(shown.contains("followed by  bill (1), gone (does not exist)\n"), "{shown}");
    let json = fake.cli(&["job", "get", "1", "-o", "json"]).await.json();
    assert_eq!((&json["after"][0]["id"], &json["followers"]), (&json!("7"), &json!([])));

    let next = fake.cli(&["job", "next", "1"]).await;
    let expected =
        "forest-cli: the job has no times of its own: it runs after the end of bill (7), of one day\n";
    assert_eq!(next.stderr, expected);
    let wrong = fake.cli(&[&line[..], &["--after", "nothing"]].concat()).await;
    assert_eq!(wrong.exit, Exit::NotFound);
}
