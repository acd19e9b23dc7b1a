//! The REST API beside its rules: versions, idempotency, refusals that name the field, pages.

use std::time::Duration;

use forest_tests::wait::eventually;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Portal, Reply, send};

fn assert_problem(reply: &Reply, status: StatusCode, code: &str, field: Option<&str>) {
    assert_eq!((reply.status, reply.code()), (status, code), "{reply:?}");
    assert_eq!(reply.header("content-type"), "application/problem+json");
    assert_eq!(reply.body["field"].as_str(), field, "{reply:?}");
    assert_eq!(reply.body["status"], status.as_u16());
    for text in ["title", "detail", "detail_zh"] {
        assert!(reply.body[text].as_str().is_some_and(|text| !text.is_empty()), "{reply:?}");
    }
}

#[tokio::test]
async fn a_job_lives_by_its_version() {
    let Some(portal) = Portal::open(&[]).await else { return };
    portal.post("/api/v1/groups", json!({"name": "trade"})).await;
    let job =
        json!({"name": "bill", "group": "trade", "target": "t", "cron": "0 0 2 * * *", "remark": "first"});
    let added = portal.post("/api/v1/jobs", job.clone()).await;
    assert_eq!((added.status, added.header("etag")), (StatusCode::CREATED, "\"1\""));
    let id = added.body["id"].as_str().expect("an id").to_owned();
    let path = format!("/api/v1/jobs/{id}");
    assert_eq!(added.header("location"), path);
    assert!(
        added.body["next_fire_at"].as_str().is_some_and(|at| at.ends_with("T02:00:00.000Z")),
        "{added:?}"
    );

    let same = send(portal.request(Method::GET, &path).header("if-none-match", "\"1\"")).await;
    assert_eq!(same.status, StatusCode::NOT_MODIFIED);
    let change = |version: &'static str, body: Value| {
        send(portal.request(Method::PATCH, &path).header("if-match", version).json(&body))
    };
    let changed = change("\"1\"", json!({"remark": "second"})).await;
    assert_eq!((changed.status, changed.header("etag")), (StatusCode::OK, "\"2\""));
    assert_problem(
        &change("\"1\"", json!({"remark": "x"})).await,
        StatusCode::PRECONDITION_FAILED,
        "VERSION_CONFLICT",
        None,
    );
    assert_problem(
        &change("nonsense", json!({})).await,
        StatusCode::BAD_REQUEST,
        "INVALID_FIELD",
        Some("if-match"),
    );

    // What was read can be sent back; what is left out gets its default.
    let mut whole = portal.get(&path).await.body;
    whole["priority"] = json!(3);
    let replaced = send(portal.request(Method::PUT, &path).json(&whole)).await;
    assert_eq!(
        (&replaced.body["priority"], &replaced.body["remark"]),
        (&json!(3), &json!("second")),
        "{replaced:?}"
    );
    let replaced = send(portal.request(Method::PUT, &path).json(&job)).await;
    assert_eq!((&replaced.body["priority"], &replaced.body["remark"]), (&Value::Null, &json!("first")));
    let stale = send(portal.request(Method::DELETE, &path).header("if-match", "\"1\"")).await;
    assert_eq!(stale.status, StatusCode::PRECONDITION_FAILED);
    let gone = send(portal.request(Method::DELETE, &path).header("if-match", "\"4\"")).await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT, "{gone:?}");
    assert_problem(&portal.get(&path).await, StatusCode::NOT_FOUND, "NOT_FOUND", None);
}

#[tokio::test]
async fn two_who_change_at_once_do_not_overwrite_each_other() {
    let Some(portal) = Portal::open(&[]).await else { return };
    portal.post("/api/v1/groups", json!({"name": "trade"})).await;
    let path = format!("/api/v1/jobs/{}", portal.job().await);
    let change = |remark: String| {
        send(
            portal.request(Method::PATCH, &path).header("if-match", "\"1\"").json(&json!({"remark": remark})),
        )
    };
    let (a, b, c) = tokio::join!(change("a".into()), change("b".into()), change("c".into()));
    let won = [&a, &b, &c].iter().filter(|reply| reply.status == StatusCode::OK).count();
    assert_eq!(won, 1, "{a:?} {b:?} {c:?}");
    assert_eq!(portal.get(&path).await.body["version"], 2);
}

