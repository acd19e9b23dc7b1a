//! Whatever text comes in: `make fuzz SECONDS=60`.
//!
//! A loop with a seed, bounded by time, over random and mutated expressions, zones and days, through reading,
//! compiling and walking. It finds panics, walks that take too long, and fires that do not come after the
//! instant they were asked for. `FOREST_FUZZ_SECONDS` is how long (2 without it), `FOREST_FUZZ_SEED` which seed.
//! What fails is shown as the input of the round, which a test of the dialect then keeps.
#![allow(clippy::disallowed_methods)] // Time bounds the loop and each round.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use forest_proto::record::{Calendar, DstFold, DstGap};

use super::super::cron::CronExpr;
use super::super::days::Days;
use super::super::trigger::{Schedule, normalise_original};
use crate::read_days;

/// A round that takes longer searches without bound. A debug build on a busy machine needs some air.
const PATIENCE: Duration = Duration::from_secs(2);
/// Inputs that brought something new are kept and changed further, the latest so many.
const KEPT: usize = 4_096;
const WALK: usize = 5;
const MAX_CHARS: usize = 400;

const SEEDS: &[&str] = &[
    "0 0 9 * * MON-FRI",
    "*/5 1-30/3,40 0,12 1,15,31 JAN-mar,DEC 5-7",
    "0 30 2 29 2 ? 2096",
    "59 59 23 31 12 SAT 1970-2099/7",
    "15 10 ? * 6L",
    "0 0 12 ? * FRI#2",
    "@yearly",
    "@every 1h30m",
    "@every 1.5h0.5m",
    "0 0 0 30 2 *",
    "* * * * *",
];
const TOKENS: &[&str] = &[
    "*",
    "?",
    "/",
    "-",
    ",",
    " ",
    "L",
    "W",
    "#",
    "@",
    "@every ",
    "@daily",
    "0",
    "1",
    "7",
    "59",
    "60",
    "65535",
    "65536",
    "18446744073709551616",
    "MON",
    "sunday",
    "FEB",
    "2099",
    "\t",
    "\u{a0}",
    "\0",
    "é",
    "٣",
    "1h",
    "ns",
    "µs",
    ".",
    "..",
    "+",
    "e9",
    "--",
    "//",
    ",,",
];
const DAY_SEEDS: &[&str] = &[
    "2027-10-01..2027-10-07 # week\n+2027-10-09\n-2027-12-25\n",
    "BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nDTSTART;VALUE=DATE:20271001\r\nDTEND:2027\r\n 1008\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n",
    "1970-01-01..1983-01-01\n+2096-02-29..2099-12-31",
];
const DAY_TOKENS: &[&str] = &[
    "\n",
    "\r\n",
    " ",
    "\t",
    "+",
    "-",
    "..",
    "#",
    "2027-02-29",
    "2099-12-31",
    "0000-00-00",
    "9999-99-99",
    "BEGIN:",
    "END:",
    "VEVENT",
    "VCALENDAR",
    "DTSTART:",
    "DTEND;VALUE=DATE:",
    "20270101",
    "RRULE:",
    "STATUS:CANCELLED",
    ":",
    ";",
    "\u{feff}",
    "é",
];
const ZONES: &[&str] = &[
    "",
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "Pacific/Apia",
    "America/St_Johns",
    "Asia/Kathmandu",
    "Pacific/Kwajalein",
    "Nowhere/Else",
    "../../etc/passwd",
    "é\0",
];

/// Text, made of what is known by cutting, doubling, putting in and turning characters.
fn mutate(rng: &mut Rng, text: &str, tokens: &[&str], other: &str) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for _ in 0..rng.usize(1..4) {
        let at = rng.usize(0..=chars.len());
        let end = rng.usize(at..=chars.len().min(at + 12));
        match rng.u8(0..7) {
            0 => drop(chars.drain(at..end)),
            1 => drop(chars.splice(at..at, chars[at..end].to_vec())),
            2 | 3 => drop(chars.splice(at..at, rng.choice(tokens).unwrap().chars())),
            4 => drop(chars.splice(at..end, rng.choice(tokens).unwrap().chars())),
            5 => drop(chars.splice(at..end, rng.char('\0'..='\u{ff}').to_string().chars())),
            _ => {
                let other: Vec<char> = other.chars().collect();
                let from = rng.usize(0..=other.len());
                drop(chars.splice(at..at, other[from..].iter().copied()));
            }
        }
    }
    chars.into_iter().take(MAX_CHARS).collect()
}

/// Inputs worth changing.
struct Corpus {
    kept: Vec<String>,
    tokens: &'static [&'static str],
    seeds: usize,
}

impl Corpus {
    fn new(seeds: &[&str], tokens: &'static [&'static str]) -> Self {
        Self { kept: seeds.iter().map(|seed| (*seed).to_owned()).collect(), tokens, seeds: seeds.len() }
    }

    fn next(&self, rng: &mut Rng) -> String {
        // Without the beginnings, all drifts to what is long and says little.
        let from = if rng.u8(0..4) == 0 { &self.kept[..self.seeds] } else { &self.kept[..] };
        let text = rng.choice(from).unwrap();
        let other = rng.choice(&self.kept).unwrap();
        mutate(rng, text, self.tokens, other)
    }

    fn keep(&mut self, rng: &mut Rng, text: String) {
        if self.kept.len() < KEPT {
            self.kept.push(text);
        } else {
            let place = rng.usize(self.seeds..self.kept.len());
            self.kept[place] = text;
        }
    }
}

