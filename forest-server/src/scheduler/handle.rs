//! How the rest of the node talks to the scheduler: it reads the view, waits for a revision to be in it,
//! and takes settled runs to collect. The channel stays in here.

use std::time::Duration;

use forest_proto::{NodeId, RunId};
use tokio::sync::{mpsc, oneshot, watch};

use crate::core::clients::Seat;
use crate::core::view::View;
use crate::events::Events;

/// What a reader sees.
pub(crate) struct Reading<'a> {
    pub(crate) view: &'a View,
    pub(crate) node: &'a NodeId,
    /// Whether the wall clock was set and dispatch waits.
    pub(crate) held: bool,
    /// How far this node's clock is off the others'.
    pub(crate) skew_ms: i64,
    /// How long nothing was heard from etcd.
    pub(crate) watch_age: Duration,
}

/// A key whose document is final and can go to the history.
#[derive(Debug, Clone)]
pub(crate) struct Settled {
    pub(crate) run: RunId,
    pub(crate) key: String,
    pub(crate) revision: i64,
    pub(crate) created: i64,
    /// `None`: to be read from etcd.
    pub(crate) value: Option<Vec<u8>>,
    /// A completion that came after the run had been declared lost: by whom.
    pub(crate) late: Option<Seat>,
}

pub(super) enum Query {
    Read(Box<dyn FnOnce(&Reading<'_>) + Send>),
    TakeSettled {
        limit: usize,
        reply: oneshot::Sender<Vec<Settled>>,
    },
    /// These were collected, and are gone from etcd at the revision; or were not, `None`.
    Release {
        keys: Vec<String>,
        gone_at: Option<i64>,
    },
}

/// A cheap clone each.
#[derive(Clone)]
pub(crate) struct SchedulerHandle {
    pub(super) queries: mpsc::Sender<Query>,
    pub(crate) progress: watch::Receiver<Progress>,
    pub(crate) events: Events,
    /// What this node is to log for a while; `None`: as it was configured.
    pub(crate) log_level: watch::Receiver<Option<String>>,
}

/// What waiters wait for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Everything up to this revision is in the view.
    pub(crate) revision: i64,
    /// Whether a first full list is in.
    pub(crate) complete: bool,
    /// Whether this node leads, and something is settled.
    pub(crate) collectable: bool,
    /// Whether this node leads, and changes are written down that are not in the history yet.
    pub(crate) audits: bool,
}

/// The scheduler has ended: the node is shutting down.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unanswered {
    #[error("the node is shutting down")]
    Ended,
    #[error("this node has not caught up with etcd within {0:?}; is etcd reachable?")]
    Behind(Duration),
}

impl SchedulerHandle {
    /// Lets `read` look at the view. It runs on the scheduler's own task: keep it short.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reading<'_>) -> T + Send + 'static,
    ) -> Result<T, Unanswered> {
        let (reply, answer) = oneshot::channel();
        let query = Query::Read(Box::new(move |reading| {
            let _ = reply.send(read(reading));
        }));
        self.queries.send(query).await.map_err(|_| Unanswered::Ended)?;
        answer.await.map_err(|_| Unanswered::Ended)
    }

    /// Waits until what was written at `revision` is in the view.
    pub(crate) async fn caught_up(&self, revision: i64, within: Duration) -> Result<(), Unanswered> {
        let mut progress = self.progress.clone();
        let reached = progress.wait_for(|at| at.complete && at.revision >= revision);
        match tokio::time::timeout(within, reached).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Unanswered::Ended),
            Err(_) => Err(Unanswered::Behind(within)),
        }
    }

    /// Looks whenever the view has changed, until `look` finds what it looks for. `None`: not within that time.
    pub(crate) async fn until<T: Send + 'static>(
        &self,
        within: Duration,
        look: impl Fn(&Reading<'_>) -> Option<T> + Clone + Send + 'static,
    ) -> Result<Option<T>, Unanswered> {
        let mut progress = self.progress.clone();
        let found = async {
            loop {
                let seen = progress.borrow_and_update().revision;
                if let Some(found) = self.read(look.clone()).await? {
                    return Ok(found);
                }
                // While something is collectable every look of ours is told to all who wait: only the view counts.
                progress.wait_for(|at| at.revision > seen).await.map_err(|_| Unanswered::Ended)?;
            }
        };
        tokio::time::timeout(within, found).await.ok().transpose()
    }

    /// Waits until there is something to collect, and takes up to `limit` of it. What is taken is not handed
    /// out again before it is released.
    pub(crate) async fn take_settled(&self, limit: usize) -> Result<Vec<Settled>, Unanswered> {
        let mut progress = self.progress.clone();
        loop {
            progress.wait_for(|at| at.collectable).await.map_err(|_| Unanswered::Ended)?;
            let (reply, answer) = oneshot::channel();
            self.queries.send(Query::TakeSettled { limit, reply }).await.map_err(|_| Unanswered::Ended)?;
            let taken = answer.await.map_err(|_| Unanswered::Ended)?;
            if !taken.is_empty() {
                return Ok(taken);
            }
            progress.mark_unchanged();
            progress.changed().await.map_err(|_| Unanswered::Ended)?;
        }
    }

    pub(crate) async fn release(&self, keys: Vec<String>, gone_at: Option<i64>) {
        // A scheduler that has ended has nothing to release.
        let _ = self.queries.send(Query::Release { keys, gone_at }).await;
    }
}
