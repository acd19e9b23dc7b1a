//! The cron dialects: text to a [`Calendar`].
//!
//! This file is the only one that names the `cron` crate, which reads the translated expression and gives us
//! the numbers of each field. Its own search for the next fire is never used: it counts weekdays from 1,
//! joins the two day fields with "and", and goes backwards in time when clocks are put back.
//!
//! Our dialect:
//! - 6 fields: second, minute, hour, day of month, month, day of week. 5 fields leave out the second (0), as
//!   the classic does. A 7th is the year, 1970-2099.
//! - `*`, `a`, `a-b`, lists of those, and steps: `*/n`, `a-b/n`, and `a/n` from `a` to the highest
//!   number. `?` is `*` in the two day fields. Months and weekdays have names, of three letters or in
//!   full, in any case.
//! - Weekdays are 0-6 from Sunday; 7 is Sunday too, so that `5-7` and `FRI-SUN` are ranges. A range that
//!   would go past Sunday (`SAT-MON`) is refused, and `a/n` ends with Saturday.
//! - Both day fields restricted: a day that matches either. A field that contains a star, with a step too,
//!   is no restriction in this sense: then both must match, so that `*/2` and `MON` are the Mondays with
//!   an odd date.
//! - `@yearly @annually @monthly @weekly @daily @midnight @hourly`.
//! - `L`, `W` and `#` are refused by name.

use std::str::FromStr;

use cron::TimeUnitSpec;

use super::calendar::{Calendar, FIRST_YEAR};
use super::field::{self, Dialect, Field, Unit};

/// Longer input is refused before it is looked at.
pub(super) const MAX_LENGTH: usize = 256;

/// Why an expression was refused. The text names the field and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    #[error("cron: longer than {MAX_LENGTH} bytes")]
    TooLong,
    #[error("cron: is empty: give an expression such as 0 0 2 * * *")]
    Empty,
    #[error("cron: {found} fields; there must be {wanted}")]
    FieldCount { found: usize, wanted: &'static str },
    #[error("cron: field {position} ({name}): {reason}")]
    Field {
        /// Counted from 1, as the user wrote them.
        position: usize,
        name: &'static str,
        reason: String,
    },
    #[error(
        "cron: unknown nickname {0:?}; there are @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly and @every <duration>"
    )]
    Nickname(String),
    #[error("cron: {0}")]
    Refused(String),
}

/// An expression that was read and compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CronExpr {
    normalised: String,
    calendar: Calendar,
}

impl CronExpr {
    /// Reads our own dialect.
    pub(crate) fn parse(text: &str) -> Result<Self, CronError> {
        let text = check_length(text)?;
        if text.starts_with('@') {
            return Self::parse(nickname(text)?);
        }
        let texts: Vec<&str> = text.split_ascii_whitespace().collect();
        let units: &[&'static Unit] = match texts.len() {
            5 => &UNITS[1..6],
            6 => &UNITS[..6],
            7 => &UNITS,
            found => {
                return Err(CronError::FieldCount {
                    found,
                    wanted: "5 (from minutes), 6 or 7 (with a year)",
                });
            }
        };
        let mut fields = parse_fields(units, &texts, Dialect::Forest)?;
        if texts.len() == 5 {
            fields.insert(0, Field::only(&field::SECONDS, 0));
        }
        Self::compile(fields)
    }

    /// Reads what the original reads: 5 fields are second, minute, hour, day of month and month.
    pub(crate) fn parse_original(text: &str) -> Result<Self, CronError> {
        let text = check_length(text)?;
        if text.starts_with('@') {
            return Self::parse(nickname(text)?);
        }
        let texts: Vec<&str> = text.split_ascii_whitespace().collect();
        if !(5..=6).contains(&texts.len()) {
            return Err(CronError::FieldCount { found: texts.len(), wanted: "5 or 6, from seconds" });
        }
        let fields = parse_fields(&UNITS[..texts.len()], &texts, Dialect::Original)?;
        Self::compile(fields)
    }

    /// The same expression with explicit seconds, in 6 fields or 7 if years are restricted. Reading it again
    /// with [`CronExpr::parse`] gives the same calendar.
    #[must_use]
    pub(crate) fn normalised(&self) -> &str {
        &self.normalised
    }

