//! What differs between a document and the stored job, and how a job is written in a file.

use forest_proto::record::Job;
use serde_json::{Map, Value, json};

use super::read::{BY_HAND, Wanted};
use super::stored::Stored;
use crate::error::Failure;
use crate::yaml;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Add,
    Change,
    Keep,
    Delete,
}

impl Action {
    /// What was done.
    pub(super) fn done(self) -> &'static str {
        match self {
            Self::Add => "added",
            Self::Change => "changed",
            Self::Keep => "unchanged",
            Self::Delete => "deleted",
        }
    }
}

/// What is to be done with one job.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) action: Action,
    /// Where the document stands. Empty for a deletion.
    pub(super) place: String,
    /// Empty until it is added.
    pub(super) id: String,
    pub(super) name: String,
    pub(super) group: String,
    /// The one that was compared; 0 if there is none.
    pub(super) version: u64,
    /// What counts of the stored job; nothing if there is none.
    pub(super) before: Map<String, Value>,
    /// What counts of the document; nothing if there is none.
    pub(super) after: Map<String, Value>,
}

/// Compares a document with the job that it means.
pub(super) fn compare(wanted: &Wanted, stored: Option<&Stored>) -> Change {
    let mut change = Change {
        action: Action::Add,
        place: wanted.place.clone(),
        id: String::new(),
        name: wanted.name.clone(),
        group: wanted.group.clone(),
        version: 0,
        before: Map::new(),
        after: wanted.fields.clone(),
    };
    let Some(stored) = stored else {
        change.after.entry("status").or_insert(json!(1));
        return change;
    };
    (change.id, change.version) = (stored.id.clone(), stored.version);
    // What this version does not know is not ours to take away.
    let counts = |name: &str| {
        Job::FIELDS.contains(&name) && (!BY_HAND.contains(&name) || wanted.fields.contains_key(name))
    };
    change.before = stored.fields.clone();
    change.before.retain(|name, _| counts(name));
    change.action = if change.before == change.after { Action::Keep } else { Action::Change };
    change
}

impl Change {
    pub(super) fn deletion(job: &Stored) -> Self {
        Self {
            action: Action::Delete,
            place: String::new(),
            id: job.id.clone(),
            name: job.name.clone(),
            group: job.group.clone(),
            version: job.version,
            before: job.fields.clone(),
            after: Map::new(),
        }
    }

    /// The fields that differ, as (name, before, after); null stands for the default.
    pub(super) fn differences(&self) -> Vec<(&str, &Value, &Value)> {
        let mut names: Vec<&str> = self.before.keys().chain(self.after.keys()).map(String::as_str).collect();
        names.sort_unstable();
        names.dedup();
        let pair = |name| {
            let before = self.before.get(name).unwrap_or(&Value::Null);
            let after = self.after.get(name).unwrap_or(&Value::Null);
            (before != after).then_some((name, before, after))
        };
        names.into_iter().filter_map(pair).collect()
    }

    /// What an edit has to say.
    pub(super) fn patch(&self) -> String {
        let fields = self.differences().into_iter().map(|(name, _, after)| (name.to_owned(), after.clone()));
        Value::Object(fields.collect()).to_string()
    }

    /// `trade/bill (7)`, without the id of a job that is not there yet.
    pub(super) fn title(&self) -> String {
        let id = if self.id.is_empty() { String::new() } else { format!(" ({})", self.id) };
        format!("{}/{}{id}", self.group, self.name)
    }

    pub(super) fn to_json(&self) -> Value {
        let fields = self.differences().into_iter();
        let fields = fields.map(|(name, from, to)| (name.to_owned(), json!({ "from": from, "to": to })));
        json!({
            "action": self.action.done(),
            "id": self.id,
            "name": self.name,
            "group": self.group,
            "fields": fields.collect::<Map<_, _>>(),
        })
    }
}

/// A job as it stands in a file: its fields in the order of the record, without those that say nothing.
pub(super) fn document(fields: &Map<String, Value>) -> Result<String, Failure> {
    let says = |value: &Value| *value != "" && !value.is_null();
    let known = Job::FIELDS.iter().filter_map(|name| fields.get_key_value(*name));
    let unknown = fields.iter().filter(|(name, _)| !Job::FIELDS.contains(&name.as_str()));
    let all = known.chain(unknown).filter(|(_, value)| says(value));
    yaml::ordered(all.map(|(name, value)| (name.as_str(), value)))
}
