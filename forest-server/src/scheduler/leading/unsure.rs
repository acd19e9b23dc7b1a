//! Places at clients that transactions count on of which nobody knows what became of them.
//!
//! A transaction whose answer was lost may have been applied, or be applied later. So the place that it takes is
//! counted until the view shows another revision of the key that it compares: then either its run is in the view,
//! or it can never be applied. Otherwise another run would be given beside it, and a job or a group would have one
//! more than it allows. No request is on its way for ever: where the key stays as it is, the place is let go.

use std::collections::BTreeMap;
use std::time::Duration;

use forest_proto::Segment;

use super::Subject;
use crate::core::routing::Promise;
use crate::core::view::View;

/// No request arrives later than this.
const ARRIVES_WITHIN: Duration = Duration::from_secs(30);

/// A place that a step counts on, and the revision of what the step consumes.
#[derive(Debug)]
pub(in crate::scheduler) struct Counted {
    pub(super) promise: Promise,
    pub(super) consumes: i64,
}

#[derive(Debug, Default)]
pub(super) struct Unsure {
    /// By segment and the revision of the cursor that was compared.
    batches: BTreeMap<(Segment, i64), Vec<(Duration, Promise)>>,
    steps: BTreeMap<Subject, Kept>,
}

/// A place that is counted until this time since boot at the latest.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) counted: Counted,
    until: Duration,
}

impl Unsure {
    pub(super) fn add_batch(
        &mut self,
        segment: Segment,
        cursor: i64,
        promised: Vec<Promise>,
        boot: Duration,
    ) {
        let kept = promised.into_iter().map(|promise| (boot + ARRIVES_WITHIN, promise));
        self.batches.entry((segment, cursor)).or_default().extend(kept);
    }

    pub(super) fn add_step(&mut self, subject: Subject, counted: Counted, boot: Duration) {
        self.steps.insert(subject, Kept { counted, until: boot + ARRIVES_WITHIN });
    }

    pub(super) fn put_back(&mut self, subject: Subject, kept: Kept) {
        self.steps.insert(subject, kept);
    }

    /// What the same subject counted on before. Of its transactions one is applied, so they need one place.
    pub(super) fn take_step(&mut self, subject: &Subject) -> Option<Kept> {
        self.steps.remove(subject)
    }

    /// What is not counted any more: the view has settled it, or its time is over.
    pub(super) fn settled(&mut self, view: &View, boot: Duration) -> Vec<Promise> {
        let mut settled = Vec::new();
        self.batches.retain(|(segment, compared), promised| {
            let cursor = view.jobs.segment(*segment).decided().map_or(0, |decided| decided.revision);
            let over = promised.extract_if(.., |(until, _)| cursor != *compared || *until <= boot);
            settled.extend(over.map(|(_, promise)| promise));
            !promised.is_empty()
        });
        let is_over = |subject: &Subject, kept: &mut Kept| {
            consumed(view, subject) != kept.counted.consumes || kept.until <= boot
        };
        settled.extend(self.steps.extract_if(.., is_over).map(|(_, kept)| kept.counted.promise));
        settled
    }
}

/// The revision of what a step of this subject consumes; 0: it is gone.
pub(super) fn consumed(view: &View, subject: &Subject) -> i64 {
    match subject {
        Subject::Run(run) => view.runs.get(run).map_or(0, |run| run.revision),
        Subject::Request(id) => view.requests.entry(id).map_or(0, |entry| entry.revision),
        Subject::Backfill(job) => view.backfills.entry(job).map_or(0, |entry| entry.revision),
        // They give no client anything.
        Subject::Job(_) | Subject::Cancel(_) => 0,
    }
}
