//! When a job fires: `job next`, and what is shown after a job has been saved.

use forest_proto::admin::v1::{Fire, NextFiresRequest, NextFiresResponse};
use serde_json::{Value, json};

use super::find;
use super::show::JobView;
use crate::args::{Format, NextFires};
use crate::commands::Context;
use crate::connect::{Api, Client};
use crate::error::Failure;
use crate::output::{List, View, field, instant_json};
use crate::paging::Listed;

/// How many fires are shown after a job has been saved.
const AFTER_SAVING: u32 = 3;

pub(super) async fn run(context: &mut Context<'_>, args: NextFires) -> Result<(), Failure> {
    let request = match &args.job {
        Some(job) => {
            let found = find(&mut context.api, job).await?;
            if let Some(after) = found.after() {
                let line = format!("the job has no times of its own: it runs after the {after}");
                context.console.note(&line);
            }
            NextFiresRequest { id: found.id, count: args.count, ..NextFiresRequest::default() }
        }
        None => NextFiresRequest {
            cron: args.cron.unwrap_or_default(),
            time_zone: args.time_zone,
            dst_gap: args.dst_gap,
            dst_fold: args.dst_fold,
            count: args.count,
            ..NextFiresRequest::default()
        },
    };
    show(context, request).await
}

/// Shows the fires that are asked for.
pub(in crate::commands) async fn show(
    context: &mut Context<'_>,
    request: NextFiresRequest,
) -> Result<(), Failure> {
    let answer = ask(&mut context.api, request).await?;
    let view = &context.view;
    if matches!(view.format, Format::Json | Format::Yaml) {
        let json = json!({
            "cron": answer.cron,
            "time_zone": answer.time_zone,
            "fires": answer.fires.iter().map(to_json).collect::<Vec<_>>(),
        });
        return view.data(context.console, &json);
    }
    let noted = answer.fires.iter().any(|fire| !fire.note.is_empty());
    let columns = if noted { 3 } else { 2 };
    let row = |fire: &Fire| {
        [view.second(fire.at), fire.local.clone(), fire.note.clone()].into_iter().take(columns).collect()
    };
    // What `local` is local to.
    let zone = format!("IN {}", answer.time_zone);
    let header = ["FIRES", &zone, "NOTE"];
    let list = List {
        id: &|fire: &Fire| instant_json(fire.at).as_str().unwrap_or_default().to_owned(),
        header: &header[..columns],
        narrow: columns,
        row: &row,
        json: &to_json,
    };
    view.list(context.console, "fires", &Listed::whole(answer.fires), &list)
}

/// Shows a job that has just been saved, with its next fires. The job is saved whatever happens here: if
/// its fires cannot be asked for, that is a warning.
pub(super) async fn show_saved(context: &mut Context<'_>, job: &JobView) -> Result<(), Failure> {
    let mut fires = Vec::new();
    if job.is_enabled() && job.next_fire_at != 0 {
        let request =
            NextFiresRequest { id: job.id.clone(), count: AFTER_SAVING, ..NextFiresRequest::default() };
        match ask(&mut context.api, request).await {
            Ok(NextFiresResponse { fires: found, .. }) => fires = found,
            Err(failure) => context.console.note(&format!("the job is saved, but: {failure}")),
        }
    }
    let mut json = job.to_json();
    json["fires"] = fires.iter().map(to_json).collect();
    let mut fields = vec![
        field("id", job.id.as_str()),
        field("name", job.name()),
        field("version", job.version().to_string()),
        field("next fires", summary(&context.view, job, &fires)),
    ];
    fields.extend(job.notes.iter().map(|note| field("note", note.as_str())));
    context.view.show(context.console, &job.id, &json, fields)
}

fn summary(view: &View, job: &JobView, fires: &[Fire]) -> String {
    if !job.is_enabled() {
        return "disabled".to_owned();
    }
    if let Some(after) = job.after() {
        return format!("after the {after}");
    }
    if fires.is_empty() {
        return view.second(job.next_fire_at);
    }
    let line = |fire: &Fire| match fire.note.as_str() {
        "" => view.second(fire.at),
        note => format!("{} ({note})", view.second(fire.at)),
    };
    fires.iter().map(line).collect::<Vec<_>>().join("\n")
}

pub(super) async fn ask(api: &mut Api, request: NextFiresRequest) -> Result<NextFiresResponse, Failure> {
    let call = async |mut client: Client| client.next_fires(request.clone()).await;
    api.read("compute the next fires", call).await
}

fn to_json(fire: &Fire) -> Value {
    json!({ "at": instant_json(fire.at), "local": fire.local, "note": fire.note })
}
