//! Runs a plan: one thread, virtual time, every random choice from the seed.

use std::collections::BTreeMap;
use std::time::Duration;

use forest_proto::Keyspace;
use forest_server::config::{self, Config, Task};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::act::{self, JobIds, Made};
use crate::checker::{Terms, Violation, check};
use crate::clock::MachineClock;
use crate::database::Database;
use crate::etcd::Cluster;
use crate::machine::{Machine, Role, Site};
use crate::mutant::Defect;
use crate::network::{Network, Peer, Trouble};
use crate::plan::{Act, DatabaseTrouble, Event, Fault, GROUPS, LEADER, MachineId, Plan};
use crate::record::{Entry, Record};

/// After dropped messages only a full listing finds what is missing: so often nodes and workers make one.
const NODE_AUDIT: Duration = Duration::from_secs(20);
const AUDITS: Duration = Duration::from_secs(75);
const TRY_AGAIN: Duration = Duration::from_millis(100);

/// What came of a plan.
pub struct Outcome {
    pub entries: Vec<Entry>,
    pub violations: Vec<Violation>,
    /// Virtual time that it took, in milliseconds.
    pub simulated_ms: u64,
    /// Requests and streams over the network.
    pub messages: u64,
}

/// Runs a plan to its end, and checks what happened.
#[must_use]
pub fn run(plan: &Plan, defect: Option<Defect>) -> Outcome {
    let runtime = runtime(plan.seed);
    fastrand::seed(plan.seed);
    let (entries, messages, ends_at) = runtime.block_on(simulate(plan, defect));
    // Whatever still runs ends here, unfinished.
    drop(runtime);
    let violations = check(&entries, Terms::of(plan, Some(ends_at)));
    Outcome { entries, violations, simulated_ms: ends_at, messages }
}

#[cfg(tokio_unstable)]
fn runtime(seed: u64) -> tokio::runtime::Runtime {
    let seed = tokio::runtime::RngSeed::from_bytes(&seed.to_le_bytes());
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let built = builder.enable_time().start_paused(true).rng_seed(seed).build();
    built.unwrap_or_else(|error| panic!("no runtime: {error}"))
}

/// Without tokio's own seed, what several waiters of one signal do first is not repeated by the seed.
#[cfg(not(tokio_unstable))]
fn runtime(_: u64) -> tokio::runtime::Runtime {
    let built = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    built.unwrap_or_else(|error| panic!("no runtime: {error}"))
}

async fn simulate(plan: &Plan, defect: Option<Defect>) -> (Vec<Entry>, u64, u64) {
    let origin = Instant::now();
    crate::clock::begin(origin);
    let mut world = World::new(plan, defect, origin);
    world.services.spawn(world.site.cluster.clone().run());
    world.begin(plan.group_limit).await;
    for (at, number, step) in steps(plan) {
        world.until(origin + Duration::from_millis(at)).await;
        world.take(number, step);
    }
    let calm = origin + Duration::from_millis(plan.calm_at);
    world.until(calm).await;
    world.calm(plan);
    let settle = plan.settle() + if plan.drops_events() { AUDITS } else { Duration::ZERO };
    world.until(calm + settle).await;
    let ends_at = crate::clock::elapsed_ms(origin);
    (world.site.record.take(), world.site.network.messages(), ends_at)
}

/// A part of an event: most faults begin and end.
#[derive(Debug, Clone)]
enum Step {
    Act(usize, Act),
    Kill(MachineId),
    Stop(MachineId),
    Start(MachineId),
    Freeze(MachineId),
    Thaw(MachineId),
    Link(MachineId, Peer, Trouble),
    Database(Option<DatabaseTrouble>),
    Clock(MachineId, i64),
    Compact,
    Storm(Trouble),
    ExpireLease(MachineId),
    ForgetAnswers,
    Drop(MachineId, u32),
    Double(MachineId, u32),
}

impl Step {
    fn machine(&mut self) -> Option<&mut MachineId> {
        match self {
            Self::Kill(machine) | Self::Stop(machine) | Self::Start(machine) => Some(machine),
            Self::Freeze(machine) | Self::Thaw(machine) | Self::ExpireLease(machine) => Some(machine),
            Self::Link(machine, ..) | Self::Clock(machine, _) => Some(machine),
            Self::Drop(machine, _) | Self::Double(machine, _) => Some(machine),
            Self::Act(..) | Self::Storm(_) | Self::Database(_) | Self::Compact | Self::ForgetAnswers => None,
        }
    }
}

