//! The promises that every revision of etcd must keep, whoever wrote it.
//!
//! Reads what is written and nothing else. What is broken is collected, not panicked about, because some
//! stories are told to break it.

use std::collections::{BTreeMap, BTreeSet};

use forest_etcd::Change;
use forest_proto::record::{
    ClientRecord, Cursor, Delay, Execution, Origin, Outcome, Overlap, Snapshot, Spread, Status, Trigger,
    decode,
};
use forest_proto::{JobId, Key, Keyspace, RunId, Segment, SegmentCount, TargetName};

use super::backfills::Ledger;
use super::following::Following;
use super::tally::{Decision, Tally};
use crate::core::clients::Seat;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Promise {
    /// A run is created once, ever.
    CreatedOnce,
    /// Each due fire of a stored job is decided once, with the move of the cursor.
    EachFireDecided,
    /// A run is in one place.
    OnePlace,
    /// A job that forbids it has no two runs that are alive.
    NoOverlap,
    /// A run goes only when its end is recorded and settled.
    NoneVanishes,
    /// An end stays as it was recorded.
    EndStays,
    /// A next attempt comes with the failure of the one before.
    RetryHasReason,
    /// Runs are made of the job as it is.
    NoOldVersion,
    /// It may stay where it is, when a request is consumed.
    CursorAdvances,
    /// Each fire of a backfill gets one run, in order.
    Backfilled,
    /// A run is cancelled for another one only where that waits for it, and the job wants it so.
    ReplacedByOne,
    /// Nothing is created in the name of an earlier term.
    OneTerm,
    /// Runs are taken only from clients that are gone or would not start them.
    LeftAlone,
    /// The end of a run leads to one run of each job that follows, if that was due, and to none otherwise.
    Followed,
    /// A broadcast has each shard once, and ends after all of them, with what became of them.
    PartsOfOne,
    /// No request is beyond etcd's limits.
    EtcdTakesIt,
}

#[derive(Debug, Clone)]
enum Doc {
    Delay,
    /// `None`: parked.
    Given(Box<Snapshot>, Option<Seat>),
    Execution(Box<Execution>, Option<Seat>),
    Spread(Box<Spread>),
}

type Docs = BTreeMap<String, Doc>;

pub(super) struct Audit {
    keys: Keyspace,
    pub(super) tally: Tally,
    pub(super) backfills: Ledger,
    term: i64,
    clients: BTreeMap<Seat, ClientRecord>,
    drained: BTreeSet<Seat>,
    runs: BTreeMap<String, BTreeMap<RunId, Docs>>,
    created: BTreeSet<RunId>,
    /// In which order.
    begun: BTreeMap<RunId, usize>,
    /// Every end that was recorded, also when it is collected by now.
    pub(super) ended: BTreeMap<RunId, Execution>,
    pub(super) broken: Vec<(Promise, String)>,
    following: Following,
}

fn is_settled(doc: &Doc) -> bool {
    matches!(doc, Doc::Execution(execution, _) if execution.decided)
}

/// Parked until earlier runs of its job have ended.
fn waits(doc: &Doc) -> bool {
    matches!(doc, Doc::Given(snapshot, None) if snapshot.waits)
}

/// What is planned for later has not begun; a further attempt has.
fn is_in_the_way(run: &RunId, doc: &Doc) -> bool {
    let is_planned = matches!(doc, Doc::Delay) && run.attempt() == 1;
    !is_settled(doc) && !waits(doc) && !is_planned
}

impl Audit {
    pub(super) fn new(keys: Keyspace, segments: SegmentCount) -> Self {
        Self {
            keys,
            tally: Tally::new(segments),
            backfills: Ledger::default(),
            term: 0,
            clients: BTreeMap::new(),
            drained: BTreeSet::new(),
            runs: BTreeMap::new(),
            created: BTreeSet::new(),
            begun: BTreeMap::new(),
            ended: BTreeMap::new(),
            broken: Vec::new(),
            following: Following::default(),
        }
    }

