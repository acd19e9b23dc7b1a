//! What a seed stands for: a cluster, its jobs, what people do, what goes wrong and when.
//!
//! A plan is plain data, worked out before anything runs. So a failing one can be run again with parts of it left
//! out, until only what matters is left.

use std::time::Duration;

use fastrand::Rng;
use forest_proto::JobId;
use forest_proto::record::{After, Condition, Misfire, Need, Overlap, Routing, Trigger, Within};

use crate::act::JobIds;
use crate::network::{Peer, Trouble};

mod chains;
mod operators;
mod stages;

pub use stages::Stage;

/// A machine: nodes come first, then workers.
pub type MachineId = usize;

/// In a fault: whichever machine leads at that time.
pub const LEADER: MachineId = usize::MAX;

/// Faults and what people do end here; then the cluster has [`Plan::settle`] to become quiet.
const BUSY_MS: u64 = 35_000;
/// The first seconds are left to the start.
const CALM_MS: u64 = 2_000;

#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    pub nodes: usize,
    pub workers: Vec<WorkerPlan>,
    pub segments: u16,
    /// How many runs of the second group may be at clients at once.
    pub group_limit: Option<u32>,
    /// Of the nodes' and the workers' leases.
    pub lease_ttl: Duration,
    /// How far each machine's wall clock is off.
    pub clocks_off_ms: Vec<i64>,
    /// Sorted by time.
    pub events: Vec<(u64, Event)>,
    /// When the faults end, in milliseconds.
    pub calm_at: u64,
}

#[derive(Debug, Clone)]
pub struct WorkerPlan {
    pub group: &'static str,
    pub capacity: u32,
    pub manner: Manner,
}

