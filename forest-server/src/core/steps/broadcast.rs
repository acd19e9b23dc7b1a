//! One run for each client: how a broadcast becomes its shards, and how their ends become its own.
//!
//! ```text
//! pending ──spread──▶ spread document ──all shards ended──▶ ended, settled
//!                        │        ▲
//!                        ▼        │ settles those that have ended, several at once
//!                     shards ─────┘
//! ```
//!
//! A shard is created parked, for one client, and from there on a run as any other, but for its end: that is written
//! undecided, by whoever writes it, and has no step of its own. The step of the parent settles it, together with its own
//! document. So shards that end at the same time do not get into each other's way, and the parent counts each once.

use forest_etcd::Txn;
use forest_proto::RunId;
use forest_proto::record::{Execution, Outcome, Snapshot, Spread, encode};

use super::ended::Settled;
use super::{Situation, Step, document};
use crate::core::need::Need;
use crate::core::routing::Router;
use crate::core::runs::{Place, Run};
use crate::core::spread;

/// Shards created by one transaction: etcd takes 128 operations.
const CREATED: usize = 120;
/// Shards settled by one transaction: two operations each, and their parent, which up to 32 jobs may follow.
const SETTLED: usize = 25;
/// No further shard is added to a transaction of so many bytes. One more may have half a megabyte; etcd takes 1.5 MiB.
const MAX_BYTES: usize = 700 * 1024;

impl Situation<'_> {
    /// A parked broadcast goes to all clients that are able now. `txn` takes it from where it was.
    pub(super) fn spread(&self, router: &Router, txn: Txn, snapshot: Snapshot) -> Step {
        let able = router.able(self.view, &snapshot.group, &Need::of(&snapshot));
        let clients: Vec<_> = able.into_iter().map(|(id, _)| id.clone()).collect();
        if clients.is_empty() {
            return Step::Nothing;
        }
        match spread::begin(&self.composer, &snapshot, clients) {
            Ok(begun) => self.create_shards(txn, begun).into(),
            Err(why) => self.end(txn, snapshot, Outcome::Failed, &why).into(),
        }
    }

    /// The next step of a broadcast that has been spread.
    pub(super) fn of_spread(&self, id: &RunId, run: &Run) -> Step {
        let Some(mut spread) = document::<Spread>(run) else { return Step::Nothing };
        let keys = &self.view.keys;
        let key = keys.spread(&run.group, id);
        let txn = self.composer.term.txn().modified(key.clone(), run.revision);
        if spread.is_creating() {
            return self.create_shards(txn, spread).into();
        }
        let (txn, settled) = self.settle_shards(txn, id, &mut spread);
        if spread.is_over() {
            let ended = spread::end(&self.composer, spread);
            let txn = self.follow(txn, &ended.snapshot, ended.outcome);
            txn.delete(key).put(keys.execution(&run.group, None, id), encode(&ended)).into()
        } else if settled > 0 {
            txn.put(key, encode(&spread)).into()
        } else {
            Step::Nothing
        }
    }

    /// Creates as many of the shards as one transaction takes, and notes how far that is.
    fn create_shards(&self, mut txn: Txn, mut spread: Spread) -> Txn {
        let (keys, first) = (&self.view.keys, spread.created);
        let mut bytes = encode(&spread).len();
        while let Some(shard) = spread::next_shard(&self.composer, &spread) {
            let value = encode(&shard);
            bytes += value.len();
            txn = txn.put(keys.pending(&shard.group, &shard.id), value);
            spread.created += 1;
            if (spread.created - first) as usize >= CREATED || bytes >= MAX_BYTES {
                break;
            }
        }
        txn.put(keys.spread(&spread.snapshot.group, &spread.snapshot.id), encode(&spread))
    }

    /// Settles shards that have ended; says how many.
    fn settle_shards(&self, mut txn: Txn, id: &RunId, spread: &mut Spread) -> (Txn, usize) {
        let (mut settled, mut bytes) = (0, encode(spread).len());
        for shard in self.view.runs.shards(id) {
            let Some(run) = self.view.runs.get(shard) else { continue };
            let (Place::Ended { client, .. }, Some(index)) = (&run.place, shard.shard()) else { continue };
            let Some(mut execution) = document::<Execution>(run) else { continue };
            if settled >= SETTLED || bytes >= MAX_BYTES {
                break;
            }
            // A worker of the original does not hand on which shard it was.
            execution.snapshot.shard.get_or_insert_with(|| spread.shard(index));
            let key = self.view.keys.execution(&run.group, client.as_ref(), shard);
            let guarded = txn.modified(key.clone(), run.revision);
            // Its record and, at most, another attempt with the same parameters.
            bytes += 2 * run.value.as_ref().map_or(0, |value| value.len());
            let Settled { txn: more, outcome, tried_again } =
                self.settle(guarded, key, execution, client.as_ref(), false);
            txn = more;
            settled += 1;
            if !tried_again {
                spread.ended.insert(index, outcome.unwrap_or(Outcome::Lost));
            }
        }
        (txn, settled)
    }

    /// What ends a shard that has no parent any more settles it as any other run. `None`: there is a parent, and that
    /// does it.
    pub(super) fn without_parent(&self, txn: Txn, id: &RunId, run: &Run) -> Option<Txn> {
        let Some(parent) = id.parent() else { return Some(txn) };
        (!self.view.runs.is_spread(&parent)).then(|| txn.absent(self.view.keys.spread(&run.group, &parent)))
    }

    /// A shard of a broadcast that is stopping ends, or is asked to.
    pub(super) fn of_stopped_shard(&self, id: &RunId, run: &Run) -> Option<Step> {
        let parent = self.view.runs.get(&id.parent()?)?;
        match (&parent.place, &run.place) {
            (Place::Spread { stopping: true }, Place::Ended { .. }) => return None,
            (Place::Spread { stopping: true }, Place::Running { client }) => {
                let seat = (run.group.clone(), client.clone());
                if self.view.cancels.get(&(id.clone(), seat)).is_some() {
                    return None;
                }
            }
            (Place::Spread { stopping: true }, _) => {}
            _ => return None,
        }
        Some(self.stop(self.composer.term.txn(), id, run, "stopped together with the other shards"))
    }

    /// Has all shards of a broadcast stopped. They follow one by one.
    pub(super) fn stop_spread(&self, txn: Txn, id: &RunId, run: &Run, why: &str) -> Step {
        let Some(mut spread) = document::<Spread>(run) else { return Step::Nothing };
        if spread.stopping.is_some() {
            return txn.into();
        }
        spread.stopping = Some(why.to_owned());
        let key = self.view.keys.spread(&run.group, id);
        txn.modified(key.clone(), run.revision).put(key, encode(&spread)).into()
    }
}
