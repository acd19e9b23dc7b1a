//! The history: what became of every run, in the table `job_execute_snapshot` of MySQL, MariaDB or SQLite; and who
//! changed what, beside it.
//!
//! Owns the table, its migrations, and every SQL statement of the server; nothing outside names the database
//! driver. It is never on the way of a dispatch: a caller that cannot save keeps its rows in etcd and comes
//! back. It refuses to be a queue, a lock or a source of schedules.
//!
//! Invariants:
//! * A run is counted once (`tally.rs`), in the transaction that decides its row.
//! * A row only moves forward (see `upsert.rs`): whoever saves what, twice or out of order, the end is the same.
//! * A row that the database does not take is reported, never dropped in silence and never in the way of others.
//! * Values reach the database as bound parameters only.
//! * Reads end within 5 s, writes within 30 s.

mod archive;
mod audit;
mod entry;
mod mysql;
mod query;
mod row;
mod sqlite;
mod statement;
mod tally;
mod upsert;
mod url;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use forest_proto::RunId;
use jiff::tz::TimeZone;

pub use archive::{Archive, Archived};
pub(crate) use audit::{AuditFilter, Audited};
pub(crate) use entry::Entry;
pub(crate) use query::{Filter, Page, PageToken};
pub(crate) use row::Row;
pub(crate) use tally::{By, Lengths, OUTCOMES, Tallied, TallyFilter};
pub(crate) use upsert::Saved;
pub use url::DbUrl;

/// A read that takes longer is given up.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// A write that takes longer is given up. Longer than the wait for a lock.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Copying a large table takes its time; a dead server must still be noticed some day.
const MIGRATE_TIMEOUT: Duration = Duration::from_secs(3600);

