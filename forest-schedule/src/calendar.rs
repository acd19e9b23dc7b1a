//! The compiled form of a cron expression: sets of numbers as bits, walked on the naive local calendar.
//!
//! Owns the question "which local dates and times match". It knows nothing of time zones: here every day
//! has 24 hours. The walk goes field by field, a month at a time, and never tries single seconds. The days
//! that calendars leave out or put in change the days of a month before the walk sees them.

use std::sync::Arc;

use jiff::SignedDuration;
use jiff::civil::{Date, DateTime, Time};

use super::days::Days;

/// The years an expression can name.
pub(super) const FIRST_YEAR: u16 = 1970;
pub(super) const LAST_YEAR: u16 = 2099;

/// 29 February on a given weekday can be 40 years away, across a century without a leap day.
const SEARCH_YEARS: i16 = 48;
/// Instants end with the year 9998.
const END_OF_TIME: i16 = 9998;

/// The local dates and times an expression matches. Bit `n` of a set stands for the number `n`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Calendar {
    pub(super) seconds: u64,
    pub(super) minutes: u64,
    /// Bit `n` stands for the year `FIRST_YEAR + n`. Not looked at if `any_year`.
    pub(super) years: [u64; 3],
    pub(super) hours: u32,
    pub(super) days: u32,
    pub(super) months: u16,
    /// Bit 0 is Sunday.
    pub(super) weekdays: u8,
    /// Both day fields are restricted: a day that matches one of them matches.
    pub(super) either_day: bool,
    /// The hour field is a star: the expression means an interval, not a time of day.
    pub(super) star_hour: bool,
    pub(super) any_year: bool,
    /// What the job's calendars say about single days. `None` stands for nothing.
    pub(super) exceptions: Option<Arc<Days>>,
}

// A leader holds one of these for every distinct expression of a million jobs.
const _: () = assert!(size_of::<Calendar>() <= 64);

/// Hour, minute and second of a day.
type TimeOfDay = (u32, u32, u32);

impl Calendar {
    /// The first match after `from`, or at it if `inclusive`. `None`: there is none (within 48 years
    /// without exceptions, which is longer than any pattern of the Gregorian calendar takes to come round).
    #[must_use]
    pub(crate) fn next_local(&self, from: DateTime, inclusive: bool) -> Option<DateTime> {
        let whole_second = from.subsec_nanosecond() == 0;
        let from = if inclusive && whole_second {
            from
        } else {
            from.checked_add(SignedDuration::from_secs(1)).ok()?
        };
        if self.matches_date(from.date())
            && let Some(time) = self.next_time(time_of_day(from.time()))
        {
            return at(from.date(), time);
        }
        let date = self.next_date(from.date().tomorrow().ok()?)?;
        at(date, self.first_time()?)
    }

    /// The number of matches in `from..to`, and the last of them. Takes steps of a month.
    #[must_use]
    pub(crate) fn count(&self, from: DateTime, to: DateTime) -> (u64, Option<DateTime>) {
        if from >= to {
            return (0, None);
        }
        let (whole_days, last_day) = self.count_dates(from.date(), to.date());
        let mut count = whole_days * self.times_a_day();
        let mut last = last_day.zip(self.time_before((24, 0, 0)));
        if self.matches_date(to.date()) {
            let end = time_of_day(to.time());
            count += self.count_times_before(end);
            last = self.time_before(end).map(|time| (to.date(), time)).or(last);
        }
        if self.matches_date(from.date()) {
            count -= self.count_times_before(time_of_day(from.time()));
        }
        let last = if count == 0 { None } else { last.and_then(|(date, time)| at(date, time)) };
        (count, last)
    }

    /// Whether the hour field is a star, with or without a step.
    #[must_use]
    pub(crate) fn has_star_hour(&self) -> bool {
        self.star_hour
    }

    /// Whether a calendar leaves the day out.
    #[must_use]
    pub(crate) fn excludes(&self, day: Date) -> bool {
        self.exceptions.as_ref().is_some_and(|days| days.excludes(day))
    }

    fn matches_date(&self, date: Date) -> bool {
        self.dates_in(date.year(), date.month()) & (1 << date.day()) != 0
    }

    /// The first matching date not before `from`.
    fn next_date(&self, from: Date) -> Option<Date> {
        // Exceptions end with the last year that an expression can name: the search stays bounded.
        let exceptions_end = self.exceptions.as_ref().and_then(|days| days.last_year());
        let free_from = exceptions_end.map_or(from.year(), |year| year.max(from.year()));
        let last_year =
            if self.any_year { free_from.saturating_add(SEARCH_YEARS) } else { LAST_YEAR.cast_signed() };
        let mut first = (from.month(), u32::MAX << from.day());
        for year in from.year()..=last_year.min(END_OF_TIME) {
            let (first_month, mut first_days) = first;
            for month in first_month..=12 {
                let dates = self.dates_in(year, month) & first_days;
                if dates != 0 {
                    return Date::new(year, month, small(dates.trailing_zeros())).ok();
                }
                first_days = u32::MAX;
            }
            first = (1, u32::MAX);
        }
        None
    }

