//! Which client gets a run, and whether any may have it now.
//!
//! Owned by the leader for the length of a term. It counts what it has promised and what is not in the
//! view yet, so that pipelines that run at once do not overfill a client, a job or a group together.
//!
//! * [`strategy`]: the choice among the clients with room. [`rate`]: how fast a group is given runs.
//! * [`queue`]: the runs that wait, in the order in which they are to go, and why they wait.
//!
//! A client that a job prefers may be full. With `consistent_hash` the run goes to the next client in the job's own
//! order, so that work flows; with `failover`, and when somebody named the client, it waits.

pub(crate) mod queue;
pub(crate) mod rate;
pub(crate) mod strategy;

use std::collections::BTreeMap;
use std::time::Duration;

use forest_proto::record::{Group, Snapshot};
use forest_proto::{ClientId, GroupName, JobId};

use super::clients::{Client, Seat};
use super::need::Need;
use super::term::Term;
use super::view::View;
use rate::Rate;
use strategy::{Candidate, Habits};

/// A place at a client that is counted on until the view shows it, or it comes to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Promise {
    pub(crate) seat: Seat,
    /// The job, if it is one more of its runs.
    job: Option<JobId>,
}

#[derive(Debug)]
pub(crate) struct Router {
    habits: Habits,
    promised: BTreeMap<Seat, usize>,
    promised_jobs: BTreeMap<JobId, usize>,
    promised_groups: BTreeMap<GroupName, usize>,
    rates: BTreeMap<GroupName, Rate>,
    boot: Duration,
}

impl Router {
    /// One for a term. `boot` is the time since boot.
    pub(crate) fn of_term(term: &Term, boot: Duration) -> Self {
        let node = term.node().as_str().bytes();
        let seed = node.fold(term.number().unsigned_abs(), |seed, byte| {
            seed.wrapping_mul(0x0100_0000_01b3) ^ u64::from(byte)
        });
        Self::seeded(seed, boot)
    }

    pub(crate) fn seeded(seed: u64, boot: Duration) -> Self {
        Self {
            habits: Habits::seeded(seed),
            promised: BTreeMap::new(),
            promised_jobs: BTreeMap::new(),
            promised_groups: BTreeMap::new(),
            rates: BTreeMap::new(),
            boot,
        }
    }

    pub(crate) fn set_time(&mut self, boot: Duration) {
        self.boot = self.boot.max(boot);
    }

    /// A client for a run that has just come up. Runs that wait and could go first are not overtaken: then there
    /// is none.
    pub(crate) fn pick_new(&mut self, view: &View, snapshot: &Snapshot) -> Option<Promise> {
        if queue::is_behind(view, self, snapshot) { None } else { self.pick(view, snapshot) }
    }

    /// A client for a run that waits. The place is promised until [`Router::release`].
    pub(crate) fn pick(&mut self, view: &View, snapshot: &Snapshot) -> Option<Promise> {
        let (group, job) = (&snapshot.group, &snapshot.job_id);
        if snapshot.is_broadcast() {
            // It is for all of them; only its shards are for one.
            return None;
        }
        if self.job_room(view, job) == 0 || self.group_room(view, group) == 0 {
            return None;
        }
        let now = self.boot;
        if let Some(per_second) = rate_limit(view, group) {
            let new = || Rate::new(per_second, now);
            let rate = self.rates.entry(group.clone()).or_insert_with(new);
            if rate.room(per_second, now) == 0 {
                rate.kept_waiting = true;
                return None;
            }
        }
        let client = self.choose(view, snapshot)?;
        if let Some((per_second, rate)) = rate_limit(view, group).zip(self.rates.get_mut(group)) {
            rate.take(per_second, now);
        }
        *self.promised_jobs.entry(job.clone()).or_default() += 1;
        *self.promised_groups.entry(group.clone()).or_default() += 1;
        Some(self.promise(group, client, Some(job.clone())))
    }

    /// Another client for a run that has one: it is counted already.
    pub(crate) fn pick_other(&mut self, view: &View, snapshot: &Snapshot) -> Option<Promise> {
        let client = self.choose(view, snapshot)?;
        Some(self.promise(&snapshot.group, client, None))
    }

    fn promise(&mut self, group: &GroupName, client: ClientId, job: Option<JobId>) -> Promise {
        let seat = (group.clone(), client);
        *self.promised.entry(seat.clone()).or_default() += 1;
        Promise { seat, job }
    }

    fn choose(&mut self, view: &View, snapshot: &Snapshot) -> Option<ClientId> {
        let (group, job, routing) = (&snapshot.group, &snapshot.job_id, snapshot.routing);
        let need = Need::of(snapshot);
        let able = self.able(view, group, &need);
        let with_room = able.into_iter().filter_map(|(id, client)| {
            let held = self.held(view, &(group.clone(), id.clone()));
            let capacity = client.record.capacity.max(1) as usize;
            (held < client.allowance()).then_some(Candidate { id, held, capacity })
        });
        let able: Vec<_> = with_room.collect();
        let of = (group, &snapshot.target);
        let client = self.habits.choose(routing, of, job, &able)?;
        let there = view.clients.of_group(group);
        let is_there = |id: &ClientId| there.is_some_and(|there| there.contains_key(id));
        self.habits.note(routing, of, job, &client, is_there);
        Some(client)
    }

