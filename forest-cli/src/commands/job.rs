//! `job`: stored jobs.

mod chain;
mod document;
mod explain;
mod files;
mod find;
mod next;
mod show;
mod start;

use forest_proto::admin::v1::{
    AddJobRequest, DeleteJobRequest, EditJobRequest, ListJobsRequest, SetJobEnabledRequest,
};

pub(super) use document::params;
pub(super) use find::find;
pub(super) use next::show as show_next;
use show::JobView;
pub(super) use start::{judge, started, wait};

use super::Context;
use crate::args::{AddJob, DeleteJob, EditJob, JobCommand, ListJobs};
use crate::connect::Client;
use crate::error::Failure;
use crate::output::List;
use crate::paging::{Listed, collect};

pub(super) async fn run(context: &mut Context<'_>, command: JobCommand) -> Result<(), Failure> {
    match command {
        JobCommand::Add(args) => add(context, *args).await,
        JobCommand::List(args) => list(context, args).await,
        JobCommand::Get { job } => {
            let job = find(&mut context.api, &job).await?;
            context.view.show(context.console, &job.id, &job.to_json(), job.fields(&context.view))
        }
        JobCommand::Edit(args) => edit(context, *args).await,
        JobCommand::Enable { job } => set_enabled(context, &job, true, String::new()).await,
        JobCommand::Disable { job, reason } => set_enabled(context, &job, false, reason).await,
        JobCommand::Delete(args) => delete(context, args).await,
        JobCommand::Run(args) => start::run(context, args).await,
        JobCommand::Next(args) => next::run(context, args).await,
        JobCommand::Export(args) => files::export(context, &args.group).await,
        JobCommand::Validate(args) => files::validate(context, args).await,
        JobCommand::Diff(args) => files::diff(context, args).await,
        JobCommand::Apply(args) => files::apply(context, args).await,
        JobCommand::Explain { job, at } => explain::run(context, &job, &at).await,
    }
}

async fn add(context: &mut Context<'_>, mut args: AddJob) -> Result<(), Failure> {
    chain::resolve(&mut context.api, &mut args.flags).await?;
    let document = document::new_job(args.flags, context.console)?;
    let request = AddJobRequest { document };
    let call = async |mut client: Client| client.add_job(request.clone()).await;
    let job = JobView::new(context.api.write("add the job", call).await?)?;
    next::show_saved(context, &job).await
}

async fn edit(context: &mut Context<'_>, mut args: EditJob) -> Result<(), Failure> {
    chain::resolve(&mut context.api, &mut args.flags).await?;
    let change = document::change(args.flags, context.console)?;
    let job = find(&mut context.api, &args.job).await?;
    let (patch, read_version) = change.for_job(&job.id)?;
    let version = args.version.or(read_version).unwrap_or(0);
    let request = EditJobRequest { id: job.id, patch, version };
    let call = async |mut client: Client| client.edit_job(request.clone()).await;
    let job = JobView::new(context.api.write("edit the job", call).await?)?;
    next::show_saved(context, &job).await
}

async fn list(context: &mut Context<'_>, args: ListJobs) -> Result<(), Failure> {
    let enabled = (args.enabled || args.disabled).then_some(args.enabled);
    let listed = collect(args.paging, async |page_size, page_token| {
        let (group, name) = (args.group.clone(), args.name.clone());
        let request = ListJobsRequest { page_size, page_token, group, name, enabled };
        let call = async |mut client: Client| client.list_jobs(request.clone()).await;
        let page = context.api.read("list the jobs", call).await?;
        Ok((page.jobs, page.next_page_token))
    });
    let Listed { items, more } = listed.await?;
    let items = items.into_iter().map(JobView::new).collect::<Result<_, _>>()?;
    let view = &context.view;
    let list = List {
        id: &|job: &JobView| job.id.clone(),
        header: &["JOB", "NAME", "GROUP", "TARGET", "CRON", "NEXT FIRE", "TIME ZONE", "VERSION", "REMARK"],
        narrow: 6,
        row: &|job: &JobView| job.row(view),
        json: &JobView::to_json,
    };
    view.list(context.console, "jobs", &Listed { items, more }, &list)
}

async fn set_enabled(
    context: &mut Context<'_>,
    job: &str,
    enabled: bool,
    reason: String,
) -> Result<(), Failure> {
    let id = find(&mut context.api, job).await?.id;
    let request = SetJobEnabledRequest { id, enabled, reason };
    let action = if enabled { "enable the job" } else { "disable the job" };
    let call = async |mut client: Client| client.set_job_enabled(request.clone()).await;
    let job = JobView::new(context.api.write(action, call).await?)?;
    next::show_saved(context, &job).await
}

async fn delete(context: &mut Context<'_>, args: DeleteJob) -> Result<(), Failure> {
    context.console.can_confirm(args.yes)?;
    let job = find(&mut context.api, &args.job).await?;
    let question = format!("Delete job {} ({}) of group {}?", job.name(), job.id, job.group());
    context.console.confirm(args.yes, &question)?;
    // A person agreed to delete the job as it was shown; a script means whatever it is by now.
    let version = if args.yes { 0 } else { job.version() };
    let request = DeleteJobRequest { id: job.id.clone(), version };
    let call = async |mut client: Client| client.delete_job(request.clone()).await;
    context.api.write("delete the job", call).await?;
    context.deleted("job", &job.id)
}

#[cfg(test)]
mod tests;
