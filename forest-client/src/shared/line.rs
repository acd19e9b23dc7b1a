//! The line in front of one lock, as a watch shows it, and whose turn it is. No I/O.

use std::collections::BTreeMap;

use forest_etcd::{Change, KeyValue};
use forest_proto::{Keyspace, SharedKey};

/// A copy of the keys of one lock, by the rule of [`forest_etcd::watch`].
#[derive(Debug, Default)]
pub(super) struct Line {
    entries: BTreeMap<String, Entry>,
    listing: u32,
    /// Whether a listing was complete; before that nothing can be concluded.
    pub(super) complete: bool,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    created: i64,
    modified: i64,
    listing: u32,
}

/// What somebody in the line should do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Others are first, or the lock is held.
    Wait,
    /// Nobody holds it and nobody came earlier.
    Take,
    /// The holder's own lease has ended: remove what is left of it. `session` is the revision of the other key
    /// as it was seen; 0 = absent.
    Sweep { holder: i64, session: i64 },
    /// One's own place in the line is gone.
    Lost,
}

impl Line {
    pub(super) fn of(items: Vec<KeyValue>) -> Self {
        let mut line = Self { complete: true, ..Self::default() };
        items.into_iter().for_each(|kv| line.put(kv));
        line
    }

    pub(super) fn apply(&mut self, change: Change) {
        match change {
            Change::Reset => {
                self.entries.clear();
                self.complete = false;
            }
            Change::ListStarted => self.listing += 1,
            Change::Listed(kv) | Change::Put(kv) => self.put(kv),
            Change::Deleted { key, revision } => {
                if self.entries.get(&key).is_some_and(|entry| entry.modified < revision) {
                    self.entries.remove(&key);
                }
            }
            Change::ListEnded { revision } => {
                let listing = self.listing;
                self.entries.retain(|_, entry| entry.listing == listing || entry.modified > revision);
                self.complete = true;
            }
            Change::Gap | Change::Progress { .. } => {}
        }
    }

    fn put(&mut self, kv: KeyValue) {
        let listing = self.listing;
        let entry = self.entries.entry(kv.key).or_insert(Entry { created: 0, modified: 0, listing });
        if kv.mod_revision > entry.modified {
            (entry.created, entry.modified) = (kv.create_revision, kv.mod_revision);
        }
        entry.listing = listing;
    }

    /// `ticket`: one's own place in the line; `None` for somebody who only looks whether there is a line.
    pub(super) fn turn(&self, keys: &Keyspace, ticket: Option<i64>) -> Turn {
        let (mut holder, mut session, mut first) = (None, 0, i64::MAX);
        for (key, entry) in &self.entries {
            match keys.parse_shared(key) {
                Some((_, SharedKey::LockHolder { .. })) => holder = Some(entry.created),
                Some((_, SharedKey::LockSession { .. })) => session = entry.modified,
                Some((_, SharedKey::LockTicket { .. })) => first = first.min(entry.created),
                _ => {}
            }
        }
        let is_here = |ticket| self.entries.values().any(|entry| entry.created == ticket);
        match (ticket, holder) {
            (Some(ticket), _) if !is_here(ticket) => Turn::Lost,
            (Some(ticket), _) if first < ticket => Turn::Wait,
            (None, _) if first < i64::MAX => Turn::Wait,
            (_, None) => Turn::Take,
            (_, Some(holder)) if holder == session => Turn::Wait,
            (_, Some(holder)) => Turn::Sweep { holder, session },
        }
    }
}

#[cfg(test)]
mod tests {
    use forest_proto::{GroupName, SharedName};

    use super::*;

    const HOLDER: &str = "holder";
    const SESSION: &str = "session";

    /// `what`: a ticket's number, or one of the two words.
    fn kv(what: &str, created: i64, modified: i64) -> KeyValue {
        let (keys, group) = (Keyspace::default(), GroupName::new("trade").unwrap());
        let lock = SharedName::new("ledger").unwrap();
        let key = match what {
            HOLDER => keys.lock_holder(&group, &lock),
            SESSION => keys.lock_session(&group, &lock),
            ticket => keys.lock_ticket(&group, &lock, ticket.parse().unwrap()),
        };
        KeyValue {
            key,
            value: vec![],
            create_revision: created,
            mod_revision: modified,
            version: 1,
            lease: 0,
        }
    }

    fn turn(entries: &[(&str, i64, i64)], ticket: Option<i64>) -> Turn {
        let items = entries.iter().map(|(what, created, modified)| kv(what, *created, *modified)).collect();
        Line::of(items).turn(&Keyspace::default(), ticket)
    }

    #[test]
    fn the_first_in_line_takes_a_free_lock_and_nobody_else() {
        let line = [("9", 5, 5), ("1", 7, 7), (SESSION, 2, 3)];
        assert_eq!(turn(&line, Some(5)), Turn::Take);
        assert_eq!(turn(&line, Some(7)), Turn::Wait);
        assert_eq!(turn(&line, None), Turn::Wait, "somebody is in line");
        assert_eq!(turn(&[(SESSION, 2, 3)], None), Turn::Take);
        assert_eq!(turn(&[], None), Turn::Take);
        assert_eq!(turn(&line, Some(6)), Turn::Lost);
    }

    #[test]
    fn a_lock_is_held_as_long_as_both_of_its_keys_are_there() {
        let held = [(HOLDER, 9, 9), (SESSION, 2, 9), ("1", 10, 10)];
        assert_eq!(turn(&held, Some(10)), Turn::Wait);
        assert_eq!(turn(&held[1..], Some(10)), Turn::Take, "the limit has ended it");
        let left = [(HOLDER, 9, 9), ("1", 10, 10), ("2", 11, 11)];
        assert_eq!(turn(&left, Some(10)), Turn::Sweep { holder: 9, session: 0 });
        assert_eq!(turn(&left, Some(11)), Turn::Wait, "only the first in line cleans up");
    }

    #[test]
    fn changes_are_followed_and_old_ones_change_nothing() {
        let keys = Keyspace::default();
        let mut line = Line::default();
        line.apply(Change::ListStarted);
        line.apply(Change::Listed(kv(HOLDER, 4, 4)));
        line.apply(Change::Listed(kv(SESSION, 4, 4)));
        assert!(!line.complete);
        line.apply(Change::ListEnded { revision: 5 });
        assert!(line.complete);
        assert_eq!(line.turn(&keys, None), Turn::Wait);
        line.apply(Change::Deleted { key: kv(HOLDER, 0, 0).key, revision: 4 });
        assert_eq!(line.turn(&keys, None), Turn::Wait, "that was before");
        line.apply(Change::Deleted { key: kv(HOLDER, 0, 0).key, revision: 6 });
        assert_eq!(line.turn(&keys, None), Turn::Take);
        line.apply(Change::Put(kv("1", 7, 7)));
        line.apply(Change::ListStarted);
        line.apply(Change::ListEnded { revision: 7 });
        assert_eq!(line.turn(&keys, None), Turn::Take, "the listing does not show it any more");
    }
}
