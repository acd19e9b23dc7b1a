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

use forest_etcd::{Error as EtcdError, KeyRange, KeyValue, Tasks, Txn, WatchConfig, Watcher};
use forest_proto::record::{LockHolder, decode, encode};
use forest_proto::time::Instant;
use forest_proto::{NameError, RunId, SharedName};
use tokio_util::sync::CancellationToken;

use super::chores::{Chore, ChoreList};
use super::line::{Line, Turn};
use super::{Fence, Settled, Shared, SharedError, uncertain};

const DEFAULT_LIMIT: Duration = Duration::from_secs(60);
const LIMITS: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 3600);
/// The lease outlasts the limit by this much, so that the holder knows first.
const MARGIN: Duration = Duration::from_secs(1);
/// Longest time a waiter goes without looking at the clock: timers do not count suspend.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
const PAGE: usize = 500;

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
    grip: Grip,
}

/// What must be given back if this is dropped: the limit's lease and a place in the line.
struct Grip {
    chores: ChoreList,
    chore: Chore,
}

struct Ticket {
    key: String,
    created: i64,
}

/// One request that has been checked.
struct Attempt<'a> {
    shared: &'a Shared,
    name: SharedName,
    limit: Duration,
    lease: i64,
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

impl Attempt<'_> {
    /// Without a place in the line.
    async fn at_once(&self) -> Result<Option<Lock>, SharedError> {
        let ground = &self.shared.ground;
        let range = KeyRange::prefix(&ground.keys.lock(&ground.group, &self.name));
        let line = Line::of(ground.store.list(&range, PAGE).await?.items);
        match line.turn(&ground.keys, None) {
            Turn::Wait | Turn::Lost => return Ok(None),
            Turn::Take => {}
            Turn::Sweep { holder, session } => self.sweep(holder, session).await?,
        }
        self.take(None, self.grip(Chore::default())).await.map(Result::ok)
    }

    async fn in_line(&self, give_up: Option<tokio::time::Instant>) -> Result<Lock, SharedError> {
        let ground = &self.shared.ground;
        let (ticket, mut grip) = self.line_up().await?;
        let config = WatchConfig::new(KeyRange::prefix(&ground.keys.lock(&ground.group, &self.name)));
        let (watcher, mut stream) = Watcher::new(ground.store.clone(), config);
        let mut watching = Tasks::new();
        watching.spawn(watcher.run(CancellationToken::new()));
        let (mut session, mut line) = (ground.session.clone(), Line::default());
        loop {
            let batch = tokio::select! {
                biased;
                () = session.lost(self.lease) => return Err(SharedError::NoLease),
                batch = stream.next() => batch.unwrap_or_default(),
                () = over(give_up) => return Err(SharedError::Busy { lock: self.name.to_string() }),
            };
            batch.into_iter().for_each(|change| line.apply(change));
            if !line.complete {
                continue;
            }
            match line.turn(&ground.keys, Some(ticket.created)) {
                Turn::Wait => {}
                Turn::Lost => return Err(SharedError::NoLease),
                // The watch shows what came of it.
                Turn::Sweep { holder, session } => self.sweep(holder, session).await?,
                Turn::Take => match self.take(Some(&ticket), grip).await? {
                    Ok(lock) => return Ok(lock),
                    Err(unused) => grip = unused,
                },
            }
        }
    }

    async fn line_up(&self) -> Result<(Ticket, Grip), SharedError> {
        let (shared, ground) = (self.shared, &self.shared.ground);
        let number = shared.mark();
        let key = ground.keys.lock_ticket(&ground.group, &self.name, number);
        let value = number.to_string().into_bytes();
        let place = Some((key.clone(), value.clone()));
        let mut grip = self.grip(Chore { key: place, unsettled: true, ..Chore::default() });
        let txn = Txn::new().absent(&key).put_leased(&key, value.clone(), self.lease).or_get(&key);
        let what = format!("a place in line for lock {}", self.name);
        let created = match shared.settle(&what, txn).await.map_err(no_lease)? {
            Settled::Applied { revision } => revision,
            Settled::Refused { found, doubt, fenced } => {
                match found.into_iter().flatten().find(|kv| kv.value == value) {
                    Some(own) => own.create_revision,
                    None => {
                        shared.check_fence(&what, fenced, None)?;
                        return Err(uncertain(&what, doubt.as_deref().unwrap_or("it was there and is gone")));
                    }
                }
            }
        };
        grip.chore.unsettled = false;
        Ok((Ticket { key, created }, grip))
    }

    /// Takes the lock if nobody holds it. Otherwise gives back what it was given.
    async fn take(&self, ticket: Option<&Ticket>, mut grip: Grip) -> Result<Result<Lock, Grip>, SharedError> {
        let (shared, ground) = (self.shared, &self.shared.ground);
        let fence = |token| Fence {
            holder_key: ground.keys.lock_holder(&ground.group, &self.name),
            session_key: ground.keys.lock_session(&ground.group, &self.name),
            lock: self.name.clone(),
            token,
        };
        let Fence { holder_key, session_key, .. } = fence(0);
        let (asked, since) = (ground.clock.boot(), shared.now());
        let limit_lease = ground.store.grant(whole_seconds(self.limit + MARGIN)).await?;
        grip.chore.lease = Some(limit_lease);
        let record = LockHolder {
            client: shared.client.to_string(),
            run: shared.run.clone(),
            since,
            until: Instant::from_ms(
                since.as_ms().saturating_add(self.limit.as_millis().try_into().unwrap_or(i64::MAX)),
            ),
            mark: shared.mark(),
        };
        let mut txn = Txn::new()
            .absent(&holder_key)
            .put_leased(&holder_key, encode(&record), limit_lease)
            .put_leased(&session_key, record.mark.to_string(), self.lease)
            .or_get(&holder_key);
        if let Some(ticket) = ticket {
            txn = txn.created(&ticket.key, ticket.created).delete(&ticket.key);
        }
        let what = format!("lock {}", self.name);
        let token = match shared.settle(&what, txn).await.map_err(no_lease)? {
            Settled::Applied { revision } => revision,
            Settled::Refused { found, doubt, fenced } => {
                let holder = found.into_iter().flatten().next();
                match holder.filter(|kv| kv.lease == limit_lease) {
                    // By an attempt whose answer was lost: nobody else knows this lease.
                    Some(own) => own.create_revision,
                    None => {
                        shared.check_fence(&what, fenced, doubt.as_deref())?;
                        let lease = grip.chore.lease.take();
                        self.grip(Chore { lease, ..Chore::default() });
                        return Ok(Err(grip));
                    }
                }
            }
        };
        // The ticket went with the transaction.
        grip.chore.key = None;
        tracing::debug!(lock = %self.name, token, "locked");
        let (shared, name) = (shared.clone(), self.name.clone());
        Ok(Ok(Lock { shared, name, token, lease: self.lease, ends: asked + self.limit, grip }))
    }

    /// Removes what is left of a holder whose own lease has ended.
    async fn sweep(&self, holder: i64, session: i64) -> Result<(), SharedError> {
        let ground = &self.shared.ground;
        let holder_key = ground.keys.lock_holder(&ground.group, &self.name);
        let txn = Txn::new()
            .created(&holder_key, holder)
            .modified(ground.keys.lock_session(&ground.group, &self.name), session)
            .delete(&holder_key);
        self.shared.settle("the end of a lock", txn).await.map(|_| ())
    }

    fn grip(&self, chore: Chore) -> Grip {
        Grip { chores: self.shared.ground.chores.clone(), chore }
    }
}

