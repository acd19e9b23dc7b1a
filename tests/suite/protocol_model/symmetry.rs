//! Nodes have no rank among themselves, nor have clients: a state and its mirror image lead to the same ends.
//! Of the two (or four) only one is stored. Where a tie is broken badly a state is stored twice, which costs
//! time and nothing else. Stories are told of the states that really followed each other.

use std::cmp::Ordering;

use super::txn::{Guard, Txn, Write};
use super::world::{ClientId, Place, Record, World};

/// The one state that stands for `world` and its mirror images.
pub(super) fn canonical(world: &World) -> World {
    let mut chosen = *world;
    if order_of_nodes(world) == Ordering::Greater {
        mirror_nodes(&mut chosen);
    }
    if order_of_clients(world) == Ordering::Greater {
        mirror_clients(&mut chosen);
    }
    chosen
}

fn order_of_nodes(world: &World) -> Ordering {
    let leader = world.etcd.leader.map(|leader| leader.node);
    world.nodes[0].cmp(&world.nodes[1]).then((leader == Some(0)).cmp(&(leader == Some(1))))
}

fn order_of_clients(world: &World) -> Ordering {
    let mut order = world.clients[0].cmp(&world.clients[1]);
    for run in &world.etcd.runs {
        order = order.then_with(|| run.at[0].cmp(&run.at[1]));
    }
    order = order.then(world.etcd.registered[0].cmp(&world.etcd.registered[1]));
    for row in &world.mysql {
        order = order.then(row.by[0].cmp(&row.by[1])).then(row.late[0].cmp(&row.late[1]));
    }
    for acknowledged in &world.history.acknowledged {
        order = order.then(acknowledged[0].cmp(&acknowledged[1]));
    }
    order
}

fn mirror_nodes(world: &mut World) {
    world.nodes.swap(0, 1);
    if let Some(leader) = &mut world.etcd.leader {
        leader.node = 1 - leader.node;
    }
    let writes = world.in_flight.iter_mut().flat_map(|txn| txn.writes.iter_mut().flatten());
    for write in writes {
        if let Write::Lead(node) = write {
            *node = 1 - *node;
        }
    }
}

fn mirror_clients(world: &mut World) {
    world.clients.swap(0, 1);
    world.etcd.registered.swap(0, 1);
    for run in &mut world.etcd.runs {
        run.at.swap(0, 1);
    }
    for row in &mut world.mysql {
        row.by.swap(0, 1);
        row.late.swap(0, 1);
    }
    for acknowledged in &mut world.history.acknowledged {
        acknowledged.swap(0, 1);
    }
    for collecting in world.nodes.iter_mut().filter_map(|node| node.collecting.as_mut()) {
        mirror_record(&mut collecting.record);
    }
    if let Some(txn) = &mut world.in_flight {
        mirror_txn(txn);
    }
}

fn mirror_txn(txn: &mut Txn) {
    for guard in txn.guards.iter_mut().flatten() {
        match guard {
            Guard::Snapshot(_, place, _) => mirror_place(place),
            Guard::Execute(_, client, _)
            | Guard::Registered(client)
            | Guard::Gone(client)
            | Guard::NotCancelled(_, client) => mirror(client),
            Guard::Unchanged(record) => mirror_record(record),
            Guard::NoLeader
            | Guard::Term(_)
            | Guard::Cursor(_)
            | Guard::Jobgen(_)
            | Guard::Conf(..)
            | Guard::Waiting(_)
            | Guard::CancelRequest
            | Guard::NoCancelRequest
            | Guard::NoRequest(_)
            | Guard::NoAnswer => {}
        }
    }
    for write in txn.writes.iter_mut().flatten() {
        match write {
            Write::Create(_, place, _) | Write::Put(_, place, _) | Write::Take(_, place) => {
                mirror_place(place);
            }
            Write::Execute(_, client, _)
            | Write::Late(_, client, _)
            | Write::Cancel(_, client)
            | Write::Uncancel(_, client) => mirror(client),
            Write::Remove(record) => mirror_record(record),
            Write::Lead(_)
            | Write::Cursor(_)
            | Write::RewriteCursor
            | Write::Jobgen
            | Write::Conf(..)
            | Write::Wait(_)
            | Write::Unwait(_)
            | Write::Verdict(..)
            | Write::RequestCancel
            | Write::TakeCancelRequest
            | Write::Answer => {}
        }
    }
}

fn mirror_place(place: &mut Place) {
    if let Place::Client(client) = place {
        mirror(client);
    }
}

fn mirror_record(record: &mut Record) {
    match record {
        Record::Execute(_, client, _) | Record::Late(_, client, _) => mirror(client),
        Record::Verdict(..) => {}
    }
}

fn mirror(client: &mut ClientId) {
    *client = 1 - *client;
}
