//! What a handler says while it runs, and the task that keeps it in the execution.
//!
//! A handler says how far it is, and saves checkpoints; the latest of each counts. The first word starts a
//! writer for the run, which writes at most once in [`INTERVAL`]. Every write is guarded by the revision
//! that this client wrote last, as the completion is; so it can only ever replace a record of our own.
//!
//! The completion does not wait for a write that is under way. Whichever of the two comes first, the other's
//! guard fails: the completion then finds a running record of its own run, takes that one's revision, and is
//! sent again; the write finds an end, and gives up.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use forest_etcd::{Backoff, KeyValue, Outcome, Txn};
use forest_proto::RunId;
use forest_proto::record::{ExecutionState, MAX_CHECKPOINT, Progress, Status, decode, encode};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

use crate::claim::Claimed;
use crate::cluster::Cluster;

/// From one write of a run to its next.
pub(crate) const INTERVAL: Duration = Duration::from_secs(1);

/// Why a checkpoint was not saved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// It is too long. Nothing of it was kept; the checkpoint before it stands.
    #[error("a checkpoint of {bytes} bytes; {MAX_CHECKPOINT} are allowed")]
    TooLarge {
        /// How long it is.
        bytes: usize,
    },
    /// The run ended before it was durable. It went into the record of the run's end if it was saved before
    /// the end, and is nowhere if it was saved after.
    #[error("the run has ended")]
    Ended,
    /// The server has declared the run lost; another attempt may be running. The handler should stop.
    #[error("the server has declared the run lost")]
    GivenUp,
}

type Waiting = oneshot::Sender<Result<(), CheckpointError>>;

/// What was said last, and who wants to know when it is durable.
#[derive(Debug, Default)]
struct Said {
    progress: Option<Progress>,
    checkpoint: Option<String>,
    waiting: Vec<Waiting>,
}

/// What the completion needs to know.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Told {
    pub(crate) progress: Option<Progress>,
    pub(crate) checkpoint: Option<String>,
    /// Of the last write that is known to have taken effect.
    pub(crate) revision: Option<i64>,
}

#[derive(Debug, Default)]
struct State {
    told: Told,
    waiting: Vec<Waiting>,
    /// Something was said since the writer last looked.
    news: bool,
    /// The writer was asked for.
    begun: bool,
    closed: bool,
}

/// Between a handler and its writer. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Notes {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    run: RunId,
    /// Where a writer is asked for.
    first: mpsc::UnboundedSender<RunId>,
    state: Mutex<State>,
    wake: Notify,
}

