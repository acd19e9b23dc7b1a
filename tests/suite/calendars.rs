//! Calendars from the command line to the plan, across a real etcd.

use std::path::Path;

use forest_tests::cluster::Cluster;
use serde_json::Value;
use tonic::Code;

use crate::cli::{Cli, plain};
use crate::stage::Stage;

/// 2027-10-01 to 2027-10-07 are free in China, and 2027-10-09, a Saturday, is not.
const GOLDEN_WEEK: &str = "2027-10-01..2027-10-07  # National Day\n+2027-10-09\n";

fn file(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("the folder can be written to");
    let path = path.to_string_lossy().into_owned();
    assert!(!path.contains(['_', ' ']), "{path} would be taken apart");
    path
}

fn folder() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("days-").rand_bytes(12).tempdir().expect("a folder")
}

/// The local times of fires, and their notes.
fn fires(answer: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let fires = answer["fires"].as_array().expect("fires").iter();
    fires.map(|fire| (text(&fire["local"]), text(&fire["note"]))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_calendar_changes_the_fires_of_the_jobs_that_name_it() {
    let Some(stage) = Stage::set(Cluster::builder()).await else { return };
    let (cli, folder) = (Cli::of(&stage), folder());
    let (group, job) = (plain("cli"), plain("job"));
    cli.ok(&format!("group add {group}")).await;
    let add = format!("job add --group {group} --name {job} --target echo --cron 0_0_9_*_*_MON-FRI");
    cli.refused(&format!("{add} --calendars cn"), 1, "there is no calendar \"cn\"").await;

    let week = file(folder.path(), "cn.txt", GOLDEN_WEEK);
    let set = cli.json(&format!("calendar set cn --file {week} --remark holidays")).await;
    assert_eq!((&set["excluded"][0], &set["version"]), (&"2027-10-01..2027-10-07".into(), &1.into()));
    cli.ok(&format!("{add} --calendars cn --time-zone Asia/Shanghai")).await;

    let explain = async |at: &str| cli.json(&format!("job explain {job} --at {at}")).await;
    let left_out = explain("2027-10-04T09:00:00+08:00").await;
    assert_eq!(left_out["outcome"], "calendar_excluded", "{left_out}");
    assert!(left_out["reason"].as_str().is_some_and(|reason| reason.ends_with(": cn")), "{left_out}");
    assert_eq!(explain("2027-10-04T09:00:01+08:00").await["outcome"], "not_a_fire");
    assert_eq!(explain("2027-10-09T09:00:00+08:00").await["outcome"], "planned", "a Saturday that is put in");

    // Every segment's generation is put with the days, so that no leader dispatches on those of before.
    let gateway = stage.cluster.etcd().gateway().await;
    let generations = format!("{}/server/jobgen/", stage.cluster.key_root());
    let days = |text: &'static str| file(folder.path(), "other.txt", text);
    let next = async || {
        let found = cli.json(&format!("job get {job}")).await;
        found["next_fire_at"].as_str().map(str::to_owned)
    };
    let before = next().await.expect("it fires");
    let all = days("2026-01-01..2029-12-31\n+2028-02-05\n");
    cli.ok(&format!("calendar set cn --file {all}")).await;
    assert_eq!(next().await.as_deref(), Some("2028-02-05T01:00:00.000Z"), "the only day that is left");
    let put = gateway.list(&generations).await.expect("listed");
    let revisions: std::collections::BTreeSet<_> = put.iter().map(|entry| entry.mod_revision).collect();
    assert_eq!((put.len(), revisions.len()), (16, 1), "{put:?}");
    let got = cli.json("calendar get cn").await;
    assert_eq!((&got["version"], &got["remark"], &got["jobs"]), (&2.into(), &"holidays".into(), &1.into()));
    cli.refused(&format!("calendar set cn --file {week} --version 1"), 4, "changed").await;
    cli.ok(&format!("calendar set cn --file {week} --version 2")).await;
    assert_eq!(next().await, Some(before));

    cli.refused("calendar delete cn --yes", 1, "is used by job").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_calendar_is_deleted_once_no_job_names_it() {
    let Some(stage) = Stage::set(Cluster::builder()).await else { return };
    let (cli, folder) = (Cli::of(&stage), folder());
    let week = file(folder.path(), "cn.txt", GOLDEN_WEEK);
    cli.ok(&format!("calendar set cn --file {week}")).await;
    let job = stage.job(serde_json::json!({ "calendars": ["cn"] })).await;
    cli.refused("calendar delete cn --yes", 1, &job).await;
    let admin = stage.cluster.admin();
    admin.edit_job(&job, &serde_json::json!({ "calendars": null })).await.expect("it can be taken out");
    cli.ok("calendar delete cn --yes").await;
    cli.refused("calendar get cn", 3, "cn").await;
    cli.refused("calendar delete cn --yes", 3, "cn").await;
    let again = admin.edit_job(&job, &serde_json::json!({ "calendars": ["cn"] })).await;
    assert!(again.is_err_and(|status| status.message().starts_with("calendars[0]: there is no calendar")));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_calendar_is_deleted_under_a_job_that_is_just_saved() {
    let Some(stage) = Stage::set(Cluster::builder().nodes(2)).await else { return };
    let (one, other) = (stage.cluster.admin(), stage.cluster.admin());
    let (mut kept, mut deleted) = (0, 0);
    for round in 0..40 {
        let name = format!("days-{round}");
        one.set_calendar(&name, "2027-10-01").await.expect("it can be set");
        let job = serde_json::json!({
            "name": "n", "group": stage.group, "target": "echo", "cron": "@daily", "calendars": [name],
        });
        // Now this one comes first and now the other, and often just between the other's reading and writing.
        let pause = |late: bool| {
            let micros = if late { round / 2 * 200 } else { 0 };
            tokio::time::sleep(std::time::Duration::from_micros(micros))
        };
        let save = async {
            pause(round % 2 == 0).await;
            one.add_job(&job).await
        };
        let delete = async {
            pause(round % 2 == 1).await;
            other.delete_calendar(&name).await
        };
        let (saved, gone) = tokio::join!(save, delete);
        match (saved, gone) {
            (Ok(_), Err(refused)) => {
                assert!(matches!(refused.code(), Code::FailedPrecondition | Code::Aborted), "{refused}");
                kept += 1;
            }
            (Err(refused), Ok(())) => {
                assert!(matches!(refused.code(), Code::InvalidArgument | Code::Aborted), "{refused}");
                deleted += 1;
            }
            both => panic!("round {round}: {both:?}"),
        }
    }
    println!("{kept} jobs were saved, {deleted} calendars deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn fires_of_an_expression_are_shown_with_what_clocks_and_calendars_do_to_them() {
    let Some(stage) = Stage::set(Cluster::builder()).await else { return };
    let (cli, folder) = (Cli::of(&stage), folder());
    let week = file(folder.path(), "cn.txt", GOLDEN_WEEK);
    cli.ok(&format!("calendar set cn --file {week}")).await;
    let line =
        "cron next 0_0_9_*_*_MON-FRI --zone Asia/Shanghai --calendar cn --after 2027-09-30T02:00:00Z -n 3";
    let shown = fires(&cli.json(line).await);
    let expected = [
        ("2027-10-08 09:00:00 +08:00", "5 fires left out by calendar cn: 2027-10-01 to 2027-10-07"),
        ("2027-10-09 09:00:00 +08:00", "put in by calendar cn: 2027-10-09"),
        ("2027-10-11 09:00:00 +08:00", ""),
    ];
    assert_eq!(shown, expected.map(|(local, note)| (local.to_owned(), note.to_owned())));
    let line = "cron next 0_30_2_*_*_* --zone Europe/Berlin --after 2027-03-27T12:00:00Z -n 1";
    let note = |answer: &Value| fires(answer)[0].1.clone();
    assert_eq!(note(&cli.json(line).await), "02:30 does not exist on 2027-03-28: fires at 03:00");
    let skipped = note(&cli.json(&format!("{line} --gap skip")).await);
    assert_eq!(skipped, "02:30 does not exist on 2027-03-28: left out");

    let holidays = "BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nDTSTART;VALUE=DATE:20271001\r\nDTEND;VALUE=DATE:20271008\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n";
    let holidays = file(folder.path(), "holidays.ics", holidays);
    let set = cli.json(&format!("calendar set ics --file {holidays}")).await;
    assert_eq!(set["excluded"], serde_json::json!(["2027-10-01..2027-10-07"]));
    let wrong = file(folder.path(), "wrong.txt", "2027-10-01\n2027-10-41\n");
    cli.refused(&format!("calendar set ics --file {wrong}"), 1, "line 2").await;
    cli.refused("cron next @daily --calendar nowhere", 1, "nowhere").await;
    let listed = cli.json("calendar list").await;
    let names = listed["calendars"].as_array().expect("a list").iter().map(|calendar| &calendar["name"]);
    assert_eq!(names.collect::<Vec<_>>(), ["cn", "ics"]);
}
