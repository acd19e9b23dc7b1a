//! Which fires are due, worked out apart from the core: by asking a job's schedule for one fire after the other.
//!
//! Whenever a cursor moves, each fire between where it was and where it is must be decided in that same
//! revision: by a run, by a record, by one of these that says for how many others it stands, or by a counter in the
//! document of the cursor. What was counted is recorded later, and once.

use std::collections::BTreeMap;
use std::sync::Arc;

use forest_proto::record::{Calendar, Cursor, Job, Outcome, Skips, Sweep, Trigger, decode};
use forest_proto::{JobId, Segment, SegmentCount};

use super::MINUTE;
use super::audit::Promise;
use crate::core::skips;
use crate::core::timing::Timing;
use forest_schedule::{Days, Schedule, normalise_original};

/// What became of a fire, or of several of one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) job: JobId,
    /// The last fire it decides.
    pub(super) at: i64,
    /// How many fires before that it decides too.
    pub(super) others: u64,
    /// `None`: a run was created.
    pub(super) skipped: Option<Outcome>,
}

pub(super) struct Tally {
    segments: SegmentCount,
    jobs: BTreeMap<JobId, Known>,
    calendars: BTreeMap<String, Calendar>,
    cursors: BTreeMap<Segment, Cursor>,
    /// Fires that are counted and not recorded yet.
    counted: BTreeMap<JobId, Vec<i64>>,
    /// In the order in which they were made.
    pub(super) decisions: Vec<Decision>,
    /// How often a cursor was moved.
    pub(super) moves: usize,
}

struct Known {
    job: Job,
    /// `None`: the clock does not fire it.
    timing: Option<Timing>,
    /// The first fire that is not decided.
    next: Option<i64>,
}

/// The instant up to which the fires of a job are decided.
fn decided(cursor: &Cursor, id: &str) -> i64 {
    let at = cursor.fire_at.as_ms();
    let plain = if id <= cursor.job.as_str() { at } else { at - 1 };
    match &cursor.sweep {
        Some(sweep) if id < sweep.job.as_str() => plain.max(sweep.until.as_ms()),
        Some(sweep) if id == sweep.job => plain.max(sweep.fire_at.as_ms()),
        _ => plain,
    }
}

/// What only ever grows: where a cursor is, and where its sweep is.
fn position(cursor: &Cursor) -> impl PartialOrd + std::fmt::Debug + use<> {
    let of = |sweep: &Sweep| (sweep.until.as_ms(), sweep.job.clone(), sweep.fire_at.as_ms());
    (cursor.fire_at.as_ms(), cursor.job.clone(), cursor.sweep.as_ref().map(of))
}

impl Known {
    fn plan(&mut self, after: &Cursor) {
        let decided = decided(after, self.job.id.as_str());
        self.next =
            self.timing.as_ref().filter(|_| self.job.is_enabled()).and_then(|t| t.next_after(decided));
    }

    /// The fires up to a cursor, which are then behind.
    fn take(&mut self, until: &Cursor) -> Vec<i64> {
        let last = decided(until, self.job.id.as_str());
        let mut fires = Vec::new();
        while let Some(at) = self.next.filter(|at| *at <= last) {
            fires.push(at);
            self.next = self.timing.as_ref().and_then(|timing| timing.next_after(at));
        }
        fires
    }
}

impl Tally {
    pub(super) fn new(segments: SegmentCount) -> Self {
        let (jobs, calendars, cursors) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let counted = BTreeMap::new();
        Self { segments, jobs, calendars, cursors, counted, decisions: Vec::new(), moves: 0 }
    }

    pub(super) fn get(&self, id: &JobId) -> Option<&Job> {
        self.jobs.get(id).map(|known| &known.job)
    }

