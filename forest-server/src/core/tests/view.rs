//! The mirror: whatever the stream of changes leaves out, repeats or brings too late.

use std::collections::BTreeMap;

use fastrand::Rng;
use forest_etcd::{Change, KeyValue, Txn};
use forest_proto::Segment;
use forest_proto::record::{Cursor, Job, encode};
use forest_proto::time::Instant;

use super::leader::{Leader, deliver, empty_view, listed_view};
use super::world::World;
use super::{MINUTE, SECOND, START, calendars, group, id, job, seat};
use crate::core::view::View;

/// All that decisions are made on.
fn summary(view: &View) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for (id, job) in view.jobs.page(None, usize::MAX) {
        all.insert(format!("job {id}"), format!("{} {:?} {}", job.revision, job.next_ms(), job.enabled));
    }
    for (id, run) in view.runs.iter() {
        let value = run.value.as_ref().map(|value| value.len());
        let text = format!("{} {} {:?} {value:?} {}", run.revision, run.created, run.place, run.group);
        all.insert(format!("run {id}"), text);
    }
    for group in view.clients.groups() {
        for (id, client) in view.clients.of_group(group).into_iter().flatten() {
            all.insert(format!("client {group} {id}"), format!("{} {:?}", client.revision, client.value));
        }
    }
    for (key, request) in view.requests.iter() {
        all.insert(format!("request {key:?}"), format!("{request:?}"));
    }
    for segment in view.jobs.segments() {
        let jobs = view.jobs.segment(segment);
        let plan: Vec<_> = jobs.fires().collect();
        all.insert(format!("segment {segment}"), format!("{:?} {} {plan:?}", jobs.decided(), jobs.jobgen()));
    }
    for (seat, load) in view.runs.loads() {
        all.insert(format!("load {seat:?}"), format!("{load:?}"));
    }
    let delays: Vec<_> = view.runs.delays().collect();
    let counts =
        (view.jobs.len(), view.jobs.enabled(), view.clients.len(), view.runs.len(), view.runs.settled_len());
    all.insert("all".into(), format!("{:?} {delays:?} {counts:?} {}", view.leader(), view.revision()));
    all
}

/// A history of everything that the core writes and reads.
fn history(seed: u64) -> World {
    use forest_proto::record::Outcome;
    let mut rng = Rng::with_seed(seed);
    let mut world = World::new(3);
    let mut leader = Leader::elect(&mut world);
    leader.dispatch(&mut world);
    for n in 0..6 {
        world.register(&format!("c-{n}"), 2);
        let calendars = if n == 0 { vec!["days".to_owned()] } else { Vec::new() };
        world.save(&Job { max_attempts: 2, calendars, ..job(&format!("job-{n}"), "*/20 * * * * *") });
    }
    for _ in 0..40 {
        leader.catch_up(&world);
        world.pass(rng.i64(SECOND..MINUTE));
        match rng.u8(..10) {
            0 => world.disable("job-1"),
            1 => world.enable("job-1"),
            2 if world.audit.tally.get(&id("job-2")).is_some() => world.delete_job("job-2"),
            3 => world.register(&format!("c-{}", rng.u8(..6)), 2),
            4 => {
                let gone =
                    leader.view.clients.of_group(&group()).and_then(|clients| clients.keys().next()).cloned();
                gone.iter().for_each(|client| world.vanish(client.as_str()));
            }
            5 => drop(world.ask_run("job-3")),
            6 => world.collect(),
            8 => world
                .save_calendar(&calendars::with_excluded(&["2027-01-16", "2027-01-15"][..rng.usize(..2)])),
            7 => leader = Leader::elect(&mut world),
            9 if rng.bool() => world.drain(&format!("c-{}", rng.u8(..6))),
            9 => world.undrain(&format!("c-{}", rng.u8(..6))),
            _ => {}
        }
        leader.catch_up(&world);
        leader.dispatch(&mut world);
        if rng.bool() {
            leader.settle(&mut world);
        }
        for (seat, run) in world.given() {
            if rng.bool() && world.claim(&seat, &run) && rng.bool() {
                let outcome = if rng.bool() { Outcome::Succeeded } else { Outcome::Failed };
                world.complete(&seat, &run, outcome);
            }
        }
    }
    world.audit.assert_kept();
    world
}

#[test]
fn a_view_that_followed_along_is_one_that_was_listed() {
    for seed in 0..8 {
        let world = history(seed);
        let mut followed = empty_view(&world);
        deliver(&mut followed, &world, usize::MAX);
        assert_eq!(summary(&followed), summary(&listed_view(&world)), "seed {seed}");
    }
}

#[test]
fn a_relist_makes_up_for_whatever_the_watch_dropped() {
    for seed in 0..8 {
        let world = history(seed);
        let mut rng = Rng::with_seed(seed);
        let mut view = empty_view(&world);
        for (_, changes) in world.etcd.after(0) {
            for change in changes.iter().filter(|_| rng.u8(..3) > 0) {
                view.apply(change.clone(), world.now());
            }
        }
        world.etcd.listing().into_iter().for_each(|change| view.apply(change, world.now()));
        assert_eq!(summary(&view), summary(&listed_view(&world)), "seed {seed}");
    }
}

