//! The runs that are alive: from the key that creates a run to the deletion of its collected result.
//!
//! A run is in one place at a time. Every change of a place marks the run, so that whoever leads looks at
//! it again; the same look serves the happy case, fail-over and the slow scan.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fnv::FnvHashMap;
use forest_proto::record::{Execution, ExecutionState, Snapshot};
use forest_proto::time::Instant;
use forest_proto::{ClientId, GroupName, JobId, RunId, Segment, TargetName};

use super::clients::Seat;
use super::need::{Need, Rank};

/// Results kept in memory until they are collected; what is beyond this is read from etcd again.
const RESULT_BUDGET: usize = 64 * 1024 * 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// A retry that is not due yet.
    Delayed { segment: Segment, due_ms: i64 },
    /// No client could take it, or it waits for earlier runs of its job.
    Pending { need: Arc<Need>, priority: i32, deadline_ms: Option<i64>, waits: bool },
    /// Given to a client that has not claimed it.
    Queued { client: ClientId, target: TargetName, deadline_ms: Option<i64> },
    /// Claimed.
    Running { client: ClientId },
    /// A broadcast whose shards are there. `stopping`: they are not to go on.
    Spread { stopping: bool },
    /// Ended. `client`: `None` if it never was anywhere.
    Ended { client: Option<ClientId>, state: ExecutionState },
}

#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) group: GroupName,
    pub(crate) place: Place,
    /// Mod revision of its key.
    pub(crate) revision: i64,
    /// Create revision of its key; of an execution, the fencing token.
    pub(crate) created: i64,
    pub(crate) listing: u32,
    /// The document, where the next step needs it: not while the run is executed.
    pub(crate) value: Option<Box<[u8]>>,
}

/// What a client has of one group.
#[derive(Debug, Default, Clone)]
pub(crate) struct Load {
    pub(crate) queued: BTreeSet<RunId>,
    pub(crate) running: BTreeSet<RunId>,
}

