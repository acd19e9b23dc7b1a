//! Who is meant by a request to step down, and that it cannot depose anybody else.

use std::time::Duration;

use forest_etcd::{Guard, Outcome as Committed, Txn};
use forest_proto::NodeId;
use forest_proto::record::{Node, StepDown, encode};
use forest_proto::time::Instant;

use super::leader::Leader;
use super::world::World;
use crate::core::step_down;
use crate::core::term::Term;

/// A leader, in etcd and as its term.
fn led() -> (World, Leader, Term) {
    let mut world = World::new(1);
    let leader = Leader::elect(&mut world);
    let term = leader.term.clone();
    (world, leader, term)
}

fn put(world: &mut World, key: String, value: Vec<u8>) {
    assert!(matches!(world.commit(&Txn::new().put(key, value)), Committed::Applied { .. }));
}

fn ask(world: &mut World, node: &NodeId, term: i64) {
    let asked =
        StepDown { node: node.clone(), term, hold_ms: 7_000, at: Instant::default(), by: String::new() };
    put(world, world.keys.step_down(), encode(&asked));
}

fn come(world: &mut World, name: &NodeId) {
    let (address, version) = (String::new(), String::new());
    let (started_at, wall) = (Instant::default(), Instant::from_ms(world.now_ms));
    let node = Node { name: name.clone(), address, version, started_at, wall, log_level: String::new() };
    put(world, world.keys.node(name), encode(&node));
}

fn another() -> NodeId {
    NodeId::new("another").unwrap()
}

#[test]
fn only_the_leader_of_the_term_is_meant() {
    let (mut world, mut leader, term) = led();
    come(&mut world, term.node());
    come(&mut world, &another());
    let mut asked = |world: &mut World, node: &NodeId, number: i64| {
        ask(world, node, number);
        leader.catch_up(world);
        step_down::asked(&leader.view, &term)
    };
    assert_eq!(asked(&mut world, term.node(), term.number()), Some(Duration::from_secs(7)));
    assert_eq!(asked(&mut world, term.node(), term.number() - 1), None, "an earlier term of its own");
    assert_eq!(asked(&mut world, &another(), term.number()), None);
}

#[test]
fn a_leader_that_is_alone_leaves_nothing_to_others() {
    let (mut world, mut leader, term) = led();
    come(&mut world, term.node());
    ask(&mut world, term.node(), term.number());
    leader.catch_up(&world);
    assert_eq!(step_down::asked(&leader.view, &term), Some(Duration::ZERO));
}

#[test]
fn the_leadership_is_given_back_with_the_request() {
    let (mut world, mut leader, term) = led();
    ask(&mut world, term.node(), term.number());
    let resigned = world.commit(&step_down::resignation(&world.keys, &term));
    assert!(matches!(resigned, Committed::Applied { .. }), "{resigned:?}");
    leader.catch_up(&world);
    assert!(leader.view.leader().is_none() && step_down::asked(&leader.view, &term).is_none());
}

#[test]
fn a_resignation_that_comes_late_deposes_nobody_else_but_for_its_guard() {
    for guarded in [true, false] {
        let (mut world, _, term) = led();
        let mut late = step_down::resignation(&world.keys, &term);
        let mut next = Leader::elect(&mut world);
        if !guarded {
            let before = late.guards.len();
            late.guards.retain(|guard| !matches!(guard, Guard::Created { .. }));
            assert_eq!(late.guards.len(), before - 1);
        }
        world.commit(&late);
        next.catch_up(&world);
        assert_eq!(next.view.leader().is_some(), guarded);
    }
}
