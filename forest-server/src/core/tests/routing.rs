//! Which client gets a run.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use forest_proto::record::{ClientRecord, Job, Outcome, Routing, Snapshot};
use forest_proto::time::Instant;
use forest_proto::{ClientId, NodeId, RunId};

use super::leader::{Leader, empty_view};
use super::world::{World, client};
use super::{START, group, job, seat, target};
use crate::core::clients::Client;
use crate::core::compose::{Composer, Occasion};
use crate::core::routing::{Promise, Router};
use crate::core::term::Term;
use crate::core::view::View;

fn router() -> Router {
    Router::seeded(7, Duration::ZERO)
}

fn view_of(clients: &[(&str, u32)]) -> View {
    let mut view = empty_view(&World::new(1));
    for (name, capacity) in clients {
        come(&mut view, client(name, *capacity), name);
    }
    view
}

fn come(view: &mut View, record: ClientRecord, name: &str) {
    view.clients.put(seat(name), Client { record, drained: None }, 1, 0);
}

/// A run of the job as a leader writes it.
fn run_of(job: &Job) -> Snapshot {
    let world = World::new(1);
    let term = Term::new(1, NodeId::new("node").unwrap(), &world.keys);
    let composer = Composer { term: &term, defaults: &world.defaults, now_ms: START };
    let run = RunId::scheduled(&job.id, Instant::from_ms(START), 1);
    composer.snapshot(job, Occasion::fire(run, None))
}

fn routed(name: &str, routing: Routing) -> Snapshot {
    run_of(&Job { routing, ..job(name, "* * * * * *") })
}

fn pick(router: &mut Router, view: &View, run: &Snapshot) -> Option<Promise> {
    router.pick_new(view, run)
}

fn picks_of(router: &mut Router, view: &View, run: &Snapshot, count: usize) -> Vec<String> {
    let name = |_| pick(router, view, run).map_or("none".to_owned(), |promise| promise.seat.1.to_string());
    (0..count).map(name).collect()
}

fn picks(router: &mut Router, view: &View, count: usize) -> Vec<String> {
    picks_of(router, view, &routed("a", Routing::RoundRobin), count)
}

#[test]
fn clients_get_runs_in_turn() {
    let view = view_of(&[("a", 10), ("b", 10), ("c", 10)]);
    assert_eq!(picks(&mut router(), &view, 7), ["a", "b", "c", "a", "b", "c", "a"]);
}

#[test]
fn turns_go_on_where_a_client_left_or_came() {
    let mut view = view_of(&[("a", 10), ("c", 10), ("e", 10)]);
    let mut router = router();
    assert_eq!(picks(&mut router, &view, 2), ["a", "c"]);
    view.clients.remove(&seat("c"), 9);
    come(&mut view, client("d", 10), "d");
    assert_eq!(picks(&mut router, &view, 4), ["d", "e", "a", "d"]);
}

#[test]
fn no_client_gets_more_than_twice_its_capacity() {
    let view = view_of(&[("a", 1), ("b", 3), ("c", 0)]);
    let mut router = router();
    let run = routed("a", Routing::RoundRobin);
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut promises = Vec::new();
    for _ in 0..14 {
        let promise = pick(&mut router, &view, &run);
        let name = promise.as_ref().map_or("none".to_owned(), |promise| promise.seat.1.to_string());
        *counts.entry(name).or_default() += 1;
        promises.extend(promise);
    }
    let expected = [("a", 2), ("b", 6), ("c", 2), ("none", 4)];
    assert_eq!(counts, expected.map(|(name, count)| (name.to_owned(), count)).into());
    router.release(promises.iter().find(|promise| promise.seat == seat("a")).unwrap());
    assert_eq!(picks(&mut router, &view, 2), ["a", "none"], "what is given back can be promised again");
}

#[test]
fn a_client_that_drains_or_serves_something_else_gets_nothing() {
    let mut view = view_of(&[("a", 10)]);
    come(&mut view, ClientRecord { draining: true, ..client("b", 10) }, "b");
    come(&mut view, World::serving(&["other"], "c"), "c");
    come(&mut view, ClientRecord::read(b"10.0.0.1").unwrap(), "d");
    assert_eq!(picks(&mut router(), &view, 3), ["a", "d", "a"]);
}

