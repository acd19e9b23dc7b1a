//! The worker's one loop: registers, claims, executes, reports, and stops in time.
//!
//! ```text
//!                 registered                     lease lost: every handler is asked to stop
//!  Registering ───────────────▶ Serving ─────────────────────────────────────────┐
//!       ▲                                                                        │
//!       └──────────────── under a new id, while old handlers still end ──────────┘
//! ```
//!
//! - A run is here from the moment its claim is sent until etcd has its result, and at most `capacity`
//!   are here, over all registrations: so the server never sees more alive than announced.
//! - A claim is only sent, and a handler only started, while the lease can be trusted.
//! - Runs outlive the registration they were claimed under; their results are written all the same.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use forest_etcd::Tasks;
use forest_proto::{ClientId, RunId};
use futures_util::future::BoxFuture;
use tokio::task::JoinError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::claim::{Claimed, claim};
use crate::cluster::Cluster;
use crate::complete::{Report, complete};
use crate::context::JobContext;
use crate::error::Error;
use crate::execute::{End, Handling, conclude};
use crate::handler::Handlers;
use crate::registration::{Profile, Registration, register};
use crate::serving::{Serving, Step};
use crate::shared::Shared;
use crate::stop::{Stop, StopReason};

/// How long a worker waits for its handlers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Graces {
    /// From the request to shut down until handlers are asked to stop.
    pub(crate) drain: Duration,
    /// From being asked to stop until a handler is dropped.
    pub(crate) kill: Duration,
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
    /// Small writes that nobody waits for.
    chores: Tasks<()>,
}

enum Phase {
    Registering(BoxFuture<'static, Registration>),
    Serving(Box<Serving>),
    /// Draining without a registration: there will be no other.
    Leaving,
}

/// A run between its claim and its acknowledged result.
struct Live {
    client: ClientId,
    lease_id: i64,
    stop: Stop,
    /// A request to stop it lies in etcd and is not about to be removed.
    cancel_seen: bool,
    /// Since when the handler runs, on the clock since boot.
    started: Duration,
    /// While the handler runs.
    claimed: Option<Box<Claimed>>,
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
    Ended(RunId, End),
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
            chores: Tasks::new(),
        }
    }

    /// Works until the shutdown, and then until nothing is left to do or the time for that is over.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) -> Result<(), Error> {
        while self.drain.is_none() || !self.runs.is_empty() {
            match self.next(&shutdown).await? {
                Event::Drain => self.begin_drain(),
                Event::DrainStageOver => match self.drain {
                    Some(Drain { stopping: false, .. }) => self.stop_all_for_shutdown(),
                    _ => {
                        tracing::error!(
                            runs = self.runs.len(),
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
                Event::Ended(run, end) => self.report(&run, end),
                Event::Completed(run) => self.forget(&run),
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
                let shared = self.shared.of_run(live.client.as_str(), run.clone(), live.lease_id);
                let ctx = JobContext::new(snapshot, token, live.stop.clone(), shared);
                self.handling.start(Arc::clone(handler), ctx, live.stop.clone(), self.graces.kill);
            }
            _ => self.report(run, End::NotStarted),
        }
    }

    fn report(&mut self, run: &RunId, end: End) {
        let Some(live) = self.runs.get_mut(run) else { return };
        let Some(mut claimed) = live.claimed.take() else { return };
        let (outcome, text) = conclude(end, live.stop.reason());
        let took = self.cluster.clock.boot().saturating_sub(live.started);
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        claimed.execution.finish(outcome, text, self.cluster.now(), took_ms);
        tracing::debug!(%run, outcome = outcome.as_str(), took_ms, "ended");
        let cancel_seen = std::mem::take(&mut live.cancel_seen);
        let report = Report { client: live.client.clone(), claimed, cancel_seen };
        let (cluster, run) = (self.cluster.clone(), run.clone());
        self.reports.spawn(async move {
            complete(cluster, report).await;
            run
        });
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
        self.drain = Some(Drain { until: Instant::now() + 2 * self.graces.kill, stopping: true });
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

impl Live {
    fn new(registration: &Registration) -> Self {
        Self {
            client: registration.client.clone(),
            lease_id: registration.lease.id,
            stop: Stop::default(),
            cancel_seen: false,
            started: Duration::ZERO,
            claimed: None,
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
