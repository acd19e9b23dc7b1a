//! A node: the composition root. It makes every component, runs each as a named task, and ends them in
//! the order that costs the cluster least: duties first, then the leadership, the lease last.

mod bootstrap;
mod heartbeat;
mod meta;

use std::time::Duration;

use anyhow::Context;
use forest_etcd::{Backoff, KeyRange, Session, SharedClock, Store, SystemClock, Tasks, WatchConfig, Watcher};
use forest_proto::record::Node as NodeRecord;
use forest_proto::time::Instant;
use forest_proto::{NodeId, SegmentCount};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::access::{Caller, Gate, Oidc};
use crate::admin::Administration;
use crate::collect::{AuditCollector, Collector};
use crate::config::Config;
use crate::core::compose::Defaults;
use crate::grpc::{AdminApi, AdminServer};
use crate::http::{Web, counted};
use crate::port::{self, Tls};
use crate::scheduler::{Scheduler, SchedulerConfig};
use crate::store::History;
use crate::traces::Traces;
use heartbeat::Heartbeat;

/// Connections to the history database.
const DB_CONNECTIONS: u32 = 8;
/// Batches of changes that may wait for the scheduler.
const CHANGES: usize = 64;
/// How long the lease's own end may take; it ends by itself otherwise.
const REVOKE_GRACE: Duration = Duration::from_secs(2);

/// Runs a node until the shutdown.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let listener = TcpListener::bind(config.listen).await;
    let listener = listener.with_context(|| format!("listen: cannot listen on {}", config.listen))?;
    let address = config.advertised(listener.local_addr()?);
    // Read now, so that a wrong file is a failed start.
    let tls = config.tls.clone().map(Tls::new).transpose()?;
    let history = History::connect(&config.db_url, DB_CONNECTIONS)?;
    let surroundings = Surroundings { address, clock: SystemClock::shared(), history };
    let Some(mut node) = Node::start(config, surroundings, shutdown).await? else { return Ok(()) };
    node.serve(listener, tls);
    node.run().await
}

/// What a node finds where it runs.
pub struct Surroundings {
    /// Where others reach its API.
    pub address: String,
    pub clock: SharedClock,
    pub history: History,
}

/// A node at work.
pub struct Node {
    web: Web,
    traces: Traces,
    duties: Tasks<(&'static str, anyhow::Result<()>)>,
    lease: Tasks<anyhow::Result<()>>,
    release_lease: CancellationToken,
    shutdown: CancellationToken,
    shutdown_grace: Duration,
}

impl Node {
    /// Waits for etcd, then starts everything but the API. `None` if the shutdown came first.
    pub async fn start(
        config: Config,
        surroundings: Surroundings,
        shutdown: CancellationToken,
    ) -> anyhow::Result<Option<Self>> {
        let started_at = Instant::from_ms(surroundings.clock.wall_ms());
        let store = Store::new(&config.etcd)?;
        let segments = meta::settle(&store, &config.keyspace, config.segments, started_at, &shutdown).await?;
        let Some(segments) = segments else { return Ok(None) };
        let node = NodeId::new(format!("{}-{:08x}", config.node_name, fastrand::u32(..)))?;
        let (version, address) = (env!("CARGO_PKG_VERSION"), surroundings.address.clone());
        tracing::info!(%node, address, segments = segments.get(), version, "node started");
        let record = NodeRecord {
            name: node,
            address,
            version: version.into(),
            started_at,
            wall: started_at,
            log_level: config.log_level.clone(),
        };
        Self::assemble(&config, surroundings, store, segments, record, shutdown).map(Some)
    }

    fn assemble(
        config: &Config,
        surroundings: Surroundings,
        store: Store,
        segments: SegmentCount,
        record: NodeRecord,
        shutdown: CancellationToken,
    ) -> anyhow::Result<Self> {
        let Surroundings { clock, history, .. } = surroundings;
        let (session, lease) = Session::new(&config.etcd, config.lease_ttl, clock.clone())?;
        // The stream has a connection of its own: while a listing is read, calls are not to wait behind it.
        let changes = WatchConfig {
            buffer: CHANGES,
            relist_every: config.view_audit,
            ..WatchConfig::new(KeyRange::prefix(&config.keyspace.all()))
        };
        let (watcher, stream) = Watcher::new(Store::new(&config.etcd)?, changes);
        let zone_name = config.time_zone.iana_name().unwrap_or("UTC").to_owned();
        let traces = config.traces.as_ref().map(|traces| Traces::new(traces, &record.name));
        let traces = traces.transpose().context("otlp_endpoint")?.unwrap_or_default();
        let scheduling = scheduler_config(config, &record.name, segments, &zone_name, &traces);
        let (scheduler, handle) =
            Scheduler::new(scheduling, store.clone(), lease.clone(), clock.clone(), stream);
        let levels = handle.log_level.clone();
        let keys = config.keyspace.clone();
        let heartbeat = Heartbeat::new(store.clone(), lease, clock.clone(), &keys, record);
        let collector =
            Collector::new(store.clone(), handle.clone(), history.clone(), clock.clone(), traces.clone());
        let audits = AuditCollector::new(store.clone(), handle.clone(), history.clone(), keys.clone());
        let oidc = config.oidc.clone().map(|settings| Oidc::new(settings, clock.clone())).transpose()?;
        let gate = Gate::new(config.login, store.clone(), handle.clone(), keys.clone(), clock.clone());
        let admin = Administration::new(
            store,
            handle,
            history.clone(),
            clock,
            keys,
            zone_name,
            config.submissions_per_minute,
        );
        let admin = admin.with_traces(traces.clone());
        let web = Web {
            admin,
            gate,
            oidc,
            tls: config.tls.is_some(),
            legacy: config.legacy_api,
            legacy_ui: config.legacy_ui_dir.clone(),
            recorder: None,
        };

        let release_lease = CancellationToken::new();
        let mut last = Tasks::new();
        let released = release_lease.clone();
        last.spawn(async move { Ok(session.run(released).await?) });
        let mut duties = Tasks::new();
        let token = shutdown.clone();
        duties.spawn(async move { ("watch", watcher.run(token).await.map_err(Into::into)) });
        let token = shutdown.clone();
        duties.spawn(async move { ("scheduler", scheduler.run(token).await.map_err(Into::into)) });
        let token = shutdown.clone();
        duties.spawn(async move {
            heartbeat.run(token).await;
            ("heartbeat", Ok(()))
        });
        if crate::logging::can_change() {
            let (configured, token) = (config.log_level.clone(), shutdown.clone());
            duties.spawn(async move {
                crate::logging::follow(levels, &configured, &token).await;
                ("log level", Ok(()))
            });
        }
        let (token, zone) = (shutdown.clone(), config.time_zone.clone());
        duties.spawn(async move {
            if prepare(&history, &zone, &token).await {
                tokio::join!(collector.run(token.clone()), audits.run(token));
            }
            history.close().await;
            ("collector", Ok(()))
        });
        let shutdown_grace = config.shutdown_grace;
        Ok(Self { web, traces, duties, lease: last, release_lease, shutdown, shutdown_grace })
    }

