//! One pipeline per segment.
//!
//! A lane sends the next batch only when it knows what became of the last one: from its answer, or, where that
//! was lost or the batch was refused, from the view, once it shows what etcd said instead.

use std::time::Duration;

use forest_etcd::{Error, KeyValue, Outcome};
use forest_proto::Segment;

use super::{AFTER_ERROR, Duties, Leading};
use crate::core::compose::Composer;
use crate::core::dispatch::{self, Batch};
use crate::core::view::{Now, View};
use crate::metrics;

/// Pause of a lane that was refused although the view shows everything that was found.
const REFUSED_AGAIN: Duration = Duration::from_millis(50);

/// A segment's pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    Ready,
    InFlight,
    /// Something else was found than expected: until the view shows it.
    Behind {
        revision: i64,
    },
    /// etcd refused, and nothing was written: until this time since boot.
    Paused {
        until: Duration,
    },
    /// The answer was lost, and reading the cursor failed: to be read again at this time since boot.
    Unclear {
        until: Duration,
    },
}

impl Leading {
    pub(super) fn dispatch(&mut self, view: &View, now: Now, duties: &mut Duties) {
        for segment in view.jobs.segments().filter(|segment| !view.jobs.segment(*segment).is_doubted()) {
            match self.lanes[segment.index()] {
                Lane::Behind { revision } if view.revision() >= revision => {}
                Lane::Paused { until } if until <= now.boot => {}
                Lane::Unclear { until } if until <= now.boot => {
                    self.lanes[segment.index()] = Lane::InFlight;
                    duties.unclear.push(segment);
                    continue;
                }
                Lane::Ready => {}
                _ => continue,
            }
            self.lanes[segment.index()] = Lane::Ready;
            if self.gives_way(segment) {
                continue;
            }
            let composer = Composer { term: &self.term, defaults: &self.defaults, now_ms: now.wall_ms };
            let batch = dispatch::first_cursor(view, &composer, segment)
                .or_else(|| dispatch::decide(view, &mut self.router, &composer, segment))
                .or_else(|| dispatch::refresh(view, &composer, segment));
            if let Some(batch) = batch {
                if view.jobs.segment(segment).decided().is_none() && !view.jobs.segment(segment).is_empty() {
                    tracing::error!(%segment, "the cursor is missing although there are jobs: starting at now");
                }
                self.lanes[segment.index()] = Lane::InFlight;
                duties.batches.push(batch);
            }
        }
    }

    /// Whether a request that moves the cursor goes first. Lane and requests take turns.
    fn gives_way(&mut self, segment: Segment) -> bool {
        if self.requesting.contains_key(&segment) {
            return true;
        }
        let waiting = self.deferred.iter().any(|(of, _)| *of == segment);
        if !waiting || self.gave_way.remove(&segment) {
            return false;
        }
        self.gave_way.insert(segment);
        let theirs: Vec<_> = self.deferred.extract_if(.., |(of, _)| *of == segment).collect();
        self.requests.extend(theirs.into_iter().map(|(_, subject)| subject));
        true
    }

    /// Whether a request that moves the cursor may go now: only while nothing else does.
    pub(super) fn may_request(&self, segment: Segment) -> bool {
        let idle = matches!(self.lanes[segment.index()], Lane::Ready | Lane::Paused { .. });
        idle && !self.requesting.contains_key(&segment)
    }

    /// Takes the answer to a dispatch; says whether the cursor has to be read again.
    pub(in crate::scheduler) fn dispatched(
        &mut self,
        view: &mut View,
        mut batch: Batch,
        result: Result<Outcome, Error>,
        now: Now,
    ) -> Option<Segment> {
        let (segment, promised) = (batch.segment, std::mem::take(&mut batch.promised));
        if matches!(result, Ok(Outcome::Unknown { .. })) {
            self.unsure.add_batch(segment, batch.compares, promised, now.boot);
        } else {
            self.let_go(view, promised);
        }
        self.lanes[segment.index()] = match result {
            Ok(Outcome::Applied { revision }) => {
                self.acknowledged(revision, now);
                metrics::dispatched(batch.created.iter().map(|(run, _)| run.at().as_ms()), now);
                if view.revision() < revision {
                    view.jobs.set_cursor(segment, &batch.cursor, revision);
                    for (id, mut run) in batch.created {
                        (run.revision, run.created) = (revision, revision);
                        view.runs.put(&id, run);
                    }
                }
                Lane::Ready
            }
            Ok(Outcome::Refused { found, .. }) => match behind(found.iter().flatten()) {
                // The view is as new as all that was found, and yet it was refused: do not ask at full speed.
                Lane::Behind { revision } if revision <= view.revision() => {
                    self.doubt_what_lacks(view, segment, &found, revision);
                    Lane::Paused { until: now.boot + REFUSED_AGAIN }
                }
                lane => lane,
            },
            Ok(Outcome::Unknown { cause }) => {
                tracing::warn!(%segment, cause, "the answer to a dispatch was lost: reading the cursor again");
                return Some(segment);
            }
            Err(error) => {
                tracing::error!(%segment, %error, "etcd refused a dispatch");
                Lane::Paused { until: now.boot + AFTER_ERROR }
            }
        };
        None
    }

    /// What etcd had at a revision must be in a view that is as new. What is not was dropped by the watch.
    fn doubt_what_lacks(&self, view: &mut View, segment: Segment, found: &[Option<KeyValue>], revision: i64) {
        let jobs = view.jobs.segment(segment);
        let cursor = jobs.decided().map_or(0, |decided| decided.revision);
        let known = [self.term.number(), cursor, jobs.jobgen()];
        let lacks = |(found, known): (&Option<KeyValue>, i64)| {
            found.as_ref().is_some_and(|kv| kv.mod_revision > known)
        };
        if found.iter().zip(known).any(lacks) {
            tracing::error!(%segment, revision, "the watch has dropped a change: listing everything again");
            view.jobs.doubt(segment, revision);
        }
    }

    pub(in crate::scheduler) fn reread(
        &mut self,
        segment: Segment,
        result: Result<Vec<Option<KeyValue>>, Error>,
        now: Now,
    ) {
        self.lanes[segment.index()] = match result {
            Ok(found) => behind(found.iter().flatten()),
            Err(_) => Lane::Unclear { until: now.boot + AFTER_ERROR },
        };
    }
}

/// What was found in place of what was expected will come to the view.
fn behind<'a>(found: impl Iterator<Item = &'a KeyValue>) -> Lane {
    Lane::Behind { revision: found.map(|kv| kv.mod_revision).max().unwrap_or(0) }
}