    /// The number of matching dates in `from..to`, and the last of them.
    fn count_dates(&self, from: Date, to: Date) -> (u64, Option<Date>) {
        let (mut count, mut last) = (0, None);
        let end = (to.year(), to.month());
        let mut month = (from.year(), from.month());
        while month <= end {
            let mut dates = self.dates_in(month.0, month.1);
            if month == (from.year(), from.month()) {
                dates &= u32::MAX << from.day();
            }
            if month == end {
                dates &= !(u32::MAX << to.day());
            }
            if dates != 0 {
                count += u64::from(dates.count_ones());
                last = Date::new(month.0, month.1, small(dates.ilog2())).ok();
            }
            month = if month.1 == 12 { (month.0 + 1, 1) } else { (month.0, month.1 + 1) };
        }
        (count, last)
    }

    /// The matching days of one month: bit `n` is day `n`.
    fn dates_in(&self, year: i16, month: i8) -> u32 {
        if self.months & (1 << month) == 0 || !self.matches_year(year) {
            return 0;
        }
        let Ok(first) = Date::new(year, month, 1) else { return 0 };
        let in_month = (u32::MAX >> (31 - first.days_in_month())) & !1;
        // The week, turned so that bit 0 is the weekday of the first, and laid out five times from bit 1 on.
        let turn = first.weekday().to_sunday_zero_offset();
        let week = u64::from(self.weekdays);
        let turned = ((week >> turn) | (week << (7 - turn))) & 0x7f;
        let by_weekday = low_half((turned * 0x1020_4081) << 1);
        let either = if self.either_day { self.days | by_weekday } else { self.days & by_weekday };
        let Some(days) = &self.exceptions else { return either & in_month };
        let (excluded, included) = days.in_month(year, month);
        ((either & !excluded) | included) & in_month
    }

    fn matches_year(&self, year: i16) -> bool {
        if self.any_year {
            return true;
        }
        let Ok(index) = usize::try_from(i32::from(year) - i32::from(FIRST_YEAR)) else { return false };
        self.years.get(index / 64).is_some_and(|word| word & (1 << (index % 64)) != 0)
    }

    fn first_time(&self) -> Option<TimeOfDay> {
        self.next_time((0, 0, 0))
    }

    /// The first matching time of the day not before `from`.
    fn next_time(&self, (hour, minute, second): TimeOfDay) -> Option<TimeOfDay> {
        let hours = u64::from(self.hours);
        if has(hours, hour) {
            if has(self.minutes, minute)
                && let Some(second) = lowest_from(self.seconds, second)
            {
                return Some((hour, minute, second));
            }
            if let Some(minute) = lowest_from(self.minutes, minute + 1) {
                return Some((hour, minute, lowest_from(self.seconds, 0)?));
            }
        }
        let hour = lowest_from(hours, hour + 1)?;
        Some((hour, lowest_from(self.minutes, 0)?, lowest_from(self.seconds, 0)?))
    }

    /// The last matching time of the day before `end`.
    fn time_before(&self, (hour, minute, second): TimeOfDay) -> Option<TimeOfDay> {
        let hours = u64::from(self.hours);
        if has(hours, hour) {
            if has(self.minutes, minute)
                && let Some(second) = highest_below(self.seconds, second)
            {
                return Some((hour, minute, second));
            }
            if let Some(minute) = highest_below(self.minutes, minute) {
                return Some((hour, minute, highest_below(self.seconds, 60)?));
            }
        }
        let hour = highest_below(hours, hour)?;
        Some((hour, highest_below(self.minutes, 60)?, highest_below(self.seconds, 60)?))
    }

    fn times_a_day(&self) -> u64 {
        self.count_times_before((24, 0, 0))
    }

    fn count_times_before(&self, (hour, minute, second): TimeOfDay) -> u64 {
        let hours = u64::from(self.hours);
        let an_hour = count_below(self.minutes, 60) * count_below(self.seconds, 60);
        let mut count = count_below(hours, hour) * an_hour;
        if has(hours, hour) {
            count += count_below(self.minutes, minute) * count_below(self.seconds, 60);
            if has(self.minutes, minute) {
                count += count_below(self.seconds, second);
            }
        }
        count
    }
}

fn time_of_day(time: Time) -> TimeOfDay {
    let part = |value: i8| u32::from(value.unsigned_abs());
    (part(time.hour()), part(time.minute()), part(time.second()))
}

fn at(date: Date, (hour, minute, second): TimeOfDay) -> Option<DateTime> {
    Some(date.to_datetime(Time::new(small(hour), small(minute), small(second), 0).ok()?))
}

/// A bit's position as the calendar library takes it.
fn small(position: u32) -> i8 {
    i8::try_from(position).unwrap_or(i8::MAX)
}

fn low_half(bits: u64) -> u32 {
    u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(u32::MAX)
}

fn has(set: u64, position: u32) -> bool {
    below(position + 1) & !below(position) & set != 0
}

fn lowest_from(set: u64, position: u32) -> Option<u32> {
    let rest = set & !below(position);
    (rest != 0).then(|| rest.trailing_zeros())
}

fn highest_below(set: u64, position: u32) -> Option<u32> {
    (set & below(position)).checked_ilog2()
}

fn count_below(set: u64, position: u32) -> u64 {
    u64::from((set & below(position)).count_ones())
}

/// The bits below `position`, which is at most 60.
fn below(position: u32) -> u64 {
    (1 << position) - 1
}
