//! What is due in a segment, decided in the order (fire time, job) and cut into one transaction.
//!
//! The transaction moves the cursor to the last fire that it decides, and is guarded by the term, by the
//! cursor it starts from and by the generation of the jobs it was decided on. So every fire is decided
//! by exactly one committed transaction, whoever computes it and how often.
//!
//! Fires that are later than the threshold are not looked at one by one: what a job missed is counted, and
//! costs one record however long the time was. Fires that are skipped because a run is alive are counted minute by
//! minute ([`skips`](super::skips)).

mod counting;

use std::collections::{BTreeMap, BTreeSet};
use std::iter::Peekable;

use forest_etcd::Txn;
use forest_proto::record::{Cursor, Execution, Job, Misfire, Outcome, Sweep, encode};
use forest_proto::time::Instant;
use forest_proto::{JobId, RunId, Segment};

use super::compose::{Composer, Occasion};
use super::jobs::{PlannedJob, SegmentJobs};
use super::overlap::{self, Admission, Undecided};
use super::routing::{Promise, Router};
use super::runs::{Place, Run};
use super::skips::{Counters, SkippedFire};
use super::view::View;

/// etcd takes 128 operations; the cursor is one, and a little room is left.
const MAX_PUTS: usize = 120;
/// A batch is closed when its documents are this long together. Two more, a fire and the record of what was counted
/// before it, can have 64 KiB of parameters each, which JSON may write six times as long; etcd takes 1.5 MiB.
const MAX_BYTES: usize = 640 * 1024;
/// How far the cursor of an idle segment may be behind.
const REFRESH_EVERY_MS: i64 = 60_000;
/// What a record of skipped fires has beside what it takes from the document of its job.
const RECORD_BYTES: usize = 1024;
/// When so many jobs have missed fires, a segment is swept: a batch in the order of the fires would be cut after
/// the first fires of some of them, again and again.
const SWEEP_FROM: usize = MAX_PUTS / 2;

/// One transaction's worth of decisions.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) segment: Segment,
    pub(crate) txn: Txn,
    pub(crate) cursor: Cursor,
    /// The revision of the cursor that it compares.
    pub(crate) compares: i64,
    /// The runs it creates; their revision is known once it has committed.
    pub(crate) created: Vec<(RunId, Run)>,
    /// Places promised by the router.
    pub(crate) promised: Vec<Promise>,
}

/// The first cursor of a segment: at now, never at zero.
pub(crate) fn first_cursor(view: &View, composer: &Composer<'_>, segment: Segment) -> Option<Batch> {
    if view.jobs.segment(segment).decided().is_some() {
        return None;
    }
    let term = composer.term.number();
    let cursor = Cursor::at(composer.now(), "", term);
    let key = view.keys.cursor(segment);
    let txn = composer.term.txn().absent(key.clone()).put(key, encode(&cursor));
    Some(Batch { segment, txn, cursor, compares: 0, created: Vec::new(), promised: Vec::new() })
}

/// A cursor that stands still is moved along once a minute, so that a job which another program stores does not
/// seem to have missed what was before it.
pub(crate) fn refresh(view: &View, composer: &Composer<'_>, segment: Segment) -> Option<Batch> {
    let jobs = view.jobs.segment(segment);
    let decided = jobs.decided().filter(|decided| decided.sweep.is_none())?;
    let idle = jobs.next_due().is_none_or(|at| at > composer.now_ms);
    if !idle || composer.now_ms - decided.fire_ms < REFRESH_EVERY_MS {
        return None;
    }
    let (now, term) = (composer.now(), composer.term.number());
    let cursor = Cursor::at(now, "", term);
    let mut router = Router::seeded(0, std::time::Duration::ZERO);
    Decider::new(view, &mut router, composer, jobs).batch(segment, cursor)
}

/// What is due now, and counters of skipped fires that were left over; `None` if nothing is.
pub(crate) fn decide(
    view: &View,
    router: &mut Router,
    composer: &Composer<'_>,
    segment: Segment,
) -> Option<Batch> {
    let jobs = view.jobs.segment(segment);
    if let Some(sweep) = sweep(jobs, composer) {
        let mut decider = Decider::new(view, router, composer, jobs);
        let cursor = decider.sweep(&sweep)?;
        return decider.batch(segment, cursor);
    }
    if jobs.next_due().is_none_or(|at| at > composer.now_ms) && !jobs.has_left_over() {
        return None;
    }
    let mut decider = Decider::new(view, router, composer, jobs);
    decider.close_left_over();
    decider.run();
    decider.finish(segment)
}

