//! A leader without tasks and waits: the core, and between it and etcd as little as can be.

use forest_etcd::{Outcome as Committed, Txn};
use forest_proto::{JobId, NodeId, RequestKey, RunId, Segment};

use super::world::World;
use super::{CLIENT_TTL, LOST_GRACE};
use crate::core::compose::Composer;
use crate::core::dispatch::{self, Batch};
use crate::core::routing::Router;
use crate::core::steps::{Gone, Planned, Situation, Step};
use crate::core::term::Term;
use crate::core::view::View;

/// More rounds without an end are a loop.
const ROUNDS: usize = 20_000;

pub(super) struct Leader {
    pub(super) term: Term,
    pub(super) view: View,
    pub(super) router: Router,
    pub(super) gone: Gone,
}

pub(super) fn empty_view(world: &World) -> View {
    View::new(world.keys.clone(), world.segments, world.defaults.zone_name.clone())
}

pub(super) fn listed_view(world: &World) -> View {
    let mut view = empty_view(world);
    world.etcd.listing().into_iter().for_each(|change| view.apply(change, world.now()));
    view
}

/// Shows the view the next changes, of so many revisions at most.
pub(super) fn deliver(view: &mut View, world: &World, revisions: usize) {
    for (_, changes) in world.etcd.after(view.revision()).iter().take(revisions) {
        changes.iter().for_each(|change| view.apply(change.clone(), world.now()));
    }
}

impl Leader {
    /// A new term, with a view from a listing.
    pub(super) fn elect(world: &mut World) -> Self {
        let number = world.new_term();
        Self::take_over(world, number, listed_view(world))
    }

    /// A new term, by a node that has followed along.
    pub(super) fn elect_warm(world: &mut World, view: View) -> Self {
        let number = world.new_term();
        Self::take_over(world, number, view)
    }

    fn take_over(world: &World, number: i64, mut view: View) -> Self {
        deliver(&mut view, world, usize::MAX);
        view.touched = Default::default();
        let absent = view.runs.loads().map(|(seat, _)| seat).filter(|seat| view.clients.get(seat).is_none());
        let stopped = world.boot + CLIENT_TTL + LOST_GRACE;
        let gone = absent.map(|seat| (seat.clone(), stopped)).collect();
        let term = Term::new(number, NodeId::new("node").unwrap(), &world.keys);
        let router = Router::of_term(&term, world.boot);
        Self { term, view, router, gone }
    }

    /// A leader with one job segment, and its cursor at the start of the story.
    pub(super) fn of_one_segment() -> (World, Self) {
        Self::of_segments(1)
    }

    pub(super) fn of_segments(segments: u16) -> (World, Self) {
        let mut world = World::new(segments);
        let mut leader = Self::elect(&mut world);
        leader.dispatch(&mut world);
        (world, leader)
    }

    pub(super) fn catch_up(&mut self, world: &World) {
        self.see(world, usize::MAX);
    }

    /// Sees so many further revisions.
    pub(super) fn see(&mut self, world: &World, revisions: usize) {
        deliver(&mut self.view, world, revisions);
        let touched = std::mem::take(&mut self.view.touched);
        for (seat, ttl_ms) in touched.vanished {
            let ttl = ttl_ms.map_or(CLIENT_TTL, std::time::Duration::from_millis);
            if self.view.clients.get(&seat).is_none() {
                self.gone.insert(seat, world.boot + ttl + LOST_GRACE);
            }
        }
        for seat in touched.seats {
            self.gone.remove(&seat);
        }
    }

    fn composer<'a>(term: &'a Term, world: &'a World) -> Composer<'a> {
        Composer { term, defaults: &world.defaults, now_ms: world.now_ms }
    }

    /// What the view says is due in a segment.
    pub(super) fn decide(&mut self, world: &World, segment: Segment) -> Option<Batch> {
        self.router.set_time(world.boot);
        let composer = Self::composer(&self.term, world);
        dispatch::first_cursor(&self.view, &composer, segment)
            .or_else(|| dispatch::decide(&self.view, &mut self.router, &composer, segment))
    }

    /// The batch of the only segment.
    pub(super) fn batch(&mut self, world: &World) -> Option<Batch> {
        let segment = world.segments.all().next()?;
        self.decide(world, segment)
    }

    /// Takes the answer to a batch.
    pub(super) fn answered(&mut self, batch: Batch, outcome: &Committed) {
        batch.promised.iter().for_each(|promise| self.router.release(promise));
        if let Committed::Applied { revision } = outcome
            && self.view.revision() < *revision
        {
            self.view.jobs.set_cursor(batch.segment, &batch.cursor, *revision);
            for (run, mut now) in batch.created {
                (now.revision, now.created) = (*revision, *revision);
                self.view.runs.put(&run, now);
            }
        }
    }

