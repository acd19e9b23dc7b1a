//! Which job is meant: an id, or else an exact name.

use forest_proto::JobId;
use forest_proto::admin::v1::{GetJobRequest, ListJobsRequest};

use super::show::JobView;
use crate::connect::{Api, Client};
use crate::error::{Exit, Failure};

/// No more ids than this are listed for an ambiguous name.
const MAX_NAMESAKES: u32 = 10;

/// The job of this id, or the only one of this name.
pub(in crate::commands) async fn find(api: &mut Api, job: &str) -> Result<JobView, Failure> {
    // The server would refuse what cannot be an id.
    if JobId::new(job).is_ok() {
        match by_id(api, job).await {
            Err(failure) if failure.exit == Exit::NotFound => {}
            found => return found,
        }
    }
    by_name(api, job).await
}

async fn by_id(api: &mut Api, id: &str) -> Result<JobView, Failure> {
    let request = GetJobRequest { id: id.to_owned() };
    let call = async |mut client: Client| client.get_job(request.clone()).await;
    JobView::new(api.read("get the job", call).await?)
}

async fn by_name(api: &mut Api, name: &str) -> Result<JobView, Failure> {
    let missing = || Failure::not_found(format!("there is no job whose id or name is {name:?}"));
    if name.is_empty() {
        return Err(missing());
    }
    let request =
        ListJobsRequest { name: name.to_owned(), page_size: MAX_NAMESAKES, ..ListJobsRequest::default() };
    let call = async |mut client: Client| client.list_jobs(request.clone()).await;
    let page = api.read("look the job up by name", call).await?;
    let mut jobs = page.jobs.into_iter().map(JobView::new).collect::<Result<Vec<_>, _>>()?;
    if jobs.len() > 1 {
        let ids: Vec<&str> = jobs.iter().map(|job| job.id.as_str()).collect();
        let more = if page.next_page_token.is_empty() { "" } else { ", ..." };
        let ids = ids.join(", ");
        return Err(Failure::refused(format!("several jobs are named {name:?}: say which id: {ids}{more}")));
    }
    jobs.pop().ok_or_else(missing)
}