#[test]
fn a_client_needs_all_labels_of_the_job() {
    let labels = |text: &[(&str, &str)]| -> BTreeMap<String, String> {
        text.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let mut view = view_of(&[("a", 9)]);
    for (name, text) in [
        ("b", &[("zone", "x")][..]),
        ("c", &[("zone", "x"), ("disk", "ssd"), ("os", "linux")]),
        ("d", &[("zone", "y"), ("disk", "ssd")]),
    ] {
        come(&mut view, ClientRecord { labels: labels(text), ..client(name, 9) }, name);
    }
    let of = |text: &[(&str, &str)]| run_of(&Job { labels: labels(text), ..job("a", "* * * * * *") });
    let able = |run: &Snapshot| picks_of(&mut router(), &view, run, 8).into_iter().collect::<BTreeSet<_>>();
    assert_eq!(able(&of(&[])).len(), 4);
    assert_eq!(able(&of(&[("zone", "x")])), ["b".to_owned(), "c".to_owned()].into());
    assert_eq!(able(&of(&[("zone", "x"), ("disk", "ssd")])), ["c".to_owned()].into());
    assert_eq!(able(&of(&[("zone", "z")])), ["none".to_owned()].into());
}

#[test]
fn targets_take_turns_of_their_own() {
    let mut view = view_of(&[]);
    for name in ["a", "b"] {
        come(&mut view, World::serving(&["bill", "mail"], name), name);
    }
    let mut router = router();
    for expected in ["a", "b", "a"] {
        for target in [target(), "mail".parse().unwrap()] {
            let run = Snapshot { target, ..routed("a", Routing::RoundRobin) };
            assert_eq!(pick(&mut router, &view, &run).unwrap().seat.1.as_str(), expected);
        }
    }
}

#[test]
fn the_first_or_the_last_gets_all_that_it_has_room_for() {
    let view = view_of(&[("a", 1), ("b", 1), ("c", 1)]);
    let all = |routing| picks_of(&mut router(), &view, &routed("a", routing), 7);
    assert_eq!(all(Routing::First), ["a", "a", "b", "b", "c", "c", "none"]);
    assert_eq!(all(Routing::Last), ["c", "c", "b", "b", "a", "a", "none"]);
}

#[test]
fn a_random_choice_is_the_same_in_the_same_term_and_spread() {
    let view = view_of(&[("a", 500), ("b", 500), ("c", 500)]);
    let world = World::new(1);
    let of_term = |number| {
        let term = Term::new(number, NodeId::new("node").unwrap(), &world.keys);
        let mut router = Router::of_term(&term, Duration::ZERO);
        picks_of(&mut router, &view, &routed("a", Routing::Random), 300)
    };
    assert_eq!(of_term(5), of_term(5));
    assert_ne!(of_term(5), of_term(6));
    for name in ["a", "b", "c"] {
        let share = of_term(5).iter().filter(|picked| *picked == name).count();
        assert!((60..=140).contains(&share), "{name}: {share}");
    }
}

/// Where a job's runs go by hash, with so many clients.
fn homes(clients: usize, leaving_out: Option<usize>) -> Vec<String> {
    let names: Vec<_> =
        (0..clients).filter(|n| Some(*n) != leaving_out).map(|n| format!("host-{n}")).collect();
    let all: Vec<_> = names.iter().map(|name| (name.as_str(), 10_000)).collect();
    let (view, mut router) = (view_of(&all), router());
    let home = |n| picks_of(&mut router, &view, &routed(&format!("job-{n}"), Routing::ConsistentHash), 1);
    (0..2_000).flat_map(home).collect()
}

#[test]
fn when_a_client_comes_only_its_share_of_the_jobs_moves() {
    for clients in [2, 5, 9, 20] {
        let (before, after) = (homes(clients - 1, None), homes(clients, None));
        let moved = before.iter().zip(&after).filter(|(before, after)| before != after).collect::<Vec<_>>();
        let newcomer = format!("host-{}", clients - 1);
        assert!(moved.iter().all(|(_, after)| **after == newcomer), "nothing moves between the others");
        let fair = 2_000 / clients;
        assert!(moved.len() <= fair + fair / 4, "{} of 2000 moved to one of {clients}", moved.len());
        assert!(moved.len() >= fair - fair / 4, "{} of 2000 moved to one of {clients}", moved.len());
    }
}

#[test]
fn when_a_client_goes_only_its_own_jobs_move() {
    let (before, after) = (homes(7, None), homes(7, Some(3)));
    let stayed = before.iter().zip(&after).all(|(before, after)| before == after || before == "host-3");
    assert!(stayed);
}

#[test]
fn a_hash_is_the_same_in_every_build() {
    let expected = [1, 1, 1, 1, 3, 3, 2, 2].map(|host| format!("host-{host}"));
    assert_eq!(homes(4, None)[..8], expected);
}

#[test]
fn a_job_whose_home_is_full_goes_to_the_next_one_in_its_own_order() {
    let view = view_of(&[("a", 1), ("b", 1), ("c", 1)]);
    let order = |name: &str| picks_of(&mut router(), &view, &routed(name, Routing::ConsistentHash), 7);
    let first = order("job-1");
    assert_eq!((&first[0], &first[2], &first[4]), (&first[1], &first[3], &first[5]));
    assert_eq!(first[..6].iter().collect::<BTreeSet<_>>().len(), 3);
    let orders: BTreeSet<_> = (0..20).map(|n| order(&format!("job-{n}"))).collect();
    assert!(orders.len() > 3, "jobs that share a home go on to different ones");
}

#[test]
fn the_least_used_client_gets_the_run() {
    let mut view = view_of(&[("a", 100), ("b", 100)]);
    for (routing, then) in [
        // The newcomer was never used: it catches up on all.
        (Routing::LeastFrequentlyUsed, ["c", "c", "a"]),
        (Routing::LeastRecentlyUsed, ["c", "a", "b"]),
    ] {
        view.clients.remove(&seat("c"), 2);
        let (mut router, run) = (router(), routed("x", routing));
        assert_eq!(picks_of(&mut router, &view, &run, 4), ["a", "b", "a", "b"], "{routing:?}");
        let other = picks_of(&mut router, &view, &routed("y", routing), 1);
        assert_eq!(other, ["a"], "jobs are counted apart");
        come(&mut view, client("c", 100), "c");
        assert_eq!(picks_of(&mut router, &view, &run, 3), then, "{routing:?}");
    }
}

#[test]
fn failover_keeps_to_a_client_until_it_is_gone() {
    let mut view = view_of(&[("b", 1), ("c", 1)]);
    let (mut router, run) = (router(), routed("x", Routing::Failover));
    assert_eq!(picks_of(&mut router, &view, &run, 1), ["b"]);
    come(&mut view, client("a", 1), "a");
    assert_eq!(picks_of(&mut router, &view, &run, 2), ["b", "none"], "it waits for the one it keeps to");
    view.clients.remove(&seat("b"), 9);
    assert_eq!(picks_of(&mut router, &view, &run, 1), ["a"]);
    come(&mut view, ClientRecord { draining: true, ..client("a", 1) }, "a");
    let record = ClientRecord { draining: true, ..client("a", 1) };
    view.clients.put(seat("a"), Client { record, drained: None }, 9, 0);
    assert_eq!(picks_of(&mut router, &view, &run, 1), ["c"]);
}

#[test]
fn free_slots_go_before_places_to_wait() {
    let view = view_of(&[("a", 1), ("b", 2)]);
    let all = picks_of(&mut router(), &view, &routed("x", Routing::BusyOver), 7);
    assert_eq!(all, ["a", "b", "b", "a", "b", "b", "none"]);
}

#[test]
fn the_least_loaded_is_the_one_with_the_smallest_share_in_use() {
    let view = view_of(&[("a", 1), ("b", 4)]);
    let all = picks_of(&mut router(), &view, &routed("x", Routing::LeastLoaded), 10);
    assert_eq!(all, ["a", "b", "b", "b", "b", "a", "b", "b", "b", "b"]);
}

#[test]
fn a_run_for_a_named_client_waits_for_it() {
    let view = view_of(&[("a", 1), ("b", 1)]);
    let pinned = Some(ClientId::new("b").unwrap());
    let run = Snapshot { pinned, ..routed("x", Routing::First) };
    assert_eq!(picks_of(&mut router(), &view, &run, 3), ["b", "b", "none"]);
    let gone = Snapshot { pinned: Some(ClientId::new("c").unwrap()), ..run };
    assert_eq!(picks_of(&mut router(), &view, &gone, 1), ["none"]);
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
    let need = crate::core::need::Need::of(&routed("a", Routing::RoundRobin));
    let before = router().room(&leader.view, &group(), &need);
    assert_eq!((before, leader.router.room(&leader.view, &group(), &need)), (0, 0));
    for (seat, run) in world.given() {
        assert!(world.claim(&seat, &run));
        assert!(world.complete(&seat, &run, Outcome::Succeeded));
    }
    leader.settle(&mut world);
    assert_eq!((world.given().len(), world.pending().len()), (8, 4));
    world.audit.assert_kept();
}
