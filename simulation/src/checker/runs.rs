//! Where each run is, how it got there, and where it may go.

use std::collections::{BTreeMap, BTreeSet};

use forest_proto::record::{
    ClientRecord, Delay, Execution, Origin, Outcome, Overlap, Snapshot, Spread, Status, Trigger, decode,
};
use forest_proto::{ClientId, GroupName, JobId, Key, Keyspace, RunId, TargetName};

use super::fires::{Decision, Fires};
use super::following::{Following, followed};
use super::shards;
use super::writers::Writers;
use super::{Broken, Promise, Store, Touched};
use crate::record::Writer;

type Seat = (GroupName, ClientId);

#[derive(Debug, Clone)]
pub(super) enum Doc {
    Delay,
    /// `None`: parked.
    Given(Box<Snapshot>, Option<Seat>),
    Execution(Box<Execution>, Option<Seat>),
    Spread(Box<Spread>),
    Unreadable,
}

pub(super) type Docs = BTreeMap<String, Doc>;

/// What is around the runs when a revision is complete.
pub(super) struct World<'a> {
    pub(super) fires: &'a Fires,
    pub(super) writers: &'a Writers,
    pub(super) store: &'a Store,
    pub(super) keys: &'a Keyspace,
}

#[derive(Default)]
pub(super) struct Runs {
    /// By job, because overlap is about one.
    pub(super) alive: BTreeMap<String, BTreeMap<RunId, Docs>>,
    created: BTreeSet<RunId>,
    pub(super) ended: BTreeMap<RunId, Option<Outcome>>,
    started: BTreeMap<RunId, i64>,
    /// Of the revision at hand: the runs that it touches, as they were before.
    touched: BTreeMap<RunId, Docs>,
    /// Requests to stop a run that were there before the revision, and those that it removes.
    stops: BTreeSet<RunId>,
    stops_before: BTreeSet<RunId>,
    /// Runs of backfills that begin in it.
    backfilled: Vec<RunId>,
    following: Following,
}

