//! Plans on which a certain defect shows easily: where it is as bad as it can be for one guard.

use fastrand::Rng;
use forest_proto::record::{Overlap, Routing};

use super::{Act, BUSY_MS, CALM_MS, DatabaseTrouble, Fault, Fires, JobSpec, LEADER};
use crate::network::{Peer, Trouble};

/// What a plan is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Whatever can go wrong.
    Any,
    /// Leaders lose their lease while much of what they sent is still on its way, and workers come and go.
    Deposed,
    /// Workers stand still until they are given up, and leaders hear of it late.
    Frozen,
    /// Workers that keep their id come back just when the server gives up on what they ran.
    Returning,
    /// People cancel runs that fail, and long ones, while the leader hears late of everything.
    Cancelled,
    /// What workers send arrives late, and their leases end meanwhile.
    Late,
    /// Requests lie there for want of a leader, and what became of them is forgotten.
    Forgetful,
    /// The leader hears little and late of what became of its transactions, while people run jobs that fire every
    /// second and may not overlap.
    Unanswered,
    /// People cancel what is about to fail, and the leader does not hear of it.
    Deaf,
    /// Workers write their results over what was decided without them, while the database is slow.
    Hasty,
    /// People ask for backfills, while leaders hear little and late of what became of them, or lose their lease.
    Backfilled,
    /// A group comes and goes, and jobs in it.
    Regrouped,
    /// Jobs that follow others are changed all the time, while leaders change and hear late of everything.
    Chained,
    /// Leaders are asked to step down again and again, while they lose their lease and what they send is late.
    Resigning,
    /// Broadcasts, which people cancel while their shards end and leaders come and go.
    Scattered,
}

impl Stage {
    /// Makes a job such as this stage needs.
    pub(super) fn adapt(self, spec: &mut JobSpec, random: &mut Rng) {
        match self {
            Self::Unanswered => {
                (spec.fires, spec.overlap, spec.takes_ms) = (Fires::Seconds(1), Overlap::Forbid, 300);
            }
            Self::Cancelled => {
                (spec.fires, spec.fails, spec.max_attempts) = (Fires::Seconds(2), 90, 4);
                (spec.takes_ms, spec.listens) = (if random.bool() { 200 } else { 8_000 }, false);
                (spec.overlap, spec.retry_lost) = (Overlap::Forbid, true);
            }
            Self::Deaf => {
                (spec.fires, spec.fails, spec.max_attempts) = (Fires::Seconds(2), 95, 4);
                (spec.takes_ms, spec.listens, spec.overlap) = (1_500, false, Overlap::Forbid);
            }
            Self::Hasty => {
                (spec.fires, spec.overlap, spec.takes_ms) = (Fires::Seconds(3), Overlap::Allow, 2_000);
                // What is tried again and then overwritten is tried again twice: nobody can help that.
                (spec.max_attempts, spec.retry_lost) = (1, false);
                (spec.timeout_ms, spec.max_in_flight, spec.routing) = (None, None, Routing::RoundRobin);
            }
            Self::Backfilled => {
                (spec.fires, spec.takes_ms) = (Fires::Seconds(random.u32(1..=2)), 100);
                spec.overlap = if random.bool() { Overlap::Allow } else { Overlap::Forbid };
            }
            Self::Chained => {
                (spec.fires, spec.overlap, spec.takes_ms) = (Fires::Seconds(2), Overlap::Allow, 200);
                (spec.fails, spec.max_in_flight) = (20, None);
            }
            Self::Scattered => {
                (spec.fires, spec.overlap, spec.routing) =
                    (Fires::Seconds(2), Overlap::Forbid, Routing::Broadcast);
                (spec.takes_ms, spec.fails, spec.max_attempts) = (1_000, 20, 2);
            }
            Self::Any
            | Self::Deposed
            | Self::Frozen
            | Self::Returning
            | Self::Late
            | Self::Forgetful
            | Self::Resigning
            | Self::Regrouped => {}
        }
    }

    /// What people do mostly; `None`: anything.
    pub(super) fn act(self, random: &mut Rng, jobs: usize, key: u64) -> Option<Act> {
        match self {
            Self::Unanswered => Some(Act::Run { job: random.usize(..jobs), key }),
            Self::Cancelled | Self::Deaf | Self::Scattered => {
                Some(Act::Cancel { pick: random.usize(..1_000) })
            }
            Self::Regrouped => Some(match random.u8(..8) {
                0..=1 => Act::AddGroup { group: 2 },
                2 => Act::DeleteGroup { group: 2 },
                3 => Act::Delete { job: random.usize(..jobs) },
                4..=5 => Act::Edit { job: random.usize(..jobs + 6), spec: JobSpec::random(random) },
                _ => Act::Add { spec: JobSpec { group: super::GROUPS[2], ..JobSpec::random(random) } },
            }),
            _ => None,
        }
    }

