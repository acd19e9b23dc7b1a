//! Jobs that run after others.

use forest_proto::Key;
use forest_proto::RunId;
use forest_proto::record::{
    After, Condition, Delay, Execution, Job, Join, Need, OnLost, Origin, Outcome, Overlap, Snapshot, Trigger,
    Within, decode,
};
use forest_proto::time::Instant;

use super::leader::Leader;
use super::world::World;
use super::{DAY, HOUR, MINUTE, SECOND, START, id, job};
use crate::core::steps::Step;

pub(super) fn after(name: &str, jobs: &[&str]) -> Job {
    let jobs = jobs.iter().map(|name| id(name)).collect();
    let trigger = Trigger::After(After {
        jobs,
        on: Condition::default(),
        need: Need::default(),
        within: Within::default(),
    });
    Job { trigger, ..job(name, "") }
}

fn with(mut job: Job, change: impl FnOnce(&mut After)) -> Job {
    let Trigger::After(after) = &mut job.trigger else { panic!("follows nothing") };
    change(after);
    job
}

fn minutely(name: &str) -> Job {
    job(name, "0 * * * * *")
}

fn told(jobs: &[Job]) -> (World, Leader) {
    let (mut world, mut leader) = Leader::of_one_segment();
    world.register("c-1", 100);
    jobs.iter().for_each(|job| world.save(job));
    leader.catch_up(&world);
    (world, leader)
}

/// A minute later all fires are given.
fn fire(world: &mut World, leader: &mut Leader) -> i64 {
    world.pass(MINUTE);
    leader.catch_up(world);
    leader.dispatch(world);
    world.now_ms / MINUTE * MINUTE
}

fn end(world: &mut World, leader: &mut Leader, job: &str, at: i64, outcome: Outcome) {
    world.execute(&World::fire(job, at), outcome);
    leader.settle(world);
}

/// The first runs of a job that there ever were, in order, without those of its schedule.
fn successors(world: &World, job: &str) -> Vec<RunId> {
    let of_job = |run: &&RunId| run.job() == job && run.is_following() && run.attempt() == 1;
    let mut found: Vec<_> = world.audit.all_created().filter(of_job).cloned().collect();
    found.sort();
    found
}

fn snapshot_of(world: &World, run: &RunId) -> Snapshot {
    let (seat, _) = world.given().into_iter().find(|(_, given)| given == run).unwrap();
    decode(&world.etcd.get(&world.keys.snapshot(&seat.0, &seat.1, run)).unwrap().value).unwrap()
}

#[test]
fn a_job_runs_after_the_success_of_another_and_knows_which() {
    let (mut world, mut leader) = told(&[minutely("p"), after("s", &["p"])]);
    let at = fire(&mut world, &mut leader);
    let cause = World::fire("p", at);
    assert!(snapshot_of(&world, &cause).followed, "its end is left to the leader");
    let seat = world.claim_run(&cause);
    assert!(world.complete(&seat, &cause, Outcome::Succeeded));
    leader.catch_up(&world);
    assert!(successors(&world, "s").is_empty());
    leader.settle(&mut world);
    let run = RunId::following(&id("s"), Instant::from_ms(at), Some(&cause));
    let snapshot = snapshot_of(&world, &run);
    assert_eq!((snapshot.origin, snapshot.cause), (Origin::Dependency, Some(cause)));
    assert_eq!((snapshot.scheduled_at.as_ms(), snapshot.followed), (at, false));
    let seat = world.claim_run(&run);
    assert!(world.complete(&seat, &run, Outcome::Succeeded));
    leader.settle(&mut world);
    assert_eq!(successors(&world, "s"), [run]);
    world.audit.assert_kept();
}

