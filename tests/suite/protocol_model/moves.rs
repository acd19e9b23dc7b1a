//! All that can happen next in one state: the actors add their moves here, and this is the one place that
//! knows what a sender may see of its transaction.

use super::invariants::Broken;
use super::rules::Rules;
use super::story::{Actor, Deed, Event, Reply};
use super::txn::Txn;
use super::world::World;

pub(super) struct Move {
    pub(super) event: Event,
    pub(super) next: Result<World, Broken>,
}

pub(super) struct Moves<'a> {
    pub(super) world: &'a World,
    pub(super) rules: &'a Rules,
    pub(super) fires: u8,
    found: &'a mut Vec<Move>,
}

/// What the sender does about each reply it can get.
pub(super) struct Replies<C, R, U> {
    pub(super) committed: C,
    pub(super) refused: R,
    /// No reply: the write is neither failed nor done.
    pub(super) unknown: U,
}

impl<'a> Moves<'a> {
    /// Fills `found` with every move out of `world`.
    pub(super) fn list(world: &'a World, rules: &'a Rules, fires: u8, found: &'a mut Vec<Move>) {
        found.clear();
        let mut moves = Moves { world, rules, fires, found };
        moves.add_environment();
        moves.add_admin();
        moves.add_campaigns();
        moves.add_leader_work();
        moves.add_collector();
        moves.add_clients();
    }

    /// A step that cannot fail and is seen at once by the one who takes it.
    pub(super) fn step(&mut self, by: Actor, deed: Deed, change: impl FnOnce(&mut World)) {
        self.try_step(by, deed, |world| {
            change(world);
            Ok(())
        });
    }

    pub(super) fn try_step(
        &mut self,
        by: Actor,
        deed: Deed,
        change: impl FnOnce(&mut World) -> Result<(), Broken>,
    ) {
        let mut next = *self.world;
        let outcome = change(&mut next).map(|()| next);
        self.push(by, deed, Reply::None, outcome);
    }

    /// A transaction: committed or refused as its guards say, and, while the budget of ambiguous replies
    /// lasts, applied without the sender knowing, or still under way when the sender gives up.
    pub(super) fn send<C, R, U>(&mut self, by: Actor, deed: Deed, txn: Txn, on: Replies<C, R, U>)
    where
        C: FnOnce(&mut World) -> Result<(), Broken>,
        R: FnOnce(&mut World) -> Result<(), Broken>,
        U: Fn(&mut World),
    {
        let ambiguous = self.world.budget.ambiguous > 0;
        if txn.passes(self.world, self.rules) {
            let mut applied = *self.world;
            if let Err(broken) = txn.commit(&mut applied, self.rules) {
                return self.push(by, deed, Reply::Committed, Err(broken));
            }
            if ambiguous {
                let mut unaware = applied;
                unaware.budget.ambiguous -= 1;
                (on.unknown)(&mut unaware);
                self.push(by, deed, Reply::Lost, Ok(unaware));
            }
            let outcome = (on.committed)(&mut applied).map(|()| applied);
            self.push(by, deed, Reply::Committed, outcome);
        } else {
            let mut refused = *self.world;
            let outcome = (on.refused)(&mut refused).map(|()| refused);
            self.push(by, deed, Reply::Refused, outcome);
        }
        if ambiguous && self.world.in_flight.is_none() {
            let mut waiting = *self.world;
            waiting.budget.ambiguous -= 1;
            waiting.in_flight = Some(txn);
            (on.unknown)(&mut waiting);
            self.push(by, deed, Reply::InFlight, Ok(waiting));
        }
    }

    fn push(&mut self, by: Actor, deed: Deed, reply: Reply, next: Result<World, Broken>) {
        self.found.push(Move { event: Event { by, deed, reply }, next });
    }
}

/// The sender goes on as before.
pub(super) fn unchanged(_: &mut World) -> Result<(), Broken> {
    Ok(())
}

/// The sender does not notice.
pub(super) fn nothing(_: &mut World) {}
