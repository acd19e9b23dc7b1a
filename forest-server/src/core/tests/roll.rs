//! The roll call: a leader whose view lacks a run decides nothing before it has it.

use forest_etcd::Change;
use forest_proto::record::{Job, Routing};

use super::leader::{Leader, deliver, listed_view};
use super::world::World;
use super::{MINUTE, job};
use crate::core::roll::{Roll, RollCall};
use crate::core::view::View;

/// A run is given to a client while a follower watches; what it sees of that is `seen`.
fn followed(seen: impl Fn(&Change) -> bool) -> (World, View) {
    let (mut world, mut leader) = Leader::of_one_segment();
    world.register("c-1", 2);
    world.save(&job("a", "* * * * * *"));
    leader.catch_up(&world);
    let mut view = listed_view(&world);
    world.pass(MINUTE);
    leader.dispatch(&mut world);
    for (_, changes) in world.etcd.after(view.revision()) {
        changes
            .iter()
            .filter(|change| seen(change))
            .for_each(|change| view.apply(change.clone(), world.now()));
    }
    world.new_term();
    deliver(&mut view, &world, usize::MAX);
    (world, view)
}

fn roll(world: &World) -> Roll {
    let prefixes = world.keys.runs();
    let listing = world.etcd.listing().into_iter().filter_map(|change| match change {
        Change::Listed(kv) if prefixes.iter().any(|prefix| kv.key.starts_with(prefix)) => {
            Some((kv.key, kv.mod_revision))
        }
        _ => None,
    });
    listing.collect()
}

fn is_snapshot(change: &Change) -> bool {
    matches!(change, Change::Put(kv) if kv.key.contains("/client/snapshot/"))
}

#[test]
fn a_view_that_has_every_run_is_taken_at_once() {
    let (world, view) = followed(|_| true);
    let mut call = RollCall::default();
    assert!(!call.is_over(&view, view.revision()), "nobody has answered yet");
    assert!(!roll(&world).is_empty());
    call.answered(roll(&world));
    assert!(call.is_over(&view, view.revision()));
}

#[test]
fn a_view_that_lacks_a_run_waits_for_a_listing_of_everything() {
    let (world, mut view) = followed(|change| !is_snapshot(change));
    let term = view.revision();
    let mut call = RollCall::default();
    call.answered(roll(&world));
    assert!(!call.is_over(&view, term) && call.is_lacking());
    world.etcd.listing().into_iter().for_each(|change| view.apply(change, world.now()));
    assert!(call.is_over(&view, term));
}

#[test]
fn a_broadcast_that_was_spread_is_missed_too() {
    let (mut world, mut leader) = Leader::of_one_segment();
    world.register("c-1", 2);
    world.save(&Job { routing: Routing::Broadcast, ..job("a", "0 * * * * *") });
    leader.catch_up(&world);
    let mut view = listed_view(&world);
    world.pass(MINUTE);
    leader.dispatch(&mut world);
    leader.settle(&mut world);
    let is_spread = |change: &Change| matches!(change, Change::Put(kv) if kv.key.contains("/server/spread/"));
    for (_, changes) in world.etcd.after(view.revision()) {
        let seen = changes.iter().filter(|change| !is_spread(change));
        seen.for_each(|change| view.apply(change.clone(), world.now()));
    }
    world.new_term();
    deliver(&mut view, &world, usize::MAX);
    let mut call = RollCall::default();
    call.answered(roll(&world));
    assert!(!call.is_over(&view, view.revision()) && call.is_lacking());
}

#[test]
fn a_run_that_went_after_it_was_listed_is_not_missing() {
    let (world, mut view) = followed(|_| true);
    let mut call = RollCall::default();
    let roll = roll(&world);
    let (key, _) = roll.first().cloned().expect("a run is there");
    let gone = Change::Deleted { key, revision: view.revision() + 1 };
    call.note(&gone);
    view.apply(gone, world.now());
    call.answered(roll);
    assert!(call.is_over(&view, view.revision()) && !call.is_lacking());
}

#[test]
fn what_is_newer_than_the_view_is_waited_for() {
    let (world, view) = followed(|_| true);
    let mut call = RollCall::default();
    let mut roll = roll(&world);
    let newer = view.revision() + 1;
    roll.push((format!("{}late/run", world.keys.runs()[1]), newer));
    call.answered(roll);
    assert!(!call.is_over(&view, view.revision()) && !call.is_lacking(), "it may still come");
}

#[test]
fn runs_that_cannot_be_listed_need_a_listing_of_everything() {
    let (world, mut view) = followed(|_| true);
    let term = view.revision();
    let mut call = RollCall::default();
    assert!(call.is_under_way());
    call.failed();
    assert!(!call.is_under_way() && call.is_lacking() && !call.is_over(&view, term));
    world.etcd.listing().into_iter().for_each(|change| view.apply(change, world.now()));
    assert!(call.is_over(&view, term));
}
