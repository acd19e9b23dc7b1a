//! Which fires are due, by arithmetic on seconds, and whether each is decided exactly once.
//!
//! Whenever a cursor moves, each fire between where it was and where it is must be decided in that same revision:
//! by a run, by a record that says for how many others it stands, or by a counter in the document of the cursor. What
//! is counted must be recorded in the end, and once.

use std::collections::BTreeMap;

use forest_proto::record::{Cursor, Job, Skips, Trigger, decode};
use forest_proto::{JobId, Segment, SegmentCount};

use super::{Broken, Promise};
use crate::clock::BEGIN_MS;

/// How far the clock of a machine may be ahead: a fire may come so much early.
const AHEAD_MS: i64 = 5_500;
const MINUTE_MS: i64 = 60_000;

/// What became of a fire, or of several of one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) job: JobId,
    /// The last fire it decides.
    pub(super) at_ms: i64,
    /// How many fires before that it decides too.
    pub(super) others: u64,
}

pub(super) struct Fires {
    segments: SegmentCount,
    jobs: BTreeMap<JobId, Job>,
    cursors: BTreeMap<Segment, Cursor>,
    /// Fires that are counted and have no record yet.
    counted: BTreeMap<JobId, Vec<i64>>,
    /// When each job was last changed.
    changed: BTreeMap<JobId, i64>,
}

impl Fires {
    pub(super) fn new(segments: SegmentCount) -> Self {
        Self {
            segments,
            jobs: BTreeMap::new(),
            cursors: BTreeMap::new(),
            counted: BTreeMap::new(),
            changed: BTreeMap::new(),
        }
    }

    pub(super) fn get(&self, job: &JobId) -> Option<&Job> {
        self.jobs.get(job)
    }

    pub(super) fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.jobs.values()
    }

    pub(super) fn job(&mut self, id: &JobId, document: Option<&[u8]>, now_ms: u64) {
        self.changed.insert(id.clone(), wall(now_ms));
        match document.and_then(|document| decode::<Job>(document).ok()) {
            Some(job) => self.jobs.insert(id.clone(), job),
            None => self.jobs.remove(id),
        };
    }

    pub(super) fn moved(
        &mut self,
        moves: &[(Segment, Option<&[u8]>)],
        made: &[Decision],
        broken: &mut Broken,
    ) {
        for decision in made {
            let segment = self.segments.segment_of(&decision.job);
            if moves.iter().all(|(moved, _)| *moved != segment) {
                broken.note(Promise::EachFireDecided, format!("{decision:?} without a move of the cursor"));
            }
        }
        for (segment, document) in moves {
            let Some(cursor) = document.and_then(|document| decode::<Cursor>(document).ok()) else {
                broken
                    .note(Promise::CursorAdvances, format!("the cursor of {segment} is gone or unreadable"));
                continue;
            };
            if let Some(before) = self.cursors.insert(*segment, cursor.clone()) {
                self.check_move(*segment, &before, &cursor, made, broken);
            }
        }
    }

    fn check_move(
        &mut self,
        segment: Segment,
        before: &Cursor,
        after: &Cursor,
        made: &[Decision],
        broken: &mut Broken,
    ) {
        let now_ms = wall(broken.now_ms);
        let place = |cursor: &Cursor| (cursor.fire_at.as_ms(), cursor.job.clone());
        if place(after) < place(before) || after.fire_at.as_ms() > now_ms + AHEAD_MS || after.sweep.is_some()
        {
            let what = format!("{segment}: {:?} to {:?} at {now_ms}", place(before), after);
            broken.note(Promise::CursorAdvances, what);
        }
        let segments = self.segments;
        let jobs = self.jobs.iter().filter(|(id, _)| segments.segment_of(id) == segment);
        let due = |(id, job): (&JobId, &Job)| {
            (id.clone(), due_between(job, decided(before, id), decided(after, id)))
        };
        let mut fires: BTreeMap<JobId, Vec<i64>> = jobs.map(due).collect();
        let here = |id: &JobId, _: &mut _| segments.segment_of(id) == segment;
        // Of a job that is gone there may be counted ones left.
        for (id, counted) in self.counted.extract_if(.., here) {
            fires.entry(id).or_default().splice(0..0, counted);
        }
        for (id, fires) in fires {
            let mut made: Vec<_> = made.iter().filter(|made| made.job == id).collect();
            made.sort_by_key(|made| made.at_ms);
            match match_up(&fires, &made).and_then(|rest| check_counter(after.skips.get(&id), rest)) {
                Ok([]) => {}
                Ok(rest) => drop(self.counted.insert(id, rest.to_vec())),
                Err(what) => {
                    let cron = self.jobs.get(&id).map_or("deleted", |job| &job.cron);
                    broken.note(Promise::EachFireDecided, format!("{id} ({cron}): {what}"));
                }
            }
        }
    }

    /// Jobs of which fires are counted that should have been recorded before this instant: their minute was over, or
    /// the job gone or paused.
    pub(super) fn unrecorded(&self, before_ms: i64) -> Vec<(&JobId, i64)> {
        let left = |(id, fires): (&'_ JobId, &Vec<i64>)| {
            let last = *fires.last()?;
            let is_over = (last.div_euclid(MINUTE_MS) + 1) * MINUTE_MS <= before_ms;
            let is_gone = !self.jobs.get(id).is_some_and(Job::is_enabled)
                && self.changed.get(id).is_none_or(|at| *at <= before_ms);
            (is_over || is_gone).then_some(last)
        };
        self.counted.iter().filter_map(|(id, fires)| Some((id, left((id, fires))?))).collect()
    }

    /// The fires of a job's schedule with `from <= fire < to`, also those before it counted.
    pub(super) fn past(&self, job: &JobId, from_ms: i64, to_ms: i64) -> Vec<i64> {
        let Some(job) = self.jobs.get(job) else { return Vec::new() };
        let anchor = job.effective_after.map_or(0, |at| at.as_ms()) / 1_000;
        let fires = |second: &i64| match period(job) {
            Some(every) => (second - anchor) % every == 0,
            None => fires_at(job, *second, anchor),
        };
        let seconds = (from_ms + 999).div_euclid(1_000)..(to_ms + 999).div_euclid(1_000);
        seconds.filter(fires).map(|second| second * 1_000).collect()
    }

    /// Whether the clock has decided a fire, or will never.
    pub(super) fn is_decided(&self, id: &JobId, at_ms: i64) -> bool {
        let cursor = self.cursors.get(&self.segments.segment_of(id));
        let due =
            self.jobs.get(id).zip(cursor).map(|(job, cursor)| due_between(job, decided(cursor, id), at_ms));
        due.is_some_and(|due| due.is_empty())
    }

    /// Jobs with a fire before this instant that is not decided.
    pub(super) fn overdue(&self, before_ms: i64) -> Vec<(&JobId, i64)> {
        let late = |(id, job): (&'_ JobId, &Job)| {
            let cursor = self.cursors.get(&self.segments.segment_of(id))?;
            due_between(job, decided(cursor, id), before_ms).first().copied()
        };
        self.jobs.iter().filter_map(|(id, job)| Some((id, late((id, job))?))).collect()
    }
}

