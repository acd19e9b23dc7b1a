//! Handlers that block: each run has a thread of its own, so that no other part of the process, and no other
//! run, can keep it waiting, nor it them.
//!
//! There are never more threads than the worker's capacity: a run keeps its place until its thread has ended,
//! even if the run itself was given up and reported before.

use std::any::Any;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::context::JobContext;
use crate::execute::End;
use crate::handler::{Verdict, parse, verdict};
use crate::span;

pub(crate) type BoxedBlocking = Arc<dyn Fn(JobContext) -> Verdict + Send + Sync>;

/// What can be registered with [`Builder::blocking_job`](crate::Builder::blocking_job):
/// `fn(JobContext) -> Result<R, E>` and `fn(JobContext, P) -> Result<R, E>`, or closures of that shape. `P`, `R`
/// and `E` are as for a [`Handler`](crate::Handler).
///
/// Each run has a thread of its own. Nobody can end a thread from outside, so a long handler looks now and then
/// whether it [should stop](JobContext::is_cancelled). One that does not end within the grace time is given up:
/// its run is reported as timed out, cancelled or lost while the thread goes on, and with attempts left the next
/// attempt may begin beside it; hand on the [fencing token](JobContext::fencing_token). Its place in the worker's
/// capacity stays taken until it really ends. What it returns then is not recorded.
///
/// ```
/// # use forest_client::{JobContext, Worker};
/// fn compress(ctx: JobContext, files: Vec<String>) -> Result<String, std::io::Error> {
///     for (done, file) in files.iter().enumerate() {
///         if ctx.is_cancelled() {
///             return Err(std::io::Error::other(format!("stopped before {file}")));
///         }
///         // ... what takes its time, and its processor ...
///         ctx.progress(u8::try_from(100 * (done + 1) / files.len()).unwrap_or(100), file.as_str());
///     }
///     Ok(format!("{} files", files.len()))
/// }
/// # fn main() -> Result<(), forest_client::Error> {
/// Worker::builder("archive").blocking_job("compress", compress).build()?;
/// # Ok(())
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "this is not a blocking handler",
    note = "a blocking handler is `fn(JobContext) -> Result<R, E>` or `fn(JobContext, P) -> Result<R, E>`",
    note = "with `P: DeserializeOwned`, `R: Serialize`, `E: Display`"
)]
pub trait BlockingHandler<Arguments>: Send + Sync + 'static {
    /// Executes a run. The answer is the text of the result, or of the failure.
    #[allow(clippy::missing_errors_doc)] // The text of the failure is the handler's own.
    fn call(&self, ctx: JobContext) -> Result<String, String>;
}

impl<F, R, E> BlockingHandler<(JobContext,)> for F
where
    F: Fn(JobContext) -> Result<R, E> + Send + Sync + 'static,
    R: Serialize,
    E: Display,
{
    fn call(&self, ctx: JobContext) -> Verdict {
        verdict(self(ctx))
    }
}

impl<F, P, R, E> BlockingHandler<(JobContext, P)> for F
where
    F: Fn(JobContext, P) -> Result<R, E> + Send + Sync + 'static,
    P: DeserializeOwned,
    R: Serialize,
    E: Display,
{
    fn call(&self, ctx: JobContext) -> Verdict {
        let params = parse(&ctx)?;
        verdict(self(ctx, params))
    }
}

pub(crate) fn boxed<Arguments, H: BlockingHandler<Arguments>>(handler: H) -> BoxedBlocking {
    Arc::new(move |ctx| handler.call(ctx))
}

/// Starts the thread of a run. Within it the runtime that this is called in can be used, as in tokio's own
/// blocking threads.
pub(crate) fn start(handler: BoxedBlocking, ctx: JobContext) -> oneshot::Receiver<End> {
    let (ended, end) = oneshot::channel();
    let runtime = Handle::current();
    let name = format!("job {}", ctx.target());
    let body = move || {
        let _runtime = runtime.enter();
        let end = match catch_unwind(AssertUnwindSafe(|| span::around_blocking(&*handler, ctx))) {
            Ok(verdict) => End::Returned(verdict),
            Err(payload) => End::Panicked(panic_text(payload)),
        };
        // Nobody waits for it any more if the worker has ended.
        let _ = ended.send(end);
    };
    match std::thread::Builder::new().name(name).spawn(body) {
        Ok(_) => end,
        Err(error) => {
            let (refused, end) = oneshot::channel();
            let _ = refused.send(End::Returned(Err(format!("no thread could be started: {error}"))));
            end
        }
    }
}

/// What a panic said.
pub(crate) fn panic_text(payload: Box<dyn Any + Send>) -> String {
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => {
            payload.downcast::<&str>().map_or_else(|_| "(no message)".into(), |text| (*text).into())
        }
    }
}
