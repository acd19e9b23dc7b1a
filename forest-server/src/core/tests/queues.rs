//! Runs that wait for earlier ones of their job, and runs that take their place.
//!
//! That none starts beside another, and none before one that waited already, is asked by the audit at every
//! revision.

use fastrand::Rng;
use forest_proto::record::{Job, Outcome, Overlap};
use forest_proto::{Key, RunId};

use super::leader::Leader;
use super::world::World;
use super::{MINUTE, SECOND, START, job};

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

fn minutely(overlap: Overlap) -> Job {
    Job { overlap, ..job("a", "0 * * * * *") }
}

fn is_given(world: &World, run: &RunId) -> bool {
    matches!(world.places(run)[..], [Key::Snapshot { .. }])
}

fn end(world: &mut World, leader: &mut Leader, run: &RunId) {
    world.execute(run, Outcome::Succeeded);
    leader.settle(world);
}

#[test]
fn one_run_waits_and_starts_when_the_earlier_one_has_ended() {
    let (mut world, mut leader) = with(&minutely(Overlap::QueueOne));
    next_minute(&mut world, &mut leader);
    next_minute(&mut world, &mut leader);
    assert_eq!(world.pending(), [fire(2)]);
    next_minute(&mut world, &mut leader);
    assert_eq!(world.end_of(&fire(3)), Some(Outcome::OverlapSkipped), "one waits already");
    end(&mut world, &mut leader, &fire(1));
    assert!(is_given(&world, &fire(2)));
    next_minute(&mut world, &mut leader);
    assert_eq!(world.pending(), [fire(4)]);
    world.audit.assert_kept();
}

#[test]
fn as_many_wait_as_the_queue_takes_and_start_in_order() {
    let (mut world, mut leader) = with(&Job { queue_limit: Some(3), ..minutely(Overlap::QueueAll) });
    for _ in 0..6 {
        next_minute(&mut world, &mut leader);
    }
    assert_eq!(world.pending(), [fire(2), fire(3), fire(4)]);
    assert_eq!(world.end_of(&fire(5)), Some(Outcome::OverlapSkipped));
    for n in 1..=4 {
        assert!(is_given(&world, &fire(n)), "{n}");
        assert_eq!(world.given().len(), 1);
        end(&mut world, &mut leader, &fire(n));
    }
    assert!(world.given().is_empty() && world.pending().is_empty());
    world.audit.assert_kept();
}

#[test]
fn fires_of_one_transaction_queue_behind_each_other() {
    let (mut world, mut leader) =
        with(&Job { queue_limit: Some(2), ..Job { overlap: Overlap::QueueAll, ..job("a", "* * * * * *") } });
    world.pass(4 * SECOND);
    assert_eq!(leader.dispatch(&mut world), 1);
    assert_eq!((world.given().len(), world.pending().len()), (1, 2));
    let last = World::fire("a", START + 4 * SECOND);
    assert_eq!(world.end_of(&last), Some(Outcome::OverlapSkipped));
    world.audit.assert_kept();
}

#[test]
fn a_run_waits_for_every_attempt_of_the_one_before() {
    let job = Job { max_attempts: 2, retry_delays_ms: vec![90_000], ..minutely(Overlap::QueueOne) };
    let (mut world, mut leader) = with(&job);
    next_minute(&mut world, &mut leader);
    world.execute(&fire(1), Outcome::Failed);
    leader.settle(&mut world);
    next_minute(&mut world, &mut leader);
    assert_eq!(world.pending(), [fire(2)], "the next attempt is to come");
    world.pass(MINUTE);
    leader.settle(&mut world);
    end(&mut world, &mut leader, &fire(1).with_attempt(2));
    assert!(is_given(&world, &fire(2)));
    world.audit.assert_kept();
}

#[test]
fn what_somebody_asks_for_waits_too() {
    let (mut world, mut leader) = with(&minutely(Overlap::QueueOne));
    next_minute(&mut world, &mut leader);
    let asked = world.ask_run("a");
    leader.settle(&mut world);
    assert_eq!(world.pending(), std::slice::from_ref(&asked));
    let again = world.ask_run("a");
    leader.settle(&mut world);
    assert_eq!(world.end_of(&again), Some(Outcome::OverlapSkipped));
    end(&mut world, &mut leader, &fire(1));
    assert!(is_given(&world, &asked));
    world.audit.assert_kept();
}

