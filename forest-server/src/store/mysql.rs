//! MySQL 8 and MariaDB 10.11: every statement here is understood by both.

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::mysql::{
    MySqlArguments, MySqlConnectOptions, MySqlConnection, MySqlDatabaseError, MySqlPool, MySqlPoolOptions,
    MySqlRow,
};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, Row as _};

use super::audit::{self, Audited};
use super::entry::Entry;
use super::statement::{Arg, Dialect, NO_INSTANT, Statement, TABLE, instant_text};
use super::tally::{self, Tallied};
use super::upsert::{BATCH_ROWS, Failure, Saving, Writer};
use super::url::Server;
use super::{CONNECT_TIMEOUT, MIGRATE_TIMEOUT, READ_TIMEOUT, StoreError, WRITE_TIMEOUT};

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations/mysql");

/// The server's own limit should be what ends a slow read: it stops the work too.
const READ_MARGIN: Duration = Duration::from_secs(1);

/// A lock is waited for less long than a write, so that the database says what happened. The mode makes it
/// refuse what it would otherwise cut in silence. Of two one-column indexes it would make an unsorted heap;
/// an index that is sorted already is better, as pages are short.
const SESSION: &str = "SET SESSION innodb_lock_wait_timeout = 10, \
    sql_mode = 'STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,NO_ENGINE_SUBSTITUTION', \
    optimizer_switch = 'index_merge=off'";

/// So many old rows get their instant at a time.
const BACKFILL_ROWS: usize = 500;

#[derive(Clone)]
pub(super) struct MySql {
    pool: MySqlPool,
    options: Arc<MySqlConnectOptions>,
}

impl Dialect for MySql {
    // MariaDB reads the first comment, MySQL the second: both end a SELECT after five seconds.
    const SELECT: &'static str =
        "/*M!100100 SET STATEMENT max_statement_time=5 FOR */ SELECT /*+ MAX_EXECUTION_TIME(5000) */";

    fn on_conflict(_: &str) -> String {
        "ON DUPLICATE KEY UPDATE".to_owned()
    }

    // MySQL calls VALUES() old-fashioned, but MariaDB does not know what should replace it.
    fn proposed(column: &str) -> String {
        format!("VALUES({column})")
    }
}

impl MySql {
    pub(super) fn new(server: &Server, max_connections: u32) -> Result<Self, StoreError> {
        let options = connect_options(server)?;
        let pool = MySqlPoolOptions::new()
            .max_connections(max_connections)
            .acquire_timeout(CONNECT_TIMEOUT)
            .after_connect(|connection, _| {
                Box::pin(async move { connection.execute(SESSION).await.map(|_| ()) })
            })
            .connect_lazy_with(options.clone());
        Ok(Self { pool, options: Arc::new(options) })
    }

    pub(super) async fn migrate(&self, zone: &TimeZone) -> Result<(), StoreError> {
        let doing = "preparing the table";
        // A connection of its own: the lock that keeps other nodes out is gone when it is closed, however
        // this ends.
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, self.options.connect()).await;
        let connecting = connecting.map_err(|_| StoreError::timed_out("connecting", CONNECT_TIMEOUT))?;
        let mut connection = connecting.map_err(|error| store_error("connecting", error))?;
        if !is_migrated(&mut connection).await {
            migrate_table(&mut connection).await.map_err(|error| migrate_error(doing, error))?;
        }
        backfill(&mut connection, zone).await.map_err(|error| store_error("reading old rows", error))?;
        // It is done; how the connection ends changes nothing.
        let _ = connection.close().await;
        Ok(())
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

    /// The table, the index and about how many rows the server would read.
    #[cfg(test)]
    pub(super) async fn explained(&self, explain: Statement<'static>) -> (String, Option<String>, i64) {
        let rows = self.read(&explain).await.expect("explained");
        let text = |column: &str| rows[0].try_get::<Option<String>, _>(column).expect("a text");
        // MariaDB says it in words.
        let read =
            rows[0].try_get::<u64, _>("rows").map(|rows| rows.to_string()).ok().or_else(|| text("rows"));
        let read = read.and_then(|rows| rows.parse().ok()).expect("a number");
        (text("table").unwrap_or_default(), text("key"), read)
    }

    pub(super) async fn number(&self, statement: Statement<'static>) -> Result<i64, StoreError> {
        let rows = self.read(&statement).await?;
        let number = rows.first().ok_or(sqlx::Error::RowNotFound).and_then(|row| row.try_get(0));
        number.map_err(|error| store_error("reading", error))
    }

    async fn read(&self, statement: &Statement<'_>) -> Result<Vec<MySqlRow>, StoreError> {
        let doing = "reading";
        let limit = READ_TIMEOUT + READ_MARGIN;
        let deadline = tokio::time::Instant::now() + limit;
        // The pool has a shorter limit of its own.
        let mut connection = self.pool.acquire().await.map_err(|error| store_error(doing, error))?;
        let reading = bind(statement).fetch_all(&mut *connection);
        match tokio::time::timeout_at(deadline, reading).await {
            Ok(rows) => rows.map_err(|error| store_error(doing, error)),
            Err(_) => {
                // The answer may still come; the next user of this connection must not wait for it.
                drop(connection.detach());
                Err(StoreError::timed_out(doing, limit))
            }
        }
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
    }
}

