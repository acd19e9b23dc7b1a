//! What belongs to one registration and ends with it: its lease, its inbox, its two watches.

use std::collections::BTreeMap;
use std::time::Duration;

use forest_etcd::{Change, KeyRange, SessionHandle, Tasks, WatchConfig, WatchStream, Watcher};
use forest_proto::{Key, Keyspace, RunId};
use tokio_util::sync::CancellationToken;

use crate::claim::Offer;
use crate::cluster::Cluster;
use crate::error::Error;
use crate::handler::Handlers;
use crate::inbox::Inbox;
use crate::registration::Registration;

/// A client's own keys are few: looking at all of them now and then costs next to nothing.
const RELIST_EVERY: Duration = Duration::from_secs(60);

pub(crate) struct Serving {
    pub(crate) registration: Registration,
    pub(crate) inbox: Inbox,
    /// Offers of runs that are still somewhere in this process.
    pub(crate) postponed: BTreeMap<RunId, Offer>,
    keys: Keyspace,
    session: SessionHandle,
    snapshots: WatchStream,
    cancels: WatchStream,
    /// Dropped with the rest, which ends them.
    watchers: Tasks<Result<(), forest_etcd::Error>>,
}

/// What happens to a registration.
pub(crate) enum Step {
    /// It cannot be relied on any more, and never will be again.
    LeaseLost,
    /// The inbox has changed.
    Offers,
    /// Somebody wants these runs stopped.
    Cancels(Vec<RunId>),
}

impl Serving {
    pub(crate) fn new(cluster: &Cluster, registration: Registration, handlers: Handlers) -> Self {
        let (keys, group, client) = (&cluster.keys, &cluster.group, &registration.client);
        let mut watchers = Tasks::new();
        let mut watch = |prefix: String| {
            let config =
                WatchConfig { relist_every: RELIST_EVERY, ..WatchConfig::new(KeyRange::prefix(&prefix)) };
            let (watcher, stream) = Watcher::new(cluster.store.clone(), config);
            watchers.spawn(watcher.run(CancellationToken::new()));
            stream
        };
        Self {
            snapshots: watch(keys.snapshots_of(group, client)),
            cancels: watch(keys.cancels_of(group, client)),
            postponed: BTreeMap::new(),
            inbox: Inbox::new(keys.clone(), group.clone(), handlers),
            keys: keys.clone(),
            session: cluster.session.clone(),
            registration,
            watchers,
        }
    }

    /// Waits for the next change. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<Step, Error> {
        let broken =
            |cause: &dyn std::fmt::Display| Error::Broken { part: "watch", cause: cause.to_string() };
        tokio::select! {
            biased;
            () = self.session.lost(self.registration.lease.id) => Ok(Step::LeaseLost),
            Some(ended) = self.watchers.join_next() => Err(match ended {
                Ok(Ok(())) => broken(&"without a reason"),
                Ok(Err(error)) => broken(&error),
                Err(error) => broken(&error),
            }),
            Some(changes) = self.cancels.next() => Ok(Step::Cancels(self.cancelled(changes))),
            Some(changes) = self.snapshots.next() => {
                changes.into_iter().for_each(|change| self.inbox.apply(change));
                Ok(Step::Offers)
            }
        }
    }

    fn cancelled(&self, changes: Vec<Change>) -> Vec<RunId> {
        let run = |change| match change {
            Change::Put(kv) | Change::Listed(kv) => match self.keys.parse(&kv.key)? {
                Key::Cancel { run, .. } => Some(run),
                _ => None,
            },
            _ => None,
        };
        changes.into_iter().filter_map(run).collect()
    }
}
