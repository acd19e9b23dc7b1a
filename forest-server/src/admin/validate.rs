//! What a job must be in order to be stored. Whatever is refused names its field.

use std::sync::Arc;

use forest_proto::record::{
    Job, MAX_PARAMS, MAX_SHARD_PARAMS, MAX_SHARDS, Misfire, OnLost, Outcome, Overlap, RetryBackoff, Routing,
    Trigger,
};
use forest_proto::time::Instant;
use serde_json::{Map, Value};

use super::{AdminError, dependencies};
use crate::core::timing::Timing;
use forest_schedule::Schedule;

/// Set by the server: not for callers.
const OURS: [&str; 5] = ["id", "version", "effective_after", "created_at", "updated_at"];

/// As many as a client may carry.
const MAX_LABELS: usize = 32;
const MAX_LIMIT: u32 = 1_000_000;
const MAX_DOCUMENT: usize = 1024 * 1024;
/// Each is compared in the transaction that saves the job.
const MAX_CALENDARS: usize = 8;
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
            return Err(AdminError::invalid(required, "is required: it must not be empty"));
        }
    }
    check_status(fields.get("status"))?;
    check_trigger(fields.get("trigger"))?;
    serde_path_to_error::deserialize(Value::Object(fields)).map_err(|error| {
        let field = error.path().to_string();
        AdminError::shape(&field, error.inner())
    })
}

/// Documents of the original say anything for "disabled"; who speaks our language says one of two numbers.
fn check_status(status: Option<&Value>) -> Result<(), AdminError> {
    match status {
        None | Some(Value::Null) => Ok(()),
        Some(status) if *status == 1 || *status == 2 => Ok(()),
        Some(_) => Err(AdminError::invalid("status", "must be 1 (it fires) or 2 (it does not)")),
    }
}

/// The kinds of triggers are told apart before their fields are read, and then nobody knows any more which field
/// was wrong.
fn check_trigger(trigger: Option<&Value>) -> Result<(), AdminError> {
    let Some(Value::Object(trigger)) = trigger else { return Ok(()) };
    let kind = trigger.get("kind").and_then(Value::as_str).unwrap_or_default();
    match kind {
        "once" => read::<Instant>("trigger.at", trigger.get("at")),
        "fixed_rate" | "fixed_delay" => read::<u64>("trigger.every_ms", trigger.get("every_ms")),
        _ => Ok(()),
    }
}

fn read<T: serde::de::DeserializeOwned>(field: &str, value: Option<&Value>) -> Result<(), AdminError> {
    let value = value.ok_or_else(|| AdminError::invalid(field, "is required: it must not be empty"))?;
    match serde_json::from_value::<T>(value.clone()) {
        Ok(_) => Ok(()),
        Err(error) => Err(AdminError::shape(field, &error)),
    }
}

