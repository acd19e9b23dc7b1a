//! The worker's one loop: registers, claims, executes, reports, and stops in time.
//!
//! ```text
//!                 registered                     lease lost: every handler is asked to stop
//!  Registering ───────────────▶ Serving ─────────────────────────────────────────┐
//!       ▲                                                                        │
//!       └──────────────── under a new id, while old handlers still end ──────────┘
//! ```
//!
//! - A run is here from the moment its claim is sent until etcd has its result, and its thread, if it has one,
//!   has ended; and at most `capacity` are here, over all registrations: so the server never sees more alive than announced.
//! - A claim is only sent, and a handler only started, while the lease can be trusted.
//! - A deadline is kept here and not beside the handler: one that blocks its task must not hold it up.
//! - Runs outlive the registration they were claimed under; their results are written all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use forest_etcd::Tasks;
use forest_proto::RunId;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::task::JoinError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::claim::{Claimed, claim};
use crate::cluster::Cluster;
use crate::complete::{Report, complete};
use crate::context::JobContext;
use crate::deadline::passed;
use crate::error::Error;
use crate::execute::{End, Handling, StopGraces, conclude};
use crate::handler::Handlers;
use crate::live::Live;
use crate::notes::{self, Notes};
use crate::registration::{Profile, Registration, register};
use crate::serving::{Serving, Step};
use crate::shared::Shared;
use crate::stop::StopReason;

/// How long a worker waits for its handlers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Graces {
    /// From the request to shut down until handlers are asked to stop.
    pub(crate) drain: Duration,
    /// From being asked to stop until a handler is dropped.
    pub(crate) handler: StopGraces,
}

pub(crate) struct Agent {
    cluster: Cluster,
    profile: Arc<Profile>,
    handlers: Handlers,
    graces: Graces,
    shared: Shared,
    phase: Phase,
    drain: Option<Drain>,
    runs: BTreeMap<RunId, Live>,
    claims: Tasks<(RunId, Option<Box<Claimed>>)>,
    handling: Handling,
    reports: Tasks<RunId>,
    /// Of the runs whose time is limited, on the clock since boot.
    deadlines: BTreeSet<(Duration, RunId)>,
    /// Runs whose handlers have said their first word.
    speaking: (mpsc::UnboundedSender<RunId>, mpsc::UnboundedReceiver<RunId>),
    /// Small writes that nobody waits for.
    chores: Tasks<()>,
}

enum Phase {
    Registering(BoxFuture<'static, Registration>),
    Serving(Box<Serving>),
    /// Draining without a registration: there will be no other.
    Leaving,
}

#[derive(Clone, Copy)]
struct Drain {
    /// The end of the present stage.
    until: Instant,
    /// Whether handlers have been asked to stop.
    stopping: bool,
}

enum Event {
    Drain,
    DrainStageOver,
    Registered(Registration),
    Step(Step),
    Claimed(RunId, Option<Box<Claimed>>),
    DeadlinePassed,
    Spoke(RunId),
    Ended(RunId, Option<End>),
    Completed(RunId),
    ChoreDone,
}

impl Agent {
    pub(crate) fn new(
        cluster: Cluster,
        profile: Profile,
        handlers: Handlers,
        graces: Graces,
        shared: Shared,
    ) -> Self {
        let profile = Arc::new(profile);
        let phase = Phase::registering(&cluster, &profile, false);
        Self {
            cluster,
            profile,
            handlers,
            graces,
            shared,
            phase,
            drain: None,
            runs: BTreeMap::new(),
            claims: Tasks::new(),
            handling: Handling::default(),
            reports: Tasks::new(),
            deadlines: BTreeSet::new(),
            speaking: mpsc::unbounded_channel(),
            chores: Tasks::new(),
        }
    }

    /// Works until the shutdown, and then until nothing is left to do or the time for that is over.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) -> Result<(), Error> {
        while self.drain.is_none() || self.unreported() > 0 {
            match self.next(&shutdown).await? {
                Event::Drain => self.begin_drain(),
                Event::DrainStageOver => match self.drain {
                    Some(Drain { stopping: false, .. }) => self.stop_all_for_shutdown(),
                    _ => {
                        tracing::error!(
                            runs = self.unreported(),
                            "results not written; the server will declare the runs lost"
                        );
                        break;
                    }
                },
                Event::Registered(registration) => {
                    let handlers = Arc::clone(&self.handlers);
                    self.phase =
                        Phase::Serving(Box::new(Serving::new(&self.cluster, registration, handlers)));
                }
                Event::Step(Step::LeaseLost) => self.fence(),
                Event::Step(Step::Offers) | Event::ChoreDone => {}
                Event::Step(Step::Cancels(runs)) => runs.iter().for_each(|run| self.cancel(run)),
                Event::Claimed(run, claimed) => self.begin(&run, claimed),
                Event::DeadlinePassed => self.stop_overdue(),
                Event::Spoke(run) => self.keep_notes(&run),
                Event::Ended(run, Some(end)) => self.report(&run, end),
                Event::Ended(run, None) => self.thread_ended(&run),
                Event::Completed(run) => self.completed(&run),
            }
            self.claim_while_free();
        }
        if let Phase::Serving(serving) = &self.phase {
            serving.registration.withdraw(&self.cluster).await;
        }
        Ok(())
    }