#[tokio::test]
async fn a_run_asked_for_twice_with_one_key_runs_once() {
    let Some(portal) = Portal::open(&[]).await else { return };
    portal.post("/api/v1/groups", json!({"name": "trade"})).await;
    let job =
        json!({"name": "n", "group": "trade", "target": "t", "cron": "0 0 0 1 1 ?", "overlap": "allow"});
    let job = portal.post("/api/v1/jobs", job).await.body["id"].as_str().expect("an id").to_owned();
    let run = |key: &'static str| {
        let request = portal.request(Method::POST, &format!("/api/v1/jobs/{job}/run"));
        send(request.header("idempotency-key", key).json(&json!({"params": "p"})))
    };
    let (first, second, third) = tokio::join!(run("k"), run("k"), run("other"));
    assert_eq!(first.status, StatusCode::ACCEPTED, "{first:?}");
    assert_eq!(first.body["run_id"], second.body["run_id"]);
    assert_ne!(first.body["run_id"], third.body["run_id"]);
    let path = format!("/api/v1/executions/{}", first.body["run_id"].as_str().expect("an id"));
    eventually("the run waits for a client", Duration::from_secs(20), async || {
        let run = portal.get(&path).await;
        run.body["state"] == "pending" && run.body["params"] == "p"
    })
    .await;
    let cancelled = portal.post(&format!("{path}/cancel"), json!({})).await;
    assert_eq!(cancelled.status, StatusCode::ACCEPTED);
    eventually("it is cancelled", Duration::from_secs(20), async || {
        portal.get(&path).await.body["outcome"] == "cancelled"
    })
    .await;
}

#[tokio::test]
async fn what_is_wrong_is_named_and_nothing_is_stored() {
    let Some(portal) = Portal::open(&[]).await else { return };
    portal.post("/api/v1/groups", json!({"name": "trade"})).await;
    let good = json!({"name": "n", "group": "trade", "target": "t", "cron": "0 0 2 * * *"});
    let bad = [
        (json!({"cron": "0 0 25 * * *"}), "cron"),
        (json!({"group": "nobody"}), "group"),
        (json!({"target": "a/b"}), "target"),
        (json!({"overlap": "sometimes"}), "overlap"),
        (json!({"max_attempts": 0}), "max_attempts"),
        (json!({"max_attempts": "many"}), "max_attempts"),
        (json!({"colour": "red"}), "colour"),
    ];
    for (fields, field) in bad {
        let mut job = good.clone();
        job.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
        let refused = portal.post("/api/v1/jobs", job).await;
        assert_problem(&refused, StatusCode::BAD_REQUEST, "INVALID_FIELD", Some(field));
    }
    let sent = |body: &'static str| {
        send(
            portal
                .request(Method::POST, "/api/v1/jobs")
                .header("content-type", "application/json")
                .body(body),
        )
    };
    for body in ["", "{", "[]", "null", "\"x\"", "{\"name\":1}trailing"] {
        let refused = sent(body).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{body}: {refused:?}");
    }
    let deep: &'static str = Box::leak("[".repeat(100_000).into_boxed_str());
    assert_eq!(sent(deep).await.status, StatusCode::BAD_REQUEST);
    let large: &'static str =
        Box::leak(format!("{{\"params\":\"{}\"}}", "x".repeat(3 << 20)).into_boxed_str());
    assert_eq!(sent(large).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    for (path, field) in [
        ("/api/v1/jobs?page_size=201", "page_size"),
        ("/api/v1/jobs?page_size=x", "page_size"),
        ("/api/v1/jobs?page_token=%2F", "page_token"),
        ("/api/v1/jobs?enabled=perhaps", "enabled"),
        ("/api/v1/executions?status=odd", "status"),
        ("/api/v1/executions?since=yesterday", "since"),
        ("/api/v1/statistics?by=year", "by"),
        ("/api/v1/statistics?by=hour&page_token=x", "page_token"),
        ("/api/v1/statistics?since=2026-01-01T00:00:00Z&until=2026-01-01T00:00:00Z", "since"),
        ("/api/v1/statistics?since=2024-01-01T00:00:00Z&until=2026-01-01T00:00:00Z", "since"),
        ("/api/v1/cron/next?cron=0+0+25+*+*+*", "cron"),
    ] {
        assert_problem(&portal.get(path).await, StatusCode::BAD_REQUEST, "INVALID_FIELD", Some(field));
    }
    assert_eq!(portal.get("/api/v1/nothing").await.status, StatusCode::NOT_FOUND);
    assert_eq!(portal.get("/api/v1/jobs").await.body["items"], json!([]));
}

