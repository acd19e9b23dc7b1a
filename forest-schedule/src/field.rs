//! The grammar of one cron field: lists of numbers, names, ranges, steps and stars.
//!
//! Owns what a field may say in either dialect, and the wording of its errors; they name the offending text,
//! [`super::cron`] adds which field it is in. Work is linear in the length of the text.

use std::fmt::Write;

const MONTHS: &[&str] = &[
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];
const WEEKDAYS: &[&str] = &["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];
/// What [`Part::to`] is for a range that ends with Sunday, the seventh day.
const SEVENTH_DAY: u16 = 7;

/// Whose rule an expression is read by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Ours: weekday 7 is Sunday too, ranges may end with Sunday, slips are refused.
    Forest,
    /// The original's: `?` anywhere, weekdays 0-6, empty list elements and oversized steps are let pass.
    Original,
}

/// What one of the seven fields counts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unit {
    pub(super) name: &'static str,
    pub(super) min: u16,
    pub(super) max: u16,
    names: &'static [&'static str],
    is_day: bool,
}

impl Unit {
    const fn numbers(name: &'static str, min: u16, max: u16) -> Self {
        Self { name, min, max, names: &[], is_day: false }
    }

    fn is_weekday(&self) -> bool {
        self.is_day && !self.names.is_empty()
    }

    fn size(&self) -> u16 {
        self.max - self.min + 1
    }
}

pub(super) const SECONDS: Unit = Unit::numbers("seconds", 0, 59);
pub(super) const MINUTES: Unit = Unit::numbers("minutes", 0, 59);
pub(super) const HOURS: Unit = Unit::numbers("hours", 0, 23);
pub(super) const DAYS: Unit = Unit { is_day: true, ..Unit::numbers("day of month", 1, 31) };
pub(super) const MONTHS_UNIT: Unit = Unit { names: MONTHS, ..Unit::numbers("month", 1, 12) };
pub(super) const WEEKDAYS_UNIT: Unit =
    Unit { names: WEEKDAYS, is_day: true, ..Unit::numbers("day of week", 0, 6) };
pub(super) const YEARS: Unit = Unit::numbers("year", super::calendar::FIRST_YEAR, super::calendar::LAST_YEAR);

/// `from-to/step`; a single number is a range of one.
#[derive(Debug, Clone, Copy)]
struct Part {
    from: u16,
    to: u16,
    step: u16,
    star: bool,
}

/// One field, read and checked.
#[derive(Debug)]
pub(super) struct Field {
    unit: &'static Unit,
    parts: Vec<Part>,
}

impl Field {
    /// The field that matches everything.
    pub(super) fn star(unit: &'static Unit) -> Self {
        Self { unit, parts: vec![Part { from: unit.min, to: unit.max, step: 1, star: true }] }
    }

    /// The field that matches one number.
    pub(super) fn only(unit: &'static Unit, number: u16) -> Self {
        Self { unit, parts: vec![Part { from: number, to: number, step: 1, star: false }] }
    }

    pub(super) fn parse(unit: &'static Unit, text: &str, dialect: Dialect) -> Result<Self, String> {
        let mut parts = Vec::new();
        for part in text.split(',') {
            if part.is_empty() && dialect == Dialect::Original {
                continue;
            }
            parts.push(parse_part(unit, part, dialect)?);
        }
        if parts.is_empty() { Err("the list is empty".to_owned()) } else { Ok(Self { unit, parts }) }
    }

    /// Whether any element is a star, with or without a step.
    pub(super) fn has_star(&self) -> bool {
        self.parts.iter().any(|part| part.star)
    }

    /// Whether an element is the plain star, which matches everything.
    pub(super) fn is_unrestricted(&self) -> bool {
        self.parts.iter().any(|part| part.star && part.step == 1)
    }

    /// As we store and show it: `*` for `?`, numbers for month names, names for weekday numbers.
    pub(super) fn write_normalised(&self, out: &mut String) {
        for (index, part) in self.parts.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            if part.star {
                out.push('*');
            } else {
                self.write_number(out, part.from);
                if part.from != part.to {
                    out.push('-');
                    self.write_number(out, part.to);
                }
            }
            if part.step > 1 && (part.star || part.from != part.to) {
                let _ = write!(out, "/{}", part.step);
            }
        }
    }

    fn write_number(&self, out: &mut String, number: u16) {
        if self.unit.is_weekday() {
            let name = WEEKDAYS[usize::from(number % SEVENTH_DAY)];
            out.push_str(&name[..3].to_ascii_uppercase());
        } else {
            let _ = write!(out, "{number}");
        }
    }

    /// As the cron crate reads it. It counts weekdays from 1 and takes no step larger than the highest
    /// number.
    pub(super) fn write_for_crate(&self, out: &mut String) {
        if self.unit.is_weekday() {
            return self.write_weekdays_for_crate(out);
        }
        for (index, part) in self.parts.iter().enumerate() {
            let separator = if index > 0 { "," } else { "" };
            let _ = if part.star && part.step == 1 {
                write!(out, "{separator}*")
            } else if part.step > part.to - part.from {
                write!(out, "{separator}{}", part.from)
            } else {
                write!(out, "{separator}{}-{}/{}", part.from, part.to, part.step)
            };
        }
    }

    /// Names only: they mean the same everywhere.
    fn write_weekdays_for_crate(&self, out: &mut String) {
        let mut days = [false; 7];
        for part in &self.parts {
            for day in (part.from..=part.to).step_by(usize::from(part.step)) {
                days[usize::from(day % SEVENTH_DAY)] = true;
            }
        }
        let names = WEEKDAYS.iter().zip(days).filter(|(_, set)| *set).map(|(name, _)| *name);
        out.push_str(&names.collect::<Vec<_>>().join(","));
    }
}

