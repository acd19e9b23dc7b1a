//! Backfills: the fires of a range of the past, one after the other.

use forest_proto::record::{Calendar, DayRange, Job, Origin, Outcome, Overlap, Snapshot, Trigger, decode};
use forest_proto::time::Instant;
use forest_proto::{CalendarName, RunId};

use super::leader::Leader;
use super::world::World;
use super::{HOUR, MINUTE, SECOND, START, forbidding, id, job};
use crate::core::steps::Step;
use crate::core::steps::backfill::MOST_ALIVE;

fn story(job: &Job) -> (World, Leader) {
    let (mut world, mut leader) = Leader::of_one_segment();
    world.register("c-1", 1_000);
    world.save(job);
    leader.catch_up(&world);
    (world, leader)
}

/// Has everything run that there is; says at which instants, in this order.
fn run_all(world: &mut World, leader: &mut Leader) -> Vec<i64> {
    let mut fires = Vec::new();
    for _ in 0..1_000 {
        leader.settle(world);
        let given = world.given();
        if given.is_empty() {
            return fires;
        }
        for (seat, run) in given {
            fires.push(run.at().as_ms());
            assert!(world.claim(&seat, &run) && world.complete(&seat, &run, Outcome::Succeeded));
        }
        world.collect();
    }
    panic!("it does not come to an end")
}

fn minutes(range: std::ops::Range<i64>) -> Vec<i64> {
    range.map(|minute| START + minute * MINUTE).collect()
}

#[test]
fn each_fire_of_the_range_is_run_once_and_in_order() {
    for (base, at_once) in [(job("a", "0 * * * * *"), 5), (forbidding("a", "0 * * * * *"), 1)] {
        let (mut world, mut leader) = story(&base);
        world.backfill("a", START - 5 * MINUTE, START);
        leader.settle(&mut world);
        assert_eq!(world.given().len(), at_once);
        assert_eq!(run_all(&mut world, &mut leader), minutes(-5..0));
        assert!(world.backfills().is_empty(), "it goes with its last run");
        world.audit.assert_kept();
    }
}

#[test]
fn a_run_says_where_it_comes_from() {
    let (mut world, mut leader) = story(&job("a", "0 * * * * *"));
    let started = world.backfill_with("a", START - MINUTE, START, |backfill| {
        backfill.params = Some("again".into());
    });
    leader.settle(&mut world);
    let (seat, run) = world.given().pop().unwrap();
    assert_eq!(run, RunId::backfilled(&id("a"), Instant::from_ms(START - MINUTE), &started.id));
    let kv = world.etcd.get(&world.keys.snapshot(&seat.0, &seat.1, &run)).unwrap();
    let snapshot: Snapshot = decode(&kv.value).unwrap();
    assert_eq!((snapshot.origin, snapshot.params.as_str()), (Origin::Backfill, "again"));
    assert_eq!(snapshot.scheduled_at.as_ms(), START - MINUTE);
}

#[test]
fn the_next_run_waits_until_nothing_of_the_job_is_alive() {
    for overlap in [Overlap::Forbid, Overlap::QueueOne, Overlap::QueueAll, Overlap::CancelRunning] {
        let (mut world, mut leader) = story(&Job { overlap, ..job("a", "0 * * * * *") });
        let manual = world.ask_run("a");
        leader.settle(&mut world);
        let seat = world.claim_run(&manual);
        world.backfill("a", START - 3 * MINUTE, START);
        leader.settle(&mut world);
        assert!(world.given().is_empty() && world.pending().is_empty(), "{overlap:?}: it waits its turn");
        assert!(world.complete(&seat, &manual, Outcome::Succeeded));
        assert_eq!(run_all(&mut world, &mut leader), minutes(-3..0), "{overlap:?}");
        assert_eq!(
            world.end_of(&manual),
            Some(Outcome::Succeeded),
            "{overlap:?}: nothing is cancelled for it"
        );
        assert!(world.audit.ended.values().all(|ended| ended.outcome == Some(Outcome::Succeeded)));
        world.audit.assert_kept();
    }
}

