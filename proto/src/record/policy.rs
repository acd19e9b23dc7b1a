//! The choices a job makes: what to do in a gap, when a fire is late, when a run is still going, ...
//!
//! All are `snake_case` text in JSON. Not every choice can be made in every version of the server:
//! it refuses, when a job is saved, what it cannot do.

use serde::{Deserialize, Serialize};

use super::execution::Outcome;
use super::is_default;
use crate::name::JobId;
use crate::time::Instant;

macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $(#[$first_doc:meta])* $first:ident, $($(#[$variant_doc:meta])* $variant:ident,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[cfg_attr(feature = "rest", derive(utoipa::ToSchema))]
        pub enum $name {
            $(#[$first_doc])*
            #[default]
            $first,
            $($(#[$variant_doc])* $variant,)*
        }
    };
}

choice! {
    /// What a fire does whose local time does not exist, because clocks were put forward.
    DstGap {
        /// Fire at the first instant after the gap.
        NextValid,
        /// Do not fire.
        Skip,
    }
}
choice! {
    /// What a fire does whose local time comes twice, because clocks were put back.
    DstFold {
        /// Fire the first time only.
        First,
        /// Fire both times.
        Both,
    }
}
choice! {
    /// What becomes of fires that are later than the job's threshold.
    Misfire {
        /// Skip them, and record that.
        Skip,
        /// Run once for all of them, at the time of the last one.
        FireOnce,
        /// Run each of them, up to the cap.
        FireAll,
    }
}
choice! {
    /// What becomes of a fire while an earlier run of the job is still alive anywhere in the cluster.
    Overlap {
        /// Skip the new one, and record that.
        Forbid,
        /// Run both.
        Allow,
        /// Run it afterwards; at most one waits.
        QueueOne,
        /// Run all of them afterwards, up to the cap.
        QueueAll,
        /// Stop the earlier one.
        CancelRunning,
    }
}
choice! {
    /// What becomes of a run whose client vanished.
    OnLost {
        /// Record it as lost. It may have been executed in part.
        Fail,
        /// Run it again while attempts are left. It may be executed more than once.
        Retry,
    }
}
choice! {
    /// Which of the able clients gets a run.
    Routing {
        /// Each in turn.
        RoundRobin,
        /// The one with the smallest id.
        First,
        /// The one with the largest id.
        Last,
        /// Any.
        Random,
        /// Always the same one for a job, as long as it is there and has room; then the next one in an order
        /// that is the job's own.
        ConsistentHash,
        /// The one that got the fewest runs of the job.
        LeastFrequentlyUsed,
        /// The one that waited longest for a run of the job.
        LeastRecentlyUsed,
        /// The first one there is, and always that one as long as it is there: runs wait while it is full.
        Failover,
        /// The first with a free slot, or while there is none, the first with room for a run to wait.
        BusyOver,
        /// The one with the smallest share of its capacity in use.
        LeastLoaded,
        /// Every one: one run each, with its number and their count.
        Broadcast,
    }
}
choice! {
    /// Which ends of the jobs that a job follows count. Of a run that is tried again only the last attempt is its
    /// end, and a fire that was skipped has none.
    Condition {
        /// It succeeded.
        Success,
        /// It failed, timed out, was lost, or no client took it.
        Failure,
        /// Any of these, or it was cancelled.
        End,
    }
}
choice! {
    /// How many of the jobs that a job follows must have ended.
    Need {
        /// Each of them.
        All,
        /// One of them: the first. What comes later in the same time changes nothing.
        Any,
    }
}
choice! {
    /// Which runs of the jobs that a job follows belong together, and how often it runs: once for each such time.
    Within {
        /// Those of the same instant: the fire time, or when somebody asked.
        Fire,
        /// Those of the same hour, in the time zone of the job that follows.
        Hour,
        /// Those of the same day, in the time zone of the job that follows.
        Day,
    }
}

impl Condition {
    /// Whether the end of a run counts.
    ///
    /// ```
    /// use forest_proto::record::{Condition, Outcome};
    /// assert!(Condition::Failure.counts(Outcome::TimedOut) && !Condition::Failure.counts(Outcome::Cancelled));
    /// assert!(Condition::End.counts(Outcome::Cancelled) && !Condition::End.counts(Outcome::OverlapSkipped));
    /// ```
    #[must_use]
    pub fn counts(self, outcome: Outcome) -> bool {
        let succeeded = outcome == Outcome::Succeeded;
        let failed =
            matches!(outcome, Outcome::Failed | Outcome::TimedOut | Outcome::Lost | Outcome::NoClient);
        match self {
            Self::Success => succeeded,
            Self::Failure => failed,
            Self::End => succeeded || failed || outcome == Outcome::Cancelled,
        }
    }
}

/// What makes a job fire.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[cfg_attr(feature = "rest", derive(utoipa::ToSchema))]
pub enum Trigger {
    /// The job's `cron` text: an expression, a nickname or `@every 90s`.
    #[default]
    Cron,
    /// Every `every_ms` milliseconds, however long runs take.
    FixedRate {
        /// Milliseconds from fire to fire.
        every_ms: u64,
    },
    /// `every_ms` milliseconds after the last run ended.
    FixedDelay {
        /// Milliseconds from the end of a run to the next fire.
        every_ms: u64,
    },
    /// Once.
    Once {
        /// When.
        at: Instant,
    },
    /// Only when somebody asks.
    Manual,
    /// When runs of other jobs end.
    After(After),
}

/// Growing delays between attempts, in place of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "rest", derive(utoipa::ToSchema))]
pub struct RetryBackoff {
    /// Milliseconds before the second attempt.
    pub first_ms: u64,
    /// No delay is longer than this many milliseconds.
    pub max_ms: u64,
    /// Each delay is the last one times this many hundredths (200 = doubled).
    pub factor_percent: u32,
    /// Up to this share of each delay, in hundredths, is taken off at random.
    #[serde(default)]
    pub jitter_percent: u32,
}

/// Which jobs a job follows, and how.
///
/// ```
/// use forest_proto::record::{Condition, Need, Trigger, Within};
/// let text = r#"{"kind":"after","jobs":["7","8"],"on":"end","within":"day"}"#;
/// let Ok(Trigger::After(after)) = serde_json::from_str(text) else { panic!("reads") };
/// assert_eq!((after.on, after.need, after.within), (Condition::End, Need::All, Within::Day));
/// assert_eq!(after.jobs.len(), 2);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "rest", derive(utoipa::ToSchema))]
pub struct After {
    /// The jobs that it follows: 1 to 32.
    pub jobs: Vec<JobId>,
    /// Which of their ends count. Default: success.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on: Condition,
    /// Whether all of them must have ended so, or any. Default: all.
    #[serde(default, skip_serializing_if = "is_default")]
    pub need: Need,
    /// Which of their runs belong together. Default: those of the same instant.
    #[serde(default, skip_serializing_if = "is_default")]
    pub within: Within,
}
