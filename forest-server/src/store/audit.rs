//! Who changed what, in the table `forest_audit`.
//!
//! A record never changes: saving one again changes nothing.

use forest_proto::record::{Audit, decode, encode};
use sqlx::{ColumnIndex, Decode, Row, Type};

use super::StoreError;
use super::statement::{Arg, Dialect, Statement};
use super::upsert::{Failure, Writer};

const TABLE: &str = "forest_audit";
/// A value longer than its column would make the database refuse the record.
const WHO: usize = 160;

/// A record with its id: `{time}.{random}`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Audited {
    pub(crate) id: String,
    pub(crate) audit: Audit,
}

/// Which records. An absent text matches all.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct AuditFilter {
    pub(crate) who: Option<String>,
    pub(crate) action: Option<String>,
    pub(crate) target: Option<String>,
    pub(crate) group: Option<String>,
    /// Only those before this one.
    pub(crate) before: Option<String>,
}

pub(super) async fn save<W: Writer>(writer: &W, audits: &[Audited]) -> Result<(), StoreError> {
    for audited in audits {
        match writer.execute(&insert::<W>(audited)).await {
            Ok(()) => {}
            Err(Failure::Store(error)) => return Err(error),
            Err(Failure::Data(cause)) => {
                return Err(StoreError::Unavailable { doing: "saving the audit", cause: cause.into() });
            }
        }
    }
    Ok(())
}

fn insert<D: Dialect>(audited: &Audited) -> Statement<'static> {
    let audit = &audited.audit;
    let short = |text: &str| Arg::text(text.chars().take(WHO).collect::<String>());
    let (on_conflict, id) = (D::on_conflict("id"), D::proposed("id"));
    Statement {
        sql: format!(
            "INSERT INTO {TABLE} (id, who, action, target, `group`, document) VALUES (?, ?, ?, ?, ?, ?) \
             {on_conflict} id = {id}"
        ),
        args: vec![
            Arg::text(audited.id.clone()),
            short(&audit.who),
            Arg::text(audit.action.clone()),
            short(&audit.target),
            Arg::text(audit.group.as_ref().map(ToString::to_string).unwrap_or_default()),
            Arg::text(String::from_utf8(encode(audit)).unwrap_or_default()),
        ],
    }
}

/// Newest first.
pub(super) fn list<D: Dialect>(_: &D, filter: &AuditFilter, limit: usize) -> Statement<'static> {
    let mut statement =
        Statement { sql: format!("{} id, document FROM {TABLE}", D::SELECT), args: Vec::new() };
    let conditions = [
        ("who = ?", &filter.who),
        ("action = ?", &filter.action),
        ("target = ?", &filter.target),
        ("`group` = ?", &filter.group),
        ("id < ?", &filter.before),
    ];
    let given = conditions.into_iter().filter_map(|(sql, value)| Some((sql, value.clone()?)));
    for (index, (sql, value)) in given.enumerate() {
        statement.sql.push_str(if index == 0 { " WHERE " } else { " AND " });
        statement.sql.push_str(sql);
        statement.args.push(Arg::text(value));
    }
    statement.sql.push_str(" ORDER BY id DESC LIMIT ?");
    statement.args.push(Arg::count(limit as u64));
    statement
}

pub(super) fn read<'r, R: Row>(row: &'r R) -> Result<Audited, sqlx::Error>
where
    usize: ColumnIndex<R>,
    String: Decode<'r, R::Database> + Type<R::Database>,
{
    let (id, document): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    let audit = decode(document.as_bytes()).map_err(|error| sqlx::Error::Decode(error.into()))?;
    Ok(Audited { id, audit })
}
