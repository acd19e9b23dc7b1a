//! The grammar: what is read, how it is normalised, what is refused and in which words.
#![allow(clippy::disallowed_methods)] // Figures are printed, never asserted.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::super::cron::{CronError, CronExpr};
use super::super::trigger::normalise_original;
use super::{calendar, expression};

fn normalised(text: &str) -> String {
    CronExpr::parse(text).map_or_else(|error| error.to_string(), |expr| expr.normalised().to_owned())
}

fn original(text: &str) -> String {
    normalise_original(text).unwrap_or_else(|error| error.to_string())
}

fn check(rows: &[(&str, &str)], read: fn(&str) -> String) {
    for (text, expected) in rows {
        assert_eq!(read(text), *expected, "for {text:?}");
    }
}

#[test]
fn expressions_are_normalised_to_seconds_first() {
    check(
        &[
            ("0 30 2 * * MON-FRI", "0 30 2 * * MON-FRI"),
            ("30 2 * * 1-5", "0 30 2 * * MON-FRI"),
            ("  */5 *\t* * *  ", "0 */5 * * * *"),
            ("0 0 12 ? jan,MARCH ?", "0 0 12 * 1,3 *"),
            ("0 0 0 * * 0", "0 0 0 * * SUN"),
            ("0 0 0 * * 7", "0 0 0 * * SUN"),
            ("0 0 0 * * 5-7", "0 0 0 * * FRI-SUN"),
            ("0 0 0 * * fri-sunday", "0 0 0 * * FRI-SUN"),
            ("0 0 0 * * 0-7", "0 0 0 * * SUN-SAT"),
            ("0 0 0 * * sun-mon", "0 0 0 * * SUN-MON"),
            ("5/15 0 0 * * 2/2", "5-59/15 0 0 * * TUE-SAT/2"),
            ("0 0 10-16/3 */10 * *", "0 0 10-16/3 */10 * *"),
            ("0 0 0 1 1 * 2030", "0 0 0 1 1 * 2030"),
            ("0 0 0 1 1 * *", "0 0 0 1 1 *"),
            ("0 0 0 1 1 * */4", "0 0 0 1 1 * */4"),
            ("07 08 09 * * *", "7 8 9 * * *"),
            ("*/60 */60 */24 */31 */12 */7", "*/60 */60 */24 */31 */12 */7"),
            ("@yearly", "0 0 0 1 1 *"),
            ("@Annually", "0 0 0 1 1 *"),
            ("@monthly", "0 0 0 1 * *"),
            ("@weekly", "0 0 0 * * SUN"),
            ("@daily", "0 0 0 * * *"),
            ("@midnight", "0 0 0 * * *"),
            ("@hourly", "0 0 * * * *"),
        ],
        normalised,
    );
}

#[test]
fn equal_sets_are_equal_calendars() {
    for (one, other) in [
        ("0 0 0 * * 1", "0 0 0 * * MON"),
        ("0 0 0 * * 5-7", "0 0 0 * * 0,5,6"),
        ("0 0 0 * * 1-7/2", "0 0 0 * * MON,WED,FRI,SUN"),
        ("0 0 0 * * */2", "0 0 0 * * */2,0"),
        ("*/20 * * * *", "0 0,20,40 * * * *"),
        ("0 3/7 * * * *", "0 3-59/7 * * * *"),
        ("0 */60 * * * *", "0 0 * * * *"),
        ("0 0 0 */31 * *", "0 0 0 */31,1 * *"),
        ("0 0 0 1 february-november/3 *", "0 0 0 1 2,5,8,11 *"),
        ("* * * * * * 1970-2099", "* * * * * * 1970/1"),
    ] {
        assert_eq!(calendar(one), calendar(other), "{one} and {other}");
    }
}

