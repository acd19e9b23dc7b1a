//! A client that is to get no new runs.

use serde::{Deserialize, Serialize};

use super::is_default;
use crate::time::Instant;

/// `server/drain/{group}/{client}`: somebody said that the client is to get no new runs. It hangs on the lease of the
/// client's registration, so that it ends with that; it says nothing of the client when it registers anew.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Drain {
    /// When somebody said so.
    #[serde(default)]
    pub at: Instant,
    /// Who.
    #[serde(default, skip_serializing_if = "is_default")]
    pub by: String,
}