    #[must_use]
    pub(crate) fn into_calendar(self) -> Calendar {
        self.calendar
    }

    /// `fields` are the first 5, 6 or 7; those that are left out are stars.
    fn compile(mut fields: Vec<Field>) -> Result<Self, CronError> {
        for unit in &UNITS[fields.len()..] {
            fields.push(Field::star(unit));
        }
        let [_, _, hours, days, _, weekdays, years] = fields.as_slice() else {
            return Err(CronError::Refused("the fields cannot be told apart".to_owned()));
        };
        let shown = if years.is_unrestricted() { &fields[..6] } else { &fields[..] };
        let calendar = Calendar {
            either_day: !days.has_star() && !weekdays.has_star(),
            star_hour: hours.has_star(),
            any_year: years.is_unrestricted(),
            ..read_numbers(&join(&fields, Field::write_for_crate))?
        };
        Ok(Self { normalised: join(shown, Field::write_normalised), calendar })
    }
}

/// The fields in the order of a full expression.
const UNITS: [&Unit; 7] = [
    &field::SECONDS,
    &field::MINUTES,
    &field::HOURS,
    &field::DAYS,
    &field::MONTHS_UNIT,
    &field::WEEKDAYS_UNIT,
    &field::YEARS,
];

fn check_length(text: &str) -> Result<&str, CronError> {
    if text.len() > MAX_LENGTH {
        return Err(CronError::TooLong);
    }
    let text = text.trim_ascii();
    if text.is_empty() { Err(CronError::Empty) } else { Ok(text) }
}

fn nickname(text: &str) -> Result<&'static str, CronError> {
    Ok(match text.to_ascii_lowercase().as_str() {
        "@yearly" | "@annually" => "0 0 0 1 1 *",
        "@monthly" => "0 0 0 1 * *",
        "@weekly" => "0 0 0 * * SUN",
        "@daily" | "@midnight" => "0 0 0 * * *",
        "@hourly" => "0 0 * * * *",
        _ => return Err(CronError::Nickname(text.to_owned())),
    })
}

fn parse_fields(units: &[&'static Unit], texts: &[&str], dialect: Dialect) -> Result<Vec<Field>, CronError> {
    let pairs = units.iter().zip(texts).enumerate();
    pairs
        .map(|(index, (unit, text))| {
            Field::parse(unit, text, dialect).map_err(|reason| CronError::Field {
                position: index + 1,
                name: unit.name,
                reason,
            })
        })
        .collect()
}

fn join(fields: &[Field], write: impl Fn(&Field, &mut String)) -> String {
    let mut out = String::new();
    for field in fields {
        if !out.is_empty() {
            out.push(' ');
        }
        write(field, &mut out);
    }
    out
}

/// Has the crate read the expression and takes its numbers. The flags of the result are for the caller to
/// set.
fn read_numbers(expression: &str) -> Result<Calendar, CronError> {
    let schedule =
        cron::Schedule::from_str(expression).map_err(|error| CronError::Refused(error.to_string()))?;
    let narrow = |bits: u64| u32::try_from(bits).unwrap_or(0);
    let mut years = [0; 3];
    for year in schedule.years().iter() {
        let index = year.saturating_sub(u32::from(FIRST_YEAR));
        if let Some(word) = usize::try_from(index / 64).ok().and_then(|word| years.get_mut(word)) {
            *word |= 1 << (index % 64);
        }
    }
    Ok(Calendar {
        seconds: bits(schedule.seconds()),
        minutes: bits(schedule.minutes()),
        years,
        hours: narrow(bits(schedule.hours())),
        days: narrow(bits(schedule.days_of_month())),
        months: u16::try_from(bits(schedule.months())).unwrap_or(0),
        // The crate counts from 1 = Sunday.
        weekdays: u8::try_from(bits(schedule.days_of_week()) >> 1).unwrap_or(0),
        either_day: false,
        star_hour: false,
        any_year: false,
        exceptions: None,
    })
}

fn bits(unit: &impl TimeUnitSpec) -> u64 {
    unit.iter().fold(0, |bits, number| bits | 1_u64.checked_shl(number).unwrap_or(0))
}
