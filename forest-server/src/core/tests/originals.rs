//! What other programs write under the published keys.

use forest_etcd::{Outcome as Committed, Txn};
use forest_proto::record::{Execution, Job, OnLost, Outcome, Status, decode};
use forest_proto::{ClientId, Key, RunId};

use super::leader::Leader;
use super::world::World;
use super::{MINUTE, SECOND, START, group, id, job, seat};

fn write(world: &mut World, key: String, value: &str) {
    assert!(matches!(world.commit(&Txn::new().put(key, value)), Committed::Applied { .. }));
}

/// A job of ours, and a worker of the original whose name is its address.
fn given_to_an_original(job: &Job) -> (World, Leader, RunId) {
    let (mut world, mut leader) = Leader::of_one_segment();
    let key = world.keys.client(&group(), &ClientId::new("10.0.0.7").unwrap());
    write(&mut world, key, "10.0.0.7");
    world.save(job);
    leader.catch_up(&world);
    world.pass(MINUTE);
    leader.dispatch(&mut world);
    let run = World::fire("a", START + MINUTE);
    assert_eq!(world.given(), [(seat("10.0.0.7"), run.clone())], "a bare name serves every target");
    (world, leader, run)
}

/// The record of a worker that knows none of our fields.
fn execution(run: &RunId, status: i64) -> String {
    format!(
        r#"{{"id":"{run}","jobId":"a","name":"a","ip":"10.0.0.7","group":"trade","cron":"","target":"bill",
        "params":"p","mobile":"","remark":"","createTime":"2027-01-15 08:01:00",
        "startTime":"2027-01-15 08:01:00","finishTime":"","times":3,"status":{status},"result":"r"}}"#
    )
}

/// As the original's worker does it: with one write after the other, and without guards.
fn ends(world: &mut World, run: &RunId, status: i64) {
    let seat = seat("10.0.0.7");
    let (from, to) =
        (world.keys.snapshot(&seat.0, &seat.1, run), world.keys.execution(&seat.0, Some(&seat.1), run));
    world.commit(&Txn::new().delete(from).put(to.clone(), execution(run, 1)));
    write(world, to, &execution(run, status));
}

#[test]
fn a_job_of_the_original_is_fired_by_the_originals_rule() {
    let (mut world, mut leader) = Leader::of_one_segment();
    let document = r#"{"id":"7","name":"x","group":"trade","cron":"15 * * * *","status":1,"target":"bill",
        "params":"","mobile":"","remark":"","version":3}"#;
    let key = world.keys.job(&id("7"));
    write(&mut world, key, document);
    leader.catch_up(&world);
    assert_eq!(
        leader.view.jobs.get(&id("7")).unwrap().next_ms(),
        Some(START + 15 * SECOND),
        "five fields begin with seconds"
    );
    world.pass(2 * MINUTE);
    leader.dispatch(&mut world);
    assert_eq!(world.audit.tally.decisions[0].others, 1, "two fires, both late");
    world.audit.assert_kept();
}

#[test]
fn an_end_of_a_worker_of_the_original_is_decided() {
    for (status, outcome) in
        [(2, Outcome::Succeeded), (3, Outcome::Lost), (4, Outcome::Failed), (-1, Outcome::Failed)]
    {
        let (mut world, mut leader, run) = given_to_an_original(&job("a", "0 1 8 * * *"));
        ends(&mut world, &run, status);
        leader.settle(&mut world);
        let end: &Execution = &world.audit.ended[&run];
        assert_eq!((end.outcome, end.decided, end.result.as_str()), (Some(outcome), true, "r"));
        assert!(world.delayed().is_empty());
        world.collect();
        assert!(world.places(&run).is_empty());
        world.audit.assert_kept();
    }
}

#[test]
fn a_failure_at_a_worker_of_the_original_is_tried_again_as_the_job_says() {
    let twice = Job { max_attempts: 2, retry_delays_ms: vec![30_000], ..job("a", "0 1 8 * * *") };
    let (mut world, mut leader, run) = given_to_an_original(&twice);
    ends(&mut world, &run, -1);
    leader.settle(&mut world);
    let second = run.with_attempt(2);
    assert_eq!(world.delayed(), [(world.now_ms + 30 * SECOND, second.clone())]);
    world.pass(30 * SECOND);
    leader.settle(&mut world);
    let seat = seat("10.0.0.7");
    let kv = world.etcd.get(&world.keys.snapshot(&seat.0, &seat.1, &second)).unwrap();
    let snapshot: forest_proto::record::Snapshot = decode(&kv.value).unwrap();
    assert_eq!(snapshot.scheduled_at.as_ms(), START + MINUTE, "the fire time of the first attempt");
    ends(&mut world, &second, 4);
    leader.settle(&mut world);
    assert!(world.delayed().is_empty(), "the second was the last");
    world.audit.assert_kept();
}

#[test]
fn a_run_lost_with_a_worker_of_the_original_is_tried_again_as_the_job_says() {
    let job = Job {
        max_attempts: 2,
        on_lost: OnLost::Retry,
        retry_delays_ms: vec![30_000],
        ..job("a", "0 1 8 * * *")
    };
    let (mut world, mut leader, run) = given_to_an_original(&job);
    let seat = seat("10.0.0.7");
    let (from, to) =
        (world.keys.snapshot(&seat.0, &seat.1, &run), world.keys.execution(&seat.0, Some(&seat.1), &run));
    world.commit(&Txn::new().delete(from).put(to, execution(&run, 1)));
    world.vanish("10.0.0.7");
    leader.catch_up(&world);
    world.pass(MINUTE);
    leader.settle(&mut world);
    assert_eq!(world.end_of(&run), Some(Outcome::Lost));
    assert_eq!(
        world.delayed().len() + world.pending().len(),
        1,
        "its own record does not say how often to try"
    );
    world.audit.assert_kept();
}

#[test]
fn a_worker_that_writes_its_record_before_it_takes_the_snapshot_away_is_understood() {
    let (mut world, mut leader, run) = given_to_an_original(&job("a", "0 1 8 * * *"));
    let seat = seat("10.0.0.7");
    let (from, to) =
        (world.keys.snapshot(&seat.0, &seat.1, &run), world.keys.execution(&seat.0, Some(&seat.1), &run));
    write(&mut world, to, &execution(&run, 1));
    leader.catch_up(&world);
    world.commit(&Txn::new().delete(from));
    leader.catch_up(&world);
    let load = leader.view.runs.load(&seat).unwrap();
    assert_eq!((load.queued.len(), load.running.len()), (0, 1));
    assert!(matches!(world.places(&run)[..], [Key::Execution { .. }]));
    assert_eq!(Status::from_code(-1), Some(Status::Error));
}
