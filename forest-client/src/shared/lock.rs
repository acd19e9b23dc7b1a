//! A mutex with a time limit, that shows its holder.
//!
//! ```text
//!              line is empty, nobody holds it
//!   asking ─────────────────────────────────────▶ held ──▶ released, limit over, or holder's lease over
//!      │                                           ▲
//!      └──▶ in line, by the ticket's create revision ┘ first in line, and nobody holds it
//! ```
//!
//! A lock is two keys that one transaction writes, if there is no holder: `holder`, on a lease as long as the
//! limit that nobody renews, and `session`, on the lease of the holder's worker. It is held as long as both are
//! there as they were written; so etcd ends it at whichever end comes first, and a transaction that is guarded by
//! both is refused from then on. The create revision of `holder` is the fencing token: it grows with every holder.
//!
//! Whoever waits has a ticket on its worker's lease, and watches. Tickets are served in the order of their create
//! revisions. To give a lock back is to end the lease of its limit: that is certain even for a write that is still
//! under way, because nothing can be put on a lease that has ended.

use std::fmt;
use std::time::Duration;

use forest_etcd::KeyValue;
use forest_proto::record::{LockHolder, decode};
use forest_proto::time::Instant;
use forest_proto::{NameError, RunId, SharedName};

use super::acquire::{Attempt, Grip};
use super::{Shared, SharedError, give_up_at};

const DEFAULT_LIMIT: Duration = Duration::from_secs(60);
const LIMITS: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 3600);
/// Longest time a waiter goes without looking at the clock: timers do not count suspend.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Who holds a lock. From [`Shared::holder`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The id of the client; outside a handler the name of the worker.
    pub client: String,
    /// The run whose handler holds it; `None` outside a handler.
    pub run: Option<RunId>,
    /// When it was taken, on the holder's clock.
    pub since: Instant,
    /// When it ends at the latest, on the holder's clock.
    pub until: Instant,
    /// The [`Lock::fencing_token`] of this holder.
    pub fencing_token: i64,
}

/// Settings for taking a lock. From [`Shared::lock`].
///
/// Taking a free lock costs three requests to etcd; giving it back costs one. A lock is not reentrant: a second
/// request of the same handler waits for the first.
#[must_use = "nothing is locked until `acquire` or `try_acquire`"]
pub struct LockRequest {
    shared: Shared,
    name: Result<SharedName, NameError>,
    limit: Duration,
    patience: Option<Duration>,
}

/// A lock that was taken. Dropping it gives it back soon, if etcd can be reached; [`release`](Self::release)
/// waits for that and says whether it was held to the end.
#[must_use = "a lock that is dropped is given back"]
pub struct Lock {
    shared: Shared,
    name: SharedName,
    token: i64,
    /// Of the worker.
    lease: i64,
    /// When its holder stops trusting it, on the time since boot.
    ends: Duration,
    /// Given back when this is dropped.
    grip: Grip,
}

impl LockRequest {
    pub(super) fn new(shared: Shared, name: Result<SharedName, NameError>) -> Self {
        Self { shared, name, limit: DEFAULT_LIMIT, patience: None }
    }