#[tokio::test]
async fn a_connection_survives_a_body_that_was_refused() {
    let Some(portal) = Portal::open(&[]).await else { return };
    let large = "x".repeat(5 << 20);
    // Refused before the whole body is there: for its size, and for its type.
    for kind in ["application/json", "text/plain"] {
        let stream = tokio::net::TcpStream::connect(portal.server.address()).await.expect("connected");
        let (mut from, mut to) = stream.into_split();
        for _ in 0..20 {
            let head = format!(
                "POST /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
                large.len()
            );
            let send = async {
                to.write_all(head.as_bytes()).await?;
                to.write_all(large.as_bytes()).await
            };
            let receive = async {
                let mut answer = Vec::new();
                while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
                    assert_ne!(from.read_buf(&mut answer).await?, 0, "closed: {kind}");
                }
                Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer).into_owned())
            };
            let (sent, answer) = tokio::join!(send, receive);
            sent.expect("sent");
            let answer = answer.expect("an answer");
            assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
            let length = answer.to_lowercase();
            let length = length.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
            let length: usize = length.expect("a length").trim().parse().expect("a number");
            let (_, begun) = answer.split_once("\r\n\r\n").expect("a head");
            let mut rest = vec![0; length - begun.len()];
            from.read_exact(&mut rest).await.expect("a body");
        }
    }
}

#[tokio::test]
async fn ended_runs_are_read_page_by_page_in_both_directions() {
    let Some(portal) = Portal::open(&[]).await else { return };
    portal.post("/api/v1/groups", json!({"name": "trade"})).await;
    let job = portal.job().await;
    let mut runs = Vec::new();
    for _ in 0..5 {
        let run = portal.post(&format!("/api/v1/jobs/{job}/run"), json!({})).await;
        let id = run.body["run_id"].as_str().expect("an id").to_owned();
        eventually("the run is there", Duration::from_secs(20), async || {
            portal.post(&format!("/api/v1/executions/{id}/cancel"), json!({})).await.status
                == StatusCode::ACCEPTED
        })
        .await;
        runs.push(id);
    }
    let path = format!("/api/v1/executions?job={job}&status=cancelled&page_size=2");
    let ids = |reply: &Reply| {
        let items = reply.body["items"].as_array().unwrap_or_else(|| panic!("{reply:?}"));
        items.iter().map(|item| item["id"].as_str().expect("text").to_owned()).collect::<Vec<_>>()
    };
    eventually("all are in the history", Duration::from_secs(20), async || {
        let list = portal.get(&format!("/api/v1/executions?job={job}&status=cancelled")).await;
        // Until the node has brought the table to its shape there is no history.
        list.status == StatusCode::OK && ids(&list).len() == 5
    })
    .await;
    let turn = async |token: &Value| {
        portal.get(&format!("{path}&page_token={}", token.as_str().expect("text").replace('+', "%2B"))).await
    };
    let first = portal.get(&path).await;
    let second = turn(&first.body["next_page_token"]).await;
    let third = turn(&second.body["next_page_token"]).await;
    assert_eq!(third.body["next_page_token"], "", "{third:?}");
    let all: Vec<_> = [&first, &second, &third].into_iter().flat_map(ids).collect();
    assert_eq!(all.len(), 5);
    let back = turn(&third.body["previous_page_token"]).await;
    assert_eq!(ids(&back), ids(&second));
    assert_eq!(ids(&turn(&back.body["previous_page_token"]).await), ids(&first));
    assert_eq!(first.body["previous_page_token"], "");
    assert_eq!(ids(&turn(&back.body["next_page_token"]).await), ids(&third));
}

#[tokio::test]
async fn probes_tell_a_supervisor_what_it_needs() {
    let Some(portal) = Portal::with_login().await else { return };
    let live = portal.http.get(portal.url("/livez")).send().await.expect("an answer");
    assert_eq!(live.status(), StatusCode::OK, "without a login");
    let ready = send(portal.http.get(portal.url("/readyz?verbose"))).await;
    assert_eq!(ready.body["view_is_current"], true);
    assert!(!ready.body.to_string().contains(&portal.key_root));
}
