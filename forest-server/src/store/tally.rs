//! Counts of what became of runs, by job and hour, in the table `forest_job_hour`.
//!
//! They are raised in the transaction that decides rows of the history, by the rows that it is the first to decide
//! (see [`super::upsert`]), and read without looking at a row of the history. They refuse to know of a run what is
//! not in its row; what was decided before the table was there is not counted.

use std::collections::BTreeMap;

use forest_proto::record::{Execution, Origin, Outcome};
use forest_proto::time::Instant;
use sqlx::{ColumnIndex, Decode, Row, Type};

use super::statement::{Arg, Dialect, Statement, instant_text, read_instant};

const TABLE: &str = "forest_job_hour";
const HOUR_MS: i64 = 3_600_000;

/// The outcomes, in the order in which they are counted.
pub(crate) const OUTCOMES: [Outcome; 8] = [
    Outcome::Succeeded,
    Outcome::Failed,
    Outcome::TimedOut,
    Outcome::Cancelled,
    Outcome::Lost,
    Outcome::NoClient,
    Outcome::OverlapSkipped,
    Outcome::MisfireSkipped,
];

/// Up to where the parts of durations and delays reach. What is longer is in none.
pub(crate) const BOUNDS_MS: [i64; 5] = [100, 1_000, 10_000, 60_000, 600_000];

/// What is added up, and then those columns of which the largest counts, in the order of [`Tally::values`].
const COLUMNS: [&str; 24] = [
    "succeeded",
    "failed",
    "timed_out",
    "cancelled",
    "lost",
    "no_client",
    "overlap_skipped",
    "misfire_skipped",
    "missed_fires",
    "started",
    "duration_ms",
    "duration_100ms",
    "duration_1s",
    "duration_10s",
    "duration_1m",
    "duration_10m",
    "delay_ms",
    "delay_100ms",
    "delay_1s",
    "delay_10s",
    "delay_1m",
    "delay_10m",
    "max_duration_ms",
    "max_delay_ms",
];

fn is_max(column: &str) -> bool {
    column.starts_with("max_")
}

/// A length of time of several runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Lengths {
    pub(crate) sum_ms: i64,
    pub(crate) max_ms: i64,
    /// How many are within each of [`BOUNDS_MS`], and not within the one before.
    pub(crate) parts: [i64; BOUNDS_MS.len()],
}

impl Lengths {
    fn add(&mut self, ms: i64) {
        self.sum_ms = self.sum_ms.saturating_add(ms);
        self.max_ms = self.max_ms.max(ms);
        if let Some(part) = BOUNDS_MS.iter().position(|bound| ms <= *bound) {
            self.parts[part] += 1;
        }
    }
}

/// Counts of runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Tally {
    /// In the order of [`OUTCOMES`].
    pub(crate) outcomes: [i64; OUTCOMES.len()],
    /// Fires that stand behind a record of another one.
    pub(crate) missed_fires: i64,
    /// Those of them that a handler began. Durations and delays are theirs.
    pub(crate) started: i64,
    pub(crate) duration: Lengths,
    /// From when a run was to begin until its handler did.
    pub(crate) delay: Lengths,
}

impl Tally {
    pub(crate) fn runs(&self) -> i64 {
        self.outcomes.iter().sum()
    }

    fn add(&mut self, execution: &Execution) {
        let snapshot = &execution.snapshot;
        let outcome = execution.outcome.or_else(|| Outcome::of(execution.status));
        if let Some(index) = OUTCOMES.iter().position(|known| Some(*known) == outcome) {
            self.outcomes[index] += 1;
        }
        self.missed_fires += count(snapshot.missed_fires);
        let Some(started) = execution.started_at else { return };
        // A further attempt, a fire of the past and a run that somebody asked for were never to begin at their time.
        let due = match snapshot.origin {
            Origin::Retry | Origin::Backfill | Origin::Manual => snapshot.created_at,
            _ => snapshot.scheduled_at,
        };
        self.started += 1;
        self.duration.add(count(execution.duration_ms));
        self.delay.add((started.as_ms() - due.as_ms()).max(0));
    }

    fn values(&self) -> Vec<i64> {
        let sums = self.outcomes.iter().chain([&self.missed_fires, &self.started]).copied();
        let lengths = [&self.duration, &self.delay];
        let parts = lengths.into_iter().flat_map(|of| std::iter::once(of.sum_ms).chain(of.parts));
        sums.chain(parts).chain(lengths.map(|of| of.max_ms)).collect()
    }
}

fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// `yyyy-MM-dd HH:00:00` in UTC.
fn hour_text(at: Instant) -> String {
    instant_text(Instant::from_ms(at.as_ms() / HOUR_MS * HOUR_MS)).chars().take(19).collect()
}

