//! Runs whose clients vanished, failures, and the attempts that follow.

use forest_proto::record::{Job, OnLost, Outcome};
use forest_proto::{Key, RunId};

use super::leader::Leader;
use super::world::World;
use super::{CLIENT_TTL, LOST_GRACE, MINUTE, SECOND, START, group, job, seat};

fn run() -> RunId {
    World::fire("a", START + MINUTE)
}

/// A claimed run of this job.
fn running(job: &Job) -> (World, Leader) {
    let (mut world, mut leader) = Leader::of_one_segment();
    world.register("c-1", 4);
    world.save(job);
    leader.catch_up(&world);
    world.pass(MINUTE);
    leader.dispatch(&mut world);
    world.claim_run(&run());
    leader.catch_up(&world);
    (world, leader)
}

fn retrying(attempts: u32) -> Job {
    let delays = vec![30_000, 60_000];
    Job { max_attempts: attempts, on_lost: OnLost::Retry, retry_delays_ms: delays, ..once() }
}

/// The job of these stories fires once, a minute after the start.
fn once() -> Job {
    job("a", "0 1 8 * * *")
}

fn certainty() -> i64 {
    i64::try_from((CLIENT_TTL + LOST_GRACE).as_millis()).unwrap()
}

#[test]
fn a_run_is_lost_when_its_client_is_certain_to_have_stopped_it_and_not_before() {
    let (mut world, mut leader) = running(&once());
    world.vanish("c-1");
    assert_eq!(leader.settle(&mut world), 0);
    world.pass(certainty() - 1);
    assert_eq!(leader.settle(&mut world), 0);
    world.pass(1);
    assert_eq!(leader.settle(&mut world), 1);
    assert_eq!(world.end_of(&run()), Some(Outcome::Lost));
    assert!(matches!(&world.places(&run())[..], [Key::Execution { client: Some(_), .. }]));
    assert!(world.audit.ended[&run()].decided && world.delayed().is_empty());
    world.audit.assert_kept();
}

#[test]
fn a_new_leader_waits_anew() {
    let (mut world, mut leader) = running(&once());
    world.vanish("c-1");
    leader.catch_up(&world);
    world.pass(certainty() - 1);
    let mut next = Leader::elect(&mut world);
    world.pass(certainty() - 1);
    assert_eq!(next.settle(&mut world), 0);
    world.pass(1);
    next.settle(&mut world);
    assert_eq!(world.end_of(&run()), Some(Outcome::Lost));
    world.audit.assert_kept();
}

#[test]
fn a_run_of_a_client_that_is_there_is_never_lost() {
    let (mut world, mut leader) = running(&once());
    world.pass(100 * MINUTE);
    assert_eq!(leader.settle(&mut world), 0);
    world.vanish("c-1");
    leader.catch_up(&world);
    world.register("c-1", 4);
    world.pass(certainty() + 1);
    assert_eq!(leader.settle(&mut world), 0, "a worker of the original comes back under its address");
}

#[test]
fn a_lost_run_is_tried_again_where_its_job_says_so() {
    let (mut world, mut leader) = running(&retrying(3));
    let mut seat = seat("c-1");
    let mut attempt = run();
    for (wait, next) in [(30 * SECOND, "c-2"), (60 * SECOND, "c-3")] {
        world.vanish(seat.1.as_str());
        world.register(next, 4);
        leader.catch_up(&world);
        world.pass(certainty());
        leader.settle(&mut world);
        assert_eq!(world.end_of(&attempt), Some(Outcome::Lost));
        attempt = attempt.with_attempt(attempt.attempt() + 1);
        assert_eq!(world.delayed(), [(world.now_ms + wait, attempt.clone())]);
        world.pass(wait - 1);
        assert_eq!(leader.settle(&mut world), 0, "not due yet");
        world.pass(1);
        leader.settle(&mut world);
        seat = world.claim_run(&attempt);
        assert_eq!(seat.1.as_str(), next);
        leader.catch_up(&world);
    }
    world.vanish("c-3");
    leader.catch_up(&world);
    world.pass(certainty());
    leader.settle(&mut world);
    assert_eq!((attempt.attempt(), world.end_of(&attempt)), (3, Some(Outcome::Lost)));
    assert!(world.delayed().is_empty(), "all attempts are used up");
    world.audit.assert_kept();
}

#[test]
fn what_a_client_says_before_its_run_is_given_up_counts() {
    let (mut world, mut leader) = running(&once());
    world.vanish("c-1");
    leader.catch_up(&world);
    world.pass(certainty());
    let lost = leader.txn_of(&world, &run());
    assert!(world.complete(&seat("c-1"), &run(), Outcome::Succeeded), "without a registration");
    world.commit(&lost);
    leader.settle(&mut world);
    assert_eq!(world.end_of(&run()), Some(Outcome::Succeeded));
    world.audit.assert_kept();
}

