//! Days as people write them: one day or range a line.
//!
//! ```text
//! # What follows a hash is for people.
//! 2027-10-01..2027-10-07   # left out
//! -2027-12-25              # left out too
//! +2027-10-09              # put in: a working Saturday
//! ```
//!
//! Owns the reading and the limits, also for files in the iCalendar format, which begin with
//! `BEGIN:VCALENDAR`. Refusals name the line. Work is linear in the length of the text.

use forest_proto::record::{DayRange, MAX_CALENDAR_DAYS};

use super::ics;

/// Longer input is refused before it is looked at.
pub(super) const MAX_TEXT: usize = 1024 * 1024;

/// Days left out, and days put in.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct DayLists {
    pub excluded: Vec<DayRange>,
    pub included: Vec<DayRange>,
}

/// Reads either form. The lists are sorted, without what they say twice.
pub fn read(text: &str) -> Result<DayLists, String> {
    if text.len() > MAX_TEXT {
        return Err(format!("is longer than {MAX_TEXT} bytes"));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lists = if ics::is(text) { ics::read(text)? } else { read_lines(text)? };
    Ok(DayLists {
        excluded: joined("left out", lists.excluded)?,
        included: joined("put in", lists.included)?,
    })
}

fn read_lines(text: &str) -> Result<DayLists, String> {
    let mut lists = DayLists::default();
    for (index, line) in text.lines().enumerate() {
        let line = line.split_once('#').map_or(line, |(days, _)| days).trim();
        if line.is_empty() {
            continue;
        }
        let (list, days) = match line.strip_prefix('+') {
            Some(days) => (&mut lists.included, days),
            None => (&mut lists.excluded, line.strip_prefix('-').unwrap_or(line)),
        };
        let range = days.trim_start().parse::<DayRange>();
        list.push(range.map_err(|error| format!("line {}: {error}", index + 1))?);
    }
    Ok(lists)
}

/// Sorted, with what overlaps or touches made one range.
fn joined(what: &str, mut ranges: Vec<DayRange>) -> Result<Vec<DayRange>, String> {
    ranges.sort_unstable();
    let mut all: Vec<DayRange> = Vec::new();
    for range in ranges {
        match all.last_mut() {
            Some(last) if last.last().tomorrow().is_ok_and(|next| range.first() <= next) => {
                let end = last.last().max(range.last());
                *last = DayRange::new(last.first(), end).map_err(|error| error.to_string())?;
            }
            _ => all.push(range),
        }
    }
    let days: usize = all.iter().map(DayRange::days).sum();
    if days > MAX_CALENDAR_DAYS {
        return Err(format!("{days} days are {what}, more than {MAX_CALENDAR_DAYS}"));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(lists: &DayLists) -> (Vec<String>, Vec<String>) {
        let text = |ranges: &[DayRange]| ranges.iter().map(ToString::to_string).collect();
        (text(&lists.excluded), text(&lists.included))
    }

    #[test]
    fn lines_say_what_is_left_out_and_put_in() {
        let lists = read(
            "\u{feff}# holidays\n2027-10-01..2027-10-07 # golden week\r\n\n - 2027-12-25\n+2027-10-09\n2027-10-05\n2027-10-08\n",
        );
        let (excluded, included) = written(&lists.expect("valid"));
        assert_eq!(excluded, ["2027-10-01..2027-10-08", "2027-12-25"], "sorted and joined");
        assert_eq!(included, ["2027-10-09"]);
        assert_eq!(read("\n# nothing\n"), Ok(DayLists::default()));
    }

    #[test]
    fn refusals_name_the_line() {
        let check = |text: &str, reason: &str| {
            let error = read(text).expect_err(text);
            assert!(error.starts_with(reason), "{text:?}: {error}");
        };
        check("2027-10-01\n2027-10-32\n", "line 2: \"2027-10-32\" is not a day");
        check("\n\n2027-10-07..2027-10-01", "line 3: \"2027-10-07..2027-10-01\" runs backwards");
        check("+1969-01-01", "line 1: \"1969-01-01\" is not within the years 1970 to 2099");
        check("holidays", "line 1: \"holidays\" is not a day");
        check("++2027-10-01", "line 1: ");
        check("2000-01-01..2020-01-01", "7306 days are left out, more than 5000");
        check("+2000-01-01..2020-01-01", "7306 days are put in, more than 5000");
        check(&" ".repeat(MAX_TEXT + 1), "is longer than");
    }
}
