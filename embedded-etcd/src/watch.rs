//! Watching: a stream reads the history where it is, at its own pace, and waits for what is to come.
//!
//! Nothing is queued for a stream but the answers to its own requests: one that is slow finds the changes where
//! they are, or hears that they were compacted. The changes of a revision come in one response.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::ops::Bound;
use std::task::{Context, Poll};
use std::time::Duration;

use etcd_client::proto::{PbEvent, PbWatchRequest, PbWatchRequestUnion, PbWatchResponse};
use prost::Message;
use tokio::time::Instant;

use crate::etcd::{Etcd, header};
use crate::mvcc::{Change, Mvcc};
use crate::span::Span;

/// Answers to progress requests, and watches that were not created, have this id.
const NO_WATCH: i64 = -1;
/// A response has the changes of at most so many revisions, as in etcd.
const MAX_REVISIONS: usize = 1_000;
/// And takes up no revision more when it is so large: clients refuse messages of 4 MiB.
const MAX_BYTES: usize = 1024 * 1024;
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
    /// `None`: ended by a compaction. As in etcd, its id is taken until the client cancels it too.
    watches: BTreeMap<i64, Option<Watch>>,
    next_watch: i64,
    /// The watch that was looked at last: the others come first.
    last: i64,
    /// Answers to requests.
    answers: VecDeque<PbWatchResponse>,
    /// Requests for progress, which are answered when nothing else is left to say.
    progress_wanted: u64,
}

