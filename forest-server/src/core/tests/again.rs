//! Ended runs that somebody has run again.

use forest_proto::record::{Job, Origin, Outcome, Snapshot, decode};
use forest_proto::{Key, RunId};

use super::leader::Leader;
use super::world::World;
use super::{MINUTE, SECOND, START, forbidding, job};

fn fire() -> RunId {
    World::fire("a", START + MINUTE)
}

/// A run that failed for good a while ago.
fn failed(job: &Job) -> (World, Leader) {
    let (mut world, mut leader) = Leader::of_one_segment();
    world.register("c-1", 10);
    world.save(job);
    leader.catch_up(&world);
    world.pass(MINUTE);
    leader.dispatch(&mut world);
    world.execute(&fire(), Outcome::Failed);
    leader.settle(&mut world);
    world.collect();
    world.pass(30 * SECOND);
    leader.catch_up(&world);
    (world, leader)
}

fn given(world: &World, run: &RunId) -> Snapshot {
    let places = world.places(run);
    let [Key::Snapshot { group, client, run }] = &places[..] else { panic!("{places:?}") };
    decode(&world.etcd.get(&world.keys.snapshot(group, client, run)).unwrap().value).unwrap()
}

#[test]
fn it_is_for_the_same_time_with_the_same_parameters_and_says_what_it_repeats() {
    let rules = Job { max_attempts: 2, retry_delays_ms: vec![1_000], ..job("a", "0 * * * * *") };
    let (mut world, mut leader) = failed(&Job { max_attempts: 1, ..rules.clone() });
    world.save(&rules);
    let again = world.ask_again(&fire(), START + MINUTE, "as before");
    leader.settle(&mut world);
    let first = given(&world, &again);
    assert_eq!((first.origin, &first.cause), (Origin::Manual, &Some(fire())));
    assert_eq!((first.scheduled_at.as_ms(), first.params.as_str()), (START + MINUTE, "as before"));
    // So are its further attempts.
    world.execute(&again, Outcome::Failed);
    leader.settle(&mut world);
    world.pass(SECOND);
    leader.settle(&mut world);
    let second = given(&world, &again.with_attempt(2));
    assert_eq!((second.scheduled_at, second.cause), (first.scheduled_at, first.cause));
    world.audit.assert_kept();
}

#[test]
fn it_obeys_the_overlap_of_its_job() {
    let (mut world, mut leader) = failed(&forbidding("a", "0 * * * * *"));
    world.pass(30 * SECOND);
    leader.dispatch(&mut world);
    world.claim_run(&World::fire("a", START + 2 * MINUTE));
    let again = world.ask_again(&fire(), START + MINUTE, "");
    leader.settle(&mut world);
    assert_eq!(world.end_of(&again), Some(Outcome::OverlapSkipped));
    world.audit.assert_kept();
}
