//! The mirror of all our keys: one ordered stream of changes in, typed tables out.
//!
//! The stream is a hint. Whatever is decided on the view is guarded by the revisions of the keys it was
//! decided on; a view that is behind makes a decision fail, never makes it wrong. What is written goes into its table in
//! `put`, what is gone is taken out of it in `gone`.

mod gone;
mod put;
mod touch;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use forest_etcd::Change;
use forest_proto::record::{Backfill, Drain, Group, Join, LogLevel, Node, Request, StepDown};
use forest_proto::{GroupName, JobId, Key, Keyspace, NodeId, RequestKey, RunId, Segment, SegmentCount};

use crate::core::access::Access;
use crate::core::clients::{Clients, Seat};
use crate::core::entry::Table;
use crate::core::feed::Feed;
use crate::core::jobs::Jobs;
use crate::core::quarantine::Quarantine;
use crate::core::runs::Runs;

/// What is read of the wall clock and the time since boot, at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    pub(crate) wall_ms: i64,
    pub(crate) boot: Duration,
}

/// Who holds the leader key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leadership {
    pub(crate) node: String,
    /// etcd's create revision: the number of the term.
    pub(crate) term: i64,
    revision: i64,
}

/// Another node's clock, as it looked when its last heartbeat came in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heartbeat {
    pub(crate) skew_ms: i64,
    pub(crate) heard: Duration,
}

/// What changed in a way that concerns runs which were not themselves changed.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    /// Clients that came or changed.
    pub(crate) seats: Vec<Seat>,
    /// Clients that vanished, with the time to live of their lease, if they said.
    pub(crate) vanished: Vec<(Seat, Option<u64>)>,
    /// Groups in which a place became free.
    pub(crate) groups: BTreeSet<GroupName>,
    pub(crate) requests: Vec<(Segment, RequestKey)>,
    /// Jobs of a fixed delay that may have to plan their next run.
    pub(crate) jobs: BTreeSet<JobId>,
    /// Jobs whose backfill may go on.
    pub(crate) backfills: BTreeSet<JobId>,
}

/// A backfill, and the create revision of its key: that of no other one of the job.
#[derive(Debug, Clone)]
pub(crate) struct StoredBackfill {
    pub(crate) backfill: Backfill,
    pub(crate) created: i64,
}

pub(crate) struct View {
    pub(crate) keys: Keyspace,
    pub(crate) jobs: Jobs,
    pub(crate) runs: Runs,
    pub(crate) clients: Clients,
    /// The clients that are to get no new runs.
    pub(crate) drains: Table<Seat, Drain>,
    pub(crate) groups: Table<GroupName, Group>,
    pub(crate) nodes: Table<NodeId, Node>,
    /// What the leader is asked to.
    pub(crate) step_down: Table<(), StepDown>,
    pub(crate) requests: Table<(Segment, RequestKey), Request>,
    pub(crate) backfills: Table<JobId, StoredBackfill>,
    /// What jobs that follow several others have seen of them.
    pub(crate) joins: Table<JobId, Join>,
    pub(crate) late: Table<(RunId, Seat), ()>,
    /// Requests to stop a run, until its client has followed them.
    pub(crate) cancels: Table<(RunId, Seat), ()>,
    pub(crate) access: Access,
    /// How much nodes log for a while.
    pub(crate) log_levels: Table<NodeId, LogLevel>,
    pub(crate) heartbeats: BTreeMap<NodeId, Heartbeat>,
    pub(crate) quarantine: Quarantine,
    pub(crate) touched: Touched,
    pub(crate) feed: Feed,
    leader: Option<Leadership>,
    leader_listing: u32,
    revision: i64,
    listing: u32,
    /// Of the last complete listing; 0 = none yet.
    listed: i64,
}

impl View {
    pub(crate) fn new(keys: Keyspace, segments: SegmentCount, default_zone: String) -> Self {
        Self {
            keys,
            jobs: Jobs::new(segments, default_zone),
            runs: Runs::default(),
            clients: Clients::default(),
            drains: Table::default(),
            groups: Table::default(),
            nodes: Table::default(),
            step_down: Table::default(),
            requests: Table::default(),
            backfills: Table::default(),
            joins: Table::default(),
            late: Table::default(),
            cancels: Table::default(),
            access: Access::default(),
            log_levels: Table::default(),
            heartbeats: BTreeMap::new(),
            quarantine: Quarantine::default(),
            touched: Touched::default(),
            feed: Feed::default(),
            leader: None,
            leader_listing: 0,
            revision: 0,
            listing: 0,
            listed: 0,
        }
    }

    /// Everything written up to this revision is in the view.
    pub(crate) fn revision(&self) -> i64 {
        self.revision
    }

    /// Whether a first full list is in.
    pub(crate) fn is_complete(&self) -> bool {
        self.listed > 0
    }

    /// The revision of the last complete listing, which no dropped change can have falsified.
    pub(crate) fn listed(&self) -> i64 {
        self.listed
    }

    /// When a job fires next: by the clock, or as planned after its last run.
    pub(crate) fn next_of(&self, id: &JobId) -> Option<i64> {
        let planned = self.runs.of_job(id).filter(|run| self.runs.is_planned(run));
        let by_clock = self.jobs.get(id)?.next_ms();
        by_clock.or_else(|| planned.map(|run| run.at().as_ms()).min())
    }

    /// Whether the watch has dropped that a run came to this key at `revision`, or before.
    pub(crate) fn lacks_run(&self, key: &str, revision: i64) -> bool {
        let run = match self.keys.parse(key) {
            Some(
                Key::Delay { run, .. }
                | Key::Pending { run, .. }
                | Key::Spread { run, .. }
                | Key::Snapshot { run, .. }
                | Key::Execution { run, .. },
            ) => run,
            _ => return false,
        };
        self.runs.get(&run).is_none_or(|known| known.revision < revision) && !self.quarantine.has(key)
    }

    pub(crate) fn leader(&self) -> Option<&Leadership> {
        self.leader.as_ref()
    }

    pub(crate) fn apply(&mut self, change: Change, now: Now) {
        match change {
            Change::Reset => self.reset(),
            Change::Gap => self.feed.close(),
            Change::ListStarted => self.listing += 1,
            Change::Listed(kv) => {
                self.expect_listed(&kv);
                self.put(kv, None);
            }
            Change::ListEnded { revision } => {
                self.sweep(revision);
                self.jobs.listed(revision);
                self.feed.listed(revision);
                self.listed = revision.max(1);
                self.revision = self.revision.max(revision);
            }
            Change::Put(kv) => {
                let revision = kv.mod_revision;
                self.feed.begin(&kv.key, revision, now.wall_ms);
                self.put(kv, Some(now));
                self.revision = self.revision.max(revision);
            }
            Change::Deleted { key, revision } => {
                self.feed.begin(&key, revision, now.wall_ms);
                self.delete(&key, revision, true);
                self.revision = self.revision.max(revision);
            }
            Change::Progress { revision } => {
                self.feed.progress(revision);
                self.revision = self.revision.max(revision);
            }
        }
    }

    fn reset(&mut self) {
        let (segments, zone) = (self.jobs.count(), self.jobs.default_zone().to_owned());
        let mut feed = std::mem::take(&mut self.feed);
        feed.restart();
        *self = Self { feed, ..Self::new(self.keys.clone(), segments, zone) };
    }
}
