//! One range of keys as a stream of changes: list, then watch, supervised.
//!
//! ```text
//!             ┌──────── compacted, or etcd's history went back ───────┐
//!             ▼                                                       │
//!   list at revision R ──▶ watch from R + 1 ──▶ changes, an audit now and then
//!                              ▲                                      │
//!                              └─ from the last delivered + 1: ended, failed, silent, slow reader
//! ```
//!
//! The stream is a hint about etcd, never the truth: decisions are guarded where they are written.
//! But it is complete: whatever interrupts it, each change is delivered, or else a listing is.
//!
//! The rule for a reader that keeps a copy of the range:
//!
//! - [`Change::Reset`]: drop all entries; etcd's history is another one now.
//! - [`Change::Put`] and [`Change::Listed`]: apply if `mod_revision` is higher than the entry's.
//! - [`Change::Deleted`]: remove the entry if `revision` is higher than its `mod_revision`.
//! - [`Change::Gap`]: nothing. It is for readers who tell others of each single change.
//! - [`Change::ListStarted`]: forget which keys an earlier listing has shown; it may be unfinished.
//! - [`Change::ListEnded`]: remove each entry that this listing has not shown and whose
//!   `mod_revision` is not higher than the listing's revision.
//!
//! A reader that is slow costs nobody else anything: its stream is closed and resumed later rather
//! than left unread, which would stall every call on the connection.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::{Error, KeyRange, KeyValue, Store};

mod audit;
mod follow;
mod stats;
mod step;

pub use stats::WatchStats;

/// One step of a view of the range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Revisions went back: etcd was restored from a backup. A listing follows.
    Reset,
    /// What happened since the last change is not told one by one: etcd has compacted it. A listing follows.
    Gap,
    /// A listing begins: the first one, one that makes up for lost changes, or an audit, between
    /// whose parts live changes may come.
    ListStarted,
    /// A key as it was at the listing's revision.
    Listed(KeyValue),
    /// The listing is complete and shows this revision.
    ListEnded { revision: i64 },
    /// A key was written. Changes come in the order of their revisions.
    Put(KeyValue),
    /// A key was deleted, or its lease ended.
    Deleted { key: String, revision: i64 },
    /// Nothing else has happened up to this revision.
    Progress { revision: i64 },
}

/// What to watch and how closely to supervise it.
#[derive(Clone, Debug)]
pub struct WatchConfig {
    pub range: KeyRange,
    /// Keys per page of a listing.
    pub page: usize,
    /// After so long without a message, etcd is asked for a sign of life.
    pub silent_after: Duration,
    /// The range is listed so often beside the stream, give or take a fifth, to find what the
    /// stream may have dropped.
    pub relist_every: Duration,
    /// Batches that may wait for the reader.
    pub buffer: usize,
}

impl WatchConfig {
    pub fn new(range: KeyRange) -> Self {
        Self {
            range,
            page: 500,
            silent_after: Duration::from_secs(5),
            relist_every: Duration::from_secs(600),
            buffer: 64,
        }
    }
}

/// Feeds a [`WatchStream`]. Driven by [`Watcher::run`].
pub struct Watcher {
    store: Store,
    config: WatchConfig,
    outbox: mpsc::Sender<Vec<Change>>,
    stats: Arc<stats::Counters>,
    doubted: Arc<Notify>,
    /// Everything up to this revision has been delivered; 0 = nothing yet.
    seen: i64,
}

/// Batches of changes. One batch never holds only a part of a revision, except in a listing.
pub struct WatchStream {
    inbox: mpsc::Receiver<Vec<Change>>,
    stats: WatchStats,
    doubted: Arc<Notify>,
}

impl WatchStream {
    /// The next batch; `None` once the watcher has ended and all is read. Cancel-safe.
    pub async fn next(&mut self) -> Option<Vec<Change>> {
        self.inbox.recv().await
    }

    /// A batch that is already here.
    pub fn try_next(&mut self) -> Option<Vec<Change>> {
        self.inbox.try_recv().ok()
    }

    /// Says that the stream must have dropped something: the range is listed soon, beside the stream.
    pub fn doubt(&self) {
        self.doubted.notify_one();
    }

    pub fn stats(&self) -> WatchStats {
        self.stats.clone()
    }
}

impl Watcher {
    pub fn new(store: Store, config: WatchConfig) -> (Self, WatchStream) {
        let (outbox, inbox) = mpsc::channel(config.buffer.max(1));
        let stats = Arc::new(stats::Counters::default());
        let doubted = Arc::new(Notify::new());
        let stream =
            WatchStream { inbox, stats: WatchStats::new(Arc::clone(&stats)), doubted: Arc::clone(&doubted) };
        (Self { store, config, outbox, stats, doubted, seen: 0 }, stream)
    }

    pub fn stats(&self) -> WatchStats {
        WatchStats::new(Arc::clone(&self.stats))
    }

    /// Runs until the shutdown, or until the [`WatchStream`] is dropped. Whatever etcd does is
    /// waited out, so this never fails.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), Error> {
        let reader = self.outbox.clone();
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            () = reader.closed() => {}
            _ = self.supervise() => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
