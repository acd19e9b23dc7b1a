//! Never more runs of a job, or of a group, at clients than it allows.
//!
//! A run counts from the snapshot that gives it to a client to the end that its execution records. Who leads may not
//! know of a lower limit at once, nor of what a worker does that follows no rules; nor of runs whose messages a watch
//! dropped.

use std::collections::{BTreeMap, BTreeSet};

use forest_proto::record::{Execution, Group, Job, Status, decode};
use forest_proto::{GroupName, JobId, Key, RunId};

use super::{Broken, Promise, Touched};
use crate::record::Writer;

/// So long a leader may go on with the limit that was.
const NEWS_MS: u64 = 15_000;

#[derive(Default)]
struct Limit {
    /// `None`: any number.
    now: Option<u32>,
    before: Option<u32>,
    changed_at: u64,
}

impl Limit {
    fn set(&mut self, limit: Option<u32>, now_ms: u64) {
        if self.now != limit {
            *self = Self { now: limit, before: self.now, changed_at: now_ms };
        }
    }

    fn allows(&self, count: usize, now_ms: u64) -> bool {
        let within = |limit: Option<u32>| limit.is_none_or(|limit| count <= limit as usize);
        within(self.now) || (now_ms < self.changed_at + NEWS_MS && within(self.before))
    }
}

#[derive(Default)]
pub(super) struct Limits {
    jobs: BTreeMap<JobId, Limit>,
    groups: BTreeMap<GroupName, Limit>,
    /// Runs at clients, with the keys that say so.
    in_flight: BTreeMap<RunId, (GroupName, BTreeSet<String>)>,
    /// Of the revision at hand: the runs that it gives to clients and that no client had.
    given: BTreeSet<RunId>,
    /// Jobs, of which workers without rules have begun runs.
    unruly: BTreeSet<String>,
    unruly_groups: BTreeSet<GroupName>,
}

impl Limits {
    pub(super) fn touch(&mut self, by: Option<Writer>, touched: &Touched<'_>, now_ms: u64) {
        match touched.key {
            Key::Job(id) => {
                let job = touched.after.and_then(|value| decode::<Job>(value).ok());
                self.jobs.entry(id.clone()).or_default().set(job.and_then(|job| job.max_in_flight), now_ms);
            }
            Key::Group(name) => {
                let group = touched.after.and_then(|value| decode::<Group>(value).ok());
                let limit = group.and_then(|group| group.max_in_flight);
                self.groups.entry(name.clone()).or_default().set(limit, now_ms);
            }
            Key::Snapshot { group, run, .. } => self.take(by, run, group, touched, touched.after.is_some()),
            Key::Execution { group, run, client: Some(_) } => {
                let execution = touched.after.and_then(|value| decode::<Execution>(value).ok());
                let runs = execution.is_some_and(|execution| execution.status == Status::Running);
                self.take(by, run, group, touched, runs);
            }
            _ => {}
        }
    }

    fn take(
        &mut self,
        by: Option<Writer>,
        run: &RunId,
        group: &GroupName,
        touched: &Touched<'_>,
        there: bool,
    ) {
        if !there {
            if let Some((_, keys)) = self.in_flight.get_mut(run) {
                keys.remove(touched.text);
            }
            return;
        }
        if !self.in_flight.contains_key(run) {
            self.given.insert(run.clone());
            if !by.is_some_and(|writer| writer.is_node()) {
                self.unruly.insert(run.job().to_owned());
                self.unruly_groups.insert(group.clone());
            }
        }
        let (of, keys) =
            self.in_flight.entry(run.clone()).or_insert_with(|| (group.clone(), BTreeSet::new()));
        of.clone_from(group);
        keys.insert(touched.text.to_owned());
    }

    /// The revision is complete.
    pub(super) fn settle(&mut self, broken: &mut Broken) {
        self.in_flight.retain(|_, (_, keys)| !keys.is_empty());
        for run in std::mem::take(&mut self.given) {
            let Some((group, _)) = self.in_flight.get(&run) else { continue };
            let of_job = self.in_flight.keys().filter(|other| other.job() == run.job()).count();
            let of_group = self.in_flight.values().filter(|(other, _)| other == group).count();
            let of = JobId::new(run.job()).ok().and_then(|job| self.jobs.get(&job));
            let job_allows = of.is_none_or(|limit| limit.allows(of_job, broken.now_ms));
            let group_allows =
                self.groups.get(group).is_none_or(|limit| limit.allows(of_group, broken.now_ms));
            if !job_allows && !self.unruly.contains(run.job()) {
                broken.note(Promise::WithinLimits, format!("{run} is the {of_job}. of its job at a client"));
            }
            if !group_allows && !self.unruly_groups.contains(group) {
                broken
                    .note(Promise::WithinLimits, format!("{run} is the {of_group}. of {group} at a client"));
            }
        }
    }
}
