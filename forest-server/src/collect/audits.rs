//! Brings the records of who changed what into the history, and only then deletes them from etcd.

use std::time::Duration;

use forest_etcd::{Backoff, Outcome, Store, Txn};
use forest_proto::Keyspace;
use forest_proto::record::decode;
use tokio_util::sync::CancellationToken;

use crate::scheduler::SchedulerHandle;
use crate::store::{Audited, History};

const BATCH: usize = 100;
/// How long to wait for the view to show what was deleted.
const SHOWN: Duration = Duration::from_secs(5);

pub(crate) struct AuditCollector {
    store: Store,
    scheduler: SchedulerHandle,
    history: History,
    keys: Keyspace,
}

/// A record in etcd.
struct Kept {
    key: String,
    revision: i64,
    value: Vec<u8>,
}

impl AuditCollector {
    pub(crate) fn new(store: Store, scheduler: SchedulerHandle, history: History, keys: Keyspace) -> Self {
        Self { store, scheduler, history, keys }
    }

    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let mut backoff = Backoff::default();
        loop {
            let mut progress = self.scheduler.progress.clone();
            let waited = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                waited = progress.wait_for(|at| at.audits) => waited.map(|_| ()),
            };
            if waited.is_err() {
                return;
            }
            match self.collect().await {
                Ok(()) => backoff = Backoff::default(),
                Err(error) => {
                    tracing::warn!(%error, "cannot save who changed what: trying again");
                    if !backoff.wait(&shutdown).await {
                        return;
                    }
                }
            }
        }
    }

    async fn collect(&self) -> anyhow::Result<()> {
        let kept = self.scheduler.read(|now| {
            let audits = &now.view.access.audits;
            let entries = audits.iter().take(BATCH).filter_map(|(key, _)| Some((key, audits.entry(key)?)));
            let kept = |(key, entry): (&String, &crate::core::entry::Entry<Vec<u8>>)| Kept {
                key: key.clone(),
                revision: entry.revision,
                value: entry.value.clone(),
            };
            entries.map(kept).collect::<Vec<_>>()
        });
        let kept = kept.await?;
        let audited: Vec<_> = kept.iter().filter_map(|kept| self.read(kept)).collect();
        self.history.save_audits(&audited).await?;
        let delete =
            |kept: &Kept| Txn::new().modified(kept.key.clone(), kept.revision).delete(kept.key.clone());
        let mut gone_at = 0;
        for deleted in self.store.commit_all(kept.iter().map(delete).collect()).await {
            match deleted? {
                Outcome::Applied { revision } | Outcome::Refused { revision, .. } => {
                    gone_at = gone_at.max(revision);
                }
                Outcome::Unknown { cause } => anyhow::bail!("etcd did not answer: {cause}"),
            }
        }
        self.scheduler.caught_up(gone_at, SHOWN).await?;
        Ok(())
    }

    /// What cannot be understood is deleted with a word in the log: nobody could read it later either.
    fn read(&self, kept: &Kept) -> Option<Audited> {
        let id = kept.key.strip_prefix(&self.keys.audits())?.to_owned();
        match decode(&kept.value) {
            Ok(audit) => Some(Audited { id, audit }),
            Err(error) => {
                let text = String::from_utf8_lossy(&kept.value);
                tracing::error!(key = kept.key, %error, %text, "dropping a record of a change that cannot be read");
                None
            }
        }
    }
}
