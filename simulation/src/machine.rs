//! Machines and the processes on them: one after the other, each a node or a worker as it runs in production.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use forest_client::{JobContext, Worker};
use forest_etcd::{EtcdConfig, Process, Store};
use forest_proto::Keyspace;
use forest_proto::admin::v1::admin_client::AdminClient;
use forest_server::config::Config;
use forest_server::node::{Node, Surroundings};
use forest_server::store::History;
use forest_server::{AdminApi, AdminServer};
use futures_util::FutureExt;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::clock::MachineClock;
use crate::database::{Database, Way};
use crate::etcd::Cluster;
use crate::foreign::Foreign;
use crate::mutant::Defect;
use crate::network::Network;
use crate::plan::{MachineId, Manner, WorkerPlan};
use crate::record::{Happened, Kind, Record, Writer};

/// A way to ask a node.
pub type Api = AdminClient<AdminServer<AdminApi>>;

/// What machines have in common.
#[derive(Clone)]
pub struct Site {
    pub cluster: Cluster,
    pub database: Database,
    pub network: Network,
    pub record: Record,
    pub defect: Option<Defect>,
}

#[derive(Clone)]
pub enum Role {
    Node(Box<Config>),
    Worker(WorkerPlan, Duration),
}

pub struct Machine {
    pub id: MachineId,
    pub clock: Arc<MachineClock>,
    role: Role,
    lives: u32,
    running: Option<Running>,
}

struct Running {
    process: Process,
    shutdown: CancellationToken,
    /// Dropped with the rest, which ends it.
    main: JoinSet<()>,
    handle: AbortHandle,
    api: Arc<Mutex<Option<Api>>>,
}

impl Machine {
    #[must_use]
    pub fn new(id: MachineId, clock: Arc<MachineClock>, role: Role) -> Self {
        Self { id, clock, role, lives: 0, running: None }
    }

    #[must_use]
    pub fn name(&self) -> String {
        match &self.role {
            Role::Node(_) => format!("node-{}", self.id),
            Role::Worker(..) => format!("worker-{}", self.id),
        }
    }

    /// Starts its process, unless one runs.
    pub fn start(&mut self, site: &Site) {
        if self.running.as_ref().is_some_and(|running| !running.handle.is_finished()) {
            return;
        }
        self.lives += 1;
        let kind = match &self.role {
            Role::Node(_) => Kind::Node,
            Role::Worker(plan, _) if plan.manner == Manner::Hasty => Kind::HastyWorker,
            Role::Worker(..) => Kind::Worker,
        };
        let writer = Writer { machine: self.id, life: self.lives, kind };
        let (process, shutdown, api) = (Process::default(), CancellationToken::new(), Arc::default());
        let begin = Begin {
            site: site.clone(),
            writer,
            name: self.name(),
            clock: Arc::clone(&self.clock),
            shutdown: shutdown.clone(),
            api: Arc::clone(&api),
        };
        let (role, inside) = (self.role.clone(), process.clone());
        let mut main = JoinSet::new();
        let handle = main.spawn(async move { inside.run(begin.main(role)).await });
        self.running = Some(Running { process, shutdown, main, handle, api });
    }

    /// Ends the process without a word to it.
    pub fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            // So that nothing of it runs between now and its end.
            running.process.freeze();
            drop(running.main);
        }
    }

    pub fn stop(&self) {
        if let Some(running) = &self.running {
            running.shutdown.cancel();
        }
    }

    /// Whether its process was told to stop.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.shutdown.is_cancelled())
    }

    pub fn freeze(&self) {
        if let Some(running) = &self.running {
            running.process.freeze();
        }
    }

    pub fn thaw(&self) {
        if let Some(running) = &self.running {
            running.process.thaw();
        }
    }

    /// The API of its node, to be called as a part of its process; `None` if none answers.
    #[must_use]
    pub fn api(&self) -> Option<(Process, Api)> {
        let running = self.running.as_ref()?;
        let api = running.api.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        (!running.shutdown.is_cancelled()).then(|| (running.process.clone(), api))
    }
}

/// What a process begins with.
struct Begin {
    site: Site,
    writer: Writer,
    name: String,
    clock: Arc<MachineClock>,
    shutdown: CancellationToken,
    api: Arc<Mutex<Option<Api>>>,
}

