//! One mirrored key: its value with the revision it was written at, and the listing that last saw it.
//!
//! The listing mark is how a full list finds what a watch dropped: what the list did not name, and is
//! not newer than the list, is gone.

use std::collections::BTreeMap;

#[derive(Debug, Clone)]
pub(crate) struct Entry<T> {
    pub(crate) value: T,
    /// etcd's mod revision.
    pub(crate) revision: i64,
    pub(crate) listing: u32,
}

/// A table of mirrored keys without indexes of its own.
#[derive(Debug, Clone)]
pub(crate) struct Table<K, T> {
    entries: BTreeMap<K, Entry<T>>,
}

impl<K: Ord + Clone, T> Default for Table<K, T> {
    fn default() -> Self {
        Self { entries: BTreeMap::new() }
    }
}

impl<K: Ord + Clone, T> Table<K, T> {
    pub(crate) fn get(&self, key: &K) -> Option<&T> {
        self.entries.get(key).map(|entry| &entry.value)
    }

    pub(crate) fn entry(&self, key: &K) -> Option<&Entry<T>> {
        self.entries.get(key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &T)> {
        self.entries.iter().map(|(key, entry)| (key, &entry.value))
    }

    pub(crate) fn after(&self, key: Option<&K>) -> impl Iterator<Item = (&K, &T)> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = key.map_or(Unbounded, Excluded);
        self.entries.range((from, Unbounded)).map(|(key, entry)| (key, &entry.value))
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Takes a value unless a newer one is known; says whether it was taken.
    pub(crate) fn put(&mut self, key: K, value: T, revision: i64, listing: u32) -> bool {
        match self.entries.get_mut(&key) {
            Some(entry) if entry.revision >= revision => {
                entry.listing = listing;
                false
            }
            _ => {
                self.entries.insert(key, Entry { value, revision, listing });
                true
            }
        }
    }

    /// Forgets a key deleted at `revision`, unless it was written after.
    pub(crate) fn remove(&mut self, key: &K, revision: i64) -> Option<T> {
        if self.entries.get(key)?.revision >= revision {
            return None;
        }
        self.entries.remove(key).map(|entry| entry.value)
    }

    /// What the listing at `revision` did not name although it should have.
    pub(crate) fn stale(&self, listing: u32, revision: i64) -> Vec<K> {
        let stale = |entry: &Entry<T>| entry.listing != listing && entry.revision <= revision;
        self.entries.iter().filter(|(_, entry)| stale(entry)).map(|(key, _)| key.clone()).collect()
    }
}
