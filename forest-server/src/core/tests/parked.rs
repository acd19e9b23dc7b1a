//! Runs without a client, or with one that is gone before it took them.

use forest_etcd::Guard;
use forest_proto::record::{ClientRecord, Job, Outcome};
use forest_proto::time::Instant;
use forest_proto::{Key, RunId};

use super::leader::Leader;
use super::world::{World, client};
use super::{HOUR, MINUTE, SECOND, START, group, job, seat};

/// A run of a job, with or without a client to take it.
fn one_run(clients: &[&str]) -> (World, Leader, RunId) {
    let (mut world, mut leader) = Leader::of_one_segment();
    clients.iter().for_each(|name| world.register(name, 1));
    world.save(&job("a", "0 * * * * *"));
    world.pass(MINUTE);
    leader.catch_up(&world);
    leader.dispatch(&mut world);
    // One run is enough.
    world.disable("a");
    leader.catch_up(&world);
    (world, leader, World::fire("a", START + MINUTE))
}

fn is_given_to(world: &World, run: &RunId, name: &str) -> bool {
    matches!(&world.places(run)[..], [Key::Snapshot { client, .. }] if client.as_str() == name)
}

#[test]
fn a_run_without_a_client_waits_for_one_that_serves_its_target() {
    let (mut world, mut leader, run) = one_run(&[]);
    assert_eq!(world.pending(), std::slice::from_ref(&run));
    world.register_as("c-1", &World::serving(&["other"], "c-1"));
    assert_eq!(leader.settle(&mut world), 0, "this one would not take it");
    world.register("c-2", 1);
    leader.settle(&mut world);
    assert!(is_given_to(&world, &run, "c-2"));
    world.audit.assert_kept();
}

#[test]
fn runs_wait_until_clients_have_room() {
    let (mut world, mut leader, _) = one_run(&["c-1"]);
    for _ in 0..4 {
        world.ask_run("a");
    }
    leader.settle(&mut world);
    assert_eq!((world.given().len(), world.pending().len()), (2, 3), "twice its capacity");
    let (_, run) = world.given().remove(0);
    world.execute(&run, Outcome::Succeeded);
    leader.settle(&mut world);
    assert_eq!((world.given().len(), world.pending().len()), (2, 2));
    world.audit.assert_kept();
}

#[test]
fn a_run_that_no_client_took_in_time_is_given_up() {
    for clients in [&[][..], &["c-1"]] {
        let (mut world, mut leader, run) = one_run(clients);
        world.pass(HOUR);
        assert_eq!(leader.settle(&mut world), 0, "to the end of its last millisecond");
        world.pass(1);
        leader.settle(&mut world);
        assert_eq!(world.end_of(&run), Some(Outcome::NoClient), "{clients:?}");
        assert!(matches!(&world.places(&run)[..], [Key::Execution { client: None, .. }]));
        world.audit.assert_kept();
    }
}

#[test]
fn the_start_deadline_is_the_jobs_own() {
    let (mut world, mut leader) = Leader::of_one_segment();
    world.save(&Job { start_deadline_ms: Some(2_000), ..job("a", "0 * * * * *") });
    leader.catch_up(&world);
    world.pass(MINUTE);
    leader.dispatch(&mut world);
    world.pass(2 * SECOND + 1);
    leader.settle(&mut world);
    assert_eq!(world.end_of(&World::fire("a", START + MINUTE)), Some(Outcome::NoClient));
    world.audit.assert_kept();
}

#[test]
fn with_its_job_a_run_that_has_not_started_ends() {
    for clients in [&[][..], &["c-1"]] {
        let (mut world, mut leader, run) = one_run(clients);
        world.delete_job("a");
        leader.settle(&mut world);
        assert_eq!(world.end_of(&run), Some(Outcome::Cancelled), "{clients:?}");
        world.audit.assert_kept();
    }
}

