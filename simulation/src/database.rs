//! The history database of the simulation: keeps rows, and is away, slow or mute when the plan says so.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use forest_etcd::Tasks;
use forest_server::store::{Archive, Archived};
use futures_util::future::BoxFuture;
use tokio::sync::Notify;

use crate::network::{Network, Peer};
use crate::plan::{DatabaseTrouble, MachineId};
use crate::record::{Happened, Record};

/// Clones are the same database.
#[derive(Clone)]
pub struct Database {
    shared: Arc<Shared>,
}

struct Shared {
    record: Record,
    trouble: Mutex<Option<DatabaseTrouble>>,
    changed: Notify,
}

/// The database as one process reaches it.
pub struct Way {
    database: Database,
    network: Network,
    machine: MachineId,
    /// Rows that were called saved and are not yet: see [`crate::mutant::Mutant::DeleteBeforeSave`].
    early: Option<Mutex<Tasks<()>>>,
}

impl Database {
    #[must_use]
    pub fn new(record: Record) -> Self {
        let shared = Shared { record, trouble: Mutex::new(None), changed: Notify::new() };
        Self { shared: Arc::new(shared) }
    }

    pub fn set(&self, trouble: Option<DatabaseTrouble>) {
        *self.lock() = trouble;
        self.shared.changed.notify_waiters();
    }

    fn trouble(&self) -> Option<DatabaseTrouble> {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Option<DatabaseTrouble>> {
        self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, rows: Vec<Archived>) -> Result<(), String> {
        match self.trouble() {
            Some(DatabaseTrouble::Down) => Err("the database is down".into()),
            trouble => {
                self.shared.record.add(Happened::Saved { rows });
                match trouble {
                    Some(DatabaseTrouble::AnswersLost) => Err("the connection broke".into()),
                    _ => Ok(()),
                }
            }
        }
    }
}

impl Way {
    #[must_use]
    pub fn new(database: Database, network: Network, machine: MachineId, promises_early: bool) -> Self {
        Self { database, network, machine, early: promises_early.then(Mutex::default) }
    }

    fn send(&self, rows: Vec<Archived>) -> BoxFuture<'static, Result<(), String>> {
        let (database, network) = (self.database.clone(), self.network.clone());
        let link = (self.machine, Peer::Database);
        Box::pin(async move {
            while database.trouble() == Some(DatabaseTrouble::Hangs) {
                database.shared.changed.notified().await;
            }
            network.call(link, move || database.keep(rows)).await
        })
    }
}

impl Archive for Way {
    fn save(&self, rows: Vec<Archived>) -> BoxFuture<'static, Result<(), String>> {
        let sent = self.send(rows);
        let Some(early) = &self.early else { return sent };
        // A part of the process, which may end before it is done.
        early.lock().unwrap_or_else(PoisonError::into_inner).spawn(async move {
            let _ = sent.await;
        });
        Box::pin(std::future::ready(Ok(())))
    }
}
