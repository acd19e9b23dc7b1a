//! Run ids: one for every attempt to execute one fire of one job.
//!
//! `{yyyyMMddHHmmssSSS of the fire, UTC}-{job id}-{attempt}`, and for a manual run
//! `{time of the request}-{job id}-{attempt}m{mark}`, where the mark comes from the idempotency key. A run of a fixed
//! delay ends in `d{mark}`, so that it is never taken for a fire of the same instant, after the job's trigger was changed,
//! nor for another run that was planned for the same instant by a clock that was stepped back: the mark comes from the
//! revision at which it was planned. (Older ones end in `d` alone.) A run of a backfill ends in `b{mark}`, where the mark comes from the backfill: the same fire may be made up for again.
//! The run of a job that follows others ends in `f`, with a mark from the run that it follows where it follows one job,
//! and with none where it has waited for several.
//! A shard of a broadcast has the id of the run that was spread, with `s{index}` behind it; its further attempts have
//! their own number in it.
//! So the id of a scheduled run is a pure function of (job, fire time, attempt): whoever computes it
//! again gets the same key. Ids sort by time, are at most 64 characters long and safe in keys and URLs.

use std::fmt;
use std::hash::Hasher;
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};
use serde::{Deserialize, Serialize};

use crate::name::{JobId, RequestKey};
use crate::time::Instant;

/// The largest attempt number that an id can carry.
pub const MAX_ATTEMPT: u32 = 999;

/// The longest id that the history can hold.
const MAX_LENGTH: usize = 64;
/// A shard's index has at most so many digits.
const INDEX_DIGITS: usize = 3;

const STAMP: usize = 17;
const PLANNED: &str = "d";
const FOLLOWING: &str = "f";

/// The id of a run. See the [module](self) for its form.
///
/// ```
/// use forest_proto::{JobId, RunId, time::Instant};
/// let job = JobId::new("20261121090000123456").unwrap();
/// let first = RunId::scheduled(&job, Instant::from_ms(1_795_000_000_000), 1);
/// assert_eq!(first.as_str(), "20261118110640000-20261121090000123456-1");
/// assert_eq!(first.attempt(), 1);
/// assert_eq!(first.with_attempt(2).as_str(), "20261118110640000-20261121090000123456-2");
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "rest", derive(utoipa::ToSchema), schema(value_type = String))]
pub struct RunId(Arc<str>);

/// A text that is not a run id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("run id {0:?} is not of the form {{17 digits of time}}-{{job id}}-{{attempt}}")]
pub struct RunIdError(String);

impl RunId {
    /// The run of a fire at `fire_at`.
    #[must_use]
    pub fn scheduled(job: &JobId, fire_at: Instant, attempt: u32) -> Self {
        Self::build(&stamp(fire_at), job, attempt, "")
    }

    /// The run of a fixed delay that is planned for `due`; `revision` is that of the key that the planning transaction
    /// compares and writes, so that no two plans of a job have the same.
    ///
    /// ```
    /// # use forest_proto::{JobId, RunId, time::Instant};
    /// let job = JobId::new("20261121090000123456").unwrap();
    /// let run = RunId::planned(&job, Instant::from_ms(1_795_000_000_000), 4711);
    /// assert_eq!(run.as_str(), "20261118110640000-20261121090000123456-1d00001267");
    /// ```
    #[must_use]
    pub fn planned(job: &JobId, due: Instant, revision: i64) -> Self {
        // Of revisions that differ by 2^32 nothing is kept at once.
        let mark = revision & 0xffff_ffff;
        Self::build(&stamp(due), job, 1, &format!("{PLANNED}{mark:08x}"))
    }

    /// The run of a job that follows others, for the time at `at`; `cause` is the run that it follows, if each run of
    /// that has one of its own.
    #[must_use]
    pub fn following(job: &JobId, at: Instant, cause: Option<&RunId>) -> Self {
        let mark = cause.map_or_else(String::new, |cause| mark_of(cause.with_attempt(1).as_str()));
        Self::build(&stamp(at), job, 1, &format!("{FOLLOWING}{mark}"))
    }

    /// A run that somebody asked for at `requested_at`.
    #[must_use]
    pub fn manual(job: &JobId, requested_at: Instant, key: &RequestKey) -> Self {
        Self::build(&stamp(requested_at), job, 1, &format!("m{}", mark_of(key.as_str())))
    }

    /// The run of a fire at `fire_at`, made by the backfill `id`.
    #[must_use]
    pub fn backfilled(job: &JobId, fire_at: Instant, id: &RequestKey) -> Self {
        Self::build(&stamp(fire_at), job, 1, &format!("b{}", mark_of(id.as_str())))
    }

