//! Whether each fire of a backfill gets one run, in order.
//!
//! With every run of a backfill its document moves on by one fire, in the same revision; with the last one it goes.

use std::collections::BTreeMap;

use forest_proto::record::{Backfill, decode};
use forest_proto::time::Instant;
use forest_proto::{JobId, RunId};

use super::fires::Fires;
use super::{Broken, Promise};

#[derive(Default)]
pub(super) struct Backfills {
    open: BTreeMap<JobId, Backfill>,
}

impl Backfills {
    /// A revision: the documents that it writes (`None`: deletes), and the runs of backfills that begin in it.
    pub(super) fn moved(
        &mut self,
        written: &[(JobId, Option<&[u8]>)],
        begun: &[RunId],
        fires: &Fires,
        broken: &mut Broken,
    ) {
        for (job, value) in written {
            let before = self.open.remove(job);
            let now: Option<Backfill> = value.and_then(|value| decode(value).ok());
            let run = begun.iter().find(|run| run.job() == job.as_str());
            if let Some(before) = &before
                && let Err(why) = moves(before, now.as_ref(), run, fires)
            {
                broken.note(Promise::Backfilled, format!("{why}: {run:?}, {before:?} to {now:?}"));
            }
            if before.is_none() && run.is_some() {
                broken.note(Promise::Backfilled, format!("{run:?} comes with the begin of its backfill"));
            }
            self.open.extend(now.map(|now| (job.clone(), now)));
        }
        for run in begun {
            if written.iter().all(|(job, _)| job.as_str() != run.job()) {
                broken.note(Promise::Backfilled, format!("{run}, and its backfill does not move"));
            }
        }
    }
}

fn moves(
    before: &Backfill,
    now: Option<&Backfill>,
    run: Option<&RunId>,
    fires: &Fires,
) -> Result<(), &'static str> {
    let left = before.max_fires.saturating_sub(before.created) as usize;
    let due = fires.past(&before.job, before.next.as_ms(), before.to.as_ms());
    let mut due = due.into_iter().take(left).map(Instant::from_ms);
    let Some(run) = run else {
        let is_over = now.is_none() && due.next().is_none();
        return if is_over { Ok(()) } else { Err("a backfill moves without a run") };
    };
    let Some(fire) = due.next() else { return Err("a run beyond the last fire") };
    if *run != RunId::backfilled(&before.job, fire, &before.id) {
        return Err("another fire was next");
    }
    if !fires.is_decided(&before.job, fire.as_ms()) {
        return Err("the clock has still to decide this fire");
    }
    let expected = due.next().map(|next| Backfill { next, created: before.created + 1, ..before.clone() });
    if now == expected.as_ref() { Ok(()) } else { Err("a backfill is not at its next fire") }
}
