//! Calendars: tables, and random days against a slow reading of what they mean.
#![allow(clippy::disallowed_methods)] // Figures are printed, never asserted.

use std::sync::Arc;

use forest_proto::record::{Calendar, DayRange, DstFold, DstGap};
use forest_proto::time::Instant;
use jiff::Timestamp;
use jiff::civil::Date;
use proptest::prelude::*;

use super::super::cache::ScheduleCache;
use super::super::days::Days;
use super::super::notes::Note;
use super::super::trigger::{Schedule, ScheduleError};
use super::super::zone::find_zone;
use super::expression;

const DAY_MS: i64 = 24 * 3600 * 1_000;

fn named(excluded: &[&str], included: &[&str]) -> Calendar {
    let days = |texts: &[&str]| texts.iter().map(|text| text.parse::<DayRange>().unwrap()).collect();
    Calendar {
        name: "days".parse().unwrap(),
        remark: String::new(),
        excluded: days(excluded),
        included: days(included),
        version: 1,
        updated_at: None,
    }
}

fn on(spec: &str, zone: &str, calendars: &[Calendar]) -> Schedule {
    rule(spec, zone, (DstGap::NextValid, DstFold::First), calendars)
}

fn rule(spec: &str, zone: &str, (gap, fold): (DstGap, DstFold), calendars: &[Calendar]) -> Schedule {
    let days = Arc::new(Days::merged(calendars));
    Schedule::compile_on(spec, zone, gap, fold, Some(&days)).unwrap()
}

fn ms(text: &str) -> i64 {
    text.parse::<Timestamp>().unwrap().as_millisecond()
}

/// The local dates and times of the first fires after an instant.
fn fires(schedule: &Schedule, zone: &str, after: &str, n: usize) -> Vec<String> {
    let next = |at: &i64| schedule.next_after(*at, 0);
    let fires = std::iter::successors(Some(ms(after)), next).skip(1).take(n);
    let zone = find_zone(zone).unwrap();
    let local = |at| Timestamp::from_millisecond(at).unwrap().to_zoned(zone.clone());
    fires.map(|at| local(at).strftime("%m-%d %H:%M").to_string()).collect()
}

#[test]
fn days_are_left_out_and_put_in() {
    let golden_week = named(&["2027-10-01..2027-10-07"], &["2027-10-09", "2027-09-26"]);
    let work = on("0 0 9 * * MON-FRI", "Asia/Shanghai", &[golden_week]);
    let expected = ["09-26 09:00", "09-27 09:00", "09-28 09:00", "09-29 09:00", "09-30 09:00", "10-08 09:00"];
    let all = fires(&work, "Asia/Shanghai", "2027-09-25T00:00:00Z", 8);
    assert_eq!(all[..6], expected);
    assert_eq!(all[6..], ["10-09 09:00", "10-11 09:00"], "the Saturday is put in, the Sunday is not");
    assert_eq!(work.count_between(ms("2027-09-25T00:00:00Z"), ms("2027-10-11T12:00:00Z"), 0, 99).0, 8);
}

#[test]
fn what_is_put_in_anywhere_beats_what_is_left_out_anywhere() {
    let (out, put) = (named(&["2027-03-01..2027-03-31"], &[]), named(&["2027-03-03"], &["2027-03-03"]));
    for calendars in [[out.clone(), put.clone()], [put, out]] {
        let daily = on("0 0 9 * * *", "", &calendars);
        assert_eq!(fires(&daily, "", "2027-02-28T10:00:00Z", 2), ["03-03 09:00", "04-01 09:00"]);
    }
}

#[test]
fn a_day_that_is_put_in_changes_neither_months_nor_years_nor_times() {
    let put_in = named(&[], &["2027-05-02", "2028-01-02", "2027-01-03"]);
    let january = on("0 30 6,7 * JAN MON 2027", "", std::slice::from_ref(&put_in));
    let expected = ["01-03 06:30", "01-03 07:30", "01-04 06:30", "01-04 07:30", "01-11 06:30"];
    assert_eq!(fires(&january, "", "2026-12-31T00:00:00Z", 5), expected);
    assert_eq!(fires(&january, "", "2027-01-25T12:00:00Z", 5), Vec::<String>::new());
    // With both day fields restricted, and with a day of the month.
    let either = on("0 0 0 13 * FRI", "", std::slice::from_ref(&put_in));
    assert_eq!(fires(&either, "", "2027-05-01T00:00:00Z", 3), ["05-02 00:00", "05-07 00:00", "05-13 00:00"]);
}

