//! Traces from the fire to the handler and into the history, seen by a real collector.

use std::sync::OnceLock;

use forest_proto::admin::v1::RunJobRequest;
use forest_proto::admin::v1::admin_client::AdminClient;
use forest_tests::cluster::Cluster;
use forest_tests::otlp::{Collector, Span};
use forest_tests::wait::eventually;
use serde_json::json;
use tonic::Request;

use crate::stage::{SOON, Stage};

/// Options are set by functions that hold nothing.
static ENDPOINT: OnceLock<String> = OnceLock::new();

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

fn names(spans: &[Span]) -> Vec<&str> {
    spans.iter().map(|span| span.name.as_str()).collect()
}

fn of<'a>(spans: &'a [Span], name: &str, attempt: &str) -> &'a Span {
    let found = spans.iter().find(|span| span.name == name && span.attribute("forest.attempt") == attempt);
    found.unwrap_or_else(|| panic!("no {name} of attempt {attempt}: {spans:#?}"))
}

/// One test, because the nodes' options are one for the process.
#[tokio::test]
async fn one_trace_leads_from_the_call_through_a_retry_into_the_history() {
    let collector = Collector::start().await;
    ENDPOINT.set(collector.endpoint()).expect("set once");
    let builder = Cluster::builder().configure(|options| {
        options.arguments = vec!["--otlp-endpoint".into(), ENDPOINT.get().expect("set").clone()];
    });
    let Some(stage) = Stage::set(builder).await else { return };
    let _worker = stage.worker("worker", &["--otlp", &collector.endpoint()]).await;

    // Asked for by somebody who is in a trace already; it fails once.
    let job = stage
        .job(json!({"target": "fail", "max_attempts": 2, "retry_delays_ms": [1], "params": "{\"succeed_at\": 2}"}))
        .await;
    let run = ask(&stage, &job, &format!("00-{TRACE}-{CALLER}-01")).await;
    let spans = eventually("both attempts are in the trace", SOON, async || {
        let spans = collector.of_trace(TRACE);
        if spans.len() == 7 { Ok(spans) } else { Err(format!("{:?}", names(&spans))) }
    })
    .await;
    let request = spans.iter().find(|span| span.name == "request").expect("a request");
    assert_eq!((request.parent.as_str(), request.attribute("forest.run.id")), (CALLER, run));
    let mut before = request;
    for attempt in ["1", "2"] {
        let dispatch = of(&spans, "dispatch", attempt);
        let (execute, collect) = (of(&spans, "execute", attempt), of(&spans, "collect", attempt));
        assert_eq!(dispatch.parent, before.id, "attempt {attempt} follows what was before it");
        assert_eq!((&execute.parent, &collect.parent), (&dispatch.id, &dispatch.id));
        assert_eq!((dispatch.service.as_str(), execute.service.as_str()), ("forest-server", "test-worker"));
        assert_eq!((execute.failed, collect.failed), (attempt == "1", attempt == "1"));
        assert!(!execute.attribute("forest.client").is_empty());
        assert!(execute.attribute("forest.lateness_ms").parse::<i64>().is_ok());
        // Milliseconds on one side, nanoseconds on the other.
        assert!(dispatch.begun / 1_000_000 <= execute.begun / 1_000_000 && execute.begun <= execute.ended);
        before = dispatch;
    }

    // A caller who keeps no trace: nothing of the run is kept.
    let unkept = TRACE.replace('4', "5");
    let plain = stage.job(json!({})).await;
    let run = ask(&stage, &plain, &format!("00-{unkept}-{CALLER}-00")).await;
    stage.ended(&run).await;

    // By the clock: the fire begins the trace.
    let ticking = stage.job(json!({"cron": "@every 1s"})).await;
    let fired = eventually("a fire is traced to its end", SOON, async || {
        let spans = collector.spans();
        let fires =
            spans.iter().filter(|span| span.name == "fire" && span.attribute("forest.job.id") == ticking);
        let whole = fires.map(|fire| collector.of_trace(&fire.trace)).find(|spans| spans.len() == 4);
        whole.ok_or_else(|| format!("{:?}", names(&spans)))
    })
    .await;
    assert_eq!(names(&fired)[0], "fire");
    let (fire, dispatch, execute) = (&fired[0], of(&fired, "dispatch", "1"), of(&fired, "execute", "1"));
    assert_eq!((fire.parent.as_str(), &dispatch.parent, &execute.parent), ("", &fire.id, &dispatch.id));
    assert_eq!(fire.begun % 1_000_000_000, 0, "it begins at the fire's time");
    assert_eq!(collector.of_trace(&unkept), []);

    // A malformed header is no reason to refuse anything.
    ask(&stage, &plain, "00-nonsense").await;
}

async fn ask(stage: &Stage, job: &str, traceparent: &str) -> String {
    let address = format!("http://{}", stage.cluster.nodes()[0].server.address());
    let mut api = AdminClient::connect(address).await.expect("it answers");
    let mut request = Request::new(RunJobRequest { id: job.into(), ..Default::default() });
    request.metadata_mut().insert("traceparent", traceparent.parse().expect("a header"));
    api.run_job(request).await.expect("a run can be asked for").into_inner().run_id
}