#[test]
fn an_old_listing_takes_nothing_back() {
    for seed in 0..8 {
        let mut world = history(seed);
        let listing = world.etcd.listing();
        let mut view = listed_view(&world);
        // Meanwhile everything goes on, and the watch is faster than the listing.
        let mut leader = Leader::elect(&mut world);
        world.pass(MINUTE);
        leader.dispatch(&mut world);
        leader.settle(&mut world);
        world.save(&job("job-new", "*/5 * * * * *"));
        let (before, after) = listing.split_at(listing.len() / 2);
        before.iter().for_each(|change| view.apply(change.clone(), world.now()));
        deliver(&mut view, &world, usize::MAX);
        after.iter().for_each(|change| view.apply(change.clone(), world.now()));
        // Keys that were deleted meanwhile come back with it, until the next listing; nothing else does.
        let (found, expected) = (summary(&view), summary(&listed_view(&world)));
        let wrong = expected.iter().filter(|(key, value)| {
            let indexes = key.starts_with("load") || *key == "all";
            !indexes && found.get(*key) != Some(value)
        });
        assert_eq!(wrong.collect::<Vec<_>>(), Vec::new(), "seed {seed}");
    }
}

#[test]
fn changes_that_come_again_change_nothing() {
    let world = history(1);
    let mut view = listed_view(&world);
    let before = summary(&view);
    for (_, changes) in world.etcd.after(world.etcd.revision() - 60) {
        changes.iter().for_each(|change| view.apply(change.clone(), world.now()));
    }
    assert_eq!(summary(&view).get("all"), before.get("all"));
}

#[test]
fn a_reset_forgets_everything() {
    let world = history(2);
    let mut view = listed_view(&world);
    assert!(view.is_complete());
    view.apply(Change::Reset, world.now());
    assert!(!view.is_complete());
    assert_eq!(summary(&view), summary(&empty_view(&world)));
    // What comes then may have smaller revisions.
    world.etcd.listing().into_iter().for_each(|change| view.apply(change, world.now()));
    assert_eq!(summary(&view), summary(&listed_view(&world)));
}

fn put(view: &mut View, world: &World, key: &str, value: &[u8], revision: i64) {
    let (key, value) = (key.to_owned(), value.to_vec());
    let kv = KeyValue { key, value, create_revision: revision, mod_revision: revision, version: 1, lease: 0 };
    view.apply(Change::Put(kv), world.now());
}

#[test]
fn garbage_is_counted_once_and_left_alone() {
    let mut world = history(3);
    let mut leader = Leader::elect(&mut world);
    let before = leader.view.quarantine.len();
    let keys = world.keys.clone();
    let run = World::fire("job-0", START);
    let seat = seat("c-1");
    let garbage = [
        format!("{}surprise", keys.all()),
        format!("{}server/cursor/zz", keys.all()),
        format!("{}server/cursor/3f", keys.all()),
        format!("{}server/conf/a b", keys.all()),
        format!("{}server/delay/00/99999999999999999.x", keys.all()),
        keys.job(&id("not-json")),
        keys.pending(&group(), &run),
        keys.snapshot(&seat.0, &seat.1, &run),
        keys.execution(&seat.0, Some(&seat.1), &run),
        keys.execution(&seat.0, None, &run),
    ];
    for key in &garbage {
        for value in [&b"{"[..], b"\xff\xfe", b"null", b"[]", br#"{"id":7}"#, br#"{"status":77}"#] {
            assert!(matches!(world.commit_raw(key, value), forest_etcd::Outcome::Applied { .. }));
        }
    }
    leader.catch_up(&world);
    assert_eq!(leader.view.quarantine.len(), before + garbage.len());
    assert!(leader.view.runs.get(&run).is_none());
    // A listing counts the same keys, not more.
    world.etcd.listing().into_iter().for_each(|change| leader.view.apply(change, world.now()));
    assert_eq!(leader.view.quarantine.len(), before + garbage.len());
    leader.dispatch(&mut world);
    leader.settle(&mut world);
    for key in &garbage {
        assert!(world.etcd.get(key).is_some(), "{key}");
        world.commit(&Txn::new().delete(key.clone()));
    }
    leader.catch_up(&world);
    assert_eq!(leader.view.quarantine.len(), before, "what is gone is forgotten");
}

#[test]
fn a_key_that_can_be_read_again_leaves_the_quarantine() {
    let world = World::new(1);
    let mut view = empty_view(&world);
    let key = world.keys.job(&id("a"));
    put(&mut view, &world, &key, b"{", 5);
    assert_eq!((view.quarantine.len(), view.jobs.len()), (1, 0));
    put(&mut view, &world, &key, &encode(&job("a", "0 * * * * *")), 6);
    assert_eq!((view.quarantine.len(), view.jobs.len()), (0, 1));
}

