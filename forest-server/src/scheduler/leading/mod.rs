//! The leader's duties: they come into being with a term and end with it, as one value.
//!
//! * [`lanes`]: for each segment one transaction at a time decides what is due. While it is in flight the next
//!   fires gather.
//! * [`looks`]: runs that changed, requests, and what a timer or the slow scan brings up are looked at one by
//!   one; their transactions are independent of each other and go out in batches. No two are ever in flight
//!   for one run.
//!
//! Before any of that comes the [roll call](crate::core::roll).

mod joins;
mod lanes;
mod looks;
mod sender;
#[cfg(test)]
mod tests;
mod unsure;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use forest_etcd::{Change, Tasks, Txn};
use forest_proto::{Keyspace, RunId, Segment};

use super::election::GivingUp;
use super::settled::Handout;
use super::{Answer, SchedulerConfig, Subject};
use crate::core::compose::Defaults;
use crate::core::dispatch::Batch;
use crate::core::roll::{Roll, RollCall};
use crate::core::routing::{Promise, Router};
use crate::core::step_down;
use crate::core::steps::Gone;
use crate::core::term::Term;
use crate::core::view::{Now, View};
use joins::Joins;
use lanes::Lane;
pub(super) use sender::Sender;
pub(super) use unsure::Counted;
use unsure::Unsure;

/// Pause after etcd refused a transaction for a reason of its own.
const AFTER_ERROR: Duration = Duration::from_secs(1);
/// A view that is so long behind the campaign is listed again.
const VIEW_PATIENCE: Duration = Duration::from_millis(500);
/// The time to live of a client's lease where the client did not say.
const CLIENT_TTL: Duration = Duration::from_secs(5);

pub(super) struct Leading {
    pub(super) term: Term,
    pub(super) lease: i64,
    /// Once somebody has asked for it, and then to the end of the term.
    pub(super) giving_up: Option<GivingUp>,
    defaults: Defaults,
    router: Router,
    lanes: Vec<Lane>,
    gone: Gone,
    /// Segments with a request in flight that moves the cursor, which their lane must not do beside it.
    requesting: BTreeMap<Segment, Subject>,
    /// Such requests that wait for their lane.
    deferred: BTreeSet<(Segment, Subject)>,
    /// Lanes that gave way to a request: the next turn is theirs.
    gave_way: BTreeSet<Segment>,
    /// Steps that count ends in one document, one after the other.
    joins: Joins,
    lost_grace: Duration,
    pub(super) settled: Handout,
    /// Whether the view has all that was before the term, and everything in it was marked.
    ready: bool,
    roll: RollCall,
    /// When the campaign was won.
    since: Duration,
    steps_in_flight: usize,
    /// What has a transaction in flight, or a pause.
    busy: BTreeSet<Subject>,
    /// Requests, and what is not a run, to look at.
    requests: BTreeSet<Subject>,
    /// Committed, but not in the view yet.
    awaited: BTreeMap<(i64, Subject), Option<Promise>>,
    unsure: Unsure,
    again: BTreeSet<(Duration, Subject)>,
    /// How often a step was refused since it last was not.
    refusals: BTreeMap<Subject, u32>,
    /// The last revision that etcd acknowledged before the view had it, and since when that is so.
    ahead: Option<(i64, Duration)>,
    /// Whether steps are refused so often that something must be missing in the view.
    doubts_steps: bool,
    next_scan: Duration,
}

/// What to send to etcd.
#[derive(Default)]
pub(super) struct Duties {
    batches: Vec<Batch>,
    steps: Vec<Vec<(Subject, Option<Counted>, Txn)>>,
    reads: Vec<(RunId, String)>,
    /// Cursors to read again, after an answer was lost.
    pub(super) unclear: Vec<Segment>,
}

impl Leading {
    pub(super) fn new(term: Term, lease: i64, config: &SchedulerConfig, now: Now) -> Self {
        Self {
            router: Router::of_term(&term, now.boot),
            term,
            lease,
            giving_up: None,
            defaults: config.defaults.clone(),
            lanes: vec![Lane::Ready; config.segments.get()],
            gone: Gone::new(),
            requesting: BTreeMap::new(),
            deferred: BTreeSet::new(),
            gave_way: BTreeSet::new(),
            joins: Joins::default(),
            lost_grace: config.lost_grace,
            settled: Handout::default(),
            ready: false,
            roll: RollCall::default(),
            since: now.boot,
            steps_in_flight: 0,
            busy: BTreeSet::new(),
            requests: BTreeSet::new(),
            awaited: BTreeMap::new(),
            unsure: Unsure::default(),
            again: BTreeSet::new(),
            refusals: BTreeMap::new(),
            ahead: None,
            doubts_steps: false,
            next_scan: now.boot,
        }
    }

    pub(super) fn term_number(&self) -> i64 {
        self.term.number()
    }

    /// For how long this node is to leave the leadership to others, if somebody asked it to.
    pub(super) fn asked_to_step_down(&self, view: &View) -> Option<Duration> {
        step_down::asked(view, &self.term)
    }

    pub(super) fn resignation(&self, keys: &Keyspace) -> Txn {
        step_down::resignation(keys, &self.term)
    }

