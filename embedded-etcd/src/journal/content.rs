//! What a file says, and what it must say.

use std::time::Duration;

use super::record::{Keys, Record};
use crate::lease::Leases;
use crate::mvcc::{Mvcc, Version};
use crate::span::Span;

/// Keys of one record of a file that is written anew.
const KEYS_A_RECORD: usize = 1_000;

/// What the records up to one say.
pub(super) struct Content {
    /// The keys that were alive at the compacted revision, until the first change is seen.
    alive: Option<(i64, Keys)>,
    mvcc: Option<Mvcc>,
    leases: Leases,
    now: Duration,
}

impl Content {
    /// Of an empty file. Leases begin now.
    pub(super) fn new(now: Duration) -> Self {
        Self { alive: None, mvcc: None, leases: Leases::default(), now }
    }

    /// `None` if a record cannot come where it does.
    pub(super) fn apply(&mut self, record: Record) -> Option<()> {
        match record {
            Record::Changed { revision, keys } => {
                let mvcc = self.mvcc();
                let is_first = revision == mvcc.compacted() && revision == mvcc.revision();
                let is_next = revision == mvcc.revision() + 1;
                (is_first || is_next).then(|| mvcc.replay(revision, keys))?;
            }
            Record::Granted { id, ttl } => self.leases.restore(id, ttl, self.now),
            Record::Revoked { id } => drop(self.leases.remove(id)?),
            Record::Compacted { revision } => self.mvcc().compact(revision).ok()?,
            Record::Alive { compacted, mut keys } => {
                if self.mvcc.is_some() {
                    return None;
                }
                self.alive.get_or_insert_with(|| (compacted, Vec::new())).1.append(&mut keys);
            }
        }
        Some(())
    }

    fn mvcc(&mut self) -> &mut Mvcc {
        let alive = &mut self.alive;
        self.mvcc.get_or_insert_with(|| match alive.take() {
            Some((compacted, keys)) => Mvcc::restore(compacted, keys.into_iter()),
            None => Mvcc::new(),
        })
    }

    pub(super) fn restore(mut self) -> (Mvcc, Leases) {
        self.mvcc();
        let (mvcc, mut leases) = (self.mvcc.unwrap_or_else(Mvcc::new), self.leases);
        for (key, _, live) in mvcc.range(&Span::everything(), mvcc.revision()) {
            leases.move_key(key, 0, live.lease);
        }
        (mvcc, leases)
    }
}

/// All that a reader needs to have the same store: the leases, what is alive at the compacted revision, and the
/// revisions since, that one included, which may still be asked for.
pub(super) fn everything<'a>(mvcc: &'a Mvcc, leases: &'a Leases) -> impl Iterator<Item = Record> + 'a {
    // One that has ended tells which id was given last.
    let last_id = leases.last_id();
    let ended = [Record::Granted { id: last_id, ttl: 0 }, Record::Revoked { id: last_id }];
    let granted = leases.ids().filter_map(|id| Some(Record::Granted { id, ttl: leases.get(id)?.ttl }));
    let compacted = mvcc.compacted();
    let alive: Keys = mvcc
        .range(&Span::everything(), compacted)
        .map(|(key, revision, live)| (key.to_vec(), Version { revision, live: Some(live.clone()) }))
        .collect();
    // An empty one says since when.
    let last = (compacted >= 0).then(|| Record::Alive { compacted, keys: Vec::new() });
    let parts: Vec<Record> =
        alive.chunks(KEYS_A_RECORD).map(|keys| Record::Alive { compacted, keys: keys.to_vec() }).collect();
    let changed = mvcc.since(compacted).into_iter().flatten();
    let changed = changed.map(|(revision, changes)| Record::changed(*revision, changes));
    ended.into_iter().chain(granted).chain(parts).chain(last).chain(changed)
}
