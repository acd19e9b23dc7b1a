//! The days that an interval leaves out, as spans of instants.
//!
//! Owns the arithmetic of "which of the evenly spaced fires fall on a day that is left out". A day is a local
//! date in the job's zone, from its first instant to that of the next day, so it can have 23 or 25 hours.
//! Costs grow with the spans that are touched, never with the fires.

use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::days::Days;

/// Spans of epoch milliseconds, `start..end`, in order and apart from each other.
#[derive(Debug, Clone)]
pub(super) struct Pauses {
    spans: Box<[(i64, i64)]>,
    zone: TimeZone,
}

impl Default for Pauses {
    fn default() -> Self {
        Self { spans: Box::default(), zone: TimeZone::UTC }
    }
}

impl Pauses {
    pub(super) fn new(days: &Days, zone: TimeZone) -> Self {
        let mut spans: Vec<(i64, i64)> = Vec::new();
        for day in days.excluded() {
            let Some((start, end)) = span_of(day, &zone) else { continue };
            match spans.last_mut() {
                // A zone that repeats a day makes it overlap with its neighbour.
                Some((_, last)) if *last >= start => *last = (*last).max(end),
                _ if start < end => spans.push((start, end)),
                _ => {}
            }
        }
        Self { spans: spans.into(), zone }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    pub(super) fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// The end of the span that the instant is in.
    pub(super) fn end_of(&self, at_ms: i64) -> Option<i64> {
        let (start, end) = self.from(at_ms).next()?;
        (start <= at_ms).then_some(end)
    }

    /// The start of the span that the instant is in.
    pub(super) fn start_of(&self, at_ms: i64) -> Option<i64> {
        let (start, _) = self.from(at_ms).next()?;
        (start <= at_ms).then_some(start)
    }

    /// The spans that end after the instant, in order.
    pub(super) fn from(&self, at_ms: i64) -> impl Iterator<Item = (i64, i64)> {
        let first = self.spans.partition_point(|(_, end)| *end <= at_ms);
        self.spans[first..].iter().copied()
    }
}

fn span_of(day: Date, zone: &TimeZone) -> Option<(i64, i64)> {
    let start = |day: Date| day.to_zoned(zone.clone()).ok().map(|start| start.timestamp().as_millisecond());
    Some((start(day)?, start(day.tomorrow().ok()?)?))
}
