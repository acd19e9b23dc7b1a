//! What callers see: intervals, spans, bounds, errors and sharing.
#![allow(clippy::disallowed_methods)] // Figures are printed, never asserted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use forest_proto::record::{DstFold, DstGap};
use proptest::prelude::*;

use super::super::cache::ScheduleCache;
use super::super::trigger::{Schedule, ScheduleError};
use super::expression;

const DAY_MS: i64 = 24 * 3600 * 1_000;
/// 2026-11-21T00:00:00Z.
const NOW_MS: i64 = 1_795_219_200_000;

fn compile(spec: &str, zone: &str) -> Result<Schedule, ScheduleError> {
    Schedule::compile(spec, zone, DstGap::default(), DstFold::default())
}

fn schedule(spec: &str) -> Schedule {
    compile(spec, "").unwrap_or_else(|error| panic!("{spec}: {error}"))
}

#[test]
fn intervals_hang_on_their_anchor() {
    let every = schedule("@every 1h30m");
    let period = 5_400_000;
    assert_eq!(every.next_after(7, 7), Some(7 + period));
    assert_eq!(every.next_after(6 + period, 7), Some(7 + period));
    assert_eq!(every.next_after(7 + period, 7), Some(7 + 2 * period));
    // Before the anchor, the first fire is the one after it.
    assert_eq!(every.next_after(-3 * period, 7), Some(7 + period));
    assert_eq!(every.count_between(7, 7 + 10 * period, 7, u64::MAX), (10, Some(7 + 10 * period)));
    assert_eq!(every.count_between(7, 6 + 10 * period, 7, u64::MAX), (9, Some(7 + 9 * period)));
    assert_eq!(every.count_between(0, 6, 7, u64::MAX), (0, None));
}

#[test]
fn durations_are_read_as_go_writes_them() {
    for (spec, seconds) in [
        ("@every 90s", 90),
        ("@EVERY  1h30m ", 5_400),
        ("@every 1.5h", 5_400),
        ("@every 1h0.5m", 3_630),
        ("@every 60000ms", 60),
        ("@every .5m", 30),
        ("@every 2.m", 120),
        ("@every 8784h", 366 * 24 * 3600),
    ] {
        assert_eq!(schedule(spec).next_after(0, 0), Some(seconds * 1_000), "{spec}");
    }
    for (spec, reason) in [
        ("@every 500ms", "cron: @every: 500ms is not a whole number of seconds"),
        ("@every 1.0005s", "cron: @every: 1.0005s is not a whole number of seconds"),
        ("@every 0s", "cron: @every: shorter than 1s"),
        ("@every 8785h", "cron: @every: longer than 366 days"),
        ("@every 90", "cron: @every: \"90\" is not a duration such as 90s or 1h30m"),
        ("@every -5s", "cron: @every: \"-5s\" is not a duration such as 90s or 1h30m"),
        ("@every .s", "cron: @every: \".s\" is not a duration such as 90s or 1h30m"),
        ("@every 1..5s", "cron: @every: \"1..5s\" is not a duration such as 90s or 1h30m"),
        ("@every 1d", "cron: @every: \"1d\" is not a duration such as 90s or 1h30m"),
        ("@every ", "cron: unknown nickname"),
        ("@every99999999999999999999h", "cron: unknown nickname"),
        ("@every 99999999999999999999h", "cron: @every: \"99999999999999999999h\" is not a duration"),
    ] {
        let error = compile(spec, "").unwrap_err();
        assert!(error.to_string().starts_with(reason), "{spec}: {error}");
        assert_eq!(error.field(), "cron");
    }
    assert!(Schedule::every(999).is_err());
    assert_eq!(Schedule::every(1_500).unwrap().next_after(0, 0), Some(1_500));
}

#[test]
fn refusals_name_the_field_of_the_job() {
    let error = compile("0 0 25 * * *", "").unwrap_err();
    assert_eq!((error.field(), error.reason().as_str()), ("cron", "field 3 (hours): 25 is not in 0-23"));
    let error = compile("* * * * * *", "Mars/Olympus").unwrap_err();
    assert_eq!(error.field(), "time_zone");
    assert!(error.reason().starts_with("\"Mars/Olympus\" is not in the time zone database"), "{error}");
    // A zone means nothing to an interval, but a wrong one is still a mistake.
    assert_eq!(compile("@every 1m", "Mars/Olympus").unwrap_err().field(), "time_zone");
}

#[test]
fn what_does_not_fire_within_eight_years_is_refused() {
    for reachable in ["0 0 0 29 2 *", "* * * * * *", "@every 8784h", "0 0 0 1 1 * 2034"] {
        assert_eq!(schedule(reachable).check_reachable(NOW_MS, NOW_MS), Ok(()), "{reachable}");
    }
    for unreachable in ["0 0 0 30 2 *", "0 0 0 1 1 * 2036", "0 0 0 1 1 * 2020"] {
        let refused = schedule(unreachable).check_reachable(NOW_MS, NOW_MS);
        assert_eq!(refused, Err(ScheduleError::Unreachable), "{unreachable}");
    }
    // The longest wait for a leap day: from the day after one, across 2100.
    let after_leap_day: jiff::Timestamp = "2096-02-29T00:00:00Z".parse().unwrap();
    assert_eq!(schedule("0 0 0 29 2 *").check_reachable(after_leap_day.as_millisecond(), 0), Ok(()));
}

