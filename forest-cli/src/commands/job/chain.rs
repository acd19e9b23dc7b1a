//! Which jobs a job follows and which follow it: from the flags, and as it is shown.

use forest_proto::admin::v1::JobLink;
use serde_json::{Map, Value, json};

use super::find;
use crate::args::JobFlags;
use crate::connect::Api;
use crate::error::Failure;

/// Puts ids in place of the names in `--after`.
pub(super) async fn resolve(api: &mut Api, flags: &mut JobFlags) -> Result<(), Failure> {
    for job in &mut flags.trigger.follows {
        *job = find(api, job).await?.id;
    }
    Ok(())
}

/// The trigger that `--after` and the flags beside it say.
pub(super) fn trigger(flags: &JobFlags) -> Option<Value> {
    if flags.trigger.follows.is_empty() {
        return None;
    }
    let mut trigger = json!({"kind": "after", "jobs": flags.trigger.follows});
    let chain = &flags.chain;
    for (name, value) in
        [("on", &chain.after_on), ("need", &chain.after_need), ("within", &chain.after_within)]
    {
        if let Some(value) = value {
            trigger[name] = value.as_str().into();
        }
    }
    Some(trigger)
}

/// In words, what a job runs after; `None`: it follows no others.
pub(super) fn after(document: &Map<String, Value>, links: &[JobLink]) -> Option<String> {
    let trigger = document.get("trigger").filter(|trigger| trigger["kind"] == "after")?;
    let text = |name: &str, default: &'static str| match trigger[name].as_str() {
        Some(text) => text.to_owned(),
        None => default.to_owned(),
    };
    let jobs = trigger["jobs"].as_array().map_or(0, Vec::len);
    let many = if jobs > 1 { format!("{} of ", text("need", "all")) } else { String::new() };
    let (on, within) = (text("on", "success"), text("within", "fire"));
    Some(format!("{on} of {many}{}, of one {within}", named(links)))
}

/// Jobs in one line.
pub(super) fn named(links: &[JobLink]) -> String {
    let name = |link: &JobLink| match link.name.as_str() {
        "" => format!("{} (does not exist)", link.id),
        name => format!("{name} ({})", link.id),
    };
    links.iter().map(name).collect::<Vec<_>>().join(", ")
}

pub(super) fn to_json(links: &[JobLink]) -> Value {
    links.iter().map(|link| json!({"id": link.id, "name": link.name})).collect()
}
