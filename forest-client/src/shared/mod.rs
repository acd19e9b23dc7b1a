//! What the handlers of a group share, over all workers: [locks](Lock), [queues](Queue), [state](State).
//!
//! Everything is in etcd, beside the keys that the servers watch, and belongs to the worker's group: two groups
//! may use the same names and never meet. All writes are guarded transactions. If an answer of etcd is lost, the
//! write is looked up by what marks it, and never repeated in a way that could count twice.
//!
//! # What this cannot promise
//! - **A lock is a lease, not a wall.** Its holder may be frozen past the end of it and go on afterwards without
//!   noticing. Writes through [`Lock::guarded`] are refused then; writes to anything else are refused only if
//!   you hand on [`Lock::fencing_token`] and the receiver refuses smaller numbers than the largest it has seen.
//! - **An item may be handled twice**: if its taker dies, or loses its lease, after the work and before
//!   [`Item::done`]. Make the work idempotent, or use [`Queue::pop`] and lose an item rather than repeat it.
//! - **A write may stay [uncertain](SharedError::Uncertain)** if etcd fails in the middle of it and somebody
//!   else writes the same thing meanwhile. That is said, never guessed.
//! - etcd counts time itself, and begins anew when it elects another leader: a lock whose holder is gone can
//!   last that much longer. Its holder never trusts it beyond its limit.
//! - This is for coordination, not for data: etcd takes some thousand writes per second for the whole cluster
//!   and holds some gigabytes.
//!
//! ```
//! use std::time::Duration;
//! use forest_client::{JobContext, shared::SharedError};
//!
//! async fn nightly(ctx: JobContext) -> Result<String, SharedError> {
//!     let lock = ctx.shared().lock("ledger").limit(Duration::from_secs(300)).acquire().await?;
//!     // Written only as long as the lock is held, whatever happens to this process.
//!     let state = lock.guarded().state();
//!     let runs = state.update("nightly.runs", |old| {
//!         let runs: u64 = old.and_then(|old| std::str::from_utf8(old).ok()?.parse().ok()).unwrap_or(0);
//!         (runs + 1).to_string().into_bytes()
//!     });
//!     let text = String::from_utf8_lossy(&runs.await?.value).into_owned();
//!     lock.release().await?;
//!     Ok(text)
//! }
//! ```

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use forest_etcd::{Backoff, Error as EtcdError, KeyValue, Outcome, SessionHandle, SharedClock, Store, Txn};
use forest_proto::record::MAX_VALUE;
use forest_proto::time::Instant;
use forest_proto::{GroupName, Keyspace, RunId, SharedName};

mod acquire;
mod chores;
mod error;
mod item;
mod line;
mod lock;
mod permit;
mod queue;
mod state;

pub(crate) use chores::{ChoreList, Janitor};
pub use error::SharedError;
pub use item::Item;
pub use lock::{Holder, Lock, LockRequest};
pub use queue::Queue;
pub use state::{Entry, State, StateChange, StateWatch};

/// How long a write is tried whose answers are lost.
const SETTLE: Duration = Duration::from_secs(15);

/// The way to what the handlers of a group share. Cheap to clone.
///
/// From [`JobContext::shared`](crate::JobContext::shared) inside a handler, where locks and claims end with the
/// run's registration at the latest; from [`Worker::shared`](crate::Worker::shared) outside, where they end with
/// the worker's lease.
#[derive(Clone)]
pub struct Shared {
    ground: Arc<Ground>,
    /// Who locks and takes.
    client: Arc<str>,
    run: Option<RunId>,
    /// The lease that locks and claims hang on; `None`: the worker's at that time.
    lease: Option<i64>,
    /// A lock that all writes depend on.
    fence: Option<Arc<Fence>>,
}

/// What all clones have in common.
pub(crate) struct Ground {
    pub(crate) store: Store,
    pub(crate) session: SessionHandle,
    pub(crate) clock: SharedClock,
    pub(crate) random: fn() -> u64,
    pub(crate) keys: Keyspace,
    pub(crate) group: GroupName,
    pub(crate) chores: ChoreList,
}

