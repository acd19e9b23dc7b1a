//! Calendars come, change and go while jobs name them.

use forest_etcd::{Outcome as Committed, Txn};
use forest_proto::record::{Calendar, Job};

use super::leader::{Leader, listed_view};
use super::world::World;
use super::{DAY, HOUR, MINUTE, START, id, job};
use crate::core::view::View;

/// The calendar `days`. The stories begin on 2027-01-15 at 08:00 UTC.
pub(super) fn with_excluded(days: &[&str]) -> Calendar {
    Calendar {
        name: "days".parse().unwrap(),
        remark: String::new(),
        excluded: days.iter().map(|day| day.parse().unwrap()).collect(),
        included: Vec::new(),
        version: 1,
        updated_at: None,
    }
}

fn on_days(name: &str, cron: &str) -> Job {
    Job { calendars: vec!["days".into()], ..job(name, cron) }
}

fn next(leader: &Leader, name: &str) -> Option<i64> {
    leader.view.jobs.get(&id(name)).and_then(|job| job.next_ms())
}

fn delete_calendar(world: &mut World) {
    let key = world.keys.calendar(&"days".parse().unwrap());
    let outcome = world.commit(&Txn::new().delete(key));
    assert!(matches!(outcome, Committed::Applied { .. }), "{outcome:?}");
}

#[test]
fn a_calendar_that_changes_plans_its_jobs_anew_and_no_others() {
    let (mut world, mut leader) = Leader::of_one_segment();
    world.save_calendar(&with_excluded(&[]));
    world.save(&on_days("a", "0 0 9 * * *"));
    world.save(&job("b", "0 0 9 * * *"));
    world.save(&on_days("c", "@every 1h"));
    leader.catch_up(&world);
    let plan = |leader: &Leader| ["a", "b", "c"].map(|name| next(leader, name).unwrap());
    assert_eq!(plan(&leader), [START + HOUR; 3]);
    world.save_calendar(&with_excluded(&["2027-01-15"]));
    leader.catch_up(&world);
    assert_eq!(plan(&leader), [START + HOUR + DAY, START + HOUR, START + 16 * HOUR]);
    // A job that does not name it any more is left alone.
    world.save(&job("a", "0 0 9 * * *"));
    world.save_calendar(&with_excluded(&["2027-01-15..2027-01-20"]));
    leader.catch_up(&world);
    assert_eq!(plan(&leader)[..2], [START + HOUR, START + HOUR]);
    let users: Vec<_> = leader.view.jobs.calendars().users("days").map(|id| id.to_string()).collect();
    assert_eq!(users, ["c"]);
    world.delete_job("c");
    leader.catch_up(&world);
    assert_eq!(leader.view.jobs.calendars().users("days").count(), 0);
}

#[test]
fn a_job_whose_calendar_is_missing_has_no_fires_and_is_a_problem_until_it_comes() {
    let (mut world, mut leader) = Leader::of_one_segment();
    world.save(&on_days("a", "0 0 9 * * *"));
    leader.catch_up(&world);
    assert_eq!((next(&leader, "a"), leader.view.quarantine.len()), (None, 1));
    assert_eq!(listed_view(&world).quarantine.len(), 1);
    let problem = leader.view.jobs.get(&id("a")).and_then(|job| job.problem());
    assert_eq!(problem, Some("there is no calendar \"days\""));
    world.save_calendar(&with_excluded(&[]));
    leader.catch_up(&world);
    assert_eq!((next(&leader, "a"), leader.view.quarantine.len()), (Some(START + HOUR), 0));
    assert_eq!(leader.view.jobs.get(&id("a")).and_then(|job| job.problem()), None);
    delete_calendar(&mut world);
    leader.catch_up(&world);
    assert_eq!((next(&leader, "a"), leader.view.quarantine.len()), (None, 1));
    // The one that cannot be read counts as missing, and is a problem of its own.
    world.commit_raw(&world.keys.calendar(&"days".parse().unwrap()), br#"{"name":"days","excluded":["x"]}"#);
    leader.catch_up(&world);
    assert_eq!((next(&leader, "a"), leader.view.quarantine.len()), (None, 2));
    world.save_calendar(&with_excluded(&[]));
    leader.catch_up(&world);
    assert_eq!((next(&leader, "a"), leader.view.quarantine.len()), (Some(START + HOUR), 0));
}

fn relist(view: &mut View, world: &World) {
    world.etcd.listing().into_iter().for_each(|change| view.apply(change, world.now()));
}

#[test]
fn a_listing_finds_calendars_that_the_watch_dropped_and_forgets_no_problem() {
    let (mut world, _) = Leader::of_one_segment();
    world.save(&on_days("a", "0 0 9 * * *"));
    let mut view = listed_view(&world);
    let seen = |view: &View| (view.quarantine.len(), view.jobs.calendars().len());
    relist(&mut view, &world);
    assert_eq!(seen(&view), (1, 0), "still a problem");
    world.save_calendar(&with_excluded(&[]));
    relist(&mut view, &world);
    assert_eq!(seen(&view), (0, 1));
    delete_calendar(&mut world);
    relist(&mut view, &world);
    assert_eq!(seen(&view), (1, 0));
}

#[test]
fn nothing_is_dispatched_on_the_days_of_before() {
    for days in [&["2027-01-15"][..], &[]] {
        let (mut world, mut leader) = Leader::of_one_segment();
        world.register("c-1", 100);
        // The other way round: the day was left out, and is not any more.
        world.save_calendar(&with_excluded(if days.is_empty() { &["2027-01-15"] } else { &[] }));
        world.save(&on_days("a", "0 * * * * *"));
        world.save(&job("b", "0 * * * * *"));
        leader.catch_up(&world);
        world.pass(MINUTE);
        let batch = leader.batch(&world).unwrap();
        world.save_calendar(&with_excluded(days));
        let outcome = world.commit(&batch.txn);
        assert!(matches!(outcome, Committed::Refused { .. }), "{outcome:?}");
        leader.answered(batch, &outcome);
        leader.catch_up(&world);
        leader.dispatch(&mut world);
        world.audit.assert_kept();
        assert_eq!(world.given().len(), if days.is_empty() { 2 } else { 1 });
    }
}
