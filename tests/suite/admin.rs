//! The admin API: what it refuses, what it decides between two who want different things, and when it
//! takes effect.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant as Clock};

use forest_proto::admin::v1::admin_client::AdminClient;
use forest_proto::admin::v1::{ListJobsRequest, ListRunsRequest, NextFiresRequest, RunJobRequest};
use forest_tests::admin::{Admin, Answer, document_of};
use forest_tests::cluster::Cluster;
use forest_tests::services::Gateway;
use forest_tests::wait::eventually;
use serde_json::{Value, json};
use tonic::Code;

use crate::stage::{SOON, Stage, fire_of, now};

/// A refusal that names the field, to people and to programs.
fn assert_blames<T: std::fmt::Debug>(field: &str, what: &str, answer: Answer<T>) {
    let status = match answer {
        Ok(answer) => panic!("{what} was taken: {answer:?}"),
        Err(status) => status,
    };
    assert_eq!(status.code(), Code::InvalidArgument, "{what}: {status}");
    assert!(status.message().starts_with(&format!("{field}: ")), "{what} is not blamed on {field}: {status}");
    assert!(status.message().len() < 1000, "{what}: {} bytes of message", status.message().len());
    let details = String::from_utf8_lossy(status.details()).into_owned();
    assert!(details.contains("BadRequest") && details.contains(field), "{what}: {details:?}");
}

/// Keys below the root, with their revisions, but for those that nodes write by themselves.
async fn stored(gateway: &Gateway, root: &str) -> BTreeMap<String, i64> {
    let entries = gateway.list(&format!("{root}/")).await.expect("listed");
    let own = ["/server/node/", "/server/cursor/", "/server/elect/", "/server/audit/"];
    let kept = entries.into_iter().filter(|entry| !own.iter().any(|family| entry.key.contains(family)));
    kept.map(|entry| (entry.key, entry.mod_revision)).collect()
}

fn odd_names() -> Vec<String> {
    let odd =
        ["", "a/b", "/", "..", ".", ".hidden", "a\0b", "a b", "a\nb", "-x", "grüppe", "группа", "組", "🌲"];
    odd.iter().map(|name| (*name).to_owned()).chain(["x".repeat(64), "x".repeat(4096)]).collect()
}

