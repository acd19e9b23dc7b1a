//! How many runs there may be at once, how fast, and which of those that wait go first.

use std::collections::BTreeMap;

use forest_proto::record::{Group, Job, Outcome, encode};

use super::leader::Leader;
use super::world::World;
use super::{MINUTE, SECOND, group, id, job};
use crate::core::routing::queue::{Reason, waiting};

fn limit_group(world: &mut World, max_in_flight: Option<u32>, dispatches_per_second: Option<u32>) {
    let limits = Group { name: group(), remark: String::new(), max_in_flight, dispatches_per_second };
    let key = world.keys.group(&group());
    world.commit_raw(&key, &encode(&limits));
}

fn in_flight(world: &World) -> usize {
    world.given().len() + world.running().len()
}

fn reasons(leader: &Leader) -> Vec<(usize, Option<Reason>)> {
    waiting(&leader.view, &group()).into_iter().map(|waiting| (waiting.count, waiting.reason)).collect()
}

/// A leader with jobs that all fire at the same second of every minute, and one client.
fn fired(jobs: &[Job], capacity: u32) -> (World, Leader) {
    let (mut world, mut leader) = Leader::of_one_segment();
    world.register("c-1", capacity);
    jobs.iter().for_each(|job| world.save(job));
    leader.catch_up(&world);
    world.pass(MINUTE);
    leader.dispatch(&mut world);
    (world, leader)
}

fn names(runs: impl Iterator<Item = forest_proto::RunId>) -> Vec<String> {
    runs.map(|run| run.job().to_owned()).collect()
}

#[test]
fn what_waits_goes_by_priority_then_by_time() {
    let jobs: Vec<_> = [("a", 0), ("b", -5), ("c", 9), ("d", 9), ("e", 1)]
        .map(|(name, priority)| Job { priority, ..job(name, "0 * * * * *") })
        .into();
    let (mut world, mut leader) = fired(&jobs, 0);
    leader.settle(&mut world);
    let mut order = Vec::new();
    // The client has two places; the first two runs had them before anybody waited.
    while let Some((_, run)) = world.given().into_iter().next() {
        let before = world.given();
        world.execute(&run, Outcome::Succeeded);
        leader.settle(&mut world);
        order.extend(names(world.given().into_iter().filter(|new| !before.contains(new)).map(|new| new.1)));
    }
    assert_eq!(order, ["c", "d", "e"]);
    world.audit.assert_kept();
}

#[test]
fn a_run_that_comes_up_does_not_overtake_one_that_waits() {
    let first: Vec<_> = ["a", "b", "c"].map(|name| job(name, "0 * * * * *")).into();
    let (mut world, mut leader) = fired(&first, 1);
    assert_eq!(names(world.pending().into_iter()), ["c"]);
    let urgent = Job { priority: 5, ..job("d", "* * * * * *") };
    world.save(&job("later", "* * * * * *"));
    world.save(&urgent);
    let (_, run) = world.given().remove(0);
    world.execute(&run, Outcome::Succeeded);
    world.pass(SECOND);
    leader.catch_up(&world);
    leader.dispatch(&mut world);
    let given = names(world.given().into_iter().map(|(_, run)| run));
    assert!(given.contains(&"d".to_owned()) && !given.contains(&"later".to_owned()), "{given:?}");
    world.audit.assert_kept();
}

#[test]
fn a_job_has_no_more_runs_in_flight_than_it_allows() {
    let limited = Job { max_in_flight: Some(2), ..job("a", "0 * * * * *") };
    let (mut world, mut leader) = fired(&[limited, job("b", "0 * * * * *")], 50);
    for _ in 0..5 {
        world.ask_run("a");
    }
    leader.settle(&mut world);
    assert_eq!((in_flight(&world), reasons(&leader)), (3, vec![(4, Some(Reason::JobLimit))]));
    // Others of the group do not wait for it.
    world.ask_run("b");
    leader.settle(&mut world);
    assert_eq!((in_flight(&world), world.pending().len()), (4, 4));
    let (_, run) = world.given().into_iter().find(|(_, run)| run.job() == "a").unwrap();
    world.execute(&run, Outcome::Succeeded);
    leader.settle(&mut world);
    assert_eq!((in_flight(&world), world.pending().len()), (4, 3));
    world.audit.assert_kept();
}

