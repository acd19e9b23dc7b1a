//! The jobs of each segment and the order in which they fire next.
//!
//! Built for a million jobs: of each only what planning needs is kept apart; the rest stays as the JSON it
//! was stored as and is read when the job fires.
//!
//! Invariant: for every enabled job with a schedule, once its segment has a cursor, the plan holds the
//! job's first fire after both the cursor and the instant from which the job counts; for any other job it
//! holds nothing.

mod planned;
mod segment;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use forest_proto::record::{Calendar, Cursor, Job, Trigger, decode};
use forest_proto::{CalendarName, GroupName, JobId, Segment, SegmentCount};

pub(crate) use self::planned::{PlannedJob, cron_text, normalised_cron};
pub(crate) use self::segment::{Decided, SegmentJobs};
use super::calendars::Calendars;
use super::dependencies::Followers;
use super::timing::Timing;
use forest_schedule::{Schedule, ScheduleCache};

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
    followers: Followers,
}

/// A job whose calendars changed.
#[derive(Debug)]
pub(crate) struct Replanned {
    pub(crate) id: JobId,
    pub(crate) revision: i64,
    /// Why it cannot be scheduled any more.
    pub(crate) problem: Option<String>,
}

impl Jobs {
    pub(crate) fn new(count: SegmentCount, default_zone: String) -> Self {
        let segments = count.all().map(|_| SegmentJobs::default()).collect();
        Self {
            count,
            segments,
            schedules: ScheduleCache::default(),
            groups: BTreeMap::new(),
            chains: BTreeSet::new(),
            default_zone,
            calendars: Calendars::default(),
            followers: Followers::default(),
        }
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
        let mut fires: Vec<_> =
            self.segments.iter().flat_map(|s| s.fires().take(limit)).map(|(at, job)| (*at, job)).collect();
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
            follows: matches!(job.trigger, Trigger::After(_)),
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
        self.followers.join(&job);
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
        if (job.on_calendars || job.follows)
            && let Some(job) = job.job()
        {
            self.calendars.leave(&job);
            self.followers.leave(&job);
        }
    }

    pub(crate) fn followers(&self) -> &Followers {
        &self.followers
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
        self.segments[segment.index()].set_jobgen(revision, changes, listed);
    }

    /// etcd had something at this revision that should be here by now, and is not.
    pub(crate) fn doubt(&mut self, segment: Segment, revision: i64) {
        self.segments[segment.index()].doubt(revision);
    }

    /// A listing shows everything that etcd had at this revision.
    pub(crate) fn listed(&mut self, revision: i64) {
        self.segments.iter_mut().for_each(|segment| segment.listed(revision));
    }

    /// Whether anything is known to be missing.
    pub(crate) fn is_doubted(&self) -> bool {
        self.segments.iter().any(SegmentJobs::is_doubted)
    }

    /// The segment's generation was deleted, by somebody else. Comparing it with 0 is right then.
    pub(crate) fn forget_jobgen(&mut self, segment: Segment, revision: i64) {
        self.segments[segment.index()].forget_jobgen(revision);
    }

    /// The segment's cursor was deleted, by somebody else, or cannot be read.
    pub(crate) fn forget_cursor(&mut self, segment: Segment, revision: i64) {
        self.segments[segment.index()].forget_decided(revision);
    }

    pub(crate) fn set_cursor(&mut self, segment: Segment, cursor: &Cursor, revision: i64) {
        self.segments[segment.index()].set_decided(Decided::by(cursor, revision));
    }
}
