//! Saving: batches, the rule by which a row moves forward, and what happens to rows the database refuses.
//!
//! The rule, decided inside the one statement that writes a batch: a row in the table is replaced only by one
//! that is further ([`Progress`]: late only, running, ended, decided), or by one that is equally far, not
//! decided, and has no smaller fencing token. So the first decision stays; saving it again, or saving an
//! earlier state after it, changes nothing. A late completion has columns of its own, and there too the
//! first one stays.
//!
//! What a batch decides is counted in the same transaction ([`super::tally`]): each save has a number of its own, and
//! leaves it in the rows that it was the first to decide. So a row that is saved twice, by whomever, counts once.
//!
//! A batch that the database refuses for its data is halved until the row at fault is alone. That row is
//! stored with a marker in place of its texts; if even that is refused, it is handed back.

use std::collections::BTreeSet;

use super::StoreError;
use super::row::{COLUMNS, Progress, Row};
use super::statement::{Arg, Dialect, Statement, TABLE};
use super::tally;

/// At most this many rows in one statement.
pub(super) const BATCH_ROWS: usize = 500;

/// At most about this many bytes in one statement, if the server takes that much.
pub(super) const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// What became of the rows that were given to `save`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Saved {
    /// So many are in the table.
    pub(crate) stored: usize,
    /// Stored without their texts (parameters, result, remark, ...), because the database refused those.
    pub(crate) marked: Vec<Rejected>,
    /// Not stored. Keep them where they are, and let a human look.
    pub(crate) rejected: Vec<Rejected>,
}

/// A row that the database refused, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rejected {
    pub(crate) id: String,
    pub(crate) reason: String,
}

/// Why a batch was not written.
pub(super) enum Failure {
    /// A row of it is at fault.
    Data(String),
    /// The database is.
    Store(StoreError),
}

/// What saving needs of a database.
pub(super) trait Writer: Dialect {
    /// How many bytes one statement may have.
    async fn statement_limit(&self) -> Result<usize, StoreError>;

    /// Executes a statement whole or not at all.
    async fn execute(&self, statement: &Statement<'_>) -> Result<(), Failure>;

    /// Saves and counts in one transaction.
    async fn save(&self, saving: &Saving<'_>) -> Result<(), Failure>;
}

/// A batch, as the statements of one transaction.
pub(super) struct Saving<'a> {
    pub(super) upsert: Statement<'a>,
    /// Reads the ids of the rows that the upsert was the first to decide.
    pub(super) decided: Statement<'a>,
    rows: &'a [&'a Row],
}

impl<'a> Saving<'a> {
    fn of<D: Dialect>(rows: &'a [&'a Row], number: i64) -> Self {
        Self { upsert: upsert::<D>(rows, number), decided: decided::<D>(rows, number), rows }
    }

    /// What counts those that were decided; `None` if there are none.
    pub(super) fn count<D: Dialect>(&self, decided: &[String]) -> Option<Statement<'static>> {
        let mut decided: BTreeSet<&str> = decided.iter().map(String::as_str).collect();
        // Of two decisions about one run the first one stands.
        let executions = self.rows.iter().filter_map(|row| Some((row.id(), row.decided()?)));
        let counted = executions.filter(|(id, _)| decided.remove(id));
        tally::add::<D>(counted.map(|(_, execution)| execution))
    }
}

pub(super) async fn save<W: Writer>(writer: &W, rows: &[Row]) -> Result<Saved, StoreError> {
    let mut saved = Saved::default();
    if rows.is_empty() {
        return Ok(saved);
    }
    // Savers that lock rows in the same order rarely wait for each other in a circle. The sort keeps the
    // order of rows of one run.
    let mut rows: Vec<&Row> = rows.iter().collect();
    rows.sort_by(|a, b| a.id().cmp(b.id()));

    let mut parts = batches(&rows, writer.statement_limit().await?.min(BATCH_BYTES));
    parts.reverse();
    while let Some(part) = parts.pop() {
        match writer.save(&Saving::of::<W>(part, number())).await {
            Ok(()) => saved.stored += part.len(),
            Err(Failure::Store(error)) => return Err(error),
            Err(Failure::Data(reason)) => match part {
                [row] => save_marked(writer, row, reason, &mut saved).await?,
                _ => {
                    let (left, right) = part.split_at(part.len() / 2);
                    parts.extend([right, left]);
                }
            },
        }
    }
    Ok(saved)
}

