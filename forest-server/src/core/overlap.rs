//! Whether a run may start while earlier ones of its job are alive, anywhere in the cluster.
//!
//! Fires, manual runs and everything else that creates a run ask here. A run that has to wait is parked, and stands
//! in the way of later ones itself; so the order is that of the fires.

use forest_proto::record::{Overlap, SkipReason};
use forest_proto::{JobId, RunId};

use super::jobs::PlannedJob;
use super::runs::Runs;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    Start,
    /// Park it until the earlier ones have ended.
    Wait,
    Skip(SkipReason),
}

/// What a batch has already decided about a job, before the view shows it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Undecided {
    pub(crate) started: bool,
    pub(crate) waiting: u32,
}

/// `except`: the run itself, where it is there already.
pub(crate) fn admit(
    planned: &PlannedJob,
    runs: &Runs,
    id: &JobId,
    except: Option<&RunId>,
    batch: Undecided,
) -> Admission {
    let alive = batch.started || batch.waiting > 0 || runs.is_active(id, except);
    if planned.overlap == Overlap::Allow || !alive {
        return Admission::Start;
    }
    let limit = match planned.overlap {
        Overlap::Allow | Overlap::Forbid => {
            return Admission::Skip(SkipReason::StillAlive);
        }
        // It takes the place of whatever is there.
        Overlap::CancelRunning => return Admission::Wait,
        Overlap::QueueOne => 1,
        Overlap::QueueAll => planned.queue_limit as usize,
    };
    let waiting = runs.waiting(id.as_str()).count() + batch.waiting as usize;
    if waiting < limit { Admission::Wait } else { Admission::Skip(SkipReason::QueueFull) }
}
