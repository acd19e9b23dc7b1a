//! The history as another program sees it: rows of the published table, read with plain SQL.

use std::collections::BTreeMap;

use anyhow::Context;
use forest_proto::time::Instant;
use sqlx::mysql::{MySqlPool, MySqlPoolOptions, MySqlRow};
use sqlx::{AssertSqlSafe, Row};

/// Instants are read as text, so that nothing depends on how a driver maps the column's type.
const COLUMNS: &str = "id, job_id, status, outcome, ip, attempt, node, term, fencing_token, result, \
    late_outcome, \
    DATE_FORMAT(scheduled_at, '%Y-%m-%dT%H:%i:%s.%fZ') AS scheduled_at, \
    DATE_FORMAT(created_at, '%Y-%m-%dT%H:%i:%s.%fZ') AS created_at, \
    DATE_FORMAT(started_at, '%Y-%m-%dT%H:%i:%s.%fZ') AS started_at, \
    DATE_FORMAT(finished_at, '%Y-%m-%dT%H:%i:%s.%fZ') AS finished_at";

/// One row of `job_execute_snapshot`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryRow {
    /// The run's id.
    pub id: String,
    /// The job's id.
    pub job_id: String,
    /// 1 running, 2 done, 3 unknown, 4 error.
    pub status: i64,
    /// How it ended, in our words.
    pub outcome: Option<String>,
    /// The client that had it.
    pub ip: Option<String>,
    /// When it was to fire.
    pub scheduled_at: Option<Instant>,
    /// When it was created.
    pub created_at: Option<Instant>,
    /// When its handler started.
    pub started_at: Option<Instant>,
    /// When it ended.
    pub finished_at: Option<Instant>,
    /// Which try it was, from 1.
    pub attempt: i64,
    /// The node that created it.
    pub node: Option<String>,
    /// The term in which it was created.
    pub term: Option<i64>,
    /// What its handler could have handed on.
    pub fencing_token: Option<i64>,
    /// What the handler returned.
    pub result: Option<String>,
    /// How it ended in its client's words, where that came after the decision.
    pub late_outcome: Option<String>,
}

/// A history database.
#[derive(Debug, Clone)]
pub struct History {
    pool: MySqlPool,
}

impl History {
    /// The database at a `mysql://` URL. Connects when it is first asked.
    ///
    /// # Errors
    /// If the URL is none.
    pub fn new(url: &str) -> anyhow::Result<Self> {
        Ok(Self { pool: MySqlPoolOptions::new().max_connections(2).connect_lazy(url)? })
    }

    /// All rows of a job, oldest fire first.
    ///
    /// # Errors
    /// If the database does not answer or has no such table yet.
    pub async fn rows(&self, job: &str) -> anyhow::Result<Vec<HistoryRow>> {
        let sql =
            format!("SELECT {COLUMNS} FROM job_execute_snapshot WHERE job_id = ? ORDER BY scheduled_at, id");
        let rows = sqlx::query(AssertSqlSafe(sql)).bind(job).fetch_all(&self.pool).await?;
        rows.iter().map(read).collect()
    }

    /// One run.
    ///
    /// # Errors
    /// As [`History::rows`].
    pub async fn row(&self, run: &str) -> anyhow::Result<Option<HistoryRow>> {
        let sql = format!("SELECT {COLUMNS} FROM job_execute_snapshot WHERE id = ?");
        let row = sqlx::query(AssertSqlSafe(sql)).bind(run).fetch_optional(&self.pool).await?;
        row.as_ref().map(read).transpose()
    }

