//! What the parts of a worker share: the way to etcd, the keys, the clock.
//!
//! One connection carries reads, watches, claims and results; the lease has another one of its own,
//! inside the session.

use forest_etcd::{BatcherHandle, SessionHandle, SharedClock, Store};
use forest_proto::time::Instant;
use forest_proto::{GroupName, Keyspace};

#[derive(Clone)]
pub(crate) struct Cluster {
    pub(crate) store: Store,
    pub(crate) batcher: BatcherHandle,
    /// For what handlers say while they run: never before a claim or a result.
    pub(crate) notes: BatcherHandle,
    pub(crate) session: SessionHandle,
    pub(crate) clock: SharedClock,
    pub(crate) random: fn() -> u64,
    pub(crate) keys: Keyspace,
    pub(crate) group: GroupName,
}

impl Cluster {
    /// The wall clock. For what people read, never for a deadline.
    pub(crate) fn now(&self) -> Instant {
        Instant::from_ms(self.clock.wall_ms())
    }
}
