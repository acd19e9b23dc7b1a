//! Jobs that are kept in files: `job export`, `validate`, `diff` and `apply`.
//!
//! All that can be known beforehand is checked before the first change: the files, the cron expressions, which
//! stored job each document means, and the groups. Each change is guarded by the version that was compared.

mod apply;
mod compare;
mod diff;
mod export;
mod read;
mod stored;

use std::collections::BTreeSet;

use forest_proto::admin::v1::{GetGroupRequest, NextFiresRequest};
use serde_json::Value;

pub(super) use self::apply::apply;
use self::compare::{Change, compare};
pub(super) use self::diff::diff;
pub(super) use self::export::export;
use self::read::{Read, Wanted};
use self::stored::Stored;
use super::next;
use crate::args::{Files, PruneFlags, ValidateJobs};
use crate::commands::Context;
use crate::connect::Client;
use crate::error::{Exit, Failure};

/// Reads the files and checks them, with the server unless `offline`. Says all that is wrong.
async fn checked(context: &mut Context<'_>, files: &Files, offline: bool) -> Result<Vec<Wanted>, Failure> {
    let Read { jobs, mut problems } = read::files(&files.files, context.console)?;
    if !offline {
        for job in &jobs {
            problems.extend(cron_problem(context, job).await?);
        }
    }
    no_problems(context, &problems)?;
    Ok(jobs)
}

fn no_problems(context: &mut Context<'_>, problems: &[String]) -> Result<(), Failure> {
    problems.iter().for_each(|problem| context.console.note(problem));
    match problems.len() {
        0 => Ok(()),
        1 => Err(Failure::usage("nothing was changed: repair that first")),
        count => Err(Failure::usage(format!("nothing was changed: repair these {count} first"))),
    }
}

pub(super) async fn validate(context: &mut Context<'_>, args: ValidateJobs) -> Result<(), Failure> {
    let jobs = checked(context, &args.files, args.offline).await?.len();
    context.console.note(&match jobs {
        1 => "1 job is valid".to_owned(),
        _ => format!("{jobs} jobs are valid"),
    });
    Ok(())
}

/// What the server says against a cron expression, if anything.
async fn cron_problem(context: &mut Context<'_>, job: &Wanted) -> Result<Option<String>, Failure> {
    let text = |name: &str| job.fields.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let cron = text("cron");
    if cron.is_empty() {
        return Ok(None);
    }
    let calendars = job.fields.get("calendars").and_then(Value::as_array).cloned().unwrap_or_default();
    let request = NextFiresRequest {
        cron,
        time_zone: text("time_zone"),
        dst_gap: text("dst_gap"),
        dst_fold: text("dst_fold"),
        calendars: calendars.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        count: 1,
        ..NextFiresRequest::default()
    };
    match next::ask(&mut context.api, request).await {
        Ok(answer) if answer.fires.is_empty() => Ok(Some(format!("{}: cron: it never fires", job.place))),
        Ok(_) => Ok(None),
        Err(failure) if matches!(failure.exit, Exit::Refused | Exit::NotFound) => {
            Ok(Some(format!("{}: {failure}", job.place)))
        }
        Err(failure) => Err(failure),
    }
}

/// What has to be done so that the cluster is as the files say: one change for each document, in their order,
/// then the deletions.
async fn plan(context: &mut Context<'_>, files: &Files, prune: &PruneFlags) -> Result<Vec<Change>, Failure> {
    let wanted = checked(context, files, false).await?;
    let pruned = prune.group.as_deref().filter(|_| prune.prune);
    let groups: BTreeSet<&str> = wanted.iter().map(|job| job.group.as_str()).chain(pruned).collect();
    let mut stored = Vec::new();
    let mut problems = Vec::new();
    for group in groups {
        match has_group(context, group).await? {
            true => stored.extend(stored::of_group(context, group).await?),
            false => problems.push(format!("there is no group {group:?}: add it first")),
        }
    }
    no_problems(context, &problems)?;
    stored.extend(stored::of_other_groups(context, &wanted, &stored).await?);
    let (mut changes, mut taken) = (Vec::new(), BTreeSet::new());
    for job in &wanted {
        match find(job, &stored) {
            Ok(found) if found.is_some_and(|found| !taken.insert(found.id.as_str())) => {
                problems.push(format!("{}: another document means the same job", job.place));
            }
            Ok(found) => changes.push(compare(job, found)),
            Err(problem) => problems.push(problem),
        }
    }
    no_problems(context, &problems)?;
    let surplus = |job: &&Stored| Some(job.group.as_str()) == pruned && !taken.contains(job.id.as_str());
    changes.extend(stored.iter().filter(surplus).map(Change::deletion));
    Ok(changes)
}

/// Which stored job a document means.
fn find<'a>(job: &Wanted, stored: &'a [Stored]) -> Result<Option<&'a Stored>, String> {
    if let Some(id) = &job.id {
        let found = stored.iter().find(|stored| stored.id == *id);
        let missing = || format!("{}: there is no job {id:?}; without `id` it would be added", job.place);
        return found.map(Some).ok_or_else(missing);
    }
    let same = |stored: &&Stored| stored.group == job.group && stored.name == job.name;
    let namesakes: Vec<&Stored> = stored.iter().filter(same).collect();
    match namesakes.as_slice() {
        [] => Ok(None),
        [only] => Ok(Some(only)),
        several => {
            let ids: Vec<&str> = several.iter().map(|job| job.id.as_str()).take(10).collect();
            let ids = ids.join(", ");
            Err(format!("{}: several jobs of the group are named so: say which `id`: {ids}", job.place))
        }
    }
}

async fn has_group(context: &mut Context<'_>, name: &str) -> Result<bool, Failure> {
    let request = GetGroupRequest { name: name.to_owned() };
    let call = async |mut client: Client| client.get_group(request.clone()).await;
    match context.api.read("get the group", call).await {
        Ok(_) => Ok(true),
        Err(failure) if failure.exit == Exit::NotFound => Ok(false),
        Err(failure) => Err(failure),
    }
}

#[cfg(test)]
mod tests;
