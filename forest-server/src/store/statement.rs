//! SQL text with its parameters, and the few words in which the two dialects differ.
//!
//! The text is put together from constants of this folder only. Whatever comes from outside is an [`Arg`].

use std::borrow::Cow;

use forest_proto::time::Instant;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};

pub(super) const TABLE: &str = "job_execute_snapshot";

/// Instants in the database are text of this form, in UTC.
const INSTANT_FORM: &str = "yyyy-MM-dd HH:mm:ss.SSS";

/// What `created_at` holds when nobody knows it.
pub(super) const NO_INSTANT: &str = "1970-01-01 00:00:00.000";

/// A bound parameter.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Arg<'a> {
    Null,
    Int(i64),
    Text(Cow<'a, str>),
}

impl<'a> Arg<'a> {
    pub(super) fn text(text: impl Into<Cow<'a, str>>) -> Self {
        Self::Text(text.into())
    }

    pub(super) fn instant(at: Instant) -> Self {
        Self::Text(instant_text(at).into())
    }

    pub(super) fn maybe_instant(at: Option<Instant>) -> Self {
        at.map_or(Self::Null, Self::instant)
    }

    /// A count; the database has no unsigned numbers.
    pub(super) fn count(number: u64) -> Self {
        Self::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

/// A statement and its parameters, in order.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Statement<'a> {
    pub(super) sql: String,
    pub(super) args: Vec<Arg<'a>>,
}

/// Where the dialects differ. Backticks around `group` are understood by both.
pub(super) trait Dialect {
    /// What a read begins with: `SELECT`, with the server's own time limit where it has one.
    const SELECT: &'static str;

    /// What stands in an upsert between the values and the assignments; `key` names the columns of the primary key.
    fn on_conflict(key: &str) -> String;

    /// In an upsert, the value that was to be inserted into `column`.
    fn proposed(column: &str) -> String;
}

/// See [`INSTANT_FORM`].
pub(super) fn instant_text(at: Instant) -> String {
    let timestamp = Timestamp::from_millisecond(at.as_ms()).unwrap_or(Timestamp::UNIX_EPOCH);
    let t = Offset::UTC.to_datetime(timestamp);
    let text = format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02}.{:03}",
        t.year(),
        t.month(),
        t.day(),
        t.hour(),
        t.minute(),
        t.second(),
        t.millisecond()
    );
    debug_assert_eq!(text.len(), INSTANT_FORM.len());
    text
}

/// Reads what [`instant_text`] wrote; `None` for the instant that stands for "unknown" and for anything else.
pub(super) fn read_instant(text: &str) -> Option<Instant> {
    if text == NO_INSTANT {
        return None;
    }
    let local: DateTime = text.parse().ok()?;
    let at = TimeZone::UTC.to_timestamp(local).ok()?;
    Some(Instant::from_ms(at.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn instants_survive_and_their_text_sorts_by_time(a in 1_i64..253_370_764_799_000, b in 1_i64..253_370_764_799_000) {
            let (a, b) = (Instant::from_ms(a), Instant::from_ms(b));
            prop_assert_eq!(read_instant(&instant_text(a)), Some(a));
            prop_assert_eq!(instant_text(a).cmp(&instant_text(b)), a.cmp(&b));
        }
    }

    #[test]
    fn the_unknown_instant_is_no_instant() {
        assert_eq!(instant_text(Instant::from_ms(0)), NO_INSTANT);
        assert_eq!(read_instant(NO_INSTANT), None);
        assert_eq!(read_instant("yesterday"), None);
    }
}