impl Notes {
    pub(crate) fn new(run: RunId, first: mpsc::UnboundedSender<RunId>) -> Self {
        let (state, wake) = (Mutex::default(), Notify::new());
        Self { shared: Arc::new(Shared { run, first, state, wake }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn progress(&self, progress: Progress) {
        self.say(|state| state.told.progress = Some(progress));
    }

    /// The answer comes when it, or a later one, is durable. Without an answer the run has ended.
    pub(crate) fn checkpoint(&self, value: String) -> oneshot::Receiver<Result<(), CheckpointError>> {
        let (waiting, answer) = oneshot::channel();
        if value.len() > MAX_CHECKPOINT {
            let _ = waiting.send(Err(CheckpointError::TooLarge { bytes: value.len() }));
            return answer;
        }
        self.say(|state| {
            state.told.checkpoint = Some(value);
            state.waiting.push(waiting);
        });
        answer
    }

    fn say(&self, what: impl FnOnce(&mut State)) {
        let mut state = self.state();
        if state.closed {
            return;
        }
        what(&mut state);
        state.news = true;
        if state.begun {
            self.shared.wake.notify_one();
        } else {
            state.begun = true;
            // Nobody listens any more when the worker has ended, and the handler will be dropped.
            let _ = self.shared.first.send(self.shared.run.clone());
        }
    }

    /// The handler has ended: from now on nothing is heard, and the completion writes what was said last.
    pub(crate) fn close(&self) -> Told {
        let mut state = self.state();
        state.closed = true;
        state.waiting.clear();
        self.shared.wake.notify_one();
        std::mem::take(&mut state.told)
    }

    fn is_closed(&self) -> bool {
        self.state().closed
    }

    async fn closed(&self) {
        while !self.is_closed() {
            self.shared.wake.notified().await;
        }
    }

    /// Waits for news; `None` at the end.
    async fn next(&self) -> Option<Said> {
        loop {
            let mut said = Said::default();
            if self.refresh(&mut said) {
                return Some(said);
            }
            if self.is_closed() {
                return None;
            }
            self.shared.wake.notified().await;
        }
    }

    /// Puts what was said since in the place of what was to be written.
    fn refresh(&self, said: &mut Said) -> bool {
        let mut state = self.state();
        if !state.news || state.closed {
            return false;
        }
        state.news = false;
        (said.progress, said.checkpoint) = (state.told.progress.clone(), state.told.checkpoint.clone());
        said.waiting.append(&mut state.waiting);
        true
    }

    fn written(&self, revision: i64) {
        self.state().told.revision = Some(revision);
    }
}

/// Whether a record is of a claim with this fencing token and still runs: then a write of ours made it so,
/// because nobody else writes it.
pub(crate) fn is_ours(found: &KeyValue, fencing_token: i64) -> bool {
    found.create_revision == fencing_token
        && decode::<ExecutionState>(&found.value).is_ok_and(|state| state.status == Status::Running)
}

/// Writes what the handler of a run says, until it ends or the server has given up on it.
pub(crate) async fn keep(cluster: Cluster, claimed: Box<Claimed>, notes: Notes) {
    let mut writer = Writer { cluster, claimed, notes };
    while let Some(said) = writer.notes.next().await {
        let next = Instant::now() + INTERVAL;
        if !writer.write(said).await {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            () = writer.notes.closed() => return,
        }
    }
}

struct Writer {
    cluster: Cluster,
    /// As it was last written, or tried to.
    claimed: Box<Claimed>,
    notes: Notes,
}

impl Writer {
    /// Whether there is any use in writing more. What is said meanwhile takes the place of what is not written.
    async fn write(&mut self, mut said: Said) -> bool {
        let mut backoff = Backoff::default();
        loop {
            self.notes.refresh(&mut said);
            if self.notes.is_closed() {
                return false;
            }
            let execution = &mut self.claimed.execution;
            execution.progress.clone_from(&said.progress);
            if said.checkpoint.is_some() {
                execution.snapshot.checkpoint.clone_from(&said.checkpoint);
            }
            match self.put().await {
                Put::Written => {
                    self.notes.written(self.claimed.revision);
                    said.waiting.into_iter().for_each(|waiting| drop(waiting.send(Ok(()))));
                    return true;
                }
                Put::Again => {}
                Put::GivenUp => {
                    let run = &self.claimed.execution.snapshot.id;
                    tracing::warn!(%run, "what a handler said is not kept: its run has been declared lost");
                    let given_up = || Err(CheckpointError::GivenUp);
                    said.waiting.into_iter().for_each(|waiting| drop(waiting.send(given_up())));
                    return false;
                }
                Put::Unanswered => tokio::select! {
                    () = tokio::time::sleep(backoff.next_delay(fastrand::f64())) => {}
                    () = self.notes.closed() => return false,
                },
            }
        }
    }

    /// One attempt. The answer to a lost one comes with the next: the guard fails, and the record is read.
    async fn put(&mut self) -> Put {
        let claimed = &mut self.claimed;
        let value = encode(&claimed.execution);
        let txn = Txn::new().modified(&claimed.key, claimed.revision).put(&claimed.key, value.clone());
        match self.cluster.notes.submit(txn.or_get(&claimed.key)).await {
            Ok(Outcome::Applied { revision }) => {
                claimed.revision = revision;
                Put::Written
            }
            Ok(Outcome::Refused { found, .. }) => match found.into_iter().flatten().next() {
                Some(kv) if is_ours(&kv, claimed.fencing_token) => {
                    claimed.revision = kv.mod_revision;
                    if kv.value == value { Put::Written } else { Put::Again }
                }
                _ => Put::GivenUp,
            },
            Ok(Outcome::Unknown { .. }) | Err(_) => Put::Unanswered,
        }
    }
}

enum Put {
    Written,
    /// An earlier one had taken effect.
    Again,
    /// The record is not ours to write any more.
    GivenUp,
    Unanswered,
}

#[cfg(test)]
#[path = "notes_tests.rs"]
mod tests;
