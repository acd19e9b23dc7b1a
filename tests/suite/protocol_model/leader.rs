//! Election and the cursor. A node acts on the term and the view it believes in. It may be a
//! leader no more and not know it: only the guards protect the cluster from it.

use super::catalogue::{Attempt, FIRES, Fire, Job};
use super::moves::{Moves, Replies};
use super::rules::Flaw;
use super::story::{Actor, Deed};
use super::txn::{Guard, GuardName, Step, Txn, Write};
use super::world::{
    CLIENTS, ClientKeys, Cursor, Etcd, Execute, NODES, Node, NodeId, Outcome, Place, View, World,
};

/// A node that believes it leads and has loaded.
#[derive(Clone, Copy)]
pub(super) struct Leader {
    pub(super) id: NodeId,
    pub(super) term: u8,
    pub(super) view: View,
}

impl Moves<'_> {
    pub(super) fn add_campaigns(&mut self) {
        for id in NODES {
            let node = self.world.nodes[usize::from(id)];
            if node.term > 0 {
                self.add_notice(id, node.term);
                self.add_load(id);
            } else {
                if self.rules.has(Flaw::LoadsBeforeElection) {
                    self.add_load(id);
                }
                self.add_campaign(id);
            }
        }
    }

    /// A refused campaign that finds the key on the node's own lease had been applied before.
    fn add_campaign(&mut self, id: NodeId) {
        let leader = self.world.etcd.leader;
        let mine = leader.is_some_and(|leader| leader.node == id);
        // A follower waits while it sees another leader; the mutant without the guard does not.
        if leader.is_some() && !mine && !self.rules.drops(Step::Campaign, GuardName::NoLeader) {
            return;
        }
        let keeps_view = self.rules.has(Flaw::LoadsBeforeElection);
        let adopts = mine && !self.rules.has(Flaw::IgnoresOwnLeaderKey);
        let lead = move |world: &mut World| {
            let term = world.etcd.leader.map_or(0, |leader| leader.term);
            let node = world.node(id);
            node.term = term;
            node.view = node.view.filter(|_| keeps_view);
            Ok(())
        };
        let on = Replies {
            committed: lead,
            refused: move |world: &mut World| if adopts { lead(world) } else { Ok(()) },
            unknown: super::moves::nothing,
        };
        let txn = Txn::new(Step::Campaign, [Guard::NoLeader], [Write::Lead(id)]);
        self.send(Actor::Node(id), Deed::Campaign, txn, on);
    }

    fn add_notice(&mut self, id: NodeId, term: u8) {
        if self.world.etcd.leader.is_none_or(|leader| leader.term != term || leader.node != id) {
            self.step(Actor::Node(id), Deed::NoticeDeposed, |world| {
                let collecting = world.node(id).collecting;
                *world.node(id) = Node { collecting, ..Node::default() };
            });
        }
    }

    fn add_load(&mut self, id: NodeId) {
        let etcd = &self.world.etcd;
        let old = self.world.nodes[usize::from(id)].view;
        let mut view = View {
            cursor: etcd.cursor,
            jobgen: etcd.jobgen,
            confs: etcd.confs,
            report_active: self.sees_report_active(etcd),
        };
        if let Some(old) = old
            && self.rules.has(Flaw::RefreshesRevisionsOnly)
        {
            view.confs = old.confs;
        }
        if old != Some(view) {
            self.step(Actor::Node(id), Deed::Load, |world| world.node(id).view = Some(view));
        }
    }

    fn sees_report_active(&self, etcd: &Etcd) -> bool {
        let undecided = |keys: &ClientKeys| matches!(keys.execute, Execute::Undecided(_));
        Attempt::all().filter(|attempt| attempt.job() == Job::Report).any(|attempt| {
            let run = etcd.run(attempt);
            let only_waits = run.waiting && run.parked.is_none() && !run.at.iter().any(ClientKeys::is_open);
            let overlooked = (self.rules.has(Flaw::OverlapIgnoresRetries) && only_waits)
                || (self.rules.has(Flaw::OverlapIgnoresUndecidedFailures) && run.at.iter().any(undecided));
            etcd.is_active(attempt) && !overlooked
        })
    }

    pub(super) fn add_leader_work(&mut self) {
        for id in NODES {
            let Node { term, view: Some(view), .. } = self.world.nodes[usize::from(id)] else { continue };
            if term == 0 {
                continue;
            }
            let leader = Leader { id, term, view };
            self.add_dispatch(leader);
            self.add_duties(leader);
        }
    }

    /// The next fire of the cursor: passed, skipped or given to somebody.
    fn add_dispatch(&mut self, leader: Leader) {
        let index = usize::from(leader.view.cursor.decided);
        let due = FIRES[..usize::from(self.fires)].get(index).filter(|fire| fire.at <= self.world.now);
        let Some(&Fire { job, attempt, .. }) = due else { return };
        let conf = leader.view.confs[job as usize];
        if !conf.enabled {
            return self.decide_fire(leader, Deed::PassFire(attempt), None);
        }
        if job == Job::Report && leader.view.report_active {
            let skipped = Write::Verdict(attempt, Outcome::Skipped);
            return self.decide_fire(leader, Deed::SkipFire(attempt), Some(skipped));
        }
        for place in self.places() {
            let create = Write::Create(attempt, place, conf.version);
            self.decide_fire(leader, Deed::Dispatch(attempt, place), Some(create));
        }
    }

    fn decide_fire(&mut self, leader: Leader, deed: Deed, decision: Option<Write>) {
        let view = leader.view;
        let mut txn = Txn::new(
            Step::Dispatch,
            [Guard::Term(leader.term), Guard::Cursor(view.cursor), Guard::Jobgen(view.jobgen)],
            [Write::Cursor(view.cursor.decided + 1)],
        );
        if let Some(write) = decision {
            txn.also(write);
        }
        let starts_report = matches!(decision, Some(Write::Create(a, ..)) if a.job() == Job::Report);
        let decided = move |world: &mut World| {
            spend_slot(world, decision);
            let next = View {
                cursor: Cursor { decided: view.cursor.decided + 1, ..view.cursor },
                report_active: view.report_active || starts_report,
                ..view
            };
            world.node(leader.id).view = Some(next);
            Ok(())
        };
        let forget = self.forgets_view(leader.id);
        let unknown = move |world: &mut World| {
            spend_slot(world, decision);
            forget(world);
        };
        let on = Replies { committed: decided, refused: self.reloads(leader.id), unknown };
        self.send(Actor::Node(leader.id), deed, txn, on);
    }

    /// Where the leader may put a new run: it can be wrong about who is still there, so each client is tried.
    pub(super) fn places(&self) -> Vec<Place> {
        let mut places: Vec<Place> = CLIENTS.into_iter().map(Place::Client).collect();
        let nobody = CLIENTS.into_iter().all(|client| !self.world.etcd.is_registered(client));
        if nobody || self.world.budget.no_slot > 0 {
            places.push(Place::Parked);
        }
        places
    }

    /// After a lost reply nothing the leader remembers may be used.
    pub(super) fn forgets_view(&self, id: NodeId) -> impl Fn(&mut World) + Copy + use<> {
        let keeps = self.rules.has(Flaw::KeepsViewAfterLostReply);
        move |world: &mut World| {
            if !keeps {
                world.node(id).view = None;
            }
        }
    }

    /// A refusal says that the view is old. The flawed leader keeps it, to patch it later.
    pub(super) fn reloads(
        &self,
        id: NodeId,
    ) -> impl Fn(&mut World) -> Result<(), super::invariants::Broken> + Copy + use<> {
        let keeps = self.rules.has(Flaw::RefreshesRevisionsOnly);
        move |world: &mut World| {
            if !keeps {
                world.node(id).view = None;
            }
            Ok(())
        }
    }
}

/// "No client has a free slot" is a fault with a budget, unless no client is there at all.
pub(super) fn spend_slot(world: &mut World, decision: Option<Write>) {
    if let Some(Write::Create(_, Place::Parked, _)) = decision {
        world.budget.no_slot = world.budget.no_slot.saturating_sub(1);
    }
}
