//! Looking at single runs and requests, and doing what they need next.

use std::time::Duration;

use forest_etcd::{Error, KeyValue, Outcome};
use forest_proto::record::{Execution, Overlap, RequestKind, decode};
use forest_proto::{GroupName, JobId, RunId, Segment};

use super::unsure::{Counted, consumed};
use super::{AFTER_ERROR, CLIENT_TTL, Duties, Leading, Subject};
use crate::core::clients::Seat;
use crate::core::compose::Composer;
use crate::core::routing::{Promise, queue};
use crate::core::runs::Place;
use crate::core::steps::{Situation, Step};
use crate::core::view::{Now, View};

/// Batches of steps in flight at once.
const STEP_LANES: usize = 4;
/// Steps in one batch. etcd takes 128 operations in all, and most steps have at most seven of a kind; with one that other
/// jobs follow fewer go into a request, and that of a broadcast, which may have as many as etcd takes, travels alone.
const STEPS_PER_BATCH: usize = 100;
/// Runs looked at before other events get their turn.
const LOOKS: usize = 2_000;
/// Parked runs of one group that are looked at when a place becomes free.
const PARKED_LOOKS: usize = 256;
/// Pause before a step whose transaction did not commit is looked at again; the view catches up meanwhile.
const STEP_AGAIN: Duration = Duration::from_millis(50);
/// A step that was refused so often needs more than time.
const REFUSALS: u32 = 5;
/// Everything is looked at again this often, changed or not.
pub(super) const SCAN_EVERY: Duration = Duration::from_secs(30);

impl Leading {
    pub(super) fn let_go_of_awaited(&mut self, view: &mut View) {
        while let Some(((revision, _), _)) = self.awaited.first_key_value()
            && *revision <= view.revision()
        {
            if let Some(((_, subject), promised)) = self.awaited.pop_first() {
                self.finish(view, subject, promised);
            }
        }
    }

    /// Nothing is in flight for the subject any more, and the view shows what came of it.
    fn finish(&mut self, view: &mut View, subject: Subject, promised: Option<Promise>) {
        self.let_go(view, promised);
        self.busy.remove(&subject);
        self.requesting.retain(|_, requesting| *requesting != subject);
        for waiting in self.joins.leave(&subject) {
            self.mark(view, waiting);
        }
        self.mark(view, subject);
    }

    /// What is not counted on any more may be room for a run that waits.
    pub(super) fn let_go(&mut self, view: &mut View, promised: impl IntoIterator<Item = Promise>) {
        for promise in promised {
            self.router.release(&promise);
            if view.runs.has_parked(&promise.seat.0) {
                view.touched.groups.insert(promise.seat.0);
            }
        }
    }

    fn mark(&mut self, view: &mut View, subject: Subject) {
        match subject {
            Subject::Run(run) => view.runs.mark(&run),
            Subject::Job(_) | Subject::Backfill(_) | Subject::Request(_) | Subject::Cancel(_) => {
                self.requests.insert(subject);
            }
        }
    }

    /// Clients and groups that changed concern runs that did not.
    pub(super) fn take_touched(&mut self, view: &mut View, now: Now) {
        let touched = std::mem::take(&mut view.touched);
        let mut groups = touched.groups;
        for (seat, ttl_ms) in touched.vanished {
            // A shard that waits for it may go elsewhere.
            groups.insert(seat.0.clone());
            if view.clients.get(&seat).is_none() && view.runs.load(&seat).is_some() {
                let ttl = ttl_ms.map_or(CLIENT_TTL, Duration::from_millis);
                self.gone.insert(seat.clone(), now.boot + ttl + self.lost_grace);
                mark_queued(view, &seat);
            }
        }
        // Of what came and vanished in the meantime, only the end counts.
        for seat in touched.seats {
            if view.clients.get(&seat).is_some() {
                self.gone.remove(&seat);
            }
            mark_queued(view, &seat);
            groups.insert(seat.0);
        }
        groups.extend(self.router.reopened(view));
        groups.iter().for_each(|group| self.mark_parked(view, group));
        self.requests.extend(touched.requests.into_iter().map(Subject::Request));
        self.requests.extend(touched.jobs.into_iter().map(Subject::Job));
        self.requests.extend(touched.backfills.into_iter().map(Subject::Backfill));
    }