    /// Whether the view must be listed again; asked once.
    pub(super) fn takes_doubts(&mut self, view: &View, now: Now) -> bool {
        // A watch that fell silent is noticed only after a while, and until then nobody would dispatch.
        let behind = view.revision() < self.term.number() || !self.roll.is_under_way();
        let kept_waiting = !self.ready && behind && now.boot >= self.since + VIEW_PATIENCE;
        let lacking = !self.ready && self.roll.is_lacking();
        self.ahead = self.ahead.filter(|(revision, _)| *revision > view.revision());
        let silent = self.ahead.is_some_and(|(_, since)| now.boot >= since + VIEW_PATIENCE);
        std::mem::take(&mut self.doubts_steps) | kept_waiting | lacking | silent | view.jobs.is_doubted()
    }

    /// etcd has written something of ours at this revision: the view must show it soon.
    pub(super) fn acknowledged(&mut self, revision: i64, now: Now) {
        self.ahead.get_or_insert((revision, now.boot));
    }

    /// Sees a change before the view does.
    pub(super) fn note(&mut self, change: &Change) {
        if !self.ready {
            self.roll.note(change);
        }
    }

    pub(super) fn rolled(&mut self, roll: Option<Roll>) {
        match roll {
            Some(roll) => self.roll.answered(roll),
            None => self.roll.failed(),
        }
    }

    pub(super) fn leads(&self, term: i64) -> bool {
        self.term.number() == term
    }

    /// Decides all that can be decided now.
    pub(super) fn drive(&mut self, view: &mut View, now: Now, held: bool) -> Duties {
        let mut duties = Duties::default();
        if !self.ready {
            // No run of an earlier term can come after this revision.
            let caught_up = view.revision() >= self.term.number();
            if !caught_up || !self.roll.is_over(view, self.term.number()) {
                return duties;
            }
            self.roll = RollCall::default();
            self.take_over(view, now);
        }
        self.router.set_time(now.boot);
        self.settled.let_go(view.revision());
        self.let_go_of_awaited(view);
        let settled = self.unsure.settled(view, now.boot);
        self.let_go(view, settled);
        self.take_touched(view, now);
        self.take_timers(view, now);
        if !held {
            self.dispatch(view, now, &mut duties);
        }
        self.step(view, now, &mut duties);
        duties
    }

    /// Whatever happened before this term is looked at once.
    fn take_over(&mut self, view: &View, now: Now) {
        self.ready = true;
        self.next_scan = now.boot;
        self.miss_clients(view, now);
        tracing::info!(
            term = self.term.number(),
            jobs = view.jobs.len(),
            runs = view.runs.len(),
            clients = view.clients.len(),
            "took over"
        );
    }

    pub(super) fn until_next(&self, view: &View, now: Now, held: bool) -> Duration {
        let until_wall = |at: i64| Duration::from_millis(u64::try_from(at - now.wall_ms).unwrap_or(0));
        let until_boot = |at: &Duration| at.saturating_sub(now.boot);
        // Lanes that may do nothing wait for an event, whatever time it is.
        let lanes = view.jobs.segments().filter(|segment| !held && !view.jobs.segment(*segment).is_doubted());
        let fires = lanes.filter_map(|segment| match self.lanes[segment.index()] {
            // What is due already waits for something else, whose end is an event.
            Lane::Ready => {
                view.jobs.segment(segment).next_due().map(until_wall).filter(|wait| !wait.is_zero())
            }
            Lane::Paused { until } | Lane::Unclear { until } => Some(until_boot(&until)),
            _ => None,
        });
        let delay = view.runs.delays().map(|(at, _)| until_wall(*at)).find(|wait| !wait.is_zero());
        let deadline = view.runs.deadlines().map(|(at, _)| until_wall(*at + 1)).find(|wait| !wait.is_zero());
        let again = self.again.first().map(|(at, _)| until_boot(at));
        let gone = self.gone.values().map(until_boot).filter(|wait| !wait.is_zero()).min();
        let rate = self.router.reopens_at(view).as_ref().map(until_boot);
        fires.chain(rate).chain(delay).chain(deadline).chain(again).chain(gone).min().unwrap_or(Duration::MAX)
    }
}

impl Duties {
    /// Sends everything, each as a task whose answer comes back.
    pub(super) fn spawn(self, term: i64, sender: &Sender, tasks: &mut Tasks<Answer>) {
        for mut batch in self.batches {
            let sender = sender.clone();
            tasks.spawn(async move {
                let txn = std::mem::take(&mut batch.txn);
                let result = sender.commit(txn).await;
                Answer::Dispatched { term, batch: Box::new(batch), result }
            });
        }
        for batch in self.steps {
            let sender = sender.clone();
            tasks.spawn(async move {
                let (steps, txns): (Vec<_>, Vec<_>) =
                    batch.into_iter().map(|(subject, counted, txn)| ((subject, counted), txn)).unzip();
                let results = sender.commit_all(txns).await;
                Answer::Stepped { term, steps, results }
            });
        }
        for (run, key) in self.reads {
            let store = sender.store().clone();
            tasks.spawn(async move {
                let result = store.get(&key).await;
                Answer::Read { term, run, result }
            });
        }
    }
}
