//! Jobs in files against a server.

use serde_json::{Value, json};
use tonic::Status;

use crate::error::Exit;
use crate::fake::{Fake, Ran};

/// Two jobs that a file might hold.
const FILE: &str = "\
---
name: bill
group: trade
target: bill
cron: 0 0 2 * * ?
labels: {zone: a}
---
name: tax
group: trade
target: tax
cron: \"@every 90s\"
overlap: allow
";

async fn with_group() -> Fake {
    let fake = Fake::start().await;
    fake.cli(&["group", "add", "trade"]).await;
    fake
}

async fn apply(fake: &Fake, file: &str, more: &[&str]) -> Ran {
    fake.cli_with_stdin(&[&["job", "apply", "-f", "-"], more].concat(), file).await
}

#[tokio::test]
async fn what_is_applied_is_added_then_unchanged_then_changed_by_its_fields_alone() {
    let fake = with_group().await;
    let added = apply(&fake, FILE, &[]).await;
    let expected = "\
DONE   JOB  NAME  GROUP  FIELDS
added  1    bill  trade
added  2    tax   trade
";
    assert_eq!((added.exit, added.stdout.as_str()), (Exit::Ok, expected), "{}", added.stderr);
    assert_eq!((&fake.document("1")["status"], &fake.document("2")["overlap"]), (&json!(1), &json!("allow")));

    let calls = fake.state().calls;
    let again = apply(&fake, FILE, &["-o", "json"]).await.json();
    assert_eq!(
        (&again["changes"][0]["action"], &again["changes"][1]["action"]),
        (&json!("unchanged"), &json!("unchanged"))
    );
    assert!(fake.state().calls > calls && fake.state().patch.is_none(), "nothing was written");

    let edited = FILE.replace("0 0 2", "0 0 3").replace("labels: {zone: a}\n", "");
    let changed = apply(&fake, &edited, &[]).await;
    let expected = "\
DONE       JOB  NAME  GROUP  FIELDS
changed    1    bill  trade  cron, labels
unchanged  2    tax   trade
";
    assert_eq!(changed.stdout, expected, "{}", changed.stderr);
    let sent = fake.state().patch.clone().expect("an edit");
    assert_eq!((sent.id.as_str(), sent.version), ("1", 1), "only if it is still as it was compared");
    let patch: Value = serde_json::from_str(&sent.patch).expect("JSON");
    assert_eq!(
        patch,
        json!({"cron": "0 0 3 * * ?", "labels": null}),
        "what a file leaves out has its default"
    );
}

#[tokio::test]
async fn what_was_disabled_by_hand_stays_so_unless_the_file_says_it() {
    let fake = with_group().await;
    apply(&fake, FILE, &[]).await;
    fake.cli(&["job", "disable", "bill", "--reason", "holidays"]).await;
    let kept = apply(&fake, FILE, &["-o", "jsonl"]).await.stdout;
    assert_eq!(kept.matches("\"unchanged\"").count(), 2, "{kept}");
    assert_eq!(fake.document("1")["status"], 2);
    apply(&fake, &FILE.replacen("cron:", "status: 1\ncron:", 1), &[]).await;
    assert_eq!(fake.document("1")["status"], 1);
}

#[tokio::test]
async fn an_export_is_stable_and_applies_without_a_change() {
    let fake = with_group().await;
    apply(&fake, FILE, &[]).await;
    fake.cli(&[
        "job",
        "add",
        "--name",
        "a",
        "--group",
        "trade",
        "--target",
        "t",
        "--rate",
        "5s",
        "--disabled",
    ])
    .await;
    let exported = fake.cli(&["job", "export", "--group", "trade"]).await;
    let expected = "\
---
name: a
group: trade
status: 2
target: t
trigger:
  every_ms: 5000
  kind: fixed_rate
---
name: bill
group: trade
cron: 0 0 2 * * ?
status: 1
target: bill
labels:
  zone: a
---
name: tax
group: trade
cron: '@every 90s'
status: 1
target: tax
overlap: allow
";
    assert_eq!((exported.exit, exported.stdout.as_str()), (Exit::Ok, expected), "{}", exported.stderr);
    for format in ["yaml", "json", "jsonl"] {
        let text = fake.cli(&["job", "export", "-o", format]).await.stdout;
        let applied = apply(&fake, &text, &["-o", "json", "--prune", "--group", "trade"]).await.json();
        let actions: Vec<_> =
            applied["changes"].as_array().expect("a list").iter().map(|c| &c["action"]).collect();
        assert_eq!(actions, ["unchanged"; 3], "{format}");
    }
    assert_eq!(fake.cli(&["job", "export", "-o", "name"]).await.stdout, "3\n1\n2\n");
}

