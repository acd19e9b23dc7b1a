//! `server/log/{node}`: how much a node logs for a while.

use serde::{Deserialize, Serialize};

use crate::time::Instant;

/// In place of the log level with which a node was started. Its key hangs on a lease, and is gone when the time is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLevel {
    /// A level, or levels by target: `debug`, `info,forest_server::scheduler=trace`. At most 1,000 bytes.
    pub filter: String,
    /// About when it ends.
    pub until: Instant,
    /// Who asked for it.
    pub by: String,
}
