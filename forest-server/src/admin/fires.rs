//! When an expression, or a stored job, fires next, and what clocks and calendars do to that.

use std::sync::Arc;

use forest_proto::record::{DstFold, DstGap, Role};
use forest_proto::time::Instant;
use jiff::tz::TimeZone;

use super::{Admin, AdminError, validate};
use crate::access::Scope;
use crate::core::jobs::cron_text;
use crate::core::timing::Timing;
use forest_schedule::{find_zone, on_clock, sentence};

/// An expression whose fires are wanted.
#[derive(Debug, Clone, Default)]
pub(crate) struct FireQuery {
    pub(crate) cron: String,
    pub(crate) time_zone: String,
    pub(crate) gap: DstGap,
    pub(crate) fold: DstFold,
    pub(crate) calendars: Vec<String>,
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
        let count = match query.count {
            0 => 5,
            count if count <= 100 => count,
            count => return Err(AdminError::invalid("count", format!("{count} is more than 100"))),
        };
        let (now, compiler) = (self.now(), self.compiler().await?);
        let after = query.after.unwrap_or(now).as_ms();
        let (timing, planned) = if id.is_empty() {
            self.require(Role::Viewer, Scope::Somewhere)?;
            validate::check_calendars(&query.calendars)?;
            let rules = (query.gap, query.fold);
            let schedule = compiler.compile(&query.cron, &query.time_zone, rules, &query.calendars)?;
            let anchor = query.anchor.unwrap_or(now).as_ms();
            // As when a job is saved: what never fires is a slip of the pen.
            let reachable = schedule.check_reachable(after, anchor);
            reachable.map_err(|error| AdminError::invalid(error.field(), error.reason()))?;
            let counts_after = query.anchor.map_or(0, |at| at.as_ms());
            (Some(Timing::plain(Arc::new(schedule), anchor, counts_after)), None)
        } else {
            let stored = self.job(id).await?;
            let job = stored.job;
            let timing = compiler.compile_job(&job)?.map(|schedule| Timing::new(Arc::new(schedule), &job));
            query.cron = cron_text(&job).ok().flatten().unwrap_or_default().into_owned();
            (query.time_zone, query.calendars) = (job.time_zone, job.calendars);
            // A fixed delay knows its next fire, and no further ones.
            (timing, stored.next_fire_ms.filter(|at| *at > after))
        };
        if query.time_zone.is_empty() {
            query.time_zone.clone_from(&self.inner.default_zone);
        }
        let zone = find_zone(&query.time_zone).unwrap_or(TimeZone::UTC);
        let fire =
            |at: i64, note: String| Fire { at: Instant::from_ms(at), local: on_clock(at, &zone), note };
        let Some(timing) = timing else {
            return Ok((planned.map(|at| fire(at, String::new())).into_iter().collect(), query));
        };
        let calendars = compiler.named(&query.calendars)?;
        let fires = std::iter::successors(Some(after), |at| timing.next_after(*at)).skip(1);
        let fires = fires.take(count as usize).scan(after, |before, at| {
            let note = sentence(&timing.notes(*before, at), &calendars);
            *before = at;
            Some(fire(at, note))
        });
        Ok((fires.collect(), query))
    }
}
