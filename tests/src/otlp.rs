//! A collector of traces for tests: takes OTLP over gRPC and keeps what it was sent.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::task::JoinSet;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// A span, as far as tests look at it.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// `service.name` of who sent it.
    pub service: String,
    /// What it is.
    pub name: String,
    /// In hexadecimal.
    pub trace: String,
    /// In hexadecimal.
    pub id: String,
    /// In hexadecimal; empty: none.
    pub parent: String,
    /// When it began, in nanoseconds since 1970.
    pub begun: u64,
    /// When it ended, likewise.
    pub ended: u64,
    /// Whether it failed.
    pub failed: bool,
    /// What kind it is.
    pub kind: SpanKind,
    attributes: Vec<KeyValue>,
}

impl Span {
    /// An attribute as text; empty: it is not there.
    pub fn attribute(&self, key: &str) -> String {
        match self.attributes.iter().find(|attribute| attribute.key == key) {
            Some(KeyValue { value: Some(AnyValue { value: Some(value) }), .. }) => match value {
                Value::StringValue(text) => text.clone(),
                Value::IntValue(number) => number.to_string(),
                other => format!("{other:?}"),
            },
            _ => String::new(),
        }
    }
}

/// A running collector. It ends when it is dropped.
#[derive(Debug)]
pub struct Collector {
    address: SocketAddr,
    spans: Arc<Mutex<Vec<Span>>>,
    _server: JoinSet<()>,
}

impl Collector {
    /// Starts one on a free port.
    ///
    /// # Panics
    /// If there is none.
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let spans = Arc::new(Mutex::new(Vec::new()));
        let service = TraceServiceServer::new(Service(spans.clone()));
        let server = tonic::transport::Server::builder().add_service(service);
        let mut task = JoinSet::new();
        task.spawn(async move {
            server.serve_with_incoming(TcpIncoming::from(listener)).await.expect("it serves");
        });
        Self { address, spans, _server: task }
    }

    /// Where it takes spans.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All spans so far.
    pub fn spans(&self) -> Vec<Span> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Those of one trace, in the order in which they began.
    pub fn of_trace(&self, trace: &str) -> Vec<Span> {
        let mut spans = self.spans();
        spans.retain(|span| span.trace == trace);
        spans.sort_by_key(|span| span.begun);
        spans
    }
}

/// Lets this process send its spans there, as `test-worker`.
///
/// # Errors
/// If the address is none.
pub fn send_spans(endpoint: &str) -> anyhow::Result<SdkTracerProvider> {
    let exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint).build()?;
    let resource = Resource::builder_empty().with_service_name("test-worker").build();
    let provider = SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build();
    opentelemetry::global::set_tracer_provider(provider.clone());
    Ok(provider)
}

#[derive(Debug)]
struct Service(Arc<Mutex<Vec<Span>>>);

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for group in request.into_inner().resource_spans {
            let of_service = Span {
                service: String::new(),
                name: String::new(),
                trace: String::new(),
                id: String::new(),
                parent: String::new(),
                begun: 0,
                ended: 0,
                failed: false,
                kind: SpanKind::Unspecified,
                attributes: group.resource.map(|resource| resource.attributes).unwrap_or_default(),
            };
            let service = of_service.attribute("service.name");
            for span in group.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                all.push(Span {
                    service: service.clone(),
                    kind: span.kind(),
                    trace: hex(&span.trace_id),
                    id: hex(&span.span_id),
                    parent: Some(hex(&span.parent_span_id))
                        .filter(|id| id.contains(|c| c != '0'))
                        .unwrap_or_default(),
                    begun: span.start_time_unix_nano,
                    ended: span.end_time_unix_nano,
                    failed: span.status.is_some_and(|status| status.code == 2),
                    name: span.name,
                    attributes: span.attributes,
                });
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}
