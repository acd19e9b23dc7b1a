//! `/events`: what happens, as server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use forest_proto::admin::v1 as api;
use futures_util::stream::{self, Stream, StreamExt as _};
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::admin::EventQuery;
use crate::events::{Listener, Told};
use crate::grpc::messages;
use crate::http::body::Params;
use crate::http::caller::Proven;
use crate::http::problem::Problem;

/// A browser comes back after so long.
const RETRY: Duration = Duration::from_secs(1);
const LAST_EVENT_ID: &str = "last-event-id";
/// Proxies that would collect an answer before they hand it on are told not to.
const UNBUFFERED: HeaderName = HeaderName::from_static("x-accel-buffering");

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// Go on behind the event with this id; 0: from the oldest that the node still has. Absent: from now on. The header
    /// `Last-Event-ID`, which browsers send when they come back, counts before it.
    #[serde(default)]
    since: String,
    /// Only what belongs to this group. Absent: all that the caller sees.
    #[serde(default)]
    group: String,
    /// Only this job, by its id, and its runs.
    #[serde(default)]
    job: String,
    /// Only these, with commas between them: names of types, or families (job, run, group, calendar, client, node,
    /// leader). Absent: all.
    #[serde(default)]
    types: String,
    /// `false`: end where the present is reached. Default: true.
    #[serde(default = "yes")]
    follow: bool,
}

fn yes() -> bool {
    true
}

/// What happens, as it happens, of what the caller may see.
///
/// Server-sent events: `data` is an event in JSON, with its `type` among the fields; `id` is the same at every node, so
/// that who loses a node goes on at another one with `Last-Event-ID`. The type `reset` says that events are missing: read
/// everything anew, from the same node, and go on. At least every 15 s comes a comment, with an id.
#[utoipa::path(get, path = "/events", tag = "events",
    params(Wanted, ("Last-Event-ID" = Option<String>, Header, description = "Go on behind the event with this id.")),
    responses(
        (status = 200, content_type = "text/event-stream", body = api::Event),
        (status = "default", body = Problem),
    ))]
pub(super) async fn watch(
    Proven(admin, proof): Proven,
    headers: HeaderMap,
    Params(wanted): Params<Wanted>,
) -> Result<Response, Problem> {
    let last = headers.get(LAST_EVENT_ID).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let query = EventQuery {
        since: if last.is_empty() { wanted.since } else { last.to_owned() },
        group: wanted.group,
        job: wanted.job,
        types: wanted
            .types
            .split(',')
            .filter(|name| !name.is_empty())
            .map(|name| name.trim().to_owned())
            .collect(),
        follow: wanted.follow,
    };
    let listener = admin.listen(query, proof).await?;
    let mut response = Sse::new(stream(listener)).into_response();
    response.headers_mut().insert(UNBUFFERED, HeaderValue::from_static("no"));
    Ok(response)
}

/// An error ends it: whoever comes back is told by the answer's status what is wrong.
fn stream(listener: Listener) -> impl Stream<Item = Result<Event, Infallible>> {
    let told = stream::unfold(listener, async |mut listener| {
        let told = listener.next().await?.ok()?;
        Some((told, listener))
    });
    let told = told.flat_map(|told| stream::iter(lines(told)));
    stream::iter([Event::default().retry(RETRY)]).chain(told).map(Ok)
}

fn lines(told: Told) -> Vec<Event> {
    if let Told::Alive(at) = &told {
        return vec![Event::default().comment("").id(at.to_string())];
    }
    let event = |message: api::Event| {
        // Our messages have only text keys: writing them cannot fail.
        let data = serde_json::to_string(&message).unwrap_or_default();
        Event::default().id(&message.id).data(data)
    };
    messages(told).into_iter().map(event).collect()
}
