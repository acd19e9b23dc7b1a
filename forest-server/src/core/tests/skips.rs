//! Fires that are skipped one after the other are counted: what they cost, and that none is lost or told twice.
//!
//! That each fire is in one record or in one counter is asked by the audit at every revision.

use std::sync::Arc;

use forest_proto::record::{Cursor, DstFold, DstGap, Execution, Job, Outcome, Overlap, decode};
use forest_proto::time::Instant;
use forest_proto::{JobId, RunId};
use jiff::tz::TimeZone;

use super::leader::Leader;
use super::world::World;
use super::{HOUR, MINUTE, SECOND, START, forbidding, id};
use crate::admin::explain::{counts, standing_for};
use crate::core::skips::MAX_OPEN;
use crate::core::timing::Timing;
use crate::store::{History, Row};
use forest_schedule::Schedule;

fn secondly(name: &str) -> Job {
    forbidding(name, "* * * * * *")
}

/// Jobs whose first run, a second after the start, hangs.
fn hanging(jobs: &[Job]) -> (World, Leader) {
    let (mut world, mut leader) = Leader::of_one_segment();
    world.register("c-1", 10_000);
    jobs.iter().for_each(|job| world.save(job));
    leader.catch_up(&world);
    seconds(&mut world, &mut leader, 1);
    assert_eq!(world.given().len(), jobs.len());
    (world, leader)
}

fn seconds(world: &mut World, leader: &mut Leader, count: i64) {
    for _ in 0..count {
        world.pass(SECOND);
        leader.dispatch(world);
    }
}

fn cursor(world: &World) -> Cursor {
    let segment = world.segments.all().next().unwrap();
    decode(&world.etcd.get(&world.keys.cursor(segment)).unwrap().value).unwrap()
}

/// How many fires are counted and not recorded.
fn counted(world: &World, job: &str) -> Option<u64> {
    cursor(world).skips.get(&id(job)).map(|skips| skips.count)
}

/// The records of a job in the order of their fires: how many each stands for, and its words.
fn records(world: &World, job: &str) -> Vec<(RunId, u64, String)> {
    let of_job = |execution: &&Execution| execution.snapshot.job_id == id(job);
    let skipped = |execution: &&Execution| execution.outcome == Some(Outcome::OverlapSkipped);
    let all = world.audit.ended.values().filter(of_job).filter(skipped);
    all.map(|execution| {
        let snapshot = &execution.snapshot;
        (snapshot.id.clone(), snapshot.missed_fires + 1, execution.result.clone())
    })
    .collect()
}

fn stood_for(world: &World, job: &str) -> Vec<u64> {
    records(world, job).into_iter().map(|(_, fires, _)| fires).collect()
}

fn end_the_first_run(world: &mut World, leader: &mut Leader, job: &str) {
    world.execute(&World::fire(job, START + SECOND), Outcome::Succeeded);
    leader.settle(world);
    world.collect();
    leader.catch_up(world);
}

#[test]
fn a_job_each_second_that_hangs_for_an_hour_makes_two_records_a_minute() {
    let (mut world, mut leader) = hanging(&[secondly("a")]);
    seconds(&mut world, &mut leader, HOUR / SECOND);
    let records = records(&world, "a");
    assert_eq!(records.len(), 121, "the last second begins a new minute");
    assert_eq!((records.iter().map(|(_, fires, _)| fires).sum(), counted(&world, "a")), (3_599_u64, Some(1)));
    assert_eq!((records[0].1, records[1].1), (1, 57));
    assert_eq!(records[0].2, "an earlier run of the job was still alive");
    let words = "57 fires from 2027-01-15T08:00:03.000Z to 2027-01-15T08:00:59.000Z were skipped: an earlier run of \
                 the job was still alive";
    assert_eq!((records[1].0.clone(), records[1].2.as_str()), (World::fire("a", START + 59 * SECOND), words));
    world.audit.assert_kept();
}