fn parse_part(unit: &'static Unit, text: &str, dialect: Dialect) -> Result<Part, String> {
    let (range, step) = match text.split_once('/') {
        Some((range, step)) => (range, Some(parse_step(unit, step, dialect)?)),
        None => (text, None),
    };
    let star = is_star(unit, range, dialect)?;
    let (from, to) = if star {
        (unit.min, unit.max)
    } else if let Some((from, to)) = range.split_once('-') {
        parse_range(unit, range, (from, to), dialect)?
    } else {
        let number = parse_number(unit, range, dialect)? % number_of_days(unit);
        (number, if step.is_some() { unit.max } else { number })
    };
    Ok(Part { from, to, step: step.unwrap_or(1), star })
}

/// 7 and 0 are the same weekday; other numbers stay what they are.
fn number_of_days(unit: &Unit) -> u16 {
    if unit.is_weekday() { SEVENTH_DAY } else { u16::MAX }
}

fn is_star(unit: &Unit, text: &str, dialect: Dialect) -> Result<bool, String> {
    match text {
        "*" => Ok(true),
        "?" if unit.is_day || dialect == Dialect::Original => Ok(true),
        "?" => Err("? is for the two day fields; write *".to_owned()),
        _ => Ok(false),
    }
}

fn parse_range(
    unit: &Unit,
    text: &str,
    (from, to): (&str, &str),
    dialect: Dialect,
) -> Result<(u16, u16), String> {
    let from = parse_number(unit, from, dialect)?;
    let named_end = !to.starts_with(|c: char| c.is_ascii_digit());
    let mut to = parse_number(unit, to, dialect)?;
    if unit.is_weekday() && dialect == Dialect::Forest {
        if from == SEVENTH_DAY {
            return Err("7 (Sunday) can end a range, not start it".to_owned());
        }
        if to == 0 && from > 0 && named_end {
            to = SEVENTH_DAY;
        }
        // The whole week is said without its second Sunday, so that it stays a range of seven days.
        if from == 0 && to == SEVENTH_DAY {
            to = 6;
        }
    }
    if from > to {
        return Err(format!("the range {text} runs backwards; write it as a list of two ranges"));
    }
    Ok((from, to))
}

fn parse_number(unit: &Unit, text: &str, dialect: Dialect) -> Result<u16, String> {
    if text.is_empty() {
        return Err("a number is missing".to_owned());
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        let max = if unit.is_weekday() && dialect == Dialect::Forest { SEVENTH_DAY } else { unit.max };
        let number = text.parse().ok().filter(|number| (unit.min..=max).contains(number));
        return number.ok_or_else(|| format!("{text} is not in {}-{}", unit.min, unit.max));
    }
    if let Some(index) = unit.names.iter().position(|name| is_name(name, text)) {
        return Ok(unit.min + u16::try_from(index).unwrap_or(0));
    }
    if unit.is_day && is_extension(text) {
        return Err(format!("{text}: L, W and # are not supported in this version"));
    }
    Err(format!("{text:?} is not a {}", if unit.names.is_empty() { "number" } else { "number or name" }))
}

fn is_name(name: &str, text: &str) -> bool {
    text.eq_ignore_ascii_case(name) || text.eq_ignore_ascii_case(&name[..3])
}

/// `L`, `LW`, `15W`, `5L`, `FRIL`, `FRI#2`: what other dialects say about days.
fn is_extension(text: &str) -> bool {
    if text.contains('#') {
        return true;
    }
    let letters = text.trim_start_matches(|c: char| c.is_ascii_digit()).to_ascii_uppercase();
    let weekday = letters.strip_suffix('L').is_some_and(|day| WEEKDAYS.iter().any(|name| is_name(name, day)));
    weekday || matches!(letters.as_str(), "L" | "W" | "LW" | "WL")
}

fn parse_step(unit: &Unit, text: &str, dialect: Dialect) -> Result<u16, String> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("the step {text:?} is not a number"));
    }
    match text.trim_start_matches('0') {
        "" => Err("a step of 0 never ends".to_owned()),
        digits => match digits.parse().ok().filter(|step| *step <= unit.size()) {
            Some(step) => Ok(step),
            None if dialect == Dialect::Original => Ok(unit.size()),
            None => Err(format!("the step {text} is larger than the field ({}-{})", unit.min, unit.max)),
        },
    }
}
