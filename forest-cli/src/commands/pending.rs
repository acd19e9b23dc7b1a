//! `pending`: runs that wait for a client.

use forest_proto::admin::v1::{ListPendingRequest, Run};

use super::{Context, run as runs};
use crate::args::PendingCommand;
use crate::connect::Client;
use crate::error::Failure;
use crate::output::List;
use crate::paging::collect;

pub(super) async fn run(context: &mut Context<'_>, command: PendingCommand) -> Result<(), Failure> {
    let PendingCommand::List(args) = command;
    let listed = collect(args.paging, async |page_size, page_token| {
        let request = ListPendingRequest { group: args.group.clone(), page_size, page_token };
        let call = async |mut client: Client| client.list_pending(request.clone()).await;
        let page = context.api.read("list the pending runs", call).await?;
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
        ]
    };
    let list = List { header: &["RUN", "JOB", "GROUP", "TARGET", "SINCE"], row: &row, json: &runs::to_json };
    view.list(context.console, "runs", &listed, &list)
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
        assert_eq!(fake.cli(&["pending", "list"]).await.stdout, expected);
        let json = fake.cli(&["pending", "list", "-o", "json"]).await.json();
        assert_eq!(json["runs"][0]["state"], "pending");
    }
}