#[test]
fn a_run_that_has_started_outlives_its_job() {
    let (mut world, mut leader, run) = one_run(&["c-1"]);
    let seat = world.claim_run(&run);
    world.delete_job("a");
    leader.settle(&mut world);
    assert!(world.complete(&seat, &run, Outcome::Succeeded));
    leader.settle(&mut world);
    assert_eq!(world.end_of(&run), Some(Outcome::Succeeded));
    world.audit.assert_kept();
}

#[test]
fn a_run_moves_away_from_a_client_that_would_not_start_it() {
    let draining = ClientRecord { draining: true, ..client("c-1", 1) };
    for record in [draining, World::serving(&["other"], "c-1")] {
        let (mut world, mut leader, run) = one_run(&["c-1"]);
        world.register_as("c-1", &record);
        leader.settle(&mut world);
        assert_eq!(world.pending(), std::slice::from_ref(&run));
        world.register("c-2", 1);
        leader.settle(&mut world);
        assert!(is_given_to(&world, &run, "c-2"));
        world.audit.assert_kept();
    }
}

#[test]
fn a_run_stays_with_a_client_that_will_start_it() {
    let (mut world, mut leader, run) = one_run(&["c-1"]);
    world.register("c-0", 1);
    world.register("c-2", 1);
    assert_eq!(leader.settle(&mut world), 0);
    assert!(is_given_to(&world, &run, "c-1"));
}

#[test]
fn a_run_moves_away_from_a_client_only_while_its_registration_is_absent() {
    let (mut world, mut leader, run) = one_run(&["c-1"]);
    world.register("c-2", 1);
    world.vanish("c-1");
    leader.catch_up(&world);
    let txn = leader.txn_of(&world, &run);
    let absent = Guard::Modified { key: world.keys.client(&group(), &seat("c-1").1), revision: 0 };
    assert!(txn.guards.contains(&absent), "{:?}", txn.guards);
    leader.settle(&mut world);
    assert!(is_given_to(&world, &run, "c-2"));
    world.audit.assert_kept();
}

#[test]
fn of_a_client_that_dies_with_many_runs_each_moves_once() {
    let (mut world, mut leader) = Leader::of_one_segment();
    world.register("c-1", 500);
    for n in 0..300 {
        world.save(&job(&format!("job-{n:03}"), "0 0 * * * *"));
    }
    leader.catch_up(&world);
    world.pass(HOUR);
    leader.dispatch(&mut world);
    assert_eq!(world.given().len(), 300);
    world.vanish("c-1");
    world.register("c-2", 50);
    world.register("c-3", 50);
    assert_eq!(leader.settle(&mut world), 300);
    assert_eq!((world.given().len(), world.pending().len()), (200, 100), "twice the capacity of each");
    world.audit.assert_kept();
}

#[test]
fn a_run_given_to_a_client_that_has_just_vanished_moves_on() {
    let (mut world, mut leader) = Leader::of_one_segment();
    world.register("c-1", 1);
    world.save(&job("a", "0 * * * * *"));
    leader.catch_up(&world);
    world.pass(MINUTE);
    let batch = leader.batch(&world).unwrap();
    world.vanish("c-1");
    let outcome = world.commit(&batch.txn);
    leader.answered(batch, &outcome);
    leader.settle(&mut world);
    assert_eq!(world.pending().len(), 1);
    world.audit.assert_kept();
}

#[test]
fn a_parked_run_says_nothing_of_the_client_it_was_given_to() {
    let (mut world, mut leader, run) = one_run(&["c-1"]);
    world.vanish("c-1");
    leader.settle(&mut world);
    let kv = world.etcd.get(&world.keys.pending(&group(), &run)).unwrap();
    let parked: forest_proto::record::Snapshot = forest_proto::record::decode(&kv.value).unwrap();
    assert!(parked.ip.is_empty());
    assert_eq!(parked.start_deadline, Some(Instant::from_ms(START + MINUTE + HOUR)), "the deadline stays");
}
