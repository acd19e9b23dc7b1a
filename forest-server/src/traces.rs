//! Spans for OpenTelemetry: the fire, the dispatch and the collection of runs, and calls that ask for a run.
//!
//! Nothing is done where no endpoint is configured. Spans are written down when they are over, with the ids that
//! [`trace`] gives them; sending them is the exporter's own thread's, which drops what it cannot get rid of. Nobody
//! waits for it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use forest_etcd::{Op, SharedClock, Txn};
use forest_proto::record::{Execution, Origin, Outcome, Snapshot, decode};
use forest_proto::{Key, Keyspace, NodeId, RunId, TraceParent};
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanProcessor};

use crate::core::trace;

/// Spans that wait to be sent. More are dropped.
const QUEUE: usize = 8_192;
/// How long the last ones may take when the node ends.
const CLOSING: Duration = Duration::from_secs(2);

/// Where spans go, and which.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceConfig {
    /// `http://host:port` of a collector that takes OTLP over gRPC.
    pub endpoint: String,
    /// The part of the traces that is kept, 0 to 1.
    pub ratio: f64,
}

/// A cheap clone each. By default it writes nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Traces(Option<Arc<Exporter>>);

#[derive(Debug)]
struct Exporter {
    processor: BatchSpanProcessor,
    scope: InstrumentationScope,
    ratio: f64,
}

/// A span that is not over.
#[derive(Debug)]
struct Open {
    name: &'static str,
    kind: SpanKind,
    context: TraceParent,
    /// 0: none.
    parent: u64,
    /// Another begin than that of what it is about.
    begun_ms: Option<i64>,
    attributes: Vec<KeyValue>,
    status: Status,
}

/// Spans of something that is under way. Empty where there are no traces.
#[derive(Debug, Default)]
pub(crate) struct Begun {
    spans: Vec<Open>,
    /// When it began, by the wall clock.
    from_ms: i64,
}

impl Traces {
    /// Connects when the first spans are sent. Needs the runtime.
    pub(crate) fn new(config: &TraceConfig, node: &NodeId) -> anyhow::Result<Self> {
        let mut exporter = SpanExporter::builder().with_tonic().with_endpoint(&config.endpoint);
        if config.endpoint.starts_with("https://") {
            let tls = tonic::transport::ClientTlsConfig::new().with_native_roots();
            exporter = exporter.with_tls_config(tls);
        }
        let queue = BatchConfigBuilder::default().with_max_queue_size(QUEUE).build();
        let mut processor = BatchSpanProcessor::builder(exporter.build()?).with_batch_config(queue).build();
        let resource = Resource::builder_empty().with_service_name("forest-server").with_attributes([
            KeyValue::new("service.instance.id", node.to_string()),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        ]);
        processor.set_resource(&resource.build());
        let scope = InstrumentationScope::builder("forest-server").build();
        Ok(Self(Some(Arc::new(Exporter { processor, scope, ratio: config.ratio }))))
    }

    /// The part of the traces that is kept; `None`: there are none.
    pub(crate) fn ratio(&self) -> Option<f64> {
        self.0.as_ref().map(|exporter| exporter.ratio)
    }

    /// The spans of what a transaction creates.
    pub(crate) fn dispatching(&self, keys: &Keyspace, clock: &SharedClock, txn: &Txn) -> Begun {
        if self.0.is_none() {
            return Begun::default();
        }
        let moved: BTreeSet<RunId> = txn.ops.iter().filter_map(|op| moved(keys, op)).collect();
        let created = txn.ops.iter().filter_map(|op| match op {
            Op::Put { key, value, .. } => match keys.parse(key)? {
                Key::Snapshot { run, .. } | Key::Pending { run, .. } if !moved.contains(&run) => {
                    decode::<Snapshot>(value).ok()
                }
                _ => None,
            },
            Op::Delete { .. } => None,
        });
        let spans = created.flat_map(|snapshot| of_dispatch(&snapshot)).flatten().collect();
        Begun { spans, from_ms: clock.wall_ms() }
    }

    /// The spans of bringing runs into the history.
    pub(crate) fn collecting<'a>(
        &self,
        clock: &SharedClock,
        executions: impl Iterator<Item = &'a Execution>,
    ) -> Begun {
        if self.0.is_none() {
            return Begun::default();
        }
        Begun { spans: executions.filter_map(of_collection).collect(), from_ms: clock.wall_ms() }
    }

    /// The span of a call that asks for a run, in the place of a fire.
    pub(crate) fn requesting(&self, clock: &SharedClock, run: &RunId, caller: Option<TraceParent>) -> Begun {
        let Some(ratio) = self.ratio() else { return Begun::default() };
        let context =
            TraceParent { span_id: trace::fire_span(run), ..caller.unwrap_or(trace::begun(run, ratio)) };
        let open = Open {
            name: "request",
            kind: SpanKind::Server,
            context,
            parent: caller.map_or(0, |caller| caller.span_id),
            begun_ms: None,
            attributes: vec![
                KeyValue::new("forest.run.id", run.to_string()),
                KeyValue::new("forest.job.id", run.job().to_owned()),
            ],
            status: Status::Unset,
        };
        let spans = Some(open).filter(|open| open.context.sampled).into_iter().collect();
        Begun { spans, from_ms: clock.wall_ms() }
    }

    /// They are over.
    pub(crate) fn ended(&self, begun: Begun, clock: &SharedClock) {
        let Some(exporter) = self.0.as_ref().filter(|_| !begun.spans.is_empty()) else { return };
        let to_ms = clock.wall_ms();
        for open in begun.spans {
            let from_ms = open.begun_ms.unwrap_or(begun.from_ms);
            exporter.processor.on_end(exporter.data(open, from_ms, to_ms.max(from_ms)));
        }
    }

    /// Sends what is left, at the end of the node.
    pub(crate) async fn close(self) {
        let Some(exporter) = self.0 else { return };
        let closing = tokio::task::spawn_blocking(move || exporter.processor.shutdown_with_timeout(CLOSING));
        match closing.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the last spans may not have been sent"),
            Err(error) => tracing::warn!(%error, "the last spans may not have been sent"),
        }
    }
}