    pub(super) fn take_timers(&mut self, view: &mut View, now: Now) {
        while let Some((at, _)) = self.again.first()
            && *at <= now.boot
        {
            if let Some((_, subject)) = self.again.pop_first() {
                self.finish(view, subject, None);
            }
        }
        let delays = view.runs.delays().take_while(|(at, _)| *at <= now.wall_ms);
        let deadlines = view.runs.deadlines().take_while(|(at, _)| *at < now.wall_ms);
        let due: Vec<_> = delays.chain(deadlines).take(LOOKS).map(|(_, run)| run.clone()).collect();
        due.iter()
            .filter(|run| !self.busy.contains(&Subject::Run((*run).clone())))
            .for_each(|run| view.runs.mark(run));
        let stopped: Vec<_> =
            self.gone.iter().filter(|(_, at)| **at <= now.boot).map(|(seat, _)| seat.clone()).collect();
        for seat in stopped {
            match view.runs.load(&seat) {
                Some(load) => {
                    let running: Vec<_> = load.running.iter().cloned().collect();
                    running.iter().for_each(|run| view.runs.mark(run));
                }
                None => {
                    self.gone.remove(&seat);
                }
            }
        }
        if self.next_scan <= now.boot {
            self.next_scan = now.boot + SCAN_EVERY;
            self.miss_clients(view, now);
            view.runs.mark_all();
            self.requests.extend(view.requests.iter().map(|(id, _)| Subject::Request(id.clone())));
            self.requests.extend(view.jobs.chains().cloned().map(Subject::Job));
            self.requests.extend(view.backfills.iter().map(|(job, _)| Subject::Backfill(job.clone())));
            self.requests.extend(view.cancels.iter().map(|(id, ())| Subject::Cancel(id.clone())));
        }
    }

    /// Nobody knows since when a client has been gone that is missing: its time begins now.
    pub(super) fn miss_clients(&mut self, view: &View, now: Now) {
        let stopped = now.boot + CLIENT_TTL + self.lost_grace;
        let missing = view.runs.loads().map(|(seat, _)| seat).filter(|seat| view.clients.get(seat).is_none());
        missing.for_each(|seat| {
            self.gone.entry(seat.clone()).or_insert(stopped);
        });
    }

    /// Looks at marked runs and open requests until the lanes are full.
    pub(super) fn step(&mut self, view: &mut View, now: Now, duties: &mut Duties) {
        let mut looks = 0;
        while self.steps_in_flight < STEP_LANES && looks < LOOKS {
            let mut batch = Vec::new();
            while batch.len() < STEPS_PER_BATCH && looks < LOOKS {
                let Some(subject) = self.next_subject(view) else { break };
                looks += 1;
                if self.busy.contains(&subject) {
                    continue;
                }
                if let Some(segment) = moves_cursor(view, &subject).filter(|of| !self.may_request(*of)) {
                    self.deferred.insert((segment, subject));
                    continue;
                }
                match self.look_again(view, &subject, now) {
                    Step::Nothing => {}
                    Step::Wait => {
                        self.again.insert((now.boot + STEP_AGAIN, subject.clone()));
                        self.busy.insert(subject);
                    }
                    Step::Read(key) => {
                        if let Subject::Run(run) = &subject {
                            duties.reads.push((run.clone(), key));
                            self.busy.insert(subject);
                        }
                    }
                    Step::Commit(planned) if !self.joins.enter(view, &subject, &planned.txn) => {
                        self.let_go(view, planned.promised);
                    }
                    Step::Commit(planned) => {
                        if let Some(segment) = moves_cursor(view, &subject) {
                            self.requesting.insert(segment, subject.clone());
                        }
                        self.busy.insert(subject.clone());
                        let consumes = consumed(view, &subject);
                        let counted = planned.promised.map(|promise| Counted { promise, consumes });
                        batch.push((subject, counted, planned.txn));
                    }
                }
            }
            if batch.is_empty() {
                break;
            }
            self.steps_in_flight += 1;
            duties.steps.push(batch);
        }
    }

    fn next_subject(&mut self, view: &mut View) -> Option<Subject> {
        self.requests.pop_first().or_else(|| view.runs.next_marked().map(Subject::Run))
    }

    /// Looks at a subject, whose last transaction may still count on a place: then it is the place of the next one.
    fn look_again(&mut self, view: &View, subject: &Subject, now: Now) -> Step {
        let Some(kept) = self.unsure.take_step(subject) else { return self.look(view, subject, now) };
        self.router.release(&kept.counted.promise);
        let step = self.look(view, subject, now);
        if !matches!(&step, Step::Commit(planned) if planned.promised.is_some()) {
            self.router.keep(&kept.counted.promise);
            self.unsure.put_back(subject.clone(), kept);
        }
        step
    }

    fn look(&mut self, view: &View, subject: &Subject, now: Now) -> Step {
        let composer = Composer { term: &self.term, defaults: &self.defaults, now_ms: now.wall_ms };
        let situation = Situation { view, composer, gone: &self.gone, boot: now.boot };
        match subject {
            Subject::Run(run) => situation.of_run(&mut self.router, run),
            Subject::Job(job) => situation.of_job(job),
            Subject::Backfill(job) => situation.of_backfill(&mut self.router, job),
            Subject::Request(request) => situation.of_request(&mut self.router, request),
            Subject::Cancel(cancel) => situation.of_cancel(cancel),
        }
    }

