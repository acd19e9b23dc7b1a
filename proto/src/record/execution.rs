//! An execution: `client/execute/snapshot/{group}/{client}/{run}`, later a row of the history.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::policy::OnLost;
use super::snapshot::Snapshot;
use super::{is_default, lenient};
use crate::time::Instant;

/// How far an execution is, in the original's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// 1: claimed by a client.
    Running,
    /// 2: done.
    Done,
    /// 3: nobody knows, or it never ran.
    Unknown,
    /// 4: failed. -1 is read as 4.
    Error,
}

impl Status {
    /// The number in JSON and in the history table.
    #[must_use]
    pub fn code(self) -> i64 {
        match self {
            Self::Running => 1,
            Self::Done => 2,
            Self::Unknown => 3,
            Self::Error => 4,
        }
    }

    /// Reads a number; `None` for one that means nothing.
    #[must_use]
    pub fn from_code(code: i64) -> Option<Self> {
        Some(match code {
            1 => Self::Running,
            2 => Self::Done,
            3 => Self::Unknown,
            4 | -1 => Self::Error,
            _ => return None,
        })
    }
}

impl Serialize for Status {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(self.code())
    }
}
impl<'de> Deserialize<'de> for Status {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let code = lenient::number(deserializer)?;
        Self::from_code(code)
            .ok_or_else(|| serde::de::Error::custom(format!("status {code} is none of 1, 2, 3, 4, -1")))
    }
}

/// How an execution ended, in our words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "rest", derive(utoipa::ToSchema))]
pub enum Outcome {
    /// The handler returned.
    Succeeded,
    /// The handler returned an error or panicked.
    Failed,
    /// The handler took too long.
    TimedOut,
    /// Somebody stopped it, or its job was deleted or disabled before it began.
    Cancelled,
    /// Its client vanished, or had to stop it because it was cut off.
    Lost,
    /// No client took it before its start deadline.
    NoClient,
    /// An earlier run of the job was still alive.
    OverlapSkipped,
    /// The fire was later than the threshold.
    MisfireSkipped,
}

impl Outcome {
    /// The status that other programs see.
    #[must_use]
    pub fn status(self) -> Status {
        match self {
            Self::Succeeded => Status::Done,
            Self::Failed | Self::TimedOut | Self::Cancelled => Status::Error,
            Self::Lost | Self::NoClient | Self::OverlapSkipped | Self::MisfireSkipped => Status::Unknown,
        }
    }

    /// The outcome of a record that has none, because another program wrote it.
    #[must_use]
    pub fn of(status: Status) -> Option<Self> {
        match status {
            Status::Running => None,
            Status::Done => Some(Self::Succeeded),
            Status::Unknown => Some(Self::Lost),
            Status::Error => Some(Self::Failed),
        }
    }

    /// Whether a further attempt may follow, by the rules that the run carries.
    ///
    /// `retry_if` narrows: empty, it stands for every failure. It never widens: a lost run is tried again only
    /// with `on_lost = retry`, because it may have been executed in part.
    #[must_use]
    pub fn may_retry(self, attempt: u32, max_attempts: u32, on_lost: OnLost, retry_if: &[Self]) -> bool {
        let eligible = match self {
            Self::Failed | Self::TimedOut => true,
            Self::Lost => on_lost == OnLost::Retry,
            _ => false,
        };
        eligible && attempt < max_attempts && (retry_if.is_empty() || retry_if.contains(&self))
    }

    /// Its name in JSON, in the history table and in the admin API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Cancelled => "cancelled",
            Self::Lost => "lost",
            Self::NoClient => "no_client",
            Self::OverlapSkipped => "overlap_skipped",
            Self::MisfireSkipped => "misfire_skipped",
        }
    }
}

/// How far a handler says it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// 0 to 100.
    pub percent: u8,
    /// What it is doing, in words. At most 1 KiB.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// When it said so.
    pub at: Instant,
}

/// A run that was claimed, ended, or decided without a client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Execution {
    /// What the client was given.
    #[serde(flatten)]
    pub snapshot: Snapshot,
    /// When the handler started, `yyyy-MM-dd HH:mm:ss` in the server's zone.
    #[serde(rename = "startTime", default, deserialize_with = "lenient::text")]
    pub start_time: String,
    /// When it ended, likewise; empty while it runs.
    #[serde(rename = "finishTime", default, deserialize_with = "lenient::text")]
    pub finish_time: String,
    /// How long it took, in whole **seconds**.
    #[serde(default, deserialize_with = "lenient::number")]
    pub times: i64,
    /// How far it is.
    pub status: Status,
    /// What the handler returned, or why it failed. At most 64 KiB.
    #[serde(default, deserialize_with = "lenient::text")]
    pub result: String,

    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Whether everything that follows from the end is settled: no further attempt can come of it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub decided: bool,
    /// When the handler started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Instant>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Instant>,
    /// How long it took, in milliseconds.
    #[serde(default, skip_serializing_if = "is_default")]
    pub duration_ms: u64,
    /// Whether `result` was longer and has been cut.
    #[serde(default, skip_serializing_if = "is_default")]
    pub result_truncated: bool,
    /// How far the handler is, or was when it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
}

/// The part of an execution by which the server steers; reading it is cheaper than reading all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct ExecutionState {
    /// How far it is.
    pub status: Status,
    /// How it ended.
    #[serde(default)]
    pub outcome: Option<Outcome>,
    /// Whether all is settled.
    #[serde(default)]
    pub decided: bool,
    /// How many attempts there may be.
    #[serde(default = "one")]
    pub max_attempts: u32,
    /// What becomes of it if its client vanishes.
    #[serde(default)]
    pub on_lost: OnLost,
    /// How long it took, in milliseconds.
    #[serde(default)]
    pub duration_ms: u64,
}

