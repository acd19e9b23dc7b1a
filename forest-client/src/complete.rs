//! Completing: a result is written until etcd has acknowledged it.
//!
//! It is guarded by nothing but the execution itself: nobody else writes the execution of a live run, so
//! if it is not as this client left it, the server has declared the run lost, or a write of what the handler
//! had said has just taken effect. After the latter, which is still a running record with this claim's fencing
//! token, the result is written over that one at once. After the former the result is kept
//! under a key of its own, where it changes no decision. The registration does not matter: work that was
//! finished counts, even if the client has lost its lease meanwhile, as long as nobody gave up on it.
//!
//! If the reply to a write is lost and the server has collected the execution before the next look, the
//! two cases cannot be told apart; then the result is kept aside too, which at worst says the same twice.

use forest_etcd::{Backoff, KeyValue, Outcome, Txn};
use forest_proto::ClientId;
use forest_proto::record::encode;

use crate::claim::Claimed;
use crate::cluster::Cluster;
use crate::notes::is_ours;

/// From this many failures on, each further one is a warning.
const PATIENCE: u32 = 5;

/// An execution that has ended, to be written.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) client: ClientId,
    /// With its end filled in.
    pub(crate) claimed: Box<Claimed>,
    /// Whether a request to stop it lies in etcd, to be removed with it.
    pub(crate) cancel_seen: bool,
}

/// Writes the result, however long that takes.
pub(crate) async fn complete(cluster: Cluster, report: Report) {
    let value = encode(&report.claimed.execution);
    let run = &report.claimed.execution.snapshot.id;
    let mut revision = report.claimed.revision;
    let mut backoff = Backoff::default();
    loop {
        let mut txn = Txn::new()
            .modified(&report.claimed.key, revision)
            .put(&report.claimed.key, value.clone())
            .or_get(&report.claimed.key);
        if report.cancel_seen {
            txn = txn.delete(cluster.keys.cancel(&cluster.group, &report.client, run));
        }
        match cluster.batcher.submit(txn).await {
            Ok(Outcome::Applied { .. }) => break,
            // By an attempt of ours whose reply was lost.
            Ok(Outcome::Refused { found, .. }) if found.iter().flatten().any(|kv| kv.value == value) => break,
            Ok(Outcome::Refused { found, .. }) => {
                let ours = |kv: &&KeyValue| is_ours(kv, report.claimed.fencing_token);
                if let Some(kv) = found.iter().flatten().find(ours) {
                    revision = kv.mod_revision;
                    continue;
                }
                let key = cluster.keys.late(&cluster.group, &report.client, run);
                tracing::warn!(%run, key, "the result came too late and is kept aside");
                return keep_late(&cluster, key, value).await;
            }
            // The guard makes it safe to send it again: it cannot take effect twice.
            Ok(Outcome::Unknown { cause }) => warn(run, &cause, &backoff),
            Err(error) => warn(run, &error, &backoff),
        }
        tokio::time::sleep(backoff.next_delay(fastrand::f64())).await;
    }
    tracing::debug!(%run, outcome = ?report.claimed.execution.outcome, "completed");
}

/// Writing the same document twice does no harm.
async fn keep_late(cluster: &Cluster, key: String, value: Vec<u8>) {
    let txn = Txn::new().put(&key, value);
    let mut backoff = Backoff::default();
    loop {
        match cluster.batcher.submit(txn.clone()).await {
            Ok(Outcome::Applied { .. } | Outcome::Refused { .. }) => return,
            Ok(Outcome::Unknown { cause }) => warn(&key, &cause, &backoff),
            Err(error) => warn(&key, &error, &backoff),
        }
        tokio::time::sleep(backoff.next_delay(fastrand::f64())).await;
    }
}

fn warn(what: &impl std::fmt::Display, cause: &impl std::fmt::Display, backoff: &Backoff) {
    if backoff.attempts() >= PATIENCE {
        tracing::warn!(%what, %cause, attempts = backoff.attempts(), "result not acknowledged yet, trying again");
    } else {
        tracing::debug!(%what, %cause, "result not acknowledged yet, trying again");
    }
}
