//! Of transactions that count ends in the same document one is in flight at a time.
//!
//! All but one would be refused anyway. Here they wait for each other, so that many jobs that end at once and are
//! followed by one take a round trip each, and none of them is refused again and again.

use std::collections::{BTreeMap, BTreeSet};

use forest_etcd::Txn;
use forest_proto::{JobId, Key};

use super::Subject;
use crate::core::view::View;

#[derive(Debug, Default)]
pub(super) struct Joins {
    /// Whose transaction is in flight.
    held: BTreeMap<JobId, Subject>,
    waiting: BTreeMap<JobId, BTreeSet<Subject>>,
}

impl Joins {
    /// Whether a transaction may go now. If not, its subject is told by [`leave`](Self::leave) when to look again.
    pub(super) fn enter(&mut self, view: &View, subject: &Subject, txn: &Txn) -> bool {
        if view.jobs.followers().is_empty() {
            return true;
        }
        let counted = txn.ops.iter().filter_map(|op| match view.keys.parse(op.key()) {
            Some(Key::Join { job, .. }) => Some(job),
            _ => None,
        });
        let counted: Vec<_> = counted.collect();
        if let Some(job) = counted.iter().find(|job| self.held.contains_key(*job)) {
            self.waiting.entry(job.clone()).or_default().insert(subject.clone());
            return false;
        }
        self.held.extend(counted.into_iter().map(|job| (job, subject.clone())));
        true
    }

    /// Nothing is in flight for the subject any more; gives who has waited for it.
    pub(super) fn leave(&mut self, subject: &Subject) -> BTreeSet<Subject> {
        let left: Vec<_> = self.held.extract_if(.., |_, holder| holder == subject).collect();
        left.iter().filter_map(|(job, _)| self.waiting.remove(job)).flatten().collect()
    }
}