impl Load {
    pub(crate) fn total(&self) -> usize {
        self.queued.len() + self.running.len()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Runs {
    all: FnvHashMap<RunId, Run>,
    /// Runs by job, as long as they are not settled.
    active: FnvHashMap<String, BTreeSet<RunId>>,
    /// Those of them that wait for the others, by job, in the order in which they were created. Not of their ids: a
    /// run with a smaller one may still come while the first one is being given away.
    waiting: BTreeMap<String, BTreeSet<(i64, RunId)>>,
    loads: BTreeMap<Seat, Load>,
    parked: BTreeMap<GroupName, BTreeMap<Arc<Need>, BTreeSet<Rank>>>,
    /// How many runs of each job, and of each group, are given to clients or executed by them.
    in_flight: FnvHashMap<String, usize>,
    in_flight_of_group: BTreeMap<GroupName, usize>,
    delays: BTreeSet<(i64, RunId)>,
    /// Start deadlines of runs that are parked, or given and not claimed.
    deadlines: BTreeSet<(i64, RunId)>,
    /// Settled and waiting for the collector, in the order in which they were settled.
    settled: BTreeMap<(i64, RunId), ()>,
    marked: BTreeSet<RunId>,
    /// Of those that wait, the first to go is the first to be looked at.
    marked_parked: BTreeSet<Rank>,
    result_bytes: usize,
}

impl Run {
    fn is_settled(&self) -> bool {
        matches!(&self.place, Place::Ended { state, .. } if state.decided)
    }

    pub(crate) fn seat(&self) -> Option<Seat> {
        let client = match &self.place {
            Place::Queued { client, .. } | Place::Running { client } => client,
            _ => return None,
        };
        Some((self.group.clone(), client.clone()))
    }
}

/// Whether it is the first attempt of a run of a fixed delay for this instant.
pub(crate) fn is_planned_for(run: &RunId, at: Instant) -> bool {
    run.is_planned() && run.at() == at && run.attempt() == 1 && run.shard().is_none()
}

impl Runs {
    pub(crate) fn get(&self, run: &RunId) -> Option<&Run> {
        self.all.get(run)
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether any run of the job but `except` stands in the way of another one. A run that is planned for later
    /// does not yet; a further attempt does, because its run has begun.
    pub(crate) fn is_active(&self, job: &JobId, except: Option<&RunId>) -> bool {
        self.of_job(job).any(|run| Some(run) != except && !self.is_planned(run))
    }

    /// Whether anything of the job is there that is not settled.
    pub(crate) fn is_there(&self, job: &JobId) -> bool {
        self.active.contains_key(job.as_str())
    }

    /// Whether it is the first attempt and not due yet.
    pub(crate) fn is_planned(&self, run: &RunId) -> bool {
        run.attempt() == 1 && self.all.get(run).is_some_and(|run| matches!(run.place, Place::Delayed { .. }))
    }

    /// The runs of a job that wait for the others, in order.
    pub(crate) fn waiting(&self, job: &str) -> impl DoubleEndedIterator<Item = &RunId> {
        self.waiting.get(job).into_iter().flatten().map(|(_, run)| run)
    }

    /// Whether a waiting run is the next one, and nothing else of its job is in the way.
    pub(crate) fn is_next(&self, run: &RunId) -> bool {
        let job = run.job();
        let mut active = self.active.get(job).into_iter().flatten();
        let waits = |run: &RunId| self.waiting(job).any(|waiting| waiting == run);
        self.waiting(job).next() == Some(run) && active.all(|run| waits(run) || self.is_planned(run))
    }

    /// Lets the next waiting run of a job have its turn, once nothing is in its way.
    fn promote(&mut self, job: &str) {
        let Some(run) = self.waiting(job).next().filter(|run| self.is_next(run)).cloned() else { return };
        let Some(known) = self.all.get(&run) else { return };
        if let Place::Pending { need, priority, .. } = &known.place {
            let (group, need, rank) =
                (known.group.clone(), Arc::clone(need), (Reverse(*priority), run.clone()));
            self.parked.entry(group).or_default().entry(need).or_default().insert(rank);
        }
        self.mark(&run);
    }

    pub(crate) fn of_job(&self, job: &JobId) -> impl Iterator<Item = &RunId> {
        self.active.get(job.as_str()).into_iter().flatten()
    }

    /// The runs of a fixed delay that were planned for an instant. As long as the collector is behind, this looks
    /// through all that it has before it.
    pub(crate) fn planned_at(&self, job: &JobId, at: Instant) -> impl Iterator<Item = &RunId> {
        let of_job = self.settled().filter(|run| run.job() == job.as_str()).chain(self.of_job(job));
        of_job.filter(move |run| is_planned_for(run, at))
    }

    /// The shards of a broadcast that are not settled, all attempts.
    pub(crate) fn shards(&self, parent: &RunId) -> impl Iterator<Item = &RunId> {
        // Ids begin with the instant, and that of the parent is the first of them.
        let at = parent.at();
        let later = self.active.get(parent.job()).into_iter().flat_map(|runs| runs.range(parent.clone()..));
        later.take_while(move |run| run.at() == at).filter(move |run| run.parent().as_ref() == Some(parent))
    }

    /// Whether a run is a broadcast whose shards are there.
    pub(crate) fn is_spread(&self, run: &RunId) -> bool {
        self.all.get(run).is_some_and(|run| matches!(run.place, Place::Spread { .. }))
    }

    pub(crate) fn load(&self, seat: &Seat) -> Option<&Load> {
        self.loads.get(seat)
    }

    pub(crate) fn loads(&self) -> impl Iterator<Item = (&Seat, &Load)> {
        self.loads.iter()
    }

    /// Runs that wait for a client, by what they need of it, in the order in which they are to go.
    pub(crate) fn parked(&self, group: &GroupName) -> impl Iterator<Item = (&Need, &BTreeSet<Rank>)> {
        self.parked.get(group).into_iter().flatten().map(|(need, ranks)| (&**need, ranks))
    }

    pub(crate) fn has_parked(&self, group: &GroupName) -> bool {
        self.parked.contains_key(group)
    }

    pub(crate) fn parked_groups(&self) -> impl Iterator<Item = (&GroupName, impl Iterator<Item = &RunId>)> {
        self.parked.iter().map(|(group, needs)| (group, needs.values().flatten().map(|(_, run)| run)))
    }

    /// How many runs of a job are given to clients or executed by them.
    pub(crate) fn in_flight_of_job(&self, job: &JobId) -> usize {
        self.in_flight.get(job.as_str()).copied().unwrap_or(0)
    }

    pub(crate) fn in_flight_of_group(&self, group: &GroupName) -> usize {
        self.in_flight_of_group.get(group).copied().unwrap_or(0)
    }

    pub(crate) fn delays(&self) -> impl Iterator<Item = &(i64, RunId)> {
        self.delays.iter()
    }

    pub(crate) fn deadlines(&self) -> impl Iterator<Item = &(i64, RunId)> {
        self.deadlines.iter()
    }

    pub(crate) fn settled(&self) -> impl Iterator<Item = &RunId> {
        self.settled.keys().map(|(_, run)| run)
    }

    pub(crate) fn settled_len(&self) -> usize {
        self.settled.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&RunId, &Run)> {
        self.all.iter()
    }

    pub(crate) fn mark(&mut self, run: &RunId) {
        match self.all.get(run).map(|run| &run.place) {
            Some(Place::Pending { priority, .. }) => {
                self.marked_parked.insert((Reverse(*priority), run.clone()));
            }
            // The end of a shard is settled with its parent.
            Some(Place::Ended { .. })
                if let Some(parent) = run.parent().filter(|parent| self.is_spread(parent)) =>
            {
                self.marked.insert(parent);
            }
            _ => {
                self.marked.insert(run.clone());
            }
        }
    }

    pub(crate) fn mark_all(&mut self) {
        let all: Vec<_> = self.all.keys().cloned().collect();
        all.iter().for_each(|run| self.mark(run));
    }

    pub(crate) fn forget_marks(&mut self) {
        self.marked.clear();
        self.marked_parked.clear();
    }

    pub(crate) fn next_marked(&mut self) -> Option<RunId> {
        self.marked.pop_first().or_else(|| self.marked_parked.pop_first().map(|(_, run)| run))
    }

    /// Whether what was written at `revision`, or something newer, is known. Notes that the listing has it.
    pub(crate) fn has_seen(&mut self, id: &RunId, revision: i64, listing: u32) -> bool {
        let Some(known) = self.all.get_mut(id).filter(|known| known.revision >= revision) else {
            return false;
        };
        known.listing = listing;
        true
    }

    /// Takes what was written at the run's revision, unless something newer is known.
    pub(crate) fn put(&mut self, id: &RunId, mut run: Run) {
        if self.has_seen(id, run.revision, run.listing) {
            return;
        }
        self.take(id);
        self.share_need(&mut run);
        self.index(id, &run);
        let waits = matches!(run.place, Place::Pending { waits: true, .. });
        let stops = matches!(run.place, Place::Spread { stopping: true });
        self.all.insert(id.clone(), run);
        self.mark(id);
        if waits {
            // They may have to go for it.
            let others: Vec<_> = self.active.get(id.job()).into_iter().flatten().cloned().collect();
            others.iter().for_each(|other| self.mark(other));
        }
        if stops {
            let shards: Vec<_> = self.shards(id).cloned().collect();
            shards.iter().for_each(|shard| self.mark(shard));
        }
        if !self.waiting.is_empty() {
            self.promote(id.job());
        }
    }

    /// Runs of one queue share what they need: of many that wait, each costs little.
    fn share_need(&self, run: &mut Run) {
        if let Place::Pending { need, .. } = &mut run.place
            && let Some((shared, _)) = self.parked.get(&run.group).and_then(|needs| needs.get_key_value(need))
        {
            *need = Arc::clone(shared);
        }
    }

    fn count_in_flight(&mut self, id: &RunId, group: &GroupName) {
        *self.in_flight.entry(id.job().to_owned()).or_default() += 1;
        *self.in_flight_of_group.entry(group.clone()).or_default() += 1;
    }

    fn uncount_in_flight(&mut self, id: &RunId, group: &GroupName) {
        if let Some(count) = self.in_flight.get_mut(id.job()) {
            *count -= 1;
            if *count == 0 {
                self.in_flight.remove(id.job());
            }
        }
        if let Some(count) = self.in_flight_of_group.get_mut(group) {
            *count -= 1;
            if *count == 0 {
                self.in_flight_of_group.remove(group);
            }
        }
    }

    /// Forgets a run whose key in `place` was deleted at `revision`. A run that is elsewhere by now stays.
    pub(crate) fn remove(&mut self, id: &RunId, revision: i64, was_there: impl Fn(&Place) -> bool) {
        if self.all.get(id).is_some_and(|run| run.revision < revision && was_there(&run.place)) {
            self.take(id);
            if !self.waiting.is_empty() {
                self.promote(id.job());
            }
        }
    }

    pub(crate) fn stale(&self, listing: u32, revision: i64) -> Vec<RunId> {
        let stale = |run: &Run| run.listing != listing && run.revision <= revision;
        let mut ids: Vec<_> =
            self.all.iter().filter(|(_, run)| stale(run)).map(|(id, _)| id.clone()).collect();
        ids.sort_unstable();
        ids
    }

    /// Keeps a document that was read again, if the run has not changed since.
    pub(crate) fn set_value(&mut self, id: &RunId, revision: i64, value: Vec<u8>) {
        if let Some(run) = self.all.get_mut(id)
            && run.revision == revision
        {
            if run.is_settled() {
                self.result_bytes += value.len();
            }
            run.value = Some(value.into());
            self.mark(id);
        }
    }

    fn take(&mut self, id: &RunId) -> Option<Run> {
        let run = self.all.remove(id)?;
        self.unindex(id, &run);
        Some(run)
    }

    fn index(&mut self, id: &RunId, run: &Run) {
        if run.is_settled() {
            self.settled.insert((run.revision, id.clone()), ());
            self.result_bytes += run.value.as_ref().map_or(0, |value| value.len());
        } else {
            self.active.entry(id.job().to_owned()).or_default().insert(id.clone());
        }
        if run.seat().is_some() {
            self.count_in_flight(id, &run.group);
        }
        match &run.place {
            Place::Delayed { due_ms, .. } => {
                self.delays.insert((*due_ms, id.clone()));
            }
            Place::Pending { deadline_ms, waits: true, .. } => {
                self.deadlines.extend(deadline_ms.map(|at| (at, id.clone())));
                self.waiting.entry(id.job().to_owned()).or_default().insert((run.created, id.clone()));
            }
            Place::Pending { need, priority, deadline_ms, waits: false } => {
                self.deadlines.extend(deadline_ms.map(|at| (at, id.clone())));
                let needs = self.parked.entry(run.group.clone()).or_default();
                needs.entry(Arc::clone(need)).or_default().insert((Reverse(*priority), id.clone()));
            }
            Place::Queued { client, deadline_ms, .. } => {
                self.deadlines.extend(deadline_ms.map(|at| (at, id.clone())));
                self.loads.entry((run.group.clone(), client.clone())).or_default().queued.insert(id.clone());
            }
            Place::Running { client } => {
                self.loads.entry((run.group.clone(), client.clone())).or_default().running.insert(id.clone());
            }
            Place::Spread { .. } | Place::Ended { .. } => {}
        }
    }

    fn unindex(&mut self, id: &RunId, run: &Run) {
        if run.is_settled() {
            self.settled.remove(&(run.revision, id.clone()));
            self.result_bytes -= run.value.as_ref().map_or(0, |value| value.len());
        } else if let Some(runs) = self.active.get_mut(id.job()) {
            runs.remove(id);
            if runs.is_empty() {
                self.active.remove(id.job());
            }
        }
        if let Place::Pending { deadline_ms: Some(at), .. } | Place::Queued { deadline_ms: Some(at), .. } =
            &run.place
        {
            self.deadlines.remove(&(*at, id.clone()));
        }
        if run.seat().is_some() {
            self.uncount_in_flight(id, &run.group);
        }
        match &run.place {
            Place::Delayed { due_ms, .. } => {
                self.delays.remove(&(*due_ms, id.clone()));
            }
            Place::Pending { need, priority, .. } => {
                if let Some(waiting) = self.waiting.get_mut(id.job()) {
                    waiting.remove(&(run.created, id.clone()));
                    if waiting.is_empty() {
                        self.waiting.remove(id.job());
                    }
                }
                if let Some(needs) = self.parked.get_mut(&run.group)
                    && let Some(ranks) = needs.get_mut(need)
                {
                    ranks.remove(&(Reverse(*priority), id.clone()));
                    if ranks.is_empty() {
                        needs.remove(need);
                    }
                    if needs.is_empty() {
                        self.parked.remove(&run.group);
                    }
                }
            }
            Place::Queued { client, .. } | Place::Running { client } => {
                let seat = (run.group.clone(), client.clone());
                if let Some(load) = self.loads.get_mut(&seat) {
                    load.queued.remove(id);
                    load.running.remove(id);
                    if load.total() == 0 {
                        self.loads.remove(&seat);
                    }
                }
            }
            Place::Spread { .. } | Place::Ended { .. } => {}
        }
    }

    /// A result is kept only while there is room.
    pub(crate) fn keep_result(&self, value: Vec<u8>) -> Option<Box<[u8]>> {
        (self.result_bytes + value.len() <= RESULT_BUDGET).then(|| value.into())
    }
}

/// The places as they are read from documents.
impl Place {
    pub(crate) fn pending(snapshot: &Snapshot) -> Self {
        Self::Pending {
            need: Arc::new(Need::of(snapshot)),
            priority: snapshot.priority,
            deadline_ms: snapshot.start_deadline.map(|at| at.as_ms()),
            waits: snapshot.waits,
        }
    }

    pub(crate) fn queued(client: ClientId, snapshot: &Snapshot) -> Self {
        let deadline_ms = snapshot.start_deadline.map(|at| at.as_ms());
        Self::Queued { client, target: snapshot.target.clone(), deadline_ms }
    }

    pub(crate) fn ended(client: Option<ClientId>, execution: &Execution) -> Self {
        let state = ExecutionState {
            status: execution.status,
            outcome: execution.outcome,
            decided: execution.decided,
            max_attempts: execution.snapshot.max_attempts,
            on_lost: execution.snapshot.on_lost,
            duration_ms: execution.duration_ms,
        };
        Self::Ended { client, state }
    }
}