/// Checks a whole job as it would be stored; `compile` gives its schedule.
pub(super) fn check(
    job: &Job,
    compile: impl Fn(&Job) -> Result<Option<Schedule>, AdminError>,
) -> Result<(), AdminError> {
    short_text("name", &job.name, 128)?;
    if job.name.trim().is_empty() {
        return Err(AdminError::invalid("name", "is required: it must not be empty"));
    }
    short_text("mobile", &job.mobile, 255)?;
    short_text("remark", &job.remark, 255)?;
    short_text("pause_reason", &job.pause_reason, 255)?;
    check_params(&job.params)?;
    dependencies::check(job)?;
    check_calendars(&job.calendars)?;
    if !job.calendars.is_empty() && !matches!(job.trigger, Trigger::Cron | Trigger::FixedRate { .. }) {
        return Err(AdminError::invalid(
            "calendars",
            "are for the triggers cron and fixed_rate: leave them out",
        ));
    }
    match (&job.trigger, job.cron.trim().is_empty()) {
        (Trigger::Cron, true) => {
            return Err(AdminError::invalid("cron", "is required: a cron expression, or @every 90s"));
        }
        (Trigger::Cron, false) | (_, true) => {}
        (_, false) => {
            return Err(AdminError::invalid("cron", "is for the trigger cron: leave it out, or the trigger"));
        }
    }
    if let Trigger::FixedDelay { every_ms } = &job.trigger {
        Schedule::every(*every_ms)
            .map_err(|error| AdminError::invalid("trigger.every_ms", error.interval_reason()))?;
    }
    compile(job)?;
    if let (Some(starts_at), Some(ends_at)) = (job.starts_at, job.ends_at)
        && ends_at < starts_at
    {
        return Err(AdminError::invalid("ends_at", format!("is before starts_at, {starts_at}")));
    }
    check_overlap(job)?;
    check_shards(job)?;
    check_attempts(job)?;
    check_labels(job)?;
    limit("max_in_flight", job.max_in_flight)?;
    let within = |field, value: Option<u64>, least, most| match value {
        Some(ms) if !(least..=most).contains(&ms) => {
            Err(AdminError::invalid(field, format!("{ms} is not within {least} and {most} milliseconds")))
        }
        _ => Ok(()),
    };
    within("timeout_ms", job.timeout_ms, 100, 30 * DAY_MS)?;
    within("misfire_threshold_ms", job.misfire_threshold_ms, 1000, 7 * DAY_MS)?;
    within("jitter_ms", Some(job.jitter_ms), 0, 3_600_000)?;
    within("start_deadline_ms", job.start_deadline_ms, 1000, 30 * DAY_MS)
}

/// Refuses a job that would never fire, where the clock is to fire it.
pub(super) fn check_fires(
    job: &Job,
    now: Instant,
    compile: impl Fn(&Job) -> Result<Option<Schedule>, AdminError>,
) -> Result<(), AdminError> {
    let Some(schedule) = compile(job)? else { return Ok(()) };
    if let Trigger::Once { at } = &job.trigger
        && *at <= now
    {
        return Err(AdminError::invalid("trigger.at", format!("{at} is in the past; it is {now}")));
    }
    if job.trigger == Trigger::Cron {
        let anchor = job.effective_after.unwrap_or(now);
        let reachable = schedule.check_reachable(now.as_ms(), anchor.as_ms());
        reachable.map_err(|error| AdminError::invalid(error.field(), error.reason()))?;
    }
    match Timing::new(Arc::new(schedule), job).next_after(now.as_ms()) {
        Some(_) => Ok(()),
        None => Err(AdminError::invalid("ends_at", "the job does not fire before then any more")),
    }
}

/// Who gives a job another trigger, or a cron text, wants it in place of what it had.
pub(super) fn one_trigger(patch: &Map<String, Value>, fields: &mut Map<String, Value>) {
    let gives = |name: &str| patch.get(name).is_some_and(|value| !value.is_null() && *value != "");
    if gives("cron") && !patch.contains_key("trigger") {
        fields.remove("trigger");
    }
    if gives("trigger") && !patch.contains_key("cron") && patch["trigger"]["kind"] != "cron" {
        fields.remove("cron");
    }
}

/// In place of an instant, a job that fires once may say in how many milliseconds.
pub(super) fn resolve_delay(fields: &mut Map<String, Value>, now: Instant) {
    if let Some(Value::Object(trigger)) = fields.get_mut("trigger")
        && trigger.get("kind").and_then(Value::as_str) == Some("once")
        && !trigger.contains_key("at")
        && let Some(delay_ms) = trigger.get("in_ms").and_then(Value::as_u64)
    {
        let at = Instant::from_ms(now.as_ms().saturating_add_unsigned(delay_ms));
        trigger.remove("in_ms");
        trigger.insert("at".into(), serde_json::to_value(at).unwrap_or_default());
    }
}

