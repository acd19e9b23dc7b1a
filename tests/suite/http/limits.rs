//! What one caller can ask for: changes in a minute, sizes of headers, bodies and pages.

use std::time::Instant;

use forest_proto::admin::v1::admin_client::AdminClient;
use forest_proto::admin::v1::{AddGroupRequest, AddJobRequest, ListJobsRequest};
use forest_tests::names::unique;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use super::{Portal, Reply, send, without_token};

/// Changes that the node of these tests takes from a caller in a minute.
const LIMIT: usize = 5;

/// The three ways to make a group.
#[derive(Debug, Clone, Copy)]
enum Way {
    Grpc,
    Rest,
    Original,
}

/// How it went.
enum Made {
    Done,
    /// As the face says it.
    Refused(Box<Refusal>),
}

enum Refusal {
    Grpc(Status),
    Http(Reply),
}

async fn grpc<T>(
    portal: &Portal,
    token: &str,
    message: T,
) -> (AdminClient<tonic::transport::Channel>, Request<T>) {
    let client = AdminClient::connect(portal.url("")).await.expect("it is reached");
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().expect("a header"));
    (client, request)
}

async fn make(portal: &Portal, token: &str, way: Way) -> Made {
    let name = unique("group");
    let post = async |path: &str| {
        let request = without_token(portal, Method::POST, path).bearer_auth(token);
        send(request.json(&json!({"name": name, "remark": "r"}))).await
    };
    let refused = match way {
        Way::Grpc => {
            let message = AddGroupRequest { name: name.clone(), ..Default::default() };
            let (mut client, request) = grpc(portal, token, message).await;
            match client.add_group(request).await {
                Ok(_) => return Made::Done,
                Err(status) => Refusal::Grpc(status),
            }
        }
        Way::Rest => match post("/api/v1/groups").await {
            reply if reply.status == StatusCode::CREATED => return Made::Done,
            reply => Refusal::Http(reply),
        },
        Way::Original => match post("/group/add").await {
            reply if reply.body["code"] == 0 => return Made::Done,
            reply => Refusal::Http(reply),
        },
    };
    Made::Refused(Box::new(refused))
}

