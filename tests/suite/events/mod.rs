//! The stream of events: complete over the death of a node, cut to what one asks for and may see, and honest about
//! what is missing.

mod listen;
mod top;

use std::time::Duration;

use forest_tests::cluster::Cluster;
use forest_tests::names::unique;
use forest_tests::services::EtcdOptions;
use forest_tests::wait::eventually;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::stage::{SOON, Stage};
use listen::{Listener, Told, field};

fn is(event: &Value, kind: &str) -> bool {
    event["type"] == kind
}

fn revision(id: &str) -> i64 {
    id.split('.').next().and_then(|digits| digits.parse().ok()).unwrap_or_else(|| panic!("{id:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_goes_on_at_another_node_without_a_lost_or_doubled_event() {
    const DEATHS: usize = 3;
    let Some(stage) = Stage::set(Cluster::builder().nodes(3).lease_ttl(Duration::from_secs(2))).await else {
        return;
    };
    let _worker = stage.worker("worker", &["--capacity", "32"]).await;
    let nodes = stage.cluster.nodes();
    // The last node lives, and one listens to it all the time.
    let query = format!("?group={}", stage.group);
    let mut whole = Listener::from_now(nodes[2].server.address(), &query, "").await;
    let mut listener =
        Listener::at(nodes[0].server.address(), &query, &whole.last, "").await.expect("let in");
    stage.job(json!({"cron": "* * * * * *"})).await;
    let mut told = Vec::new();
    for death in 0..DEATHS {
        let ended = listener.until(|event| is(event, "run.ended")).await;
        told.extend(ended);
        let (dies, lives) = (&nodes[death % 2], &nodes[(death + 1) % 2]);
        dies.server.kill9();
        while let Some(event) = listener.event().await {
            told.push(event);
        }
        listener = Listener::at(lives.server.address(), &query, &listener.last, "").await.expect("let in");
        dies.server.restart();
        dies.server.wait_ready().await;
        // It has not seen what was before its start: read on until that is behind us.
        let start = Listener::from_now(dies.server.address(), &query, "").await.last;
        let is_behind = |event: &Value| revision(event["id"].as_str().unwrap_or_default()) > revision(&start);
        told.extend(listener.until(is_behind).await);
    }
    told.extend(listener.until(|event| is(event, "run.ended")).await);
    let last = told.last().expect("some")["id"].clone();
    let reference = whole.until(|event| event["id"] == last).await;
    assert_eq!(field(&told, "id"), field(&reference, "id"), "the same events in the same order");
    let runs = |events: &[Value]| events.iter().filter(|event| is(event, "run.ended")).count();
    assert!(runs(&told) > DEATHS && !told.iter().any(|event| is(event, "reset")), "{told:?}");
    for (one, other) in told.iter().zip(&reference) {
        let without_at = |event: &Value| {
            let mut event = event.clone();
            event["at"] = Value::Null;
            event
        };
        assert_eq!(without_at(one), without_at(other));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_node_tells_what_happens_in_the_words_of_those_who_use_it() {
    let Some(stage) = Stage::set(Cluster::builder().nodes(2)).await else { return };
    let follower = stage.cluster.followers().await[0].server.address();
    let mut all = Listener::from_now(follower, "", "").await;
    let worker = stage.worker("worker", &[]).await;
    let job = stage.job(json!({"target": "fail", "max_attempts": 2, "retry_delays_ms": [1]})).await;
    let mut of_job =
        Listener::from_now(follower, &format!("?job={job}&types=run.ended,job.paused"), "").await;
    let run = stage.run(&job).await;
    let is_end = |event: &Value| is(event, "run.ended") && event["run_id"] != run.as_str();
    let told = of_job.until(is_end).await;
    assert_eq!(field(&told, "type"), ["run.ended", "run.ended"], "{told:?}");
    assert_eq!(field(&told, "outcome"), ["failed", "failed"]);
    stage.cluster.admin().disable(&job).await.expect("disabled");
    let paused = of_job.event().await.expect("told");
    assert_eq!((&paused["type"], &paused["job_id"]), (&json!("job.paused"), &json!(job)), "{paused}");
    worker.term();

    let told = all.until(|event| is(event, "client.left")).await;
    let mine: Vec<_> = told.iter().filter(|event| event["group"] == stage.group.as_str()).cloned().collect();
    let story = field(&mine, "type");
    let expected = ["client.joined", "job.created", "run.created", "run.claimed", "run.ended"];
    let then = ["run.created", "run.moved", "run.claimed", "run.ended", "job.paused"];
    let quiet: Vec<_> = story.iter().filter(|kind| **kind != "client.updated").copied().collect();
    assert_eq!(quiet, [&expected[..], &then, &["client.left"]].concat(), "{mine:?}");
    let second = mine.iter().find(|event| is(event, "run.created") && event["run_id"] != run.as_str());
    assert_eq!(second.map(|event| &event["state"]), Some(&json!("delayed")));
    // The same again, from what the node remembers.
    let mut again = Listener::at(follower, &format!("?since=0&follow=false&group={}", stage.group), "", "")
        .await
        .expect("let in");
    let mut remembered = Vec::new();
    while let Some(event) = again.event().await {
        remembered.push(event);
    }
    assert!(remembered.ends_with(&mine), "{remembered:?}");

    let leader = stage.cluster.kill_leader().await.server.name().to_owned();
    let told = all.until(|event| is(event, "leader.changed")).await;
    let lost = told.iter().find(|event| is(event, "leader.left")).expect("told");
    assert!(lost["node"].as_str().expect("text").starts_with(&leader), "{lost}");
    let changed = told.last().expect("told");
    assert!(changed["term"].as_i64() > lost["term"].as_i64(), "{changed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_said_and_never_passed_over() {
    let builder = Cluster::builder().nodes(2).private_etcd(EtcdOptions::default()).proxied();
    let Some(stage) = Stage::set(builder).await else { return };
    let followers = stage.cluster.followers().await;
    let (node, address) = (followers[0], followers[0].server.address());
    // What was before the node came, it cannot know.
    let mut old = Listener::at(address, "?since=1", "", "").await.expect("let in");
    let reset = old.event().await.expect("told");
    assert!(is(&reset, "reset") && reset["id"].as_str().is_some_and(|id| !id.is_empty()), "{reset}");
    // An id that etcd has not given yet: its history must be another one.
    let mut ahead = Listener::at(address, "?since=99999999", "", "").await.expect("let in");
    assert!(is(&ahead.event().await.expect("told"), "reset"));

    let mut listener = Listener::from_now(address, "", "").await;
    let before = stage.job(json!({})).await;
    let told = listener.until(|event| is(event, "job.created")).await;
    assert_eq!(told.last().expect("told")["job_id"], before.as_str());
    node.network().etcd.cut().await;
    let leader = stage.cluster.leader().await.server.admin();
    let missed = json!({"name": "n", "group": stage.group, "target": "echo", "cron": "0 0 0 1 1 ?"});
    leader.add_job(&missed).await.expect("added");
    let gateway = stage.cluster.etcd().gateway().await;
    gateway.compact(gateway.revision().await.expect("a revision")).await.expect("compacted");
    node.network().etcd.pass().await;
    let told = listener.until(|event| is(event, "reset")).await;
    assert!(!told.iter().any(|event| is(event, "job.created")), "{told:?}");
    // It goes on.
    let after = stage.job(json!({})).await;
    let told = listener.until(|event| is(event, "job.created")).await;
    assert_eq!(told.last().expect("told")["job_id"], after.as_str());
    assert_eq!(told.iter().filter(|event| is(event, "reset")).count(), 0, "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_stream_lives_and_ends_with_its_node() {
    let Some(stage) = Stage::set(Cluster::builder()).await else { return };
    let server = &stage.cluster.nodes()[0].server;
    let mut listener = Listener::from_now(server.address(), "?types=calendar", "").await;
    let mut grpc = watch(server.address(), "").await.expect("let in");
    let mut positions = vec![listener.last.clone()];
    // Longer than any other request may take.
    while positions.len() < 4 {
        match listener.next().await {
            Told::Beat(at) => positions.push(at),
            other => panic!("{other:?}"),
        }
    }
    let positions: Vec<_> = positions.iter().map(|at| revision(at)).collect();
    assert!(positions.is_sorted() && positions[3] > positions[0], "{positions:?}");
    server.term();
    assert_eq!(listener.next().await, Told::End(String::new()));
    let ended = end_of(&mut grpc).await;
    assert_eq!(ended.code(), tonic::Code::Unavailable, "{ended}");
    assert!(ended.message().contains("shutting down"), "{ended}");
    server.wait_exit(Duration::from_secs(10)).await;
}

type Messages = tonic::Streaming<forest_proto::admin::v1::Event>;

/// Listens by gRPC, to calendars.
async fn watch(node: std::net::SocketAddr, token: &str) -> Result<Messages, tonic::Status> {
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{node}")).expect("an address");
    let channel = channel.connect().await.expect("the node answers");
    let mut client = forest_proto::admin::v1::admin_client::AdminClient::new(channel);
    let request =
        forest_proto::admin::v1::WatchEventsRequest { types: vec!["calendar".into()], ..Default::default() };
    let mut request = tonic::Request::new(request);
    if !token.is_empty() {
        let header = format!("Bearer {token}").parse().expect("text");
        request.metadata_mut().insert("authorization", header);
    }
    Ok(client.watch_events(request).await?.into_inner())
}

/// Why it ends; what comes before that are signs of life.
async fn end_of(messages: &mut Messages) -> tonic::Status {
    loop {
        match tokio::time::timeout(SOON, messages.message()).await.expect("the node is not silent") {
            Ok(Some(event)) => assert_eq!(event.r#type, "heartbeat"),
            Ok(None) => panic!("it says why"),
            Err(status) => return status,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_is_told_what_one_may_see_for_as_long_as_one_may() {
    let Some(portal) = crate::http::Portal::with_login().await else { return };
    portal.post("/api/v1/groups", json!({"name": "other"})).await;
    let address = portal.address();
    let refused = |query: &'static str, token: String| async move {
        Listener::at(address, query, "", &token).await.expect_err("refused")
    };
    let trade = portal.token_for(json!({"groups": {"trade": "viewer"}})).await;
    assert_eq!(refused("", String::new()).await, StatusCode::UNAUTHORIZED);
    assert_eq!(refused("", portal.token_for(json!({})).await).await, StatusCode::FORBIDDEN);
    assert_eq!(refused("?group=other", trade.clone()).await, StatusCode::FORBIDDEN);
    assert_eq!(refused("?types=nonsense", trade.clone()).await, StatusCode::BAD_REQUEST);
    assert_eq!(refused("?since=x", trade.clone()).await, StatusCode::BAD_REQUEST);
    assert_eq!(watch(address, "").await.expect_err("refused").code(), tonic::Code::Unauthenticated);

    let mut all = Listener::from_now(address, "", &portal.token).await;
    let mut some = Listener::from_now(address, "", &trade).await;
    let other = json!({"name": "n", "group": "other", "target": "t", "cron": "0 0 0 1 1 ?"});
    let hidden = portal.post("/api/v1/jobs", other).await;
    let moves = portal.job().await;
    let seen = portal.job().await;
    let moved = portal.request(reqwest::Method::PATCH, &format!("/api/v1/jobs/{moves}"));
    let moved = moved.json(&json!({"group": "other"})).send().await.expect("an answer");
    assert_eq!(moved.status(), StatusCode::OK);
    let days = portal.request(reqwest::Method::PUT, "/api/v1/calendars/days");
    let stored = days.json(&json!({"days": "2027-01-01"})).send().await.expect("an answer");
    assert!(stored.status().is_success(), "{stored:?}");
    let is_last = |event: &Value| is(event, "calendar.created");
    let (all, some) = (all.until(is_last).await, some.until(is_last).await);
    let jobs = |events: &[Value]| {
        let of_jobs =
            events.iter().filter(|event| event["type"].as_str().is_some_and(|t| t.starts_with("job")));
        of_jobs.map(|event| (text(event, "type"), text(event, "job_id"))).collect::<Vec<_>>()
    };
    let pair = |kind: &str, id: &str| (kind.to_owned(), id.to_owned());
    let hidden = hidden.body["id"].as_str().expect("an id");
    let created = [pair("job.created", &moves), pair("job.created", &seen)];
    let left = pair("job.left", &moves);
    assert_eq!(jobs(&some), [&created[..], std::slice::from_ref(&left)].concat());
    let whole = [&[pair("job.created", hidden)][..], &created, &[left, pair("job.updated", &moves)]].concat();
    assert_eq!(jobs(&all), whole);
}

fn text(event: &Value, name: &str) -> String {
    event[name].as_str().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_logged_out_is_told_nothing_more() {
    let Some(portal) = crate::http::Portal::with_login().await else { return };
    let address = portal.address();
    let made = portal.post("/api/v1/tokens", json!({"name": "t", "grants": {"everywhere": "viewer"}})).await;
    let token = text(&made.body, "secret");
    let mut listener = Listener::from_now(address, "?types=calendar", &token).await;
    let mut grpc = watch(address, &token).await.expect("let in");
    let id = text(&made.body["token"], "id");
    let gone =
        portal.request(reqwest::Method::DELETE, &format!("/api/v1/tokens/{id}")).send().await.expect("told");
    assert!(gone.status().is_success(), "{gone:?}");
    assert_eq!(listener.next().await, Told::End(String::new()));
    let ended = end_of(&mut grpc).await;
    assert_eq!(ended.code(), tonic::Code::Unauthenticated, "{ended}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_takes_all_the_streams() {
    const PER_CALLER: usize = 32;
    let Some(portal) = crate::http::Portal::with_login().await else { return };
    let (mine, yours) = (portal.token_for(json!({"everywhere": "viewer"})).await, portal.token.clone());
    let mut open = Vec::new();
    for _ in 0..PER_CALLER {
        open.push(Listener::from_now(portal.address(), "", &mine).await);
    }
    let one_more = Listener::at(portal.address(), "", "", &mine).await;
    assert_eq!(one_more.expect_err("too many"), StatusCode::TOO_MANY_REQUESTS);
    drop(Listener::from_now(portal.address(), "", &yours).await);
    open.pop();
    eventually("there is room again", SOON, async || {
        Listener::at(portal.address(), "", "", &mine).await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_goes_on_at_another_node() {
    let Some(stage) = Stage::set(Cluster::builder().nodes(2)).await else { return };
    let nodes = stage.cluster.nodes();
    let servers: Vec<_> = nodes.iter().map(|node| format!("http://{}", node.server.address())).collect();
    let mut child = tokio::process::Command::new(forest_tests::services::build_dir().join("forest-cli"))
        .args(["events", "-f", "-o", "jsonl", "--group", &stage.group, "--type", "job", "--since", "0"])
        .env("FOREST_SERVER", servers.join(","))
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("forest-cli is built");
    let mut lines =
        tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(child.stdout.take().expect("piped")));
    let mut next = async || {
        let line = tokio::time::timeout(Duration::from_secs(60), lines.next_line()).await.expect("in time");
        let line = line.expect("text").expect("it goes on");
        let event: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(event["type"], "job.created", "{event}");
        text(&event, "job_id")
    };
    let first = stage.job(json!({"name": unique("job")})).await;
    assert_eq!(next().await, first);
    nodes[0].server.kill9();
    let second = eventually("another job", SOON, async || {
        let job = json!({"name": "n", "group": stage.group, "target": "echo", "cron": "0 0 0 1 1 ?"});
        nodes[1].server.admin().add_job(&job).await
    })
    .await;
    assert_eq!(next().await, second);
}