    pub(super) fn all_created(&self) -> impl Iterator<Item = &RunId> {
        self.created.iter()
    }

    /// How many runs there ever were, records of skipped fires included.
    pub(super) fn created(&self) -> usize {
        self.created.len()
    }

    pub(super) fn breaks(&mut self, promise: Promise, what: impl Into<String>) {
        self.broken.push((promise, what.into()));
    }

    /// One revision.
    pub(super) fn observe(&mut self, now_ms: i64, changes: &[Change]) {
        let mut touched: BTreeMap<RunId, Docs> = BTreeMap::new();
        let (mut moves, mut backfills) = (Vec::new(), BTreeMap::new());
        for change in changes {
            let (text, kv) = match change {
                Change::Put(kv) => (&kv.key, Some(kv)),
                Change::Deleted { key, .. } => (key, None),
                _ => continue,
            };
            let value = kv.map(|kv| kv.value.as_slice());
            match self.keys.parse(text) {
                Some(Key::Leader) => self.term = kv.map_or(self.term, |kv| kv.create_revision),
                Some(Key::Job(id)) => self.tally.job(id, value),
                Some(Key::Calendar(name)) => self.tally.calendar(name.as_str(), value),
                Some(Key::Cursor(segment)) => {
                    moves.extend(value.map(|value| (segment, decode::<Cursor>(value).unwrap())));
                }
                Some(Key::Backfill { job, .. }) => {
                    backfills.insert(job, value.map(<[u8]>::to_vec));
                }
                Some(Key::Client { group, client }) => {
                    match value.and_then(ClientRecord::read) {
                        Some(record) => self.clients.insert((group, client), record),
                        None => self.clients.remove(&(group, client)),
                    };
                }
                Some(Key::Drain { group, client }) => {
                    match value {
                        Some(_) => self.drained.insert((group, client)),
                        None => self.drained.remove(&(group, client)),
                    };
                }
                Some(key) => self.write(key, text, value, &mut touched),
                None => {}
            }
        }
        let (mut decisions, mut backfilled) = (Vec::new(), Vec::new());
        self.check_followed(&touched);
        for (run, before) in &touched {
            let after = self.docs(run);
            if after.len() > 1 {
                self.breaks(Promise::OnePlace, format!("{run}: {:?}", after.keys()));
            }
            match (before.values().next(), after.values().next()) {
                (None, Some(doc)) => {
                    if run.backfill_mark().is_some() && run.attempt() == 1 && run.shard().is_none() {
                        backfilled.push(run.clone());
                    }
                    decisions.extend(self.begins(run, doc, &touched, now_ms));
                }
                // What was only planned may be planned anew.
                (Some(Doc::Delay), None) if run.attempt() == 1 && !run.is_following() => {
                    self.created.remove(run);
                }
                (Some(before), None) if !is_settled(before) => {
                    self.breaks(Promise::NoneVanishes, run.as_str());
                }
                (Some(before), Some(after)) => self.goes_on(run, before, after),
                _ => {}
            }
        }
        self.broken.extend(self.backfills.observe(backfills, backfilled, &self.tally));
        self.check_moves(now_ms, &moves, &decisions);
    }

