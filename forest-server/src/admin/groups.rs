//! Groups: add, read, edit, delete.

use forest_etcd::Txn;
use forest_proto::record::{Group, Role, encode};
use forest_proto::{GroupName, Segment};

use super::audit::Deed;
use super::validate::{limit, short_text};
use super::write::Written;
use super::{Admin, AdminError, Page, PageRequest};
use crate::access::Scope;
use crate::core::view::View;

/// A group and what is in it.
#[derive(Debug, Clone)]
pub(crate) struct GroupSummary {
    pub(crate) group: Group,
    pub(crate) clients: usize,
    pub(crate) jobs: usize,
}

fn summary(view: &View, group: &Group) -> GroupSummary {
    let clients = view.clients.of_group(&group.name).map_or(0, |clients| clients.len());
    GroupSummary { group: group.clone(), clients, jobs: view.jobs.of_group(&group.name) }
}

impl Admin {
    /// `limits`: runs in flight, runs given a second.
    pub(crate) async fn add_group(
        &self,
        name: &str,
        remark: &str,
        limits: (Option<u32>, Option<u32>),
    ) -> Result<GroupSummary, AdminError> {
        let (max_in_flight, dispatches_per_second) = limits;
        limit("max_in_flight", max_in_flight)?;
        limit("dispatches_per_second", dispatches_per_second)?;
        let name = GroupName::new(name).map_err(|error| AdminError::invalid("name", error.to_string()))?;
        self.require_in(Role::Admin, &name)?;
        let group =
            Group { name, remark: short_text("remark", remark, 255)?, max_in_flight, dispatches_per_second };
        let (key, value) = (self.inner.keys.group(&group.name), encode(&group));
        let txn = Txn::new().absent(key.clone()).put(key, value);
        let deed =
            Deed::new("group.add", group.name.as_str(), Some(&group.name)).changing(None, Some(&group));
        match self.commit(self.audited(txn, deed)).await? {
            Written::Done => Ok(GroupSummary { group, clients: 0, jobs: 0 }),
            Written::Refused(_) => Err(AdminError::Exists { kind: "group", name: group.name.to_string() }),
        }
    }

    pub(crate) async fn group(&self, name: &str) -> Result<GroupSummary, AdminError> {
        let found = GroupName::new(name).ok();
        if let Some(group) = &found {
            self.require_in(Role::Viewer, group)?;
        }
        let found =
            self.read(move |now| now.view.groups.get(&found?).map(|group| summary(now.view, group))).await?;
        found.ok_or_else(|| AdminError::not_found("group", name))
    }

    pub(crate) async fn groups(&self, page: PageRequest) -> Result<Page<GroupSummary>, AdminError> {
        self.require(Role::Viewer, Scope::Somewhere)?;
        let (size, after, caller) = (page.size()?, page.after::<GroupName>()?, self.caller.clone());
        let groups = self
            .read(move |now| {
                let groups = now.view.groups.after(after.as_ref());
                let seen = groups.filter(|(name, _)| caller.sees(name)).take(size + 1);
                seen.map(|(_, group)| summary(now.view, group)).collect()
            })
            .await?;
        Ok(Page::of(groups, size, |summary: &GroupSummary| summary.group.name.to_string()))
    }

    /// Changes what is given. A limit of zero is none.
    pub(crate) async fn edit_group(
        &self,
        name: &str,
        remark: Option<String>,
        limits: (Option<u32>, Option<u32>),
    ) -> Result<GroupSummary, AdminError> {
        let missing = || AdminError::not_found("group", name);
        let id = GroupName::new(name).map_err(|_| missing())?;
        self.require_in(Role::Admin, &id)?;
        let looked = id.clone();
        let found = self.read(move |now| {
            let entry = now.view.groups.entry(&looked)?;
            Some((entry.revision, summary(now.view, &entry.value)))
        });
        let (revision, before) = found.await?.ok_or_else(missing)?;
        let mut group = before.group.clone();
        if let Some(remark) = remark {
            group.remark = short_text("remark", &remark, 255)?;
        }
        let changed = |new: Option<u32>, old| new.map_or(old, |new| (new > 0).then_some(new));
        group.max_in_flight = changed(limits.0, group.max_in_flight);
        group.dispatches_per_second = changed(limits.1, group.dispatches_per_second);
        limit("max_in_flight", group.max_in_flight)?;
        limit("dispatches_per_second", group.dispatches_per_second)?;
        let (key, value) = (self.inner.keys.group(&group.name), encode(&group));
        let txn = Txn::new().modified(key.clone(), revision).put(key, value);
        let deed = Deed::new("group.edit", name, Some(&id)).changing(Some(&before.group), Some(&group));
        match self.commit(self.audited(txn, deed)).await? {
            Written::Done => Ok(GroupSummary { group, clients: before.clients, jobs: before.jobs }),
            Written::Refused(_) => Err(AdminError::Conflict { what: format!("group {name:?}") }),
        }
    }

    /// Deletes a group that nothing belongs to any more. The transaction compares every segment's generation
    /// of jobs, so it cannot commit beside the addition of a job.
    pub(crate) async fn delete_group(&self, name: &str) -> Result<(), AdminError> {
        let missing = || AdminError::not_found("group", name);
        let group = GroupName::new(name).map_err(|_| missing())?;
        self.require_in(Role::Admin, &group)?;
        let seen = {
            let group = group.clone();
            self.read_whole(move |now| Contents::of(now.view, &group)).await?
        };
        let revision = seen.revision.ok_or_else(missing)?;
        if let Some(what) = seen.what {
            return Err(AdminError::InUse { name: name.to_owned(), what });
        }
        let key = self.inner.keys.group(&group);
        let mut txn = Txn::new().modified(key.clone(), revision).delete(key);
        for (segment, jobgen) in seen.jobgens {
            txn = txn.modified(self.inner.keys.jobgen(segment), jobgen);
        }
        let deed = Deed::new("group.delete", name, Some(&group));
        match self.commit(self.audited(txn, deed)).await? {
            Written::Done => Ok(()),
            Written::Refused(_) => Err(AdminError::Conflict { what: format!("group {name:?} or a job") }),
        }
    }
}

/// What a group holds, at one revision of the view.
struct Contents {
    revision: Option<i64>,
    jobgens: Vec<(Segment, i64)>,
    what: Option<String>,
}

impl Contents {
    fn of(view: &View, group: &GroupName) -> Self {
        let clients = view.clients.of_group(group).map_or(0, |clients| clients.len());
        let runs = view.runs.iter().filter(|(_, run)| run.group == *group).count();
        let what = match (view.jobs.of_group(group), clients, runs) {
            (0, 0, 0) => None,
            (0, 0, runs) => Some(format!("{runs} run(s) that have not ended or are not collected")),
            (0, clients, _) => Some(format!("{clients} registered client(s)")),
            (jobs, _, _) => Some(format!("{jobs} job(s)")),
        };
        let jobgens =
            view.jobs.segments().map(|segment| (segment, view.jobs.segment(segment).jobgen())).collect();
        Self { revision: view.groups.entry(group).map(|entry| entry.revision), jobgens, what }
    }
}
