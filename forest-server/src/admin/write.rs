//! Committing what an administrator asked for, once, also when an answer is lost or a request is late.
//!
//! Each change puts a mark of its own and compares that it is not there. So it is safe to send it again; the mark tells
//! whether one that was not answered was made; and one that reaches etcd long after it was given up finds the mark of the
//! one sent again, and does not bring back what was deleted since.

use std::time::Duration;

use forest_etcd::{Error, KeyValue, Outcome};
use forest_proto::RequestKey;
use tokio::sync::Mutex;

use super::audit::Audited;
use super::{Admin, AdminError};

/// How long a caller waits for this node's view to show what it wrote.
pub(super) const VIEW_PATIENCE: Duration = Duration::from_secs(5);
/// How often a transaction is sent again whose answer was lost.
const TRIES: u32 = 3;
/// How long a mark stays, at least: no request is that late.
const REMEMBERED: Duration = Duration::from_secs(600);

/// What became of a change.
pub(super) enum Written {
    Done,
    /// The guards did not hold; this was found under the keys that the transaction asks for.
    Refused(Vec<Option<KeyValue>>),
}

/// The lease of this node's marks, and since when (since boot) there is one. New marks go on another one in time.
#[derive(Debug, Default)]
pub(super) struct Marks(Mutex<Option<(i64, Duration)>>);

impl Admin {
    pub(super) async fn commit(&self, Audited(txn): Audited) -> Result<Written, AdminError> {
        self.within_rate()?;
        let mark = self.inner.keys.mark(&random_key());
        let mut lost = None;
        for _ in 0..TRIES {
            let lease = self.marks_lease().await?;
            let txn =
                txn.clone().absent(mark.clone()).put_leased(mark.clone(), "", lease).or_get(mark.clone());
            match self.inner.store.commit(txn).await {
                Ok(Outcome::Applied { revision }) => return self.shown(revision).await,
                Ok(Outcome::Refused { mut found, .. }) => match found.pop().flatten() {
                    Some(mark) => return self.shown(mark.mod_revision).await,
                    None => return Ok(Written::Refused(found)),
                },
                Ok(Outcome::Unknown { cause }) => lost = Some(unanswered(&cause)),
                // Ours was revoked, or etcd was restored; or it is another one of the change.
                Err(error @ Error::LeaseGone) => {
                    *self.inner.marks.0.lock().await = None;
                    lost = lost.or(Some(error.into()));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(lost.unwrap_or_else(|| unanswered("")))
    }

    async fn marks_lease(&self) -> Result<i64, AdminError> {
        let mut lease = self.inner.marks.0.lock().await;
        let now = self.inner.clock.boot();
        match *lease {
            Some((id, since)) if now < since + REMEMBERED => Ok(id),
            _ => {
                let id = self.inner.store.grant(2 * REMEMBERED).await?;
                *lease = Some((id, now));
                Ok(id)
            }
        }
    }

    async fn shown(&self, revision: i64) -> Result<Written, AdminError> {
        // The change is made. A view that lags does not undo it.
        if let Err(error) = self.inner.scheduler.caught_up(revision, VIEW_PATIENCE).await {
            tracing::warn!(%error, "a change is stored but not in this node's view yet");
        }
        Ok(Written::Done)
    }
}

/// A key that nobody has had.
pub(super) fn random_key() -> RequestKey {
    RequestKey::new(format!("{:016x}", fastrand::u64(..)))
        .unwrap_or_else(|_| unreachable!("hexadecimal digits are a valid key"))
}

fn unanswered(cause: &str) -> AdminError {
    AdminError::Unavailable(format!("etcd did not answer, the change may or may not have been made: {cause}"))
}