#[tokio::test]
async fn every_kind_of_value_survives_the_way_through_a_file() {
    let fake = with_group().await;
    let file = "\
---
name: all
group: trade
status: 2
target: t
params: \"two\\nlines: 'quoted'\"
remark: 'yes'
trigger: {kind: once, at: 2027-10-01T08:00:00+08:00}
labels: {zone: a, '1': 'true'}
shard_params: {0: 北京, 1: ''}
retry_delays_ms: [60000, 300000]
retry_if: [lost]
on_lost: retry
max_attempts: 3
priority: -5
";
    assert_eq!(apply(&fake, file, &[]).await.exit, Exit::Ok);
    let stored = fake.document("1");
    assert_eq!(stored["params"], "two\nlines: 'quoted'");
    assert_eq!(stored["trigger"]["at"], "2027-10-01T00:00:00.000Z");
    assert_eq!(stored["shard_params"], json!({"0": "北京", "1": ""}));
    assert_eq!((&stored["priority"], &stored["remark"]), (&json!(-5), &json!("yes")));
    for format in ["yaml", "json", "jsonl"] {
        let text = fake.cli(&["job", "export", "-o", format]).await.stdout;
        let same = fake.cli_with_stdin(&["job", "diff", "-f", "-"], &text).await;
        assert_eq!((same.exit, same.stdout.as_str()), (Exit::Ok, ""), "{format}: {text}");
    }
}

#[tokio::test]
async fn namesakes_are_told_apart_by_their_ids() {
    let fake = with_group().await;
    fake.add_job("7", "bill");
    fake.add_job("8", "bill");
    let ambiguous = apply(&fake, "---\n{name: bill, group: trade, target: t, cron: '@daily'}", &[]).await;
    assert_eq!(ambiguous.exit, Exit::Usage);
    let line =
        "forest-cli: stdin, document 1: several jobs of the group are named so: say which `id`: 7, 8\n";
    assert!(ambiguous.stderr.starts_with(line), "{}", ambiguous.stderr);
    let wanted = "{id: '8', name: bill, group: trade, target: t, cron: '@daily', version: 1}";
    let wanted = format!("---\n{wanted}\n");
    assert_eq!(apply(&fake, &wanted, &[]).await.exit, Exit::Ok);
    assert_eq!((fake.document("7").get("cron"), &fake.document("8")["cron"]), (None, &json!("@daily")));
    let exported = fake.cli(&["job", "export", "-o", "json"]).await;
    let ids: Vec<_> =
        exported.json().as_array().expect("a list").iter().map(|job| job["id"].clone()).collect();
    assert_eq!(ids, ["7", "8"]);

    let missing = apply(&fake, &wanted.replace('8', "9"), &[]).await;
    assert!(
        missing.exit == Exit::Usage && missing.stderr.contains("there is no job \"9\""),
        "{}",
        missing.stderr
    );
    let twice = apply(&fake, &format!("{wanted}{}", wanted.replace("bill", "other")), &[]).await;
    assert!(twice.exit == Exit::Usage && twice.stderr.contains("another document means the same job"));
}