#[derive(Debug)]
struct Input {
    spec: String,
    zone: &'static str,
    policy: (DstGap, DstFold),
    days: String,
    at: i64,
    anchor: i64,
}

/// What a round has come to: whether the expression and the days were read.
#[derive(Debug, Default, Clone, Copy)]
struct Read {
    spec: bool,
    days: bool,
}

fn days(text: &str) -> Option<Arc<Days>> {
    let lists = read_days(text).ok()?;
    let calendar = Calendar {
        name: "fuzz".parse().unwrap(),
        remark: String::new(),
        excluded: lists.excluded,
        included: lists.included,
        version: 1,
        updated_at: None,
    };
    Some(Arc::new(Days::merged([&calendar])))
}

fn round(input: &Input) -> Read {
    if let Ok(normalised) = normalise_original(&input.spec) {
        assert!(Schedule::compile(&normalised, "", DstGap::Skip, DstFold::First).is_ok(), "{normalised:?}");
    }
    if let Ok(expression) = CronExpr::parse(&input.spec) {
        let again = CronExpr::parse(expression.normalised()).unwrap();
        assert_eq!(again, expression, "normalising changed it");
    }
    let days = days(&input.days);
    let (gap, fold) = input.policy;
    let compiled = Schedule::compile_on(&input.spec, input.zone, gap, fold, days.as_ref());
    let read = Read { spec: compiled.is_ok(), days: days.is_some() };
    let Ok(schedule) = compiled else { return read };
    let mut at = input.at;
    for _ in 0..WALK {
        let Some(next) = schedule.next_after(at, input.anchor) else { break };
        assert!(next > at, "{next} is not after {at}");
        assert_eq!(schedule.next_after(next - 1, input.anchor), Some(next), "asked again, it is another");
        assert_eq!(schedule.count_between(at, next, input.anchor, u64::MAX), (1, Some(next)));
        drop(schedule.notes(at, next, input.anchor));
        at = next;
    }
    let (count, last) = schedule.count_between(input.at, at, input.anchor, u64::MAX);
    assert_eq!((count > 0, last), (at != input.at, (at != input.at).then_some(at)));
    drop(schedule.check_reachable(input.at, input.anchor));
    read
}

fn instant(rng: &mut Rng) -> i64 {
    match rng.u8(0..8) {
        0 => {
            *rng.choice([i64::MIN, -1, 0, 253_370_764_799_000, 253_402_300_799_000, i64::MAX].iter()).unwrap()
        }
        1 => rng.i64(..),
        _ => rng.i64(0..4_100_000_000_000),
    }
}

#[test]
fn no_text_makes_the_schedules_panic_or_hang() {
    let number = |name, default: u64| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let (seconds, seed) = (number("FOREST_FUZZ_SECONDS", 2), number("FOREST_FUZZ_SEED", 1));
    let mut rng = Rng::with_seed(seed);
    let (mut specs, mut texts) = (Corpus::new(SEEDS, TOKENS), Corpus::new(DAY_SEEDS, DAY_TOKENS));
    let (mut rounds, mut read_specs, mut read_texts) = (0_u64, 0_u64, 0_u64);
    let mut slowest = (Duration::ZERO, String::new());
    let end = Instant::now() + Duration::from_secs(seconds);
    while rounds < 1_000 || Instant::now() < end {
        let policy = (
            if rng.bool() { DstGap::Skip } else { DstGap::NextValid },
            if rng.bool() { DstFold::Both } else { DstFold::First },
        );
        let (spec, days) = (specs.next(&mut rng), texts.next(&mut rng));
        let zone = rng.choice(ZONES).unwrap();
        let input = Input { spec, zone, policy, days, at: instant(&mut rng), anchor: instant(&mut rng) };
        let began = Instant::now();
        let Ok(read) = catch_unwind(AssertUnwindSafe(|| round(&input))) else {
            panic!("seed {seed}, round {rounds}: {input:?}");
        };
        let took = began.elapsed();
        assert!(took < PATIENCE, "{took:?} in round {rounds} of seed {seed}: {input:?}");
        if took > slowest.0 {
            slowest = (took, format!("{input:.300?}"));
        }
        rounds += 1;
        read_specs += u64::from(read.spec);
        read_texts += u64::from(read.days);
        // What is sound is changed again; and now and then something that is not, for the way to something new.
        if read.spec || rng.u8(..) == 0 {
            specs.keep(&mut rng, input.spec);
        }
        if read.days || rng.u8(..) == 0 {
            texts.keep(&mut rng, input.days);
        }
    }
    println!(
        "{rounds} rounds in {seconds} s, seed {seed}: {read_specs} expressions and {read_texts} lists of days were sound"
    );
    println!("the slowest round took {:?}: {}", slowest.0, slowest.1);
    assert!(read_specs > rounds / 50 && read_texts > rounds / 50, "hardly anything was sound");
}
