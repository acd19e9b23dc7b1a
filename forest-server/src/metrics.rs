//! What a node tells Prometheus: names, units and what they mean. Listed in ADMINISTRATION.md, which a test compares.
//!
//! What happens is counted where it happens, through the functions here; what there is at the moment is asked for when
//! somebody scrapes. No metric has the name of a job or a run as a label.

use std::sync::OnceLock;
use std::time::Duration;

use forest_proto::record::{Execution, Origin, Outcome};
use forest_proto::time::Instant;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;

use crate::admin::ClusterSummary;
use crate::core::view::Now;

/// Every metric with what it means.
pub(crate) const METRICS: &[(&str, &str)] = &[
    ("forest_dispatch_lag_seconds", "histogram: from a fire's time to the commit of its decision"),
    (
        "forest_start_delay_seconds",
        "histogram: from a fire's time to the start of its handler, of first attempts",
    ),
    ("forest_run_seconds", "histogram by `outcome`: how long handlers took"),
    ("forest_runs_collected_total", "counter by `outcome`: runs brought into the history"),
    ("forest_history_save_seconds", "histogram: saving one batch of runs"),
    ("forest_history_save_failures_total", "counter: batches that were not saved and are tried again"),
    (
        "forest_etcd_request_seconds",
        "histogram by `result` (`ok`, `refused`, `lost`, `unsent`): one call to etcd",
    ),
    ("forest_history_available", "gauge: 1 while the history database answers"),
    (
        "forest_requests_total",
        "counter by `face` (`grpc`, `http`), `call` (a method, or a method and the form of a path) and `status`: answers",
    ),
    ("forest_request_seconds", "histogram by `face` and `call`: until the answer began"),
    ("forest_is_leader", "gauge: 1 on the node that leads"),
    ("forest_term", "gauge: number of the current term; 0 without a leader"),
    ("forest_view_revision", "gauge: everything that etcd had at this revision is in the node's view"),
    ("forest_watch_age_seconds", "gauge: how long nothing was heard from etcd; usually below 5"),
    ("forest_jobs", "gauge by `state` (`enabled`, `disabled`)"),
    ("forest_runs", "gauge by `state` (`delayed`, `pending`, `queued`, `running`, `uncollected`)"),
    ("forest_oldest_pending_seconds", "gauge: how long the oldest run has waited for a client"),
    ("forest_workers", "gauge: registered clients"),
    ("forest_groups", "gauge: groups"),
    ("forest_groups_without_client", "gauge: groups in which runs wait and no client is registered"),
    ("forest_quarantined_keys", "gauge: keys that cannot be understood and are left alone"),
    ("forest_dispatch_held", "gauge: 1 while dispatch waits because the wall clock was set"),
    ("forest_clock_skew_seconds", "gauge: the largest difference to another node's clock"),
];

const SECONDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];
/// Samples are folded into buckets so often, whether anybody scrapes or not.
const UPKEEP: Duration = Duration::from_secs(5);

static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Begins to record, once for the process. `None`: somebody else records already.
pub(crate) fn install() -> Option<PrometheusHandle> {
    let install = || {
        let builder = PrometheusBuilder::new();
        let builder = builder.set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS).ok()?;
        let handle = builder.install_recorder().ok()?;
        for (name, meaning) in METRICS {
            match meaning.split([':', ' ']).next() {
                Some("histogram") => metrics::describe_histogram!(*name, metrics::Unit::Seconds, *meaning),
                Some("counter") => metrics::describe_counter!(*name, *meaning),
                _ => metrics::describe_gauge!(*name, *meaning),
            }
        }
        Some(handle)
    };
    RECORDER.get_or_init(install).clone()
}

/// Keeps the samples that nobody has scraped from growing.
pub(crate) async fn upkeep(handle: PrometheusHandle, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(UPKEEP) => handle.run_upkeep(),
        }
    }
}

pub(crate) fn dispatched(fires: impl Iterator<Item = i64>, now: Now) {
    let lag = metrics::histogram!("forest_dispatch_lag_seconds");
    for fire_ms in fires {
        lag.record(Duration::from_millis(u64::try_from(now.wall_ms - fire_ms).unwrap_or(0)));
    }
}

