//! From local times to instants, over pieces of constant offset.
//!
//! Owns the rules for clock changes. The time line is cut where the zone's offset changes; within a piece,
//! local time minus offset is the instant. Pieces are visited in order, so fires strictly increase by
//! construction. What happens at a cut is Vixie cron's rule with two choices:
//!
//! - An expression whose hour field is a star (`*`, `*/2`) means an interval: it fires whenever the clock on
//!   the wall shows a matching time, in both passes of a fold, and nothing is made up for a gap.
//! - Any other expression means a time of day. If that time falls into a gap, it fires once at the gap's end
//!   ([`DstGap::NextValid`], however many of its times are in the gap) or not at all. In a fold it fires
//!   in the first pass, or in both.
//! - A fire is never moved by a gap onto a day that a calendar leaves out.
//!
//! All zone data comes from the binary, never from the machine, so that all nodes compute the same instants.

use std::sync::LazyLock;

use forest_proto::record::{DstFold, DstGap};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone, TimeZoneDatabase};

use super::calendar::Calendar;

/// The end of the year 9998, the last second we compute with.
pub(super) const LAST_SECOND: i64 = 253_370_764_799;
/// No zone is further from UTC.
const MAX_OFFSET_S: i64 = 26 * 3600;
/// A change of offset further away than this cannot repeat a local time that has already been.
const NEAR_S: i64 = 4 * MAX_OFFSET_S;
/// The longest name of the database has 32 bytes.
const MAX_NAME: usize = 64;

static DATABASE: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// An instant on the clock of a zone, with its offset: `2027-03-28 03:00:00 +02:00`.
#[must_use]
pub fn on_clock(at_ms: i64, zone: &TimeZone) -> String {
    let at = Timestamp::from_millisecond(at_ms).unwrap_or_default();
    at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S %:z").to_string()
}

/// The zone of an IANA name, in any case; the empty name is UTC. `None`: the database has no such zone.
#[must_use]
pub fn find_zone(name: &str) -> Option<TimeZone> {
    if name.is_empty() {
        return Some(TimeZone::UTC);
    }
    if name.len() > MAX_NAME {
        return None;
    }
    DATABASE.get(name).ok().filter(|zone| !zone.is_unknown())
}

/// The clock on a job's wall, and what the job does when it is put forward or back.
#[derive(Debug, Clone)]
pub(super) struct WallClock {
    pub(super) zone: TimeZone,
    pub(super) gap: DstGap,
    pub(super) fold: DstFold,
}

/// A span `start..end` of epoch seconds in which the offset is constant.
struct Piece {
    /// `i64::MIN` if it began too long ago to repeat or leave out anything.
    start: i64,
    end: i64,
    offset: Offset,
    /// The offset up to `start`.
    before: Offset,
}

impl WallClock {
    /// The first fire at or after `from`, in epoch seconds. There are none before 1970.
    pub(super) fn next(&self, calendar: &Calendar, from: i64) -> Option<i64> {
        let mut from = from.max(0);
        while from <= LAST_SECOND {
            let piece = self.piece_at(from)?;
            if from == piece.start && self.fires_for_gap(calendar, &piece) {
                return Some(from);
            }
            let due = calendar.next_local(self.first_local(calendar, &piece, from)?, true);
            let due = due.and_then(|local| piece.offset.to_timestamp(local).ok()).map(Timestamp::as_second);
            match due {
                Some(at) if at < piece.end => return Some(at),
                // The change at the end may bring back local times before `due`: look at the very next piece.
                _ if piece.end - from < NEAR_S => from = piece.end,
                // All that can match is `due` or later, and no offset makes that earlier than this.
                Some(at) => from = piece.end.max(at - 2 * MAX_OFFSET_S),
                None => return None,
            }
        }
        None
    }

    /// The number of fires in `from..to` (epoch seconds), and the last of them.
    pub(super) fn count(&self, calendar: &Calendar, from: i64, to: i64) -> (u64, Option<i64>) {
        let (mut count, mut last) = (0, None);
        let mut from = from.max(0);
        let to = to.min(LAST_SECOND + 1);
        while from < to {
            let Some(piece) = self.piece_at(from) else { break };
            let stop = piece.end.min(to);
            let Some((in_piece, last_in_piece)) = self.count_in(calendar, &piece, from, stop) else { break };
            count += in_piece;
            last = last_in_piece.or(last);
            from = stop;
        }
        (count, last)
    }

    /// The fires in `from..to`, which lies within `piece`. `None`: beyond the end of the calendar.
    fn count_in(&self, calendar: &Calendar, piece: &Piece, from: i64, to: i64) -> Option<(u64, Option<i64>)> {
        let (matches, last) =
            calendar.count(self.first_local(calendar, piece, from)?, local(piece.offset, to)?);
        let last = last.and_then(|local| piece.offset.to_timestamp(local).ok()).map(Timestamp::as_second);
        if from == piece.start && self.fires_for_gap(calendar, piece) {
            let start = local(piece.offset, from)?;
            // A match right at the end of the gap is the same fire.
            let extra = u64::from(calendar.next_local(start, true) != Some(start));
            return Some((matches + extra, last.or(Some(from))));
        }
        Some((matches, last))
    }

    /// The local time from which on matches count, from the instant `from` within `piece`.
    fn first_local(&self, calendar: &Calendar, piece: &Piece, from: i64) -> Option<DateTime> {
        let shown = local(piece.offset, from)?;
        let repeats = piece.before > piece.offset && self.fold == DstFold::First && !calendar.has_star_hour();
        if repeats { Some(shown.max(local(piece.before, piece.start)?)) } else { Some(shown) }
    }

    /// Whether `piece` begins with a fire for times that the gap before it left out.
    fn fires_for_gap(&self, calendar: &Calendar, piece: &Piece) -> bool {
        if piece.before >= piece.offset || self.gap == DstGap::Skip || calendar.has_star_hour() {
            return false;
        }
        let gap = local(piece.before, piece.start).zip(local(piece.offset, piece.start));
        gap.is_some_and(|(start, end)| {
            let due = calendar.next_local(start, true).is_some_and(|due| due < end);
            // The gap must not move a fire onto a day that is left out.
            due && !calendar.excludes(end.date())
        })
    }

    /// The piece that contains `second`. Its start is only looked for where it can still matter.
    ///
    /// Searches forwards, because the library's backward search passes over changes: where a zone's table
    /// ends and its rule begins, it can answer with a change from before the table's last one.
    fn piece_at(&self, second: i64) -> Option<Piece> {
        let offset = self.zone.to_offset(Timestamp::from_second(second).ok()?);
        let mut piece = Piece { start: i64::MIN, end: i64::MAX, offset, before: offset };
        for change in self.zone.following(Timestamp::from_second(second - MAX_OFFSET_S).ok()?) {
            let at = change.timestamp().as_second();
            if at > second {
                piece.end = at;
                break;
            }
            piece.start = at;
        }
        if let Some(before) = piece.start.checked_sub(1) {
            piece.before = self.zone.to_offset(Timestamp::from_second(before).ok()?);
        }
        Some(piece)
    }
}

pub(super) fn local(offset: Offset, second: i64) -> Option<DateTime> {
    Some(offset.to_datetime(Timestamp::from_second(second).ok()?))
}