    pub(super) fn faults(self, random: &mut Rng, nodes: usize, machines: usize) -> Vec<(u64, Fault)> {
        match self {
            Self::Any => Vec::new(),
            Self::Deposed | Self::Resigning => deposed(random, nodes, machines),
            Self::Frozen => frozen(random, nodes, machines),
            Self::Returning => returning(random, nodes, machines),
            Self::Late => late(random, nodes, machines),
            Self::Forgetful => forgetful(random),
            Self::Unanswered => unanswered(random),
            Self::Backfilled => backfilled(random),
            Self::Cancelled => cancelled(random, nodes, machines),
            Self::Deaf => deaf(random, nodes),
            Self::Hasty => hasty(random, nodes, machines),
            Self::Regrouped => regrouped(random, nodes),
            Self::Chained => chained(random),
            Self::Scattered => deposed(random, nodes, machines),
        }
    }
}

fn deposed(random: &mut Rng, nodes: usize, machines: usize) -> Vec<(u64, Fault)> {
    let mut faults = Vec::new();
    let mut at = CALM_MS;
    while at < BUSY_MS {
        let trouble = Trouble { slow_ms: 60, lost_replies: 20, late_requests: 60, ..Trouble::default() };
        faults.push((at, Fault::Link { machine: LEADER, peer: Peer::Etcd, trouble, for_ms: 1_500 }));
        let worker = random.usize(nodes..machines);
        let down_ms = random.u64(100..4_000);
        faults.push((at + random.u64(..1_500), Fault::Crash { machine: worker, down_ms }));
        faults.push((at + random.u64(100..1_500), Fault::ExpireLease { machine: LEADER }));
        at += random.u64(1_500..4_000);
    }
    faults
}

fn frozen(random: &mut Rng, nodes: usize, machines: usize) -> Vec<(u64, Fault)> {
    let mut faults = Vec::new();
    let mut at = CALM_MS;
    while at < BUSY_MS {
        let machine = random.usize(nodes..machines);
        // Until about when the server gives up on a worker: on ours, on one that does not say its lease's time.
        let for_ms = if random.bool() { random.u64(6_500..8_500) } else { random.u64(9_500..11_000) };
        faults.push((at, Fault::Freeze { machine, for_ms }));
        let trouble = Trouble { slow_ms: random.u64(100..1_500), late_requests: 10, ..Trouble::default() };
        let link = Fault::Link { machine: LEADER, peer: Peer::Etcd, trouble, for_ms: 3_000 };
        faults.push((at + for_ms - random.u64(500..2_500), link));
        at += random.u64(1_000..4_000);
    }
    faults
}

fn unanswered(random: &mut Rng) -> Vec<(u64, Fault)> {
    let mut faults = Vec::new();
    let mut at = CALM_MS;
    while at < BUSY_MS {
        let trouble = Trouble { lost_replies: 30, late_requests: 40, ..Trouble::default() };
        faults.push((at, Fault::Link { machine: LEADER, peer: Peer::Etcd, trouble, for_ms: 2_000 }));
        at += random.u64(1_000..3_000);
    }
    faults
}

fn backfilled(random: &mut Rng) -> Vec<(u64, Fault)> {
    let mut faults = unanswered(random);
    let mut at = CALM_MS;
    while at < BUSY_MS {
        faults.push((at, Fault::ExpireLease { machine: LEADER }));
        at += random.u64(3_000..9_000);
    }
    faults
}

fn returning(random: &mut Rng, nodes: usize, machines: usize) -> Vec<(u64, Fault)> {
    let mut faults = Vec::new();
    for machine in nodes..machines {
        let mut at = CALM_MS + random.u64(..2_000);
        while at < BUSY_MS {
            let down_ms = random.u64(9_300..10_800);
            faults.push((at, Fault::Crash { machine, down_ms }));
            let slow = |slow_ms| Trouble { slow_ms, ..Trouble::default() };
            let link = |machine, trouble| Fault::Link { machine, peer: Peer::Etcd, trouble, for_ms: 2_000 };
            faults.push((at + down_ms, link(machine, slow(400))));
            faults.push((at + down_ms - 300, link(LEADER, slow(200))));
            at += down_ms + 2_500;
        }
    }
    faults
}