/// The plan's events in order, those that last with their ends; and of which event each is a part.
fn steps(plan: &Plan) -> Vec<(u64, usize, Step)> {
    let mut steps = Vec::new();
    let mut jobs = 0;
    for (number, (at, event)) in plan.events.iter().enumerate() {
        let (first, then) = match event {
            Event::Act(act) => {
                let job = jobs;
                jobs += usize::from(matches!(act, Act::Add { .. }));
                (Step::Act(job, act.clone()), None)
            }
            Event::Fault(fault) => parts(fault),
        };
        steps.push((*at, number, first));
        steps.extend(then.map(|(after_ms, step)| (at + after_ms, number, step)));
    }
    steps.retain(|(at, ..)| *at < plan.calm_at);
    steps.sort_by_key(|(at, ..)| *at);
    steps
}

/// How a fault begins, and after how many milliseconds it ends, and how.
fn parts(fault: &Fault) -> (Step, Option<(u64, Step)>) {
    match *fault {
        Fault::Crash { machine, down_ms } => (Step::Kill(machine), Some((down_ms, Step::Start(machine)))),
        Fault::Restart { machine, down_ms } => (Step::Stop(machine), Some((down_ms, Step::Start(machine)))),
        Fault::Freeze { machine, for_ms } => (Step::Freeze(machine), Some((for_ms, Step::Thaw(machine)))),
        Fault::Link { machine, peer, trouble, for_ms } => {
            let whole = Step::Link(machine, peer, Trouble::default());
            (Step::Link(machine, peer, trouble), Some((for_ms, whole)))
        }
        Fault::Storm { trouble, for_ms } => {
            (Step::Storm(trouble), Some((for_ms, Step::Storm(Trouble::default()))))
        }
        Fault::Database { trouble, for_ms } => {
            (Step::Database(Some(trouble)), Some((for_ms, Step::Database(None))))
        }
        Fault::Clock { machine, off_ms } => (Step::Clock(machine, off_ms), None),
        Fault::Compact => (Step::Compact, None),
        Fault::ExpireLease { machine } => (Step::ExpireLease(machine), None),
        Fault::ForgetAnswers => (Step::ForgetAnswers, None),
        Fault::DropEvents { machine, messages } => (Step::Drop(machine, messages), None),
        Fault::DoubleEvents { machine, messages } => (Step::Double(machine, messages), None),
    }
}

struct World {
    site: Site,
    machines: Vec<Machine>,
    nodes: usize,
    jobs: JobIds,
    /// Which machine an event is about that is about the leader.
    meant: BTreeMap<usize, MachineId>,
    calls: JoinSet<Made>,
    services: JoinSet<()>,
}

impl World {
    fn new(plan: &Plan, defect: Option<Defect>, origin: Instant) -> Self {
        let record = Record::new(origin);
        let network = Network::new(plan.seed ^ 0x5eed, plan.calm_at);
        let cluster = Cluster::new(network.clone(), record.clone(), defect);
        let database = Database::new(record.clone());
        let site = Site { cluster, database, network, record, defect };
        let config = node_config(plan);
        let nodes = (0..plan.nodes).map(|_| Role::Node(Box::new(config.clone())));
        let workers = plan.workers.iter().map(|worker| Role::Worker(worker.clone(), plan.lease_ttl));
        let machine = |(id, role)| Machine::new(id, MachineClock::new(origin, plan.clocks_off_ms[id]), role);
        let machines = nodes.chain(workers).enumerate().map(machine).collect();
        Self {
            site,
            machines,
            nodes: plan.nodes,
            jobs: JobIds::new(),
            meant: BTreeMap::new(),
            calls: JoinSet::new(),
            services: JoinSet::new(),
        }
    }

    /// Starts everything, and adds the groups.
    async fn begin(&mut self, group_limit: Option<u32>) {
        for machine in &mut self.machines {
            machine.start(&self.site);
        }
        for (group, limit) in [(GROUPS[0], None), (GROUPS[1], group_limit)] {
            loop {
                tokio::time::sleep(TRY_AGAIN).await;
                let Some(api) = self.machines[0].api() else { continue };
                let name = self.machines[0].name();
                act::make(act::Call::AddGroup(group, limit), api, name, self.site.record.clone()).await;
                break;
            }
        }
    }

    /// Waits, and hears what came of the calls meanwhile.
    async fn until(&mut self, until: Instant) {
        loop {
            tokio::select! {
                biased;
                Some(made) = self.calls.join_next() => {
                    if let Ok(Some((number, id))) = made {
                        self.jobs.insert(number, id);
                    }
                }
                () = sleep_until(until) => return,
            }
        }
    }