#[test]
fn failures_are_tried_again_until_the_attempts_are_used_up() {
    let (mut world, mut leader) = running(&Job { on_lost: OnLost::Fail, ..retrying(3) });
    let mut attempt = run();
    assert!(world.complete(&seat("c-1"), &attempt, Outcome::Failed));
    for wait in [30 * SECOND, 60 * SECOND] {
        leader.settle(&mut world);
        assert!(world.audit.ended[&attempt].decided, "the failure is settled together with its retry");
        attempt = attempt.with_attempt(attempt.attempt() + 1);
        assert_eq!(world.delayed(), [(world.now_ms + wait, attempt.clone())]);
        world.pass(wait);
        leader.settle(&mut world);
        world.execute(&attempt, Outcome::TimedOut);
    }
    assert_eq!(leader.settle(&mut world), 0);
    assert!(world.audit.ended[&attempt].decided && world.delayed().is_empty());
    world.audit.assert_kept();
}

#[test]
fn the_attempts_of_a_disabled_or_deleted_job_end() {
    for delete in [false, true] {
        let (mut world, mut leader) = running(&retrying(3));
        assert!(world.complete(&seat("c-1"), &run(), Outcome::Failed));
        leader.settle(&mut world);
        if delete {
            world.delete_job("a")
        } else {
            world.disable("a")
        }
        leader.settle(&mut world);
        world.pass(30 * SECOND);
        leader.settle(&mut world);
        let second = run().with_attempt(2);
        assert_eq!(world.end_of(&second), Some(Outcome::Cancelled), "deleted: {delete}");
        assert!(world.delayed().is_empty());
        world.audit.assert_kept();
    }
}

#[test]
fn a_failure_of_a_deleted_job_is_settled_without_a_retry() {
    let (mut world, mut leader) = running(&retrying(3));
    world.delete_job("a");
    assert!(world.complete(&seat("c-1"), &run(), Outcome::Failed));
    leader.settle(&mut world);
    assert!(world.audit.ended[&run()].decided && world.delayed().is_empty());
    world.audit.assert_kept();
}

#[test]
fn a_cancelled_run_ends_wherever_it_is() {
    // Given, parked, waiting for its next attempt.
    let (mut world, mut leader) = running(&retrying(3));
    let given = world.ask_run("a");
    leader.settle(&mut world);
    assert!(world.complete(&seat("c-1"), &run(), Outcome::Failed));
    leader.settle(&mut world);
    let delayed = run().with_attempt(2);
    world.vanish("c-1");
    let parked = world.ask_run("a");
    leader.settle(&mut world);
    for run in [&given, &delayed, &parked] {
        world.ask_cancel(run);
        leader.settle(&mut world);
        assert_eq!(world.end_of(run), Some(Outcome::Cancelled), "{run}");
    }
    assert!(world.requests().is_empty());
    world.audit.assert_kept();
}

#[test]
fn the_client_of_a_running_run_is_asked_to_stop_it() {
    let (mut world, mut leader) = running(&once());
    world.ask_cancel(&run());
    leader.settle(&mut world);
    let key = world.keys.cancel(&group(), &seat("c-1").1, &run());
    assert!(world.etcd.get(&key).is_some() && world.requests().is_empty());
    assert!(world.complete(&seat("c-1"), &run(), Outcome::Cancelled));
    world.ask_cancel(&run());
    leader.settle(&mut world);
    assert!(world.requests().is_empty(), "of one that has ended nothing is asked");
    world.audit.assert_kept();
}

#[test]
fn a_run_that_somebody_asked_to_stop_is_not_tried_again() {
    let (mut world, mut leader) = running(&retrying(3));
    world.ask_cancel(&run());
    leader.settle(&mut world);
    let key = world.keys.cancel(&group(), &seat("c-1").1, &run());
    assert!(world.etcd.get(&key).is_some());
    // The client had failed before it heard of it.
    assert!(world.complete(&seat("c-1"), &run(), Outcome::Failed));
    leader.settle(&mut world);
    assert!(world.delayed().is_empty(), "no further attempt");
    assert!(world.etcd.get(&key).is_none(), "the request to stop goes with it");
    world.audit.assert_kept();
}

#[test]
fn a_leader_that_has_not_heard_of_a_request_to_stop_does_not_try_again_either() {
    let (mut world, mut leader) = running(&retrying(3));
    assert!(world.complete(&seat("c-1"), &run(), Outcome::Failed));
    leader.catch_up(&world);
    let settling = leader.txn_of(&world, &run());
    let key = world.keys.cancel(&group(), &seat("c-1").1, &run());
    world.commit(&forest_etcd::Txn::new().put(key, "now"));
    assert!(matches!(world.commit(&settling), forest_etcd::Outcome::Refused { .. }));
    leader.settle(&mut world);
    assert!(world.delayed().is_empty());
}

