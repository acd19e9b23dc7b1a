//! Holidays from an iCalendar file (RFC 5545): the all-day events of the file, as days to leave out.
//!
//! Owns as much of the format as such files use: folded lines, `VEVENT` with `DTSTART` and `DTEND` as dates. What
//! would need more to be understood is refused, not guessed: repeated events, and events with a time of day.
//! Cancelled events do not count.

use forest_proto::record::{DayError, DayRange};
use jiff::civil::Date;

use super::text::DayLists;

const BEGIN: &str = "BEGIN:VCALENDAR";

/// Whether a text is meant to be such a file.
pub(super) fn is(text: &str) -> bool {
    text.trim_start().get(..BEGIN.len()).is_some_and(|start| start.eq_ignore_ascii_case(BEGIN))
}

/// One event, while its lines are read.
#[derive(Debug, Default)]
struct Event {
    /// Where it begins.
    line: usize,
    start: Option<Date>,
    /// The day after the last.
    end: Option<Date>,
    cancelled: bool,
}

pub(super) fn read(text: &str) -> Result<DayLists, String> {
    let mut lists = DayLists::default();
    let (mut event, mut events): (Option<Event>, usize) = (None, 0);
    // How deep within parts of the event, such as its alarm, which have times of their own.
    let mut within = 0_usize;
    for (line, content) in unfold(text) {
        let Some((name, parameters, value)) = property(&content) else { continue };
        let at = |reason: String| format!("line {line}: {reason}");
        match (name.as_str(), event.as_mut()) {
            ("BEGIN", None) if value.eq_ignore_ascii_case("VEVENT") => {
                event = Some(Event { line, ..Event::default() });
                events += 1;
            }
            ("BEGIN", Some(_)) => within += 1,
            ("END", Some(_)) if within > 0 => within -= 1,
            ("END", Some(_)) if value.eq_ignore_ascii_case("VEVENT") => {
                lists.excluded.extend(event.take().map(days_of).transpose()?.flatten());
            }
            (name, Some(event)) if within == 0 => {
                event.take_in(name, parameters, value).map_err(at)?;
            }
            _ => {}
        }
    }
    match event {
        Some(event) => Err(format!("line {}: the event has no END:VEVENT", event.line)),
        None if events == 0 => Err("the file has no event, so no days".to_owned()),
        None => Ok(lists),
    }
}

impl Event {
    fn take_in(&mut self, name: &str, parameters: &str, value: &str) -> Result<(), String> {
        match name {
            "DTSTART" => self.start = Some(day(name, parameters, value)?),
            "DTEND" => self.end = Some(day(name, parameters, value)?),
            "STATUS" => self.cancelled = value.eq_ignore_ascii_case("CANCELLED"),
            "RRULE" | "RDATE" | "EXDATE" | "EXRULE" => {
                return Err(format!("{name}: repeated events are not supported; list every day"));
            }
            "DURATION" => {
                return Err("DURATION is not supported; say DTEND, the day after the last".to_owned());
            }
            _ => {}
        }
        Ok(())
    }
}

fn days_of(event: Event) -> Result<Option<DayRange>, String> {
    let at = |reason: &str| format!("line {}: {reason}", event.line);
    let Some(start) = event.start else { return Err(at("the event has no DTSTART")) };
    let last = match event.end {
        None => start,
        Some(end) => end.yesterday().map_err(|error| at(&error.to_string()))?,
    };
    let range = DayRange::new(start, last).map_err(|error| match error {
        DayError::Backwards(_) => at("DTEND must come after DTSTART: it is the day after the last"),
        error => at(&error.to_string()),
    })?;
    Ok(Some(range).filter(|_| !event.cancelled))
}

