//! `pending`: runs that wait for a client.

use forest_proto::admin::v1::{ListPendingRequest, Run, Waiting};

use super::{Context, run as runs};
use crate::args::PendingCommand;
use crate::connect::Client;
use crate::error::Failure;
use crate::output::{List, printable_line};
use crate::paging::collect;

pub(super) async fn run(context: &mut Context<'_>, command: PendingCommand) -> Result<(), Failure> {
    let PendingCommand::List(args) = command;
    let mut waiting = Vec::new();
    let listed = collect(args.paging, async |page_size, page_token| {
        let request = ListPendingRequest { group: args.group.clone(), page_size, page_token };
        let call = async |mut client: Client| client.list_pending(request.clone()).await;
        let page = context.api.read("list the pending runs", call).await?;
        waiting.extend(page.waiting);
        Ok((page.runs, page.next_page_token))
    });
    let listed = listed.await?;
    let view = &context.view;
    let row = |run: &Run| {
        vec![
            run.id.clone(),
            run.job_name.clone(),
            run.group.clone(),
            run.target.clone(),
            view.second(run.created_at),
            run.attempt.to_string(),
            run.origin.clone(),
            run.job_id.clone(),
        ]
    };
    let lines = waiting.iter().map(|waiting| line(waiting, view.second(waiting.oldest_scheduled_at)));
    let lines: Vec<_> = lines.collect();
    let list = List {
        id: &|run: &Run| run.id.clone(),
        header: &["RUN", "JOB", "GROUP", "TARGET", "SINCE", "ATTEMPT", "ORIGIN", "JOB ID"],
        narrow: 5,
        row: &row,
        json: &runs::to_json,
    };
    view.list(context.console, "runs", &listed, &list)?;
    lines.iter().for_each(|line| context.console.note(line));
    Ok(())
}

/// How many wait for the same thing, since when, and why.
fn line(waiting: &Waiting, oldest: String) -> String {
    let reason = reason(waiting);
    let Waiting { group, target, count, .. } = waiting;
    printable_line(&format!("{group}/{target}: {count} waiting, the oldest of {oldest}: {reason}"))
}

/// What they wait for.
pub(super) fn reason(waiting: &Waiting) -> &str {
    match waiting.reason.as_str() {
        "" => "about to go",
        "no_client" => "no client would take them",
        "no_room" => "the clients are full",
        "job_limit" => "the job's limit is reached",
        "group_limit" => "the group's limit is reached",
        "rate" => "the group's rate is reached",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use crate::fake::Fake;

    #[tokio::test]
    async fn pending_runs_say_what_they_wait_for() {
        let fake = Fake::start().await;
        let expected = "\
RUN                     JOB   GROUP  TARGET  SINCE
20261118110640000-10-1  bill  trade  bill    2026-11-18 11:06:40+00
";
        let listed = fake.cli(&["pending", "list"]).await;
        assert_eq!(listed.stdout, expected);
        let note = "forest-cli: trade/bill: 1 waiting, the oldest of 2026-11-18 11:06:40+00: no client would take them\n";
        assert_eq!(listed.stderr, note);
        let json = fake.cli(&["pending", "list", "-o", "json"]).await.json();
        assert_eq!(json["runs"][0]["state"], "pending");
    }
}