#[test]
fn with_a_lost_run_the_request_to_stop_it_goes() {
    let (mut world, mut leader) = running(&once());
    world.ask_cancel(&run());
    leader.settle(&mut world);
    world.vanish("c-1");
    leader.catch_up(&world);
    world.pass(certainty());
    leader.settle(&mut world);
    let key = world.keys.cancel(&group(), &seat("c-1").1, &run());
    assert!(world.etcd.get(&key).is_none(), "nobody else would ever remove it");
}

#[test]
fn the_next_attempt_of_a_failure_has_its_checkpoint() {
    let (mut world, mut leader) = running(&retrying(4));
    let c1 = seat("c-1");
    world.save_checkpoint(&c1, &run(), "page 1");
    leader.settle(&mut world);
    world.save_checkpoint(&c1, &run(), "page 2");
    assert!(world.complete(&c1, &run(), Outcome::Failed));
    leader.settle(&mut world);
    assert_eq!(world.audit.ended[&run()].snapshot.checkpoint, None, "nobody needs it there any more");
    world.pass(30 * SECOND);
    leader.settle(&mut world);
    let second = run().with_attempt(2);
    assert_eq!(world.given_checkpoint(&second).as_deref(), Some("page 2"));
    // One that saves none leaves what it was given.
    world.execute(&second, Outcome::TimedOut);
    leader.settle(&mut world);
    world.pass(60 * SECOND);
    leader.settle(&mut world);
    assert_eq!(world.given_checkpoint(&second.with_attempt(3)).as_deref(), Some("page 2"));
    world.audit.assert_kept();
}

#[test]
fn the_next_attempt_of_a_lost_run_has_its_last_checkpoint() {
    let (mut world, mut leader) = running(&retrying(3));
    let c1 = seat("c-1");
    world.save_checkpoint(&c1, &run(), "page 1");
    world.vanish("c-1");
    world.register("c-2", 4);
    leader.catch_up(&world);
    world.pass(certainty());
    // The handler that nobody sees any more saves once more, after the leader has read the document.
    let lost = leader.txn_of(&world, &run());
    world.save_checkpoint(&c1, &run(), "page 2");
    assert!(matches!(world.commit(&lost), forest_etcd::Outcome::Refused { .. }));
    leader.settle(&mut world);
    assert_eq!(world.end_of(&run()), Some(Outcome::Lost));
    world.pass(30 * SECOND);
    leader.settle(&mut world);
    assert_eq!(world.given_checkpoint(&run().with_attempt(2)).as_deref(), Some("page 2"));
    world.audit.assert_kept();
}

#[test]
fn only_the_outcomes_that_the_job_names_are_tried_again() {
    let job = Job { retry_if: vec![Outcome::TimedOut], on_lost: OnLost::Fail, ..retrying(3) };
    for (outcome, again) in [(Outcome::Failed, false), (Outcome::TimedOut, true)] {
        let (mut world, mut leader) = running(&job);
        assert!(world.complete(&seat("c-1"), &run(), outcome));
        leader.settle(&mut world);
        assert_eq!(!world.delayed().is_empty(), again, "{outcome:?}");
        assert!(world.audit.ended[&run()].decided);
        world.audit.assert_kept();
    }
}

#[test]
fn growing_delays_are_kept_by_the_leader() {
    let backoff = forest_proto::record::RetryBackoff {
        first_ms: 1_000,
        max_ms: 1_500,
        factor_percent: 200,
        jitter_percent: 0,
    };
    let job = Job { retry_delays_ms: Vec::new(), retry_backoff: Some(backoff), ..retrying(3) };
    let (mut world, mut leader) = running(&job);
    assert!(world.complete(&seat("c-1"), &run(), Outcome::Failed));
    leader.settle(&mut world);
    let second = run().with_attempt(2);
    assert_eq!(world.delayed(), [(world.now_ms + SECOND, second.clone())]);
    world.pass(SECOND);
    leader.settle(&mut world);
    world.execute(&second, Outcome::Failed);
    leader.settle(&mut world);
    assert_eq!(world.delayed(), [(world.now_ms + 1_500, second.with_attempt(3))]);
}

#[test]
fn a_run_carries_the_time_that_its_job_gives_it() {
    let (world, _) = running(&Job { timeout_ms: Some(7_000), ..once() });
    let (seat, run) = world.running().pop().unwrap();
    let kv = world.etcd.get(&world.keys.execution(&seat.0, Some(&seat.1), &run)).unwrap();
    let execution: forest_proto::record::Execution = forest_proto::record::decode(&kv.value).unwrap();
    assert_eq!(execution.snapshot.timeout_ms, Some(7_000));
}
