//! A job: `server/conf/{job}`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::policy::{DstFold, DstGap, Misfire, OnLost, Overlap, RetryBackoff, Routing, Trigger};
use super::shard::ShardParams;
use super::{Outcome, is_default, lenient};
use crate::name::{GroupName, JobId, TargetName};
use crate::time::Instant;

/// Whether a job fires. On the wire the original's numbers: 1 enabled, anything else not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum JobStatus {
    /// Fires.
    Enabled,
    /// Does not fire; can be run by hand.
    #[default]
    Disabled,
}

impl Serialize for JobStatus {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(if *self == Self::Enabled { 1 } else { 2 })
    }
}

impl<'de> Deserialize<'de> for JobStatus {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(if lenient::number(deserializer)? == 1 { Self::Enabled } else { Self::Disabled })
    }
}

/// A stored job. A document that the original wrote reads as one with all of our defaults.
///
/// ```
/// use forest_proto::record::{Job, JobStatus, Overlap, decode};
/// let text = br#"{"id":"1","name":"bill","group":"trade","cron":"0 0 2 * * ?","status":1,
///   "target":"billing","params":"","mobile":"","remark":"","version":3}"#;
/// let job: Job = decode(text).unwrap();
/// assert_eq!((job.status, job.overlap, job.max_attempts), (JobStatus::Enabled, Overlap::Forbid, 1));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "rest", derive(utoipa::ToSchema))]
pub struct Job {
    /// Given by the server, never used again.
    pub id: JobId,
    /// A label for people: 1 to 128 characters.
    pub name: String,
    /// Which clients may run it.
    pub group: GroupName,
    /// When it fires: a cron expression, a nickname or `@every 90s`. Empty if `trigger` is not `cron`.
    #[serde(default, deserialize_with = "lenient::text")]
    pub cron: String,
    /// Whether it fires: 1 it does, 2 it does not.
    #[serde(default)]
    #[cfg_attr(feature = "rest", schema(value_type = i64))]
    pub status: JobStatus,
    /// Which handler it calls.
    pub target: TargetName,
    /// What the handler is given. At most 64 KiB.
    #[serde(default, deserialize_with = "lenient::text")]
    pub params: String,
    /// Whom to call, as the original keeps it.
    #[serde(default, deserialize_with = "lenient::text")]
    pub mobile: String,
    /// What it is for, in words.
    #[serde(default, deserialize_with = "lenient::text")]
    pub remark: String,
    /// Grows with every change.
    #[serde(default)]
    pub version: u64,

    /// What makes it fire.
    #[serde(default, skip_serializing_if = "is_default")]
    pub trigger: Trigger,
    /// IANA time zone of `cron`, and of the hours and days of `trigger` `after`. Empty: the server's default.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub time_zone: String,
    /// What a fire in a gap of the zone does.
    #[serde(default, skip_serializing_if = "is_default")]
    pub dst_gap: DstGap,
    /// What a fire in a fold of the zone does.
    #[serde(default, skip_serializing_if = "is_default")]
    pub dst_fold: DstFold,
    /// No fire before this instant. An interval begins at just this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts_at: Option<Instant>,
    /// No fire after this instant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<Instant>,
    /// Fires are spread over this many milliseconds: those of a job are late by one amount, which depends on its id
    /// alone. Default 0, at most an hour.
    #[serde(default, skip_serializing_if = "is_default")]
    pub jitter_ms: u64,
    /// Names of calendars whose days are left out or put in: at most 8. A day that any of them puts in counts,
    /// whatever the others leave out. For a fixed period only days that are left out mean something.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calendars: Vec<String>,
    /// What becomes of late fires.
    #[serde(default, skip_serializing_if = "is_default")]
    pub misfire: Misfire,
    /// How many milliseconds late a fire may be before it counts as missed. Default: the server's, 10 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub misfire_threshold_ms: Option<u64>,
    /// How many late fires `fire_all` runs at most; those before are skipped, and that is recorded. Default 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub misfire_cap: Option<u32>,
    /// What becomes of a fire while an earlier run is alive.
    #[serde(default, skip_serializing_if = "is_default")]
    pub overlap: Overlap,
    /// How many fires `queue_all` keeps at most; more are skipped, and that is recorded. Default 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_limit: Option<u32>,
    /// Which of the able clients gets a run.
    #[serde(default, skip_serializing_if = "is_default")]
    pub routing: Routing,
    /// Labels that a client must carry.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Parameters of the single shards of a broadcast, by index from 0: a map, or text like `0=Beijing,1=Shanghai`.
    /// At most 16 KiB. Default: none.
    #[serde(default, skip_serializing_if = "ShardParams::is_empty")]
    pub shard_params: ShardParams,
    /// How often a run is tried in all, 1 to 100. Default 1.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub max_attempts: u32,
    /// Milliseconds before the second, third, ... attempt; the last one repeats. Empty: 1, 5, 10 minutes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retry_delays_ms: Vec<u64>,
    /// Growing delays, in place of the list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_backoff: Option<RetryBackoff>,
    /// Only these outcomes are tried again, of `failed`, `timed_out` and `lost`. Empty: every failure. It narrows
    /// and never widens: a lost run needs `on_lost = retry` as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retry_if: Vec<Outcome>,
    /// What becomes of a run whose client vanished.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_lost: OnLost,
    /// How many milliseconds a run's handler may take from its start, 100 ms to 30 days. Then it is asked to stop,
    /// and after a grace time dropped. Default: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// How many milliseconds a run may wait for a client before it is given up. Default: one hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_deadline_ms: Option<u64>,
    /// Larger goes first within a group. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    pub priority: i32,
    /// How many runs may be alive at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_in_flight: Option<u32>,
    /// Why it is disabled, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pause_reason: String,
    /// Only fires after this instant count: set by a change of the schedule and when it is enabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective_after: Option<Instant>,
    /// When it was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Instant>,
    /// When it was last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<Instant>,
}