    fn write(&mut self, key: Key, text: &str, value: Option<&[u8]>, touched: &mut BTreeMap<RunId, Docs>) {
        let (run, seat) = match key {
            Key::Delay { run, .. } | Key::Pending { run, .. } | Key::Spread { run, .. } => (run, None),
            Key::Snapshot { group, client, run } => (run, Some((group, client))),
            Key::Execution { group, client, run } => (run, client.map(|client| (group, client))),
            _ => return,
        };
        touched.entry(run.clone()).or_insert_with(|| self.docs(&run));
        let docs = self.runs.entry(run.job().to_owned()).or_default().entry(run.clone()).or_default();
        let Some(value) = value else {
            docs.remove(text);
            if docs.is_empty() {
                self.runs.get_mut(run.job()).unwrap().remove(&run);
            }
            return;
        };
        let doc = if let Ok(execution) = decode::<Execution>(value) {
            if execution.status != Status::Running {
                self.ended.insert(run, execution.clone());
            }
            Doc::Execution(Box::new(execution), seat)
        } else if let Ok(snapshot) = decode::<Snapshot>(value) {
            Doc::Given(Box::new(snapshot), seat)
        } else if let Ok(spread) = decode::<Spread>(value) {
            Doc::Spread(Box::new(spread))
        } else {
            decode::<Delay>(value).unwrap();
            Doc::Delay
        };
        docs.insert(text.to_owned(), doc);
    }

    fn docs(&self, run: &RunId) -> Docs {
        self.runs.get(run.job()).and_then(|runs| runs.get(run)).cloned().unwrap_or_default()
    }

    /// A run that was not there before; says what it decides, if it is about a fire.
    fn begins(
        &mut self,
        run: &RunId,
        doc: &Doc,
        touched: &BTreeMap<RunId, Docs>,
        now_ms: i64,
    ) -> Option<Decision> {
        self.begun.insert(run.clone(), self.begun.len());
        if !self.created.insert(run.clone()) {
            self.breaks(Promise::CreatedOnce, run.as_str());
        }
        let (snapshot, skipped) = match doc {
            Doc::Delay if run.is_following() && run.attempt() == 1 => return None,
            Doc::Delay if run.attempt() == 1 => {
                self.is_planned(run, now_ms);
                return None;
            }
            Doc::Delay => {
                let before = run.with_attempt(run.attempt().saturating_sub(1));
                let failed = self.ended.get(&before).and_then(|ended| ended.outcome);
                let may_follow = matches!(failed, Some(Outcome::Failed | Outcome::TimedOut | Outcome::Lost));
                if !may_follow
                    || !touched.contains_key(&before)
                    || !self.docs(&before).values().all(is_settled)
                {
                    self.breaks(Promise::RetryHasReason, run.as_str());
                }
                return None;
            }
            Doc::Spread(_) => {
                self.breaks(Promise::PartsOfOne, format!("{run} was spread before it was there"));
                return None;
            }
            Doc::Given(snapshot, _) if run.shard().is_some() => {
                self.is_part(run, snapshot);
                return None;
            }
            Doc::Given(snapshot, _) => {
                self.is_given(run, snapshot);
                if !waits(doc) {
                    self.is_alone(run, snapshot);
                }
                (snapshot.as_ref(), None)
            }
            Doc::Execution(execution, _) => {
                self.is_of_this_term(run, &execution.snapshot);
                if execution.status == Status::Running {
                    self.breaks(Promise::OnePlace, format!("{run} was claimed from nowhere"));
                }
                (&execution.snapshot, execution.outcome)
            }
        };
        if run.backfill_mark().is_some() && matches!(doc, Doc::Execution(..)) {
            let what = format!("{run} began with its end");
            self.broken.push((Promise::Backfilled, what));
        }
        let is_fire = matches!(snapshot.origin, Origin::Schedule | Origin::Misfire) && run.attempt() == 1;
        (is_fire && run.shard().is_none() && !run.is_manual() && !run.is_planned()).then(|| Decision {
            job: JobId::new(run.job()).unwrap(),
            at: run.at().as_ms(),
            others: snapshot.missed_fires,
            skipped,
        })
    }

    /// A shard comes with its parent, and is one of those that this one has.
    fn is_part(&mut self, run: &RunId, snapshot: &Snapshot) {
        self.is_of_this_term(run, snapshot);
        let parent = run.parent().unwrap();
        let docs = self.docs(&parent);
        let Some(Doc::Spread(spread)) = docs.values().next() else {
            return self.breaks(Promise::PartsOfOne, format!("{run} without its parent"));
        };
        let index = run.shard().unwrap();
        if index >= spread.created || snapshot.shard.as_ref() != Some(&spread.shard(index)) {
            self.breaks(Promise::PartsOfOne, format!("{run} is no shard of its parent"));
        }
    }

