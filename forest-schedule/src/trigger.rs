//! A job's spec, compiled: the one type other modules ask for fires.
//!
//! Owns the choice between calendar and interval, the bounds of time and the refusals that name a field
//! of the job. All instants are epoch milliseconds; fires of a calendar are whole seconds. Nothing fires
//! before 1970 or after the year 9998.

use std::sync::Arc;

use forest_proto::record::{DstFold, DstGap};

use jiff::Timestamp;
use jiff::civil::Date;

use super::calendar::Calendar;
use super::cron::{CronError, CronExpr, MAX_LENGTH};
use super::days::Days;
use super::interval;
use super::pauses::Pauses;
use super::zone::{LAST_SECOND, WallClock, find_zone, local};

/// An expression that does not fire within this many years is refused when a job is saved.
pub(crate) const REACHABLE_YEARS: i64 = 8;
/// Eight years with two leap days, and a day.
const REACHABLE_MS: i64 = (REACHABLE_YEARS * 365 + 3) * 24 * 3600 * 1_000;
const LAST_MS: i64 = LAST_SECOND * 1_000 + 999;

/// Why a spec was refused. The text starts with the field, as [`ScheduleError::field`] gives it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    #[error(transparent)]
    Cron(#[from] CronError),
    #[error("cron: @every: {reason}")]
    Interval { reason: String },
    #[error("time_zone: {name:?} is not in the time zone database; use a name such as Europe/Berlin, or UTC")]
    Zone { name: String },
    #[error("cron: it does not fire within the next {REACHABLE_YEARS} years")]
    Unreachable,
}

impl ScheduleError {
    /// The field of the job that must be changed: `cron` or `time_zone`.
    #[must_use]
    pub fn field(&self) -> &'static str {
        match self {
            Self::Cron(_) | Self::Interval { .. } | Self::Unreachable => "cron",
            Self::Zone { .. } => "time_zone",
        }
    }

    /// What is wrong with an interval that was not given as text.
    #[must_use]
    pub fn interval_reason(&self) -> String {
        match self {
            Self::Interval { reason } => reason.clone(),
            other => other.reason(),
        }
    }

    /// What is wrong with the field, without its name.
    #[must_use]
    pub fn reason(&self) -> String {
        let text = self.to_string();
        text.split_once(": ").map_or_else(|| text.clone(), |(_, reason)| reason.to_owned())
    }
}

/// When a job fires. Compiled once and shared by all jobs with the same spec.
#[derive(Debug, Clone)]
pub struct Schedule {
    pub(super) trigger: Trigger,
}

#[derive(Debug, Clone)]
pub(super) enum Trigger {
    Cron {
        calendar: Calendar,
        clock: WallClock,
    },
    /// `pauses` knows the zone that its days are days of; it is empty for a job without calendars.
    Every {
        period_ms: i64,
        pauses: Pauses,
    },
    Once {
        at_ms: i64,
    },
}

impl Schedule {
    /// The schedule of a job without calendars.
    pub fn compile(spec: &str, zone: &str, gap: DstGap, fold: DstFold) -> Result<Self, ScheduleError> {
        Self::compile_on(spec, zone, gap, fold, None)
    }

    /// Compiles an expression of our dialect, a nickname or `@every <duration>`. The zone is an IANA
    /// name, empty for UTC; to an interval it only tells which day it is. An interval leaves out the days
    /// that calendars leave out; those that they put in mean nothing to it.
    pub fn compile_on(
        spec: &str,
        zone: &str,
        gap: DstGap,
        fold: DstFold,
        days: Option<&Arc<Days>>,
    ) -> Result<Self, ScheduleError> {
        let days = days.filter(|days| !days.is_empty());
        if spec.len() > MAX_LENGTH {
            return Err(CronError::TooLong.into());
        }
        let Some(zone) = find_zone(zone) else {
            return Err(ScheduleError::Zone { name: zone.chars().take(MAX_LENGTH).collect() });
        };
        if let Some(duration) = interval::duration_text(spec.trim_ascii()) {
            let period = interval::parse(duration).map_err(|reason| ScheduleError::Interval { reason })?;
            let mut schedule = Self::every(period)?;
            if let (Some(days), Trigger::Every { pauses, .. }) = (days, &mut schedule.trigger) {
                *pauses = Pauses::new(days, zone);
            }
            return Ok(schedule);
        }
        let mut calendar = CronExpr::parse(spec)?.into_calendar();
        calendar.exceptions = days.cloned();
        Ok(Self { trigger: Trigger::Cron { calendar, clock: WallClock { zone, gap, fold } } })
    }