#[test]
fn refusals_name_the_field_and_the_reason() {
    check(
        &[
            ("0 0 25 * * *", "cron: field 3 (hours): 25 is not in 0-23"),
            ("60 * * * *", "cron: field 1 (minutes): 60 is not in 0-59"),
            ("60 * * * * *", "cron: field 1 (seconds): 60 is not in 0-59"),
            ("0 0 0 0 * *", "cron: field 4 (day of month): 0 is not in 1-31"),
            ("0 0 0 1 13 *", "cron: field 5 (month): 13 is not in 1-12"),
            ("0 0 0 1 foo *", "cron: field 5 (month): \"foo\" is not a number or name"),
            ("0 0 0 * * 8", "cron: field 6 (day of week): 8 is not in 0-6"),
            ("0 0 0 * * * 1969", "cron: field 7 (year): 1969 is not in 1970-2099"),
            ("0 0 0 * * * 2100", "cron: field 7 (year): 2100 is not in 1970-2099"),
            (
                "99999999999999999999 * * * * *",
                "cron: field 1 (seconds): 99999999999999999999 is not in 0-59",
            ),
            ("*/0 * * * * *", "cron: field 1 (seconds): a step of 0 never ends"),
            ("*/70 * * * * *", "cron: field 1 (seconds): the step 70 is larger than the field (0-59)"),
            ("*/-1 * * * * *", "cron: field 1 (seconds): the step \"-1\" is not a number"),
            ("1/2/3 * * * * *", "cron: field 1 (seconds): the step \"2/3\" is not a number"),
            ("+5 * * * * *", "cron: field 1 (seconds): \"+5\" is not a number"),
            ("1,,2 * * * * *", "cron: field 1 (seconds): a number is missing"),
            ("5- * * * * *", "cron: field 1 (seconds): a number is missing"),
            ("*-5 * * * * *", "cron: field 1 (seconds): \"*\" is not a number"),
            ("? * * * * *", "cron: field 1 (seconds): ? is for the two day fields; write *"),
            (
                "0 0 20-4 * * *",
                "cron: field 3 (hours): the range 20-4 runs backwards; write it as a list of two ranges",
            ),
            (
                "0 0 0 * * SAT-MON",
                "cron: field 6 (day of week): the range SAT-MON runs backwards; write it as a list of two ranges",
            ),
            ("0 0 0 * * 7-7", "cron: field 6 (day of week): 7 (Sunday) can end a range, not start it"),
            ("0 0 0 L * *", "cron: field 4 (day of month): L: L, W and # are not supported in this version"),
            (
                "0 0 0 15W * *",
                "cron: field 4 (day of month): 15W: L, W and # are not supported in this version",
            ),
            (
                "0 0 0 L-3 * *",
                "cron: field 4 (day of month): L: L, W and # are not supported in this version",
            ),
            (
                "0 0 0 * * FRI#2",
                "cron: field 6 (day of week): FRI#2: L, W and # are not supported in this version",
            ),
            ("0 0 0 * * 5L", "cron: field 6 (day of week): 5L: L, W and # are not supported in this version"),
            ("", "cron: is empty: give an expression such as 0 0 2 * * *"),
            (" \t ", "cron: is empty: give an expression such as 0 0 2 * * *"),
            ("* * * *", "cron: 4 fields; there must be 5 (from minutes), 6 or 7 (with a year)"),
            ("* * * * * * * *", "cron: 8 fields; there must be 5 (from minutes), 6 or 7 (with a year)"),
        ],
        normalised,
    );
    assert_eq!(CronExpr::parse("@dailyish"), Err(CronError::Nickname("@dailyish".to_owned())));
}

#[test]
fn the_originals_rule_is_kept_for_its_contract() {
    check(
        &[
            ("0 30 2 * *", "0 30 2 * * *"),
            ("0 30 2 1 6", "0 30 2 1 6 *"),
            ("0 30 2 * * 1-5", "0 30 2 * * MON-FRI"),
            ("? ? ? ? ? ?", "* * * * * *"),
            ("?/20 * * * * *", "*/20 * * * * *"),
            ("5/15 * * * * *", "5-59/15 * * * * *"),
            ("*/70 1,,2 * * * *", "*/60 1,2 * * * *"),
            ("0 0 0 * * 7", "cron: field 6 (day of week): 7 is not in 0-6"),
            ("0 0 0 * * 5-7", "cron: field 6 (day of week): 7 is not in 0-6"),
            (", * * * * *", "cron: field 1 (seconds): the list is empty"),
            ("*/0 * * * * *", "cron: field 1 (seconds): a step of 0 never ends"),
            ("0 0 0 1 1 * 2030", "cron: 7 fields; there must be 5 or 6, from seconds"),
            ("@hourly", "0 0 * * * *"),
            ("@every 1h30m", "@every 1h30m"),
            ("@every 90s", "@every 1m30s"),
            ("@every 1.9s", "@every 1s"),
            ("@every 5ms", "@every 1s"),
            ("@every 24h", "@every 24h"),
            ("@every soon", "cron: @every: \"soon\" is not a duration such as 90s or 1h30m"),
        ],
        original,
    );
}

#[test]
fn a_megabyte_is_refused_before_it_is_read() {
    let huge = "*,".repeat(500_000);
    let start = Instant::now();
    for _ in 0..1_000 {
        assert_eq!(CronExpr::parse(&huge), Err(CronError::TooLong));
        assert!(normalise_original(&huge).is_err());
    }
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[test]
fn the_longest_text_that_is_read_is_read_fast() {
    let longest = format!("{}0 * * * * *", "0,".repeat(122));
    assert!(longest.len() <= 256);
    let start = Instant::now();
    assert!(CronExpr::parse(&longest).is_ok());
    assert!(start.elapsed() < Duration::from_millis(200));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_the_parser_panic(text in ".{0,80}") {
        let _ = CronExpr::parse(&text);
        let _ = CronExpr::parse_original(&text);
        let _ = normalise_original(&text);
    }

    /// Our own check and the crate that reads the translation must never disagree.
    #[test]
    fn whatever_passes_the_fields_is_compiled_and_stays_the_same_when_read_again(
        text in "[0-9*?,/A-Z@-]{1,6}( [0-9*?,/-]{1,4}){3} ([0-9*?,/-]{1,4}|JAN|OCT-DEC) ([0-9*?,/-]{1,4}|SUN|MON-SUN|2/2)"
    ) {
        for parse in [CronExpr::parse, CronExpr::parse_original] {
            match parse(&text) {
                Ok(expr) => {
                    let again = CronExpr::parse(expr.normalised()).unwrap();
                    prop_assert_eq!(&again, &expr);
                }
                Err(error) => prop_assert!(!matches!(error, CronError::Refused(_)), "{}: {}", text, error),
            }
        }
    }

    #[test]
    fn generated_expressions_survive_normalisation(text in expression::any()) {
        let expr = CronExpr::parse(&text).unwrap();
        let again = CronExpr::parse(expr.normalised()).unwrap();
        prop_assert_eq!(again, expr);
    }
}
