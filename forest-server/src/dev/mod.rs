//! `forest-server dev`: a whole Forest in one process, **for development only**. A node, an etcd in this process that
//! others reach over a loopback port, the history in SQLite, and a worker with sample jobs.
//!
//! The only part of the server that knows a worker or the embedded etcd. Node and worker are the real ones and
//! talk to the etcd in memory; nothing here takes part in scheduling.
//!
//! Invariants:
//! * Everything listens on loopback addresses.
//! * The end is in order and bounded: the worker writes its last results, then the node, the etcd last.
//! * Sample jobs are created with their group, once: what somebody changes or deletes stays so.

mod follow;
mod home;
mod port;
mod samples;
mod screen;

use std::convert::Infallible;
use std::time::Duration;

use anyhow::Context;
use embedded_etcd::{Etcd, TokioClock};
use forest_client::Worker;
use forest_etcd::{Clock, EtcdConfig, SystemClock, Tasks, Transport};
use forest_proto::admin::v1::admin_client::AdminClient;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::config::dev::DevConfig;
use crate::grpc::{AdminApi, AdminServer};
use crate::node::{Node, Surroundings};
use crate::store::History;
use home::Home;
use port::Port;
use screen::Screen;

const API_PORT: u16 = 2856;
const ETCD_PORT: u16 = 2379;
const DB_CONNECTIONS: u32 = 4;
/// A process that was killed leads no longer than this after its restart.
const LEASE_TTL: &str = "2s";
/// How long each part may take to end. Together less than what people wait for after Ctrl-C.
const WORKER_GRACE: Duration = Duration::from_millis(900);
const NODE_GRACE: Duration = Duration::from_millis(700);
const ETCD_GRACE: Duration = Duration::from_millis(200);

/// Within the worker's: until handlers are asked to stop, and from then until they are dropped.
const DRAIN_GRACE: Duration = Duration::from_millis(200);
const HANDLER_GRACE: Duration = Duration::from_millis(500);
/// Within the node's: for its duties. The rest is for its lease.
const DUTIES_GRACE: &str = "400ms";

/// The API, called in memory.
type Api = AdminClient<AdminServer<AdminApi>>;

/// Runs everything until the shutdown.
pub async fn run(config: DevConfig, shutdown: CancellationToken) -> anyhow::Result<()> {
    let screen = Screen::from_environment();
    let home = Home::new(config.data.as_deref())?;
    let etcd = if home.is_temporary() {
        Etcd::new(TokioClock::shared())
    } else {
        Etcd::open(home.etcd_file(), TokioClock::shared()).context("--data")?
    };
    let api = Port::open(config.listen, API_PORT, "--listen").await?;
    let etcd_port = Port::open(config.etcd_listen, ETCD_PORT, "--etcd-listen").await?;
    let (api_place, etcd_place) = (api.place, etcd_port.place);

    let mut parts = Parts::default();
    let in_process = EtcdConfig::in_process(Transport::new(etcd.routes()));
    parts.start_etcd(etcd, etcd_port);
    let admin = parts.start_node(in_process.clone(), &home, api).await?;
    let worker = samples::worker(in_process, api_place, home.path(), screen, shutdown.clone())?;
    parts.start_worker(worker, shutdown.clone());
    screen.welcome(api_place, etcd_place, &home);
    let presented = present(admin, screen);
    let ended = tokio::select! {
        biased;
        () = shutdown.cancelled() => Ok(()),
        ended = parts.failed() => ended,
        never = presented => match never {},
    };
    shutdown.cancel();
    parts.end().await;
    screen.farewell(&home);
    ended
}

/// Creates the samples if need be, then tells of every run that ends. Goes on for ever.
async fn present(mut api: Api, screen: Screen) -> Infallible {
    let since_ms = SystemClock.wall_ms();
    if let Err(error) = samples::begin(&mut api).await {
        tracing::warn!(error = format!("{error:#}"), "the sample jobs cannot be started; all else works");
    }
    follow::follow(api, screen, since_ms).await
}

type Part = (&'static str, anyhow::Result<()>);

/// What runs, by the order of its end.
#[derive(Default)]
struct Parts {
    worker: Tasks<Part>,
    node: Tasks<Part>,
    etcd: Tasks<Part>,
    stop_node: CancellationToken,
    stop_etcd: CancellationToken,
}

impl Parts {
    fn start_etcd(&mut self, etcd: Etcd, port: Port) {
        let (keeper, token) = (etcd.clone(), self.stop_etcd.clone());
        self.etcd.spawn(async move {
            keeper.run(token).await;
            ("etcd", Ok(()))
        });
        let token = self.stop_etcd.clone();
        self.etcd.spawn(async move { ("etcd", etcd.serve(port.listener, token).await.map_err(Into::into)) });
    }

    async fn start_node(&mut self, etcd: EtcdConfig, home: &Home, port: Port) -> anyhow::Result<Api> {
        let settings = [
            ("db_url", home.db_url()?),
            ("listen", port.place.address.to_string()),
            ("lease_ttl", LEASE_TTL.to_owned()),
            ("node_name", "dev".to_owned()),
            ("shutdown_grace", DUTIES_GRACE.to_owned()),
        ];
        let config = Config::with(&settings).map_err(anyhow::Error::msg)?;
        let config = Config { etcd, ..config };
        let history = History::connect(&config.db_url, DB_CONNECTIONS)?;
        let surroundings =
            Surroundings { address: port.place.address.to_string(), clock: SystemClock::shared(), history };
        let node = Node::start(config, surroundings, self.stop_node.clone()).await?;
        let mut node = node.context("the node was stopped before it began")?;
        let api = AdminClient::new(node.api());
        node.serve(port.listener, None);
        self.node.spawn(async move { ("node", node.run().await) });
        Ok(api)
    }

    fn start_worker(&mut self, worker: Worker, shutdown: CancellationToken) {
        self.worker.spawn(async move { ("worker", worker.run_until(shutdown).await.map_err(Into::into)) });
    }

    /// Waits for a part that ends although nobody asked it to.
    async fn failed(&mut self) -> anyhow::Result<()> {
        let ended = tokio::select! {
            Some(ended) = self.etcd.join_next() => ended,
            Some(ended) = self.node.join_next() => ended,
            Some(ended) = self.worker.join_next() => ended,
        };
        let (name, result) = ended.context("a part panicked")?;
        result.with_context(|| format!("the {name} failed"))?;
        anyhow::bail!("the {name} ended by itself")
    }

    /// Ends everything in order. The worker has been asked to end already.
    async fn end(mut self) {
        drained(&mut self.worker, WORKER_GRACE).await;
        self.stop_node.cancel();
        drained(&mut self.node, NODE_GRACE).await;
        self.stop_etcd.cancel();
        // Its streams to other processes never end by themselves; what is left is dropped with the tasks.
        drained(&mut self.etcd, ETCD_GRACE).await;
    }
}

async fn drained(tasks: &mut Tasks<Part>, within: Duration) {
    let all = async {
        while let Some(ended) = tasks.join_next().await {
            match ended {
                Ok((_, Ok(()))) => {}
                Ok((name, Err(error))) => tracing::warn!(name, error = format!("{error:#}"), "ended badly"),
                Err(error) => tracing::warn!(%error, "ended badly"),
            }
        }
    };
    if tokio::time::timeout(within, all).await.is_err() {
        tracing::info!(?within, "did not end in time and is dropped");
    }
}
