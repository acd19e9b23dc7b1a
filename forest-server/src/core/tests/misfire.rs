//! Fires that come too late: counted, recorded once, and cheap however long the time was.

use forest_proto::record::{Execution, Job, Misfire, Origin, Outcome, Snapshot, decode};

use super::leader::Leader;
use super::tally::Decision;
use super::world::World;
use super::{DAY, HOUR, MINUTE, SECOND, START, forbidding, id, job, seat};

fn skips(name: &str, cron: &str) -> Job {
    Job { misfire: Misfire::Skip, ..job(name, cron) }
}

fn fires_once(name: &str, cron: &str) -> Job {
    Job { misfire: Misfire::FireOnce, ..job(name, cron) }
}

/// One segment with a client, after a time in which nobody led.
fn late_by(ms: i64, jobs: &[Job]) -> (World, Leader) {
    let (mut world, _) = Leader::of_one_segment();
    world.register("c-1", 100_000);
    jobs.iter().for_each(|job| world.save(job));
    world.pass(ms);
    let leader = Leader::elect(&mut world);
    (world, leader)
}

fn numbered(count: usize, make: impl Fn(&str) -> Job) -> Vec<Job> {
    (0..count).map(|n| make(&format!("job-{n:04}"))).collect()
}

fn decisions(world: &World) -> &[Decision] {
    &world.audit.tally.decisions
}

#[test]
fn skipped_fires_leave_one_record_that_counts_them() {
    let (mut world, mut leader) = late_by(HOUR + 30 * SECOND, &[skips("a", "0 * * * * *")]);
    assert_eq!(leader.dispatch(&mut world), 1);
    world.audit.assert_kept();
    let last = START + HOUR;
    let made = Decision { job: id("a"), at: last, others: 59, skipped: Some(Outcome::MisfireSkipped) };
    assert_eq!(decisions(&world), [made]);
    let record: &Execution = &world.audit.ended[&World::fire("a", last)];
    assert!(record.decided && record.result.starts_with("60 fire(s)"), "{}", record.result);
    assert_eq!(leader.view.jobs.get(&id("a")).unwrap().next_ms(), Some(last + MINUTE));
}

#[test]
fn fire_once_runs_at_the_last_missed_fire_and_says_for_how_many() {
    let (mut world, mut leader) = late_by(HOUR + 30 * SECOND, &[fires_once("a", "0 * * * * *")]);
    leader.dispatch(&mut world);
    world.audit.assert_kept();
    let run = World::fire("a", START + HOUR);
    assert_eq!(decisions(&world), [Decision { job: id("a"), at: START + HOUR, others: 59, skipped: None }]);
    let seat = seat("c-1");
    let kv = world.etcd.get(&world.keys.snapshot(&seat.0, &seat.1, &run)).unwrap();
    let snapshot: Snapshot = decode(&kv.value).unwrap();
    assert_eq!((snapshot.origin, snapshot.missed_fires), (Origin::Misfire, 59));
}

#[test]
fn a_fire_within_the_threshold_is_just_fired() {
    for (threshold, fired) in [(None, 0), (Some(31_000), 1), (Some(29_000), 0)] {
        for misfire in [Misfire::Skip, Misfire::FireOnce] {
            let job = Job { misfire, misfire_threshold_ms: threshold, ..job("a", "0 * * * * *") };
            let (mut world, mut leader) = late_by(90 * SECOND, &[job]);
            leader.dispatch(&mut world);
            world.audit.assert_kept();
            let run = world.given().pop().map(|(_, run)| run);
            let runs = usize::from(misfire == Misfire::FireOnce).max(fired);
            assert_eq!((decisions(&world).len(), usize::from(run.is_some())), (1, runs), "{threshold:?}");
        }
    }
}

#[test]
fn what_is_late_and_what_is_not_are_decided_together() {
    for misfire in [Misfire::Skip, Misfire::FireOnce] {
        let (mut world, mut leader) = late_by(MINUTE, &[Job { misfire, ..job("a", "* * * * * *") }]);
        leader.dispatch(&mut world);
        world.audit.assert_kept();
        let others: Vec<_> = decisions(&world).iter().map(|made| made.others).collect();
        assert_eq!(others, [53, 0, 0, 0, 0, 0, 0], "54 missed; six are at most five seconds late");
    }
}

#[test]
fn three_days_of_a_job_each_second_cost_a_handful_of_transactions() {
    for misfire in [Misfire::Skip, Misfire::FireOnce] {
        let (mut world, mut leader) = late_by(3 * DAY, &[Job { misfire, ..job("a", "* * * * * *") }]);
        let batches = leader.dispatch(&mut world);
        assert!(batches <= 3, "{misfire:?}: {batches} transactions");
        world.audit.assert_kept();
        assert_eq!(decisions(&world)[0].others, 3 * 86_400 - 7);
        assert!(world.audit.tally.overdue(world.now_ms).is_empty());
    }
}

#[test]
fn many_jobs_that_missed_much_cost_by_the_job_and_not_by_the_fire() {
    for misfire in [Misfire::Skip, Misfire::FireOnce] {
        let jobs = numbered(300, |name| Job { misfire, ..job(name, "*/10 * * * * *") });
        let (mut world, mut leader) = late_by(20 * MINUTE + 8 * SECOND, &jobs);
        let batches = leader.dispatch(&mut world);
        world.audit.assert_kept();
        assert_eq!(decisions(&world).len(), 300, "{misfire:?}: one decision for each job and gap");
        assert!(batches <= 10, "{misfire:?}: {batches} transactions");
    }
}

