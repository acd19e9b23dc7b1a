//! The leader's duties: they come into being with a term and end with it, as one value.
//!
//! * For each segment one transaction at a time decides what is due. While it is in flight the next fires
//!   gather.
//! * Runs that changed, requests, and what a timer or the slow scan brings up are looked at one by one; their
//!   transactions are independent of each other and go out in batches. No two are ever in flight for one run.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use forest_etcd::{Error, KeyValue, Outcome, Store, Txn};
use forest_proto::{GroupName, JobId, RunId, Segment};
use tokio::task::JoinSet;

use super::settled::Handout;
use super::{Answer, SchedulerConfig, Subject};
use crate::core::clients::Seat;
use crate::core::compose::{Composer, Defaults};
use crate::core::dispatch::{self, Batch};
use crate::core::routing::Router;
use crate::core::runs::Place;
use crate::core::starting::Starting;
use crate::core::steps::{Gone, Situation, Step};
use crate::core::term::Term;
use crate::core::view::{Now, View};

/// Batches of steps in flight at once.
const STEP_LANES: usize = 4;
/// Steps in one batch. etcd takes 128 operations in all, and a step has at most seven of a kind.
const STEPS_PER_BATCH: usize = 100;
/// Runs looked at before other events get their turn.
const LOOKS: usize = 2_000;
/// Parked runs of one target that are looked at when a place becomes free.
const PARKED_LOOKS: usize = 256;
/// Pause before a step whose transaction did not commit is looked at again; the view catches up meanwhile.
const STEP_AGAIN: Duration = Duration::from_millis(50);
/// Pause after etcd refused a transaction for a reason of its own.
const AFTER_ERROR: Duration = Duration::from_secs(1);
/// Everything is looked at again this often, changed or not.
const SCAN_EVERY: Duration = Duration::from_secs(30);
/// The time to live of a client's lease where the client did not say.
const CLIENT_TTL: Duration = Duration::from_secs(5);

/// A segment's pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lane {
    Ready,
    InFlight,
    /// Something else was found than expected: until the view shows it.
    Behind {
        revision: i64,
    },
    /// etcd refused, and nothing was written: until this time since boot.
    Paused {
        until: Duration,
    },
    /// The answer was lost, and reading the cursor failed: to be read again at this time since boot.
    Unclear {
        until: Duration,
    },
}

pub(super) struct Leading {
    term: Term,
    pub(super) lease: i64,
    defaults: Defaults,
    router: Router,
    lanes: Vec<Lane>,
    gone: Gone,
    starting: Starting,
    lost_grace: Duration,
    pub(super) settled: Handout,
    /// Whether the view is as new as the term, and everything in it was marked.
    ready: bool,
    steps_in_flight: usize,
    /// What has a transaction in flight or a pause, and the job that it may start.
    busy: BTreeMap<Subject, Option<JobId>>,
    requests: BTreeSet<Subject>,
    /// Committed, but not in the view yet.
    awaited: BTreeMap<(i64, Subject), Option<Seat>>,
    again: BTreeSet<(Duration, Subject)>,
    next_scan: Duration,
}

/// What to send to etcd.
#[derive(Default)]
pub(super) struct Duties {
    batches: Vec<Batch>,
    steps: Vec<Vec<(Subject, Option<Seat>, Txn)>>,
    reads: Vec<(RunId, String)>,
    /// Cursors to read again, after an answer was lost.
    pub(super) unclear: Vec<Segment>,
}

impl Leading {
    pub(super) fn new(term: Term, lease: i64, config: &SchedulerConfig, now: Now) -> Self {
        Self {
            term,
            lease,
            defaults: config.defaults.clone(),
            router: Router::default(),
            lanes: vec![Lane::Ready; config.segments.get()],
            gone: Gone::new(),
            starting: Starting::default(),
            lost_grace: config.lost_grace,
            settled: Handout::default(),
            ready: false,
            steps_in_flight: 0,
            busy: BTreeMap::new(),
            requests: BTreeSet::new(),
            awaited: BTreeMap::new(),
            again: BTreeSet::new(),
            next_scan: now.boot,
        }
    }

    pub(super) fn term_number(&self) -> i64 {
        self.term.number()
    }

    pub(super) fn leads(&self, term: i64) -> bool {
        self.term.number() == term
    }

