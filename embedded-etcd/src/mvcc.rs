//! All keys with their history: what they were at every revision that was not compacted.
//!
//! A change is written in two parts: [`Mvcc::begin`] opens a revision, [`Mvcc::commit`] makes it known. Whoever begins
//! has checked before that nothing can fail.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use etcd_client::proto::PbKeyValue;

use crate::fault::Fault;
use crate::span::Span;

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
    pub(crate) before: Option<Version>,
    pub(crate) after: Version,
}

#[derive(Debug, Default)]
pub(crate) struct Mvcc {
    keys: BTreeMap<Arc<[u8]>, Vec<Version>>,
    /// Every revision from the compacted one on.
    log: VecDeque<(i64, Vec<Change>)>,
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
}

impl Mvcc {
    /// An empty etcd is at revision 1.
    pub(crate) fn new() -> Self {
        Self { revision: 1, ..Self::default() }
    }

    pub(crate) fn revision(&self) -> i64 {
        self.revision
    }

    pub(crate) fn compacted(&self) -> i64 {
        self.compacted
    }

    /// The revision that a change at hand gets.
    fn next(&self) -> i64 {
        self.revision + 1
    }

    /// What a request that asks for this revision reads at; 0 means the newest, the open changes included.
    pub(crate) fn check_revision(&self, revision: i64) -> Result<i64, Fault> {
        match revision {
            ..=0 => Ok(if self.open.is_empty() { self.revision } else { self.next() }),
            _ if revision > self.revision => Err(Fault::FutureRevision),
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
            let version = versions.iter().rev().find(|version| version.revision <= revision)?;
            Some((key, version.revision, version.live.as_ref()?))
        })
    }

    /// A key as it is now, the open changes included.
    pub(crate) fn get(&self, key: &[u8]) -> Option<&Version> {
        self.keys.get(key)?.last().filter(|version| version.live.is_some())
    }

    /// Writes a key in the open revision; the version before, if it existed.
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
        self.write(key, Version { revision, live: Some(live) }, before.clone());
        before
    }

    /// Deletes a key in the open revision; what it was.
    pub(crate) fn delete(&mut self, key: &[u8]) -> Option<Version> {
        let before = self.get(key).cloned()?;
        let after = Version { revision: self.next(), live: None };
        self.write(key, after, Some(before.clone()));
        Some(before)
    }

    fn write(&mut self, key: &[u8], after: Version, before: Option<Version>) {
        let key: Arc<[u8]> = match self.keys.get_key_value(key) {
            Some((key, _)) => Arc::clone(key),
            None => Arc::from(key),
        };
        self.keys.entry(Arc::clone(&key)).or_default().push(after.clone());
        self.open.push(Change { key, before, after });
    }

    /// Makes the open changes a revision; `None` if there are none.
    pub(crate) fn commit(&mut self) -> Option<&[Change]> {
        if self.open.is_empty() {
            return None;
        }
        self.revision += 1;
        self.log.push_back((self.revision, std::mem::take(&mut self.open)));
        self.log.back().map(|(_, changes)| changes.as_slice())
    }

    /// The revisions from this one on, which must not be compacted.
    pub(crate) fn since(&self, revision: i64) -> impl Iterator<Item = &(i64, Vec<Change>)> {
        let first = self.log.partition_point(|(at, _)| *at < revision);
        self.log.range(first..)
    }

    /// Forgets what was before a revision.
    pub(crate) fn compact(&mut self, revision: i64) -> Result<(), Fault> {
        if revision > self.revision {
            return Err(Fault::FutureRevision);
        }
        if revision <= self.compacted {
            return Err(Fault::Compacted);
        }
        self.compacted = revision;
        let mut touched = Vec::new();
        while self.log.front().is_some_and(|(at, _)| *at < revision) {
            let gone = self.log.pop_front();
            touched.extend(gone.into_iter().flat_map(|(_, changes)| changes).map(|change| change.key));
        }
        // The one at the revision itself may now be the first of its key.
        let at_edge = self.log.front().filter(|(at, _)| *at == revision);
        touched.extend(
            at_edge.into_iter().flat_map(|(_, changes)| changes).map(|change| Arc::clone(&change.key)),
        );
        touched.iter().for_each(|key| self.prune(key, revision));
        Ok(())
    }

    /// Leaves of a key what it was at the revision, and what came later.
    fn prune(&mut self, key: &[u8], revision: i64) {
        let Some(versions) = self.keys.get_mut(key) else { return };
        let newest = versions.iter().rposition(|version| version.revision <= revision);
        if let Some(newest) = newest {
            let keeps = usize::from(versions[newest].live.is_none());
            versions.drain(..newest + keeps);
        }
        if versions.is_empty() {
            self.keys.remove(key);
        }
    }

    /// Everything as it is now, to be restored elsewhere.
    pub(crate) fn live(&self) -> impl Iterator<Item = (&Arc<[u8]>, i64, &Live)> {
        self.keys.iter().filter_map(|(key, versions)| {
            let version = versions.last()?;
            Some((key, version.revision, version.live.as_ref()?))
        })
    }

    /// Puts back what [`live`](Self::live) told, into an empty store whose history begins there.
    pub(crate) fn restore(&mut self, revision: i64, keys: impl Iterator<Item = (Vec<u8>, Version)>) {
        self.revision = revision;
        self.compacted = revision;
        self.keys = keys.map(|(key, version)| (Arc::from(key), vec![version])).collect();
    }
}
