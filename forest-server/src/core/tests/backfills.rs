//! Which runs a backfill owes, worked out apart from the core, from what is written.
//!
//! With every run of a backfill its document moves on, in one revision: by one fire, and to the next one.

use std::collections::{BTreeMap, BTreeSet};

use forest_proto::record::{Backfill, Job, Trigger, decode};
use forest_proto::time::Instant;
use forest_proto::{JobId, RunId};

use super::audit::Promise;
use super::tally::Tally;

#[derive(Default)]
pub(super) struct Ledger {
    open: BTreeMap<JobId, Backfill>,
    /// Somebody is about to end these.
    pub(super) cancelled: BTreeSet<JobId>,
}

impl Ledger {
    /// One revision: the documents that were written or deleted, and the runs that began.
    pub(super) fn observe(
        &mut self,
        written: BTreeMap<JobId, Option<Vec<u8>>>,
        mut begun: Vec<RunId>,
        tally: &Tally,
    ) -> Vec<(Promise, String)> {
        let mut broken = Vec::new();
        for (job, value) in written {
            let now = value.map(|value| decode::<Backfill>(&value).unwrap());
            let run = begun.iter().position(|run| run.job() == job.as_str()).map(|at| begun.remove(at));
            let before = self.open.remove(&job);
            if let Err(why) = self.moves(&job, before.as_ref(), now.as_ref(), run.as_ref(), tally) {
                broken.push(format!("{job}: {why}: {run:?}, {before:?} to {now:?}"));
            }
            self.open.extend(now.map(|now| (job, now)));
        }
        broken.extend(begun.iter().map(|run| format!("{run} of no backfill")));
        broken.into_iter().map(|what| (Promise::Backfilled, what)).collect()
    }

    fn moves(
        &mut self,
        id: &JobId,
        before: Option<&Backfill>,
        now: Option<&Backfill>,
        run: Option<&RunId>,
        tally: &Tally,
    ) -> Result<(), &'static str> {
        let Some(before) = before else {
            return if run.is_none() { Ok(()) } else { Err("a run of a backfill that is not there") };
        };
        let job = tally.get(id);
        let left = usize::try_from(before.max_fires - before.created).unwrap();
        let fires: Vec<i64> = job.map(|job| fires(job, before, tally)).unwrap_or_default();
        let mut fires = fires.into_iter().take(left);
        let Some(run) = run else {
            let ends = now.is_none() && (fires.next().is_none() || self.cancelled.remove(id));
            return if ends { Ok(()) } else { Err("it moved without a run") };
        };
        let fire = fires.next().ok_or("it has no fire left")?;
        if *run != RunId::backfilled(id, Instant::from_ms(fire), &before.id) {
            return Err("another fire was next");
        }
        if tally.next_of(id).is_some_and(|next| next <= fire) {
            return Err("the clock has still to decide this fire");
        }
        let next = fires.next().map(Instant::from_ms);
        let expected = next.map(|next| Backfill { next, created: before.created + 1, ..before.clone() });
        if now == expected.as_ref() { Ok(()) } else { Err("it is not at the next fire") }
    }
}

/// The fires that are left of it, one more than can matter.
fn fires(job: &Job, backfill: &Backfill, tally: &Tally) -> Vec<i64> {
    let period = match job.trigger {
        Trigger::FixedRate { every_ms } => Some(every_ms.cast_signed()),
        Trigger::Cron => job
            .cron
            .strip_prefix("@every ")
            .map(|text| text.strip_suffix('s').unwrap().parse::<i64>().unwrap() * 1_000),
        _ => return Vec::new(),
    };
    let from = backfill.next.as_ms();
    // An interval is counted backwards from where it begins.
    let effective_after = period.map(|period| {
        let anchor = job.effective_after.unwrap().as_ms();
        Instant::from_ms(anchor - ((anchor - from) / period + 2) * period)
    });
    let Some(timing) = tally.timing_of(&Job { effective_after, ..job.clone() }) else { return Vec::new() };
    let next = |at: &i64| timing.next_after(*at).filter(|at| *at < backfill.to.as_ms());
    std::iter::successors(next(&(from - 1)), next).take(2).collect()
}
