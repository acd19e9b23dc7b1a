//! Forest's worker SDK: execute the runs that a Forest cluster schedules.
//!
//! A worker belongs to a *group* and serves *targets*, each with a handler. It opens no port: it registers
//! in etcd, finds there the runs it was given, claims them, executes them, and writes back how they ended.
//!
//! ```no_run
//! use forest_client::{JobContext, Worker};
//!
//! async fn greet(ctx: JobContext, name: Option<String>) -> Result<String, std::io::Error> {
//!     Ok(format!("Hello {}, it is {}", name.unwrap_or("world".into()), ctx.scheduled_at()))
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), forest_client::Error> {
//!     Worker::builder("examples").etcd(["http://127.0.0.1:2379"]).job("greet", greet).build()?.run().await
//! }
//! ```
//!
//! # What is promised
//! * A run is executed **at most once**, unless its job says `on_lost = retry`. Nobody can promise exactly-once
//!   effects outside etcd: hand [`JobContext::fencing_token`] on to what you write to.
//! * **No result is lost** while the process lives: it is written until etcd has acknowledged it. What comes
//!   after the server has declared the run lost is kept aside and changes nothing.
//! * A worker that is cut off from etcd **fences itself**: before the server can give its runs to others, its
//!   handlers are asked to stop ([`JobContext::cancelled`]), and what does not stop is dropped.
//! * A run that takes longer than its job's `timeout_ms` is asked to stop, dropped after a
//!   [grace time](Builder::stop_grace), and recorded as timed out.
//! * A handler's **panic** or error fails its run and nothing else.
//! * On SIGTERM a worker **drains**: nothing new, running handlers finish, results are written.
//!
//! # What a handler must do
//! Return when asked to, if it takes longer than a few seconds; and never block its thread, because a worker whose
//! threads are all blocked cannot keep its lease: what cannot wait asynchronously is a
//! [`blocking_job`](Builder::blocking_job), with a thread of its own.
//!
//! Of a job whose routing is `broadcast` each worker has a run of its own, and [`JobContext::shard`] tells which part
//! of the work it is.
//!
//! A long one tells [how far it is](JobContext::progress), and [saves](JobContext::checkpoint) what its next
//! attempt needs in order not to begin from the start.
//!
//! # Traces
//! With the feature `otel` each handler has a span, `execute`, in the trace that the server began (if its `otlp_endpoint`
//! is set), with the run, the job, the client and how late it began; it fails as the handler does. It goes to the global
//! tracer of the `opentelemetry` crate, which the program sets, with an exporter of its choice. Spans that a handler
//! makes are within it. Without the feature nothing of OpenTelemetry is compiled, and [`JobContext::trace_parent`] still
//! tells the trace.
#![warn(missing_docs)]

mod agent;
mod blocking;
mod builder;
mod claim;
mod cluster;
mod complete;
mod context;
mod deadline;
mod error;
mod execute;
mod handler;
mod inbox;
mod live;
mod notes;
mod registration;
mod serving;
pub mod shared;
mod span;
mod stop;
mod worker;

pub use blocking::BlockingHandler;
pub use builder::{Builder, ENDPOINTS_VARIABLE};
pub use context::JobContext;
pub use error::Error;
pub use handler::Handler;
pub use notes::CheckpointError;
pub use stop::StopReason;
pub use worker::Worker;

pub use forest_etcd::{EtcdConfig, TlsConfig};
pub use forest_proto::record::{Origin, Shard};
pub use forest_proto::time::Instant;
pub use forest_proto::{GroupName, JobId, RunId, SharedName, TargetName, TraceParent};
