//! `job explain`: what became of one fire.

use forest_proto::admin::v1::{ExplainFireRequest, ExplainFireResponse};
use serde_json::{Value, json};

use super::find;
use crate::commands::Context;
use crate::connect::Client;
use crate::error::Failure;
use crate::output::{field, instant_json};

pub(super) async fn run(context: &mut Context<'_>, job: &str, at: &str) -> Result<(), Failure> {
    let id = find(&mut context.api, job).await?.id;
    let at: jiff::Timestamp =
        at.parse().map_err(|_| Failure::usage(format!("--at: {at:?} is not a time with its offset")))?;
    let request = ExplainFireRequest { id, at: at.as_millisecond() };
    let call = async |mut client: Client| client.explain_fire(request.clone()).await;
    let answer = context.api.read("explain the fire", call).await?;
    let view = &context.view;
    let run = answer.run.as_ref().map_or("", |run| run.id.as_str());
    let second = |at: i64| if at == 0 { "-".to_owned() } else { view.second(at) };
    let fields = vec![
        field("fire", view.second(request.at)),
        field("outcome", answer.outcome.clone()),
        field("why", answer.reason.clone()),
        field("run", if run.is_empty() { "-".to_owned() } else { run.to_owned() }),
        field("fire before", second(answer.before)),
        field("fire after", second(answer.after)),
    ];
    let json = to_json(&request, &answer);
    view.show(context.console, run, &json, fields)
}

fn to_json(request: &ExplainFireRequest, answer: &ExplainFireResponse) -> Value {
    let run = answer.run.as_ref().map(|run| run.id.clone());
    json!({
        "job": request.id,
        "at": instant_json(request.at),
        "outcome": answer.outcome,
        "reason": answer.reason,
        "run": run,
        "before": instant_json(answer.before),
        "after": instant_json(answer.after),
    })
}
