//! A span around each handler, in the trace that the server began. Only with the feature `otel`; without it a handler is
//! called, and nothing else.
//!
//! Who runs the worker decides where spans go: they are written to OpenTelemetry's global tracer, which does nothing
//! until the program sets one.

use crate::context::JobContext;
use crate::handler::{BoxedHandler, Verdict};

#[cfg(not(feature = "otel"))]
pub(crate) async fn around(handler: BoxedHandler, ctx: JobContext) -> Verdict {
    handler(ctx).await
}

#[cfg(not(feature = "otel"))]
pub(crate) fn around_blocking(handler: impl FnOnce(JobContext) -> Verdict, ctx: JobContext) -> Verdict {
    handler(ctx)
}

#[cfg(feature = "otel")]
pub(crate) use traced::{around, around_blocking};

#[cfg(feature = "otel")]
mod traced {
    use opentelemetry::trace::{
        FutureExt as _, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId,
        TraceState, Tracer as _,
    };
    use opentelemetry::{Context, KeyValue, global};

    use super::{BoxedHandler, JobContext, Verdict};

    /// Dropped before its end, it says that the handler did not end.
    struct HandlerSpan(Context);

    impl HandlerSpan {
        fn start(ctx: &JobContext) -> Self {
            let before = match ctx.trace_parent() {
                Some(parent) => Context::new().with_remote_span_context(SpanContext::new(
                    TraceId::from_bytes(parent.trace_id.to_be_bytes()),
                    SpanId::from_bytes(parent.span_id.to_be_bytes()),
                    if parent.sampled { TraceFlags::SAMPLED } else { TraceFlags::NOT_SAMPLED },
                    true,
                    TraceState::NONE,
                )),
                None => Context::new(),
            };
            let tracer = global::tracer("forest-client");
            let span = tracer.span_builder("execute").with_kind(SpanKind::Consumer).with_attributes([
                KeyValue::new("forest.run.id", ctx.run_id().to_string()),
                KeyValue::new("forest.job.id", ctx.job_id().to_string()),
                KeyValue::new("forest.job.name", ctx.job_name().to_owned()),
                KeyValue::new("forest.group", ctx.group().to_string()),
                KeyValue::new("forest.target", ctx.target().to_string()),
                KeyValue::new("forest.client", ctx.client().to_owned()),
                KeyValue::new("forest.attempt", i64::from(ctx.attempt())),
                KeyValue::new("forest.lateness_ms", ctx.lateness_ms()),
            ]);
            let span = span.start_with_context(&tracer, &before);
            Self(before.with_span(span))
        }

        fn end(&self, verdict: &Verdict) {
            let span = self.0.span();
            span.set_status(match verdict {
                Ok(_) => Status::Ok,
                Err(text) => Status::error(text.chars().take(200).collect::<String>()),
            });
            span.end();
        }
    }

    impl Drop for HandlerSpan {
        fn drop(&mut self) {
            let span = self.0.span();
            if span.is_recording() {
                span.set_status(Status::error("the handler did not come to its end"));
                span.end();
            }
        }
    }

    pub(crate) async fn around(handler: BoxedHandler, ctx: JobContext) -> Verdict {
        let span = HandlerSpan::start(&ctx);
        let verdict = async { handler(ctx).await }.with_context(span.0.clone()).await;
        span.end(&verdict);
        verdict
    }

    pub(crate) fn around_blocking(handler: impl FnOnce(JobContext) -> Verdict, ctx: JobContext) -> Verdict {
        let span = HandlerSpan::start(&ctx);
        let _active = span.0.clone().attach();
        let verdict = handler(ctx);
        span.end(&verdict);
        verdict
    }
}
