//! What the time core promises, against tables, brute force and an independent cron library.
#![allow(clippy::unwrap_used)]

mod calendar;
mod croniter;
mod days;
mod dialect;
mod fuzz;
mod oracle;
mod trigger;
mod zone;

use jiff::civil::DateTime;

use super::calendar::Calendar;
use super::cron::CronExpr;

fn calendar(expression: &str) -> Calendar {
    CronExpr::parse(expression).unwrap_or_else(|error| panic!("{expression}: {error}")).into_calendar()
}

/// Whether a local time matches, by looking at each field. The walk must agree with this.
fn matches(calendar: &Calendar, at: DateTime) -> bool {
    let bit = |set: u64, number: i16| set & (1 << number) != 0;
    let day = bit(calendar.days.into(), at.day().into());
    let weekday = bit(calendar.weekdays.into(), at.weekday().to_sunday_zero_offset().into());
    let year = usize::try_from(at.year() - 1970).unwrap();
    (calendar.any_year || year < 130 && calendar.years[year / 64] & (1 << (year % 64)) != 0)
        && bit(calendar.months.into(), at.month().into())
        && (if calendar.either_day { day || weekday } else { day && weekday })
        && bit(calendar.hours.into(), at.hour().into())
        && bit(calendar.minutes, at.minute().into())
        && bit(calendar.seconds, at.second().into())
}

/// Expressions that both our dialect and the oracle read the same way: six fields, no field that can only
/// match in a year far away.
mod expression {
    use proptest::prelude::*;

    fn element(min: u16, max: u16) -> impl Strategy<Value = String> {
        let range = (min..=max).prop_flat_map(move |from| (Just(from), from..=max));
        prop_oneof![
            4 => (min..=max).prop_map(|n| n.to_string()),
            2 => range.clone().prop_map(|(from, to)| format!("{from}-{to}")),
            1 => (range, 1..=7_u16).prop_map(|((from, to), step)| format!("{from}-{to}/{step}")),
            1 => (min..=max, 1..=7_u16).prop_map(|(from, step)| format!("{from}/{step}")),
        ]
    }

    fn list(min: u16, max: u16) -> impl Strategy<Value = String> {
        prop::collection::vec(element(min, max), 1..4).prop_map(|elements| elements.join(","))
    }

    fn with_star(min: u16, max: u16) -> impl Strategy<Value = String> {
        prop_oneof![
            2 => Just("*".to_owned()),
            1 => (1..=max).prop_map(|step| format!("*/{step}")),
            3 => list(min, max),
        ]
    }

    fn weekday() -> impl Strategy<Value = String> {
        let named =
            prop::sample::select(vec!["SUN", "mon", "Tue", "WED", "MON-FRI", "tue-thu", "SAT", "FRI,SUN"]);
        // The oracle's highest weekday is 7, where ours is 6 and 7 another name for 0: `1/2` is not the
        // same to both.
        let numbers = list(0, 6).prop_filter("no open end", |list| {
            list.split(',').all(|element| element.contains('-') || !element.contains('/'))
        });
        prop_oneof![numbers, named.prop_map(str::to_owned), Just("5-7".to_owned()), Just("7".to_owned())]
    }

    fn month() -> impl Strategy<Value = String> {
        let named = prop::sample::select(vec!["JAN", "feb-nov", "Mar,Sep,DEC"]);
        prop_oneof![3 => with_star(1, 12), 1 => named.prop_map(str::to_owned)]
    }

    fn days() -> impl Strategy<Value = (String, String)> {
        let star = || prop::sample::select(vec!["*", "?"]).prop_map(str::to_owned);
        prop_oneof![
            (star(), star()),
            (list(1, 28), star()),
            (star(), weekday()),
            (list(1, 31), weekday()),
            (1..=31_u16).prop_map(|step| (format!("*/{step}"), "*".to_owned())),
        ]
    }

    pub(super) fn any() -> impl Strategy<Value = String> {
        (with_star(0, 59), with_star(0, 59), with_star(0, 23), days(), month()).prop_map(
            |(second, minute, hour, (day, weekday), month)| {
                format!("{second} {minute} {hour} {day} {month} {weekday}")
            },
        )
    }
}
