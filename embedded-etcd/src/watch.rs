//! Watching: a stream reads the history where it is, at its own pace, and waits for what is to come.
//!
//! Nothing is queued for a stream but the answers to its own requests: one that is slow finds the changes where
//! they are, or hears that they were compacted.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use etcd_client::proto::{PbEvent, PbWatchRequest, PbWatchRequestUnion, PbWatchResponse};
use tokio::time::Instant;

use crate::etcd::{Etcd, header};
use crate::mvcc::{Change, Mvcc};
use crate::span::Span;

/// Answers to progress requests are about no watch in particular.
const NO_WATCH: i64 = -1;
/// A response has the changes of at most so many revisions.
const MAX_REVISIONS: usize = 1_000;
/// A watch that asked for it hears so often that nothing happened.
const PROGRESS_EVERY: Duration = Duration::from_secs(600);
const PUT: i32 = 0;
const DELETE: i32 = 1;
const NO_PUT: i32 = 0;
const NO_DELETE: i32 = 1;

/// One stream of watches. Dropping it ends them.
pub struct WatchStream {
    etcd: Etcd,
    id: u64,
    watches: BTreeMap<i64, Watch>,
    next_watch: i64,
    /// Answers to requests.
    answers: VecDeque<PbWatchResponse>,
}

struct Watch {
    span: Span,
    /// The first revision that was not looked at.
    from: i64,
    prev_kv: bool,
    no_put: bool,
    no_delete: bool,
    /// When to say that nothing happened.
    progress_at: Option<Instant>,
}

impl WatchStream {
    pub(crate) fn new(etcd: Etcd) -> Self {
        let id = {
            let mut state = etcd.lock();
            state.streams += 1;
            state.streams
        };
        Self { etcd, id, watches: BTreeMap::new(), next_watch: 0, answers: VecDeque::new() }
    }

    /// Creates or cancels a watch, or asks for progress; the answer comes on the stream.
    pub fn request(&mut self, request: PbWatchRequest) {
        let revision = self.etcd.revision();
        let mut answer = PbWatchResponse { header: header(revision), ..PbWatchResponse::default() };
        match request.request_union {
            Some(PbWatchRequestUnion::CreateRequest(create)) => {
                answer.created = true;
                answer.watch_id = match create.watch_id {
                    0 => self.unused_id(),
                    id => id,
                };
                if self.watches.contains_key(&answer.watch_id) {
                    answer.canceled = true;
                    answer.cancel_reason = "mvcc: duplicate watch ID provided on the WatchStream".into();
                    answer.watch_id = NO_WATCH;
                } else {
                    let key = if create.key.is_empty() { vec![0] } else { create.key };
                    let watch = Watch {
                        span: Span::new(&key, &create.range_end),
                        from: if create.start_revision > 0 { create.start_revision } else { revision + 1 },
                        prev_kv: create.prev_kv,
                        no_put: create.filters.contains(&NO_PUT),
                        no_delete: create.filters.contains(&NO_DELETE),
                        progress_at: create.progress_notify.then(|| Instant::now() + PROGRESS_EVERY),
                    };
                    self.watches.insert(answer.watch_id, watch);
                }
            }
            Some(PbWatchRequestUnion::CancelRequest(cancel)) => {
                if self.watches.remove(&cancel.watch_id).is_none() {
                    return;
                }
                (answer.watch_id, answer.canceled) = (cancel.watch_id, true);
            }
            Some(PbWatchRequestUnion::ProgressRequest(_)) => answer.watch_id = NO_WATCH,
            None => return,
        }
        self.answers.push_back(answer);
    }

    fn unused_id(&mut self) -> i64 {
        while self.watches.contains_key(&self.next_watch) {
            self.next_watch += 1;
        }
        self.next_watch += 1;
        self.next_watch - 1
    }

    /// The next response. Cancel-safe.
    pub async fn next(&mut self) -> PbWatchResponse {
        loop {
            let quiet_until = self.watches.values().filter_map(|watch| watch.progress_at).min();
            let next = poll_fn(|cx| self.poll_next(cx));
            let Some(quiet_until) = quiet_until else { return next.await };
            match tokio::time::timeout_at(quiet_until, next).await {
                Ok(response) => return response,
                Err(_) => self.say_progress(),
            }
        }
    }

    /// A response that is here already.
    pub fn try_next(&mut self) -> Option<PbWatchResponse> {
        if let Some(answer) = self.answers.pop_front() {
            return Some(answer);
        }
        let state = self.etcd.lock();
        let (ids, mvcc) = (self.watches.keys().copied().collect::<Vec<_>>(), &state.mvcc);
        for id in ids {
            let Some(watch) = self.watches.get_mut(&id) else { continue };
            if watch.from < mvcc.compacted() {
                self.watches.remove(&id);
                return Some(PbWatchResponse {
                    header: header(mvcc.revision()),
                    watch_id: id,
                    canceled: true,
                    compact_revision: mvcc.compacted(),
                    ..PbWatchResponse::default()
                });
            }
            let events = watch.read(mvcc);
            if !events.is_empty() {
                watch.progress_at = watch.progress_at.map(|_| Instant::now() + PROGRESS_EVERY);
                let header = header(mvcc.revision());
                return Some(PbWatchResponse { header, watch_id: id, events, ..PbWatchResponse::default() });
            }
        }
        None
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<PbWatchResponse> {
        // Before looking, so that nothing falls between; what is written meanwhile wakes this once more.
        self.etcd.lock().waiting.insert(self.id, cx.waker().clone());
        match self.try_next() {
            Some(response) => Poll::Ready(response),
            None => Poll::Pending,
        }
    }

    fn say_progress(&mut self) {
        let (now, revision) = (Instant::now(), self.etcd.revision());
        for (id, watch) in &mut self.watches {
            if watch.progress_at.is_some_and(|at| at <= now) {
                watch.progress_at = Some(now + PROGRESS_EVERY);
                let header = header(revision);
                self.answers.push_back(PbWatchResponse {
                    header,
                    watch_id: *id,
                    ..PbWatchResponse::default()
                });
            }
        }
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        self.etcd.lock().waiting.remove(&self.id);
    }
}

impl Watch {
    /// What happened since, up to a bound; never a part of a revision.
    fn read(&mut self, mvcc: &Mvcc) -> Vec<PbEvent> {
        let (mut events, mut revisions) = (Vec::new(), 0);
        for (revision, changes) in mvcc.since(self.from) {
            let before = events.len();
            events.extend(changes.iter().filter_map(|change| self.event(change)));
            revisions += usize::from(events.len() > before);
            self.from = revision + 1;
            if revisions >= MAX_REVISIONS {
                return events;
            }
        }
        self.from = self.from.max(mvcc.revision() + 1);
        events
    }

    fn event(&self, change: &Change) -> Option<PbEvent> {
        let is_put = change.after.live.is_some();
        let wanted = if is_put { !self.no_put } else { !self.no_delete };
        if !wanted || !self.span.contains(&change.key) {
            return None;
        }
        let prev_kv = change.before.as_ref().filter(|_| self.prev_kv);
        Some(PbEvent {
            r#type: if is_put { PUT } else { DELETE },
            kv: Some(change.after.message(&change.key)),
            prev_kv: prev_kv.map(|before| before.message(&change.key)),
        })
    }
}
