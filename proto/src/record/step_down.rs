//! A leader that is asked to give up the leadership.

use serde::{Deserialize, Serialize};

use super::is_default;
use crate::name::NodeId;
use crate::time::Instant;

/// `server/stepdown`: somebody asks the leader of one term to give up the leadership. No other leader follows it. It hangs
/// on a lease of its own, so that it does not outlive the wish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepDown {
    /// The leader.
    pub node: NodeId,
    /// Its term.
    pub term: i64,
    /// For so many milliseconds it leaves the leadership to others.
    pub hold_ms: u64,
    /// When somebody asked.
    #[serde(default)]
    pub at: Instant,
    /// Who.
    #[serde(default, skip_serializing_if = "is_default")]
    pub by: String,
}
