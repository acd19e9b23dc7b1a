//! The supervisor of one watcher: lists, follows the stream, and decides how to go on.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Error as ClientError, WatchResponse};
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::{Instant, sleep, sleep_until};

use super::audit::{Audits, Found};
use super::stats::count;
use super::step::{Message, Step, step};
use super::{Change, Watcher};
use crate::Backoff;
use crate::error::{Error, with_sources};

/// A stream that lasted so long was not opened in vain: the next one is opened without much delay.
const LASTED: Duration = Duration::from_secs(1);

/// Why a stream is not followed any longer.
enum Ended {
    Relist(&'static str),
    Reopen(String),
    /// By etcd; the stream was opened with this login.
    Refused {
        cause: String,
        login: u64,
    },
    /// The reader has no room for this batch.
    Slow {
        changes: Vec<Change>,
        upto: i64,
    },
}

enum Event {
    Message(Result<Option<WatchResponse>, ClientError>),
    Silent,
    EndpointFailed,
    Audit(Found),
}

impl Watcher {
    pub(super) async fn supervise(&mut self) -> Infallible {
        let mut backoff = Backoff::default();
        let mut audits = Audits::new(self.config.relist_every, Arc::clone(&self.doubted));
        let mut listed = false;
        loop {
            let began = Instant::now();
            if listed {
                let ended = self.follow(&mut audits).await;
                audits.give_up();
                if began.elapsed() > LASTED {
                    backoff.reset();
                }
                listed = !matches!(ended, Ended::Relist(_));
                self.recover(ended, &mut backoff).await;
            } else if let Err(error) = self.list().await {
                self.complain(&backoff, &error.to_string(), "listing failed");
                pause(&mut backoff).await;
            } else {
                listed = true;
                audits = Audits::new(self.config.relist_every, Arc::clone(&self.doubted));
            }
        }
    }

    /// What there is to do between two streams.
    async fn recover(&mut self, ended: Ended, backoff: &mut Backoff) {
        let range = self.config.range.label();
        match ended {
            Ended::Slow { changes, upto } => {
                // The stream is closed by now; nothing of it waits on the connection.
                count(&self.stats.slow);
                self.deliver(changes).await;
                self.advance(upto);
                return;
            }
            Ended::Relist(why) => tracing::info!(range, why, "listing again"),
            Ended::Reopen(cause) => {
                tracing::debug!(range, cause, seen = self.seen, "watch stream broke, opening another");
            }
            Ended::Refused { cause, login } => {
                self.complain(backoff, &cause, "etcd refuses the watch");
                // An expired login shows up here and nowhere else, since opening the stream went
                // well; and etcd may call it "permission denied". So any refusal gets a new login.
                if let Err(failure) = self.store.connection().renew_login(login).await {
                    self.complain(backoff, &failure.into_error(0).to_string(), "login not renewed");
                }
            }
        }
        count(&self.stats.reopens);
        pause(backoff).await;
    }

    fn complain(&self, backoff: &Backoff, cause: &str, what: &'static str) {
        let (range, attempts) = (self.config.range.label(), backoff.attempts());
        if backoff.is_notable() {
            tracing::warn!(range, cause, attempts, what, "watch interrupted, trying again");
        } else {
            tracing::debug!(range, cause, attempts, what, "watch interrupted");
        }
    }

    /// Shows the whole range at one revision. No stream is open meanwhile, so it may wait for the
    /// reader.
    async fn list(&mut self) -> Result<(), Error> {
        let mut pager = self.store.pager(&self.config.range, self.config.page);
        let mut first = true;
        while let Some(page) = pager.next().await? {
            self.stats.touch();
            let mut changes = Vec::new();
            if std::mem::take(&mut first) {
                if pager.revision() < self.seen {
                    let (range, seen, revision) = (self.config.range.label(), self.seen, pager.revision());
                    tracing::error!(
                        range,
                        seen,
                        revision,
                        "etcd's revisions went back: restored from a backup?"
                    );
                    changes.push(Change::Reset);
                } else if self.seen > 0 {
                    changes.push(Change::Gap);
                }
                changes.push(Change::ListStarted);
            }
            // In parts, so that what waits for the reader is bounded in keys, too.
            for kv in page {
                changes.push(Change::Listed(kv));
                if changes.len() >= self.config.page {
                    self.deliver(std::mem::take(&mut changes)).await;
                }
            }
            self.deliver(changes).await;
        }
        let revision = pager.revision();
        self.deliver(vec![Change::ListEnded { revision }]).await;
        self.advance(revision);
        count(&self.stats.relists);
        Ok(())
    }

    /// Waits for room. If the reader is gone, [`Watcher::run`] ends this anyway.
    async fn deliver(&self, changes: Vec<Change>) {
        if self.outbox.send(changes).await.is_err() {
            tracing::debug!(range = self.config.range.label(), "the reader of the watch is gone");
        }
    }