impl Exporter {
    fn data(&self, open: Open, from_ms: i64, to_ms: i64) -> SpanData {
        let at = |ms: i64| SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(ms).unwrap_or(0));
        let context = SpanContext::new(
            TraceId::from_bytes(open.context.trace_id.to_be_bytes()),
            SpanId::from_bytes(open.context.span_id.to_be_bytes()),
            TraceFlags::SAMPLED,
            false,
            TraceState::NONE,
        );
        SpanData {
            span_context: context,
            parent_span_id: SpanId::from_bytes(open.parent.to_be_bytes()),
            parent_span_is_remote: open.kind == SpanKind::Server,
            span_kind: open.kind,
            name: open.name.into(),
            start_time: at(from_ms),
            end_time: at(to_ms),
            attributes: open.attributes,
            dropped_attributes_count: 0,
            events: Default::default(),
            links: Default::default(),
            status: open.status,
            instrumentation_scope: self.scope.clone(),
        }
    }
}

/// The run that a transaction takes from where it waited: its dispatch is over.
fn moved(keys: &Keyspace, op: &Op) -> Option<RunId> {
    match op {
        Op::Delete { key } => match keys.parse(key)? {
            Key::Snapshot { run, .. } | Key::Pending { run, .. } => Some(run),
            _ => None,
        },
        Op::Put { .. } => None,
    }
}

/// The dispatch of a new run, and before it the fire, unless it was a call, which is another node's to tell.
fn of_dispatch(snapshot: &Snapshot) -> [Option<Open>; 2] {
    let run = &snapshot.id;
    let context = snapshot.traceparent.filter(|context| context.sampled);
    // A shard begins in the dispatch of the whole.
    let Some(context) = context.filter(|context| context.span_id == trace::dispatch_span(run)) else {
        return [None, None];
    };
    let parent = trace::before_dispatch(run);
    let dispatch = Open {
        name: "dispatch",
        kind: SpanKind::Producer,
        context,
        parent,
        begun_ms: None,
        attributes: attributes(snapshot),
        status: Status::Unset,
    };
    let fires = run.attempt() == 1 && snapshot.origin != Origin::Manual;
    let fire = fires.then(|| Open {
        name: "fire",
        kind: SpanKind::Internal,
        context: TraceParent { span_id: parent, ..context },
        parent: 0,
        begun_ms: Some(snapshot.scheduled_at.as_ms()),
        attributes: attributes(snapshot),
        status: Status::Unset,
    });
    [fire, Some(dispatch)]
}

fn of_collection(execution: &Execution) -> Option<Open> {
    let snapshot = &execution.snapshot;
    // What was never given to a client has no dispatch before it.
    let context = snapshot.traceparent.filter(|context| context.sampled && !snapshot.ip.is_empty())?;
    let outcome = execution.outcome.map_or("", Outcome::as_str);
    let mut attributes = attributes(snapshot);
    attributes.push(KeyValue::new("forest.outcome", outcome));
    Some(Open {
        name: "collect",
        kind: SpanKind::Internal,
        context: TraceParent { span_id: trace::collect_span(&snapshot.id), ..context },
        parent: context.span_id,
        begun_ms: None,
        attributes,
        status: match execution.outcome {
            Some(Outcome::Succeeded) | None => Status::Unset,
            Some(_) => Status::error(outcome),
        },
    })
}

fn attributes(snapshot: &Snapshot) -> Vec<KeyValue> {
    let mut attributes = vec![
        KeyValue::new("forest.run.id", snapshot.id.to_string()),
        KeyValue::new("forest.job.id", snapshot.job_id.to_string()),
        KeyValue::new("forest.job.name", snapshot.name.clone()),
        KeyValue::new("forest.group", snapshot.group.to_string()),
        KeyValue::new("forest.target", snapshot.target.to_string()),
        KeyValue::new("forest.attempt", i64::from(snapshot.attempt)),
        KeyValue::new("forest.origin", snapshot.origin.as_str()),
    ];
    if !snapshot.ip.is_empty() {
        attributes.push(KeyValue::new("forest.client", snapshot.ip.clone()));
    }
    if let Some(cause) = &snapshot.cause {
        attributes.push(KeyValue::new("forest.cause", cause.to_string()));
    }
    attributes
}
