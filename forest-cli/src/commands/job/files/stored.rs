//! Stored jobs, as files would have them.

use forest_proto::admin::v1::{GetJobRequest, ListJobsRequest, NextFiresRequest};
use forest_proto::record::Job;
use serde_json::{Map, Value};

use super::read::{Wanted, normal};
use crate::commands::Context;
use crate::commands::job::document::SERVERS_OWN;
use crate::commands::job::next;
use crate::commands::job::show::JobView;
use crate::connect::Client;
use crate::error::{Exit, Failure};
use crate::paging::{Paging, collect};

/// A job of the cluster.
pub(super) struct Stored {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) group: String,
    pub(super) version: u64,
    /// As those of a document.
    pub(super) fields: Map<String, Value>,
}

/// The jobs of a group, or of all groups if it is empty, in the order of group, name and id.
pub(super) async fn of_group(context: &mut Context<'_>, group: &str) -> Result<Vec<Stored>, Failure> {
    let listed = collect(Paging::ALL, async |page_size, page_token| {
        let request =
            ListJobsRequest { page_size, page_token, group: group.to_owned(), ..ListJobsRequest::default() };
        let call = async |mut client: Client| client.list_jobs(request.clone()).await;
        let page = context.api.read("list the jobs", call).await?;
        Ok((page.jobs, page.next_page_token))
    });
    let mut jobs = Vec::new();
    for job in listed.await?.items {
        jobs.push(read(context, JobView::new(job)?).await?);
    }
    jobs.sort_by(|a, b| (&a.group, &a.name, &a.id).cmp(&(&b.group, &b.name, &b.id)));
    Ok(jobs)
}

/// The jobs that documents name by an id and that are not among `known`: they are to change their group.
pub(super) async fn of_other_groups(
    context: &mut Context<'_>,
    wanted: &[Wanted],
    known: &[Stored],
) -> Result<Vec<Stored>, Failure> {
    let mut found = Vec::new();
    for id in wanted.iter().filter_map(|job| job.id.as_ref()) {
        if known.iter().chain(&found).any(|job| job.id == *id) {
            continue;
        }
        let request = GetJobRequest { id: id.clone() };
        let call = async |mut client: Client| client.get_job(request.clone()).await;
        match context.api.read("get the job", call).await {
            Ok(job) => found.push(read(context, JobView::new(job)?).await?),
            Err(failure) if failure.exit == Exit::NotFound => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(found)
}

async fn read(context: &mut Context<'_>, job: JobView) -> Result<Stored, Failure> {
    let (id, name, group, version) = (job.id.clone(), job.name(), job.group(), job.version());
    let cron = original_cron(context, &job).await?;
    let mut document = job.document;
    if let Some(cron) = cron {
        document.insert("cron".to_owned(), cron.into());
    }
    let unknown: Vec<_> = document.iter().filter(|(name, _)| !Job::FIELDS.contains(&name.as_str())).collect();
    let unknown: Map<_, _> = unknown.into_iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    let mut fields = normal(document.clone()).unwrap_or_else(|_| {
        // A choice that this version does not know yet: the fields as they are.
        document.retain(|name, _| !SERVERS_OWN.contains(&name.as_str()));
        document
    });
    fields.extend(unknown);
    Ok(Stored { id, name, group, version, fields })
}

/// Cron texts that the original wrote have a meaning of their own until the job is changed. The server knows what
/// they are in ours.
async fn original_cron(context: &mut Context<'_>, job: &JobView) -> Result<Option<String>, Failure> {
    if job.document.contains_key("created_at") || job.document.get("cron").is_none_or(|cron| *cron == "") {
        return Ok(None);
    }
    let request = NextFiresRequest { id: job.id.clone(), count: 1, ..NextFiresRequest::default() };
    match next::ask(&mut context.api, request).await {
        Ok(answer) => Ok(Some(answer.cron).filter(|cron| !cron.is_empty())),
        // It cannot be scheduled as it is.
        Err(failure) if failure.exit == Exit::Refused => Ok(None),
        Err(failure) => Err(failure),
    }
}