    /// The same fire or request, another attempt.
    #[must_use]
    pub fn with_attempt(&self, attempt: u32) -> Self {
        let Parts { stamp, job, mark, shard, .. } = self.parts();
        let attempt = attempt.clamp(1, MAX_ATTEMPT);
        let shard = shard.map(|index| format!("s{index}")).unwrap_or_default();
        Self(format!("{stamp}-{job}-{attempt}{mark}{shard}").into())
    }

    /// The first attempt of a shard of this run. `None` if the id would be too long, which it never is for a job whose
    /// id has at most 29 characters, or if the run is a shard itself.
    ///
    /// ```
    /// # use forest_proto::{JobId, RunId, time::Instant};
    /// let job = JobId::new("20261121090000123456").unwrap();
    /// let whole = RunId::scheduled(&job, Instant::from_ms(1_795_000_000_000), 1);
    /// let shard = whole.shard_run(3).unwrap();
    /// assert_eq!(shard.as_str(), "20261118110640000-20261121090000123456-1s3");
    /// assert_eq!((shard.shard(), shard.with_attempt(2).parent()), (Some(3), Some(whole)));
    /// ```
    #[must_use]
    pub fn shard_run(&self, index: u32) -> Option<Self> {
        let Parts { stamp, job, mark, shard, .. } = self.parts();
        let longest = self.with_attempt(MAX_ATTEMPT).0.len() + 1 + INDEX_DIGITS;
        let fits = shard.is_none() && longest <= MAX_LENGTH && index.to_string().len() <= INDEX_DIGITS;
        fits.then(|| Self(format!("{stamp}-{job}-1{mark}s{index}").into()))
    }

    /// Of a shard, its index.
    #[must_use]
    pub fn shard(&self) -> Option<u32> {
        self.parts().shard
    }

    /// Of a shard, the run that was spread.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let Parts { stamp, job, mark, shard, .. } = self.parts();
        shard.map(|_| Self(format!("{stamp}-{job}-1{mark}").into()))
    }

    fn build(stamp: &str, job: &JobId, attempt: u32, mark: &str) -> Self {
        let attempt = attempt.clamp(1, MAX_ATTEMPT);
        Self(format!("{stamp}-{job}-{attempt}{mark}").into())
    }

    fn parts(&self) -> Parts<'_> {
        // Checked when the id was made; a wrong id cannot exist.
        split(&self.0).unwrap_or(Parts { stamp: "", job: "", attempt: 1, mark: "", shard: None })
    }

    /// The job it belongs to.
    #[must_use]
    pub fn job(&self) -> &str {
        self.parts().job
    }

    /// Which attempt this is, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.parts().attempt
    }

    /// Whether somebody asked for this run, rather than the schedule.
    #[must_use]
    pub fn is_manual(&self) -> bool {
        self.parts().mark.starts_with('m')
    }

    /// Whether a backfill made it. All runs of one backfill have the same mark, and no others of the job have.
    #[must_use]
    pub fn backfill_mark(&self) -> Option<&str> {
        Some(self.parts().mark).filter(|mark| mark.starts_with('b'))
    }

    /// Whether it is one of a fixed delay.
    #[must_use]
    pub fn is_planned(&self) -> bool {
        self.parts().mark.starts_with(PLANNED)
    }

    /// Whether it follows runs of other jobs.
    #[must_use]
    pub fn is_following(&self) -> bool {
        self.shard().is_none() && self.parts().mark.starts_with(FOLLOWING)
    }

    /// The fire time or the time of the request.
    #[must_use]
    pub fn at(&self) -> Instant {
        parse_stamp(self.parts().stamp).unwrap_or(Instant::from_ms(0))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Eight characters that stand for a text.
fn mark_of(text: &str) -> String {
    let mut hasher = fnv::FnvHasher::default();
    hasher.write(text.as_bytes());
    format!("{:08x}", hasher.finish() >> 32)
}

/// `yyyyMMddHHmmssSSS` in UTC: how instants are written inside keys.
pub(crate) fn stamp(at: Instant) -> String {
    let timestamp = Timestamp::from_millisecond(at.as_ms()).unwrap_or(Timestamp::UNIX_EPOCH);
    let t = Offset::UTC.to_datetime(timestamp);
    format!(
        "{:04}{:02}{:02}{:02}{:02}{:02}{:03}",
        t.year(),
        t.month(),
        t.day(),
        t.hour(),
        t.minute(),
        t.second(),
        t.millisecond()
    )
}

pub(crate) fn parse_stamp(text: &str) -> Option<Instant> {
    if text.len() != STAMP || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let local = DateTime::new(
        text[0..4].parse().ok()?,
        text[4..6].parse().ok()?,
        text[6..8].parse().ok()?,
        text[8..10].parse().ok()?,
        text[10..12].parse().ok()?,
        text[12..14].parse().ok()?,
        text[14..17].parse::<i32>().ok()? * 1_000_000,
    );
    let at = TimeZone::UTC.to_timestamp(local.ok()?).ok()?;
    Some(Instant::from_ms(at.as_millisecond()))
}

/// What an id is made of.
struct Parts<'a> {
    stamp: &'a str,
    job: &'a str,
    attempt: u32,
    mark: &'a str,
    shard: Option<u32>,
}

