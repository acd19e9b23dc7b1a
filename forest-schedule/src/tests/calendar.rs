//! The walk on the naive calendar, against tables and brute force.

use jiff::SignedDuration;
use jiff::civil::{DateTime, datetime};
use proptest::prelude::*;

use super::super::calendar::Calendar;
use super::{calendar, expression, matches};

fn text(at: DateTime) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// Up to `n` matches after the start of a day.
fn fires(expression: &str, from: &str, n: usize) -> Vec<String> {
    let calendar = calendar(expression);
    let mut at: DateTime = from.parse().unwrap();
    let mut fires = Vec::new();
    while let Some(next) = calendar.next_local(at, false).filter(|_| fires.len() < n) {
        fires.push(text(next));
        at = next;
    }
    fires
}

#[test]
fn next_is_what_the_fields_say() {
    for (expression, from, expected) in [
        ("0 30 2 * * *", "2026-01-31", "2026-01-31 02:30:00"),
        ("0 30 2 * * *", "2026-01-31T02:30:00", "2026-02-01 02:30:00"),
        ("59 59 23 31 12 *", "2026-12-31T23:59:58", "2026-12-31 23:59:59"),
        ("59 59 23 31 12 *", "2026-12-31T23:59:59", "2027-12-31 23:59:59"),
        ("0 0 0 29 2 *", "2026-03-01", "2028-02-29 00:00:00"),
        ("0 0 0 29 2 *", "2096-03-01", "2104-02-29 00:00:00"),
        // Star and weekday: both must match. Sundays that are 29 February, across the year 2100.
        ("0 0 0 29 2 */7", "2088-03-01", "2128-02-29 00:00:00"),
        // 29 February or a Monday.
        ("0 0 0 29 2 1", "2026-01-01", "2026-02-02 00:00:00"),
        ("0 0 0 13 * FRI", "2026-02-01", "2026-02-06 00:00:00"),
        ("0 0 0 ? * FRI", "2026-02-01", "2026-02-06 00:00:00"),
        ("0 0 0 13 * ?", "2026-02-01", "2026-02-13 00:00:00"),
        ("0 0 0 */2 * MON", "2026-02-01", "2026-02-09 00:00:00"),
        ("0 0 0 31 * *", "2026-03-31T00:00:01", "2026-05-31 00:00:00"),
        ("0 0 0 1 1 * 2099", "2026-01-01", "2099-01-01 00:00:00"),
        ("0 0 0 29 2 * 2030-2099/2", "2029-01-01", "2032-02-29 00:00:00"),
    ] {
        assert_eq!(fires(expression, from, 1), [expected], "{expression} after {from}");
    }
}

#[test]
fn dates_that_do_not_exist_are_found_out() {
    for expression in ["0 0 0 30 2 *", "0 0 0 31 2,4,6,9,11 *", "0 0 0 29 2 * 2026", "0 0 0 1 1 * 1999"] {
        assert_eq!(fires(expression, "2026-01-01", 1), Vec::<String>::new(), "{expression}");
    }
}

#[test]
fn both_day_fields_restricted_means_either() {
    assert_eq!(
        fires("0 0 9 1,15 * MON", "2026-06-01T09:00:00", 4),
        ["2026-06-08 09:00:00", "2026-06-15 09:00:00", "2026-06-22 09:00:00", "2026-06-29 09:00:00"]
    );
    assert_eq!(
        fires("0 0 9 13 11 FRI", "2026-11-07", 3),
        ["2026-11-13 09:00:00", "2026-11-20 09:00:00", "2026-11-27 09:00:00"]
    );
}

#[test]
fn fractions_of_a_second_count_as_past() {
    let calendar = calendar("* * * * * *");
    let at = datetime(2026, 1, 1, 0, 0, 0, 1);
    assert_eq!(calendar.next_local(at, true), Some(datetime(2026, 1, 1, 0, 0, 1, 0)));
}

/// All matches in `from..to`, second by second.
fn brute(calendar: &Calendar, from: DateTime, to: DateTime) -> Vec<DateTime> {
    let mut at = from;
    let mut found = Vec::new();
    while at < to {
        if matches(calendar, at) {
            found.push(at);
        }
        at = at.checked_add(SignedDuration::from_secs(1)).unwrap();
    }
    found
}

fn walk(calendar: &Calendar, from: DateTime, to: DateTime) -> Vec<DateTime> {
    let first = calendar.next_local(from, true);
    std::iter::successors(first, |at| calendar.next_local(*at, false)).take_while(|at| *at < to).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_walk_finds_every_second_that_matches(
        expression in expression::any(), day in 0_i64..30_000, second in 0_i64..86_400, length in 1_i64..8_000
    ) {
        let calendar = calendar(&expression);
        let from = datetime(1970, 1, 1, 0, 0, 0, 0) + SignedDuration::from_secs(day * 86_400 + second);
        let to = from + SignedDuration::from_secs(length);
        let found = brute(&calendar, from, to);
        prop_assert_eq!(&walk(&calendar, from, to), &found);
        let count = u64::try_from(found.len()).unwrap();
        prop_assert_eq!(calendar.count(from, to), (count, found.last().copied()));
    }

    /// Whole months are counted as what the walk finds in them.
    #[test]
    fn counting_agrees_with_walking_over_months(
        (minute, hour, day, month, weekday) in (0..60_u8, 0..24_u8, 1..=31_u8, 1..=12_u8, 0..=7_u8),
        shape in 0..4_u8, start in 0_i64..40_000, length in 1_i64..1_500, offset in 0_i64..86_400,
    ) {
        let expression = match shape {
            0 => format!("{minute} {hour} {day} * {weekday}"),
            1 => format!("{minute} {hour} {day} {month} *"),
            2 => format!("{minute} {hour}/6 */2 * {weekday}"),
            _ => format!("0 {minute} {hour} {day} {month}/2 * 2001-2060/3"),
        };
        let calendar = calendar(&expression);
        let from = datetime(1970, 1, 1, 0, 0, 0, 0) + SignedDuration::from_secs(start * 86_400 + offset);
        let to = from + SignedDuration::from_secs(length * 86_399);
        let found = walk(&calendar, from, to);
        prop_assert!(found.iter().all(|at| matches(&calendar, *at)));
        let count = u64::try_from(found.len()).unwrap();
        prop_assert_eq!(calendar.count(from, to), (count, found.last().copied()));
    }
}
