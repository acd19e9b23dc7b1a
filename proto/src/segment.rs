//! Segments: fixed parts of the jobs, each with its own cursor and its own pipeline of transactions.

use std::fmt;
use std::hash::Hasher;

use crate::name::JobId;

/// One segment. Printed and sorted as two hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Segment(u8);

/// How many segments a cluster has. Chosen when the cluster is first initialised, never changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentCount(u8);

impl SegmentCount {
    /// What a new cluster gets.
    pub const DEFAULT: Self = Self(16);

    /// 1 to 64 segments.
    #[must_use]
    pub fn new(count: u16) -> Option<Self> {
        u8::try_from(count).ok().filter(|c| (1..=64).contains(c)).map(Self)
    }

    /// The count as a number.
    #[must_use]
    pub fn get(self) -> usize {
        usize::from(self.0)
    }

    /// The segment of a job: FNV-1a of its id, modulo the count. A stored promise: changing it would
    /// move jobs away from their cursors.
    #[must_use]
    pub fn segment_of(self, job: &JobId) -> Segment {
        let mut hasher = fnv::FnvHasher::default();
        hasher.write(job.as_str().as_bytes());
        #[allow(clippy::cast_possible_truncation)] // The remainder is below 64.
        Segment((hasher.finish() % u64::from(self.0)) as u8)
    }

    /// All segments in order.
    pub fn all(self) -> impl Iterator<Item = Segment> {
        (0..self.0).map(Segment)
    }
}

impl Segment {
    /// Its number, from 0.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        (text.len() == 2 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
            .then(|| u8::from_str_radix(text, 16).ok().map(Self))
            .flatten()
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_segment_of_a_job_never_changes() {
        let of = |id: &str| SegmentCount::DEFAULT.segment_of(&JobId::new(id).expect("valid")).index();
        // Taken once; a change of any of these breaks running clusters.
        assert_eq!([of("20261121000000123456"), of("a"), of("job-1"), of("job-2")], [11, 12, 6, 3]);
    }

    #[test]
    fn segments_are_filled_evenly() {
        let mut sizes = [0_usize; 16];
        for n in 0..16_000 {
            let id = JobId::new(format!("20261121{n:012}")).expect("valid");
            sizes[SegmentCount::DEFAULT.segment_of(&id).index()] += 1;
        }
        assert!(sizes.iter().all(|size| (800..1200).contains(size)), "{sizes:?}");
    }

    #[test]
    fn text_round_trips() {
        for segment in SegmentCount::new(64).expect("valid").all() {
            assert_eq!(Segment::parse(&segment.to_string()), Some(segment));
        }
        assert_eq!(Segment::parse("0A"), None);
        assert_eq!(Segment::parse("+1"), None, "a sign is not a digit");
    }
}