/// Options that mean something only beside another one are refused without it.
fn check_overlap(job: &Job) -> Result<(), AdminError> {
    let counts = [
        ("queue_limit", job.queue_limit, job.overlap == Overlap::QueueAll, "overlap queue_all"),
        ("misfire_cap", job.misfire_cap, job.misfire == Misfire::FireAll, "misfire fire_all"),
    ];
    for (field, value, applies, with) in counts {
        match value {
            Some(_) if !applies => {
                return Err(AdminError::invalid(field, format!("is for {with} only: leave it out")));
            }
            Some(count) if !(1..=10_000).contains(&count) => {
                return Err(AdminError::invalid(field, format!("{count} is not within 1 and 10000")));
            }
            _ => {}
        }
    }
    Ok(())
}

fn check_shards(job: &Job) -> Result<(), AdminError> {
    let refused = |reason: String| Err(AdminError::invalid("shard_params", reason));
    if !job.shard_params.is_empty() && job.routing != Routing::Broadcast {
        return refused("is for routing broadcast only: leave it out".into());
    }
    if let Some((index, _)) = job.shard_params.iter().find(|(index, _)| *index >= MAX_SHARDS) {
        return refused(format!("{index} is not the index of a shard: use 0 to {}", MAX_SHARDS - 1));
    }
    match job.shard_params.bytes() {
        bytes if bytes > MAX_SHARD_PARAMS => {
            refused(format!("{bytes} bytes are more than {MAX_SHARD_PARAMS}"))
        }
        _ => Ok(()),
    }
}

pub(super) fn check_params(params: &str) -> Result<(), AdminError> {
    if params.len() > MAX_PARAMS {
        let reason = format!("{} bytes are more than {MAX_PARAMS}", params.len());
        return Err(AdminError::invalid("params", reason));
    }
    Ok(())
}

/// Whether they exist is seen when the schedule is compiled.
pub(super) fn check_calendars(names: &[String]) -> Result<(), AdminError> {
    if names.len() > MAX_CALENDARS {
        return Err(AdminError::invalid("calendars", format!("takes at most {MAX_CALENDARS} names")));
    }
    match (1..names.len()).find(|index| names[..*index].contains(&names[*index])) {
        Some(index) => Err(AdminError::invalid(format!("calendars[{index}]"), "is named twice")),
        None => Ok(()),
    }
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
    if let Some(backoff) = &job.retry_backoff {
        if !job.retry_delays_ms.is_empty() {
            return Err(AdminError::invalid("retry_backoff", "takes the place of retry_delays_ms: give one"));
        }
        check_backoff(backoff)?;
    }
    check_retry_if(job)
}

fn check_backoff(backoff: &RetryBackoff) -> Result<(), AdminError> {
    let within = |field: &str, value: u64, least: u64, most: u64| match (least..=most).contains(&value) {
        true => Ok(()),
        false => Err(AdminError::invalid(
            format!("retry_backoff.{field}"),
            format!("{value} is not within {least} and {most}"),
        )),
    };
    within("first_ms", backoff.first_ms, 1, 7 * DAY_MS)?;
    within("max_ms", backoff.max_ms, backoff.first_ms, 7 * DAY_MS)?;
    within("factor_percent", backoff.factor_percent.into(), 100, 10_000)?;
    within("jitter_percent", backoff.jitter_percent.into(), 0, 100)
}

/// `retry_if` names failures, and says of lost runs the same as `on_lost` does.
fn check_retry_if(job: &Job) -> Result<(), AdminError> {
    let refused = |reason: String| Err(AdminError::invalid("retry_if", reason));
    let failures = [Outcome::Failed, Outcome::TimedOut, Outcome::Lost];
    if let Some(other) = job.retry_if.iter().find(|outcome| !failures.contains(outcome)) {
        return refused(format!("{} is never tried again: use failed, timed_out, lost", other.as_str()));
    }
    let lost = job.retry_if.contains(&Outcome::Lost);
    match job.on_lost {
        OnLost::Fail if lost => refused("lost needs on_lost = retry as well".into()),
        OnLost::Retry if !lost && !job.retry_if.is_empty() => {
            refused("must name lost too, because of on_lost = retry".into())
        }
        _ => Ok(()),
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

#[cfg(test)]
#[path = "validate_tests.rs"]
mod tests;
