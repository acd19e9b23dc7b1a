//! What a single run, or a single request, needs next.
//!
//! One function looks at where a run is and says what to do: nothing, read its document first, or commit
//! one transaction. It is asked when a key of the run changed, when a client came or went, when a time
//! came, and now and then for every run there is. Being asked too often is harmless.
//!
//! Every transaction compares the term and the revision of what it consumes. So of any number of nodes, and
//! of any number of copies of one transaction, one commits.
//!
//! A run's life in files: [`begin`] creates it, [`unstarted`] brings it to a client, [`ended`] settles it and has it
//! tried again, [`stop`] ends it early, [`follow`] has other jobs follow it; [`requests`] is what people ask for, and
//! [`backfill`] what they ask for many fires of the past at once. [`broadcast`] makes one run into one for each client,
//! and one end of theirs.

pub(crate) mod backfill;
mod begin;
mod broadcast;
mod ended;
mod follow;
mod requests;
mod stop;
mod unstarted;

use std::collections::BTreeMap;
use std::time::Duration;

use forest_etcd::Txn;
use forest_proto::record::{Outcome, Snapshot, decode, encode};
use forest_proto::{JobId, RunId};

use super::clients::Seat;
use super::compose::Composer;
use super::jobs::PlannedJob;
use super::routing::{Promise, Router};
use super::runs::{Place, Run};
use super::view::View;

/// What to do about a run.
#[derive(Debug)]
pub(crate) enum Step {
    Nothing,
    /// Look again in a moment: the segment's cursor is still to be written, or it is in doubt what the view has of it.
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
        let early = self.of_replaced(id, run).or_else(|| self.of_stopped_shard(id, run));
        let step = early.unwrap_or_else(|| self.of_place(router, id, run));
        self.unless_doubted(step)
    }

    fn of_place(&self, router: &mut Router, id: &RunId, run: &Run) -> Step {
        match &run.place {
            Place::Delayed { segment, due_ms } => self.of_delayed(router, id, run, *segment, *due_ms),
            Place::Pending { deadline_ms, .. } => self.of_pending(router, id, run, *deadline_ms),
            Place::Queued { client, deadline_ms, .. } => {
                self.of_queued(router, id, run, client, *deadline_ms)
            }
            Place::Running { client } => self.of_running(id, run, client),
            Place::Spread { .. } => self.of_spread(id, run),
            Place::Ended { state, .. } if state.decided => Step::Nothing,
            Place::Ended { client, .. } => self.of_ended(id, run, client.as_ref()),
        }
    }

    /// Of what compares the generation of a segment the view must be sure: it waits for the listing.
    fn unless_doubted(&self, step: Step) -> Step {
        let Step::Commit(planned) = &step else { return step };
        let compares = |key: &str| planned.txn.guards.iter().any(|guard| guard.key() == key);
        let doubted =
            self.view.jobs.segments().filter(|segment| self.view.jobs.segment(*segment).is_doubted());
        let waits = doubted.map(|segment| self.view.keys.jobgen(segment)).any(|key| compares(&key));
        if waits { Step::Wait } else { step }
    }

    fn job(&self, id: &RunId) -> Option<(JobId, &PlannedJob)> {
        let id = JobId::new(id.job()).ok()?;
        let job = self.view.jobs.get(&id)?;
        Some((id, job))
    }

    fn is_past(&self, deadline_ms: Option<i64>) -> bool {
        deadline_ms.is_some_and(|deadline| deadline < self.composer.now_ms)
    }

    /// Puts the final record of a run that never started, and what follows it.
    fn end(&self, txn: Txn, mut snapshot: Snapshot, outcome: Outcome, why: &str) -> Txn {
        snapshot.ip.clear();
        let key = self.view.keys.execution(&snapshot.group, None, &snapshot.id);
        let txn = self.follow(txn, &snapshot, Some(outcome));
        txn.put(key, encode(&self.composer.never_started(snapshot, outcome, why)))
    }
}

/// A document that is there and cannot be understood is no other when it is read again.
fn read_once(run: &Run, key: String) -> Step {
    if run.value.is_none() { Step::Read(key) } else { Step::Nothing }
}

fn document<T: serde::de::DeserializeOwned>(run: &Run) -> Option<T> {
    run.value.as_deref().and_then(|value| decode(value).ok())
}