    pub(super) fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.jobs.values().map(|known| &known.job)
    }

    /// A job was written; `None`: deleted.
    pub(super) fn job(&mut self, id: JobId, document: Option<&[u8]>) {
        self.jobs.remove(&id);
        let Some(job) = document.and_then(|document| decode::<Job>(document).ok()) else { return };
        self.schedule(job);
    }

    /// A calendar was written; `None`: deleted.
    pub(super) fn calendar(&mut self, name: &str, document: Option<&[u8]>) {
        self.calendars.remove(name);
        let calendar = document.and_then(|document| decode::<Calendar>(document).ok());
        self.calendars.extend(calendar.map(|calendar| (name.to_owned(), calendar)));
        let uses = |job: &Job| job.calendars.iter().any(|used| used == name);
        let users: Vec<_> = self.jobs.values().map(|known| known.job.clone()).filter(uses).collect();
        users.into_iter().for_each(|job| self.schedule(job));
    }

    /// The job's first fire that is not decided.
    pub(super) fn next_of(&self, id: &JobId) -> Option<i64> {
        self.jobs.get(id)?.next
    }

    fn schedule(&mut self, job: Job) {
        let (id, timing) = (job.id.clone(), self.timing_of(&job));
        let mut known = Known { job, timing, next: None };
        if let Some(cursor) = self.cursors.get(&self.segments.segment_of(&id)) {
            known.plan(cursor);
        }
        self.jobs.insert(id, known);
    }

    pub(super) fn timing_of(&self, job: &Job) -> Option<Timing> {
        let cron =
            if job.created_at.is_some() { Ok(job.cron.clone()) } else { normalise_original(&job.cron) };
        let calendars: Option<Vec<_>> = job.calendars.iter().map(|name| self.calendars.get(name)).collect();
        let cron = match job.trigger {
            Trigger::FixedRate { every_ms } => Ok(format!("@every {every_ms}ms")),
            _ => cron,
        };
        let schedule = match job.trigger {
            Trigger::Cron | Trigger::FixedRate { .. } => {
                cron.ok().zip(calendars).and_then(|(cron, calendars)| {
                    let days = Arc::new(Days::merged(calendars));
                    Schedule::compile_on(&cron, &job.time_zone, job.dst_gap, job.dst_fold, Some(&days)).ok()
                })
            }
            Trigger::Once { at } => Some(Schedule::once(at.as_ms())),
            Trigger::FixedDelay { .. } | Trigger::Manual | Trigger::After(_) => None,
        };
        schedule.map(|schedule| Timing::new(Arc::new(schedule), job))
    }

    /// A cursor was moved, with these decisions about jobs of its segment.
    pub(super) fn moved(
        &mut self,
        segment: Segment,
        cursor: &Cursor,
        now_ms: i64,
        decisions: &[Decision],
    ) -> Vec<(Promise, String)> {
        self.moves += 1;
        let before = self.cursors.insert(segment, cursor.clone());
        let segments = self.segments;
        let jobs = self.jobs.iter_mut().filter(|(id, _)| segments.segment_of(id) == segment);
        let Some(before) = before else {
            jobs.for_each(|(_, known)| known.plan(cursor));
            return Vec::new();
        };
        let mut broken = Vec::new();
        let (from, to) = (position(&before), position(cursor));
        if to < from || cursor.fire_at.as_ms() > now_ms {
            broken.push((Promise::CursorAdvances, format!("{segment}: {from:?} to {to:?} at {now_ms}")));
        }
        let mut fires: BTreeMap<_, _> = jobs.map(|(id, known)| (id.clone(), known.take(cursor))).collect();
        // Of a job that is gone there may be counted ones left.
        for (id, counted) in self.counted.extract_if(.., |id, _| segments.segment_of(id) == segment) {
            fires.entry(id).or_default().splice(0..0, counted);
        }
        for (id, fires) in fires {
            let mut made: Vec<_> = decisions.iter().filter(|made| made.job == id).collect();
            made.sort_by_key(|made| made.at);
            match match_up(&fires, &made).and_then(|rest| check_counter(cursor.skips.get(&id), rest)) {
                Ok([]) => {}
                Ok(rest) => drop(self.counted.insert(id, rest.to_vec())),
                Err(what) => broken.push((Promise::EachFireDecided, format!("{id}: {what}"))),
            }
        }
        if cursor.skips.len() > skips::MAX_OPEN {
            broken.push((Promise::EtcdTakesIt, format!("{} counters", cursor.skips.len())));
        }
        self.decisions.extend_from_slice(decisions);
        broken
    }

    /// Jobs with a fire that is due and not decided.
    pub(super) fn overdue(&self, now_ms: i64) -> Vec<&JobId> {
        let due = |known: &Known| known.next.is_some_and(|at| at <= now_ms);
        self.jobs.iter().filter(|(_, known)| due(known)).map(|(id, _)| id).collect()
    }

    /// Jobs of which fires are counted although no more can come to them.
    pub(super) fn unrecorded(&self) -> Vec<&JobId> {
        let goes_on = |id: &JobId, last: i64| {
            let next = self.jobs.get(id).and_then(|known| known.next);
            next.is_some_and(|next| next / MINUTE == last / MINUTE)
        };
        let left =
            self.counted.iter().filter(|(id, fires)| fires.last().is_some_and(|last| !goes_on(id, *last)));
        left.map(|(id, _)| id).collect()
    }

    pub(super) fn segment_of(&self, job: &JobId) -> Segment {
        self.segments.segment_of(job)
    }
}

/// Each fire in exactly one decision; those after the last decision are left.
fn match_up<'a>(due: &'a [i64], made: &[&Decision]) -> Result<&'a [i64], String> {
    let mut rest = due;
    for decision in made {
        let takes = usize::try_from(decision.others).unwrap() + 1;
        if rest.len() < takes || rest[takes - 1] != decision.at {
            return Err(format!("{decision:?} with {} fires due, next {:?}", rest.len(), rest.first()));
        }
        rest = &rest[takes..];
    }
    Ok(rest)
}

/// What is not recorded must be counted, and be of one minute.
fn check_counter<'a>(counter: Option<&Skips>, fires: &'a [i64]) -> Result<&'a [i64], String> {
    let counted = counter.map(|skips| (skips.count, skips.first.as_ms(), skips.last.as_ms()));
    let Some((first, last)) = fires.first().zip(fires.last()) else {
        return match counted.filter(|(count, ..)| *count > 0) {
            Some(counted) => Err(format!("{counted:?} counted, and no fire")),
            None => Ok(fires),
        };
    };
    if counted != Some((fires.len() as u64, *first, *last)) {
        return Err(format!("{} fires from {first} on are decided nowhere: {counter:?}", fires.len()));
    }
    if first / MINUTE != last / MINUTE {
        return Err(format!("{counter:?} is of more than a minute"));
    }
    Ok(fires)
}
