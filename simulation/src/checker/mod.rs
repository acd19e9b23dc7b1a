//! Whether a history keeps the promises: reads what happened, and nothing of the programs that did it.
//!
//! It works out by itself which fires are due, where each run is and who may write what, and compares. It shares
//! the forms of the documents with the programs, and no decision.

mod backfills;
mod drained;
mod fires;
mod following;
mod limits;
mod results;
mod runs;
mod shards;
#[cfg(test)]
mod tests;
mod writers;

use std::collections::BTreeMap;
use std::fmt;

use forest_proto::{Key, Keyspace, SegmentCount};

use crate::plan::Plan;
use crate::record::{Change, Entry, Happened, Writer};
use backfills::Backfills;
use fires::Fires;
use limits::Limits;
use results::Results;
use runs::Runs;
use writers::Writers;

/// What is promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// A run is created once, ever.
    CreatedOnce,
    /// Each due fire of a stored job is decided once, with the move of the cursor.
    EachFireDecided,
    /// A cursor only goes on, and never beyond the present.
    CursorAdvances,
    /// Each fire of a backfill gets one run, in order.
    Backfilled,
    /// A run is in one place.
    OnePlace,
    /// A job that forbids it has no two runs that are alive.
    NoOverlap,
    /// No more runs of a job, or of a group, are at clients than it allows.
    WithinLimits,
    /// A run goes only when its end is recorded and settled.
    NoneVanishes,
    /// An end stays as it was recorded.
    EndStays,
    /// A broadcast has each shard once, and ends after all of them, with what became of them.
    PartsOfOne,
    /// A next attempt comes with the failure of the one before, and not after somebody cancelled it.
    RetryHasReason,
    /// Runs are made of the job as it is.
    NoOldVersion,
    /// What only a leader may write is written by the one that leads.
    OneTerm,
    /// Runs are taken only from clients that are gone or would not start them.
    LeftAlone,
    /// The end of a run leads to one run of each job that follows, where that is due, and to none elsewhere. No job
    /// comes before itself.
    Followed,
    /// A client starts nothing once its registration is gone.
    ClaimedByTheRegistered,
    /// No run is started twice, and later starts have larger tokens.
    StartedOnce,
    /// A result that etcd had is in etcd or in the database.
    NoResultLost,
    /// No change of a job undoes another that its author did not know.
    NoLostUpdate,
    /// A request is taken once, however often it is sent.
    AskedOnce,
    /// What is due is done some time after the last fault.
    Drained,
    /// No process ends by itself.
    Lives,
}

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq)]
pub struct Violation {
    pub promise: Promise,
    pub at_ms: u64,
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {:.3} s: {}", self.promise, seconds(self.at_ms), self.what)
    }
}

#[allow(clippy::cast_precision_loss)] // For people.
pub(crate) fn seconds(ms: u64) -> f64 {
    ms as f64 / 1_000.0
}

/// What the checker must know of a simulation beside its history.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    pub segments: SegmentCount,
    /// When the last fault was over.
    pub calm_at: u64,
    /// When everything must be done; `None`: the history is not complete.
    pub ends_at: Option<u64>,
    /// Whether watches drop messages: what a leader does not see it cannot count.
    pub drops_events: bool,
}

/// What was broken, in the order in which it was noticed.
#[derive(Default)]
struct Broken {
    now_ms: u64,
    found: Vec<Violation>,
}

impl Broken {
    fn note(&mut self, promise: Promise, what: impl Into<String>) {
        self.found.push(Violation { promise, at_ms: self.now_ms, what: what.into() });
    }
}

/// A key as it is now.
#[derive(Debug, Clone)]
struct Stored {
    value: Vec<u8>,
    /// When it got this value.
    at_ms: u64,
}

/// Everything that is in etcd now.
type Store = BTreeMap<String, Stored>;

/// One change, with its key understood.
struct Touched<'a> {
    key: &'a Key,
    text: &'a str,
    before: Option<&'a Stored>,
    after: Option<&'a [u8]>,
    create_revision: i64,
}

/// Checks a whole history.
#[must_use]
pub fn check(entries: &[Entry], terms: Terms) -> Vec<Violation> {
    let mut checker = Checker::new(terms);
    for (at_ms, happened) in entries {
        checker.broken.now_ms = *at_ms;
        checker.observe(happened);
    }
    if let Some(ends_at) = terms.ends_at {
        checker.broken.now_ms = ends_at;
        drained::check(&checker.store, &checker.keys, &checker.fires, terms.calm_at, &mut checker.broken);
        checker.results.check_all_saved(&mut checker.broken);
    }
    checker.broken.found
}