impl Job {
    /// The names of all fields, as they are in JSON.
    #[rustfmt::skip]
    pub const FIELDS: [&str; 39] = [
        "id", "name", "group", "cron", "status", "target", "params", "mobile", "remark", "version",
        "trigger", "time_zone", "dst_gap", "dst_fold", "starts_at", "ends_at", "jitter_ms", "calendars",
        "misfire", "misfire_threshold_ms", "misfire_cap", "overlap", "queue_limit", "routing", "labels",
        "shard_params", "max_attempts", "retry_delays_ms", "retry_backoff", "retry_if", "on_lost", "timeout_ms",
        "start_deadline_ms", "priority", "max_in_flight", "pause_reason", "effective_after",
        "created_at", "updated_at",
    ];

    /// How many missed fires `fire_all` runs where a job does not say.
    pub const MISFIRE_CAP: u32 = 100;
    /// How many fires `queue_all` keeps where a job does not say.
    pub const QUEUE_LIMIT: u32 = 100;

    /// A disabled job with every default.
    #[must_use]
    pub fn new(id: JobId, name: impl Into<String>, group: GroupName, target: TargetName) -> Self {
        Self {
            id,
            name: name.into(),
            group,
            cron: String::new(),
            status: JobStatus::Disabled,
            target,
            params: String::new(),
            mobile: String::new(),
            remark: String::new(),
            version: 1,
            trigger: Trigger::Cron,
            time_zone: String::new(),
            dst_gap: DstGap::default(),
            dst_fold: DstFold::default(),
            starts_at: None,
            ends_at: None,
            jitter_ms: 0,
            calendars: Vec::new(),
            misfire: Misfire::default(),
            misfire_threshold_ms: None,
            misfire_cap: None,
            overlap: Overlap::default(),
            queue_limit: None,
            routing: Routing::default(),
            labels: BTreeMap::new(),
            shard_params: ShardParams::default(),
            max_attempts: 1,
            retry_delays_ms: Vec::new(),
            retry_backoff: None,
            retry_if: Vec::new(),
            on_lost: OnLost::default(),
            timeout_ms: None,
            start_deadline_ms: None,
            priority: 0,
            max_in_flight: None,
            pause_reason: String::new(),
            effective_after: None,
            created_at: None,
            updated_at: None,
        }
    }

    /// Whether it fires.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.status == JobStatus::Enabled
    }
}

fn one() -> u32 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature.
fn is_one(value: &u32) -> bool {
    *value == 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{After, Condition, Need, Within, decode, encode};

    fn job() -> Job {
        let name = |text| TargetName::new(text).expect("valid");
        Job::new(
            JobId::new("1").expect("valid"),
            "账单",
            GroupName::new("trade").expect("valid"),
            name("bill"),
        )
    }

    #[test]
    fn a_plain_job_is_written_as_the_original_writes_it() {
        let text = String::from_utf8(encode(&job())).expect("text");
        let expected = r#"{"id":"1","name":"账单","group":"trade","cron":"","status":2,"target":"bill","params":"","mobile":"","remark":"","version":1}"#;
        assert_eq!(text, expected);
    }

    #[test]
    fn every_field_survives() {
        let at = Some(Instant::from_ms(1_795_000_000_000));
        let all = Job {
            trigger: Trigger::After(After {
                jobs: vec![JobId::new("2").expect("valid")],
                on: Condition::End,
                need: Need::Any,
                within: Within::Day,
            }),
            time_zone: "Asia/Shanghai".into(),
            starts_at: at,
            labels: [("zone".to_owned(), "a".to_owned())].into(),
            shard_params: ShardParams::from([(0, "Beijing".to_owned())]),
            retry_backoff: Some(RetryBackoff {
                first_ms: 1,
                max_ms: 2,
                factor_percent: 200,
                jitter_percent: 10,
            }),
            retry_if: vec![Outcome::TimedOut],
            overlap: Overlap::QueueAll,
            max_attempts: 4,
            effective_after: at,
            dst_gap: DstGap::Skip,
            dst_fold: DstFold::Both,
            ends_at: at,
            jitter_ms: 1,
            calendars: vec!["holidays".into()],
            misfire: Misfire::FireAll,
            misfire_threshold_ms: Some(1),
            misfire_cap: Some(1),
            queue_limit: Some(1),
            routing: Routing::Last,
            retry_delays_ms: vec![1],
            on_lost: OnLost::Retry,
            timeout_ms: Some(1),
            start_deadline_ms: Some(1),
            priority: 1,
            max_in_flight: Some(1),
            pause_reason: "why".into(),
            created_at: at,
            updated_at: at,
            ..job()
        };
        let written = serde_json::to_value(&all).expect("writes");
        let mut names: Vec<_> = written.as_object().expect("an object").keys().map(String::as_str).collect();
        let mut listed = Job::FIELDS.to_vec();
        names.sort_unstable();
        listed.sort_unstable();
        assert_eq!(names, listed);
        assert_eq!(decode::<Job>(&encode(&all)).expect("reads"), all);
    }

    #[test]
    fn readers_are_lenient_where_the_original_is() {
        let text = br#"{"id":"1","name":"a","group":"g","cron":null,"status":"1","target":"t","added_later":{"x":1}}"#;
        let job: Job = decode(text).expect("reads");
        assert!(job.is_enabled() && job.cron.is_empty() && job.version == 0);
        assert!(decode::<Job>(br#"{"id":"a/b","name":"a","group":"g","target":"t"}"#).is_err());
    }
}