impl Writer for MySql {
    async fn statement_limit(&self) -> Result<usize, StoreError> {
        let asked =
            Statement { sql: "SELECT CAST(@@max_allowed_packet DIV 2 AS SIGNED)".into(), args: Vec::new() };
        Ok(usize::try_from(self.number(asked).await?).unwrap_or(usize::MAX))
    }

    async fn execute(&self, statement: &Statement<'_>) -> Result<(), Failure> {
        let doing = "saving";
        let failure = |error: sqlx::Error| match kind(&error) {
            Kind::Data => Failure::Data(error.to_string()),
            _ => Failure::Store(store_error(doing, error)),
        };
        let mut connection = self.pool.acquire().await.map_err(failure)?;
        let writing = bind(statement).execute(&mut *connection);
        match tokio::time::timeout(WRITE_TIMEOUT, writing).await {
            Ok(written) => written.map(|_| ()).map_err(failure),
            Err(_) => {
                drop(connection.detach());
                Err(Failure::Store(StoreError::timed_out(doing, WRITE_TIMEOUT)))
            }
        }
    }

    async fn save(&self, saving: &Saving<'_>) -> Result<(), Failure> {
        let doing = "saving";
        let store = |error: sqlx::Error| Failure::Store(store_error(doing, error));
        let mut connection = self.pool.acquire().await.map_err(store)?;
        let whole = async {
            let mut transaction = connection.begin().await.map_err(store)?;
            let saved = bind(&saving.upsert).execute(&mut *transaction).await;
            saved.map_err(|error| match kind(&error) {
                Kind::Data => Failure::Data(error.to_string()),
                _ => store(error),
            })?;
            let decided = bind(&saving.decided).fetch_all(&mut *transaction).await.map_err(store)?;
            let decided: Result<Vec<String>, _> = decided.iter().map(|row| row.try_get(0)).collect();
            if let Some(count) = saving.count::<Self>(&decided.map_err(store)?) {
                // That a count cannot be kept is no row's fault.
                bind(&count).execute(&mut *transaction).await.map_err(store)?;
            }
            transaction.commit().await.map_err(store)
        };
        match tokio::time::timeout(WRITE_TIMEOUT, whole).await {
            Ok(saved) => saved,
            Err(_) => {
                drop(connection.detach());
                Err(Failure::Store(StoreError::timed_out(doing, WRITE_TIMEOUT)))
            }
        }
    }
}

fn connect_options(server: &Server) -> Result<MySqlConnectOptions, StoreError> {
    let mut options = MySqlConnectOptions::new()
        .host(&server.host)
        .port(server.port)
        .username(&server.user)
        .database(&server.database)
        .charset("utf8mb4")
        .timezone(Some("+00:00".to_owned()))
        // They would be logged with the whole text of 500 rows.
        .disable_statement_logging();
    if let Some(password) = &server.password {
        options = options.password(password);
    }
    if let Some(socket) = &server.socket {
        options = options.socket(socket);
    }
    if let Some(mode) = &server.ssl_mode {
        options = options.ssl_mode(mode.parse().map_err(|error| store_error("reading db_url", error))?);
    }
    if let Some(ca) = &server.ssl_ca {
        options = options.ssl_ca(ca);
    }
    if let Some(cert) = &server.ssl_cert {
        options = options.ssl_client_cert(cert);
    }
    if let Some(key) = &server.ssl_key {
        options = options.ssl_client_key(key);
    }
    Ok(options)
}

