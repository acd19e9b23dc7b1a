//! A lease whose holder knows, without asking etcd, until when it may rely on it.
//!
//! ```text
//!            grant acknowledged                 keep-alive acknowledged
//!  no lease ────────────────────▶ lease, deadline ───────────┐
//!     ▲                               │   ▲──────────────────┘ deadline moves on
//!     └───────────────────────────────┘
//!       deadline reached, or etcd says the lease is gone
//! ```
//!
//! The deadline counts from the moment the request was *sent*, on the time since boot: sent + TTL
//! as granted - a margin. Past it nobody relies on the lease any more, and it never comes back,
//! even if etcd still has it; a new one is granted instead. So a process that was frozen, or whose
//! session task hangs, stops on time: [`SessionHandle`] looks at the clock, not at the task.
//!
//! The session has a connection of its own, so that no traffic can hold up a keep-alive.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::clock::SharedClock;
use crate::connection::Connection;
use crate::error::{Error, Failure};
use crate::keep::Ending;
use crate::{Backoff, EtcdConfig};

/// Taken off every deadline, but never more than a quarter of the TTL.
const MARGIN: Duration = Duration::from_secs(1);
/// Longest time a waiter goes without looking at the clock: timers do not count suspend.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// For giving a lease back. It expires by itself if that fails.
const REVOKE_TIMEOUT: Duration = Duration::from_secs(1);

/// A lease at the moment it was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    pub id: i64,
    /// As granted; etcd may give more than was asked for.
    pub ttl: Duration,
}

/// A lease with the time since boot at which trust in it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) lease: Lease,
    pub(crate) deadline: Duration,
}

/// Keeps one lease after another alive. Made by [`Session::new`], driven by [`Session::run`].
pub struct Session {
    pub(crate) connection: Connection,
    pub(crate) clock: SharedClock,
    pub(crate) state: watch::Sender<Option<Held>>,
    ttl: Duration,
}

/// A view of the session's lease. Clones see the same one.
#[derive(Clone)]
pub struct SessionHandle {
    state: watch::Receiver<Option<Held>>,
    clock: SharedClock,
}

/// Until when a lease can be trusted that was granted or renewed by a request sent at `sent`.
pub(crate) fn deadline(sent: Duration, ttl: Duration) -> Duration {
    sent + ttl.saturating_sub(MARGIN.min(ttl / 4))
}

impl Session {
    /// Checks the configuration; opens nothing. The TTL is rounded up to whole seconds.
    pub fn new(
        config: &EtcdConfig,
        ttl: Duration,
        clock: SharedClock,
    ) -> Result<(Self, SessionHandle), Error> {
        let ttl = whole_seconds(ttl);
        // A call may not use up the time in which another member could still renew the lease.
        let third = ttl / 3;
        let config = EtcdConfig {
            call_timeout: config.call_timeout.min(third),
            connect_timeout: config.connect_timeout.min(third),
            ..config.clone()
        };
        let (state, view) = watch::channel(None);
        let connection = Connection::new(&config)?;
        let handle = SessionHandle { state: view, clock: clock.clone() };
        Ok((Self { connection, clock, state, ttl }, handle))
    }

