//! The roll call: whether the view has every run of the terms before this one.
//!
//! A view that is as new as the term may still lack something, because a watch can drop a message. A dropped
//! change of a job shows in its segment's generation, but a dropped run would show in nothing, and a job whose
//! runs must not overlap would fire beside it. So a new leader lists the keys of all runs, without their values,
//! and decides nothing before the view has them, or else before the watch has listed everything again.

use std::collections::BTreeSet;

use forest_etcd::Change;

use super::view::View;

/// The keys of all runs with the revisions of their last writes.
pub(crate) type Roll = Vec<(String, i64)>;

#[derive(Default)]
pub(crate) struct RollCall {
    listed: Option<Roll>,
    /// Deleted since the term began: what was listed before that is not missing.
    gone: BTreeSet<String>,
    lacking: bool,
}

impl RollCall {
    pub(crate) fn note(&mut self, change: &Change) {
        if let Change::Deleted { key, .. } = change {
            self.gone.insert(key.clone());
        }
    }

    pub(crate) fn answered(&mut self, roll: Roll) {
        self.listed = Some(roll);
    }

    /// The runs could not be listed.
    pub(crate) fn failed(&mut self) {
        self.lacking = true;
    }

    /// Whether it is not known yet what there is.
    pub(crate) fn is_under_way(&self) -> bool {
        self.listed.is_none() && !self.lacking
    }

    /// Whether everything must be listed again.
    pub(crate) fn is_lacking(&self) -> bool {
        self.lacking
    }

    /// Whether nothing can be missing any more.
    pub(crate) fn is_over(&mut self, view: &View, term: i64) -> bool {
        if view.listed() >= term {
            return true;
        }
        let Some(roll) = &self.listed else { return false };
        let newest = roll.iter().map(|(_, revision)| *revision).max().unwrap_or(0);
        if self.lacking || view.revision() < newest.max(term) {
            return false;
        }
        let lacks =
            |(key, revision): &&(String, i64)| !self.gone.contains(key) && view.lacks_run(key, *revision);
        let missing = roll.iter().find(lacks).map(|(key, _)| key);
        if let Some(key) = missing {
            tracing::error!(key, "the watch has dropped a run: listing everything again");
        }
        self.lacking = missing.is_some();
        !self.lacking
    }
}
