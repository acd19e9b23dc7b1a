//! Who changed what: `server/audit/{time}.{random}`.
//!
//! Written in the transaction that makes the change, so that there is none without the other; brought to the history
//! and deleted here by the leader.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::name::GroupName;
use crate::time::Instant;

/// By which way a change came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "rest", derive(utoipa::ToSchema))]
pub enum Face {
    /// The gRPC API, and so the command line.
    Grpc,
    /// The REST API, and so the console.
    Rest,
    /// The original's HTTP contract.
    Legacy,
    /// The server itself.
    Server,
}

/// A field before and after. `null`: it was not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "rest", derive(utoipa::ToSchema))]
pub struct Change {
    /// What it was.
    pub from: Value,
    /// What it is.
    pub to: Value,
}

/// One change that somebody made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "rest", derive(utoipa::ToSchema))]
pub struct Audit {
    /// When, on the clock of the node that took the call.
    pub at: Instant,
    /// Who: `user:ann`, `token:1f2e`, `certificate:ci`, or `anonymous` where nobody has to log in.
    pub who: String,
    /// The address that the call came from.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub from: String,
    /// By which way.
    pub face: Face,
    /// What was done, such as `job.edit`.
    pub action: String,
    /// To what: the id of a job, the name of a group, ...
    pub target: String,
    /// The group it belongs to, if it belongs to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupName>,
    /// The fields that are not as before; secrets are never among them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub changes: BTreeMap<String, Change>,
}
