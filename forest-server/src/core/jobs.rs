//! The jobs of each segment and the order in which they fire next.
//!
//! Built for a million jobs: of each only what planning needs is kept apart; the rest stays as the JSON it
//! was stored as and is read when the job fires.
//!
//! Invariant: for every enabled job with a schedule, once its segment has a cursor, the plan holds the
//! job's first fire after both the cursor and the instant from which the job counts; for any other job it
//! holds nothing.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::Arc;

use forest_proto::record::{Calendar, Cursor, Job, Misfire, Overlap, Sweep, Trigger, decode};
use forest_proto::time::Instant;
use forest_proto::{CalendarName, GroupName, JobId, Segment, SegmentCount};

use super::calendars::Calendars;
use super::timing::Timing;
use crate::schedule::{Schedule, ScheduleCache, ScheduleError, normalise_original};

/// No fire planned.
const NEVER: i64 = i64::MAX;

#[derive(Debug)]
pub(crate) struct Jobs {
    count: SegmentCount,
    segments: Vec<SegmentJobs>,
    schedules: ScheduleCache,
    /// How many jobs each group has; its keys are the names that the jobs share.
    groups: BTreeMap<GroupName, usize>,
    /// Those of a fixed delay.
    chains: BTreeSet<JobId>,
    default_zone: String,
    calendars: Calendars,
}

/// How far a segment is decided, and by which write of the cursor that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decided {
    pub(crate) fire_ms: i64,
    pub(crate) job: String,
    pub(crate) revision: i64,
    pub(crate) sweep: Option<Sweep>,
}

impl Decided {
    /// The instant up to which the fires of a job are decided. Fires at the cursor's own instant are behind it
    /// for jobs with a larger id.
    fn until(&self, id: &JobId) -> i64 {
        let cursor = if id.as_str() > self.job.as_str() { self.fire_ms - 1 } else { self.fire_ms };
        let swept = self.sweep.as_ref().map_or(cursor, |sweep| match id.as_str().cmp(&sweep.job) {
            Ordering::Less => sweep.until.as_ms(),
            Ordering::Equal => sweep.fire_at.as_ms(),
            Ordering::Greater => cursor,
        });
        swept.max(cursor)
    }
}

impl Decided {
    /// The same position, as a document.
    pub(crate) fn cursor(&self, term: i64) -> Cursor {
        let fire_at = Instant::from_ms(self.fire_ms);
        Cursor { fire_at, job: self.job.clone(), term, sweep: self.sweep.clone() }
    }
}

/// A job whose calendars changed.
#[derive(Debug)]
pub(crate) struct Replanned {
    pub(crate) id: JobId,
    pub(crate) revision: i64,
    /// Why it cannot be scheduled any more.
    pub(crate) problem: Option<String>,
}

#[derive(Debug, Default)]
pub(crate) struct SegmentJobs {
    jobs: BTreeMap<JobId, PlannedJob>,
    plan: BTreeSet<(i64, JobId)>,
    decided: Option<Decided>,
    /// Mod revision of the segment's `jobgen`; 0 = no job was ever stored in it.
    jobgen: i64,
    /// How often it was put.
    changes: i64,
    /// As of this revision something is missing here that etcd has: nothing is decided before a listing.
    doubted_at: Option<i64>,
    enabled: usize,
}

#[derive(Debug)]
pub(crate) struct PlannedJob {
    pub(crate) revision: i64,
    pub(crate) group: GroupName,
    listing: u32,
    next_ms: i64,
    /// `None`: the clock does not fire it.
    pub(crate) timing: Option<Timing>,
    /// Milliseconds from the end of one run to the next one.
    pub(crate) fixed_delay_ms: Option<u64>,
    pub(crate) enabled: bool,
    /// Why it cannot be scheduled.
    problem: Option<Box<str>>,
    /// Whether the document names calendars.
    on_calendars: bool,
    pub(crate) overlap: Overlap,
    pub(crate) misfire: Misfire,
    pub(crate) misfire_threshold_ms: Option<u32>,
    pub(crate) misfire_cap: u32,
    pub(crate) queue_limit: u32,
    pub(crate) max_in_flight: Option<u32>,
    document: Box<[u8]>,
}

impl PlannedJob {
    /// The whole job. It was read before it was taken in, so it can be read again.
    pub(crate) fn job(&self) -> Option<Job> {
        decode(&self.document).ok()
    }

