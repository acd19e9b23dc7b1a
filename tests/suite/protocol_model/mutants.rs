//! The protocol with something missing, and a mix of faults in which that does harm. Also the guards that do
//! none when they alone are missing, with what stands in for them.

use super::mixes::Mix;
use super::rules::Flaw;
use super::txn::GuardName as G;
use super::txn::Step;
use super::world::Budget;

pub(super) struct Mutant {
    pub(super) dropped: &'static [(Step, G)],
    pub(super) flaw: Option<Flaw>,
    pub(super) mix: Mix,
}

const NONE: Budget = Budget::NONE;
const CALM: Budget = NONE;
const AMBIGUOUS: Budget = Budget { ambiguous: 1, ..NONE };
const CLIENT_EXPIRY: Budget = Budget { client_expiry: 1, ..NONE };
const EDIT: Budget = Budget { edit: 1, ..NONE };
const CREATE: Budget = Budget { create: 1, ..NONE };
const MANUAL: Budget = Budget { manual: 1, ..NONE };
const AMBIGUOUS_MANUAL: Budget = Budget { manual: 1, ambiguous: 1, ..NONE };
const MANUAL_UNDER_TWO_LEADERS: Budget = Budget { manual: 1, leader_expiry: 1, ..NONE };
const AMBIGUOUS_EXPIRY: Budget = Budget { client_expiry: 1, ambiguous: 1, no_slot: 1, ..NONE };
const CANCEL: Budget = Budget { cancel: 1, no_slot: 1, ..NONE };
const AMBIGUOUS_CANCEL: Budget = Budget { cancel: 1, no_slot: 1, ambiguous: 1, ..NONE };

const fn without(dropped: &'static [(Step, G)], budget: Budget, fires: u8) -> Mutant {
    Mutant { dropped, flaw: None, mix: Mix { name: "mutant", budget, fires } }
}

const fn with(flaw: Flaw, budget: Budget, fires: u8) -> Mutant {
    Mutant { dropped: &[], flaw: Some(flaw), mix: Mix { name: "mutant", budget, fires } }
}

/// None of these may survive.
pub(super) const MUTANTS: &[Mutant] = &[
    // One guard missing.
    without(&[(Step::Dispatch, G::Cursor)], AMBIGUOUS, 1),
    without(&[(Step::Dispatch, G::Jobgen)], EDIT, 1),
    without(&[(Step::Dispatch, G::Jobgen)], CREATE, 3),
    without(&[(Step::ConsumeRetry, G::Waiting)], AMBIGUOUS, 1),
    without(&[(Step::ConsumeRetry, G::Conf)], EDIT, 1),
    without(&[(Step::ConsumeRequest, G::Conf)], Budget { manual: 1, edit: 1, ..NONE }, 1),
    without(&[(Step::ConsumeRequest, G::Cursor)], AMBIGUOUS_MANUAL, 1),
    without(&[(Step::AssignParked, G::Snapshot)], AMBIGUOUS_EXPIRY, 1),
    without(&[(Step::ExpireParked, G::Snapshot)], AMBIGUOUS_EXPIRY, 1),
    without(&[(Step::Move, G::Snapshot)], AMBIGUOUS_EXPIRY, 1),
    without(&[(Step::Claim, G::Snapshot)], AMBIGUOUS, 1),
    without(&[(Step::Claim, G::Registered)], CLIENT_EXPIRY, 1),
    without(&[(Step::Complete, G::Execute)], CLIENT_EXPIRY, 1),
    without(&[(Step::DeclareLost, G::Execute)], AMBIGUOUS_EXPIRY, 1),
    without(&[(Step::DeclareLost, G::Gone)], CALM, 1),
    without(&[(Step::DeclareLost, G::NotCancelled)], Budget { client_expiry: 1, ..AMBIGUOUS_CANCEL }, 1),
    without(&[(Step::DecideFailure, G::Execute)], AMBIGUOUS, 1),
    without(&[(Step::CancelUnclaimed, G::Waiting)], AMBIGUOUS_CANCEL, 1),
    without(&[(Step::CancelUnclaimed, G::Snapshot)], AMBIGUOUS_CANCEL, 1),
    without(&[(Step::CancelRunning, G::Execute)], AMBIGUOUS_CANCEL, 1),
    without(&[(Step::Edit, G::Conf)], Budget { edit: 2, ambiguous: 1, ..NONE }, 1),
    without(&[(Step::Request, G::NoAnswer)], AMBIGUOUS_MANUAL, 1),
    // More than one missing: what other schedulers do, and what the term holds once the cursor does not.
    without(&[(Step::Move, G::Gone), (Step::DeclareLost, G::Gone)], CALM, 1),
    without(&[(Step::Claim, G::Snapshot), (Step::Claim, G::Registered)], CLIENT_EXPIRY, 1),
    without(
        &[(Step::Dispatch, G::Term), (Step::Dispatch, G::Cursor)],
        Budget { leader_expiry: 1, ..NONE },
        1,
    ),
    without(
        &[(Step::Dispatch, G::Term), (Step::ConsumeRequest, G::Term), (Step::ConsumeRequest, G::Cursor)],
        MANUAL_UNDER_TWO_LEADERS,
        1,
    ),
    without(&[(Step::Campaign, G::NoLeader), (Step::ConsumeRequest, G::Cursor)], MANUAL_UNDER_TWO_LEADERS, 1),
    without(&[(Step::ConsumeRequest, G::Waiting), (Step::ConsumeRequest, G::Cursor)], AMBIGUOUS_MANUAL, 1),
    // A habit.
    Mutant { dropped: &[(Step::Dispatch, G::Cursor)], ..with(Flaw::KeepsViewAfterLostReply, AMBIGUOUS, 1) },
    Mutant {
        dropped: &[(Step::ConsumeRequest, G::Cursor)],
        ..with(Flaw::LoadsBeforeElection, MANUAL_UNDER_TWO_LEADERS, 1)
    },
    with(Flaw::RefreshesRevisionsOnly, EDIT, 1),
    with(Flaw::IgnoresOwnLeaderKey, AMBIGUOUS, 1),
    with(Flaw::ManualRunLeavesCursor, AMBIGUOUS_MANUAL, 1),
    with(Flaw::OverlapIgnoresRetries, CALM, 2),
    with(Flaw::OverlapIgnoresUndecidedFailures, MANUAL, 1),
    with(Flaw::NeverMoves, CLIENT_EXPIRY, 1),
    with(Flaw::NeverExpiresParked, Budget { client_expiry: 2, ..NONE }, 1),
    with(Flaw::ExecuteOnClientLease, CLIENT_EXPIRY, 1),
    with(Flaw::NeverAdoptsOwnClaim, AMBIGUOUS, 1),
    with(Flaw::AdoptsWithoutRegistration, AMBIGUOUS_EXPIRY, 1),
    with(Flaw::DropsLateResults, CLIENT_EXPIRY, 1),
    with(Flaw::TrustsUnansweredCompletion, AMBIGUOUS, 1),
    with(Flaw::CollectsBeforeDecision, CALM, 1),
    with(Flaw::DeletesBeforeSaving, Budget { node_crash: 1, ..NONE }, 1),
    with(Flaw::EditForgetsJobgen, EDIT, 1),
    with(Flaw::EditForgetsJobgen, CREATE, 3),
    with(Flaw::ForgetsAnswers, AMBIGUOUS_MANUAL, 1),
    with(Flaw::RetriesCancelledRuns, CANCEL, 1),
    with(Flaw::LeavesCancelKeys, CANCEL, 1),
    with(Flaw::CancelSeesSnapshotsOnly, CANCEL, 1),
    with(Flaw::ClientDecidesFailures, CALM, 1),
];

