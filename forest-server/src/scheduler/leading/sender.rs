//! Sends transactions, and writes down the spans of what they create.
//!
//! Where an answer is lost there is no span, although the run may be there: a trace is a help, not a record.

use forest_etcd::{Error, Outcome, SharedClock, Store, Txn};
use forest_proto::Keyspace;

use crate::traces::{Begun, Traces};

/// A cheap clone each.
#[derive(Clone)]
pub(in crate::scheduler) struct Sender {
    store: Store,
    clock: SharedClock,
    keys: Keyspace,
    traces: Traces,
}

impl Sender {
    pub(in crate::scheduler) fn new(
        store: &Store,
        clock: &SharedClock,
        keys: &Keyspace,
        traces: &Traces,
    ) -> Self {
        Self { store: store.clone(), clock: clock.clone(), keys: keys.clone(), traces: traces.clone() }
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    pub(super) async fn commit(&self, txn: Txn) -> Result<Outcome, Error> {
        let begun = self.begin(&txn);
        let result = self.store.commit(txn).await;
        self.end(begun, &result);
        result
    }

    pub(super) async fn commit_all(&self, txns: Vec<Txn>) -> Vec<Result<Outcome, Error>> {
        let begun: Vec<_> = match self.traces.ratio() {
            Some(_) => txns.iter().map(|txn| self.begin(txn)).collect(),
            None => Vec::new(),
        };
        let results = self.store.commit_all(txns).await;
        begun.into_iter().zip(&results).for_each(|(begun, result)| self.end(begun, result));
        results
    }

    fn begin(&self, txn: &Txn) -> Begun {
        self.traces.dispatching(&self.keys, &self.clock, txn)
    }

    fn end(&self, begun: Begun, result: &Result<Outcome, Error>) {
        if matches!(result, Ok(Outcome::Applied { .. })) {
            self.traces.ended(begun, &self.clock);
        }
    }
}
