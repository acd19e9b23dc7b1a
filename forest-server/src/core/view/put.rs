//! What is written, or listed, into the tables. A document that cannot be understood goes into quarantine.

use forest_etcd::KeyValue;
use forest_proto::record::{
    self, Backfill, Calendar, ClientRecord, Cursor, Delay, Drain, Execution, ExecutionState, Node, Snapshot,
    Spread, Status,
};
use forest_proto::{CalendarName, JobId, Key, NodeId, Segment};

use super::{Heartbeat, Leadership, Now, StoredBackfill, View};
use crate::core::clients::Client;
use crate::core::feed::Before;
use crate::core::runs::{Place, Run};

impl View {
    /// `live`: the moment at which the write was heard of; `None` when it was listed and may be old.
    pub(super) fn put(&mut self, kv: KeyValue, live: Option<Now>) {
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

    pub(super) fn job_before(&self, key: &Key) -> Option<Before> {
        let Key::Job(id) = key else { return None };
        let job = self.jobs.get(id)?;
        Some(Before { group: job.group.clone(), enabled: job.enabled })
    }

    /// What a listing shows and the stream has not told yet, it must tell soon.
    pub(super) fn expect_listed(&mut self, kv: &KeyValue) {
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
}

fn read<'a, T: serde::Deserialize<'a>>(value: &'a [u8]) -> Result<T, String> {
    record::decode(value).map_err(|error| error.to_string())
}
