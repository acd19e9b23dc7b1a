//! What a handler is told about the run it executes.

use std::fmt;
use std::sync::Arc;

use forest_proto::record::{Origin, Snapshot};
use forest_proto::time::Instant;
use forest_proto::{GroupName, JobId, RunId, TargetName};
use tokio_util::sync::CancellationToken;

use crate::shared::Shared;
use crate::stop::{Stop, StopReason};

/// The run that a handler executes. Cheap to clone; clones stand for the same run.
///
/// # Stopping
/// Nobody can stop a handler but the handler itself, so a long one waits for [`cancelled`](Self::cancelled)
/// beside its work. It is asked to stop when somebody cancels the run, when this process may have lost its
/// registration, and when the worker shuts down and the time for draining is over. A handler that has not
/// returned within the worker's [`kill_grace`](crate::Builder::kill_grace) is dropped at its next `await`.
///
/// # Fencing
/// A run is executed at most once unless its job says `on_lost = retry`. Even then, and even if this
/// process was frozen for an hour, a system that the handler writes to can refuse what is out of date: hand
/// it [`fencing_token`](Self::fencing_token) and let it refuse every number smaller than one it has seen.
///
/// ```
/// # use forest_client::JobContext;
/// async fn export(ctx: JobContext) -> Result<String, std::io::Error> {
///     for page in 0..1000 {
///         if ctx.is_cancelled() {
///             return Err(std::io::Error::other(format!("stopped before page {page}")));
///         }
///         // ... write the page, handing on ctx.fencing_token() ...
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
    shared: Shared,
}

impl JobContext {
    pub(crate) fn new(snapshot: Snapshot, fencing_token: i64, stop: Stop, shared: Shared) -> Self {
        Self { facts: Arc::new(Facts { snapshot, fencing_token, stop, shared }) }
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

    /// A number that grows with every later claim in the cluster. See [Fencing](Self#fencing).
    #[must_use]
    pub fn fencing_token(&self) -> i64 {
        self.facts.fencing_token
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
