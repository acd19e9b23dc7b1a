//! Fires against Python's croniter: `make oracle`.
//!
//! Left out, because croniter means something else by it, or cannot say it:
//!
//! - Fires less than a day from a change of the zone's clock, and what follows them: croniter has no rule for
//!   gaps and folds that could be chosen.
//! - A star inside a list of days beside a weekday, and years: croniter only looks at how a day field begins,
//!   and its year field has limits of its own.
//! - A range of one number (`5-5`): croniter takes it for one that goes all the way round, which is everything.
//! - Weekdays with an open end (`1/2`): croniter goes on to its highest weekday, 7.
//! - Calendars and `@every`: it has neither. [`super::days`] is for those.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::Command;

use forest_proto::record::{DstFold, DstGap};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::super::trigger::Schedule;
use super::super::zone::find_zone;
use super::expression;

/// Names the Python in whose environment croniter is installed.
const PYTHON: &str = "FOREST_CRONITER";
/// How many expressions; `FOREST_CRONITER_CASES` for another number.
const CASES: usize = 20_000;
const FIRES: usize = 4;
const DAY_S: i64 = 24 * 3600;
const ZONES: [&str; 6] =
    ["UTC", "Europe/Berlin", "America/New_York", "Asia/Shanghai", "Asia/Kathmandu", "Australia/Lord_Howe"];

struct Question {
    expression: String,
    zone: &'static str,
    start: i64,
}

/// The same questions every time.
fn questions(count: usize) -> Vec<Question> {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, b"forest against croniter: seed 01");
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let any = (expression::any(), proptest::sample::select(&ZONES[..]), 0_i64..2_000_000_000);
    let question = || {
        let (expression, zone, start) = any.new_tree(&mut runner).unwrap().current();
        Question { expression, zone, start }
    };
    std::iter::repeat_with(question)
        .filter(|asked| !has_single_range(&asked.expression))
        .take(count)
        .collect()
}

fn has_single_range(expression: &str) -> bool {
    let elements = expression.split([' ', ',']).map(|element| element.split('/').next().unwrap_or(element));
    elements.filter_map(|element| element.split_once('-')).any(|(from, to)| from == to)
}

/// The answers of croniter, one line for each question.
fn ask(python: &std::ffi::OsStr, questions: &[Question]) -> Vec<String> {
    let mut text = String::new();
    for Question { expression, zone, start } in questions {
        writeln!(text, "{expression}\t{zone}\t{start}\t{FIRES}").unwrap();
    }
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/oracle/croniter_fires.py");
    let output = Command::new(python).arg(script).arg(file.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// Whether the clock changes less than a day from the instant.
fn is_near_change(zone: &TimeZone, second: i64) -> bool {
    let offset = |at| zone.to_offset(Timestamp::from_second(at).unwrap());
    offset(second - DAY_S) != offset(second) || offset(second) != offset(second + DAY_S)
}

#[test]
fn fires_in_zones_are_those_of_croniter() {
    let Some(python) = std::env::var_os(PYTHON) else {
        eprintln!("SKIPPED: {PYTHON} does not name a Python with croniter; `make oracle` does");
        return;
    };
    let cases = std::env::var("FOREST_CRONITER_CASES").map_or(CASES, |cases| cases.parse().unwrap());
    let questions = questions(cases);
    let answers = ask(&python, &questions);
    assert_eq!(answers.len(), questions.len());
    let (mut compared, mut left_out, mut wrong) = (0, 0, Vec::new());
    for (Question { expression, zone, start }, answer) in questions.iter().zip(&answers) {
        let schedule = Schedule::compile(expression, zone, DstGap::NextValid, DstFold::First).unwrap();
        let tz = find_zone(zone).unwrap();
        let mut at = *start;
        for (number, expected) in answer.split(',').enumerate() {
            let Ok(expected) = expected.parse::<i64>() else {
                wrong.push(format!("{expression} in {zone} after {start}: {answer}"));
                break;
            };
            if is_near_change(&tz, at) || is_near_change(&tz, expected) {
                left_out += FIRES - number;
                break;
            }
            let found = schedule.next_after(at * 1_000, 0);
            if found != Some(expected * 1_000) {
                wrong.push(format!("{expression} in {zone} after {at}: {found:?}, croniter {expected}"));
                break;
            }
            compared += 1;
            at = expected;
        }
    }
    println!(
        "{} expressions: {compared} fires are croniter's, {left_out} left out near a change of the clock",
        questions.len()
    );
    let shown = wrong.iter().take(20).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(wrong.is_empty(), "{} differ:\n{shown}", wrong.len());
    assert!(compared > cases * FIRES / 2, "{compared}: most are left out");
}