impl Lock {
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
        let ground = &self.shared.ground;
        self.shared.fenced_by(Fence {
            holder_key: ground.keys.lock_holder(&ground.group, &self.name),
            session_key: ground.keys.lock_session(&ground.group, &self.name),
            lock: self.name.clone(),
            token: self.token,
        })
    }

    /// Gives the lock back, and with it to the next in line.
    ///
    /// # Errors
    /// [`SharedError::NotHeld`] if it had already ended: somebody else may have had it meanwhile.
    /// [`SharedError::Etcd`] if etcd cannot be reached: it is tried further, and ends at its limit anyway.
    pub async fn release(mut self) -> Result<(), SharedError> {
        let held = self.is_held();
        if let Some(lease) = self.grip.chore.lease {
            self.shared.ground.store.revoke(lease).await?;
            self.grip.chore.lease = None;
        }
        tracing::debug!(lock = %self.name, token = self.token, held, "unlocked");
        if held { Ok(()) } else { Err(SharedError::NotHeld { what: format!("lock {}", self.name) }) }
    }
}

impl Drop for Grip {
    fn drop(&mut self) {
        self.chores.leave(std::mem::take(&mut self.chore));
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

/// A lease that ended under a write is the worker's or, if its answers took too long, that of the limit.
pub(super) fn no_lease(error: SharedError) -> SharedError {
    match error {
        SharedError::Etcd(EtcdError::LeaseGone) => SharedError::NoLease,
        error => error,
    }
}

/// `None`: never.
pub(super) fn give_up_at(patience: Option<Duration>) -> Option<tokio::time::Instant> {
    tokio::time::Instant::now().checked_add(patience?)
}

pub(super) async fn over(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn whole_seconds(time: Duration) -> Duration {
    Duration::from_secs(time.as_secs() + u64::from(time.subsec_nanos() > 0))
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
