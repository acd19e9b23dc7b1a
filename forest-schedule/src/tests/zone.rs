//! Clock changes: tables for well-known ones, and a slow reading of the rule for all changes of many zones.

use forest_proto::record::DstFold::{self, Both, First};
use forest_proto::record::DstGap::{self, NextValid, Skip};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::super::calendar::Calendar;
use super::super::trigger::Schedule;
use super::super::zone::find_zone;
use super::{calendar, matches};

const ZONES: &[&str] = &[
    "Africa/Cairo",
    "Africa/Casablanca",
    "Africa/El_Aaiun",
    "America/Caracas",
    "America/Ciudad_Juarez",
    "America/Havana",
    "America/Los_Angeles",
    "America/New_York",
    "America/Santiago",
    "America/Sao_Paulo",
    "America/St_Johns",
    "Antarctica/Casey",
    "Antarctica/Troll",
    "Asia/Gaza",
    "Asia/Kathmandu",
    "Asia/Pyongyang",
    "Asia/Tehran",
    "Atlantic/Azores",
    "Australia/Lord_Howe",
    "Europe/Berlin",
    "Europe/Dublin",
    "Europe/London",
    "Europe/Moscow",
    "Pacific/Apia",
    "Pacific/Chatham",
    "Pacific/Kwajalein",
];

/// The fires of a day and the following night, as local time with offset.
fn fires(expression: &str, zone: &str, (gap, fold): (DstGap, DstFold), from: &str, to: &str) -> Vec<String> {
    let schedule = Schedule::compile(expression, zone, gap, fold).unwrap();
    let ms = |text: &str| text.parse::<Timestamp>().unwrap().as_millisecond();
    let mut at = ms(from) - 1;
    let mut fires = Vec::new();
    while let Some(next) = schedule.next_after(at, 0).filter(|next| *next < ms(to)) {
        let zoned = Timestamp::from_millisecond(next).unwrap().to_zoned(find_zone(zone).unwrap());
        fires.push(zoned.strftime("%d %H:%M%:z").to_string());
        at = next;
    }
    let count = u64::try_from(fires.len()).unwrap();
    assert_eq!(schedule.count_between(ms(from) - 1, ms(to) - 1, 0, u64::MAX).0, count);
    fires
}

fn new_york_spring(expression: &str, rule: (DstGap, DstFold)) -> Vec<String> {
    fires(expression, "America/New_York", rule, "2026-03-08T05:30:00Z", "2026-03-08T08:30:00Z")
}

fn new_york_autumn(expression: &str, rule: (DstGap, DstFold)) -> Vec<String> {
    fires(expression, "America/New_York", rule, "2026-11-01T04:30:00Z", "2026-11-01T07:30:00Z")
}

#[test]
fn a_fixed_time_in_a_gap_fires_once_at_its_end_or_not_at_all() {
    assert_eq!(new_york_spring("0 30 2 * * *", (NextValid, First)), ["08 03:00-04:00"]);
    assert_eq!(new_york_spring("0 30 2 * * *", (Skip, First)), Vec::<String>::new());
    // Many times within the gap are one fire, and so is the regular one at the same instant.
    assert_eq!(new_york_spring("0 */10 2 * * *", (NextValid, Both)), ["08 03:00-04:00"]);
    assert_eq!(new_york_spring("0 0,30 2,3 * * *", (NextValid, First)), ["08 03:00-04:00", "08 03:30-04:00"]);
    assert_eq!(new_york_spring("0 30 2,3 * * *", (Skip, First)), ["08 03:30-04:00"]);
    // The end of the gap is no local time of its own for a job that was not due in it.
    assert_eq!(new_york_spring("0 30 1 * * *", (NextValid, First)), ["08 01:30-05:00"]);
}

#[test]
fn a_fixed_time_in_a_fold_fires_in_the_first_pass_or_in_both() {
    assert_eq!(new_york_autumn("0 30 1 * * *", (NextValid, First)), ["01 01:30-04:00"]);
    assert_eq!(new_york_autumn("0 30 1 * * *", (NextValid, Both)), ["01 01:30-04:00", "01 01:30-05:00"]);
    assert_eq!(new_york_autumn("0 0 1,2 * * *", (Skip, First)), ["01 01:00-04:00", "01 02:00-05:00"]);
    // Also when the expression has no other time to come, ever.
    assert_eq!(
        new_york_autumn("0 30 1 1 11 ? 2026", (NextValid, Both)),
        ["01 01:30-04:00", "01 01:30-05:00"]
    );
}

#[test]
fn a_star_hour_fires_at_every_real_interval_whatever_the_rule() {
    for rule in [(NextValid, First), (Skip, Both)] {
        assert_eq!(
            new_york_spring("0 0 * * * *", rule),
            ["08 01:00-05:00", "08 03:00-04:00", "08 04:00-04:00"]
        );
        assert_eq!(
            new_york_autumn("0 */30 * * * *", rule),
            [
                "01 00:30-04:00",
                "01 01:00-04:00",
                "01 01:30-04:00",
                "01 01:00-05:00",
                "01 01:30-05:00",
                "01 02:00-05:00"
            ]
        );
        assert_eq!(
            fires("0 */15 */2 * * *", "America/Havana", rule, "2026-11-01T04:20:00Z", "2026-11-01T05:20:00Z"),
            ["01 00:30-04:00", "01 00:45-04:00", "01 00:00-05:00", "01 00:15-05:00"]
        );
    }
}

