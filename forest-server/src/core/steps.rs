//! What a single run, or a single request, needs next.
//!
//! One function looks at where a run is and says what to do: nothing, read its document first, or commit
//! one transaction. It is asked when a key of the run changed, when a client came or went, when a time
//! came, and now and then for every run there is. Being asked too often is harmless.
//!
//! Every transaction compares the term and the revision of what it consumes. So of any number of nodes, and
//! of any number of copies of one transaction, one commits.

use std::collections::BTreeMap;
use std::time::Duration;

use forest_etcd::Txn;
use forest_proto::record::{
    Delay, Execution, Job, Origin, Outcome, Overlap, Request, RequestKind, Snapshot, Trigger, decode, encode,
};
use forest_proto::time::Instant;
use forest_proto::{ClientId, JobId, RequestKey, RunId, Segment};

use super::clients::Seat;
use super::compose::{Composer, Occasion};
use super::jobs::PlannedJob;
use super::overlap::{self, Admission, Undecided};
use super::routing::{Promise, Router};
use super::runs::{Place, Run};
use super::view::View;

/// What to do about a run.
#[derive(Debug)]
pub(crate) enum Step {
    Nothing,
    /// Look again in a moment: the segment's cursor is still to be written.
    Wait,
    /// Read this key and look again: its document is needed.
    Read(String),
    Commit(Planned),
}

/// A transaction, and the place at a client that it counts on.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) txn: Txn,
    pub(crate) promised: Option<Promise>,
}

/// Clients that vanished, and when it is certain that they stopped what they ran.
pub(crate) type Gone = BTreeMap<Seat, Duration>;

/// All that a step looks at.
pub(crate) struct Situation<'a> {
    pub(crate) view: &'a View,
    pub(crate) composer: Composer<'a>,
    pub(crate) gone: &'a Gone,
    pub(crate) boot: Duration,
}

impl From<Txn> for Step {
    fn from(txn: Txn) -> Self {
        Self::Commit(Planned { txn, promised: None })
    }
}

