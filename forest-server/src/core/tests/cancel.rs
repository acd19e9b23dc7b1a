//! A run that somebody cancels, in whatever order everything else happens to it.
//!
//! A story is a list of moves: the leader gives the run, takes the request, settles, is replaced by another; a client
//! claims, ends it, follows the request, vanishes. Each transaction arrives at once, later, or twice. However a story
//! goes, once it is over each attempt has one settled end, nothing is left of the request, and no attempt comes
//! after one that was cancelled.

use forest_etcd::{Change, Txn};
use forest_proto::record::{Execution, Job, OnLost, Outcome, Overlap, RequestKind, decode};
use forest_proto::{Key, RunId};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::guards::{Kind, REQUEST, TERM, matches};
use super::leader::Leader;
use super::world::World;
use super::{SECOND, job};
use crate::core::compose::Composer;
use crate::core::runs::Place;
use crate::core::steps::{Situation, Step};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Move {
    /// The leader hears of so many revisions.
    Hears(usize),
    /// The leader creates the run, or brings it to a client.
    Gives,
    Claims,
    Completes(Outcome),
    AsksForCancel,
    TakesCancel,
    /// The client stops because it was asked to.
    Follows,
    Vanishes,
    Comes,
    Passes,
    /// The leader looks at what runs and what has ended: lost, or to be settled.
    Settles,
    AnotherLeads,
    /// Something that was sent before arrives, again or at last.
    Arrives(usize),
}

/// How a transaction arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Once,
    Twice,
    /// Not before it [`Move::Arrives`], or at the end.
    Later,
}

