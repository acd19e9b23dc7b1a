//! A calendar: `server/calendar/{calendar}`. Owns the text of days and ranges of days.

use std::fmt;
use std::str::FromStr;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::lenient;
use crate::name::CalendarName;
use crate::time::Instant;

/// At most this many days are left out by one calendar, and at most this many put in; ranges count in full.
pub const MAX_CALENDAR_DAYS: usize = 5_000;
/// Days lie in these years, both included.
pub const CALENDAR_YEARS: std::ops::RangeInclusive<i16> = 1970..=2099;

/// One day, or all days from one to another, both included. In JSON: `2027-10-01`, or `2027-10-01..2027-10-07`.
///
/// ```
/// use forest_proto::record::DayRange;
/// let week: DayRange = "2027-10-01..2027-10-07".parse().unwrap();
/// assert_eq!((week.days(), week.to_string().as_str()), (7, "2027-10-01..2027-10-07"));
/// assert_eq!("2027-10-01..2027-10-01".parse::<DayRange>().unwrap().to_string(), "2027-10-01");
/// assert!("2027-10-07..2027-10-01".parse::<DayRange>().is_err(), "it runs backwards");
/// assert!("2027-02-29".parse::<DayRange>().is_err(), "there is no such day");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DayRange {
    first: Date,
    last: Date,
}

/// Why a text is no day and no range of days.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DayError {
    /// Something else, or a day that the Gregorian calendar does not have.
    #[error("{0:?} is not a day such as 2027-10-01")]
    NotADay(String),
    /// The first day comes after the last.
    #[error("{0:?} runs backwards: write the earlier day first")]
    Backwards(String),
    /// Outside [`CALENDAR_YEARS`].
    #[error("{0:?} is not within the years 1970 to 2099")]
    OutOfRange(String),
}

impl DayRange {
    /// From the first day to the last, both included.
    ///
    /// # Errors
    /// [`DayError`] if they run backwards, or lie outside [`CALENDAR_YEARS`].
    pub fn new(first: Date, last: Date) -> Result<Self, DayError> {
        if first > last {
            return Err(DayError::Backwards(format!("{first}..{last}")));
        }
        match [first, last].iter().find(|day| !CALENDAR_YEARS.contains(&day.year())) {
            Some(outside) => Err(DayError::OutOfRange(outside.to_string())),
            None => Ok(Self { first, last }),
        }
    }

    /// The first day.
    #[must_use]
    pub fn first(&self) -> Date {
        self.first
    }

    /// The last day, which belongs to the range.
    #[must_use]
    pub fn last(&self) -> Date {
        self.last
    }

    /// How many days it has: at least 1.
    #[must_use]
    pub fn days(&self) -> usize {
        let between = self.last.duration_since(self.first).as_hours() / 24;
        usize::try_from(between).unwrap_or(0) + 1
    }
}

impl FromStr for DayRange {
    type Err = DayError;
    fn from_str(text: &str) -> Result<Self, DayError> {
        match text.split_once("..") {
            Some((first, last)) => Self::new(day(first)?, day(last)?),
            None => day(text).and_then(|day| Self::new(day, day)),
        }
    }
}

impl TryFrom<String> for DayRange {
    type Error = DayError;
    fn try_from(text: String) -> Result<Self, DayError> {
        text.parse()
    }
}

impl From<DayRange> for String {
    fn from(range: DayRange) -> Self {
        range.to_string()
    }
}

impl fmt::Display for DayRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first)?;
        if self.first == self.last { Ok(()) } else { write!(f, "..{}", self.last) }
    }
}

/// Ten characters and nothing else: the library's own reader would take times and zones too.
fn day(text: &str) -> Result<Date, DayError> {
    let refused = || DayError::NotADay(text.chars().take(40).collect());
    let shaped = text.len() == 10
        && text.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    if !shaped {
        return Err(refused());
    }
    text.parse().map_err(|_| refused())
}

/// Days on which jobs do not fire, and days on which they do although their weekday says otherwise. A day is
/// the local date in the zone of the job.
///
/// ```
/// use forest_proto::record::{Calendar, decode};
/// let text = br#"{"name":"cn","excluded":["2027-10-01..2027-10-07"],"included":["2027-10-09"],"version":1}"#;
/// let calendar: Calendar = decode(text).unwrap();
/// assert_eq!(calendar.excluded[0].days(), 7);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calendar {
    /// Its name.
    pub name: CalendarName,
    /// What it is for, in words. At most 255 characters.
    #[serde(default, deserialize_with = "lenient::text")]
    pub remark: String,
    /// A job that names this calendar does not fire on these days. At most [`MAX_CALENDAR_DAYS`] in all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excluded: Vec<DayRange>,
    /// On these days the two day fields of a cron expression count as matching. They win over days that this
    /// or another calendar of the job leaves out. They mean nothing to an interval. At most
    /// [`MAX_CALENDAR_DAYS`] in all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub included: Vec<DayRange>,
    /// Grows with every change, from 1.
    #[serde(default)]
    pub version: u64,
    /// When it was last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<Instant>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_day_is_refused() {
        for text in [
            "",
            "2027-1-1",
            "2027-10-01T00:00",
            "20271001",
            "2027-13-01",
            "2027-10-01..",
            "..2027-10-01",
            "+027-10-01",
        ] {
            assert!(matches!(text.parse::<DayRange>(), Err(DayError::NotADay(_))), "{text}");
        }
        for text in ["1969-12-31", "2100-01-01", "2027-01-01..2100-01-01"] {
            assert!(matches!(text.parse::<DayRange>(), Err(DayError::OutOfRange(_))), "{text}");
        }
        assert!(matches!("2027-10-02..2027-10-01".parse::<DayRange>(), Err(DayError::Backwards(_))));
    }

    proptest! {
        #[test]
        fn ranges_are_read_as_they_were_written(from in 0_i64..47_000, days in 0_i64..400) {
            let day = |n: i64| Date::constant(1970, 1, 1).checked_add(jiff::Span::new().days(n)).unwrap_or(Date::MAX);
            let range = DayRange::new(day(from), day(from + days)).map_err(|e| TestCaseError::fail(e.to_string()))?;
            prop_assert_eq!(range.to_string().parse::<DayRange>(), Ok(range));
            prop_assert_eq!(range.days(), usize::try_from(days).unwrap_or(0) + 1);
        }

        #[test]
        fn no_text_makes_reading_panic(text in any::<String>()) {
            let _ = text.parse::<DayRange>();
        }
    }
}
