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
}
