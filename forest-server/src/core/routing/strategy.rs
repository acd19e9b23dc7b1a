//! Which of the clients with room gets a run, by the job's choice.
//!
//! What is remembered is remembered for the length of a term: a new leader starts with no turns and no counts.

use std::collections::BTreeMap;
use std::hash::Hasher;

use fnv::FnvHasher;
use forest_proto::record::Routing;
use forest_proto::{ClientId, GroupName, JobId, TargetName};

/// A client that would take the run and has room for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate<'a> {
    pub(crate) id: &'a ClientId,
    pub(crate) held: usize,
    pub(crate) capacity: usize,
}

/// What a job got from one client.
#[derive(Debug, Default, Clone, Copy)]
struct Use {
    count: u64,
    last: u64,
}

#[derive(Debug)]
pub(crate) struct Habits {
    /// Who was last, by group and target.
    turns: BTreeMap<(GroupName, TargetName), ClientId>,
    /// Of jobs that go by how often or how recently a client was used.
    uses: BTreeMap<JobId, BTreeMap<ClientId, Use>>,
    /// The client that a job keeps to.
    chosen: BTreeMap<JobId, ClientId>,
    clock: u64,
    random: fastrand::Rng,
}

impl Habits {
    pub(crate) fn seeded(seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        Self { turns: BTreeMap::new(), uses: BTreeMap::new(), chosen: BTreeMap::new(), clock: 0, random }
    }

    /// The client that the job keeps to, if it has one.
    pub(crate) fn chosen(&self, job: &JobId) -> Option<&ClientId> {
        self.chosen.get(job)
    }

    /// One of the candidates, which are in the order of their ids.
    pub(crate) fn choose(
        &mut self,
        routing: Routing,
        of: (&GroupName, &TargetName),
        job: &JobId,
        able: &[Candidate<'_>],
    ) -> Option<ClientId> {
        let first = able.first()?;
        let found = match routing {
            Routing::RoundRobin | Routing::Broadcast => self.in_turn(of, able)?,
            Routing::First => first,
            Routing::Last => able.last()?,
            Routing::Random => able.get(self.random.usize(..able.len()))?,
            Routing::ConsistentHash => able.iter().max_by_key(|client| affinity(job, client.id))?,
            Routing::LeastFrequentlyUsed => able.iter().min_by_key(|client| self.used(job, client).count)?,
            Routing::LeastRecentlyUsed => able.iter().min_by_key(|client| self.used(job, client).last)?,
            Routing::Failover => first,
            Routing::BusyOver => able.iter().find(|client| client.held < client.capacity).unwrap_or(first),
            Routing::LeastLoaded => able.iter().min_by(|a, b| {
                let (left, right) = (a.held * b.capacity.max(1), b.held * a.capacity.max(1));
                left.cmp(&right)
            })?,
        };
        Some(found.id.clone())
    }

    fn in_turn<'a, 'b>(
        &self,
        of: (&GroupName, &TargetName),
        able: &'a [Candidate<'b>],
    ) -> Option<&'a Candidate<'b>> {
        let last = self.turns.get(&(of.0.clone(), of.1.clone()));
        let after = last.and_then(|last| able.iter().find(|client| client.id > last));
        after.or(able.first())
    }

    fn used(&self, job: &JobId, client: &Candidate<'_>) -> Use {
        self.uses.get(job).and_then(|uses| uses.get(client.id)).copied().unwrap_or_default()
    }

    /// Remembers a choice. `is_there` says of a client whether it is still registered.
    pub(crate) fn note(
        &mut self,
        routing: Routing,
        of: (&GroupName, &TargetName),
        job: &JobId,
        client: &ClientId,
        is_there: impl Fn(&ClientId) -> bool,
    ) {
        match routing {
            Routing::RoundRobin | Routing::Broadcast => {
                self.turns.insert((of.0.clone(), of.1.clone()), client.clone());
            }
            Routing::LeastFrequentlyUsed | Routing::LeastRecentlyUsed => {
                self.clock += 1;
                let uses = self.uses.entry(job.clone()).or_default();
                // No client comes back under its id: what is kept is bounded by the clients there are.
                uses.retain(|id, _| is_there(id));
                let used = uses.entry(client.clone()).or_default();
                (used.count, used.last) = (used.count + 1, self.clock);
            }
            Routing::Failover => {
                self.chosen.insert(job.clone(), client.clone());
            }
            _ => {}
        }
    }
}

/// How much a job is drawn to a client: highest wins. When a client comes, only the jobs that it now draws most
/// move. The numbers must be the same in every build, or a new version would move all jobs.
fn affinity(job: &JobId, client: &ClientId) -> u64 {
    let mut hasher = FnvHasher::default();
    hasher.write(job.as_str().as_bytes());
    hasher.write(&[0]);
    hasher.write(client.as_str().as_bytes());
    let mut hash = hasher.finish();
    // FNV leaves the high bits of short texts alike.
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}