#[test]
fn each_end_counts_where_it_is_asked_for() {
    let on = |name, on| with(after(name, &["p"]), |after| after.on = on);
    let all = [
        minutely("p"),
        on("s-success", Condition::Success),
        on("s-failure", Condition::Failure),
        on("s-end", Condition::End),
    ];
    let cases = [
        (Outcome::Succeeded, [1, 0, 1]),
        (Outcome::Failed, [0, 1, 1]),
        (Outcome::TimedOut, [0, 1, 1]),
        (Outcome::Cancelled, [0, 0, 1]),
    ];
    for (outcome, expected) in cases {
        let (mut world, mut leader) = told(&all);
        let at = fire(&mut world, &mut leader);
        end(&mut world, &mut leader, "p", at, outcome);
        let found = ["s-success", "s-failure", "s-end"].map(|name| successors(&world, name).len());
        assert_eq!(found, expected, "{outcome:?}");
        world.audit.assert_kept();
    }
}

#[test]
fn a_lost_run_and_one_that_nobody_takes_have_failed() {
    let failure = with(after("s", &["p"]), |after| after.on = Condition::Failure);
    let (mut world, mut leader) = told(&[minutely("p"), failure.clone()]);
    let at = fire(&mut world, &mut leader);
    world.claim_run(&World::fire("p", at));
    world.vanish("c-1");
    leader.catch_up(&world);
    world.pass(10 * SECOND);
    leader.settle(&mut world);
    assert_eq!(world.end_of(&World::fire("p", at)), Some(Outcome::Lost));
    assert_eq!(successors(&world, "s").len(), 1);
    world.audit.assert_kept();

    let (mut world, mut leader) = told(&[minutely("p"), failure]);
    world.vanish("c-1");
    leader.catch_up(&world);
    let at = fire(&mut world, &mut leader);
    world.pass(HOUR + MINUTE);
    leader.settle(&mut world);
    assert_eq!(world.end_of(&World::fire("p", at)), Some(Outcome::NoClient));
    assert_eq!(successors(&world, "s").len(), 1);
    world.audit.assert_kept();
}

#[test]
fn only_the_last_attempt_is_the_end() {
    let retried =
        Job { max_attempts: 2, retry_delays_ms: vec![1_000], on_lost: OnLost::Retry, ..minutely("p") };
    let failure = with(after("f", &["p"]), |after| after.on = Condition::End);
    let (mut world, mut leader) = told(&[retried, after("s", &["p"]), failure]);
    let at = fire(&mut world, &mut leader);
    end(&mut world, &mut leader, "p", at, Outcome::Failed);
    assert!(successors(&world, "f").is_empty(), "it is tried again");
    world.pass(SECOND);
    leader.settle(&mut world);
    let second = World::fire("p", at).with_attempt(2);
    world.execute(&second, Outcome::Succeeded);
    leader.settle(&mut world);
    let run = RunId::following(&id("s"), Instant::from_ms(at), Some(&World::fire("p", at)));
    assert_eq!(successors(&world, "s"), std::slice::from_ref(&run));
    assert_eq!(snapshot_of(&world, &run).cause, Some(second));
    assert_eq!(successors(&world, "f").len(), 1);
    world.audit.assert_kept();
}

#[test]
fn skipped_fires_have_no_end() {
    let skipping = Job { overlap: Overlap::Forbid, ..minutely("p") };
    let any_end = with(after("s", &["p"]), |after| after.on = Condition::End);
    let (mut world, mut leader) = told(&[skipping, any_end]);
    fire(&mut world, &mut leader);
    let skipped = fire(&mut world, &mut leader);
    assert_eq!(world.end_of(&World::fire("p", skipped)), Some(Outcome::OverlapSkipped));
    let asked = world.ask_run("p");
    leader.settle(&mut world);
    assert_eq!(world.end_of(&asked), Some(Outcome::OverlapSkipped));
    world.pass(HOUR);
    leader.dispatch(&mut world);
    assert!(successors(&world, "s").is_empty());
    world.audit.assert_kept();
}