/// A history with what the world has recorded, and a row for each second of the hours after that.
async fn history(world: &World, directory: &tempfile::TempDir) -> History {
    let url = format!("sqlite://{}", directory.path().join("history.db").display());
    let history = History::connect(&url.parse().unwrap(), 2).unwrap();
    history.migrate(&TimeZone::UTC).await.unwrap();
    let mut rows: Vec<_> =
        world.audit.ended.values().cloned().map(|execution| Row::new(execution, 0)).collect();
    let one = world.audit.ended.values().next().unwrap();
    for second in 2 * HOUR / SECOND..7_000 + 2 * HOUR / SECOND {
        let mut execution = one.clone();
        let at = Instant::from_ms(START + second * SECOND);
        (execution.snapshot.id, execution.snapshot.missed_fires) = (RunId::scheduled(&id("a"), at, 1), 0);
        (execution.snapshot.scheduled_at, execution.snapshot.created_at) = (at, at);
        rows.push(Row::new(execution, 0));
    }
    for rows in rows.chunks(500) {
        history.save(rows).await.unwrap();
    }
    history
}

#[tokio::test]
async fn the_records_of_an_hour_explain_each_of_its_seconds() {
    let (mut world, mut leader) = hanging(&[secondly("a")]);
    seconds(&mut world, &mut leader, HOUR / SECOND);
    let directory = tempfile::tempdir().unwrap();
    let history = history(&world, &directory).await;
    let schedule = Schedule::compile("* * * * * *", "", DstGap::default(), DstFold::default()).unwrap();
    let timing = Timing::new(Arc::new(schedule), &secondly("a"));
    let (mut own, mut standing) = (0, 0);
    for second in 2..=3_600 {
        let (at, run) =
            (Instant::from_ms(START + second * SECOND), World::fire("a", START + second * SECOND));
        if history.get(run.as_str()).await.unwrap().is_some() {
            own += 1;
            continue;
        }
        let record = standing_for(&history, &id("a"), &timing, at).await.unwrap().unwrap();
        assert_eq!(record.outcome, Some(Outcome::OverlapSkipped));
        let last = record.scheduled_at.unwrap().as_ms();
        assert_eq!(last / MINUTE, at.as_ms() / MINUTE, "{second}");
        assert!((at.as_ms()..at.as_ms() + MINUTE).contains(&last));
        standing += 1;
    }
    assert_eq!((own, standing), (121, 3_599 - 121));
    let skips = &cursor(&world).skips[&id("a")];
    let is_counted = |second: i64| counts(skips, Instant::from_ms(START + second * SECOND));
    assert_eq!([3_600, 3_601, 3_602].map(is_counted), [false, true, false]);
}

#[test]
fn a_fire_of_each_half_minute_is_on_record_at_once() {
    let (mut world, mut leader) = hanging(&[Job { cron: "1/30 * * * * *".into(), ..secondly("a") }]);
    seconds(&mut world, &mut leader, 118);
    assert_eq!(stood_for(&world, "a"), [1; 3]);
    assert!(cursor(&world).skips.is_empty());
    world.audit.assert_kept();
}

#[test]
fn what_was_counted_is_recorded_when_the_job_fires_again() {
    let (mut world, mut leader) = hanging(&[secondly("a")]);
    seconds(&mut world, &mut leader, 10);
    assert_eq!((stood_for(&world, "a"), counted(&world, "a")), (vec![1], Some(9)));
    end_the_first_run(&mut world, &mut leader, "a");
    seconds(&mut world, &mut leader, 1);
    assert_eq!(stood_for(&world, "a"), [1, 9]);
    assert!(cursor(&world).skips.is_empty());
    world.audit.assert_kept();
}

#[test]
fn what_was_counted_is_recorded_when_the_job_is_changed_paused_or_deleted() {
    let changes: [fn(&mut World); 4] = [
        |world| world.delete_job("a"),
        |world| world.disable("a"),
        |world| world.save(&Job { params: "new".into(), ..secondly("a") }),
        |world| world.save(&Job { cron: "0 0 3 * * *".into(), ..secondly("a") }),
    ];
    for change in changes {
        let (mut world, mut leader) = hanging(&[secondly("a"), secondly("b")]);
        seconds(&mut world, &mut leader, 10);
        let before = cursor(&world);
        change(&mut world);
        leader.catch_up(&world);
        assert_eq!(leader.dispatch(&mut world), 1);
        assert_eq!(stood_for(&world, "a"), [1, 9]);
        assert_eq!((counted(&world, "a"), counted(&world, "b")), (None, Some(9)));
        let after = cursor(&world);
        assert_eq!((after.fire_at, &after.job), (before.fire_at, &before.job), "no fire was due");
        seconds(&mut world, &mut leader, 120);
        world.audit.assert_kept();
        assert!(world.audit.tally.unrecorded().is_empty());
    }
}

