//! What is refused of attempts and times, by the name of its field.

use forest_proto::record::DstFold;
use forest_proto::{GroupName, JobId, TargetName};

use super::*;

/// The refusal of a job that is good but for this change.
fn refusal(change: impl Fn(&mut Job)) -> Option<String> {
    let name = "a";
    let mut job = Job::new(
        JobId::new(name).expect("valid"),
        name,
        GroupName::new(name).expect("valid"),
        TargetName::new(name).expect("valid"),
    );
    (job.cron, job.max_attempts) = ("@every 90s".into(), 3);
    change(&mut job);
    let compile = |job: &Job| {
        let schedule = Schedule::compile(&job.cron, "UTC", job.dst_gap, DstFold::First);
        schedule.map(Some).map_err(|error| AdminError::invalid(error.field(), error.reason()))
    };
    check(&job, compile).err().map(|error| error.to_string())
}

#[track_caller]
fn assert_refused(field: &str, part: &str, change: impl Fn(&mut Job)) {
    let error = refusal(change).unwrap_or_default();
    assert!(error.starts_with(&format!("{field}: ")) && error.contains(part), "{field}: {error:?}");
}

const GOOD: RetryBackoff =
    RetryBackoff { first_ms: 1_000, max_ms: 60_000, factor_percent: 200, jitter_percent: 10 };

#[test]
fn growing_delays_have_bounds_and_stand_alone() {
    assert_eq!(refusal(|job| job.retry_backoff = Some(GOOD)), None);
    let refused = |field: &str, part: &str, backoff: RetryBackoff| {
        assert_refused(field, part, |job| job.retry_backoff = Some(backoff.clone()));
    };
    refused("retry_backoff.first_ms", "0 is not", RetryBackoff { first_ms: 0, ..GOOD });
    refused("retry_backoff.max_ms", "999 is not", RetryBackoff { max_ms: 999, ..GOOD });
    refused("retry_backoff.max_ms", "is not", RetryBackoff { max_ms: u64::MAX, ..GOOD });
    refused("retry_backoff.factor_percent", "100", RetryBackoff { factor_percent: 99, ..GOOD });
    refused("retry_backoff.jitter_percent", "100", RetryBackoff { jitter_percent: 101, ..GOOD });
    assert_refused("retry_backoff", "retry_delays_ms", |job| {
        (job.retry_backoff, job.retry_delays_ms) = (Some(GOOD), vec![1]);
    });
}

#[test]
fn retry_if_names_failures_and_agrees_with_on_lost() {
    use Outcome::{Failed, Lost, NoClient, TimedOut};
    let set = |outcomes: &[Outcome], on_lost| {
        let outcomes = outcomes.to_vec();
        move |job: &mut Job| (job.retry_if, job.on_lost) = (outcomes.clone(), on_lost)
    };
    for (outcomes, on_lost) in [
        (&[Failed][..], OnLost::Fail),
        (&[Failed, TimedOut], OnLost::Fail),
        (&[TimedOut, Lost], OnLost::Retry),
        (&[], OnLost::Retry),
    ] {
        assert_eq!(refusal(set(outcomes, on_lost)), None, "{outcomes:?} {on_lost:?}");
    }
    assert_refused("retry_if", "no_client is never", set(&[Failed, NoClient], OnLost::Fail));
    assert_refused("retry_if", "on_lost = retry as well", set(&[Lost], OnLost::Fail));
    assert_refused("retry_if", "must name lost", set(&[Failed], OnLost::Retry));
}

#[test]
fn a_timeout_has_bounds() {
    assert_eq!(refusal(|job| job.timeout_ms = Some(100)), None);
    assert_refused("timeout_ms", "99 is not", |job| job.timeout_ms = Some(99));
    assert_refused("timeout_ms", "is not", |job| job.timeout_ms = Some(u64::MAX));
}

#[test]
fn parameters_of_shards_are_for_broadcasts_and_have_bounds() {
    let set = |text: &str, routing| {
        let params: forest_proto::record::ShardParams = text.parse().expect("reads");
        move |job: &mut Job| (job.shard_params, job.routing) = (params.clone(), routing)
    };
    assert_eq!(refusal(set("0=Beijing,499=Shanghai", Routing::Broadcast)), None);
    assert_eq!(refusal(set("", Routing::Broadcast)), None);
    assert_refused("shard_params", "routing broadcast only", set("0=Beijing", Routing::First));
    assert_refused("shard_params", "500 is not the index", set("500=Beijing", Routing::Broadcast));
    let long = format!("0={}", "x".repeat(MAX_SHARD_PARAMS + 1));
    assert_refused("shard_params", "16385 bytes", set(&long, Routing::Broadcast));
}
