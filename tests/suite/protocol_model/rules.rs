//! The protocol as it is meant, or with one thing broken: a guard left out, or a habit of implementations
//! that look right.

use super::txn::{GuardName, Step};

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rules {
    /// The guards that these steps forget.
    pub(super) dropped: &'static [(Step, GuardName)],
    pub(super) flaw: Option<Flaw>,
    /// Both nodes collect, and other things happen between picking, saving and deleting. Off, collecting is
    /// one step of one node: equal as long as no node dies, since a decided record never changes.
    pub(super) slow_collector: bool,
}

/// Ways to get the protocol wrong that are not a missing guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// After a lost reply the leader goes on with the view it had.
    KeepsViewAfterLostReply,
    /// A follower loads, and leads with that view once elected.
    LoadsBeforeElection,
    /// A refused leader fetches the cursor and jobgen again, but not the jobs.
    RefreshesRevisionsOnly,
    /// A campaign that finds the key on its own lease takes it for another leader's.
    IgnoresOwnLeaderKey,
    /// A manual run compares the cursor, and does not write it.
    ManualRunLeavesCursor,
    OverlapIgnoresRetries,
    OverlapIgnoresUndecidedFailures,
    /// Unclaimed snapshots of a vanished client stay where they are.
    NeverMoves,
    /// Parked runs have no start deadline.
    NeverExpiresParked,
    /// Execute records hang on the client's lease.
    ExecuteOnClientLease,
    /// A refused claim is dropped even if it was our own earlier claim that had been applied.
    NeverAdoptsOwnClaim,
    /// The own earlier claim is adopted although the registration is gone.
    AdoptsWithoutRegistration,
    DropsLateResults,
    /// A completion whose reply is lost counts as delivered.
    TrustsUnansweredCompletion,
    CollectsBeforeDecision,
    DeletesBeforeSaving,
    EditForgetsJobgen,
    /// Consuming a manual request leaves nothing behind that answers its idempotency key.
    ForgetsAnswers,
    /// A cancelled run that fails or is lost is tried again.
    RetriesCancelledRuns,
    /// Nobody removes the client's cancel key when the run ends.
    LeavesCancelKeys,
    /// A cancel request for a run that is parked or waits for its retry is put aside as "not found".
    CancelSeesSnapshotsOnly,
    /// The final record of a failure is written as decided by the client.
    ClientDecidesFailures,
}

impl Rules {
    pub(super) fn drops(&self, step: Step, guard: GuardName) -> bool {
        self.dropped.contains(&(step, guard))
    }

    pub(super) fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }
}
