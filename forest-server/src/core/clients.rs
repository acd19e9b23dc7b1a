//! The registered clients of each group, and whose turn it is.

use std::collections::BTreeMap;

use forest_proto::record::ClientRecord;
use forest_proto::{ClientId, GroupName, TargetName};

use super::entry::Entry;

/// Where a run can be: one client of one group.
pub(crate) type Seat = (GroupName, ClientId);

#[derive(Debug, Default)]
pub(crate) struct Clients {
    groups: BTreeMap<GroupName, BTreeMap<ClientId, Entry<Client>>>,
    count: usize,
}

#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) record: ClientRecord,
    /// The revision at which somebody said that it is to get no new runs.
    pub(crate) drained: Option<i64>,
}

impl Client {
    /// Whether it would take a run for this target.
    pub(crate) fn serves(&self, target: &TargetName) -> bool {
        let takes_any = !self.record.draining && self.drained.is_none();
        takes_any && self.record.targets.as_ref().is_none_or(|targets| targets.contains(target))
    }

    /// How many runs it may hold, running and waiting: enough waiting that no slot stands idle while the
    /// next run is on its way, and no more, so that work is not tied to a client that is slow to get to it.
    pub(crate) fn allowance(&self) -> usize {
        2 * self.record.capacity.max(1) as usize
    }
}

impl Clients {
    pub(crate) fn get(&self, seat: &Seat) -> Option<&Entry<Client>> {
        self.groups.get(&seat.0)?.get(&seat.1)
    }

    pub(crate) fn of_group(&self, group: &GroupName) -> Option<&BTreeMap<ClientId, Entry<Client>>> {
        self.groups.get(group)
    }

    pub(crate) fn groups(&self) -> impl Iterator<Item = &GroupName> {
        self.groups.keys()
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn put(&mut self, seat: Seat, client: Client, revision: i64, listing: u32) -> bool {
        let group = self.groups.entry(seat.0).or_default();
        if let Some(known) = group.get_mut(&seat.1)
            && known.revision >= revision
        {
            known.listing = listing;
            return false;
        }
        let new = group.insert(seat.1, Entry { value: client, revision, listing }).is_none();
        self.count += usize::from(new);
        true
    }

    /// Notes that a client is drained, or is so no longer.
    pub(crate) fn set_drained(&mut self, seat: &Seat, drained: Option<i64>) {
        let entry = self.groups.get_mut(&seat.0).and_then(|group| group.get_mut(&seat.1));
        if let Some(entry) = entry {
            entry.value.drained = drained;
        }
    }

    pub(crate) fn remove(&mut self, seat: &Seat, revision: i64) -> Option<Client> {
        let group = self.groups.get_mut(&seat.0)?;
        if group.get(&seat.1)?.revision >= revision {
            return None;
        }
        let client = group.remove(&seat.1)?;
        self.count -= 1;
        if group.is_empty() {
            self.groups.remove(&seat.0);
        }
        Some(client.value)
    }

    pub(crate) fn stale(&self, listing: u32, revision: i64) -> Vec<Seat> {
        let all = self
            .groups
            .iter()
            .flat_map(|(group, clients)| clients.iter().map(move |(id, entry)| (group, id, entry)));
        all.filter(|(_, _, entry)| entry.listing != listing && entry.revision <= revision)
            .map(|(group, id, _)| (group.clone(), id.clone()))
            .collect()
    }
}
