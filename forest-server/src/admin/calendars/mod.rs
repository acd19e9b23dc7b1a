//! Calendars: set, read, delete; and the days that jobs are compiled with.
//!
//! A change of a calendar re-puts the generation of every segment's jobs in the same transaction, so that no
//! leader dispatches on the days of before. New days count for every fire that is not decided yet.

use std::collections::BTreeMap;
use std::sync::Arc;

use forest_etcd::Txn;
use forest_proto::record::{Calendar, DstFold, DstGap, Job, Role, Trigger, encode};
use forest_proto::{CalendarName, Segment};

use super::audit::Deed;
use super::validate::short_text;
use super::write::Written;
use super::{Admin, AdminError, Page, PageRequest};
use crate::access::Scope;
use crate::core::jobs::cron_text;
use crate::core::view::View;
use forest_schedule::{Days, Schedule, ScheduleError, read_days};

/// At most so many are kept: every node holds them all in memory.
const MAX_CALENDARS: usize = 1_000;
/// How many of the jobs that stand in the way of a deletion are named.
const NAMED_USERS: usize = 3;

/// A calendar as it is stored, and how many jobs use it.
#[derive(Debug, Clone)]
pub(crate) struct StoredCalendar {
    pub(crate) calendar: Arc<Calendar>,
    pub(crate) revision: i64,
    pub(crate) jobs: usize,
}

fn stored(view: &View, name: &CalendarName) -> Option<StoredCalendar> {
    let calendars = view.jobs.calendars();
    let entry = calendars.entry(name)?;
    let jobs = calendars.count_users(name.as_str());
    Some(StoredCalendar { calendar: entry.value.clone(), revision: entry.revision, jobs })
}

impl Admin {
    /// Stores the days of a text, in place of those of before. `remark`: `None` leaves it alone. `version`: 0
    /// for whatever is stored.
    pub(crate) async fn set_calendar(
        &self,
        name: &str,
        remark: Option<&str>,
        days: &str,
        version: u64,
    ) -> Result<StoredCalendar, AdminError> {
        self.require(Role::Editor, Scope::Everywhere)?;
        let name = CalendarName::new(name).map_err(|error| AdminError::invalid("name", error.to_string()))?;
        let remark = remark.map(|remark| short_text("remark", remark, 255)).transpose()?;
        let days = read_days(days).map_err(|reason| AdminError::invalid("days", reason))?;
        let now = self.trusted_now().await?;
        let before = Before::of(self, &name).await?;
        let conflict = || AdminError::Conflict { what: format!("calendar {:?}", name.as_str()) };
        let (known, revision) = before.known.map_or((None, 0), |s| (Some(s.calendar), s.revision));
        let known_version = known.as_ref().map_or(0, |known| known.version);
        if version != 0 && version != known_version {
            return Err(conflict());
        }
        if known.is_none() && before.calendars >= MAX_CALENDARS {
            let what = format!("there are {MAX_CALENDARS} calendars already: delete one first");
            return Err(AdminError::invalid("name", what));
        }
        let calendar = Calendar {
            name: name.clone(),
            remark: remark.or_else(|| known.as_ref().map(|known| known.remark.clone())).unwrap_or_default(),
            excluded: days.excluded,
            included: days.included,
            version: known_version + 1,
            updated_at: Some(now),
        };
        let (key, value) = (self.inner.keys.calendar(&name), encode(&calendar));
        // The calendar goes first: a view that has only half of this has new days under an old generation, and
        // decides nothing.
        let mut txn = Txn::new().modified(key.clone(), revision).put(key, value);
        for (segment, _) in before.jobgens {
            txn = txn.put(self.inner.keys.jobgen(segment), name.as_str());
        }
        let deed = Deed::new("calendar.set", name.as_str(), None).changing(known.as_deref(), Some(&calendar));
        match self.commit(self.audited(txn, deed)).await? {
            Written::Done => self.calendar(name.as_str()).await,
            Written::Refused(_) => Err(conflict()),
        }
    }

    pub(crate) async fn calendar(&self, name: &str) -> Result<StoredCalendar, AdminError> {
        self.require(Role::Viewer, Scope::Somewhere)?;
        let found = CalendarName::new(name).ok();
        let found = self.read(move |now| stored(now.view, &found?)).await?;
        found.ok_or_else(|| AdminError::not_found("calendar", name))
    }

    pub(crate) async fn calendars(&self, page: PageRequest) -> Result<Page<StoredCalendar>, AdminError> {
        self.require(Role::Viewer, Scope::Somewhere)?;
        let (size, after) = (page.size()?, page.after::<CalendarName>()?);
        let calendars = self.read(move |now| {
            let names = now.view.jobs.calendars().after(after.as_ref()).take(size + 1);
            names.filter_map(|(name, _)| stored(now.view, name)).collect()
        });
        Ok(Page::of(calendars.await?, size, |stored: &StoredCalendar| stored.calendar.name.to_string()))
    }