fn split(text: &str) -> Option<Parts<'_>> {
    let (stamp, rest) = text.split_once('-')?;
    let (job, tail) = rest.rsplit_once('-')?;
    let digits = tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len());
    let (attempt, marks) = tail.split_at(digits);
    let (mark, shard) = match marks.split_once('s') {
        Some((mark, index)) => (mark, Some(read_index(index)?)),
        None => (marks, None),
    };
    let attempt: u32 = attempt.parse().ok().filter(|a| (1..=MAX_ATTEMPT).contains(a))?;
    let canonical = !tail.starts_with('0');
    let marked = mark.is_empty()
        || mark == PLANNED
        || mark == FOLLOWING
        || (mark.len() == 9
            && mark.starts_with(['m', 'b', 'f', 'd'])
            && mark[1..].bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')));
    (canonical && marked).then_some(Parts { stamp, job, attempt, mark, shard })
}

fn read_index(text: &str) -> Option<u32> {
    let canonical = text == "0" || !text.starts_with('0');
    let digits = text.len() <= INDEX_DIGITS && text.bytes().all(|b| b.is_ascii_digit());
    if canonical && digits { text.parse().ok() } else { None }
}

impl FromStr for RunId {
    type Err = RunIdError;
    fn from_str(text: &str) -> Result<Self, RunIdError> {
        let valid = text.is_ascii()
            && split(text)
                .is_some_and(|parts| parse_stamp(parts.stamp).is_some() && JobId::new(parts.job).is_ok());
        if valid { Ok(Self(text.into())) } else { Err(RunIdError(text.chars().take(80).collect())) }
    }
}