#[test]
fn a_group_has_no_more_runs_in_flight_than_it_allows() {
    let (mut world, mut leader) = fired(&[job("a", "0 0 0 1 1 *")], 50);
    limit_group(&mut world, Some(3), None);
    for _ in 0..8 {
        world.ask_run("a");
    }
    leader.settle(&mut world);
    assert_eq!((in_flight(&world), reasons(&leader)), (3, vec![(5, Some(Reason::GroupLimit))]));
    limit_group(&mut world, Some(4), None);
    leader.settle(&mut world);
    assert_eq!(in_flight(&world), 4, "a limit that is changed counts at once");
    world.audit.assert_kept();
}

#[test]
fn a_queue_says_why_it_waits() {
    let (mut world, mut leader) = fired(&["a", "b", "c"].map(|name| job(name, "0 * * * * *")), 1);
    assert_eq!(reasons(&leader), [(1, Some(Reason::NoRoom))]);
    world.vanish("c-1");
    leader.settle(&mut world);
    assert_eq!(reasons(&leader), [(3, Some(Reason::NoClient))]);
    limit_group(&mut world, None, Some(1));
    world.register("c-2", 9);
    leader.catch_up(&world);
    assert_eq!(reasons(&leader), [(3, Some(Reason::Rate))]);
}

#[test]
fn a_group_is_given_no_more_runs_a_second_than_it_allows_over_two_leaders() {
    for rate in [1, 3, 10, 40] {
        let (mut world, mut leader) = fired(&[job("a", "0 0 0 1 1 *")], 1_000);
        limit_group(&mut world, None, Some(rate));
        for _ in 0..5 * rate {
            world.ask_run("a");
        }
        let mut given = BTreeMap::new();
        for step in 0..800 {
            if step == 250 {
                leader = Leader::elect(&mut world);
            }
            leader.settle(&mut world);
            given.insert(world.now_ms, world.given().len());
            world.pass(10);
        }
        for (at, count) in &given {
            let second_before = given.get(&(at - SECOND)).copied().unwrap_or(0);
            let most = rate + (rate / 10).max(1);
            assert!(count - second_before <= most as usize, "{rate} a second: {}", count - second_before);
        }
        assert_eq!(given.values().max(), Some(&(5 * rate as usize)), "{rate} a second: nothing is lost");
        world.audit.assert_kept();
    }
}

#[test]
fn ten_times_more_than_clients_can_do_is_bounded_and_visible() {
    let (mut world, mut leader) = Leader::of_one_segment();
    world.register("c-1", 2);
    for n in 0..20 {
        world.save(&job(&format!("job-{n:02}"), "* * * * * *"));
    }
    leader.catch_up(&world);
    let mut done = 0;
    for second in 1..=60 {
        world.pass(SECOND);
        leader.dispatch(&mut world);
        leader.settle(&mut world);
        assert!(in_flight(&world) <= 4, "{}", in_flight(&world));
        let oldest = waiting(&leader.view, &group()).into_iter().map(|queue| queue.oldest_ms).min().unwrap();
        // Twenty a second come, two go: what waits longest has waited for nine tenths of the time.
        let waited = (world.now_ms - oldest) / SECOND;
        assert!(second < 10 || (second * 7 / 10..=second).contains(&waited), "{waited} s after {second} s");
        for (_, run) in world.given().into_iter().take(2) {
            world.execute(&run, Outcome::Succeeded);
            done += 1;
        }
        world.collect();
    }
    leader.settle(&mut world);
    assert_eq!(done + world.given().len() + world.pending().len(), 60 * 20, "nothing is lost");
    world.audit.assert_kept();
}