/// What is told of a run whose result is read.
pub(crate) struct Took {
    outcome: &'static str,
    start_delay: Option<Duration>,
    run: Option<Duration>,
}

impl Took {
    pub(crate) fn of(execution: &Execution) -> Self {
        let snapshot = &execution.snapshot;
        let of_clock =
            snapshot.origin == Origin::Schedule && snapshot.attempt == 1 && snapshot.shard.is_none();
        let delay = |at: Instant| u64::try_from(at.as_ms() - snapshot.scheduled_at.as_ms()).unwrap_or(0);
        Self {
            outcome: execution.outcome.map_or("", Outcome::as_str),
            start_delay: execution.started_at.filter(|_| of_clock).map(|at| Duration::from_millis(delay(at))),
            run: execution.started_at.map(|_| Duration::from_millis(execution.duration_ms)),
        }
    }
}

pub(crate) fn ran(runs: Vec<Took>) {
    for took in runs {
        if let Some(delay) = took.start_delay {
            metrics::histogram!("forest_start_delay_seconds").record(delay);
        }
        if let Some(run) = took.run {
            metrics::histogram!("forest_run_seconds", "outcome" => took.outcome).record(run);
        }
    }
}

pub(crate) fn collected(outcomes: impl Iterator<Item = &'static str>) {
    outcomes.for_each(|outcome| {
        metrics::counter!("forest_runs_collected_total", "outcome" => outcome).increment(1)
    });
}

pub(crate) fn saved(took: Duration, ok: bool) {
    metrics::histogram!("forest_history_save_seconds").record(took);
    if !ok {
        metrics::counter!("forest_history_save_failures_total").increment(1);
    }
}

/// `call` is one of a limited number: no caller can make up new ones.
pub(crate) fn answered(face: &'static str, call: String, status: String, took: Duration) {
    metrics::counter!("forest_requests_total", "face" => face, "call" => call.clone(), "status" => status)
        .increment(1);
    metrics::histogram!("forest_request_seconds", "face" => face, "call" => call).record(took);
}

/// What there is at the moment.
pub(crate) fn observe(cluster: &ClusterSummary, revision: i64) {
    let count = |number: usize| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
    let flag = |truth: bool| f64::from(u8::from(truth));
    let leader = cluster.leader.as_ref();
    metrics::gauge!("forest_is_leader").set(flag(leader.is_some_and(|(node, _)| *node == cluster.node)));
    metrics::gauge!("forest_term").set(leader.map_or(0, |(_, term)| *term) as f64);
    metrics::gauge!("forest_view_revision").set(revision as f64);
    let disabled = cluster.jobs.saturating_sub(cluster.enabled_jobs);
    metrics::gauge!("forest_jobs", "state" => "enabled").set(count(cluster.enabled_jobs));
    metrics::gauge!("forest_jobs", "state" => "disabled").set(count(disabled));
    let runs = [
        ("delayed", cluster.delayed),
        ("pending", cluster.pending),
        ("queued", cluster.queued),
        ("running", cluster.running),
        ("uncollected", cluster.uncollected),
    ];
    for (state, number) in runs {
        metrics::gauge!("forest_runs", "state" => state).set(count(number));
    }
    metrics::gauge!("forest_oldest_pending_seconds").set(cluster.oldest_pending_ms as f64 / 1e3);
    metrics::gauge!("forest_workers").set(count(cluster.clients));
    metrics::gauge!("forest_groups").set(count(cluster.groups));
    metrics::gauge!("forest_groups_without_client").set(count(cluster.groups_without_client));
    metrics::gauge!("forest_history_available").set(flag(cluster.history_available));
    metrics::gauge!("forest_watch_age_seconds").set(cluster.watch_age.as_secs_f64());
    metrics::gauge!("forest_quarantined_keys").set(count(cluster.quarantined));
    metrics::gauge!("forest_dispatch_held").set(flag(cluster.held));
    metrics::gauge!("forest_clock_skew_seconds").set(cluster.max_skew_ms as f64 / 1e3);
}

#[cfg(test)]
mod tests;
