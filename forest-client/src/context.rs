//! What a handler is told about the run it executes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use forest_etcd::SharedClock;
use forest_proto::record::{MAX_PROGRESS_TEXT, Origin, Progress, Shard, Snapshot};
use forest_proto::time::Instant;
use forest_proto::{GroupName, JobId, RunId, TargetName, TraceParent};
use tokio_util::sync::CancellationToken;

use crate::deadline::Deadline;
use crate::notes::{CheckpointError, Notes};
use crate::shared::Shared;
use crate::stop::{Stop, StopReason};

/// The run that a handler executes. Cheap to clone; clones stand for the same run.
///
/// # Stopping
/// Nobody can stop a handler but the handler itself, so a long one waits for [`cancelled`](Self::cancelled)
/// beside its work. It is asked to stop when somebody cancels the run, when the run takes longer than its job
/// allows, when this process may have lost its registration, and when the worker shuts down and the time for
/// draining is over. A handler that has not returned within the worker's
/// [`stop_grace`](crate::Builder::stop_grace), or [`kill_grace`](crate::Builder::kill_grace) in the two latter
/// cases, is dropped at its next `await`.
///
/// A handler that was asked to stop and did not finish its work returns an error: `Ok` always counts as a
/// success, even after the deadline, because the work is done then.
///
/// # Fencing
/// A run is executed at most once unless its job says `on_lost = retry`. Even then, and even if this
/// process was frozen for an hour, a system that the handler writes to can refuse what is out of date: hand
/// it [`fencing_token`](Self::fencing_token) and let it refuse every number smaller than one it has seen.
///
/// # Progress and checkpoints
/// Both are kept in the run's record in etcd, in at most one write a second; the latest of each counts.
///
/// ```
/// # use forest_client::{CheckpointError, JobContext};
/// async fn export(ctx: JobContext) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
///     let first: u32 = ctx.last_checkpoint().map_or(Ok(0), str::parse)?;
///     for page in first..1000 {
///         if ctx.is_cancelled() {
///             return Err(format!("stopped before page {page}").into());
///         }
///         // ... write the page, handing on ctx.fencing_token() ...
///         ctx.progress(u8::try_from(page / 10).unwrap_or(100), format!("page {page}"));
///         if page % 100 == 99 {
///             ctx.checkpoint((page + 1).to_string()).await?;
///         }
///     }
///     Ok("1000 pages".into())
/// }
/// ```
#[derive(Clone)]
pub struct JobContext {
    facts: Arc<Facts>,
}

struct Facts {
    snapshot: Snapshot,
    fencing_token: i64,
    stop: Stop,
    deadline: Option<Deadline>,
    notes: Notes,
    shared: Shared,
    clock: SharedClock,
}

impl JobContext {
    /// The time of the run, if it has a limit, begins now.
    pub(crate) fn new(
        snapshot: Snapshot,
        fencing_token: i64,
        stop: Stop,
        notes: Notes,
        shared: Shared,
        clock: SharedClock,
    ) -> Self {
        let deadline = snapshot.timeout_ms.map(|timeout_ms| Deadline::after(timeout_ms, &clock));
        Self { facts: Arc::new(Facts { snapshot, fencing_token, stop, deadline, notes, shared, clock }) }
    }

    /// When it has to end, on the clock since boot.
    pub(crate) fn deadline_since_boot(&self) -> Option<Duration> {
        self.facts.deadline.map(|deadline| deadline.boot)
    }

    /// The run. A further attempt is a run of its own, with an id of its own.
    #[must_use]
    pub fn run_id(&self) -> &RunId {
        &self.facts.snapshot.id
    }

    /// The job.
    #[must_use]
    pub fn job_id(&self) -> &JobId {
        &self.facts.snapshot.job_id
    }

    /// The job's name, for people.
    #[must_use]
    pub fn job_name(&self) -> &str {
        &self.facts.snapshot.name
    }

    /// The group.
    #[must_use]
    pub fn group(&self) -> &GroupName {
        &self.facts.snapshot.group
    }

    /// The target: the name under which this handler was registered.
    #[must_use]
    pub fn target(&self) -> &TargetName {
        &self.facts.snapshot.target
    }

    /// The parameters as they were written. Empty if the job has none. A handler with a second argument
    /// gets them parsed.
    #[must_use]
    pub fn params(&self) -> &str {
        &self.facts.snapshot.params
    }

    /// The instant that the schedule names, or when somebody asked for the run. All attempts of one fire
    /// share it, so it tells which day, hour, ... the work is for, however late it runs.
    #[must_use]
    pub fn scheduled_at(&self) -> Instant {
        self.facts.snapshot.scheduled_at
    }

    /// The trace that the run belongs to, to be handed on to what the handler calls, if the server makes spans. With the
    /// feature `otel` the handler has a span of its own in it, and OpenTelemetry's current context is that span.
    #[must_use]
    pub fn trace_parent(&self) -> Option<TraceParent> {
        self.facts.snapshot.traceparent
    }