/// `20271001`, which must be a date and not a time.
fn day(name: &str, parameters: &str, value: &str) -> Result<Date, String> {
    let refused = || format!("{name}: {:?} is not a day such as 20271001", shown(value));
    if parameters.to_ascii_uppercase().contains("VALUE=DATE-TIME") || value.contains(['T', 't']) {
        return Err(format!("{name}: {:?} has a time of day; only all-day events count", shown(value)));
    }
    if value.len() != 8 || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(refused());
    }
    Date::strptime("%Y%m%d", value).map_err(|_| refused())
}

fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

/// `NAME;PARAMETERS:VALUE`, with the name in capitals.
fn property(line: &str) -> Option<(String, &str, &str)> {
    let (head, value) = line.split_once(':')?;
    let (name, parameters) = head.split_once(';').unwrap_or((head, ""));
    Some((name.trim().to_ascii_uppercase(), parameters, value.trim()))
}

/// The lines with their numbers; one that begins with a blank continues the one before it.
fn unfold(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        match (line.strip_prefix([' ', '\t']), lines.last_mut()) {
            (Some(rest), Some((_, before))) => before.push_str(rest),
            _ => lines.push((index + 1, line.to_owned())),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::text;

    fn file(events: &str) -> String {
        format!("BEGIN:VCALENDAR\r\nVERSION:2.0\r\n{events}END:VCALENDAR\r\n")
    }

    #[test]
    fn all_day_events_are_days_to_leave_out() {
        let events = "BEGIN:VEVENT\r\nSUMMARY:National: day\r\nDTSTART;VALUE=DATE:20271001\r\nDTEND;VALUE=DATE\r\n :20271\r\n 008\r\n\
            BEGIN:VALARM\r\nDURATION:PT5M\r\nTRIGGER:-PT1D\r\nEND:VALARM\r\nEND:VEVENT\r\n\
            BEGIN:VEVENT\r\ndtstart:20271225\r\nEND:VEVENT\r\n\
            BEGIN:VEVENT\r\nDTSTART:20271231\r\nSTATUS:CANCELLED\r\nEND:VEVENT\r\n\
            BEGIN:VTODO\r\nDTSTART:20270101T090000Z\r\nRRULE:FREQ=YEARLY\r\nEND:VTODO\r\n";
        let lists = text::read(&file(events)).expect("valid");
        let days: Vec<_> = lists.excluded.iter().map(ToString::to_string).collect();
        assert_eq!(days, ["2027-10-01..2027-10-07", "2027-12-25"]);
        assert!(lists.included.is_empty());
    }

    #[test]
    fn what_is_not_understood_is_refused_by_its_line() {
        assert_eq!(text::read(&file("")).expect_err("empty"), "the file has no event, so no days");
        let check = |lines: &str, reason: &str| {
            let error = text::read(&file(&format!("BEGIN:VEVENT\r\n{lines}"))).expect_err(lines);
            assert!(error.starts_with(reason), "{lines:?}: {error}");
        };
        check("DTSTART:20270101\r\nRRULE:FREQ=YEARLY\r\nEND:VEVENT\r\n", "line 5: RRULE: repeated events");
        check("DTSTART:20270101T000000\r\nEND:VEVENT\r\n", "line 4: DTSTART: \"20270101T000000\" has a time");
        check("DTSTART:20270101\r\nDURATION:P7D\r\nEND:VEVENT\r\n", "line 5: DURATION is not supported");
        check("DTSTART:2027\r\nEND:VEVENT\r\n", "line 4: DTSTART: \"2027\" is not a day");
        check(
            "DTSTART:20270101\r\nDTEND:20270101\r\nEND:VEVENT\r\n",
            "line 3: DTEND must come after DTSTART",
        );
        check("SUMMARY:x\r\nEND:VEVENT\r\n", "line 3: the event has no DTSTART");
        check("DTSTART:20270101\r\n", "line 3: the event has no END:VEVENT");
        check("DTSTART:19690101\r\nEND:VEVENT\r\n", "line 3: \"1969-01-01\" is not within the years");
    }
}
