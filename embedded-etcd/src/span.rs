//! A range of keys as a request names it.

use std::ops::Bound;

/// One key, the keys from one up to another, or all from one on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Span {
    start: Vec<u8>,
    end: End,
}

type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    Single,
    Before(Vec<u8>),
    Open,
}

/// Whether a range with this end has all keys from its first one on.
pub(crate) fn is_all_from(range_end: &[u8]) -> bool {
    range_end == [0]
}

impl Span {
    /// No end means one key; an end of one zero byte means all keys from the first one on.
    pub(crate) fn new(key: &[u8], range_end: &[u8]) -> Self {
        let end = match range_end {
            [] => End::Single,
            end if is_all_from(end) => End::Open,
            end => End::Before(end.to_vec()),
        };
        Self { start: key.to_vec(), end }
    }

    pub(crate) fn everything() -> Self {
        Self { start: Vec::new(), end: End::Open }
    }

    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            End::Single => key == self.start,
            End::Before(end) => key >= self.start.as_slice() && key < end.as_slice(),
            End::Open => key >= self.start.as_slice(),
        }
    }

    /// Whether no key at all can be in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.bounds().is_none()
    }

    /// For a map's range. An end before the start is no range at all.
    pub(crate) fn bounds(&self) -> Option<Bounds<'_>> {
        let start = Bound::Included(self.start.as_slice());
        match &self.end {
            End::Single => Some((start, Bound::Included(&self.start))),
            End::Before(end) => (*end > self.start).then_some((start, Bound::Excluded(end))),
            End::Open => Some((start, Bound::Unbounded)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_what_etcd_takes_them_for() {
        let single = Span::new(b"b", b"");
        let some = Span::new(b"b", b"d");
        let rest = Span::new(b"b", b"\0");
        let held = |span: &Span| ["a", "b", "c", "d"].map(|key| span.contains(key.as_bytes()));
        assert_eq!(held(&single), [false, true, false, false]);
        assert_eq!(held(&some), [false, true, true, false]);
        assert_eq!(held(&rest), [false, true, true, true]);
        assert!(Span::new(b"d", b"b").bounds().is_none());
    }
}
