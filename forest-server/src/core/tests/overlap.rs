//! A job that forbids overlap has one run that is alive, wherever its runs come from.
//!
//! That no two are ever alive is asked by the audit at every revision; here is what becomes of the second.

use forest_proto::record::{Job, Outcome};
use forest_proto::{Key, RunId};

use super::leader::Leader;
use super::world::World;
use super::{MINUTE, SECOND, START, forbidding, job};
use crate::core::steps::Step;

fn minutely() -> Job {
    forbidding("a", "0 * * * * *")
}

fn with(job: &Job) -> (World, Leader) {
    let (mut world, mut leader) = Leader::of_one_segment();
    world.register("c-1", 10);
    world.save(job);
    leader.catch_up(&world);
    (world, leader)
}

fn fire(n: i64) -> RunId {
    World::fire("a", START + n * MINUTE)
}

fn next_minute(world: &mut World, leader: &mut Leader) {
    world.pass(MINUTE);
    leader.dispatch(world);
    leader.settle(world);
}

fn is_skipped(world: &World, run: &RunId) -> bool {
    world.end_of(run) == Some(Outcome::OverlapSkipped)
}

#[test]
fn a_fire_is_skipped_and_recorded_as_long_as_a_run_is_alive() {
    let (mut world, mut leader) = with(&minutely());
    next_minute(&mut world, &mut leader);
    next_minute(&mut world, &mut leader);
    assert!(is_skipped(&world, &fire(2)), "the first waits for its client");
    let seat = world.claim_run(&fire(1));
    leader.catch_up(&world);
    next_minute(&mut world, &mut leader);
    assert!(is_skipped(&world, &fire(3)), "the first is executed");
    assert!(world.complete(&seat, &fire(1), Outcome::Succeeded));
    leader.catch_up(&world);
    next_minute(&mut world, &mut leader);
    assert!(matches!(world.places(&fire(4))[..], [Key::Snapshot { .. }]));
    world.audit.assert_kept();
}

#[test]
fn of_two_fires_in_one_transaction_the_first_runs() {
    let (mut world, mut leader) = with(&forbidding("a", "* * * * * *"));
    world.pass(3 * SECOND);
    assert_eq!(leader.dispatch(&mut world), 1);
    assert_eq!(world.given().len(), 1);
    assert!(is_skipped(&world, &World::fire("a", START + 2 * SECOND)), "the third one is only counted");
    world.audit.assert_kept();
}

#[test]
fn a_run_that_waits_for_its_next_attempt_is_alive() {
    let (mut world, mut leader) = with(&Job { max_attempts: 2, retry_delays_ms: vec![90_000], ..minutely() });
    next_minute(&mut world, &mut leader);
    world.execute(&fire(1), Outcome::Failed);
    leader.settle(&mut world);
    assert_eq!(world.delayed().len(), 1);
    next_minute(&mut world, &mut leader);
    assert!(is_skipped(&world, &fire(2)), "the retry is not due yet");
    // Due together with a fire: the retry was there first.
    next_minute(&mut world, &mut leader);
    assert!(is_skipped(&world, &fire(3)));
    assert_eq!(world.given().len(), 1);
    assert_eq!(world.given()[0].1, fire(1).with_attempt(2));
    world.audit.assert_kept();
}

#[test]
fn a_failure_that_is_not_decided_yet_is_alive() {
    let (mut world, mut leader) = with(&Job { max_attempts: 2, ..minutely() });
    next_minute(&mut world, &mut leader);
    world.execute(&fire(1), Outcome::Failed);
    leader.catch_up(&world);
    world.pass(MINUTE);
    leader.dispatch(&mut world);
    assert!(is_skipped(&world, &fire(2)));
    world.audit.assert_kept();
}