impl Situation<'_> {
    /// The next step of a run.
    pub(crate) fn of_run(&self, router: &mut Router, id: &RunId) -> Step {
        let Some(run) = self.view.runs.get(id) else { return Step::Nothing };
        if let Some(step) = self.of_replaced(id, run) {
            return step;
        }
        match &run.place {
            Place::Delayed { segment, due_ms } => self.of_delayed(router, id, run, *segment, *due_ms),
            Place::Pending { deadline_ms, .. } => self.of_pending(router, id, run, *deadline_ms),
            Place::Queued { client, deadline_ms, .. } => {
                self.of_queued(router, id, run, client, *deadline_ms)
            }
            Place::Running { client } => self.of_running(id, run, client),
            Place::Ended { state, .. } if state.decided => Step::Nothing,
            Place::Ended { client, .. } => self.of_ended(id, run, client.as_ref()),
        }
    }

    fn job(&self, id: &RunId) -> Option<(JobId, &PlannedJob)> {
        let id = JobId::new(id.job()).ok()?;
        let job = self.view.jobs.get(&id)?;
        Some((id, job))
    }

    fn is_past(&self, deadline_ms: Option<i64>) -> bool {
        deadline_ms.is_some_and(|deadline| deadline < self.composer.now_ms)
    }

    /// What is due becomes a run, unless its job was deleted, or disabled and nobody asked for it.
    fn of_delayed(&self, router: &mut Router, id: &RunId, run: &Run, segment: Segment, due_ms: i64) -> Step {
        let Some(delay) = document::<Delay>(run) else { return Step::Nothing };
        let key = self.view.keys.delay(segment, Instant::from_ms(due_ms), id);
        let txn = self.composer.term.txn().modified(key.clone(), run.revision).delete(key);
        let found = self.job(id);
        let txn =
            txn.modified(self.view.keys.job(&delay.job), found.as_ref().map_or(0, |(_, job)| job.revision));
        let job = found.as_ref().and_then(|(_, planned)| planned.job());
        if delay.planned_for.is_some() && !job.as_ref().is_some_and(|job| is_planned_by(&delay, job)) {
            // Nothing that was due: the job plans anew.
            return txn.into();
        }
        if due_ms > self.composer.now_ms {
            return Step::Nothing;
        }
        let occasion = occasion_of(&delay);
        match found.zip(job.filter(|job| job.is_enabled() || id.is_manual())) {
            Some(((_, planned), job)) if id.attempt() == 1 => {
                self.admit(router, txn, planned, &job, occasion)
            }
            Some((_, job)) => self.create(router, txn, &job, occasion),
            None => {
                let why = "the job was deleted or disabled before this attempt was due";
                self.refuse(txn, &ghost(&delay), occasion, Outcome::Cancelled, why)
            }
        }
    }

    /// Creates the first attempt of a run, if earlier runs of the job let it.
    ///
    /// What decides fires of the segment compares the cursor. Writing it here as well keeps a fire that is on its
    /// way, or whose answer was lost, from committing beside this run, and this run beside it.
    fn admit(
        &self,
        router: &mut Router,
        txn: Txn,
        planned: &PlannedJob,
        job: &Job,
        occasion: Occasion,
    ) -> Step {
        if planned.overlap == Overlap::Allow {
            return self.create(router, txn, job, occasion);
        }
        let Some(txn) = self.beside_no_fire(txn, &job.id) else { return Step::Wait };
        match overlap::admit(planned, &self.view.runs, &job.id, Some(&occasion.run), Undecided::default()) {
            Admission::Start => self.create(router, txn, job, occasion),
            Admission::Wait => {
                let snapshot = Snapshot { waits: true, ..self.composer.snapshot(job, occasion) };
                txn.put(self.view.keys.pending(&job.group, &snapshot.id), encode(&snapshot)).into()
            }
            Admission::Skip(why) => self.refuse(txn, job, occasion, Outcome::OverlapSkipped, why),
        }
    }

    /// Compares the cursor of a job's segment and writes it as it is; `None`: there is none yet.
    fn beside_no_fire(&self, txn: Txn, job: &JobId) -> Option<Txn> {
        let segment = self.view.jobs.segment_of(job);
        let decided = self.view.jobs.segment(segment).decided()?;
        let (cursor, key) = (decided.cursor(self.composer.term.number()), self.view.keys.cursor(segment));
        Some(txn.modified(key.clone(), decided.revision).put(key, encode(&cursor)))
    }

    /// A job with a fixed delay has its next run planned whenever nothing of it is there.
    pub(crate) fn of_job(&self, id: &JobId) -> Step {
        let Some(planned) = self.view.jobs.get(id).filter(|planned| planned.enabled) else {
            return Step::Nothing;
        };
        let (Some(delay_ms), false) = (planned.fixed_delay_ms, self.view.runs.is_there(id)) else {
            return Step::Nothing;
        };
        let Some(job) = planned.job() else { return Step::Nothing };
        let earliest = self.composer.now_ms.saturating_add_unsigned(delay_ms);
        let due = job.starts_at.map_or(earliest, |at| at.as_ms().max(earliest));
        if job.ends_at.is_some_and(|at| due > at.as_ms()) {
            return Step::Nothing;
        }
        let due = Instant::from_ms(due);
        let txn = self.composer.term.txn().modified(self.view.keys.job(id), planned.revision);
        let Some(txn) = self.beside_no_fire(txn, id) else { return Step::Wait };
        let run = RunId::planned(id, due);
        let key = self.view.keys.delay(self.view.jobs.segment_of(id), due, &run);
        let delay = Delay {
            run,
            job: id.clone(),
            group: job.group,
            scheduled_at: due,
            origin: Origin::Schedule,
            params: None,
            planned_for: job.effective_after,
            checkpoint: None,
            client: None,
        };
        txn.put(key, encode(&delay)).into()
    }

    /// Of a job whose runs replace each other, the newest one waits and all others have to go.
    fn of_replaced(&self, id: &RunId, run: &Run) -> Option<Step> {
        let newest = self.view.runs.waiting(id.job()).next_back().filter(|newest| *newest != id)?;
        let (job, planned) = self.job(id)?;
        if planned.overlap != Overlap::CancelRunning || self.view.runs.is_planned(id) {
            return None;
        }
        match &run.place {
            Place::Ended { .. } => return None,
            Place::Running { client } => {
                let seat = (run.group.clone(), client.clone());
                if self.view.cancels.get(&(id.clone(), seat)).is_some() {
                    return None;
                }
            }
            _ => {}
        }
        let successor = self.view.runs.get(newest)?;
        let key = self.view.keys.pending(&successor.group, newest);
        let txn = self.composer.term.txn().modified(key, successor.revision);
        let txn = txn.modified(self.view.keys.job(&job), planned.revision);
        Some(self.stop(txn, id, run, &format!("replaced by {newest}")))
    }

    /// Creates a run at a client, or parked.
    fn create(&self, router: &mut Router, txn: Txn, job: &Job, occasion: Occasion) -> Step {
        let snapshot = self.composer.snapshot(job, occasion);
        let promised = router.pick_new(self.view, &snapshot);
        let txn = match &promised {
            Some(promise) => self.give(txn, snapshot, &promise.seat),
            None => txn.put(self.view.keys.pending(&job.group, &snapshot.id), encode(&snapshot)),
        };
        Step::Commit(Planned { txn, promised })
    }

    fn give(&self, txn: Txn, mut snapshot: Snapshot, seat: &Seat) -> Txn {
        snapshot.ip = seat.1.to_string();
        snapshot.waits = false;
        txn.put(self.view.keys.snapshot(&seat.0, &seat.1, &snapshot.id), encode(&snapshot))
    }

    fn refuse(&self, txn: Txn, job: &Job, occasion: Occasion, outcome: Outcome, why: &str) -> Step {
        let snapshot = self.composer.snapshot(job, occasion);
        self.end(txn, snapshot, outcome, why).into()
    }

    /// Puts the final record of a run that never started.
    fn end(&self, txn: Txn, mut snapshot: Snapshot, outcome: Outcome, why: &str) -> Txn {
        snapshot.ip.clear();
        let key = self.view.keys.execution(&snapshot.group, None, &snapshot.id);
        txn.put(key, encode(&self.composer.never_started(snapshot, outcome, why)))
    }

    /// A parked run goes to the first client with room, until it is too late or its job is gone.
    fn of_pending(&self, router: &mut Router, id: &RunId, run: &Run, deadline_ms: Option<i64>) -> Step {
        let Some(snapshot) = document::<Snapshot>(run) else { return Step::Nothing };
        let key = self.view.keys.pending(&run.group, id);
        let txn = self.composer.term.txn().modified(key.clone(), run.revision).delete(key);
        if let Some(ended) = self.of_unstarted(id, &txn, &snapshot, deadline_ms) {
            return ended;
        }
        if snapshot.waits && !self.view.runs.is_next(id) {
            return Step::Nothing;
        }
        let Some(promise) = router.pick(self.view, &snapshot) else { return Step::Nothing };
        let txn = self.give(txn, snapshot, &promise.seat);
        Step::Commit(Planned { txn, promised: Some(promise) })
    }

    /// The end of a run that must not start any more.
    fn of_unstarted(
        &self,
        id: &RunId,
        txn: &Txn,
        snapshot: &Snapshot,
        deadline_ms: Option<i64>,
    ) -> Option<Step> {
        let ended = |outcome, why| Some(self.end(txn.clone(), snapshot.clone(), outcome, why).into());
        if self.job(id).is_none() {
            return ended(Outcome::Cancelled, "the job was deleted before the run started");
        }
        if self.is_past(deadline_ms) && snapshot.waits && !self.view.runs.is_next(id) {
            let why = "an earlier run of the job was still alive at the start deadline";
            return ended(Outcome::OverlapSkipped, why);
        }
        if self.is_past(deadline_ms) {
            return ended(Outcome::NoClient, "no client took the run before its start deadline");
        }
        None
    }

    /// A snapshot moves away from a client that is gone, drains, or does not serve its target.
    fn of_queued(
        &self,
        router: &mut Router,
        id: &RunId,
        run: &Run,
        client: &ClientId,
        deadline_ms: Option<i64>,
    ) -> Step {
        let seat = (run.group.clone(), client.clone());
        let holder = self.view.clients.get(&seat);
        let Place::Queued { target, .. } = &run.place else { return Step::Nothing };
        let stays = holder.is_some_and(|holder| holder.value.serves(target));
        if stays && !self.is_past(deadline_ms) && self.job(id).is_some() {
            return Step::Nothing;
        }
        let Some(snapshot) = document::<Snapshot>(run) else { return Step::Nothing };
        let key = self.view.keys.snapshot(&run.group, client, id);
        let txn = self.composer.term.txn().modified(key.clone(), run.revision).delete(key);
        if let Some(ended) = self.of_unstarted(id, &txn, &snapshot, deadline_ms) {
            return ended;
        }
        // The registration must still be what made us move it: absent, or this very document.
        let txn = txn
            .modified(self.view.keys.client(&run.group, client), holder.map_or(0, |holder| holder.revision));
        let promised = router.pick_other(self.view, &snapshot);
        let txn = match &promised {
            Some(promise) => self.give(txn, snapshot, &promise.seat),
            None => {
                let parked = Snapshot { ip: String::new(), ..snapshot };
                txn.put(self.view.keys.pending(&run.group, id), encode(&parked))
            }
        };
        Step::Commit(Planned { txn, promised })
    }

    /// A run whose client is certain to have stopped is lost.
    fn of_running(&self, id: &RunId, run: &Run, client: &ClientId) -> Step {
        let seat = (run.group.clone(), client.clone());
        if self.view.clients.get(&seat).is_some()
            || self.gone.get(&seat).is_none_or(|stopped| *stopped > self.boot)
        {
            return Step::Nothing;
        }
        let key = self.view.keys.execution(&run.group, Some(client), id);
        let Some(execution) = document::<Execution>(run) else { return read_once(run, key) };
        let txn =
            self.composer.term.txn().created(key.clone(), run.created).modified(key.clone(), run.revision);
        let txn = txn.absent(self.view.keys.client(&run.group, client));
        self.settle(txn, key, execution, Some(client), Some(Outcome::Lost)).into()
    }

    /// A failure that its client could not settle: another attempt, or not.
    fn of_ended(&self, id: &RunId, run: &Run, client: Option<&ClientId>) -> Step {
        let key = self.view.keys.execution(&run.group, client, id);
        let Some(execution) = document::<Execution>(run) else { return read_once(run, key) };
        let txn = self.composer.term.txn().modified(key.clone(), run.revision);
        self.settle(txn, key, execution, client, None).into()
    }

    /// Puts the settled record and, if one may follow and nobody asked for an end, the next attempt.
    fn settle(
        &self,
        txn: Txn,
        key: String,
        mut execution: Execution,
        client: Option<&ClientId>,
        lost: Option<Outcome>,
    ) -> Txn {
        let job = self.job(&execution.snapshot.id).and_then(|(_, job)| job.job());
        if execution.started_at.is_none()
            && let Some(job) = &job
        {
            // A worker of the original: it knows nothing of attempts, so the job says.
            execution.snapshot.max_attempts = job.max_attempts;
            execution.snapshot.on_lost = job.on_lost;
            execution.snapshot.retry_if = job.retry_if.clone();
        }
        if let Some(outcome) = lost {
            let started = execution.started_at.map_or(self.composer.now_ms, |at| at.as_ms());
            let ran = u64::try_from(self.composer.now_ms - started).unwrap_or(0);
            let why = "its client vanished; whether the handler finished is not known".to_owned();
            execution.finish(outcome, why, self.composer.now(), ran);
        }
        execution.outcome = execution.outcome.or_else(|| Outcome::of(execution.status));
        let snapshot = &execution.snapshot;
        let again = execution.outcome.is_some_and(|outcome| {
            outcome.may_retry(
                snapshot.id.attempt(),
                snapshot.max_attempts,
                snapshot.on_lost,
                &snapshot.retry_if,
            )
        });
        let cancel = client.map(|client| self.view.keys.cancel(&snapshot.group, client, &snapshot.id));
        let cancelled = client.is_some_and(|client| {
            let seat = (snapshot.group.clone(), client.clone());
            self.view.cancels.get(&(snapshot.id.clone(), seat)).is_some()
        });
        let retry = job.filter(|_| again && !cancelled).map(|job| self.composer.retry(&job, snapshot));
        execution.decided = true;
        // The next attempt has it.
        execution.snapshot.checkpoint = None;
        let txn = txn.put(key, encode(&execution));
        match (retry, cancel) {
            (Some((due, delay)), cancel) => {
                let txn = cancel.into_iter().fold(txn, Txn::absent);
                let segment = self.view.jobs.segment_of(&delay.job);
                txn.put(self.view.keys.delay(segment, due, &delay.run), encode(&delay))
            }
            (None, Some(cancel)) if cancelled => txn.delete(cancel),
            (None, _) => txn,
        }
    }

    /// A request to stop a run that has ended, or is elsewhere, is left over.
    pub(crate) fn of_cancel(&self, id: &(RunId, Seat)) -> Step {
        let (run, seat) = id;
        let Some(entry) = self.view.cancels.entry(id) else { return Step::Nothing };
        let needed = self.view.runs.get(run).is_some_and(|run| match &run.place {
            Place::Running { client } => *client == seat.1,
            Place::Ended { state, .. } => !state.decided,
            _ => false,
        });
        if needed {
            return Step::Nothing;
        }
        let key = self.view.keys.cancel(&seat.0, &seat.1, run);
        self.composer.term.txn().modified(key.clone(), entry.revision).delete(key).into()
    }

    /// The next step of what somebody asked for.
    pub(crate) fn of_request(&self, router: &mut Router, id: &(Segment, RequestKey)) -> Step {
        let Some(entry) = self.view.requests.entry(id) else { return Step::Nothing };
        let key = self.view.keys.request(id.0, &id.1);
        let txn = self.composer.term.txn().modified(key.clone(), entry.revision).delete(key);
        match entry.value.kind {
            RequestKind::Run => self.of_run_request(router, txn, &entry.value),
            RequestKind::Cancel => self.of_cancel_request(txn, &entry.value),
        }
    }

    fn of_run_request(&self, router: &mut Router, txn: Txn, request: &Request) -> Step {
        let planned = self.view.jobs.get(&request.job);
        let txn =
            txn.modified(self.view.keys.job(&request.job), planned.map_or(0, |planned| planned.revision));
        let Some((planned, job)) = planned.and_then(|planned| Some((planned, planned.job()?))) else {
            // Without the job there is no group to record it under.
            return txn.into();
        };
        let occasion = Occasion {
            run: request.run.clone(),
            scheduled_at: request.requested_at,
            origin: Origin::Manual,
            missed_fires: 0,
            params: request.params.clone(),
            checkpoint: None,
            pinned: request.client.clone(),
        };
        self.admit(router, txn, planned, &job, occasion)
    }

    fn of_cancel_request(&self, txn: Txn, request: &Request) -> Step {
        let Some(run) = self.view.runs.get(&request.run) else { return txn.into() };
        self.stop(txn, &request.run, run, "cancelled on request")
    }

    /// Ends a run that has not started; asks the client to stop one that has.
    fn stop(&self, txn: Txn, id: &RunId, run: &Run, why: &str) -> Step {
        let keys = &self.view.keys;
        let key = match &run.place {
            Place::Ended { .. } => return txn.into(),
            Place::Running { client } => {
                // Only while it runs: nobody would take the key away after its end.
                let txn = txn.modified(keys.execution(&run.group, Some(client), id), run.revision);
                return txn.put(keys.cancel(&run.group, client, id), Vec::new()).into();
            }
            Place::Delayed { segment, due_ms } => {
                let Some(delay) = document::<Delay>(run) else { return Step::Nothing };
                let key = keys.delay(*segment, Instant::from_ms(*due_ms), id);
                let txn = txn.modified(key.clone(), run.revision).delete(key);
                let job = self.job(id).and_then(|(_, job)| job.job()).unwrap_or_else(|| ghost(&delay));
                return self.refuse(txn, &job, occasion_of(&delay), Outcome::Cancelled, why);
            }
            Place::Pending { .. } => keys.pending(&run.group, id),
            Place::Queued { client, .. } => keys.snapshot(&run.group, client, id),
        };
        let Some(snapshot) = document::<Snapshot>(run) else { return Step::Nothing };
        let txn = txn.modified(key.clone(), run.revision).delete(key);
        self.end(txn, snapshot, Outcome::Cancelled, why).into()
    }
}

