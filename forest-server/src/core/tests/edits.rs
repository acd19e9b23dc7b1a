//! A job changes while its fires are decided.

use forest_etcd::Outcome as Committed;
use forest_proto::record::{Job, Snapshot, decode};
use forest_proto::time::Instant;

use super::leader::Leader;
use super::world::World;
use super::{MINUTE, SECOND, START, id, job, seat};

fn minutely() -> Job {
    job("a", "0 * * * * *")
}

fn with_job() -> (World, Leader) {
    let (mut world, mut leader) = Leader::of_one_segment();
    world.register("c-1", 100);
    world.save(&minutely());
    leader.catch_up(&world);
    (world, leader)
}

fn change_schedule(world: &mut World) {
    let effective_after = Some(Instant::from_ms(world.now_ms));
    world.save(&Job { cron: "30 * * * * *".into(), effective_after, ..minutely() });
}

#[test]
fn what_was_decided_before_a_change_does_not_commit_after_it() {
    let changes: [fn(&mut World); 5] = [
        |world| world.disable("a"),
        |world| world.delete_job("a"),
        change_schedule,
        |world| world.save(&Job { params: "other".into(), ..minutely() }),
        |world| world.save(&job("another-one", "0 0 0 1 1 *")),
    ];
    for (number, change) in changes.iter().enumerate() {
        let (mut world, mut leader) = with_job();
        world.pass(MINUTE);
        let batch = leader.batch(&world).unwrap();
        change(&mut world);
        let outcome = world.commit(&batch.txn);
        let Committed::Refused { found, .. } = &outcome else { panic!("change {number}: {outcome:?}") };
        assert_eq!(found.len(), 3, "what to wait for is read at once");
        leader.answered(batch, &outcome);
        leader.catch_up(&world);
        leader.dispatch(&mut world);
        world.audit.assert_kept();
        let fires = if number < 3 { 0 } else { 1 };
        assert_eq!(world.given().len(), fires, "change {number}");
    }
}

#[test]
fn a_change_of_parameters_keeps_the_fires() {
    let (mut world, mut leader) = with_job();
    world.pass(MINUTE);
    world.save(&Job { params: "other".into(), ..minutely() });
    leader.catch_up(&world);
    leader.dispatch(&mut world);
    let seat = seat("c-1");
    let run = World::fire("a", START + MINUTE);
    let kv = world.etcd.get(&world.keys.snapshot(&seat.0, &seat.1, &run)).unwrap();
    let snapshot: Snapshot = decode(&kv.value).unwrap();
    assert_eq!((snapshot.params.as_str(), snapshot.job_version), ("other", 2));
}

#[test]
fn after_a_change_the_view_plans_by_the_new_version_only() {
    let (mut world, mut leader) = with_job();
    let next = |leader: &Leader| leader.view.jobs.get(&id("a")).and_then(|job| job.next_ms());
    assert_eq!(next(&leader), Some(START + MINUTE));
    change_schedule(&mut world);
    leader.catch_up(&world);
    assert_eq!(next(&leader), Some(START + 30 * SECOND));
    world.disable("a");
    leader.catch_up(&world);
    assert_eq!(next(&leader), None);
    assert_eq!(leader.view.jobs.enabled(), 0);
    world.enable("a");
    leader.catch_up(&world);
    assert_eq!(next(&leader), Some(START + 30 * SECOND));
    world.delete_job("a");
    leader.catch_up(&world);
    assert!(leader.view.jobs.get(&id("a")).is_none());
    assert_eq!(leader.view.jobs.segment(world.segments.all().next().unwrap()).next_due(), None);
}

#[test]
fn a_job_created_right_before_its_fire_and_seen_late_is_not_missed() {
    let (mut world, mut leader) = with_job();
    world.pass(MINUTE - SECOND);
    world.save(&Job { effective_after: Some(Instant::from_ms(world.now_ms)), ..job("b", "0 * * * * *") });
    world.pass(SECOND);
    let blind = leader.batch(&world).unwrap();
    let outcome = world.commit(&blind.txn);
    assert!(matches!(outcome, Committed::Refused { .. }), "the cursor would pass it by");
    leader.answered(blind, &outcome);
    leader.catch_up(&world);
    leader.dispatch(&mut world);
    assert_eq!(world.given().len(), 2);
    world.audit.assert_kept();
}

#[test]
fn a_job_deleted_and_stored_again_counts_from_then_on() {
    let (mut world, mut leader) = with_job();
    world.pass(10 * MINUTE);
    world.delete_job("a");
    world.save(&Job { effective_after: Some(Instant::from_ms(world.now_ms)), ..minutely() });
    leader.catch_up(&world);
    assert_eq!(leader.dispatch(&mut world), 0);
    world.pass(MINUTE);
    leader.dispatch(&mut world);
    assert_eq!(world.given().len(), 1);
    world.audit.assert_kept();
}

#[test]
fn an_interval_counts_from_its_last_change_and_does_not_drift() {
    let (mut world, mut leader) = with_job();
    world.delete_job("a");
    world.pass(7 * SECOND);
    world.save(&Job { effective_after: Some(Instant::from_ms(world.now_ms)), ..job("b", "@every 90s") });
    for _ in 0..5 {
        world.pass(91 * SECOND);
        leader.catch_up(&world);
        leader.dispatch(&mut world);
    }
    let fires: Vec<_> = world.audit.tally.decisions.iter().map(|made| made.at).collect();
    assert_eq!(fires, (1..=5).map(|n| START + 7 * SECOND + n * 90 * SECOND).collect::<Vec<_>>());
    world.audit.assert_kept();
}
