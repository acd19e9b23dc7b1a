//! Keys under the cluster's root that nobody understands: named in the log once, counted, left alone.

use std::collections::BTreeMap;
use std::time::Duration;

use forest_proto::time::Instant;
use forest_proto::{JobId, RunId, SegmentCount};
use forest_tests::cluster::{Cluster, ClusterNode};
use forest_tests::services::Gateway;
use forest_tests::wait::eventually;
use serde_json::json;

use crate::stage::{SOON, Stage, fire_of, now};

const QUARANTINED: &str = "leaving alone a key that cannot be understood";

/// Garbage for every family of keys. `{g}` is the group, `{c}` a client's id, `{r}` a run's.
const GARBAGE: [(&str, &str); 31] = [
    ("server/conf/broken", "{"),
    ("server/conf/other", r#"{"id":"another","name":"a","group":"g","target":"t"}"#),
    ("server/conf/numbers", r#"{"id":"numbers","name":5,"group":[],"target":"t"}"#),
    ("server/conf/a/b", r#"{}"#),
    ("server/conf/sp ace", r#"{}"#),
    ("server/conf/", r#"{}"#),
    ("server/group/broken", "nonsense"),
    ("server/group/snapshot", r#"{"name":"snapshot","remark":""}"#),
    ("server/node/broken", r#"{"name":7}"#),
    ("server/cursor/7f", r#"{"fire_at":"2026-11-21T00:00:00Z","job":"","term":1}"#),
    ("server/cursor/zz", "0"),
    ("server/jobgen/3f", ""),
    ("server/jobgen/0", ""),
    ("server/delay/00/tomorrow", "{}"),
    ("server/delay/00/20270101000000000.{r}", "{"),
    ("server/request/00/broken", "{"),
    ("server/request/nowhere/x", "{}"),
    ("server/answer/zz/x", "{}"),
    ("server/pending/{g}/{r}", "[]"),
    ("server/pending/{g}/soon", "{}"),
    ("server/pending/{r}", "{}"),
    ("server/unheard-of/x", "1"),
    ("client/{g}/clients/broken", "{\"name\":"),
    ("client/{g}/clients/control", "\u{1}\u{2}\u{3}"),
    ("client/snapshot/{g}/{c}/broken", "{}"),
    ("client/snapshot/{g}/{c}/{r}", "{"),
    ("client/execute/snapshot/{g}/-/{r}", r#"{"status":1}"#),
    ("client/execute/snapshot/{g}/{c}/x", r#"{"status":2}"#),
    ("client/execute/late/{g}/{c}/y", "{}"),
    ("client/cancel/{g}/{c}/z", ""),
    ("elsewhere", "what is this"),
];

/// What was put, as etcd has it: by key, the revision.
async fn litter(stage: &Stage, gateway: &Gateway, client: &str) -> BTreeMap<String, i64> {
    let root = stage.cluster.key_root();
    let mut put = BTreeMap::new();
    for (number, (key, value)) in GARBAGE.iter().enumerate() {
        // A run of its own for each key that has one.
        let run = format!("202701010000{number:02}000-nobody-1");
        run.parse::<RunId>().expect("a valid id, so that only the value is garbage");
        let key = key.replace("{g}", &stage.group).replace("{c}", client).replace("{r}", &run);
        let key = format!("{root}/{key}");
        gateway.put(&key, value).await.expect("put");
        let entry = gateway.get(&key).await.expect("read").expect("just put");
        put.insert(key, entry.mod_revision);
    }
    put
}

async fn assert_counted(node: &ClusterNode, keys: &BTreeMap<String, i64>) {
    let admin = node.server.admin();
    eventually("all garbage is counted", SOON, async || {
        let counted = admin.cluster().await.map_err(|e| e.to_string())?.quarantined;
        let logged = logged(node, keys);
        let missing: Vec<_> = logged.iter().filter(|(_, count)| **count == 0).map(|(key, _)| key).collect();
        if counted == keys.len() as u64 { Ok(()) } else { Err(format!("{counted}, not logged: {missing:?}")) }
    })
    .await;
    for (key, count) in logged(node, keys) {
        assert_eq!(count, 1, "{} logged {key} so often", node.server.name());
    }
}

/// How often a node's log complains about each key.
fn logged(node: &ClusterNode, keys: &BTreeMap<String, i64>) -> BTreeMap<String, usize> {
    let mut counts: BTreeMap<String, usize> = keys.keys().map(|key| (key.clone(), 0)).collect();
    for line in node.server.output().lines().filter(|line| line.contains(QUARANTINED)) {
        let line: serde_json::Value = serde_json::from_str(line).expect("the log is JSON");
        let key = line["fields"]["key"].as_str().or(line["key"].as_str()).expect("the line names its key");
        *counts.entry(key.to_owned()).or_default() += 1;
    }
    counts
}

async fn assert_work_goes_on(stage: &Stage) {
    let job = stage.job(json!({"cron": "* * * * * *"})).await;
    let row = stage.ended(&stage.run(&job).await).await;
    assert_eq!(row.outcome.as_deref(), Some("succeeded"));
    let since = now();
    eventually("the schedule is kept", SOON, async || {
        let rows = stage.rows(&job).await;
        rows.iter()
            .filter(|row| row.scheduled_at > Some(since) && row.outcome.as_deref() == Some("succeeded"))
            .count()
            >= 2
    })
    .await;
    stage.cluster.admin().disable(&job).await.expect("disabled");
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_named_once_counted_and_left_alone_while_work_goes_on() {
    let Some(stage) = Stage::set(Cluster::builder().nodes(2).lease_ttl(Duration::from_secs(2))).await else {
        return;
    };
    let _worker = stage.worker("worker", &[]).await;
    let client = stage.client_named("worker").await;
    let gateway = stage.cluster.etcd().gateway().await;
    let keys = litter(&stage, &gateway, &client).await;
    for node in stage.cluster.nodes() {
        assert_counted(node, &keys).await;
    }
    assert_work_goes_on(&stage).await;

    let old = stage.cluster.kill_leader().await;
    let new = stage.cluster.leader().await;
    assert_work_goes_on(&stage).await;
    assert_counted(new, &keys).await;
    // A node that finds it all in its first listing says the same.
    old.server.restart();
    old.server.wait_ready().await;
    let admin = old.server.admin();
    eventually("the restarted node counts the same", SOON, async || {
        admin.cluster().await.is_ok_and(|cluster| cluster.quarantined == keys.len() as u64)
    })
    .await;
    for (key, revision) in &keys {
        let entry = gateway.get(key).await.expect("read").unwrap_or_else(|| panic!("{key} is gone"));
        assert_eq!(entry.mod_revision, *revision, "{key}");
        gateway.delete(key).await.expect("deleted");
    }
    for node in stage.cluster.nodes() {
        let admin = node.server.admin();
        eventually("nothing is left to count", SOON, async || {
            admin.cluster().await.is_ok_and(|cluster| cluster.quarantined == 0)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_that_cannot_be_read_holds_its_segment_and_no_other_until_it_is_removed() {
    let Some(stage) = Stage::set(Cluster::builder().nodes(2).lease_ttl(Duration::from_secs(2))).await else {
        return;
    };
    let _worker = stage.worker("worker", &[]).await;
    let segment = |job: &str| SegmentCount::DEFAULT.segment_of(&JobId::new(job).expect("valid"));
    let every_second = json!({"cron": "* * * * * *"});
    let held = stage.job(every_second.clone()).await;
    let mut free = stage.job(every_second.clone()).await;
    while segment(&free) == segment(&held) {
        free = stage.job(every_second.clone()).await;
    }
    let fires_after = async |job: &str, at| {
        eventually("it fires", SOON, async || {
            let rows = stage.rows(job).await;
            let last = rows.last().map(|row| fire_of(&row.id));
            if last > Some(at) {
                Ok(())
            } else {
                Err(format!("{job} in segment {} fired at {last:?}, not after {at}", segment(job)))
            }
        })
        .await;
    };
    fires_after(&held, now()).await;
    let gateway = stage.cluster.etcd().gateway().await;
    let key = format!("{}/server/cursor/{}", stage.cluster.key_root(), segment(&held));
    gateway.put(&key, "{").await.expect("put");
    let broken = Instant::from_ms(now().as_ms() + 1000);
    fires_after(&free, Instant::from_ms(broken.as_ms() + 2000)).await;
    stage.cluster.kill_leader().await;
    let leader = stage.cluster.leader().await;
    fires_after(&free, Instant::from_ms(now().as_ms() + 3000)).await;
    assert_eq!(gateway.get(&key).await.expect("read").map(|entry| entry.value).as_deref(), Some("{"));
    let fired = stage.rows(&held).await;
    assert!(fired.iter().all(|row| fire_of(&row.id) <= broken), "{:?}", fired.last());
    assert_counted(leader, &BTreeMap::from([(key.clone(), 0)])).await;
    let output = leader.server.output();
    let complaints = output.lines().filter(|line| line.contains(r#""level":"ERROR""#)).count();
    assert!(complaints < 10, "{complaints} errors in the log");

    gateway.delete(&key).await.expect("deleted");
    fires_after(&held, now()).await;
}

/// Deletes a segment's key of this family under a running leader.
async fn its_segment_goes_on_without(family: &str) {
    let Some(stage) = Stage::set(Cluster::builder()).await else { return };
    let _worker = stage.worker("worker", &[]).await;
    let job = stage.job(json!({"cron": "* * * * * *"})).await;
    let segment = SegmentCount::DEFAULT.segment_of(&JobId::new(&job).expect("valid"));
    let gateway = stage.cluster.etcd().gateway().await;
    let key = format!("{}/server/{family}/{segment}", stage.cluster.key_root());
    for deleted in [false, true] {
        let since = now();
        eventually("it fires", SOON, async || {
            let last = stage.rows(&job).await.last().map(|row| fire_of(&row.id));
            if last > Some(since) {
                return Ok(());
            }
            Err(format!("last fire {last:?}, the {family} is {}", if deleted { "deleted" } else { "there" }))
        })
        .await;
        if !deleted {
            assert!(gateway.delete(&key).await.expect("deleted"), "{key}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_cursor_does_not_stop_its_segment_for_good() {
    its_segment_goes_on_without("cursor").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_generation_does_not_stop_its_segment_for_good() {
    its_segment_goes_on_without("jobgen").await;
}

/// Standard base64, which is how etcd's gateway takes bytes that are no text.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_values_that_are_no_text_stop_nothing() {
    let Some(stage) = Stage::set(Cluster::builder()).await else { return };
    let _worker = stage.worker("worker", &[]).await;
    let client = stage.client_named("worker").await;
    let gateway = stage.cluster.etcd().gateway().await;
    let (root, group) = (stage.cluster.key_root(), &stage.group);
    let folders = [
        "server/conf/".to_owned(),
        "server/group/".to_owned(),
        "server/delay/00/".to_owned(),
        format!("server/pending/{group}/"),
        format!("client/{group}/clients/"),
        format!("client/snapshot/{group}/{client}/"),
        format!("client/execute/snapshot/{group}/{client}/"),
        format!("client/cancel/{group}/{client}/"),
    ];
    let mut values = BTreeMap::new();
    for folder in &folders {
        // Not UTF-8, in the key and in the value.
        let key = [root.as_bytes(), b"/", folder.as_bytes(), b"\xff\xfe"].concat();
        let body = json!({"key": base64(&key), "value": base64(b"\xc3\x28")});
        gateway.call("kv/put", &body).await.expect("put");
        let key = format!("{root}/{folder}bytes");
        let body = json!({"key": base64(key.as_bytes()), "value": base64(b"{\xff}")});
        gateway.call("kv/put", &body).await.expect("put");
        values.insert(key, 0);
    }
    // A request to stop is its key alone: whatever its value is.
    assert_work_goes_on(&stage).await;
    assert_counted(&stage.cluster.nodes()[0], &values).await;
    stage.cluster.kill_leader().await.server.restart();
    stage.cluster.leader().await.server.wait_ready().await;
    assert_work_goes_on(&stage).await;
    for folder in &folders {
        let found = gateway.count(&format!("{root}/{folder}")).await.expect("counted");
        assert!(found >= 2, "{folder} has {found}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_only_looks_like_one_is_left_alone_without_asking_for_it_again_and_again() {
    let Some(stage) = Stage::set(Cluster::builder().proxied()).await else { return };
    let _worker = stage.worker("worker", &[]).await;
    let client = stage.client_named("worker").await;
    let gateway = stage.cluster.etcd().gateway().await;
    let folder = format!("{}/client/execute/snapshot/{}/{client}", stage.cluster.key_root(), stage.group);
    let odd = [
        (format!("{folder}/20270101000000000-nobody-1"), r#"{"status":4}"#),
        (format!("{folder}/20270101000001000-nobody-1"), r#"{"status":2,"decided":true}"#),
        (
            format!(
                "{}/client/execute/late/{}/{client}/20270101000002000-nobody-1",
                stage.cluster.key_root(),
                stage.group
            ),
            "{",
        ),
    ];
    for (key, value) in &odd {
        gateway.put(key, value).await.expect("put");
    }
    assert_work_goes_on(&stage).await;
    let etcd = &stage.cluster.nodes()[0].network().etcd;
    let before = etcd.calls();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let calls = etcd.calls() - before;
    assert!(calls < 100, "{calls} calls to etcd in three idle seconds");
    for (key, value) in &odd {
        let entry = gateway.get(key).await.expect("read").unwrap_or_else(|| panic!("{key} is gone"));
        assert_eq!(entry.value, *value);
        let log = stage.cluster.nodes()[0].server.output();
        let named = log
            .lines()
            .filter(|line| line.contains(key.as_str()) && line.contains(r#""level":"ERROR""#))
            .count();
        assert_eq!(named, 1, "{key} is named in the log so often");
    }
}