fn wall(now_ms: u64) -> i64 {
    BEGIN_MS.saturating_add_unsigned(now_ms)
}

/// The instant up to which the fires of a job are decided.
fn decided(cursor: &Cursor, job: &JobId) -> i64 {
    let at = cursor.fire_at.as_ms();
    if job.as_str() <= cursor.job.as_str() { at } else { at - 1 }
}

/// The fires of a job with `after < fire <= until`.
fn due_between(job: &Job, after_ms: i64, until_ms: i64) -> Vec<i64> {
    let anchor = job.effective_after.map_or(0, |at| at.as_ms());
    if !job.is_enabled() {
        return Vec::new();
    }
    let first = after_ms.max(anchor).div_euclid(1_000) + 1;
    let last = until_ms.div_euclid(1_000);
    (first..=last).filter(|second| fires_at(job, *second, anchor / 1_000)).map(|s| s * 1_000).collect()
}

/// Only what [`crate::plan::Fires`] writes.
fn fires_at(job: &Job, second: i64, anchor: i64) -> bool {
    if let Some(every) = period(job) {
        return second > anchor && (second - anchor) % every == 0;
    }
    let step = job.cron.strip_prefix("*/").and_then(|text| text.strip_suffix(" * * * * *"));
    step.and_then(|step| step.parse::<i64>().ok()).is_some_and(|step| (second % 60) % step == 0)
}

/// The seconds from fire to fire of an interval.
fn period(job: &Job) -> Option<i64> {
    if let Trigger::FixedRate { every_ms } = job.trigger {
        return i64::try_from(every_ms / 1_000).ok();
    }
    job.cron.strip_prefix("@every ")?.strip_suffix('s')?.parse().ok()
}

/// Each fire in exactly one decision; those after the last decision are left.
fn match_up<'a>(due: &'a [i64], made: &[&Decision]) -> Result<&'a [i64], String> {
    let mut rest = due;
    for decision in made {
        let takes = usize::try_from(decision.others).unwrap_or(usize::MAX).saturating_add(1);
        if rest.len() < takes || rest[takes - 1] != decision.at_ms {
            return Err(format!("{decision:?} with {} fires due, next {:?}", rest.len(), rest.first()));
        }
        rest = &rest[takes..];
    }
    Ok(rest)
}

/// What is not recorded is counted, exactly, and is of one minute.
fn check_counter<'a>(counter: Option<&Skips>, fires: &'a [i64]) -> Result<&'a [i64], String> {
    let counter = counter.filter(|skips| skips.count > 0);
    let counted = counter.map(|skips| (skips.count, skips.first.as_ms(), skips.last.as_ms()));
    let expected = fires.first().zip(fires.last()).map(|(first, last)| (fires.len() as u64, *first, *last));
    let one_minute =
        |(_, first, last): (u64, i64, i64)| first.div_euclid(MINUTE_MS) == last.div_euclid(MINUTE_MS);
    if counted != expected || !expected.is_none_or(one_minute) {
        return Err(format!(
            "{expected:?} (count, first, last) is recorded nowhere, and {counted:?} is counted"
        ));
    }
    Ok(fires)
}
