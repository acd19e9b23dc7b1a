//! `backfill`: runs of the fires of a range of the past.

mod wait;

use forest_proto::admin::v1::{
    Backfill, CancelBackfillRequest, ListBackfillsRequest, StartBackfillRequest, StartBackfillResponse,
};
use serde_json::{Value, json};

use super::{Context, job};
use crate::args::{BackfillCommand, StartBackfill, instant_ms};
use crate::clock;
use crate::connect::Client;
use crate::error::Failure;
use crate::output::{Field, List, View, field, instant_json};
use crate::paging::{Paging, collect};

pub(super) async fn run(context: &mut Context<'_>, command: BackfillCommand) -> Result<(), Failure> {
    match command {
        BackfillCommand::Start(args) => start(context, args).await,
        BackfillCommand::List { paging } => list(context, paging).await,
        BackfillCommand::Cancel { job } => cancel(context, &job).await,
    }
}

async fn start(context: &mut Context<'_>, args: StartBackfill) -> Result<(), Failure> {
    let now = clock::now();
    let instant = |flag: &str, text: &str| {
        instant_ms(text, now, &context.view.zone).map_err(|why| Failure::usage(format!("{flag}: {why}")))
    };
    let (from, to) = (instant("--from", &args.from)?, instant("--to", &args.to)?);
    let params = job::params(args.params, context.console)?;
    let job_id = job::find(&mut context.api, &args.job).await?.id;
    let request =
        StartBackfillRequest { job_id, from, to, dry_run: args.dry_run, max_fires: args.max, params };
    let call = async |mut client: Client| client.start_backfill(request.clone()).await;
    let plan = match args.dry_run {
        true => context.api.read("look at the range", call).await?,
        false => context.api.write("start the backfill", call).await?,
    };
    let fields = plan_fields(&context.view, &request, &plan);
    context.view.show(context.console, &request.job_id, &plan_json(&request, &plan), fields)?;
    match &plan.backfill {
        Some(backfill) if args.wait => wait::until_over(context, backfill, &plan.last_run_id).await,
        Some(backfill) if backfill.state == PAUSED => {
            context.console.note("the job is disabled: the backfill waits until it is enabled");
            Ok(())
        }
        _ => Ok(()),
    }
}

const PAUSED: &str = "paused";

fn plan_fields(view: &View, request: &StartBackfillRequest, plan: &StartBackfillResponse) -> Vec<Field> {
    let mut fields = vec![
        field("job", request.job_id.as_str()),
        field("from", view.instant(request.from)),
        field("to", view.instant(request.to)),
        field("fires", plan.fires.to_string()),
        field("first", view.instant(plan.first_at)),
        field("last", view.instant(plan.last_at)),
    ];
    if plan.beyond_max > 0 {
        let max = request.max_fires;
        fields.push(field("refused", format!("{} more than --max {max}", plan.beyond_max)));
    }
    fields
}

fn plan_json(request: &StartBackfillRequest, plan: &StartBackfillResponse) -> Value {
    json!({
        "job": request.job_id,
        "from": instant_json(request.from),
        "to": instant_json(request.to),
        "dry_run": request.dry_run,
        "fires": plan.fires,
        "first_at": instant_json(plan.first_at),
        "last_at": instant_json(plan.last_at),
        "beyond_max": plan.beyond_max,
        "backfill": plan.backfill.as_ref().map(to_json),
    })
}

async fn list(context: &mut Context<'_>, paging: Paging) -> Result<(), Failure> {
    let listed = collect(paging, async |page_size, page_token| {
        let request = ListBackfillsRequest { page_size, page_token };
        let call = async |mut client: Client| client.list_backfills(request.clone()).await;
        let page = context.api.read("list the backfills", call).await?;
        Ok((page.backfills, page.next_page_token))
    });
    let listed = listed.await?;
    let view = &context.view;
    let row = |backfill: &Backfill| {
        vec![
            backfill.job_id.clone(),
            backfill.job_name.clone(),
            format!("{}/{}", backfill.created, backfill.total),
            backfill.live.to_string(),
            view.second(backfill.next),
            backfill.state.clone(),
        ]
    };
    let header = &["JOB", "NAME", "CREATED", "ALIVE", "NEXT", "STATE"];
    let list = List {
        id: &|backfill: &Backfill| backfill.job_id.clone(),
        header,
        narrow: 6,
        row: &row,
        json: &to_json,
    };
    view.list(context.console, "backfills", &listed, &list)
}

async fn cancel(context: &mut Context<'_>, job: &str) -> Result<(), Failure> {
    let job_id = job::find(&mut context.api, job).await?.id;
    let request = CancelBackfillRequest { job_id: job_id.clone() };
    let call = async |mut client: Client| client.cancel_backfill(request.clone()).await;
    context.api.write("cancel the backfill", call).await?;
    context.deleted("backfill of job", &job_id)
}

fn to_json(backfill: &Backfill) -> Value {
    json!({
        "id": backfill.id,
        "job": backfill.job_id,
        "name": backfill.job_name,
        "from": instant_json(backfill.from),
        "to": instant_json(backfill.to),
        "next": instant_json(backfill.next),
        "created": backfill.created,
        "total": backfill.total,
        "max_fires": backfill.max_fires,
        "alive": backfill.live,
        "requested_at": instant_json(backfill.requested_at),
        "state": backfill.state,
        "params": backfill.params,
    })
}

#[cfg(test)]
mod tests;