    /// All rows of all jobs, in the order of their ids.
    ///
    /// # Errors
    /// As [`History::rows`].
    pub async fn all(&self) -> anyhow::Result<Vec<HistoryRow>> {
        let sql = format!("SELECT {COLUMNS} FROM job_execute_snapshot ORDER BY id");
        let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&self.pool).await?;
        rows.iter().map(read).collect()
    }

    /// Runs statements of a test, separated by semicolons, on one connection. It is returned: what they lock
    /// stays locked until it is dropped.
    ///
    /// # Errors
    /// If the database does not answer or refuses one of them.
    pub async fn execute(&self, sql: &str) -> anyhow::Result<sqlx::MySqlConnection> {
        let mut connection = self.pool.acquire().await?.detach();
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await?;
        Ok(connection)
    }

    /// The texts of a query's first column.
    ///
    /// # Errors
    /// As [`History::execute`].
    pub async fn texts(&self, sql: &str) -> anyhow::Result<Vec<String>> {
        Ok(sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_all(&self.pool).await?)
    }

    /// How many rows there are, of all jobs.
    ///
    /// # Errors
    /// As [`History::rows`].
    pub async fn count(&self) -> anyhow::Result<i64> {
        let count = sqlx::query_scalar("SELECT COUNT(*) FROM job_execute_snapshot").fetch_one(&self.pool);
        Ok(count.await?)
    }

    /// How many decided rows there are of each job and outcome.
    ///
    /// # Errors
    /// If the table cannot be read.
    pub async fn outcomes(&self) -> anyhow::Result<BTreeMap<(String, String), i64>> {
        let sql = "SELECT job_id, outcome, COUNT(*) FROM job_execute_snapshot WHERE progress = 3 GROUP BY job_id, outcome";
        let rows = sqlx::query(sql).fetch_all(&self.pool).await?;
        let row = |row: &MySqlRow| Ok(((row.try_get(0)?, row.try_get(1)?), row.try_get(2)?));
        rows.iter().map(row).collect()
    }

    /// The same as the counters beside the table have it.
    ///
    /// # Errors
    /// If they cannot be read.
    pub async fn counted(&self) -> anyhow::Result<BTreeMap<(String, String), i64>> {
        let mut counted = BTreeMap::new();
        for outcome in [
            "succeeded",
            "failed",
            "timed_out",
            "cancelled",
            "lost",
            "no_client",
            "overlap_skipped",
            "misfire_skipped",
        ] {
            let sql = format!(
                "SELECT job_id, CAST(SUM({outcome}) AS SIGNED) AS n FROM forest_job_hour GROUP BY job_id HAVING n > 0"
            );
            for row in sqlx::query(AssertSqlSafe(sql)).fetch_all(&self.pool).await? {
                counted.insert((row.try_get(0)?, outcome.to_owned()), row.try_get(1)?);
            }
        }
        Ok(counted)
    }
}

fn read(row: &MySqlRow) -> anyhow::Result<HistoryRow> {
    let instant = |column: &str| -> anyhow::Result<Option<Instant>> {
        let text: Option<String> = row.try_get(column)?;
        text.map(|t| t.parse::<Instant>().with_context(|| format!("{column} is {t:?}"))).transpose()
    };
    // The widths of the numbers are the server's business.
    let number = |column: &str| row.try_get_unchecked::<Option<i64>, _>(column);
    Ok(HistoryRow {
        id: row.try_get("id")?,
        job_id: row.try_get("job_id")?,
        status: number("status")?.context("status is NULL")?,
        outcome: row.try_get("outcome")?,
        ip: row.try_get("ip")?,
        scheduled_at: instant("scheduled_at")?,
        created_at: instant("created_at")?,
        started_at: instant("started_at")?,
        finished_at: instant("finished_at")?,
        attempt: number("attempt")?.unwrap_or(1),
        node: row.try_get("node")?,
        term: number("term")?,
        fencing_token: number("fencing_token")?,
        result: row.try_get("result")?,
        late_outcome: row.try_get("late_outcome")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::require;
    use crate::services::shared_mariadb;

    #[tokio::test]
    async fn rows_are_read_whatever_the_width_of_their_columns() {
        let database = require!(shared_mariadb().await).database("history").await;
        let history = History::new(&database.url).expect("a URL");
        let sql = "CREATE TABLE job_execute_snapshot (id VARCHAR(64) COLLATE utf8mb4_bin PRIMARY KEY, \
             job_id VARCHAR(64) COLLATE utf8mb4_bin, status TINYINT, outcome VARCHAR(32), ip VARCHAR(64), \
             attempt INT NOT NULL DEFAULT 1, node VARCHAR(64), term BIGINT, fencing_token BIGINT UNSIGNED, \
             result MEDIUMTEXT COLLATE utf8mb4_bin, late_outcome VARCHAR(32), scheduled_at DATETIME(3), \
             created_at DATETIME(3), started_at DATETIME(3), finished_at DATETIME(3)); \
             INSERT INTO job_execute_snapshot \
             (id, job_id, status, attempt, term, fencing_token, result, scheduled_at) \
             VALUES ('b', 'j', -1, 2, 5000000000, 6000000000, 'späť', '2026-11-21 00:00:00.125'), \
             ('a', 'j', 2, 1, NULL, NULL, NULL, '2026-11-20 23:59:59.000'), ('c', 'k', 2, 1, 1, 1, '', NULL)";
        sqlx::raw_sql(sql).execute(&history.pool).await.expect("a table");
        let rows = history.rows("j").await.expect("rows");
        assert_eq!(rows.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        let row = &rows[1];
        assert_eq!((row.status, row.attempt, row.result.as_deref()), (-1, 2, Some("späť")));
        assert_eq!((row.term, row.fencing_token), (Some(5_000_000_000), Some(6_000_000_000)));
        let at = row.scheduled_at.map(|at| at.to_string());
        assert_eq!(at.as_deref(), Some("2026-11-21T00:00:00.125Z"));
        assert_eq!(row.started_at, None);
        assert_eq!(history.row("c").await.expect("read").map(|row| row.scheduled_at), Some(None));
        assert_eq!(history.count().await.expect("count"), 3);
    }
}
