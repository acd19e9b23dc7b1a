//! Claiming: a snapshot becomes an execution of ours in one guarded transaction, or it does not.
//!
//! | | |
//! | --- | --- |
//! | if | the snapshot is as it was seen, and the registration is the one it was given to |
//! | then | delete the snapshot, put the execution |
//! | otherwise | look whether the execution is there already |
//!
//! A claim whose reply was lost is looked up until it is certain what became of it. It must never be
//! left open: a claim that took effect unnoticed would be a run that its job waits for as long as this
//! client lives. It is certain as soon as one look at one revision shows the execution (ours), or shows
//! that the guards can never hold again (not ours).

use forest_etcd::{Backoff, Error, KeyValue, Outcome, Txn};
use forest_proto::record::{Execution, Snapshot, Status, decode, encode};

use crate::cluster::Cluster;
use crate::notes::Told;
use crate::registration::Registration;

/// A snapshot that was seen, and the revision at which it was written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Offer {
    pub(crate) snapshot: Snapshot,
    pub(crate) revision: i64,
}

/// An execution that is ours alone to end.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Claimed {
    pub(crate) execution: Execution,
    /// Its key in etcd.
    pub(crate) key: String,
    /// The key's create revision.
    pub(crate) fencing_token: i64,
    /// The revision at which it was last written by us.
    pub(crate) revision: i64,
}

impl Claimed {
    /// Takes what the handler said last into the record that ends the run.
    pub(crate) fn take_over(&mut self, told: Told) {
        self.execution.progress = told.progress;
        if told.checkpoint.is_some() {
            self.execution.snapshot.checkpoint = told.checkpoint;
        }
        self.revision = told.revision.unwrap_or(self.revision);
    }
}

struct Attempt {
    cluster: Cluster,
    registration: Registration,
    offer: Offer,
    snapshot_key: String,
    execution_key: String,
    execution: Execution,
}

/// What is known about a claim.
#[derive(Debug, PartialEq)]
enum Verdict {
    Ours(Box<Claimed>),
    NotOurs,
    Open,
}

/// Claims a snapshot; `None` if it went elsewhere or the lease ended first.
pub(crate) async fn claim(
    cluster: Cluster,
    registration: Registration,
    offer: Offer,
) -> Option<Box<Claimed>> {
    let run = &offer.snapshot.id;
    let snapshot_key = cluster.keys.snapshot(&cluster.group, &registration.client, run);
    let execution_key = cluster.keys.execution(&cluster.group, Some(&registration.client), run);
    let execution = Execution::claimed(offer.snapshot.clone(), cluster.now());
    Attempt { cluster, registration, offer, snapshot_key, execution_key, execution }.settle().await
}

impl Attempt {
    async fn settle(self) -> Option<Box<Claimed>> {
        let mut backoff = Backoff::default();
        // Whether a claim is under way of which nobody knows what became.
        let mut open = false;
        loop {
            if open {
                match self.look().await {
                    Ok(Verdict::Ours(claimed)) => return Some(claimed),
                    Ok(Verdict::NotOurs) => return None,
                    Ok(Verdict::Open) => {}
                    Err(error) => self.log(&error),
                }
            }
            if self.cluster.session.is_trusted(self.registration.lease.id) {
                // Also when one is under way: whichever of the two comes first settles it.
                match self.send().await {
                    Ok(Verdict::Ours(claimed)) => return Some(claimed),
                    Ok(Verdict::NotOurs) => return None,
                    Ok(Verdict::Open) => open = true,
                    Err(error) => self.log(&error),
                }
            } else if !open {
                return None;
            }
            tokio::time::sleep(backoff.next_delay(fastrand::f64())).await;
        }
    }

    async fn send(&self) -> Result<Verdict, Error> {
        let txn = Txn::new()
            .modified(&self.snapshot_key, self.offer.revision)
            .created(&self.registration.key, self.registration.revision)
            .delete(&self.snapshot_key)
            .put(&self.execution_key, encode(&self.execution))
            .or_get(&self.execution_key);
        Ok(match self.cluster.batcher.submit(txn).await? {
            Outcome::Applied { revision } => Verdict::Ours(Box::new(Claimed {
                execution: self.execution.clone(),
                key: self.execution_key.clone(),
                fencing_token: revision,
                revision,
            })),
            Outcome::Refused { found, .. } => {
                found.into_iter().flatten().next().map_or(Verdict::NotOurs, adopt)
            }
            Outcome::Unknown { .. } => Verdict::Open,
        })
    }

    /// All three keys at one revision, so that no change can pass between two looks.
    async fn look(&self) -> Result<Verdict, Error> {
        let keys = [&self.execution_key, &self.snapshot_key, &self.registration.key].map(Clone::clone);
        let (_, mut found) = self.cluster.store.get_many(&keys).await?;
        if let Some(execution) = found.first_mut().and_then(Option::take) {
            return Ok(adopt(execution));
        }
        let is = |at: usize, expected: i64, read: fn(&KeyValue) -> i64| {
            found.get(at).and_then(Option::as_ref).is_some_and(|kv| read(kv) == expected)
        };
        let claimable = is(1, self.offer.revision, |kv| kv.mod_revision)
            && is(2, self.registration.revision, |kv| kv.create_revision);
        Ok(if claimable { Verdict::Open } else { Verdict::NotOurs })
    }

    fn log(&self, error: &Error) {
        let run = &self.offer.snapshot.id;
        match error {
            Error::Unavailable { .. } => tracing::debug!(%run, %error, "claim not settled yet"),
            _ => tracing::warn!(%run, %error, "claim not settled yet"),
        }
    }
}

/// An execution under our own id comes from a claim of ours. It is ours to run unless it has ended, which
/// only the server can have declared, or ourselves.
fn adopt(found: KeyValue) -> Verdict {
    match decode::<Execution>(&found.value) {
        Ok(execution) if execution.status == Status::Running => Verdict::Ours(Box::new(Claimed {
            execution,
            fencing_token: found.create_revision,
            revision: found.mod_revision,
            key: found.key,
        })),
        Ok(_) => Verdict::NotOurs,
        Err(error) => {
            tracing::warn!(key = found.key, %error, "an execution that cannot be read is left alone");
            Verdict::NotOurs
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handler::tests::snapshot;
    use forest_proto::record;
    use forest_proto::time::Instant;

    fn found(execution: &Execution) -> KeyValue {
        let (key, value) = ("/k".to_owned(), encode(execution));
        KeyValue { key, value, create_revision: 5, mod_revision: 6, version: 2, lease: 0 }
    }

    #[test]
    fn a_claim_whose_reply_was_lost_is_adopted_with_its_own_token() {
        let at = Instant::from_ms(1_795_000_000_000);
        let execution = Execution::claimed(snapshot("20261118110640000-j1-1", "pay", ""), at);
        let Verdict::Ours(claimed) = adopt(found(&execution)) else { panic!("not adopted") };
        assert_eq!((claimed.fencing_token, claimed.revision), (5, 6));
        assert_eq!((claimed.execution, claimed.key.as_str()), (execution, "/k"));
    }

    #[test]
    fn a_run_that_has_ended_is_not_run_again() {
        let at = Instant::from_ms(1_795_000_000_000);
        let mut execution = Execution::claimed(snapshot("20261118110640000-j1-1", "pay", ""), at);
        execution.finish(record::Outcome::Lost, String::new(), at, 1);
        assert_eq!(adopt(found(&execution)), Verdict::NotOurs);
        let broken = KeyValue { value: b"{".to_vec(), ..found(&execution) };
        assert_eq!(adopt(broken), Verdict::NotOurs);
    }
}
