//! Executing: one task for each handler that runs, and how its end becomes an outcome.
//!
//! A handler that was asked to stop and does not is dropped after a grace time; one that blocks cannot be
//! dropped, and is given up while its thread goes on. A panic ends its task, or thread, and nothing else.

use std::collections::HashMap;
use std::time::Duration;

use forest_etcd::Tasks;
use forest_proto::RunId;
use forest_proto::record::Outcome;
use tokio::sync::oneshot;
use tokio::task::{Id, JoinError};

use crate::blocking::{self, panic_text};
use crate::context::JobContext;
use crate::handler::{AnyHandler, Verdict};
use crate::span;
use crate::stop::{Stop, StopReason};

/// How a handler ended.
#[derive(Debug, PartialEq)]
pub(crate) enum End {
    Returned(Verdict),
    Panicked(String),
    /// It was asked to stop and did not within the grace time.
    Dropped(Duration),
    /// The same of one that blocks: its thread goes on.
    GivenUp(Duration),
    /// It was claimed, but there was a reason to stop it before it could start.
    NotStarted,
}

/// How long a handler that was asked to stop may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StopGraces {
    /// When its run was cancelled or timed out.
    pub(crate) stop: Duration,
    /// When somebody else counts on the end: the registration is in doubt, or the worker shuts down.
    pub(crate) kill: Duration,
}

enum Finish {
    End(End),
    GivenUp(Duration, oneshot::Receiver<End>),
    ThreadEnded,
}

/// The running handlers.
#[derive(Default)]
pub(crate) struct Handling {
    tasks: Tasks<Finish>,
    runs: HashMap<Id, RunId>,
}

impl Handling {
    pub(crate) fn start(&mut self, handler: &AnyHandler, ctx: JobContext, stop: Stop, graces: StopGraces) {
        let run = ctx.run_id().clone();
        // In both an answer counts even if the time is over.
        let task = match handler.clone() {
            AnyHandler::Async(handler) => self.tasks.spawn(async move {
                tokio::select! {
                    biased;
                    verdict = span::around(handler, ctx) => Finish::End(End::Returned(verdict)),
                    grace = overdue(&stop, graces) => Finish::End(End::Dropped(grace)),
                }
            }),
            AnyHandler::Blocking(handler) => {
                let mut thread = blocking::start(handler, ctx);
                self.tasks.spawn(async move {
                    tokio::select! {
                        biased;
                        end = &mut thread => Finish::End(end.unwrap_or_else(|_| silent())),
                        grace = overdue(&stop, graces) => Finish::GivenUp(grace, thread),
                    }
                })
            }
        };
        self.runs.insert(task.id(), run);
    }

    /// The next one that ended; without an [`End`], the thread of one that was given up before. `None` if
    /// none is running. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<(RunId, Option<End>)> {
        let (id, finish) = match self.tasks.join_next_with_id().await? {
            Ok((id, finish)) => (id, finish),
            Err(error) => (error.id(), Finish::End(End::Panicked(text_of(error)))),
        };
        let run = self.runs.remove(&id)?;
        let end = match finish {
            Finish::End(end) => Some(end),
            Finish::ThreadEnded => None,
            Finish::GivenUp(grace, thread) => {
                let task = self.tasks.spawn(async move {
                    // Whatever it says: its run is over.
                    let _ = thread.await;
                    Finish::ThreadEnded
                });
                self.runs.insert(task.id(), run.clone());
                Some(End::GivenUp(grace))
            }
        };
        Some((run, end))
    }
}

/// Waits until the time to stop is over, and says how long that was.
async fn overdue(stop: &Stop, graces: StopGraces) -> Duration {
    let patient = async {
        stop.token().cancelled().await;
        if stop.reason().is_some_and(StopReason::is_urgent) {
            std::future::pending().await
        }
        tokio::time::sleep(graces.stop).await;
        graces.stop
    };
    let urgent = async {
        stop.urgent().cancelled().await;
        tokio::time::sleep(graces.kill).await;
        graces.kill
    };
    tokio::select! {
        grace = urgent => grace,
        grace = patient => grace,
    }
}