fn late(random: &mut Rng, nodes: usize, machines: usize) -> Vec<(u64, Fault)> {
    let mut faults = Vec::new();
    let mut at = CALM_MS;
    while at < BUSY_MS {
        let machine = random.usize(nodes..machines);
        let trouble = Trouble { late_requests: 70, ..Trouble::default() };
        faults.push((at, Fault::Link { machine, peer: Peer::Etcd, trouble, for_ms: 1_500 }));
        faults.push((at + random.u64(200..1_500), Fault::ExpireLease { machine }));
        // The server looks away, so that the snapshot stays where it is.
        let slow = Trouble { slow_ms: 1_500, ..Trouble::default() };
        faults.push((
            at + 200,
            Fault::Link { machine: LEADER, peer: Peer::Etcd, trouble: slow, for_ms: 3_000 },
        ));
        at += random.u64(1_000..3_000);
    }
    faults
}

fn cancelled(random: &mut Rng, nodes: usize, machines: usize) -> Vec<(u64, Fault)> {
    let mut faults = Vec::new();
    // Whoever is asked to cancel a run may not have heard that it ended.
    let slow = Trouble { slow_ms: 1_500, ..Trouble::default() };
    for machine in 0..nodes {
        faults.push((CALM_MS, Fault::Link { machine, peer: Peer::Etcd, trouble: slow, for_ms: BUSY_MS }));
    }
    faults.extend(unanswered(random));
    let mut at = CALM_MS;
    while at < BUSY_MS {
        let machine = random.usize(nodes..machines);
        faults.push((at, Fault::Crash { machine, down_ms: random.u64(8_000..12_000) }));
        at += random.u64(2_000..6_000);
    }
    faults
}

fn forgetful(random: &mut Rng) -> Vec<(u64, Fault)> {
    let mut faults = Vec::new();
    let mut at = CALM_MS;
    while at < BUSY_MS {
        faults.push((at, Fault::Freeze { machine: LEADER, for_ms: random.u64(2_500..6_000) }));
        faults.push((at + random.u64(500..2_500), Fault::ForgetAnswers));
        at += random.u64(4_000..8_000);
    }
    faults
}

fn deaf(random: &mut Rng, nodes: usize) -> Vec<(u64, Fault)> {
    let mut faults = Vec::new();
    let mut at = CALM_MS;
    while at < BUSY_MS {
        let machine = if random.bool() { LEADER } else { random.usize(..nodes) };
        faults.push((at, Fault::DropEvents { machine, messages: random.u32(1..3) }));
        at += random.u64(200..1_500);
    }
    faults
}

fn hasty(random: &mut Rng, nodes: usize, machines: usize) -> Vec<(u64, Fault)> {
    let mut faults = Vec::new();
    let mut at = CALM_MS;
    while at < BUSY_MS {
        let machine = random.usize(nodes..machines);
        // Its lease and the grace are over when it goes on.
        let for_ms = random.u64(10_500..13_000);
        faults.push((at, Fault::Freeze { machine, for_ms }));
        let trouble = if random.bool() { DatabaseTrouble::Hangs } else { DatabaseTrouble::AnswersLost };
        let slow = Fault::Database { trouble, for_ms: random.u64(1_000..4_000) };
        faults.push((at + for_ms - random.u64(..3_000), slow));
        at += random.u64(1_000..3_000);
    }
    faults
}

fn chained(random: &mut Rng) -> Vec<(u64, Fault)> {
    let is_deaf = random.bool();
    let mut faults = Vec::new();
    let mut at = CALM_MS;
    while at < BUSY_MS {
        if is_deaf {
            faults.push((at + random.u64(..1_500), Fault::DropEvents { machine: LEADER, messages: 1 }));
        }
        let slow_ms = [50, 300, 900][random.usize(..3)];
        let trouble = Trouble { slow_ms, lost_replies: 15, late_requests: 30, ..Trouble::default() };
        faults.push((at, Fault::Link { machine: LEADER, peer: Peer::Etcd, trouble, for_ms: 2_000 }));
        if random.u8(..3) == 0 {
            faults.push((at + random.u64(100..1_500), Fault::ExpireLease { machine: LEADER }));
        }
        at += random.u64(1_500..4_000);
    }
    faults
}

fn regrouped(random: &mut Rng, nodes: usize) -> Vec<(u64, Fault)> {
    let mut faults = Vec::new();
    let mut at = CALM_MS;
    while at < BUSY_MS {
        let trouble = Trouble { slow_ms: 400, lost_replies: 20, late_requests: 30, ..Trouble::default() };
        let machine = random.usize(..nodes);
        faults.push((at, Fault::Link { machine, peer: Peer::Etcd, trouble, for_ms: 3_000 }));
        at += random.u64(1_000..3_000);
    }
    faults
}
