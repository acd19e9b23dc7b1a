//! `events`: what happens in the cluster, as it happens or as a server remembers it.

pub(super) mod follow;

use forest_proto::admin::v1::{Event, WatchEventsRequest};
use serde_json::{Value, json};

use self::follow::{Follow, HEARTBEAT, RESET, Told};
use super::Context;
use super::job::find;
use crate::args::{Events, Format, instant_ms};
use crate::clock;
use crate::error::{Exit, Failure};
use crate::output::{View, instant_json, or_dash, printable_line, span};

/// As wide as the longest type.
const TYPE_WIDTH: usize = 16;
/// All that a server remembers.
const OLDEST: &str = "0";

pub(super) async fn run(context: &mut Context<'_>, args: &Events) -> Result<(), Failure> {
    if args.follow && matches!(context.view.format, Format::Json | Format::Yaml) {
        return Err(Failure::usage("-o json and yaml are one document, and this has no end: use -o jsonl"));
    }
    let (since, from_ms) = beginning(args, &context.view)?;
    let job_id = match &args.job {
        Some(job) => job_id(context, job).await?,
        None => String::new(),
    };
    let request = WatchEventsRequest {
        since,
        group: args.group.clone(),
        job_id,
        types: args.types.clone(),
        until_now: !args.follow,
    };
    let mut follow = Follow::new(request);
    let mut document = Vec::new();
    loop {
        let event = match follow.next(&mut context.api).await? {
            Told::Event(event) => event,
            Told::Silence(failure) => {
                context.console.note(&format!("{failure}; trying again"));
                continue;
            }
            Told::End => break,
        };
        if event.r#type == HEARTBEAT || (event.at < from_ms && event.r#type != RESET) {
            continue;
        }
        match context.view.format {
            Format::Json | Format::Yaml => document.push(to_json(&event)),
            Format::Jsonl => context.console.print(&format!("{}\n", to_json(&event)))?,
            _ if event.r#type == RESET => {
                context.console.note("events are missing here: the server does not have them any more");
            }
            Format::Name => context.console.print(&format!("{}\n", printable_line(&event.id)))?,
            Format::Table | Format::Wide => {
                context.console.print(&line(&event, &context.view))?;
            }
        }
    }
    match context.view.format {
        Format::Json | Format::Yaml => context.view.data(context.console, &json!({ "events": document })),
        _ => Ok(()),
    }
}

/// Where to begin, and the instant before which nothing is shown.
fn beginning(args: &Events, view: &View) -> Result<(String, i64), Failure> {
    let Some(since) = args.since.as_deref() else {
        return Ok((if args.follow { String::new() } else { OLDEST.to_owned() }, 0));
    };
    let is_id = !since.is_empty() && since.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if is_id {
        return Ok((since.to_owned(), 0));
    }
    match instant_ms(since, clock::now(), &view.zone) {
        Ok(from_ms) => Ok((OLDEST.to_owned(), from_ms)),
        Err(wrong) => Err(Failure::usage(format!("--since: {wrong}; or give the id of an event (120.3)"))),
    }
}

/// The id of a job by its id or name; what is neither may be the id of one that was deleted.
async fn job_id(context: &mut Context<'_>, job: &str) -> Result<String, Failure> {
    match find(&mut context.api, job).await {
        Ok(found) => Ok(found.id),
        Err(failure) if failure.exit == Exit::NotFound && forest_proto::JobId::new(job).is_ok() => {
            Ok(job.to_owned())
        }
        Err(failure) => Err(failure),
    }
}

fn line(event: &Event, view: &View) -> String {
    let at = view.instant(event.at);
    let words = [event.group.as_str(), &what(event)].map(or_dash).join("  ");
    let width = at.len().max("2026-11-18 11:06:40.000+00".len());
    printable_line(&format!("{at:width$}  {:TYPE_WIDTH$}  {words}", event.r#type)) + "\n"
}

/// What it is about, in one line.
pub(super) fn what(event: &Event) -> String {
    let family = event.r#type.split('.').next().unwrap_or_default();
    match family {
        "job" => [event.job_id.as_str(), &event.job_name].join(" "),
        "run" => of_run(event),
        "calendar" => event.calendar.clone(),
        "client" => event.client.clone(),
        "node" => event.node.clone(),
        "leader" => format!("{} term {}", or_dash(&event.node), event.term),
        _ => String::new(),
    }
}

fn of_run(event: &Event) -> String {
    let mut text = event.run_id.clone();
    if !event.client.is_empty() {
        text = format!("{text} at {}", event.client);
    }
    match (event.outcome.as_str(), event.duration_ms) {
        ("", _) => format!("{text} {}", event.state),
        (outcome, 0) => format!("{text} {outcome}"),
        (outcome, ms) => format!("{text} {outcome} in {}", span(ms)),
    }
}

fn to_json(event: &Event) -> Value {
    json!({
        "id": event.id,
        "type": event.r#type,
        "at": instant_json(event.at),
        "group": event.group,
        "job_id": event.job_id,
        "job_name": event.job_name,
        "job_version": event.job_version,
        "run_id": event.run_id,
        "client": event.client,
        "state": event.state,
        "outcome": event.outcome,
        "duration_ms": event.duration_ms,
        "calendar": event.calendar,
        "node": event.node,
        "term": event.term,
    })
}

#[cfg(test)]
mod tests;
