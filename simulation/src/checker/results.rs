//! A result that etcd had is in etcd or in the database, as it was.

use std::collections::{BTreeMap, BTreeSet};

use forest_proto::record::{Answer, Execution, Outcome, decode};
use forest_proto::{Key, RunId};
use forest_server::store::Archived;

use super::{Broken, Promise, Touched};

#[derive(Default)]
pub(super) struct Results {
    /// Decided, as the database has it.
    saved: BTreeMap<RunId, Option<Outcome>>,
    saved_late: BTreeSet<RunId>,
    /// Everything that was ever decided in etcd, and when.
    decided: BTreeMap<RunId, (Option<Outcome>, u64)>,
    late: BTreeMap<RunId, u64>,
}

/// What ended in the last seconds may be on its way.
const ON_ITS_WAY_MS: u64 = 5_000;

impl Results {
    pub(super) fn saved(&mut self, rows: &[Archived], broken: &mut Broken) {
        for row in rows {
            let run = &row.execution.snapshot.id;
            if row.late {
                self.saved_late.insert(run.clone());
            } else if row.execution.decided {
                let before = self.saved.insert(run.clone(), row.execution.outcome);
                if before.is_some_and(|before| before != row.execution.outcome) {
                    let what = format!("the row of {run} was {before:?} and is {:?}", row.execution.outcome);
                    broken.note(Promise::EndStays, what);
                }
            }
        }
    }

    /// Somebody wrote over the end, who may not: what comes of it is the end.
    pub(super) fn forget(&mut self, run: &RunId) {
        self.saved.remove(run);
        self.decided.remove(run);
    }

    pub(super) fn check(&mut self, touched: &Touched<'_>, broken: &mut Broken) {
        match touched.key {
            Key::Execution { run, .. } => match touched.after {
                Some(value) => self.decided(run, value, broken.now_ms),
                None if self.decided.get(run).map(|(outcome, _)| outcome) != self.saved.get(run) => {
                    let saved = self.saved.get(run);
                    let what = format!("{run} is deleted, and the database has {saved:?} of it");
                    broken.note(Promise::NoResultLost, what);
                }
                None => {}
            },
            Key::Late { run, .. } => match touched.after {
                Some(_) => {
                    self.late.insert(run.clone(), broken.now_ms);
                }
                None if !self.saved_late.contains(run) => {
                    broken
                        .note(Promise::NoResultLost, format!("the late result of {run} is deleted unsaved"));
                }
                None => {}
            },
            Key::Answer { .. } => answered(touched, broken),
            _ => {}
        }
    }

    fn decided(&mut self, run: &RunId, value: &[u8], now_ms: u64) {
        if let Ok(execution) = decode::<Execution>(value)
            && execution.decided
        {
            self.decided.insert(run.clone(), (execution.outcome, now_ms));
        }
    }

    pub(super) fn check_all_saved(&self, broken: &mut Broken) {
        let until = broken.now_ms.saturating_sub(ON_ITS_WAY_MS);
        for (run, (outcome, _)) in self.decided.iter().filter(|(_, (_, at))| *at < until) {
            if self.saved.get(run) != Some(outcome) {
                let saved = self.saved.get(run);
                let what = format!("{run} ended as {outcome:?}, and the database has {saved:?}");
                broken.note(Promise::NoResultLost, what);
            }
        }
        let late = self.late.iter().filter(|(_, at)| **at < until).map(|(run, _)| run);
        for run in late.filter(|run| !self.saved_late.contains(*run)) {
            broken.note(Promise::NoResultLost, format!("the late result of {run} is not in the database"));
        }
    }
}

/// One request for a run, sent twice, is one run, as long as the answer to the first is kept.
fn answered(touched: &Touched<'_>, broken: &mut Broken) {
    let run = |value: &[u8]| decode::<Answer>(value).map(|answer| answer.run).ok();
    let Some(before) = touched.before else { return };
    if touched.after.is_some_and(|after| run(after) != run(&before.value)) {
        broken.note(Promise::AskedOnce, format!("{} is for another run now", touched.text));
    }
}