#[test]
fn all_of_several_must_have_ended_at_the_same_fire() {
    let (mut world, mut leader) = told(&[minutely("p"), minutely("q"), after("s", &["p", "q"])]);
    let first = fire(&mut world, &mut leader);
    let second = fire(&mut world, &mut leader);
    end(&mut world, &mut leader, "p", first, Outcome::Succeeded);
    end(&mut world, &mut leader, "q", second, Outcome::Succeeded);
    assert!(successors(&world, "s").is_empty());
    end(&mut world, &mut leader, "p", second, Outcome::Succeeded);
    let run = |at| RunId::following(&id("s"), Instant::from_ms(at), None);
    assert_eq!(successors(&world, "s"), [run(second)]);
    assert_eq!(snapshot_of(&world, &run(second)).cause, Some(World::fire("p", second)), "the last one");
    leader = Leader::elect(&mut world);
    end(&mut world, &mut leader, "q", first, Outcome::Succeeded);
    assert_eq!(successors(&world, "s"), [run(first), run(second)]);
    world.audit.assert_kept();
}

#[test]
fn of_any_the_first_is_enough_and_the_others_change_nothing() {
    let any = with(after("s", &["p", "q"]), |after| after.need = Need::Any);
    let (mut world, mut leader) = told(&[minutely("p"), minutely("q"), any]);
    let at = fire(&mut world, &mut leader);
    end(&mut world, &mut leader, "q", at, Outcome::Failed);
    assert!(successors(&world, "s").is_empty());
    end(&mut world, &mut leader, "p", at, Outcome::Succeeded);
    assert_eq!(successors(&world, "s").len(), 1);
    let at = fire(&mut world, &mut leader);
    end(&mut world, &mut leader, "p", at, Outcome::Succeeded);
    end(&mut world, &mut leader, "q", at, Outcome::Succeeded);
    assert_eq!(successors(&world, "s").len(), 2);
    world.audit.assert_kept();
}

#[test]
fn within_a_day_it_runs_once() {
    let daily = with(after("s", &["p", "q"]), |after| after.within = Within::Day);
    let hourly = with(after("h", &["p"]), |after| after.within = Within::Hour);
    let (mut world, mut leader) = told(&[minutely("p"), job("q", "0 30 8 * * *"), daily, hourly]);
    let mut at = 0;
    for _ in 0..30 {
        at = fire(&mut world, &mut leader);
        end(&mut world, &mut leader, "p", at, Outcome::Succeeded);
    }
    assert!(successors(&world, "s").is_empty());
    end(&mut world, &mut leader, "q", at, Outcome::Succeeded);
    let day = RunId::following(&id("s"), Instant::from_ms(START / DAY * DAY), None);
    assert_eq!(successors(&world, "s"), [day]);
    let hour = RunId::following(&id("h"), Instant::from_ms(START), None);
    assert_eq!(successors(&world, "h"), [hour], "once, although many ended");
    world.audit.assert_kept();
}

#[test]
fn a_run_of_before_the_last_change_does_not_count() {
    let (mut world, mut leader) = told(&[minutely("p"), minutely("q"), after("s", &["p", "q"])]);
    let at = fire(&mut world, &mut leader);
    end(&mut world, &mut leader, "p", at, Outcome::Succeeded);
    world.disable("s");
    world.pass(SECOND);
    world.enable("s");
    leader.catch_up(&world);
    end(&mut world, &mut leader, "q", at, Outcome::Succeeded);
    assert!(successors(&world, "s").is_empty());
    let at = fire(&mut world, &mut leader);
    end(&mut world, &mut leader, "p", at, Outcome::Succeeded);
    end(&mut world, &mut leader, "q", at, Outcome::Succeeded);
    assert_eq!(successors(&world, "s").len(), 1);
    world.audit.assert_kept();
}