/// What counts these; `None` if there are none. Rows come in the order of their keys, so that savers who lock them
/// never wait for each other in a circle.
pub(super) fn add<'e, D: Dialect>(
    executions: impl Iterator<Item = &'e Execution>,
) -> Option<Statement<'static>> {
    let mut tallies: BTreeMap<(String, String, String), Tally> = BTreeMap::new();
    for execution in executions {
        let snapshot = &execution.snapshot;
        let (job, group) = (snapshot.job_id.to_string(), snapshot.group.to_string());
        tallies.entry((job, hour_text(snapshot.created_at), group)).or_default().add(execution);
    }
    if tallies.is_empty() {
        return None;
    }
    let places = format!("({})", vec!["?"; COLUMNS.len() + 3].join(", "));
    let places = vec![places; tallies.len()].join(", ");
    let raised = COLUMNS.map(|column| {
        let new = D::proposed(column);
        if is_max(column) {
            format!("{column} = CASE WHEN {new} > {column} THEN {new} ELSE {column} END")
        } else {
            format!("{column} = {column} + {new}")
        }
    });
    let sql = format!(
        "INSERT INTO {TABLE} (job_id, hour, `group`, {}) VALUES {places} {} {}",
        COLUMNS.join(", "),
        D::on_conflict("job_id, hour, `group`"),
        raised.join(", ")
    );
    let args = tallies.into_iter().flat_map(|((job, hour, group), tally)| {
        let key = [job, hour, group].map(Arg::text);
        key.into_iter().chain(tally.values().into_iter().map(Arg::Int))
    });
    Some(Statement { sql, args: args.collect() })
}

/// What counts are told apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum By {
    #[default]
    Hour,
    Day,
    Job,
    Group,
}

impl By {
    /// The key of what begins at this instant.
    pub(crate) fn key_at(self, at: Instant) -> String {
        let text = hour_text(at);
        if self == Self::Day { text.chars().take(10).collect() } else { text }
    }
}

/// Which counts. An absent text matches all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct TallyFilter {
    pub(crate) by: By,
    pub(crate) group: Option<String>,
    pub(crate) job_id: Option<String>,
    /// The hour of this instant and later ones.
    pub(crate) since: Instant,
    /// Hours that begin before it.
    pub(crate) until: Instant,
    /// Only keys behind this one.
    pub(crate) after: Option<String>,
}

/// Counts of one hour, day, job or group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tallied {
    /// The beginning of the hour, the day, or a name, as it is in the database.
    pub(crate) key: String,
    pub(crate) tally: Tally,
}

impl Tallied {
    /// The beginning of the hour or of the day.
    pub(crate) fn at(&self) -> Option<Instant> {
        let whole = if self.key.len() == 10 { " 00:00:00" } else { "" };
        read_instant(&format!("{}{whole}", self.key))
    }
}

/// In the order of the keys.
pub(super) fn list<D: Dialect>(_: &D, filter: &TallyFilter, limit: usize) -> Statement<'static> {
    let key = match filter.by {
        By::Hour => "CAST(hour AS CHAR(19))",
        By::Day => "SUBSTR(CAST(hour AS CHAR(19)), 1, 10)",
        By::Job => "job_id",
        By::Group => "`group`",
    };
    let folded = COLUMNS.map(|column| {
        let fold = if is_max(column) { "MAX" } else { "SUM" };
        format!("CAST({fold}({column}) AS SIGNED)")
    });
    let folded = folded.join(", ");
    let mut sql = format!("{} {key}, {folded} FROM {TABLE} WHERE hour >= ? AND hour < ?", D::SELECT);
    let until = Instant::from_ms(filter.until.as_ms() + HOUR_MS - 1);
    let mut args = vec![Arg::text(hour_text(filter.since)), Arg::text(hour_text(until))];
    let conditions = [
        ("job_id = ?".to_owned(), &filter.job_id),
        ("`group` = ?".to_owned(), &filter.group),
        (format!("{key} > ?"), &filter.after),
    ];
    for (condition, value) in conditions {
        if let Some(value) = value {
            sql.push_str(" AND ");
            sql.push_str(&condition);
            args.push(Arg::text(value.clone()));
        }
    }
    sql.push_str(&format!(" GROUP BY {key} ORDER BY {key} LIMIT ?"));
    args.push(Arg::count(limit as u64));
    Statement { sql, args }
}

pub(super) fn read<'r, R: Row>(row: &'r R) -> Result<Tallied, sqlx::Error>
where
    usize: ColumnIndex<R>,
    String: Decode<'r, R::Database> + Type<R::Database>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
{
    let mut at = 0;
    let mut next = || {
        at += 1;
        row.try_get::<i64, _>(at)
    };
    let mut tally = Tally::default();
    for outcome in &mut tally.outcomes {
        *outcome = next()?;
    }
    (tally.missed_fires, tally.started) = (next()?, next()?);
    for lengths in [&mut tally.duration, &mut tally.delay] {
        lengths.sum_ms = next()?;
        for part in &mut lengths.parts {
            *part = next()?;
        }
    }
    (tally.duration.max_ms, tally.delay.max_ms) = (next()?, next()?);
    Ok(Tallied { key: row.try_get(0)?, tally })
}
