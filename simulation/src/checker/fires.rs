//! Which fires are due, by arithmetic on seconds, and whether each is decided exactly once.
//!
//! Whenever a cursor moves, each fire between where it was and where it is must be decided in that same revision:
//! by a run, or by a record that says for how many others it stands.

use std::collections::BTreeMap;

use forest_proto::record::{Cursor, Job, Trigger, decode};
use forest_proto::{JobId, Segment, SegmentCount};

use super::{Broken, Promise};
use crate::clock::BEGIN_MS;

/// How far the clock of a machine may be ahead: a fire may come so much early.
const AHEAD_MS: i64 = 5_500;

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
}

impl Fires {
    pub(super) fn new(segments: SegmentCount) -> Self {
        Self { segments, jobs: BTreeMap::new(), cursors: BTreeMap::new() }
    }

    pub(super) fn get(&self, job: &JobId) -> Option<&Job> {
        self.jobs.get(job)
    }

    pub(super) fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.jobs.values()
    }

    pub(super) fn job(&mut self, id: &JobId, document: Option<&[u8]>) {
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
        &self,
        segment: Segment,
        before: &Cursor,
        after: &Cursor,
        made: &[Decision],
        broken: &mut Broken,
    ) {
        let now_ms = BEGIN_MS + i64::try_from(broken.now_ms).unwrap_or(i64::MAX);
        let place = |cursor: &Cursor| (cursor.fire_at.as_ms(), cursor.job.clone());
        if place(after) < place(before) || after.fire_at.as_ms() > now_ms + AHEAD_MS || after.sweep.is_some()
        {
            let what = format!("{segment}: {:?} to {:?} at {now_ms}", place(before), after);
            broken.note(Promise::CursorAdvances, what);
        }
        for (id, job) in self.jobs.iter().filter(|(id, _)| self.segments.segment_of(id) == segment) {
            let due = due_between(job, decided(before, id), decided(after, id));
            let mut made: Vec<_> = made.iter().filter(|made| made.job == *id).collect();
            made.sort_by_key(|made| made.at_ms);
            if let Err(what) = match_up(&due, &made) {
                broken.note(Promise::EachFireDecided, format!("{id} ({}): {what}", job.cron));
            }
        }
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
    let cron = &job.cron;
    if let Trigger::FixedRate { every_ms } = job.trigger {
        let every = i64::try_from(every_ms / 1_000).unwrap_or(i64::MAX);
        return second > anchor && (second - anchor) % every == 0;
    }
    if let Some(every) = cron.strip_prefix("@every ").and_then(|text| text.strip_suffix('s')) {
        return every.parse::<i64>().is_ok_and(|every| second > anchor && (second - anchor) % every == 0);
    }
    let step = cron.strip_prefix("*/").and_then(|text| text.strip_suffix(" * * * * *"));
    step.and_then(|step| step.parse::<i64>().ok()).is_some_and(|step| (second % 60) % step == 0)
}

/// Each fire in exactly one decision.
fn match_up(due: &[i64], made: &[&Decision]) -> Result<(), String> {
    let mut rest = due;
    for decision in made {
        let takes = usize::try_from(decision.others).unwrap_or(usize::MAX).saturating_add(1);
        if rest.len() < takes || rest[takes - 1] != decision.at_ms {
            return Err(format!("{decision:?} with {} fires due, next {:?}", rest.len(), rest.first()));
        }
        rest = &rest[takes..];
    }
    match rest.first() {
        Some(first) => Err(format!("{} fires from {first} on are decided nowhere", rest.len())),
        None => Ok(()),
    }
}
