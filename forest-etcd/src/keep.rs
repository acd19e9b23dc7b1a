//! Keeping one lease alive: a request every third of its TTL, each answer awaited.
//!
//! An answer counts from the moment its request was sent, and only if it says that the lease has
//! time left: "sent" alone proves nothing. A stream that ends, fails or falls silent is opened
//! again, over another member if there is one, as long as the lease can still be trusted; a stream
//! that failed is never read again.

use std::time::Duration;

use etcd_client::{LeaseKeepAliveStream, LeaseKeeper};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::Backoff;
use crate::error::{Error, Failure, with_sources};
use crate::session::{Lease, Session, deadline, granted};

/// Between two attempts to open a stream; short, because the lease runs out meanwhile.
const REOPEN_FIRST: Duration = Duration::from_millis(50);
const REOPEN_LARGEST: Duration = Duration::from_millis(400);

/// Why a lease is not kept any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Shutdown,
    /// etcd does not have it any more.
    Gone,
    /// Its deadline has passed.
    Overdue,
}

/// Why one stream is not used any longer.
enum Break {
    Reopen(String),
    End(Ending),
}

struct Stream {
    keeper: LeaseKeeper,
    answers: LeaseKeepAliveStream,
    /// The endpoint it goes over.
    slot: usize,
}

impl Session {
    pub(crate) async fn keep(&self, lease: Lease, shutdown: &CancellationToken) -> Ending {
        let mut backoff = Backoff::new(REOPEN_FIRST, REOPEN_LARGEST);
        loop {
            let broken = tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ending::Shutdown,
                broken = self.converse(lease, &mut backoff) => broken,
            };
            match broken {
                Break::End(ending) => return ending,
                Break::Reopen(cause) => {
                    tracing::debug!(lease = lease.id, cause, "keep-alive stream broke, opening another");
                }
            }
            if !backoff.wait(shutdown).await {
                return Ending::Shutdown;
            }
            if self.is_overdue(lease) {
                return Ending::Overdue;
            }
        }
    }

    /// Opens a stream and renews the lease over it until it breaks.
    async fn converse(&self, lease: Lease, backoff: &mut Backoff) -> Break {
        let third = lease.ttl / 3;
        let mut last_sent = Instant::now();
        let mut stream = match self.open(lease, third).await {
            Ok(stream) => stream,
            Err(broken) => return broken,
        };
        backoff.reset();
        loop {
            if let Err(cause) = stream.rest_until(last_sent + third).await {
                return Break::Reopen(cause);
            }
            last_sent = Instant::now();
            let sent = self.clock.boot();
            let seconds = match stream.renew(third).await {
                Ok(seconds) => seconds,
                Err(cause) => {
                    self.connection.failover.suspect(stream.slot);
                    return Break::Reopen(cause);
                }
            };
            if let Err(ending) = self.extend(lease, sent, seconds) {
                return Break::End(ending);
            }
        }
    }

    /// Opening a stream renews the lease for the first time.
    async fn open(&self, lease: Lease, limit: Duration) -> Result<Stream, Break> {
        let slot = self.connection.failover.current();
        let sent = self.clock.boot();
        let call = self.connection.call(|| {
            let mut client = self.connection.lease.clone();
            async move { client.keep_alive(lease.id).await }
        });
        let (keeper, answers) = match timeout(limit, call).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(Failure::Refused(Error::LeaseGone))) => return Err(Break::End(Ending::Gone)),
            Ok(Err(failure)) => return Err(Break::Reopen(failure.into_error(0).to_string())),
            Err(_) => {
                self.connection.failover.suspect(slot);
                return Err(Break::Reopen(format!("no stream within {limit:?}")));
            }
        };
        // The library keeps the first answer's TTL to itself; the granted one is the same.
        let seconds = i64::try_from(lease.ttl.as_secs()).unwrap_or(i64::MAX);
        self.extend(lease, sent, seconds).map_err(Break::End)?;
        Ok(Stream { keeper, answers, slot: self.connection.failover.current() })
    }

    /// Moves the deadline on after an answer to a request that was sent at `sent`. An answer that
    /// comes after the deadline is too late: others may have been told that the lease is lost.
    pub(crate) fn extend(&self, lease: Lease, sent: Duration, seconds: i64) -> Result<(), Ending> {
        let Some(ttl) = granted(seconds) else { return Err(Ending::Gone) };
        let now = self.clock.boot();
        let extended = self.state.send_if_modified(|state| match state {
            Some(held) if held.lease.id == lease.id && now < held.deadline => {
                held.deadline = held.deadline.max(deadline(sent, ttl));
                true
            }
            _ => false,
        });
        if extended { Ok(()) } else { Err(Ending::Overdue) }
    }

    fn is_overdue(&self, lease: Lease) -> bool {
        let held = *self.state.borrow();
        held.is_none_or(|held| held.lease.id != lease.id || self.clock.boot() >= held.deadline)
    }
}

impl Stream {
    /// Waits for the time of the next request, or for the end of the stream.
    async fn rest_until(&mut self, due: Instant) -> Result<(), String> {
        match timeout_at(due, self.answers.message()).await {
            Err(_) => Ok(()),
            Ok(Ok(Some(_))) => Err("etcd answered without being asked".into()),
            Ok(Ok(None)) => Err("etcd ended the stream".into()),
            Ok(Err(e)) => Err(with_sources(&e)),
        }
    }

    /// Asks once and waits for that answer; the seconds the lease has from now on.
    async fn renew(&mut self, limit: Duration) -> Result<i64, String> {
        self.keeper.keep_alive().await.map_err(|e| with_sources(&e))?;
        match timeout(limit, self.answers.message()).await {
            Ok(Ok(Some(answer))) => Ok(answer.ttl()),
            Ok(Ok(None)) => Err("etcd ended the stream".into()),
            Ok(Err(e)) => Err(with_sources(&e)),
            Err(_) => Err(format!("no answer within {limit:?}")),
        }
    }
}
