//! What is read: a row of the history, also one that the original wrote.
//!
//! Reading is lenient. An old row has none of our columns, its id need not be one of ours, and its status may
//! be -1; it is shown with what it has.

use forest_proto::record::{Outcome, Status};
use forest_proto::time::Instant;
use sqlx::{ColumnIndex, Decode, Type};

use super::statement::read_instant;

/// A row of the history.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) id: String,
    pub(crate) job_id: String,
    pub(crate) name: String,
    pub(crate) group: String,
    pub(crate) cron: String,
    pub(crate) target: String,
    pub(crate) params: String,
    /// The original's `ip`.
    pub(crate) client: String,
    pub(crate) status: Status,
    pub(crate) mobile: String,
    pub(crate) remark: String,
    /// Local times as they were written.
    pub(crate) create_time: String,
    pub(crate) start_time: String,
    pub(crate) finish_time: String,
    /// Whole seconds.
    pub(crate) times: i64,
    pub(crate) result: String,
    /// `None` while it runs.
    pub(crate) outcome: Option<Outcome>,
    /// `schedule`, `manual`, `retry`, `misfire` or `dependency`; empty for an old row.
    pub(crate) origin: String,
    /// The run of another job that it follows; empty if it follows none.
    pub(crate) cause: String,
    pub(crate) attempt: i64,
    pub(crate) max_attempts: i64,
    pub(crate) scheduled_at: Option<Instant>,
    /// `None` if an old row says it in a form that could not be read.
    pub(crate) created_at: Option<Instant>,
    pub(crate) started_at: Option<Instant>,
    pub(crate) finished_at: Option<Instant>,
    pub(crate) duration_ms: i64,
    pub(crate) result_truncated: bool,
    pub(crate) missed_fires: i64,
    pub(crate) job_version: i64,
    pub(crate) node: String,
    pub(crate) term: i64,
    pub(crate) fencing_token: i64,
    /// A completion that came after the decision.
    pub(crate) late: Option<Late>,
}

/// What a client said about a run that had been decided already.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Late {
    pub(crate) outcome: Option<Outcome>,
    pub(crate) result: String,
    pub(crate) finished_at: Option<Instant>,
}

/// What a read selects, in the order of [`Entry::read`].
pub(super) enum Columns {
    /// Everything.
    Whole,
    /// Long texts cut to [`SHOWN_CHARS`].
    Short,
}

/// In lists, parameters and results are cut to this many characters.
pub(super) const SHOWN_CHARS: usize = 4000;

impl Columns {
    pub(super) fn sql(&self) -> String {
        let long = |column: &str| match self {
            Self::Whole => column.to_owned(),
            Self::Short => format!("SUBSTR({column}, 1, {SHOWN_CHARS})"),
        };
        let instant = |column: &str| format!("CAST({column} AS CHAR(23))");
        let name = |column: &str| column.to_owned();
        let columns = [
            ["id", "job_id", "name", "`group`", "cron", "target"].map(name).join(", "),
            [long("params"), name("ip"), name("status"), name("mobile"), name("remark")].join(", "),
            ["create_time", "start_time", "finish_time", "times"].map(name).join(", "),
            [long("result"), name("outcome"), name("origin"), name("cause")].join(", "),
            ["attempt", "max_attempts"].map(name).join(", "),
            ["scheduled_at", "created_at", "started_at", "finished_at"].map(instant).join(", "),
            ["duration_ms", "result_truncated", "missed_fires", "job_version"].map(name).join(", "),
            ["node", "term", "fencing_token"].map(name).join(", "),
            [name("late_outcome"), long("late_result"), instant("late_finished_at")].join(", "),
        ];
        columns.join(", ")
    }
}

/// Takes the columns one after the other; NULL is the zero value.
struct Cursor<'r, R> {
    row: &'r R,
    at: usize,
}

impl<R> Cursor<'_, R>
where
    R: sqlx::Row,
    usize: ColumnIndex<R>,
    String: for<'a> Decode<'a, R::Database> + Type<R::Database>,
    i64: for<'a> Decode<'a, R::Database> + Type<R::Database>,
{
    fn maybe_text(&mut self) -> Result<Option<String>, sqlx::Error> {
        self.at += 1;
        self.row.try_get(self.at - 1)
    }

    fn text(&mut self) -> Result<String, sqlx::Error> {
        Ok(self.maybe_text()?.unwrap_or_default())
    }

    fn number(&mut self) -> Result<i64, sqlx::Error> {
        self.at += 1;
        Ok(self.row.try_get::<Option<i64>, _>(self.at - 1)?.unwrap_or_default())
    }

    fn instant(&mut self) -> Result<Option<Instant>, sqlx::Error> {
        Ok(self.maybe_text()?.as_deref().and_then(read_instant))
    }

    fn outcome(&mut self) -> Result<Option<Outcome>, sqlx::Error> {
        Ok(self.maybe_text()?.as_deref().and_then(read_outcome))
    }
}

impl Entry {
    pub(super) fn read<R>(row: &R) -> Result<Self, sqlx::Error>
    where
        R: sqlx::Row,
        usize: ColumnIndex<R>,
        String: for<'a> Decode<'a, R::Database> + Type<R::Database>,
        i64: for<'a> Decode<'a, R::Database> + Type<R::Database>,
    {
        let mut c = Cursor { row, at: 0 };
        // Evaluated in the order in which it is written, which is that of the columns.
        let mut entry = Self {
            id: c.text()?,
            job_id: c.text()?,
            name: c.text()?,
            group: c.text()?,
            cron: c.text()?,
            target: c.text()?,
            params: c.text()?,
            client: c.text()?,
            status: Status::from_code(c.number()?).unwrap_or(Status::Unknown),
            mobile: c.text()?,
            remark: c.text()?,
            create_time: c.text()?,
            start_time: c.text()?,
            finish_time: c.text()?,
            times: c.number()?,
            result: c.text()?,
            outcome: c.outcome()?,
            origin: c.text()?,
            cause: c.text()?,
            attempt: c.number()?,
            max_attempts: c.number()?,
            scheduled_at: c.instant()?,
            created_at: c.instant()?,
            started_at: c.instant()?,
            finished_at: c.instant()?,
            duration_ms: c.number()?,
            result_truncated: c.number()? != 0,
            missed_fires: c.number()?,
            job_version: c.number()?,
            node: c.text()?,
            term: c.number()?,
            fencing_token: c.number()?,
            late: None,
        };
        let (late_outcome, late_result, late_finished_at) = (c.outcome()?, c.maybe_text()?, c.instant()?);
        entry.outcome = entry.outcome.or_else(|| Outcome::of(entry.status));
        entry.late =
            late_result.map(|result| Late { outcome: late_outcome, result, finished_at: late_finished_at });
        Ok(entry)
    }
}

fn read_outcome(text: &str) -> Option<Outcome> {
    use Outcome::{Cancelled, Failed, Lost, MisfireSkipped, NoClient, OverlapSkipped, Succeeded, TimedOut};
    [Succeeded, Failed, TimedOut, Cancelled, Lost, NoClient, OverlapSkipped, MisfireSkipped]
        .into_iter()
        .find(|outcome| outcome.as_str() == text)
}