    async fn next(&mut self, shutdown: &CancellationToken) -> Result<Event, Error> {
        tokio::select! {
            biased;
            () = shutdown.cancelled(), if self.drain.is_none() => Ok(Event::Drain),
            () = stage_over(self.drain) => Ok(Event::DrainStageOver),
            event = self.phase.next() => event,
            () = passed(self.deadlines.first().map(|(at, _)| *at), &self.cluster.clock) => {
                Ok(Event::DeadlinePassed)
            }
            Some(run) = self.speaking.1.recv() => Ok(Event::Spoke(run)),
            Some((run, end)) = self.handling.next() => Ok(Event::Ended(run, end)),
            Some(joined) = self.claims.join_next() => {
                let (run, claimed) = joined.map_err(|e| broken("claim", &e))?;
                Ok(Event::Claimed(run, claimed))
            }
            Some(joined) = self.reports.join_next() => {
                Ok(Event::Completed(joined.map_err(|e| broken("report", &e))?))
            }
            Some(joined) = self.chores.join_next() => {
                joined.map(|()| Event::ChoreDone).map_err(|e| broken("chore", &e))
            }
        }
    }

    fn claim_while_free(&mut self) {
        let Phase::Serving(serving) = &mut self.phase else { return };
        let registration = &serving.registration;
        if self.drain.is_some() || !self.cluster.session.is_trusted(registration.lease.id) {
            return;
        }
        while self.runs.len() < self.profile.capacity as usize {
            let Some(offer) = serving.inbox.take(self.cluster.now()) else { return };
            let run = offer.snapshot.id.clone();
            // A listing from before its claim may show it once more; or an earlier registration's claim is not
            // settled yet, while the run was taken from there and given to this one.
            if self.runs.contains_key(&run) {
                serving.postponed.insert(run, offer);
                continue;
            }
            self.runs.insert(run.clone(), Live::new(registration));
            let (cluster, registration) = (self.cluster.clone(), registration.clone());
            self.claims.spawn(async move { (run, claim(cluster, registration, offer).await) });
        }
    }

    /// Starts the handler of a run that is ours now, unless there is already a reason to stop it.
    fn begin(&mut self, run: &RunId, claimed: Option<Box<Claimed>>) {
        let Some(live) = self.runs.get_mut(run) else { return };
        let Some(claimed) = claimed else {
            self.forget(run);
            return;
        };
        if !self.cluster.session.is_trusted(live.lease_id) {
            live.stop.stop(StopReason::LeaseLost);
        }
        let snapshot = claimed.execution.snapshot.clone();
        let token = claimed.fencing_token;
        live.claimed = Some(claimed);
        live.started = self.cluster.clock.boot();
        match self.handlers.get(&snapshot.target) {
            Some(handler) if live.stop.reason().is_none() => {
                tracing::debug!(%run, job = %snapshot.job_id, target = %snapshot.target, "started");
                let notes = Notes::new(run.clone(), self.speaking.0.clone());
                live.notes = Some(notes.clone());
                let shared = self.shared.of_run(live.client.as_str(), run.clone(), live.lease_id);
                let clock = self.cluster.clock.clone();
                let ctx = JobContext::new(snapshot, token, live.stop.clone(), notes, shared, clock);
                live.deadline = ctx.deadline_since_boot();
                self.deadlines.extend(live.deadline.map(|at| (at, run.clone())));
                self.handling.start(handler, ctx, live.stop.clone(), self.graces.handler);
            }
            _ => self.report(run, End::NotStarted),
        }
    }

    fn report(&mut self, run: &RunId, end: End) {
        let Some(live) = self.runs.get_mut(run) else { return };
        let Some(mut claimed) = live.claimed.take() else { return };
        if let Some(at) = live.deadline.take() {
            self.deadlines.remove(&(at, run.clone()));
        }
        if let End::Dropped(grace) | End::GivenUp(grace) = &end {
            live.overstays = matches!(end, End::GivenUp(_));
            let (reason, thread_goes_on) = (live.stop.reason(), live.overstays);
            tracing::warn!(%run, ?reason, ?grace, thread_goes_on, "a handler did not stop when it was asked to");
        }
        if let Some(notes) = live.notes.take() {
            claimed.take_over(notes.close());
        }
        let (outcome, text) = conclude(end, live.stop.reason());
        let took = self.cluster.clock.boot().saturating_sub(live.started);
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        claimed.execution.finish(outcome, text, self.cluster.now(), took_ms);
        tracing::debug!(%run, outcome = outcome.as_str(), took_ms, "ended");
        // To the leader it says that there is to be no further attempt, as long as one could follow.
        let cancel_seen = std::mem::take(&mut live.cancel_seen) && claimed.execution.decided;
        let report = Report { client: live.client.clone(), claimed, cancel_seen };
        let (cluster, run) = (self.cluster.clone(), run.clone());
        self.reports.spawn(async move {
            complete(cluster, report).await;
            run
        });
    }

