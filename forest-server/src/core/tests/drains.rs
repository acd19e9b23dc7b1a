//! Clients that somebody drains: they get nothing new, and keep what they run.

use forest_proto::record::{Job, Outcome, Routing};
use forest_proto::{Key, RunId};

use super::leader::Leader;
use super::world::World;
use super::{MINUTE, START, group, job, seat};
use crate::core::routing::queue::{self, Reason};

fn fire(minute: i64) -> RunId {
    World::fire("a", START + minute * MINUTE)
}

/// One fire of a job, given to the first of these clients.
fn fired(routing: Routing, clients: &[&str]) -> (World, Leader) {
    let (mut world, mut leader) = Leader::of_one_segment();
    clients.iter().for_each(|name| world.register(name, 10));
    world.save(&Job { routing, ..job("a", "0 * * * * *") });
    leader.catch_up(&world);
    next_minute(&mut world, &mut leader);
    (world, leader)
}

fn next_minute(world: &mut World, leader: &mut Leader) {
    world.pass(MINUTE);
    leader.catch_up(world);
    leader.dispatch(world);
    leader.settle(world);
}

fn is_given_to(world: &World, run: &RunId, name: &str) -> bool {
    matches!(&world.places(run)[..], [Key::Snapshot { client, .. }] if client.as_str() == name)
}

#[test]
fn a_drained_client_keeps_what_it_runs_and_gets_nothing_new_under_any_leader() {
    let (mut world, mut leader) = fired(Routing::First, &["c-1", "c-2"]);
    world.claim_run(&fire(1));
    world.drain("c-1");
    next_minute(&mut world, &mut leader);
    assert!(is_given_to(&world, &fire(2), "c-2"));
    let mut next = Leader::elect(&mut world);
    next_minute(&mut world, &mut next);
    assert!(is_given_to(&world, &fire(3), "c-2"));
    assert!(world.complete(&seat("c-1"), &fire(1), Outcome::Succeeded));
    next.settle(&mut world);
    assert_eq!(world.end_of(&fire(1)), Some(Outcome::Succeeded));
    world.undrain("c-1");
    next_minute(&mut world, &mut next);
    assert!(is_given_to(&world, &fire(4), "c-1"));
    world.audit.assert_kept();
}

#[test]
fn what_a_drained_client_has_not_begun_goes_elsewhere_or_waits() {
    let (mut world, mut leader) = fired(Routing::First, &["c-1"]);
    world.drain("c-1");
    leader.settle(&mut world);
    assert_eq!(world.pending(), [fire(1)]);
    next_minute(&mut world, &mut leader);
    assert_eq!(world.pending(), [fire(1), fire(2)]);
    let waiting = queue::waiting(&leader.view, &group());
    assert_eq!(waiting.iter().map(|waiting| waiting.reason).collect::<Vec<_>>(), [Some(Reason::NoClient)]);
    world.register("c-2", 1);
    leader.settle(&mut world);
    assert!(is_given_to(&world, &fire(1), "c-2") && is_given_to(&world, &fire(2), "c-2"));
    world.audit.assert_kept();
}

#[test]
fn what_waits_goes_to_a_client_that_is_drained_no_more() {
    let (mut world, mut leader) = fired(Routing::First, &["c-1"]);
    world.drain("c-1");
    leader.settle(&mut world);
    world.undrain("c-1");
    leader.settle(&mut world);
    assert!(is_given_to(&world, &fire(1), "c-1"));
    world.audit.assert_kept();
}

#[test]
fn a_job_that_keeps_to_one_client_leaves_a_drained_one() {
    let (mut world, mut leader) = fired(Routing::Failover, &["c-1", "c-2"]);
    world.drain("c-1");
    leader.settle(&mut world);
    assert!(is_given_to(&world, &fire(1), "c-2"));
    world.audit.assert_kept();
}

#[test]
fn a_broadcast_passes_over_a_drained_client_and_the_shard_that_waits_for_it_goes_elsewhere() {
    let (mut world, mut leader) = Leader::of_one_segment();
    // The first one is full, so that its shard waits.
    for name in ["c-1", "c-2", "c-3"] {
        world.register(name, 1);
    }
    world.save(&Job { routing: Routing::Broadcast, ..job("a", "0 * * * * *") });
    world.save(&Job { routing: Routing::First, ..job("b", "0 0 0 1 1 *") });
    leader.catch_up(&world);
    let fillers = [world.ask_run("b"), world.ask_run("b")];
    leader.settle(&mut world);
    assert!(fillers.iter().all(|run| is_given_to(&world, run, "c-1")));
    fillers.iter().for_each(|run| drop(world.claim_run(run)));
    world.drain("c-3");
    next_minute(&mut world, &mut leader);
    let shard = |index| fire(1).shard_run(index).unwrap();
    assert_eq!(world.spread(&fire(1)).unwrap().clients.len(), 2);
    assert_eq!(world.pending(), [shard(0)]);
    assert!(is_given_to(&world, &shard(1), "c-2"));
    world.drain("c-1");
    leader.settle(&mut world);
    assert!(is_given_to(&world, &shard(0), "c-2"));
    world.audit.assert_kept();
}

#[test]
fn a_drain_may_come_before_its_client_and_ends_with_it() {
    let (mut world, mut leader) = Leader::of_one_segment();
    world.save(&job("a", "0 * * * * *"));
    world.drain("c-1");
    leader.catch_up(&world);
    world.register("c-1", 10);
    next_minute(&mut world, &mut leader);
    assert_eq!(world.pending(), [fire(1)]);
    // The lease ends: both keys go, in any order, and another registration is another client.
    world.undrain("c-1");
    world.vanish("c-1");
    world.register("c-1", 10);
    leader.settle(&mut world);
    assert!(is_given_to(&world, &fire(1), "c-1"));
    world.audit.assert_kept();
}
