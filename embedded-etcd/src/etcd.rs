//! The store as a whole: each request is one step under one lock, and whoever watches is woken after it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use etcd_client::proto::{
    PbCompactionRequest, PbCompactionResponse, PbDeleteRequest, PbDeleteResponse, PbLeaseGrantRequest,
    PbLeaseGrantResponse, PbLeaseKeepAliveResponse, PbLeaseLeasesResponse, PbLeaseRevokeRequest,
    PbLeaseRevokeResponse, PbLeaseStatus, PbLeaseTimeToLiveRequest, PbLeaseTimeToLiveResponse, PbPutRequest,
    PbPutResponse, PbRangeRequest, PbRangeResponse, PbResponseHeader, PbStatusResponse, PbTxnRequest,
    PbTxnResponse,
};
use prost::Message;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::clock::SharedClock;
use crate::fault::Fault;
use crate::journal::Journal;
use crate::lease::Leases;
use crate::mvcc::Mvcc;
use crate::range;
use crate::txn::{self, Tables};
use crate::watch::WatchStream;

/// etcd's limit for one request, in bytes.
const MAX_REQUEST: usize = 1_536 * 1_024;
/// What this answers when it is asked for its version: that of the etcd whose behaviour it has.
pub(crate) const VERSION: &str = "3.4.23";
pub(crate) const CLUSTER_ID: u64 = 0x0f0e_57ed;
pub(crate) const MEMBER_ID: u64 = 1;
/// How many changes are kept when nobody compacts. A revision may have a hundred of them.
const KEPT_CHANGES: usize = 50_000;
/// Between two times that the file is forced to the disk.
const SYNC_EVERY: Duration = Duration::from_millis(100);
/// How often the older ones are dropped.
const COMPACT_EVERY: Duration = Duration::from_secs(5);

/// An etcd in this process. Clones are the same one.
#[derive(Clone)]
pub struct Etcd {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    state: Mutex<State>,
    clock: SharedClock,
    /// A lease was granted, which may be the next to end.
    leased: Notify,
}

pub(crate) struct State {
    pub(crate) mvcc: Mvcc,
    leases: Leases,
    /// Streams that wait for the next revision.
    pub(crate) waiting: BTreeMap<u64, Waker>,
    pub(crate) streams: u64,
    journal: Option<Journal>,
}

impl State {
    fn header(&self) -> Option<PbResponseHeader> {
        header(self.mvcc.revision())
    }

    fn tables(&mut self) -> Tables<'_> {
        Tables { mvcc: &mut self.mvcc, leases: &mut self.leases }
    }

    /// Makes the changes of a step a revision.
    fn commit(&mut self) {
        let Some(revision) = self.mvcc.commit() else { return };
        if let Some(journal) = &mut self.journal {
            journal.changed(revision);
        }
        std::mem::take(&mut self.waiting).into_values().for_each(Waker::wake);
    }

    fn revoke(&mut self, id: i64) -> Result<(), Fault> {
        let lease = self.leases.remove(id).ok_or(Fault::LeaseNotFound)?;
        for key in &lease.keys {
            self.mvcc.delete(key);
        }
        // Written first: without its keys a lease can end once more, but not the other way round.
        self.commit();
        if let Some(journal) = &mut self.journal {
            journal.revoked(id);
        }
        Ok(())
    }

    fn compact(&mut self, revision: i64) -> Result<(), Fault> {
        self.mvcc.compact(revision)?;
        if let Some(journal) = &mut self.journal {
            journal.compacted(revision);
        }
        // Watches that are far behind end.
        std::mem::take(&mut self.waiting).into_values().for_each(Waker::wake);
        Ok(())
    }
}

pub(crate) fn header(revision: i64) -> Option<PbResponseHeader> {
    Some(PbResponseHeader { cluster_id: CLUSTER_ID, member_id: MEMBER_ID, revision, raft_term: 2 })
}