#[test]
fn a_further_attempt_goes_before_the_next_fire() {
    let base = Job { max_attempts: 2, retry_delays_ms: vec![10_000], ..forbidding("a", "0 * * * * *") };
    let (mut world, mut leader) = story(&base);
    let started = world.backfill("a", START - 2 * MINUTE, START);
    leader.settle(&mut world);
    let first = RunId::backfilled(&id("a"), Instant::from_ms(START - 2 * MINUTE), &started.id);
    world.execute(&first, Outcome::Failed);
    leader.settle(&mut world);
    assert!(world.given().is_empty(), "the next attempt is to come");
    world.pass(10 * SECOND);
    leader.settle(&mut world);
    world.execute(&first.with_attempt(2), Outcome::Succeeded);
    assert_eq!(run_all(&mut world, &mut leader), minutes(-1..0));
    world.audit.assert_kept();
}

#[test]
fn only_so_many_runs_are_alive_at_once() {
    let (mut world, mut leader) = story(&job("a", "* * * * * *"));
    world.vanish("c-1");
    world.backfill("a", START - 10 * MINUTE, START);
    leader.settle(&mut world);
    assert_eq!(world.pending().len(), MOST_ALIVE);
    world.register("c-2", 1);
    let mut most = 0;
    for _ in 0..700 {
        leader.settle(&mut world);
        most = most.max(world.pending().len() + world.given().len());
        let Some((_, run)) = world.given().pop() else { break };
        world.execute(&run, Outcome::Succeeded);
        world.collect();
    }
    assert_eq!((most, world.audit.created()), (MOST_ALIVE, 600));
    world.audit.assert_kept();
}

#[test]
fn a_disabled_job_pauses_it_and_a_deleted_one_ends_it() {
    let (mut world, mut leader) = story(&forbidding("a", "0 * * * * *"));
    world.backfill("a", START - 3 * MINUTE, START);
    leader.settle(&mut world);
    world.disable("a");
    let (_, run) = world.given().pop().unwrap();
    world.execute(&run, Outcome::Succeeded);
    leader.settle(&mut world);
    assert!(world.given().is_empty());
    assert_eq!(world.backfills().len(), 1);
    world.enable("a");
    leader.settle(&mut world);
    assert_eq!(world.given().len(), 1, "it goes on");
    world.delete_job("a");
    leader.settle(&mut world);
    assert!(world.backfills().is_empty() && world.given().is_empty());
    world.audit.assert_kept();
}

#[test]
fn a_new_schedule_counts_from_the_next_fire_on() {
    let (mut world, mut leader) = story(&forbidding("a", "0 * * * * *"));
    world.backfill("a", START - 4 * MINUTE, START);
    leader.settle(&mut world);
    world.save(&forbidding("a", "30 * * * * *"));
    let half = |minute: i64| START + minute * MINUTE + 30 * SECOND;
    let expected = [START - 4 * MINUTE, half(-3), half(-2), half(-1)];
    assert_eq!(run_all(&mut world, &mut leader), expected);

    world.backfill("a", START - 4 * MINUTE, START);
    leader.settle(&mut world);
    world.save(&Job { trigger: Trigger::Manual, cron: String::new(), ..forbidding("a", "") });
    assert_eq!(run_all(&mut world, &mut leader).len(), 1);
    assert!(world.backfills().is_empty(), "a job without a schedule has no fires of the past");
    world.audit.assert_kept();
}

#[test]
fn it_never_makes_more_runs_than_it_may() {
    let (mut world, mut leader) = story(&job("a", "0 * * * * *"));
    world.backfill_with("a", START - 3 * MINUTE, START, |backfill| backfill.max_fires = 3);
    world.save(&job("a", "* * * * * *"));
    let expected = [0, 1, 2].map(|second| START - 3 * MINUTE + second * SECOND);
    assert_eq!(run_all(&mut world, &mut leader), expected);
    assert!(world.backfills().is_empty());
    world.audit.assert_kept();
}

#[test]
fn fires_that_are_due_are_left_to_the_clock() {
    let (mut world, mut leader) = story(&forbidding("a", "0 * * * * *"));
    world.pass(2 * MINUTE);
    world.backfill("a", START - MINUTE, START + 2 * MINUTE + 1);
    leader.catch_up(&world);
    let first = run_all(&mut world, &mut leader);
    assert_eq!(first, minutes(-1..1), "START itself was never to be decided by the clock");
    assert!(
        matches!(leader.look_at_backfill(&world, &id("a")), Step::Wait),
        "its cursor stands before the rest"
    );
    leader.dispatch(&mut world);
    let mut rest = run_all(&mut world, &mut leader);
    rest.sort_unstable();
    let (one, two) = (START + MINUTE, START + 2 * MINUTE);
    assert_eq!(rest, [one, two, two], "those of the backfill, and the one that was not missed");
    world.audit.assert_kept();
}

