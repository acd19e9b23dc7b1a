//! The days that calendars leave out of a schedule or put into it.
//!
//! Owns the merged form of a job's calendars: for each month that any of them mentions two sets of days, found by
//! binary search. A day that one calendar puts in is in, whatever the others leave out.

use std::collections::BTreeMap;

use forest_proto::record::{Calendar, DayRange};
use jiff::civil::Date;

/// Exceptions to the days of an expression. Small: 12 bytes for each month with any.
#[derive(Debug, Default, Clone, PartialEq, Eq, Hash)]
pub struct Days {
    /// In the order of time, each month once.
    months: Box<[Month]>,
}

/// Bit `n` of a set stands for the day `n`. No day is in both.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash)]
struct Month {
    /// Months since the year 0.
    number: i32,
    excluded: u32,
    included: u32,
}

impl Days {
    /// The days of several calendars together.
    #[must_use]
    pub fn merged<'a>(calendars: impl IntoIterator<Item = &'a Calendar>) -> Self {
        let mut months = BTreeMap::<i32, Month>::new();
        for calendar in calendars {
            note(&mut months, &calendar.excluded, |month| &mut month.excluded);
            note(&mut months, &calendar.included, |month| &mut month.included);
        }
        let months = months.into_iter();
        let months = months.map(|(number, month)| Month {
            number,
            excluded: month.excluded & !month.included,
            ..month
        });
        Self { months: months.collect() }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.months.is_empty()
    }

    /// The days of a month that are left out, and those that are put in.
    #[must_use]
    pub(super) fn in_month(&self, year: i16, month: i8) -> (u32, u32) {
        let number = number_of(year, month);
        let found = self.months.binary_search_by_key(&number, |month| month.number);
        let month = found.ok().and_then(|at| self.months.get(at)).copied().unwrap_or_default();
        (month.excluded, month.included)
    }

    #[must_use]
    pub fn excludes(&self, day: Date) -> bool {
        self.in_month(day.year(), day.month()).0 & (1 << day.day()) != 0
    }

    /// The last year with an exception. After it the expression alone decides.
    #[must_use]
    pub(super) fn last_year(&self) -> Option<i16> {
        i16::try_from(self.months.last()?.number.div_euclid(12)).ok()
    }

    /// The days that are left out, in order.
    pub(super) fn excluded(&self) -> impl Iterator<Item = Date> {
        self.months.iter().flat_map(|month| {
            let year = i16::try_from(month.number.div_euclid(12)).unwrap_or(i16::MAX);
            let number = i8::try_from(month.number.rem_euclid(12) + 1).unwrap_or(i8::MAX);
            (1..=31_i8)
                .filter(|day| month.excluded & (1 << day) != 0)
                .filter_map(move |day| Date::new(year, number, day).ok())
        })
    }
}

fn note(months: &mut BTreeMap<i32, Month>, ranges: &[DayRange], set: fn(&mut Month) -> &mut u32) {
    for range in ranges {
        let mut day = range.first();
        while day <= range.last() {
            let to = day.last_of_month().min(range.last());
            let days = (u32::MAX << day.day()) & (u32::MAX >> (31 - to.day()));
            *set(months.entry(number_of(day.year(), day.month())).or_default()) |= days;
            let Ok(next) = to.tomorrow() else { return };
            day = next;
        }
    }
}

fn number_of(year: i16, month: i8) -> i32 {
    i32::from(year) * 12 + i32::from(month) - 1
}