    pub(in crate::scheduler) fn stepped(
        &mut self,
        view: &mut View,
        steps: Vec<(Subject, Option<Counted>)>,
        results: Vec<Result<Outcome, Error>>,
        now: Now,
    ) {
        self.steps_in_flight -= 1;
        for ((subject, counted), result) in steps.into_iter().zip(results) {
            match result {
                Ok(Outcome::Applied { revision }) => {
                    self.refusals.remove(&subject);
                    self.acknowledged(revision, now);
                    self.chain_parked(view, &subject);
                    self.awaited.insert((revision, subject), counted.map(|counted| counted.promise));
                }
                other => {
                    // One that is refused may be so because an earlier one was applied, whose answer was lost.
                    if let Some(counted) = counted {
                        self.unsure.add_step(subject.clone(), counted, now.boot);
                    }
                    if matches!(&other, Ok(Outcome::Refused { .. })) {
                        self.refused(&subject);
                    }
                    self.again.insert((now.boot + pause_after(&subject, other), subject));
                }
            }
        }
    }

    /// A step that is refused again and again is decided on something that the watch dropped.
    fn refused(&mut self, subject: &Subject) {
        let refusals = self.refusals.entry(subject.clone()).or_default();
        *refusals += 1;
        if *refusals >= REFUSALS {
            tracing::error!(?subject, "refused again and again: listing everything again");
            self.refusals.clear();
            self.doubts_steps = true;
        }
    }

    /// The parked runs of a group that go first, as many as there is room for.
    fn mark_parked(&self, view: &mut View, group: &GroupName) {
        let is_busy = |run: &RunId| self.busy.contains(&Subject::Run(run.clone()));
        let first = queue::first_in_line(view, &self.router, group, PARKED_LOOKS, is_busy);
        first.iter().for_each(|run| view.runs.mark(run));
    }

    /// Where one parked run found a place, there may be room for the next one.
    fn chain_parked(&self, view: &mut View, subject: &Subject) {
        if let Subject::Run(run) = subject
            && let Some(known) = view.runs.get(run)
            && matches!(known.place, Place::Pending { .. })
        {
            view.touched.groups.insert(known.group.clone());
        }
    }

    pub(in crate::scheduler) fn read(
        &mut self,
        view: &mut View,
        run: RunId,
        result: Result<Option<KeyValue>, Error>,
        now: Now,
    ) {
        match result {
            Ok(Some(kv)) if view.runs.get(&run).is_some_and(|known| known.revision == kv.mod_revision) => {
                if let Err(error) = decode::<Execution>(&kv.value) {
                    view.reject(&kv.key, kv.mod_revision, &error.to_string());
                }
                view.runs.set_value(&run, kv.mod_revision, kv.value);
                self.finish(view, Subject::Run(run), None);
            }
            // Changed or gone meanwhile, or etcd is away: look again when the view knows more.
            Ok(_) | Err(_) => {
                self.again.insert((now.boot + STEP_AGAIN, Subject::Run(run)));
            }
        }
    }
}

/// How long to wait before a step is looked at again whose transaction did not commit.
fn pause_after(subject: &Subject, result: Result<Outcome, Error>) -> Duration {
    match result {
        Err(error) => {
            tracing::error!(?subject, %error, "etcd refused a step");
            AFTER_ERROR
        }
        Ok(Outcome::Unknown { cause }) => {
            tracing::warn!(?subject, cause, "the answer to a step was lost: looking again");
            STEP_AGAIN
        }
        Ok(_) => STEP_AGAIN,
    }
}

/// The segment whose cursor a step writes: one that creates the first attempt of a run of a job whose runs must not
/// overlap, or plans one.
fn moves_cursor(view: &View, subject: &Subject) -> Option<Segment> {
    let job = match subject {
        Subject::Cancel(_) => return None,
        Subject::Job(job) => return Some(view.jobs.segment_of(job)),
        Subject::Backfill(job) => job.clone(),
        Subject::Request(id) => {
            view.requests.get(id).filter(|request| request.kind == RequestKind::Run)?.job.clone()
        }
        Subject::Run(run) if view.runs.is_planned(run) => JobId::new(run.job()).ok()?,
        Subject::Run(_) => return None,
    };
    let exclusive = view.jobs.get(&job).is_some_and(|job| job.overlap != Overlap::Allow);
    exclusive.then(|| view.jobs.segment_of(&job))
}

fn mark_queued(view: &mut View, seat: &Seat) {
    let queued: Vec<_> =
        view.runs.load(seat).into_iter().flat_map(|load| load.queued.iter().cloned()).collect();
    queued.iter().for_each(|run| view.runs.mark(run));
}
