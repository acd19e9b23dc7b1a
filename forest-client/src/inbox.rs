//! The snapshots that were given to this client and can be claimed, oldest fire first.
//!
//! A copy of a range of keys, kept by the changes of a watch. It may be out of date in either direction:
//! the guards of the claim decide. What this worker cannot execute (another target, a document that cannot
//! be read) never gets in and stays untouched in etcd: the server moves it elsewhere.

use std::collections::{BTreeMap, HashSet};

use forest_etcd::{Change, KeyValue};
use forest_proto::record::{Snapshot, decode};
use forest_proto::time::Instant;
use forest_proto::{GroupName, Key, Keyspace, RunId};

use crate::claim::Offer;
use crate::handler::Handlers;

/// At most so many wait here. The server gives a client no more than its capacity; what is beyond this is
/// found again by a later listing.
const MAX_WAITING: usize = 10_000;
/// Of at most so many keys it is remembered that they were complained about.
const MAX_COMPLAINTS: usize = 1_000;

pub(crate) struct Inbox {
    keys: Keyspace,
    group: GroupName,
    handlers: Handlers,
    /// Run ids sort by fire time.
    waiting: BTreeMap<RunId, Offer>,
    /// What the listing under way has shown.
    listed: HashSet<RunId>,
    complaints: HashSet<String>,
}

impl Inbox {
    pub(crate) fn new(keys: Keyspace, group: GroupName, handlers: Handlers) -> Self {
        let (waiting, listed, complaints) = Default::default();
        Self { keys, group, handlers, waiting, listed, complaints }
    }

    pub(crate) fn apply(&mut self, change: Change) {
        match change {
            Change::Reset => self.waiting.clear(),
            Change::ListStarted => self.listed.clear(),
            Change::Listed(kv) => {
                if let Some(run) = self.run_of(&kv.key) {
                    self.listed.insert(run);
                }
                self.offer(kv);
            }
            Change::ListEnded { revision } => {
                let listed = std::mem::take(&mut self.listed);
                self.waiting.retain(|run, offer| listed.contains(run) || offer.revision > revision);
            }
            Change::Put(kv) => self.offer(kv),
            Change::Deleted { key, revision } => {
                self.complaints.remove(&key);
                let Some(run) = self.run_of(&key) else { return };
                if self.waiting.get(&run).is_some_and(|offer| revision > offer.revision) {
                    self.waiting.remove(&run);
                }
            }
            Change::Gap | Change::Progress { .. } => {}
        }
    }

    /// The next one to claim. Leaves out what is not worth starting any more: the server ends it.
    pub(crate) fn take(&mut self, now: Instant) -> Option<Offer> {
        loop {
            let (run, offer) = self.waiting.pop_first()?;
            match offer.snapshot.start_deadline {
                Some(deadline) if deadline <= now => {
                    tracing::debug!(%run, %deadline, "not claimed: too late");
                }
                _ => return Some(offer),
            }
        }
    }

    /// Offers again what was taken and could not be claimed yet.
    pub(crate) fn put_back(&mut self, run: RunId, offer: Offer) {
        self.waiting.entry(run).or_insert(offer);
    }

    fn offer(&mut self, kv: KeyValue) {
        let Some(run) = self.run_of(&kv.key) else { return self.complain(kv.key, "is no snapshot's key") };
        if self.waiting.get(&run).is_some_and(|known| known.revision >= kv.mod_revision) {
            return;
        }
        match self.read(&run, &kv.value) {
            Ok(snapshot) => {
                self.waiting.insert(run, Offer { snapshot, revision: kv.mod_revision });
                if self.waiting.len() > MAX_WAITING {
                    self.waiting.pop_last();
                }
            }
            Err(reason) => self.complain(kv.key, &reason),
        }
    }

    fn read(&self, run: &RunId, value: &[u8]) -> Result<Snapshot, String> {
        let snapshot: Snapshot = decode(value).map_err(|e| format!("cannot be read: {e}"))?;
        if snapshot.id != *run || snapshot.group != self.group {
            return Err(format!("holds run {} of group {}", snapshot.id, snapshot.group));
        }
        if !self.handlers.contains_key(&snapshot.target) {
            return Err(format!("is for target {}, which is not served here", snapshot.target));
        }
        Ok(snapshot)
    }

    fn run_of(&self, key: &str) -> Option<RunId> {
        match self.keys.parse(key)? {
            Key::Snapshot { run, .. } => Some(run),
            _ => None,
        }
    }

