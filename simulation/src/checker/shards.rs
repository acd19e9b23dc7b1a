//! Broadcasts: whether the shards are those of their parent, and whether what it says of them is true.

use forest_proto::RunId;
use forest_proto::record::{Outcome, Snapshot, Spread};

use super::runs::{Doc, Runs, is_settled};
use super::{Broken, Promise};

/// Whether two runs are shards of one broadcast, or one of them is the broadcast.
pub(super) fn are_of_one(a: &RunId, b: &RunId) -> bool {
    let root = |run: &RunId| run.parent().unwrap_or_else(|| run.clone());
    root(a) == root(b)
}

impl Runs {
    fn spread(&self, parent: &RunId) -> Option<Spread> {
        self.docs(parent).into_values().find_map(|doc| match doc {
            Doc::Spread(spread) => Some(*spread),
            _ => None,
        })
    }

    /// A shard comes with its parent, and is one of those that this one has.
    pub(super) fn is_part(&self, run: &RunId, snapshot: &Snapshot, broken: &mut Broken) {
        let spread = run.parent().and_then(|parent| self.spread(&parent));
        let Some((spread, index)) = spread.zip(run.shard()) else {
            return broken.note(Promise::PartsOfOne, format!("{run} without its parent"));
        };
        if index >= spread.created || snapshot.shard.as_ref() != Some(&spread.shard(index)) {
            broken.note(Promise::PartsOfOne, format!("{run} is no shard of its parent"));
        }
    }

    /// How a shard ended, if nothing of it is left that has not.
    fn end_of_shard(&self, parent: &RunId, index: u32) -> Option<Outcome> {
        let is_it = |run: &RunId| run.shard() == Some(index) && run.parent().as_ref() == Some(parent);
        let mut open = self.alive.get(parent.job()).into_iter().flatten().filter(|(run, _)| is_it(run));
        if open.any(|(_, docs)| !docs.values().all(is_settled)) {
            return None;
        }
        let ended = self.ended.range(parent.clone()..).take_while(|(run, _)| run.at() == parent.at());
        let ended = ended.filter(|(run, _)| is_it(run)).max_by_key(|(run, _)| run.attempt());
        ended.and_then(|(_, outcome)| *outcome)
    }

    /// What a broadcast says of its shards is true, and stays.
    pub(super) fn tells_true(&self, run: &RunId, was: Option<&Spread>, is: &Spread, broken: &mut Broken) {
        for (index, outcome) in &is.ended {
            let known = was.is_some_and(|was| was.ended.contains_key(index));
            let ended = self.end_of_shard(run, *index);
            if !known && ended != Some(*outcome) {
                broken
                    .note(Promise::PartsOfOne, format!("{run} says of {index} {outcome:?}, it is {ended:?}"));
            }
        }
        let Some(was) = was else { return };
        let kept = was.ended.iter().all(|(index, outcome)| is.ended.get(index) == Some(outcome));
        let grows = is.created >= was.created && is.clients == was.clients;
        if !kept || !grows || (was.stopping.is_some() && was.stopping != is.stopping) {
            broken.note(
                Promise::PartsOfOne,
                format!("{run} forgot something: {:?}, then {:?}", was.ended, is.ended),
            );
        }
    }

    /// A broadcast ends with the last of its shards.
    pub(super) fn parts_are_over(
        &self,
        run: &RunId,
        spread: &Spread,
        outcome: Option<Outcome>,
        broken: &mut Broken,
    ) {
        let ends: Vec<_> = (0..spread.created).map(|index| self.end_of_shard(run, index)).collect();
        let all = spread.created == spread.total() && ends.iter().all(|end| *end == Some(Outcome::Succeeded));
        if ends.iter().any(Option::is_none) || all != (outcome == Some(Outcome::Succeeded)) {
            broken.note(Promise::PartsOfOne, format!("{run} ended as {outcome:?}: {ends:?}"));
        }
    }

    /// What is settled of a shard without another attempt, its parent has noted.
    pub(super) fn is_noted(&self, run: &RunId, broken: &mut Broken) {
        let Some((parent, index)) = run.parent().zip(run.shard()) else { return };
        let Some(spread) = self.spread(&parent) else { return };
        if self.end_of_shard(&parent, index).is_some() && !spread.ended.contains_key(&index) {
            broken.note(Promise::PartsOfOne, format!("{run} was settled without its parent"));
        }
    }

    /// Whether all shards of its broadcast are to stop.
    pub(super) fn is_stopped_with_others(&self, run: &RunId) -> bool {
        run.parent().and_then(|parent| self.spread(&parent)).is_some_and(|spread| spread.stopping.is_some())
    }
}