/// How a worker keeps to the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    Ours,
    /// One that uses the same id for every registration, as the original's do; see [`crate::foreign`].
    Foreign,
    /// One that besides writes its result over whatever there is.
    Hasty,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    Fault(Fault),
    Act(Act),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// The process is gone in the middle of anything, and starts anew after so long.
    Crash {
        machine: MachineId,
        down_ms: u64,
    },
    /// It is told to stop, and starts anew so long after that.
    Restart {
        machine: MachineId,
        down_ms: u64,
    },
    /// Nothing of it runs for so long, and then it goes on as if nothing had been.
    Freeze {
        machine: MachineId,
        for_ms: u64,
    },
    Link {
        machine: MachineId,
        peer: Peer,
        trouble: Trouble,
        for_ms: u64,
    },
    /// All links to etcd at once.
    Storm {
        trouble: Trouble,
        for_ms: u64,
    },
    /// The database takes rows and does not say so, refuses them, or hangs.
    Database {
        trouble: DatabaseTrouble,
        for_ms: u64,
    },
    Clock {
        machine: MachineId,
        off_ms: i64,
    },
    Compact,
    /// etcd ends the lease of a machine before its time.
    ExpireLease {
        machine: MachineId,
    },
    /// etcd ends the leases of what requests became, before their time. Who asks again then asks for something new;
    /// unless the request is still there.
    ForgetAnswers,
    /// The next messages of the machine's watches are lost although the streams go on.
    DropEvents {
        machine: MachineId,
        messages: u32,
    },
    /// The next messages of the machine's watches come twice.
    DoubleEvents {
        machine: MachineId,
        messages: u32,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseTrouble {
    Down,
    Hangs,
    /// Rows are taken and the answer is an error.
    AnswersLost,
}

/// What somebody asks a node to do. Jobs are counted in the order in which they are added.
#[derive(Debug, Clone, PartialEq)]
pub enum Act {
    Add {
        spec: JobSpec,
    },
    Edit {
        job: usize,
        spec: JobSpec,
    },
    Enable {
        job: usize,
        enabled: bool,
    },
    Delete {
        job: usize,
    },
    /// Asked with this idempotency key; the same key again is the same request.
    Run {
        job: usize,
        key: u64,
    },
    /// Of the runs that are alive then, the one with this number modulo their count.
    Cancel {
        pick: usize,
    },
    /// The fires of so long, until so long ago.
    Backfill {
        job: usize,
        ago_ms: i64,
        span_ms: i64,
    },
    AddGroup {
        group: usize,
    },
    DeleteGroup {
        group: usize,
    },
    /// A registered client, by its number among them.
    Drain {
        pick: usize,
        drained: bool,
    },
    StepDown {
        hold_ms: u64,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub struct JobSpec {
    pub group: &'static str,
    pub fires: Fires,
    pub overlap: Overlap,
    pub misfire: Misfire,
    pub routing: Routing,
    pub priority: i32,
    pub max_in_flight: Option<u32>,
    pub timeout_ms: Option<u64>,
    pub max_attempts: u32,
    pub retry_delay_ms: u64,
    pub retry_lost: bool,
    pub start_deadline_ms: Option<u64>,
    /// How long the handler takes at most, and how many of a hundred fail.
    pub takes_ms: u64,
    pub fails: u8,
    /// Whether the handler stops when it is asked to.
    pub listens: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fires {
    /// At the seconds of each minute that this divides.
    Seconds(u32),
    /// `@every`.
    Every(u32),
    /// The same as a trigger of its own.
    Rate(u32),
    /// So many seconds after the end of the run before.
    Delay(u32),
    /// After other jobs.
    After(AfterSpec),
}

/// Which jobs a job follows, in the order in which they are added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AfterSpec {
    pub first: usize,
    pub second: Option<usize>,
    pub on: Condition,
    pub need: Need,
    pub within: Within,
}

impl AfterSpec {
    fn trigger(self, jobs: &JobIds) -> Option<Trigger> {
        let Self { on, need, within, .. } = self;
        let numbers = std::iter::once(self.first).chain(self.second);
        let jobs = numbers.map(|number| JobId::new(jobs.get(&number)?).ok()).collect::<Option<_>>()?;
        Some(Trigger::After(After { jobs, on, need, within }))
    }
}

impl Fires {
    /// The fields of a job that say so. `None`: a job that it follows was never added.
    #[must_use]
    pub fn fields(self, jobs: &JobIds) -> Option<(String, Trigger)> {
        let ms = |seconds: u32| u64::from(seconds) * 1_000;
        Some(match self {
            Self::Seconds(step) => (format!("*/{step} * * * * *"), Trigger::Cron),
            Self::Every(seconds) => (format!("@every {seconds}s"), Trigger::Cron),
            Self::Rate(seconds) => (String::new(), Trigger::FixedRate { every_ms: ms(seconds) }),
            Self::Delay(seconds) => (String::new(), Trigger::FixedDelay { every_ms: ms(seconds) }),
            Self::After(after) => (String::new(), after.trigger(jobs)?),
        })
    }
}

/// The first two have workers; the last one comes and goes.
pub const GROUPS: [&str; 3] = ["alpha", "beta", "gamma"];

impl Plan {
    #[must_use]
    pub fn of_seed(seed: u64) -> Self {
        Self::on(Stage::Any, seed)
    }

    #[must_use]
    pub fn on(stage: Stage, seed: u64) -> Self {
        let random = &mut Rng::with_seed(seed);
        let nodes = random.usize(2..=3);
        let workers: Vec<_> = (0..random.usize(2..=4))
            .map(|number| WorkerPlan {
                group: GROUPS[number % 2],
                capacity: random.u32(2..=6),
                manner: match stage {
                    Stage::Returning => Manner::Foreign,
                    Stage::Hasty => Manner::Hasty,
                    _ if number > 1 && random.bool() => Manner::Foreign,
                    _ => Manner::Ours,
                },
            })
            .collect();
        let machines = nodes + workers.len();
        let clocks_off_ms = (0..machines).map(|_| random.i64(-2_000..=2_000)).collect();
        let mut plan = Self {
            seed,
            nodes,
            workers,
            segments: random.u16(1..=4),
            group_limit: [None, None, Some(2), Some(4)][usize::from(seed.to_le_bytes()[0]) % 4],
            lease_ttl: Duration::from_secs(random.u64(3..=5)),
            clocks_off_ms,
            events: Vec::new(),
            calm_at: BUSY_MS,
        };
        if random.bool() {
            plan.act(random.u64(300..CALM_MS), Act::AddGroup { group: 2 });
        }
        let jobs = random.usize(2..=8);
        for _ in 0..jobs {
            let mut spec = JobSpec::random(random);
            stage.adapt(&mut spec, random);
            plan.act(random.u64(0..CALM_MS), Act::Add { spec });
        }
        // Each seed has few kinds of faults, so that the combinations differ.
        let kinds: Vec<u8> = (0..random.usize(1..=5)).map(|_| random.u8(..14)).collect();
        let any = |random: &mut Rng| {
            let kind = kinds[random.usize(..kinds.len())];
            (random.u64(CALM_MS..BUSY_MS), random_fault(random, kind, nodes, machines))
        };
        let faults: Vec<(u64, Fault)> = match stage {
            Stage::Any => (0..random.usize(3..=18)).map(|_| any(random)).collect(),
            _ => stage.faults(random, nodes, machines),
        };
        if stage != Stage::Any {
            plan.lease_ttl = Duration::from_secs(3);
        }
        let acts = if stage == Stage::Any { random.u64(4..=24) } else { 30 };
        for key in 0..acts {
            // Often just when something goes wrong.
            let at = match random.bool() {
                true => random.u64(CALM_MS..BUSY_MS),
                false => faults[random.usize(..faults.len())].0 + random.u64(..1_500),
            };
            let act = stage.act(random, jobs, key).unwrap_or_else(|| random_act(random, jobs, key));
            // People who get no answer ask again, and two of them may have the same idea.
            match random.u8(..4) {
                0 => plan.act(at + random.u64(..20), act.clone()),
                1 => plan.act(at + random.u64(..5_000), act.clone()),
                _ => {}
            }
            plan.act(at, act);
        }
        plan.backfill(stage, jobs);
        plan.events.extend(chains::events(seed, stage, jobs));
        plan.events.extend(operators::events(seed, stage));
        plan.events.extend(faults.into_iter().map(|(at, fault)| (at, Event::Fault(fault))));
        plan.events.sort_by_key(|(at, _)| *at);
        plan
    }

    /// Of a randomness of their own: what else a seed stands for does not depend on them.
    fn backfill(&mut self, stage: Stage, jobs: usize) {
        let random = &mut Rng::with_seed(self.seed ^ 0xbac_f111);
        // What is longer than a few fires is refused.
        let (count, longest_ms) = match stage {
            Stage::Any => (random.u64(..6), 12_000),
            Stage::Backfilled => (60, 4_000),
            _ => return,
        };
        for _ in 0..count {
            let (job, at) = (random.usize(..jobs), random.u64(CALM_MS..BUSY_MS));
            let act =
                Act::Backfill { job, ago_ms: random.i64(0..20_000), span_ms: random.i64(500..longest_ms) };
            if random.u8(..4) == 0 {
                self.act(at + random.u64(..500), act.clone());
            }
            self.act(at, act);
        }
    }

    fn act(&mut self, at: u64, act: Act) {
        self.events.push((at, Event::Act(act)));
    }

    #[must_use]
    pub fn machines(&self) -> usize {
        self.nodes + self.workers.len()
    }

    /// How many of its events are faults.
    #[must_use]
    pub fn faults(&self) -> usize {
        self.events.iter().filter(|(_, event)| matches!(event, Event::Fault(_))).count()
    }

    /// How long after the last fault everything must be done that is due. A clock that is set right again is not
    /// trusted at once.
    #[must_use]
    pub fn settle(&self) -> Duration {
        let sets_clocks =
            self.events.iter().any(|(_, event)| matches!(event, Event::Fault(Fault::Clock { .. })));
        let probation = if sets_clocks { Duration::from_secs(10) } else { Duration::ZERO };
        2 * self.lease_ttl + Duration::from_secs(5) + probation
    }

    #[must_use]
    pub fn drops_events(&self) -> bool {
        self.events.iter().any(|(_, event)| matches!(event, Event::Fault(Fault::DropEvents { .. })))
    }
}

impl JobSpec {
    fn random(random: &mut Rng) -> Self {
        let mut spec = Self::any(random);
        // More work than workers would pile up, and then nothing drains.
        let period = match spec.fires {
            Fires::Seconds(seconds) | Fires::Every(seconds) => u64::from(seconds) * 1_000,
            Fires::Rate(seconds) | Fires::Delay(seconds) => u64::from(seconds) * 1_000,
            // As often as those that it follows.
            Fires::After(_) => 1_000,
        };
        if spec.routing == Routing::Broadcast {
            // Every client has to do it.
            spec.takes_ms = spec.takes_ms.min(300);
            if matches!(spec.overlap, Overlap::Allow | Overlap::QueueAll) {
                spec.overlap = Overlap::QueueOne;
            }
        }
        let too_much = spec.takes_ms * u64::from(spec.max_attempts) > period;
        if too_much && matches!(spec.overlap, Overlap::Allow | Overlap::QueueAll) {
            spec.overlap = Overlap::Forbid;
        }
        // Otherwise there is no attempt to retry with.
        spec.retry_lost &= spec.max_attempts > 1;
        spec
    }

    fn any(random: &mut Rng) -> Self {
        let pick = |random: &mut Rng, from: &[u32]| from[random.usize(..from.len())];
        Self {
            group: if random.u8(..10) == 0 { GROUPS[2] } else { GROUPS[random.usize(..2)] },
            fires: match random.u8(..8) {
                0..=2 => Fires::Seconds(pick(random, &[1, 2, 3, 5, 7, 10, 15])),
                3..=5 => Fires::Every(pick(random, &[1, 2, 3, 4, 7, 11])),
                6 => Fires::Rate(pick(random, &[1, 2, 5])),
                _ => Fires::Delay(pick(random, &[1, 2, 5])),
            },
            overlap: [
                Overlap::Forbid,
                Overlap::Forbid,
                Overlap::Allow,
                Overlap::Allow,
                Overlap::QueueOne,
                Overlap::QueueAll,
                Overlap::CancelRunning,
            ][random.usize(..7)],
            misfire: [Misfire::Skip, Misfire::FireOnce, Misfire::FireAll][random.usize(..3)],
            routing: ROUTINGS[random.usize(..ROUTINGS.len())],
            priority: random.i32(0..3),
            max_in_flight: (random.u8(..4) == 0).then(|| random.u32(1..=2)),
            timeout_ms: (random.u8(..4) == 0).then(|| random.u64(200..3_000)),
            max_attempts: random.u32(1..=4),
            retry_delay_ms: [0, 0, 300, 3_000][random.usize(..4)] + random.u64(20..500),
            retry_lost: random.bool(),
            start_deadline_ms: random.bool().then(|| random.u64(2_000..15_000)),
            takes_ms: [5, 300, 1_000, 2_000][random.usize(..4)],
            fails: [0, 20, 60, 90][random.usize(..4)],
            listens: random.bool(),
        }
    }
}

const ROUTINGS: [Routing; 11] = [
    Routing::RoundRobin,
    Routing::First,
    Routing::Last,
    Routing::Random,
    Routing::ConsistentHash,
    Routing::LeastFrequentlyUsed,
    Routing::LeastRecentlyUsed,
    Routing::Failover,
    Routing::BusyOver,
    Routing::LeastLoaded,
    Routing::Broadcast,
];

fn random_act(random: &mut Rng, jobs: usize, key: u64) -> Act {
    let job = random.usize(..jobs);
    match random.u8(..17) {
        0..=1 => Act::Edit { job, spec: JobSpec::random(random) },
        2..=3 => Act::Enable { job, enabled: random.bool() },
        4 => Act::Delete { job },
        5..=10 => Act::Run { job, key },
        11..=14 => Act::Cancel { pick: random.usize(..1_000) },
        15 => Act::AddGroup { group: 2 },
        _ => Act::DeleteGroup { group: 2 },
    }
}

fn random_fault(random: &mut Rng, kind: u8, nodes: usize, machines: usize) -> Fault {
    let machine = if random.u8(..3) == 0 { LEADER } else { random.usize(..machines) };
    let link = |machine, trouble, for_ms| Fault::Link { machine, peer: Peer::Etcd, trouble, for_ms };
    match kind {
        0 => Fault::Crash { machine, down_ms: random.u64(50..6_000) },
        1 => Fault::Restart { machine, down_ms: random.u64(50..3_000) },
        2 => Fault::Freeze { machine, for_ms: random.u64(500..12_000) },
        3 => {
            let (refused, requests_cut, replies_cut) = (random.u8(..4) == 0, random.bool(), random.bool());
            let replies_cut = replies_cut || !requests_cut;
            let trouble = Trouble { refused, requests_cut, replies_cut, ..Trouble::default() };
            link(machine, trouble, random.u64(300..10_000))
        }
        4 => {
            let (lost_replies, late_requests) = (random.u8(..40), random.u8(..20));
            link(
                machine,
                Trouble { lost_replies, late_requests, ..Trouble::default() },
                random.u64(1_000..10_000),
            )
        }
        5 => {
            let slow_ms = random.u64(20..1_500);
            link(machine, Trouble { slow_ms, ..Trouble::default() }, random.u64(1_000..10_000))
        }
        6 => {
            let trouble = [DatabaseTrouble::Down, DatabaseTrouble::Hangs, DatabaseTrouble::AnswersLost];
            Fault::Database { trouble: trouble[random.usize(..3)], for_ms: random.u64(500..12_000) }
        }
        7 => Fault::Clock { machine: random.usize(..nodes), off_ms: random.i64(-5_000..=5_000) },
        8 => Fault::Compact,
        9 => Fault::ExpireLease { machine },
        10..=12 => {
            let (lost_replies, late_requests) = (random.u8(..60), random.u8(..50));
            let slow_ms = [0, 50, 400][random.usize(..3)];
            let trouble = Trouble { slow_ms, lost_replies, late_requests, ..Trouble::default() };
            Fault::Storm { trouble, for_ms: random.u64(1_000..6_000) }
        }
        _ if random.bool() => Fault::DropEvents { machine, messages: random.u32(1..4) },
        _ => Fault::DoubleEvents { machine, messages: random.u32(1..4) },
    }
}