/// The two keys of a lock, and the revision at which both were written.
struct Fence {
    lock: SharedName,
    holder_key: String,
    session_key: String,
    token: i64,
}

/// What became of a guarded write.
enum Settled {
    Applied {
        revision: i64,
    },
    Refused {
        /// In the order of the transaction's reads.
        found: Vec<Option<KeyValue>>,
        /// The answer to an earlier attempt was lost: that one may have been applied.
        doubt: Option<String>,
        /// The lock that it depends on is not held.
        fenced: bool,
    },
}

impl Shared {
    pub(crate) fn new(ground: Ground, name: &str) -> Self {
        Self { ground: Arc::new(ground), client: name.into(), run: None, lease: None, fence: None }
    }

    /// For the handler of a run, which was claimed under this lease.
    pub(crate) fn of_run(&self, client: &str, run: RunId, lease: i64) -> Self {
        Self { client: client.into(), run: Some(run), lease: Some(lease), ..self.clone() }
    }

    /// Asks for a lock. See [`LockRequest`] for how.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use forest_client::{JobContext, shared::SharedError};
    /// async fn handler(ctx: JobContext) -> Result<(), SharedError> {
    ///     let lock = ctx.shared().lock("ledger").limit(Duration::from_secs(30)).acquire().await?;
    ///     // ... what only one may do at a time ...
    ///     lock.release().await
    /// }
    /// ```
    pub fn lock(&self, name: impl AsRef<str>) -> LockRequest {
        LockRequest::new(self.clone(), SharedName::new(name))
    }

    /// Who holds a lock now; `None` if nobody does.
    ///
    /// # Errors
    /// [`SharedError::Name`], [`SharedError::Unreadable`], [`SharedError::Etcd`].
    ///
    /// ```
    /// # use forest_client::{JobContext, shared::SharedError};
    /// async fn handler(ctx: JobContext) -> Result<String, SharedError> {
    ///     Ok(match ctx.shared().holder("ledger").await? {
    ///         Some(holder) => format!("{} has it until {}", holder.client, holder.until),
    ///         None => "nobody has it".into(),
    ///     })
    /// }
    /// ```
    pub async fn holder(&self, name: impl AsRef<str>) -> Result<Option<Holder>, SharedError> {
        lock::holder(self, &SharedName::new(name)?).await
    }

    /// A queue. It need not be created, and takes no room while it is empty.
    ///
    /// # Errors
    /// [`SharedError::Name`].
    ///
    /// ```
    /// # use forest_client::{JobContext, shared::SharedError};
    /// async fn handler(ctx: JobContext) -> Result<(), SharedError> {
    ///     ctx.shared().queue("mail")?.push("to: a@example.org").await?;
    ///     Ok(())
    /// }
    /// ```
    pub fn queue(&self, name: impl AsRef<str>) -> Result<Queue, SharedError> {
        Ok(Queue::new(self.clone(), SharedName::new(name)?))
    }

    /// The key-value state of the group.
    ///
    /// ```
    /// # use forest_client::{JobContext, shared::SharedError};
    /// async fn handler(ctx: JobContext) -> Result<bool, SharedError> {
    ///     Ok(ctx.shared().state().get("maintenance").await?.is_some())
    /// }
    /// ```
    #[must_use]
    pub fn state(&self) -> State {
        State::new(self.clone())
    }

    fn fenced_by(&self, fence: Fence) -> Self {
        Self { fence: Some(Arc::new(fence)), ..self.clone() }
    }

    fn fence(&self, lock: &SharedName, token: i64) -> Fence {
        let Ground { keys, group, .. } = &*self.ground;
        let (holder_key, session_key) = (keys.lock_holder(group, lock), keys.lock_session(group, lock));
        Fence { lock: lock.clone(), holder_key, session_key, token }
    }

    fn now(&self) -> Instant {
        Instant::from_ms(self.ground.clock.wall_ms())
    }

