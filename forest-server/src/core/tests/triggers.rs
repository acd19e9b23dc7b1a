//! What makes a job fire beside cron: rates, delays, single instants; and windows and jitter.

use forest_proto::record::{Job, Origin, Outcome, Overlap, Trigger};
use forest_proto::time::Instant;
use forest_proto::{Key, RunId};

use super::leader::Leader;
use super::world::World;
use super::{HOUR, MINUTE, SECOND, START, job};

fn with(job: &Job) -> (World, Leader) {
    let (mut world, mut leader) = Leader::of_one_segment();
    world.register("c-1", 100);
    world.save(job);
    leader.catch_up(&world);
    leader.settle(&mut world);
    (world, leader)
}

fn triggered(trigger: Trigger) -> Job {
    Job { trigger, ..job("a", "") }
}

fn pass(world: &mut World, leader: &mut Leader, ms: i64) {
    world.pass(ms);
    leader.dispatch(world);
    leader.settle(world);
}

fn at(ms: i64) -> RunId {
    World::fire("a", START + ms)
}

/// The one run that is planned, for this time.
fn planned(world: &World, ms: i64) -> RunId {
    let [(due, run)] = &world.delayed()[..] else { panic!("{:?}", world.delayed()) };
    assert_eq!((*due, run.at().as_ms()), (START + ms, START + ms));
    assert!(run.is_planned());
    run.clone()
}

#[test]
fn a_fixed_rate_counts_from_the_change_of_the_job() {
    let (mut world, mut leader) = with(&triggered(Trigger::FixedRate { every_ms: 90_000 }));
    for n in 1..=3 {
        pass(&mut world, &mut leader, 90 * SECOND);
        assert!(world.given().iter().any(|(_, run)| *run == at(n * 90 * SECOND)), "{n}");
    }
    assert_eq!(world.given().len(), 3);
    world.audit.assert_kept();
}

#[test]
fn a_job_that_fires_once_fires_once() {
    let (mut world, mut leader) =
        with(&triggered(Trigger::Once { at: Instant::from_ms(START + 90 * SECOND) }));
    pass(&mut world, &mut leader, 89 * SECOND);
    assert!(world.given().is_empty());
    pass(&mut world, &mut leader, SECOND);
    assert_eq!(world.given().len(), 1);
    world.execute(&at(90 * SECOND), Outcome::Succeeded);
    pass(&mut world, &mut leader, HOUR);
    assert_eq!(world.audit.created(), 1);
    world.audit.assert_kept();
}

#[test]
fn a_fixed_delay_counts_from_the_end_of_the_run_before() {
    let (mut world, mut leader) = with(&triggered(Trigger::FixedDelay { every_ms: 60_000 }));
    let first = planned(&world, MINUTE);
    pass(&mut world, &mut leader, MINUTE);
    let seat = world.claim_run(&first);
    pass(&mut world, &mut leader, HOUR);
    assert!(world.delayed().is_empty(), "it runs");
    assert!(world.complete(&seat, &first, Outcome::Succeeded));
    leader.settle(&mut world);
    let next = planned(&world, HOUR + 2 * MINUTE);
    pass(&mut world, &mut leader, MINUTE);
    assert!(matches!(world.places(&next)[..], [Key::Snapshot { .. }]));
    world.audit.assert_kept();
}

#[test]
fn a_fixed_delay_comes_after_the_last_attempt_and_survives_new_leaders() {
    let trigger = Trigger::FixedDelay { every_ms: 60_000 };
    let job = Job { max_attempts: 2, retry_delays_ms: vec![5_000], ..triggered(trigger) };
    let (mut world, mut leader) = with(&job);
    let first = planned(&world, MINUTE);
    pass(&mut world, &mut leader, MINUTE);
    world.execute(&first, Outcome::Failed);
    leader.settle(&mut world);
    assert_eq!(world.delayed().len(), 1, "the second attempt, and no next run");
    leader = Leader::elect(&mut world);
    pass(&mut world, &mut leader, 5 * SECOND);
    world.execute(&first.with_attempt(2), Outcome::Failed);
    leader.settle(&mut world);
    let due = world.now_ms + MINUTE;
    assert_eq!(world.delayed().iter().map(|(at, _)| *at).collect::<Vec<_>>(), [due]);
    leader = Leader::elect(&mut world);
    leader.settle(&mut world);
    assert_eq!(world.delayed().len(), 1);
    world.audit.assert_kept();
}

#[test]
fn a_fixed_delay_that_is_changed_or_paused_plans_anew() {
    let (mut world, mut leader) = with(&triggered(Trigger::FixedDelay { every_ms: 60_000 }));
    world.disable("a");
    leader.settle(&mut world);
    assert!(world.delayed().is_empty(), "nothing was due");
    world.pass(10 * SECOND);
    world.enable("a");
    leader.settle(&mut world);
    planned(&world, 70 * SECOND);
    let effective_after = Some(Instant::from_ms(world.now_ms));
    world.save(&Job { effective_after, ..triggered(Trigger::FixedDelay { every_ms: 5_000 }) });
    world.save(&Job {
        effective_after: Some(Instant::from_ms(world.now_ms + 1)),
        ..triggered(Trigger::FixedDelay { every_ms: 5_000 })
    });
    leader.settle(&mut world);
    planned(&world, 15 * SECOND);
    world.delete_job("a");
    leader.settle(&mut world);
    pass(&mut world, &mut leader, MINUTE);
    assert!(world.given().is_empty());
    world.audit.assert_kept();
}