    /// A fixed rate: from 1 second to 366 days, in milliseconds.
    pub fn every(period_ms: u64) -> Result<Self, ScheduleError> {
        let checked = interval::check(period_ms).map(u64::cast_signed);
        let period_ms = checked.map_err(|reason| ScheduleError::Interval { reason })?;
        Ok(Self { trigger: Trigger::Every { period_ms, pauses: Pauses::default() } })
    }

    /// One fire.
    pub fn once(at_ms: i64) -> Self {
        Self { trigger: Trigger::Once { at_ms } }
    }

    /// The time from fire to fire, if it is always the same.
    pub fn period_ms(&self) -> Option<i64> {
        match self.trigger {
            Trigger::Every { period_ms, .. } => Some(period_ms),
            Trigger::Cron { .. } | Trigger::Once { .. } => None,
        }
    }

    /// The first fire strictly after `after_ms`; `None`: never again.
    ///
    /// An interval fires at `anchor_ms` plus every whole multiple of its period, once, twice, ... but not
    /// at the anchor itself. A calendar has no use for the anchor.
    #[must_use]
    pub fn next_after(&self, after_ms: i64, anchor_ms: i64) -> Option<i64> {
        match &self.trigger {
            Trigger::Cron { calendar, clock } => Some(clock.next(calendar, second_after(after_ms))? * 1_000),
            Trigger::Every { period_ms, pauses } => {
                let mut after_ms = after_ms;
                // Each turn passes at least one span of days that are left out.
                loop {
                    let periods = periods_until(after_ms, anchor_ms, *period_ms) + 1;
                    let fire = fire_of_period(periods, anchor_ms, *period_ms)?;
                    match pauses.end_of(fire) {
                        None => return Some(fire),
                        Some(end) => after_ms = end - 1,
                    }
                }
            }
            Trigger::Once { at_ms } => (*at_ms > after_ms && *at_ms <= LAST_MS).then_some(*at_ms),
        }
    }

    /// The instant from which on the fires of `after_ms < fire <= until_ms` are the last `count` of them.
    #[must_use]
    pub fn start_of_last(&self, count: u64, after_ms: i64, until_ms: i64, anchor_ms: i64) -> i64 {
        // The number of fires after an instant only falls as the instant moves on.
        let (mut low, mut high) = (after_ms, until_ms);
        while low < high {
            let middle = low + (high - low) / 2;
            let (left, _) = self.count_between(middle, until_ms, anchor_ms, u64::MAX);
            if left > count { low = middle + 1 } else { high = middle }
        }
        low + 1
    }

    /// The number of fires in `after_ms < fire <= until_ms`, counted up to `cap`, and the last of them all.
    ///
    /// Nothing is enumerated: the cost grows with the months and clock changes in the span, not with the
    /// fires.
    #[must_use]
    pub fn count_between(
        &self,
        after_ms: i64,
        until_ms: i64,
        anchor_ms: i64,
        cap: u64,
    ) -> (u64, Option<i64>) {
        let until_ms = until_ms.min(LAST_MS);
        if until_ms <= after_ms {
            return (0, None);
        }
        let (count, last) = match &self.trigger {
            Trigger::Cron { calendar, clock } => {
                let (count, last) = clock.count(calendar, second_after(after_ms), second_after(until_ms));
                (count, last.map(|second| second * 1_000))
            }
            Trigger::Every { period_ms, pauses } => {
                count_periods((after_ms, until_ms), anchor_ms, *period_ms, pauses)
            }
            Trigger::Once { at_ms } => {
                let fires = (after_ms + 1..=until_ms).contains(at_ms);
                (u64::from(fires), fires.then_some(*at_ms))
            }
        };
        (count.min(cap), last)
    }

