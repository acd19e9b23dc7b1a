//! Which client gets a run.

use std::collections::BTreeMap;

use super::leader::{Leader, empty_view};
use super::world::{World, client};
use super::{group, seat, target};
use crate::core::clients::Client;
use crate::core::routing::Router;
use crate::core::view::View;

fn view_of(clients: &[(&str, u32)]) -> View {
    let mut view = empty_view(&World::new(1));
    for (name, capacity) in clients {
        view.clients.put(seat(name), Client { record: client(name, *capacity) }, 1, 0);
    }
    view
}

fn picks(router: &mut Router, view: &View, count: usize) -> Vec<String> {
    let pick =
        |_| router.pick(view, &group(), &target()).map_or("none".to_owned(), |seat| seat.1.to_string());
    (0..count).map(pick).collect()
}

#[test]
fn clients_get_runs_in_turn() {
    let view = view_of(&[("a", 10), ("b", 10), ("c", 10)]);
    assert_eq!(picks(&mut Router::default(), &view, 7), ["a", "b", "c", "a", "b", "c", "a"]);
}

#[test]
fn turns_go_on_where_a_client_left_or_came() {
    let mut view = view_of(&[("a", 10), ("c", 10), ("e", 10)]);
    let mut router = Router::default();
    assert_eq!(picks(&mut router, &view, 2), ["a", "c"]);
    view.clients.remove(&seat("c"), 9);
    view.clients.put(seat("d"), Client { record: client("d", 10) }, 9, 0);
    assert_eq!(picks(&mut router, &view, 4), ["d", "e", "a", "d"]);
}

#[test]
fn no_client_gets_more_than_twice_its_capacity() {
    let view = view_of(&[("a", 1), ("b", 3), ("c", 0)]);
    let mut router = Router::default();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    picks(&mut router, &view, 14).into_iter().for_each(|name| *counts.entry(name).or_default() += 1);
    let expected = [("a", 2), ("b", 6), ("c", 2), ("none", 4)];
    assert_eq!(counts, expected.map(|(name, count)| (name.to_owned(), count)).into());
    router.release(&seat("a"));
    assert_eq!(picks(&mut router, &view, 2), ["a", "none"], "what is given back can be promised again");
}

#[test]
fn a_client_that_drains_or_serves_something_else_gets_nothing() {
    let mut view = view_of(&[("a", 10)]);
    let mut drained = client("b", 10);
    drained.draining = true;
    view.clients.put(seat("b"), Client { record: drained }, 1, 0);
    view.clients.put(seat("c"), Client { record: World::serving(&["other"], "c") }, 1, 0);
    let all = forest_proto::record::ClientRecord::read(b"10.0.0.1").unwrap();
    view.clients.put(seat("d"), Client { record: all }, 1, 0);
    assert_eq!(picks(&mut Router::default(), &view, 3), ["a", "d", "a"]);
}

#[test]
fn targets_take_turns_of_their_own() {
    let mut view = view_of(&[]);
    for name in ["a", "b"] {
        view.clients.put(seat(name), Client { record: World::serving(&["bill", "mail"], name) }, 1, 0);
    }
    let mut router = Router::default();
    let mail = "mail".parse().unwrap();
    for expected in ["a", "b", "a"] {
        for target in [&target(), &mail] {
            let seat = router.pick(&view, &group(), target).unwrap();
            assert_eq!(seat.1.as_str(), expected);
        }
    }
}

#[test]
fn what_clients_hold_counts_against_their_room() {
    let (mut world, mut leader) = Leader::of_one_segment();
    world.register("a", 2);
    world.register("b", 2);
    for n in 0..20 {
        world.save(&super::job(&format!("job-{n:02}"), "0 * * * * *"));
    }
    leader.catch_up(&world);
    world.pass(super::MINUTE);
    leader.dispatch(&mut world);
    assert_eq!((world.given().len(), world.pending().len()), (8, 12));
    let load = |name: &str| leader.view.runs.load(&seat(name)).map_or(0, |load| load.total());
    assert_eq!((load("a"), load("b")), (4, 4));
    // No promise is left over: what was promised is in the view now.
    let before = Router::default().room(&leader.view, &group(), &target());
    assert_eq!((before, leader.router.room(&leader.view, &group(), &target())), (0, 0));
    for (seat, run) in world.given() {
        assert!(world.claim(&seat, &run));
        assert!(world.complete(&seat, &run, forest_proto::record::Outcome::Succeeded));
    }
    leader.settle(&mut world);
    assert_eq!((world.given().len(), world.pending().len()), (8, 4));
    world.audit.assert_kept();
}