/// A guard that the leader's transactions lack.
type Missing = Option<(&'static str, Kind)>;

struct Play {
    world: World,
    leader: Leader,
    sent: Vec<Txn>,
    missing: Missing,
    run: RunId,
    clients: u32,
}

impl Play {
    fn begin(overlap: Overlap, missing: Missing) -> Self {
        let (mut world, mut leader) = Leader::of_one_segment();
        world.register("c-1", 4);
        let retries = Job {
            overlap,
            max_attempts: 3,
            on_lost: OnLost::Retry,
            retry_delays_ms: vec![5_000],
            ..job("a", "0 0 0 1 7 *")
        };
        world.save(&retries);
        let run = world.ask_run("a");
        leader.catch_up(&world);
        Self { world, leader, sent: Vec::new(), missing, run, clients: 1 }
    }

    fn send(&mut self, txn: Txn, way: Way) {
        let times = [Way::Later, Way::Once, Way::Twice].iter().position(|of| *of == way).unwrap();
        (0..times).for_each(|_| drop(self.world.commit(&txn)));
        self.sent.push(txn);
    }

    fn lead(&mut self, step: Step, way: Way) {
        let Step::Commit(planned) = step else { return };
        self.leader.release(&planned);
        let mut txn = planned.txn;
        txn.guards.retain(|guard| self.missing.is_none_or(|missing| !matches(guard, missing)));
        self.send(txn, way);
    }

    fn requests(&mut self, kind: RequestKind, way: Way) {
        let open: Vec<_> = self.leader.view.requests.iter().map(|(id, of)| (id.clone(), of.kind)).collect();
        for (id, _) in open.into_iter().filter(|(_, of)| *of == kind) {
            let step = self.leader.look_at_request(&self.world, &id);
            self.lead(step, way);
        }
    }

    fn runs(&mut self, way: Way, is: impl Fn(&Place) -> bool) {
        let here = self.leader.view.runs.iter().filter(|(_, run)| is(&run.place));
        let mut here: Vec<_> = here.map(|(id, _)| id.clone()).collect();
        here.sort_unstable();
        for run in here {
            if let Some(planned) = self.leader.plan(&self.world, &run) {
                self.lead(Step::Commit(planned), way);
            }
        }
    }

    /// Requests to stop that are left over.
    fn clean(&mut self, way: Way) {
        let cancels: Vec<_> = self.leader.view.cancels.iter().map(|(id, ())| id.clone()).collect();
        for cancel in cancels {
            let Leader { term, view, gone, .. } = &self.leader;
            let composer = Composer { term, defaults: &self.world.defaults, now_ms: self.world.now_ms };
            let step = Situation { view, composer, gone, boot: self.world.boot }.of_cancel(&cancel);
            self.lead(step, way);
        }
    }

    /// The newest attempt that there is anything of.
    fn newest(&self) -> RunId {
        let attempts = (1..=3).rev().map(|attempt| self.run.with_attempt(attempt));
        attempts.into_iter().find(|run| !self.world.places(run).is_empty()).unwrap_or(self.run.clone())
    }

    fn makes(&mut self, what: Move, way: Way) {
        match what {
            Move::Hears(revisions) => self.leader.see(&self.world, revisions),
            Move::Gives => {
                self.requests(RequestKind::Run, way);
                let unstarted = |at: &Place| {
                    matches!(at, Place::Delayed { .. } | Place::Pending { .. } | Place::Queued { .. })
                };
                self.runs(way, unstarted);
            }
            Move::Claims => {
                let claims = self.world.given();
                let claims = claims.iter().filter_map(|(seat, run)| self.world.claim_txn(seat, run));
                claims.collect::<Vec<_>>().into_iter().for_each(|txn| self.send(txn, way));
            }
            Move::Completes(outcome) => self.end_runs(way, |_| Some(outcome)),
            Move::Follows => self.end_runs(way, |asked| asked.then_some(Outcome::Cancelled)),
            Move::AsksForCancel => self.world.ask_cancel(&self.newest()),
            Move::TakesCancel => self.requests(RequestKind::Cancel, way),
            Move::Vanishes => self.world.vanish(&format!("c-{}", self.clients)),
            Move::Comes => {
                self.clients += 1;
                self.world.register(&format!("c-{}", self.clients), 4);
            }
            Move::Passes => self.world.pass(8 * SECOND),
            Move::Settles => {
                self.runs(way, |at| matches!(at, Place::Running { .. } | Place::Ended { .. }));
                self.clean(way);
            }
            Move::AnotherLeads => self.leader = Leader::elect(&mut self.world),
            Move::Arrives(number) => {
                if let Some(txn) = self.sent.get(number % self.sent.len().max(1)).cloned() {
                    self.world.commit(&txn);
                }
            }
        }
    }

    /// Clients end what they run; the closure is told whether somebody asked for that.
    fn end_runs(&mut self, way: Way, outcome: impl Fn(bool) -> Option<Outcome>) {
        for (seat, run) in self.world.running() {
            let cancel = self.world.keys.cancel(&seat.0, &seat.1, &run);
            let asked = self.world.etcd.get(&cancel).is_some();
            let Some(outcome) = outcome(asked) else { continue };
            let Some(txn) = self.world.complete_txn(&seat, &run, outcome) else { continue };
            // Who follows a request takes it away.
            self.send(if outcome == Outcome::Cancelled { txn.delete(cancel) } else { txn }, way);
        }
    }

    /// Whatever is on its way arrives, and then nothing goes wrong any more.
    fn ends(mut self) -> Result<(), String> {
        std::mem::take(&mut self.sent).iter().for_each(|txn| drop(self.world.commit(txn)));
        self.makes(Move::AnotherLeads, Way::Once);
        self.makes(Move::Comes, Way::Once);
        for _ in 0..8 {
            for what in [Move::TakesCancel, Move::Gives, Move::Claims, Move::TakesCancel, Move::Follows] {
                self.leader.catch_up(&self.world);
                self.makes(what, Way::Once);
            }
            self.makes(Move::Completes(Outcome::Succeeded), Way::Once);
            self.leader.catch_up(&self.world);
            self.makes(Move::Settles, Way::Once);
            self.makes(Move::Passes, Way::Once);
            self.world.collect();
            if self.left().is_none() {
                break;
            }
        }
        self.verdict()
    }

    fn verdict(&self) -> Result<(), String> {
        let audit = &self.world.audit;
        if let Some(broken) = audit.broken.first() {
            return Err(format!("{broken:?}"));
        }
        if audit.created() != audit.ended.len() {
            return Err(format!("{} runs and {} ends", audit.created(), audit.ended.len()));
        }
        match self.left() {
            Some(key) => Err(format!("{key:?} is left")),
            None => self.attempts(),
        }
    }

    /// What must not be there in the end.
    fn left(&self) -> Option<Key> {
        let is_left = |key: &Key| {
            let run = matches!(key, Key::Delay { .. } | Key::Pending { .. } | Key::Snapshot { .. });
            run || matches!(key, Key::Execution { .. } | Key::Cancel { .. } | Key::Request { .. })
        };
        self.world.etcd.all().filter_map(|kv| self.world.keys.parse(&kv.key)).find(is_left)
    }

    /// Reads everything that was ever written.
    fn attempts(&self) -> Result<(), String> {
        let mut settled = std::collections::BTreeMap::<RunId, u32>::new();
        let mut stops = std::collections::BTreeSet::new();
        for (_, changes) in self.world.etcd.after(0) {
            let mut begun = Vec::new();
            let before = stops.clone();
            for change in changes {
                let (Change::Put(forest_etcd::KeyValue { key, .. }) | Change::Deleted { key, .. }) = change
                else {
                    continue;
                };
                match (self.world.keys.parse(key), change) {
                    (Some(Key::Execution { run, .. }), Change::Put(kv)) => {
                        let is_settled = decode::<Execution>(&kv.value).unwrap().decided;
                        *settled.entry(run).or_default() += u32::from(is_settled);
                    }
                    (Some(Key::Cancel { run, .. }), Change::Put(_)) => drop(stops.insert(run)),
                    (Some(Key::Cancel { run, .. }), _) => drop(stops.remove(&run)),
                    (Some(Key::Delay { run, .. }), Change::Put(_)) => begun.push(run),
                    _ => {}
                }
            }
            for run in begun {
                let earlier = run.with_attempt(run.attempt() - 1);
                if before.contains(&earlier) {
                    return Err(format!("{run}, although {earlier} was asked to stop"));
                }
            }
        }
        if let Some((run, times)) = settled.iter().find(|(_, times)| **times != 1) {
            return Err(format!("{run} was settled {times} times"));
        }
        let ended = &self.world.audit.ended;
        let followed = |run: &&RunId| ended[*run].outcome == Some(Outcome::Cancelled);
        let after = |run: &RunId| ended.contains_key(&run.with_attempt(run.attempt() + 1));
        match ended.keys().filter(followed).find(|run| after(run)) {
            Some(run) => Err(format!("{run} was cancelled, and tried again")),
            None => Ok(()),
        }
    }
}

fn play(overlap: Overlap, missing: Missing, moves: &[(Move, Way)]) -> Result<(), String> {
    let mut play = Play::begin(overlap, missing);
    moves.iter().for_each(|(what, way)| play.makes(*what, *way));
    play.ends()
}

fn a_move() -> impl Strategy<Value = (Move, Way)> {
    let ends = [Outcome::Succeeded, Outcome::Failed, Outcome::Failed, Outcome::TimedOut];
    let what = prop_oneof![
        4 => (1_usize..4).prop_map(Move::Hears),
        3 => Just(Move::Hears(usize::MAX)),
        4 => Just(Move::Gives),
        4 => Just(Move::Claims),
        2 => select(ends.to_vec()).prop_map(Move::Completes),
        3 => Just(Move::AsksForCancel),
        3 => Just(Move::TakesCancel),
        2 => Just(Move::Follows),
        1 => Just(Move::Vanishes),
        1 => Just(Move::Comes),
        2 => Just(Move::Passes),
        3 => Just(Move::Settles),
        1 => Just(Move::AnotherLeads),
        2 => any::<usize>().prop_map(Move::Arrives),
    ];
    let way = prop_oneof![4 => Just(Way::Once), 1 => Just(Way::Twice), 1 => Just(Way::Later)];
    (what, way)
}

fn a_story() -> impl Strategy<Value = (Overlap, Vec<(Move, Way)>)> {
    (select(&[Overlap::Allow, Overlap::Forbid][..]), prop::collection::vec(a_move(), 4..40))
}

proptest! {
    #![proptest_config(Config { cases: 2_000, failure_persistence: None, ..Config::default() })]
    #[test]
    fn a_cancelled_run_has_one_end_however_the_story_goes((overlap, moves) in a_story()) {
        prop_assert_eq!(play(overlap, None, &moves), Ok(()));
    }
}

/// All orders of a list, by Heap's algorithm.
fn each_order<T>(list: &mut [T], size: usize, visit: &mut impl FnMut(&[T])) {
    if size <= 1 {
        return visit(list);
    }
    for at in 0..size {
        each_order(list, size - 1, visit);
        list.swap(if size.is_multiple_of(2) { at } else { 0 }, size - 1);
    }
}

/// The leader hears of everything before it acts, or of everything but the last revision.
#[test]
fn a_cancelled_run_has_one_end_in_every_order() {
    let mut stories = 0;
    for (outcome, lags) in [(Outcome::Succeeded, 0), (Outcome::Failed, 0), (Outcome::TimedOut, 1)] {
        let mut moves = [
            Move::Gives,
            Move::Claims,
            Move::AsksForCancel,
            Move::TakesCancel,
            Move::Follows,
            Move::Completes(outcome),
            Move::Vanishes,
        ];
        let size = moves.len();
        each_order(&mut moves, size, &mut |order| {
            let mut play = Play::begin(Overlap::Forbid, None);
            for what in order {
                let unheard = play.world.etcd.after(play.leader.view.revision()).len();
                play.makes(Move::Hears(unheard.saturating_sub(lags)), Way::Once);
                play.makes(*what, Way::Once);
            }
            assert_eq!(play.ends(), Ok(()), "{order:?}, {lags} revisions behind");
            stories += 1;
        });
    }
    assert_eq!(stories, 3 * 5_040);
}

#[test]
fn without_any_of_these_guards_a_story_goes_wrong() {
    let guards = [
        TERM,
        REQUEST,
        ("/client/snapshot/", Kind::Modified),
        ("/client/execute/", Kind::Modified),
        ("/client/cancel/", Kind::Created),
        ("/server/delay/", Kind::Modified),
    ];
    for guard in guards {
        let config =
            Config { cases: 20_000, failure_persistence: None, max_shrink_iters: 0, ..Config::default() };
        let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        let stories = std::cell::Cell::new(0);
        let found = TestRunner::new_with_rng(config, rng).run(&a_story(), |(overlap, moves)| {
            stories.set(stories.get() + 1);
            play(overlap, Some(guard), &moves).map_err(TestCaseError::fail)
        });
        let stories = stories.get();
        assert!(found.is_err(), "without {guard:?} nothing goes wrong in {stories} stories");
        println!("{guard:?}: after {stories} stories");
    }
}

#[test]
fn a_story_can_be_told() {
    let way = Way::Once;
    let hears = (Move::Hears(usize::MAX), way);
    let mut play = Play::begin(Overlap::Forbid, None);
    let given = [Move::Gives, Move::Claims, Move::AsksForCancel].map(|what| (what, way));
    given.iter().for_each(|(what, way)| play.makes(*what, *way));
    [hears, (Move::TakesCancel, way)].iter().for_each(|(what, way)| play.makes(*what, *way));
    let (seat, run) = play.world.running().pop().unwrap();
    assert!(play.world.etcd.get(&play.world.keys.cancel(&seat.0, &seat.1, &run)).is_some());
    play.makes(Move::Follows, way);
    assert_eq!(play.world.end_of(&run), Some(Outcome::Cancelled));
    assert_eq!(play.ends(), Ok(()));
}
