//! Bad input on all four faces: each that can say it refuses it, for the same reason and about the same field, and
//! nothing is stored and nothing written down.

mod ask;
mod cli;
mod grpc;
mod legacy;
mod rest;
mod table;

use std::collections::BTreeMap;

use forest_proto::admin::v1::admin_client::AdminClient;
use forest_tests::cluster::Cluster;
use forest_tests::services::Gateway;
use forest_tests::wait::eventually;
use serde_json::{Value, json};

use crate::stage::{SOON, Stage};
use ask::{Ask, Said};
use table::Row;

/// What there is, to do wrong things with.
struct World {
    group: String,
    calendar: String,
    /// A job on that calendar.
    job: String,
    /// One without.
    plain: String,
    /// One that fires each minute.
    frequent: String,
    manual: String,
    /// One that another one follows.
    followed: String,
    /// A run that was cancelled, and is in the history.
    ended: String,
}

impl World {
    async fn made(stage: &Stage) -> Self {
        let admin = stage.cluster.admin();
        let calendar = "holidays".to_owned();
        admin.set_calendar(&calendar, "2027-01-01").await.expect("a calendar");
        let job = stage.job(json!({"calendars": [calendar]})).await;
        let plain = stage.job(json!({})).await;
        let frequent = stage.job(json!({"cron": "0 * * * * *", "status": 2})).await;
        let manual = stage.job(json!({"cron": "", "trigger": {"kind": "manual"}})).await;
        let followed = stage.job(json!({})).await;
        stage.job(json!({"cron": "", "trigger": {"kind": "after", "jobs": [followed]}})).await;
        let ended = stage.run(&job).await;
        stage.until(&ended, "pending").await;
        admin.cancel_run(&ended).await.expect("cancelled");
        stage.ended(&ended).await;
        Self { group: stage.group.clone(), calendar, job, plain, frequent, manual, followed, ended }
    }
}

