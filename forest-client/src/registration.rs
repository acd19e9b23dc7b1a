//! One registration: an id that nobody had before, on one lease.
//!
//! The id is new for every registration, so that "this client is gone" stays true for ever: a process
//! that lost its lease comes back as somebody else. What the registration says besides is the worker's
//! [`Profile`], the same every time.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use forest_etcd::{Backoff, Error, Lease, Outcome, Txn};
use forest_proto::record::ClientRecord;
use forest_proto::time::Instant;
use forest_proto::{ClientId, TargetName};

use crate::cluster::Cluster;

/// What stays of a name in front of the random part of an id.
const NAME_IN_ID: usize = 48;
/// After a lost lease, new registrations are spread over this time: when etcd comes back after an
/// outage, every client of the cluster does this at once.
const SPREAD: Duration = Duration::from_millis(500);

/// What a worker says of itself.
#[derive(Debug, Clone)]
pub(crate) struct Profile {
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) capacity: u32,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) targets: Vec<TargetName>,
}

/// A registration that etcd has acknowledged.
#[derive(Debug, Clone)]
pub(crate) struct Registration {
    pub(crate) client: ClientId,
    pub(crate) lease: Lease,
    /// Its key.
    pub(crate) key: String,
    /// The create revision of the key: what claims are guarded with.
    pub(crate) revision: i64,
    record: ClientRecord,
}

/// Waits for a lease and registers on it, as often as it takes.
pub(crate) async fn register(mut cluster: Cluster, profile: Arc<Profile>, again: bool) -> Registration {
    if again {
        tokio::time::sleep(SPREAD.mul_f64(fastrand::f64())).await;
    }
    loop {
        let lease = cluster.session.opened().await;
        if let Some(registration) = register_on(&cluster, &profile, lease).await {
            tracing::info!(group = %cluster.group, client = %registration.client, lease = lease.id, "registered");
            return registration;
        }
    }
}

/// `None`: the lease ended, or somebody has that id.
async fn register_on(cluster: &Cluster, profile: &Profile, lease: Lease) -> Option<Registration> {
    let client = new_id(&profile.name, (cluster.random)());
    let key = cluster.keys.client(&cluster.group, &client);
    let record = profile.record(lease, cluster.now());
    let txn = Txn::new().absent(&key).put_leased(&key, record.write(), lease.id).or_get(&key);
    let mut backoff = Backoff::default();
    while cluster.session.is_trusted(lease.id) {
        let cause = match cluster.store.commit(txn.clone()).await {
            Ok(Outcome::Applied { revision }) => {
                return Some(Registration { client, lease, key, revision, record });
            }
            // Written by an attempt whose reply was lost: nobody else knows this lease.
            Ok(Outcome::Refused { found, .. }) => {
                let own = found.into_iter().flatten().find(|kv| kv.lease == lease.id)?;
                return Some(Registration { client, lease, key, revision: own.create_revision, record });
            }
            Ok(Outcome::Unknown { cause }) => cause,
            Err(Error::LeaseGone) => return None,
            Err(error) => error.to_string(),
        };
        tracing::warn!(group = %cluster.group, cause, "not registered yet, trying again");
        tokio::time::sleep(backoff.next_delay(fastrand::f64())).await;
    }
    None
}

impl Profile {
    fn record(&self, lease: Lease, at: Instant) -> ClientRecord {
        ClientRecord {
            name: self.name.clone(),
            address: self.address.clone(),
            capacity: self.capacity,
            targets: Some(self.targets.clone()),
            labels: self.labels.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: Some(at),
            ttl_ms: u64::try_from(lease.ttl.as_millis()).ok(),
            draining: false,
        }
    }
}

impl Registration {
    /// Says that this client takes nothing new, so that the server gives it nothing more and moves away
    /// what it has not claimed. Tried until it is known or the lease ends.
    pub(crate) async fn announce_drain(self, cluster: Cluster) {
        let record = ClientRecord { draining: true, ..self.record };
        let put =
            Txn::new().created(&self.key, self.revision).put_leased(&self.key, record.write(), self.lease.id);
        let mut backoff = Backoff::default();
        while cluster.session.is_trusted(self.lease.id) {
            match cluster.store.commit(put.clone()).await {
                Ok(Outcome::Applied { .. } | Outcome::Refused { .. }) => return,
                // Putting the same document twice does no harm.
                Ok(Outcome::Unknown { .. }) | Err(_) => {
                    tokio::time::sleep(backoff.next_delay(fastrand::f64())).await;
                }
            }
        }
    }

    /// Takes the registration back. If that fails it ends with its lease.
    pub(crate) async fn withdraw(&self, cluster: &Cluster) {
        let txn = Txn::new().created(&self.key, self.revision).delete(&self.key);
        match cluster.store.commit(txn).await {
            Ok(Outcome::Unknown { cause }) => {
                tracing::debug!(client = %self.client, cause, "deregistered, perhaps");
            }
            Ok(_) => tracing::info!(client = %self.client, "deregistered"),
            Err(error) => {
                tracing::warn!(client = %self.client, %error, "not deregistered, left to the lease");
            }
        }
    }
}

/// The standard library's hasher is seeded by the operating system: two processes that start in the same instant
/// on cloned machines still differ.
pub(crate) fn random_from_system() -> u64 {
    RandomState::new().hash_one(fastrand::u64(..))
}

/// `{name}-{random}`, whatever the name looks like.
fn new_id(name: &str, random: u64) -> ClientId {
    let cleaned: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' })
        .take(NAME_IN_ID)
        .collect();
    let start = cleaned.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    let start = start.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
    let start = if start.is_empty() { "client" } else { start };
    let random = random & 0xff_ffff_ffff;
    // Always a valid name: it begins with a letter or digit, and 48 + 1 + 10 characters are allowed.
    ClientId::new(format!("{start}-{random:010x}"))
        .unwrap_or_else(|_| unreachable!("a cleaned name is valid"))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_name_gives_a_valid_id() {
        let check = |name: &str, start: &str| {
            let id = new_id(name, random_from_system());
            assert_eq!(id.as_str().rsplit_once('-').map(|parts| parts.0), Some(start), "{name:?}");
        };
        check("worker-1.example", "worker-1.example");
        check("打印机", "client");
        check("", "client");
        check("--a b/c--", "a-b-c");
        check(&"x".repeat(500), &"x".repeat(48));
        check(&format!("{}é{}", "x".repeat(47), "y"), &"x".repeat(47));
    }

    #[test]
    fn ids_differ() {
        let ids: HashSet<_> = (0..1000).map(|_| new_id("same", random_from_system())).collect();
        assert_eq!(ids.len(), 1000);
    }
}