    /// A number that no other write has.
    fn mark(&self) -> u64 {
        (self.ground.random)()
    }

    /// The lease for locks and claims, if it can be trusted now.
    fn lease(&self) -> Result<i64, SharedError> {
        let current = self.ground.session.current().map(|lease| lease.id);
        match (self.lease, current) {
            (Some(own), Some(current)) if own != current => Err(SharedError::NoLease),
            (_, Some(current)) => Ok(current),
            (_, None) => Err(SharedError::NoLease),
        }
    }

    /// Sends a guarded write until it is known what became of it. Its guards must not hold again once it was
    /// applied: then sending it again is only a way to ask.
    async fn settle(&self, what: &str, txn: Txn) -> Result<Settled, SharedError> {
        let own_reads = txn.otherwise.len();
        let txn = self.fence.as_deref().map_or(txn.clone(), |fence| fence.guard(txn));
        let give_up_at = self.ground.clock.boot() + SETTLE;
        let (mut backoff, mut doubt) = (Backoff::default(), None);
        loop {
            match self.ground.store.commit(txn.clone()).await {
                Ok(Outcome::Applied { revision }) => return Ok(Settled::Applied { revision }),
                Ok(Outcome::Refused { mut found, .. }) => {
                    let fence_found = found.split_off(own_reads.min(found.len()));
                    let fenced = self.fence.as_deref().is_some_and(|fence| !fence.stands(&fence_found));
                    return Ok(Settled::Refused { found, doubt, fenced });
                }
                Ok(Outcome::Unknown { cause }) => doubt = Some(cause),
                Err(error) if doubt.is_none() => return Err(error.into()),
                Err(EtcdError::Unavailable { .. }) => {}
                Err(error) => return Err(uncertain(what, &error.to_string())),
            }
            if self.ground.clock.boot() >= give_up_at {
                return Err(uncertain(what, doubt.as_deref().unwrap_or("no answer")));
            }
            tokio::time::sleep(backoff.next_delay(fastrand::f64())).await;
        }
    }

    /// Why a refused write failed, if that was the lock's doing.
    fn check_fence(&self, what: &str, fenced: bool, doubt: Option<&str>) -> Result<(), SharedError> {
        match (&self.fence, fenced, doubt) {
            (Some(_), true, Some(cause)) => Err(uncertain(what, cause)),
            (Some(fence), true, None) => Err(SharedError::NotHeld { what: format!("lock {}", fence.lock) }),
            _ => Ok(()),
        }
    }
}

impl Fence {
    fn guard(&self, txn: Txn) -> Txn {
        txn.created(&self.holder_key, self.token)
            .modified(&self.session_key, self.token)
            .or_get(&self.holder_key)
            .or_get(&self.session_key)
    }

    fn stands(&self, found: &[Option<KeyValue>]) -> bool {
        let [Some(holder), Some(session)] = found else { return false };
        holder.create_revision == self.token && session.mod_revision == self.token
    }
}

fn uncertain(what: &str, cause: &str) -> SharedError {
    SharedError::Uncertain { what: what.to_owned(), cause: cause.to_owned() }
}

/// A lease that ended under a write is the worker's or, if its answers took too long, that of the limit.
fn no_lease(error: SharedError) -> SharedError {
    match error {
        SharedError::Etcd(EtcdError::LeaseGone) => SharedError::NoLease,
        error => error,
    }
}

/// `None`: never.
fn give_up_at(patience: Option<Duration>) -> Option<tokio::time::Instant> {
    tokio::time::Instant::now().checked_add(patience?)
}

async fn over(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn check_size(what: impl FnOnce() -> String, value: &[u8]) -> Result<(), SharedError> {
    match value.len() {
        0..=MAX_VALUE => Ok(()),
        bytes => Err(SharedError::TooLarge { what: what(), bytes }),
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("group", &self.ground.group)
            .field("client", &self.client)
            .field("run", &self.run)
            .field("under_lock", &self.fence.as_ref().map(|fence| &fence.lock))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests;
