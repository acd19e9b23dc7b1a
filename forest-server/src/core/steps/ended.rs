//! What follows the end of a run, or of its client: the settled record, and the next attempt or the jobs that follow.

use forest_etcd::Txn;
use forest_proto::record::{Execution, Outcome, encode};
use forest_proto::{ClientId, RunId};

use super::{Situation, Step, document, read_once};
use crate::core::runs::Run;

/// How a run was settled.
pub(super) struct Settled {
    pub(super) txn: Txn,
    pub(super) outcome: Option<Outcome>,
    pub(super) tried_again: bool,
}

impl Situation<'_> {
    /// A run whose client is certain to have stopped is lost.
    pub(super) fn of_running(&self, id: &RunId, run: &Run, client: &ClientId) -> Step {
        let seat = (run.group.clone(), client.clone());
        if self.view.clients.get(&seat).is_some()
            || self.gone.get(&seat).is_none_or(|stopped| *stopped > self.boot)
        {
            return Step::Nothing;
        }
        let key = self.view.keys.execution(&run.group, Some(client), id);
        let Some(execution) = document::<Execution>(run) else { return read_once(run, key) };
        let txn =
            self.composer.term.txn().created(key.clone(), run.created).modified(key.clone(), run.revision);
        let txn = txn.absent(self.view.keys.client(&run.group, client));
        if id.parent().is_some() {
            let mut execution = execution;
            self.lose(&mut execution);
            execution.decided = false;
            return txn.put(key, encode(&execution)).into();
        }
        self.settle(txn, key, execution, Some(client), true).txn.into()
    }

    fn lose(&self, execution: &mut Execution) {
        let started = execution.started_at.map_or(self.composer.now_ms, |at| at.as_ms());
        let ran = u64::try_from(self.composer.now_ms - started).unwrap_or(0);
        let why = "its client vanished; whether the handler finished is not known".to_owned();
        execution.finish(Outcome::Lost, why, self.composer.now(), ran);
    }

    /// A failure that its client could not settle: another attempt, or not.
    pub(super) fn of_ended(&self, id: &RunId, run: &Run, client: Option<&ClientId>) -> Step {
        let key = self.view.keys.execution(&run.group, client, id);
        let Some(execution) = document::<Execution>(run) else { return read_once(run, key) };
        let txn = self.composer.term.txn().modified(key.clone(), run.revision);
        let Some(txn) = self.without_parent(txn, id, run) else { return Step::Nothing };
        self.settle(txn, key, execution, client, false).txn.into()
    }

    /// Puts the settled record and, if one may follow and nobody asked for an end, the next attempt. Otherwise this is
    /// the end of the run, which other jobs may follow.
    pub(super) fn settle(
        &self,
        txn: Txn,
        key: String,
        mut execution: Execution,
        client: Option<&ClientId>,
        is_lost: bool,
    ) -> Settled {
        let job = self.job(&execution.snapshot.id).and_then(|(_, job)| job.job());
        if execution.started_at.is_none()
            && let Some(job) = &job
        {
            // A worker of the original: it knows nothing of attempts, so the job says.
            execution.snapshot.max_attempts = job.max_attempts;
            execution.snapshot.on_lost = job.on_lost;
            execution.snapshot.retry_if = job.retry_if.clone();
        }
        if is_lost {
            self.lose(&mut execution);
        }
        execution.outcome = execution.outcome.or_else(|| Outcome::of(execution.status));
        let snapshot = &execution.snapshot;
        let again = execution.outcome.is_some_and(|outcome| {
            outcome.may_retry(
                snapshot.id.attempt(),
                snapshot.max_attempts,
                snapshot.on_lost,
                &snapshot.retry_if,
            )
        });
        let cancel = client.map(|client| self.view.keys.cancel(&snapshot.group, client, &snapshot.id));
        let cancelled = client.is_some_and(|client| {
            let seat = (snapshot.group.clone(), client.clone());
            self.view.cancels.get(&(snapshot.id.clone(), seat)).is_some()
        });
        let retry = job.filter(|_| again && !cancelled).map(|job| self.composer.retry(&job, snapshot));
        execution.decided = true;
        // The next attempt has it.
        execution.snapshot.checkpoint = None;
        let txn = txn.put(key, encode(&execution));
        let (outcome, tried_again) = (execution.outcome, retry.is_some());
        let txn = match (retry, cancel) {
            (Some((due, delay)), cancel) => {
                let txn = cancel.into_iter().fold(txn, Txn::absent);
                let segment = self.view.jobs.segment_of(&delay.job);
                txn.put(self.view.keys.delay(segment, due, &delay.run), encode(&delay))
            }
            (None, cancel) => {
                let txn = cancel.filter(|_| cancelled).into_iter().fold(txn, Txn::delete);
                self.follow(txn, &execution.snapshot, execution.outcome)
            }
        };
        Settled { txn, outcome, tried_again }
    }
}
