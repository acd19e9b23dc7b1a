//! The mirror of all our keys: one ordered stream of changes in, typed tables out.
//!
//! The stream is a hint. Whatever is decided on the view is guarded by the revisions of the keys it was
//! decided on; a view that is behind makes a decision fail, never makes it wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use forest_etcd::{Change, KeyValue};
use forest_proto::record::{
    self, Backfill, Calendar, ClientRecord, Cursor, Delay, Drain, Execution, ExecutionState, Group, Join,
    LogLevel, Node, Request, Snapshot, Spread, Status, StepDown,
};
use forest_proto::{
    CalendarName, GroupName, JobId, Key, Keyspace, NodeId, RequestKey, RunId, Segment, SegmentCount,
};

use super::access::Access;
use super::clients::{Client, Clients, Seat};
use super::entry::Table;
use super::feed::{Before, Feed};
use super::jobs::{Jobs, Replanned};
use super::quarantine::Quarantine;
use super::runs::{Place, Run, Runs};

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

    /// `live`: the moment at which the write was heard of; `None` when it was listed and may be old.
    fn put(&mut self, kv: KeyValue, live: Option<Now>) {
        let Some(key) = self.keys.parse(&kv.key) else {
            return self.reject(&kv.key, kv.mod_revision, "the key is not of our layout");
        };
        if let Err(reason) = self.put_key(key, &kv, live) {
            self.reject(&kv.key, kv.mod_revision, &reason);
        } else if self.quarantine.len() > 0 {
            self.quarantine.forget(&kv.key);
        }
    }

    /// Leaves a key alone whose document cannot be understood.
    pub(crate) fn reject(&mut self, key: &str, revision: i64, reason: &str) {
        if self.quarantine.note(key, revision) {
            tracing::error!(key, reason, "leaving alone a key that cannot be understood");
        }
    }

    fn put_key(&mut self, key: Key, kv: &KeyValue, live: Option<Now>) -> Result<(), String> {
        let (revision, listing) = (kv.mod_revision, self.listing);
        if live.is_some() {
            let before = self.job_before(&key);
            self.feed.put(&key, kv, before);
        }
        match key {
            Key::Job(id) => {
                self.touch_chain(&id);
                if let Some(job) = self.jobs.get(&id).filter(|job| self.runs.has_parked(&job.group)) {
                    // Its limit may be another now.
                    self.touched.groups.insert(job.group.clone());
                }
                if let Err(reason) = self.jobs.put(&id, &kv.value, revision, listing) {
                    // What the job was before does not count any more.
                    self.jobs.remove(&id, revision);
                    return Err(reason);
                }
                self.touch_chain(&id);
            }
            Key::Calendar(name) => self.put_calendar(&name, kv)?,
            Key::Cursor(segment) => {
                self.check_segment(segment)?;
                let cursor: Cursor = read(&kv.value).map_err(|reason| {
                    format!("{reason}; its jobs do not fire before it is deleted or mended")
                })?;
                self.jobs.set_cursor(segment, &cursor, revision);
            }
            Key::Jobgen(segment) => {
                self.check_segment(segment)?;
                self.jobs.set_jobgen(segment, revision, kv.version, live.is_none());
            }
            Key::Leader => {
                self.leader_listing = listing;
                if self.leader.as_ref().is_none_or(|known| known.revision < revision) {
                    let node = String::from_utf8_lossy(&kv.value).into_owned();
                    self.leader = Some(Leadership { node, term: kv.create_revision, revision });
                }
            }
            Key::Node(id) => self.put_node(id, kv, live)?,
            Key::StepDown => {
                self.step_down.put((), read(&kv.value)?, revision, listing);
            }
            Key::Group(name) => {
                if self.groups.put(name.clone(), read(&kv.value)?, revision, listing) {
                    self.touched.groups.insert(name);
                }
            }
            Key::Client { group, client } => {
                let record = ClientRecord::read(&kv.value).ok_or("neither a registration nor a name")?;
                let seat = (group, client);
                let drained = self.drains.entry(&seat).map(|drain| drain.revision);
                let entry = Client { record, drained };
                if self.clients.put(seat.clone(), entry, revision, listing) {
                    self.touched.seats.push(seat);
                }
            }
            Key::Drain { group, client } => {
                let seat = (group, client);
                // Whatever it says: somebody wants the client to have rest.
                let drain = read::<Drain>(&kv.value);
                if self.drains.put(seat.clone(), drain.clone().unwrap_or_default(), revision, listing) {
                    self.clients.set_drained(&seat, Some(revision));
                    self.touched.seats.push(seat);
                }
                drain?;
            }
            Key::Request { segment, key } => {
                let id = (segment, key);
                if self.requests.put(id.clone(), read(&kv.value)?, revision, listing) {
                    self.touched.requests.push(id);
                }
            }
            Key::Backfill { segment, job } => self.put_backfill(segment, job, kv)?,
            Key::Join { segment, job } => {
                if self.jobs.segment_of(&job) != segment {
                    return Err("this cluster has the job in another segment".into());
                }
                let join = read(&kv.value);
                // One that cannot be read begins anew: else nothing that it is about could be settled.
                self.joins.put(job, join.as_ref().cloned().unwrap_or_default(), revision, listing);
                join?;
            }
            Key::Late { group, client, run } => {
                self.late.put((run, (group, client)), (), revision, listing);
            }
            Key::Delay { .. }
            | Key::Pending { .. }
            | Key::Spread { .. }
            | Key::Snapshot { .. }
            | Key::Execution { .. } => self.put_run(key, kv, live.is_some())?,
            Key::Cancel { group, client, run } => {
                self.cancels.put((run, (group, client)), (), revision, listing);
            }
            Key::User(_) | Key::Token(_) | Key::Session(_) | Key::Audit { .. } => {
                self.access.put(key, &kv.key, &kv.value, revision, listing)?;
            }
            Key::LogLevel(node) => {
                self.log_levels.put(node, read(&kv.value)?, revision, listing);
            }
            // Read by those whom they concern.
            Key::Meta | Key::Answer { .. } | Key::Mark(_) => {}
        }
        Ok(())
    }

    fn put_backfill(&mut self, segment: Segment, job: JobId, kv: &KeyValue) -> Result<(), String> {
        let backfill: Backfill = read(&kv.value)?;
        if backfill.job != job || self.jobs.segment_of(&job) != segment {
            return Err("it is the backfill of another job, or of another segment".into());
        }
        let stored = StoredBackfill { backfill, created: kv.create_revision };
        if self.backfills.put(job.clone(), stored, kv.mod_revision, self.listing) {
            self.touched.backfills.insert(job);
        }
        Ok(())
    }

    fn put_calendar(&mut self, name: &CalendarName, kv: &KeyValue) -> Result<(), String> {
        let read = read::<Calendar>(&kv.value).and_then(|calendar| match calendar.name == *name {
            true => Ok(calendar),
            false => Err(format!("it calls itself {}", calendar.name)),
        });
        let (replanned, result) = match read {
            Ok(calendar) => (self.jobs.put_calendar(calendar, kv.mod_revision, self.listing), Ok(())),
            // What the calendar was before does not count any more.
            Err(reason) => (self.jobs.remove_calendar(name, kv.mod_revision), Err(reason)),
        };
        self.note_replanned(replanned);
        result
    }

    /// Jobs whose calendars changed can be scheduled now, or cannot any more.
    fn note_replanned(&mut self, jobs: Vec<Replanned>) {
        for job in jobs {
            let key = self.keys.job(&job.id);
            match job.problem {
                Some(reason) => self.reject(&key, job.revision, &reason),
                None => self.quarantine.forget(&key),
            }
        }
    }

    fn check_segment(&self, segment: Segment) -> Result<(), String> {
        if self.jobs.has(segment) { Ok(()) } else { Err("this cluster has fewer segments".into()) }
    }

    fn put_node(&mut self, id: NodeId, kv: &KeyValue, live: Option<Now>) -> Result<(), String> {
        let node: Node = read(&kv.value)?;
        if let Some(now) = live {
            let skew_ms = node.wall.as_ms() - now.wall_ms;
            self.heartbeats.insert(id.clone(), Heartbeat { skew_ms, heard: now.boot });
        }
        self.nodes.put(id, node, kv.mod_revision, self.listing);
        Ok(())
    }

    fn put_run(&mut self, key: Key, kv: &KeyValue, live: bool) -> Result<(), String> {
        let mut state = None;
        if let Key::Execution { group, client, run } = &key {
            let read = state.insert(read::<ExecutionState>(&kv.value)?);
            if live {
                self.feed.execution(group, client.as_ref(), run, kv.version, read);
            }
        }
        // The leader knows already what it has written itself.
        if let Key::Delay { run, .. }
        | Key::Pending { run, .. }
        | Key::Spread { run, .. }
        | Key::Snapshot { run, .. }
        | Key::Execution { run, .. } = &key
            && self.runs.has_seen(run, kv.mod_revision, self.listing)
        {
            return Ok(());
        }
        let keep = || Some(kv.value.clone().into_boxed_slice());
        let (group, place, run, value) = match key {
            Key::Delay { segment, due, run } => {
                let delay: Delay = read(&kv.value)?;
                (delay.group, Place::Delayed { segment, due_ms: due.as_ms() }, run, keep())
            }
            Key::Pending { group, run } => {
                let snapshot: Snapshot = read(&kv.value)?;
                (group, Place::pending(&snapshot), run, keep())
            }
            Key::Spread { group, run } => {
                let spread: Spread = read(&kv.value)?;
                (group, Place::Spread { stopping: spread.stopping.is_some() }, run, keep())
            }
            Key::Snapshot { group, client, run } => {
                let snapshot: Snapshot = read(&kv.value)?;
                (group, Place::queued(client, &snapshot), run, keep())
            }
            Key::Execution { group, client, run } => {
                let Some(state) = state else { return Ok(()) };
                if state.status == Status::Running {
                    let client = client.ok_or("it runs, but nowhere")?;
                    (group, Place::Running { client }, run, None)
                } else {
                    if !state.decided {
                        read::<Execution>(&kv.value)?;
                    }
                    let value = if state.decided { self.runs.keep_result(kv.value.clone()) } else { keep() };
                    (group, Place::Ended { client, state }, run, value)
                }
            }
            _ => return Ok(()),
        };
        self.touch_freed(&run, &place);
        let (revision, created, listing) = (kv.mod_revision, kv.create_revision, self.listing);
        self.runs.put(&run, Run { group, place, revision, created, listing, value });
        self.touch_chain_of(&run);
        Ok(())
    }

    /// A job's backfill, and what a job of a fixed delay has planned, is looked at whenever something about it changes.
    fn touch_chain(&mut self, job: &JobId) {
        if self.backfills.get(job).is_some() {
            self.touched.backfills.insert(job.clone());
        }
        if self.jobs.get(job).is_some_and(|job| job.fixed_delay_ms.is_some()) {
            self.touched.jobs.insert(job.clone());
            let runs: Vec<_> = self.runs.of_job(job).cloned().collect();
            runs.iter().for_each(|run| self.runs.mark(run));
        }
    }

    /// The same, of the job whose run changed or went.
    fn touch_chain_of(&mut self, run: &RunId) {
        let followed = self.jobs.has_chains() || self.backfills.len() > 0;
        let Some(job) = followed.then(|| JobId::new(run.job()).ok()).flatten() else { return };
        if self.backfills.get(&job).is_some() {
            self.touched.backfills.insert(job.clone());
        }
        if self.jobs.get(&job).is_some_and(|job| job.fixed_delay_ms.is_some()) {
            self.touched.jobs.insert(job);
        }
    }

    /// A run that leaves a client's hands makes room for one that waits.
    fn touch_freed(&mut self, run: &RunId, to: &Place) {
        let stays = matches!(to, Place::Queued { .. } | Place::Running { .. });
        if let Some(before) = self.runs.get(run)
            && !stays
            && before.seat().is_some()
        {
            self.touched.groups.insert(before.group.clone());
        }
    }

    /// `live`: the stream told of it, and not a listing by leaving the key out.
    fn delete(&mut self, text: &str, revision: i64, live: bool) {
        self.quarantine.forget(text);
        let Some(key) = self.keys.parse(text) else { return };
        if live {
            let before = self.job_before(&key);
            let leader = self.leader.as_ref().map(|leader| (leader.node.as_str(), leader.term));
            self.feed.deleted(&key, before, leader);
        }
        match key {
            Key::Job(id) => {
                if self.jobs.remove(&id, revision) {
                    self.touch_chain(&id);
                    let runs: Vec<_> = self.runs.of_job(&id).cloned().collect();
                    runs.iter().for_each(|run| self.runs.mark(run));
                }
            }
            Key::Leader => {
                if self.leader.as_ref().is_some_and(|known| known.revision < revision) {
                    self.leader = None;
                }
            }
            Key::StepDown => {
                self.step_down.remove(&(), revision);
            }
            Key::Node(id) => {
                self.nodes.remove(&id, revision);
                self.heartbeats.remove(&id);
            }
            Key::Group(name) => {
                self.groups.remove(&name, revision);
            }
            Key::Calendar(name) => {
                let replanned = self.jobs.remove_calendar(&name, revision);
                self.note_replanned(replanned);
            }
            Key::Client { group, client } => {
                let seat = (group, client);
                self.remove_client(seat, revision);
            }
            Key::Drain { group, client } => self.remove_drain((group, client), revision),
            Key::Request { segment, key } => {
                self.requests.remove(&(segment, key), revision);
            }
            Key::Backfill { job, .. } => {
                self.backfills.remove(&job, revision);
            }
            Key::Join { segment, job } if self.jobs.segment_of(&job) == segment => {
                self.joins.remove(&job, revision);
            }
            Key::Late { group, client, run } => {
                self.late.remove(&(run, (group, client)), revision);
            }
            Key::Cancel { group, client, run } => {
                self.cancels.remove(&(run, (group, client)), revision);
            }
            Key::Delay { run, .. } => {
                self.runs.remove(&run, revision, |at| matches!(at, Place::Delayed { .. }));
                self.touch_chain_of(&run);
            }
            Key::Pending { run, .. } => {
                self.runs.remove(&run, revision, |at| matches!(at, Place::Pending { .. }))
            }
            Key::Spread { run, .. } => {
                self.runs.remove(&run, revision, |at| matches!(at, Place::Spread { .. }))
            }
            Key::Snapshot { group, client, run } => {
                let was_there =
                    |at: &Place| matches!(at, Place::Queued { client: known, .. } if *known == client);
                self.runs.remove(&run, revision, was_there);
                self.touched.groups.insert(group);
            }
            Key::Execution { group, client, run } => {
                self.runs.remove(&run, revision, |at| match at {
                    Place::Running { client: known } => Some(known) == client.as_ref(),
                    Place::Ended { client: known, .. } => *known == client,
                    _ => false,
                });
                self.touched.groups.insert(group);
            }
            Key::LogLevel(node) => {
                self.log_levels.remove(&node, revision);
            }
            Key::User(_) | Key::Token(_) | Key::Session(_) | Key::Audit { .. } => {
                self.access.remove(&key, text, revision);
            }
            // Never deleted by us. A leader puts a new cursor, and says that it was missing.
            Key::Cursor(segment) if self.jobs.has(segment) => self.jobs.forget_cursor(segment, revision),
            Key::Jobgen(segment) if self.jobs.has(segment) => self.jobs.forget_jobgen(segment, revision),
            Key::Cursor(_)
            | Key::Jobgen(_)
            | Key::Join { .. }
            | Key::Meta
            | Key::Answer { .. }
            | Key::Mark(_) => {}
        }
    }

    fn remove_client(&mut self, seat: Seat, revision: i64) {
        if let Some(client) = self.clients.remove(&seat, revision) {
            self.touched.vanished.push((seat, client.record.ttl_ms));
        }
    }

    fn job_before(&self, key: &Key) -> Option<Before> {
        let Key::Job(id) = key else { return None };
        let job = self.jobs.get(id)?;
        Some(Before { group: job.group.clone(), enabled: job.enabled })
    }

    /// What a listing shows and the stream has not told yet, it must tell soon.
    fn expect_listed(&mut self, kv: &KeyValue) {
        if !self.feed.is_open() || self.quarantine.has(&kv.key) {
            return;
        }
        let Some(key) = self.keys.parse(&kv.key) else { return };
        let known = match &key {
            Key::Job(id) => self.jobs.get(id).map(|job| job.revision),
            Key::Calendar(name) => self.jobs.calendars().entry(name).map(|entry| entry.revision),
            Key::Group(name) => self.groups.entry(name).map(|entry| entry.revision),
            Key::Node(id) => self.nodes.entry(id).map(|entry| entry.revision),
            Key::Client { group, client } => {
                self.clients.get(&(group.clone(), client.clone())).map(|entry| entry.revision)
            }
            Key::Leader => self.leader.as_ref().map(|leader| leader.revision),
            Key::Delay { run, .. }
            | Key::Pending { run, .. }
            | Key::Spread { run, .. }
            | Key::Snapshot { run, .. }
            | Key::Execution { run, .. } => self.runs.get(run).map(|run| run.revision),
            _ => return,
        };
        if known.is_none_or(|known| known < kv.mod_revision) {
            let before = self.job_before(&key);
            self.feed.expect(kv.key.clone(), kv.mod_revision, before);
        }
    }

    fn remove_drain(&mut self, seat: Seat, revision: i64) {
        if self.drains.remove(&seat, revision).is_some() {
            self.clients.set_drained(&seat, None);
            self.touched.seats.push(seat);
        }
    }

    /// Forgets what the list at `revision` did not name.
    fn sweep(&mut self, revision: i64) {
        let deleted = revision + 1;
        let listing = self.listing;
        for id in self.jobs.stale(listing, revision) {
            let key = self.keys.job(&id);
            let before = self.job_before(&Key::Job(id));
            self.feed.expect(key.clone(), revision, before);
            self.delete(&key, deleted, false);
        }
        for name in self.jobs.calendars().stale(listing, revision) {
            let key = self.keys.calendar(&name);
            self.feed.expect(key.clone(), revision, None);
            self.delete(&key, deleted, false);
        }
        for key in self.access.stale(&self.keys, listing, revision) {
            self.delete(&key, deleted, false);
        }
        for name in self.groups.stale(listing, revision) {
            self.feed.expect(self.keys.group(&name), revision, None);
            self.groups.remove(&name, deleted);
        }
        for id in self.nodes.stale(listing, revision) {
            self.feed.expect(self.keys.node(&id), revision, None);
            self.nodes.remove(&id, deleted);
            self.heartbeats.remove(&id);
        }
        for one in self.step_down.stale(listing, revision) {
            self.step_down.remove(&one, deleted);
        }
        for id in self.log_levels.stale(listing, revision) {
            self.log_levels.remove(&id, deleted);
        }
        for seat in self.clients.stale(listing, revision) {
            self.feed.expect(self.keys.client(&seat.0, &seat.1), revision, None);
            self.remove_client(seat, deleted);
        }
        for seat in self.drains.stale(listing, revision) {
            self.remove_drain(seat, deleted);
        }
        for id in self.requests.stale(listing, revision) {
            self.requests.remove(&id, deleted);
        }
        for id in self.backfills.stale(listing, revision) {
            self.backfills.remove(&id, deleted);
        }
        for job in self.joins.stale(listing, revision) {
            self.joins.remove(&job, deleted);
        }
        for id in self.late.stale(listing, revision) {
            self.late.remove(&id, deleted);
        }
        for id in self.cancels.stale(listing, revision) {
            self.cancels.remove(&id, deleted);
        }
        for run in self.runs.stale(listing, revision) {
            if let Some(known) = self.runs.get(&run) {
                self.touched.groups.insert(known.group.clone());
            }
            self.runs.remove(&run, deleted, |_| true);
            self.touch_chain_of(&run);
        }
        if self.leader_listing != listing
            && self.leader.as_ref().is_some_and(|known| known.revision <= revision)
        {
            self.leader = None;
        }
    }
}

fn read<'a, T: serde::Deserialize<'a>>(value: &'a [u8]) -> Result<T, String> {
    record::decode(value).map_err(|error| error.to_string())
}