#[test]
fn half_an_hour_and_a_whole_day_are_gaps_too() {
    let default = (NextValid, First);
    let lord_howe = |expression, rule, day: &str| {
        let (from, to) = (format!("{day}T14:00:00Z"), format!("{day}T16:20:00Z"));
        fires(expression, "Australia/Lord_Howe", rule, &from, &to)
    };
    assert_eq!(lord_howe("0 15 2 * * *", default, "2026-10-03"), ["04 02:30+11:00"]);
    assert_eq!(lord_howe("0 45 1 * * *", default, "2026-04-04"), ["05 01:45+11:00"]);
    assert_eq!(lord_howe("0 45 1 * * *", (Skip, Both), "2026-04-04"), ["05 01:45+11:00", "05 01:45+10:30"]);
    // Samoa left out 30 December 2011.
    let apia =
        |rule| fires("0 0 12 * * *", "Pacific/Apia", rule, "2011-12-29T12:00:00Z", "2011-12-31T12:00:00Z");
    assert_eq!(apia(default), ["29 12:00-10:00", "31 00:00+14:00", "31 12:00+14:00"]);
    assert_eq!(apia((Skip, First)), ["29 12:00-10:00", "31 12:00+14:00"]);
}

/// The fires of a span, minute by minute on the real time line, from nothing but what the clock shows.
fn slow_fires(calendar: &Calendar, rule: (DstGap, DstFold), shown: &[(i64, DateTime)]) -> Vec<i64> {
    let minute = SignedDuration::from_mins(1);
    let mut fires = Vec::new();
    let mut latest = shown[0].1 - minute;
    for (at, local) in shown {
        let again = *local <= latest;
        let mut fire = matches(calendar, *local) && (calendar.has_star_hour() || rule.1 == Both || !again);
        if rule.0 == NextValid && !calendar.has_star_hour() {
            let mut left_out = latest + minute;
            while left_out < *local {
                fire |= matches(calendar, left_out);
                left_out += minute;
            }
        }
        latest = latest.max(*local);
        if fire {
            fires.push(at * 1_000);
        }
    }
    fires
}

fn clock_changes(zone: &TimeZone) -> impl Iterator<Item = (i64, i64)> {
    let from: Timestamp = "2000-01-01T00:00:00Z".parse().unwrap();
    let to: Timestamp = "2038-01-01T00:00:00Z".parse().unwrap();
    zone.following(from).map(|change| change.timestamp()).take_while(move |at| *at < to).map(|at| {
        let before = zone.to_offset(at - SignedDuration::from_secs(1));
        (at.as_second(), i64::from(zone.to_offset(at).seconds() - before.seconds()))
    })
}

#[test]
fn every_clock_change_from_2000_to_2037_follows_the_rule() {
    let expressions = [
        "0 * * * * *",
        "0 */30 * * * *",
        "0 0 */2 * * *",
        "0 15,45 0-4 * * *",
        "0 */20 0,2,23 * * *",
        "0 30 1 * * MON,SUN",
        "0 0 12 * * *",
    ];
    let rules = [(NextValid, First), (Skip, Both)];
    let (mut changes, mut fires) = (0, 0);
    for name in ZONES {
        let zone = find_zone(name).unwrap();
        let compile = |expression, rule: (DstGap, DstFold)| {
            (
                expression,
                rule,
                Schedule::compile(expression, name, rule.0, rule.1).unwrap(),
                calendar(expression),
            )
        };
        let cases: Vec<_> = expressions.iter().flat_map(|e| rules.map(|rule| compile(e, rule))).collect();
        for (at, shift) in clock_changes(&zone) {
            changes += 1;
            let (from, to) = (at - 3_600, at + shift.abs() + 2 * 3_600);
            let local = |at: i64| zone.to_datetime(Timestamp::from_second(at).unwrap());
            let shown: Vec<_> =
                (from / 60..to / 60).map(|minute| (minute * 60, local(minute * 60))).collect();
            let (after, until) = (from * 1_000 - 1, to * 1_000 - 1);
            for (expression, rule, schedule, calendar) in &cases {
                let next = |after: i64| schedule.next_after(after, 0).filter(|at| *at <= until);
                let found: Vec<_> = std::iter::successors(next(after), |at| next(*at)).collect();
                let expected = slow_fires(calendar, *rule, &shown);
                assert_eq!(found, expected, "{expression} in {name} around {at}, {rule:?}");
                assert!(found.is_sorted_by(|one, next| one < next));
                let count = u64::try_from(found.len()).unwrap();
                assert_eq!(schedule.count_between(after, until, 0, u64::MAX), (count, found.last().copied()));
                fires += found.len();
            }
        }
    }
    assert!(changes > 1_000 && fires > 100_000, "{changes} changes, {fires} fires");
}

/// What the rule for folds builds on: the next change comes after the repeated hours are over.
#[test]
fn no_zone_changes_its_clock_twice_within_a_fold() {
    for zone in ZONES.iter().map(|name| find_zone(name).unwrap()) {
        let changes: Vec<_> = clock_changes(&zone).collect();
        for pair in changes.windows(2) {
            assert!(pair[1].0 - pair[0].0 > pair[0].1.abs(), "{zone:?} at {}", pair[0].0);
        }
    }
}

#[test]
fn zones_are_found_by_name_in_the_binary() {
    assert_eq!(find_zone(""), Some(TimeZone::UTC));
    assert!(find_zone("utc").is_some_and(|zone| zone.to_fixed_offset().is_ok()));
    assert!(find_zone("europe/berlin").is_some());
    for name in ["Mars/Olympus", "Etc/Unknown", "../etc/passwd", "Europe/Berlin\0", &"x".repeat(1 << 20)] {
        assert_eq!(find_zone(name), None, "{name:.20}");
    }
}