/// Guards that do no harm when they are missing, though something else must then stand in.
pub(super) struct SecondLine {
    pub(super) dropped: &'static [(Step, G)],
    /// The faults under which all of them are taken away at once.
    pub(super) mixes: &'static [Mix],
}

/// They are kept, for each makes the argument shorter or saves work, and because the model is smaller than
/// the world.
pub(super) const SECOND_LINES: &[SecondLine] = &[LEADERSHIP, REPEATED, STEALING];

/// Every new run takes its turn at the cursor, every other write compares the key it replaces; so an old
/// leader can only do what the new one would. Limits across segments, which the model lacks, rest on the
/// term; and it stands in for the cursor wherever no reply is lost.
const LEADERSHIP: SecondLine = SecondLine {
    dropped: &[
        (Step::Campaign, G::NoLeader),
        (Step::Dispatch, G::Term),
        (Step::ConsumeRetry, G::Term),
        (Step::ConsumeRequest, G::Term),
        (Step::AssignParked, G::Term),
        (Step::ExpireParked, G::Term),
        (Step::Move, G::Term),
        (Step::DeclareLost, G::Term),
        (Step::DecideFailure, G::Term),
        (Step::CancelUnclaimed, G::Term),
        (Step::CancelRunning, G::Term),
        (Step::CancelEnded, G::Term),
    ],
    mixes: &[
        Mix { name: "no term: leader change, manual run", budget: MANUAL_UNDER_TWO_LEADERS, fires: 1 },
        Mix {
            name: "no term: leader change, cancel",
            budget: Budget { leader_expiry: 1, cancel: 1, ..NONE },
            fires: 1,
        },
        Mix { name: "no term: ambiguous reply", budget: AMBIGUOUS, fires: 1 },
    ],
};

/// The write changes nothing when it comes twice, or another compared key (the cursor, the run's own) already
/// keeps it from coming twice. A decided record never changes, and its key is never used again.
const REPEATED: SecondLine = SecondLine {
    dropped: &[
        (Step::ConsumeRequest, G::Waiting),
        (Step::Collect, G::Unchanged),
        (Step::CancelUnclaimed, G::CancelRequest),
        (Step::CancelRunning, G::CancelRequest),
        (Step::CancelEnded, G::CancelRequest),
        (Step::Request, G::NoRequest),
        (Step::RequestCancel, G::NoCancelRequest),
    ],
    mixes: &[
        Mix { name: "repeats: ambiguous reply, manual run", budget: AMBIGUOUS_MANUAL, fires: 1 },
        Mix { name: "repeats: ambiguous reply, cancel, full clients", budget: AMBIGUOUS_CANCEL, fires: 1 },
        Mix {
            name: "repeats: node crash, slow collectors",
            budget: Budget { node_crash: 1, ..NONE },
            fires: 1,
        },
    ],
};

/// A client that is there after all only loses the snapshot: its claim compares it.
const STEALING: SecondLine = SecondLine {
    dropped: &[(Step::Move, G::Gone)],
    mixes: &[
        Mix { name: "stealing: ambiguous reply", budget: AMBIGUOUS, fires: 1 },
        Mix { name: "stealing: client expiry", budget: CLIENT_EXPIRY, fires: 1 },
    ],
};