    /// How long the lock is held at the longest, 1 s to 24 h. Default: 1 minute. Counts from the moment the lock
    /// is asked for in etcd. Its holder stops trusting it exactly then; others get it up to 3 s later.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// How long [`acquire`](Self::acquire) waits in line. Default: as long as it takes.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use forest_client::{JobContext, shared::SharedError};
    /// async fn handler(ctx: JobContext) -> Result<&'static str, SharedError> {
    ///     let request = ctx.shared().lock("ledger").patience(Duration::from_secs(5));
    ///     match request.acquire().await {
    ///         Ok(lock) => lock.release().await.map(|()| "done"),
    ///         Err(SharedError::Busy { .. }) => Ok("left to whoever has it"),
    ///         Err(error) => Err(error),
    ///     }
    /// }
    /// ```
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    /// Waits for the lock, in the order of arrival. Dropping the future leaves the line.
    ///
    /// # Errors
    /// [`SharedError::Busy`] if [`patience`](Self::patience) is over, [`SharedError::NoLease`] if the worker is
    /// cut off from etcd or this run's registration has ended, [`SharedError::Etcd`], [`SharedError::Uncertain`];
    /// [`SharedError::Name`] and [`SharedError::Setting`] at once.
    ///
    /// ```
    /// # use forest_client::{JobContext, shared::SharedError};
    /// async fn handler(ctx: JobContext) -> Result<i64, SharedError> {
    ///     let lock = ctx.shared().lock("ledger").acquire().await?;
    ///     Ok(lock.fencing_token())
    /// }
    /// ```
    pub async fn acquire(self) -> Result<Lock, SharedError> {
        let give_up = give_up_at(self.patience);
        let attempt = self.check()?;
        match attempt.at_once().await? {
            Some(lock) => Ok(lock),
            None => attempt.in_line(give_up).await,
        }
    }

    /// Takes the lock if it is free and nobody waits for it; `None` otherwise.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire), but never [`SharedError::Busy`].
    ///
    /// ```
    /// # use forest_client::{JobContext, shared::SharedError};
    /// async fn handler(ctx: JobContext) -> Result<bool, SharedError> {
    ///     let Some(lock) = ctx.shared().lock("ledger").try_acquire().await? else { return Ok(false) };
    ///     lock.release().await.map(|()| true)
    /// }
    /// ```
    pub async fn try_acquire(self) -> Result<Option<Lock>, SharedError> {
        self.check()?.at_once().await
    }

    fn check(&self) -> Result<Attempt<'_>, SharedError> {
        let name = self.name.clone()?;
        if !LIMITS.contains(&self.limit) {
            return Err(SharedError::setting("limit", format!("{:?} is not from 1 s to 24 h", self.limit)));
        }
        let (shared, limit, lease) = (&self.shared, self.limit, self.shared.lease()?);
        Ok(Attempt { shared, name, limit, lease })
    }
}

impl Lock {
    pub(super) fn new(
        shared: Shared,
        name: SharedName,
        token: i64,
        lease: i64,
        ends: Duration,
        grip: Grip,
    ) -> Self {
        Self { shared, name, token, lease, ends, grip }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// A number that grows with every later holder of this lock. Hand it to what you write to, and let that
    /// refuse every number smaller than one it has seen.
    #[must_use]
    pub fn fencing_token(&self) -> i64 {
        self.token
    }

    /// Whether the lock can be relied on now: its limit is not over, and the worker's lease is trusted. Costs no
    /// request. `true` says nothing about the next moment; see [`guarded`](Self::guarded) for writes.
    ///
    /// ```
    /// # use forest_client::{JobContext, shared::SharedError};
    /// async fn handler(ctx: JobContext) -> Result<u32, SharedError> {
    ///     let lock = ctx.shared().lock("ledger").acquire().await?;
    ///     let mut pages = 0;
    ///     while pages < 1000 && lock.is_held() {
    ///         pages += 1; // ... one page ...
    ///     }
    ///     lock.release().await.map(|()| pages)
    /// }
    /// ```
    #[must_use]
    pub fn is_held(&self) -> bool {
        !self.remaining().is_zero() && self.shared.ground.session.is_trusted(self.lease)
    }

    /// How long until the limit; zero if that is over.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.ends.saturating_sub(self.shared.ground.clock.boot())
    }

