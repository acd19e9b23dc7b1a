//! The collector: brings settled runs into the history, and only then deletes them from etcd.
//!
//! It never waits in anybody's way: while the database is away, what is settled stays in etcd and the
//! scheduler goes on. A row may be saved twice (after a crash between the two steps, or by two nodes);
//! saving is idempotent. A row that the database refuses stays in etcd, and is named in the log.

mod audits;

use std::collections::BTreeSet;

use forest_etcd::{Backoff, Clock, Error, Outcome, SharedClock, Store, SystemClock, Txn};
use forest_proto::record::{Execution, decode};
use tokio_util::sync::CancellationToken;

pub(crate) use self::audits::AuditCollector;
use crate::metrics;
use crate::scheduler::{SchedulerHandle, Settled};
use crate::store::{History, Row};
use crate::traces::Traces;

/// Runs saved with one statement.
const BATCH: usize = 500;
/// Batches on their way at once: while one is being saved, another is being read or deleted.
const LANES: usize = 2;

pub(crate) struct Collector {
    store: Store,
    scheduler: SchedulerHandle,
    history: History,
    clock: SharedClock,
    traces: Traces,
}

impl Collector {
    pub(crate) fn new(
        store: Store,
        scheduler: SchedulerHandle,
        history: History,
        clock: SharedClock,
        traces: Traces,
    ) -> Self {
        Self { store, scheduler, history, clock, traces }
    }

    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let lanes = (0..LANES).map(|_| self.lane(&shutdown));
        futures_util::future::join_all(lanes).await;
    }

    async fn lane(&self, shutdown: &CancellationToken) {
        loop {
            let taken = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                taken = self.scheduler.take_settled(BATCH) => taken,
            };
            let Ok(taken) = taken else { return };
            self.collect(taken, shutdown).await;
        }
    }

    async fn collect(&self, taken: Vec<Settled>, shutdown: &CancellationToken) {
        let Some((read, unread)) = self.read(taken, shutdown).await else { return };
        // What is gone or changed meanwhile is handed out again if it is still there.
        self.scheduler.release(unread, None).await;
        let spans = self.traces.collecting(&self.clock, read.iter().map(|(_, execution)| execution));
        let took: Vec<_> = read.iter().map(|(_, execution)| metrics::Took::of(execution)).collect();
        let (settled, rows): (Vec<_>, Vec<_>) = read
            .into_iter()
            .map(|(settled, execution)| {
                let row = row(&settled, execution);
                (settled, row)
            })
            .unzip();
        let Some(refused) = self.save(&rows, shutdown).await else { return };
        metrics::ran(took);
        self.traces.ended(spans, &self.clock);
        let saved: Vec<_> =
            settled.into_iter().filter(|settled| !refused.contains(settled.run.as_str())).collect();
        self.delete(saved).await;
    }

    /// What was taken, and the keys of which there is none. What cannot be understood is kept in hand.
    async fn read(
        &self,
        mut taken: Vec<Settled>,
        shutdown: &CancellationToken,
    ) -> Option<(Vec<(Settled, Execution)>, Vec<String>)> {
        let mut unread = Vec::new();
        let missing: Vec<_> =
            taken.iter().filter(|settled| settled.value.is_none()).map(|s| s.key.clone()).collect();
        if !missing.is_empty() {
            let mut backoff = Backoff::default();
            let found = loop {
                match self.store.get_many(&missing).await {
                    Ok((_, found)) => break found,
                    Err(error) => tracing::warn!(%error, "cannot read results to collect: trying again"),
                }
                if !backoff.wait(shutdown).await {
                    return None;
                }
            };
            let mut found = found.into_iter();
            for settled in taken.iter_mut().filter(|settled| settled.value.is_none()) {
                let kv = found.next().flatten().filter(|kv| kv.mod_revision == settled.revision);
                settled.value = kv.map(|kv| kv.value);
            }
        }
        let mut read = Vec::new();
        for mut settled in taken {
            let Some(value) = settled.value.take() else {
                unread.push(settled.key);
                continue;
            };
            match decode::<Execution>(&value) {
                Ok(execution) => read.push((settled, execution)),
                Err(error) => {
                    tracing::error!(key = settled.key, %error, "leaving alone a result that cannot be understood")
                }
            }
        }
        Some((read, unread))
    }

    /// Saves rows until the database takes them; the runs that it refuses.
    async fn save(&self, rows: &[Row], shutdown: &CancellationToken) -> Option<BTreeSet<String>> {
        let mut backoff = Backoff::default();
        loop {
            let begun = SystemClock.boot();
            let result = self.history.save(rows).await;
            metrics::saved(SystemClock.boot().saturating_sub(begun), result.is_ok());
            match result {
                Ok(saved) => {
                    metrics::collected(rows.iter().map(Row::outcome));
                    for row in &saved.marked {
                        tracing::warn!(
                            run = row.id,
                            reason = row.reason,
                            "the history took a run without its texts"
                        );
                    }
                    for row in &saved.rejected {
                        tracing::error!(
                            run = row.id,
                            reason = row.reason,
                            "the history refuses a run: it stays in etcd"
                        );
                    }
                    return Some(saved.rejected.into_iter().map(|row| row.id).collect());
                }
                Err(error) => {
                    tracing::warn!(%error, rows = rows.len(), "cannot save to the history: trying again")
                }
            }
            if !backoff.wait(shutdown).await {
                return None;
            }
        }
    }

    async fn delete(&self, saved: Vec<Settled>) {
        let delete = |settled: &Settled| {
            Txn::new().modified(settled.key.clone(), settled.revision).delete(settled.key.clone())
        };
        let results = self.store.commit_all(saved.iter().map(delete).collect()).await;
        let deleted = sort_out(saved, results);
        self.scheduler.release(deleted.gone, Some(deleted.gone_at)).await;
        self.scheduler.release(deleted.kept, None).await;
    }
}