#[test]
fn the_day_is_that_of_the_jobs_zone() {
    let out = named(&["2027-10-01"], &[]);
    // 2027-10-01T18:00Z is the 2nd in Shanghai, and the 1st in New York.
    for (zone, expected) in [("Asia/Shanghai", "10-02 02:00"), ("America/New_York", "10-02 02:00")] {
        let nightly = on("0 0 2 * * *", zone, std::slice::from_ref(&out));
        assert_eq!(fires(&nightly, zone, "2027-09-30T12:00:00Z", 1), [expected], "{zone}");
        let hourly = on("@every 1h", zone, std::slice::from_ref(&out));
        assert_eq!(fires(&hourly, zone, "2027-09-30T20:00:00Z", 40).len(), 40, "{zone}");
        let (start, end) = if zone == "Asia/Shanghai" {
            ("2027-09-30T16:00:00Z", "2027-10-01T16:00:00Z")
        } else {
            ("2027-10-01T04:00:00Z", "2027-10-02T04:00:00Z")
        };
        assert_eq!(hourly.next_after(ms(start) - 1, 0), Some(ms(end)), "{zone}: midnight itself is left out");
        assert_eq!(hourly.count_between(ms(start) - 1, ms(end) - 1, 0, 99), (0, None), "{zone}");
    }
}

#[test]
fn a_gap_moves_no_fire_onto_a_day_that_is_left_out() {
    // Apia had no 30 December 2011: its fires move to the 31st.
    let noon = |out: &[&str]| on("0 0 12 30 12 *", "Pacific/Apia", &[named(out, &[])]);
    let next = |schedule: &Schedule| fires(schedule, "Pacific/Apia", "2011-12-01T00:00:00Z", 1);
    assert_eq!(next(&noon(&["2011-01-01"])), ["12-31 00:00"]);
    for out in ["2011-12-30", "2011-12-31"] {
        let schedule = noon(&[out]);
        let after = ms("2011-12-01T00:00:00Z");
        assert_eq!(schedule.next_after(after, 0), Some(ms("2012-12-29T22:00:00Z")), "{out}");
        assert_eq!(schedule.count_between(after, ms("2012-12-01T00:00:00Z"), 0, 9).0, 0, "{out}");
    }
}

#[test]
fn nothing_but_days_left_out_is_found_to_be_unreachable_at_once() {
    let years = named(&["2027-01-01..2038-12-31"], &[]);
    for spec in ["* * * * * *", "@every 1s"] {
        let schedule = on(spec, "Europe/Berlin", std::slice::from_ref(&years));
        let now = ms("2027-02-01T00:00:00Z");
        assert_eq!(schedule.check_reachable(now, 0), Err(ScheduleError::Unreachable), "{spec}");
        assert_eq!(schedule.next_after(now, 0), Some(ms("2038-12-31T23:00:00Z")), "{spec}");
        assert_eq!(schedule.count_between(now, ms("2038-12-31T22:59:59Z"), 0, 1), (0, None), "{spec}");
    }
    // The rarest day, left out 48 years long: the search goes on where the calendar ends.
    let leap_days: Vec<_> = (2028..2096).step_by(4).map(|year| format!("{year}-02-29")).collect();
    let leap_days = named(&leap_days.iter().map(String::as_str).collect::<Vec<_>>(), &[]);
    let rare = on("0 0 0 29 2 *", "", &[leap_days]);
    assert_eq!(rare.next_after(ms("2027-01-01T00:00:00Z"), 0), Some(ms("2096-02-29T00:00:00Z")));
}

#[test]
fn years_with_thousands_of_days_are_counted_at_once() {
    // Every second day of 27 years is left out, and each of those put in again by the half of the calendars.
    let day = |n: i64| Timestamp::from_second((18_262 + n) * 24 * 3600).unwrap().to_string()[..10].to_owned();
    let texts: Vec<_> = (0..5_000).map(|n| day(2 * n)).collect();
    let texts: Vec<_> = texts.iter().map(String::as_str).collect();
    let calendars = [named(&texts, &[]), named(&[], &texts[..2_500])];
    let (from, end) = (ms("2019-12-31T23:59:59Z"), ms("2047-05-18T23:59:59Z"));
    for (spec, a_day) in [("* * * * * *", 86_400), ("@every 1s", 86_400)] {
        let schedule = on(spec, "", &calendars);
        let start = std::time::Instant::now();
        let (count, last) = schedule.count_between(from, end, 0, u64::MAX);
        println!("{spec}: {count} fires of 27 years counted in {:?}", start.elapsed());
        assert_eq!((count, last), (7_500 * a_day, Some(end)), "{spec}");
    }
}

