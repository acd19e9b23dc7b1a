//! Skipped fires that are counted instead of recorded one by one.

use serde::{Deserialize, Serialize};

use crate::name::GroupName;
use crate::time::Instant;

/// Why a fire is skipped while an earlier run of its job is alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    /// The job forbids overlap.
    StillAlive,
    /// As many runs wait as its queue holds.
    QueueFull,
    /// One that only a newer server knows.
    #[serde(other)]
    Other,
}

impl SkipReason {
    /// In words.
    #[must_use]
    pub fn as_words(self) -> &'static str {
        match self {
            Self::StillAlive => "an earlier run of the job was still alive",
            Self::QueueFull => "an earlier run of the job was still alive, and the queue behind it was full",
            Self::Other => "an earlier run of the job stood in the way",
        }
    }
}

/// Fires of one job, one after the other and within one minute, that were skipped and have no record yet.
///
/// ```
/// use forest_proto::record::{SkipReason, Skips, decode};
/// let text = br#"{"why":"still_alive","first":"2027-01-15T08:00:02Z","last":"2027-01-15T08:00:30Z",
///                 "count":29,"group":"trade","job_revision":7}"#;
/// let skips: Skips = decode(text).unwrap();
/// assert_eq!((skips.why, skips.count), (SkipReason::StillAlive, 29));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skips {
    /// Why they were skipped.
    pub why: SkipReason,
    /// The first of them; while there is none, the fire before them, which has a record of its own.
    pub first: Instant,
    /// The last of them, likewise.
    pub last: Instant,
    /// How many.
    pub count: u64,
    /// The job's group, to record them even when the job is gone.
    pub group: GroupName,
    /// The mod revision of the job's document that they are fires of.
    pub job_revision: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_of_a_newer_server_is_no_reason_to_stop() {
        assert_eq!(serde_json::from_str::<SkipReason>("\"moon_is_full\"").ok(), Some(SkipReason::Other));
        for reason in [SkipReason::StillAlive, SkipReason::QueueFull, SkipReason::Other] {
            let text = serde_json::to_string(&reason).expect("text");
            assert_eq!(serde_json::from_str::<SkipReason>(&text).ok(), Some(reason));
        }
    }
}
