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

#[cfg(test)]
mod tests {
    use forest_proto::record::{After, Condition, Job, Need, Trigger, Within, encode};
    use forest_proto::{Keyspace, SegmentCount};

    use super::*;

    fn id(text: &str) -> JobId {
        JobId::new(text).expect("valid")
    }

    fn subject(text: &str) -> Subject {
        Subject::Job(id(text))
    }

    /// A view with a job that follows two, and a transaction that counts an end for each of these jobs.
    fn begin() -> (View, impl Fn(&[&str]) -> Txn) {
        let keys = Keyspace::default();
        let mut view = View::new(keys.clone(), SegmentCount::DEFAULT, String::new());
        let mut job = Job::new(id("s"), "s", "g".parse().expect("valid"), "t".parse().expect("valid"));
        let (on, need, within) = (Condition::End, Need::All, Within::Fire);
        job.trigger = Trigger::After(After { jobs: vec![id("a"), id("b")], on, need, within });
        view.jobs.put(&job.id, &encode(&job), 10, 1).expect("readable");
        let count = move |jobs: &[&str]| {
            let segment = SegmentCount::DEFAULT.segment_of(&id("s"));
            jobs.iter().fold(Txn::new(), |txn, job| txn.put(keys.join(segment, &id(job)), "{}"))
        };
        (view, count)
    }

    #[test]
    fn they_take_turns_and_hear_when_it_is_theirs() {
        let (view, count) = begin();
        let mut joins = Joins::default();
        assert!(joins.enter(&view, &subject("a"), &count(&["s", "t"])));
        assert!(!joins.enter(&view, &subject("b"), &count(&["s"])));
        assert!(!joins.enter(&view, &subject("c"), &count(&["u", "t"])));
        assert!(joins.enter(&view, &subject("d"), &count(&["u"])), "what waits holds nothing");
        assert!(joins.enter(&view, &subject("e"), &Txn::new().put("k", "v")));
        assert!(joins.leave(&subject("e")).is_empty());
        assert_eq!(joins.leave(&subject("a")), [subject("b"), subject("c")].into());
        assert!(joins.enter(&view, &subject("b"), &count(&["s"])));
        assert!(joins.leave(&subject("b")).is_empty());
        assert!(joins.waiting.is_empty());
    }
}
