//! A listing beside the running stream, to find what the stream may have dropped.
//!
//! Its revision is higher than everything delivered before it began, so all that can go wrong is
//! that a live change overtakes it. A newer put is the reader's to notice, by its revision. A
//! deletion leaves the reader nothing to compare with: it is remembered here, and the key is left
//! out of the listing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::watch::{Change, WatchConfig};
use crate::{Error, KeyValue, Pager, Store};

/// More deletions than this during one audit, and it is given up.
const MAX_DELETED: usize = 100_000;
/// An audit that was given up is tried again after this fraction of the period.
const SOONER: u32 = 10;

type Page = (Pager, Result<Option<Vec<KeyValue>>, Error>);

/// Between two audits that were asked for.
const PAUSE: Duration = Duration::from_secs(2);

/// When the next audit is due, or the one that is running.
pub(super) struct Audits {
    due: Instant,
    /// Where the reader says that something is missing.
    doubted: Arc<Notify>,
    /// Not before this, even if it is asked for.
    earliest: Instant,
    every: Duration,
    running: Option<Running>,
}

struct Running {
    page: BoxFuture<'static, Page>,
    overtaken: Overtaken,
    first: bool,
    /// What had been delivered when it began.
    floor: i64,
}

/// Keys that were deleted since the audit began, with the revision of that.
#[derive(Default)]
struct Overtaken(HashMap<String, i64>);

/// What a page means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Part(Vec<Change>),
    Last(Vec<Change>),
    /// Given up; tried again sooner than usual.
    Failed(Error),
    /// The listing shows less than was delivered before it began.
    WentBack,
}

impl Audits {
    pub(super) fn new(every: Duration, doubted: Arc<Notify>) -> Self {
        let now = Instant::now();
        Self { due: now + spread(every, fastrand::f64()), doubted, earliest: now, every, running: None }
    }

    /// Waits until the audit is due, starts it, waits for its next page. Cancel-safe.
    pub(super) async fn next(&mut self, store: &Store, config: &WatchConfig, seen: i64) -> Found {
        if self.running.is_none() {
            self.wait().await;
            self.running = Some(Running::start(store.pager(&config.range, config.page), seen));
        }
        let Some(running) = &mut self.running else { return Found::Part(Vec::new()) };
        let (pager, page) = (&mut running.page).await;
        let found = running.found(pager, page);
        match &found {
            Found::Part(_) => {}
            Found::Last(_) | Found::WentBack => self.end(self.every),
            Found::Failed(_) => self.give_up(),
        }
        found
    }

    async fn wait(&mut self) {
        loop {
            tokio::select! {
                biased;
                () = self.doubted.notified() => self.due = self.due.min(self.earliest),
                () = tokio::time::sleep_until(self.due) => return,
            }
        }
    }

    pub(super) fn give_up(&mut self) {
        if self.running.is_some() {
            self.end(self.every / SOONER);
        }
    }

    fn end(&mut self, pause: Duration) {
        self.running = None;
        let now = Instant::now();
        (self.due, self.earliest) = (now + spread(pause, fastrand::f64()), now + PAUSE);
    }

    /// Live changes that may overtake the running audit.
    pub(super) fn note(&mut self, changes: &[Change]) {
        let Some(running) = &mut self.running else { return };
        running.overtaken.note(changes);
        if running.overtaken.0.len() > MAX_DELETED {
            self.give_up();
        }
    }
}

impl Running {
    fn start(pager: Pager, floor: i64) -> Self {
        Self { page: fetch(pager), overtaken: Overtaken::default(), first: true, floor }
    }

    fn found(&mut self, pager: Pager, page: Result<Option<Vec<KeyValue>>, Error>) -> Found {
        let revision = pager.revision();
        let page = match page {
            Ok(page) => page,
            Err(error) => return Found::Failed(error),
        };
        if revision < self.floor {
            return Found::WentBack;
        }
        let mut changes = Vec::new();
        if std::mem::take(&mut self.first) {
            changes.push(Change::ListStarted);
        }
        match page {
            Some(kvs) => {
                self.page = fetch(pager);
                changes.extend(kvs.into_iter().filter(|kv| self.overtaken.admit(kv)).map(Change::Listed));
                Found::Part(changes)
            }
            None => {
                changes.push(Change::ListEnded { revision });
                Found::Last(changes)
            }
        }
    }
}

impl Overtaken {
    fn note(&mut self, changes: &[Change]) {
        for change in changes {
            if let Change::Deleted { key, revision } = change {
                self.0.insert(key.clone(), *revision);
            }
        }
    }

    fn admit(&self, kv: &KeyValue) -> bool {
        self.0.get(&kv.key).is_none_or(|deleted| *deleted < kv.mod_revision)
    }
}

fn fetch(mut pager: Pager) -> BoxFuture<'static, Page> {
    Box::pin(async move {
        let page = pager.next().await;
        (pager, page)
    })
}

/// The period, give or take a fifth, so that watchers which began together do not list together.
fn spread(every: Duration, random: f64) -> Duration {
    every.mul_f64(0.8 + 0.4 * random)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kv(mod_revision: i64) -> KeyValue {
        KeyValue { key: "/a".into(), value: vec![], create_revision: 1, mod_revision, version: 1, lease: 0 }
    }

    #[test]
    fn a_key_deleted_meanwhile_does_not_come_back() {
        let mut overtaken = Overtaken::default();
        assert!(overtaken.admit(&kv(5)));
        overtaken.note(&[Change::Put(kv(6)), Change::Deleted { key: "/a".into(), revision: 7 }]);
        assert!(!overtaken.admit(&kv(6)));
        // Created again after that, and listed so.
        assert!(overtaken.admit(&kv(8)));
    }

    #[test]
    fn the_period_varies_by_a_fifth() {
        let ten = Duration::from_secs(10);
        assert_eq!(spread(ten, 0.0), Duration::from_secs(8));
        assert_eq!(spread(ten, 1.0), Duration::from_secs(12));
    }
}
