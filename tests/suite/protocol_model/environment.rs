//! What nobody decides: time, leases that expire, processes that die, packets that arrive late.

use super::catalogue::{ATTEMPTS, FIRES};
use super::moves::Moves;
use super::rules::Flaw;
use super::story::{Actor, Deed};
use super::txn::{Step, Write};
use super::world::{CLIENTS, ClientId, Execute, NODES, Node, NodeId, Task, World};

impl Moves<'_> {
    pub(super) fn add_environment(&mut self) {
        let world = self.world;
        let horizon = FIRES[usize::from(self.fires) - 1].at;
        if world.now < horizon {
            self.step(Actor::World, Deed::Tick, |world| world.now += 1);
        }
        if let Some(leader) = world.etcd.leader
            && world.budget.leader_expiry > 0
        {
            self.step(Actor::World, Deed::LeaderLeaseExpires, |world| {
                world.budget.leader_expiry -= 1;
                end_lease(world, leader.node);
            });
        }
        self.add_late_arrival();
        for client in CLIENTS {
            self.add_client_faults(client);
        }
        for node in NODES {
            let idle = world.nodes[usize::from(node)] == Node::default();
            if world.budget.node_crash > 0 && !idle {
                self.step(Actor::Node(node), Deed::Crash, |world| {
                    world.budget.node_crash -= 1;
                    *world.node(node) = Node::default();
                    end_lease(world, node);
                });
            }
        }
    }

    fn add_late_arrival(&mut self) {
        let Some(txn) = self.world.in_flight else { return };
        let rules = self.rules;
        if txn.passes(self.world, rules) {
            self.try_step(Actor::World, Deed::LateApply(txn.step), |world| {
                world.in_flight = None;
                txn.commit(world, rules)
            });
        } else {
            self.step(Actor::World, Deed::LateRefusal(txn.step), |world| world.in_flight = None);
        }
    }

    fn add_client_faults(&mut self, client: ClientId) {
        let alive = self.world.clients[usize::from(client)].alive;
        let registered = self.world.etcd.is_registered(client);
        let on_lease = self.rules.has(Flaw::ExecuteOnClientLease);
        // The lease of a dead process ends by itself; that of a live one only by a fault.
        if registered && (!alive || self.world.budget.client_expiry > 0) {
            let deed =
                if alive { Deed::ClientLeaseExpires(client) } else { Deed::DeadClientLeaseExpires(client) };
            self.step(Actor::World, deed, |world| {
                world.budget.client_expiry -= u8::from(alive);
                world.etcd.registered[usize::from(client)] = false;
                if on_lease {
                    for run in &mut world.etcd.runs {
                        run.at[usize::from(client)].execute = Execute::Absent;
                    }
                }
            });
        }
        if alive && self.world.budget.client_crash > 0 {
            self.step(Actor::Client(client), Deed::Crash, |world| {
                world.budget.client_crash -= 1;
                let process = &mut world.clients[usize::from(client)];
                process.alive = false;
                process.tasks = [Task::None; ATTEMPTS];
            });
        }
    }
}

/// With the node's lease goes its leader key, and any campaign on that lease which is still under way: etcd
/// refuses to attach a key to a lease that is gone.
fn end_lease(world: &mut World, node: NodeId) {
    if world.etcd.leader.is_some_and(|leader| leader.node == node) {
        world.etcd.leader = None;
    }
    let on_lease = |step, write| step == Step::Campaign && write == Some(Write::Lead(node));
    if world.in_flight.is_some_and(|txn| on_lease(txn.step, txn.writes[0])) {
        world.in_flight = None;
    }
}