    /// About how long a record about it is, without what the record adds.
    pub(crate) fn bytes(&self) -> usize {
        self.document.len()
    }

    /// Why it cannot be scheduled.
    pub(crate) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    pub(crate) fn next_ms(&self) -> Option<i64> {
        (self.next_ms != NEVER).then_some(self.next_ms)
    }
}

impl Jobs {
    pub(crate) fn new(count: SegmentCount, default_zone: String) -> Self {
        let segments = count.all().map(|_| SegmentJobs::default()).collect();
        let (schedules, groups, calendars) =
            (ScheduleCache::default(), BTreeMap::new(), Calendars::default());
        Self { count, segments, schedules, groups, chains: BTreeSet::new(), default_zone, calendars }
    }

    pub(crate) fn count(&self) -> SegmentCount {
        self.count
    }

    pub(crate) fn default_zone(&self) -> &str {
        &self.default_zone
    }

    pub(crate) fn segment_of(&self, job: &JobId) -> Segment {
        self.count.segment_of(job)
    }

    pub(crate) fn segments(&self) -> impl Iterator<Item = Segment> + use<> {
        self.count.all()
    }

    pub(crate) fn segment(&self, segment: Segment) -> &SegmentJobs {
        &self.segments[segment.index()]
    }

    /// Whether a segment of this cluster; another program may have written any number.
    pub(crate) fn has(&self, segment: Segment) -> bool {
        segment.index() < self.segments.len()
    }

    pub(crate) fn get(&self, job: &JobId) -> Option<&PlannedJob> {
        self.segments[self.segment_of(job).index()].jobs.get(job)
    }

    pub(crate) fn len(&self) -> usize {
        self.segments.iter().map(|segment| segment.jobs.len()).sum()
    }

    pub(crate) fn enabled(&self) -> usize {
        self.segments.iter().map(|segment| segment.enabled).sum()
    }

    /// The jobs after `after` in the order of their ids, at most `limit`.
    pub(crate) fn page(&self, after: Option<&JobId>, limit: usize) -> Vec<(&JobId, &PlannedJob)> {
        let from = (after.map_or(Unbounded, Excluded), Unbounded);
        let mut page = Vec::new();
        for segment in &self.segments {
            page.extend(segment.jobs.range::<JobId, _>(from).take(limit));
        }
        page.sort_unstable_by_key(|(id, _)| *id);
        page.truncate(limit);
        page
    }

    /// The soonest fires, at most `limit`.
    pub(crate) fn soonest(&self, limit: usize) -> Vec<(i64, &JobId)> {
        let mut fires: Vec<_> = self
            .segments
            .iter()
            .flat_map(|s| s.plan.iter().take(limit))
            .map(|(at, job)| (*at, job))
            .collect();
        fires.sort_unstable();
        fires.truncate(limit);
        fires
    }

    /// Takes a stored job; an error says why it cannot be scheduled, and the job is then kept without fires.
    pub(crate) fn put(
        &mut self,
        id: &JobId,
        document: &[u8],
        revision: i64,
        listing: u32,
    ) -> Result<bool, String> {
        let index = self.segment_of(id).index();
        if let Some(known) = self.segments[index].jobs.get_mut(id)
            && known.revision >= revision
        {
            known.listing = listing;
            return known.problem().map_or(Ok(false), |problem| Err(problem.to_owned()));
        }
        let job: Job = decode(document).map_err(|error| error.to_string())?;
        if job.id != *id {
            return Err(format!("it calls itself {}", job.id));
        }
        let (schedule, problem) = match self.schedule_of(&job) {
            Ok(schedule) => (schedule, None),
            Err(problem) => (None, Some(problem)),
        };
        let planned = PlannedJob {
            revision,
            group: self.share_group(job.group.clone()),
            listing,
            next_ms: NEVER,
            timing: schedule.map(|schedule| Timing::new(schedule, &job)),
            fixed_delay_ms: match job.trigger {
                Trigger::FixedDelay { every_ms } => Some(every_ms),
                _ => None,
            },
            enabled: job.is_enabled(),
            problem: problem.as_deref().map(Into::into),
            on_calendars: !job.calendars.is_empty(),
            overlap: job.overlap,
            misfire: job.misfire,
            misfire_threshold_ms: job.misfire_threshold_ms.map(|ms| u32::try_from(ms).unwrap_or(u32::MAX)),
            misfire_cap: job.misfire_cap.unwrap_or(Job::MISFIRE_CAP),
            queue_limit: job.queue_limit.unwrap_or(Job::QUEUE_LIMIT),
            max_in_flight: job.max_in_flight,
            document: document.into(),
        };
        if planned.fixed_delay_ms.is_some() {
            self.chains.insert(id.clone());
        } else {
            self.chains.remove(id);
        }
        if let Some(before) = self.segments[index].insert(id.clone(), planned) {
            self.forget(&before);
        }
        self.calendars.join(&job);
        problem.map_or(Ok(true), Err)
    }