#[test]
fn intervals_are_counted_backwards() {
    let trigger = Trigger::FixedRate { every_ms: 7_000 };
    for base in [job("a", "@every 7s"), Job { trigger, ..job("a", "") }] {
        let (mut world, mut leader) = story(&base);
        world.backfill("a", START - 20 * SECOND, START + 1);
        let expected = [14, 7, 0].map(|before| START - before * SECOND);
        assert_eq!(run_all(&mut world, &mut leader), expected);
        world.audit.assert_kept();
    }
}

#[test]
fn windows_jitter_and_calendars_count() {
    let (mut world, mut leader) = Leader::of_one_segment();
    world.register("c-1", 1_000);
    let excluded: DayRange = "2027-01-14".parse().unwrap();
    let name = CalendarName::new("cn").unwrap();
    let calendar = Calendar {
        name,
        remark: String::new(),
        excluded: vec![excluded],
        included: Vec::new(),
        version: 1,
        updated_at: None,
    };
    world.save_calendar(&calendar);
    let starts_at = Some(Instant::from_ms(START - 96 * HOUR));
    let base = Job { calendars: vec!["cn".into()], starts_at, jitter_ms: 60_000, ..job("a", "0 0 12 * * *") };
    world.save(&base);
    world.backfill("a", START - 240 * HOUR, START);
    let fires = run_all(&mut world, &mut leader);
    let noons = [68, 44].map(|hours| START - hours * HOUR);
    assert_eq!(fires.len(), 3, "the 11th, the 12th and the 13th: {fires:?}");
    let late: Vec<_> = fires[1..].iter().zip(noons).map(|(at, noon)| at - noon).collect();
    assert!(late[0] == late[1] && (0..60_000).contains(&late[0]), "{late:?}");
    world.audit.assert_kept();
}

#[test]
fn another_leader_goes_on() {
    let (mut world, mut leader) = story(&forbidding("a", "0 * * * * *"));
    world.backfill("a", START - 6 * MINUTE, START);
    let mut fires = Vec::new();
    while !world.backfills().is_empty() {
        leader.settle(&mut world);
        let (_, run) = world.given().pop().unwrap();
        let Step::Nothing = leader.look_at_backfill(&world, &id("a")) else { panic!("it runs already") };
        world.execute(&run, Outcome::Succeeded);
        fires.push(run.at().as_ms());
        leader = Leader::elect(&mut world);
    }
    assert_eq!([fires, run_all(&mut world, &mut leader)].concat(), minutes(-6..0));
    world.audit.assert_kept();
}

#[test]
fn one_that_is_cancelled_makes_no_further_runs() {
    let (mut world, mut leader) = story(&forbidding("a", "0 * * * * *"));
    world.backfill("a", START - 6 * MINUTE, START);
    leader.settle(&mut world);
    world.cancel_backfill("a");
    assert_eq!(run_all(&mut world, &mut leader), minutes(-6..-5), "what was there goes on");
    world.audit.assert_kept();
}

#[test]
fn a_range_can_be_run_again() {
    let (mut world, mut leader) = story(&job("a", "0 * * * * *"));
    for _ in 0..2 {
        world.backfill("a", START - 2 * MINUTE, START);
        assert_eq!(run_all(&mut world, &mut leader), minutes(-2..0));
    }
    world.audit.assert_kept();
}

#[test]
fn a_document_that_is_not_the_jobs_own_is_left_alone() {
    let (mut world, mut leader) = story(&job("a", "0 * * * * *"));
    let backfill = world.backfill_of("b", START - MINUTE, START);
    let key = world.keys.backfill(world.segments.segment_of(&id("a")), &id("a"));
    world.commit_raw(&key, &forest_proto::record::encode(&backfill));
    leader.catch_up(&world);
    assert_eq!(leader.view.quarantine.len(), 1);
    assert_eq!(leader.settle(&mut world), 0);
}