    /// Once for each key, however often it is listed.
    fn complain(&mut self, key: String, reason: &str) {
        if self.complaints.len() < MAX_COMPLAINTS && !self.complaints.contains(&key) {
            tracing::warn!(key, reason, "a snapshot is left to the server");
            self.complaints.insert(key);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use forest_proto::record::encode;
    use forest_proto::{ClientId, TargetName};

    use super::*;
    use crate::context::JobContext;
    use crate::handler::{AnyHandler, boxed, tests::snapshot};

    async fn nothing(_: JobContext) -> Result<(), String> {
        Ok(())
    }

    fn inbox() -> Inbox {
        let handlers = [(TargetName::new("pay").unwrap(), AnyHandler::Async(boxed(nothing)))].into();
        Inbox::new(Keyspace::default(), GroupName::new("trade").unwrap(), Arc::new(handlers))
    }

    fn run(second: u32) -> String {
        format!("202611181106{second:02}000-j1-1")
    }

    fn key(second: u32) -> String {
        let (group, client) = (GroupName::new("trade").unwrap(), ClientId::new("c-1").unwrap());
        Keyspace::default().snapshot(&group, &client, &run(second).parse().unwrap())
    }

    fn kv(second: u32, revision: i64, snapshot: &Snapshot) -> KeyValue {
        let (key, value) = (key(second), encode(snapshot));
        KeyValue { key, value, create_revision: revision, mod_revision: revision, version: 1, lease: 0 }
    }

    fn put(second: u32, revision: i64) -> Change {
        Change::Put(kv(second, revision, &snapshot(&run(second), "pay", "")))
    }

    fn listed(second: u32, revision: i64) -> Change {
        Change::Listed(kv(second, revision, &snapshot(&run(second), "pay", "")))
    }

    /// What is left after the changes: the seconds and revisions of the offers, in the order of claims.
    fn left(changes: impl IntoIterator<Item = Change>) -> Vec<(String, i64)> {
        let mut inbox = inbox();
        changes.into_iter().for_each(|change| inbox.apply(change));
        std::iter::from_fn(|| inbox.take(Instant::from_ms(0)))
            .map(|offer| (offer.snapshot.id.as_str()[12..14].to_owned(), offer.revision))
            .collect()
    }

    fn offers(expected: &[(&str, i64)]) -> Vec<(String, i64)> {
        expected.iter().map(|(second, revision)| ((*second).to_owned(), *revision)).collect()
    }

    #[test]
    fn the_oldest_fire_comes_first() {
        assert_eq!(left([put(30, 1), put(10, 2), put(20, 3)]), offers(&[("10", 2), ("20", 3), ("30", 1)]));
    }

    #[test]
    fn a_listing_removes_what_it_does_not_show_and_nothing_newer() {
        let changes = [
            put(10, 1),
            put(20, 2),
            Change::ListStarted,
            listed(20, 2),
            put(30, 7),
            Change::ListEnded { revision: 5 },
        ];
        assert_eq!(left(changes), offers(&[("20", 2), ("30", 7)]));
    }

    #[test]
    fn an_unfinished_listing_vouches_for_nothing() {
        let changes = [
            Change::ListStarted,
            listed(10, 1),
            Change::ListStarted,
            listed(20, 2),
            Change::ListEnded { revision: 5 },
        ];
        assert_eq!(left(changes), offers(&[("20", 2)]));
    }

    #[test]
    fn what_is_older_changes_nothing() {
        let deleted = |second, revision| Change::Deleted { key: key(second), revision };
        assert_eq!(left([put(10, 5), listed(10, 4), deleted(10, 3)]), offers(&[("10", 5)]));
        assert_eq!(left([put(10, 5), deleted(10, 6)]), offers(&[]));
        assert_eq!(left([put(10, 5), Change::Reset, put(20, 1)]), offers(&[("20", 1)]));
    }

    #[test]
    fn what_cannot_be_executed_here_is_never_offered() {
        let other_target = Change::Put(kv(10, 1, &snapshot(&run(10), "mail", "")));
        let other_run = Change::Put(kv(11, 2, &snapshot(&run(12), "pay", "")));
        let broken =
            Change::Put(KeyValue { value: b"{}".into(), ..kv(13, 3, &snapshot(&run(13), "pay", "")) });
        let no_key =
            Change::Put(KeyValue { key: "/forest/x".into(), ..kv(14, 4, &snapshot(&run(14), "pay", "")) });
        assert_eq!(left([other_target, other_run, broken, no_key, put(15, 5)]), offers(&[("15", 5)]));
    }

    #[test]
    fn what_is_past_its_start_deadline_is_left_to_the_server() {
        let at = |second: i64| Instant::from_ms(1_795_000_000_000 + second * 1000);
        let mut late = snapshot(&run(10), "pay", "");
        late.start_deadline = Some(at(0));
        let mut inbox = inbox();
        inbox.apply(Change::Put(kv(10, 1, &late)));
        inbox.apply(put(20, 2));
        assert_eq!(inbox.take(at(0)).map(|offer| offer.revision), Some(2));
        assert_eq!(inbox.take(at(0)), None);
    }

    #[test]
    fn what_is_put_back_is_offered_again_unless_something_newer_came() {
        let mut inbox = inbox();
        inbox.apply(put(10, 1));
        let offer = inbox.take(Instant::from_ms(0)).unwrap();
        let id = offer.snapshot.id.clone();
        inbox.put_back(id.clone(), offer.clone());
        assert_eq!(inbox.take(Instant::from_ms(0)).map(|offer| offer.revision), Some(1));
        inbox.apply(put(10, 7));
        inbox.put_back(id, offer);
        assert_eq!(inbox.take(Instant::from_ms(0)).map(|offer| offer.revision), Some(7));
    }
}
