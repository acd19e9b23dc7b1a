//! What a job must be in order to be stored. Whatever is refused names its field.

use std::sync::Arc;

use forest_proto::record::{Job, MAX_PARAMS, Misfire, OnLost, Overlap, Routing, Trigger};
use forest_proto::time::Instant;
use serde_json::{Map, Value};

use super::AdminError;
use crate::schedule::Schedule;

/// Set by the server: not for callers.
const OURS: [&str; 5] = ["id", "version", "effective_after", "created_at", "updated_at"];

/// As many as a client may carry.
const MAX_LABELS: usize = 32;
const MAX_LIMIT: u32 = 1_000_000;
const MAX_DOCUMENT: usize = 1024 * 1024;
const DAY_MS: u64 = 24 * 3600 * 1000;

/// Reads a document of job fields.
pub(super) fn fields(field: &str, document: &str) -> Result<Map<String, Value>, AdminError> {
    if document.len() > MAX_DOCUMENT {
        return Err(AdminError::invalid(field, format!("is longer than {MAX_DOCUMENT} bytes")));
    }
    match serde_json::from_str(document) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(AdminError::invalid(field, "must be a JSON object")),
        Err(error) => Err(AdminError::invalid(field, format!("is not JSON: {error}"))),
    }
}

/// Takes out what the server sets itself.
pub(super) fn strip_ours(fields: &mut Map<String, Value>) {
    OURS.iter().for_each(|name| drop(fields.remove(*name)));
}

/// Refuses what the server sets itself.
pub(super) fn refuse_ours(fields: &Map<String, Value>) -> Result<(), AdminError> {
    match OURS.iter().find(|name| fields.contains_key(**name)) {
        Some(name) => Err(AdminError::invalid(*name, "is set by the server: leave it out")),
        None => Ok(()),
    }
}

/// Reads the fields as a job. A field that no job has is refused, so that a slip of the pen is not an option
/// that does nothing.
pub(super) fn job(fields: Map<String, Value>) -> Result<Job, AdminError> {
    if let Some(unknown) = fields.keys().find(|name| !Job::FIELDS.contains(&name.as_str())) {
        return Err(AdminError::invalid(unknown, "is not a field of a job"));
    }
    for required in ["name", "group", "target"] {
        if fields.get(required).is_none_or(|value| value.is_null() || value.as_str() == Some("")) {
            return Err(AdminError::invalid(required, "is required"));
        }
    }
    serde_path_to_error::deserialize(Value::Object(fields)).map_err(|error| {
        let field = error.path().to_string();
        AdminError::invalid(field, error.into_inner().to_string())
    })
}

/// Checks a whole job as it would be stored; `compile` gives its schedule.
pub(super) fn check(
    job: &Job,
    now: Instant,
    compile: impl Fn(&Job) -> Result<Arc<Schedule>, AdminError>,
) -> Result<(), AdminError> {
    short_text("name", &job.name, 128)?;
    if job.name.trim().is_empty() {
        return Err(AdminError::invalid("name", "is required"));
    }
    short_text("mobile", &job.mobile, 255)?;
    short_text("remark", &job.remark, 255)?;
    short_text("pause_reason", &job.pause_reason, 255)?;
    check_params(&job.params)?;
    refuse_unsupported(job)?;
    if job.cron.trim().is_empty() {
        return Err(AdminError::invalid("cron", "is required: a cron expression, or @every 90s"));
    }
    let anchor = job.effective_after.unwrap_or(now);
    let schedule = compile(job)?;
    let reachable = schedule.check_reachable(now.as_ms(), anchor.as_ms());
    reachable.map_err(|error| AdminError::invalid(error.field(), error.reason()))?;
    check_attempts(job)?;
    check_labels(job)?;
    limit("max_in_flight", job.max_in_flight)?;
    let within = |field, value: Option<u64>, least, most| match value {
        Some(ms) if !(least..=most).contains(&ms) => {
            Err(AdminError::invalid(field, format!("{ms} is not within {least} and {most} milliseconds")))
        }
        _ => Ok(()),
    };
    within("misfire_threshold_ms", job.misfire_threshold_ms, 1000, 7 * DAY_MS)?;
    within("start_deadline_ms", job.start_deadline_ms, 1000, 30 * DAY_MS)
}

