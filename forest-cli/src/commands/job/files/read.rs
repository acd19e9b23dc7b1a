//! From files to the jobs that they want, and all that is wrong with them.
//!
//! Names and types of fields are checked here, by the record itself; whether values make sense is for the server
//! to say.

use std::collections::BTreeSet;

use forest_proto::record::Job;
use serde_json::{Map, Value, json};

use crate::commands::job::document::{MAX_DOCUMENT, SERVERS_OWN};
use crate::console::Console;
use crate::error::Failure;
use crate::output::printable_line;
use crate::yaml;

/// Files are read whole.
const MAX_FILE: usize = 16 * MAX_DOCUMENT;

/// What stays as it is if a document does not say it: people change it by hand, for a while.
pub(super) const BY_HAND: [&str; 2] = ["status", "pause_reason"];

/// A job as a document wants it.
#[derive(Debug)]
pub(super) struct Wanted {
    /// Where it stands, for messages.
    pub(super) place: String,
    pub(super) id: Option<String>,
    pub(super) name: String,
    pub(super) group: String,
    /// All of its fields, written as the server writes them, without what only the server sets.
    pub(super) fields: Map<String, Value>,
}

/// What was found in files.
pub(super) struct Read {
    pub(super) jobs: Vec<Wanted>,
    /// Each names the place.
    pub(super) problems: Vec<String>,
}

pub(super) fn files(paths: &[String], console: &mut Console) -> Result<Read, Failure> {
    let mut read = Read { jobs: Vec::new(), problems: Vec::new() };
    for path in paths {
        let text = console.read_text(path, MAX_FILE)?;
        let path = printable_line(if path == "-" { "stdin" } else { path });
        let documents = match documents(&path, &text) {
            Ok(documents) => documents,
            Err(why) => {
                read.problems.push(format!("{path} {}", printable_line(&why)));
                continue;
            }
        };
        for (number, document) in documents.into_iter().enumerate() {
            let place = format!("{path}, document {}", number + 1);
            match wanted(&place, document) {
                Ok(job) => read.jobs.push(job),
                Err(why) => read.problems.push(format!("{place}: {}", printable_line(&why))),
            }
        }
    }
    let mut seen = BTreeSet::new();
    for job in &read.jobs {
        if job.id.is_none() && !seen.insert((&job.group, &job.name)) {
            read.problems.push(format!("{}: a job {}/{} stands before it", job.place, job.group, job.name));
        }
    }
    if read.jobs.is_empty() && read.problems.is_empty() {
        // An empty file is more often a mishap than the wish to delete everything.
        read.problems.push("there is no job in the files".to_owned());
    }
    Ok(read)
}

/// The documents of a text: YAML; or JSON, one after the other or in a list.
fn documents(path: &str, text: &str) -> Result<Vec<Value>, String> {
    let named = |ends: [&str; 2]| ends.iter().any(|end| path.ends_with(end));
    let looks = text.trim_start().starts_with(['{', '[']);
    let is_json = named([".json", ".jsonl"]) || (looks && !named([".yaml", ".yml"]));
    let documents = match is_json {
        true => {
            let documents = serde_json::Deserializer::from_str(text).into_iter::<Value>();
            documents.collect::<Result<Vec<_>, _>>().map_err(|error| format!("is not JSON: {error}"))?
        }
        false => yaml::documents(text)?,
    };
    let single = |document| match document {
        Value::Array(items) => items,
        other => vec![other],
    };
    Ok(documents.into_iter().flat_map(single).collect())
}

fn wanted(place: &str, document: Value) -> Result<Wanted, String> {
    let Value::Object(mut fields) = document else {
        return Err("is not a job: it must be fields and their values".to_owned());
    };
    fields.retain(|_, value| !value.is_null());
    if let Some(name) = fields.keys().find(|name| !Job::FIELDS.contains(&name.as_str())) {
        return Err(format!("{name:?} is not a field of a job"));
    }
    let id = match fields.get("id") {
        None => None,
        Some(Value::String(id)) => Some(id.clone()),
        Some(_) => return Err("id: must be text: put it in quotes".to_owned()),
    };
    let text = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    if let Some(missing) = ["name", "group", "target"].into_iter().find(|name| !fields.contains_key(*name)) {
        return Err(format!("{missing}: is required"));
    }
    let triggered = fields.get("trigger").is_some_and(|trigger| trigger["kind"] != "cron");
    if text("cron").is_empty() && !triggered {
        return Err("cron: is required, or a trigger".to_owned());
    }
    let (name, group) = (text("name"), text("group"));
    let fields = normal(fields)?;
    Ok(Wanted { place: place.to_owned(), id, name, group, fields })
}

/// The fields as the server writes them, without what only the server sets, and without what people change by hand
/// if it is not said.
pub(super) fn normal(mut fields: Map<String, Value>) -> Result<Map<String, Value>, String> {
    let silent = BY_HAND.into_iter().filter(|name| !fields.contains_key(*name)).collect::<Vec<_>>();
    SERVERS_OWN.iter().for_each(|name| drop(fields.remove(*name)));
    // The record has one.
    fields.insert("id".to_owned(), json!("0"));
    let job: Job = serde_path_to_error::deserialize(Value::Object(fields))
        .map_err(|error| format!("{}: {}", error.path(), error.inner()))?;
    let Ok(Value::Object(mut fields)) = serde_json::to_value(&job) else {
        return Err("cannot be written as JSON".to_owned());
    };
    SERVERS_OWN.iter().chain(&silent).for_each(|name| drop(fields.remove(*name)));
    Ok(fields)
}