struct Checker {
    keys: Keyspace,
    store: Store,
    writers: Writers,
    fires: Fires,
    backfills: Backfills,
    runs: Runs,
    /// `None`: they cannot be kept.
    limits: Option<Limits>,
    results: Results,
    broken: Broken,
}

impl Checker {
    fn new(terms: Terms) -> Self {
        Self {
            keys: Keyspace::default(),
            store: Store::new(),
            writers: Writers::default(),
            fires: Fires::new(terms.segments),
            backfills: Backfills::default(),
            runs: Runs::default(),
            limits: (!terms.drops_events).then(Limits::default),
            results: Results::default(),
            broken: Broken::default(),
        }
    }

    fn observe(&mut self, happened: &Happened) {
        match happened {
            Happened::Revision { by, changes, .. } => self.revision(*by, changes),
            Happened::Started { run, fencing_token, .. } => {
                self.runs.started(run, *fencing_token, &mut self.broken);
            }
            Happened::Saved { rows } => self.results.saved(rows, &mut self.broken),
            Happened::Broke(what) => self.broken.note(Promise::Lives, what),
            Happened::Ended { .. } | Happened::Told(_) => {}
        }
    }

    fn revision(&mut self, by: Option<Writer>, changes: &[Change]) {
        let keys: Vec<Option<Key>> = changes.iter().map(|change| self.keys.parse(&change.key)).collect();
        let mut created = Vec::new();
        let (mut moves, mut backfills) = (Vec::new(), Vec::new());
        self.runs.begin();
        for (change, key) in changes.iter().zip(&keys) {
            let Some(key) = key else {
                self.broken.note(Promise::OneTerm, format!("{} is no key of ours", change.key));
                continue;
            };
            let touched = Touched {
                key,
                text: &change.key,
                before: self.store.get(&change.key),
                after: change.value.as_deref(),
                create_revision: change.create_revision,
            };
            self.writers.check(by, &touched, &self.store, &self.keys, &mut self.broken);
            if let Key::Execution { run, .. } = key
                && by.is_some_and(|writer| writer.is_hasty())
            {
                self.results.forget(run);
            }
            self.results.check(&touched, &mut self.broken);
            if let Some(limits) = &mut self.limits {
                limits.touch(by, &touched, self.broken.now_ms);
            }
            match key {
                Key::Backfill { job, .. } => backfills.push((job.clone(), change.value.as_deref())),
                Key::Job(id) => {
                    self.fires.job(id, touched.after, self.broken.now_ms);
                    following::check_circles(&self.fires, id, &mut self.broken);
                }
                Key::Cursor(segment) => moves.push((*segment, change.value.as_deref())),
                _ => self.runs.touch(&touched),
            }
            match &change.value {
                Some(value) => {
                    let stored = Stored { value: value.clone(), at_ms: self.broken.now_ms };
                    self.store.insert(change.key.clone(), stored);
                }
                None => {
                    self.store.remove(&change.key);
                }
            }
        }
        self.check_cancels(by, changes, &keys);
        let world =
            runs::World { fires: &self.fires, writers: &self.writers, store: &self.store, keys: &self.keys };
        self.runs.settle(by, &world, &mut created, &mut self.broken);
        self.backfills.moved(&backfills, self.runs.backfilled(), &self.fires, &mut self.broken);
        self.fires.moved(&moves, &created, &mut self.broken);
        if let Some(limits) = &mut self.limits {
            limits.settle(&mut self.broken);
        }
    }
}

impl Checker {
    /// Whoever asks for a run to be stopped is asked once: each such step takes its request away.
    fn check_cancels(&mut self, by: Option<Writer>, changes: &[Change], keys: &[Option<Key>]) {
        let all = || changes.iter().zip(keys);
        let asked = |(change, key): &(&Change, &Option<Key>)| match key {
            Some(Key::Cancel { run, .. }) => {
                let follows =
                    self.runs.is_replaced(run, &self.fires) || self.runs.is_stopped_with_others(run);
                change.value.is_some() && !follows
            }
            _ => false,
        };
        let put = all().filter(asked);
        let taken =
            all().filter(|(change, key)| matches!(key, Some(Key::Request { .. })) && change.value.is_none());
        if by.is_some_and(|writer| writer.is_node()) && put.clone().count() > taken.count() {
            let keys: Vec<_> = put.map(|(change, _)| &change.key).collect();
            self.broken.note(Promise::AskedOnce, format!("{keys:?} without a request"));
        }
    }
}

impl Terms {
    #[must_use]
    pub fn of(plan: &Plan, ends_at: Option<u64>) -> Self {
        let segments = SegmentCount::new(plan.segments).unwrap_or(SegmentCount::DEFAULT);
        Self { segments, calm_at: plan.calm_at, ends_at, drops_events: plan.drops_events() }
    }
}