/// The sweep that goes on, or has to begin.
fn sweep(jobs: &SegmentJobs, composer: &Composer<'_>) -> Option<Sweep> {
    if let Some(sweep) = &jobs.decided()?.sweep {
        return Some(sweep.clone());
    }
    let until = composer.now_ms - composer.defaults.misfire_threshold_ms - 1;
    jobs.fires().take_while(|(at, _)| *at <= until).nth(SWEEP_FROM)?;
    let none = Instant::from_ms(0);
    Some(Sweep { until: Instant::from_ms(until), job: String::new(), fire_at: none })
}

/// A fire to decide: when, whose, and if it stands for missed ones, for how many others.
type Candidate = (i64, JobId, Option<u64>);

/// Fires of a job that are being skipped: from the first one on, and none after the last.
#[derive(Clone, Copy)]
struct Skip {
    first: i64,
    last: i64,
}

struct Decider<'a, I: Iterator<Item = &'a (i64, JobId)>> {
    view: &'a View,
    router: &'a mut Router,
    composer: &'a Composer<'a>,
    jobs: &'a SegmentJobs,
    planned: Peekable<I>,
    /// Further fires of jobs that this batch has already looked at.
    later: BTreeSet<Candidate>,
    skipped: BTreeMap<JobId, Skip>,
    counters: Counters,
    fired: BTreeMap<JobId, Undecided>,
    last: Option<(i64, JobId)>,
    puts: Vec<(String, Vec<u8>)>,
    bytes: usize,
    created: Vec<(RunId, Run)>,
    promised: Vec<Promise>,
}

impl<'a> Decider<'a, Box<dyn Iterator<Item = &'a (i64, JobId)> + 'a>> {
    fn new(
        view: &'a View,
        router: &'a mut Router,
        composer: &'a Composer<'a>,
        jobs: &'a SegmentJobs,
    ) -> Self {
        let planned: Box<dyn Iterator<Item = &'a (i64, JobId)> + 'a> = Box::new(jobs.fires());
        Self {
            view,
            router,
            composer,
            jobs,
            planned: planned.peekable(),
            later: BTreeSet::new(),
            skipped: BTreeMap::new(),
            counters: jobs
                .decided()
                .map_or_else(Counters::default, |decided| Counters::of(&decided.skips, composer.now_ms)),
            fired: BTreeMap::new(),
            last: None,
            puts: Vec::new(),
            bytes: 0,
            created: Vec::new(),
            promised: Vec::new(),
        }
    }

    fn run(&mut self) {
        while !self.is_full()
            && let Some((at, id, missed)) = self.next_candidate()
        {
            self.last = Some((at, id.clone()));
            let Some(job) = self.jobs.get(&id) else { continue };
            self.candidate(at, id, missed, job);
        }
    }

    fn is_full(&self) -> bool {
        self.puts.len() + self.skipped.len() >= MAX_PUTS || self.bytes >= MAX_BYTES
    }

    fn next_candidate(&mut self) -> Option<Candidate> {
        let planned = self.planned.peek().map(|(at, id)| (*at, id));
        let later = self.later.first().map(|(at, id, _)| (*at, id));
        let from_later = match (planned, later) {
            (Some(planned), Some(later)) => later < planned,
            (None, Some(_)) => true,
            (_, None) => false,
        };
        let due = if from_later { later } else { planned }.is_some_and(|(at, _)| at <= self.composer.now_ms);
        if !due {
            return None;
        }
        if from_later {
            self.later.pop_first()
        } else {
            self.planned.next().map(|(at, id)| (*at, id.clone(), None))
        }
    }

    /// The fires before this instant are missed.
    fn missed_before(&self, job: &PlannedJob) -> i64 {
        let threshold =
            job.misfire_threshold_ms.map_or(self.composer.defaults.misfire_threshold_ms, i64::from);
        self.composer.now_ms - threshold
    }

    fn candidate(&mut self, at: i64, id: JobId, missed: Option<u64>, job: &PlannedJob) {
        let Some(timing) = &job.timing else { return };
        let horizon = self.missed_before(job);
        if missed.is_some() || at >= horizon {
            if missed.is_some() && job.misfire == Misfire::FireOnce {
                self.skipped.remove(&id);
            }
            self.fire(at, &id, missed, job);
            let next = timing.next_after(at);
            let each = job.misfire == Misfire::FireAll && next.is_some_and(|next| next < horizon);
            self.plan_later(next, id, each.then_some(0));
            return;
        }
        match job.misfire {
            Misfire::FireOnce => {
                let (count, last) = timing.count_between(at - 1, horizon - 1);
                self.plan_later(last, id.clone(), Some(count.saturating_sub(1)));
                // Should the batch end before that run, what was missed until then is recorded like this.
                self.skip(id, Skip { first: at, last: horizon - 1 }, job);
            }
            Misfire::FireAll => {
                let start = timing.start_of_last(job.misfire_cap.into(), at - 1, horizon - 1);
                if start > at {
                    self.skip(id.clone(), Skip { first: at, last: start - 1 }, job);
                }
                self.plan_later(timing.next_after(start.max(at) - 1), id, Some(0));
            }
            Misfire::Skip => {
                self.plan_later(timing.next_after(horizon - 1), id.clone(), None);
                self.skip(id, Skip { first: at, last: horizon - 1 }, job);
            }
        }
    }

