//! How a run is stopped: on request, and because a newer one replaces it.

use forest_etcd::Txn;
use forest_proto::RunId;
use forest_proto::record::{Delay, Outcome, Overlap, Request, Snapshot};
use forest_proto::time::Instant;

use super::begin::occasion_of;
use super::{Situation, Step, document};
use crate::core::clients::Seat;
use crate::core::compose::ghost;
use crate::core::runs::{Place, Run};

impl Situation<'_> {
    /// Of a job whose runs replace each other, the newest one waits and all others have to go.
    pub(super) fn of_replaced(&self, id: &RunId, run: &Run) -> Option<Step> {
        let newest = self.view.runs.waiting(id.job()).next_back().filter(|newest| *newest != id)?;
        if id.parent().is_some() {
            // It goes with its parent.
            return None;
        }
        let (job, planned) = self.job(id)?;
        if planned.overlap != Overlap::CancelRunning || self.view.runs.is_planned(id) {
            return None;
        }
        match &run.place {
            Place::Ended { .. } | Place::Spread { stopping: true } => return None,
            Place::Running { client } => {
                let seat = (run.group.clone(), client.clone());
                if self.view.cancels.get(&(id.clone(), seat)).is_some() {
                    return None;
                }
            }
            _ => {}
        }
        let successor = self.view.runs.get(newest)?;
        let key = self.view.keys.pending(&successor.group, newest);
        let txn = self.composer.term.txn().modified(key, successor.revision);
        let txn = txn.modified(self.view.keys.job(&job), planned.revision);
        Some(self.stop(txn, id, run, &format!("replaced by {newest}")))
    }

    pub(super) fn of_cancel_request(&self, txn: Txn, request: &Request) -> Step {
        let Some(run) = self.view.runs.get(&request.run) else { return txn.into() };
        self.stop(txn, &request.run, run, "cancelled on request")
    }

    /// A request to stop a run that has ended, or is elsewhere, is left over.
    pub(crate) fn of_cancel(&self, id: &(RunId, Seat)) -> Step {
        let (run, seat) = id;
        let Some(entry) = self.view.cancels.entry(id) else { return Step::Nothing };
        let needed = self.view.runs.get(run).is_some_and(|run| match &run.place {
            Place::Running { client } => *client == seat.1,
            Place::Ended { state, .. } => !state.decided,
            _ => false,
        });
        if needed {
            return Step::Nothing;
        }
        let key = self.view.keys.cancel(&seat.0, &seat.1, run);
        self.composer.term.txn().modified(key.clone(), entry.revision).delete(key).into()
    }

    /// Ends a run that has not started; asks the client to stop one that has.
    pub(super) fn stop(&self, txn: Txn, id: &RunId, run: &Run, why: &str) -> Step {
        let keys = &self.view.keys;
        let key = match &run.place {
            Place::Ended { .. } => return txn.into(),
            Place::Running { client } => {
                // Only while it runs: nobody would take the key away after its end.
                let txn = txn.modified(keys.execution(&run.group, Some(client), id), run.revision);
                return txn.put(keys.cancel(&run.group, client, id), Vec::new()).into();
            }
            Place::Spread { .. } => return self.stop_spread(txn, id, run, why),
            Place::Delayed { segment, due_ms } => {
                let Some(delay) = document::<Delay>(run) else { return Step::Nothing };
                let key = keys.delay(*segment, Instant::from_ms(*due_ms), id);
                let txn = txn.modified(key.clone(), run.revision).delete(key);
                let job = self
                    .job(id)
                    .and_then(|(_, job)| job.job())
                    .unwrap_or_else(|| ghost(&delay.job, &delay.group));
                return self.refuse(txn, &job, occasion_of(&delay), Outcome::Cancelled, why);
            }
            Place::Pending { .. } => keys.pending(&run.group, id),
            Place::Queued { client, .. } => keys.snapshot(&run.group, client, id),
        };
        let Some(snapshot) = document::<Snapshot>(run) else { return Step::Nothing };
        let txn = txn.modified(key.clone(), run.revision).delete(key);
        self.end(txn, snapshot, Outcome::Cancelled, why).into()
    }
}