    /// How a shard ended, if nothing of it is left that has not.
    fn end_of_shard(&self, parent: &RunId, index: u32) -> Option<Outcome> {
        let is_it = |run: &RunId| run.shard() == Some(index) && run.parent().as_ref() == Some(parent);
        let mut open = self.runs.get(parent.job()).into_iter().flatten().filter(|(run, _)| is_it(run));
        if open.any(|(_, docs)| !docs.values().all(is_settled)) {
            return None;
        }
        let ended = self.ended.iter().filter(|(run, _)| is_it(run)).max_by_key(|(run, _)| run.attempt());
        ended.and_then(|(_, execution)| execution.outcome)
    }

    /// What a broadcast says of its shards is true, and stays.
    fn is_spread(&mut self, run: &RunId, before: Option<&Spread>, after: &Spread) {
        let told: Vec<_> = after.ended.iter().map(|(index, outcome)| (*index, *outcome)).collect();
        for (index, outcome) in told {
            let kept = before.is_some_and(|before| before.ended.contains_key(&index));
            let is = self.end_of_shard(run, index);
            if !kept && is != Some(outcome) {
                self.breaks(Promise::PartsOfOne, format!("{run} says of {index} {outcome:?}, it is {is:?}"));
            }
        }
        let Some(before) = before else { return };
        let kept = before.ended.iter().all(|(index, outcome)| after.ended.get(index) == Some(outcome));
        let grows = after.created >= before.created && after.clients == before.clients;
        if !kept || !grows || (before.stopping.is_some() && before.stopping != after.stopping) {
            self.breaks(Promise::PartsOfOne, format!("{run} forgot something: {before:?}, then {after:?}"));
        }
    }

    /// A broadcast ends with the last of its shards.
    fn parts_are_over(&mut self, run: &RunId, spread: &Spread, ended: &Execution) {
        let ends: Vec<_> = (0..spread.created).map(|index| self.end_of_shard(run, index)).collect();
        let all = spread.created == spread.total() && ends.iter().all(|end| *end == Some(Outcome::Succeeded));
        if ends.iter().any(Option::is_none) || all != (ended.outcome == Some(Outcome::Succeeded)) {
            self.breaks(Promise::PartsOfOne, format!("{run} ended as {:?}: {ends:?}", ended.outcome));
        }
    }

    /// What is settled of a shard without another attempt, its parent has noted.
    fn is_noted(&mut self, run: &RunId) {
        let Some(parent) = run.parent() else { return };
        let docs = self.docs(&parent);
        let Some(Doc::Spread(spread)) = docs.values().next() else { return };
        let index = run.shard().unwrap();
        if self.end_of_shard(&parent, index).is_some() && !spread.ended.contains_key(&index) {
            self.breaks(Promise::PartsOfOne, format!("{run} was settled without its parent"));
        }
    }

    /// The next run of a fixed delay: after the end of the one before.
    fn is_planned(&mut self, run: &RunId, now_ms: i64) {
        let Some(job) = self.tally.get(&JobId::new(run.job()).unwrap()) else {
            return self.breaks(Promise::NoOldVersion, format!("{run} of no job"));
        };
        let Trigger::FixedDelay { every_ms } = job.trigger else {
            return self.breaks(Promise::EachFireDecided, format!("{run} is no fixed delay"));
        };
        let early = run.at().as_ms() < now_ms.saturating_add_unsigned(every_ms);
        let enabled = job.is_enabled();
        let mut others = self.runs.get(run.job()).into_iter().flatten();
        let other = others.find(|(other, docs)| *other != run && !docs.values().all(is_settled));
        if let Some((other, _)) = other {
            let what = format!("{run} is planned beside {other}");
            self.breaks(Promise::NoOverlap, what);
        }
        if early || !enabled {
            self.breaks(Promise::EachFireDecided, format!("{run} at {now_ms}"));
        }
    }