impl TryFrom<String> for RunId {
    type Error = RunIdError;
    fn try_from(text: String) -> Result<Self, RunIdError> {
        text.parse()
    }
}
impl From<RunId> for String {
    fn from(id: RunId) -> String {
        id.0.as_ref().to_owned()
    }
}
impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_longest_id_fits_the_published_column() {
        let job = JobId::new("j".repeat(32)).expect("valid");
        let key = RequestKey::new("k".repeat(63)).expect("valid");
        let id = RunId::manual(&job, Instant::from_ms(i64::MAX), &key).with_attempt(MAX_ATTEMPT);
        assert!(id.as_str().len() <= 64, "{id}");
        assert_eq!(id.as_str().parse::<RunId>().as_ref(), Ok(&id));
        assert!(id.is_manual());
    }

    #[test]
    fn a_planned_run_is_not_the_fire_of_its_instant() {
        let job = JobId::new("j").expect("valid");
        let at = Instant::from_ms(1_795_000_000_000);
        let planned = RunId::planned(&job, at, 0x1_0000_0012);
        assert_eq!(planned.as_str(), "20261118110640000-j-1d00000012");
        assert_ne!(planned, RunId::planned(&job, at, 0x13));
        assert_eq!(planned.as_str().parse::<RunId>().as_ref(), Ok(&planned));
        assert!(planned.is_planned() && !planned.is_manual() && planned.with_attempt(2).is_planned());
        assert!(planned != RunId::scheduled(&job, at, 1) && planned.at() == at);
        assert!("20261118110640000-j-1d".parse::<RunId>().is_ok_and(|older| older.is_planned()));
        assert!("20261118110640000-j-1dd".parse::<RunId>().is_err());
    }

    #[test]
    fn a_backfilled_run_is_not_the_fire_of_its_instant() {
        let job = JobId::new("j").expect("valid");
        let at = Instant::from_ms(1_795_000_000_000);
        let key = |text: &str| RequestKey::new(text).expect("valid");
        let run = RunId::backfilled(&job, at, &key("one"));
        assert_eq!(run.as_str().parse::<RunId>().as_ref(), Ok(&run));
        assert!(!run.is_manual() && !run.is_planned() && run.at() == at);
        assert_ne!(run, RunId::backfilled(&job, at, &key("two")));
        assert_eq!(run.with_attempt(2).backfill_mark(), run.backfill_mark());
        assert!(RunId::scheduled(&job, at, 1).backfill_mark().is_none());
        assert!(RunId::manual(&job, at, &key("one")).backfill_mark().is_none());
    }

    #[test]
    fn a_run_that_follows_is_one_for_each_run_or_for_each_time() {
        let (job, at) = (JobId::new("s").expect("valid"), Instant::from_ms(1_795_000_000_000));
        let cause = RunId::scheduled(&JobId::new("p").expect("valid"), at, 1);
        let (of_run, of_time) = (RunId::following(&job, at, Some(&cause)), RunId::following(&job, at, None));
        assert_eq!(of_time.as_str(), "20261118110640000-s-1f");
        assert_eq!(of_run, RunId::following(&job, at, Some(&cause.with_attempt(3))), "whatever the attempt");
        assert!(of_run != of_time && of_run.is_following() && of_time.is_following());
        for id in [of_run, of_time] {
            assert_eq!(id.with_attempt(2).as_str().parse::<RunId>(), Ok(id.with_attempt(2)));
            assert!(!id.is_manual() && !id.is_planned() && id.at() == at);
        }
        assert!("20261118110640000-s-1f12".parse::<RunId>().is_err());
    }

    #[test]
    fn a_shard_knows_its_index_and_its_parent() {
        let (job, at) = (JobId::new("j".repeat(29)).expect("valid"), Instant::from_ms(1_795_000_000_000));
        let key = RequestKey::new("k").expect("valid");
        for whole in
            [RunId::scheduled(&job, at, 1), RunId::planned(&job, at, 7), RunId::manual(&job, at, &key)]
        {
            let shard = whole.shard_run(499).expect("fits").with_attempt(MAX_ATTEMPT);
            assert_eq!(shard.as_str().parse::<RunId>().as_ref(), Ok(&shard));
            assert_eq!((shard.shard(), shard.parent().as_ref()), (Some(499), Some(&whole)));
            assert_eq!((shard.at(), shard.job(), shard.attempt()), (at, job.as_str(), MAX_ATTEMPT));
            assert_eq!(shard.is_manual(), whole.is_manual());
            assert!(
                shard.as_str().len() <= MAX_LENGTH
                    && shard.shard_run(0).is_none()
                    && whole.parent().is_none()
            );
        }
        let long = JobId::new("j".repeat(32)).expect("valid");
        assert!(RunId::manual(&long, at, &key).shard_run(0).is_none(), "no column would hold it");
        assert!(RunId::scheduled(&job, at, 1).shard_run(1000).is_none());
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "-",
            "20261121",
            "20261121000000000-a-0",
            "20261121000000000-a-01",
            "20261321000000000-a-1",
            "20261121000000000--1",
            "20261121000000000-a/b-1",
            "20261121000000000-a-1x",
            "20261121000000000-a-1000",
            "20261121000000000-a-1s",
            "20261121000000000-a-1s01",
            "20261121000000000-a-1s1000",
            "20261121000000000-a-1s1s1",
            "20261121000000000-a-1s1d",
            "2026112100000000é-a-1",
        ] {
            assert!(text.parse::<RunId>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_went_in_comes_out(job in "[A-Za-z0-9][A-Za-z0-9._-]{0,31}", ms in 0_i64..4_000_000_000_000, attempt in 1_u32..=999) {
            let job = JobId::new(job).expect("valid");
            let id = RunId::scheduled(&job, Instant::from_ms(ms), attempt);
            let read: RunId = id.as_str().parse().map_err(|e: RunIdError| TestCaseError::fail(e.to_string()))?;
            prop_assert_eq!((read.job(), read.attempt(), read.at().as_ms(), read.is_manual()), (job.as_str(), attempt, ms, false));
        }

        #[test]
        fn any_text_is_read_or_refused(text in any::<String>()) {
            let _ = text.parse::<RunId>();
        }

        #[test]
        fn ids_sort_by_time(a in 0_i64..4_000_000_000_000, b in 0_i64..4_000_000_000_000) {
            let job = JobId::new("j").expect("valid");
            let id = |ms| RunId::scheduled(&job, Instant::from_ms(ms), 1);
            prop_assert_eq!(id(a).cmp(&id(b)), a.cmp(&b));
        }
    }
}
