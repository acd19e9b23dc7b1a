//! Which settled runs the collector has in hand.

use std::collections::BTreeSet;

use super::handle::Settled;
use crate::core::runs::Place;
use crate::core::view::View;

#[derive(Debug, Default)]
pub(super) struct Handout {
    in_hand: BTreeSet<String>,
    /// Deleted in etcd as of a revision that is not in the view yet.
    leaving: BTreeSet<(i64, String)>,
}

impl Handout {
    /// Whether there is anything that nobody has in hand.
    pub(super) fn any(&self, view: &View) -> bool {
        view.runs.settled_len() + view.late.len() > self.in_hand.len()
    }

    pub(super) fn take(&mut self, view: &View, limit: usize) -> Vec<Settled> {
        self.let_go(view.revision());
        let runs = view.runs.settled().filter_map(|id| {
            let run = view.runs.get(id)?;
            let Place::Ended { client, .. } = &run.place else { return None };
            let key = view.keys.execution(&run.group, client.as_ref(), id);
            let value = run.value.as_ref().map(|value| value.to_vec());
            Some(Settled {
                run: id.clone(),
                key,
                revision: run.revision,
                created: run.created,
                value,
                late: None,
            })
        });
        let late = view.late.iter().filter_map(|(at, ())| {
            let (run, seat) = at;
            let revision = view.late.entry(at)?.revision;
            let key = view.keys.late(&seat.0, &seat.1, run);
            Some(Settled {
                run: run.clone(),
                key,
                revision,
                created: 0,
                value: None,
                late: Some(seat.clone()),
            })
        });
        let taken: Vec<_> =
            runs.chain(late).filter(|settled| !self.in_hand.contains(&settled.key)).take(limit).collect();
        self.in_hand.extend(taken.iter().map(|settled| settled.key.clone()));
        taken
    }

    pub(super) fn release(&mut self, keys: Vec<String>, gone_at: Option<i64>) {
        for key in keys {
            match gone_at {
                Some(revision) => {
                    self.leaving.insert((revision, key));
                }
                None => {
                    self.in_hand.remove(&key);
                }
            }
        }
    }

    /// Forgets what the view has seen leave.
    pub(super) fn let_go(&mut self, revision: i64) {
        while let Some((at, _)) = self.leaving.first()
            && *at <= revision
        {
            if let Some((_, key)) = self.leaving.pop_first() {
                self.in_hand.remove(&key);
            }
        }
    }
}