    fn advance(&mut self, upto: i64) {
        self.seen = upto;
        self.stats.saw(upto);
    }

    /// Hands on what one stream brings until it ends.
    async fn follow(&mut self, audits: &mut Audits) -> Ended {
        let login = self.store.connection().login_generation();
        let answer_limit = self.store.connection().call_timeout;
        // Not from the next revision: if etcd was compacted at exactly that one, it takes the watch and leaves out
        // what was deleted there. What was seen comes once more then, and is not handed on.
        let opened = self.store.open_watch(&self.config.range, self.seen).await;
        let (mut requests, mut messages) = match opened {
            Ok(stream) => stream,
            Err(failure) => return Ended::Reopen(failure.into_error(self.seen).to_string()),
        };
        let slot = self.store.connection().failover.current();
        let mut failure = self.store.connection().failover.failure(slot);
        // etcd owes a first message: that the watch is created.
        let (mut owed, mut patience) = (true, Instant::now() + answer_limit);
        loop {
            let event = tokio::select! {
                biased;
                _ = failure.changed() => Event::EndpointFailed,
                // Rare enough not to keep messages waiting, and never ready because of them.
                found = audits.next(&self.store, &self.config, self.seen) => Event::Audit(found),
                message = messages.message() => Event::Message(message),
                () = sleep_until(patience) => Event::Silent,
            };
            let ended = match event {
                Event::Message(message) => {
                    (owed, patience) = (false, Instant::now() + self.config.silent_after);
                    self.receive(message, audits, login)
                }
                Event::EndpointFailed => Some(Ended::Reopen("calls over the same endpoint failed".into())),
                Event::Silent if owed => {
                    self.store.connection().failover.suspect(slot);
                    Some(Ended::Reopen(format!("nothing heard for {answer_limit:?}")))
                }
                Event::Silent => {
                    (owed, patience) = (true, Instant::now() + answer_limit);
                    let asked = requests.request_progress().await;
                    asked.err().map(|e| Ended::Reopen(with_sources(&e)))
                }
                Event::Audit(found) => {
                    let shows_more = matches!(&found, Found::Last(changes) if self.is_behind(changes));
                    let ended = self.audited(found, audits);
                    if shows_more && !owed && ended.is_none() {
                        // The stream may be silent: ask it now rather than when its time is over.
                        (owed, patience) = (true, Instant::now() + answer_limit);
                        let asked = requests.request_progress().await;
                        asked.err().map(|e| Ended::Reopen(with_sources(&e)))
                    } else {
                        ended
                    }
                }
            };
            if let Some(ended) = ended {
                return ended;
            }
        }
    }

    /// Any error or end is final: a stream that failed yields nonsense when it is read again.
    fn receive(
        &mut self,
        message: Result<Option<WatchResponse>, ClientError>,
        audits: &mut Audits,
        login: u64,
    ) -> Option<Ended> {
        let response = match message {
            Ok(Some(response)) => response,
            Ok(None) => return Some(Ended::Reopen("etcd ended the stream".into())),
            Err(e) => return Some(Ended::Reopen(with_sources(&e))),
        };
        self.stats.touch();
        let message = Message::new(&response, &self.store.connection().unreadable);
        match step(self.seen, message) {
            Step::Alive => None,
            Step::Relist(why) => Some(Ended::Relist(why)),
            Step::Refused(cause) => Some(Ended::Refused { cause, login }),
            Step::Deliver { changes, upto } => {
                audits.note(&changes);
                match self.outbox.try_send(changes) {
                    Err(TrySendError::Full(changes)) => return Some(Ended::Slow { changes, upto }),
                    Ok(()) | Err(TrySendError::Closed(_)) => self.advance(upto),
                }
                None
            }
        }
    }

    /// Whether a listing shows more than the stream has brought.
    fn is_behind(&self, listed: &[Change]) -> bool {
        matches!(listed.last(), Some(Change::ListEnded { revision }) if *revision > self.seen)
    }

    fn audited(&mut self, found: Found, audits: &mut Audits) -> Option<Ended> {
        let (changes, last) = match found {
            Found::Part(changes) => (changes, false),
            Found::Last(changes) => (changes, true),
            Found::WentBack => return Some(Ended::Relist("an audit shows an older revision")),
            Found::Failed(error) => {
                tracing::debug!(range = self.config.range.label(), %error, "audit given up");
                return None;
            }
        };
        match self.outbox.try_send(changes) {
            // The reader has enough to do; what it missed of this audit, the next one brings.
            Err(TrySendError::Full(_)) => audits.give_up(),
            Ok(()) if last => count(&self.stats.audits),
            Ok(()) | Err(TrySendError::Closed(_)) => {}
        }
        None
    }
}

async fn pause(backoff: &mut Backoff) {
    sleep(backoff.next_delay(fastrand::f64())).await;
}