/// Whether a planned run is still what its job plans.
fn is_planned_by(delay: &Delay, job: &Job) -> bool {
    job.is_enabled()
        && matches!(job.trigger, Trigger::FixedDelay { .. })
        && delay.planned_for == job.effective_after
}

fn occasion_of(delay: &Delay) -> Occasion {
    Occasion {
        run: delay.run.clone(),
        scheduled_at: delay.scheduled_at,
        origin: delay.origin,
        missed_fires: 0,
        params: delay.params.clone(),
        checkpoint: delay.checkpoint.clone(),
        pinned: delay.client.clone(),
    }
}

/// A document that is there and cannot be understood is no other when it is read again.
fn read_once(run: &Run, key: String) -> Step {
    if run.value.is_none() { Step::Read(key) } else { Step::Nothing }
}

fn document<T: serde::de::DeserializeOwned>(run: &Run) -> Option<T> {
    run.value.as_deref().and_then(|value| decode(value).ok())
}

/// A stand-in for a job that is gone, to record what became of its last attempt.
fn ghost(delay: &Delay) -> Job {
    let target =
        forest_proto::TargetName::new("deleted").unwrap_or_else(|_| unreachable!("a constant name is valid"));
    Job::new(delay.job.clone(), "", delay.group.clone(), target)
}