#[test]
fn limits_hold_whatever_ends_when_and_whoever_leads() {
    for seed in 0..40 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut world, mut leader) = Leader::of_one_segment();
        world.register("c-1", 5);
        world.register("c-2", 5);
        limit_group(&mut world, Some(6), None);
        for (name, limit) in [("a", Some(1)), ("b", Some(3)), ("c", None)] {
            world.save(&Job { max_in_flight: limit, ..job(name, "* * * * * *") });
        }
        leader.catch_up(&world);
        for _ in 0..60 {
            match random.u8(..10) {
                0 => leader = Leader::elect(&mut world),
                1 => {
                    world.ask_run("b");
                }
                2 => {
                    world.vanish("c-2");
                    leader.settle(&mut world);
                    world.register("c-2", 5);
                }
                _ => world.pass(random.i64(1..SECOND)),
            }
            leader.dispatch(&mut world);
            leader.settle(&mut world);
            let mut alive = names(world.given().into_iter().chain(world.running()).map(|(_, run)| run));
            assert!(alive.len() <= 6, "seed {seed}: {alive:?}");
            alive.sort_unstable();
            let count = |name: &str| alive.iter().filter(|job| *job == name).count();
            assert!(count("a") <= 1 && count("b") <= 3, "seed {seed}: {alive:?}");
            for (seat, run) in world.given() {
                if random.bool() && world.claim(&seat, &run) && random.bool() {
                    world.complete(&seat, &run, Outcome::Succeeded);
                }
            }
            for (seat, run) in world.running() {
                if random.u8(..3) == 0 {
                    world.complete(&seat, &run, Outcome::Failed);
                }
            }
        }
        // When everything ends, everything that waits gets its turn.
        world.disable("a");
        world.disable("b");
        world.disable("c");
        for _ in 0..2_000 {
            leader.settle(&mut world);
            let Some((seat, run)) = world.given().into_iter().chain(world.running()).next() else { break };
            world.claim(&seat, &run);
            assert!(world.complete(&seat, &run, Outcome::Succeeded));
        }
        assert!(world.pending().is_empty(), "seed {seed}: {:?}", world.pending());
        assert!(
            leader.view.runs.in_flight_of_group(&group()) == 0
                && leader.view.runs.in_flight_of_job(&id("b")) == 0
        );
        world.audit.assert_kept();
    }
}

/// Ten times what a client can do falls due, second by second for a minute.
#[test]
fn of_ten_times_too_much_nothing_is_lost_and_the_oldest_is_known() {
    let jobs: Vec<_> = (0..10).map(|n| job(&format!("j{n}"), "* * * * * *")).collect();
    let (mut world, mut leader) = Leader::of_one_segment();
    // It holds two: one that it executes and one that waits for that.
    world.register("c-1", 1);
    jobs.iter().for_each(|job| world.save(job));
    leader.catch_up(&world);
    for second in 1..=60 {
        world.pass(SECOND);
        leader.dispatch(&mut world);
        leader.settle(&mut world);
        let waits = 9 * second - 1;
        assert_eq!((in_flight(&world), world.pending().len()), (2, waits));
        let queues = waiting(&leader.view, &group());
        let oldest = queues.iter().map(|waiting| waiting.oldest_ms).min().unwrap();
        let first_that_waits = world.pending().iter().map(|run| run.at().as_ms()).min().unwrap();
        assert_eq!(oldest, first_that_waits);
        assert_eq!(queues.iter().map(|waiting| waiting.count).sum::<usize>(), waits);
        world.execute(&world.given()[0].1.clone(), Outcome::Succeeded);
    }
    jobs.iter().for_each(|job| world.disable(job.id.as_str()));
    // Help comes.
    world.register("c-2", 600);
    leader.catch_up(&world);
    while !(world.pending().is_empty() && world.given().is_empty()) {
        leader.settle(&mut world);
        for (_, run) in world.given() {
            world.execute(&run, Outcome::Succeeded);
        }
    }
    assert_eq!((world.audit.created(), world.audit.ended.len()), (600, 600));
    assert!(world.audit.ended.keys().all(|run| world.end_of(run) == Some(Outcome::Succeeded)));
    world.audit.assert_kept();
}
