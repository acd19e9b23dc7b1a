//! A group: `server/group/{group}`.

use serde::{Deserialize, Serialize};

use super::lenient;
use crate::name::GroupName;

/// A set of clients that serve the same targets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its name.
    pub name: GroupName,
    /// What it is for, in words.
    #[serde(default, deserialize_with = "lenient::text")]
    pub remark: String,
    /// How many runs of the group's jobs may be with its clients at once. Default: any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_in_flight: Option<u32>,
    /// How many runs a second are given to the group's clients. Default: any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dispatches_per_second: Option<u32>,
}
