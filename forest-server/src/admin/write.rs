//! Committing what an administrator asked for, also when an answer is lost.

use std::time::Duration;

use forest_etcd::{KeyValue, Outcome};

use super::audit::Audited;
use super::{Admin, AdminError};

/// How long a caller waits for this node's view to show what it wrote.
pub(super) const VIEW_PATIENCE: Duration = Duration::from_secs(5);
/// How often a transaction is sent again whose answer was lost. Its guards make that safe.
const TRIES: u32 = 3;

/// What became of a change.
pub(super) enum Written {
    Done,
    /// The guards did not hold; this was found under the keys that the transaction asks for.
    Refused(Vec<Option<KeyValue>>),
}

impl Admin {
    /// Commits `txn`, whose guards fail once it has been applied. If an answer is lost it is sent again; `is_ours`
    /// then tells from what is found whether the first one had been applied.
    pub(super) async fn commit(
        &self,
        Audited(txn): Audited,
        is_ours: impl Fn(&[Option<KeyValue>]) -> bool,
    ) -> Result<Written, AdminError> {
        self.within_rate()?;
        let mut lost = None;
        for _ in 0..TRIES {
            match self.inner.store.commit(txn.clone()).await? {
                Outcome::Applied { revision } => return self.shown(revision).await,
                Outcome::Refused { revision, found } if lost.is_some() && is_ours(&found) => {
                    let written = found.iter().flatten().map(|kv| kv.mod_revision).max();
                    return self.shown(written.unwrap_or(revision)).await;
                }
                Outcome::Refused { found, .. } => return Ok(Written::Refused(found)),
                Outcome::Unknown { cause } => lost = Some(cause),
            }
        }
        let cause = lost.unwrap_or_default();
        Err(AdminError::Unavailable(format!(
            "etcd did not answer, the change may or may not have been made: {cause}"
        )))
    }

    async fn shown(&self, revision: i64) -> Result<Written, AdminError> {
        // The change is made. A view that lags does not undo it.
        if let Err(error) = self.inner.scheduler.caught_up(revision, VIEW_PATIENCE).await {
            tracing::warn!(%error, "a change is stored but not in this node's view yet");
        }
        Ok(Written::Done)
    }
}

/// Whether the first key found has this value.
pub(super) fn first_is(found: &[Option<KeyValue>], value: &[u8]) -> bool {
    matches!(found.first(), Some(Some(kv)) if kv.value == value)
}