/// The refusal by this face; the minute goes on meanwhile, so that one more change may be taken.
async fn refusal(portal: &Portal, token: &str, way: Way) -> Refusal {
    for _ in 0..20 {
        if let Made::Refused(refused) = make(portal, token, way).await {
            return *refused;
        }
    }
    panic!("{way:?} does not count")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_makes_so_many_changes_a_minute_on_all_faces_together() {
    let limit = LIMIT.to_string();
    let arguments = ["--login", "on", "--submissions-per-minute", &limit];
    let Some(mut portal) = Portal::open(&arguments).await else { return };
    portal.enter().await;
    let busy = portal.token_for(json!({"everywhere": "admin"})).await;
    let other = portal.token_for(json!({"everywhere": "admin"})).await;

    let begun = Instant::now();
    let mut made = 0;
    for way in [Way::Grpc, Way::Rest, Way::Original].into_iter().cycle().take(20 * LIMIT) {
        match make(&portal, &busy, way).await {
            Made::Done => made += 1,
            Made::Refused(_) => break,
        }
    }
    // One place becomes free every twelve seconds.
    let earned = usize::try_from(begun.elapsed().as_secs()).expect("a number") / (60 / LIMIT);
    assert!((LIMIT..=LIMIT + earned + 1).contains(&made), "{made} in {:?}", begun.elapsed());

    let Refusal::Grpc(status) = refusal(&portal, &busy, Way::Grpc).await else { panic!("another face") };
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert!(status.message().contains("too many requests: wait"), "{status:?}");
    let wait = status.get_details_retry_info().and_then(|info| info.retry_delay).expect("how long");
    assert!((1..=60).contains(&wait.as_secs()), "{wait:?}");
    assert_eq!(status.get_details_error_info().expect("a reason").reason, "TOO_MANY_REQUESTS");
    let Refusal::Http(reply) = refusal(&portal, &busy, Way::Rest).await else { panic!("another face") };
    assert_eq!((reply.status, reply.code()), (StatusCode::TOO_MANY_REQUESTS, "TOO_MANY_REQUESTS"));
    assert!(
        reply.header("retry-after").parse::<u64>().is_ok_and(|wait| (1..=60).contains(&wait)),
        "{reply:?}"
    );
    let Refusal::Http(reply) = refusal(&portal, &busy, Way::Original).await else { panic!("another face") };
    assert_eq!((reply.status, &reply.body["code"]), (StatusCode::OK, &json!(-1)));
    assert!(reply.body["message"].as_str().is_some_and(|text| text.contains("请求过于频繁")), "{reply:?}");

    let reads = without_token(&portal, Method::GET, "/api/v1/groups").bearer_auth(&busy);
    assert_eq!(send(reads).await.status, StatusCode::OK, "looking is not limited");
    assert!(matches!(make(&portal, &other, Way::Grpc).await, Made::Done), "others go on");
    assert!(matches!(make(&portal, &other, Way::Original).await, Made::Done), "others go on");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_refused_and_named() {
    let Some(portal) = Portal::open(&[]).await else { return };
    portal.post("/api/v1/groups", json!({"name": "trade"})).await;
    let job = |params: String| json!({"name": "n", "group": "trade", "target": "t", "cron": "@daily", "params": params});
    let large = portal.post("/api/v1/jobs", job("x".repeat(3 << 20))).await;
    assert_eq!((large.status, large.code()), (StatusCode::PAYLOAD_TOO_LARGE, "INVALID_BODY"), "{large:?}");
    let original = send(portal.request(Method::POST, "/job/add").json(&job("x".repeat(3 << 20)))).await;
    assert_ne!(original.body["code"], 0, "{original:?}");
    let (mut client, request) =
        grpc(&portal, "none", AddJobRequest { document: job("x".repeat(5 << 20)).to_string() }).await;
    let status = client.add_job(request).await.expect_err("too large");
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");

    let header = portal.request(Method::GET, "/api/v1/jobs").header("x-large", "x".repeat(40 * 1024));
    assert_eq!(send(header).await.status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
    let deep = format!("{{\"name\":\"n\",\"group\":\"trade\",\"target\":\"t\",\"labels\":{deep}}}");
    let deep =
        portal.request(Method::POST, "/api/v1/jobs").header("content-type", "application/json").body(deep);
    let deep = send(deep).await;
    assert_eq!(deep.status, StatusCode::BAD_REQUEST, "{deep:?}");
    assert!(deep.body["detail"].as_str().is_some_and(|detail| detail.len() < 400), "{deep:?}");

    let document = portal.get("/api/v1/openapi.json").await.body;
    let mut lists = 0;
    for (path, methods) in document["paths"].as_object().expect("paths") {
        let paged = |parameter: &Value| parameter["name"] == "page_size";
        if !methods["get"]["parameters"].as_array().is_some_and(|all| all.iter().any(paged)) {
            continue;
        }
        lists += 1;
        let reply = portal.get(&format!("/api/v1{path}?page_size=201")).await;
        assert_eq!(
            (reply.status, &reply.body["field"]),
            (StatusCode::BAD_REQUEST, &json!("page_size")),
            "{path}"
        );
        let reply = portal.get(&format!("/api/v1{path}?page_size=-1")).await;
        assert_eq!(
            (reply.status, &reply.body["field"]),
            (StatusCode::BAD_REQUEST, &json!("page_size")),
            "{path}"
        );
    }
    assert!(lists >= 8, "only {lists} lists");
    let (mut client, request) =
        grpc(&portal, "none", ListJobsRequest { page_size: 201, ..Default::default() }).await;
    let status = client.list_jobs(request).await.expect_err("too many");
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert_eq!(portal.get("/api/v1/jobs").await.body["items"], json!([]), "nothing was stored");
}
