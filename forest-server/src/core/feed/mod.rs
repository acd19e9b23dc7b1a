//! What happened, in the words of those who use the cluster, made of the changes of our keys as they come in.
//!
//! Owns the ids: revision, and twice the change's place within it, so that every node gives the same event the same
//! id, whatever it knows beside. What a listing shows is no event. Where changes may be missing, [`Fresh::floor`]
//! says so: after a gap in the stream, and when a listing beside the stream shows what the stream should have told
//! and has not.

mod event;

use std::collections::BTreeMap;
use std::sync::Arc;

use forest_etcd::KeyValue;
use forest_proto::record::{ExecutionState, JobStatus, Status, decode};
use forest_proto::{ClientId, GroupName, JobId, Key, RunId};
use serde::Deserialize;

pub(crate) use event::{About, Event, EventId, Kind};

/// Events that may wait to be taken; more count as a gap.
pub(crate) const MAX_FRESH: usize = 20_000;

/// What came in since the last look.
#[derive(Debug, Default)]
pub(crate) struct Fresh {
    /// Changes up to this revision may be missing; later ones are not.
    pub(crate) floor: Option<i64>,
    pub(crate) events: Vec<Arc<Event>>,
    /// Everything up to this revision has been told.
    pub(crate) seen: i64,
}

/// What a job was before.
#[derive(Debug, Clone)]
pub(crate) struct Before {
    pub(crate) group: GroupName,
    pub(crate) enabled: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Feed {
    /// Whether the stream has gone on without a gap since a listing.
    open: bool,
    floor: Option<i64>,
    fresh: Vec<Arc<Event>>,
    seen: i64,
    /// Of the change that is looked at: its place in its revision, when it was heard of, whether it counts.
    place: u32,
    at_ms: i64,
    counts: bool,
    /// Runs whose keys were deleted in this revision: what comes of them has not been created by it.
    gone: Vec<RunId>,
    /// What a listing showed before the stream did, with what was there before.
    awaited: BTreeMap<String, Option<Before>>,
    /// The stream must have told all of them by the end of this revision.
    awaited_by: i64,
    before: Option<Before>,
}

/// The part of a job that is told. The rest of the document may be as it likes.
#[derive(Deserialize)]
struct JobHead {
    #[serde(default)]
    name: Option<String>,
    group: GroupName,
    #[serde(default)]
    status: JobStatus,
    #[serde(default)]
    version: u64,
}

#[derive(Deserialize)]
struct DelayHead {
    group: GroupName,
}

impl Feed {
    /// Whether there is anybody whom a listing could surprise.
    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    /// Changes are missing; a listing follows.
    pub(crate) fn close(&mut self) {
        self.open = false;
        self.awaited.clear();
    }

    /// As [`close`](Self::close), and revisions begin anew.
    pub(crate) fn restart(&mut self) {
        self.close();
        self.seen = 0;
    }

    /// A listing shows everything up to `revision`.
    pub(crate) fn listed(&mut self, revision: i64) {
        if !self.open {
            self.open = true;
            self.seen = revision;
            self.lose(revision);
        }
    }

    /// Nothing else has happened up to `revision`.
    pub(crate) fn progress(&mut self, revision: i64) {
        self.pass(revision + 1);
        self.seen = self.seen.max(revision);
    }

    /// A listing shows that this key was changed at `by` or before. If the stream does not tell of it, something is
    /// missing.
    pub(crate) fn expect(&mut self, key: String, by: i64, before: Option<Before>) {
        if self.open {
            self.awaited.insert(key, before);
            self.awaited_by = self.awaited_by.max(by);
        }
    }

    /// A change begins. Those that come twice don't count.
    pub(crate) fn begin(&mut self, key: &str, revision: i64, at_ms: i64) {
        self.pass(revision);
        self.counts = self.open && revision >= self.seen;
        if !self.counts {
            return;
        }
        if revision > self.seen {
            (self.seen, self.place) = (revision, 0);
            self.gone.clear();
        } else {
            self.place += 1;
        }
        self.at_ms = at_ms;
        self.before = if self.awaited.is_empty() { None } else { self.awaited.remove(key).flatten() };
    }

    /// The stream has told all of what is before `revision`.
    fn pass(&mut self, revision: i64) {
        if !self.awaited.is_empty() && revision > self.awaited_by {
            tracing::warn!(missing = self.awaited.len(), "the watch has dropped changes: readers begin anew");
            self.awaited.clear();
            self.lose(revision - 1);
        }
    }

    /// Readers have to begin anew from `floor`.
    fn lose(&mut self, floor: i64) {
        self.fresh.clear();
        self.floor = Some(floor);
    }

    fn add(&mut self, kind: Kind, group: Option<&GroupName>, about: About) {
        self.push(1, kind, group.cloned(), about);
    }

    fn push(&mut self, half: u32, kind: Kind, group: Option<GroupName>, about: About) {
        if self.fresh.len() >= MAX_FRESH {
            self.lose(self.seen);
        }
        let id = EventId { revision: self.seen, index: self.place * 2 + half };
        self.fresh.push(Arc::new(Event { id, at_ms: self.at_ms, kind, group, about }));
    }

    /// Everything since the last time.
    pub(crate) fn take(&mut self) -> Fresh {
        let events = std::mem::take(&mut self.fresh);
        Fresh { floor: self.floor.take().filter(|_| self.open), events, seen: self.seen }
    }

