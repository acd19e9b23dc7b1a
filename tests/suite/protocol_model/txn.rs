//! The transactions as data: a step, its guards by name, its writes. A transaction can be kept in flight and
//! be applied later by etcd, when its sender has long forgotten it.
//!
//! The guards are the protocol. The checks made while writing are not: they compare the write with what no
//! guard can see, and report a broken promise.

use super::catalogue::{Attempt, FIRES, Job};
use super::invariants::Broken;
use super::rules::{Flaw, Rules};
use super::world::{
    ClientId, Conf, Cursor, Execute, Leadership, NodeId, Outcome, Place, Placing, Record, World,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Step {
    Campaign,
    Dispatch,
    ConsumeRetry,
    ConsumeRequest,
    AssignParked,
    ExpireParked,
    Move,
    Claim,
    Complete,
    Late,
    DeclareLost,
    DecideFailure,
    Collect,
    CancelUnclaimed,
    CancelRunning,
    CancelEnded,
    Edit,
    Request,
    RequestCancel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Guard {
    NoLeader,
    Term(u8),
    Cursor(Cursor),
    Jobgen(u8),
    Conf(Job, u8),
    Waiting(Attempt),
    Snapshot(Attempt, Place, Option<Placing>),
    Execute(Attempt, ClientId, Execute),
    Registered(ClientId),
    Gone(ClientId),
    NotCancelled(Attempt, ClientId),
    CancelRequest,
    NoCancelRequest,
    NoRequest(Attempt),
    NoAnswer,
    Unchanged(Record),
}

/// A guard without its operands: what a mutant leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum GuardName {
    NoLeader,
    Term,
    Cursor,
    Jobgen,
    Conf,
    Waiting,
    Snapshot,
    Execute,
    Registered,
    Gone,
    NotCancelled,
    CancelRequest,
    NoCancelRequest,
    NoRequest,
    NoAnswer,
    Unchanged,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Write {
    Lead(NodeId),
    Cursor(u8),
    RewriteCursor,
    Jobgen,
    /// The document, and the version it was made from.
    Conf(Job, Conf, u8),
    Wait(Attempt),
    Unwait(Attempt),
    /// A new run, planned from this version of its job.
    Create(Attempt, Place, u8),
    Put(Attempt, Place, Placing),
    Take(Attempt, Place),
    Execute(Attempt, ClientId, Execute),
    Verdict(Attempt, Outcome),
    Late(Attempt, ClientId, Outcome),
    Cancel(Attempt, ClientId),
    Uncancel(Attempt, ClientId),
    RequestCancel,
    TakeCancelRequest,
    Answer,
    Remove(Record),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Txn {
    pub(super) step: Step,
    pub(super) guards: [Option<Guard>; 4],
    pub(super) writes: [Option<Write>; 4],
}

impl Txn {
    pub(super) fn new<const G: usize, const W: usize>(
        step: Step,
        guards: [Guard; G],
        writes: [Write; W],
    ) -> Txn {
        Txn::from_parts(step, &guards, &writes)
    }

    pub(super) fn from_parts(step: Step, guards: &[Guard], writes: &[Write]) -> Txn {
        let mut txn = Txn { step, guards: [None; 4], writes: [None; 4] };
        for (slot, guard) in txn.guards.iter_mut().zip(guards) {
            *slot = Some(*guard);
        }
        for write in writes {
            txn.also(*write);
        }
        txn
    }

    pub(super) fn also(&mut self, write: Write) {
        let free = self.writes.iter_mut().find(|slot| slot.is_none());
        *free.expect("no transaction of the model writes more than four keys") = Some(write);
    }

    pub(super) fn passes(&self, world: &World, rules: &Rules) -> bool {
        let mut guards = self.guards.iter().flatten();
        guards.all(|guard| guard.holds(world) || rules.drops(self.step, guard.name()))
    }

    pub(super) fn commit(&self, world: &mut World, rules: &Rules) -> Result<(), Broken> {
        for write in self.writes.iter().flatten() {
            self.check(*write, world)?;
            write.apply(world, rules);
        }
        Ok(())
    }

    /// What must hold of this write whatever its guards said.
    fn check(&self, write: Write, world: &World) -> Result<(), Broken> {
        match write {
            Write::Cursor(to) => self.check_cursor(to, world),
            Write::Create(attempt, _, version) => {
                let conf = world.etcd.conf(attempt.job());
                if !conf.enabled || conf.version != version {
                    return Err(Broken::RunOfOldVersion(attempt));
                }
                if world.history.cancelled && attempt.is_of_cancellable_run() {
                    return Err(Broken::CancelledRunCreated(attempt));
                }
                Ok(())
            }
            Write::Conf(job, _, read_at) if world.etcd.conf(job).version != read_at => {
                Err(Broken::LostUpdate(job))
            }
            Write::Execute(attempt, ..) | Write::Verdict(attempt, _)
                if world.decision_on(attempt).is_some() =>
            {
                Err(Broken::DecidedTwice(attempt))
            }
            _ => Ok(()),
        }
    }

    fn check_cursor(&self, to: u8, world: &World) -> Result<(), Broken> {
        if to <= world.etcd.cursor.decided {
            return Err(Broken::CursorWentBack);
        }
        let fire = FIRES[usize::from(to) - 1];
        if fire.at > world.now {
            return Err(Broken::FiredEarly(fire.attempt));
        }
        let decides =
            self.writes.iter().flatten().any(
                |write| matches!(write, Write::Create(a, ..) | Write::Verdict(a, _) if *a == fire.attempt),
            );
        let enabled = world.etcd.conf(fire.job).enabled;
        if enabled && !decides { Err(Broken::FireLost(fire.attempt)) } else { Ok(()) }
    }
}

impl Guard {
    fn holds(&self, world: &World) -> bool {
        let etcd = &world.etcd;
        match *self {
            Guard::NoLeader => etcd.leader.is_none(),
            Guard::Term(term) => etcd.leader.is_some_and(|leader| leader.term == term),
            Guard::Cursor(cursor) => etcd.cursor == cursor,
            Guard::Jobgen(jobgen) => etcd.jobgen == jobgen,
            Guard::Conf(job, version) => etcd.conf(job).version == version,
            Guard::Waiting(attempt) => etcd.run(attempt).waiting,
            Guard::Snapshot(attempt, place, placing) => {
                placing.is_some() && etcd.snapshot(attempt, place) == placing
            }
            Guard::Execute(attempt, client, execute) => etcd.at(attempt, client).execute == execute,
            Guard::Registered(client) => etcd.is_registered(client),
            Guard::Gone(client) => !etcd.is_registered(client),
            Guard::NotCancelled(attempt, client) => !etcd.at(attempt, client).cancel,
            Guard::CancelRequest => etcd.cancel_request,
            Guard::NoCancelRequest => !etcd.cancel_request,
            Guard::NoRequest(attempt) => !etcd.run(attempt).waiting,
            Guard::NoAnswer => !etcd.answer,
            Guard::Unchanged(Record::Verdict(attempt, outcome)) => etcd.run(attempt).verdict == Some(outcome),
            Guard::Unchanged(Record::Execute(attempt, client, outcome)) => {
                etcd.at(attempt, client).execute == Execute::Decided(outcome)
            }
            Guard::Unchanged(Record::Late(attempt, client, outcome)) => {
                etcd.at(attempt, client).late == Some(outcome)
            }
        }
    }

    pub(super) fn name(&self) -> GuardName {
        match self {
            Guard::NoLeader => GuardName::NoLeader,
            Guard::Term(_) => GuardName::Term,
            Guard::Cursor(_) => GuardName::Cursor,
            Guard::Jobgen(_) => GuardName::Jobgen,
            Guard::Conf(..) => GuardName::Conf,
            Guard::Waiting(_) => GuardName::Waiting,
            Guard::Snapshot(..) => GuardName::Snapshot,
            Guard::Execute(..) => GuardName::Execute,
            Guard::Registered(_) => GuardName::Registered,
            Guard::Gone(_) => GuardName::Gone,
            Guard::NotCancelled(..) => GuardName::NotCancelled,
            Guard::CancelRequest => GuardName::CancelRequest,
            Guard::NoCancelRequest => GuardName::NoCancelRequest,
            Guard::NoRequest(_) => GuardName::NoRequest,
            Guard::NoAnswer => GuardName::NoAnswer,
            Guard::Unchanged(_) => GuardName::Unchanged,
        }
    }
}

impl Write {
    fn apply(self, world: &mut World, rules: &Rules) {
        let etcd = &mut world.etcd;
        match self {
            Write::Lead(node) => {
                // A put on an existing key keeps its create revision, so the term stays.
                let term = etcd.leader.map_or(etcd.last_term + 1, |leader| leader.term);
                etcd.last_term = term;
                etcd.leader = Some(Leadership { node, term });
            }
            Write::Cursor(to) => etcd.cursor.decided = to,
            Write::RewriteCursor => etcd.cursor.rewrites += 1,
            Write::Jobgen => etcd.jobgen += 1,
            Write::Conf(job, conf, _) => etcd.confs[job as usize] = conf,
            Write::Wait(attempt) => etcd.run_mut(attempt).waiting = true,
            Write::Unwait(attempt) => etcd.run_mut(attempt).waiting = false,
            Write::Create(attempt, place, _) => {
                put_snapshot(world, attempt, place, Some(Placing::FIRST));
                let created = &mut world.history.created[attempt.index()];
                *created = (*created + 1).min(2);
            }
            Write::Put(attempt, place, placing) => put_snapshot(world, attempt, place, Some(placing)),
            Write::Take(attempt, place) => put_snapshot(world, attempt, place, None),
            Write::Execute(attempt, client, execute) => etcd.at_mut(attempt, client).execute = execute,
            Write::Verdict(attempt, outcome) => etcd.run_mut(attempt).verdict = Some(outcome),
            Write::Late(attempt, client, outcome) => etcd.at_mut(attempt, client).late = Some(outcome),
            Write::Cancel(attempt, client) => etcd.at_mut(attempt, client).cancel = true,
            Write::Uncancel(attempt, client) => {
                if !rules.has(Flaw::LeavesCancelKeys) {
                    etcd.at_mut(attempt, client).cancel = false;
                }
            }
            Write::RequestCancel => etcd.cancel_request = true,
            Write::TakeCancelRequest => {
                etcd.cancel_request = false;
                let open = |attempt: Attempt| etcd.run(attempt).is_open();
                let in_time = Attempt::of_cancellable_run().into_iter().any(open);
                world.history.cancelled |= in_time;
            }
            Write::Answer => etcd.answer = true,
            Write::Remove(record) => record.remove(world),
        }
    }
}

fn put_snapshot(world: &mut World, attempt: Attempt, place: Place, placing: Option<Placing>) {
    match place {
        Place::Client(client) => world.etcd.at_mut(attempt, client).snapshot = placing,
        Place::Parked => world.etcd.run_mut(attempt).parked = placing,
    }
}

impl Record {
    pub(super) fn remove(self, world: &mut World) {
        match self {
            Record::Verdict(attempt, _) => world.etcd.run_mut(attempt).verdict = None,
            Record::Execute(attempt, client, _) => {
                world.etcd.at_mut(attempt, client).execute = Execute::Absent;
            }
            Record::Late(attempt, client, _) => world.etcd.at_mut(attempt, client).late = None,
        }
    }
}
