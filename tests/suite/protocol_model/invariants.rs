//! The promises. Each is one function with a name; `check` asks them all of every new state. The promises
//! about a single write are asked when it is committed (`Txn::commit`) or when a handler starts, and share
//! the type.

use std::fmt;

use super::catalogue::{ATTEMPTS, Attempt, Job};
use super::world::{CLIENTS, Execute, RunKeys, Task, World};

/// A promise that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    CreatedTwice(Attempt),
    StartedTwice(Attempt),
    StartedUnregistered(Attempt),
    LivesTwice(Attempt),
    DecidedTwice(Attempt),
    FireLost(Attempt),
    FiredEarly(Attempt),
    CursorWentBack,
    RunOfOldVersion(Attempt),
    LostUpdate(Job),
    OverlapInEtcd(Attempt, Attempt),
    OverlapOnClients,
    ResultLost(Attempt),
    RunVanished(Attempt),
    RetryLost(Attempt),
    RetryWithoutReason(Attempt),
    CancelledRunCreated(Attempt),
    /// No step leads on, or only round in circles, and something is left undone.
    Stuck,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::CreatedTwice(a) => write!(f, "{a} was created twice"),
            Broken::StartedTwice(a) => write!(f, "{a} was started twice"),
            Broken::StartedUnregistered(a) => {
                write!(f, "{a} was started by a client whose registration is gone")
            }
            Broken::LivesTwice(a) => write!(f, "{a} has two live keys"),
            Broken::DecidedTwice(a) => write!(f, "the decided outcome of {a} was written over"),
            Broken::FireLost(a) => {
                write!(f, "the cursor passed {a} with no decision though its job is enabled")
            }
            Broken::FiredEarly(a) => write!(f, "{a} was decided before its fire time"),
            Broken::CursorWentBack => f.write_str("the cursor did not advance"),
            Broken::RunOfOldVersion(a) => write!(f, "{a} was created from a job that had been changed since"),
            Broken::LostUpdate(job) => write!(f, "an edit of {job:?} overwrote one it had not seen"),
            Broken::OverlapInEtcd(a, b) => write!(f, "{a} and {b} are active together, overlap is forbidden"),
            Broken::OverlapOnClients => {
                f.write_str("two live registered clients execute a job that forbids overlap")
            }
            Broken::ResultLost(a) => write!(f, "an acknowledged result of {a} is nowhere"),
            Broken::RunVanished(a) => write!(f, "{a} was created and has left no trace"),
            Broken::RetryLost(a) => write!(f, "{a} ended badly and its next attempt will never come"),
            Broken::RetryWithoutReason(a) => {
                write!(f, "{a} exists though the attempt before it did not fail")
            }
            Broken::CancelledRunCreated(a) => write!(f, "{a} was created after its run had been cancelled"),
            Broken::Stuck => f.write_str("without further faults, work is left that never ends"),
        }
    }
}

pub(super) fn check(world: &World) -> Result<(), Broken> {
    for attempt in Attempt::all() {
        an_attempt_is_created_once(world, attempt)?;
        an_attempt_is_started_once(world, attempt)?;
        an_attempt_has_one_live_key(world, attempt)?;
        an_acknowledged_result_is_kept(world, attempt)?;
        a_created_attempt_leaves_a_trace(world, attempt)?;
        a_failure_is_followed_by_its_retry(world, attempt)?;
        a_retry_has_a_reason(world, attempt)?;
    }
    a_job_that_forbids_overlap_has_one_active_attempt(world)?;
    a_job_that_forbids_overlap_runs_on_one_live_client(world)
}

fn an_attempt_is_created_once(world: &World, attempt: Attempt) -> Result<(), Broken> {
    let created = world.history.created[attempt.index()];
    if created > 1 { Err(Broken::CreatedTwice(attempt)) } else { Ok(()) }
}

fn an_attempt_is_started_once(world: &World, attempt: Attempt) -> Result<(), Broken> {
    let started = world.history.started[attempt.index()];
    if started > 1 { Err(Broken::StartedTwice(attempt)) } else { Ok(()) }
}

fn an_attempt_has_one_live_key(world: &World, attempt: Attempt) -> Result<(), Broken> {
    let run = world.etcd.run(attempt);
    let mut live = u8::from(run.waiting) + u8::from(run.parked.is_some());
    for keys in &run.at {
        live += u8::from(keys.snapshot.is_some()) + u8::from(keys.execute == Execute::Running);
    }
    if live > 1 { Err(Broken::LivesTwice(attempt)) } else { Ok(()) }
}