pub(super) fn is_settled(doc: &Doc) -> bool {
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

impl Runs {
    pub(super) fn begin(&mut self) {
        self.touched.clear();
        self.backfilled.clear();
        self.stops_before.clone_from(&self.stops);
    }

    /// The runs of backfills that begin in the revision at hand.
    pub(super) fn backfilled(&self) -> &[RunId] {
        &self.backfilled
    }

    pub(super) fn touch(&mut self, touched: &Touched<'_>) {
        let (run, seat) = match touched.key {
            Key::Delay { run, .. } | Key::Pending { run, .. } | Key::Spread { run, .. } => (run, None),
            Key::Snapshot { group, client, run } => (run, Some((group.clone(), client.clone()))),
            Key::Execution { group, client, run } => {
                (run, client.as_ref().map(|client| (group.clone(), client.clone())))
            }
            Key::Cancel { run, .. } => {
                match touched.after {
                    Some(_) => self.stops.insert(run.clone()),
                    None => self.stops.remove(run),
                };
                return;
            }
            _ => return,
        };
        if !self.touched.contains_key(run) {
            self.touched.insert(run.clone(), self.docs(run));
        }
        let docs = self.alive.entry(run.job().to_owned()).or_default().entry(run.clone()).or_default();
        let Some(value) = touched.after else {
            docs.remove(touched.text);
            if docs.is_empty()
                && let Some(runs) = self.alive.get_mut(run.job())
            {
                runs.remove(run);
            }
            return;
        };
        let doc = match touched.key {
            Key::Delay { .. } => decode::<Delay>(value).map(|_| Doc::Delay).ok(),
            Key::Spread { .. } => decode(value).ok().map(|doc| Doc::Spread(Box::new(doc))),
            Key::Execution { .. } => decode(value).ok().map(|doc| Doc::Execution(Box::new(doc), seat)),
            _ => decode(value).ok().map(|doc| Doc::Given(Box::new(doc), seat)),
        };
        docs.insert(touched.text.to_owned(), doc.unwrap_or(Doc::Unreadable));
    }

    pub(super) fn docs(&self, run: &RunId) -> Docs {
        self.alive.get(run.job()).and_then(|runs| runs.get(run)).cloned().unwrap_or_default()
    }

    /// The revision is complete; `decisions` gets what it decides about fires.
    pub(super) fn settle(
        &mut self,
        by: Option<Writer>,
        world: &World<'_>,
        decisions: &mut Vec<Decision>,
        broken: &mut Broken,
    ) {
        let touched = std::mem::take(&mut self.touched);
        self.check_followed(by, &touched, world, broken);
        for run in touched.keys() {
            // Ends first: what is said of a shard is compared with its own.
            if let Some(Doc::Execution(execution, _)) = self.docs(run).values().next()
                && execution.status != Status::Running
            {
                self.ended.insert(run.clone(), execution.outcome);
            }
        }
        for (run, before) in &touched {
            let after = self.docs(run);
            if after.len() > 1 {
                broken.note(Promise::OnePlace, format!("{run} is in {:?}", after.keys()));
            }
            match (before.values().next(), after.values().next()) {
                // An end that was decided without it, or is in the database by now.
                (_, Some(Doc::Execution(..))) if by.is_some_and(|writer| writer.is_hasty()) => {}
                (None, Some(doc)) => {
                    decisions.extend(self.begins(run, doc, &touched, world, broken));
                }
                // What was only planned may be planned anew.
                (Some(Doc::Delay), None) if run.attempt() == 1 && !run.is_following() => {
                    self.created.remove(run);
                }
                (Some(before), None) if !is_settled(before) => {
                    broken.note(Promise::NoneVanishes, format!("{run} is gone without an end"));
                }
                (Some(before), Some(after)) => self.goes_on(by, run, before, after, world, broken),
                _ => {}
            }
        }
    }

    /// A run that was not there before.
    fn begins(
        &mut self,
        run: &RunId,
        doc: &Doc,
        touched: &BTreeMap<RunId, Docs>,
        world: &World<'_>,
        broken: &mut Broken,
    ) -> Option<Decision> {
        if !self.created.insert(run.clone()) {
            broken.note(Promise::CreatedOnce, format!("{run} is created again"));
        }
        let snapshot = match doc {
            // Looked at together with what it follows.
            Doc::Delay if run.is_following() && run.attempt() == 1 => return None,
            Doc::Delay if run.attempt() == 1 => {
                self.is_planned(run, world, broken);
                return None;
            }
            Doc::Delay => {
                self.has_reason(run, touched, broken);
                return None;
            }
            Doc::Spread(_) => {
                broken.note(Promise::PartsOfOne, format!("{run} was spread before it was there"));
                return None;
            }
            Doc::Given(snapshot, _) if run.shard().is_some() => {
                world.writers.check_term(run, snapshot.term, broken);
                self.is_part(run, snapshot, broken);
                return None;
            }
            Doc::Given(snapshot, _) => {
                self.is_given(run, snapshot, world, broken);
                self.is_alone(run, doc, snapshot, world, broken);
                if run.backfill_mark().is_some() && run.attempt() == 1 && run.shard().is_none() {
                    self.backfilled.push(run.clone());
                }
                snapshot.as_ref()
            }
            Doc::Execution(execution, _) => {
                if execution.status == Status::Running {
                    broken.note(Promise::CreatedOnce, format!("{run} was claimed from nowhere"));
                }
                world.writers.check_term(run, execution.snapshot.term, broken);
                &execution.snapshot
            }
            Doc::Unreadable => {
                broken.note(Promise::CreatedOnce, format!("{run} cannot be read"));
                return None;
            }
        };
        let is_fire = matches!(snapshot.origin, Origin::Schedule | Origin::Misfire) && run.attempt() == 1;
        if is_fire && !run.is_planned() && matches!(doc, Doc::Given(..)) && !snapshot.followed {
            let mut jobs = world.fires.jobs();
            if let Some(job) = jobs.find(|job| job.is_enabled() && followed(job).contains(&snapshot.job_id)) {
                broken.note(Promise::Followed, format!("{run} does not know that {} follows", job.id));
            }
        }
        let is_of_schedule = is_fire && run.shard().is_none() && !run.is_manual() && !run.is_planned();
        is_of_schedule.then(|| Decision {
            job: snapshot.job_id.clone(),
            at_ms: run.at().as_ms(),
            others: snapshot.missed_fires,
        })
    }

    /// Ends that are settled in this revision, and the runs that begin in it because of them.
    fn check_followed(
        &mut self,
        by: Option<Writer>,
        touched: &BTreeMap<RunId, Docs>,
        world: &World<'_>,
        broken: &mut Broken,
    ) {
        let begins =
            |(run, before): &(&RunId, &Docs)| run.is_following() && run.attempt() == 1 && before.is_empty();
        let mut begun: BTreeSet<RunId> = touched.iter().filter(begins).map(|(run, _)| run.clone()).collect();
        for (run, before) in touched {
            let Some(Doc::Execution(ended, _)) = self.docs(run).into_values().next() else { continue };
            let Some(outcome) = ended.outcome.filter(|_| ended.decided) else { continue };
            let goes_on = touched.contains_key(&run.with_attempt(run.attempt() + 1));
            if goes_on || before.values().any(is_settled) {
                continue;
            }
            if !by.is_some_and(|writer| writer.is_node()) {
                if ended.snapshot.followed {
                    broken.note(Promise::Followed, format!("{run} was settled by its client"));
                }
                continue;
            }
            for due in self.following.ended(world.fires, run, outcome) {
                if !begun.remove(&due) {
                    broken.note(Promise::Followed, format!("{due} does not follow {run}, which {outcome:?}"));
                }
            }
        }
        for run in begun {
            broken.note(Promise::Followed, format!("{run} follows nothing"));
        }
    }

    /// A next attempt is made known in the revision that settles the one before.
    fn has_reason(&self, run: &RunId, touched: &BTreeMap<RunId, Docs>, broken: &mut Broken) {
        let before = run.with_attempt(run.attempt().saturating_sub(1));
        let now = self.docs(&before);
        let failed = now.values().any(|doc| match doc {
            Doc::Execution(ended, _) => {
                let outcome =
                    matches!(ended.outcome, Some(Outcome::Failed | Outcome::TimedOut | Outcome::Lost));
                outcome && ended.decided
            }
            _ => false,
        });
        if !failed || !touched.contains_key(&before) {
            broken.note(Promise::RetryHasReason, format!("{run}: {before} did not just fail"));
        }
        if self.stops_before.contains(&before) {
            broken.note(Promise::RetryHasReason, format!("{run}, although somebody had cancelled {before}"));
        }
    }

    /// A run that is to be executed from now on.
    fn is_given(&self, run: &RunId, snapshot: &Snapshot, world: &World<'_>, broken: &mut Broken) {
        world.writers.check_term(run, snapshot.term, broken);
        let job = world.fires.get(&snapshot.job_id);
        let current = job
            .is_some_and(|job| job.version == snapshot.job_version && (job.is_enabled() || run.is_manual()));
        if !current {
            let stored = job.map(|job| (job.version, job.status));
            let what = format!("{run} is of version {}, stored is {stored:?}", snapshot.job_version);
            broken.note(Promise::NoOldVersion, what);
        }
    }

    /// A retry is not asked: it is a part of a run that was there all the time. What waits for others is asked when
    /// it is given to a client.
    fn is_alone(&self, run: &RunId, doc: &Doc, snapshot: &Snapshot, world: &World<'_>, broken: &mut Broken) {
        let Some(job) = world.fires.get(&snapshot.job_id).filter(|job| job.overlap != Overlap::Allow) else {
            return;
        };
        let others = || {
            let others = self.alive.get(run.job()).into_iter().flatten();
            others.filter(|(other, _)| *other != run && !shards::are_of_one(other, run))
        };
        if waits(doc) {
            let limit = job.queue_limit.unwrap_or(u32::MAX) as usize;
            let waiting = others().filter(|(_, docs)| docs.values().all(waits)).count() + 1;
            if job.overlap == Overlap::QueueAll && waiting > limit {
                broken.note(Promise::NoOverlap, format!("{waiting} runs wait for others, like {run}"));
            }
            return;
        }
        let in_the_way = |(other, docs): &(&RunId, &Docs)| docs.values().any(|doc| is_in_the_way(other, doc));
        if let Some((other, _)) = others().find(in_the_way) {
            broken.note(Promise::NoOverlap, format!("{run} beside {other}"));
        }
    }

    /// Whether a newer run of its job waits to take its place.
    pub(super) fn is_replaced(&self, run: &RunId, fires: &Fires) -> bool {
        let job = JobId::new(run.job()).ok().and_then(|job| fires.get(&job));
        let replaces = job.is_some_and(|job| job.overlap == Overlap::CancelRunning);
        let mut others = self.alive.get(run.job()).into_iter().flatten();
        replaces && others.any(|(other, docs)| other != run && docs.values().any(waits))
    }

    /// The next run of a fixed delay: when the one before has ended.
    fn is_planned(&self, run: &RunId, world: &World<'_>, broken: &mut Broken) {
        let job = JobId::new(run.job()).ok().and_then(|job| world.fires.get(&job));
        let Some(job) = job.filter(|job| matches!(job.trigger, Trigger::FixedDelay { .. })) else {
            return broken.note(Promise::RetryHasReason, format!("{run} is planned without a fixed delay"));
        };
        if job.overlap == Overlap::Allow {
            // Somebody may ask for a run at the same time.
            return;
        }
        let others = self.alive.get(run.job()).into_iter().flatten();
        let mut others = others.filter(|(other, docs)| *other != run && !docs.values().all(is_settled));
        if let Some((other, _)) = others.next() {
            broken.note(Promise::NoOverlap, format!("{run} is planned beside {other}"));
        }
    }

    fn goes_on(
        &self,
        by: Option<Writer>,
        run: &RunId,
        before: &Doc,
        after: &Doc,
        world: &World<'_>,
        broken: &mut Broken,
    ) {
        match (before, after) {
            (Doc::Delay, Doc::Given(snapshot, _)) => {
                self.is_given(run, snapshot, world, broken);
                if run.attempt() == 1 {
                    self.is_alone(run, after, snapshot, world, broken);
                }
            }
            (Doc::Given(..), Doc::Given(snapshot, Some(_))) if waits(before) => {
                self.is_alone(run, after, snapshot, world, broken);
            }
            (Doc::Given(snapshot, Some(from)), Doc::Given(_, to))
                if Some(from) != to.as_ref() && would_start(from, &snapshot.target, world) =>
            {
                broken.note(Promise::LeftAlone, format!("{run} was taken from {}", from.1));
            }
            (Doc::Given(_, from), Doc::Execution(execution, Some(client)))
                if execution.status == Status::Running
                    && (from.as_ref() != Some(client) || !is_registered(client, world)) =>
            {
                let what = format!("{run} was claimed by {} of {by:?}", client.1);
                broken.note(Promise::ClaimedByTheRegistered, what);
            }
            (Doc::Execution(was, Some(client)), Doc::Execution(is, _))
                if was.status == Status::Running
                    && is.outcome == Some(Outcome::Lost)
                    && by.is_some_and(|writer| writer.is_node())
                    && is_registered(client, world) =>
            {
                broken.note(Promise::LeftAlone, format!("{run} is called lost, but {} is there", client.1));
            }
            (Doc::Given(_, None), Doc::Spread(spread)) => self.tells_true(run, None, spread, broken),
            (Doc::Spread(was), Doc::Spread(is)) => self.tells_true(run, Some(was), is, broken),
            (Doc::Spread(spread), Doc::Execution(ended, None)) => {
                self.parts_are_over(run, spread, ended.outcome, broken);
            }
            (Doc::Spread(_), _) | (_, Doc::Spread(_)) => {
                broken.note(Promise::CreatedOnce, format!("{run}: a broadcast out of turn"));
            }
            (Doc::Execution(was, _), Doc::Execution(is, _))
                if was.status != Status::Running
                    && (was.outcome != is.outcome || was.status != is.status || was.result != is.result) =>
            {
                let what = format!("{run} was {:?} and is {:?}", was.outcome, is.outcome);
                broken.note(Promise::EndStays, what);
            }
            (Doc::Execution(..), Doc::Execution(is, _)) if is.decided && run.shard().is_some() => {
                self.is_noted(run, broken);
            }
            (Doc::Execution(..), Doc::Delay | Doc::Given(..)) => {
                broken.note(Promise::CreatedOnce, format!("{run} came back"));
            }
            _ => {}
        }
    }

    /// A handler began.
    pub(super) fn started(&mut self, run: &RunId, token: i64, broken: &mut Broken) {
        let earlier = (1..run.attempt()).filter_map(|attempt| self.started.get(&run.with_attempt(attempt)));
        if let Some(larger) = earlier.copied().find(|earlier| *earlier >= token) {
            broken.note(Promise::StartedOnce, format!("{run} has token {token} after {larger}"));
        }
        if self.started.insert(run.clone(), token).is_some() {
            broken.note(Promise::StartedOnce, format!("{run} was started twice"));
        }
    }
}

fn registration<'a>(seat: &Seat, world: &World<'a>) -> Option<&'a [u8]> {
    world.store.get(&world.keys.client(&seat.0, &seat.1)).map(|stored| stored.value.as_slice())
}

fn is_registered(seat: &Seat, world: &World<'_>) -> bool {
    registration(seat, world).is_some()
}

fn would_start(seat: &Seat, target: &TargetName, world: &World<'_>) -> bool {
    let drained = world.store.contains_key(&world.keys.drain(&seat.0, &seat.1));
    registration(seat, world).and_then(ClientRecord::read).is_some_and(|client| {
        !client.draining && !drained && client.targets.as_ref().is_none_or(|targets| targets.contains(target))
    })
}
