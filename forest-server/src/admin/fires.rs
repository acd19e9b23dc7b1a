//! When an expression, or a stored job, fires next.

use forest_proto::record::{DstFold, DstGap};
use forest_proto::time::Instant;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{Admin, AdminError};
use crate::core::jobs::normalised_cron;
use crate::schedule::{Schedule, find_zone};

/// An expression whose fires are wanted.
#[derive(Debug, Clone, Default)]
pub(crate) struct FireQuery {
    pub(crate) cron: String,
    pub(crate) time_zone: String,
    pub(crate) gap: DstGap,
    pub(crate) fold: DstFold,
    pub(crate) anchor: Option<Instant>,
    pub(crate) count: u32,
    pub(crate) after: Option<Instant>,
}

#[derive(Debug, Clone)]
pub(crate) struct Fire {
    pub(crate) at: Instant,
    /// On the clock of the job's zone, with its offset.
    pub(crate) local: String,
    /// What is worth knowing.
    pub(crate) note: String,
}

impl Admin {
    /// The fires of an expression, or of a stored job, from now on.
    pub(crate) async fn next_fires(
        &self,
        id: &str,
        mut query: FireQuery,
    ) -> Result<(Vec<Fire>, FireQuery), AdminError> {
        if !id.is_empty() {
            let mut job = self.job(id).await?.job;
            if let Ok(cron) = normalised_cron(&job) {
                job.cron = cron.into_owned();
            }
            (query.cron, query.time_zone) = (job.cron, job.time_zone);
            (query.gap, query.fold, query.anchor) = (job.dst_gap, job.dst_fold, job.effective_after);
        }
        if query.time_zone.is_empty() {
            query.time_zone.clone_from(&self.inner.default_zone);
        }
        let count = match query.count {
            0 => 5,
            count if count <= 100 => count,
            count => return Err(AdminError::invalid("count", format!("{count} is more than 100"))),
        };
        let now = self.now();
        let schedule = Schedule::compile(&query.cron, &query.time_zone, query.gap, query.fold);
        let schedule = schedule.map_err(|error| AdminError::invalid(error.field(), error.reason()))?;
        let anchor = query.anchor.unwrap_or(now).as_ms();
        let after = query.after.unwrap_or(now).as_ms().max(query.anchor.map_or(0, |at| at.as_ms()));
        let fires = std::iter::successors(Some(after), |at| schedule.next_after(*at, anchor)).skip(1);
        let zone = find_zone(&query.time_zone).unwrap_or(TimeZone::UTC);
        let fires = fires.take(count as usize).scan(after, |before, at| {
            let fire = describe(at, *before, &zone);
            *before = at;
            Some(fire)
        });
        Ok((fires.collect(), query))
    }
}

fn describe(at: i64, before: i64, zone: &TimeZone) -> Fire {
    let timestamp = |ms| Timestamp::from_millisecond(ms).unwrap_or_default();
    let (then, now) = (zone.to_offset(timestamp(before)), zone.to_offset(timestamp(at)));
    let note = match now.seconds() - then.seconds() {
        0 => String::new(),
        change => {
            let way = if change > 0 { "forward" } else { "back" };
            format!("clocks go {way} by {} min before this fire", change.abs() / 60)
        }
    };
    let local = timestamp(at).to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S %:z").to_string();
    Fire { at: Instant::from_ms(at), local, note }
}