    /// Decides all that can be decided now.
    pub(super) fn drive(
        &mut self,
        view: &mut View,
        config: &SchedulerConfig,
        now: Now,
        held: bool,
    ) -> Duties {
        let mut duties = Duties::default();
        if !self.ready {
            // No run of an earlier term can come after this revision, so the view has them all.
            if view.revision() < self.term.number() {
                return duties;
            }
            self.take_over(view, config, now);
        }
        self.settled.let_go(view.revision());
        self.let_go_of_awaited(view);
        self.take_touched(view, now);
        self.take_timers(view, now);
        if !held {
            self.dispatch(view, now, &mut duties);
        }
        self.step(view, now, &mut duties);
        duties
    }

    /// Whatever happened before this term is looked at once. Nobody knows since when a client has been gone
    /// that was gone before: the wait starts again.
    fn take_over(&mut self, view: &View, config: &SchedulerConfig, now: Now) {
        self.ready = true;
        self.next_scan = now.boot;
        let gone = view.runs.loads().map(|(seat, _)| seat).filter(|seat| view.clients.get(seat).is_none());
        self.gone = gone.map(|seat| (seat.clone(), now.boot + CLIENT_TTL + config.lost_grace)).collect();
        tracing::info!(
            term = self.term.number(),
            jobs = view.jobs.len(),
            runs = view.runs.len(),
            clients = view.clients.len(),
            "took over"
        );
    }

    fn let_go_of_awaited(&mut self, view: &mut View) {
        while let Some(((revision, _), _)) = self.awaited.first_key_value()
            && *revision <= view.revision()
        {
            if let Some(((_, subject), promised)) = self.awaited.pop_first() {
                self.finish(view, subject, promised);
            }
        }
    }

    /// Nothing is in flight for the subject any more, and the view shows what came of it.
    fn finish(&mut self, view: &mut View, subject: Subject, promised: Option<Seat>) {
        if let Some(seat) = promised {
            self.router.release(&seat);
        }
        if let Some(job) = self.busy.remove(&subject).flatten() {
            self.starting.requested(&job);
        }
        self.mark(view, subject);
    }

    fn mark(&mut self, view: &mut View, subject: Subject) {
        match subject {
            Subject::Run(run) => view.runs.mark(&run),
            Subject::Request(_) => {
                self.requests.insert(subject);
            }
        }
    }

    /// Clients and groups that changed concern runs that did not.
    fn take_touched(&mut self, view: &mut View, now: Now) {
        let touched = std::mem::take(&mut view.touched);
        let mut groups = touched.groups;
        for (seat, ttl_ms) in touched.vanished {
            if view.clients.get(&seat).is_none() && view.runs.load(&seat).is_some() {
                let ttl = ttl_ms.map_or(CLIENT_TTL, Duration::from_millis);
                self.gone.insert(seat.clone(), now.boot + ttl + self.lost_grace);
                mark_queued(view, &seat);
            }
        }
        for seat in touched.seats {
            self.gone.remove(&seat);
            mark_queued(view, &seat);
            groups.insert(seat.0);
        }
        groups.iter().for_each(|group| mark_parked(view, group));
        self.requests.extend(touched.requests.into_iter().map(Subject::Request));
    }

