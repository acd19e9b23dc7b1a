//! `server/node/{node}`: says that this node is there, and what its clock shows.

use std::time::Duration;

use forest_etcd::{Backoff, Lease, Outcome, SessionHandle, SharedClock, Store, Txn};
use forest_proto::Keyspace;
use forest_proto::record::{Node, encode};
use forest_proto::time::Instant;
use tokio_util::sync::CancellationToken;

/// Others call a clock wrong only by what they heard in the last 15 s.
const EVERY: Duration = Duration::from_secs(5);

pub(crate) struct Heartbeat {
    store: Store,
    session: SessionHandle,
    clock: SharedClock,
    key: String,
    record: Node,
}

impl Heartbeat {
    pub(crate) fn new(
        store: Store,
        session: SessionHandle,
        clock: SharedClock,
        keys: &Keyspace,
        record: Node,
    ) -> Self {
        Self { store, session, clock, key: keys.node(&record.name), record }
    }

    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let mut backoff = Backoff::default();
        // The revision of our own last heartbeat; 0 = there is none yet.
        let mut last = 0;
        while !shutdown.is_cancelled() {
            let lease = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                lease = self.session.opened() => lease,
            };
            match self.beat(lease, last).await {
                Ok(revision) => {
                    last = revision;
                    backoff.reset();
                    let pause = tokio::time::timeout(EVERY, shutdown.cancelled());
                    if pause.await.is_ok() {
                        return;
                    }
                }
                Err(found) => {
                    last = found.unwrap_or(last);
                    if !backoff.wait(&shutdown).await {
                        return;
                    }
                }
            }
        }
    }

    /// Puts the record at its last revision; the revision found instead, if it was another.
    async fn beat(&mut self, lease: Lease, last: i64) -> Result<i64, Option<i64>> {
        self.record.wall = Instant::from_ms(self.clock.wall_ms());
        let txn = Txn::new().modified(self.key.clone(), last);
        let txn = txn.put_leased(self.key.clone(), encode(&self.record), lease.id).or_get(self.key.clone());
        match self.store.commit(txn).await {
            Ok(Outcome::Applied { revision }) => Ok(revision),
            Ok(Outcome::Refused { found, .. }) => {
                Err(Some(found.into_iter().next().flatten().map_or(0, |kv| kv.mod_revision)))
            }
            Ok(Outcome::Unknown { cause }) => {
                tracing::debug!(cause, "the answer to a heartbeat was lost");
                Err(None)
            }
            Err(error) => {
                tracing::warn!(%error, "cannot write a heartbeat");
                Err(None)
            }
        }
    }
}
