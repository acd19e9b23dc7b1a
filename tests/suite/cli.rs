//! `forest-cli` against a real server: what scripts rely on.

use std::process::Stdio;
use std::time::Duration;

use forest_tests::cluster::Cluster;
use forest_tests::names::unique;
use forest_tests::services::{build_dir, free_address};
use serde_json::Value;
use tokio::io::AsyncWriteExt;

use crate::stage::Stage;

/// What a call of the program came to.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

async fn call(server: &str, arguments: &[&str]) -> Said {
    call_in(&[("FOREST_SERVER", server)], arguments, "").await
}

/// With these variables, and this on stdin.
pub(crate) async fn call_in(variables: &[(&str, &str)], arguments: &[&str], stdin: &str) -> Said {
    let mut command = tokio::process::Command::new(build_dir().join("forest-cli"));
    command.args(arguments).env("TZ", "UTC").envs(variables.iter().copied());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().expect("forest-cli is built");
    let mut input = child.stdin.take().expect("piped");
    // It may have ended without reading.
    let _ = input.write_all(stdin.as_bytes()).await;
    drop(input);
    let output = tokio::time::timeout(Duration::from_secs(90), child.wait_with_output());
    let output = output.await.expect("it ends").expect("its output is read");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Said {
        code: output.status.code().expect("not killed"),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

pub(crate) struct Cli(String);

impl Cli {
    pub(crate) fn of(stage: &Stage) -> Self {
        Self(format!("http://{}", stage.cluster.nodes()[0].server.address()))
    }

    async fn call(&self, line: &str) -> Said {
        // `_` stands for a space within an argument.
        let words: Vec<_> = line.split(' ').map(|word| word.replace('_', " ")).collect();
        call(&self.0, &words.iter().map(String::as_str).collect::<Vec<_>>()).await
    }

    pub(crate) async fn ok(&self, line: &str) -> String {
        let said = self.call(line).await;
        assert_eq!(said.code, 0, "{line}: {said:?}");
        said.out
    }

    pub(crate) async fn json(&self, line: &str) -> Value {
        let out = self.ok(&format!("{line} -o json")).await;
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("{line}: {e}: {out}"))
    }

    /// Refused with this code and one line on stderr that contains the word.
    pub(crate) async fn refused(&self, line: &str, code: i32, word: &str) {
        let said = self.call(line).await;
        assert_eq!((said.code, said.out.as_str()), (code, ""), "{line}: {said:?}");
        assert!(said.err.contains(word), "{line}: {said:?}");
        assert!(!said.err.contains("panicked"), "{line}: {said:?}");
        // What is wrong with the command line itself is explained with its usage.
        if code != 2 {
            assert_eq!(said.err.trim_end().lines().count(), 1, "{line}: {said:?}");
        }
    }
}

/// A group name without the underscores that stand for spaces here.
pub(crate) fn plain(prefix: &str) -> String {
    unique(prefix).replace('_', "-")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_lives_its_life_from_the_command_line() {
    let Some(stage) = Stage::set(Cluster::builder()).await else { return };
    let cli = Cli::of(&stage);
    let (group, job) = (plain("cli"), plain("job"));
    let mut arguments = stage.worker_arguments("worker", &[]);
    let place = arguments.iter().position(|argument| argument == "--group").expect("there is one") + 1;
    arguments[place] = group.clone();
    cli.ok(&format!("group add {group} --remark for_tests")).await;
    let _worker = forest_tests::process::WorkerProcess::start("worker", arguments).expect("it starts");
    let admin = stage.cluster.admin();
    forest_tests::wait::eventually("the worker registers", crate::stage::SOON, async || {
        admin.list_clients(&group).await.is_ok_and(|clients| clients.len() == 1)
    })
    .await;
    cli.ok(&format!("job add --group {group} --name {job} --target echo --cron 0_30_2_*_*_* --time-zone Asia/Shanghai --params hello")).await;

    let found = cli.json(&format!("job get {job}")).await;
    let document = &found["document"];
    assert_eq!(
        (document["group"].as_str(), document["params"].as_str()),
        (Some(group.as_str()), Some("hello")),
        "{found}"
    );
    let listed = cli.json(&format!("job list --group {group}")).await.to_string();
    assert!(listed.contains(document["id"].as_str().expect("an id")), "{listed}");
    for list in ["group list", "client list", "node list", "run list", "pending list", "plan", "status"] {
        cli.json(list).await;
        let said = cli.call(list).await;
        assert!(
            said.code == 0 && !(said.out + &said.err).trim().is_empty(),
            "{list} shows something, if only that there is nothing"
        );
    }

    let ran = cli.json(&format!("job run {job} --wait --params again")).await;
    assert_eq!(
        (ran["run"]["outcome"].as_str(), ran["run"]["result"].as_str()),
        (Some("succeeded"), Some("again")),
        "{ran}"
    );
    let run = ran["run_id"].as_str().expect("an id").to_owned();
    assert_eq!(cli.json(&format!("run get {run}")).await["outcome"], "succeeded");
    assert!(cli.json(&format!("run list --job {job}")).await.to_string().contains(&run));

    // 02:30 in Shanghai is 18:30 in UTC, all year.
    let next = cli.ok(&format!("job next {job} -n 3 --time utc")).await;
    assert_eq!(next.lines().filter(|line| line.contains("18:30:00")).count(), 3, "{next}");
    let next = cli.ok("job next --cron 0_0_12_*_*_* --time-zone UTC -n 4 --time utc").await;
    assert_eq!(next.lines().filter(|line| line.contains("12:00:00")).count(), 4, "{next}");

    cli.ok(&format!("job edit {job} --params other")).await;
    cli.ok(&format!("job disable {job} --reason holidays")).await;
    let found = cli.json(&format!("job get {job}")).await;
    assert_eq!(
        (found["document"]["params"].as_str(), found["document"]["version"].as_u64()),
        (Some("other"), Some(3)),
        "{found}"
    );
    cli.refused(&format!("job edit {job} --params stale --version 1"), 4, "changed").await;

    cli.refused(&format!("group delete {group} --yes"), 1, "job").await;
    cli.refused(&format!("job delete {job}"), 2, "--yes").await;
    assert_eq!(cli.call(&format!("job get {job}")).await.code, 0, "it is still there");
    cli.ok(&format!("job delete {job} --yes")).await;
    cli.refused(&format!("job get {job}"), 3, &job).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_say_what_went_wrong() {
    let Some(stage) = Stage::set(Cluster::builder()).await else { return };
    let cli = Cli::of(&stage);
    let _worker = stage.worker("worker", &[]).await;
    let failing = stage.job(serde_json::json!({"name": "failing", "target": "fail"})).await;
    cli.refused("job get nothing-like-it", 3, "nothing-like-it").await;
    cli.refused("group get nothing-like-it", 3, "nothing-like-it").await;
    cli.refused("run get 20270101000000000-nobody-1", 3, "nobody").await;
    cli.refused("run get gibberish", 3, "gibberish").await;
    cli.refused("run cancel 20270101000000000-nobody-1", 3, "nobody").await;
    let failed = cli.call(&format!("job run {failing} --wait")).await;
    assert!(failed.code == 1 && failed.err.contains("told to fail"), "{failed:?}");
    assert!(
        failed.out.trim_end().ends_with(char::is_alphanumeric),
        "the run's id is said all the same: {failed:?}"
    );
    cli.refused("job frobnicate", 2, "frobnicate").await;
    cli.refused("job add --cron", 2, "--cron").await;
    cli.refused("job list --limit many", 2, "many").await;
    cli.refused("", 2, "").await;
    let unreachable = Cli(format!("http://{}", free_address()));
    unreachable.refused("job list --timeout 2s", 5, "reach").await;
    unreachable.refused("job delete 7 --yes --timeout 2s", 5, "reach").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_gives_one_line_that_names_what_is_wrong() {
    let Some(stage) = Stage::set(Cluster::builder()).await else { return };
    let cli = Cli::of(&stage);
    let group = plain("cli");
    cli.ok(&format!("group add {group}")).await;
    let add = format!("job add --group {group} --target echo --name n");
    cli.refused(&format!("{add} --cron 0_0_0_30_2_*"), 1, "cron").await;
    cli.refused(&format!("{add} --cron every_day"), 1, "cron").await;
    cli.refused(&format!("{add} --cron 0_0_0_*_*_* --time-zone Mars/Olympus"), 1, "--time-zone").await;
    cli.refused("job add --group nowhere --target echo --name n --cron @daily", 1, "group").await;
    cli.refused(&format!("job add --group {group} --target a/b --name n --cron @daily"), 1, "target").await;
    cli.refused("group add a/b", 1, "name").await;
    cli.refused("group add snapshot", 1, "reserved").await;
    cli.refused(&format!("group add {group}"), 1, "exists").await;
    cli.refused("job next --cron 61_*_*_*_*_*", 1, "cron").await;
    assert_eq!(cli.json(&format!("job list --group {group}")).await.to_string().matches("echo").count(), 0);
}
