//! One HTTP/2 connection with everything a call over it needs: fail-over, login, deadline, verdict.
//!
//! Two kinds of call. [`Connection::call`] repeats only what certainly was not executed (no
//! connection, expired login) and is fit for writes. [`Connection::read`] repeats lost answers too.

use std::future::Future;
use std::time::Duration;

use etcd_client::{Client, ConnectOptions, KvClient, LeaseClient, MaintenanceClient, WatchClient};
use futures_util::FutureExt;
use tokio::time::timeout;

use crate::auth::Login;
use crate::channel::Failover;
use crate::error::{Error, Failure};
use crate::kv::Unreadable;
use crate::{Backoff, EtcdConfig};

/// Largest answer that is read. A page of a listing that would be larger is asked for in halves.
const MAX_ANSWER: usize = 64 << 20;

pub(crate) struct Connection {
    pub(crate) kv: KvClient,
    pub(crate) watch: WatchClient,
    pub(crate) lease: LeaseClient,
    pub(crate) maintenance: MaintenanceClient,
    pub(crate) failover: Failover,
    pub(crate) unreadable: Unreadable,
    /// Until an answer begins.
    pub(crate) call_timeout: Duration,
    login: Login,
}

impl Connection {
    /// Opens nothing: the first call does.
    pub(crate) fn new(config: &EtcdConfig) -> Result<Self, Error> {
        let failover = Failover::new(config.build()?, config.transport.as_ref(), config.call_timeout);
        // A member that lost its leader says so at once instead of letting calls time out.
        let options = ConnectOptions::new().with_require_leader(true);
        // Without a user this future has nothing to wait for.
        let client = Client::from_channel(failover.channel(), Some(options)).now_or_never();
        let client = match client {
            Some(Ok(client)) => client,
            Some(Err(e)) => return Err(Failure::from_client(&e).into_error(0)),
            None => return Err(Error::Rejected { cause: "the etcd client library wants to connect".into() }),
        };
        Ok(Self {
            kv: client.kv_client().max_decoding_message_size(MAX_ANSWER),
            watch: client.watch_client().max_decoding_message_size(MAX_ANSWER),
            lease: client.lease_client(),
            maintenance: client.maintenance_client(),
            unreadable: Unreadable::default(),
            call_timeout: config.call_timeout,
            login: Login::new(client, config.credentials()?, whole_answer(config.call_timeout)),
            failover,
        })
    }

    /// Runs one call under the deadline, logged in; sends it again only if it certainly was not
    /// executed: once after an expired login, and once to each further endpoint while no
    /// connection can be made.
    pub(crate) async fn call<T, F, Fut>(&self, operation: F) -> Result<T, Failure>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, etcd_client::Error>>,
    {
        let limit = whole_answer(self.call_timeout);
        let (mut renewed, mut unsent) = (false, 1);
        loop {
            let login = match self.login.ensure().await {
                Ok(login) => login,
                Err(Failure::Unsent(_)) if unsent < self.failover.endpoints() => {
                    unsent += 1;
                    continue;
                }
                Err(failure) => return Err(failure),
            };
            let slot = self.failover.current();
            let begun = tokio::time::Instant::now();
            let result = timeout(limit, operation()).await;
            let took = begun.elapsed();
            let failure = match result {
                Ok(Ok(answer)) => {
                    measure(took, "ok");
                    return Ok(answer);
                }
                Ok(Err(e)) => Failure::from_client(&e),
                Err(_) => {
                    self.failover.suspect(slot);
                    Failure::Lost(format!("no complete answer within {limit:?}"))
                }
            };
            measure(took, failure.name());
            match failure {
                Failure::StaleLogin(_) if self.login.has_user() && !renewed => {
                    renewed = true;
                    self.login.renew(login).await?;
                }
                Failure::Unsent(_) if unsent < self.failover.endpoints() => unsent += 1,
                failure => return Err(failure),
            }
        }
    }

    /// As [`call`](Self::call), and again after a lost answer: each endpoint gets its chance, and
    /// a lone one a second.
    pub(crate) async fn read<T, F, Fut>(&self, operation: F) -> Result<T, Failure>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, etcd_client::Error>>,
    {
        let attempts = self.failover.endpoints().max(2);
        let mut backoff = Backoff::default();
        for _ in 1..attempts {
            match self.call(&operation).await {
                Err(Failure::Lost(cause) | Failure::Unsent(cause)) => {
                    tracing::debug!(cause, "read again");
                    tokio::time::sleep(backoff.next_delay(fastrand::f64())).await;
                }
                verdict => return verdict,
            }
        }
        self.call(&operation).await
    }

    /// Which login calls use now, to be handed to [`renew_login`](Self::renew_login).
    pub(crate) fn login_generation(&self) -> u64 {
        self.login.generation()
    }

    /// Logs in anew after a stream opened with that login was refused, which leaves no status to
    /// judge by. Costs etcd one login for however many streams were refused together.
    pub(crate) async fn renew_login(&self, stale: u64) -> Result<(), Failure> {
        if self.login.has_user() {
            self.login.renew(stale).await?;
        }
        Ok(())
    }
}

/// The channel's own deadline covers the time until an answer begins; this one covers all of it.
/// It is longer, so that the channel notices a dead endpoint first and changes it.
fn whole_answer(call_timeout: Duration) -> Duration {
    call_timeout * 2
}

/// How long a call took, for whoever records metrics in this process.
fn measure(took: Duration, result: &'static str) {
    metrics::histogram!("forest_etcd_request_seconds", "result" => result).record(took);
}