fn one() -> u32 {
    1
}

impl ExecutionState {
    /// How it ended, also where another program wrote only the status. `None` while it runs.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        self.outcome.or_else(|| Outcome::of(self.status))
    }
}

impl Execution {
    /// A claimed run, `started_at` its start.
    #[must_use]
    pub fn claimed(snapshot: Snapshot, started_at: Instant) -> Self {
        let start_time = started_at.to_local_text(&snapshot.zone());
        Self {
            snapshot,
            start_time,
            finish_time: String::new(),
            times: 0,
            status: Status::Running,
            result: String::new(),
            outcome: None,
            decided: false,
            started_at: Some(started_at),
            finished_at: None,
            duration_ms: 0,
            result_truncated: false,
            progress: None,
        }
    }

    /// A decision about a run that never started.
    #[must_use]
    pub fn never_started(
        snapshot: Snapshot,
        outcome: Outcome,
        result: impl Into<String>,
        at: Instant,
    ) -> Self {
        let mut execution = Self::claimed(snapshot, at);
        execution.start_time.clear();
        execution.started_at = None;
        execution.finish(outcome, result.into(), at, 0);
        execution.decided = true;
        execution
    }

    /// Ends it. Cuts a result that is too long, and decides it if neither a further attempt nor anything else can
    /// follow: then nobody needs its checkpoint any more.
    pub fn finish(&mut self, outcome: Outcome, mut result: String, at: Instant, duration_ms: u64) {
        if result.len() > super::MAX_RESULT {
            result.truncate(result.floor_char_boundary(super::MAX_RESULT));
            self.result_truncated = true;
        }
        self.result = result;
        self.status = outcome.status();
        self.outcome = Some(outcome);
        self.finish_time = at.to_local_text(&self.snapshot.zone());
        self.finished_at = Some(at);
        self.duration_ms = duration_ms;
        self.times = i64::try_from(duration_ms / 1000).unwrap_or(i64::MAX);
        let s = &self.snapshot;
        self.decided = !s.followed && !outcome.may_retry(s.attempt, s.max_attempts, s.on_lost, &s.retry_if);
        if self.decided {
            self.snapshot.checkpoint = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{decode, encode};

    fn claimed() -> Execution {
        let text = br#"{"id":"20261118110640000-j1-1","jobId":"j1","group":"trade","target":"pay","max_attempts":3}"#;
        Execution::claimed(decode(text).expect("reads"), Instant::from_ms(1_795_000_000_000))
    }

    #[test]
    fn retry_if_narrows_and_never_widens() {
        use OnLost::{Fail, Retry};
        use Outcome::{Cancelled, Failed, Lost, Succeeded, TimedOut};
        let retried = |on_lost, retry_if: &[Outcome]| {
            [Failed, TimedOut, Lost, Cancelled, Succeeded].map(|end| end.may_retry(1, 3, on_lost, retry_if))
        };
        assert_eq!(retried(Fail, &[]), [true, true, false, false, false]);
        assert_eq!(retried(Retry, &[]), [true, true, true, false, false]);
        assert_eq!(retried(Retry, &[TimedOut, Lost]), [false, true, true, false, false]);
        assert_eq!(retried(Retry, &[Failed]), [true, false, false, false, false]);
        assert_eq!(retried(Fail, &[Lost, Cancelled]), [false; 5]);
        assert!(!Failed.may_retry(3, 3, Retry, &[]));
    }

    #[test]
    fn what_a_handler_tells_survives_and_old_documents_have_none_of_it() {
        let mut execution = claimed();
        let old = encode(&execution);
        let at = Instant::from_ms(1_795_000_001_000);
        execution.progress = Some(Progress { percent: 40, text: "loading".into(), at });
        execution.snapshot.checkpoint = Some("page 4".into());
        execution.snapshot.timeout_ms = Some(5_000);
        execution.snapshot.retry_if = vec![Outcome::TimedOut];
        assert_eq!(decode::<Execution>(&encode(&execution)).expect("reads"), execution);
        let text = String::from_utf8(old).expect("text");
        let added = ["progress", "checkpoint", "timeout_ms", "retry_if"];
        assert!(added.iter().all(|name| !text.contains(name)), "{text}");
    }

    #[test]
    fn the_end_of_a_run_that_others_follow_is_left_to_a_leader() {
        let mut execution = claimed();
        execution.snapshot.followed = true;
        execution.finish(Outcome::Succeeded, String::new(), Instant::from_ms(1_795_000_001_000), 1_000);
        assert!(!execution.decided);
        let cause = "20261118110640000-j0-1".parse().ok();
        execution.snapshot.cause = cause;
        assert_eq!(decode::<Execution>(&encode(&execution)).expect("reads"), execution);
    }

    #[test]
    fn a_checkpoint_is_kept_only_for_a_further_attempt() {
        let ended = |outcome| {
            let mut execution = claimed();
            execution.snapshot.checkpoint = Some("page 4".into());
            execution.finish(outcome, String::new(), Instant::from_ms(1_795_000_001_000), 1_000);
            (execution.decided, execution.snapshot.checkpoint.is_some())
        };
        assert_eq!(ended(Outcome::TimedOut), (false, true));
        assert_eq!(ended(Outcome::Succeeded), (true, false));
    }
}
