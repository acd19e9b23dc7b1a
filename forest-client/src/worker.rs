//! A worker as a whole: puts the parts together, runs them, and ends them in order.

use std::time::Duration;

use forest_etcd::{Batcher, EtcdConfig, Session, SessionHandle, SharedClock, Store, Tasks};
use forest_proto::{GroupName, Keyspace};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::agent::{Agent, Graces};
use crate::builder::Builder;
use crate::cluster::Cluster;
use crate::error::Error;
use crate::handler::Handlers;
use crate::registration::Profile;
use crate::shared::{Ground, Janitor, Shared};

/// Requests of claims and results in flight at once. Two, so that a large result does not hold up claims.
const LANES: usize = 2;
/// Claims and results that may wait for a request. More than one run cannot have under way.
const QUEUE: usize = 1_024;
/// After the work is done, how long giving back the lease may take.
const CLOSING: Duration = Duration::from_secs(2);

/// Checked settings.
pub(crate) struct Plan {
    pub(crate) group: GroupName,
    pub(crate) keys: Keyspace,
    pub(crate) graces: Graces,
    pub(crate) handlers: Handlers,
    pub(crate) profile: Profile,
    pub(crate) etcd: EtcdConfig,
    pub(crate) clock: SharedClock,
    /// For the ids of registrations.
    pub(crate) random: fn() -> u64,
    pub(crate) lease_ttl: Duration,
}

/// A worker that has been set up and not been started.
#[must_use = "a worker does nothing until `run`"]
pub struct Worker {
    plan: Plan,
    store: Store,
    session: Session,
    lease: SessionHandle,
    shared: Shared,
    janitor: Janitor,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let plan = &self.plan;
        f.debug_struct("Worker")
            .field("group", &plan.group)
            .field("profile", &plan.profile)
            .finish_non_exhaustive()
    }
}

impl Worker {
    /// Settings for a worker of `group`.
    pub fn builder(group: impl Into<String>) -> Builder {
        Builder::new(group.into())
    }

    pub(crate) fn new(plan: Plan) -> Result<Self, Error> {
        let store = Store::new(&plan.etcd).map_err(|e| Error::config("etcd", e))?;
        let session = Session::new(&plan.etcd, plan.lease_ttl, plan.clock.clone());
        let (session, lease) = session.map_err(|e| Error::config("etcd", e))?;
        let (janitor, chores) = Janitor::new(store.clone());
        let ground = Ground {
            store: store.clone(),
            session: lease.clone(),
            clock: plan.clock.clone(),
            random: plan.random,
            keys: plan.keys.clone(),
            group: plan.group.clone(),
            chores,
        };
        let shared = Shared::new(ground, &plan.profile.name);
        Ok(Self { plan, store, session, lease, shared, janitor })
    }

    /// What the handlers of the group share, for code outside handlers. Reading works at any time; locks and
    /// claims need the worker's lease, so they work only while it runs and can reach etcd.
    ///
    /// ```
    /// use forest_client::{JobContext, Worker};
    /// # async fn send(_: JobContext) -> Result<(), String> { Ok(()) }
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let worker = Worker::builder("trade").job("send", send).build()?;
    /// let mail = worker.shared().queue("mail")?;
    /// let (ran, pushed) = tokio::join!(worker.run(), mail.push("to: a@example.org"));
    /// # ran?;
    /// # pushed?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn shared(&self) -> Shared {
        self.shared.clone()
    }

    /// Works until the process is told to end (SIGTERM or SIGINT), then drains: takes nothing new, lets
    /// handlers finish within [`drain_grace`](Builder::drain_grace), writes their results, and deregisters.
    ///
    /// etcd need not be there: the worker waits for it, at the start and whenever it goes away.
    ///
    /// # Errors
    /// [`Error::Aborted`] if a second signal comes before that is done; [`Error::Signals`] if the process
    /// cannot listen to signals; otherwise as [`run_until`](Self::run_until).
    pub async fn run(self) -> Result<(), Error> {
        let mut signals = Signals::new().map_err(Error::Signals)?;
        let shutdown = CancellationToken::new();
        let insist = async {
            signals.next().await;
            shutdown.cancel();
            signals.next().await;
        };
        tokio::select! {
            biased;
            ended = self.run_until(shutdown.clone()) => ended,
            () = insist => Err(Error::Aborted),
        }
    }

    /// As [`run`](Self::run), but listens to no signals and drains when `shutdown` is cancelled. Dropping the
    /// future drops all handlers where they are, and asks blocking ones to stop; the server then declares their
    /// runs lost.
    ///
    /// # Errors
    /// [`Error::Config`] if etcd refuses the lease for good; [`Error::Broken`] if a part of the worker ended
    /// by itself, which is a bug.
    pub async fn run_until(self, shutdown: CancellationToken) -> Result<(), Error> {
        let Self { plan, store, session, lease, shared, janitor } = self;
        let (batcher, submit) = Batcher::new(store.clone(), LANES, QUEUE);
        let (notes_batcher, notes) = Batcher::new(store.clone(), 1, QUEUE);
        let cluster = Cluster {
            store,
            batcher: submit,
            notes,
            session: lease,
            clock: plan.clock,
            random: plan.random,
            keys: plan.keys,
            group: plan.group,
        };
        let closing = CancellationToken::new();
        let mut services = Tasks::new();
        let token = closing.clone();
        services.spawn(async move { ("etcd session", session.run(token).await) });
        let token = closing.clone();
        services.spawn(async move { ("batcher", batcher.run(token).await) });
        let token = closing.clone();
        services.spawn(async move { ("batcher of notes", notes_batcher.run(token).await) });
        let token = closing.clone();
        services.spawn(async move { ("janitor", janitor.run(token).await) });

        let agent = Agent::new(cluster, plan.profile, plan.handlers, plan.graces, shared);
        let ended = tokio::select! {
            biased;
            ended = agent.run(shutdown) => ended,
            Some(joined) = services.join_next() => Err(service_error(joined)),
        };
        closing.cancel();
        let closed = async { while services.join_next().await.is_some() {} };
        if tokio::time::timeout(CLOSING, closed).await.is_err() {
            tracing::warn!("etcd did not answer in time; the lease is left to expire");
        }
        ended
    }
}

type Service = (&'static str, Result<(), forest_etcd::Error>);

fn service_error(joined: Result<Service, tokio::task::JoinError>) -> Error {
    match joined {
        Ok(("etcd session", Err(error))) => Error::config("lease_ttl", error),
        Ok((part, Err(error))) => Error::Broken { part, cause: error.to_string() },
        Ok((part, Ok(()))) => Error::Broken { part, cause: "without a reason".into() },
        Err(error) => Error::Broken { part: "service", cause: error.to_string() },
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        let name = tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        };
        tracing::info!(signal = name, "told to end");
    }
}
