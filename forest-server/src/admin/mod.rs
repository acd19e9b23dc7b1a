//! The administration: operations, validation and their errors in one place. Faces (gRPC now) only translate.
//!
//! Any node serves any call. Reads come from the node's own view and from the history; writes go to etcd as
//! guarded transactions and are answered once the node's own view shows them.

mod calendars;
mod cluster;
mod error;
mod explain;
mod fires;
mod groups;
mod jobs;
mod requests;
mod runs;
mod shards;
mod validate;
mod write;

use std::sync::Arc;

use forest_etcd::{SharedClock, Store};
use forest_proto::Keyspace;
use forest_proto::time::Instant;

pub(crate) use calendars::StoredCalendar;
#[cfg(test)]
pub(crate) use calendars::read_days;
pub(crate) use cluster::{ClientSummary, ClusterSummary, NodeSummary};
pub(crate) use error::AdminError;
pub(crate) use fires::{Fire, FireQuery};
pub(crate) use groups::GroupSummary;
pub(crate) use jobs::{JobFilter, StoredJob};
pub(crate) use runs::{RunFilter, RunState, RunSummary};

use crate::core::clock_guard::MAX_SKEW_MS;
use crate::scheduler::{Reading, SchedulerHandle};
use crate::store::History;

/// What an administrator can do. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Admin {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    scheduler: SchedulerHandle,
    history: History,
    clock: SharedClock,
    keys: Keyspace,
    /// The zone of jobs that do not say.
    default_zone: String,
}

/// A page of at most so many, after an opaque token.
#[derive(Debug, Clone, Default)]
pub(crate) struct PageRequest {
    pub(crate) size: u32,
    pub(crate) token: String,
}

const PAGE: u32 = 50;
const MAX_PAGE: u32 = 200;

impl PageRequest {
    fn size(&self) -> Result<usize, AdminError> {
        match self.size {
            0 => Ok(PAGE as usize),
            size if size <= MAX_PAGE => Ok(size as usize),
            size => Err(AdminError::invalid("page_size", format!("{size} is more than {MAX_PAGE}"))),
        }
    }

    /// The name after which the page begins.
    fn after<T: std::str::FromStr>(&self) -> Result<Option<T>, AdminError> {
        match self.token.as_str() {
            "" => Ok(None),
            token => token.parse().map(Some).map_err(|_| {
                AdminError::invalid(
                    "page_token",
                    "is not one that an earlier page gave: begin again without one",
                )
            }),
        }
    }
}

/// A page and where the next one begins; empty at the end.
#[derive(Debug)]
pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    pub(crate) next: String,
}

impl<T> Page<T> {
    /// From one item more than the page holds, if there is one.
    fn of(mut items: Vec<T>, size: usize, token: impl Fn(&T) -> String) -> Self {
        let more = items.len() > size;
        items.truncate(size);
        let next = items.last().filter(|_| more).map(token).unwrap_or_default();
        Self { items, next }
    }
}

impl Admin {
    pub(crate) fn new(
        store: Store,
        scheduler: SchedulerHandle,
        history: History,
        clock: SharedClock,
        keys: Keyspace,
        default_zone: String,
    ) -> Self {
        Self { inner: Arc::new(Inner { store, scheduler, history, clock, keys, default_zone }) }
    }

    fn now(&self) -> Instant {
        Instant::from_ms(self.inner.clock.wall_ms())
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reading<'_>) -> T + Send + 'static,
    ) -> Result<T, AdminError> {
        self.inner.scheduler.caught_up(0, write::VIEW_PATIENCE).await?;
        Ok(self.inner.scheduler.read(read).await?)
    }

    /// A change of a schedule counts from the wall clock of the node that takes it: not from a wrong one. Whole
    /// seconds, so that intervals fire on them.
    async fn trusted_now(&self) -> Result<Instant, AdminError> {
        let skew_ms = self.read(|reading| reading.skew_ms).await?;
        if skew_ms.abs() > MAX_SKEW_MS {
            return Err(AdminError::ClockSkew { skew_ms });
        }
        Ok(Instant::from_ms(self.now().as_ms() / 1000 * 1000))
    }
}
