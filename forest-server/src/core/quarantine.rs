//! Keys under our root that nobody understands: counted, named in the log once, otherwise left alone.
//!
//! Bounded: past the limit keys are still counted as they come, but no longer told apart.

use std::collections::BTreeMap;

const MAX_KEYS: usize = 10_000;

#[derive(Debug, Default)]
pub(crate) struct Quarantine {
    keys: BTreeMap<String, i64>,
}

impl Quarantine {
    /// Takes note of a key; says whether it is new, and so worth a line in the log.
    pub(crate) fn note(&mut self, key: &str, revision: i64) -> bool {
        if self.keys.len() >= MAX_KEYS && !self.keys.contains_key(key) {
            return false;
        }
        self.keys.insert(key.to_owned(), revision).is_none()
    }

    /// The key was deleted, or can be read now.
    pub(crate) fn forget(&mut self, key: &str) {
        self.keys.remove(key);
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.keys.contains_key(key)
    }

    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }
}