    /// A run that is to be executed from now on.
    fn is_given(&mut self, run: &RunId, snapshot: &Snapshot) {
        self.is_of_this_term(run, snapshot);
        let job = self.tally.get(&snapshot.job_id);
        let current = job
            .is_some_and(|job| job.version == snapshot.job_version && (job.is_enabled() || run.is_manual()));
        if !current {
            self.breaks(Promise::NoOldVersion, format!("{run} of version {}", snapshot.job_version));
        }
    }

    /// A run that does not wait for others, or not any more.
    fn is_alone(&mut self, run: &RunId, snapshot: &Snapshot) {
        let job = self.tally.get(&snapshot.job_id);
        if job.is_none_or(|job| job.overlap == Overlap::Allow) {
            return;
        }
        let others = self.runs.get(run.job()).into_iter().flatten();
        let root = |run: &RunId| run.parent().unwrap_or_else(|| run.clone());
        let in_the_way = |(other, docs): &(&RunId, &Docs)| {
            root(other) != root(run) && docs.values().any(|doc| is_in_the_way(other, doc))
        };
        if let Some((other, _)) = others.clone().find(in_the_way) {
            let what = format!("{run} beside {other}");
            return self.breaks(Promise::NoOverlap, what);
        }
        let begun = |run: &RunId| self.begun.get(run).copied();
        let before = |(other, docs): &(&RunId, &Docs)| {
            begun(other).is_some_and(|other| Some(other) < begun(run)) && docs.values().any(waits)
        };
        // A further attempt waits for nobody: its run has begun.
        if let Some((other, _)) = others.into_iter().filter(|_| run.attempt() == 1).find(before) {
            let what = format!("{run} before {other}, which waited already");
            self.breaks(Promise::NoOverlap, what);
        }
    }

    fn is_of_this_term(&mut self, run: &RunId, snapshot: &Snapshot) {
        if snapshot.term != self.term {
            let what = format!("{run} in the name of {}, but {} leads", snapshot.term, self.term);
            self.breaks(Promise::OneTerm, what);
        }
    }

    fn goes_on(&mut self, run: &RunId, before: &Doc, after: &Doc) {
        match (before, after) {
            (Doc::Delay, Doc::Given(snapshot, _)) => {
                self.is_given(run, snapshot);
                if !waits(after) {
                    self.is_alone(run, snapshot);
                }
            }
            (Doc::Given(..), Doc::Given(snapshot, Some(_))) if waits(before) => self.is_alone(run, snapshot),
            (_, Doc::Execution(ended, _)) if ended.result.starts_with("replaced by") => {
                let job = self.tally.get(&ended.snapshot.job_id);
                let replaces = job.is_some_and(|job| job.overlap == Overlap::CancelRunning);
                let mut others = self.runs.get(run.job()).into_iter().flatten();
                if !replaces || !others.any(|(other, docs)| other != run && docs.values().any(waits)) {
                    self.breaks(Promise::ReplacedByOne, run.as_str());
                }
            }
            (Doc::Given(snapshot, Some(from)), Doc::Given(_, to))
                if Some(from) != to.as_ref() && self.would_start(from, &snapshot.target) =>
            {
                self.breaks(Promise::LeftAlone, format!("{run} was taken from {from:?}"));
            }
            (Doc::Execution(was, Some(client)), Doc::Execution(is, _))
                if was.status == Status::Running
                    && is.outcome == Some(Outcome::Lost)
                    && self.clients.contains_key(client) =>
            {
                self.breaks(Promise::LeftAlone, format!("{run} is lost, but {client:?} is there"));
            }
            (Doc::Execution(was, _), Doc::Execution(..)) if was.status == Status::Running => {}
            (Doc::Given(_, None), Doc::Spread(spread)) => self.is_spread(run, None, spread),
            (Doc::Spread(before), Doc::Spread(after)) => self.is_spread(run, Some(before), after),
            (Doc::Spread(spread), Doc::Execution(ended, None)) => self.parts_are_over(run, spread, ended),
            (Doc::Spread(_), _) | (_, Doc::Spread(_)) => {
                self.breaks(Promise::OnePlace, format!("{run}: a broadcast out of turn"));
            }
            (Doc::Execution(was, _), Doc::Execution(is, _)) => {
                if is.decided {
                    self.is_noted(run);
                }
                let kept = was.outcome.is_none() || was.outcome == is.outcome;
                if !kept || was.status != is.status || was.result != is.result {
                    self.breaks(
                        Promise::EndStays,
                        format!("{run}: {:?}, then {:?}", was.outcome, is.outcome),
                    );
                }
            }
            (Doc::Execution(..), _) => self.breaks(Promise::OnePlace, format!("{run} came back")),
            _ => {}
        }
    }