    /// Decides everything that is due, each batch on what the one before left in memory; says how many
    /// transactions it took.
    pub(super) fn dispatch(&mut self, world: &mut World) -> usize {
        let mut batches = 0;
        for segment in world.segments.all() {
            while let Some(batch) = self.decide(world, segment) {
                batches += 1;
                assert!(batches < ROUNDS, "dispatch does not come to an end");
                let outcome = world.commit(&batch.txn);
                let applied = matches!(outcome, Committed::Applied { .. });
                self.answered(batch, &outcome);
                if !applied {
                    break;
                }
            }
        }
        self.catch_up(world);
        batches
    }

    pub(super) fn look(&mut self, world: &World, run: &RunId) -> Step {
        self.router.set_time(world.boot);
        let (composer, boot) = (Self::composer(&self.term, world), world.boot);
        let situation = Situation { view: &self.view, composer, gone: &self.gone, boot };
        situation.of_run(&mut self.router, run)
    }

    pub(super) fn look_at_request(&mut self, world: &World, request: &(Segment, RequestKey)) -> Step {
        self.router.set_time(world.boot);
        let (composer, boot) = (Self::composer(&self.term, world), world.boot);
        let situation = Situation { view: &self.view, composer, gone: &self.gone, boot };
        situation.of_request(&mut self.router, request)
    }

    pub(super) fn look_at_backfill(&mut self, world: &World, job: &JobId) -> Step {
        self.router.set_time(world.boot);
        let (composer, boot) = (Self::composer(&self.term, world), world.boot);
        let situation = Situation { view: &self.view, composer, gone: &self.gone, boot };
        situation.of_backfill(&mut self.router, job)
    }

    /// The transaction that a run needs next. Reads its document if it has to.
    pub(super) fn plan(&mut self, world: &World, run: &RunId) -> Option<Planned> {
        let mut step = self.look(world, run);
        if let Step::Read(key) = &step {
            let kv = world.etcd.get(key)?.clone();
            self.view.runs.set_value(run, kv.mod_revision, kv.value);
            step = self.look(world, run);
        }
        match step {
            Step::Commit(planned) => Some(planned),
            // Read again: it was written since, and the view has not heard of it.
            Step::Nothing | Step::Wait | Step::Read(_) => None,
        }
    }

    /// What a job of a fixed delay needs now.
    pub(super) fn txn_of_job(&mut self, world: &World, job: &str) -> Txn {
        let (composer, boot) = (Self::composer(&self.term, world), world.boot);
        let situation = Situation { view: &self.view, composer, gone: &self.gone, boot };
        let Step::Commit(planned) = situation.of_job(&super::id(job)) else { panic!("nothing to plan") };
        planned.txn
    }

    pub(super) fn txn_of_backfill(&mut self, world: &World, job: &str) -> Txn {
        let step = self.look_at_backfill(world, &super::id(job));
        let Step::Commit(planned) = step else { panic!("nothing to run") };
        self.release(&planned);
        planned.txn
    }

    /// The one transaction that a run needs now.
    pub(super) fn txn_of(&mut self, world: &World, run: &RunId) -> Txn {
        let planned = self.plan(world, run).unwrap_or_else(|| panic!("{run} needs nothing"));
        self.release(&planned);
        planned.txn
    }

    /// The transaction that the only open request needs now.
    pub(super) fn txn_of_request(&mut self, world: &World) -> Txn {
        let request = world.requests().pop().unwrap();
        let Step::Commit(planned) = self.look_at_request(world, &request) else { panic!("nothing to do") };
        self.release(&planned);
        planned.txn
    }

    pub(super) fn release(&mut self, planned: &Planned) {
        planned.promised.iter().for_each(|promise| self.router.release(promise));
    }

    /// Looks at everything until there is nothing left to do; says how many transactions that took.
    pub(super) fn settle(&mut self, world: &mut World) -> usize {
        self.catch_up(world);
        let mut commits = 0;
        loop {
            let before = commits;
            for request in world.requests() {
                if let Step::Commit(planned) = self.look_at_request(world, &request) {
                    commits += self.commit(world, &planned);
                }
            }
            for job in world.backfills() {
                if let Step::Commit(planned) = self.look_at_backfill(world, &job) {
                    commits += self.commit(world, &planned);
                }
            }
            for job in self.view.jobs.chains().cloned().collect::<Vec<_>>() {
                let (composer, boot) = (Self::composer(&self.term, world), world.boot);
                let situation = Situation { view: &self.view, composer, gone: &self.gone, boot };
                if let Step::Commit(planned) = situation.of_job(&job) {
                    commits += self.commit(world, &planned);
                }
            }
            self.view.runs.mark_all();
            while let Some(run) = self.view.runs.next_marked() {
                if let Some(planned) = self.plan(world, &run) {
                    commits += self.commit(world, &planned);
                }
            }
            assert!(commits < ROUNDS, "the steps do not come to an end");
            if commits == before {
                return commits;
            }
        }
    }

    fn commit(&mut self, world: &mut World, planned: &Planned) -> usize {
        let outcome = world.commit(&planned.txn);
        self.release(planned);
        self.catch_up(world);
        usize::from(matches!(outcome, Committed::Applied { .. }))
    }
}
