//! What somebody asked for: a manual run, or a cancellation.

use forest_etcd::Txn;
use forest_proto::record::{Origin, Request, RequestKind};
use forest_proto::{RequestKey, Segment};

use super::{Situation, Step};
use crate::core::compose::Occasion;
use crate::core::routing::Router;

impl Situation<'_> {
    /// The next step of what somebody asked for.
    pub(crate) fn of_request(&self, router: &mut Router, id: &(Segment, RequestKey)) -> Step {
        let Some(entry) = self.view.requests.entry(id) else { return Step::Nothing };
        let key = self.view.keys.request(id.0, &id.1);
        let txn = self.composer.term.txn().modified(key.clone(), entry.revision).delete(key);
        match entry.value.kind {
            RequestKind::Run => self.of_run_request(router, txn, &entry.value),
            RequestKind::Cancel => self.unless_doubted(self.of_cancel_request(txn, &entry.value)),
        }
    }

    pub(super) fn of_run_request(&self, router: &mut Router, txn: Txn, request: &Request) -> Step {
        let planned = self.view.jobs.get(&request.job);
        let txn =
            txn.modified(self.view.keys.job(&request.job), planned.map_or(0, |planned| planned.revision));
        let Some((planned, job)) = planned.and_then(|planned| Some((planned, planned.job()?))) else {
            // Without the job there is no group to record it under.
            return txn.into();
        };
        let occasion = Occasion {
            run: request.run.clone(),
            scheduled_at: request.scheduled_at.unwrap_or(request.requested_at),
            origin: Origin::Manual,
            missed_fires: 0,
            params: request.params.clone(),
            checkpoint: None,
            pinned: request.client.clone(),
            cause: request.retry_of.clone(),
            shard: None,
            traceparent: request.traceparent,
        };
        self.admit(router, txn, planned, &job, occasion)
    }
}