#[test]
fn three_days_of_seconds_are_counted_at_once() {
    let schedule = compile("* * * * * *", "Europe/Berlin").unwrap();
    let start = Instant::now();
    for round in 0..1_000 {
        let after = NOW_MS + round * 60_000;
        assert_eq!(
            schedule.count_between(after, after + 3 * DAY_MS, 0, u64::MAX),
            (259_200, Some(after + 3 * DAY_MS))
        );
    }
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    // The cap bounds the number, not the last fire.
    assert_eq!(schedule.count_between(NOW_MS, NOW_MS + DAY_MS, 0, 10), (10, Some(NOW_MS + DAY_MS)));
}

#[test]
fn time_ends_without_a_panic() {
    for spec in ["* * * * * *", "0 30 2 * * *", "0 0 0 30 2 *", "0 0 0 1 1 * 2099", "@every 1s"] {
        for zone in ["", "America/New_York", "Pacific/Kiritimati", "Africa/Casablanca"] {
            let schedule = compile(spec, zone).unwrap();
            for at in [i64::MIN, -1, 0, NOW_MS, 253_370_764_799_000, 253_402_300_799_000, i64::MAX] {
                for anchor in [i64::MIN, 0, i64::MAX] {
                    if let Some(next) = schedule.next_after(at, anchor) {
                        assert!(next > at, "{spec} {zone} {at} {anchor}");
                    }
                }
            }
            let (count, last) = schedule.count_between(i64::MIN, i64::MAX, 0, 5);
            assert_eq!(count > 0, last.is_some());
        }
    }
    assert_eq!(schedule("* * * * * *").next_after(253_370_764_799_000, 0), None);
    assert_eq!(schedule("* * * * * *").next_after(i64::MIN, 0), Some(0));
    assert_eq!(schedule("* * * * * *").next_after(-1, 0), Some(0));
    assert_eq!(schedule("@every 1s").next_after(i64::MAX - 1, 0), None);
}

#[test]
fn jobs_with_the_same_spec_share_one_schedule() {
    let cache = ScheduleCache::default();
    let intern =
        |spec: &str| cache.intern(spec, "Europe/Berlin", DstGap::default(), DstFold::default(), None);
    let one = intern("0 30 2 * * *").unwrap();
    assert!(Arc::ptr_eq(&one, &intern("0 30 2 * * *").unwrap()));
    assert!(!Arc::ptr_eq(&one, &intern("0 31 2 * * *").unwrap()));
    let both = cache.intern("0 30 2 * * *", "Europe/Berlin", DstGap::default(), DstFold::Both, None).unwrap();
    assert!(!Arc::ptr_eq(&one, &both));
    assert!(intern("nonsense").is_err());
}

#[test]
fn schedules_that_nobody_uses_are_forgotten() {
    let cache = ScheduleCache::default();
    let intern = |spec: &str| cache.intern(spec, "", DstGap::default(), DstFold::default(), None).unwrap();
    let kept = intern("@every 1s");
    for seconds in 2..5_000 {
        intern(&format!("@every {seconds}s"));
    }
    assert!(cache.distinct() <= 64, "{}", cache.distinct());
    assert!(Arc::ptr_eq(&kept, &intern("@every 1s")));
    // While they are in use, none is forgotten.
    let in_use: Vec<_> = (0..1_000).map(|n| intern(&format!("@every {}s", n + 10_000))).collect();
    for (n, schedule) in in_use.iter().enumerate() {
        assert!(Arc::ptr_eq(schedule, &intern(&format!("@every {}s", n + 10_000))));
    }
}

#[test]
fn a_compiled_schedule_is_small() {
    assert!(size_of::<Schedule>() <= 80, "{}", size_of::<Schedule>());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// A misfire count can be taken in any slices and never disagrees with the fires themselves.
    #[test]
    fn spans_add_up(
        expression in expression::any(),
        zone in prop::sample::select(vec!["", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca"]),
        from in 0_i64..3_000_000_000_000, first in 0_i64..40 * DAY_MS, second in 0_i64..400 * DAY_MS,
    ) {
        let schedule = compile(&expression, zone).unwrap();
        let (middle, to) = (from + first, from + first + second);
        let count = |after, until| schedule.count_between(after, until, 0, u64::MAX);
        prop_assert_eq!(count(from, to).0, count(from, middle).0 + count(middle, to).0);
        prop_assert_eq!(count(from, to).1, count(middle, to).1.or(count(from, middle).1));
        if let Some(next) = schedule.next_after(from, 0) {
            prop_assert!(next > from);
            prop_assert_eq!(count(from, next), (1, Some(next)));
            prop_assert_eq!(count(from, next - 1), (0, None));
        }
        if let Some(last) = count(from, to).1 {
            prop_assert!(schedule.next_after(last, 0).is_none_or(|next| next > to));
            prop_assert_eq!(schedule.next_after(last - 1, 0), Some(last));
        }
    }
}
