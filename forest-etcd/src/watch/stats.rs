//! Counters of one watcher, for metrics and for whoever wonders whether it is alive.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// A cheap view of a watcher's counters.
#[derive(Clone, Debug)]
pub struct WatchStats(Arc<Counters>);

#[derive(Debug)]
pub(super) struct Counters {
    born: Instant,
    /// Milliseconds after `born`.
    last_message: AtomicU64,
    seen: AtomicI64,
    pub(super) reopens: AtomicU64,
    pub(super) relists: AtomicU64,
    pub(super) audits: AtomicU64,
    pub(super) slow: AtomicU64,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            born: Instant::now(),
            last_message: AtomicU64::new(0),
            seen: AtomicI64::new(0),
            reopens: AtomicU64::new(0),
            relists: AtomicU64::new(0),
            audits: AtomicU64::new(0),
            slow: AtomicU64::new(0),
        }
    }
}

impl Counters {
    /// etcd has said something.
    pub(super) fn touch(&self) {
        let age = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_message.store(age, Ordering::Relaxed);
    }

    pub(super) fn saw(&self, revision: i64) {
        self.seen.store(revision, Ordering::Relaxed);
    }
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl WatchStats {
    pub(super) fn new(counters: Arc<Counters>) -> Self {
        Self(counters)
    }

    /// Time since etcd last said anything about this range. More than `silent_after` and a call's
    /// timeout together means that the view cannot be kept up at present.
    pub fn last_message_age(&self) -> Duration {
        let last = Duration::from_millis(self.0.last_message.load(Ordering::Relaxed));
        self.0.born.elapsed().saturating_sub(last)
    }

    /// Everything up to this revision has been delivered; 0 before the first listing.
    pub fn seen(&self) -> i64 {
        self.0.seen.load(Ordering::Relaxed)
    }

    /// Streams that ended and were opened again.
    pub fn reopens(&self) -> u64 {
        self.0.reopens.load(Ordering::Relaxed)
    }

    /// Complete listings, the first one included, without the audits.
    pub fn relists(&self) -> u64 {
        self.0.relists.load(Ordering::Relaxed)
    }

    /// Complete audits.
    pub fn audits(&self) -> u64 {
        self.0.audits.load(Ordering::Relaxed)
    }

    /// Streams closed because their reader was too slow.
    pub fn slow_reader(&self) -> u64 {
        self.0.slow.load(Ordering::Relaxed)
    }
}