/// What is stored, by key, but for what the nodes write by themselves.
async fn stored(gateway: &Gateway, root: &str) -> BTreeMap<String, i64> {
    let own = ["server/node/", "server/cursor/", "server/elect/"].map(|part| format!("{root}/{part}"));
    let all = gateway.list(&format!("{root}/")).await.expect("listed");
    let kept = all.into_iter().filter(|entry| !own.iter().any(|own| entry.key.starts_with(own)));
    kept.map(|entry| (entry.key, entry.mod_revision)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_means_the_same_on_all_four_faces() {
    let Some(stage) = Stage::set(Cluster::builder()).await else { return };
    let world = World::made(&stage).await;
    let server = format!("http://{}", stage.cluster.nodes()[0].server.address());
    let http = reqwest::Client::new();
    let client = AdminClient::connect(server.clone()).await.expect("connected");
    let (gateway, root) = (stage.cluster.etcd().gateway().await, stage.cluster.key_root());
    let audits = async || {
        let list = http.get(format!("{server}/api/v1/audit?page_size=200")).send().await.expect("an answer");
        list.json::<Value>().await.expect("JSON")["items"].as_array().map(Vec::len).expect("a list")
    };
    eventually("all records of changes are collected", SOON, async || {
        stored(&gateway, root).await.keys().all(|key| !key.contains("/server/audit/"))
    })
    .await;
    let (mut before, written_down) = (stored(&gateway, root).await, audits().await);
    let form = http.post(format!("{server}/job/list")).body(json!({"id": world.job}).to_string());
    let form: Value = form.send().await.expect("an answer").json().await.expect("JSON");
    let form = form["data"][0].clone();
    assert_eq!(form["id"], json!(world.job), "{form}");

    let (mut asked, mut wrong) = (BTreeMap::<&str, usize>::new(), Vec::new());
    for row in table::rows(&world) {
        let (grpc, rest, legacy, cli) = tokio::join!(
            grpc::ask(client.clone(), &row.ask),
            rest::ask(&http, &server, &row.ask),
            legacy::ask(&http, &server, &row.ask, &form),
            cli::ask(&server, &row.ask),
        );
        let answers = [("gRPC", grpc), ("REST", rest), ("the contract", legacy), ("the command line", cli)];
        let (mut reason, mut chinese) = (None, None);
        for (face, said) in answers {
            let Some(said) = said else { continue };
            *asked.entry(face).or_default() += 1;
            let judged = judge(face, &row, &said, &mut reason);
            if let Err(what) = judged.and_then(|()| judge_chinese(face, &said, &mut chinese)) {
                wrong.push(format!("{face}: {what}: {} {said:?}", shown(&row.ask)));
            }
        }
        let now = stored(&gateway, root).await;
        if now != before {
            let new: Vec<_> = now.keys().filter(|key| now.get(*key) != before.get(*key)).collect();
            wrong.push(format!("stored {new:?}: {}", shown(&row.ask)));
            before = now;
        }
    }
    assert!(wrong.is_empty(), "{} disagreements:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(audits().await, written_down, "a refusal was written down as a change");
    println!("asked: {asked:?}");
    for (face, least) in [("gRPC", 400), ("REST", 400), ("the contract", 80), ("the command line", 300)] {
        assert!(asked[face] >= least, "{face} was asked only {} times", asked[face]);
    }
}

fn shown(ask: &Ask) -> String {
    format!("{} {:?} {}", ask.verb, ask.on, ask.document()).chars().take(200).collect()
}

/// Whether it is Chinese, and the same wherever it is said.
fn judge_chinese(face: &str, said: &Said, chinese: &mut Option<String>) -> Result<(), String> {
    match face {
        "gRPC" | "REST" => {
            let text = said.chinese.clone().ok_or("says nothing in Chinese")?;
            if !is_chinese(&text) {
                return Err("its Chinese is English".into());
            }
            // A filter of runs has another name in a query of REST.
            let filter = said.field.as_deref() == Some("status") && text.contains("succeeded");
            let text = if filter { text.replacen("status", "outcome", 1) } else { text };
            match chinese.replace(text.clone()) {
                Some(other) if other != text => Err(format!("other Chinese than {other:?}")),
                _ => Ok(()),
            }
        }
        "the contract" if !is_chinese(&said.text) => Err("its Chinese is English".into()),
        _ => Ok(()),
    }
}

/// No three English words one after the other, but for what callers sent and what is to be written so.
fn is_chinese(text: &str) -> bool {
    let own: String = text.split('"').step_by(2).collect::<Vec<_>>().join(" \" ");
    let word = |word: &str| word.len() > 1 && word.bytes().all(|byte| byte.is_ascii_lowercase());
    let words: Vec<_> = own.split(' ').map(word).collect();
    let sentence = words.windows(3).any(|three| three.iter().all(|word| *word));
    !sentence
        && text.chars().any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c))
        && !text.starts_with("操作未完成")
}

/// Whether a face said what it must; `reason` is what an earlier one said in English.
fn judge(face: &str, row: &Row, said: &Said, reason: &mut Option<String>) -> Result<(), String> {
    if !said.refused {
        return Err("accepted".into());
    }
    if face == "gRPC" || face == "REST" {
        if said.code.as_deref() != Some(row.code) {
            return Err(format!("the code is not {}", row.code));
        }
        // A path names the thing, and its own filters have their own words.
        let field = said.field.as_deref().unwrap_or_default();
        let known = match (face, row.ask.verb, row.field) {
            ("REST", "run list", "outcome") => "status",
            (_, _, field) => field,
        };
        if field != known {
            return Err(format!("{field:?} is blamed and not {known:?}"));
        }
        let why = said.reason.clone().unwrap_or_default();
        if why.split(' ').count() < 3 {
            return Err("says no reason".into());
        }
        if let Some(other) = reason.replace(why.clone())
            && other != why
        {
            return Err(format!("another reason than {other:?}"));
        }
        return Ok(());
    }
    if face == "the contract" {
        let mut words = legacy::words(row.field).chain([row.field]);
        return if words.any(|word| said.text.contains(word)) {
            Ok(())
        } else {
            Err("does not say which field".into())
        };
    }
    let expected: &[&str] = match row.code {
        "NOT_FOUND" => &["NOT_FOUND"],
        "VERSION_CONFLICT" => &["VERSION_CONFLICT"],
        _ => &["REFUSED", "USAGE"],
    };
    let code = said.code.as_deref().unwrap_or_default();
    if !expected.contains(&code) {
        return Err(format!("ended as {code}"));
    }
    let field = row.field.rsplit('.').next().unwrap_or_default().split('[').next().unwrap_or_default();
    if !cli::names(&said.text, field) {
        return Err(format!("does not say which field is to blame, {field}"));
    }
    match reason {
        Some(reason)
            if code == "REFUSED" && !row.field.is_empty() && !said.text.contains(reason.as_str()) =>
        {
            Err(format!("another reason than {reason:?}"))
        }
        _ => Ok(()),
    }
}
