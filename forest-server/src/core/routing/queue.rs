//! The runs that wait: which go first, and why they wait.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use forest_proto::record::Snapshot;
use forest_proto::{GroupName, RunId};

use super::Router;
use crate::core::need::{Need, Rank};
use crate::core::view::View;

/// Why the runs of a queue wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// No client would do.
    NoClient,
    /// The clients that would do are full.
    NoRoom,
    /// As many runs of the job are in flight as it allows.
    JobLimit,
    /// As many runs of the group are in flight as it allows.
    GroupLimit,
    /// The group is given no more runs a second.
    Rate,
}

impl Reason {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::NoClient => "no_client",
            Self::NoRoom => "no_room",
            Self::JobLimit => "job_limit",
            Self::GroupLimit => "group_limit",
            Self::Rate => "rate",
        }
    }
}

/// Runs of one group with the same need.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    pub(crate) group: GroupName,
    pub(crate) target: String,
    pub(crate) count: usize,
    pub(crate) oldest_ms: i64,
    /// `None`: they are about to go.
    pub(crate) reason: Option<Reason>,
}

/// Whether a run that comes up now has to wait for others that could go before it.
pub(super) fn is_behind(view: &View, router: &Router, snapshot: &Snapshot) -> bool {
    let rank = (Reverse(snapshot.priority), snapshot.id.clone());
    let queues = view.runs.parked(&snapshot.group);
    let of_target = queues.filter(|(need, _)| need.target == snapshot.target);
    let mut ahead = of_target.filter(|(_, ranks)| ranks.first().is_some_and(|first| *first < rank));
    ahead.any(|(need, _)| router.room(view, &snapshot.group, need) > 0)
}

/// The runs of a group that are to go first, as many as there may be room for.
pub(crate) fn first_in_line(
    view: &View,
    router: &Router,
    group: &GroupName,
    limit: usize,
    is_busy: impl Fn(&RunId) -> bool,
) -> Vec<RunId> {
    let mut heads: BTreeMap<&Rank, _> = BTreeMap::new();
    for (need, ranks) in view.runs.parked(group) {
        let mut waiting =
            ranks.iter().filter(|(_, run)| !is_busy(run)).take(router.room(view, group, need).min(limit));
        if let Some(head) = waiting.next() {
            heads.insert(head, waiting);
        }
    }
    let mut first = Vec::new();
    while first.len() < limit
        && let Some(((_, run), mut waiting)) = heads.pop_first()
    {
        first.push(run.clone());
        if let Some(head) = waiting.next() {
            heads.insert(head, waiting);
        }
    }
    first
}

/// What waits in a group, by need, as any node can tell it.
pub(crate) fn waiting(view: &View, group: &GroupName) -> Vec<Waiting> {
    let router = Router::seeded(0, std::time::Duration::ZERO);
    let queues = view.runs.parked(group);
    let of_queue = |(need, ranks): (&Need, &std::collections::BTreeSet<Rank>)| Waiting {
        group: group.clone(),
        target: need.target.to_string(),
        count: ranks.len(),
        oldest_ms: ranks.iter().map(|(_, run)| run.at().as_ms()).min().unwrap_or(0),
        reason: reason(view, &router, group, need),
    };
    queues.map(of_queue).collect()
}

/// Why one run that is parked waits, as any node can tell it.
pub(crate) fn why(view: &View, group: &GroupName, need: &Need) -> Option<Reason> {
    reason(view, &Router::seeded(0, std::time::Duration::ZERO), group, need)
}

fn reason(view: &View, router: &Router, group: &GroupName, need: &Need) -> Option<Reason> {
    let able = router.able(view, group, need);
    let is_full = |(id, client): &(&forest_proto::ClientId, &crate::core::clients::Client)| {
        router.held(view, &(group.clone(), (*id).clone())) >= client.allowance()
    };
    if able.is_empty() {
        Some(Reason::NoClient)
    } else if need.alone.as_ref().is_some_and(|job| router.job_room(view, job) == 0) {
        Some(Reason::JobLimit)
    } else if router.group_room(view, group) == 0 {
        Some(Reason::GroupLimit)
    } else if able.iter().all(is_full) {
        Some(Reason::NoRoom)
    } else {
        super::rate_limit(view, group).map(|_| Reason::Rate)
    }
}
