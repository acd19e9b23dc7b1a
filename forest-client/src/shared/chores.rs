//! Giving back what was dropped: places in a line, locks, claims on items.
//!
//! A drop cannot wait, so it leaves a chore. Best effort: if etcd does not answer for too long, or the worker
//! ends, what is left hangs on a lease and ends with it.

use std::time::Duration;

use forest_etcd::{Backoff, Error, Outcome, Store, Tasks, Txn};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Chores that may wait. More are left to their leases.
const WAITING: usize = 1_024;
/// Chores at once.
const AT_ONCE: usize = 16;
/// How long one is tried.
const PATIENCE: Duration = Duration::from_secs(30);

/// Something to give back. What was on its way to etcd when this was left may arrive at any time later, and must
/// come to nothing then.
#[derive(Debug, Default)]
pub(super) struct Chore {
    /// Leases to end first, with all that hangs on them, or would.
    pub(super) leases: Vec<i64>,
    /// A place in a line.
    pub(super) ticket: Option<String>,
    /// A key that goes with a lock, and the revision at which it was written.
    pub(super) session: Option<(String, i64)>,
    /// A claim on an item.
    pub(super) claim: Option<Claimed>,
}

/// An item that may have been claimed. It is written anew with the end of its claim, so that a claim that is still
/// on its way, which expects the item as it was, finds another one.
#[derive(Debug, Clone)]
pub(super) struct Claimed {
    pub(super) claim_key: String,
    /// The value of the claim.
    pub(super) mark: Vec<u8>,
    pub(super) item_key: String,
}

#[derive(Debug, Clone)]
pub(crate) struct ChoreList(mpsc::Sender<Chore>);

/// Does the chores. Driven by [`Janitor::run`].
pub(crate) struct Janitor {
    store: Store,
    chores: mpsc::Receiver<Chore>,
}

impl ChoreList {
    pub(super) fn leave(&self, chore: Chore) {
        if !chore.is_nothing() && self.0.try_send(chore).is_err() {
            tracing::debug!("something shared was dropped and is left to its lease");
        }
    }
}

impl Janitor {
    pub(crate) fn new(store: Store) -> (Self, ChoreList) {
        let (list, chores) = mpsc::channel(WAITING);
        (Self { store, chores }, ChoreList(list))
    }

    /// Works until the shutdown.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) -> Result<(), Error> {
        let (mut tasks, mut busy) = (Tasks::new(), 0);
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                Some(_) = tasks.join_next() => busy -= 1,
                Some(mut chore) = self.chores.recv(), if busy < AT_ONCE => {
                    busy += 1;
                    let store = self.store.clone();
                    tasks.spawn(async move {
                        if tokio::time::timeout(PATIENCE, chore.perform(&store)).await.is_err() {
                            tracing::warn!(?chore, "not given back, left to its lease");
                        }
                    });
                }
                // Nobody can leave chores any more.
                else => {
                    shutdown.cancelled().await;
                    return Ok(());
                }
            }
        }
    }
}

impl Chore {
    fn is_nothing(&self) -> bool {
        let Self { leases, ticket, session, claim } = self;
        leases.is_empty() && ticket.is_none() && session.is_none() && claim.is_none()
    }

    /// However long it takes.
    async fn perform(&mut self, store: &Store) {
        let mut backoff = Backoff::default();
        loop {
            match self.attempt(store).await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::debug!(%error, "not given back yet"),
            }
            tokio::time::sleep(backoff.next_delay(fastrand::f64())).await;
        }
    }

    /// `false`: something came in between.
    async fn attempt(&mut self, store: &Store) -> Result<bool, Error> {
        while let Some(lease) = self.leases.last() {
            store.revoke(*lease).await?;
            self.leases.pop();
        }
        if let Some(ticket) = &self.ticket {
            if !remove(store, ticket).await? {
                return Ok(false);
            }
            self.ticket = None;
        }
        if let Some((key, revision)) = &self.session {
            let txn = Txn::new().modified(key, *revision).delete(key);
            if let Outcome::Unknown { .. } = store.commit(txn).await? {
                return Ok(false);
            }
            self.session = None;
        }
        match &self.claim {
            Some(claimed) => claimed.give_back(store).await,
            None => Ok(true),
        }
    }
}

impl Claimed {
    /// `false`: something came in between.
    async fn give_back(&self, store: &Store) -> Result<bool, Error> {
        let keys = [self.claim_key.clone(), self.item_key.clone()];
        let (_, mut found) = store.get_many(&keys).await?;
        let (item, claim) = (found.pop().flatten(), found.pop().flatten());
        // Without the item no claim can come.
        let Some(item) = item else { return Ok(true) };
        let mut txn = Txn::new().modified(&self.item_key, item.mod_revision).put(&self.item_key, item.value);
        if let Some(own) = claim.filter(|claim| claim.value == self.mark) {
            txn = txn.modified(&self.claim_key, own.mod_revision).delete(&self.claim_key);
        }
        Ok(matches!(store.commit(txn).await?, Outcome::Applied { .. }))
    }
}

/// Nobody else writes a ticket.
async fn remove(store: &Store, ticket: &str) -> Result<bool, Error> {
    let Some(found) = store.get(ticket).await? else { return Ok(true) };
    let txn = Txn::new().modified(ticket, found.mod_revision).delete(ticket);
    Ok(matches!(store.commit(txn).await?, Outcome::Applied { .. }))
}