#[test]
fn the_record_of_a_deleted_job_has_its_group() {
    let (mut world, mut leader) = hanging(&[secondly("a")]);
    seconds(&mut world, &mut leader, 10);
    world.delete_job("a");
    leader.catch_up(&world);
    leader.dispatch(&mut world);
    let run = World::fire("a", START + 11 * SECOND);
    let key = world.keys.execution(&super::group(), None, &run);
    let execution: Execution = decode(&world.etcd.get(&key).unwrap().value).unwrap();
    assert_eq!(execution.snapshot.job_id, id("a"));
    assert!(execution.decided && execution.result.starts_with("9 fires from"), "{execution:?}");
}

#[test]
fn another_reason_is_another_record() {
    let (mut world, mut leader) = hanging(&[Job { overlap: Overlap::QueueOne, ..secondly("a") }]);
    seconds(&mut world, &mut leader, 10);
    assert_eq!((stood_for(&world, "a"), counted(&world, "a")), (vec![1], Some(8)), "one waits");
    world.save(&secondly("a"));
    leader.catch_up(&world);
    seconds(&mut world, &mut leader, 2);
    let records = records(&world, "a");
    assert!(records[1].2.ends_with("the queue behind it was full"), "{records:?}");
    assert_eq!(
        (records[2].2.as_str(), counted(&world, "a")),
        ("an earlier run of the job was still alive", Some(1))
    );
    world.audit.assert_kept();
}

#[test]
fn a_new_leader_counts_on() {
    let (mut world, mut leader) = hanging(&[secondly("a")]);
    for _ in 0..20 {
        seconds(&mut world, &mut leader, 6);
        leader = Leader::elect(&mut world);
    }
    assert_eq!(stood_for(&world, "a"), [1, 57, 1, 59, 1]);
    world.audit.assert_kept();
}

#[test]
fn missed_fires_and_skipped_ones_have_records_of_their_own() {
    let (mut world, mut leader) = hanging(&[secondly("a")]);
    seconds(&mut world, &mut leader, 10);
    world.pass(20 * SECOND);
    leader.dispatch(&mut world);
    assert_eq!(stood_for(&world, "a"), [1, 9, 1], "what was counted does not stand for what was missed");
    assert_eq!(counted(&world, "a"), Some(5));
    world.audit.assert_kept();
}

#[test]
fn a_run_that_somebody_asks_for_leaves_the_counters_as_they_are() {
    let (mut world, mut leader) = hanging(&[secondly("a")]);
    seconds(&mut world, &mut leader, 10);
    let asked = world.ask_run("a");
    leader.settle(&mut world);
    assert_eq!(world.end_of(&asked), Some(Outcome::OverlapSkipped));
    assert_eq!(counted(&world, "a"), Some(9));
    seconds(&mut world, &mut leader, 5);
    assert_eq!(counted(&world, "a"), Some(14));
    world.audit.assert_kept();
}

#[test]
fn the_jobs_beyond_the_limit_have_a_record_for_each_fire() {
    let jobs: Vec<_> = (0..MAX_OPEN + 30).map(|n| secondly(&format!("j-{n:03}"))).collect();
    let (mut world, mut leader) = hanging(&jobs);
    seconds(&mut world, &mut leader, 4);
    let open = cursor(&world).skips;
    assert_eq!(open.len(), MAX_OPEN);
    assert!(open.values().all(|skips| skips.count == 3));
    let beyond: Vec<&JobId> = jobs.iter().map(|job| &job.id).filter(|id| !open.contains_key(*id)).collect();
    assert!(beyond.iter().all(|id| stood_for(&world, id.as_str()) == [1; 4]));
    seconds(&mut world, &mut leader, 2 * MINUTE / SECOND);
    let size = serde_json::to_vec(&cursor(&world)).unwrap().len();
    assert!(size < 50_000, "{size} bytes of a cursor");
    world.audit.assert_kept();
}

#[test]
fn records_of_counters_with_long_parameters_fit_a_request() {
    let params = "\u{1}".repeat(64 * 1024);
    let jobs: Vec<_> =
        (0..8).map(|n| Job { params: params.clone(), ..secondly(&format!("j-{n}")) }).collect();
    let (mut world, mut leader) = hanging(&jobs);
    seconds(&mut world, &mut leader, 62);
    for job in &jobs {
        world.disable(job.id.as_str());
    }
    leader.catch_up(&world);
    leader.dispatch(&mut world);
    assert_eq!(stood_for(&world, "j-7"), [1, 57, 1, 3]);
    world.audit.assert_kept();
}