    /// Asks those whose time is over to stop.
    fn stop_overdue(&mut self) {
        let now = self.cluster.clock.boot();
        while self.deadlines.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, run)) = self.deadlines.pop_first() else { return };
            if let Some(live) = self.runs.get_mut(&run) {
                live.deadline = None;
                live.stop.stop(StopReason::TimedOut);
            }
        }
    }

    /// Starts the writer of what a handler says.
    fn keep_notes(&mut self, run: &RunId) {
        let Some(live) = self.runs.get(run) else { return };
        if let (Some(claimed), Some(notes)) = (&live.claimed, &live.notes) {
            self.chores.spawn(notes::keep(self.cluster.clone(), claimed.clone(), notes.clone()));
        }
    }

    fn unreported(&self) -> usize {
        self.runs.values().filter(|live| !live.reported).count()
    }

    fn completed(&mut self, run: &RunId) {
        match self.runs.get_mut(run) {
            Some(live) if live.overstays => live.reported = true,
            _ => self.forget(run),
        }
    }

    /// The thread of a handler that was given up.
    fn thread_ended(&mut self, run: &RunId) {
        tracing::info!(%run, "the thread of a handler that was given up has ended");
        let Some(live) = self.runs.get_mut(run) else { return };
        live.overstays = false;
        if live.reported {
            self.forget(run);
        }
    }

    fn forget(&mut self, run: &RunId) {
        self.runs.remove(run);
        if let Phase::Serving(serving) = &mut self.phase
            && let Some(offer) = serving.postponed.remove(run)
        {
            serving.inbox.put_back(run.clone(), offer);
        }
    }

    /// Of a run that has ended nothing is left to stop. The key is then the leader's: if the run failed, it says
    /// that there is to be no further attempt.
    fn cancel(&mut self, run: &RunId) {
        if let Some(live) = self.runs.get_mut(run) {
            live.cancel_seen = true;
            live.stop.stop(StopReason::Requested);
        }
    }

    /// The registration may be gone, and with it the right to run anything that was claimed under it.
    fn fence(&mut self) {
        tracing::warn!(runs = self.runs.len(), "cut off from etcd: handlers are asked to stop");
        for live in self.runs.values() {
            live.stop.stop(StopReason::LeaseLost);
        }
        self.phase = match self.drain {
            None => Phase::registering(&self.cluster, &self.profile, true),
            Some(_) => Phase::Leaving,
        };
    }

    fn begin_drain(&mut self) {
        tracing::info!(runs = self.runs.len(), grace = ?self.graces.drain, "draining");
        self.drain = Some(Drain { until: Instant::now() + self.graces.drain, stopping: false });
        match &self.phase {
            Phase::Serving(serving) if !self.runs.is_empty() => {
                let announcement = serving.registration.clone().announce_drain(self.cluster.clone());
                self.chores.spawn(announcement);
            }
            Phase::Serving(_) => {}
            Phase::Registering(_) | Phase::Leaving => self.phase = Phase::Leaving,
        }
    }

    fn stop_all_for_shutdown(&mut self) {
        tracing::warn!(runs = self.runs.len(), "the time for draining is over: handlers are asked to stop");
        for live in self.runs.values() {
            live.stop.stop(StopReason::Shutdown);
        }
        // As long for the handlers, and as long again for their results.
        self.drain = Some(Drain { until: Instant::now() + 2 * self.graces.handler.kill, stopping: true });
    }
}

impl Drop for Agent {
    /// A thread is not dropped with the rest: it is told to end, and waits for nothing that will not come.
    fn drop(&mut self) {
        for live in self.runs.values() {
            live.stop.stop(StopReason::Shutdown);
            if let Some(notes) = &live.notes {
                notes.close();
            }
        }
    }
}

impl Phase {
    fn registering(cluster: &Cluster, profile: &Arc<Profile>, again: bool) -> Self {
        Self::Registering(Box::pin(register(cluster.clone(), Arc::clone(profile), again)))
    }

    async fn next(&mut self) -> Result<Event, Error> {
        match self {
            Self::Registering(registering) => Ok(Event::Registered(registering.await)),
            Self::Serving(serving) => serving.next().await.map(Event::Step),
            Self::Leaving => std::future::pending().await,
        }
    }
}

async fn stage_over(drain: Option<Drain>) {
    match drain {
        Some(drain) => tokio::time::sleep_until(drain.until).await,
        None => std::future::pending().await,
    }
}

fn broken(part: &'static str, error: &JoinError) -> Error {
    Error::Broken { part, cause: error.to_string() }
}
