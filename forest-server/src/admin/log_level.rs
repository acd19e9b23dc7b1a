//! How much a node logs: shown, changed for a while, and set back.
//!
//! Any node takes the call: the change is a key that the node in question follows. It hangs on a lease, so that it ends
//! even if nobody is there any more who would end it.

use std::time::Duration;

use forest_etcd::Txn;
use forest_proto::NodeId;
use forest_proto::record::{LogLevel, Role, encode};
use forest_proto::time::Instant;

use super::audit::Deed;
use super::write::Written;
use super::{Admin, AdminError};
use crate::access::Scope;

const LIVES: Duration = Duration::from_secs(600);
const LIVES_AT_LEAST: Duration = Duration::from_secs(10);
const LIVES_AT_MOST: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug, Clone)]
pub(crate) struct LogLevelSummary {
    pub(crate) node: NodeId,
    pub(crate) configured: String,
    /// What counts in its place.
    pub(crate) changed: Option<LogLevel>,
}

impl Admin {
    pub(crate) async fn log_level(&self, node: &str) -> Result<LogLevelSummary, AdminError> {
        self.require(Role::Viewer, Scope::Somewhere)?;
        Ok(self.known_log_level(node).await?.0)
    }

    /// Changes it until `lives` is over; without it, for ten minutes.
    pub(crate) async fn set_log_level(
        &self,
        node: &str,
        filter: &str,
        lives: Option<Duration>,
    ) -> Result<LogLevelSummary, AdminError> {
        self.require(Role::Admin, Scope::Everywhere)?;
        let lives = lives.unwrap_or(LIVES);
        if lives < LIVES_AT_LEAST || lives > LIVES_AT_MOST {
            return Err(AdminError::invalid("lives_ms", "must be from ten seconds to one day"));
        }
        let filter = filter.trim();
        crate::logging::filter(filter).map_err(|reason| AdminError::invalid("filter", reason))?;
        let (mut summary, revision) = self.known_log_level(node).await?;
        let now = self.now();
        let until = Instant::from_ms(
            now.as_ms().saturating_add(i64::try_from(lives.as_millis()).unwrap_or(i64::MAX)),
        );
        let level = LogLevel { filter: filter.to_owned(), until, by: self.caller.who.to_string() };
        let lease = self.inner.store.grant(lives).await?;
        let (key, value) = (self.inner.keys.log_level(&summary.node), encode(&level));
        let txn = Txn::new().modified(key.clone(), revision);
        let txn = txn.put_leased(key, value, lease);
        let deed = Deed::new("node.log_level", node, None)
            .saying("filter", filter)
            .saying("seconds", lives.as_secs());
        match self.commit(self.audited(txn, deed)).await? {
            Written::Done => {
                summary.changed = Some(level);
                Ok(summary)
            }
            Written::Refused(_) => Err(AdminError::Conflict { what: format!("log level of {node}") }),
        }
    }

    /// Ends a change before its time. Where there is none, nothing is done.
    pub(crate) async fn reset_log_level(&self, node: &str) -> Result<LogLevelSummary, AdminError> {
        self.require(Role::Admin, Scope::Everywhere)?;
        let (mut summary, revision) = self.known_log_level(node).await?;
        if summary.changed.take().is_none() {
            return Ok(summary);
        }
        let key = self.inner.keys.log_level(&summary.node);
        let txn = Txn::new().modified(key.clone(), revision).delete(key);
        let deed = Deed::new("node.log_level", node, None).saying("filter", summary.configured.as_str());
        match self.commit(self.audited(txn, deed)).await? {
            Written::Done => Ok(summary),
            Written::Refused(_) => Err(AdminError::Conflict { what: format!("log level of {node}") }),
        }
    }

    /// Of a node that is there, with the revision of the change; 0: there is none.
    async fn known_log_level(&self, node: &str) -> Result<(LogLevelSummary, i64), AdminError> {
        let missing = || AdminError::not_found("node", node);
        let id = NodeId::new(node).map_err(|_| missing())?;
        let found = self.read(move |now| {
            let node = now.view.nodes.get(&id)?;
            let entry = now.view.log_levels.entry(&id);
            let changed = entry.map(|entry| entry.value.clone());
            let summary = LogLevelSummary { node: id, configured: node.log_level.clone(), changed };
            Some((summary, entry.map_or(0, |entry| entry.revision)))
        });
        found.await?.ok_or_else(missing)
    }
}
