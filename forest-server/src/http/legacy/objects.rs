//! The objects of the contract, with exactly its names. No field is ever left out; ids are always text.

use forest_proto::record::{Job, JobStatus, Snapshot, Status};
use serde::Serialize;

use crate::store::Entry;

#[derive(Debug, Default, Serialize)]
pub(super) struct JobConf {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) group: String,
    pub(super) cron: String,
    pub(super) status: i64,
    pub(super) target: String,
    pub(super) params: String,
    pub(super) mobile: String,
    pub(super) remark: String,
    pub(super) version: u64,
}

impl From<Job> for JobConf {
    fn from(job: Job) -> Self {
        Self {
            id: job.id.to_string(),
            name: job.name,
            group: job.group.to_string(),
            cron: job.cron,
            status: if job.status == JobStatus::Enabled { 1 } else { 2 },
            target: job.target.to_string(),
            params: job.params,
            mobile: job.mobile,
            remark: job.remark,
            version: job.version,
        }
    }
}

/// A job with its last and next fire. Its status is always 0, as the original's.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SchedulePlan {
    #[serde(flatten)]
    pub(super) job: JobConf,
    pub(super) next_time: String,
    pub(super) before_time: String,
}

#[derive(Debug, Serialize)]
pub(super) struct GroupConf {
    pub(super) name: String,
    pub(super) remark: String,
}

#[derive(Debug, Serialize)]
pub(super) struct Node {
    pub(super) name: String,
    /// 1: leader, 0: follower.
    pub(super) state: i64,
}

#[derive(Debug, Serialize)]
pub(super) struct JobClient {
    pub(super) name: String,
    pub(super) path: String,
    pub(super) group: String,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct JobSnapshot {
    pub(super) id: String,
    pub(super) job_id: String,
    pub(super) name: String,
    pub(super) ip: String,
    pub(super) group: String,
    pub(super) cron: String,
    pub(super) target: String,
    pub(super) params: String,
    pub(super) mobile: String,
    pub(super) remark: String,
    pub(super) create_time: String,
}

impl From<Snapshot> for JobSnapshot {
    fn from(snapshot: Snapshot) -> Self {
        Self {
            id: snapshot.id.to_string(),
            job_id: snapshot.job_id.to_string(),
            name: snapshot.name,
            ip: snapshot.ip,
            group: snapshot.group.to_string(),
            cron: snapshot.cron,
            target: snapshot.target.to_string(),
            params: snapshot.params,
            mobile: snapshot.mobile,
            remark: snapshot.remark,
            create_time: snapshot.create_time,
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct JobExecuteSnapshot {
    #[serde(flatten)]
    pub(super) snapshot: JobSnapshot,
    pub(super) start_time: String,
    pub(super) finish_time: String,
    /// Seconds.
    pub(super) times: i64,
    /// 1 executing, 2 complete, 3 unknown, -1 error.
    pub(super) status: i64,
    pub(super) result: String,
}

impl From<Entry> for JobExecuteSnapshot {
    fn from(entry: Entry) -> Self {
        Self {
            start_time: entry.start_time,
            finish_time: entry.finish_time,
            times: entry.times,
            status: if entry.status == Status::Error { -1 } else { entry.status.code() },
            result: entry.result,
            snapshot: JobSnapshot {
                id: entry.id,
                job_id: entry.job_id,
                name: entry.name,
                ip: entry.client,
                group: entry.group,
                cron: entry.cron,
                target: entry.target,
                params: entry.params,
                mobile: entry.mobile,
                remark: entry.remark,
                create_time: entry.create_time,
            },
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Page {
    pub(super) total_page: u64,
    pub(super) total_count: u64,
    pub(super) list: Vec<JobExecuteSnapshot>,
}