#[test]
fn jobs_on_the_same_days_share_one_schedule() {
    let cache = ScheduleCache::default();
    let intern = |calendar: &Calendar| {
        let days = Arc::new(Days::merged([calendar]));
        cache.intern("@daily", "UTC", DstGap::NextValid, DstFold::First, Some(&days)).unwrap()
    };
    let one = named(&["2027-01-01..2027-01-02"], &[]);
    let same = Calendar {
        name: "other".parse().unwrap(),
        updated_at: Some(Instant::from_ms(1)),
        ..named(&["2027-01-02", "2027-01-01"], &[])
    };
    let kept = intern(&one);
    assert!(Arc::ptr_eq(&kept, &intern(&same)));
    assert!(!Arc::ptr_eq(&kept, &intern(&named(&["2027-01-01"], &[]))));
    let plain = cache.intern("@daily", "UTC", DstGap::NextValid, DstFold::First, None).unwrap();
    assert!(!Arc::ptr_eq(&kept, &plain));
}

/// The notes of the first fires after an instant.
fn notes(schedule: &Schedule, after: &str, n: usize) -> Vec<Vec<Note>> {
    let mut at = ms(after);
    (0..n)
        .map(|_| {
            let next = schedule.next_after(at, 0).unwrap();
            let notes = schedule.notes(at, next, 0);
            at = next;
            notes
        })
        .collect()
}

#[test]
fn notes_tell_what_clocks_and_calendars_did() {
    let at = |text: &str| text.parse::<jiff::civil::DateTime>().unwrap();
    let day = |text: &str| text.parse::<Date>().unwrap();
    let berlin = |spec, policy| rule(spec, "Europe/Berlin", policy, &[]);
    let (first, both) = ((DstGap::NextValid, DstFold::First), (DstGap::Skip, DstFold::Both));
    let due = at("2027-03-28T02:30");
    let spring = "2027-03-27T12:00:00Z";
    assert_eq!(
        notes(&berlin("0 30 2 * * *", first), spring, 2),
        [vec![Note::Moved { due, to: at("2027-03-28T03:00") }], vec![]]
    );
    assert_eq!(notes(&berlin("0 30 2 * * *", both), spring, 1), [[Note::Dropped { due }]]);
    assert_eq!(notes(&berlin("0 30 * * * *", first), "2027-03-28T00:00:00Z", 3), [vec![], vec![], vec![]]);
    let (autumn, twice) = ("2027-10-30T12:00:00Z", at("2027-10-31T02:30"));
    assert_eq!(
        notes(&berlin("0 30 2 * * *", first), autumn, 2),
        [vec![Note::FirstOnly { at: twice }], vec![]]
    );
    let one_of = |second| vec![Note::OneOfTwo { at: twice, second }];
    assert_eq!(notes(&berlin("0 30 2 * * *", both), autumn, 3), [one_of(false), one_of(true), vec![]]);

    let week = named(&["2027-10-01..2027-10-07"], &["2027-10-09"]);
    let work = on("0 0 9,18 * * MON-FRI", "Asia/Shanghai", &[week]);
    let left_out = Note::LeftOut { first: day("2027-10-01"), last: day("2027-10-07"), fires: 10 };
    let put_in = vec![Note::PutIn { day: day("2027-10-09") }];
    assert_eq!(
        notes(&work, "2027-09-30T10:00:00Z", 5),
        [vec![left_out], vec![], put_in.clone(), put_in, vec![]]
    );
    let every = on("@every 12h", "Asia/Shanghai", &[named(&["2027-10-02"], &[])]);
    let left_out = Note::LeftOut { first: day("2027-10-02"), last: day("2027-10-02"), fires: 2 };
    assert_eq!(notes(&every, "2027-10-01T12:00:00Z", 2), [vec![left_out], vec![]]);
}

fn any_calendar() -> impl Strategy<Value = Calendar> {
    let range = |longest: i64| {
        (17_897_i64..19_000, 0..longest).prop_map(|(first, more)| {
            let day = |n: i64| {
                Timestamp::from_second(n * 24 * 3600).unwrap().to_zoned(jiff::tz::TimeZone::UTC).date()
            };
            DayRange::new(day(first), day(first + more)).unwrap()
        })
    };
    let lists = (prop::collection::vec(range(40), 0..12), prop::collection::vec(range(4), 0..12));
    lists.prop_map(|(excluded, included)| Calendar { excluded, included, ..named(&[], &[]) })
}

