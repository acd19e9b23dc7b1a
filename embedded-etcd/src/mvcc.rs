//! All keys with their history: what they were at every revision that was not compacted.
//!
//! The changes of one revision are written one after the other and made known together by [`Mvcc::commit`]. Whoever
//! writes has checked before that nothing can fail.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use etcd_client::proto::PbKeyValue;

use crate::fault::Fault;
use crate::span::Span;

/// As etcd says it: nothing was compacted, so that even 0 can be.
const NOTHING_COMPACTED: i64 = -1;
/// The changes of so many revisions are kept for those who watch already, even if they were compacted. etcd has
/// them in the buffers of its streams.
const KEPT_FOR_WATCHES: i64 = 1_000;

/// A key at a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) revision: i64,
    /// `None`: deleted.
    pub(crate) live: Option<Live>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Live {
    pub(crate) value: Arc<[u8]>,
    pub(crate) create_revision: i64,
    pub(crate) version: i64,
    pub(crate) lease: i64,
}

/// One key changed in a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) key: Arc<[u8]>,
    pub(crate) after: Version,
}

#[derive(Debug)]
pub(crate) struct Mvcc {
    keys: BTreeMap<Arc<[u8]>, Vec<Version>>,
    log: VecDeque<(i64, Vec<Change>)>,
    /// From here on, the log has every revision.
    logged_from: i64,
    revision: i64,
    compacted: i64,
    /// Changes of the revision that is being written.
    open: Vec<Change>,
}

impl Live {
    fn message(&self, key: &[u8], mod_revision: i64) -> PbKeyValue {
        PbKeyValue {
            key: key.to_vec(),
            value: self.value.to_vec(),
            create_revision: self.create_revision,
            mod_revision,
            version: self.version,
            lease: self.lease,
        }
    }
}

impl Version {
    /// As it is told to clients; of a deleted key there is only the key and the revision.
    pub(crate) fn message(&self, key: &[u8]) -> PbKeyValue {
        match &self.live {
            Some(live) => live.message(key, self.revision),
            None => PbKeyValue { key: key.to_vec(), mod_revision: self.revision, ..PbKeyValue::default() },
        }
    }

    pub(crate) fn lease(&self) -> i64 {
        self.live.as_ref().map_or(0, |live| live.lease)
    }
}

impl Mvcc {
    /// An empty etcd is at revision 1.
    pub(crate) fn new() -> Self {
        Self {
            keys: BTreeMap::new(),
            log: VecDeque::new(),
            logged_from: NOTHING_COMPACTED,
            revision: 1,
            compacted: NOTHING_COMPACTED,
            open: Vec::new(),
        }
    }

    pub(crate) fn revision(&self) -> i64 {
        self.revision
    }

    pub(crate) fn compacted(&self) -> i64 {
        self.compacted
    }

    /// The revision that a change at hand gets.
    pub(crate) fn next(&self) -> i64 {
        self.revision + 1
    }

    /// The newest revision, the one that is being written included.
    pub(crate) fn newest(&self) -> i64 {
        if self.open.is_empty() { self.revision } else { self.next() }
    }

    /// What a request that asks for this revision reads at; 0 means the newest.
    pub(crate) fn check_revision(&self, revision: i64) -> Result<i64, Fault> {
        match revision {
            ..=0 => Ok(self.newest()),
            _ if revision > self.newest() => Err(Fault::FutureRevision),
            _ if revision < self.compacted => Err(Fault::Compacted),
            _ => Ok(revision),
        }
    }