#[test]
fn a_job_taken_out_of_the_list_is_not_waited_for_and_does_not_count() {
    let daily = |jobs: &[&str]| with(after("s", jobs), |after| after.within = Within::Day);
    let (mut world, mut leader) = told(&[minutely("p"), minutely("q"), minutely("r"), daily(&["p", "q"])]);
    let at = fire(&mut world, &mut leader);
    end(&mut world, &mut leader, "p", at, Outcome::Succeeded);
    let effective_after = Some(Instant::from_ms(world.now_ms));
    world.save(&Job { effective_after, ..daily(&["q", "r"]) });
    let at = fire(&mut world, &mut leader);
    end(&mut world, &mut leader, "p", at, Outcome::Succeeded);
    end(&mut world, &mut leader, "q", at, Outcome::Succeeded);
    assert!(successors(&world, "s").is_empty());
    end(&mut world, &mut leader, "r", at, Outcome::Succeeded);
    assert_eq!(successors(&world, "s").len(), 1);
    // A further change of the same day: it has run for that.
    let effective_after = Some(Instant::from_ms(world.now_ms));
    world.save(&Job { effective_after, ..daily(&["q"]) });
    let at = fire(&mut world, &mut leader);
    end(&mut world, &mut leader, "q", at, Outcome::Succeeded);
    assert_eq!(successors(&world, "s").len(), 1);
    world.audit.assert_kept();
}

#[test]
fn a_window_is_about_the_runs_that_are_followed() {
    let at = |minutes: i64| Some(Instant::from_ms(START + minutes * MINUTE));
    let (mut world, mut leader) =
        told(&[minutely("p"), Job { starts_at: at(2), ends_at: at(3), ..after("s", &["p"]) }]);
    for _ in 0..4 {
        let at = fire(&mut world, &mut leader);
        end(&mut world, &mut leader, "p", at, Outcome::Succeeded);
    }
    let found: Vec<_> = successors(&world, "s").iter().map(|run| Some(run.at())).collect();
    assert_eq!(found, [at(2), at(3)]);
    world.audit.assert_kept();
}

#[test]
fn a_run_by_hand_and_a_fire_of_one_instant_are_two_ends() {
    let (mut world, mut leader) = told(&[minutely("p"), after("s", &["p"])]);
    let at = fire(&mut world, &mut leader);
    let asked = world.ask_run("p");
    leader.settle(&mut world);
    end(&mut world, &mut leader, "p", at, Outcome::Succeeded);
    world.execute(&asked, Outcome::Succeeded);
    leader.settle(&mut world);
    assert_eq!(successors(&world, "s").len(), 2);
    world.audit.assert_kept();
}

#[test]
fn a_chain_goes_on_and_overlap_counts() {
    let last = Job { overlap: Overlap::Forbid, ..after("t", &["s"]) };
    let (mut world, mut leader) = told(&[minutely("p"), after("s", &["p"]), last]);
    for _ in 0..2 {
        let at = fire(&mut world, &mut leader);
        end(&mut world, &mut leader, "p", at, Outcome::Succeeded);
        let middle = successors(&world, "s").pop().unwrap();
        world.execute(&middle, Outcome::Succeeded);
        leader.settle(&mut world);
    }
    let ends: Vec<_> = successors(&world, "t").iter().map(|run| world.end_of(run)).collect();
    assert_eq!(ends, [None, Some(Outcome::OverlapSkipped)]);
    world.audit.assert_kept();
}

#[test]
fn what_a_worker_of_the_original_ends_is_followed_too() {
    let (mut world, mut leader) = told(&[minutely("p"), after("s", &["p"])]);
    let at = fire(&mut world, &mut leader);
    let run = World::fire("p", at);
    let seat = world.claim_run(&run);
    let key = world.keys.execution(&seat.0, Some(&seat.1), &run);
    let mut execution: Execution = decode(&world.etcd.get(&key).unwrap().value).unwrap();
    execution.status = forest_proto::record::Status::Done;
    (execution.started_at, execution.snapshot.followed) = (None, false);
    world.commit(&forest_etcd::Txn::new().put(key, forest_proto::record::encode(&execution)));
    leader.settle(&mut world);
    assert_eq!(successors(&world, "s").len(), 1);
    world.audit.assert_kept();
}

