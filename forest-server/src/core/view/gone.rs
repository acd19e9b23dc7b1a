//! What is deleted, or no longer listed, out of the tables.

use forest_proto::Key;

use super::View;
use crate::core::clients::Seat;
use crate::core::runs::Place;

impl View {
    /// `live`: the stream told of it, and not a listing by leaving the key out.
    pub(super) fn delete(&mut self, text: &str, revision: i64, live: bool) {
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

    fn remove_drain(&mut self, seat: Seat, revision: i64) {
        if self.drains.remove(&seat, revision).is_some() {
            self.clients.set_drained(&seat, None);
            self.touched.seats.push(seat);
        }
    }

    /// Forgets what the list at `revision` did not name.
    pub(super) fn sweep(&mut self, revision: i64) {
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
