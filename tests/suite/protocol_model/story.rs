//! What happened, as data while exploring and as a sentence when somebody has to read it.

use std::fmt;

use super::catalogue::{Attempt, Job};
use super::txn::Step;
use super::world::{ClientId, NodeId, Outcome, Place, Record};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) by: Actor,
    pub(super) deed: Deed,
    pub(super) reply: Reply,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Actor {
    World,
    Admin,
    Node(NodeId),
    Client(ClientId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// Not a transaction.
    None,
    Committed,
    Refused,
    /// Applied, and the reply is lost.
    Lost,
    /// The sender gives up while etcd may still apply it.
    InFlight,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    Tick,
    LeaderLeaseExpires,
    ClientLeaseExpires(ClientId),
    DeadClientLeaseExpires(ClientId),
    LateApply(Step),
    LateRefusal(Step),
    Crash,
    NoticeDeposed,
    Load,
    Campaign,
    PassFire(Attempt),
    SkipFire(Attempt),
    Dispatch(Attempt, Place),
    Consume(Attempt, Place),
    Refuse(Attempt, Outcome),
    Expire(Attempt),
    Move(Attempt, Place, Place),
    DeclareLost(Attempt, ClientId),
    DecideFailure(Attempt, ClientId),
    Cancel(Attempt),
    PassCancelOn(Attempt, ClientId),
    DropCancelRequest,
    Collect(Record),
    Pick(Record),
    Save(Record),
    Delete(Record),
    Edit,
    Disable,
    CreateJob(Job),
    DecideToAsk,
    AskForManualRun,
    AskForCancel,
    See(Attempt),
    Claim(Attempt),
    Finish(Attempt, Outcome),
    Complete(Attempt, Outcome),
    WriteLate(Attempt, Outcome),
    DropLate(Attempt),
}

impl Event {
    /// The explorer looks for a way to the end that needs none of these.
    pub(super) fn is_fault(&self) -> bool {
        let chosen = matches!(
            self.deed,
            Deed::LeaderLeaseExpires
                | Deed::ClientLeaseExpires(_)
                | Deed::Crash
                | Deed::Edit
                | Deed::Disable
                | Deed::CreateJob(_)
                | Deed::DecideToAsk
                | Deed::AskForCancel
        );
        chosen || matches!(self.reply, Reply::Lost | Reply::InFlight)
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.by {
            Actor::World => {}
            Actor::Admin => f.write_str("the admin ")?,
            Actor::Node(node) => write!(f, "node {} ", node_name(node))?,
            Actor::Client(client) => write!(f, "client {} ", client + 1)?,
        }
        write!(f, "{}", self.deed)?;
        f.write_str(match self.reply {
            Reply::None | Reply::Committed => "",
            Reply::Refused => " [refused]",
            Reply::Lost => " [applied, the reply is lost]",
            Reply::InFlight => " [no reply, still in flight]",
        })
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Deed::Tick => f.write_str("a second passes"),
            Deed::LeaderLeaseExpires => f.write_str("the leader's lease expires"),
            Deed::ClientLeaseExpires(client) => write!(f, "the lease of client {} expires", client + 1),
            Deed::DeadClientLeaseExpires(client) => {
                write!(f, "the lease of the dead client {} expires", client + 1)
            }
            Deed::LateApply(step) => write!(f, "etcd applies the {step:?} that was in flight"),
            Deed::LateRefusal(step) => write!(f, "etcd refuses the {step:?} that was in flight"),
            Deed::Crash => f.write_str("crashes"),
            Deed::NoticeDeposed => f.write_str("notices that it leads no more"),
            Deed::Load => f.write_str("loads"),
            Deed::Campaign => f.write_str("campaigns"),
            Deed::PassFire(a) => write!(f, "passes {a}: its job is absent or disabled"),
            Deed::SkipFire(a) => write!(f, "skips {a}: another run is active"),
            Deed::Dispatch(a, place) => write!(f, "dispatches {a} {place}"),
            Deed::Consume(a, place) => write!(f, "consumes the waiting {a} and gives it {place}"),
            Deed::Refuse(a, outcome) => write!(f, "ends the waiting {a} as {outcome:?}"),
            Deed::Expire(a) => write!(f, "ends the parked {a}: start deadline"),
            Deed::Move(a, from, to) => write!(f, "takes {a} {from} and gives it {to}"),
            Deed::DeclareLost(a, client) => write!(f, "declares {a} at client {} lost", client + 1),
            Deed::DecideFailure(a, client) => {
                write!(f, "decides the failure of {a} at client {}", client + 1)
            }
            Deed::Cancel(a) => write!(f, "cancels {a} before anybody claims it"),
            Deed::PassCancelOn(a, client) => write!(f, "tells client {} to cancel {a}", client + 1),
            Deed::DropCancelRequest => f.write_str("drops the cancel request: nothing to cancel"),
            Deed::Collect(record) => write!(f, "collects {record}"),
            Deed::Pick(record) => write!(f, "picks {record} to collect"),
            Deed::Save(record) => write!(f, "commits {record} to MySQL"),
            Deed::Delete(record) => write!(f, "deletes {record} from etcd"),
            Deed::Edit => f.write_str("changes the parameters of report"),
            Deed::Disable => f.write_str("disables report"),
            Deed::CreateJob(job) => write!(f, "creates the job {job:?}"),
            Deed::DecideToAsk => f.write_str("wants a manual run of report"),
            Deed::AskForManualRun => f.write_str("asks for the manual run"),
            Deed::AskForCancel => f.write_str("asks to cancel the run of report@1"),
            Deed::See(a) => write!(f, "sees {a}"),
            Deed::Claim(a) => write!(f, "claims {a}"),
            Deed::Finish(a, outcome) => write!(f, "stops executing {a}: {outcome:?}"),
            Deed::Complete(a, outcome) => write!(f, "completes {a}: {outcome:?}"),
            Deed::WriteLate(a, outcome) => write!(f, "writes the late result of {a}: {outcome:?}"),
            Deed::DropLate(a) => write!(f, "drops the late result of {a}"),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Client(client) => write!(f, "@ client {}", client + 1),
            Place::Parked => f.write_str("@ nobody (parked)"),
        }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Record::Verdict(a, outcome) => write!(f, "the verdict {outcome:?} on {a}"),
            Record::Execute(a, client, outcome) => {
                write!(f, "the result {outcome:?} of {a} by client {}", client + 1)
            }
            Record::Late(a, client, _) => write!(f, "the late result of {a} by client {}", client + 1),
        }
    }
}

fn node_name(node: NodeId) -> char {
    if node == 0 { 'A' } else { 'B' }
}