    /// The compiled schedule of a job; `None` for one that is not fired by the clock.
    pub(crate) fn schedule_of(&mut self, job: &Job) -> Result<Option<Arc<Schedule>>, String> {
        let Some(cron) = cron_text(job).map_err(|error| error.to_string())? else {
            return Ok(match job.trigger {
                Trigger::Once { at } => Some(Arc::new(Schedule::once(at.as_ms()))),
                _ => None,
            });
        };
        let zone = if job.time_zone.is_empty() { &self.default_zone } else { &job.time_zone };
        let days = self.calendars.days(&job.calendars)?;
        let schedule = self.schedules.intern(&cron, zone, job.dst_gap, job.dst_fold, days.as_ref());
        schedule.map(Some).map_err(|error| error.to_string())
    }

    pub(crate) fn remove(&mut self, id: &JobId, revision: i64) -> bool {
        let index = self.segment_of(id).index();
        let Some(job) = self.segments[index].remove(id, revision) else { return false };
        self.chains.remove(id);
        self.forget(&job);
        true
    }

    /// The jobs of a fixed delay.
    pub(crate) fn chains(&self) -> impl Iterator<Item = &JobId> {
        self.chains.iter()
    }

    pub(crate) fn has_chains(&self) -> bool {
        !self.chains.is_empty()
    }

    /// Takes a job out of the indexes.
    fn forget(&mut self, job: &PlannedJob) {
        self.leave_group(&job.group);
        if job.on_calendars
            && let Some(job) = job.job()
        {
            self.calendars.leave(&job);
        }
    }

    pub(crate) fn calendars(&self) -> &Calendars {
        &self.calendars
    }

    /// Takes a calendar, and plans the jobs that use it anew.
    pub(crate) fn put_calendar(&mut self, calendar: Calendar, revision: i64, listing: u32) -> Vec<Replanned> {
        let name = calendar.name.clone();
        if self.calendars.put(calendar, revision, listing) { self.replan_users(&name) } else { Vec::new() }
    }

    /// Forgets a calendar. The jobs that use it have no fires then.
    pub(crate) fn remove_calendar(&mut self, name: &CalendarName, revision: i64) -> Vec<Replanned> {
        if self.calendars.remove(name, revision) { self.replan_users(name) } else { Vec::new() }
    }

    fn replan_users(&mut self, name: &CalendarName) -> Vec<Replanned> {
        let users: Vec<_> = self.calendars.users(name.as_str()).cloned().collect();
        users.into_iter().filter_map(|id| self.replan(id)).collect()
    }

    fn replan(&mut self, id: JobId) -> Option<Replanned> {
        let known = self.get(&id)?;
        let (job, revision) = (known.job()?, known.revision);
        let (schedule, problem) = match self.schedule_of(&job) {
            Ok(schedule) => (schedule, None),
            Err(problem) => (None, Some(problem)),
        };
        let timing = schedule.map(|schedule| Timing::new(schedule, &job));
        let segment = self.segment_of(&id).index();
        self.segments[segment].reschedule(&id, timing, problem.as_deref());
        Some(Replanned { id, revision, problem })
    }

    pub(crate) fn of_group(&self, group: &GroupName) -> usize {
        self.groups.get(group).copied().unwrap_or(0)
    }

    /// Counts a job in, and gives back the one copy of the group's name.
    fn share_group(&mut self, group: GroupName) -> GroupName {
        let shared = self.groups.get_key_value(&group).map_or(group, |(shared, _)| shared.clone());
        *self.groups.entry(shared.clone()).or_default() += 1;
        shared
    }