    /// What the gRPC API answers with, for whoever has a way to call it.
    pub fn api(&self) -> AdminServer<AdminApi> {
        AdminServer::new(AdminApi::new(self.web.admin.clone(), self.web.gate.clone()))
    }

    /// Answers calls from this listener.
    pub(crate) fn serve(&mut self, listener: TcpListener, tls: Option<Tls>) {
        self.web.recorder = crate::metrics::install();
        if let Some(recorder) = self.web.recorder.clone() {
            let token = self.shutdown.clone();
            self.duties.spawn(async move {
                crate::metrics::upkeep(recorder, token).await;
                ("metrics", Ok(()))
            });
        }
        let http = counted("http", crate::http::router(self.web.clone()));
        let router = http.merge(counted("grpc", crate::grpc::router(self.api())));
        let token = self.shutdown.clone();
        self.duties.spawn(async move { ("api", port::serve(listener, tls, router, token).await) });
        if self.web.gate.login_is_on() {
            let (admin, token) = (self.web.admin.acting(Caller::server()), self.shutdown.clone());
            self.duties.spawn(async move {
                bootstrap::offer(admin, &token).await;
                token.cancelled().await;
                ("bootstrap", Ok(()))
            });
        }
    }

    /// Waits for the shutdown, or for a component that ends although it should not: then the node ends too,
    /// so that whoever supervises it starts it anew.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let ended = tokio::select! {
            biased;
            () = self.shutdown.cancelled() => Ok(()),
            Some(ended) = self.duties.join_next() => unexpected(ended),
            Some(ended) = self.lease.join_next() => unexpected(ended.map(|ended| ("lease", ended))),
        };
        self.shutdown.cancel();
        let finish = async { while self.duties.join_next().await.is_some() {} };
        if tokio::time::timeout(self.shutdown_grace, finish).await.is_err() {
            tracing::warn!(grace = ?self.shutdown_grace, "not everything ended within the shutdown grace");
        }
        self.release_lease.cancel();
        let _ = tokio::time::timeout(REVOKE_GRACE, self.lease.join_next()).await;
        self.traces.close().await;
        tracing::info!("node stopped");
        ended
    }
}

fn unexpected(
    ended: Result<(&'static str, anyhow::Result<()>), tokio::task::JoinError>,
) -> anyhow::Result<()> {
    let (name, result) = ended.context("a component panicked")?;
    result.with_context(|| format!("{name} failed"))?;
    anyhow::bail!("{name} ended although the node was not shutting down")
}

fn scheduler_config(
    config: &Config,
    node: &NodeId,
    segments: SegmentCount,
    zone_name: &str,
    traces: &Traces,
) -> SchedulerConfig {
    let ms = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    SchedulerConfig {
        node: node.clone(),
        keys: config.keyspace.clone(),
        segments,
        lease_ttl: config.lease_ttl,
        lost_grace: config.lost_grace,
        defaults: Defaults {
            misfire_threshold_ms: ms(config.misfire_threshold),
            start_deadline_ms: ms(config.start_deadline),
            zone_name: zone_name.to_owned(),
            zone: config.time_zone.clone(),
            trace_ratio: traces.ratio(),
        },
        traces: traces.clone(),
    }
}

/// Brings the history's table to this version's shape, however long the database is away.
async fn prepare(history: &History, zone: &jiff::tz::TimeZone, shutdown: &CancellationToken) -> bool {
    let mut backoff = Backoff::default();
    loop {
        let migrated = tokio::select! {
            biased;
            () = shutdown.cancelled() => return false,
            migrated = history.migrate(zone) => migrated,
        };
        match migrated {
            Ok(()) => {
                tracing::info!("the history database is ready");
                return true;
            }
            Err(error) => tracing::warn!(%error, "waiting for the history database; scheduling goes on"),
        }
        if !backoff.wait(shutdown).await {
            return false;
        }
    }
}
