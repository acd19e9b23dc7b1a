//! What the commands print, kept word for word in `transcript.txt`, in all formats, and in Chinese.
//!
//! `make transcript` writes it anew from the code: read the difference. A command that is neither in it nor among those
//! that are tested elsewhere fails the test.

use std::fmt::Write as _;

use clap::CommandFactory as _;
use forest_proto::admin::v1::{Backfill, Calendar};

use crate::args::Cli;
use crate::fake::Fake;

/// Those that show something; in each format.
const SHOW: &[&str] = &[
    "status",
    "group list",
    "group get trade",
    "job list",
    "job get 10",
    "job next 10",
    "job explain 10 --at 2026-11-18T11:06:40Z",
    "job export",
    "backfill list",
    "calendar list",
    "calendar get cn",
    "cron next @daily",
    "cron explain @weekly --zone Asia/Shanghai --after 2026-11-18T11:06:40Z",
    "run list",
    "run get 20261118110640000-10-1",
    "stats",
    "plan",
    "client list",
    "node list",
    "node log-level",
    "pending list",
    "whoami",
    "user list",
    "token list",
    "audit list",
    "etcd role worker trade",
    "etcd role node",
];

/// Those that change something, in this order; as a table.
const CHANGE: &[&str] = &[
    "group add ship --remark goods",
    "group edit ship --max-in-flight 5",
    "group delete ship --yes",
    "job add --group trade --name bill --target pay --cron @daily",
    "job edit 10 --cron @hourly",
    "job disable 10 --reason holidays",
    "job enable 10",
    "job run 10",
    "job delete 10 --yes",
    "backfill start 11 --from 2026-11-01T00:00:00Z --to 2026-11-02T00:00:00Z --dry-run",
    "backfill cancel 11",
    "calendar delete cn --yes",
    "run cancel 20261118110640000-10-1",
    "run retry 20261118110640000-10-1",
    "client drain w2 --group trade",
    "client undrain w2 --group trade",
    "node step-down",
    "token add ci --role viewer",
    "token revoke t1",
    "user delete ann --yes",
];

/// Tested where they are: they ask, wait, read files, or ask no server.
const ELSEWHERE: &[&str] = &[
    "calendar set",
    "completion",
    "context delete",
    "context list",
    "context set",
    "context use",
    "doctor",
    "events",
    "job apply",
    "job diff",
    "job validate",
    "login",
    "logout",
    "man",
    "run logs",
    "run wait",
    "top",
    "user add",
    "user edit",
];

async fn fake() -> Fake {
    let fake = Fake::start().await;
    for line in ["group add trade --remark shares", "group add mail"] {
        fake.cli(&line.split(' ').collect::<Vec<_>>()).await;
    }
    fake.cli_with_stdin(
        &["user", "add", "ann", "--role", "admin", "--password-stdin"],
        "correct horse battery",
    )
    .await;
    fake.cli(&["token", "add", "first", "--role", "viewer"]).await;
    fake.add_job("10", "bill");
    fake.add_job("11", "ship");
    let mut state = fake.state();
    let days = |text: &str| vec![text.to_owned()];
    state.calendars.push(Calendar {
        name: "cn".into(),
        remark: "holidays".into(),
        excluded: days("2027-10-01..2027-10-07"),
        included: days("2027-10-09"),
        version: 2,
        jobs: 1,
        ..Calendar::default()
    });
    state.backfill = Some(Backfill { job_id: "11".into(), created: 3, total: 24, ..Backfill::default() });
    drop(state);
    fake
}

/// A line with what it prints on stdout, on stderr and its exit code.
async fn tell(fake: &Fake, text: &mut String, line: &str) {
    let ran = fake.cli(&line.split(' ').collect::<Vec<_>>()).await;
    let clean = |text: &str| text.replace(&fake.url(), "http://SERVER");
    let _ = writeln!(text, "$ forest-cli {line}\n{}", clean(&ran.stdout).trim_end());
    for message in clean(&ran.stderr).lines() {
        let _ = writeln!(text, "! {message}");
    }
    let _ = writeln!(text, "= {:?}\n", ran.exit);
}

#[tokio::test]
async fn what_is_printed_is_what_was_agreed_on() {
    let (mut text, fake) = (String::new(), fake().await);
    for line in SHOW {
        for rest in ["", " -o wide", " -o json", " -o jsonl", " -o yaml", " -o name", " --lang zh"] {
            tell(&fake, &mut text, &format!("{line}{rest}")).await;
        }
    }
    for line in CHANGE {
        tell(&fake, &mut text, line).await;
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/transcript.txt");
    if std::env::var_os("FOREST_WRITE_TRANSCRIPT").is_some() {
        return std::fs::write(path, text).expect("written");
    }
    let kept = std::fs::read_to_string(path).expect("it is kept");
    let differs = kept.lines().zip(text.lines()).find(|(kept, said)| kept != said);
    assert!(kept == text, "other than in transcript.txt (kept, said): {differs:?}; run make transcript");
}

#[test]
fn every_command_is_told_of() {
    let mut leaves = Vec::new();
    walk(&Cli::command(), "", &mut leaves);
    let told = |leaf: &String| {
        let begins = |line: &&str| *line == leaf || line.starts_with(&format!("{leaf} "));
        SHOW.iter().chain(CHANGE).any(begins) || ELSEWHERE.contains(&leaf.as_str())
    };
    let missing: Vec<_> = leaves.iter().filter(|leaf| !told(leaf)).collect();
    assert!(missing.is_empty(), "add these to SHOW or CHANGE: {missing:?}");
    assert!(ELSEWHERE.iter().all(|command| leaves.iter().any(|leaf| leaf == command)), "one is gone");
}

fn walk(command: &clap::Command, path: &str, leaves: &mut Vec<String>) {
    let mut below = command.get_subcommands().filter(|below| below.get_name() != "help").peekable();
    if below.peek().is_none() {
        return leaves.push(path.trim_start().to_owned());
    }
    for below in below {
        walk(below, &format!("{path} {}", below.get_name()), leaves);
    }
}
