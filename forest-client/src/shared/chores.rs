//! Giving back what was dropped: places in a line, locks, claims on items.
//!
//! A drop cannot wait, so it leaves a chore. Best effort: if etcd does not answer for too long, or the worker
//! ends, what is left hangs on a lease and ends with it.

use std::time::Duration;

use forest_etcd::{Backoff, Outcome, Store, Tasks, Txn};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Chores that may wait. More are left to their leases.
const WAITING: usize = 1_024;
/// Chores at once.
const AT_ONCE: usize = 16;
/// How long one is tried.
const PATIENCE: Duration = Duration::from_secs(30);
/// A write that was under way when its future was dropped has arrived after this time, or never will.
const LATE: Duration = Duration::from_secs(3);

/// Something to give back.
#[derive(Debug, Default)]
pub(super) struct Chore {
    /// A lease to end, with all that hangs on it.
    pub(super) lease: Option<i64>,
    /// A key to delete if it has exactly this value.
    pub(super) key: Option<(String, Vec<u8>)>,
    /// Nobody knows whether the key was written: it may still be on its way.
    pub(super) unsettled: bool,
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
        if (chore.lease.is_some() || chore.key.is_some()) && self.0.try_send(chore).is_err() {
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
    pub(crate) async fn run(mut self, shutdown: CancellationToken) -> Result<(), forest_etcd::Error> {
        let (mut tasks, mut busy) = (Tasks::new(), 0);
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                Some(_) = tasks.join_next() => busy -= 1,
                Some(chore) = self.chores.recv(), if busy < AT_ONCE => {
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
    async fn perform(&self, store: &Store) {
        let mut backoff = Backoff::default();
        while let Some(lease) = self.lease
            && let Err(error) = store.revoke(lease).await
        {
            tracing::debug!(lease, %error, "not given back yet");
            tokio::time::sleep(backoff.next_delay(fastrand::f64())).await;
        }
        let Some((key, value)) = &self.key else { return };
        remove(store, key, value).await;
        if self.unsettled {
            tokio::time::sleep(LATE).await;
            remove(store, key, value).await;
        }
    }
}

/// Deletes a key that has this value, however long that takes.
async fn remove(store: &Store, key: &str, value: &[u8]) {
    let mut backoff = Backoff::default();
    loop {
        let error = match store.get(key).await {
            Ok(Some(found)) if found.value == value => {
                let txn = Txn::new().modified(key, found.mod_revision).delete(key);
                match store.commit(txn).await {
                    Ok(Outcome::Applied { .. }) => return,
                    // Somebody wrote it between the two, or the answer was lost: look again.
                    Ok(Outcome::Refused { .. }) => "changed meanwhile".to_owned(),
                    Ok(Outcome::Unknown { cause }) => cause,
                    Err(error) => error.to_string(),
                }
            }
            Ok(_) => return,
            Err(error) => error.to_string(),
        };
        tracing::debug!(key, error, "not given back yet");
        tokio::time::sleep(backoff.next_delay(fastrand::f64())).await;
    }
}
