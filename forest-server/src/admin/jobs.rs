//! Jobs: add, read, change, delete.
//!
//! Every change of a job re-puts its segment's generation in the same transaction: the leader compares it
//! when it dispatches, and so never fires what somebody changed a moment ago.

use std::sync::Arc;

use forest_etcd::Txn;
use forest_proto::record::{Job, JobStatus, Role, encode};
use forest_proto::time::Instant;
use forest_proto::{GroupName, JobId, Segment};
use jiff::Timestamp;
use serde_json::Value;

use super::audit::Deed;
use super::calendars::Compiler;
use super::dependencies::{Link, followers_of, links};
use super::write::Written;
use super::{Admin, AdminError, Page, PageRequest, validate};
use crate::core::jobs::{PlannedJob, normalised_cron};
use crate::core::view::View;

/// Jobs looked at in one go when a list is filtered.
const SCAN: usize = 5_000;

/// A job as it is stored.
#[derive(Debug, Clone)]
pub(crate) struct StoredJob {
    pub(crate) job: Job,
    pub(crate) revision: i64,
    pub(crate) next_fire_ms: Option<i64>,
    /// Why it cannot be scheduled.
    pub(crate) problem: Option<String>,
    /// The jobs that it follows.
    pub(crate) after: Vec<Link>,
    /// The jobs that follow it.
    pub(crate) followers: Vec<Link>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct JobFilter {
    pub(crate) group: String,
    pub(crate) name: String,
    pub(crate) enabled: Option<bool>,
}

fn stored(view: &View, id: &JobId, planned: &PlannedJob) -> Option<StoredJob> {
    let job = planned.job()?;
    let (after, followers) = links(view, &job);
    Some(StoredJob {
        job,
        after,
        followers,
        revision: planned.revision,
        next_fire_ms: view.next_of(id),
        problem: planned.problem().map(str::to_owned),
    })
}

impl Admin {
    pub(crate) async fn add_job(&self, document: &str) -> Result<StoredJob, AdminError> {
        let mut fields = validate::fields("document", document)?;
        validate::strip_ours(&mut fields);
        let now = self.trusted_now().await?;
        fields.insert("id".into(), Value::from(new_job_id(now).as_str()));
        fields.entry("status").or_insert(Value::from(1));
        validate::resolve_delay(&mut fields, now);
        let mut job = validate::job(fields)?;
        self.require_in(Role::Editor, &job.group)?;
        job.version = 1;
        (job.effective_after, job.created_at, job.updated_at) = (Some(now), Some(now), Some(now));
        let compiler = self.compiler().await?;
        validate::check(&job, |job| compiler.compile_job(job))?;
        validate::check_fires(&job, now, |job| compiler.compile_job(job))?;
        let group_revision = self.group_revision(&job.group).await?;
        let keys = &self.inner.keys;
        loop {
            let (before, segment) = (self.before(&job).await?, self.segment_of(&job.id).await?);
            let (key, value) = (keys.job(&job.id), encode(&job));
            let txn = self
                .job_txn(&job.id)
                .await?
                .absent(key.clone())
                .modified(keys.group(&job.group), group_revision)
                .put(key.clone(), value.clone())
                .or_get(key);
            let txn = before.guard(compiler.guard(txn, &job, keys), &job, segment, keys);
            let deed = Deed::new("job.add", job.id.as_str(), Some(&job.group)).changing(None, Some(&job));
            match self.commit(self.audited(txn, deed)).await? {
                Written::Done => return self.job(job.id.as_str()).await,
                // Six digits a second: where many jobs are added at once, two are alike now and then.
                Written::Refused(found) if matches!(found.first(), Some(Some(_))) => {
                    job.id = new_job_id(now);
                }
                Written::Refused(_) => {
                    let group = job.group.as_str();
                    let what = format!("group {group:?}, or a calendar of the job or a job that it follows,");
                    return Err(AdminError::Conflict { what });
                }
            }
        }
    }

    async fn group_revision(&self, group: &GroupName) -> Result<i64, AdminError> {
        let name = group.clone();
        let revision = self.read(move |now| now.view.groups.entry(&name).map(|entry| entry.revision)).await?;
        revision.ok_or_else(|| {
            AdminError::invalid("group", format!("there is no group {:?}: add it first", group.as_str()))
        })
    }

    /// A transaction that changes a job.
    async fn job_txn(&self, job: &JobId) -> Result<Txn, AdminError> {
        let segment = self.segment_of(job).await?;
        Ok(Txn::new().put(self.inner.keys.jobgen(segment), job.as_str()))
    }

