//! Events as messages, and a listener as a stream of them.

use std::pin::Pin;

use forest_proto::admin::v1 as api;
use forest_proto::record::Outcome;
use futures_util::stream::{self, Stream, StreamExt as _};
use tonic::Status;

use super::error;
use crate::core::feed::{About, Event, EventId};
use crate::events::{Listener, Told};

pub(super) type Messages = Pin<Box<dyn Stream<Item = Result<api::Event, Status>> + Send>>;

pub(super) fn stream(listener: Listener) -> Messages {
    let told =
        stream::unfold(listener, async |mut listener| listener.next().await.map(|told| (told, listener)));
    Box::pin(told.flat_map(|told| match told {
        Ok(told) => stream::iter(messages(told)).map(Ok).left_stream(),
        Err(refused) => stream::iter([Err(error::status(refused))]).right_stream(),
    }))
}

/// What a listener was told.
pub(crate) fn messages(told: Told) -> Vec<api::Event> {
    match told {
        Told::Events(events) => events.iter().map(|event| message(event)).collect(),
        Told::Reset(at) => vec![sign("reset", at)],
        Told::Alive(at) => vec![sign("heartbeat", at)],
    }
}

fn sign(kind: &str, at: EventId) -> api::Event {
    api::Event { id: at.to_string(), r#type: kind.into(), ..api::Event::default() }
}

fn message(event: &Event) -> api::Event {
    let mut told = api::Event {
        id: event.id.to_string(),
        r#type: event.kind.as_str().into(),
        at: event.at_ms,
        group: event.group.as_ref().map(ToString::to_string).unwrap_or_default(),
        job_id: event.job().unwrap_or_default().to_owned(),
        ..api::Event::default()
    };
    match &event.about {
        About::Job { name, version, enabled, .. } => {
            (told.job_name, told.job_version) = (name.to_string(), *version);
            if *version > 0 {
                told.state = if *enabled { "enabled" } else { "disabled" }.into();
            }
        }
        About::Run { run, client, state, outcome, duration_ms } => {
            told.run_id = run.to_string();
            told.client = client.as_ref().map(ToString::to_string).unwrap_or_default();
            told.state = (*state).into();
            told.outcome = outcome.map(Outcome::as_str).unwrap_or_default().into();
            told.duration_ms = i64::try_from(*duration_ms).unwrap_or(i64::MAX);
        }
        About::Group => {}
        About::Calendar(name) => told.calendar = name.to_string(),
        About::Client(client) => told.client = client.to_string(),
        About::Node(node) => told.node = node.to_string(),
        About::Leader { node, term } => (told.node, told.term) = (node.to_string(), *term),
    }
    told
}
