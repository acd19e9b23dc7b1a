//! What happened in a simulation, in order: the only thing that the checker reads.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use forest_proto::RunId;
use forest_server::store::Archived;
use tokio::time::Instant;

use crate::clock::elapsed_ms;
use crate::plan::MachineId;

/// One key in one revision of etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub key: String,
    /// `None`: deleted.
    pub value: Option<Vec<u8>>,
    pub create_revision: i64,
}

/// A process that writes to etcd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Writer {
    pub machine: MachineId,
    /// Which of the machine's processes, one after the other.
    pub life: u32,
    pub kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Node,
    Worker,
    /// A worker that writes over what was decided: see [`crate::plan::Manner::Hasty`].
    HastyWorker,
}

impl Writer {
    #[must_use]
    pub fn is_node(&self) -> bool {
        self.kind == Kind::Node
    }

    #[must_use]
    pub fn is_hasty(&self) -> bool {
        self.kind == Kind::HastyWorker
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum Happened {
    /// A revision of etcd; `by` is `None` where a lease ended or the plan did it.
    Revision { revision: i64, by: Option<Writer>, changes: Vec<Change> },
    /// A handler began.
    Started { machine: MachineId, run: RunId, fencing_token: i64 },
    /// A handler ended by itself.
    Ended { machine: MachineId, run: RunId, failed: bool },
    /// The database has these rows from now on.
    Saved { rows: Vec<Archived> },
    /// A part of the plan, or what came of it.
    Told(String),
    /// A process ended that nobody ended, or did what no process may.
    Broke(String),
}

/// When it happened, in milliseconds since the beginning, and what.
pub type Entry = (u64, Happened);

/// Clones are the same record.
#[derive(Clone)]
pub struct Record {
    origin: Instant,
    entries: Arc<Mutex<Vec<Entry>>>,
}

impl Record {
    #[must_use]
    pub fn new(origin: Instant) -> Self {
        Self { origin, entries: Arc::default() }
    }

    pub fn add(&self, happened: Happened) {
        let at = elapsed_ms(self.origin);
        self.lock().push((at, happened));
    }

    pub fn tell(&self, what: impl Into<String>) {
        self.add(Happened::Told(what.into()));
    }

    #[must_use]
    pub fn take(&self) -> Vec<Entry> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