fn lists(calendars: &[Calendar], day: Date, list: fn(&Calendar) -> &Vec<DayRange>) -> bool {
    calendars.iter().flat_map(list).any(|range| (range.first()..=range.last()).contains(&day))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// The fires are those of the expression on days not left out, and those of the same expression without
    /// day fields on days that are put in. 2019 to 2022, in zones with gaps and folds.
    #[test]
    fn cron_jobs_fire_as_the_days_say(
        expression in expression::any(), calendars in prop::collection::vec(any_calendar(), 0..3),
        zone in prop::sample::select(vec!["", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca"]),
        start in 17_897_i64..18_900, second in 0..60_u8, minute in 0..60_u8,
    ) {
        // Few enough fires a day to look at each.
        let fields: Vec<_> = expression.split(' ').collect();
        let rest = fields[2..].join(" ");
        let open = format!("{second} {minute} {} * {} *", fields[2], fields[4]);
        let policy = (DstGap::Skip, DstFold::First);
        let scheduled = rule(&format!("{second} {minute} {rest}"), zone, policy, &calendars);
        let bare = rule(&format!("{second} {minute} {rest}"), zone, policy, &[]);
        let open = rule(&open, zone, policy, &[]);
        let tz = find_zone(zone).unwrap();
        let day = |at: i64| Timestamp::from_millisecond(at).unwrap().to_zoned(tz.clone()).date();
        let (from, to) = (start * DAY_MS, (start + 90) * DAY_MS);
        let all = |schedule: &Schedule| {
            let next = |at: &i64| schedule.next_after(*at, 0);
            let fires = std::iter::successors(Some(from), next).skip(1);
            fires.take_while(|at| *at <= to).collect::<std::collections::BTreeSet<_>>()
        };
        let included = |at: &i64| lists(&calendars, day(*at), |calendar| &calendar.included);
        let excluded = |at: &i64| lists(&calendars, day(*at), |calendar| &calendar.excluded) && !included(at);
        let mut expected: std::collections::BTreeSet<i64> = all(&bare).into_iter().filter(|at| !excluded(at)).collect();
        expected.extend(all(&open).into_iter().filter(included));
        prop_assert_eq!(&all(&scheduled), &expected, "{} in {:?}", expression, zone);
        let count = u64::try_from(expected.len()).unwrap();
        prop_assert_eq!(scheduled.count_between(from, to, 0, u64::MAX), (count, expected.last().copied()));
    }

    #[test]
    fn intervals_fire_as_the_days_say(
        calendars in prop::collection::vec(any_calendar(), 0..3), minutes in 1_i64..6_000,
        zone in prop::sample::select(vec!["", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca"]),
        start in 17_897_i64..18_900,
    ) {
        let schedule = on(&format!("@every {minutes}m"), zone, &calendars);
        let tz = find_zone(zone).unwrap();
        let (from, period) = (start * DAY_MS, minutes * 60_000);
        let to = from + 1_000.min(90 * DAY_MS / period) * period;
        let day = |at: i64| Timestamp::from_millisecond(at).unwrap().to_zoned(tz.clone()).date();
        let included = |at: i64| lists(&calendars, day(at), |calendar| &calendar.included);
        let excluded = |at: i64| lists(&calendars, day(at), |calendar| &calendar.excluded) && !included(at);
        let expected: Vec<_> = (1..).map(|n| from + n * period).take_while(|at| *at <= to).filter(|at| !excluded(*at)).collect();
        let next = |at: &i64| schedule.next_after(*at, from);
        let found: Vec<_> = std::iter::successors(Some(from), next).skip(1).take_while(|at| *at <= to).collect();
        prop_assert_eq!(&found, &expected);
        let count = u64::try_from(expected.len()).unwrap();
        prop_assert_eq!(schedule.count_between(from, to, from, u64::MAX), (count, expected.last().copied()));
        // Any slices add up.
        let middle = from + (to - from) / 3;
        let counts = [(from, middle), (middle, to)].map(|(a, b)| schedule.count_between(a, b, from, u64::MAX).0);
        prop_assert_eq!(counts[0] + counts[1], count);
    }
}