    fn would_start(&self, seat: &Seat, target: &TargetName) -> bool {
        self.clients.get(seat).is_some_and(|client| {
            let takes_any = !client.draining && !self.drained.contains(seat);
            takes_any && client.targets.as_ref().is_none_or(|targets| targets.contains(target))
        })
    }

    /// Ends that a leader settled in this revision, and the runs that begin in it because of them.
    fn check_followed(&mut self, touched: &BTreeMap<RunId, Docs>) {
        let mut begun: BTreeSet<RunId> = touched
            .iter()
            .filter(|(run, before)| run.is_following() && run.attempt() == 1 && before.is_empty())
            .map(|(run, _)| run.clone())
            .collect();
        for (run, before) in touched {
            let Some(Doc::Execution(ended, _)) = self.docs(run).into_values().next() else { continue };
            let Some(outcome) = ended.outcome.filter(|_| ended.decided) else { continue };
            let goes_on = touched.contains_key(&run.with_attempt(run.attempt() + 1));
            if goes_on || before.values().any(is_settled) {
                continue;
            }
            let ran = before
                .values()
                .any(|doc| matches!(doc, Doc::Execution(was, _) if was.status == Status::Running));
            if ran && outcome != Outcome::Lost {
                // Its client settled it.
                if ended.snapshot.followed {
                    self.breaks(Promise::Followed, format!("{run} was settled by its client"));
                }
                continue;
            }
            for due in self.following.ended(&self.tally, run, outcome) {
                if !begun.remove(&due) {
                    self.breaks(Promise::Followed, format!("{due} does not follow {run}"));
                }
            }
        }
        for run in begun {
            self.breaks(Promise::Followed, format!("{run} follows nothing"));
        }
    }

    fn check_moves(&mut self, now_ms: i64, moves: &[(Segment, Cursor)], decisions: &[Decision]) {
        for (segment, cursor) in moves {
            if cursor.term != self.term {
                self.breaks(Promise::OneTerm, format!("cursor of {segment} in the name of {}", cursor.term));
            }
            let tally = &mut self.tally;
            let here: Vec<_> =
                decisions.iter().filter(|made| tally.segment_of(&made.job) == *segment).cloned().collect();
            self.broken.extend(tally.moved(*segment, cursor, now_ms, &here));
        }
        let homeless = decisions.iter().find(|made| {
            let segment = self.tally.segment_of(&made.job);
            moves.iter().all(|(moved, _)| *moved != segment)
        });
        if let Some(made) = homeless.cloned() {
            self.breaks(Promise::EachFireDecided, format!("{made:?} without a move of the cursor"));
        }
    }

    #[track_caller]
    pub(super) fn assert_kept(&self) {
        assert!(self.broken.is_empty(), "{:#?}", &self.broken[..self.broken.len().min(5)]);
    }
}
