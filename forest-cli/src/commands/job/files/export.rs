//! `job export`: stored jobs as documents for files.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::compare::document;
use super::stored;
use crate::args::Format;
use crate::commands::Context;
use crate::error::Failure;

pub(in crate::commands::job) async fn export(context: &mut Context<'_>, group: &str) -> Result<(), Failure> {
    let mut jobs = stored::of_group(context, group).await?;
    let mut namesakes: BTreeMap<(String, String), u32> = BTreeMap::new();
    for job in &jobs {
        *namesakes.entry((job.group.clone(), job.name.clone())).or_default() += 1;
    }
    for job in &mut jobs {
        // Only its id says which of them is meant.
        if namesakes[&(job.group.clone(), job.name.clone())] > 1 {
            job.fields.insert("id".to_owned(), job.id.clone().into());
        }
    }
    if jobs.is_empty() {
        context.console.note("no jobs");
    }
    let says = |fields: &Map<String, Value>| -> Map<String, Value> {
        let said = fields.iter().filter(|(_, value)| **value != "" && !value.is_null());
        said.map(|(name, value)| (name.clone(), value.clone())).collect()
    };
    let text = match context.view.format {
        Format::Json => {
            let documents = jobs.iter().map(|job| Value::Object(says(&job.fields))).collect();
            return context.view.data(context.console, &Value::Array(documents));
        }
        Format::Jsonl => jobs.iter().map(|job| format!("{}\n", Value::Object(says(&job.fields)))).collect(),
        Format::Name => jobs.iter().map(|job| format!("{}\n", job.id)).collect(),
        Format::Table | Format::Wide | Format::Yaml => {
            let documents = jobs.iter().map(|job| Ok(format!("---\n{}", document(&job.fields)?)));
            documents.collect::<Result<String, Failure>>()?
        }
    };
    context.console.print(&text)
}
