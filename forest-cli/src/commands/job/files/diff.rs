//! `job diff`: what `job apply` would change.

use serde_json::{Map, Value};
use similar::TextDiff;

use super::compare::{Action, Change, document};
use super::plan;
use crate::args::DiffJobs;
use crate::commands::Context;
use crate::error::{Exit, Failure};
use crate::output::{List, printable};
use crate::paging::Listed;

/// As `diff` does: 1 means that there are differences, so nothing else may.
pub(in crate::commands::job) async fn diff(context: &mut Context<'_>, args: DiffJobs) -> Result<(), Failure> {
    match show(context, args).await {
        Ok(false) => Ok(()),
        Ok(true) => Err(Failure::told(Exit::Refused)),
        Err(failure) if failure.exit == Exit::Refused => Err(Failure::usage(failure.to_string())),
        Err(failure) => Err(failure),
    }
}

async fn show(context: &mut Context<'_>, args: DiffJobs) -> Result<bool, Failure> {
    let mut changes = plan(context, &args.files, &args.prune).await?;
    changes.retain(|change| change.action != Action::Keep);
    let differ = !changes.is_empty();
    if context.view.format.is_document() {
        let list =
            List { id: &Change::title, header: &[], narrow: 0, row: &|_| Vec::new(), json: &Change::to_json };
        context.view.list(context.console, "changes", &Listed::whole(changes), &list)?;
        return Ok(differ);
    }
    for change in &changes {
        let text = unified(change)?;
        context.console.print(&text)?;
    }
    Ok(differ)
}

/// The stored job against the document, in the form that `patch` and people read.
fn unified(change: &Change) -> Result<String, Failure> {
    let (before, after) = (lines(&change.before)?, lines(&change.after)?);
    let stored =
        if change.before.is_empty() { "/dev/null".to_owned() } else { format!("stored {}", change.title()) };
    let wanted = if change.after.is_empty() { "/dev/null" } else { &change.place };
    let text = TextDiff::from_lines(&before, &after);
    let text = text.unified_diff().context_radius(3).header(&stored, wanted).to_string();
    Ok(printable(&text) + "\n")
}

fn lines(fields: &Map<String, Value>) -> Result<String, Failure> {
    if fields.is_empty() { Ok(String::new()) } else { document(fields) }
}
