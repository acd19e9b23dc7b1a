//! What is worth knowing about a fire: what a change of the clock or a calendar did to it, or to fires just
//! before it.
//!
//! Owns the facts, not their words. It decides nothing: the fires are those of [`Schedule`], and whether a
//! calendar made a difference is seen by comparing with the same schedule without its calendars.

use forest_proto::record::{self, DayRange, DstFold, DstGap};
use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::AmbiguousOffset;

use super::calendar::Calendar;
use super::trigger::{Schedule, Trigger};
use super::zone::{WallClock, local};

/// More times than these that no clock shows are not told of one fire.
const MAX_GAPS: usize = 3;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// The time does not exist on that day: it fires at the end of the gap.
    Moved { due: DateTime, to: DateTime },
    /// The time does not exist on that day: it did not fire.
    Dropped { due: DateTime },
    /// The clock shows the time twice, and this is the only fire.
    FirstOnly { at: DateTime },
    /// The clock shows the time twice, and it fires both times: this is the first, or the second.
    OneOfTwo { at: DateTime, second: bool },
    /// So many fires before this one were left out by calendars, on days from the first to the last.
    LeftOut { first: Date, last: Date, fires: u64 },
    /// Only a calendar makes it fire on that day.
    PutIn { day: Date },
}

impl Schedule {
    /// What there is to know about the fire at `at_ms`, which is the first after `before_ms`.
    #[must_use]
    pub fn notes(&self, before_ms: i64, at_ms: i64, anchor_ms: i64) -> Vec<Note> {
        let mut notes = Vec::new();
        if let Trigger::Cron { calendar, clock } = &self.trigger {
            let (before, at) = (before_ms.div_euclid(1_000), at_ms.div_euclid(1_000));
            clock.note_gaps(calendar, before, at, &mut notes);
            notes.extend(clock.note_of_fold(calendar, at));
        }
        self.note_calendars((before_ms, at_ms), anchor_ms, &mut notes);
        notes
    }

    fn note_calendars(&self, (before_ms, at_ms): (i64, i64), anchor_ms: i64, notes: &mut Vec<Note>) {
        let Some(bare) = self.without_days() else { return };
        let day = |ms: i64| self.local_day(ms);
        let (fires, last) = bare.count_between(before_ms, at_ms - 1, anchor_ms, u64::MAX);
        let first = bare.next_after(before_ms, anchor_ms);
        if let (Some(first), Some(last)) = (first.and_then(day), last.and_then(day)) {
            notes.push(Note::LeftOut { first, last, fires });
        }
        if bare.next_after(at_ms - 1, anchor_ms) != Some(at_ms) {
            notes.extend(day(at_ms).map(|day| Note::PutIn { day }));
        }
    }
}

impl WallClock {
    /// Gaps after `before` and up to `at` that held a time of the expression.
    fn note_gaps(&self, calendar: &Calendar, before: i64, at: i64, notes: &mut Vec<Note>) {
        if calendar.has_star_hour() {
            return;
        }
        let Ok(from) = Timestamp::from_second(before) else { return };
        let changes = self.zone.following(from).map(|change| change.timestamp().as_second());
        for change in changes.take_while(|change| *change <= at) {
            if notes.len() == MAX_GAPS {
                return;
            }
            let Some((due, end)) = self.due_in_gap(calendar, change) else { continue };
            let moved = change == at && self.gap == DstGap::NextValid && !calendar.excludes(end.date());
            notes.push(if moved { Note::Moved { due, to: end } } else { Note::Dropped { due } });
        }
    }

    /// The first time of the expression that the change at `second` leaves out, and the end of the gap.
    fn due_in_gap(&self, calendar: &Calendar, second: i64) -> Option<(DateTime, DateTime)> {
        let offset = |second| Some(self.zone.to_offset(Timestamp::from_second(second).ok()?));
        let (start, end) = (local(offset(second - 1)?, second)?, local(offset(second)?, second)?);
        let due = calendar.next_local(start, true)?;
        (due < end).then_some((due, end))
    }

    fn note_of_fold(&self, calendar: &Calendar, second: i64) -> Option<Note> {
        let offset = self.zone.to_offset(Timestamp::from_second(second).ok()?);
        let at = local(offset, second)?;
        let AmbiguousOffset::Fold { after, .. } = self.zone.to_ambiguous_timestamp(at).offset() else {
            return None;
        };
        if self.fold == DstFold::First && !calendar.has_star_hour() {
            return Some(Note::FirstOnly { at });
        }
        Some(Note::OneOfTwo { at, second: offset == after })
    }
}

impl Note {
    /// In a sentence. `calendars`: those that the schedule was compiled with.
    fn words(&self, calendars: &[&record::Calendar]) -> String {
        let time = |at: &jiff::civil::DateTime| match at.second() {
            0 => at.strftime("%H:%M").to_string(),
            _ => at.strftime("%H:%M:%S").to_string(),
        };
        match self {
            Note::Moved { due, to } => {
                format!("{} does not exist on {}: fires at {}", time(due), due.date(), time(to))
            }
            Note::Dropped { due } => format!("{} does not exist on {}: left out", time(due), due.date()),
            Note::FirstOnly { at } => {
                format!("{} comes twice on {}: fires the first time only", time(at), at.date())
            }
            Note::OneOfTwo { at, second } => {
                let which = if *second { "second" } else { "first" };
                format!("{} comes twice on {}: this is the {which} time", time(at), at.date())
            }
            Note::LeftOut { first, last, fires } => {
                let by = named(calendars, *first, |calendar| &calendar.excluded);
                let s = if *fires == 1 { "" } else { "s" };
                let days = if first == last { first.to_string() } else { format!("{first} to {last}") };
                format!("{fires} fire{s} left out by {by}: {days}")
            }
            Note::PutIn { day } => {
                format!("put in by {}: {day}", named(calendars, *day, |calendar| &calendar.included))
            }
        }
    }
}

/// Notes in one line. `calendars`: those that the schedule was compiled with.
#[must_use]
pub fn sentence(notes: &[Note], calendars: &[&record::Calendar]) -> String {
    notes.iter().map(|note| note.words(calendars)).collect::<Vec<_>>().join("; ")
}

/// The calendar that is to blame for a day.
fn named(
    calendars: &[&record::Calendar],
    day: Date,
    list: fn(&record::Calendar) -> &Vec<DayRange>,
) -> String {
    let has = |calendar: &&&record::Calendar| {
        list(calendar).iter().any(|range| (range.first()..=range.last()).contains(&day))
    };
    let found = calendars.iter().find(has);
    found.map_or_else(|| "a calendar".to_owned(), |calendar| format!("calendar {}", calendar.name))
}
