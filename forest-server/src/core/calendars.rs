//! The calendars, which jobs use them, and their days merged as the jobs name them.
//!
//! Owns the index from a calendar to its jobs, so that a change costs as much as there are jobs that use it.
//! Jobs that name the same calendars share one merged set of days.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use forest_proto::record::{Calendar, Job};
use forest_proto::{CalendarName, JobId};

use super::entry::{Entry, Table};
use forest_schedule::Days;

/// More merged sets than these are not kept: they are cheap to merge again.
const MAX_MERGED: usize = 1_000;

#[derive(Debug, Default)]
pub(crate) struct Calendars {
    table: Table<CalendarName, Arc<Calendar>>,
    /// By the name as the job has it: it may be of a calendar that does not exist.
    users: BTreeMap<String, BTreeSet<JobId>>,
    merged: BTreeMap<Vec<String>, Arc<Days>>,
}

impl Calendars {
    pub(crate) fn entry(&self, name: &CalendarName) -> Option<&Entry<Arc<Calendar>>> {
        self.table.entry(name)
    }

    pub(crate) fn after(
        &self,
        name: Option<&CalendarName>,
    ) -> impl Iterator<Item = (&CalendarName, &Arc<Calendar>)> {
        self.table.after(name)
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// The jobs that name a calendar, whether it exists or not.
    pub(crate) fn users(&self, name: &str) -> impl Iterator<Item = &JobId> {
        self.users.get(name).into_iter().flatten()
    }

    pub(crate) fn count_users(&self, name: &str) -> usize {
        self.users.get(name).map_or(0, BTreeSet::len)
    }

    /// Takes a calendar unless a newer one is known; says whether it was taken.
    pub(super) fn put(&mut self, calendar: Calendar, revision: i64, listing: u32) -> bool {
        let name = calendar.name.clone();
        let taken = self.table.put(name.clone(), Arc::new(calendar), revision, listing);
        if taken {
            self.forget_merged(name.as_str());
        }
        taken
    }

    pub(super) fn remove(&mut self, name: &CalendarName, revision: i64) -> bool {
        let removed = self.table.remove(name, revision).is_some();
        if removed {
            self.forget_merged(name.as_str());
        }
        removed
    }

    pub(super) fn stale(&self, listing: u32, revision: i64) -> Vec<CalendarName> {
        self.table.stale(listing, revision)
    }

    pub(super) fn join(&mut self, job: &Job) {
        for name in &job.calendars {
            self.users.entry(name.clone()).or_default().insert(job.id.clone());
        }
    }

    pub(super) fn leave(&mut self, job: &Job) {
        for name in &job.calendars {
            let Some(users) = self.users.get_mut(name) else { continue };
            users.remove(&job.id);
            if users.is_empty() {
                self.users.remove(name);
                self.forget_merged(name);
            }
        }
    }

    /// The days of these calendars together, for a job to be scheduled with.
    pub(super) fn days(&mut self, names: &[String]) -> Result<Option<Arc<Days>>, String> {
        if names.is_empty() {
            return Ok(None);
        }
        if let Some(days) = self.merged.get(names) {
            return Ok(Some(days.clone()));
        }
        let days = self.merge(names).map_err(|name| format!("there is no calendar {name:?}"))?;
        let days = Arc::new(days);
        if self.merged.len() >= MAX_MERGED {
            self.merged.clear();
        }
        self.merged.insert(names.to_vec(), days.clone());
        Ok(Some(days))
    }

    /// The same without keeping them; an error is the name of the calendar that is missing.
    fn merge(&self, names: &[String]) -> Result<Days, String> {
        let find = |name: &String| {
            let known = CalendarName::new(name).ok().and_then(|name| self.table.get(&name));
            known.map(Arc::as_ref).ok_or_else(|| name.clone())
        };
        Ok(Days::merged(names.iter().map(find).collect::<Result<Vec<_>, _>>()?))
    }

    fn forget_merged(&mut self, name: &str) {
        self.merged.retain(|names, _| !names.iter().any(|known| known == name));
    }
}