fn an_acknowledged_result_is_kept(world: &World, attempt: Attempt) -> Result<(), Broken> {
    let row = &world.mysql[attempt.index()];
    for client in 0..CLIENTS.len() {
        if !world.history.acknowledged[attempt.index()][client] {
            continue;
        }
        let keys = &world.etcd.run(attempt).at[client];
        let ended = matches!(keys.execute, Execute::Undecided(_) | Execute::Decided(_));
        if !ended && keys.late.is_none() && !row.by[client] && !row.late[client] {
            return Err(Broken::ResultLost(attempt));
        }
    }
    Ok(())
}

fn a_created_attempt_leaves_a_trace(world: &World, attempt: Attempt) -> Result<(), Broken> {
    let created = world.history.created[attempt.index()] > 0;
    if created && !world.has_trace_of(attempt) { Err(Broken::RunVanished(attempt)) } else { Ok(()) }
}

fn a_failure_is_followed_by_its_retry(world: &World, attempt: Attempt) -> Result<(), Broken> {
    let Some(next) = attempt.next() else { return Ok(()) };
    let failed = world.decision_on(attempt).is_some_and(|outcome| outcome.wants_retry());
    let exempt = world.history.cancelled && attempt.is_of_cancellable_run();
    let undecided =
        world.etcd.run(attempt).at.iter().any(|keys| matches!(keys.execute, Execute::Undecided(_)));
    let followed = undecided || world.has_trace_of(next);
    if failed && !exempt && !followed { Err(Broken::RetryLost(attempt)) } else { Ok(()) }
}

fn a_retry_has_a_reason(world: &World, attempt: Attempt) -> Result<(), Broken> {
    let Some(previous) = attempt.previous() else { return Ok(()) };
    let failed = world.decision_on(previous).is_some_and(|outcome| outcome.wants_retry());
    if world.has_trace_of(attempt) && !failed { Err(Broken::RetryWithoutReason(attempt)) } else { Ok(()) }
}

fn a_job_that_forbids_overlap_has_one_active_attempt(world: &World) -> Result<(), Broken> {
    let mut first = None;
    for attempt in Attempt::all().filter(|attempt| attempt.job() == Job::Report) {
        if !world.etcd.is_active(attempt) {
            continue;
        }
        if let Some(first) = first.replace(attempt) {
            return Err(Broken::OverlapInEtcd(first, attempt));
        }
    }
    Ok(())
}

/// A frozen process may wake up and go on with what was declared lost meanwhile; its registration is gone
/// then, and the later attempt holds the higher fencing token.
fn a_job_that_forbids_overlap_runs_on_one_live_client(world: &World) -> Result<(), Broken> {
    let mut executing = 0;
    for client in CLIENTS {
        let process = &world.clients[usize::from(client)];
        if !process.alive || !world.etcd.is_registered(client) {
            continue;
        }
        let busy = |attempt: &Attempt| process.tasks[attempt.index()] == Task::Executing;
        executing += Attempt::all().filter(|a| a.job() == Job::Report).filter(busy).count();
    }
    if executing > 1 { Err(Broken::OverlapOnClients) } else { Ok(()) }
}

/// Nothing is left to do: what every state must be able to come to once faults stop.
pub(super) fn is_drained(world: &World, fires: u8) -> bool {
    let idle = world.in_flight.is_none()
        && !world.admin.asking
        && !world.etcd.cancel_request
        && world.etcd.leader.is_some()
        && world.nodes.iter().all(|node| node.collecting.is_none())
        && world.clients.iter().all(|client| client.tasks == [Task::None; ATTEMPTS]);
    idle && world.etcd.cursor.decided == fires && world.etcd.runs == [RunKeys::default(); ATTEMPTS]
}

/// The keys and tasks that keep a state from being drained.
pub(super) fn leftovers(world: &World) -> String {
    use std::fmt::Write as _;
    let mut left = format!("cursor {}, leader {:?}", world.etcd.cursor.decided, world.etcd.leader);
    for attempt in Attempt::all().filter(|a| *world.etcd.run(*a) != RunKeys::default()) {
        let _ = write!(left, "; {attempt}: {:?}", world.etcd.run(attempt));
    }
    for client in CLIENTS {
        for (attempt, task) in Attempt::all().zip(world.clients[usize::from(client)].tasks) {
            if task != Task::None {
                let _ = write!(left, "; client {}: {attempt} {task:?}", client + 1);
            }
        }
    }
    left
}