fn bind<'q>(statement: &'q Statement<'_>) -> sqlx::query::Query<'q, sqlx::MySql, MySqlArguments> {
    // The text is made of this folder's constants. Of the upserts only the one of a full batch comes again and
    // again, with the read behind it: under load preparing them anew each time costs more than running them.
    let arguments = statement.args.len();
    let full = [BATCH_ROWS * super::row::COLUMNS.len(), BATCH_ROWS + 1];
    let cacheable = arguments < 32 || full.contains(&arguments);
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

/// Whether nothing is left to do: then an account that may not change tables is enough. Any doubt is a no,
/// and what is wrong shows when the table is prepared.
async fn is_migrated(connection: &mut MySqlConnection) -> bool {
    let known: Vec<String> = MIGRATIONS.iter().map(|migration| migration.version.to_string()).collect();
    let done = format!(
        "SELECT COUNT(*) FROM _sqlx_migrations WHERE success = TRUE AND version IN ({})",
        known.join(", ")
    );
    let done: Result<i64, _> = sqlx::query_scalar(AssertSqlSafe(done)).fetch_one(connection).await;
    done.is_ok_and(|done| usize::try_from(done) == Ok(known.len()))
}

async fn migrate_table(connection: &mut MySqlConnection) -> Result<(), MigrateError> {
    // The driver's own lock waits for -1 seconds, which MariaDB takes for "not at all".
    let lock = "SELECT COALESCE(GET_LOCK(CONCAT('forest:', SHA1(DATABASE())), ?), 0)";
    let locked: i64 =
        sqlx::query_scalar(lock).bind(MIGRATE_TIMEOUT.as_secs()).fetch_one(&mut *connection).await?;
    if locked != 1 {
        return Err(sqlx::Error::Protocol("the lock for preparing the table was not given".into()).into());
    }
    let mut migrator = Migrator::with_migrations(MIGRATIONS.iter().cloned().collect());
    migrator.set_locking(false);
    // A newer version's additions are no reason to refuse: they stand beside what this one knows.
    migrator.set_ignore_missing(true);
    match migrator.run_direct(None, connection, false).await {
        Err(MigrateError::Dirty(_)) => {
            // Somebody died in the middle. Each migration can be run again, and the lock is ours.
            connection.execute("DELETE FROM _sqlx_migrations WHERE success = FALSE").await?;
            migrator.run_direct(None, connection, false).await
        }
        ended => ended,
    }
}

/// Gives rows that have only a local creation time an instant, so that they stand where they belong.
/// Texts that are no time stay as they are, and those rows stand at the end.
async fn backfill(connection: &mut MySqlConnection, zone: &TimeZone) -> Result<(), sqlx::Error> {
    use forest_proto::time::Instant;
    let unknown = format!(
        "SELECT id, create_time FROM {TABLE} WHERE created_at = '{NO_INSTANT}' AND create_time <> '' AND id > ? \
         ORDER BY id LIMIT {BACKFILL_ROWS}"
    );
    let mut after = String::new();
    loop {
        let rows =
            sqlx::query(AssertSqlSafe(unknown.as_str())).bind(&after).fetch_all(&mut *connection).await?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = last.try_get(0)?;
        let mut known: Vec<(String, String)> = Vec::with_capacity(rows.len());
        for row in &rows {
            let (id, local): (String, String) = (row.try_get(0)?, row.try_get(1)?);
            if let Some(at) = Instant::from_local_text(local.trim(), zone) {
                known.push((id, instant_text(at)));
            }
        }
        if known.is_empty() {
            continue;
        }
        let cases = "WHEN ? THEN CAST(? AS DATETIME(3)) ".repeat(known.len());
        let places = vec!["?"; known.len()].join(", ");
        let update = format!("UPDATE {TABLE} SET created_at = CASE id {cases}END WHERE id IN ({places})");
        let mut query = sqlx::query(AssertSqlSafe(update)).persistent(false);
        for (id, at) in &known {
            query = query.bind(id).bind(at);
        }
        for (id, _) in &known {
            query = query.bind(id);
        }
        query.execute(&mut *connection).await?;
    }
}

enum Kind {
    /// A value is at fault.
    Data,
    /// The account, the database or the table is not what it must be.
    Setup,
    /// Anything that may pass.
    Passing,
}

fn kind(error: &sqlx::Error) -> Kind {
    let error = match error {
        sqlx::Error::Database(error) => error,
        sqlx::Error::Encode(_) => return Kind::Data,
        sqlx::Error::Configuration(_) | sqlx::Error::ColumnDecode { .. } => return Kind::Setup,
        _ => return Kind::Passing,
    };
    let number = error.try_downcast_ref::<MySqlDatabaseError>().map_or(0, MySqlDatabaseError::number);
    match number {
        // Access denied to server, database, table or column; no such database, table or column; refused login plugin.
        1044 | 1045 | 1049 | 1054 | 1142 | 1143 | 1146 | 1227 | 1251 | 1698 => Kind::Setup,
        // Wrong string or collation, row or packet too big, a trigger's or a constraint's veto.
        1118 | 1153 | 1267 | 1270 | 1271 | 1300 | 1366 | 1644 | 1713 | 3819 | 3988 | 4025 => Kind::Data,
        _ => match error.code().as_deref() {
            Some(state) if state.starts_with("22") || state.starts_with("23") => Kind::Data,
            _ => Kind::Passing,
        },
    }
}

fn store_error(doing: &'static str, error: sqlx::Error) -> StoreError {
    match kind(&error) {
        Kind::Setup => StoreError::Invalid { doing, cause: error.into() },
        Kind::Data | Kind::Passing => match error {
            // The pool does not tell why.
            sqlx::Error::PoolTimedOut => {
                let cause = "no connection in time: the server is down, takes no more, or all are in use";
                StoreError::Unavailable { doing, cause: cause.into() }
            }
            error => StoreError::Unavailable { doing, cause: error.into() },
        },
    }
}

fn migrate_error(doing: &'static str, error: MigrateError) -> StoreError {
    match error {
        MigrateError::Execute(error) => store_error(doing, error),
        MigrateError::ExecuteMigration(error, _) => store_error(doing, error),
        error => StoreError::Invalid { doing, cause: error.into() },
    }
}