    #[cfg(feature = "otel")]
    pub(crate) fn client(&self) -> &str {
        &self.facts.snapshot.ip
    }

    /// From the instant that the schedule names until now.
    #[cfg(feature = "otel")]
    pub(crate) fn lateness_ms(&self) -> i64 {
        self.facts.clock.wall_ms() - self.facts.snapshot.scheduled_at.as_ms()
    }

    /// Which attempt this is, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.facts.snapshot.attempt
    }

    /// How many attempts there may be, this one included.
    #[must_use]
    pub fn max_attempts(&self) -> u32 {
        self.facts.snapshot.max_attempts
    }

    /// Where the run comes from: the schedule, a person, an earlier attempt, missed fires.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.facts.snapshot.origin
    }

    /// How many missed fires the run stands for, beside its own.
    #[must_use]
    pub fn missed_fires(&self) -> u64 {
        self.facts.snapshot.missed_fires
    }

    /// Which part of the work this is, if the job's routing is `broadcast`: each client of the group has a run of its
    /// own then. `None` for every other run.
    ///
    /// The index goes from 0 to `total - 1`, and all attempts of a shard have the same one. The total is how many
    /// clients there were when the shards were created; if one of them vanishes before it has begun, its shard goes to
    /// another client, which then has two.
    ///
    /// ```
    /// # use forest_client::JobContext;
    /// async fn rebuild(ctx: JobContext) -> Result<String, String> {
    ///     let shard = ctx.shard().ok_or("the job's routing must be broadcast")?;
    ///     let region = shard.params.as_deref().unwrap_or("everywhere");
    ///     let mut done = 0;
    ///     for customer in (0..1_000_u32).filter(|customer| customer % shard.total == shard.index) {
    ///         // ... what is to be done for this customer, in this region ...
    ///         done += u32::from(customer > 0);
    ///     }
    ///     Ok(format!("{done} customers in {region}"))
    /// }
    /// ```
    #[must_use]
    pub fn shard(&self) -> Option<&Shard> {
        self.facts.snapshot.shard.as_ref()
    }

    /// A number that grows with every later claim in the cluster. See [Fencing](Self#fencing).
    #[must_use]
    pub fn fencing_token(&self) -> i64 {
        self.facts.fencing_token
    }

    /// When the handler will be asked to stop because the run takes too long: the job's `timeout_ms` after the
    /// handler started. `None` without a limit. In the terms of this machine's wall clock as it was then; for
    /// what is left by now, whatever became of that clock, see [`remaining`](Self::remaining).
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.facts.deadline.map(|deadline| deadline.wall)
    }

    /// How much of the time for this run is left, zero when it is over; `None` without a limit. A machine's
    /// sleep counts. Good as the time limit of what the handler calls.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        self.facts.deadline.map(|deadline| deadline.remaining(&self.facts.clock))
    }

    /// Tells how far the handler is, for people: 0 to 100 (more counts as 100), and what it is doing (of a
    /// longer text the first 1 KiB). Never waits and never fails: it is written soon, at most once a second, and
    /// what is told in between is never seen. After the end of the run it does nothing.
    pub fn progress(&self, percent: u8, text: impl Into<String>) {
        let mut text = text.into();
        text.truncate(text.floor_char_boundary(MAX_PROGRESS_TEXT));
        let at = Instant::from_ms(self.facts.clock.wall_ms());
        self.facts.notes.progress(Progress { percent: percent.min(100), text, at });
    }

    /// Saves how far the handler is, for the next attempt: [`last_checkpoint`](Self::last_checkpoint) of that one
    /// is the last that was saved by any attempt before it. At most 64 KiB of text.
    ///
    /// Returns `Ok` when this checkpoint, or a later one of the same run, is in etcd: from then on the next
    /// attempt gets it, whatever becomes of this process. A run writes at most once a second, so a call may take
    /// that long; and as long as etcd does not answer. One that was not waited for is written all the same, at the
    /// latest together with the end of the run.
    ///
    /// # Errors
    /// [`CheckpointError::TooLarge`]: nothing has changed. [`CheckpointError::GivenUp`]: the server has declared
    /// the run lost, and the handler should stop. [`CheckpointError::Ended`]: a handler sees that only from a task
    /// that outlives it.
    pub async fn checkpoint(&self, value: impl Into<String>) -> Result<(), CheckpointError> {
        self.facts.notes.checkpoint(value.into()).await.unwrap_or(Err(CheckpointError::Ended))
    }

    /// As [`checkpoint`](Self::checkpoint), for [blocking](crate::BlockingHandler) handlers: blocks the thread.
    ///
    /// # Errors
    /// As [`checkpoint`](Self::checkpoint). When the handler is given up, [`CheckpointError::Ended`].
    ///
    /// # Panics
    /// In an asynchronous handler: its thread must not be blocked.
    pub fn checkpoint_blocking(&self, value: impl Into<String>) -> Result<(), CheckpointError> {
        self.facts.notes.checkpoint(value.into()).blocking_recv().unwrap_or(Err(CheckpointError::Ended))
    }

    /// The last checkpoint that an earlier attempt has saved, wherever that ran; `None` on the first attempt and
    /// if none was saved. What this attempt saves does not change it.
    #[must_use]
    pub fn last_checkpoint(&self) -> Option<&str> {
        self.facts.snapshot.checkpoint.as_deref()
    }

    /// Locks, queues and state that all handlers of the group share. See [`shared`](crate::shared) for what they
    /// promise, and what they cannot.
    ///
    /// ```
    /// # use forest_client::{JobContext, shared::SharedError};
    /// async fn handler(ctx: JobContext) -> Result<(), SharedError> {
    ///     let Some(lock) = ctx.shared().lock("ledger").try_acquire().await? else { return Ok(()) };
    ///     // ... what only one may do at a time ...
    ///     lock.release().await
    /// }
    /// ```
    #[must_use]
    pub fn shared(&self) -> &Shared {
        &self.facts.shared
    }

    /// Completes when the handler should stop. See [Stopping](Self#stopping).
    pub async fn cancelled(&self) {
        self.facts.stop.token().cancelled().await;
    }

    /// Whether the handler should stop.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.facts.stop.token().is_cancelled()
    }

    /// Why the handler should stop; `None` as long as it should not.
    #[must_use]
    pub fn stop_reason(&self) -> Option<StopReason> {
        self.facts.stop.reason()
    }

    /// A token that is cancelled when the handler should stop, to hand on to what it calls. It is the
    /// handler's own: cancelling it stops only those.
    #[must_use]
    pub fn cancel_token(&self) -> CancellationToken {
        self.facts.stop.token().child_token()
    }
}