    /// The keys of a range that exist at a revision, in their order.
    pub(crate) fn range<'a>(
        &'a self,
        span: &'a Span,
        revision: i64,
    ) -> impl Iterator<Item = (&'a Arc<[u8]>, i64, &'a Live)> {
        let found = span.bounds().map(|bounds| self.keys.range::<[u8], _>(bounds)).into_iter().flatten();
        found.filter_map(move |(key, versions)| {
            let version = at(versions, revision)?;
            Some((key, version.revision, version.live.as_ref()?))
        })
    }

    /// A key as it is now, the open changes included.
    pub(crate) fn get(&self, key: &[u8]) -> Option<&Version> {
        self.get_at(key, i64::MAX)
    }

    /// A key as it was at a revision that is not compacted.
    pub(crate) fn get_at(&self, key: &[u8], revision: i64) -> Option<&Version> {
        at(self.keys.get(key)?, revision).filter(|version| version.live.is_some())
    }

    /// Writes a key in the open revision; what it was, if it existed.
    pub(crate) fn put(&mut self, key: &[u8], value: Arc<[u8]>, lease: i64) -> Option<Version> {
        let revision = self.next();
        let before = self.get(key).cloned();
        let earlier = before.as_ref().and_then(|version| version.live.as_ref());
        let live = Live {
            value,
            create_revision: earlier.map_or(revision, |live| live.create_revision),
            version: earlier.map_or(1, |live| live.version + 1),
            lease,
        };
        self.write(key, Version { revision, live: Some(live) });
        before
    }

    /// Deletes a key in the open revision; what it was.
    pub(crate) fn delete(&mut self, key: &[u8]) -> Option<Version> {
        let before = self.get(key).cloned()?;
        self.write(key, Version { revision: self.next(), live: None });
        Some(before)
    }

    fn write(&mut self, key: &[u8], after: Version) {
        let key: Arc<[u8]> = match self.keys.get_key_value(key) {
            Some((key, _)) => Arc::clone(key),
            None => Arc::from(key),
        };
        self.keys.entry(Arc::clone(&key)).or_default().push(after.clone());
        self.open.push(Change { key, after });
    }

    /// Makes the open changes a revision; `None` if there are none.
    pub(crate) fn commit(&mut self) -> Option<&(i64, Vec<Change>)> {
        if self.open.is_empty() {
            return None;
        }
        self.revision += 1;
        self.log.push_back((self.revision, std::mem::take(&mut self.open)));
        self.log.back()
    }

    /// The revisions from this one on, or `None` if one of them is forgotten.
    pub(crate) fn since(&self, revision: i64) -> Option<impl Iterator<Item = &(i64, Vec<Change>)>> {
        let first = self.log.partition_point(|(at, _)| *at < revision);
        (revision >= self.logged_from).then(|| self.log.range(first..))
    }

    /// The revision since which there were about so many changes; 0 if there were fewer.
    pub(crate) fn revision_before(&self, changes: usize) -> i64 {
        let mut left = changes;
        for (revision, of_it) in self.log.iter().rev() {
            match left.checked_sub(of_it.len()) {
                Some(rest) => left = rest,
                None => return *revision,
            }
        }
        0
    }

    /// Forgets what was before a revision.
    pub(crate) fn compact(&mut self, revision: i64) -> Result<(), Fault> {
        if revision > self.revision {
            return Err(Fault::FutureRevision);
        }
        if revision <= self.compacted {
            return Err(Fault::Compacted);
        }
        let first = self.log.partition_point(|(at, _)| *at < self.compacted);
        let last = self.log.partition_point(|(at, _)| *at <= revision);
        let touched: BTreeSet<_> =
            self.log.range(first..last).flat_map(|(_, changes)| changes).map(|change| &change.key).collect();
        for key in touched {
            prune(&mut self.keys, key, revision);
        }
        self.compacted = revision;
        let keep_from = revision.min(self.revision - KEPT_FOR_WATCHES);
        while self.log.front().is_some_and(|(at, _)| *at < keep_from) {
            self.log.pop_front();
        }
        self.logged_from = self.logged_from.max(keep_from);
        Ok(())
    }

    /// One whose history begins at a compacted revision, with what was alive then.
    pub(crate) fn restore(compacted: i64, alive: impl Iterator<Item = (Vec<u8>, Version)>) -> Self {
        let keys = alive.map(|(key, version)| (Arc::from(key), vec![version])).collect();
        Self { keys, logged_from: compacted, revision: compacted, compacted, ..Self::new() }
    }

    /// Does again what a revision did. Of the compacted one the effect is there already.
    pub(crate) fn replay(&mut self, revision: i64, changes: Vec<(Vec<u8>, Version)>) {
        self.revision = revision;
        let mut logged = Vec::new();
        for (key, after) in changes {
            let key: Arc<[u8]> = Arc::from(key);
            if revision > self.compacted {
                self.keys.entry(Arc::clone(&key)).or_default().push(after.clone());
            }
            logged.push(Change { key, after });
        }
        self.log.push_back((revision, logged));
    }
}

/// The last version up to a revision, which may be a deletion.
fn at(versions: &[Version], revision: i64) -> Option<&Version> {
    let later = versions.partition_point(|version| version.revision <= revision);
    versions[..later].last()
}