#[test]
fn a_clock_that_was_behind_plans_the_same_instant_for_another_run() {
    let (mut world, mut leader) = with(&triggered(Trigger::FixedDelay { every_ms: 60_000 }));
    let first = planned(&world, MINUTE);
    pass(&mut world, &mut leader, MINUTE);
    world.execute(&first, Outcome::Succeeded);
    world.collect();
    leader.catch_up(&world);
    world.now_ms = START;
    leader = Leader::elect(&mut world);
    leader.settle(&mut world);
    assert_ne!(planned(&world, MINUTE), first);
    world.audit.assert_kept();
}

#[test]
fn a_manual_run_beside_a_planned_one_is_no_overlap() {
    let trigger = Trigger::FixedDelay { every_ms: 60_000 };
    let (mut world, mut leader) = with(&Job { overlap: Overlap::Forbid, ..triggered(trigger) });
    let first = planned(&world, MINUTE);
    let asked = world.ask_run("a");
    leader.settle(&mut world);
    assert!(matches!(world.places(&asked)[..], [Key::Snapshot { .. }]));
    pass(&mut world, &mut leader, MINUTE);
    assert_eq!(world.end_of(&first), Some(Outcome::OverlapSkipped), "the manual one is alive");
    world.execute(&asked, Outcome::Succeeded);
    leader.settle(&mut world);
    assert_eq!(world.delayed().len(), 1, "and after it the next one is planned");
    world.audit.assert_kept();
}

#[test]
fn a_job_fires_within_its_window_only() {
    let window = |minutes: i64| Some(Instant::from_ms(START + minutes * MINUTE));
    let (mut world, mut leader) =
        with(&Job { starts_at: window(3), ends_at: window(5), ..job("a", "0 * * * * *") });
    for _ in 0..10 {
        pass(&mut world, &mut leader, MINUTE);
    }
    let given: Vec<_> = world.given().into_iter().map(|(_, run)| run).collect();
    assert_eq!(given, [at(3 * MINUTE), at(4 * MINUTE), at(5 * MINUTE)]);
    world.audit.assert_kept();
}

#[test]
fn jitter_moves_every_fire_alike() {
    let (mut world, mut leader) = with(&Job { jitter_ms: 30_000, ..job("a", "0 * * * * *") });
    for _ in 0..5 * 60 {
        pass(&mut world, &mut leader, SECOND);
    }
    let fires: Vec<_> = world.given().iter().map(|(_, run)| run.at().as_ms() - START).collect();
    let shift = fires[0] % MINUTE;
    assert!((1..30_000).contains(&shift), "{shift}");
    assert!(fires.iter().all(|at| at % MINUTE == shift) && fires.len() >= 4, "{fires:?}");
    world.audit.assert_kept();
}

fn missed_all(cap: u32) -> Job {
    Job { misfire: forest_proto::record::Misfire::FireAll, misfire_cap: Some(cap), ..job("a", "0 * * * * *") }
}

#[test]
fn all_missed_fires_are_made_up_for() {
    let (mut world, mut leader) = with(&missed_all(100));
    world.pass(HOUR + 30 * SECOND);
    leader.dispatch(&mut world);
    let given = world.given();
    assert_eq!(given.len(), 60);
    let origins: Vec<_> = world.audit.tally.decisions.iter().map(|made| made.others).collect();
    assert!(origins.iter().all(|others| *others == 0));
    let key = world.keys.snapshot(&given[0].0.0, &given[0].0.1, &given[0].1);
    let snapshot: forest_proto::record::Snapshot =
        forest_proto::record::decode(&world.etcd.get(&key).unwrap().value).unwrap();
    assert_eq!((snapshot.origin, snapshot.id), (Origin::Misfire, at(MINUTE)));
    world.audit.assert_kept();
}

#[test]
fn of_more_missed_fires_than_the_cap_the_last_ones_are_made_up_for() {
    for cap in [1, 7, 59] {
        let (mut world, mut leader) = with(&missed_all(cap));
        world.pass(HOUR + 30 * SECOND);
        leader.dispatch(&mut world);
        let given: Vec<_> = world.given().into_iter().map(|(_, run)| run).collect();
        let expected: Vec<_> = (61 - i64::from(cap)..=60).map(|n| at(n * MINUTE)).collect();
        assert_eq!(given, expected);
        let skipped = World::fire("a", START + (60 - i64::from(cap)) * MINUTE);
        assert_eq!(world.end_of(&skipped), Some(Outcome::MisfireSkipped));
        world.audit.assert_kept();
    }
}

#[test]
fn many_jobs_make_up_for_what_they_missed() {
    let (mut world, mut leader) = Leader::of_one_segment();
    world.register("c-1", 10_000);
    for n in 0..150 {
        world.save(&Job {
            misfire_cap: Some(5),
            ..Job { id: super::id(&format!("j-{n:03}")), ..missed_all(5) }
        });
    }
    leader.catch_up(&world);
    world.pass(HOUR + 30 * SECOND);
    leader.dispatch(&mut world);
    assert_eq!(world.given().len(), 150 * 5);
    world.audit.assert_kept();
}

#[test]
fn a_fire_and_a_planned_run_of_the_same_instant_are_two_runs() {
    let (mut world, mut leader) = with(&triggered(Trigger::FixedDelay { every_ms: 60_000 }));
    let first = planned(&world, MINUTE);
    pass(&mut world, &mut leader, MINUTE);
    assert!(matches!(world.places(&first)[..], [Key::Snapshot { .. }]));
    // Taken by a node whose clock is behind.
    world.save(&job("a", "0 * * * * *"));
    leader.catch_up(&world);
    leader.dispatch(&mut world);
    assert!(matches!(world.places(&at(MINUTE))[..], [Key::Snapshot { .. }]));
    world.audit.assert_kept();
}
