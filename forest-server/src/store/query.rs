//! The reads: one page, one row, how many.
//!
//! Pages are found by key, not by offset: the page after (created_at, id) begins right there in an index,
//! however deep it is, and rows that are added meanwhile move nothing.

use std::fmt;
use std::str::FromStr;

use forest_proto::record::{Outcome, Status};
use forest_proto::time::Instant;

use super::entry::{Columns, Entry};
use super::statement::{Arg, Dialect, Statement, TABLE};

/// No page is longer.
pub(super) const MAX_PAGE: usize = 200;

/// Nobody counts further.
const MAX_COUNT: i64 = 1_000_000;

/// Which rows. Texts must be equal; an absent one matches all.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Filter {
    pub(crate) id: Option<String>,
    pub(crate) group: Option<String>,
    pub(crate) job_id: Option<String>,
    /// The original's `ip`.
    pub(crate) client: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) status: Option<Status>,
    pub(crate) outcome: Option<Outcome>,
    /// Rows created then or later.
    pub(crate) since: Option<Instant>,
    /// Rows created then or before.
    pub(crate) until: Option<Instant>,
}

/// Where a page ended. Its text is opaque to callers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PageToken {
    created_at: Instant,
    id: String,
    /// Whether the page holds what is newer than that, rather than older.
    newer: bool,
}

/// A text that is no page token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("page token is not one that an earlier page gave: begin again without one")]
pub(crate) struct PageTokenError;

impl fmt::Display for PageToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = if self.newer { "+" } else { "" };
        write!(f, "{direction}{}.{}", self.created_at.as_ms(), self.id)
    }
}

impl FromStr for PageToken {
    type Err = PageTokenError;
    fn from_str(text: &str) -> Result<Self, PageTokenError> {
        let (newer, text) = text.strip_prefix('+').map_or((false, text), |text| (true, text));
        let (ms, id) = text.split_once('.').ok_or(PageTokenError)?;
        let ms: i64 = ms.parse().map_err(|_| PageTokenError)?;
        if ms < 0 || id.is_empty() || id.chars().count() > 64 {
            return Err(PageTokenError);
        }
        Ok(Self { created_at: Instant::from_ms(ms), id: id.to_owned(), newer })
    }
}

/// Rows, newest first.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Page {
    pub(crate) rows: Vec<Entry>,
    /// Where the next page begins, with older rows; `None` on the last one.
    pub(crate) next: Option<PageToken>,
    /// Where the page before begins, with newer rows; `None` if nothing newer is known.
    pub(crate) previous: Option<PageToken>,
}

impl Page {
    /// From one row more than the page holds, if there is one, in the order in which they were read.
    pub(super) fn of(mut rows: Vec<Entry>, page_size: usize, from: Option<&PageToken>) -> Self {
        let more = rows.len() > page_size;
        rows.truncate(page_size);
        let backwards = from.is_some_and(|from| from.newer);
        if backwards {
            rows.reverse();
        }
        let token = |row: Option<&Entry>, newer| {
            let row = row?;
            let created_at = row.created_at.unwrap_or(Instant::from_ms(0));
            Some(PageToken { created_at, id: row.id.clone(), newer })
        };
        let next = token(rows.last(), false).filter(|_| more || backwards);
        let previous = token(rows.first(), true).filter(|_| if backwards { more } else { from.is_some() });
        Self { rows, next, previous }
    }
}

/// A page by its number, from 1 on, as the original asks for it. Deep pages are slow; the ones people look at are
/// not deep.
pub(super) fn numbered<D: Dialect>(_: &D, filter: &Filter, number: u64, size: u64) -> Statement<'static> {
    let mut statement =
        Statement { sql: format!("{} {} FROM {TABLE}", D::SELECT, Columns::Short.sql()), args: Vec::new() };
    push_where(&mut statement, conditions(filter));
    statement.sql.push_str(" ORDER BY created_at DESC, id DESC LIMIT ? OFFSET ?");
    statement.args.push(Arg::count(size));
    statement.args.push(Arg::count((number.max(1) - 1).saturating_mul(size)));
    statement
}

pub(super) fn list<D: Dialect>(
    _: &D,
    filter: &Filter,
    page_size: usize,
    from: Option<&PageToken>,
) -> Statement<'static> {
    let mut statement =
        Statement { sql: format!("{} {} FROM {TABLE}", D::SELECT, Columns::Short.sql()), args: Vec::new() };
    let mut conditions = conditions(filter);
    let newer = from.is_some_and(|token| token.newer);
    if let Some(token) = from {
        // The first half is the range in the index, the second what is left of its edge.
        let (range, edge) = match newer {
            false => ("created_at <= ?", "(created_at < ? OR id < ?)"),
            true => ("created_at >= ?", "(created_at > ? OR id > ?)"),
        };
        conditions.push((range, vec![Arg::instant(token.created_at)]));
        conditions.push((edge, vec![Arg::instant(token.created_at), Arg::text(token.id.clone())]));
    }
    push_where(&mut statement, conditions);
    let order = if newer { "created_at, id" } else { "created_at DESC, id DESC" };
    statement.sql.push_str(&format!(" ORDER BY {order} LIMIT ?"));
    statement.args.push(Arg::count(page_size as u64 + 1));
    statement
}

