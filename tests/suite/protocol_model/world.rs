//! One state of the modelled cluster: the keys in etcd, the rows in MySQL, what each process remembers, and
//! what is still allowed to go wrong. Everything is `Copy` and small, for millions of these are compared.
//!
//! The value of a key stands for its `mod_revision`. Where a key can come back with the same value (a job
//! document, the cursor, a snapshot that returns to where it was) the value carries a count, so that the
//! guards are as strong as etcd's and no stronger.

use super::catalogue::{ATTEMPTS, Attempt, Job, MANUAL};
use super::txn::Txn;

pub(super) type NodeId = u8;
pub(super) type ClientId = u8;

pub(super) const NODES: [NodeId; 2] = [0, 1];
pub(super) const CLIENTS: [ClientId; 2] = [0, 1];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) now: u8,
    pub(super) etcd: Etcd,
    pub(super) mysql: [Row; ATTEMPTS],
    pub(super) nodes: [Node; 2],
    pub(super) clients: [Client; 2],
    pub(super) admin: Admin,
    /// A transaction whose sender has given up waiting and which etcd may still apply, at any later time.
    pub(super) in_flight: Option<Txn>,
    pub(super) budget: Budget,
    pub(super) history: History,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Etcd {
    /// `server/elect/leader`
    pub(super) leader: Option<Leadership>,
    pub(super) last_term: u8,
    /// `server/cursor/{segment}`
    pub(super) cursor: Cursor,
    /// `server/jobgen/{segment}`
    pub(super) jobgen: u8,
    /// `server/conf/{job}`
    pub(super) confs: [Conf; 2],
    /// `client/{group}/clients/{client}`
    pub(super) registered: [bool; 2],
    /// `server/request/{segment}/{key}` asking to cancel the first report run.
    pub(super) cancel_request: bool,
    /// The remembered answer to the manual request's idempotency key.
    pub(super) answer: bool,
    pub(super) runs: [RunKeys; ATTEMPTS],
}

/// Every transaction that starts a run of the segment which is not a retry compares this key and writes it:
/// so of two such transactions that were made from the same view only one commits, even if the other is late.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Cursor {
    /// How many fires are decided.
    pub(super) decided: u8,
    /// How often it was written with the same value: a new `mod_revision` all the same.
    pub(super) rewrites: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Leadership {
    pub(super) node: NodeId,
    pub(super) term: u8,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Conf {
    /// 0 = the document does not exist.
    pub(super) version: u8,
    pub(super) enabled: bool,
}

/// Every key that names one attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct RunKeys {
    /// `server/delay/...` for a retry, `server/request/...` for the manual run.
    pub(super) waiting: bool,
    /// `server/pending/{group}/{run}`
    pub(super) parked: Option<Placing>,
    /// A decided record of a run that no client had claimed.
    pub(super) verdict: Option<Outcome>,
    pub(super) at: [ClientKeys; 2],
}

/// The keys of one attempt under one client's prefixes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ClientKeys {
    /// `client/snapshot/...`
    pub(super) snapshot: Option<Placing>,
    /// `client/execute/snapshot/...`
    pub(super) execute: Execute,
    /// `client/execute/late/...`
    pub(super) late: Option<Outcome>,
    /// `client/cancel/...`
    pub(super) cancel: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Execute {
    #[default]
    Absent,
    Running,
    /// Ended, and the leader has still to decide whether another attempt follows.
    Undecided(Outcome),
    Decided(Outcome),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Outcome {
    Succeeded,
    Failed,
    Lost,
    Skipped,
    Cancelled,
    Expired,
}

impl Outcome {
    pub(super) fn wants_retry(self) -> bool {
        matches!(self, Outcome::Failed | Outcome::Lost)
    }
}

/// Where a snapshot is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Place {
    Client(ClientId),
    Parked,
}

/// How often the run has been put somewhere before: tells a snapshot that came back from one that never left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Placing(u8);

impl Placing {
    pub(super) const FIRST: Placing = Placing(0);

    /// None after more moves than two clients and a parking place give reason for.
    pub(super) fn next(self) -> Option<Placing> {
        (self.0 < 5).then_some(Placing(self.0 + 1))
    }
}

/// A record that only waits to be collected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Record {
    Verdict(Attempt, Outcome),
    Execute(Attempt, ClientId, Outcome),
    Late(Attempt, ClientId, Outcome),
}

/// What MySQL holds of one attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Row {
    pub(super) outcome: Option<Outcome>,
    /// Whose execute record the row was made from.
    pub(super) by: [bool; 2],
    pub(super) late: [bool; 2],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Node {
    /// The term this node believes it leads; 0 = follower. It may be wrong: only the guards know.
    pub(super) term: u8,
    pub(super) view: Option<View>,
    pub(super) collecting: Option<Collecting>,
}

