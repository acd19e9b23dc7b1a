//! A history that is no database: what a simulation puts in its place, to take rows, to lose answers, to be away.
//!
//! It is saved to and never read by a node; whoever made it knows what is in it.

use std::sync::Arc;

use forest_proto::record::Execution;
use futures_util::future::BoxFuture;

use super::row::Row;
use super::{Saved, StoreError};

/// Takes rows in place of a database.
pub trait Archive: Send + Sync + 'static {
    /// Keeps rows; as in a database, they may have been kept although the answer is an error.
    fn save(&self, rows: Vec<Archived>) -> BoxFuture<'static, Result<(), String>>;
}

/// A row as an [`Archive`] gets it.
#[derive(Debug, Clone, PartialEq)]
pub struct Archived {
    pub execution: Execution,
    /// The create revision of the execution in etcd; 0 if there never was one.
    pub fencing_token: i64,
    /// It came after the run had been declared lost, and does not replace that.
    pub late: bool,
}

#[derive(Clone)]
pub(super) struct Other(pub(super) Arc<dyn Archive>);

impl Other {
    pub(super) async fn save(&self, rows: &[Row]) -> Result<Saved, StoreError> {
        let saved = self.0.save(rows.iter().map(Row::archived).collect()).await;
        saved.map_err(|cause| StoreError::Unavailable { doing: "saving", cause: cause.into() })?;
        Ok(Saved { stored: rows.len(), ..Saved::default() })
    }
}

pub(super) fn unread() -> StoreError {
    StoreError::Unavailable { doing: "reading", cause: "a simulated history is not read".into() }
}