#[test]
fn two_ends_at_once_are_both_counted() {
    let (mut world, mut leader) = told(&[minutely("p"), minutely("q"), after("s", &["p", "q"])]);
    let at = fire(&mut world, &mut leader);
    world.execute(&World::fire("p", at), Outcome::Succeeded);
    world.execute(&World::fire("q", at), Outcome::Succeeded);
    leader.catch_up(&world);
    let both = ["p", "q"].map(|name| leader.txn_of(&world, &World::fire(name, at)));
    let applied = both.map(|txn| matches!(world.commit(&txn), forest_etcd::Outcome::Applied { .. }));
    assert_eq!(applied, [true, false], "they write the same document");
    leader.settle(&mut world);
    assert_eq!(successors(&world, "s").len(), 1);
    world.audit.assert_kept();
}

#[test]
fn nothing_is_settled_while_it_is_in_doubt_who_follows() {
    let (mut world, mut leader) = told(&[minutely("p"), after("s", &["p"])]);
    let at = fire(&mut world, &mut leader);
    world.execute(&World::fire("p", at), Outcome::Succeeded);
    leader.catch_up(&world);
    let (segment, revision) = (world.segments.segment_of(&id("p")), world.etcd.revision());
    leader.view.jobs.doubt(segment, revision);
    assert!(matches!(leader.look(&world, &World::fire("p", at)), Step::Wait));
    leader.view.jobs.listed(revision);
    leader.settle(&mut world);
    assert_eq!(successors(&world, "s").len(), 1);
    world.audit.assert_kept();
}

#[test]
fn a_document_that_cannot_be_read_begins_anew() {
    let (mut world, mut leader) = told(&[minutely("p"), minutely("q"), after("s", &["p", "q"])]);
    let join = world.keys.join(world.segments.segment_of(&id("s")), &id("s"));
    world.commit_raw(&join, b"?");
    let at = fire(&mut world, &mut leader);
    end(&mut world, &mut leader, "p", at, Outcome::Succeeded);
    end(&mut world, &mut leader, "q", at, Outcome::Succeeded);
    assert_eq!(successors(&world, "s").len(), 1);
    let kept: Join = decode(&world.etcd.get(&join).unwrap().value).unwrap();
    assert!(kept.dates[0].fired);
    world.audit.assert_kept();
}

#[test]
fn as_many_followers_as_may_be_fit_into_a_request() {
    let names: Vec<_> = (0..32).map(|n| format!("s{n:02}")).collect();
    let (mut world, mut leader) = told(&[Job { on_lost: OnLost::Fail, ..minutely("p") }, minutely("q")]);
    for name in &names {
        world.save(&with(after(name, &["p", "q"]), |after| {
            (after.on, after.need) = (Condition::End, Need::Any)
        }));
    }
    leader.catch_up(&world);
    let at = fire(&mut world, &mut leader);
    world.claim_run(&World::fire("p", at));
    world.vanish("c-1");
    leader.catch_up(&world);
    world.pass(10 * SECOND);
    leader.settle(&mut world);
    assert!(names.iter().all(|name| successors(&world, name).len() == 1));
    world.audit.assert_kept();
}

#[test]
fn what_is_disabled_before_it_begins_is_cancelled() {
    let (mut world, mut leader) = told(&[minutely("p"), after("s", &["p"])]);
    let at = fire(&mut world, &mut leader);
    world.execute(&World::fire("p", at), Outcome::Succeeded);
    leader.catch_up(&world);
    let txn = leader.txn_of(&world, &World::fire("p", at));
    world.commit(&txn);
    let [(_, run)] = &world.delayed()[..] else { panic!("one is to come") };
    let run = run.clone();
    let [Key::Delay { segment, due, .. }] = &world.places(&run)[..] else { panic!("it is there") };
    let delay: Delay =
        decode(&world.etcd.get(&world.keys.delay(*segment, *due, &run)).unwrap().value).unwrap();
    assert_eq!((delay.cause, delay.origin), (Some(World::fire("p", at)), Origin::Dependency));
    world.disable("s");
    leader.settle(&mut world);
    assert_eq!(world.end_of(&run), Some(Outcome::Cancelled));
    world.audit.assert_kept();
}