    /// Holds a lease until the shutdown, then gives it back. Fails only if etcd refuses such a
    /// lease for good, for example because the TTL is too long.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let mut backoff = Backoff::default();
        while !shutdown.is_cancelled() {
            let granted = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                granted = self.grant() => granted,
            };
            match granted {
                Ok(held) => {
                    tracing::info!(lease = held.lease.id, ttl = ?held.lease.ttl, "lease granted");
                    backoff.reset();
                    self.hold(held, &shutdown).await;
                }
                Err(Failure::Refused(error)) if is_final(&error) => return Err(error),
                Err(failure) if backoff.is_notable() => {
                    tracing::warn!(cause = %failure.into_error(0), "no lease from etcd, trying again");
                }
                Err(failure) => tracing::debug!(cause = %failure.into_error(0), "no lease from etcd"),
            }
            if !backoff.wait(&shutdown).await {
                break;
            }
        }
        Ok(())
    }

    /// Publishes the lease, keeps it alive, and takes it back when that ends.
    async fn hold(&self, held: Held, shutdown: &CancellationToken) {
        let id = held.lease.id;
        self.state.send_replace(Some(held));
        let ending = self.keep(held.lease, shutdown).await;
        self.state.send_replace(None);
        match ending {
            Ending::Shutdown => self.revoke(id).await,
            Ending::Gone => tracing::warn!(lease = id, "etcd says the lease is gone"),
            Ending::Overdue => {
                tracing::warn!(lease = id, "lease not renewed in time, no longer trusted");
                // Whatever hangs on it is ours no more; others need not wait for its expiry.
                self.revoke(id).await;
            }
        }
    }

    async fn grant(&self) -> Result<Held, Failure> {
        let seconds = i64::try_from(self.ttl.as_secs()).unwrap_or(i64::MAX);
        let sent = self.clock.boot();
        let call = self.connection.call(|| {
            let mut lease = self.connection.lease.clone();
            async move { lease.grant(seconds, None).await }
        });
        let answer = call.await?;
        let ttl = granted(answer.ttl()).filter(|_| answer.id() != 0);
        let Some(ttl) = ttl else { return Err(Failure::Lost(format!("no usable lease: {answer:?}"))) };
        let lease = Lease { id: answer.id(), ttl };
        let held = Held { lease, deadline: deadline(sent, ttl) };
        if self.clock.boot() >= held.deadline {
            self.revoke(lease.id).await;
            return Err(Failure::Lost("the answer came after the deadline of the lease".into()));
        }
        Ok(held)
    }

    async fn revoke(&self, id: i64) {
        let call = self.connection.call(|| {
            let mut lease = self.connection.lease.clone();
            async move { lease.revoke(id).await }
        });
        match timeout(REVOKE_TIMEOUT, call).await {
            Ok(Ok(_) | Err(Failure::Refused(Error::LeaseGone))) => {}
            Ok(Err(failure)) => {
                tracing::warn!(lease = id, cause = %failure.into_error(0), "lease not revoked, left to expire");
            }
            Err(_) => tracing::warn!(lease = id, cause = "no answer", "lease not revoked, left to expire"),
        }
    }
}

impl SessionHandle {
    /// The lease, if there is one that can be trusted now.
    pub fn current(&self) -> Option<Lease> {
        let held = (*self.state.borrow())?;
        (self.clock.boot() < held.deadline).then_some(held.lease)
    }

    /// The time since boot at which trust in this lease ends unless it is renewed before; `None`
    /// if it is not the session's lease any more.
    pub fn deadline(&self, lease_id: i64) -> Option<Duration> {
        let held = (*self.state.borrow())?;
        (held.lease.id == lease_id).then_some(held.deadline)
    }

    /// Whether this lease can be relied on now. Cheap enough to be asked before every write.
    pub fn is_trusted(&self, lease_id: i64) -> bool {
        self.current().is_some_and(|lease| lease.id == lease_id)
    }

    /// Waits for a lease that can be trusted. Waits for ever once the session has ended.
    pub async fn opened(&mut self) -> Lease {
        loop {
            let lease = self.state.borrow_and_update().filter(|held| self.clock.boot() < held.deadline);
            if let Some(held) = lease {
                return held.lease;
            }
            if self.state.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits until this lease can no longer be relied on, be it that etcd said so, that the session
    /// ended, or that nobody renewed it in time. Returns within 250 ms of the deadline, and at once
    /// if the process was frozen beyond it.
    pub async fn lost(&mut self, lease_id: i64) {
        loop {
            // Marks the value as seen before looking at it, so that no later change is missed.
            let held = *self.state.borrow_and_update();
            let deadline = held.filter(|held| held.lease.id == lease_id).map(|held| held.deadline);
            let left = deadline.map(|deadline| deadline.saturating_sub(self.clock.boot()));
            let Some(left) = left.filter(|left| !left.is_zero()) else { return };
            let pause = left.min(LOOK_AGAIN);
            match timeout(pause, self.state.changed()).await {
                Ok(Ok(())) | Err(_) => {}
                // The session is gone without a word: only the clock can tell now.
                Ok(Err(_)) => sleep(pause).await,
            }
        }
    }
}

/// The TTL of an answer; `None` if the lease is gone.
pub(crate) fn granted(seconds: i64) -> Option<Duration> {
    u64::try_from(seconds).ok().filter(|seconds| *seconds > 0).map(Duration::from_secs)
}

/// Whether no lease with this TTL will ever be granted. Everything else may be over in a minute.
fn is_final(error: &Error) -> bool {
    matches!(error, Error::Rejected { cause } if cause.contains("lease TTL"))
}

fn whole_seconds(ttl: Duration) -> Duration {
    let rounded = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
    Duration::from_secs(rounded.max(1))
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
