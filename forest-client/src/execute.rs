//! Executing: one task for each handler that runs, and how its end becomes an outcome.
//!
//! A handler that was asked to stop and does not is dropped after a grace time. A panic ends its task and
//! nothing else.

use std::collections::HashMap;
use std::time::Duration;

use forest_etcd::Tasks;
use forest_proto::RunId;
use forest_proto::record::Outcome;
use tokio::task::{Id, JoinError};

use crate::context::JobContext;
use crate::handler::{BoxedHandler, Verdict};
use crate::stop::{Stop, StopReason};

/// How a handler ended.
#[derive(Debug, PartialEq)]
pub(crate) enum End {
    Returned(Verdict),
    Panicked(String),
    /// It was asked to stop and did not within the grace time.
    Dropped(Duration),
    /// It was claimed, but there was a reason to stop it before it could start.
    NotStarted,
}

/// The running handlers.
#[derive(Default)]
pub(crate) struct Handling {
    tasks: Tasks<End>,
    runs: HashMap<Id, RunId>,
}

impl Handling {
    pub(crate) fn start(&mut self, handler: BoxedHandler, ctx: JobContext, stop: Stop, grace: Duration) {
        let run = ctx.run_id().clone();
        let task = self.tasks.spawn(async move {
            tokio::select! {
                // An answer counts even if the time is over.
                biased;
                verdict = handler(ctx) => End::Returned(verdict),
                () = overdue(&stop, grace) => End::Dropped(grace),
            }
        });
        self.runs.insert(task.id(), run);
    }

    /// The next one that ended; `None` if none is running.
    pub(crate) async fn next(&mut self) -> Option<(RunId, End)> {
        let (id, end) = match self.tasks.join_next_with_id().await? {
            Ok((id, end)) => (id, end),
            Err(error) => (error.id(), End::Panicked(panic_text(error))),
        };
        self.runs.remove(&id).map(|run| (run, end))
    }
}

async fn overdue(stop: &Stop, grace: Duration) {
    stop.token().cancelled().await;
    tokio::time::sleep(grace).await;
}

fn panic_text(error: JoinError) -> String {
    let Ok(payload) = error.try_into_panic() else { return "its task was taken down".into() };
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => {
            payload.downcast::<&str>().map_or_else(|_| "(no message)".into(), |text| (*text).into())
        }
    }
}

/// The outcome of a run, and the text of its result.
///
/// Success counts even if the handler had been asked to stop: the work is done. Any other end after that
/// is owed to the one who asked, not to the handler.
pub(crate) fn conclude(end: End, asked: Option<StopReason>) -> (Outcome, String) {
    let said = match end {
        End::Returned(Ok(text)) => return (Outcome::Succeeded, text),
        End::Returned(Err(text)) => text,
        End::Panicked(text) => format!("panicked: {text}"),
        End::Dropped(grace) => format!("the handler did not stop within {grace:?} and was dropped"),
        End::NotStarted => "the handler was not started".to_owned(),
    };
    match asked {
        None => (Outcome::Failed, said),
        Some(StopReason::Requested) => (Outcome::Cancelled, format!("cancelled: {said}")),
        Some(StopReason::LeaseLost) => (Outcome::Lost, format!("the client was cut off from etcd: {said}")),
        Some(StopReason::Shutdown) => (Outcome::Lost, format!("the client was shut down: {said}")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::handler::{Handler, boxed, tests::snapshot};
    use crate::shared::tests::nothing_shared;

    const GRACE: Duration = Duration::from_secs(5);

    async fn end_of<A, H: Handler<A>>(handler: H, stop: Option<StopReason>) -> End {
        let mut handling = Handling::default();
        let own = Stop::default();
        let ctx =
            JobContext::new(snapshot("20261118110640000-j1-1", "pay", ""), 7, own.clone(), nothing_shared());
        if let Some(reason) = stop {
            own.stop(reason);
        }
        handling.start(boxed(handler), ctx, own, GRACE);
        let (run, end) = handling.next().await.expect("one is running");
        assert_eq!(run.as_str(), "20261118110640000-j1-1");
        assert!(handling.next().await.is_none());
        end
    }

    #[tokio::test]
    async fn a_panic_fails_its_run_with_the_message() {
        async fn literal(_: JobContext) -> Result<(), String> {
            panic!("no paper")
        }
        async fn formatted(_: JobContext) -> Result<(), String> {
            panic!("no paper in tray {}", 2)
        }
        let early = |_: JobContext| -> std::future::Ready<Result<(), String>> { panic!("at once") };
        assert_eq!(end_of(literal, None).await, End::Panicked("no paper".into()));
        assert_eq!(end_of(formatted, None).await, End::Panicked("no paper in tray 2".into()));
        let end = end_of(early, None).await;
        assert_eq!(conclude(end, None), (Outcome::Failed, "panicked: at once".into()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_handler_that_ignores_the_request_to_stop_is_dropped_after_the_grace_time() {
        let alive = Arc::new(());
        let held = Arc::clone(&alive);
        let deaf = move |_: JobContext| {
            let held = Arc::clone(&held);
            async move {
                std::future::pending::<()>().await;
                drop(held);
                Ok::<(), String>(())
            }
        };
        let begin = tokio::time::Instant::now();
        assert_eq!(end_of(deaf, Some(StopReason::Requested)).await, End::Dropped(GRACE));
        assert_eq!((begin.elapsed(), Arc::strong_count(&alive)), (GRACE, 1));
    }

    #[tokio::test]
    async fn a_handler_hears_why_it_should_stop() {
        async fn listens(ctx: JobContext) -> Result<String, String> {
            ctx.cancelled().await;
            Err(format!("{:?}, {}", ctx.stop_reason(), ctx.cancel_token().is_cancelled()))
        }
        let end = end_of(listens, Some(StopReason::LeaseLost)).await;
        assert_eq!(end, End::Returned(Err("Some(LeaseLost), true".into())));
    }

    #[test]
    fn outcomes() {
        let check = |end: fn() -> End, expected: [Outcome; 4]| {
            let asked =
                [None, Some(StopReason::Requested), Some(StopReason::LeaseLost), Some(StopReason::Shutdown)];
            assert_eq!(asked.map(|asked| conclude(end(), asked).0), expected);
        };
        use Outcome::{Cancelled, Failed, Lost, Succeeded};
        check(|| End::Returned(Ok("done".into())), [Succeeded; 4]);
        check(|| End::Returned(Err("no".into())), [Failed, Cancelled, Lost, Lost]);
        check(|| End::Panicked("no".into()), [Failed, Cancelled, Lost, Lost]);
        check(|| End::Dropped(GRACE), [Failed, Cancelled, Lost, Lost]);
        check(|| End::NotStarted, [Failed, Cancelled, Lost, Lost]);
    }
}
