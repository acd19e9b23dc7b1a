//! SQLite: the history of a single development node, in one file.

use std::path::Path;

use jiff::tz::TimeZone;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow,
    SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, ConnectOptions, Row as _};

use super::audit::{self, Audited};
use super::entry::Entry;
use super::statement::{Arg, Dialect, Statement};
use super::tally::{self, Tallied};
use super::upsert::{BATCH_BYTES, Failure, Saving, Writer};
use super::{CONNECT_TIMEOUT, READ_TIMEOUT, StoreError, WRITE_TIMEOUT};

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations/sqlite");

#[derive(Clone)]
pub(super) struct Sqlite {
    pool: SqlitePool,
}

impl Dialect for Sqlite {
    const SELECT: &'static str = "SELECT";

    fn on_conflict(key: &str) -> String {
        format!("ON CONFLICT ({key}) DO UPDATE SET")
    }

    fn proposed(column: &str) -> String {
        format!("excluded.{column}")
    }
}

impl Sqlite {
    pub(super) fn new(path: &Path, max_connections: u32) -> Self {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(CONNECT_TIMEOUT)
            .disable_statement_logging();
        let pool = SqlitePoolOptions::new()
            .max_connections(max_connections)
            .acquire_timeout(CONNECT_TIMEOUT)
            .connect_lazy_with(options);
        Self { pool }
    }

    /// There is no table of the original to take over, so no local time to read.
    pub(super) async fn migrate(&self, _zone: &TimeZone) -> Result<(), StoreError> {
        let doing = "preparing the table";
        let mut migrator = Migrator::with_migrations(MIGRATIONS.iter().cloned().collect());
        migrator.set_ignore_missing(true);
        let mut connection = self.pool.acquire().await.map_err(|error| store_error(doing, error))?;
        migrator.run_direct(None, &mut *connection, false).await.map_err(|error| match error {
            MigrateError::Execute(error) => store_error(doing, error),
            MigrateError::ExecuteMigration(error, _) => store_error(doing, error),
            error => StoreError::Invalid { doing, cause: error.into() },
        })
    }

    pub(super) async fn entries(&self, statement: Statement<'static>) -> Result<Vec<Entry>, StoreError> {
        let rows = self.read(&statement).await?;
        rows.iter().map(Entry::read).collect::<Result<_, _>>().map_err(|error| store_error("reading", error))
    }

    pub(super) async fn audits(&self, statement: Statement<'static>) -> Result<Vec<Audited>, StoreError> {
        let rows = self.read(&statement).await?;
        rows.iter().map(audit::read).collect::<Result<_, _>>().map_err(|error| store_error("reading", error))
    }

    pub(super) async fn tallies(&self, statement: Statement<'static>) -> Result<Vec<Tallied>, StoreError> {
        let rows = self.read(&statement).await?;
        rows.iter().map(tally::read).collect::<Result<_, _>>().map_err(|error| store_error("reading", error))
    }

    pub(super) async fn number(&self, statement: Statement<'static>) -> Result<i64, StoreError> {
        let rows = self.read(&statement).await?;
        let number = rows.first().ok_or(sqlx::Error::RowNotFound).and_then(|row| row.try_get(0));
        number.map_err(|error| store_error("reading", error))
    }

    async fn read(&self, statement: &Statement<'_>) -> Result<Vec<SqliteRow>, StoreError> {
        let rows = tokio::time::timeout(READ_TIMEOUT, bind(statement).fetch_all(&self.pool)).await;
        let rows = rows.map_err(|_| StoreError::timed_out("reading", READ_TIMEOUT))?;
        rows.map_err(|error| store_error("reading", error))
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
    }
}

impl Writer for Sqlite {
    async fn statement_limit(&self) -> Result<usize, StoreError> {
        Ok(BATCH_BYTES)
    }

    async fn execute(&self, statement: &Statement<'_>) -> Result<(), Failure> {
        let written = tokio::time::timeout(WRITE_TIMEOUT, bind(statement).execute(&self.pool)).await;
        let written = written.map_err(|_| Failure::Store(StoreError::timed_out("saving", WRITE_TIMEOUT)))?;
        written.map(|_| ()).map_err(failure)
    }

    async fn save(&self, saving: &Saving<'_>) -> Result<(), Failure> {
        let store = |error: sqlx::Error| Failure::Store(store_error("saving", error));
        let whole = async {
            let mut transaction = self.pool.begin().await.map_err(store)?;
            bind(&saving.upsert).execute(&mut *transaction).await.map_err(failure)?;
            let decided = bind(&saving.decided).fetch_all(&mut *transaction).await.map_err(store)?;
            let decided: Result<Vec<String>, _> = decided.iter().map(|row| row.try_get(0)).collect();
            if let Some(count) = saving.count::<Self>(&decided.map_err(store)?) {
                bind(&count).execute(&mut *transaction).await.map_err(store)?;
            }
            transaction.commit().await.map_err(store)
        };
        let saved = tokio::time::timeout(WRITE_TIMEOUT, whole).await;
        saved.map_err(|_| Failure::Store(StoreError::timed_out("saving", WRITE_TIMEOUT)))?
    }
}

fn failure(error: sqlx::Error) -> Failure {
    match primary_code(&error) {
        // Too big, a constraint's or trigger's veto, wrong type.
        Some(18..=20) => Failure::Data(error.to_string()),
        _ => Failure::Store(store_error("saving", error)),
    }
}

fn bind<'q>(statement: &'q Statement<'_>) -> sqlx::query::Query<'q, sqlx::Sqlite, SqliteArguments> {
    let cacheable = statement.args.len() < 32;
    let mut query = sqlx::query(AssertSqlSafe(statement.sql.as_str())).persistent(cacheable);
    for arg in &statement.args {
        query = match arg {
            Arg::Null => query.bind(None::<i64>),
            Arg::Int(number) => query.bind(*number),
            Arg::Text(text) => query.bind(text.as_ref()),
        };
    }
    query
}

/// The driver reports extended codes; the low byte is the class.
fn primary_code(error: &sqlx::Error) -> Option<u32> {
    let code = error.as_database_error()?.code()?;
    code.parse::<u32>().ok().map(|code| code & 0xff)
}

fn store_error(doing: &'static str, error: sqlx::Error) -> StoreError {
    match primary_code(&error) {
        // Wrong SQL or table, no permission, cannot open, not a database.
        Some(1 | 3 | 14 | 26) => StoreError::Invalid { doing, cause: error.into() },
        _ => StoreError::Unavailable { doing, cause: error.into() },
    }
}