    /// The clients that would do, in the order of their ids. A job that keeps to one client has only that one while
    /// it is there, and else only the first: who takes its runs after that one is not to be more than one either. A shard
    /// has only the client that it was made for, if that one would do.
    pub(crate) fn able<'v>(
        &self,
        view: &'v View,
        group: &GroupName,
        need: &Need,
    ) -> Vec<(&'v ClientId, &'v Client)> {
        let Some(clients) = view.clients.of_group(group) else { return Vec::new() };
        let does = |client: &Client, id| client.serves(&need.target) && need.is_met_by(id, &client.record);
        let home = need.home.as_ref().and_then(|home| clients.get_key_value(home));
        if let Some((id, entry)) = home.filter(|(id, entry)| does(&entry.value, id)) {
            return vec![(id, &entry.value)];
        }
        let able = clients.iter().filter(|(id, entry)| does(&entry.value, id));
        let mut able: Vec<_> = able.map(|(id, entry)| (id, &entry.value)).collect();
        if need.faithful {
            let kept = need.alone.as_ref().and_then(|job| self.habits.chosen(job));
            let only = able.iter().position(|(id, _)| Some(*id) == kept).unwrap_or(0);
            able = able.into_iter().skip(only).take(1).collect();
        }
        able
    }

    /// How many more runs with this need could be given to clients now.
    pub(crate) fn room(&self, view: &View, group: &GroupName, need: &Need) -> usize {
        let places: usize = self
            .able(view, group, need)
            .into_iter()
            .map(|(id, client)| {
                client.allowance().saturating_sub(self.held(view, &(group.clone(), id.clone())))
            })
            .sum();
        let job = need.alone.as_ref().map_or(usize::MAX, |job| self.job_room(view, job));
        places.min(job).min(self.group_room(view, group)).min(self.rate_room(view, group))
    }

    fn held(&self, view: &View, seat: &Seat) -> usize {
        view.runs.load(seat).map_or(0, |load| load.total()) + self.promised.get(seat).copied().unwrap_or(0)
    }

    fn job_room(&self, view: &View, job: &JobId) -> usize {
        let limit = view.jobs.get(job).and_then(|job| job.max_in_flight);
        limit.map_or(usize::MAX, |limit| {
            let promised = self.promised_jobs.get(job).copied().unwrap_or(0);
            (limit as usize).saturating_sub(view.runs.in_flight_of_job(job) + promised)
        })
    }

    fn group_room(&self, view: &View, group: &GroupName) -> usize {
        let limit = view.groups.get(group).and_then(|group| group.max_in_flight);
        limit.map_or(usize::MAX, |limit| {
            let promised = self.promised_groups.get(group).copied().unwrap_or(0);
            (limit as usize).saturating_sub(view.runs.in_flight_of_group(group) + promised)
        })
    }

    fn rate_room(&self, view: &View, group: &GroupName) -> usize {
        rate_limit(view, group).map_or(usize::MAX, |per_second| match self.rates.get(group) {
            Some(rate) => rate.room(per_second, self.boot),
            None => 0,
        })
    }

    /// The groups that may be given runs again after their rate kept some waiting; asked once.
    pub(crate) fn reopened(&mut self, view: &View) -> Vec<GroupName> {
        let boot = self.boot;
        let open = |(group, rate): (&GroupName, &mut Rate)| {
            let open = rate_limit(view, group).is_none_or(|rates| rate.room(rates, boot) > 0);
            (open && std::mem::take(&mut rate.kept_waiting)).then(|| group.clone())
        };
        self.rates.iter_mut().filter_map(open).collect()
    }

    /// When the next such group reopens, in time since boot.
    pub(crate) fn reopens_at(&self, view: &View) -> Option<Duration> {
        let waiting = self.rates.iter().filter(|(_, rate)| rate.kept_waiting);
        waiting
            .map(|(group, rate)| rate_limit(view, group).map_or(self.boot, |limit| rate.opens_at(limit)))
            .min()
    }

    /// Counts on a place again that was let go.
    pub(crate) fn keep(&mut self, promise: &Promise) {
        *self.promised.entry(promise.seat.clone()).or_default() += 1;
        if let Some(job) = &promise.job {
            *self.promised_jobs.entry(job.clone()).or_default() += 1;
            *self.promised_groups.entry(promise.seat.0.clone()).or_default() += 1;
        }
    }

    /// A promise was kept (the view has it now) or broken (the transaction did not commit).
    pub(crate) fn release(&mut self, promise: &Promise) {
        give_back(&mut self.promised, &promise.seat);
        if let Some(job) = &promise.job {
            give_back(&mut self.promised_jobs, job);
            give_back(&mut self.promised_groups, &promise.seat.0);
        }
    }
}

fn rate_limit(view: &View, group: &GroupName) -> Option<u32> {
    view.groups.get(group).and_then(|group: &Group| group.dispatches_per_second)
}

fn give_back<K: Ord>(counts: &mut BTreeMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}