    pub(super) async fn segment_of(&self, job: &JobId) -> Result<Segment, AdminError> {
        let job = job.clone();
        self.read(move |now| now.view.jobs.segment_of(&job)).await
    }

    pub(crate) async fn job(&self, id: &str) -> Result<StoredJob, AdminError> {
        let job = JobId::new(id).ok();
        let found = self.read(move |now| {
            let id = job?;
            now.view.jobs.get(&id).and_then(|planned| stored(now.view, &id, planned))
        });
        let found = found.await?.ok_or_else(|| AdminError::not_found("job", id))?;
        self.require_in(Role::Viewer, &found.job.group)?;
        Ok(found)
    }

    /// Jobs in the order of their ids. A filter is applied piece by piece, so that it never keeps the
    /// scheduler from its work for long.
    pub(crate) async fn jobs(
        &self,
        mut filter: JobFilter,
        page: PageRequest,
    ) -> Result<Page<StoredJob>, AdminError> {
        filter.group = self.listed_group(&filter.group)?.into_owned();
        let size = page.size()?;
        let mut after = page.after::<JobId>()?;
        let mut found = Vec::new();
        let filter = Arc::new(filter);
        while found.len() <= size {
            let (filter, from, wanted) = (filter.clone(), after.clone(), size + 1 - found.len());
            let (mut more, last) = self
                .read(move |now| {
                    let batch = now.view.jobs.page(from.as_ref(), SCAN);
                    let last = batch.last().filter(|_| batch.len() == SCAN).map(|(id, _)| (*id).clone());
                    let passing = batch.into_iter().filter(|(_, job)| filter.may_pass(job));
                    let jobs = passing
                        .filter_map(|(id, job)| stored(now.view, id, job))
                        .filter(|job| filter.passes(&job.job));
                    (jobs.take(wanted).collect::<Vec<_>>(), last)
                })
                .await?;
            found.append(&mut more);
            match last {
                Some(last) => after = Some(last),
                None => break,
            }
        }
        Ok(Page::of(found, size, |stored| stored.job.id.to_string()))
    }

    /// Changes the given fields. `version`: 0 for whatever is stored.
    pub(crate) async fn edit_job(
        &self,
        id: &str,
        patch: &str,
        version: u64,
    ) -> Result<StoredJob, AdminError> {
        let patch = validate::fields("patch", patch)?;
        validate::refuse_ours(&patch)?;
        let now = self.trusted_now().await?;
        self.change("job.edit", id, version, |job, compiler| {
            let Ok(Value::Object(mut fields)) = serde_json::to_value(job) else {
                return Err(AdminError::Unavailable("the stored job cannot be written as JSON".into()));
            };
            for (name, value) in patch.clone() {
                if value.is_null() {
                    fields.remove(&name)
                } else {
                    fields.insert(name, value)
                };
            }
            validate::one_trigger(&patch, &mut fields);
            validate::resolve_delay(&mut fields, now);
            let mut changed = validate::job(fields)?;
            validate::check(&changed, |job| compiler.compile_job(job))?;
            if restarts(job, &changed) {
                changed.effective_after = Some(now);
                validate::check_fires(&changed, now, |job| compiler.compile_job(job))?;
            }
            changed.updated_at = Some(now);
            Ok(changed)
        })
        .await
    }

    /// Enables or disables. What was due while a job was disabled is not caught up on.
    pub(crate) async fn set_enabled(
        &self,
        id: &str,
        enabled: bool,
        reason: &str,
    ) -> Result<StoredJob, AdminError> {
        let now = self.trusted_now().await?;
        let reason = validate::short_text("reason", reason, 255)?;
        let action = if enabled { "job.enable" } else { "job.disable" };
        self.change(action, id, 0, |job, compiler| {
            let mut changed = job.clone();
            changed.status = if enabled { JobStatus::Enabled } else { JobStatus::Disabled };
            changed.pause_reason = if enabled { String::new() } else { reason.clone() };
            if restarts(job, &changed) {
                changed.effective_after = Some(now);
            }
            if enabled {
                validate::check(&changed, |job| compiler.compile_job(job))?;
                validate::check_fires(&changed, now, |job| compiler.compile_job(job))?;
            }
            changed.updated_at = Some(now);
            Ok(changed)
        })
        .await
    }