    fn skip(&mut self, id: JobId, skip: Skip, job: &PlannedJob) {
        self.close_counter(&id);
        self.bytes += job.bytes() + RECORD_BYTES;
        self.skipped.insert(id, skip);
    }

    /// Goes on with a sweep; says where the cursor is then.
    fn sweep(&mut self, sweep: &Sweep) -> Option<Cursor> {
        let until = sweep.until.as_ms();
        let mut position = None;
        for (id, job) in self.jobs.jobs_from(&sweep.job) {
            let due = job.next_ms().is_some_and(|at| at <= until);
            if self.is_full() {
                break;
            }
            let done = if due { self.sweep_job(id, job, until) } else { until };
            position = Some((id.to_string(), done));
            if done < until {
                break;
            }
        }
        let (term, decided) = (self.composer.term.number(), self.jobs.decided()?);
        if !self.is_full() {
            let fire_at = Instant::from_ms(until + 1);
            return Some(Cursor::at(fire_at, "", term));
        }
        let (job, done) = position?;
        let sweep = Sweep { until: sweep.until, job, fire_at: Instant::from_ms(done) };
        let cursor = Cursor { sweep: Some(sweep), ..decided.cursor(term) };
        (decided.sweep != cursor.sweep).then_some(cursor)
    }

    /// The fires of one job up to an instant; says up to where there was room.
    fn sweep_job(&mut self, id: &JobId, job: &PlannedJob, until: i64) -> i64 {
        let Some(timing) = &job.timing else { return until };
        let mut next = job.next_ms();
        let mut missed_until = until.min(self.missed_before(job) - 1);
        if job.misfire == Misfire::FireAll
            && let Some(first) = next.filter(|at| *at <= missed_until)
        {
            // Only what is beyond the cap is skipped; the rest is fired one by one.
            missed_until = timing.start_of_last(job.misfire_cap.into(), first - 1, missed_until) - 1;
        }
        if let Some(first) = next.filter(|at| *at <= missed_until)
            && let (count, Some(last)) = timing.count_between(first - 1, missed_until)
        {
            match job.misfire {
                Misfire::FireOnce => self.fire(last, id, Some(count - 1), job),
                Misfire::Skip | Misfire::FireAll => {
                    self.close_counter(id);
                    self.record_skip(id, Skip { first, last: missed_until }, until);
                }
            }
            next = timing.next_after(last);
        }
        let mut done = missed_until;
        while let Some(at) = next.filter(|at| *at <= until) {
            if self.is_full() {
                return done;
            }
            let late = job.misfire == Misfire::FireAll && at < self.missed_before(job);
            self.fire(at, id, late.then_some(0), job);
            done = at;
            next = timing.next_after(at);
        }
        until
    }

    fn plan_later(&mut self, at: Option<i64>, id: JobId, missed: Option<u64>) {
        if let Some(at) = at {
            self.later.insert((at, id, missed));
        }
    }

    fn fire(&mut self, at: i64, id: &JobId, missed: Option<u64>, planned: &PlannedJob) {
        let Some(job) = planned.job() else { return };
        let run = RunId::scheduled(id, Instant::from_ms(at), 1);
        let mut snapshot = self.composer.snapshot(&job, Occasion::fire(run.clone(), missed));
        snapshot.followed = self.view.jobs.followers().has(&job.id);
        let batch = self.fired.entry(id.clone()).or_default();
        match overlap::admit(planned, &self.view.runs, id, None, *batch) {
            Admission::Start => batch.started = true,
            Admission::Wait => {
                batch.waiting += 1;
                snapshot.waits = true;
            }
            Admission::Skip(why) => {
                let fire = SkippedFire { id, at, why, job: planned };
                return self.skip_fire(&fire, &job, snapshot);
            }
        }
        self.close_counter(id);
        let keys = &self.view.keys;
        let promised = match snapshot.waits {
            false => self.router.pick_new(self.view, &snapshot),
            true => None,
        };
        let (key, place) = match promised {
            Some(promise) => {
                let seat = &promise.seat;
                snapshot.ip = seat.1.to_string();
                let key = keys.snapshot(&job.group, &seat.1, &run);
                let place = Place::queued(seat.1.clone(), &snapshot);
                self.promised.push(promise);
                (key, place)
            }
            None => (keys.pending(&job.group, &run), Place::pending(&snapshot)),
        };
        let value = encode(&snapshot);
        self.create(run, place, job, value.clone());
        self.put(key, value);
    }