#[test]
fn a_waiting_run_is_given_up_at_its_start_deadline() {
    let (mut world, mut leader) =
        with(&Job { start_deadline_ms: Some(90_000), ..minutely(Overlap::QueueOne) });
    next_minute(&mut world, &mut leader);
    let seat = world.claim_run(&fire(1));
    leader.catch_up(&world);
    next_minute(&mut world, &mut leader);
    world.pass(91 * SECOND);
    leader.settle(&mut world);
    assert_eq!(world.end_of(&fire(2)), Some(Outcome::OverlapSkipped));
    assert!(world.complete(&seat, &fire(1), Outcome::Succeeded));
    world.audit.assert_kept();
}

#[test]
fn a_waiting_run_can_be_cancelled_and_ends_with_its_job() {
    let (mut world, mut leader) = with(&minutely(Overlap::QueueAll));
    for _ in 0..3 {
        next_minute(&mut world, &mut leader);
    }
    world.ask_cancel(&fire(2));
    leader.settle(&mut world);
    assert_eq!(world.end_of(&fire(2)), Some(Outcome::Cancelled));
    world.delete_job("a");
    leader.settle(&mut world);
    assert_eq!(world.end_of(&fire(3)), Some(Outcome::Cancelled));
    world.audit.assert_kept();
}

#[test]
fn a_newer_run_takes_the_place_of_one_that_is_executed() {
    let (mut world, mut leader) = with(&minutely(Overlap::CancelRunning));
    next_minute(&mut world, &mut leader);
    let seat = world.claim_run(&fire(1));
    leader.catch_up(&world);
    next_minute(&mut world, &mut leader);
    assert_eq!(world.pending(), [fire(2)]);
    let cancel = world.keys.cancel(&seat.0, &seat.1, &fire(1));
    assert!(world.etcd.get(&cancel).is_some(), "its client is asked to stop it");
    next_minute(&mut world, &mut leader);
    assert_eq!(world.pending(), [fire(3)], "the newest one waits");
    assert_eq!(world.end_of(&fire(2)), Some(Outcome::Cancelled));
    assert!(world.complete(&seat, &fire(1), Outcome::Cancelled));
    leader.settle(&mut world);
    assert!(is_given(&world, &fire(3)));
    world.audit.assert_kept();
}

#[test]
fn a_newer_run_takes_the_place_of_what_has_not_started() {
    let job = Job { max_attempts: 2, retry_delays_ms: vec![600_000], ..minutely(Overlap::CancelRunning) };
    let (mut world, mut leader) = with(&job);
    next_minute(&mut world, &mut leader);
    next_minute(&mut world, &mut leader);
    assert_eq!(world.end_of(&fire(1)), Some(Outcome::Cancelled), "it was given and not claimed");
    assert!(is_given(&world, &fire(2)));
    world.execute(&fire(2), Outcome::Failed);
    leader.settle(&mut world);
    assert_eq!(world.delayed().len(), 1);
    next_minute(&mut world, &mut leader);
    assert!(world.delayed().is_empty() && is_given(&world, &fire(3)));
    world.audit.assert_kept();
}

/// Whatever happens in whatever order, also with a new leader in between: the audit sees every revision.
#[test]
fn queues_keep_their_order_under_random_lives() {
    for seed in 0..150 {
        let mut rng = Rng::with_seed(seed);
        let kinds = [Overlap::QueueOne, Overlap::QueueAll, Overlap::CancelRunning, Overlap::Forbid];
        let overlap = kinds[rng.usize(..kinds.len())];
        let (mut world, mut leader) = with(&Job {
            overlap,
            queue_limit: (overlap == Overlap::QueueAll).then_some(3),
            max_attempts: rng.u32(1..3),
            retry_delays_ms: vec![1_500],
            ..job("a", "*/2 * * * * *")
        });
        for _ in 0..120 {
            match rng.u8(..12) {
                0 => drop(world.ask_run("a")),
                1..=2 => {
                    if let Some((seat, run)) = world.given().first().cloned() {
                        world.claim(&seat, &run);
                    }
                }
                3..=5 => {
                    if let Some((seat, run)) = world.running().first().cloned() {
                        let outcome = if rng.bool() { Outcome::Succeeded } else { Outcome::Failed };
                        world.complete(&seat, &run, outcome);
                    }
                }
                6 => {
                    let runs = world.pending();
                    if let Some(run) = runs.first() {
                        world.ask_cancel(run);
                    }
                }
                7 => leader = Leader::elect(&mut world),
                8 => world.collect(),
                _ => world.pass(rng.i64(200..1_500)),
            }
            leader.dispatch(&mut world);
            leader.settle(&mut world);
            assert!(world.pending().len() <= 3, "seed {seed}");
        }
        assert!(world.audit.broken.is_empty(), "seed {seed} {overlap:?}: {:#?}", world.audit.broken);
    }
}
