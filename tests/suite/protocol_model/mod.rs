//! The protocol between etcd, nodes, clients and MySQL as an explicit-state model, explored breadth-first:
//! every order of every step, with every fault of a mix at every point.
//!
//! Covered: election with lost replies; the cursor and jobgen guards; skips for overlap; manual runs under an
//! idempotency key; retries; parking, moving, claiming, completing, late results; lost clients; decisions on
//! failures; cancelling; collecting into MySQL; edits. Two nodes, two clients, one segment, up to three fires
//! of two jobs. A deposed leader goes on with what it believes; a reply can be lost; a write can be applied
//! after its sender gave up, once at a time. From every state a drained end must be reachable without another
//! fault.
//!
//! Not covered: wall clocks and time zones, misfires, the other overlap policies, routing, batches, several
//! segments, limits, watches (a view is loaded as a whole, at any time, or is old), clients that register
//! anew (a new id is a new client), the time a frozen handler has before it must be dead, contents of
//! documents, etcd and MySQL losing what they acknowledged.
//!
//! The model stands beside the code and not under it: a change of a transaction is made in both.
//!
//! `FOREST_MODEL_STATES=28000000 cargo test --release -p forest-tests protocol_model` explores the long mixes
//! too, each up to that many states (about ten minutes and 6 GB).

mod admin;
mod catalogue;
mod client;
mod collector;
mod duties;
mod environment;
mod explorer;
mod invariants;
mod leader;
mod mixes;
mod moves;
mod mutants;
mod rules;
mod story;
mod symmetry;
mod txn;
mod world;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use explorer::{explore, explore_with};
use mixes::Mix;
use mutants::{MUTANTS, Mutant, SECOND_LINES};
use rules::Rules;
use txn::{Guard, GuardName, Step};
use world::{Budget, World};

/// More than any mix has that is meant to be exhausted in a debug build.
const SHORT_LIMIT: usize = 1_000_000;

#[test]
fn the_protocol_holds_under_every_mix_of_faults() {
    for_each(mixes::SHORT, |mix| holds(mix, &[], SHORT_LIMIT, true));
    if let Some(limit) = long_limit() {
        for mix in mixes::LONG {
            holds(mix, &[], limit, false);
        }
    }
}

#[test]
fn every_guard_is_needed() {
    for_each(MUTANTS, dies);
    let alone = MUTANTS.iter().filter(|mutant| mutant.dropped.len() == 1 && mutant.flaw.is_none());
    let mut tried: BTreeSet<_> = alone.map(|mutant| mutant.dropped[0]).collect();
    tried.extend(SECOND_LINES.iter().flat_map(|line| line.dropped));
    assert_eq!(tried, guards_in_use(), "each guard that is in use has been tried to do without");
}

/// Says which guards are not what safety rests on, so that nobody takes one of them for the fence.
#[test]
fn second_lines_are_not_the_first() {
    for line in SECOND_LINES {
        for_each(line.mixes, |mix| holds(mix, line.dropped, SHORT_LIMIT, true));
    }
}

fn holds(mix: &Mix, dropped: &'static [(Step, GuardName)], limit: usize, exhausts: bool) {
    let rules = Rules { dropped, flaw: None, slow_collector: mix.has_slow_collector() };
    let explored = explore(mix, &rules, limit);
    if let Some(violation) = explored.violation {
        panic!("{}: {violation}", mix.name);
    }
    let seen = if explored.exhausted { "all" } else { "the first" };
    println!("{}: {seen} {} states in {:.1?}", mix.name, explored.states, explored.took);
    assert!(explored.exhausted || !exhausts, "{} has more than {limit} states", mix.name);
}

fn dies(mutant: &Mutant) {
    let Mutant { dropped, flaw, mix } = mutant;
    let rules = Rules { dropped, flaw: *flaw, slow_collector: mix.has_slow_collector() };
    let explored = explore(mix, &rules, SHORT_LIMIT);
    let states = explored.states;
    match explored.violation {
        Some(violation) => println!("without {dropped:?}, flaw {flaw:?}, {states} states: {violation}"),
        None => panic!("{states} states without {dropped:?} and with the flaw {flaw:?} do no harm"),
    }
}

/// Every guard of every step, as seen on the transactions that get into flight.
fn guards_in_use() -> BTreeSet<(Step, GuardName)> {
    let budget = Budget { ambiguous: 1, client_expiry: 1, no_slot: 1, ..Budget::NONE };
    let budgets = [
        Budget { manual: 1, client_expiry: 0, ..budget },
        Budget { cancel: 1, ..budget },
        Budget { edit: 1, node_crash: 1, client_expiry: 0, ..budget },
    ];
    let mut guards = BTreeSet::new();
    for budget in budgets {
        let mix = Mix { name: "guards in use", budget, fires: 1 };
        let rules = Rules { slow_collector: mix.has_slow_collector(), ..Rules::default() };
        let mut note = |world: &World| {
            let Some(txn) = world.in_flight else { return };
            guards.extend(txn.guards.iter().flatten().map(Guard::name).map(|guard| (txn.step, guard)));
        };
        explore_with(&mix, &rules, 12_000, &mut note);
    }
    guards
}

fn long_limit() -> Option<usize> {
    let states = std::env::var("FOREST_MODEL_STATES").ok()?;
    Some(states.parse().expect("FOREST_MODEL_STATES is a number of states"))
}

/// Does the work of independent cases on all processors; a panic in one is a panic here.
fn for_each<T: Sync>(cases: &[T], work: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(case);
                }
            });
        }
    });
}