fn check_size(request: &impl Message) -> Result<(), Fault> {
    if request.encoded_len() > MAX_REQUEST { Err(Fault::RequestTooLarge) } else { Ok(()) }
}

impl Etcd {
    /// An empty one that lives in memory alone.
    #[must_use]
    pub fn new(clock: SharedClock) -> Self {
        Self::with(Mvcc::new(), Leases::default(), None, clock)
    }

    pub(crate) fn with(mvcc: Mvcc, leases: Leases, journal: Option<Journal>, clock: SharedClock) -> Self {
        let state = State { mvcc, leases, waiting: BTreeMap::new(), streams: 0, journal };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), clock, leased: Notify::new() }) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest revision.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.lock().mvcc.revision()
    }

    /// # Errors
    /// As etcd: an empty key, a revision that is compacted or to come.
    pub fn range(&self, request: &PbRangeRequest) -> Result<PbRangeResponse, Status> {
        range::check(request)?;
        let state = self.lock();
        let answer = range::range(&state.mvcc, request)?;
        Ok(PbRangeResponse { header: state.header(), ..answer })
    }

    /// # Errors
    /// As etcd: an empty key, an unknown lease, a request that is too large.
    pub fn put(&self, request: &PbPutRequest) -> Result<PbPutResponse, Status> {
        txn::check_put(request)?;
        check_size(request)?;
        let mut state = self.lock();
        let mut tables = state.tables();
        tables.has_lease(request)?;
        tables.has_earlier(request)?;
        let answer = tables.put(request);
        state.commit();
        Ok(PbPutResponse { header: state.header(), ..answer })
    }

    /// # Errors
    /// As etcd: an empty key.
    pub fn delete_range(&self, request: &PbDeleteRequest) -> Result<PbDeleteResponse, Status> {
        txn::check_delete(request)?;
        check_size(request)?;
        let mut state = self.lock();
        let answer = state.tables().delete_range(request);
        state.commit();
        Ok(PbDeleteResponse { header: state.header(), ..answer })
    }

    /// # Errors
    /// As etcd. A transaction that is refused has changed nothing.
    pub fn txn(&self, request: &PbTxnRequest) -> Result<PbTxnResponse, Status> {
        txn::check(request)?;
        if !txn::is_read_only(request) {
            check_size(request)?;
        }
        let mut state = self.lock();
        let mut answer = txn::txn(&mut state.tables(), request)?;
        state.commit();
        answer.header = state.header();
        Ok(answer)
    }

    /// # Errors
    /// As etcd: a revision that is compacted or to come.
    pub fn compact(&self, request: &PbCompactionRequest) -> Result<PbCompactionResponse, Status> {
        let mut state = self.lock();
        state.compact(request.revision)?;
        Ok(PbCompactionResponse { header: state.header() })
    }

    /// # Errors
    /// As etcd: an id that is taken, a time that is too long.
    pub fn lease_grant(&self, request: &PbLeaseGrantRequest) -> Result<PbLeaseGrantResponse, Status> {
        let now = self.shared.clock.now();
        let mut state = self.lock();
        let (id, ttl) = state.leases.grant(request.id, request.ttl, now)?;
        if let Some(journal) = &mut state.journal {
            journal.granted(id, ttl);
        }
        let header = state.header();
        drop(state);
        self.shared.leased.notify_one();
        Ok(PbLeaseGrantResponse { header, id, ttl, error: String::new() })
    }

    /// # Errors
    /// As etcd: a lease that is not there.
    pub fn lease_revoke(&self, request: &PbLeaseRevokeRequest) -> Result<PbLeaseRevokeResponse, Status> {
        let mut state = self.lock();
        state.revoke(request.id)?;
        Ok(PbLeaseRevokeResponse { header: state.header() })
    }

    /// A lease that is gone is answered with a time of 0, which is no error.
    #[must_use]
    pub fn lease_keep_alive(&self, id: i64) -> PbLeaseKeepAliveResponse {
        let now = self.shared.clock.now();
        let mut state = self.lock();
        let ttl = state.leases.renew(id, now).unwrap_or(0);
        PbLeaseKeepAliveResponse { header: state.header(), id, ttl }
    }

    #[must_use]
    pub fn lease_time_to_live(&self, request: &PbLeaseTimeToLiveRequest) -> PbLeaseTimeToLiveResponse {
        let now = self.shared.clock.now();
        let state = self.lock();
        let header = state.header();
        let Some(lease) = state.leases.get(request.id) else {
            return PbLeaseTimeToLiveResponse { header, id: request.id, ttl: -1, ..Default::default() };
        };
        let left = lease.ends_at.saturating_sub(now).as_secs();
        PbLeaseTimeToLiveResponse {
            header,
            id: request.id,
            ttl: i64::try_from(left).unwrap_or(i64::MAX),
            granted_ttl: lease.ttl,
            keys: if request.keys { lease.keys.iter().cloned().collect() } else { Vec::new() },
        }
    }

    #[must_use]
    pub fn leases(&self) -> PbLeaseLeasesResponse {
        let state = self.lock();
        let leases = state.leases.ids().map(|id| PbLeaseStatus { id }).collect();
        PbLeaseLeasesResponse { header: state.header(), leases }
    }

    #[must_use]
    pub fn status(&self) -> PbStatusResponse {
        let state = self.lock();
        let index = u64::try_from(state.mvcc.revision()).unwrap_or(0);
        PbStatusResponse {
            header: state.header(),
            version: VERSION.into(),
            leader: MEMBER_ID,
            raft_index: index,
            raft_term: 2,
            raft_applied_index: index,
            ..PbStatusResponse::default()
        }
    }

    /// A stream that can carry many watches.
    #[must_use]
    pub fn watch(&self) -> WatchStream {
        WatchStream::new(self.clone())
    }

    /// Ends the leases whose time is over; how long until the next one ends.
    pub fn expire(&self) -> Option<Duration> {
        let now = self.shared.clock.now();
        let mut state = self.lock();
        for id in state.leases.ended(now) {
            // It was there a line ago.
            let _ = state.revoke(id);
        }
        state.leases.next_end().map(|end| end.saturating_sub(now))
    }

    /// Ends leases in time, drops old revisions, and writes what is to be kept, until the shutdown.
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut compact_at = tokio::time::Instant::now() + COMPACT_EVERY;
        while !shutdown.is_cancelled() {
            // Timers may be a little early, and then there is nothing to end yet.
            let next = self.expire().map_or(COMPACT_EVERY, |next| next.max(Duration::from_millis(1)));
            let flush = self.flush().await;
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {}
                () = self.shared.leased.notified() => {}
                () = tokio::time::sleep(flush.map_or(next, |flush| next.min(flush))) => {}
                () = tokio::time::sleep_until(compact_at) => {
                    compact_at += COMPACT_EVERY;
                    self.forget_old();
                }
            }
        }
        self.flush().await;
    }

    fn forget_old(&self) {
        let mut state = self.lock();
        let oldest = state.mvcc.revision_before(KEPT_CHANGES);
        if oldest > state.mvcc.compacted() {
            // Checked in the line before.
            let _ = state.compact(oldest);
        }
    }

    /// Forces to the disk what was written; when to look again, if anything is written at all.
    async fn flush(&self) -> Option<Duration> {
        let file = {
            let State { journal, mvcc, leases, .. } = &mut *self.lock();
            let journal = journal.as_mut()?;
            journal.tidy(mvcc, leases);
            journal.take_unsynced()
        };
        if let Some(file) = file {
            let synced = tokio::task::spawn_blocking(move || file.sync_data()).await;
            let synced = synced.unwrap_or_else(|failed| Err(failed.into()));
            if let Some(journal) = &mut self.lock().journal {
                journal.check(synced, "sync");
            }
        }
        Some(SYNC_EVERY)
    }
}

#[cfg(test)]
mod tests;