/// What a leader last read: all at one revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct View {
    pub(super) cursor: Cursor,
    pub(super) jobgen: u8,
    pub(super) confs: [Conf; 2],
    /// A run of `report` is not finished: overlap is to be refused.
    pub(super) report_active: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Collecting {
    pub(super) record: Record,
    pub(super) saved: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Client {
    pub(super) alive: bool,
    pub(super) tasks: [Task; ATTEMPTS],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Task {
    #[default]
    None,
    /// The watch has shown the snapshot.
    Seen,
    Executing,
    Finished(Outcome),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Admin {
    /// Asks for the manual run again and again, with one idempotency key, until an answer comes.
    pub(super) asking: bool,
}

/// How often each fault or outside event may still happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Budget {
    pub(super) leader_expiry: u8,
    pub(super) client_expiry: u8,
    pub(super) ambiguous: u8,
    pub(super) client_crash: u8,
    pub(super) node_crash: u8,
    pub(super) edit: u8,
    pub(super) create: u8,
    pub(super) manual: u8,
    pub(super) cancel: u8,
    /// The leader finds no client with a free slot.
    pub(super) no_slot: u8,
}

impl Budget {
    pub(super) const NONE: Budget = Budget {
        leader_expiry: 0,
        client_expiry: 0,
        ambiguous: 0,
        client_crash: 0,
        node_crash: 0,
        edit: 0,
        create: 0,
        manual: 0,
        cancel: 0,
        no_slot: 0,
    };
}

/// What has ever happened: read by the invariants, by no process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct History {
    pub(super) created: [u8; ATTEMPTS],
    pub(super) started: [u8; ATTEMPTS],
    /// Results that etcd acknowledged to a client.
    pub(super) acknowledged: [[bool; 2]; ATTEMPTS],
    /// The cancel request was taken while the run was not finished.
    pub(super) cancelled: bool,
}

impl World {
    pub(super) fn new(budget: Budget) -> World {
        let client = Client { alive: true, tasks: [Task::None; ATTEMPTS] };
        World {
            now: 0,
            etcd: Etcd {
                leader: None,
                last_term: 0,
                cursor: Cursor::default(),
                jobgen: 0,
                confs: [Conf { version: 1, enabled: true }, Conf::default()],
                registered: [true; 2],
                cancel_request: false,
                answer: false,
                runs: [RunKeys::default(); ATTEMPTS],
            },
            mysql: [Row::default(); ATTEMPTS],
            nodes: [Node::default(); 2],
            clients: [client; 2],
            admin: Admin { asking: false },
            in_flight: None,
            budget,
            history: History::default(),
        }
    }

    pub(super) fn node(&mut self, node: NodeId) -> &mut Node {
        &mut self.nodes[usize::from(node)]
    }

    pub(super) fn task(&mut self, client: ClientId, attempt: Attempt) -> &mut Task {
        &mut self.clients[usize::from(client)].tasks[attempt.index()]
    }

    pub(super) fn row(&mut self, attempt: Attempt) -> &mut Row {
        &mut self.mysql[attempt.index()]
    }

    /// The attempt is known somewhere: waiting, given away, claimed, ended or stored.
    pub(super) fn has_trace_of(&self, attempt: Attempt) -> bool {
        let late = self.etcd.run(attempt).at.iter().any(|keys| keys.late.is_some());
        self.etcd.run(attempt).is_open() || late || self.decision_on(attempt).is_some()
    }

    /// The decided outcome, wherever it is kept.
    pub(super) fn decision_on(&self, attempt: Attempt) -> Option<Outcome> {
        let run = self.etcd.run(attempt);
        let decided = run.at.iter().find_map(|keys| match keys.execute {
            Execute::Decided(outcome) => Some(outcome),
            _ => None,
        });
        run.verdict.or(decided).or(self.mysql[attempt.index()].outcome)
    }
}

impl Etcd {
    pub(super) fn run(&self, attempt: Attempt) -> &RunKeys {
        &self.runs[attempt.index()]
    }

    pub(super) fn run_mut(&mut self, attempt: Attempt) -> &mut RunKeys {
        &mut self.runs[attempt.index()]
    }

    pub(super) fn at(&self, attempt: Attempt, client: ClientId) -> &ClientKeys {
        &self.run(attempt).at[usize::from(client)]
    }

    pub(super) fn at_mut(&mut self, attempt: Attempt, client: ClientId) -> &mut ClientKeys {
        &mut self.run_mut(attempt).at[usize::from(client)]
    }

    pub(super) fn conf(&self, job: Job) -> Conf {
        self.confs[job as usize]
    }

    pub(super) fn is_registered(&self, client: ClientId) -> bool {
        self.registered[usize::from(client)]
    }

    pub(super) fn snapshot(&self, attempt: Attempt, place: Place) -> Option<Placing> {
        match place {
            Place::Client(client) => self.at(attempt, client).snapshot,
            Place::Parked => self.run(attempt).parked,
        }
    }

    /// What "forbid overlap" counts: anything of the job that runs, will run, or may be tried again. A manual
    /// request does not count before it is accepted.
    pub(super) fn is_active(&self, attempt: Attempt) -> bool {
        let run = self.run(attempt);
        let waits = run.waiting && attempt != MANUAL;
        waits || run.parked.is_some() || run.at.iter().any(ClientKeys::is_open)
    }
}

impl RunKeys {
    pub(super) fn is_open(&self) -> bool {
        self.waiting || self.parked.is_some() || self.at.iter().any(ClientKeys::is_open)
    }
}

impl ClientKeys {
    pub(super) fn is_open(&self) -> bool {
        self.snapshot.is_some() || matches!(self.execute, Execute::Running | Execute::Undecided(_))
    }
}
