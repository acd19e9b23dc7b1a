//! Natural batching of independent transactions: while a request is in flight, the next collects.
//!
//! No timer delays anything: an idle batcher sends the first transaction at once, a busy one sends
//! what has gathered meanwhile. Transactions that touch the same key are sent one after another, in
//! the order in which they were submitted; independent ones may overtake each other.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::txn::{Claims, Load, Outcome, Txn};
use crate::{Error, Store};

/// After a shutdown, what was accepted before is still sent for so long.
pub const DRAIN_GRACE: Duration = Duration::from_secs(5);

type Verdict = Result<Outcome, Error>;

struct Job {
    txn: Txn,
    reply: oneshot::Sender<Verdict>,
}

/// What came back for the transactions of one request.
type Landed = (Vec<Job>, Vec<Verdict>);

/// Sends transactions of many submitters in few requests. Driven by [`Batcher::run`].
pub struct Batcher {
    store: Store,
    inbox: mpsc::Receiver<Job>,
    queue: Queue,
    lanes: usize,
    queue_bound: usize,
}

/// Where transactions are submitted. Clones go to the same batcher.
#[derive(Clone)]
pub struct BatcherHandle {
    outbox: mpsc::Sender<Job>,
}

impl BatcherHandle {
    /// Runs the transaction; see [`Store::commit`] for the verdict. Waits while the queue is full.
    /// [`Error::Closed`] = the batcher was shut down before it was sent. Dropping the future does
    /// not take a submitted transaction back.
    pub async fn submit(&self, txn: Txn) -> Result<Outcome, Error> {
        let (reply, verdict) = oneshot::channel();
        self.outbox.send(Job { txn, reply }).await.map_err(|_| Error::Closed)?;
        // Without a verdict the batcher ended in between, and nobody knows what it had sent.
        verdict.await.unwrap_or_else(|_| Ok(Outcome::Unknown { cause: "the batcher ended".into() }))
    }
}

enum Event {
    Shutdown,
    Submitted(Option<Job>),
    Landed(Landed),
    GraceOver,
}

impl Batcher {
    /// `lanes` requests may be in flight at once, `queue_bound` transactions may wait.
    pub fn new(store: Store, lanes: usize, queue_bound: usize) -> (Self, BatcherHandle) {
        let queue_bound = queue_bound.max(1);
        let (outbox, inbox) = mpsc::channel(queue_bound);
        let batcher = Self { store, inbox, queue: Queue::default(), lanes: lanes.max(1), queue_bound };
        (batcher, BatcherHandle { outbox })
    }

    /// Runs until the shutdown, or until all handles are dropped, and then sends what is queued.
    /// Never fails by itself: each verdict goes to its submitter.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), Error> {
        let mut flights: FuturesUnordered<BoxFuture<'static, Landed>> = FuturesUnordered::new();
        let (mut open, mut grace) = (true, None);
        loop {
            while flights.len() < self.lanes {
                let Some(batch) = self.queue.take() else { break };
                flights.push(fly(self.store.clone(), batch));
            }
            if !open && flights.is_empty() && self.queue.is_empty() {
                return Ok(());
            }
            let room = self.queue.len() < self.queue_bound;
            let event = tokio::select! {
                biased;
                () = shutdown.cancelled(), if grace.is_none() => Event::Shutdown,
                () = until(grace) => Event::GraceOver,
                Some(landed) = flights.next() => Event::Landed(landed),
                job = self.inbox.recv(), if open && room => Event::Submitted(job),
            };
            match event {
                Event::Shutdown => {
                    self.inbox.close();
                    grace = Some(Instant::now() + DRAIN_GRACE);
                }
                Event::Submitted(Some(job)) => self.queue.push(job),
                Event::Submitted(None) => open = false,
                Event::Landed((batch, verdicts)) => self.queue.land(batch, verdicts),
                Event::GraceOver => {
                    self.give_up();
                    return Ok(());
                }
            }
        }
    }

    /// Those in flight hear that nobody knows, from their dropped reply.
    fn give_up(&mut self) {
        let mut left = 0;
        while let Some(job) = self.queue.pending.pop_front().or_else(|| self.inbox.try_recv().ok()) {
            let _ = job.reply.send(Err(Error::Closed));
            left += 1;
        }
        tracing::warn!(left, "batcher ended before its queue was empty");
    }
}

async fn until(grace: Option<Instant>) {
    match grace {
        Some(end) => tokio::time::sleep_until(end).await,
        None => std::future::pending().await,
    }
}

fn fly(store: Store, batch: Vec<Job>) -> BoxFuture<'static, Landed> {
    Box::pin(async move {
        let (txns, replies): (Vec<Txn>, Vec<_>) = batch.into_iter().map(|job| (job.txn, job.reply)).unzip();
        let verdicts = store.commit_together(&txns).await;
        let jobs = txns.into_iter().zip(replies).map(|(txn, reply)| Job { txn, reply });
        (jobs.collect(), verdicts)
    })
}

/// What waits, and which keys are in flight.
#[derive(Default)]
struct Queue {
    pending: VecDeque<Job>,
    in_flight: Claims,
}

impl Queue {
    fn len(&self) -> usize {
        self.pending.len()
    }

    fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    fn push(&mut self, job: Job) {
        self.pending.push_back(job);
    }

    /// The next request: in order, as many as fit, without any that would get in the way of one in
    /// flight or overtake an earlier one on the same key.
    fn take(&mut self) -> Option<Vec<Job>> {
        let mut batch = Vec::new();
        let (mut load, mut waiting) = (Load::default(), Claims::default());
        let mut index = 0;
        while let Some(job) = self.pending.get(index) {
            if !self.in_flight.admit(&job.txn) || !waiting.admit(&job.txn) {
                waiting.add(&job.txn);
                index += 1;
                continue;
            }
            let Some(loaded) = load.with(&job.txn) else { break };
            load = loaded;
            self.in_flight.add(&job.txn);
            batch.extend(self.pending.remove(index));
        }
        (!batch.is_empty()).then_some(batch)
    }

    fn land(&mut self, batch: Vec<Job>, verdicts: Vec<Verdict>) {
        for (job, verdict) in batch.into_iter().zip(verdicts) {
            self.in_flight.remove(&job.txn);
            // A submitter that has gone does not want to know.
            let _ = job.reply.send(verdict);
        }
    }
}

#[cfg(test)]
#[path = "batcher_tests.rs"]
mod tests;
