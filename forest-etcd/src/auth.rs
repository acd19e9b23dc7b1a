//! The login: one token per connection, fetched by the first call that needs it and renewed once
//! for however many calls find it expired.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use etcd_client::Client;
use tokio::sync::Mutex;

use crate::error::{Error, Failure};

pub(crate) struct Login {
    credentials: Option<(String, String)>,
    /// The token inside is shared with all the other handles of the connection. Locked while a
    /// login is under way, so that callers wait for it instead of adding their own: each costs etcd
    /// a deliberately slow password hash.
    client: Mutex<Client>,
    /// Logins so far; 0 = none yet.
    generation: AtomicU64,
    timeout: Duration,
}

impl Login {
    pub(crate) fn new(client: Client, credentials: Option<(String, String)>, timeout: Duration) -> Self {
        Self { credentials, client: Mutex::new(client), generation: AtomicU64::new(0), timeout }
    }

    pub(crate) fn has_user(&self) -> bool {
        self.credentials.is_some()
    }

    /// Logins so far.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Makes sure that there is a token; the number is what [`renew`](Self::renew) wants to hear.
    pub(crate) async fn ensure(&self) -> Result<u64, Failure> {
        match self.generation() {
            0 if self.has_user() => self.renew(0).await,
            generation => Ok(generation),
        }
    }

    /// Replaces the token of that generation, unless somebody else already did. A failure here is
    /// never [`Failure::Lost`]: the caller's own request was not sent.
    pub(crate) async fn renew(&self, stale: u64) -> Result<u64, Failure> {
        let Some(credentials) = self.credentials.clone() else {
            return Err(Failure::StaleLogin(
                "etcd wants a user and a password, and none is configured".into(),
            ));
        };
        let mut client = self.client.lock().await;
        let generation = self.generation();
        if generation != stale {
            return Ok(generation);
        }
        let answer = tokio::time::timeout(self.timeout, client.update_user(Some(credentials))).await;
        match answer {
            Ok(Ok(())) => {}
            Ok(Err(e)) => match Failure::from_client(&e) {
                // Authentication is switched off: the calls need no token.
                Failure::Refused(Error::Rejected { cause }) if cause.contains("is not enabled") => {}
                Failure::Lost(cause) => return Err(Failure::Unsent(cause)),
                failure => return Err(failure),
            },
            Err(_) => {
                return Err(Failure::Unsent(format!("no answer to the login within {:?}", self.timeout)));
            }
        }
        self.generation.store(generation + 1, Ordering::Release);
        Ok(generation + 1)
    }
}