fn text_of(error: JoinError) -> String {
    error.try_into_panic().map_or_else(|_| "its task was taken down".into(), panic_text)
}

/// A thread catches every panic; this is for what no code can catch.
fn silent() -> End {
    End::Panicked("its thread ended without a word".into())
}

/// The outcome of a run, and the text of its result.
///
/// Success counts even if the handler had been asked to stop, also because its time was over: the work is
/// done, and calling it anything else would have it done again. Any other end after that is owed to the one
/// who asked, not to the handler.
pub(crate) fn conclude(end: End, asked: Option<StopReason>) -> (Outcome, String) {
    let said = match end {
        End::Returned(Ok(text)) => return (Outcome::Succeeded, text),
        End::Returned(Err(text)) => text,
        End::Panicked(text) => format!("panicked: {text}"),
        End::Dropped(grace) => format!("the handler did not stop within {grace:?} and was dropped"),
        End::GivenUp(grace) => {
            format!("the handler did not stop within {grace:?} and was given up; its thread goes on")
        }
        End::NotStarted => "the handler was not started".to_owned(),
    };
    match asked {
        None => (Outcome::Failed, said),
        Some(StopReason::Requested) => (Outcome::Cancelled, format!("cancelled: {said}")),
        Some(StopReason::TimedOut) => (Outcome::TimedOut, format!("timed out: {said}")),
        Some(StopReason::LeaseLost) => (Outcome::Lost, format!("the client was cut off from etcd: {said}")),
        Some(StopReason::Shutdown) => (Outcome::Lost, format!("the client was shut down: {said}")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::blocking::BlockingHandler;
    use crate::handler::{Handler, boxed, tests::snapshot};

    const GRACE: Duration = Duration::from_secs(5);
    const GRACES: StopGraces = StopGraces { stop: GRACE, kill: Duration::from_secs(2) };

    async fn end_of<A, H: Handler<A>>(handler: H, stop: Option<StopReason>) -> End {
        let mut handling = Handling::default();
        let own = Stop::default();
        let ctx = JobContext::of(snapshot("20261118110640000-j1-1", "pay", ""), own.clone());
        if let Some(reason) = stop {
            own.stop(reason);
        }
        handling.start(&AnyHandler::Async(boxed(handler)), ctx, own, GRACES);
        let (run, end) = handling.next().await.expect("one is running");
        assert_eq!(run.as_str(), "20261118110640000-j1-1");
        assert!(handling.next().await.is_none());
        end.expect("an end")
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

    #[tokio::test(start_paused = true)]
    async fn where_somebody_counts_on_the_end_the_time_is_shorter() {
        async fn deaf(_: JobContext) -> Result<(), String> {
            std::future::pending().await
        }
        assert_eq!(end_of(deaf, Some(StopReason::LeaseLost)).await, End::Dropped(GRACES.kill));
        // Also when another reason came first.
        let stop = Stop::default();
        stop.stop(StopReason::TimedOut);
        let later = stop.clone();
        let begin = tokio::time::Instant::now();
        let shutdown = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            later.stop(StopReason::Shutdown);
        };
        let (grace, ()) = tokio::join!(overdue(&stop, GRACES), shutdown);
        assert_eq!((grace, begin.elapsed()), (GRACES.kill, Duration::from_secs(3)));
    }

    fn start_blocking<A, H: BlockingHandler<A>>(handler: H) -> (Handling, Stop) {
        let (mut handling, stop) = (Handling::default(), Stop::default());
        let ctx = JobContext::of(snapshot("20261118110640000-j1-1", "pay", "[1, 2]"), stop.clone());
        let graces = StopGraces { stop: Duration::from_millis(50), kill: Duration::from_millis(50) };
        handling.start(&AnyHandler::Blocking(blocking::boxed(handler)), ctx, stop.clone(), graces);
        (handling, stop)
    }

    async fn blocking_end(handling: &mut Handling) -> Option<End> {
        handling.next().await.expect("one is running").1
    }

    #[tokio::test]
    async fn a_blocking_handler_ends_as_any_other_does() {
        let sum = |_: JobContext, numbers: Vec<u32>| Ok::<u32, String>(numbers.iter().sum());
        let end = blocking_end(&mut start_blocking(sum).0).await;
        assert_eq!(end, Some(End::Returned(Ok("3".into()))));
        let fails = |_: JobContext| Err::<(), _>("no paper");
        assert_eq!(
            blocking_end(&mut start_blocking(fails).0).await,
            Some(End::Returned(Err("no paper".into())))
        );
        let panics = |_: JobContext| -> Result<(), String> { panic!("tray {}", 2) };
        assert_eq!(blocking_end(&mut start_blocking(panics).0).await, Some(End::Panicked("tray 2".into())));
        let strict = |_: JobContext, (): ()| Ok::<_, String>(());
        let Some(End::Returned(Err(text))) = blocking_end(&mut start_blocking(strict).0).await else {
            panic!("parameters that do not fit were taken")
        };
        assert!(text.contains("do not fit"), "{text}");
    }

    #[tokio::test]
    async fn a_blocking_handler_can_see_that_it_should_stop() {
        let listens = |ctx: JobContext| {
            while !ctx.is_cancelled() {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err::<(), _>(format!("{:?}", ctx.stop_reason()))
        };
        let (mut handling, stop) = start_blocking(listens);
        stop.stop(StopReason::TimedOut);
        assert_eq!(blocking_end(&mut handling).await, Some(End::Returned(Err("Some(TimedOut)".into()))));
    }

    #[tokio::test]
    async fn a_blocking_handler_that_does_not_stop_is_given_up_and_watched_until_it_ends() {
        let (open, gate) = std::sync::mpsc::channel::<()>();
        let gate = std::sync::Mutex::new(gate);
        let deaf = move |_: JobContext| {
            let _ = gate.lock().map(|gate| gate.recv());
            Ok::<_, String>(())
        };
        let (mut handling, stop) = start_blocking(deaf);
        stop.stop(StopReason::Requested);
        assert_eq!(blocking_end(&mut handling).await, Some(End::GivenUp(Duration::from_millis(50))));
        let still = tokio::time::timeout(Duration::from_millis(50), handling.next()).await;
        assert!(still.is_err(), "its thread goes on");
        open.send(()).expect("it waits");
        assert_eq!(blocking_end(&mut handling).await, None);
        assert!(handling.next().await.is_none());
    }

    #[tokio::test]
    async fn blocking_handlers_do_not_wait_for_each_other_nor_for_the_runtime() {
        // More of them than tokio has threads, and each waits for all.
        let barrier = Arc::new(std::sync::Barrier::new(32));
        let mut all = Vec::new();
        for _ in 0..32 {
            let barrier = Arc::clone(&barrier);
            let meet = move |_: JobContext| {
                barrier.wait();
                Ok::<_, String>(())
            };
            all.push(start_blocking(meet));
        }
        for (handling, _) in &mut all {
            assert_eq!(blocking_end(handling).await, Some(End::Returned(Ok(String::new()))));
        }
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
        let check = |end: fn() -> End, expected: [Outcome; 5]| {
            use StopReason::{LeaseLost, Requested, Shutdown};
            let asked = [None, Some(Requested), Some(StopReason::TimedOut), Some(LeaseLost), Some(Shutdown)];
            assert_eq!(asked.map(|asked| conclude(end(), asked).0), expected);
        };
        use Outcome::{Cancelled, Failed, Lost, Succeeded, TimedOut};
        check(|| End::Returned(Ok("done".into())), [Succeeded; 5]);
        let otherwise = [Failed, Cancelled, TimedOut, Lost, Lost];
        check(|| End::Returned(Err("no".into())), otherwise);
        check(|| End::Panicked("no".into()), otherwise);
        check(|| End::Dropped(GRACE), otherwise);
        check(|| End::GivenUp(GRACE), otherwise);
        check(|| End::NotStarted, otherwise);
    }
}
