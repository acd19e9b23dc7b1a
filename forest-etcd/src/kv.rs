//! Keys, their values and their ranges, as the rest of Forest sees them.
//!
//! Keys of Forest are text. A key that is not UTF-8 cannot be one of ours, and converting it with
//! replacement characters could make it equal to one that is: such keys are counted and left out.

use std::sync::atomic::{AtomicU64, Ordering};

/// A key with its value and revisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    pub key: String,
    pub value: Vec<u8>,
    /// Revision at which the key came into being.
    pub create_revision: i64,
    /// Revision of the last write.
    pub mod_revision: i64,
    /// Writes since the key came into being; starts at 1.
    pub version: i64,
    /// The lease the key hangs on; 0 = none.
    pub lease: i64,
}

/// The keys from `start` up to, not including, `end`; without `end` the one key `start`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    pub(crate) start: Vec<u8>,
    /// Empty: only `start`. A single zero byte: no upper bound.
    pub(crate) end: Vec<u8>,
}

impl KeyRange {
    /// All keys that begin with `prefix`. Forest's prefixes end with `/`; an empty one means all keys.
    pub fn prefix(prefix: &str) -> Self {
        if prefix.is_empty() {
            return Self { start: vec![0], end: vec![0] };
        }
        let mut end = prefix.as_bytes().to_vec();
        while let Some(last) = end.pop() {
            if last < u8::MAX {
                end.push(last + 1);
                return Self { start: prefix.into(), end };
            }
        }
        // Every byte was the largest there is. No text is like that, but the answer is still defined.
        Self { start: prefix.into(), end: vec![0] }
    }

    /// One key.
    pub fn key(key: &str) -> Self {
        Self { start: key.into(), end: Vec::new() }
    }

    /// The same range without the keys up to and including `last`, which may lie before its beginning.
    #[must_use]
    pub fn behind(&self, last: &str) -> Self {
        if last.as_bytes() < &self.start[..] { self.clone() } else { self.after(last.as_bytes()) }
    }

    /// The same range without the keys up to and including `last`.
    pub(crate) fn after(&self, last: &[u8]) -> Self {
        let mut start = last.to_vec();
        start.push(0);
        Self { start, end: self.end.clone() }
    }

    /// For log lines.
    pub(crate) fn label(&self) -> String {
        String::from_utf8_lossy(&self.start).into_owned()
    }
}

/// Counts keys that are not text and says so once.
#[derive(Debug, Default)]
pub(crate) struct Unreadable(AtomicU64);

impl Unreadable {
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// The key as text, or `None` after counting it.
    pub(crate) fn text(&self, key: Vec<u8>) -> Option<String> {
        match String::from_utf8(key) {
            Ok(key) => Some(key),
            Err(e) => {
                if self.0.fetch_add(1, Ordering::Relaxed) == 0 {
                    let key = String::from_utf8_lossy(e.as_bytes()).into_owned();
                    tracing::warn!(key, "a key that is not UTF-8 is ignored; further ones are only counted");
                }
                None
            }
        }
    }

    pub(crate) fn decode(&self, kv: etcd_client::KeyValue) -> Option<KeyValue> {
        let (create_revision, mod_revision) = (kv.create_revision(), kv.mod_revision());
        let (version, lease) = (kv.version(), kv.lease());
        let (key, value) = kv.into_key_value();
        let key = self.text(key)?;
        Some(KeyValue { key, value, create_revision, mod_revision, version, lease })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_just_behind_its_last_key() {
        for (prefix, end) in [("/a/", &b"/a0"[..]), ("a", b"b"), ("", b"\0")] {
            assert_eq!(KeyRange::prefix(prefix).end, end, "{prefix:?}");
        }
        assert_eq!(KeyRange::prefix("").start, b"\0");
        assert_eq!(KeyRange::key("/a").end, b"");
    }

    #[test]
    fn the_rest_of_a_range_begins_just_behind_the_last_key_seen() {
        let rest = KeyRange::prefix("/a/").after(b"/a/x");
        assert_eq!(rest.start, b"/a/x\0");
        assert_eq!(rest.end, b"/a0");
        assert_eq!(KeyRange::prefix("/a/").behind("/a/x"), rest);
        assert_eq!(KeyRange::prefix("/a/").behind("/A"), KeyRange::prefix("/a/"));
    }

    #[test]
    fn a_key_that_is_not_text_is_counted_and_left_out() {
        let unreadable = Unreadable::default();
        assert_eq!(unreadable.text(b"/a/\xff".to_vec()), None);
        assert_eq!(unreadable.text(b"/a/b".to_vec()), Some("/a/b".into()));
        assert_eq!(unreadable.count(), 1);
    }
}