    fn leave_group(&mut self, group: &GroupName) {
        if let Some(count) = self.groups.get_mut(group) {
            *count -= 1;
            if *count == 0 {
                self.groups.remove(group);
            }
        }
    }

    pub(crate) fn stale(&self, listing: u32, revision: i64) -> Vec<JobId> {
        let jobs = self.segments.iter().flat_map(|segment| &segment.jobs);
        jobs.filter(|(_, job)| job.listing != listing && job.revision <= revision)
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// `changes` counts how often the generation was put. If the stream told of a later one than the next, the
    /// jobs that came with those between are missing.
    pub(crate) fn set_jobgen(&mut self, segment: Segment, revision: i64, changes: i64, listed: bool) {
        let known = &mut self.segments[segment.index()];
        if revision <= known.jobgen {
            return;
        }
        if !listed && known.changes > 0 && changes > known.changes + 1 {
            known.doubted_at = Some(revision);
        }
        (known.jobgen, known.changes) = (revision, changes);
    }

    /// etcd had something at this revision that should be here by now, and is not.
    pub(crate) fn doubt(&mut self, segment: Segment, revision: i64) {
        let known = &mut self.segments[segment.index()].doubted_at;
        *known = (*known).max(Some(revision));
    }

    /// A listing shows everything that etcd had at this revision.
    pub(crate) fn listed(&mut self, revision: i64) {
        for segment in &mut self.segments {
            segment.doubted_at = segment.doubted_at.filter(|at| *at > revision);
        }
    }

    /// Whether anything is known to be missing.
    pub(crate) fn is_doubted(&self) -> bool {
        self.segments.iter().any(SegmentJobs::is_doubted)
    }

    /// The segment's generation was deleted, by somebody else. Comparing it with 0 is right then.
    pub(crate) fn forget_jobgen(&mut self, segment: Segment, revision: i64) {
        let known = &mut self.segments[segment.index()].jobgen;
        if *known < revision {
            *known = 0;
            self.segments[segment.index()].changes = 0;
        }
    }

    /// The segment's cursor was deleted, by somebody else, or cannot be read.
    pub(crate) fn forget_cursor(&mut self, segment: Segment, revision: i64) {
        self.segments[segment.index()].forget_decided(revision);
    }

    pub(crate) fn set_cursor(&mut self, segment: Segment, cursor: &Cursor, revision: i64) {
        self.segments[segment.index()].set_decided(Decided {
            fire_ms: cursor.fire_at.as_ms(),
            job: cursor.job.clone(),
            revision,
            sweep: cursor.sweep.clone(),
        });
    }
}

impl SegmentJobs {
    pub(crate) fn decided(&self) -> Option<&Decided> {
        self.decided.as_ref()
    }

    pub(crate) fn jobgen(&self) -> i64 {
        self.jobgen
    }