/// Leaves of a key what it was at the revision, and what came later.
fn prune(keys: &mut BTreeMap<Arc<[u8]>, Vec<Version>>, key: &[u8], revision: i64) {
    let Some(versions) = keys.get_mut(key) else { return };
    let later = versions.partition_point(|version| version.revision <= revision);
    if let Some(newest) = later.checked_sub(1) {
        let is_gone = versions[newest].live.is_none();
        versions.drain(..newest + usize::from(is_gone));
    }
    if versions.is_empty() {
        keys.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn put(mvcc: &mut Mvcc, key: &str) {
        mvcc.put(key.as_bytes(), Arc::from(key.as_bytes()), 0);
        mvcc.commit();
    }

    fn delete(mvcc: &mut Mvcc, key: &str) {
        mvcc.delete(key.as_bytes());
        mvcc.commit();
    }

    fn keys_at(mvcc: &Mvcc, revision: i64) -> Vec<(String, i64)> {
        let everything = Span::everything();
        let found = mvcc.range(&everything, revision);
        found.map(|(key, revision, _)| (String::from_utf8_lossy(key).into_owned(), revision)).collect()
    }

    #[test]
    fn a_compaction_keeps_what_can_be_asked_for_and_nothing_else() {
        let mut mvcc = Mvcc::new();
        put(&mut mvcc, "a");
        put(&mut mvcc, "b");
        put(&mut mvcc, "a");
        delete(&mut mvcc, "b");
        put(&mut mvcc, "a");
        assert_eq!(mvcc.compact(7), Err(Fault::FutureRevision));
        mvcc.compact(5).unwrap();
        assert_eq!(mvcc.compact(5), Err(Fault::Compacted));
        assert_eq!((mvcc.check_revision(4), mvcc.check_revision(5)), (Err(Fault::Compacted), Ok(5)));
        assert_eq!(keys_at(&mvcc, 5), [("a".to_owned(), 4)]);
        assert_eq!(mvcc.keys.len(), 1, "a deleted key leaves nothing");
        mvcc.compact(6).unwrap();
        assert_eq!(mvcc.keys.values().map(Vec::len).sum::<usize>(), 1);
    }

    #[test]
    fn the_log_of_what_is_compacted_is_bounded() {
        let mut mvcc = Mvcc::new();
        (0..3 * KEPT_FOR_WATCHES).for_each(|_| put(&mut mvcc, "a"));
        mvcc.compact(mvcc.revision()).unwrap();
        assert_eq!(mvcc.log.len(), 1_001);
        assert!(mvcc.since(mvcc.logged_from).is_some() && mvcc.since(mvcc.logged_from - 1).is_none());
    }

    #[test]
    fn a_key_that_was_deleted_begins_anew() {
        let mut mvcc = Mvcc::new();
        put(&mut mvcc, "a");
        put(&mut mvcc, "a");
        delete(&mut mvcc, "a");
        put(&mut mvcc, "a");
        let live = mvcc.get(b"a").and_then(|version| version.live.clone()).unwrap();
        assert_eq!((live.create_revision, live.version), (5, 1));
        assert_eq!(mvcc.get_at(b"a", 4), None);
        assert_eq!(mvcc.get_at(b"a", 3).unwrap().revision, 3);
    }

    proptest! {
        /// However it was written and compacted, it is at each revision what it was then.
        #[test]
        fn the_past_does_not_change(steps in prop::collection::vec((0..6_usize, 0..4_u8), 1..60)) {
            let (mut mvcc, mut states) = (Mvcc::new(), vec![Vec::new(), Vec::new()]);
            for (key, kind) in steps {
                let key = ["a", "b", "c", "d", "e", "f"][key];
                match kind {
                    0 => delete(&mut mvcc, key),
                    1 => drop(mvcc.compact(mvcc.revision() - i64::from(key == "a"))),
                    _ => put(&mut mvcc, key),
                }
                let newest = usize::try_from(mvcc.revision()).unwrap();
                states.resize(newest + 1, keys_at(&mvcc, i64::MAX));
            }
            for revision in mvcc.compacted().max(0)..=mvcc.revision() {
                prop_assert_eq!(&keys_at(&mvcc, revision), &states[usize::try_from(revision).unwrap()]);
            }
        }
    }
}