    /// A key was put. `before`: what is known of a job before that. Executions have a
    /// [way of their own](Self::execution).
    pub(crate) fn put(&mut self, key: &Key, kv: &KeyValue, before: Option<Before>) {
        if !self.counts {
            return;
        }
        let new = kv.version == 1;
        let either = |created, updated| if new { created } else { updated };
        match key {
            Key::Job(id) => self.put_job(id, kv, before),
            Key::Group(name) => {
                self.add(either(Kind::GroupCreated, Kind::GroupUpdated), Some(name), About::Group);
            }
            Key::Calendar(name) => {
                let about = About::Calendar(name.clone());
                self.add(either(Kind::CalendarCreated, Kind::CalendarUpdated), None, about);
            }
            Key::Client { group, client } => {
                let about = About::Client(client.clone());
                self.add(either(Kind::ClientJoined, Kind::ClientUpdated), Some(group), about);
            }
            Key::Node(node) if new => self.add(Kind::NodeJoined, None, About::Node(node.clone())),
            Key::Leader if new => {
                let node = String::from_utf8_lossy(&kv.value).into();
                self.add(Kind::LeaderChanged, None, About::Leader { node, term: kv.create_revision });
            }
            Key::Delay { run, .. } if new => {
                let group = decode::<DelayHead>(&kv.value).ok().map(|head| head.group);
                self.come(run, group, None, "delayed");
            }
            Key::Pending { group, run } if new => self.come(run, Some(group.clone()), None, "pending"),
            Key::Spread { group, run } if new => self.come(run, Some(group.clone()), None, "running"),
            Key::Snapshot { group, client, run } if new => {
                self.come(run, Some(group.clone()), Some(client), "queued");
            }
            Key::Cancel { group, client, run } if new => {
                let about = run_at(run, Some(client), "running");
                self.add(Kind::RunCancelling, Some(group), about);
            }
            _ => {}
        }
    }

    fn put_job(&mut self, id: &JobId, kv: &KeyValue, before: Option<Before>) {
        let before = self.before.take().or(before);
        let head = decode::<JobHead>(&kv.value).ok();
        let about = |head: Option<&JobHead>| About::Job {
            id: id.clone(),
            name: head.and_then(|head| head.name.as_deref()).unwrap_or_default().into(),
            version: head.map_or(0, |head| head.version),
            enabled: head.is_some_and(|head| head.status == JobStatus::Enabled),
        };
        let (Some(head), false) = (&head, kv.version == 1) else {
            let kind = if kv.version == 1 { Kind::JobCreated } else { Kind::JobUpdated };
            return self.add(kind, head.as_ref().map(|head| &head.group), about(head.as_ref()));
        };
        if let Some(before) = before.as_ref().filter(|before| before.group != head.group) {
            self.push(0, Kind::JobLeft, Some(before.group.clone()), about(Some(head)));
        }
        let kind = match (before.map(|before| before.enabled), head.status == JobStatus::Enabled) {
            (Some(true), false) => Kind::JobPaused,
            (Some(false), true) => Kind::JobResumed,
            _ => Kind::JobUpdated,
        };
        self.add(kind, Some(&head.group), about(Some(head)));
    }

    /// A run is somewhere now, before its start.
    fn come(
        &mut self,
        run: &RunId,
        group: Option<GroupName>,
        client: Option<&ClientId>,
        state: &'static str,
    ) {
        let kind = if self.gone.contains(run) { Kind::RunMoved } else { Kind::RunCreated };
        self.push(1, kind, group, run_at(run, client, state));
    }

    /// The document of a run that was claimed or has ended was put. An end counts once it is settled: that is
    /// written once.
    pub(crate) fn execution(
        &mut self,
        group: &GroupName,
        client: Option<&ClientId>,
        run: &RunId,
        version: i64,
        state: &ExecutionState,
    ) {
        match state.status {
            _ if !self.counts => {}
            Status::Running if version == 1 => {
                self.add(Kind::RunClaimed, Some(group), run_at(run, client, "running"));
            }
            Status::Running => {}
            _ if !state.decided => {}
            _ => {
                let (outcome, duration_ms) = (state.outcome(), state.duration_ms);
                let (run, client) = (run.clone(), client.cloned());
                let about = About::Run { run, client, state: "finished", outcome, duration_ms };
                self.add(Kind::RunEnded, Some(group), about);
            }
        }
    }

    /// A key was deleted. `before`: what is known of a job; `leader`: who led in which term.
    pub(crate) fn deleted(&mut self, key: &Key, before: Option<Before>, leader: Option<(&str, i64)>) {
        if !self.counts {
            return;
        }
        match key {
            Key::Job(id) => {
                let before = self.before.take().or(before);
                let about = About::Job { id: id.clone(), name: "".into(), version: 0, enabled: false };
                self.add(Kind::JobDeleted, before.as_ref().map(|before| &before.group), about);
            }
            Key::Group(name) => self.add(Kind::GroupDeleted, Some(name), About::Group),
            Key::Calendar(name) => self.add(Kind::CalendarDeleted, None, About::Calendar(name.clone())),
            Key::Client { group, client } => {
                self.add(Kind::ClientLeft, Some(group), About::Client(client.clone()));
            }
            Key::Node(node) => self.add(Kind::NodeLeft, None, About::Node(node.clone())),
            Key::Leader => {
                let (node, term) = leader.unwrap_or_default();
                self.add(Kind::LeaderLeft, None, About::Leader { node: node.into(), term });
            }
            Key::Delay { run, .. }
            | Key::Pending { run, .. }
            | Key::Spread { run, .. }
            | Key::Snapshot { run, .. } => self.gone.push(run.clone()),
            _ => {}
        }
    }
}

fn run_at(run: &RunId, client: Option<&ClientId>, state: &'static str) -> About {
    About::Run { run: run.clone(), client: client.cloned(), state, outcome: None, duration_ms: 0 }
}