/// Fields that make a good job bad, and the field to blame.
fn bad_jobs() -> Vec<(&'static str, Value)> {
    let mut bad = vec![
        ("group", json!({"group": "snapshot"})),
        ("group", json!({"group": "execute"})),
        ("group", json!({"group": "nobody-added-it"})),
        ("group", json!({"group": null})),
        ("group", json!({"group": 7})),
        ("name", json!({"name": ""})),
        ("name", json!({"name": "  "})),
        ("name", json!({"name": "a\u{0}b"})),
        ("name", json!({"name": "two\nlines"})),
        ("name", json!({"name": "x".repeat(4096)})),
        ("name", json!({"name": 5})),
        ("remark", json!({"remark": "x".repeat(4096)})),
        ("cron", json!({"cron": ""})),
        ("cron", json!({"cron": "0 0 0 30 2 *"})),
        ("cron", json!({"cron": "*/0 * * * * *"})),
        ("cron", json!({"cron": "0 */0 * * * *"})),
        ("cron", json!({"cron": "60 * * * * *"})),
        ("cron", json!({"cron": "0 0 0 32 * *"})),
        ("cron", json!({"cron": "* * *"})),
        ("cron", json!({"cron": "0 0 0 1 1 ? 1999"})),
        ("cron", json!({"cron": "@every 0s"})),
        ("cron", json!({"cron": "@every -5s"})),
        ("cron", json!({"cron": "@never"})),
        ("cron", json!({"cron": "* * * * * *\u{0}"})),
        ("cron", json!({"cron": "*".repeat(1_000_000)})),
        ("cron", json!({"cron": "1,".repeat(400_000)})),
        ("document", json!({"cron": "*".repeat(2_000_000)})),
        ("time_zone", json!({"time_zone": "Mars/Olympus"})),
        ("time_zone", json!({"time_zone": "../../etc/passwd"})),
        ("time_zone", json!({"time_zone": "UTC\u{0}"})),
        ("params", json!({"params": "x".repeat(64 * 1024 + 1)})),
        ("max_attempts", json!({"max_attempts": "3"})),
        ("max_attempts", json!({"max_attempts": 0})),
        ("max_attempts", json!({"max_attempts": 101})),
        ("max_attempts", json!({"max_attempts": -1})),
        ("retry_delays_ms", json!({"retry_delays_ms": "soon"})),
        ("retry_delays_ms", json!({"retry_delays_ms": vec![1; 101]})),
        ("retry_delays_ms[1]", json!({"retry_delays_ms": [1, "x"]})),
        ("overlap", json!({"overlap": 1})),
        ("overlap", json!({"overlap": "maybe"})),
        ("queue_limit", json!({"queue_limit": 3})),
        ("queue_limit", json!({"overlap": "queue_all", "queue_limit": 0})),
        ("on_lost", json!({"on_lost": "retry"})),
        ("misfire_cap", json!({"misfire_cap": 3})),
        ("misfire_cap", json!({"misfire": "fire_all", "misfire_cap": 10_001})),
        ("misfire_threshold_ms", json!({"misfire_threshold_ms": 1})),
        ("start_deadline_ms", json!({"start_deadline_ms": 1})),
        ("shard_params", json!({"shard_params": "0=a"})),
        ("shard_params", json!({"routing": "broadcast", "shard_params": "Beijing"})),
        ("shard_params", json!({"routing": "broadcast", "shard_params": {"500": "a"}})),
        ("shard_params", json!({"routing": "broadcast", "shard_params": {"0": "a".repeat(16 * 1024 + 1)}})),
        ("cron", json!({"cron": "@daily", "trigger": {"kind": "fixed_delay", "every_ms": 1000}})),
        ("trigger.kind", json!({"trigger": {"kind": "moon"}})),
        ("trigger.every_ms", json!({"cron": "", "trigger": {"kind": "fixed_delay", "every_ms": 1}})),
        ("trigger.every_ms", json!({"cron": "", "trigger": {"kind": "fixed_rate", "every_ms": 1}})),
        ("trigger.at", json!({"cron": "", "trigger": {"kind": "once", "at": "2020-01-01T00:00:00Z"}})),
        ("calendars", json!({"cron": "", "trigger": {"kind": "manual"}, "calendars": ["x"]})),
        ("ends_at", json!({"ends_at": "2020-01-01T00:00:00Z"})),
        ("ends_at", json!({"starts_at": "2090-01-02T00:00:00Z", "ends_at": "2090-01-01T00:00:00Z"})),
        ("timeout_ms", json!({"timeout_ms": 99})),
        ("jitter_ms", json!({"jitter_ms": 3_600_001})),
        ("calendars[0]", json!({"calendars": ["nowhere"]})),
        ("calendars[0]", json!({"calendars": ["a/b"]})),
        ("calendars[1]", json!({"calendars": ["a", "a"]})),
        ("calendars", json!({"calendars": (0..9).map(|n| n.to_string()).collect::<Vec<_>>()})),
        ("calendars", json!({"calendars": "nowhere"})),
        ("labels", json!({"labels": {"": "a"}})),
        ("retry_if", json!({"retry_if": ["no_client"]})),
        (
            "retry_backoff.max_ms",
            json!({"retry_backoff": {"first_ms": 5, "max_ms": 4, "factor_percent": 200}}),
        ),
        ("max_in_flight", json!({"max_in_flight": 0})),
        ("after", json!({"after": {"jobs": {"1": "end"}}})),
        ("dst_gap", json!({"dst_gap": "jump"})),
        ("colour", json!({"colour": "green"})),
        ("Cron", json!({"Cron": "* * * * * *"})),
    ];
    for name in odd_names() {
        bad.push(("target", json!({"target": name})));
        bad.push(("group", json!({"group": name})));
    }
    bad
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_refused_by_its_field_and_nothing_is_stored() {
    let Some(stage) = Stage::set(Cluster::builder()).await else { return };
    let (admin, root) = (stage.cluster.admin(), stage.cluster.key_root());
    let good = json!({"name": "good", "group": stage.group, "target": "echo", "cron": "0 0 0 1 1 ?"});
    let job = admin.add_job(&good).await.expect("a good job");
    let gateway = stage.cluster.etcd().gateway().await;
    let before = stored(&gateway, root).await;

    for name in odd_names().iter().map(String::as_str).chain(["snapshot", "execute", "cancel"]) {
        assert_blames("name", &format!("the group {name:.80?}"), admin.add_group(name).await);
    }
    for (field, fields) in bad_jobs() {
        let what = format!("{:.200}", fields.to_string());
        let mut document = good.clone();
        for (name, value) in fields.as_object().expect("an object") {
            document[name] = value.clone();
        }
        assert_blames(field, &format!("a job with {what}"), admin.add_job(&document).await);
        // In an edit, null means the default; and a patch that is too long is to blame itself.
        if fields.as_object().is_some_and(|f| f.values().all(|value| !value.is_null())) {
            let field = if field == "document" { "patch" } else { field };
            assert_blames(field, &format!("an edit with {what}"), admin.edit_job(&job, &fields).await);
        }
    }
    for ours in ["id", "version", "effective_after", "created_at", "updated_at"] {
        assert_blames(ours, &format!("an edit of {ours}"), admin.edit_job(&job, &json!({ours: 9})).await);
    }
    for document in [json!([]), json!("text"), json!(null), json!(7)] {
        assert_blames("document", &format!("{document}"), admin.add_job(&document).await);
        assert_blames("patch", &format!("{document}"), admin.edit_job(&job, &document).await);
    }
    let long = "x".repeat(64 * 1024 + 1);
    assert_blames("params", "a run with long parameters", admin.run_job(&job, Some(&long), None).await);
    for key in odd_names().iter().filter(|key| !key.is_empty()) {
        assert_blames(
            "idempotency_key",
            &format!("the key {key:.80?}"),
            admin.run_job(&job, None, Some(key)).await,
        );
    }
    assert_eq!(stored(&gateway, root).await, before, "nothing was stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_that_make_no_sense_are_answered_with_what_is_wrong() {
    let Some(stage) = Stage::set(Cluster::builder()).await else { return };
    let admin = stage.cluster.admin();
    let fires = |cron: &str| NextFiresRequest { cron: cron.into(), ..Default::default() };
    assert_blames("cron", "a day that never comes", admin.next_fires(fires("0 0 0 30 2 *")).await);
    assert_blames("cron", "a step of zero", admin.next_fires(fires("*/0 * * * * *")).await);
    assert_blames("cron", "a megabyte", admin.next_fires(fires(&"*".repeat(1_000_000))).await);
    let request = NextFiresRequest { time_zone: "Mars/Olympus".into(), ..fires("* * * * * *") };
    assert_blames("time_zone", "a zone", admin.next_fires(request).await);
    let request = NextFiresRequest { count: 101, ..fires("* * * * * *") };
    assert_blames("count", "too many", admin.next_fires(request).await);
    let request = NextFiresRequest { dst_gap: "jump".into(), ..fires("* * * * * *") };
    assert_blames("dst_gap", "a policy", admin.next_fires(request).await);
    let request = NextFiresRequest { dst_fold: "thrice".into(), ..fires("* * * * * *") };
    assert_blames("dst_fold", "a policy", admin.next_fires(request).await);

    let runs = ListRunsRequest { page_size: 201, ..Default::default() };
    assert_blames("page_size", "a long page", admin.list_runs(runs).await);
    let runs = ListRunsRequest { page_token: "🌲".into(), ..Default::default() };
    assert_blames("page_token", "a made-up token", admin.list_runs(runs).await);
    let runs = ListRunsRequest { outcome: "splendid".into(), ..Default::default() };
    assert_blames("outcome", "a made-up outcome", admin.list_runs(runs).await);
    let address = format!("http://{}", stage.cluster.nodes()[0].server.address());
    let mut client = AdminClient::connect(address).await.expect("it answers");
    for (field, request) in [
        ("page_size", ListJobsRequest { page_size: u32::MAX, ..Default::default() }),
        ("page_token", ListJobsRequest { page_token: "../..".into(), ..Default::default() }),
    ] {
        assert_blames(field, "a page of jobs", client.list_jobs(request).await);
    }
    for id in odd_names() {
        let missing = [
            admin.get_job(&id).await.map(drop),
            admin.enable(&id).await.map(drop),
            admin.delete_job(&id).await,
            admin.run_job(&id, None, None).await.map(drop),
            admin.get_run(&id).await.map(drop),
            admin.cancel_run(&id).await,
            admin.delete_group(&id).await,
        ];
        for (call, answer) in missing.into_iter().enumerate() {
            let status = answer.expect_err("there is nothing of that name");
            assert_eq!(status.code(), Code::NotFound, "call {call} with {id:.80?}: {status}");
            assert!(status.message().len() < 1000, "{} bytes", status.message().len());
        }
    }
}

fn version_of(answer: &Answer<forest_proto::admin::v1::Job>) -> Option<u64> {
    let job = answer.as_ref().ok()?;
    document_of(job).expect("JSON")["version"].as_u64()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_edits_at_the_same_time_one_wins_and_the_others_are_told() {
    const ROUNDS: u64 = 25;
    let Some(stage) = Stage::set(Cluster::builder().nodes(2)).await else { return };
    let job = stage.job(json!({})).await;
    let admins: Vec<Admin> = stage.cluster.nodes().iter().map(|node| node.server.admin()).collect();
    for version in 1..=ROUNDS {
        for admin in &admins {
            eventually("the node has seen the last edit", SOON, async || {
                version_of(&admin.get_job(&job).await) == Some(version)
            })
            .await;
        }
        let patches = ["a", "b", "c", "d"].map(|who| json!({"params": format!("{who}{version}")}));
        let answers = tokio::join!(
            admins[0].edit_job_version(&job, &patches[0], version),
            admins[1].edit_job_version(&job, &patches[1], version),
            admins[0].edit_job_version(&job, &patches[2], version),
            admins[1].edit_job_version(&job, &patches[3], version),
        );
        let answers = [answers.0, answers.1, answers.2, answers.3];
        let won: Vec<_> = (0..4).filter(|who| answers[*who].is_ok()).collect();
        assert_eq!(won.len(), 1, "{answers:?}");
        for lost in answers.iter().filter_map(|answer| answer.as_ref().err()) {
            assert_eq!(lost.code(), Code::Aborted, "{lost}");
        }
        assert_eq!(version_of(&answers[won[0]]), Some(version + 1));
        let stored = document_of(&admins[1 - won[0] % 2].get_job(&job).await.expect("read")).expect("JSON");
        if stored["version"] == version + 1 {
            assert_eq!(stored["params"], patches[won[0]]["params"], "the winner's change is what is stored");
        }
    }
    // Whoever does not name a version takes what is there, and still never overwrites unseen.
    let mut won = 0;
    for _ in 0..ROUNDS {
        let (one, two) = (json!({"params": "one"}), json!({"remark": "two"}));
        let answers = tokio::join!(admins[0].edit_job(&job, &one), admins[1].edit_job(&job, &two));
        for answer in [answers.0, answers.1] {
            match answer {
                Ok(_) => won += 1,
                Err(status) => assert_eq!(status.code(), Code::Aborted, "{status}"),
            }
        }
    }
    let gateway = stage.cluster.etcd().gateway().await;
    let key = format!("{}/server/conf/{job}", stage.cluster.key_root());
    let entry = gateway.get(&key).await.expect("read").expect("stored");
    let stored: Value = serde_json::from_str(&entry.value).expect("JSON");
    assert_eq!(stored["version"], 1 + ROUNDS + won, "one for each that won");
    assert!(won >= ROUNDS);
}

/// What a job was from a revision on: its version, if it was enabled.
type Past = BTreeMap<i64, Option<u64>>;

/// Edits, disables and enables a job until the time is up, and says what it was when.
async fn meddle(admin: Admin, job: String, until: Clock) -> (String, Past) {
    let first = admin.get_job(&job).await.expect("read");
    let mut past = Past::from([(first.revision, version_of(&Ok(first)))]);
    let mut version = 1;
    while Clock::now() < until {
        let enabled = fastrand::u8(..3) != 0;
        let change = match fastrand::bool() {
            true => admin.edit_job(&job, &json!({"params": (version + 1).to_string()})).await,
            false if enabled => admin.enable(&job).await,
            false => admin.disable(&job).await,
        };
        let changed = change.expect("nobody else changes this job");
        let document = document_of(&changed).expect("JSON");
        version = document["version"].as_u64().expect("a number");
        past.insert(changed.revision, (document["status"] == 1).then_some(version));
    }
    (job, past)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_run_is_created_from_a_job_as_it_was_before_a_change() {
    const JOBS: usize = 16;
    let Some(stage) = Stage::set(Cluster::builder().nodes(2)).await else { return };
    let follower = stage.cluster.followers().await[0].server.name().to_owned();
    let follower = || {
        let node = stage.cluster.nodes().iter().find(|node| node.server.name() == follower);
        node.expect("it runs").server.admin()
    };
    // No client: runs stay parked where they were created, and tell when that was.
    let mut jobs = Vec::new();
    for _ in 0..JOBS {
        jobs.push(stage.job(json!({"cron": "* * * * * *", "params": "1"})).await);
    }
    let until = Clock::now() + Duration::from_secs(12);
    let meddling = tokio::task::LocalSet::new();
    let tasks: Vec<_> =
        jobs.iter().map(|job| meddling.spawn_local(meddle(follower(), job.clone(), until))).collect();
    meddling.await;
    let mut pasts = BTreeMap::new();
    for task in tasks {
        let (job, past) = task.await.expect("no panic");
        pasts.insert(job, past);
    }
    let gateway = stage.cluster.etcd().gateway().await;
    let entries =
        gateway.list(&format!("{}/server/pending/", stage.cluster.key_root())).await.expect("listed");
    let changes: usize = pasts.values().map(BTreeMap::len).sum();
    assert!(entries.len() >= JOBS * 3 && changes > JOBS * 10, "{} runs, {changes} changes", entries.len());
    for entry in entries {
        let run: Value = serde_json::from_str(&entry.value).expect("JSON");
        let past = &pasts[run["jobId"].as_str().expect("a job")];
        let (at, was) = past.range(..entry.create_revision).next_back().expect("created after its job");
        let version = was.unwrap_or_else(|| panic!("created while disabled since {at}: {entry:?}"));
        assert_eq!(run["job_version"], version, "created from another version than that of {at}: {entry:?}");
    }

    // Deleted at the moment of dispatch: nothing fires after the answer.
    for job in &jobs {
        follower().enable(job).await.expect("enabled");
    }
    let mut deleted = BTreeMap::new();
    for job in &jobs {
        let to_second = Duration::from_millis(u64::try_from(1000 - now().as_ms() % 1000).expect("positive"));
        tokio::time::sleep(to_second.min(Duration::from_millis(100))).await;
        follower().delete_job(job).await.expect("deleted");
        deleted.insert(job.clone(), now());
    }
    let last = now();
    eventually("a further second has passed and all is decided", SOON, async || {
        now().as_ms() > last.as_ms() + 2000
    })
    .await;
    stage.quiet(SOON).await;
    for row in stage.cluster.history().all().await.expect("read") {
        assert_eq!(row.outcome.as_deref(), Some("cancelled"), "{row:?}");
        assert!(fire_of(&row.id) <= deleted[&row.job_id], "fired after it was deleted: {row:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_idempotency_key_is_one_run_whoever_is_asked_and_how_often() {
    const KEYS: usize = 50;
    let Some(stage) = Stage::set(Cluster::builder().nodes(2)).await else { return };
    let _worker = stage.worker("worker", &[]).await;
    let job = stage.job(json!({})).await;
    let admins: Vec<Admin> = stage.cluster.nodes().iter().map(|node| node.server.admin()).collect();
    eventually("both nodes know the job", SOON, async || {
        admins[1].get_job(&job).await.is_ok() && admins[0].get_job(&job).await.is_ok()
    })
    .await;
    let mut runs = BTreeSet::new();
    for number in 0..KEYS {
        let key = format!("key-{number}");
        let ask = |admin| Admin::run_job(admin, &job, None, Some(&key));
        let answers = tokio::join!(ask(&admins[0]), ask(&admins[1]));
        let (one, two) = (answers.0.expect("a run"), answers.1.expect("a run"));
        assert_eq!(one, two, "{key}");
        assert!(runs.insert(one), "{key} got the run of another key");
    }
    stage.quiet(SOON).await;
    let again = admins[0].run_job(&job, None, Some("key-0")).await.expect("the same run");
    assert!(runs.contains(&again), "also after it has ended");
    let other = stage.job(json!({})).await;
    let reused = admins[0].run_job(&other, None, Some("key-0")).await;
    // Keys are told apart by segment; where both jobs share one, the key must not give another job's run.
    assert!(reused.as_ref().map_or(true, |run| !runs.contains(run)), "{reused:?}");
    stage.quiet(SOON).await;
    let rows = stage.rows(&job).await;
    assert_eq!(rows.iter().map(|row| row.id.clone()).collect::<BTreeSet<_>>(), runs);
    stage.assert_played_once(KEYS + usize::from(reused.is_ok()));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_runs_of_one_job_can_be_asked_for_at_once() {
    const RUNS: usize = 300;
    let Some(stage) = Stage::set(Cluster::builder()).await else { return };
    let _worker = stage.worker("worker", &["--capacity", "300"]).await;
    let job = stage.job(json!({})).await;
    let address = format!("http://{}", stage.cluster.nodes()[0].server.address());
    let client = AdminClient::connect(address).await.expect("it answers");
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..RUNS {
        let (mut client, id) = (client.clone(), job.clone());
        asking.spawn(async move { client.run_job(RunJobRequest { id, ..Default::default() }).await });
    }
    let answers = asking.join_all().await;
    let runs: BTreeSet<_> = answers.into_iter().map(|run| run.expect("asked").into_inner().run_id).collect();
    assert_eq!(runs.len(), RUNS);
    let begun = Clock::now();
    eventually("all have run", 2 * SOON, async || {
        let played = stage.played().len();
        if played == RUNS { Ok(()) } else { Err(format!("{played}")) }
    })
    .await;
    let took = begun.elapsed();
    stage.quiet(SOON).await;
    stage.assert_played_once(RUNS);
    assert_eq!(stage.played().into_keys().collect::<BTreeSet<_>>(), runs);
    // Where runs may overlap, none waits for the one before it.
    assert!(took < Duration::from_secs(5), "it took {took:?} after the last answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_job_runs_only_when_it_is_told_to() {
    let Some(stage) = Stage::set(Cluster::builder()).await else { return };
    let _worker = stage.worker("worker", &[]).await;
    let job = stage.job(json!({"cron": "* * * * * *", "status": 2, "params": "its own"})).await;
    let own = stage.ended(&stage.run(&job).await).await;
    assert_eq!((own.outcome.as_deref(), own.result.as_deref()), (Some("succeeded"), Some("its own")));
    let given = stage.cluster.admin().run_job(&job, Some("given"), None).await.expect("a run");
    assert_eq!(stage.ended(&given).await.result.as_deref(), Some("given"));
    let since = now();
    let witness = stage.job(json!({"cron": "* * * * * *"})).await;
    eventually("seconds pass", SOON, async || stage.rows(&witness).await.len() >= 2).await;
    let rows = stage.rows(&job).await;
    assert_eq!(rows.len(), 2, "since {since}: {rows:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_only_deleted_when_nothing_belongs_to_it() {
    let Some(stage) = Stage::set(Cluster::builder()).await else { return };
    let (admin, group) = (stage.cluster.admin(), stage.group.clone());
    let in_use = |answer: Answer<()>, what: &str| {
        let status = answer.expect_err("it is in use");
        assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
        assert!(status.message().contains(what), "{status}");
    };
    let job = stage.job(json!({"target": "sleep", "params": r#"{"sleep_ms":600000}"#})).await;
    in_use(admin.delete_group(&group).await, "job");
    let worker = stage.worker("worker", &[]).await;
    let run = stage.run(&job).await;
    stage.until(&run, "running").await;
    admin.delete_job(&job).await.expect("deleted");
    in_use(admin.delete_group(&group).await, "client");
    worker.kill9();
    eventually("the client is gone", SOON, async || stage.clients().await == 0).await;
    // Nobody knows yet what became of its run.
    assert_eq!(admin.get_run(&run).await.expect("read").state, "running");
    in_use(admin.delete_group(&group).await, "run");
    assert_eq!(stage.ended(&run).await.outcome.as_deref(), Some("lost"));
    stage.quiet(SOON).await;
    admin.delete_group(&group).await.expect("nothing is left in it");
    assert_eq!(admin.delete_group(&group).await.expect_err("gone").code(), Code::NotFound);
    let document = json!({"name": "n", "group": group, "target": "echo", "cron": "@daily"});
    assert_blames("group", "a job of a deleted group", admin.add_job(&document).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_due_while_a_job_was_disabled_is_not_caught_up_on() {
    let Some(stage) = Stage::set(Cluster::builder()).await else { return };
    let _worker = stage.worker("worker", &[]).await;
    let admin = stage.cluster.admin();
    let fields = json!({"cron": "* * * * * *", "misfire": "fire_once", "misfire_threshold_ms": 60_000});
    let (job, witness) = (stage.job(fields.clone()).await, stage.job(fields).await);
    eventually("it fires", SOON, async || !stage.rows(&job).await.is_empty()).await;
    admin.disable(&job).await.expect("disabled");
    let paused = now();
    eventually("seconds pass", SOON, async || {
        stage.rows(&witness).await.iter().filter(|row| fire_of(&row.id) > paused).count() >= 4
    })
    .await;
    let resumed = now();
    admin.enable(&job).await.expect("enabled");
    eventually("it fires again", SOON, async || {
        stage.rows(&job).await.iter().filter(|row| fire_of(&row.id) > resumed).count() >= 2
    })
    .await;
    for row in stage.rows(&job).await {
        // Enabling counts from the beginning of its second.
        let second = resumed.as_ms() / 1000 * 1000;
        let at = fire_of(&row.id);
        assert!(at <= paused || at.as_ms() >= second, "{row:?} fired between {paused} and {resumed}");
        assert_eq!(row.outcome.as_deref(), Some("succeeded"), "{row:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn next_fires_know_the_zone_and_its_changes_of_the_clock() {
    let Some(stage) = Stage::set(Cluster::builder()).await else { return };
    let admin = stage.cluster.admin();
    let check = async |cron: &str, zone: &str, gap: &str, fold: &str, after: &str, expected: &[&str]| {
        let request = NextFiresRequest {
            cron: cron.into(),
            time_zone: zone.into(),
            dst_gap: gap.into(),
            dst_fold: fold.into(),
            count: u32::try_from(expected.len()).expect("few"),
            after: after.parse::<forest_proto::time::Instant>().expect("an instant").as_ms(),
            ..Default::default()
        };
        let answer = admin.next_fires(request).await.expect("an answer");
        let local: Vec<_> = answer.fires.iter().map(|fire| fire.local.as_str()).collect();
        assert_eq!(local, expected, "{cron} {zone} {gap} {fold}");
        for fire in &answer.fires {
            let instant =
                jiff::Timestamp::strptime("%Y-%m-%d %H:%M:%S %:z", &fire.local).expect("with an offset");
            assert_eq!(instant.as_millisecond(), fire.at, "{fire:?}");
        }
        answer.fires.iter().map(|fire| fire.note.clone()).collect::<Vec<_>>()
    };
    let new_york = "America/New_York";
    // On 14 March 2027 it goes from 02:00 to 03:00 there, on 7 November from 02:00 back to 01:00.
    let (spring, autumn) = ("2027-03-13T12:00:00Z", "2027-11-06T12:00:00Z");
    let notes = check(
        "0 30 2 * * *",
        new_york,
        "",
        "",
        spring,
        &["2027-03-14 03:00:00 -04:00", "2027-03-15 02:30:00 -04:00"],
    )
    .await;
    assert!(!notes[0].is_empty() && notes[1].is_empty(), "the one in the gap says so: {notes:?}");
    check(
        "0 30 2 * * *",
        new_york,
        "skip",
        "",
        spring,
        &["2027-03-15 02:30:00 -04:00", "2027-03-16 02:30:00 -04:00"],
    )
    .await;
    check(
        "0 30 1 * * *",
        new_york,
        "",
        "",
        autumn,
        &["2027-11-07 01:30:00 -04:00", "2027-11-08 01:30:00 -05:00"],
    )
    .await;
    check(
        "0 30 1 * * *",
        new_york,
        "",
        "both",
        autumn,
        &["2027-11-07 01:30:00 -04:00", "2027-11-07 01:30:00 -05:00", "2027-11-08 01:30:00 -05:00"],
    )
    .await;
    check(
        "0 0 * * * *",
        new_york,
        "",
        "",
        "2027-11-07T04:30:00Z",
        &["2027-11-07 01:00:00 -04:00", "2027-11-07 01:00:00 -05:00", "2027-11-07 02:00:00 -05:00"],
    )
    .await;
    check(
        "0 0 9 * * MON",
        "Asia/Shanghai",
        "",
        "",
        "2026-11-21T00:00:00Z",
        &["2026-11-23 09:00:00 +08:00", "2026-11-30 09:00:00 +08:00"],
    )
    .await;
    check("0 0 0 29 2 ?", "UTC", "", "", "2026-11-21T00:00:00Z", &["2028-02-29 00:00:00 +00:00"]).await;

    let job = stage.job(json!({"cron": "0 0 9 * * *", "time_zone": "Asia/Shanghai"})).await;
    let request = NextFiresRequest { id: job.clone(), count: 2, ..Default::default() };
    let answer = admin.next_fires(request).await.expect("an answer");
    assert_eq!(answer.time_zone, "Asia/Shanghai");
    assert!(answer.fires.iter().all(|fire| fire.local.ends_with(" 09:00:00 +08:00")), "{answer:?}");
    assert_eq!(admin.get_job(&job).await.expect("read").next_fire_at, answer.fires[0].at);
}