#[test]
fn a_parked_run_is_alive() {
    let (mut world, mut leader) = with(&minutely());
    world.vanish("c-1");
    leader.catch_up(&world);
    next_minute(&mut world, &mut leader);
    assert_eq!(world.pending(), [fire(1)]);
    next_minute(&mut world, &mut leader);
    assert!(is_skipped(&world, &fire(2)));
    world.audit.assert_kept();
}

#[test]
fn a_run_that_somebody_asks_for_is_skipped_beside_another() {
    let (mut world, mut leader) = with(&minutely());
    next_minute(&mut world, &mut leader);
    let asked = world.ask_run("a");
    leader.settle(&mut world);
    assert!(is_skipped(&world, &asked));
    assert!(world.requests().is_empty(), "the request is used up");
    world.execute(&fire(1), Outcome::Succeeded);
    let asked = world.ask_run("a");
    leader.settle(&mut world);
    assert!(matches!(world.places(&asked)[..], [Key::Snapshot { .. }]));
    next_minute(&mut world, &mut leader);
    assert!(is_skipped(&world, &fire(2)), "beside the one that was asked for");
    world.audit.assert_kept();
}

/// The transaction of the only request.
fn txn_of_request(world: &World, leader: &mut Leader) -> forest_etcd::Txn {
    let request = world.requests().pop().unwrap();
    match leader.look_at_request(world, &request) {
        Step::Commit(planned) => planned.txn,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_fire_and_a_request_that_are_under_way_together_do_not_both_commit() {
    for fire_first in [true, false] {
        let (mut world, mut leader) = with(&minutely());
        world.pass(MINUTE);
        world.ask_run("a");
        leader.catch_up(&world);
        let (batch, asked) = (leader.batch(&world).unwrap(), txn_of_request(&world, &mut leader));
        let order = if fire_first { [&batch.txn, &asked] } else { [&asked, &batch.txn] };
        let applied = order.map(|txn| matches!(world.commit(txn), forest_etcd::Outcome::Applied { .. }));
        assert_eq!(applied, [true, false], "fire first: {fire_first}");
        leader.catch_up(&world);
        leader.dispatch(&mut world);
        leader.settle(&mut world);
        assert_eq!(world.given().len(), 1);
        world.audit.assert_kept();
    }
}

#[test]
fn a_fire_that_comes_late_does_not_commit_beside_a_run_that_was_asked_for() {
    let (mut world, mut leader) = with(&minutely());
    world.pass(MINUTE);
    leader.catch_up(&world);
    let late = leader.batch(&world).unwrap().txn;
    // Its answer was lost, and reading the cursor again showed nothing.
    world.ask_run("a");
    leader.catch_up(&world);
    let asked = txn_of_request(&world, &mut leader);
    assert!(matches!(world.commit(&asked), forest_etcd::Outcome::Applied { .. }));
    assert!(matches!(world.commit(&late), forest_etcd::Outcome::Refused { .. }));
    world.audit.assert_kept();
}

#[test]
fn of_two_requests_for_one_job_one_runs() {
    let (mut world, mut leader) = with(&minutely());
    let asked = [world.ask_run("a"), world.ask_run("a")];
    leader.catch_up(&world);
    leader.settle(&mut world);
    leader.settle(&mut world);
    assert_eq!(asked.iter().filter(|run| is_skipped(&world, run)).count(), 1);
    world.audit.assert_kept();
}

#[test]
fn a_new_leader_knows_of_the_runs_before_it() {
    let (mut world, mut leader) = with(&minutely());
    next_minute(&mut world, &mut leader);
    let mut next = Leader::elect(&mut world);
    next_minute(&mut world, &mut next);
    assert!(is_skipped(&world, &fire(2)));
    world.audit.assert_kept();
}

#[test]
fn runs_of_a_job_that_allows_it_overlap() {
    let (mut world, mut leader) = with(&job("a", "0 * * * * *"));
    world.ask_run("a");
    next_minute(&mut world, &mut leader);
    next_minute(&mut world, &mut leader);
    assert_eq!(world.given().len(), 3);
    world.audit.assert_kept();
}