struct Watch {
    span: Span,
    /// The first revision that was not looked at.
    from: i64,
    /// It began at this revision, which was the compacted one: of what happened in it, etcd 3.4 tells only what is
    /// still there. A deletion is missed.
    thinned: i64,
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
        let (watches, answers) = (BTreeMap::new(), VecDeque::new());
        Self { etcd, id, watches, next_watch: 0, last: NO_WATCH, answers, progress_wanted: 0 }
    }

    /// Creates or cancels a watch, or asks for progress; the answer comes on the stream.
    pub fn request(&mut self, request: PbWatchRequest) {
        let (revision, compacted) = {
            let state = self.etcd.lock();
            (state.mvcc.revision(), state.mvcc.compacted())
        };
        let mut answer = PbWatchResponse { header: header(revision), ..PbWatchResponse::default() };
        match request.request_union {
            Some(PbWatchRequestUnion::CreateRequest(create)) => {
                answer.created = true;
                let key = if create.key.is_empty() { &[0][..] } else { &create.key };
                let watch = Watch {
                    span: Span::new(key, &create.range_end),
                    from: if create.start_revision == 0 { revision + 1 } else { create.start_revision },
                    thinned: compacted,
                    prev_kv: create.prev_kv,
                    no_put: create.filters.contains(&NO_PUT),
                    no_delete: create.filters.contains(&NO_DELETE),
                    progress_at: create.progress_notify.then(|| Instant::now() + PROGRESS_EVERY),
                };
                match self.add(create.watch_id, watch, compacted) {
                    Ok(id) => answer.watch_id = id,
                    Err(reason) => {
                        (answer.watch_id, answer.canceled) = (NO_WATCH, true);
                        answer.cancel_reason = reason.into();
                    }
                }
            }
            Some(PbWatchRequestUnion::CancelRequest(cancel)) => {
                if self.watches.remove(&cancel.watch_id).is_none() {
                    return;
                }
                (answer.watch_id, answer.canceled) = (cancel.watch_id, true);
            }
            Some(PbWatchRequestUnion::ProgressRequest(_)) => {
                self.progress_wanted += 1;
                return;
            }
            None => return,
        }
        self.answers.push_back(answer);
    }

    /// The id that a new watch gets: the one it asks for, or with 0 the next that is free.
    fn add(&mut self, id: i64, watch: Watch, compacted: i64) -> Result<i64, &'static str> {
        if watch.span.is_empty() {
            return Err("mvcc: watcher range is empty");
        }
        let id = if id == 0 { self.unused_id() } else { id };
        if self.watches.contains_key(&id) {
            return Err("mvcc: duplicate watch ID provided on the WatchStream");
        }
        // One that begins too early hears of it on its turn, after the answer.
        let from = if watch.from < compacted { i64::MIN } else { watch.from };
        self.watches.insert(id, Some(Watch { from, ..watch }));
        Ok(id)
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
            let quiet_until = self.watches.values().flatten().filter_map(|watch| watch.progress_at).min();
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
        if let Some(answer) = self.try_answer() {
            return Some(answer);
        }
        let state = self.etcd.lock();
        let mvcc = &state.mvcc;
        let others = (Bound::Excluded(self.last), Bound::Unbounded);
        let ids: Vec<i64> =
            self.watches.range(others).chain(self.watches.range(..=self.last)).map(|(id, _)| *id).collect();
        for id in ids {
            let Some(slot) = self.watches.get_mut(&id) else { continue };
            let Some(watch) = slot else { continue };
            let mut response = PbWatchResponse { watch_id: id, ..PbWatchResponse::default() };
            match watch.read(mvcc) {
                None => {
                    *slot = None;
                    (response.canceled, response.compact_revision) = (true, mvcc.compacted());
                }
                Some(events) if events.is_empty() => continue,
                Some(events) => {
                    watch.progress_at = watch.progress_at.map(|_| Instant::now() + PROGRESS_EVERY);
                    response.events = events;
                }
            }
            self.last = id;
            return Some(PbWatchResponse { header: header(mvcc.revision()), ..response });
        }
        self.progress_wanted = self.progress_wanted.checked_sub(1)?;
        Some(PbWatchResponse {
            header: header(mvcc.revision()),
            watch_id: NO_WATCH,
            ..PbWatchResponse::default()
        })
    }

    /// An answer to a request, which comes before everything that happens later.
    pub(crate) fn try_answer(&mut self) -> Option<PbWatchResponse> {
        self.answers.pop_front()
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<PbWatchResponse> {
        // Before looking, so that nothing falls between; what is written meanwhile wakes this once more.
        self.etcd.lock().waiting.insert(self.id, cx.waker().clone());
        match self.try_next() {
            Some(response) => Poll::Ready(response),
            None => Poll::Pending,
        }
    }

    /// Up to where each quiet watch has looked.
    fn say_progress(&mut self) {
        let (now, revision) = (Instant::now(), self.etcd.revision());
        for (id, watch) in &mut self.watches {
            let Some(watch) = watch else { continue };
            if watch.progress_at.is_some_and(|at| at <= now) {
                watch.progress_at = Some(now + PROGRESS_EVERY);
                let (header, watch_id) = (header(revision.min(watch.from - 1)), *id);
                self.answers.push_back(PbWatchResponse { header, watch_id, ..PbWatchResponse::default() });
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
    /// What happened since, up to a bound; `None` if that is forgotten.
    fn read(&mut self, mvcc: &Mvcc) -> Option<Vec<PbEvent>> {
        if self.from == self.thinned && self.thinned < mvcc.compacted() {
            // What is still there of it can no longer be known.
            return None;
        }
        let (mut events, mut revisions, mut bytes) = (Vec::new(), 0, 0);
        for (revision, changes) in mvcc.since(self.from)? {
            let before = events.len();
            events.extend(changes.iter().filter_map(|change| self.event(change, mvcc)));
            revisions += usize::from(events.len() > before);
            bytes += events[before..].iter().map(Message::encoded_len).sum::<usize>();
            self.from = revision + 1;
            if revisions >= MAX_REVISIONS || bytes >= MAX_BYTES {
                return Some(events);
            }
        }
        self.from = self.from.max(mvcc.revision() + 1);
        Some(events)
    }

    fn event(&self, change: &Change, mvcc: &Mvcc) -> Option<PbEvent> {
        let is_put = change.after.live.is_some();
        let wanted = if is_put { !self.no_put } else { !self.no_delete };
        if !wanted || !self.span.contains(&change.key) {
            return None;
        }
        let revision = change.after.revision;
        if revision == self.thinned && mvcc.get_at(&change.key, revision) != Some(&change.after) {
            return None;
        }
        // What it was before the whole revision; nobody knows if that is compacted.
        let before = revision - 1;
        let is_new = change.after.live.as_ref().is_some_and(|live| live.create_revision > before);
        let is_wanted = self.prev_kv && !is_new && before >= mvcc.compacted();
        let prev_kv = is_wanted.then(|| mvcc.get_at(&change.key, before));
        Some(PbEvent {
            r#type: if is_put { PUT } else { DELETE },
            kv: Some(change.after.message(&change.key)),
            prev_kv: prev_kv.flatten().map(|before| before.message(&change.key)),
        })
    }
}

#[cfg(test)]
mod tests;