    /// Completes when the lock cannot be relied on any more. To be awaited beside the work.
    ///
    /// ```
    /// # use forest_client::{JobContext, shared::SharedError};
    /// # async fn work() {}
    /// async fn handler(ctx: JobContext) -> Result<(), SharedError> {
    ///     let lock = ctx.shared().lock("ledger").acquire().await?;
    ///     tokio::select! {
    ///         () = work() => {}
    ///         () = lock.lost() => {}
    ///     }
    ///     lock.release().await
    /// }
    /// ```
    pub async fn lost(&self) {
        let mut session = self.shared.ground.session.clone();
        let limit = async {
            while !self.remaining().is_zero() {
                tokio::time::sleep(self.remaining().min(LOOK_AGAIN)).await;
            }
        };
        tokio::select! {
            biased;
            () = session.lost(self.lease) => {}
            () = limit => {}
        }
    }

    /// The shared things of the group, but every write is refused with [`SharedError::NotHeld`] once this lock is
    /// not held any more, by etcd and in the same step: so a holder that was frozen cannot spoil anything.
    ///
    /// ```
    /// # use forest_client::{JobContext, shared::SharedError};
    /// async fn handler(ctx: JobContext) -> Result<(), SharedError> {
    ///     let lock = ctx.shared().lock("ledger").acquire().await?;
    ///     let shared = lock.guarded();
    ///     shared.queue("mail")?.push("the ledger is closed").await?;
    ///     shared.state().put("ledger", "closed").await?;
    ///     lock.release().await
    /// }
    /// ```
    #[must_use]
    pub fn guarded(&self) -> Shared {
        self.shared.fenced_by(self.shared.fence(&self.name, self.token))
    }

    /// Gives the lock back, and with it to the next in line.
    ///
    /// ```
    /// # use forest_client::{JobContext, shared::SharedError};
    /// async fn handler(ctx: JobContext) -> Result<&'static str, SharedError> {
    ///     let lock = ctx.shared().lock("ledger").acquire().await?;
    ///     // ... what only one may do at a time ...
    ///     match lock.release().await {
    ///         Ok(()) => Ok("alone from the beginning to the end"),
    ///         Err(SharedError::NotHeld { .. }) => Ok("took longer than the limit; somebody else may have begun"),
    ///         Err(error) => Err(error),
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// [`SharedError::NotHeld`] if it had already ended: somebody else may have had it meanwhile.
    /// [`SharedError::Etcd`] if etcd cannot be reached: it is tried further, and ends at its limit anyway.
    pub async fn release(mut self) -> Result<(), SharedError> {
        let held = self.is_held();
        for lease in &self.grip.chore.leases {
            self.shared.ground.store.revoke(*lease).await?;
        }
        self.grip.chore.leases.clear();
        tracing::debug!(lock = %self.name, token = self.token, held, "unlocked");
        if held { Ok(()) } else { Err(SharedError::NotHeld { what: format!("lock {}", self.name) }) }
    }
}

pub(super) async fn holder(shared: &Shared, name: &SharedName) -> Result<Option<Holder>, SharedError> {
    let ground = &shared.ground;
    let keys = [ground.keys.lock_holder(&ground.group, name), ground.keys.lock_session(&ground.group, name)];
    let (_, found) = ground.store.get_many(&keys).await?;
    let [Some(holder), Some(session)] = &found[..] else { return Ok(None) };
    if holder.create_revision != session.mod_revision {
        return Ok(None);
    }
    read_holder(holder).map(Some)
}

fn read_holder(kv: &KeyValue) -> Result<Holder, SharedError> {
    let record: LockHolder = decode(&kv.value)
        .map_err(|e| SharedError::Unreadable { key: kv.key.clone(), cause: e.to_string() })?;
    Ok(Holder {
        client: record.client,
        run: record.run,
        since: record.since,
        until: record.until,
        fencing_token: kv.create_revision,
    })
}

impl fmt::Debug for LockRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockRequest")
            .field("name", &self.name)
            .field("limit", &self.limit)
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock")
            .field("name", &self.name)
            .field("fencing_token", &self.token)
            .field("is_held", &self.is_held())
            .finish_non_exhaustive()
    }
}
