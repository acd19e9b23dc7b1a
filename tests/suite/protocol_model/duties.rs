//! What a leader does about single runs: consume, assign, move, give up, decide, cancel. It reads the keys it
//! acts on just before; what can make that knowledge old is a transaction that stays in flight.

use super::catalogue::{Attempt, Job, MANUAL};
use super::leader::{Leader, spend_slot};
use super::moves::{Moves, Replies, unchanged};
use super::rules::Flaw;
use super::story::{Actor, Deed};
use super::txn::{Guard, GuardName, Step, Txn, Write};
use super::world::{CLIENTS, ClientId, Execute, Outcome, Place, Placing, View, World};

impl Moves<'_> {
    pub(super) fn add_duties(&mut self, leader: Leader) {
        for attempt in Attempt::all() {
            let run = self.world.etcd.run(attempt);
            if run.waiting && attempt == MANUAL {
                self.consume(leader, attempt, Step::ConsumeRequest);
            } else if run.waiting {
                self.consume(leader, attempt, Step::ConsumeRetry);
            }
            if let Some(placing) = run.parked {
                self.assign_parked(leader, attempt, placing);
            }
            for client in CLIENTS {
                let keys = self.world.etcd.at(attempt, client);
                if let Some(placing) = keys.snapshot
                    && self.may_be_gone(Step::Move, client)
                    && (placing == Placing::FIRST || !self.world.etcd.is_registered(client))
                {
                    self.move_snapshot(leader, attempt, client, placing);
                }
                match keys.execute {
                    Execute::Running if self.may_be_gone(Step::DeclareLost, client) => {
                        self.end_badly(leader, Step::DeclareLost, attempt, client);
                    }
                    Execute::Undecided(_) => {
                        self.end_badly(leader, Step::DecideFailure, attempt, client);
                    }
                    _ => {}
                }
            }
        }
        if self.world.etcd.cancel_request {
            self.add_cancels(leader);
        }
    }

    /// Client ids are never used again, so whoever is gone stays gone; but a leader may take a client for
    /// gone that it has not seen come yet. The guard is what catches that. (It is wrong once per snapshot at
    /// most, or a mutant would move one for ever.)
    fn may_be_gone(&self, step: Step, client: ClientId) -> bool {
        !self.world.etcd.is_registered(client) || self.rules.drops(step, GuardName::Gone)
    }

    fn act(&mut self, leader: Leader, deed: Deed, txn: Txn) {
        let unknown = self.forgets_view(leader.id);
        let on = Replies { committed: unchanged, refused: unchanged, unknown };
        self.send(Actor::Node(leader.id), deed, txn, on);
    }

    /// A retry continues its own run and is no overlap. A manual run is a new one: it takes its turn at
    /// the cursor, or a dispatch that is still under way could start a second run beside it.
    fn consume(&mut self, leader: Leader, attempt: Attempt, step: Step) {
        let conf = leader.view.confs[attempt.job() as usize];
        let manual = attempt == MANUAL;
        let mut guards =
            vec![Guard::Term(leader.term), Guard::Waiting(attempt), Guard::Conf(attempt.job(), conf.version)];
        let mut writes = vec![Write::Unwait(attempt)];
        if manual {
            guards.push(Guard::Cursor(leader.view.cursor));
            if !self.rules.has(Flaw::ManualRunLeavesCursor) {
                writes.push(Write::RewriteCursor);
            }
            if !self.rules.has(Flaw::ForgetsAnswers) {
                writes.push(Write::Answer);
            }
        }
        let mut txn = Txn::from_parts(step, &guards, &writes);
        let refusal = if !conf.enabled {
            Some(Outcome::Cancelled)
        } else if manual && leader.view.report_active {
            Some(Outcome::Skipped)
        } else {
            None
        };
        if let Some(outcome) = refusal {
            txn.also(Write::Verdict(attempt, outcome));
            return self.send_consumption(leader, Deed::Refuse(attempt, outcome), txn, None);
        }
        for place in self.places() {
            let create = Write::Create(attempt, place, conf.version);
            let mut txn = txn;
            txn.also(create);
            self.send_consumption(leader, Deed::Consume(attempt, place), txn, Some(create));
        }
    }

    fn send_consumption(&mut self, leader: Leader, deed: Deed, txn: Txn, created: Option<Write>) {
        let starts_report = matches!(created, Some(Write::Create(a, ..)) if a.job() == Job::Report);
        let consumed = move |world: &mut World| {
            spend_slot(world, created);
            let report_active = leader.view.report_active || starts_report;
            let mut cursor = leader.view.cursor;
            cursor.rewrites += u8::from(txn.writes.contains(&Some(Write::RewriteCursor)));
            world.node(leader.id).view = Some(View { report_active, cursor, ..leader.view });
            Ok(())
        };
        let forget = self.forgets_view(leader.id);
        let unknown = move |world: &mut World| {
            spend_slot(world, created);
            forget(world);
        };
        let on = Replies { committed: consumed, refused: self.reloads(leader.id), unknown };
        self.send(Actor::Node(leader.id), deed, txn, on);
    }

    /// A parked run gets a client, or its start deadline.
    fn assign_parked(&mut self, leader: Leader, attempt: Attempt, placing: Placing) {
        let guards = [Guard::Term(leader.term), Guard::Snapshot(attempt, Place::Parked, Some(placing))];
        for client in CLIENTS.into_iter().filter(|client| self.world.etcd.is_registered(*client)) {
            let Some(next) = placing.next() else { continue };
            let to = Place::Client(client);
            let writes = [Write::Take(attempt, Place::Parked), Write::Put(attempt, to, next)];
            let txn = Txn::new(Step::AssignParked, guards, writes);
            self.act(leader, Deed::Move(attempt, Place::Parked, to), txn);
        }
        if !self.rules.has(Flaw::NeverExpiresParked) {
            let writes = [Write::Take(attempt, Place::Parked), Write::Verdict(attempt, Outcome::Expired)];
            let txn = Txn::new(Step::ExpireParked, guards, writes);
            self.act(leader, Deed::Expire(attempt), txn);
        }
    }

    /// The unclaimed snapshot of a vanished client goes to the other one, or parked if that is gone too.
    fn move_snapshot(&mut self, leader: Leader, attempt: Attempt, client: ClientId, placing: Placing) {
        if self.rules.has(Flaw::NeverMoves) {
            return;
        }
        let Some(next) = placing.next() else { return };
        let from = Place::Client(client);
        let other = 1 - client;
        let to = if self.world.etcd.is_registered(other) { Place::Client(other) } else { Place::Parked };
        let txn = Txn::new(
            Step::Move,
            [Guard::Term(leader.term), Guard::Snapshot(attempt, from, Some(placing)), Guard::Gone(client)],
            [Write::Take(attempt, from), Write::Put(attempt, to, next)],
        );
        self.act(leader, Deed::Move(attempt, from, to), txn);
    }

    /// The attempt is over; another one follows if any is left and nobody cancelled the run.
    fn end_badly(&mut self, leader: Leader, step: Step, attempt: Attempt, client: ClientId) {
        let before = self.world.etcd.at(attempt, client).execute;
        let (outcome, deed) = match before {
            Execute::Undecided(outcome) => (outcome, Deed::DecideFailure(attempt, client)),
            _ => (Outcome::Lost, Deed::DeclareLost(attempt, client)),
        };
        let mut guards = vec![Guard::Term(leader.term), Guard::Execute(attempt, client, before)];
        if step == Step::DeclareLost {
            guards.push(Guard::Gone(client));
        }
        let mut writes = vec![Write::Execute(attempt, client, Execute::Decided(outcome))];
        let cancelled =
            self.world.etcd.at(attempt, client).cancel && !self.rules.has(Flaw::RetriesCancelledRuns);
        match attempt.next() {
            Some(next) if !cancelled => {
                // A claimed run can be cancelled until it is declared lost. One that has ended cannot: there
                // the guard on the execute record says it all.
                if step == Step::DeclareLost {
                    guards.push(Guard::NotCancelled(attempt, client));
                }
                writes.push(Write::Wait(next));
            }
            // A cancel key can have come since this was sent.
            _ => writes.push(Write::Uncancel(attempt, client)),
        }
        self.act(leader, deed, Txn::from_parts(step, &guards, &writes));
    }

    /// A run that nobody has claimed ends here, in the delay queue, parked or given away; a claimed one
    /// is ended by its client; for an ended one there is nothing to do. A failure that waits for its decision
    /// is decided first.
    fn add_cancels(&mut self, leader: Leader) {
        let mut open = false;
        for attempt in Attempt::of_cancellable_run() {
            let run = *self.world.etcd.run(attempt);
            if self.rules.has(Flaw::CancelSeesSnapshotsOnly) && (run.waiting || run.parked.is_some()) {
                continue;
            }
            open |= run.is_open();
            if run.waiting {
                let (guard, take) = (Guard::Waiting(attempt), Write::Unwait(attempt));
                self.cancel_unclaimed(leader, attempt, guard, take);
            }
            for place in [Place::Parked, Place::Client(0), Place::Client(1)] {
                if let Some(placing) = self.world.etcd.snapshot(attempt, place) {
                    let (guard, take) =
                        (Guard::Snapshot(attempt, place, Some(placing)), Write::Take(attempt, place));
                    self.cancel_unclaimed(leader, attempt, guard, take);
                }
            }
            for client in CLIENTS {
                if self.world.etcd.at(attempt, client).execute == Execute::Running {
                    self.cancel_running(leader, attempt, client);
                }
            }
        }
        if !open {
            let txn = Txn::new(
                Step::CancelEnded,
                [Guard::Term(leader.term), Guard::CancelRequest],
                [Write::TakeCancelRequest],
            );
            self.act(leader, Deed::DropCancelRequest, txn);
        }
    }

    fn cancel_unclaimed(&mut self, leader: Leader, attempt: Attempt, guard: Guard, take: Write) {
        let txn = Txn::new(
            Step::CancelUnclaimed,
            [Guard::Term(leader.term), Guard::CancelRequest, guard],
            [Write::TakeCancelRequest, take, Write::Verdict(attempt, Outcome::Cancelled)],
        );
        self.act(leader, Deed::Cancel(attempt), txn);
    }

    fn cancel_running(&mut self, leader: Leader, attempt: Attempt, client: ClientId) {
        let txn = Txn::new(
            Step::CancelRunning,
            [
                Guard::Term(leader.term),
                Guard::CancelRequest,
                Guard::Execute(attempt, client, Execute::Running),
            ],
            [Write::TakeCancelRequest, Write::Cancel(attempt, client)],
        );
        self.act(leader, Deed::PassCancelOn(attempt, client), txn);
    }
}