    /// Deletes a calendar that no job uses. The transaction compares every segment's generation of jobs, so
    /// it cannot commit beside the addition of a job.
    pub(crate) async fn delete_calendar(&self, name: &str) -> Result<(), AdminError> {
        self.require(Role::Editor, Scope::Everywhere)?;
        let missing = || AdminError::not_found("calendar", name);
        let known = CalendarName::new(name).map_err(|_| missing())?;
        let before = Before::of(self, &known).await?;
        let revision = before.known.ok_or_else(missing)?.revision;
        if let Some(what) = before.users {
            return Err(AdminError::CalendarInUse { name: name.to_owned(), what });
        }
        let key = self.inner.keys.calendar(&known);
        let mut txn = Txn::new().modified(key.clone(), revision).delete(key);
        for (segment, jobgen) in before.jobgens {
            txn = txn.modified(self.inner.keys.jobgen(segment), jobgen);
        }
        let deed = Deed::new("calendar.delete", name, None);
        match self.commit(self.audited(txn, deed)).await? {
            Written::Done => Ok(()),
            Written::Refused(_) => Err(AdminError::Conflict { what: format!("calendar {name:?} or a job") }),
        }
    }

    /// What a schedule is compiled with, as of now.
    pub(super) async fn compiler(&self) -> Result<Compiler, AdminError> {
        let calendars = self.read(|now| {
            let names = now.view.jobs.calendars().after(None).map(|(name, _)| name.clone());
            let entry = |name: CalendarName| stored(now.view, &name).map(|s| (name.to_string(), s));
            names.filter_map(entry).collect()
        });
        Ok(Compiler { default_zone: self.inner.default_zone.clone(), calendars: calendars.await? })
    }
}

/// The calendars of one moment, to compile schedules with.
pub(super) struct Compiler {
    default_zone: String,
    calendars: BTreeMap<String, StoredCalendar>,
}

impl Compiler {
    pub(super) fn compile_job(&self, job: &Job) -> Result<Option<Schedule>, AdminError> {
        if let Trigger::FixedRate { every_ms } = job.trigger {
            let refused =
                |error: ScheduleError| AdminError::invalid("trigger.every_ms", error.interval_reason());
            Schedule::every(every_ms).map_err(refused)?;
        }
        if let Trigger::Once { at } = job.trigger {
            return Ok(Some(Schedule::once(at.as_ms())));
        }
        let cron = cron_text(job).map_err(|error| AdminError::invalid(error.field(), error.reason()))?;
        let rules = (job.dst_gap, job.dst_fold);
        cron.map(|cron| self.compile(&cron, &job.time_zone, rules, &job.calendars)).transpose()
    }

    /// `zone`: empty for the server's.
    pub(super) fn compile(
        &self,
        cron: &str,
        zone: &str,
        (gap, fold): (DstGap, DstFold),
        calendars: &[String],
    ) -> Result<Schedule, AdminError> {
        let zone = if zone.is_empty() { &self.default_zone } else { zone };
        let days = Arc::new(Days::merged(self.named(calendars)?));
        let schedule = Schedule::compile_on(cron, zone, gap, fold, Some(&days));
        schedule.map_err(|error| AdminError::invalid(error.field(), error.reason()))
    }

    /// The calendars of these names; one that does not exist is refused.
    pub(super) fn named(&self, names: &[String]) -> Result<Vec<&Calendar>, AdminError> {
        let find = |(index, name): (usize, &String)| {
            let known = self.calendars.get(name).map(|stored| stored.calendar.as_ref());
            known.ok_or_else(|| {
                let name: String = name.chars().take(80).collect();
                AdminError::invalid(
                    format!("calendars[{index}]"),
                    format!("there is no calendar {name:?}: set it first"),
                )
            })
        };
        names.iter().enumerate().map(find).collect()
    }

    /// The transaction, only if the calendars of the job are still what the job was checked against. One that
    /// is missing was refused where it matters.
    pub(super) fn guard(&self, mut txn: Txn, job: &Job, keys: &forest_proto::Keyspace) -> Txn {
        for stored in job.calendars.iter().filter_map(|name| self.calendars.get(name)) {
            txn = txn.modified(keys.calendar(&stored.calendar.name), stored.revision);
        }
        txn
    }
}

/// What a change of a calendar is decided on, at one revision of the view.
struct Before {
    known: Option<StoredCalendar>,
    calendars: usize,
    jobgens: Vec<(Segment, i64)>,
    users: Option<String>,
}

impl Before {
    async fn of(admin: &Admin, name: &CalendarName) -> Result<Self, AdminError> {
        let name = name.clone();
        let before = admin.read_whole(move |now| {
            let (view, calendars) = (now.view, now.view.jobs.calendars());
            let jobgens = view.jobs.segments().map(|s| (s, view.jobs.segment(s).jobgen())).collect();
            let count = calendars.count_users(name.as_str());
            let names: Vec<_> =
                calendars.users(name.as_str()).take(NAMED_USERS).map(|id| id.as_str()).collect();
            let users = (count > 0).then(|| match count > NAMED_USERS {
                true => format!("{} and {} more jobs", names.join(", "), count - NAMED_USERS),
                false => format!("job {}", names.join(", ")),
            });
            Self { known: stored(view, &name), calendars: calendars.len(), jobgens, users }
        });
        before.await
    }
}