    /// The same schedule without what calendars say; `None` if they say nothing.
    pub(super) fn without_days(&self) -> Option<Self> {
        let mut bare = self.clone();
        let had_any = match &mut bare.trigger {
            Trigger::Cron { calendar, .. } => calendar.exceptions.take().is_some(),
            Trigger::Every { pauses, .. } => !std::mem::take(pauses).is_empty(),
            Trigger::Once { .. } => false,
        };
        had_any.then_some(bare)
    }

    /// The date on the wall of the job.
    pub(super) fn local_day(&self, at_ms: i64) -> Option<Date> {
        let zone = match &self.trigger {
            Trigger::Cron { clock, .. } => &clock.zone,
            Trigger::Every { pauses, .. } => pauses.zone(),
            Trigger::Once { .. } => return None,
        };
        let second = at_ms.div_euclid(1_000);
        Some(local(zone.to_offset(Timestamp::from_second(second).ok()?), second)?.date())
    }

    /// Refuses a schedule that does not fire within eight years after `now_ms`.
    pub fn check_reachable(&self, now_ms: i64, anchor_ms: i64) -> Result<(), ScheduleError> {
        match self.next_after(now_ms, anchor_ms) {
            Some(fire) if fire <= now_ms.saturating_add(REACHABLE_MS) => Ok(()),
            _ => Err(ScheduleError::Unreachable),
        }
    }
}

/// A spec of the original's contract, in our dialect: cron fields by the original's rule, durations cut
/// to seconds.
pub fn normalise_original(spec: &str) -> Result<String, ScheduleError> {
    if spec.len() <= MAX_LENGTH
        && let Some(duration) = interval::duration_text(spec.trim_ascii())
    {
        let period_ms =
            interval::parse_original(duration).map_err(|reason| ScheduleError::Interval { reason })?;
        return Ok(interval::format(period_ms));
    }
    Ok(CronExpr::parse_original(spec)?.normalised().to_owned())
}

fn second_after(ms: i64) -> i64 {
    ms.div_euclid(1_000) + 1
}

/// How many whole periods fit between the anchor and the instant.
fn periods_until(at_ms: i64, anchor_ms: i64, period_ms: i64) -> i128 {
    ((i128::from(at_ms) - i128::from(anchor_ms)) / i128::from(period_ms)).max(0)
}

/// The fires of an interval in `after < fire <= until`, and the last of them.
fn count_periods(
    (after_ms, until_ms): (i64, i64),
    anchor_ms: i64,
    period_ms: i64,
    pauses: &Pauses,
) -> (u64, Option<i64>) {
    let periods = |at_ms| periods_until(at_ms, anchor_ms, period_ms);
    let mut count = periods(until_ms) - periods(after_ms);
    for (start, end) in pauses.from(after_ms).take_while(|(start, _)| *start <= until_ms) {
        count -= periods((end - 1).min(until_ms)) - periods((start - 1).max(after_ms));
    }
    if count <= 0 {
        return (0, None);
    }
    let mut last = fire_of_period(periods(until_ms), anchor_ms, period_ms);
    while let Some(start) = last.and_then(|fire| pauses.start_of(fire)) {
        last = fire_of_period(periods(start - 1), anchor_ms, period_ms);
    }
    (u64::try_from(count).unwrap_or(u64::MAX), last)
}

fn fire_of_period(periods: i128, anchor_ms: i64, period_ms: i64) -> Option<i64> {
    let fire = i128::from(anchor_ms) + periods * i128::from(period_ms);
    i64::try_from(fire).ok().filter(|fire| *fire <= LAST_MS)
}