    pub(crate) fn is_doubted(&self) -> bool {
        self.doubted_at.is_some()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    pub(crate) fn get(&self, job: &JobId) -> Option<&PlannedJob> {
        self.jobs.get(job)
    }

    /// The fires in order, from the soonest.
    pub(crate) fn fires(&self) -> impl Iterator<Item = &(i64, JobId)> {
        self.plan.iter()
    }

    /// The jobs from this id on, in the order of their ids.
    pub(crate) fn jobs_from(&self, id: &str) -> impl Iterator<Item = (&JobId, &PlannedJob)> {
        self.jobs.range::<str, _>((Included(id), Unbounded))
    }

    pub(crate) fn next_due(&self) -> Option<i64> {
        self.plan.first().map(|(at, _)| *at)
    }

    fn insert(&mut self, id: JobId, mut job: PlannedJob) -> Option<PlannedJob> {
        let before = self.take(&id);
        self.enabled += usize::from(job.enabled);
        if let Some(decided) = &self.decided {
            job.next_ms = first_fire(&job, &id, decided);
            self.plan_fire(&job, &id);
        }
        self.jobs.insert(id, job);
        before
    }

    fn plan_fire(&mut self, job: &PlannedJob, id: &JobId) {
        if job.next_ms != NEVER {
            self.plan.insert((job.next_ms, id.clone()));
        }
    }

    fn take(&mut self, id: &JobId) -> Option<PlannedJob> {
        let job = self.jobs.remove(id)?;
        self.enabled -= usize::from(job.enabled);
        if job.next_ms != NEVER {
            self.plan.remove(&(job.next_ms, id.clone()));
        }
        Some(job)
    }

    fn reschedule(&mut self, id: &JobId, timing: Option<Timing>, problem: Option<&str>) {
        if let Some(mut job) = self.take(id) {
            (job.timing, job.problem, job.next_ms) = (timing, problem.map(Into::into), NEVER);
            self.insert(id.clone(), job);
        }
    }

    fn remove(&mut self, id: &JobId, revision: i64) -> Option<PlannedJob> {
        self.jobs.get(id).filter(|job| job.revision < revision)?;
        self.take(id)
    }

    /// Moves the cursor, and with it every fire that it passes. Cursors of the past are ignored.
    pub(crate) fn set_decided(&mut self, decided: Decided) {
        match &self.decided {
            Some(known) if known.revision >= decided.revision => {}
            Some(_) => self.advance(decided),
            None => {
                self.decided = Some(decided);
                self.plan_all();
            }
        }
    }

    fn plan_all(&mut self) {
        let Some(decided) = &self.decided else { return };
        let mut plan = Vec::new();
        for (id, job) in &mut self.jobs {
            job.next_ms = first_fire(job, id, decided);
            if job.next_ms != NEVER {
                plan.push((job.next_ms, id.clone()));
            }
        }
        self.plan = plan.into_iter().collect();
    }

    /// The cursor is gone: nothing is planned before there is another one.
    fn forget_decided(&mut self, revision: i64) {
        if self.decided.as_ref().is_some_and(|decided| decided.revision < revision) {
            self.decided = None;
            self.plan.clear();
            self.jobs.values_mut().for_each(|job| job.next_ms = NEVER);
        }
    }

    fn advance(&mut self, decided: Decided) {
        while let Some((at, id)) = self.plan.first()
            && (*at, id.as_str()) <= (decided.fire_ms, decided.job.as_str())
        {
            let Some((_, id)) = self.plan.pop_first() else { break };
            if let Some(job) = self.jobs.get_mut(&id) {
                job.next_ms = first_fire(job, &id, &decided);
                if job.next_ms != NEVER {
                    self.plan.insert((job.next_ms, id));
                }
            }
        }
        let job_of = |decided: &Decided| decided.sweep.as_ref().map(|sweep| sweep.job.clone());
        let (from, to) = (self.decided.as_ref().and_then(job_of), job_of(&decided));
        self.decided = Some(decided);
        to.iter().for_each(|to| self.plan_swept(from.as_deref(), to));
    }

    /// Plans anew the jobs that a sweep has passed.
    fn plan_swept(&mut self, from: Option<&str>, to: &str) {
        let Some(decided) = &self.decided else { return };
        for (id, job) in self.jobs.range_mut::<str, _>((from.map_or(Unbounded, Included), Included(to))) {
            if job.next_ms != NEVER && job.next_ms <= decided.until(id) {
                self.plan.remove(&(job.next_ms, id.clone()));
                job.next_ms = first_fire(job, id, decided);
                if job.next_ms != NEVER {
                    self.plan.insert((job.next_ms, id.clone()));
                }
            }
        }
    }
}

/// What the clock fires, as text of our dialect; `None`: a single fire, or nothing.
pub(crate) fn cron_text(job: &Job) -> Result<Option<Cow<'_, str>>, ScheduleError> {
    match job.trigger {
        Trigger::Cron => normalised_cron(job).map(Some),
        Trigger::FixedRate { every_ms } => Ok(Some(format!("@every {every_ms}ms").into())),
        Trigger::Once { .. } | Trigger::FixedDelay { .. } | Trigger::Manual => Ok(None),
    }
}

/// A job's cron text in our dialect. A document without our creation time was written by the original, whose
/// dialect differs: there, five fields begin with the seconds.
pub(crate) fn normalised_cron(job: &Job) -> Result<Cow<'_, str>, ScheduleError> {
    match job.created_at {
        Some(_) => Ok(Cow::Borrowed(&job.cron)),
        None => normalise_original(&job.cron).map(Cow::Owned),
    }
}

/// The first fire of a job that is not decided.
fn first_fire(job: &PlannedJob, id: &JobId, decided: &Decided) -> i64 {
    let Some(timing) = job.timing.as_ref().filter(|_| job.enabled) else { return NEVER };
    timing.next_after(decided.until(id)).unwrap_or(NEVER)
}