#[tokio::test]
async fn bad_files_change_nothing_and_all_that_is_wrong_is_told() {
    let fake = with_group().await;
    let file = "\
---
{name: good, group: trade, target: t, cron: '@daily'}
---
{name: a, group: trade, target: t, cron: '@daily', overlpa: allow}
---
{name: a, group: trade, target: t}
---
{name: a, group: trade, target: t, cron: '@daily', max_attempts: many}
---
{name: a, group: trade, target: t, cron: '@daily', overlap: maybe}
---
{id: 7, name: a, group: trade, target: t, cron: '@daily'}
---
{name: good, group: trade, target: u, cron: '@daily'}
---
just text
";
    let calls = fake.state().calls;
    let refused = apply(&fake, file, &[]).await;
    let expected = "\
forest-cli: stdin, document 2: \"overlpa\" is not a field of a job
forest-cli: stdin, document 3: cron: is required, or a trigger
forest-cli: stdin, document 4: max_attempts: invalid type: string \"many\", expected u32
forest-cli: stdin, document 5: overlap: unknown variant `maybe`, expected one of `forbid`, `allow`, `queue_one`, `queue_all`, `cancel_running`
forest-cli: stdin, document 6: id: must be text: put it in quotes
forest-cli: stdin, document 8: is not a job: it must be fields and their values
forest-cli: stdin, document 7: a job trade/good stands before it
forest-cli: nothing was changed: repair these 7 first
";
    assert_eq!((refused.exit, refused.stderr.as_str(), refused.stdout.as_str()), (Exit::Usage, expected, ""));
    assert_eq!(fake.state().calls - calls, 2, "the expressions of two jobs");
    for (file, line) in [
        ("cron: @daily", "forest-cli: stdin is not YAML: "),
        ("{\"name\": ", "forest-cli: stdin is not JSON: "),
        ("# nothing\n", "forest-cli: there is no job in the files\n"),
        ("{name: a, group: other, target: t, cron: '@daily'}\n#", "forest-cli: stdin is not JSON: "),
        (
            "---\n{name: a, group: other, target: t, cron: '@daily'}",
            "forest-cli: there is no group \"other\"",
        ),
    ] {
        let refused = apply(&fake, file, &["--prune", "--group", "trade", "--yes"]).await;
        assert!(
            refused.stderr.starts_with(line) && refused.exit == Exit::Usage,
            "{file}: {}",
            refused.stderr
        );
    }
    fake.state().refuse_next = Some(Status::invalid_argument("no such day"));
    let cron = apply(&fake, FILE, &[]).await;
    assert!(
        cron.stderr.contains("document 1: cannot compute the next fires: no such day"),
        "{}",
        cron.stderr
    );
    assert!(fake.state().jobs.is_empty());
}

#[tokio::test]
async fn only_jobs_of_the_named_group_that_are_in_no_file_are_deleted_and_only_if_one_agrees() {
    let fake = with_group().await;
    apply(&fake, FILE, &[]).await;
    let more = "---\n{name: other, group: mail, target: t, cron: '@daily'}\n";
    fake.cli(&["group", "add", "mail"]).await;
    apply(&fake, more, &[]).await;
    let one = &FILE[..FILE.rfind("---").expect("two documents")];
    let prune = ["--prune", "--group", "trade"];

    let dry = apply(&fake, one, &[&prune[..], &["--dry-run"]].concat()).await;
    assert!(dry.stdout.contains("deleted    2    tax"), "{}", dry.stdout);
    assert_eq!(dry.stderr, "forest-cli: nothing was changed: --dry-run\n");
    let nobody = apply(&fake, one, &prune).await;
    assert_eq!((nobody.exit, fake.state().jobs.len()), (Exit::Usage, 3));
    assert!(nobody.stderr.starts_with("forest-cli: in no file: trade/tax (2)\n"), "{}", nobody.stderr);
    let (folder, file) = in_a_file(one);
    let line = [&["job", "apply", "-f", &file][..], &prune].concat();
    assert_eq!(fake.cli_at_terminal(&line, "n\n").await.exit, Exit::Refused);
    assert_eq!(fake.state().jobs.len(), 3);
    let yes = fake.cli_at_terminal(&line, "y\n").await;
    assert_eq!((yes.exit, fake.state().jobs.len()), (Exit::Ok, 2), "{}", yes.stderr);
    assert_eq!(fake.state().deleted_version, Some(1), "only if it is still as it was shown");
    drop(folder);
    // Nor is a job of another group that the files do speak of.
    let both = format!("{one}{}", more.replace("other", "new"));
    let applied = apply(&fake, &both, &[&prune[..], &["--yes"]].concat()).await;
    assert_eq!((applied.exit, fake.state().jobs.len()), (Exit::Ok, 3), "{}", applied.stdout);
    assert_eq!(fake.document("3")["name"], "other");
}