impl Begin {
    async fn main(self, role: Role) {
        let (record, name, shutdown) = (self.site.record.clone(), self.name.clone(), self.shutdown.clone());
        let life = async move {
            match role {
                Role::Node(config) => self.node(*config).await,
                Role::Worker(plan, lease_ttl) if plan.manner != Manner::Ours => {
                    self.foreign(&plan, lease_ttl).await
                }
                Role::Worker(plan, lease_ttl) => self.worker(plan, lease_ttl).await,
            }
        };
        match AssertUnwindSafe(life).catch_unwind().await {
            Ok(Ok(())) if shutdown.is_cancelled() => record.tell(format!("{name} has stopped")),
            Ok(Ok(())) => record.add(Happened::Broke(format!("{name} ended by itself"))),
            Ok(Err(error)) => record.add(Happened::Broke(format!("{name} failed: {error:#}"))),
            Err(_) => record.add(Happened::Broke(format!("{name} panicked"))),
        }
    }

    fn etcd(&self) -> EtcdConfig {
        EtcdConfig::in_process(self.site.cluster.way(self.writer))
    }

    async fn node(self, mut config: Config) -> anyhow::Result<()> {
        config.etcd = self.etcd();
        config.node_name.clone_from(&self.name);
        let Site { database, network, defect, .. } = self.site;
        let early = defect == Some(Defect::DeleteBeforeSave);
        let archive = Way::new(database, network, self.writer.machine, early);
        let surroundings = Surroundings {
            address: self.name,
            clock: self.clock,
            history: History::archive(Arc::new(archive)),
        };
        let Some(node) = Node::start(config, surroundings, self.shutdown).await? else { return Ok(()) };
        *self.api.lock().unwrap_or_else(PoisonError::into_inner) = Some(AdminClient::new(node.api()));
        node.run().await
    }

    async fn foreign(self, plan: &WorkerPlan, lease_ttl: Duration) -> anyhow::Result<()> {
        let etcd = self.etcd();
        let foreign = Foreign {
            group: plan.group.parse()?,
            client: format!("{}-foreign", self.name).parse()?,
            machine: self.writer.machine,
            clock: self.clock,
            record: self.site.record,
            keys: Keyspace::default(),
            store: Store::new(&etcd)?,
            is_hasty: plan.manner == Manner::Hasty,
        };
        foreign.run(&etcd, lease_ttl, self.shutdown).await
    }

    async fn worker(self, plan: WorkerPlan, lease_ttl: Duration) -> anyhow::Result<()> {
        let (record, machine) = (self.site.record.clone(), self.writer.machine);
        let work = move |ctx: JobContext, work: Work| handle(ctx, work, record.clone(), machine);
        let worker = Worker::builder(plan.group)
            .name(&self.name)
            .address(&self.name)
            .capacity(plan.capacity)
            .lease_ttl(lease_ttl)
            .drain_grace(Duration::from_secs(3))
            .kill_grace(Duration::from_secs(1))
            .stop_grace(Duration::from_secs(1))
            .etcd_config(self.etcd())
            .simulated(self.clock)
            .job("work", work)
            .build()?;
        Ok(worker.run_until(self.shutdown).await?)
    }
}

/// What a handler is to do, as its job's parameters say.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Work {
    pub takes_ms: u64,
    /// Of a hundred.
    pub fails: u8,
    pub listens: bool,
}

async fn handle(ctx: JobContext, work: Work, record: Record, machine: MachineId) -> Result<(), String> {
    let run = ctx.run_id().clone();
    let fencing_token = ctx.fencing_token();
    record.add(Happened::Started { machine, run: run.clone(), fencing_token });
    // Half of them say how far they are, so that what they say and how they end meet on the way to etcd.
    let speaks = fastrand::bool();
    if speaks {
        ctx.progress(1, "begun");
    }
    let takes = Duration::from_millis(fastrand::u64(..=work.takes_ms));
    let stopped = tokio::select! {
        biased;
        () = ctx.cancelled(), if work.listens => true,
        () = tokio::time::sleep(takes) => false,
    };
    if speaks {
        ctx.progress(99, "nearly done");
    }
    let failed = stopped || fastrand::u8(..100) < work.fails;
    record.add(Happened::Ended { machine, run, failed });
    if failed { Err("as planned".into()) } else { Ok(()) }
}
