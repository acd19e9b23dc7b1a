//! The worker processes: see a snapshot, claim it, execute it, complete it, and report late what was given up
//! meanwhile.

use super::catalogue::Attempt;
use super::invariants::Broken;
use super::moves::{Moves, Replies, nothing, unchanged};
use super::rules::Flaw;
use super::story::{Actor, Deed};
use super::txn::{Guard, GuardName, Step, Txn, Write};
use super::world::{CLIENTS, ClientId, Execute, Outcome, Place, Task, World};

impl Moves<'_> {
    pub(super) fn add_clients(&mut self) {
        for client in CLIENTS {
            let process = &self.world.clients[usize::from(client)];
            if !process.alive {
                continue;
            }
            for attempt in Attempt::all() {
                match process.tasks[attempt.index()] {
                    Task::None => self.add_sight(client, attempt),
                    Task::Seen => self.add_claim(client, attempt),
                    Task::Executing => self.add_finish(client, attempt),
                    Task::Finished(outcome) => self.add_report(client, attempt, outcome),
                }
            }
        }
    }

    fn add_sight(&mut self, client: ClientId, attempt: Attempt) {
        if self.world.etcd.at(attempt, client).snapshot.is_some() {
            self.step(Actor::Client(client), Deed::See(attempt), |world| {
                *world.task(client, attempt) = Task::Seen;
            });
        }
    }

    /// A refused claim may be our own earlier one that was applied: then the run is ours.
    fn add_claim(&mut self, client: ClientId, attempt: Attempt) {
        let place = Place::Client(client);
        let txn = Txn::new(
            Step::Claim,
            [
                Guard::Snapshot(attempt, place, self.world.etcd.snapshot(attempt, place)),
                Guard::Registered(client),
            ],
            [Write::Take(attempt, place), Write::Execute(attempt, client, Execute::Running)],
        );
        let registered =
            self.world.etcd.is_registered(client) || self.rules.has(Flaw::AdoptsWithoutRegistration);
        let adopts = registered
            && self.world.etcd.at(attempt, client).execute == Execute::Running
            && !self.rules.has(Flaw::NeverAdoptsOwnClaim);
        let on = Replies {
            committed: move |world: &mut World| start(world, client, attempt),
            refused: move |world: &mut World| {
                if adopts {
                    return start(world, client, attempt);
                }
                *world.task(client, attempt) = Task::None;
                Ok(())
            },
            unknown: nothing,
        };
        self.send(Actor::Client(client), Deed::Claim(attempt), txn, on);
    }

    fn add_finish(&mut self, client: ClientId, attempt: Attempt) {
        let cancelled = self.world.etcd.at(attempt, client).cancel;
        let outcomes = [Outcome::Succeeded, Outcome::Failed, Outcome::Cancelled];
        for outcome in outcomes.into_iter().take(if cancelled { 3 } else { 2 }) {
            self.step(Actor::Client(client), Deed::Finish(attempt, outcome), |world| {
                *world.task(client, attempt) = Task::Finished(outcome);
            });
        }
    }

    /// The result goes into the execute record, or beside it as a late one if that is not ours any more.
    fn add_report(&mut self, client: ClientId, attempt: Attempt, outcome: Outcome) {
        let actor = Actor::Client(client);
        let acknowledged = move |world: &mut World| {
            acknowledge(world, client, attempt);
            Ok(())
        };
        let mine = self.world.etcd.at(attempt, client).execute == Execute::Running;
        if mine || self.rules.drops(Step::Complete, GuardName::Execute) {
            let trusts = self.rules.has(Flaw::TrustsUnansweredCompletion);
            let unknown = move |world: &mut World| {
                if trusts {
                    acknowledge(world, client, attempt);
                }
            };
            let txn = self.completion(client, attempt, outcome);
            let on = Replies { committed: acknowledged, refused: unchanged, unknown };
            self.send(actor, Deed::Complete(attempt, outcome), txn, on);
        } else if self.rules.has(Flaw::DropsLateResults) {
            self.step(actor, Deed::DropLate(attempt), move |world| acknowledge(world, client, attempt));
        } else {
            let txn = Txn::new(Step::Late, [], [Write::Late(attempt, client, outcome)]);
            let on = Replies { committed: acknowledged, refused: unchanged, unknown: nothing };
            self.send(actor, Deed::WriteLate(attempt, outcome), txn, on);
        }
    }

    /// A failure that may be tried again is left to the leader, with the cancel key that would forbid it.
    fn completion(&self, client: ClientId, attempt: Attempt, outcome: Outcome) -> Txn {
        let retry_possible = outcome == Outcome::Failed && attempt.next().is_some();
        let decided = !retry_possible || self.rules.has(Flaw::ClientDecidesFailures);
        let ended = if decided { Execute::Decided(outcome) } else { Execute::Undecided(outcome) };
        let mut txn = Txn::new(
            Step::Complete,
            [Guard::Execute(attempt, client, Execute::Running)],
            [Write::Execute(attempt, client, ended)],
        );
        if decided {
            txn.also(Write::Uncancel(attempt, client));
        }
        txn
    }
}

fn start(world: &mut World, client: ClientId, attempt: Attempt) -> Result<(), Broken> {
    *world.task(client, attempt) = Task::Executing;
    let started = &mut world.history.started[attempt.index()];
    *started = (*started + 1).min(2);
    if !world.etcd.is_registered(client) {
        return Err(Broken::StartedUnregistered(attempt));
    }
    Ok(())
}

fn acknowledge(world: &mut World, client: ClientId, attempt: Attempt) {
    *world.task(client, attempt) = Task::None;
    world.history.acknowledged[attempt.index()][usize::from(client)] = true;
}
