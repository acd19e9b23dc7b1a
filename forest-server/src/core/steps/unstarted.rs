//! What becomes of a run that has not started: parked ones find a client, given ones leave one that is gone, and
//! both end when it is too late.

use forest_etcd::Txn;
use forest_proto::record::{Outcome, Snapshot, encode};
use forest_proto::{ClientId, RunId};

use super::{Planned, Situation, Step, document};
use crate::core::routing::Router;
use crate::core::runs::{Place, Run};

impl Situation<'_> {
    /// A parked run goes to the first client with room, until it is too late or its job is gone.
    pub(super) fn of_pending(
        &self,
        router: &mut Router,
        id: &RunId,
        run: &Run,
        deadline_ms: Option<i64>,
    ) -> Step {
        let Some(snapshot) = document::<Snapshot>(run) else { return Step::Nothing };
        let key = self.view.keys.pending(&run.group, id);
        let txn = self.composer.term.txn().modified(key.clone(), run.revision).delete(key);
        if let Some(ended) = self.of_unstarted(id, &txn, &snapshot, deadline_ms) {
            return ended;
        }
        if snapshot.waits && !self.view.runs.is_next(id) {
            return Step::Nothing;
        }
        if snapshot.is_broadcast() {
            return self.spread(router, txn, snapshot);
        }
        let Some(promise) = router.pick(self.view, &snapshot) else { return Step::Nothing };
        let txn = self.give(txn, snapshot, &promise.seat);
        Step::Commit(Planned { txn, promised: Some(promise) })
    }

    /// A snapshot moves away from a client that is gone, drains or is drained, or does not serve its target.
    pub(super) fn of_queued(
        &self,
        router: &mut Router,
        id: &RunId,
        run: &Run,
        client: &ClientId,
        deadline_ms: Option<i64>,
    ) -> Step {
        let seat = (run.group.clone(), client.clone());
        let holder = self.view.clients.get(&seat);
        let Place::Queued { target, .. } = &run.place else { return Step::Nothing };
        let stays = holder.is_some_and(|holder| holder.value.serves(target));
        if stays && !self.is_past(deadline_ms) && self.job(id).is_some() {
            return Step::Nothing;
        }
        let Some(snapshot) = document::<Snapshot>(run) else { return Step::Nothing };
        let key = self.view.keys.snapshot(&run.group, client, id);
        let txn = self.composer.term.txn().modified(key.clone(), run.revision).delete(key);
        if let Some(ended) = self.of_unstarted(id, &txn, &snapshot, deadline_ms) {
            return ended;
        }
        // The registration must still be what made us move it: absent, or this very document; and somebody must still
        // want its client to be drained, if that did.
        let mut txn = txn
            .modified(self.view.keys.client(&run.group, client), holder.map_or(0, |holder| holder.revision));
        if let Some(drained) = holder.and_then(|holder| holder.value.drained) {
            txn = txn.modified(self.view.keys.drain(&run.group, client), drained);
        }
        let promised = router.pick_other(self.view, &snapshot);
        let txn = match &promised {
            Some(promise) => self.give(txn, snapshot, &promise.seat),
            None => {
                let parked = Snapshot { ip: String::new(), ..snapshot };
                txn.put(self.view.keys.pending(&run.group, id), encode(&parked))
            }
        };
        Step::Commit(Planned { txn, promised })
    }

    /// The end of a run that must not start any more.
    pub(super) fn of_unstarted(
        &self,
        id: &RunId,
        txn: &Txn,
        snapshot: &Snapshot,
        deadline_ms: Option<i64>,
    ) -> Option<Step> {
        let ended = |outcome, why| Some(self.end(txn.clone(), snapshot.clone(), outcome, why).into());
        if self.job(id).is_none() {
            return ended(Outcome::Cancelled, "the job was deleted before the run started");
        }
        if self.is_past(deadline_ms) && snapshot.waits && !self.view.runs.is_next(id) {
            let why = "an earlier run of the job was still alive at the start deadline";
            return ended(Outcome::OverlapSkipped, why);
        }
        if self.is_past(deadline_ms) {
            return ended(Outcome::NoClient, "no client took the run before its start deadline");
        }
        None
    }
}