    /// Reads, changes and stores a job, unless somebody else was faster.
    /// Of a document that the original wrote, the first change keeps the meaning of its cron text.
    async fn change(
        &self,
        action: &'static str,
        id: &str,
        version: u64,
        change: impl Fn(&Job, &Compiler) -> Result<Job, AdminError>,
    ) -> Result<StoredJob, AdminError> {
        let conflict = || AdminError::Conflict { what: format!("job {id}") };
        let before = self.job(id).await?;
        let needs = if action == "job.edit" { Role::Editor } else { Role::Operator };
        self.require_in(needs, &before.job.group)?;
        if version != 0 && version != before.job.version {
            return Err(conflict());
        }
        let mut stored = before.job.clone();
        if stored.created_at.is_none() {
            let cron = normalised_cron(&stored).map(std::borrow::Cow::into_owned);
            stored.cron = cron.map_err(|error| AdminError::invalid(error.field(), error.reason()))?;
            stored.created_at = Some(self.now());
        }
        let compiler = self.compiler().await?;
        let mut job = change(&stored, &compiler)?;
        job.version = before.job.version + 1;
        let keys = &self.inner.keys;
        let (key, value) = (keys.job(&job.id), encode(&job));
        let txn = self.job_txn(&job.id).await?.modified(key.clone(), before.revision);
        let mut txn = compiler.guard(txn, &job, keys);
        if job.is_enabled() || job.trigger != before.job.trigger {
            let segment = self.segment_of(&job.id).await?;
            txn = self.before(&job).await?.guard(txn, &job, segment, keys);
        }
        if job.group != before.job.group {
            self.require_in(needs, &job.group)?;
            txn = txn.modified(keys.group(&job.group), self.group_revision(&job.group).await?);
        }
        let txn = txn.put(key, value);
        let deed = Deed::new(action, id, Some(&before.job.group)).changing(Some(&before.job), Some(&job));
        match self.commit(self.audited(txn, deed)).await? {
            Written::Done => self.job(id).await,
            Written::Refused(_) => Err(conflict()),
        }
    }

    /// Refused while other jobs follow it. One that is saved just then follows nothing, and says so.
    pub(crate) async fn delete_job(&self, id: &str, version: u64) -> Result<(), AdminError> {
        let before = self.job(id).await?;
        self.require_in(Role::Editor, &before.job.group)?;
        let conflict = || AdminError::Conflict { what: format!("job {id}") };
        if version != 0 && version != before.job.version {
            return Err(conflict());
        }
        let (keys, job) = (&self.inner.keys, before.job.id.clone());
        let looked = job.clone();
        if let Some(what) = self.read_whole(move |now| followers_of(now.view, &looked)).await? {
            return Err(AdminError::JobInUse { name: id.to_owned(), what });
        }
        let (key, join) = (keys.job(&job), keys.join(self.segment_of(&job).await?, &job));
        let txn = self.job_txn(&job).await?.delete(join);
        let txn = txn.modified(key.clone(), before.revision).delete(key);
        let deed = Deed::new("job.delete", id, Some(&before.job.group)).changing(Some(&before.job), None);
        match self.commit(self.audited(txn, deed)).await? {
            Written::Done => Ok(()),
            Written::Refused(_) => Err(conflict()),
        }
    }
}

impl JobFilter {
    /// A look that needs no document.
    fn may_pass(&self, job: &PlannedJob) -> bool {
        (self.group.is_empty() || job.group.as_str() == self.group)
            && self.enabled.is_none_or(|enabled| enabled == job.enabled)
    }

    fn passes(&self, job: &Job) -> bool {
        self.name.is_empty() || job.name == self.name
    }
}

/// Whether a change makes the job count only from now on: another schedule, or enabled again.
fn restarts(before: &Job, after: &Job) -> bool {
    let schedule = |job: &Job| {
        let window = (job.starts_at, job.ends_at, job.jitter_ms, job.calendars.clone());
        (job.cron.clone(), job.trigger.clone(), job.time_zone.clone(), job.dst_gap, job.dst_fold, window)
    };
    schedule(before) != schedule(after) || (!before.is_enabled() && after.is_enabled())
}

/// 20 digits, as the original's: the second and six random digits.
fn new_job_id(now: Instant) -> JobId {
    let second = Timestamp::from_millisecond(now.as_ms()).unwrap_or_default();
    let id = format!("{}{:06}", second.strftime("%Y%m%d%H%M%S"), fastrand::u32(..1_000_000));
    JobId::new(id).unwrap_or_else(|_| unreachable!("digits are a valid id"))
}