impl fmt::Debug for JobContext {
    /// Without the parameters: they may hold what does not belong into a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobContext")
            .field("run", self.run_id())
            .field("target", self.target())
            .field("attempt", &self.attempt())
            .field("fencing_token", &self.fencing_token())
            .field("stop_reason", &self.stop_reason())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use forest_etcd::SystemClock;
    use tokio::sync::mpsc;

    use super::*;
    use crate::handler::tests::snapshot;
    use crate::shared::tests::nothing_shared;

    impl JobContext {
        /// With token 7, and nobody to hear what the handler says.
        pub(crate) fn of(snapshot: Snapshot, stop: Stop) -> Self {
            let notes = Notes::new(snapshot.id.clone(), mpsc::unbounded_channel().0);
            Self::new(snapshot, 7, stop, notes, nothing_shared(), SystemClock::shared())
        }
    }

    fn plain() -> Snapshot {
        snapshot("20261118110640000-j1-1", "pay", "")
    }

    #[test]
    fn a_handler_sees_its_deadline() {
        let unlimited = JobContext::of(plain(), Stop::default());
        assert_eq!((unlimited.deadline(), unlimited.remaining()), (None, None));
        let before = SystemClock::shared().wall_ms();
        let limited = Snapshot { timeout_ms: Some(60_000), ..plain() };
        let ctx = JobContext::of(limited, Stop::default());
        let left = ctx.remaining().unwrap_or_default();
        assert!(left > Duration::from_secs(50) && left <= Duration::from_secs(60), "{left:?}");
        let late = ctx.deadline().map_or(0, Instant::as_ms) - before;
        assert!((60_000..70_000).contains(&late), "{late}");
        let over = JobContext::of(Snapshot { timeout_ms: Some(0), ..plain() }, Stop::default());
        assert_eq!(over.remaining(), Some(Duration::ZERO));
    }

    #[test]
    fn what_is_told_is_cut_to_size() {
        let (first, _asked) = mpsc::unbounded_channel();
        let notes = Notes::new(plain().id, first);
        let ctx = JobContext::new(
            plain(),
            7,
            Stop::default(),
            notes.clone(),
            nothing_shared(),
            SystemClock::shared(),
        );
        ctx.progress(250, "é".repeat(MAX_PROGRESS_TEXT));
        let told = notes.close().progress.map(|told| (told.percent, told.text.len()));
        assert_eq!(told, Some((100, MAX_PROGRESS_TEXT)));
    }

    #[tokio::test]
    async fn a_task_that_outlives_its_handler_saves_nothing() {
        let (first, _asked) = mpsc::unbounded_channel();
        let notes = Notes::new(plain().id, first);
        let clock: SharedClock = Arc::new(SystemClock);
        let ctx = JobContext::new(plain(), 7, Stop::default(), notes.clone(), nothing_shared(), clock);
        notes.close();
        assert_eq!(ctx.checkpoint("late").await, Err(CheckpointError::Ended));
    }
}
