//! What a run asks of the client that takes it, and what is its place among the runs that wait.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use forest_proto::record::{ClientRecord, Routing, Snapshot};
use forest_proto::{ClientId, JobId, RunId, TargetName};

/// The order in which waiting runs are given to clients: larger priority, then earlier, then smaller id.
pub(crate) type Rank = (Reverse<i32>, RunId);

/// Runs with the same need wait in one queue and share one value of this.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Need {
    pub(crate) target: TargetName,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) pinned: Option<ClientId>,
    /// The job, if its runs may have to wait while those of others go on: because it has a limit of its own,
    /// or because it keeps to one client.
    pub(crate) alone: Option<JobId>,
    /// The client that a shard was made for: no other one gets it while that one would do.
    pub(crate) home: Option<ClientId>,
    /// Whether it keeps to the client it has as long as that is there.
    pub(crate) faithful: bool,
}

impl Need {
    pub(crate) fn of(snapshot: &Snapshot) -> Self {
        let faithful = snapshot.routing == Routing::Failover;
        Self {
            target: snapshot.target.clone(),
            labels: snapshot.labels.clone(),
            pinned: snapshot.pinned.clone(),
            home: snapshot.shard.as_ref().and_then(|shard| shard.client.clone()),
            alone: (snapshot.limited || faithful).then(|| snapshot.job_id.clone()),
            faithful,
        }
    }

    /// Whether a client would do, were there room.
    pub(crate) fn is_met_by(&self, id: &ClientId, client: &ClientRecord) -> bool {
        self.pinned.as_ref().is_none_or(|pinned| pinned == id)
            && self.labels.iter().all(|(key, value)| client.labels.get(key) == Some(value))
    }
}
