//! How a job looks.
//!
//! The document is read field by field and not as a record, so that a job with choices that this version
//! does not know yet can still be shown.

use forest_proto::admin::v1::{Job, JobLink};
use serde_json::{Map, Value, json};

use super::chain;
use crate::error::Failure;
use crate::output::{Field, View, field, instant_json, or_dash, printable_line, span};

/// Shown first, in this order, whether they are there or not.
const LEADING: [(&str, &str); 6] = [
    ("id", "id"),
    ("name", "name"),
    ("group", "group"),
    ("target", "target"),
    ("cron", "cron"),
    ("time_zone", "time zone"),
];

/// Shown last.
const TRAILING: [(&str, &str); 3] = [("remark", "remark"), ("params", "params"), ("version", "version")];

/// A job as the server sent it, with its document parsed.
#[derive(Debug)]
pub(in crate::commands) struct JobView {
    pub(in crate::commands) id: String,
    pub(super) next_fire_at: i64,
    pub(super) notes: Vec<String>,
    pub(super) document: Map<String, Value>,
    revision: i64,
    /// The jobs that it follows, and those that follow it.
    links: (Vec<JobLink>, Vec<JobLink>),
}

impl JobView {
    pub(super) fn new(job: Job) -> Result<Self, Failure> {
        let parsed = serde_json::from_str::<Map<String, Value>>(&job.document);
        let document = parsed.map_err(|error| {
            let document: String = printable_line(&job.document).chars().take(60).collect();
            Failure::refused(format!("the server sent a job that cannot be read ({error}): {document}"))
        })?;
        let id = document.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
        let Job { revision, next_fire_at, notes, after, followers, .. } = job;
        Ok(Self { id, next_fire_at, notes, document, revision, links: (after, followers) })
    }

    pub(super) fn name(&self) -> String {
        self.text("name")
    }

    pub(super) fn group(&self) -> String {
        self.text("group")
    }

    pub(super) fn version(&self) -> u64 {
        self.document.get("version").and_then(Value::as_u64).unwrap_or(0)
    }

    pub(super) fn is_enabled(&self) -> bool {
        self.document.get("status").is_some_and(|status| *status == 1 || *status == "1")
    }

    /// What it runs after, in words; `None`: it does not follow others.
    pub(super) fn after(&self) -> Option<String> {
        chain::after(&self.document, &self.links.0)
    }

    fn text(&self, name: &str) -> String {
        match self.document.get(name) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        }
    }

    fn next_fire(&self, view: &View) -> String {
        if self.is_enabled() { view.second(self.next_fire_at) } else { "disabled".to_owned() }
    }

    pub(super) fn row(&self, view: &View) -> Vec<String> {
        let cron = match self.document.get("trigger").and_then(|trigger| trigger["kind"].as_str()) {
            Some(kind) if kind != "cron" => format!("({kind})"),
            _ => or_dash(&self.text("cron")),
        };
        vec![
            self.id.clone(),
            self.name(),
            self.group(),
            self.text("target"),
            cron,
            self.next_fire(view),
            or_dash(&self.text("time_zone")),
            self.version().to_string(),
            self.text("remark"),
        ]
    }

    pub(super) fn fields(&self, view: &View) -> Vec<Field> {
        let named = |(name, label): &(&str, &str)| field(label, self.text(name));
        let after = self.after();
        let apart = |name: &str| {
            name == "status"
                || (name == "trigger" && after.is_some())
                || LEADING.iter().chain(&TRAILING).any(|(leading, _)| *leading == name)
        };
        let mut fields: Vec<Field> = LEADING.iter().map(named).collect();
        fields.push(field("enabled", if self.is_enabled() { "yes" } else { "no" }));
        fields.push(field("next fire", self.next_fire(view)));
        fields.extend(after.iter().map(|after| field("after", after.as_str())));
        if !self.links.1.is_empty() {
            fields.push(field("followed by", chain::named(&self.links.1)));
        }
        let rest = self.document.iter().filter(|(name, _)| !apart(name));
        fields.extend(rest.map(|(name, value)| readable(view, name, value)));
        fields.extend(TRAILING.iter().map(named));
        fields.push(field("revision", self.revision.to_string()));
        fields.extend(self.notes.iter().map(|note| field("note", note.as_str())));
        fields
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "document": self.document,
            "revision": self.revision,
            "next_fire_at": instant_json(self.next_fire_at),
            "notes": self.notes,
            "after": chain::to_json(&self.links.0),
            "followers": chain::to_json(&self.links.1),
        })
    }
}

/// Milliseconds as spans, instants in the zone of the view, everything else as it is.
fn readable(view: &View, name: &str, value: &Value) -> Field {
    let label = name.strip_suffix("_ms").unwrap_or(name).replace('_', " ");
    let span_of = |value: &Value| match value.as_i64() {
        Some(ms) => span(ms),
        None => value.to_string(),
    };
    let text = match value {
        Value::Number(_) if name.ends_with("_ms") => span_of(value),
        Value::Array(values) if name.ends_with("_ms") => {
            values.iter().map(span_of).collect::<Vec<_>>().join(", ")
        }
        Value::String(text) => match text.parse::<forest_proto::time::Instant>() {
            Ok(at) => view.instant(at.as_ms()),
            Err(_) => text.clone(),
        },
        other => other.to_string(),
    };
    (label, text)
}
