//! The scheduler: one task that owns the view and, while this node leads, the duties of the leader.
//!
//! ```text
//!   changes of our keys ──▶ ┌──────┐         ┌───────────┐ ──▶ one transaction per segment in flight
//!   answers of etcd     ──▶ │ view │ ──────▶ │  Follower │
//!   queries             ──▶ └──────┘         │  Leading  │ ──▶ batches of steps of single runs
//!   a time that came    ──▶                  └───────────┘
//! ```
//!
//! Nothing in here waits for etcd: transactions run as tasks of their own, and their answers come back as
//! events. Deposed, the leader's duties are dropped as one value; what is still in flight is harmless,
//! because its guards fail.

mod election;
mod handle;
mod leading;
mod settled;

use std::time::Duration;

use forest_etcd::{Change, Error, KeyValue, Outcome, SessionHandle, SharedClock, Store, Tasks, WatchStream};
use forest_proto::{JobId, Keyspace, NodeId, RequestKey, RunId, Segment, SegmentCount};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::core::clients::Seat;
use crate::core::clock_guard::{self, ClockGuard};
use crate::core::compose::Defaults;
use crate::core::dispatch::Batch;
use crate::core::roll::Roll;
use crate::core::view::{Now, View};
use crate::events::{self, Teller};
use crate::traces::Traces;

use election::Campaign;
use handle::{Progress, Query};
pub(crate) use handle::{Reading, SchedulerHandle, Settled, Unanswered};
use leading::{Counted, Leading, Sender};

/// At most this long between two looks at the clocks.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Queries that may wait.
const QUERIES: usize = 256;
/// How long a resigning leader waits for what is in flight.
const RESIGN_GRACE: Duration = Duration::from_millis(500);

#[derive(Debug, Clone)]
pub(crate) struct SchedulerConfig {
    pub(crate) node: NodeId,
    pub(crate) keys: Keyspace,
    pub(crate) segments: SegmentCount,
    /// Of the nodes' leases: how often a follower looks for itself whether there is a leader.
    pub(crate) lease_ttl: Duration,
    /// How long a client that was cut off may take to stop its handlers.
    pub(crate) lost_grace: Duration,
    pub(crate) defaults: Defaults,
    pub(crate) traces: Traces,
}

pub(crate) struct Scheduler {
    config: SchedulerConfig,
    store: Store,
    session: SessionHandle,
    clock: SharedClock,
    stream: WatchStream,
    queries: mpsc::Receiver<Query>,
    progress: watch::Sender<Progress>,
    teller: Teller,
    log_level: watch::Sender<Option<String>>,
    view: View,
    guard: ClockGuard,
    role: Role,
    /// When the watch last said something.
    heard: Duration,
    in_flight: Tasks<Answer>,
}

enum Role {
    Follower(Campaign),
    Leader(Box<Leading>),
}

/// What a transaction was about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Run(RunId),
    /// One of a fixed delay.
    Job(JobId),
    Backfill(JobId),
    Request((Segment, RequestKey)),
    Cancel((RunId, Seat)),
}

/// What came back from etcd.
enum Answer {
    Campaigned {
        lease: i64,
        result: Result<Outcome, Error>,
    },
    Dispatched {
        term: i64,
        batch: Box<Batch>,
        result: Result<Outcome, Error>,
    },
    /// The cursor's neighbourhood was read again, because the answer to a dispatch was lost.
    Reread {
        term: i64,
        segment: Segment,
        result: Result<Vec<Option<KeyValue>>, Error>,
    },
    Stepped {
        term: i64,
        steps: Vec<(Subject, Option<Counted>)>,
        results: Vec<Result<Outcome, Error>>,
    },
    Read {
        term: i64,
        run: RunId,
        result: Result<Option<KeyValue>, Error>,
    },
    /// The keys of all runs, listed when the term had begun.
    Rolled {
        term: i64,
        result: Result<Roll, Error>,
    },
    /// The leader key is gone, or was not ours any more, or hangs on a lease that tells the same later.
    Resigned {
        term: i64,
        result: Result<Outcome, Error>,
    },
}

