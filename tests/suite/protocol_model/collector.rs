//! Results go from etcd to MySQL, and leave etcd only afterwards. Any node may collect; leading is not
//! needed for it.

use super::catalogue::Attempt;
use super::moves::{Moves, Replies};
use super::rules::Flaw;
use super::story::{Actor, Deed};
use super::txn::{Guard, Step, Txn, Write};
use super::world::{CLIENTS, Collecting, Execute, NODES, NodeId, Record, World};

impl Moves<'_> {
    pub(super) fn add_collector(&mut self) {
        if !self.rules.slow_collector {
            for record in self.collectable() {
                self.step(Actor::Node(0), Deed::Collect(record), |world| {
                    save(world, record);
                    record.remove(world);
                });
            }
            return;
        }
        for node in NODES {
            match self.world.nodes[usize::from(node)].collecting {
                None => self.add_pick(node),
                Some(Collecting { record, saved: false }) => {
                    self.step(Actor::Node(node), Deed::Save(record), |world| {
                        save(world, record);
                        world.node(node).collecting = Some(Collecting { record, saved: true });
                    });
                }
                Some(Collecting { record, saved: true }) => self.add_delete(node, record),
            }
        }
    }

    fn add_pick(&mut self, node: NodeId) {
        let early = self.rules.has(Flaw::DeletesBeforeSaving);
        for record in self.collectable() {
            self.step(Actor::Node(node), Deed::Pick(record), |world| {
                world.node(node).collecting = Some(Collecting { record, saved: false });
                if early {
                    record.remove(world);
                }
            });
        }
    }

    fn add_delete(&mut self, node: NodeId, record: Record) {
        let txn = Txn::new(Step::Collect, [Guard::Unchanged(record)], [Write::Remove(record)]);
        let done = move |world: &mut World| world.node(node).collecting = None;
        let answered = move |world: &mut World| {
            done(world);
            Ok(())
        };
        let on = Replies { committed: answered, refused: answered, unknown: done };
        self.send(Actor::Node(node), Deed::Delete(record), txn, on);
    }

    fn collectable(&self) -> Vec<Record> {
        let too_early = self.rules.has(Flaw::CollectsBeforeDecision);
        let mut records = Vec::new();
        for attempt in Attempt::all() {
            let run = self.world.etcd.run(attempt);
            records.extend(run.verdict.map(|outcome| Record::Verdict(attempt, outcome)));
            for client in CLIENTS {
                let keys = self.world.etcd.at(attempt, client);
                match keys.execute {
                    Execute::Decided(outcome) => records.push(Record::Execute(attempt, client, outcome)),
                    Execute::Undecided(outcome) if too_early => {
                        records.push(Record::Execute(attempt, client, outcome));
                    }
                    _ => {}
                }
                records.extend(keys.late.map(|outcome| Record::Late(attempt, client, outcome)));
            }
        }
        records
    }
}

/// The upsert: running it again changes nothing.
fn save(world: &mut World, record: Record) {
    match record {
        Record::Verdict(attempt, outcome) => world.row(attempt).outcome = Some(outcome),
        Record::Execute(attempt, client, outcome) => {
            let row = world.row(attempt);
            row.outcome = Some(outcome);
            // A run that was declared lost has the leader's word in it, not the client's.
            row.by[usize::from(client)] = outcome != super::world::Outcome::Lost;
        }
        Record::Late(attempt, client, _) => world.row(attempt).late[usize::from(client)] = true,
    }
}