    fn take_timers(&mut self, view: &mut View, now: Now) {
        while let Some((at, _)) = self.again.first()
            && *at <= now.boot
        {
            if let Some((_, subject)) = self.again.pop_first() {
                self.finish(view, subject, None);
            }
        }
        let due: Vec<_> = view
            .runs
            .delays()
            .take_while(|(at, _)| *at <= now.wall_ms)
            .take(LOOKS)
            .map(|(_, run)| run.clone())
            .collect();
        due.iter()
            .filter(|run| !self.busy.contains_key(&Subject::Run((*run).clone())))
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
            view.runs.mark_all();
            self.requests.extend(view.requests.iter().map(|(id, _)| Subject::Request(id.clone())));
        }
    }

    fn dispatch(&mut self, view: &View, now: Now, duties: &mut Duties) {
        let composer = Composer { term: &self.term, defaults: &self.defaults, now_ms: now.wall_ms };
        for segment in view.jobs.segments() {
            match self.lanes[segment.index()] {
                Lane::Behind { revision } if view.revision() >= revision => {}
                Lane::Paused { until } if until <= now.boot => {}
                Lane::Unclear { until } if until <= now.boot => {
                    self.lanes[segment.index()] = Lane::InFlight;
                    duties.unclear.push(segment);
                    continue;
                }
                Lane::Ready => {}
                _ => continue,
            }
            self.lanes[segment.index()] = Lane::Ready;
            self.starting.dispatched(segment);
            let batch = dispatch::first_cursor(view, &composer, segment)
                .or_else(|| dispatch::decide(view, &mut self.router, &self.starting, &composer, segment));
            if let Some(batch) = batch {
                if view.jobs.segment(segment).decided().is_none() && !view.jobs.segment(segment).is_empty() {
                    tracing::error!(%segment, "the cursor is missing although there are jobs: starting at now");
                }
                self.starting.dispatch(segment, batch.fired.clone());
                self.lanes[segment.index()] = Lane::InFlight;
                duties.batches.push(batch);
            }
        }
    }

    /// Takes the answer to a dispatch; says whether the cursor has to be read again.
    pub(super) fn dispatched(
        &mut self,
        view: &mut View,
        batch: Batch,
        result: Result<Outcome, Error>,
        now: Now,
    ) -> Option<Segment> {
        batch.promised.iter().for_each(|seat| self.router.release(seat));
        let segment = batch.segment;
        self.lanes[segment.index()] = match result {
            Ok(Outcome::Applied { revision }) => {
                if view.revision() < revision {
                    view.jobs.set_cursor(segment, &batch.cursor, revision);
                    for (id, mut run) in batch.created {
                        (run.revision, run.created) = (revision, revision);
                        view.runs.put(&id, run);
                    }
                }
                Lane::Ready
            }
            Ok(Outcome::Refused { found, .. }) => match behind(found.iter().flatten()) {
                // The view shows all that was found, and yet it was refused: do not ask at full speed.
                Lane::Behind { revision } if revision <= view.revision() => {
                    Lane::Paused { until: now.boot + STEP_AGAIN }
                }
                lane => lane,
            },
            Ok(Outcome::Unknown { cause }) => {
                tracing::warn!(%segment, cause, "the answer to a dispatch was lost: reading the cursor again");
                return Some(segment);
            }
            Err(error) => {
                tracing::error!(%segment, %error, "etcd refused a dispatch");
                Lane::Paused { until: now.boot + AFTER_ERROR }
            }
        };
        None
    }

    pub(super) fn reread(
        &mut self,
        segment: Segment,
        result: Result<Vec<Option<KeyValue>>, Error>,
        now: Now,
    ) {
        self.lanes[segment.index()] = match result {
            Ok(found) => behind(found.iter().flatten()),
            Err(_) => Lane::Unclear { until: now.boot + AFTER_ERROR },
        };
    }

    /// Looks at marked runs and open requests until the lanes are full.
    fn step(&mut self, view: &mut View, now: Now, duties: &mut Duties) {
        let mut looks = 0;
        while self.steps_in_flight < STEP_LANES && looks < LOOKS {
            let mut batch = Vec::new();
            while batch.len() < STEPS_PER_BATCH && looks < LOOKS {
                let Some(subject) = self.next_subject(view) else { break };
                looks += 1;
                if self.busy.contains_key(&subject) {
                    continue;
                }
                match self.look(view, &subject, now) {
                    Step::Nothing => {}
                    Step::Wait => {
                        self.again.insert((now.boot + STEP_AGAIN, subject.clone()));
                        self.busy.insert(subject, None);
                    }
                    Step::Read(key) => {
                        if let Subject::Run(run) = &subject {
                            duties.reads.push((run.clone(), key));
                            self.busy.insert(subject, None);
                        }
                    }
                    Step::Commit(planned) => {
                        let starts = self.job_started_by(view, &subject);
                        starts.iter().for_each(|job| self.starting.request(job));
                        self.busy.insert(subject.clone(), starts);
                        batch.push((subject, planned.promised, planned.txn));
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

    /// A retry is the continuation of a run that counts as alive; a request starts something new.
    fn job_started_by(&self, view: &View, subject: &Subject) -> Option<JobId> {
        match subject {
            Subject::Request(id) => view.requests.get(id).map(|request| request.job.clone()),
            Subject::Run(_) => None,
        }
    }

    fn next_subject(&mut self, view: &mut View) -> Option<Subject> {
        self.requests.pop_first().or_else(|| view.runs.next_marked().map(Subject::Run))
    }

    fn look(&mut self, view: &View, subject: &Subject, now: Now) -> Step {
        let composer = Composer { term: &self.term, defaults: &self.defaults, now_ms: now.wall_ms };
        let situation =
            Situation { view, composer, gone: &self.gone, starting: &self.starting, boot: now.boot };
        match subject {
            Subject::Run(run) => situation.of_run(&mut self.router, run),
            Subject::Request(request) => situation.of_request(&mut self.router, request),
        }
    }

    pub(super) fn stepped(
        &mut self,
        view: &mut View,
        steps: Vec<(Subject, Option<Seat>)>,
        results: Vec<Result<Outcome, Error>>,
        now: Now,
    ) {
        self.steps_in_flight -= 1;
        for ((subject, promised), result) in steps.into_iter().zip(results) {
            match result {
                Ok(Outcome::Applied { revision }) => {
                    self.chain_parked(view, &subject);
                    self.awaited.insert((revision, subject), promised);
                }
                other => {
                    if let Some(seat) = promised {
                        self.router.release(&seat);
                    }
                    self.again.insert((now.boot + pause_after(&subject, other), subject));
                }
            }
        }
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

    pub(super) fn read(
        &mut self,
        view: &mut View,
        run: RunId,
        result: Result<Option<KeyValue>, Error>,
        now: Now,
    ) {
        match result {
            Ok(Some(kv)) => {
                view.runs.set_value(&run, kv.mod_revision, kv.value);
                self.finish(view, Subject::Run(run), None);
            }
            // Gone meanwhile, or etcd is away: look again when the view knows more.
            Ok(None) | Err(_) => {
                self.again.insert((now.boot + STEP_AGAIN, Subject::Run(run)));
            }
        }
    }

    pub(super) fn until_next(&self, view: &View, now: Now, held: bool) -> Duration {
        let until_wall = |at: i64| Duration::from_millis(u64::try_from(at - now.wall_ms).unwrap_or(0));
        let until_boot = |at: &Duration| at.saturating_sub(now.boot);
        let fires = view.jobs.segments().filter_map(|segment| match self.lanes[segment.index()] {
            Lane::Ready if !held => view.jobs.segment(segment).next_due().map(until_wall),
            Lane::Paused { until } | Lane::Unclear { until } => Some(until_boot(&until)),
            _ => None,
        });
        let delay = view.runs.delays().map(|(at, _)| until_wall(*at)).find(|wait| !wait.is_zero());
        let again = self.again.first().map(|(at, _)| until_boot(at));
        let gone = self.gone.values().map(until_boot).filter(|wait| !wait.is_zero()).min();
        fires.chain(delay).chain(again).chain(gone).min().unwrap_or(Duration::MAX)
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

/// What was found in place of what was expected will come to the view.
fn behind<'a>(found: impl Iterator<Item = &'a KeyValue>) -> Lane {
    Lane::Behind { revision: found.map(|kv| kv.mod_revision).max().unwrap_or(0) }
}

fn mark_queued(view: &mut View, seat: &Seat) {
    let queued: Vec<_> =
        view.runs.load(seat).into_iter().flat_map(|load| load.queued.iter().cloned()).collect();
    queued.iter().for_each(|run| view.runs.mark(run));
}

fn mark_parked(view: &mut View, group: &GroupName) {
    let oldest = view.runs.parked(group).flat_map(|(_, runs)| runs.iter().take(PARKED_LOOKS)).cloned();
    let oldest: Vec<_> = oldest.collect();
    oldest.iter().for_each(|run| view.runs.mark(run));
}

impl Duties {
    /// Sends everything, each as a task whose answer comes back.
    pub(super) fn spawn(self, term: i64, store: &Store, tasks: &mut JoinSet<Answer>) {
        for mut batch in self.batches {
            let store = store.clone();
            tasks.spawn(async move {
                let txn = std::mem::take(&mut batch.txn);
                let result = store.commit(txn).await;
                Answer::Dispatched { term, batch: Box::new(batch), result }
            });
        }
        for batch in self.steps {
            let store = store.clone();
            tasks.spawn(async move {
                let (steps, txns): (Vec<_>, Vec<_>) =
                    batch.into_iter().map(|(subject, promised, txn)| ((subject, promised), txn)).unzip();
                let results = store.commit_all(txns).await;
                Answer::Stepped { term, steps, results }
            });
        }
        for (run, key) in self.reads {
            let store = store.clone();
            tasks.spawn(async move {
                let result = store.get(&key).await;
                Answer::Read { term, run, result }
            });
        }
    }
}
