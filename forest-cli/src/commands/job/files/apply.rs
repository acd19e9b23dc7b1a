//! `job apply`: makes the jobs be as files say.

use forest_proto::admin::v1::{AddJobRequest, DeleteJobRequest, EditJobRequest};
use serde_json::Value;

use super::compare::{Action, Change};
use super::plan;
use crate::args::ApplyJobs;
use crate::commands::Context;
use crate::commands::job::show::JobView;
use crate::connect::Client;
use crate::error::Failure;
use crate::output::{List, printable_line};
use crate::paging::Listed;

pub(in crate::commands::job) async fn apply(
    context: &mut Context<'_>,
    args: ApplyJobs,
) -> Result<(), Failure> {
    let mut changes = plan(context, &args.files, &args.prune).await?;
    if args.dry_run {
        show(context, changes)?;
        context.console.note("nothing was changed: --dry-run");
        return Ok(());
    }
    agree_to_deletions(context, &changes, args.yes)?;
    let mut failed = None;
    for at in 0..changes.len() {
        if let Err(failure) = carry_out(context, &mut changes[at]).await {
            let title = printable_line(&changes[at].title());
            let left = changes.split_off(at);
            let left = left.iter().filter(|change| change.action != Action::Keep).count();
            failed = Some(failure.saying(&format!("; this was {title}, and {left} changes were not made")));
            break;
        }
    }
    show(context, changes)?;
    failed.map_or(Ok(()), Err)
}

fn agree_to_deletions(context: &mut Context<'_>, changes: &[Change], yes: bool) -> Result<(), Failure> {
    let surplus: Vec<_> = changes.iter().filter(|change| change.action == Action::Delete).collect();
    if surplus.is_empty() {
        return Ok(());
    }
    for job in &surplus {
        context.console.note(&format!("in no file: {}", printable_line(&job.title())));
    }
    let jobs =
        if surplus.len() == 1 { "this job".to_owned() } else { format!("these {} jobs", surplus.len()) };
    context.console.confirm(yes, &format!("Delete {jobs}?"))
}

async fn carry_out(context: &mut Context<'_>, change: &mut Change) -> Result<(), Failure> {
    match change.action {
        Action::Keep => {}
        Action::Add => {
            let request = AddJobRequest { document: Value::Object(change.after.clone()).to_string() };
            let call = async |mut client: Client| client.add_job(request.clone()).await;
            change.id = JobView::new(context.api.write("add the job", call).await?)?.id;
        }
        Action::Change => {
            let (id, patch) = (change.id.clone(), change.patch());
            let request = EditJobRequest { id, patch, version: change.version };
            let call = async |mut client: Client| client.edit_job(request.clone()).await;
            context.api.write("edit the job", call).await?;
        }
        Action::Delete => {
            let request = DeleteJobRequest { id: change.id.clone(), version: change.version };
            let call = async |mut client: Client| client.delete_job(request.clone()).await;
            context.api.write("delete the job", call).await?;
        }
    }
    Ok(())
}

fn show(context: &mut Context<'_>, changes: Vec<Change>) -> Result<(), Failure> {
    let row = |change: &Change| {
        let fields: Vec<&str> = match change.action {
            Action::Change => change.differences().into_iter().map(|(name, ..)| name).collect(),
            Action::Add | Action::Keep | Action::Delete => Vec::new(),
        };
        let id = if change.id.is_empty() { "-" } else { &change.id };
        let texts = [change.action.done(), id, &change.name, &change.group];
        texts.into_iter().map(str::to_owned).chain([fields.join(", ")]).collect()
    };
    let list = List {
        id: &|change: &Change| if change.id.is_empty() { change.title() } else { change.id.clone() },
        header: &["DONE", "JOB", "NAME", "GROUP", "FIELDS"],
        narrow: 5,
        row: &row,
        json: &Change::to_json,
    };
    context.view.list(context.console, "changes", &Listed::whole(changes), &list)
}