async fn save_marked<W: Writer>(
    writer: &W,
    row: &Row,
    reason: String,
    saved: &mut Saved,
) -> Result<(), StoreError> {
    let marked = row.with_marker(&reason);
    let id = row.id().to_owned();
    match writer.save(&Saving::of::<W>(&[&marked], number())).await {
        Ok(()) => {
            saved.stored += 1;
            saved.marked.push(Rejected { id, reason });
        }
        Err(Failure::Data(_)) => saved.rejected.push(Rejected { id, reason }),
        Err(Failure::Store(error)) => return Err(error),
    }
    Ok(())
}

fn batches<'s, 'r>(mut rows: &'s [&'r Row], max_bytes: usize) -> Vec<&'s [&'r Row]> {
    let mut batches = Vec::new();
    while !rows.is_empty() {
        let mut bytes = 0;
        let fitting = rows
            .iter()
            .take(BATCH_ROWS)
            .take_while(|row| {
                bytes += row.weight();
                bytes <= max_bytes
            })
            .count();
        // One row always goes: it is the database that says whether it is too big.
        let (batch, rest) = rows.split_at(fitting.max(1));
        batches.push(batch);
        rows = rest;
    }
    batches
}

/// Of one save, and of no other that may have left its own in the same rows.
fn number() -> i64 {
    fastrand::i64(1..)
}

fn decided<'r, D: Dialect>(rows: &[&'r Row], number: i64) -> Statement<'r> {
    let places = vec!["?"; rows.len()].join(", ");
    let ids = rows.iter().map(|row| Arg::text(row.id()));
    Statement {
        sql: format!("SELECT id FROM {TABLE} WHERE id IN ({places}) AND counted_by = ?"),
        args: ids.chain([Arg::Int(number)]).collect(),
    }
}

fn upsert<'r, D: Dialect>(rows: &[&'r Row], number: i64) -> Statement<'r> {
    let mut places = format!("({}?)", "?, ".repeat(COLUMNS.len() - 1));
    places.push_str(", ");
    let mut places = places.repeat(rows.len());
    places.truncate(places.len() - 2);
    let args: Vec<Arg<'r>> = rows.iter().flat_map(|row| row.values(number)).collect();
    Statement {
        sql: format!(
            "INSERT INTO {TABLE} ({}) VALUES {places} {} {}",
            COLUMNS.join(", "),
            D::on_conflict("id"),
            assignments::<D>()
        ),
        args,
    }
}