pub(super) fn check_params(params: &str) -> Result<(), AdminError> {
    if params.len() > MAX_PARAMS {
        let reason = format!("{} bytes are more than {MAX_PARAMS}", params.len());
        return Err(AdminError::invalid("params", reason));
    }
    Ok(())
}

fn check_labels(job: &Job) -> Result<(), AdminError> {
    if job.labels.len() > MAX_LABELS {
        return Err(AdminError::invalid("labels", format!("takes at most {MAX_LABELS} labels")));
    }
    for (key, value) in &job.labels {
        if key.is_empty() {
            return Err(AdminError::invalid("labels", "a label needs a key"));
        }
        short_text("labels", key, 256)?;
        short_text("labels", value, 256)?;
    }
    Ok(())
}

/// A limit is none, or at least one: with zero nothing would ever run.
pub(super) fn limit(field: &str, value: Option<u32>) -> Result<(), AdminError> {
    if value.is_some_and(|value| !(1..=MAX_LIMIT).contains(&value)) {
        return Err(AdminError::invalid(field, format!("is not within 1 and {MAX_LIMIT}")));
    }
    Ok(())
}

fn check_attempts(job: &Job) -> Result<(), AdminError> {
    if !(1..=100).contains(&job.max_attempts) {
        return Err(AdminError::invalid(
            "max_attempts",
            format!("{} is not within 1 and 100", job.max_attempts),
        ));
    }
    if job.on_lost == OnLost::Retry && job.max_attempts < 2 {
        return Err(AdminError::invalid("on_lost", "retry needs max_attempts of 2 or more"));
    }
    if job.retry_delays_ms.len() > 100 || job.retry_delays_ms.iter().any(|ms| *ms > 7 * DAY_MS) {
        return Err(AdminError::invalid("retry_delays_ms", "takes at most 100 delays of at most 7 days"));
    }
    Ok(())
}

/// The document has room for more than this version can do. What it cannot do, it does not store.
fn refuse_unsupported(job: &Job) -> Result<(), AdminError> {
    let unsupported = [
        ("trigger", job.trigger != Trigger::Cron, "use cron, also for intervals: @every 90s"),
        ("misfire", job.misfire == Misfire::FireAll, "use skip or fire_once"),
        ("misfire_cap", job.misfire_cap.is_some(), "leave it out"),
        ("overlap", !matches!(job.overlap, Overlap::Allow | Overlap::Forbid), "use forbid or allow"),
        ("queue_limit", job.queue_limit.is_some(), "leave it out"),
        ("routing", job.routing == Routing::Broadcast, "use another routing"),
        ("shard_params", !job.shard_params.is_empty(), "leave it out"),
        ("starts_at", job.starts_at.is_some(), "leave it out"),
        ("ends_at", job.ends_at.is_some(), "leave it out"),
        ("jitter_ms", job.jitter_ms != 0, "leave it out"),
        ("calendars", !job.calendars.is_empty(), "leave it out"),
        ("retry_backoff", job.retry_backoff.is_some(), "use retry_delays_ms"),
        ("retry_if", !job.retry_if.is_empty(), "leave it out"),
        ("timeout_ms", job.timeout_ms.is_some(), "leave it out"),
        ("after", job.after.is_some(), "leave it out"),
    ];
    match unsupported.iter().find(|(_, wanted, _)| *wanted) {
        Some((field, _, instead)) => {
            Err(AdminError::invalid(*field, format!("this version of the server cannot do that: {instead}")))
        }
        None => Ok(()),
    }
}

/// One line of text of at most `max` characters.
pub(super) fn short_text(field: &str, text: &str, max: usize) -> Result<String, AdminError> {
    if text.chars().count() > max {
        return Err(AdminError::invalid(field, format!("is longer than {max} characters")));
    }
    if text.chars().any(char::is_control) {
        return Err(AdminError::invalid(field, "contains control characters"));
    }
    Ok(text.to_owned())
}