pub(super) fn get<D: Dialect>(_: &D, id: &str) -> Statement<'static> {
    Statement {
        sql: format!("{} {} FROM {TABLE} WHERE id = ?", D::SELECT, Columns::Whole.sql()),
        args: vec![Arg::text(id.to_owned())],
    }
}

/// The rows whose ids are between two texts, in the order of their ids.
pub(super) fn between<D: Dialect>(_: &D, after: &str, before: &str, limit: usize) -> Statement<'static> {
    let columns = Columns::Short.sql();
    Statement {
        sql: format!("{} {columns} FROM {TABLE} WHERE id > ? AND id < ? ORDER BY id LIMIT ?", D::SELECT),
        args: vec![Arg::text(after.to_owned()), Arg::text(before.to_owned()), Arg::count(limit as u64)],
    }
}

/// How many rows there are, counted up to a bound.
pub(super) fn count<D: Dialect>(_: &D, filter: &Filter) -> Statement<'static> {
    let mut statement =
        Statement { sql: format!("{} COUNT(*) FROM (SELECT 1 FROM {TABLE}", D::SELECT), args: Vec::new() };
    push_where(&mut statement, conditions(filter));
    statement.sql.push_str(" LIMIT ?) AS counted");
    statement.args.push(Arg::Int(MAX_COUNT));
    statement
}

pub(super) fn ping() -> Statement<'static> {
    Statement { sql: "SELECT 1".into(), args: Vec::new() }
}

type Condition = (&'static str, Vec<Arg<'static>>);

fn conditions(filter: &Filter) -> Vec<Condition> {
    let text = |value: &Option<String>| value.as_ref().map(|value| vec![Arg::text(value.clone())]);
    let status = filter.status.map(|status| match status {
        // -1 is how the original's clients write an error.
        Status::Error => ("status IN (?, ?)", vec![Arg::Int(status.code()), Arg::Int(-1)]),
        _ => ("status = ?", vec![Arg::Int(status.code())]),
    });
    [
        text(&filter.id).map(|args| ("id = ?", args)),
        text(&filter.group).map(|args| ("`group` = ?", args)),
        text(&filter.job_id).map(|args| ("job_id = ?", args)),
        text(&filter.client).map(|args| ("ip = ?", args)),
        text(&filter.name).map(|args| ("name = ?", args)),
        status,
        filter.outcome.map(|outcome| ("outcome = ?", vec![Arg::text(outcome.as_str())])),
        filter.since.map(|at| ("created_at >= ?", vec![Arg::instant(at)])),
        filter.until.map(|at| ("created_at <= ?", vec![Arg::instant(at)])),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn push_where(statement: &mut Statement<'static>, conditions: Vec<Condition>) {
    for (index, (sql, args)) in conditions.into_iter().enumerate() {
        statement.sql.push_str(if index == 0 { " WHERE " } else { " AND " });
        statement.sql.push_str(sql);
        statement.args.extend(args);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Plain;
    impl Dialect for Plain {
        const SELECT: &'static str = "SELECT";
        fn on_conflict(_: &str) -> String {
            String::new()
        }
        fn proposed(column: &str) -> String {
            column.to_owned()
        }
    }

    fn questions(statement: &Statement<'_>) -> usize {
        statement.sql.matches('?').count()
    }

    proptest! {
        #[test]
        fn no_value_of_a_filter_gets_into_the_sql(group in "\\PC{1,30}", name in "['\"`;-]{1,9}", after in any::<bool>()) {
            let filter = |group: &str, name: &str| Filter {
                group: Some(group.to_owned()),
                name: Some(name.to_owned()),
                status: Some(Status::Error),
                ..Filter::default()
            };
            let token = PageToken { created_at: Instant::from_ms(5), id: name.clone(), newer: false };
            let statement = list(&Plain, &filter(&group, &name), 20, after.then_some(&token));
            let tame = list(&Plain, &filter("g", "n"), 20, after.then_some(&token));
            prop_assert_eq!(&statement.sql, &tame.sql);
            prop_assert_eq!(questions(&statement), statement.args.len());
            prop_assert!(statement.args.contains(&Arg::text(group)));
        }

        #[test]
        fn page_tokens_survive_and_nonsense_is_refused(ms in 0_i64..4_000_000_000_000, id in "[0-9a-zA-Z.-]{1,64}", newer in any::<bool>(), text in any::<String>()) {
            let token = PageToken { created_at: Instant::from_ms(ms), id, newer };
            prop_assert_eq!(token.to_string().parse::<PageToken>(), Ok(token));
            let _ = text.parse::<PageToken>();
        }
    }

    #[test]
    fn a_token_must_be_one_of_ours() {
        for text in ["", ".", "5", "5.", "x.id", "-5.id"] {
            assert_eq!(text.parse::<PageToken>(), Err(PageTokenError), "{text}");
        }
    }

    #[test]
    fn counts_bind_as_many_values_as_they_ask_for() {
        let filter =
            Filter { outcome: Some(Outcome::Lost), since: Some(Instant::from_ms(1)), ..Default::default() };
        let statement = count(&Plain, &filter);
        assert_eq!((questions(&statement), statement.args.len()), (3, 3));
    }
}