#[test]
fn a_job_overwritten_with_garbage_does_not_go_on_firing() {
    let (mut world, mut leader) = Leader::of_one_segment();
    world.save(&job("a", "* * * * * *"));
    leader.catch_up(&world);
    let key = world.keys.job(&id("a"));
    world.commit_raw(&key, b"{ an editor that crashed");
    leader.catch_up(&world);
    world.pass(MINUTE);
    leader.dispatch(&mut world);
    assert!(world.given().is_empty() && world.pending().is_empty());
    world.audit.assert_kept();
}

#[test]
fn a_cursor_never_goes_back() {
    let world = World::new(1);
    let segment: Segment = world.segments.all().next().unwrap();
    let key = world.keys.cursor(segment);
    let mut view = empty_view(&world);
    let write = |at: i64| encode(&Cursor::at(Instant::from_ms(at), "z", 1));
    put(&mut view, &world, &world.keys.job(&id("a")), &encode(&job("a", "0 * * * * *")), 4);
    put(&mut view, &world, &key, &write(START), 5);
    let next = |view: &View| view.jobs.get(&id("a")).unwrap().next_ms();
    assert_eq!(next(&view), Some(START + MINUTE));
    put(&mut view, &world, &key, &write(START + MINUTE), 6);
    assert_eq!(next(&view), Some(START + 2 * MINUTE));
    for revision in [4, 5, 6] {
        put(&mut view, &world, &key, &write(START - MINUTE), revision);
        assert_eq!(next(&view), Some(START + 2 * MINUTE), "a change of the past, or the same again");
    }
    assert_eq!(view.jobs.segment(segment).decided().unwrap().fire_ms, START + MINUTE);
}

#[test]
fn cursor_and_jobs_may_come_in_any_order() {
    let world = World::new(1);
    let segment: Segment = world.segments.all().next().unwrap();
    let cursor = encode(&Cursor::at(Instant::from_ms(START + MINUTE), "b", 1));
    let writes: Vec<(String, Vec<u8>)> = ["a", "b", "c"]
        .iter()
        .map(|name| (world.keys.job(&id(name)), encode(&job(name, "0 * * * * *"))))
        .chain([(world.keys.cursor(segment), cursor)])
        .collect();
    for first in 0..writes.len() {
        let mut view = empty_view(&world);
        for step in 0..writes.len() {
            let (key, value) = &writes[(first + step) % writes.len()];
            put(&mut view, &world, key, value, 5);
        }
        let plan: Vec<_> = view.jobs.segment(segment).fires().map(|(at, id)| (*at, id.to_string())).collect();
        let expected = [(1, "c"), (2, "a"), (2, "b")].map(|(n, name)| (START + n * MINUTE, name.to_owned()));
        assert_eq!(plan, expected, "jobs up to the cursor's are decided at its instant");
    }
}

#[test]
fn a_change_of_a_job_that_the_watch_dropped_is_noticed_with_the_next_one() {
    let (mut world, mut leader) = Leader::of_one_segment();
    world.save(&job("a", "0 * * * * *"));
    leader.catch_up(&world);
    let segment = leader.view.jobs.segments().next().expect("there is one");
    let seen = leader.view.revision();
    world.save(&job("a", "30 * * * * *"));
    world.save(&job("b", "0 * * * * *"));
    for (_, changes) in world.etcd.after(seen).iter().skip(1) {
        changes.iter().for_each(|change| leader.view.apply(change.clone(), world.now()));
    }
    assert!(leader.view.jobs.segment(segment).is_doubted());
    leader.view.apply(Change::ListStarted, world.now());
    leader.view.apply(Change::ListEnded { revision: seen }, world.now());
    assert!(leader.view.jobs.segment(segment).is_doubted(), "that listing is older");
    world.etcd.listing().into_iter().for_each(|change| leader.view.apply(change, world.now()));
    assert!(!leader.view.jobs.segment(segment).is_doubted());
    assert_eq!(summary(&leader.view), summary(&listed_view(&world)));
}

#[test]
fn a_run_that_its_client_does_not_claim_is_looked_at_when_its_start_deadline_has_passed() {
    let (mut world, mut leader) = Leader::of_one_segment();
    world.register("c-1", 10);
    world.save(&Job { start_deadline_ms: Some(5_000), ..job("a", "0 * * * * *") });
    leader.catch_up(&world);
    world.pass(MINUTE);
    leader.dispatch(&mut world);
    let run = World::fire("a", START + MINUTE);
    let deadlines: Vec<_> = leader.view.runs.deadlines().cloned().collect();
    assert_eq!(deadlines, [(START + MINUTE + 5_000, run.clone())]);
    world.claim_run(&run);
    leader.catch_up(&world);
    assert_eq!(leader.view.runs.deadlines().count(), 0);
}
