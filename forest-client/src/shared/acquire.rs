//! Taking one lock: at once if nobody has it and nobody waits, otherwise in line.
//!
//! What was put into etcd on the way is in a [`Grip`], which gives it back wherever this stops: at an error, at the
//! end of patience, or because the future was dropped in the middle of a request.

use std::time::Duration;

use forest_etcd::{Error as EtcdError, KeyRange, Tasks, Txn, WatchConfig, Watcher};
use forest_proto::SharedName;
use forest_proto::record::{LockHolder, encode};
use forest_proto::time::Instant;
use tokio_util::sync::CancellationToken;

use super::chores::{Chore, ChoreList};
use super::line::{Line, Turn};
use super::lock::Lock;
use super::permit::Permit;
use super::{Fence, Settled, Shared, SharedError, no_lease, over, uncertain};

/// The lease outlasts the limit by this much, so that the holder knows first.
const MARGIN: Duration = Duration::from_secs(1);
const PAGE: usize = 500;

/// What must be given back if this is dropped: the limit's lease and a place in the line.
pub(super) struct Grip {
    chores: ChoreList,
    pub(super) chore: Chore,
}

struct Ticket {
    key: String,
    created: i64,
}

/// One request that has been checked.
pub(super) struct Attempt<'a> {
    pub(super) shared: &'a Shared,
    pub(super) name: SharedName,
    pub(super) limit: Duration,
    /// The worker's.
    pub(super) lease: i64,
}

impl Attempt<'_> {
    /// Without a place in the line.
    pub(super) async fn at_once(&self) -> Result<Option<Lock>, SharedError> {
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

    pub(super) async fn in_line(&self, give_up: Option<tokio::time::Instant>) -> Result<Lock, SharedError> {
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
                batch = stream.next() => batch.ok_or(EtcdError::Closed)?,
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
        let key = ground.keys.lock_ticket(&ground.group, &self.name, shared.mark());
        let what = format!("a place in line for lock {}", self.name);
        let permit = Permit::new(shared, &what).await?;
        // The permit ends first, and so no ticket can come after the one that is removed.
        let mut grip =
            self.grip(Chore { leases: vec![permit.lease()], ticket: Some(key.clone()), ..Chore::default() });
        let txn = permit.allow(Txn::new().absent(&key).put_leased(&key, "", self.lease).or_get(&key));
        let created = match shared.settle(&what, txn).await.map_err(no_lease)? {
            Settled::Applied { revision } => revision,
            Settled::Refused { found, doubt, fenced } => match found.into_iter().flatten().next() {
                Some(own) => own.create_revision,
                None => {
                    shared.check_fence(&what, fenced, None)?;
                    return Err(uncertain(&what, doubt.as_deref().unwrap_or("it was there and is gone")));
                }
            },
        };
        grip.chore.leases.clear();
        Ok((Ticket { key, created }, grip))
    }

    /// Takes the lock if nobody holds it. Otherwise gives back what it was given.
    async fn take(&self, ticket: Option<&Ticket>, mut grip: Grip) -> Result<Result<Lock, Grip>, SharedError> {
        let (shared, ground) = (self.shared, &self.shared.ground);
        let Fence { holder_key, session_key, .. } = shared.fence(&self.name, 0);
        let asked = ground.clock.boot();
        let limit_lease = ground.store.grant(whole_seconds(self.limit + MARGIN)).await?;
        grip.chore.leases.push(limit_lease);
        let record = self.record();
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
                        let leases = std::mem::take(&mut grip.chore.leases);
                        self.grip(Chore { leases, ..Chore::default() });
                        return Ok(Err(grip));
                    }
                }
            }
        };
        // The ticket went with the transaction.
        grip.chore.ticket = None;
        grip.chore.session = Some((session_key, token));
        tracing::debug!(lock = %self.name, token, "locked");
        let (shared, name) = (shared.clone(), self.name.clone());
        Ok(Ok(Lock::new(shared, name, token, self.lease, asked + self.limit, grip)))
    }

    fn record(&self) -> LockHolder {
        let since = self.shared.now();
        let limit = i64::try_from(self.limit.as_millis()).unwrap_or(i64::MAX);
        LockHolder {
            client: self.shared.client.to_string(),
            run: self.shared.run.clone(),
            since,
            until: Instant::from_ms(since.as_ms().saturating_add(limit)),
            mark: self.shared.mark(),
        }
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

impl Drop for Grip {
    fn drop(&mut self) {
        self.chores.leave(std::mem::take(&mut self.chore));
    }
}

fn whole_seconds(time: Duration) -> Duration {
    Duration::from_secs(time.as_secs() + u64::from(time.subsec_nanos() > 0))
}