/// How long to wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why the history could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database is away, overloaded, read-only or lost a deadlock. Trying again later may help.
    #[error("history database unavailable ({doing}): {cause}")]
    Unavailable { doing: &'static str, cause: Cause },
    /// The database is there, but account, database, table or privileges are not what they must be.
    /// Trying again helps only after somebody changed that.
    #[error("history database unusable ({doing}): {cause}; check db_url, the account and its privileges")]
    Invalid { doing: &'static str, cause: Cause },
}

impl StoreError {
    fn timed_out(doing: &'static str, after: Duration) -> Self {
        Self::Unavailable { doing, cause: format!("no answer within {} s", after.as_secs()).into() }
    }
}

/// A handle on the history; clones share one pool of connections.
#[derive(Clone)]
pub struct History {
    backend: Backend,
    /// Whether the tables have this version's shape, as far as this process knows.
    prepared: Arc<AtomicBool>,
}

#[derive(Clone)]
enum Backend {
    MySql(mysql::MySql),
    Sqlite(sqlite::Sqlite),
    Other(archive::Other),
}

macro_rules! on_database {
    ($self:ident, $backend:ident => $call:expr, other => $other:expr) => {
        match &$self.backend {
            Backend::MySql($backend) => $call,
            Backend::Sqlite($backend) => $call,
            Backend::Other(_) => $other,
        }
    };
}

/// What can only be read once the tables have the shape that is asked for.
macro_rules! of_prepared {
    ($self:ident, $backend:ident => $call:expr) => {
        match &$self.backend {
            Backend::Other(_) => Err(archive::unread()),
            _ if !$self.prepared.load(Ordering::Acquire) => Err(unprepared()),
            Backend::MySql($backend) => $call,
            Backend::Sqlite($backend) => $call,
        }
    };
}

fn unprepared() -> StoreError {
    let cause = "this node is still bringing the tables to its version's shape: try again in a moment".into();
    StoreError::Unavailable { doing: "reading the history", cause }
}

impl History {
    /// Prepares a pool of at most `max_connections`. Does no I/O: the database may be away.
    /// Must be called inside a Tokio runtime.
    pub fn connect(url: &DbUrl, max_connections: u32) -> Result<Self, StoreError> {
        let backend = match url.target() {
            url::Target::MySql(server) => Backend::MySql(mysql::MySql::new(server, max_connections)?),
            url::Target::Sqlite(path) => Backend::Sqlite(sqlite::Sqlite::new(path, max_connections)),
        };
        Ok(Self { backend, prepared: Arc::default() })
    }

    /// A history that is no database.
    pub fn archive(archive: Arc<dyn Archive>) -> Self {
        Self { backend: Backend::Other(archive::Other(archive)), prepared: Arc::default() }
    }

    /// Brings the table to this version's shape. Nodes that do it at once wait for each other.
    ///
    /// A table of the original is taken over with its rows; their local times are read on the clock of `zone`.
    pub(crate) async fn migrate(&self, zone: &TimeZone) -> Result<(), StoreError> {
        let doing = "preparing the table";
        let migrated = async { on_database!(self, backend => backend.migrate(zone).await, other => Ok(())) };
        tokio::time::timeout(MIGRATE_TIMEOUT, migrated)
            .await
            .map_err(|_| StoreError::timed_out(doing, MIGRATE_TIMEOUT))??;
        self.prepared.store(true, Ordering::Release);
        Ok(())
    }

    /// Saves rows; saving one again changes nothing. On an error some of them may have been saved: save all
    /// of them again. What [`Saved::rejected`] lists has not been saved and must be kept elsewhere.
    pub(crate) async fn save(&self, rows: &[Row]) -> Result<Saved, StoreError> {
        match &self.backend {
            Backend::MySql(backend) => upsert::save(backend, rows).await,
            Backend::Sqlite(backend) => upsert::save(backend, rows).await,
            Backend::Other(archive) => archive.save(rows).await,
        }
    }

    /// One page of rows, newest first, with long texts cut; `from` is the `next` of the page before.
    pub(crate) async fn list(
        &self,
        filter: &Filter,
        page_size: usize,
        from: Option<&PageToken>,
    ) -> Result<Page, StoreError> {
        let page_size = page_size.clamp(1, query::MAX_PAGE);
        let entries = of_prepared!(self, backend => backend.entries(query::list(backend, filter, page_size, from)).await)?;
        Ok(Page::of(entries, page_size, from))
    }

    /// The whole row of a run.
    pub(crate) async fn get(&self, id: &str) -> Result<Option<Entry>, StoreError> {
        let entries = of_prepared!(self, backend => backend.entries(query::get(backend, id)).await)?;
        Ok(entries.into_iter().next())
    }

    /// The rows of all runs of one instant of a job, whatever their attempts and shards are, with long texts cut; also
    /// those of a job whose id is this one with a hyphen and more behind it. At most `limit`.
    pub(crate) async fn of_instant(&self, run: &RunId, limit: usize) -> Result<Vec<Entry>, StoreError> {
        // Ids begin with the instant and the job, and a dot is what comes after a hyphen.
        let stem = run.as_str().rsplit_once('-').map_or(run.as_str(), |(stem, _)| stem);
        let (after, before) = (format!("{stem}-"), format!("{stem}."));
        of_prepared!(self, backend => backend.entries(query::between(backend, &after, &before, limit)).await)
    }

    /// Saves records of who changed what. On an error save all of them again.
    pub(crate) async fn save_audits(&self, audits: &[Audited]) -> Result<(), StoreError> {
        on_database!(self, backend => audit::save(backend, audits).await, other => Ok(()))
    }

    /// At most so many records of who changed what, newest first.
    pub(crate) async fn audits(
        &self,
        filter: &AuditFilter,
        limit: usize,
    ) -> Result<Vec<Audited>, StoreError> {
        let limit = limit.clamp(1, query::MAX_PAGE + 1);
        of_prepared!(self, backend => backend.audits(audit::list(backend, filter, limit)).await)
    }

    /// Counts of what became of runs, at most so many, in the order of their keys.
    pub(crate) async fn tallies(
        &self,
        filter: &TallyFilter,
        limit: usize,
    ) -> Result<Vec<Tallied>, StoreError> {
        let limit = limit.clamp(1, query::MAX_PAGE + 1);
        of_prepared!(self, backend => backend.tallies(tally::list(backend, filter, limit)).await)
    }

    /// How many rows pass the filter, counted up to a million.
    pub(crate) async fn count(&self, filter: &Filter) -> Result<u64, StoreError> {
        let found = of_prepared!(self, backend => backend.number(query::count(backend, filter)).await)?;
        Ok(u64::try_from(found).unwrap_or(0))
    }

    /// A page by its number, from 1 on, newest first, and how many rows there are in all.
    pub(crate) async fn numbered_page(
        &self,
        filter: &Filter,
        number: u64,
        size: u64,
    ) -> Result<(Vec<Entry>, u64), StoreError> {
        let entries = of_prepared!(self, backend => backend.entries(query::numbered(backend, filter, number, size)).await)?;
        Ok((entries, self.count(filter).await?))
    }

    /// Whether the database answers.
    pub(crate) async fn ping(&self) -> Result<(), StoreError> {
        on_database!(self, backend => backend.number(query::ping()).await.map(|_| ()), other => Ok(()))
    }

    /// Closes the connections, after those in use have been given back.
    pub(crate) async fn close(&self) {
        on_database!(self, backend => backend.close().await, other => {});
    }
}

#[cfg(test)]
mod tests;
