//! Which client gets a run: each able client of the group in turn.
//!
//! Owned by the leader for the length of a term. It counts what it has promised and what is not in the
//! view yet, so that pipelines that run at once do not overfill a client together.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};

use forest_proto::{ClientId, GroupName, TargetName};

use super::clients::{Client, Seat};
use super::entry::Entry;
use super::view::View;

#[derive(Debug, Default)]
pub(crate) struct Router {
    /// Who was last, by group and target.
    turns: BTreeMap<(GroupName, TargetName), ClientId>,
    promised: BTreeMap<Seat, usize>,
}

impl Router {
    /// The next client that serves the target and has room. The place is promised until [`Router::release`].
    pub(crate) fn pick(&mut self, view: &View, group: &GroupName, target: &TargetName) -> Option<Seat> {
        let clients = view.clients.of_group(group)?;
        let turn = (group.clone(), target.clone());
        let after = self.turns.get(&turn).map_or(Unbounded, Excluded);
        let round =
            clients.range::<ClientId, _>((after, Unbounded)).chain(clients.iter()).take(clients.len());
        let able = |(id, client): &(&ClientId, &Entry<Client>)| {
            client.value.serves(target) && {
                let seat = (group.clone(), (*id).clone());
                self.held(view, &seat) < client.value.allowance()
            }
        };
        let (id, _) = round.into_iter().find(able)?;
        let seat = (group.clone(), id.clone());
        self.turns.insert(turn, id.clone());
        *self.promised.entry(seat.clone()).or_default() += 1;
        Some(seat)
    }

    /// How many more runs for the target the group's clients would take.
    pub(crate) fn room(&self, view: &View, group: &GroupName, target: &TargetName) -> usize {
        let able = view
            .clients
            .of_group(group)
            .into_iter()
            .flatten()
            .filter(|(_, client)| client.value.serves(target));
        able.map(|(id, client)| {
            client.value.allowance().saturating_sub(self.held(view, &(group.clone(), id.clone())))
        })
        .sum()
    }

    fn held(&self, view: &View, seat: &Seat) -> usize {
        view.runs.load(seat).map_or(0, |load| load.total()) + self.promised.get(seat).copied().unwrap_or(0)
    }

    /// A promise was kept (the view has it now) or broken (the transaction did not commit).
    pub(crate) fn release(&mut self, seat: &Seat) {
        if let Some(count) = self.promised.get_mut(seat) {
            *count -= 1;
            if *count == 0 {
                self.promised.remove(seat);
            }
        }
    }
}
