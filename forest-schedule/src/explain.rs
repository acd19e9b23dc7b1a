//! What an expression says, field by field, for people who read one that somebody else wrote.

use super::calendar::{Calendar, FIRST_YEAR, LAST_YEAR};
use super::cron::{CronExpr, MAX_LENGTH};
use super::interval;
use super::trigger::ScheduleError;

const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// One field of an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// `second`, `minute`, `hour`, `day`, `month`, `weekday` or `year`.
    pub field: &'static str,
    /// Numbers and names, such as `0`, `MON to FRI` or `every 15 from 0 to 45`; `any` for all.
    pub values: String,
}

/// The expression as it is understood, and what its fields stand for; an interval has none.
///
/// ```
/// let (text, parts) = forest_schedule::explain("*/15 9-17 * * MON-FRI").unwrap();
/// assert_eq!(text, "0 */15 9-17 * * MON-FRI");
/// assert_eq!(parts[1].values, "every 15 from 0 to 45");
/// assert_eq!(parts[5].values, "MON to FRI");
/// ```
///
/// # Errors
/// What is wrong with the expression.
pub fn explain(spec: &str) -> Result<(String, Vec<Part>), ScheduleError> {
    if spec.len() <= MAX_LENGTH
        && let Some(duration) = interval::duration_text(spec.trim_ascii())
    {
        let period = interval::parse(duration).map_err(|reason| ScheduleError::Interval { reason })?;
        return Ok((interval::format(period), Vec::new()));
    }
    let expression = CronExpr::parse(spec)?;
    let text = expression.normalised().to_owned();
    Ok((text, parts(&expression.into_calendar())))
}

fn parts(calendar: &Calendar) -> Vec<Part> {
    let bits = |set: u64, numbers: std::ops::RangeInclusive<u16>| -> Vec<u16> {
        numbers.filter(|number| set & (1 << number) != 0).collect()
    };
    let part = |field, numbers: &[u16], all: usize, name: fn(u16) -> String| {
        let values = if numbers.len() == all { "any".to_owned() } else { values(numbers, name) };
        Part { field, values }
    };
    let number = |number: u16| number.to_string();
    let years: Vec<u16> = (FIRST_YEAR..=LAST_YEAR)
        .filter(|year| {
            let bit = usize::from(year - FIRST_YEAR);
            calendar.any_year || calendar.years[bit / 64] & (1 << (bit % 64)) != 0
        })
        .collect();
    vec![
        part("second", &bits(calendar.seconds, 0..=59), 60, number),
        part("minute", &bits(calendar.minutes, 0..=59), 60, number),
        part("hour", &bits(calendar.hours.into(), 0..=23), 24, number),
        part("day", &bits(calendar.days.into(), 1..=31), 31, number),
        part("month", &bits(calendar.months.into(), 1..=12), 12, |at| name_of(&MONTHS, at - 1)),
        part("weekday", &bits(calendar.weekdays.into(), 0..=6), 7, |at| name_of(&WEEKDAYS, at)),
        part("year", &years, usize::from(LAST_YEAR - FIRST_YEAR) + 1, number),
    ]
}

fn name_of(names: &[&str], at: u16) -> String {
    names.get(usize::from(at)).copied().unwrap_or_default().to_owned()
}

/// Rising numbers as one row with a step, or as ranges.
fn values(numbers: &[u16], name: fn(u16) -> String) -> String {
    let step = numbers.get(1).map_or(0, |second| second - numbers[0]);
    let is_row = step > 1 && numbers.len() > 2 && numbers.windows(2).all(|two| two[1] - two[0] == step);
    if let (true, [first, .., last]) = (is_row, numbers) {
        return format!("every {step} from {} to {}", name(*first), name(*last));
    }
    let ranges = numbers.chunk_by(|one, next| next - one == 1).map(|range| match range {
        [first, .., last] if range.len() > 2 => format!("{} to {}", name(*first), name(*last)),
        few => few.iter().map(|at| name(*at)).collect::<Vec<_>>().join(", "),
    });
    ranges.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(spec: &str) -> Vec<String> {
        explain(spec)
            .unwrap_or_else(|error| panic!("{spec}: {error}"))
            .1
            .into_iter()
            .map(|p| p.values)
            .collect()
    }

    #[test]
    fn each_field_says_what_it_stands_for() {
        assert_eq!(
            said("0 30 2,14 1-7,15 JAN,MAR SAT,SUN 2027"),
            ["0", "30", "2, 14", "1 to 7, 15", "JAN, MAR", "SUN, SAT", "2027"]
        );
        assert_eq!(said("@hourly"), ["0", "0", "any", "any", "any", "any", "any"]);
        assert_eq!(said("10-50/20 * * * * *")[0], "every 20 from 10 to 50");
    }

    #[test]
    fn an_interval_has_no_fields_and_what_is_wrong_is_said() {
        assert_eq!(
            explain("@every 90s").map(|(text, parts)| (text, parts.len())),
            Ok(("@every 1m30s".into(), 0))
        );
        assert_eq!(explain("0 0 25 * * *").map_err(|error| error.field()), Err("cron"));
    }
}