/// What became of the keys of saved results.
#[derive(Debug, PartialEq, Eq, Default)]
struct Deleted {
    /// Deleted, or not what was saved any more, as of `gone_at`: handed out again if the view has them then.
    gone: Vec<String>,
    gone_at: i64,
    /// Handed out again at once.
    kept: Vec<String>,
}

fn sort_out(saved: Vec<Settled>, results: Vec<Result<Outcome, Error>>) -> Deleted {
    let mut deleted = Deleted::default();
    for (settled, result) in saved.into_iter().zip(results) {
        match result {
            Ok(Outcome::Applied { revision } | Outcome::Refused { revision, .. }) => {
                deleted.gone_at = deleted.gone_at.max(revision);
                deleted.gone.push(settled.key);
            }
            Ok(Outcome::Unknown { .. }) | Err(_) => deleted.kept.push(settled.key),
        }
    }
    deleted
}

fn row(settled: &Settled, mut execution: Execution) -> Row {
    let snapshot = &mut execution.snapshot;
    // What a worker of the original wrote lacks our instants; the id has one.
    if snapshot.scheduled_at.as_ms() == 0 {
        snapshot.scheduled_at = settled.run.at();
    }
    if snapshot.created_at.as_ms() == 0 {
        snapshot.created_at = settled.run.at();
    }
    match settled.late {
        Some(_) => Row::late(execution, settled.created),
        None => Row::new(execution, settled.created),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(key: &str) -> Settled {
        let run = "20261118110640000-j1-1".parse().expect("valid");
        Settled { run, key: key.into(), revision: 7, created: 5, value: None, late: None }
    }

    #[test]
    fn a_result_that_another_node_deleted_is_not_saved_again_before_the_view_shows_it() {
        let results = vec![
            Ok(Outcome::Applied { revision: 20 }),
            Ok(Outcome::Refused { revision: 25, found: Vec::new() }),
            Ok(Outcome::Unknown { cause: "lost".into() }),
        ];
        let deleted = sort_out(["a", "b", "c"].map(settled).into(), results);
        let of = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
        assert_eq!(deleted, Deleted { gone: of(&["a", "b"]), gone_at: 25, kept: of(&["c"]) });
    }
}