enum Event {
    Shutdown,
    Answer(Answer),
    Changes(Option<Vec<Change>>),
    Query(Query),
    Time,
}

impl Scheduler {
    pub(crate) fn new(
        config: SchedulerConfig,
        store: Store,
        session: SessionHandle,
        clock: SharedClock,
        stream: WatchStream,
    ) -> (Self, SchedulerHandle) {
        let (sender, queries) = mpsc::channel(QUERIES);
        let (progress, watching) = watch::channel(Progress::default());
        let (log_level, levels) = watch::channel(None);
        let view = View::new(config.keys.clone(), config.segments, config.defaults.zone_name.clone());
        let (teller, events) = events::channel();
        let handle = SchedulerHandle { queries: sender, progress: watching, events, log_level: levels };
        let heard = clock.boot();
        let scheduler = Self {
            config,
            store,
            session,
            clock,
            stream,
            queries,
            progress,
            teller,
            log_level,
            view,
            guard: ClockGuard::default(),
            role: Role::Follower(Campaign::default()),
            heard,
            in_flight: Tasks::new(),
        };
        (scheduler, handle)
    }

    /// Runs until the shutdown, then resigns.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) -> Result<(), Error> {
        loop {
            match self.next_event(&shutdown).await {
                Event::Shutdown => break,
                Event::Changes(None) => {
                    return Err(Error::Unavailable { cause: "the watch has ended".into() });
                }
                event => self.handle(event),
            }
            self.drive();
            self.publish();
        }
        self.teller.close();
        self.resign().await;
        Ok(())
    }

    async fn next_event(&mut self, shutdown: &CancellationToken) -> Event {
        let wait = self.until_next_time();
        tokio::select! {
            biased;
            () = shutdown.cancelled() => Event::Shutdown,
            Some(answer) = self.in_flight.join_next() => match answer {
                Ok(answer) => Event::Answer(answer),
                // A panic in a transaction's task is a bug: fail visibly rather than lead on without it.
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            },
            changes = self.stream.next() => Event::Changes(changes),
            Some(query) = self.queries.recv() => Event::Query(query),
            () = tokio::time::sleep(wait) => Event::Time,
        }
    }

    fn now(&self) -> Now {
        Now { wall_ms: self.clock.wall_ms(), boot: self.clock.boot() }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Answer(answer) => self.handle_answer(answer),
            Event::Changes(Some(changes)) => {
                let now = self.now();
                self.heard = now.boot;
                self.apply(changes, now);
                // What else is here already is cheaper to take now than one by one.
                while let Some(more) = self.stream.try_next() {
                    self.apply(more, now);
                }
            }
            Event::Query(query) => self.handle_query(query),
            Event::Shutdown | Event::Changes(None) | Event::Time => {}
        }
    }

    fn apply(&mut self, changes: Vec<Change>, now: Now) {
        for change in changes {
            if let Role::Leader(leading) = &mut self.role {
                leading.note(&change);
            }
            self.view.apply(change, now);
        }
    }

    fn handle_query(&mut self, query: Query) {
        match query {
            Query::Read(read) => {
                let skew_ms = clock_guard::skew(self.now(), self.others());
                read(&Reading {
                    view: &self.view,
                    node: &self.config.node,
                    held: self.guard.is_held(),
                    skew_ms,
                    watch_age: self.clock.boot().saturating_sub(self.heard),
                });
            }
            Query::TakeSettled { limit, reply } => {
                let taken = match &mut self.role {
                    Role::Leader(leading) => leading.settled.take(&self.view, limit),
                    Role::Follower(_) => Vec::new(),
                };
                let _ = reply.send(taken);
            }
            Query::Release { keys, gone_at } => {
                if let Role::Leader(leading) = &mut self.role {
                    leading.settled.release(keys, gone_at);
                }
            }
        }
    }

    fn handle_answer(&mut self, answer: Answer) {
        let now = self.now();
        match (answer, &mut self.role) {
            (Answer::Campaigned { lease, result }, _) => self.campaigned(lease, result),
            (Answer::Resigned { term, result }, _) => self.resigned(term, result),
            (Answer::Rolled { term, result }, Role::Leader(leading)) if leading.leads(term) => {
                if let Err(error) = &result {
                    tracing::warn!(%error, "could not list the runs: listing everything");
                }
                leading.rolled(result.ok());
            }
            (Answer::Dispatched { term, batch, result }, Role::Leader(leading)) if leading.leads(term) => {
                let reread = leading.dispatched(&mut self.view, *batch, result, now);
                if let Some(segment) = reread {
                    self.reread(term, segment);
                }
            }
            (Answer::Reread { term, segment, result }, Role::Leader(leading)) if leading.leads(term) => {
                leading.reread(segment, result, now);
            }
            (Answer::Stepped { term, steps, results }, Role::Leader(leading)) if leading.leads(term) => {
                leading.stepped(&mut self.view, steps, results, now);
            }
            (Answer::Read { term, run, result }, Role::Leader(leading)) if leading.leads(term) => {
                leading.read(&mut self.view, run, result, now);
            }
            // An answer to an earlier term: whatever it did is in the view, or will be.
            _ => {}
        }
    }

    fn others(&self) -> impl Iterator<Item = &crate::core::view::Heartbeat> {
        self.view.heartbeats.iter().filter(|(node, _)| **node != self.config.node).map(|(_, beat)| beat)
    }

    /// Looks at the state and does what it asks for.
    fn drive(&mut self) {
        let now = self.now();
        let others =
            self.view.heartbeats.iter().filter(|(node, _)| **node != self.config.node).map(|(_, beat)| beat);
        let held = self.guard.check(now, others);
        self.check_leadership(now);
        match &mut self.role {
            Role::Follower(_) => {
                self.view.runs.forget_marks();
                self.view.touched = Default::default();
            }
            Role::Leader(leading) if leading.giving_up.is_some() => {}
            Role::Leader(leading) => {
                let mut duties = leading.drive(&mut self.view, now, held);
                let (term, unclear) = (leading.term_number(), std::mem::take(&mut duties.unclear));
                if leading.takes_doubts(&self.view, now) {
                    self.stream.doubt();
                }
                let sender = Sender::new(&self.store, &self.clock, &self.config.keys, &self.config.traces);
                duties.spawn(term, &sender, &mut self.in_flight);
                unclear.into_iter().for_each(|segment| self.reread(term, segment));
            }
        }
    }

    fn reread(&mut self, term: i64, segment: Segment) {
        let store = self.store.clone();
        let keys =
            [self.config.keys.leader(), self.config.keys.cursor(segment), self.config.keys.jobgen(segment)];
        self.in_flight.spawn(async move {
            let result = store.get_many(&keys).await.map(|(_, found)| found);
            Answer::Reread { term, segment, result }
        });
    }

    fn publish(&mut self) {
        // First: who has waited for a revision finds its events.
        self.teller.tell(self.view.feed.take(), self.view.access.changes);
        let collectable = match &self.role {
            Role::Leader(leading) => leading.settled.any(&self.view),
            Role::Follower(_) => false,
        };
        let audits = matches!(self.role, Role::Leader(_)) && self.view.access.audits.len() > 0;
        let (revision, complete) = (self.view.revision(), self.view.is_complete());
        let progress = Progress { revision, complete, collectable, audits };
        self.progress.send_if_modified(|known| std::mem::replace(known, progress) != progress || collectable);
        let wanted = self.view.log_levels.get(&self.config.node).map(|level| &level.filter);
        self.log_level.send_if_modified(|known| {
            let changed = known.as_ref() != wanted;
            if changed {
                *known = wanted.cloned();
            }
            changed
        });
    }

    fn until_next_time(&self) -> Duration {
        let now = self.now();
        let wanted = match &self.role {
            // The end of the first listing is an event.
            Role::Follower(_) if !self.view.is_complete() => LOOK_AGAIN,
            Role::Follower(campaign) => campaign.until_next(now),
            Role::Leader(leading) if leading.giving_up.is_some() => {
                leading.giving_up.map_or(LOOK_AGAIN, |giving_up| giving_up.until_next(now))
            }
            Role::Leader(leading) => leading.until_next(&self.view, now, self.guard.is_held()),
        };
        wanted.min(LOOK_AGAIN)
    }
}