/// Some databases see, in an assignment, what the ones before it have set. So `progress` comes last; and a
/// token that has been set already compares as the proposed one does.
fn assignments<D: Dialect>() -> String {
    let progress = D::proposed("progress");
    let forward = format!(
        "({progress} > progress OR ({progress} = progress AND progress < {} AND {} >= fencing_token))",
        Progress::Decided as i64,
        D::proposed("fencing_token")
    );
    let assignment = |column: &&str| {
        let new = D::proposed(column);
        match *column {
            "late_outcome" | "late_result" | "late_finished_at" => {
                format!("{column} = COALESCE({column}, {new})")
            }
            "counted_by" => {
                format!("{column} = CASE WHEN {progress} > progress THEN {new} ELSE {column} END")
            }
            "progress" => format!("progress = CASE WHEN {new} > progress THEN {new} ELSE progress END"),
            _ => format!("{column} = CASE WHEN {forward} THEN {new} ELSE {column} END"),
        }
    };
    COLUMNS[1..].iter().map(assignment).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use forest_proto::record::Outcome;

    use super::super::tests::execution;
    use super::*;

    /// Takes any statement, but refuses those with one of these texts in it.
    #[derive(Default)]
    struct Picky {
        refuses: Vec<&'static str>,
        fails_after: Option<usize>,
        statements: Mutex<Vec<usize>>,
        ids: Mutex<BTreeMap<String, usize>>,
    }

    impl Dialect for Picky {
        const SELECT: &'static str = "SELECT";
        fn on_conflict(_: &str) -> String {
            "ON CONFLICT".to_owned()
        }
        fn proposed(column: &str) -> String {
            format!("new.{column}")
        }
    }

    impl Writer for Picky {
        async fn statement_limit(&self) -> Result<usize, StoreError> {
            Ok(1024 * 1024)
        }

        async fn save(&self, saving: &Saving<'_>) -> Result<(), Failure> {
            let ids: Vec<_> = saving.rows.iter().map(|row| row.id().to_owned()).collect();
            let counting = saving
                .count::<Self>(&ids)
                .map_or((0, 0), |statement| (statement.sql.matches('?').count(), statement.args.len()));
            assert_eq!(counting.0, counting.1);
            self.execute(&saving.upsert).await
        }

        async fn execute(&self, statement: &Statement<'_>) -> Result<(), Failure> {
            let mut statements = self.statements.lock().expect("no panic");
            if self.fails_after.is_some_and(|n| statements.len() >= n) {
                return Err(Failure::Store(StoreError::Unavailable { doing: "test", cause: "away".into() }));
            }
            assert_eq!(statement.sql.matches('?').count(), statement.args.len());
            statements.push(statement.args.len() / COLUMNS.len());
            let refused = |arg: &Arg<'_>| matches!(arg, Arg::Text(t) if self.refuses.contains(&t.as_ref()));
            if statement.args.iter().any(refused) {
                return Err(Failure::Data("bad text".into()));
            }
            let mut ids = self.ids.lock().expect("no panic");
            for row in statement.args.chunks(COLUMNS.len()) {
                let Arg::Text(id) = &row[0] else { panic!("an id") };
                *ids.entry(id.to_string()).or_default() += 1;
            }
            Ok(())
        }
    }

    fn rows(n: usize, result: &str) -> Vec<Row> {
        (0..n).map(|i| Row::new(execution(i, Some(Outcome::Succeeded), result), 1)).collect()
    }

    #[tokio::test]
    async fn a_poison_row_is_set_apart_and_all_others_are_stored_once() {
        let picky = Picky { refuses: vec!["bad", "worse"], ..Picky::default() };
        let mut rows = rows(1200, "fine");
        rows[700] = Row::new(execution(700, Some(Outcome::Failed), "bad"), 1);
        let mut worse = execution(3, Some(Outcome::Failed), "bad");
        worse.snapshot.ip = "worse".into();
        rows[3] = Row::new(worse, 1);

        let saved = save(&picky, &rows).await.expect("the database is there");
        assert_eq!(saved.stored, 1199);
        let of = |ids: &[usize]| -> Vec<Rejected> {
            let rejected = |i: &usize| Rejected { id: rows[*i].id().into(), reason: "bad text".into() };
            ids.iter().map(rejected).collect()
        };
        assert_eq!((saved.marked, saved.rejected), (of(&[700]), of(&[3])));
        let ids = picky.ids.lock().expect("no panic");
        assert_eq!(ids.len(), 1199);
        assert!(ids.values().all(|times| *times == 1));
        let statements = picky.statements.lock().expect("no panic").len();
        assert!(statements < 3 + 2 * 2 * 10, "halving, not one by one: {statements}");
    }

    #[tokio::test]
    async fn a_database_that_goes_away_ends_the_save() {
        let picky = Picky { fails_after: Some(1), ..Picky::default() };
        let error = save(&picky, &rows(1200, "")).await.expect_err("it went away");
        assert!(matches!(error, StoreError::Unavailable { .. }));
        assert_eq!(picky.ids.lock().expect("no panic").len(), BATCH_ROWS);
    }

    #[tokio::test]
    async fn batches_are_cut_by_bytes_too() {
        let picky = Picky::default();
        save(&picky, &rows(40, &"x".repeat(60_000))).await.expect("taken");
        let statements = picky.statements.lock().expect("no panic");
        assert_eq!(statements.iter().sum::<usize>(), 40);
        assert!(statements.iter().all(|n| *n <= 17) && statements.len() == 3, "{statements:?}");
    }

    #[tokio::test]
    async fn nothing_to_save_asks_nothing() {
        let picky = Picky { fails_after: Some(0), ..Picky::default() };
        assert_eq!(save(&picky, &[]).await.expect("no statement"), Saved::default());
    }

    #[test]
    fn progress_is_the_last_assignment() {
        let text = assignments::<Picky>();
        assert!(text.ends_with("ELSE progress END") && text.matches(" = CASE").count() == COLUMNS.len() - 4);
    }
}