    /// The machine that an event is about; of one about the leader, the one that led when it began.
    fn meant(&mut self, event: usize, machine: MachineId) -> Option<MachineId> {
        if machine != LEADER {
            return Some(machine);
        }
        if !self.meant.contains_key(&event) {
            let leader = self.site.cluster.list(&Keyspace::default().leader());
            let name = leader.first().map(|kv| String::from_utf8_lossy(&kv.value).into_owned())?;
            let leads = |machine: &&Machine| name.starts_with(&format!("{}-", machine.name()));
            let leader = self.machines[..self.nodes].iter().find(leads)?.id;
            self.meant.insert(event, leader);
        }
        self.meant.get(&event).copied()
    }

    fn take(&mut self, event: usize, mut step: Step) {
        if let Some(machine) = step.machine().map(|machine| *machine) {
            let Some(meant) = self.meant(event, machine) else { return };
            step.machine().into_iter().for_each(|machine| *machine = meant);
        }
        let Site { cluster, database, network, record, .. } = &self.site;
        match &step {
            Step::Act(..) => {}
            step => record.tell(format!("{step:?}")),
        }
        match step {
            Step::Act(number, act) => self.act(number, &act),
            Step::Kill(machine) => self.machines[machine].kill(),
            Step::Stop(machine) => self.machines[machine].stop(),
            Step::Start(machine) => self.machines[machine].start(&self.site),
            Step::Freeze(machine) => self.machines[machine].freeze(),
            Step::Thaw(machine) => self.machines[machine].thaw(),
            Step::Link(machine, peer, trouble) => network.set((machine, peer), trouble),
            Step::Storm(trouble) => {
                self.machines.iter().for_each(|machine| network.set((machine.id, Peer::Etcd), trouble));
            }
            Step::Database(trouble) => database.set(trouble),
            Step::Clock(machine, off_ms) => self.machines[machine].clock.set_off(off_ms),
            Step::Compact => cluster.compact(),
            Step::ExpireLease(machine) => {
                let name = self.machines[machine].name();
                cluster.revoke("/forest/", &[format!("/node/{name}-"), format!("/clients/{name}-")]);
            }
            Step::ForgetAnswers => cluster.revoke("/forest/server/answer/", &["/answer/".into()]),
            Step::Drop(machine, messages) => cluster.drop_events(machine, messages),
            Step::Double(machine, messages) => cluster.double_events(machine, messages),
        }
    }

    /// Asks a node that answers, if there is one.
    fn act(&mut self, number: usize, act: &Act) {
        let Some(call) = act::call(act, number, &self.jobs, &self.site.cluster) else { return };
        let first = fastrand::usize(..self.nodes);
        let nodes = self.machines[..self.nodes].iter().cycle().skip(first).take(self.nodes);
        let Some((node, api)) = nodes.filter_map(|node| Some((node.name(), node.api()?))).next() else {
            return;
        };
        self.calls.spawn(act::make(call, api, node, self.site.record.clone()));
    }

    /// The faults are over: whatever was wrong is right again, and whatever was down comes up.
    fn calm(&mut self, plan: &Plan) {
        self.site.record.tell("all faults are over");
        self.site.network.heal();
        self.site.database.set(None);
        self.site.cluster.spoil_nothing();
        for machine in &mut self.machines {
            machine.clock.set_off(plan.clocks_off_ms[machine.id]);
            machine.thaw();
            // What should have stopped long ago would do so now, and nobody would start it again.
            if machine.is_stopping() {
                machine.kill();
            }
            machine.start(&self.site);
        }
    }
}

/// What the command line would give, but for what no command line can say.
fn node_config(plan: &Plan) -> Config {
    let ttl = format!("{}s", plan.lease_ttl.as_secs());
    let segments = plan.segments.to_string();
    let args = [
        ["--db-url", "sqlite:///simulated"],
        ["--lease-ttl", &ttl],
        ["--segments", &segments],
        ["--lost-grace", "2s"],
        ["--shutdown-grace", "2s"],
    ];
    let words = std::iter::once("forest-server").chain(args.into_iter().flatten());
    let task = config::load(words.map(Into::into), &|_| None);
    let Task::Serve(config) = task else { panic!("the simulation's configuration is refused: {task:?}") };
    Config { view_audit: NODE_AUDIT, ..*config }
}