fn in_a_file(text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("jobs.yaml");
    std::fs::write(&path, text).expect("written");
    let path = path.to_str().expect("text").to_owned();
    (folder, path)
}

#[tokio::test]
async fn a_difference_is_shown_as_diff_shows_it() {
    let fake = with_group().await;
    apply(&fake, FILE, &[]).await;
    let same = fake.cli_with_stdin(&["job", "diff", "-f", "-"], FILE).await;
    assert_eq!((same.exit, same.stdout.as_str(), same.stderr.as_str()), (Exit::Ok, "", ""));

    let wanted = FILE.replace("0 0 2", "0 0 3").replace("name: tax", "name: vat");
    let line = ["job", "diff", "-f", "-", "--prune", "--group", "trade"];
    let differs = fake.cli_with_stdin(&line, &wanted).await;
    let expected = "\
--- stored trade/bill (1)
+++ stdin, document 1
@@ -1,6 +1,6 @@
 name: bill
 group: trade
-cron: 0 0 2 * * ?
+cron: 0 0 3 * * ?
 target: bill
 labels:
   zone: a
--- /dev/null
+++ stdin, document 2
@@ -0,0 +1,6 @@
+name: vat
+group: trade
+cron: '@every 90s'
+status: 1
+target: tax
+overlap: allow
--- stored trade/tax (2)
+++ /dev/null
@@ -1,6 +0,0 @@
-name: tax
-group: trade
-cron: '@every 90s'
-status: 1
-target: tax
-overlap: allow
";
    assert_eq!((differs.exit.code(), differs.stdout.as_str(), differs.stderr.as_str()), (1, expected, ""));
    let json = fake.cli_with_stdin(&[&line[..], &["-o", "json"]].concat(), &wanted).await;
    assert_eq!(
        json.json()["changes"][0]["fields"],
        json!({"cron": {"from": "0 0 2 * * ?", "to": "0 0 3 * * ?"}})
    );

    fake.state().refuse_all = Some(Status::internal("oops"));
    let failed = fake.cli_with_stdin(&["job", "diff", "-f", "-"], FILE).await;
    assert_eq!(failed.exit.code(), 2, "1 means that there is a difference");
}

#[tokio::test]
async fn what_the_server_refuses_ends_the_changes_and_what_was_done_is_told() {
    let fake = with_group().await;
    let file = FILE.replacen(
        "overlap: allow",
        "time_zone: Mars\n---\nname: c\ngroup: trade\ntarget: c\ncron: '@daily'",
        1,
    );
    let ended = apply(&fake, &file, &[]).await;
    assert_eq!(ended.exit, Exit::Refused);
    assert_eq!(ended.stdout, "DONE   JOB  NAME  GROUP  FIELDS\nadded  1    bill  trade\n");
    let line = "forest-cli: cannot add the job: time_zone (--time-zone): no such zone; this was trade/tax, and 2 changes were not made\n";
    assert_eq!(ended.stderr, line);
}

#[tokio::test]
async fn files_are_checked_without_a_server_too() {
    let (folder, file) = in_a_file(FILE);
    let offline = ["job", "validate", "--offline", "-f", &file];
    let valid = crate::fake::cli("http://127.0.0.1:1", &offline, "").await;
    assert_eq!((valid.exit, valid.stdout.as_str()), (Exit::Ok, ""));
    assert_eq!(valid.stderr, "forest-cli: 2 jobs are valid\n");
    let unreachable = crate::fake::cli("http://127.0.0.1:1", &["job", "validate", "-f", &file], "").await;
    assert_eq!(unreachable.exit, Exit::Unreachable);
    let fake = Fake::start().await;
    let both = fake.cli(&["job", "validate", "-f", &file, &file]).await;
    assert_eq!(both.exit, Exit::Usage, "the same jobs twice");
    drop(folder);
}