#[test]
fn fire_once_counts_right_where_a_batch_is_cut() {
    let jobs = numbered(200, |name| fires_once(name, "0 * * * * *"));
    let (mut world, mut leader) = late_by(HOUR + 30 * SECOND, &jobs);
    leader.dispatch(&mut world);
    world.audit.assert_kept();
    assert_eq!(decisions(&world).len(), 200, "one run for each job");
    assert!(decisions(&world).iter().all(|made| made.others == 59 && made.skipped.is_none()));
}

#[test]
fn a_long_absence_is_made_up_for_by_one_leader_after_the_other() {
    for seed in 0..6 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let specs = ["0 * * * * *", "*/10 * * * * *", "30 0/5 * * * *", "@every 37s"];
        let mut jobs = Vec::new();
        for n in 0..rng.usize(100..400) {
            let name = format!("job-{:04}-{n}", rng.u16(..10_000));
            let cron = specs[rng.usize(..specs.len())];
            let base = if rng.bool() { job(&name, cron) } else { forbidding(&name, cron) };
            let misfire = if rng.bool() { Misfire::Skip } else { Misfire::FireOnce };
            // A few would run most of what they missed.
            let threshold =
                [None, Some(1_000), Some(60_000), Some(900_000)][rng.usize(..4).min(rng.usize(..4))];
            jobs.push(Job { misfire, misfire_threshold_ms: threshold, ..base });
        }
        let (mut world, mut leader) = late_by(20 * MINUTE + rng.i64(0..MINUTE), &jobs);
        let mut old = Vec::new();
        let mut batches = 0;
        while let Some(batch) = leader.batch(&world) {
            batches += 1;
            assert!(batches < 400, "it does not come to an end");
            old.push(batch.txn.clone());
            let outcome = world.commit(&batch.txn);
            leader.answered(batch, &outcome);
            match rng.u8(..8) {
                0 => leader = Leader::elect(&mut world),
                1 => world.save(&Job { params: "new".into(), ..jobs[rng.usize(..jobs.len())].clone() }),
                2 => world.disable(jobs[rng.usize(..jobs.len())].id.as_str()),
                3 => drop(world.commit(&old[rng.usize(..old.len())])),
                _ => {}
            }
            leader.catch_up(&world);
            world.pass(rng.i64(0..100));
        }
        let mut last = Leader::elect(&mut world);
        last.dispatch(&mut world);
        world.audit.assert_kept();
        assert!(world.audit.tally.overdue(world.now_ms).is_empty(), "seed {seed}");
        println!("{} jobs, {} decisions, {batches} transactions", jobs.len(), decisions(&world).len());
    }
}

#[test]
fn skips_that_are_cut_are_neither_lost_nor_doubled() {
    let mut jobs = numbered(150, |name| skips(name, "0 * * * * *"));
    jobs.extend(numbered(150, |name| job(&format!("x-{name}"), "0 * * * * *")));
    let (mut world, mut leader) = late_by(3 * MINUTE + SECOND, &jobs);
    leader.dispatch(&mut world);
    world.audit.assert_kept();
    let fires: u64 = decisions(&world).iter().map(|made| made.others + 1).sum();
    assert_eq!(fires, 3 * 300);
    assert!(world.audit.tally.overdue(world.now_ms).is_empty());
}

#[test]
fn more_than_one_transaction_holds_is_due_at_once() {
    let jobs = numbered(500, |name| job(name, "0 * * * * *"));
    let (mut world, mut leader) = late_by(MINUTE, &jobs);
    let batches = leader.dispatch(&mut world);
    world.audit.assert_kept();
    assert_eq!((decisions(&world).len(), world.given().len()), (500, 500));
    assert!(batches <= 5, "{batches} transactions");
}

#[test]
fn runs_with_long_parameters_fit_a_request() {
    // The worst that JSON can make of 64 KiB.
    let params = "\u{1}".repeat(forest_proto::record::MAX_PARAMS);
    let jobs = numbered(30, |name| Job { params: params.clone(), ..job(name, "0 * * * * *") });
    let (mut world, mut leader) = late_by(MINUTE, &jobs);
    leader.dispatch(&mut world);
    world.audit.assert_kept();
    assert_eq!(decisions(&world).len(), 30);
}

#[test]
fn records_of_skipped_fires_with_long_parameters_fit_a_request() {
    let params = "x".repeat(20 * 1024);
    let jobs = numbered(110, |name| Job { params: params.clone(), ..skips(name, "0 * * * * *") });
    let (mut world, mut leader) = late_by(HOUR, &jobs);
    leader.dispatch(&mut world);
    world.audit.assert_kept();
    assert!(world.audit.tally.overdue(world.now_ms).is_empty(), "the segment stands still");
}

#[test]
fn what_was_due_while_a_job_was_disabled_is_not_made_up_for() {
    for misfire in [Misfire::Skip, Misfire::FireOnce] {
        let (mut world, mut leader) = late_by(0, &[Job { misfire, ..job("a", "0 * * * * *") }]);
        world.disable("a");
        world.pass(7 * DAY);
        world.enable("a");
        leader.catch_up(&world);
        assert_eq!(leader.dispatch(&mut world), 0, "nothing is due");
        world.pass(MINUTE);
        leader.dispatch(&mut world);
        world.audit.assert_kept();
        assert_eq!(decisions(&world).len(), 1);
    }
}