    fn put_decision(&mut self, job: &Job, execution: &Execution) {
        let run = execution.snapshot.id.clone();
        let value = encode(execution);
        self.put(self.view.keys.execution(&job.group, None, &run), value.clone());
        let group = job.group.clone();
        let run_now = Run {
            group,
            place: Place::ended(None, execution),
            revision: 0,
            created: 0,
            listing: 0,
            value: Some(value.into()),
        };
        self.created.push((run, run_now));
    }

    fn create(&mut self, run: RunId, place: Place, job: Job, value: Vec<u8>) {
        let run_now =
            Run { group: job.group, place, revision: 0, created: 0, listing: 0, value: Some(value.into()) };
        self.created.push((run, run_now));
    }

    fn put(&mut self, key: String, value: Vec<u8>) {
        self.bytes += key.len() + value.len();
        self.puts.push((key, value));
    }

    /// How far the batch decides: to the last fire it took, or, when nothing due is left, to the last one it
    /// skipped. `None`: it decides no fire.
    fn reach(&self, cut: bool) -> Option<(i64, JobId)> {
        let last = self.last.clone()?;
        if cut {
            return Some(last);
        }
        let skipped = self.skipped.iter().filter_map(|(id, skip)| {
            let (_, last) = self.count_skipped(id, *skip, i64::MAX)?;
            Some((last, id.clone()))
        });
        skipped.chain([last]).max()
    }

    fn count_skipped(&self, id: &JobId, skip: Skip, until: i64) -> Option<(u64, i64)> {
        let timing = self.jobs.get(id)?.timing.as_ref()?;
        let (count, last) = timing.count_between(skip.first - 1, until.min(skip.last));
        Some((count, last?))
    }

    fn finish(mut self, segment: Segment) -> Option<Batch> {
        let cut = self.is_full();
        let (decided, term) = (self.jobs.decided()?, self.composer.term.number());
        let Some((at, id)) = self.reach(cut) else {
            let cursor = decided.cursor(term);
            return if self.puts.is_empty() { None } else { self.batch(segment, cursor) };
        };
        for (skipped, skip) in std::mem::take(&mut self.skipped) {
            let until = if skipped <= id { at } else { at - 1 };
            self.record_skip(&skipped, skip, until);
        }
        self.batch(segment, Cursor::at(Instant::from_ms(at), id.as_str(), term))
    }

    fn batch(self, segment: Segment, mut cursor: Cursor) -> Option<Batch> {
        let decided = self.jobs.decided()?;
        cursor.skips = self.counters.into_document();
        let (cursor_key, jobgen_key) = (self.view.keys.cursor(segment), self.view.keys.jobgen(segment));
        let mut txn = self.composer.term.txn();
        txn = txn
            .modified(cursor_key.clone(), decided.revision)
            .modified(jobgen_key.clone(), self.jobs.jobgen());
        txn = txn.or_get(self.view.keys.leader()).or_get(cursor_key.clone()).or_get(jobgen_key);
        for (key, value) in self.puts {
            txn = txn.put(key, value);
        }
        txn = txn.put(cursor_key, encode(&cursor));
        let compares = decided.revision;
        Some(Batch { segment, txn, cursor, compares, created: self.created, promised: self.promised })
    }

    /// One record for all that a job missed, under the id of the last of those fires.
    fn record_skip(&mut self, id: &JobId, skip: Skip, until: i64) {
        let Some(job) = self.jobs.get(id).and_then(PlannedJob::job) else { return };
        let Some((count, last)) = self.count_skipped(id, skip, until) else { return };
        let run = RunId::scheduled(id, Instant::from_ms(last), 1);
        let mut snapshot = self.composer.snapshot(&job, Occasion::fire(run, None));
        snapshot.missed_fires = count - 1;
        let why = format!(
            "{count} fire(s) from {} on were later than the misfire threshold",
            Instant::from_ms(skip.first)
        );
        let execution = self.composer.never_started(snapshot, Outcome::MisfireSkipped, &why);
        self.put_decision(&job, &execution);
    }
}
