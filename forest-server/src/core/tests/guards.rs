//! What each guard is for.
//!
//! Each row tells one story up to a transaction, then something happens, and the transaction comes too late. As
//! it is, etcd refuses it and every promise holds; with the one guard taken away it commits, and the promise of
//! the row is broken.

use forest_etcd::{Change, Guard, Outcome as Committed, Txn};
use forest_proto::record::{Calendar, Job, OnLost, Outcome, Overlap, Routing, Trigger};
use forest_proto::{CalendarName, RunId};

use super::audit::Promise;
use super::dependencies::after;
use super::leader::Leader;
use super::world::{World, client};
use super::{MINUTE, SECOND, START, forbidding, group, id, job, seat};

/// Tells the story; the transaction is ready, and has not been sent.
type Begin = fn() -> (World, Leader, Txn);
/// What happens before the transaction arrives.
type Meanwhile = fn(&mut World, &mut Leader, &Txn);

struct Row {
    name: &'static str,
    begin: Begin,
    meanwhile: Meanwhile,
    /// The guard, by a part of its key and whether it is about the creation of the key.
    guard: (&'static str, Kind),
    breaks: Promise,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    Created,
    Modified,
}

pub(super) fn matches(guard: &Guard, (part, kind): (&str, Kind)) -> bool {
    let is = match guard {
        Guard::Created { .. } => Kind::Created,
        Guard::Modified { .. } => Kind::Modified,
    };
    is == kind && guard.key().contains(part)
}

pub(super) const TERM: (&str, Kind) = ("/elect/leader", Kind::Created);
const CONF: (&str, Kind) = ("/server/conf/", Kind::Modified);
pub(super) const REQUEST: (&str, Kind) = ("/server/request/", Kind::Modified);

#[rustfmt::skip]
const ROWS: &[Row] = &[
    Row { name: "dispatch: the term", begin: due, meanwhile: next_leader, guard: TERM, breaks: Promise::OneTerm },
    Row { name: "dispatch: the cursor", begin: due, meanwhile: applied_and_executed, guard: ("/server/cursor/", Kind::Modified), breaks: Promise::CreatedOnce },
    Row { name: "dispatch: the generation, of a disabled job", begin: due, meanwhile: disabled, guard: ("/server/jobgen/", Kind::Modified), breaks: Promise::NoOldVersion },
    Row { name: "dispatch: the generation, of a new job", begin: due, meanwhile: another_job_is_due, guard: ("/server/jobgen/", Kind::Modified), breaks: Promise::EachFireDecided },
    Row { name: "counters: the term", begin: left_over, meanwhile: next_leader, guard: TERM, breaks: Promise::OneTerm },
    Row { name: "counters: the cursor", begin: left_over, meanwhile: applied_and_collected, guard: ("/server/cursor/", Kind::Modified), breaks: Promise::CreatedOnce },
    Row { name: "first cursor: the term", begin: first_cursor, meanwhile: next_leader, guard: TERM, breaks: Promise::OneTerm },
    Row { name: "first cursor: its absence", begin: first_cursor, meanwhile: led_on, guard: ("/server/cursor/", Kind::Created), breaks: Promise::CursorAdvances },
    Row { name: "retry: the term", begin: retry, meanwhile: next_leader, guard: TERM, breaks: Promise::OneTerm },
    Row { name: "retry: its key", begin: retry, meanwhile: applied_and_executed, guard: ("/server/delay/", Kind::Modified), breaks: Promise::CreatedOnce },
    Row { name: "retry: the job", begin: retry, meanwhile: disabled, guard: CONF, breaks: Promise::NoOldVersion },
    Row { name: "parked: its key", begin: parked, meanwhile: applied_and_claimed, guard: ("/server/pending/", Kind::Modified), breaks: Promise::OnePlace },
    Row { name: "move: the snapshot", begin: stranded, meanwhile: claimed_before, guard: ("/client/snapshot/", Kind::Modified), breaks: Promise::OnePlace },
    Row { name: "move: the registration", begin: stranded, meanwhile: came_back, guard: ("/clients/", Kind::Modified), breaks: Promise::LeftAlone },
    Row { name: "move: that its client is drained", begin: drained, meanwhile: drained_no_more, guard: ("/server/drain/", Kind::Modified), breaks: Promise::LeftAlone },
    Row { name: "lost: the execution", begin: lost, meanwhile: completed, guard: ("/client/execute/", Kind::Modified), breaks: Promise::EndStays },
    Row { name: "lost: the registration", begin: lost, meanwhile: came_back, guard: ("/clients/", Kind::Created), breaks: Promise::LeftAlone },
    Row { name: "failure: the execution", begin: failed, meanwhile: retried_and_collected, guard: ("/client/execute/", Kind::Modified), breaks: Promise::CreatedOnce },
    Row { name: "request: the term", begin: asked, meanwhile: next_leader, guard: TERM, breaks: Promise::OneTerm },
    Row { name: "request: its key", begin: asked_where_runs_may_overlap, meanwhile: applied_and_executed, guard: REQUEST, breaks: Promise::CreatedOnce },
    Row { name: "request: the cursor", begin: asked, meanwhile: fired_beside, guard: ("/server/cursor/", Kind::Modified), breaks: Promise::NoOverlap },
    Row { name: "request: the job", begin: asked, meanwhile: deleted, guard: CONF, breaks: Promise::NoOldVersion },
    Row { name: "plan: the term", begin: unplanned, meanwhile: next_leader, guard: TERM, breaks: Promise::OneTerm },
    Row { name: "plan: the job", begin: unplanned, meanwhile: disabled, guard: CONF, breaks: Promise::EachFireDecided },
    Row { name: "plan: the cursor", begin: unplanned, meanwhile: asked_beside, guard: ("/server/cursor/", Kind::Modified), breaks: Promise::NoOverlap },
    Row { name: "planned: the cursor", begin: planned_is_due, meanwhile: asked_beside, guard: ("/server/cursor/", Kind::Modified), breaks: Promise::NoOverlap },
    Row { name: "backfill: the term", begin: backfilling, meanwhile: next_leader, guard: TERM, breaks: Promise::OneTerm },
    Row { name: "backfill: its document", begin: backfilling_where_runs_may_overlap, meanwhile: applied_and_executed, guard: ("/server/backfill/", Kind::Modified), breaks: Promise::CreatedOnce },
    Row { name: "backfill: its document, of a cancelled one", begin: backfilling, meanwhile: backfill_is_cancelled, guard: ("/server/backfill/", Kind::Modified), breaks: Promise::Backfilled },
    Row { name: "backfill: the job", begin: backfilling, meanwhile: disabled, guard: CONF, breaks: Promise::NoOldVersion },
    Row { name: "backfill: the cursor", begin: backfilling, meanwhile: fired_beside, guard: ("/server/cursor/", Kind::Modified), breaks: Promise::NoOverlap },
    Row { name: "backfill: the generation", begin: backfilling_on_a_calendar, meanwhile: a_day_is_left_out, guard: ("/server/jobgen/", Kind::Modified), breaks: Promise::Backfilled },
    Row { name: "waiting: its key", begin: next_in_line, meanwhile: applied_and_executed, guard: ("/server/pending/", Kind::Modified), breaks: Promise::CreatedOnce },
    Row { name: "replaced: the one that waits", begin: replaced, meanwhile: successor_is_cancelled, guard: ("/server/pending/", Kind::Modified), breaks: Promise::ReplacedByOne },
    Row { name: "replaced: the job", begin: replaced, meanwhile: queues_instead, guard: CONF, breaks: Promise::ReplacedByOne },
    Row { name: "spread: its key", begin: unspread, meanwhile: applied_and_executed_by_all, guard: ("/server/pending/", Kind::Modified), breaks: Promise::CreatedOnce },
    Row { name: "spread: how far it is", begin: half_spread, meanwhile: applied_and_executed_by_all, guard: ("/server/spread/", Kind::Modified), breaks: Promise::CreatedOnce },
    Row { name: "shards: their parent", begin: shard_ended, meanwhile: parent_is_cancelled, guard: ("/server/spread/", Kind::Modified), breaks: Promise::PartsOfOne },
    Row { name: "shards: their parent, which is cancelled", begin: cancelled_spread, meanwhile: shard_is_settled, guard: ("/server/spread/", Kind::Modified), breaks: Promise::PartsOfOne },
    Row { name: "orphan: the absence of its parent", begin: orphan, meanwhile: nothing, guard: ("/server/spread/", Kind::Created), breaks: Promise::PartsOfOne },
    Row { name: "cancel: the snapshot", begin: cancelled, meanwhile: claimed_before_by_its_client, guard: ("/client/snapshot/", Kind::Modified), breaks: Promise::OnePlace },
    Row { name: "follow: the execution", begin: followed, meanwhile: applied_and_followed, guard: ("/client/execute/", Kind::Modified), breaks: Promise::CreatedOnce },
    Row { name: "follow: the job that follows", begin: followed, meanwhile: follower_is_deleted, guard: CONF, breaks: Promise::Followed },
    Row { name: "follow: which jobs follow", begin: followed, meanwhile: another_follows, guard: ("/server/jobgen/", Kind::Modified), breaks: Promise::Followed },
    Row { name: "follow: what has been counted", begin: followed_with_another, meanwhile: the_other_ended, guard: ("/server/join/", Kind::Modified), breaks: Promise::Followed },
    Row { name: "follow: that nothing has been counted", begin: followed_with_another_first, meanwhile: the_other_ended, guard: ("/server/join/", Kind::Modified), breaks: Promise::Followed },
];

fn fire() -> RunId {
    World::fire("a", START + MINUTE)
}

fn minutely() -> Job {
    let delays = vec![10_000];
    Job { max_attempts: 2, retry_delays_ms: delays, on_lost: OnLost::Retry, ..forbidding("a", "0 * * * * *") }
}

/// A job whose fire is due.
fn story() -> (World, Leader) {
    let (mut world, mut leader) = Leader::of_one_segment();
    world.register("c-1", 10);
    world.save(&minutely());
    leader.catch_up(&world);
    world.pass(MINUTE);
    (world, leader)
}

fn fired() -> (World, Leader) {
    let (mut world, mut leader) = story();
    leader.dispatch(&mut world);
    (world, leader)
}

fn due() -> (World, Leader, Txn) {
    let (world, mut leader) = story();
    let txn = leader.batch(&world).unwrap().txn;
    (world, leader, txn)
}

/// Skipped fires were counted, and their job is gone.
fn left_over() -> (World, Leader, Txn) {
    let (mut world, mut leader) = Leader::of_one_segment();
    world.register("c-1", 10);
    world.save(&forbidding("a", "* * * * * *"));
    leader.catch_up(&world);
    world.pass(5 * SECOND);
    leader.dispatch(&mut world);
    world.delete_job("a");
    leader.catch_up(&world);
    let txn = leader.batch(&world).unwrap().txn;
    (world, leader, txn)
}

fn first_cursor() -> (World, Leader, Txn) {
    let mut world = World::new(1);
    world.save(&job("a", "* * * * * *"));
    let mut leader = Leader::elect(&mut world);
    let txn = leader.batch(&world).unwrap().txn;
    (world, leader, txn)
}

fn failed_once() -> (World, Leader) {
    let (mut world, mut leader) = fired();
    world.execute(&fire(), Outcome::Failed);
    leader.catch_up(&world);
    (world, leader)
}

fn failed() -> (World, Leader, Txn) {
    let (world, mut leader) = failed_once();
    let txn = leader.txn_of(&world, &fire());
    (world, leader, txn)
}

fn retry() -> (World, Leader, Txn) {
    let (mut world, mut leader) = failed_once();
    leader.settle(&mut world);
    world.pass(10 * SECOND);
    let txn = leader.txn_of(&world, &fire().with_attempt(2));
    (world, leader, txn)
}

fn parked() -> (World, Leader, Txn) {
    let (mut world, mut leader) = story();
    world.vanish("c-1");
    leader.catch_up(&world);
    leader.dispatch(&mut world);
    world.register("c-2", 10);
    leader.catch_up(&world);
    let txn = leader.txn_of(&world, &fire());
    (world, leader, txn)
}

/// Its client is gone, another one is there.
fn stranded() -> (World, Leader, Txn) {
    let (mut world, mut leader) = fired();
    world.vanish("c-1");
    world.register("c-2", 10);
    leader.catch_up(&world);
    let txn = leader.txn_of(&world, &fire());
    (world, leader, txn)
}

/// Its client is to get no new runs, another one is there.
fn drained() -> (World, Leader, Txn) {
    let (mut world, mut leader) = fired();
    world.drain("c-1");
    world.register("c-2", 10);
    leader.catch_up(&world);
    let txn = leader.txn_of(&world, &fire());
    (world, leader, txn)
}

fn drained_no_more(world: &mut World, _: &mut Leader, _: &Txn) {
    world.undrain("c-1");
}

fn lost() -> (World, Leader, Txn) {
    let (mut world, mut leader) = fired();
    world.claim_run(&fire());
    world.vanish("c-1");
    leader.catch_up(&world);
    world.pass(10 * SECOND);
    let txn = leader.txn_of(&world, &fire());
    (world, leader, txn)
}

fn asked() -> (World, Leader, Txn) {
    let (mut world, mut leader) = story();
    world.ask_run("a");
    leader.catch_up(&world);
    let txn = leader.txn_of_request(&world);
    (world, leader, txn)
}

/// Where they may not, the cursor is moved as well, and the request's own key is a second line.
fn asked_where_runs_may_overlap() -> (World, Leader, Txn) {
    let (mut world, mut leader) = story();
    world.save(&job("a", "0 * * * * *"));
    world.ask_run("a");
    leader.catch_up(&world);
    let txn = leader.txn_of_request(&world);
    (world, leader, txn)
}

fn cancelled() -> (World, Leader, Txn) {
    let (mut world, mut leader) = fired();
    world.ask_cancel(&fire());
    leader.catch_up(&world);
    let txn = leader.txn_of_request(&world);
    (world, leader, txn)
}

fn next_leader(world: &mut World, _: &mut Leader, _: &Txn) {
    Leader::elect(world);
}

fn fired_beside(world: &mut World, leader: &mut Leader, _: &Txn) {
    world.pass(MINUTE);
    leader.dispatch(world);
}

fn led_on(world: &mut World, leader: &mut Leader, txn: &Txn) {
    world.commit(txn);
    leader.catch_up(world);
    world.pass(10 * SECOND);
    leader.dispatch(world);
}

/// The transaction was applied once, and what it made has been done and is forgotten.
fn applied_and_executed(world: &mut World, _: &mut Leader, txn: &Txn) {
    world.commit(txn);
    let (_, run) = world.given().pop().unwrap();
    world.execute(&run, Outcome::Succeeded);
    world.collect();
}

fn applied_and_collected(world: &mut World, _: &mut Leader, txn: &Txn) {
    world.commit(txn);
    world.collect();
}

fn applied_and_claimed(world: &mut World, _: &mut Leader, txn: &Txn) {
    world.commit(txn);
    world.claim_run(&fire());
}

fn disabled(world: &mut World, _: &mut Leader, _: &Txn) {
    world.disable("a");
}

fn deleted(world: &mut World, _: &mut Leader, _: &Txn) {
    world.delete_job("a");
}

fn another_job_is_due(world: &mut World, _: &mut Leader, _: &Txn) {
    world.save(&job("0-first", "30 * * * * *"));
}

/// Its client was not gone, and took it.
fn claimed_before(world: &mut World, _: &mut Leader, _: &Txn) {
    world.register("c-1", 10);
    world.claim_run(&fire());
    world.vanish("c-1");
}

fn claimed_before_by_its_client(world: &mut World, _: &mut Leader, _: &Txn) {
    world.claim_run(&fire());
}

fn came_back(world: &mut World, _: &mut Leader, _: &Txn) {
    world.register_as("c-1", &client("c-1", 10));
}

fn completed(world: &mut World, _: &mut Leader, _: &Txn) {
    assert!(world.complete(&seat("c-1"), &fire(), Outcome::Succeeded));
}

fn retried_and_collected(world: &mut World, leader: &mut Leader, txn: &Txn) {
    world.commit(txn);
    leader.catch_up(world);
    world.pass(10 * SECOND);
    leader.settle(world);
    world.execute(&fire().with_attempt(2), Outcome::Succeeded);
    world.collect();
}

fn without(txn: &Txn, guard: (&str, Kind)) -> Txn {
    let mut txn = txn.clone();
    let before = txn.guards.len();
    txn.guards.retain(|found| !matches(found, guard));
    assert_eq!(txn.guards.len(), before - 1, "{guard:?} is not one guard of {txn:?}", guard = guard.0);
    txn
}

#[test]
fn a_transaction_that_comes_too_late_is_refused_and_no_promise_is_broken() {
    for row in ROWS {
        let (mut world, mut leader, txn) = (row.begin)();
        (row.meanwhile)(&mut world, &mut leader, &txn);
        let outcome = world.commit(&txn);
        assert!(matches!(outcome, Committed::Refused { .. }), "{}: {outcome:?}", row.name);
        assert!(world.audit.broken.is_empty(), "{}: {:?}", row.name, world.audit.broken);
    }
}

#[test]
fn without_any_one_of_its_guards_a_promise_is_broken() {
    for row in ROWS {
        let (mut world, mut leader, txn) = (row.begin)();
        (row.meanwhile)(&mut world, &mut leader, &txn);
        assert!(world.audit.broken.is_empty(), "{}: {:?}", row.name, world.audit.broken);
        let outcome = world.commit(&without(&txn, row.guard));
        assert!(matches!(outcome, Committed::Applied { .. }), "{}: {outcome:?}", row.name);
        let broken: Vec<_> = world.audit.broken.iter().map(|(promise, _)| *promise).collect();
        assert!(broken.contains(&row.breaks), "{}: {broken:?}", row.name);
    }
}

#[test]
fn every_transaction_of_a_leader_ends_with_its_term() {
    let mut begun = 0;
    let begins =
        [due, first_cursor, retry, parked, stranded, lost, failed, asked, cancelled, backfilling, followed];
    for begin in begins.into_iter().chain([unspread, half_spread, shard_ended, cancelled_spread]) {
        let (mut world, _, txn) = begin();
        assert!(txn.guards.iter().any(|guard| matches(guard, TERM)));
        Leader::elect(&mut world);
        assert!(matches!(world.commit(&txn), Committed::Refused { .. }));
        begun += 1;
    }
    assert_eq!(begun, 15);
}

#[test]
fn the_place_of_a_run_in_a_group_is_what_its_job_says_when_it_is_due() {
    let (mut world, mut leader) = failed_once();
    leader.settle(&mut world);
    assert_eq!(world.audit.tally.get(&id("a")).unwrap().group, group());
    world.save(&Job { group: "other".parse().unwrap(), ..minutely() });
    world.pass(10 * SECOND);
    leader.settle(&mut world);
    let run = fire().with_attempt(2);
    assert!(world.etcd.get(&world.keys.pending(&"other".parse().unwrap(), &run)).is_some());
    world.audit.assert_kept();
}

/// A job of a fixed delay that has nothing planned.
fn unplanned() -> (World, Leader, Txn) {
    let (mut world, mut leader) = Leader::of_one_segment();
    world.register("c-1", 10);
    world.save(&fixed_delay());
    leader.catch_up(&world);
    let txn = leader.txn_of_job(&world, "a");
    (world, leader, txn)
}

fn fixed_delay() -> Job {
    let trigger = Trigger::FixedDelay { every_ms: 60_000 };
    Job { trigger, cron: String::new(), ..forbidding("a", "") }
}

fn planned_is_due() -> (World, Leader, Txn) {
    let (mut world, mut leader, txn) = unplanned();
    assert!(matches!(world.commit(&txn), Committed::Applied { .. }));
    world.pass(MINUTE);
    leader.catch_up(&world);
    let (_, run) = world.delayed().pop().unwrap();
    let txn = leader.txn_of(&world, &run);
    (world, leader, txn)
}

/// Somebody asks for a run, and it is given to a client.
fn asked_beside(world: &mut World, leader: &mut Leader, _: &Txn) {
    world.ask_run("a");
    leader.catch_up(world);
    let txn = leader.txn_of_request(world);
    assert!(matches!(world.commit(&txn), Committed::Applied { .. }));
}

/// Two runs, of which the second one waited for the first, which has ended.
fn next_in_line() -> (World, Leader, Txn) {
    let (mut world, mut leader) = Leader::of_one_segment();
    world.register("c-1", 10);
    world.save(&Job { overlap: Overlap::QueueOne, ..job("a", "0 * * * * *") });
    leader.catch_up(&world);
    for _ in 0..2 {
        world.pass(MINUTE);
        leader.dispatch(&mut world);
    }
    world.execute(&World::fire("a", START + MINUTE), Outcome::Succeeded);
    leader.catch_up(&world);
    let run = world.pending().pop().unwrap();
    let txn = leader.txn_of(&world, &run);
    (world, leader, txn)
}

/// A run that was given to a client, and another one that waits to take its place.
fn replaced() -> (World, Leader, Txn) {
    let (mut world, mut leader) = Leader::of_one_segment();
    world.register("c-1", 10);
    world.save(&Job { overlap: Overlap::CancelRunning, ..job("a", "0 * * * * *") });
    leader.catch_up(&world);
    for _ in 0..2 {
        world.pass(MINUTE);
        leader.dispatch(&mut world);
    }
    let txn = leader.txn_of(&world, &World::fire("a", START + MINUTE));
    (world, leader, txn)
}

fn successor_is_cancelled(world: &mut World, leader: &mut Leader, _: &Txn) {
    let run = world.pending().pop().unwrap();
    world.ask_cancel(&run);
    leader.catch_up(world);
    let txn = leader.txn_of_request(world);
    assert!(matches!(world.commit(&txn), Committed::Applied { .. }));
}

fn queues_instead(world: &mut World, _: &mut Leader, _: &Txn) {
    let stored = world.audit.tally.get(&id("a")).unwrap().clone();
    world.save(&Job { overlap: Overlap::QueueOne, ..stored });
}

/// A job with a backfill, of which no run is there yet.
fn backfilled(job: &Job) -> (World, Leader, Txn) {
    let (mut world, mut leader) = Leader::of_one_segment();
    world.register("c-1", 10);
    world.save_calendar(&calendar(&[]));
    world.save(job);
    world.backfill("a", START - 3 * MINUTE, START);
    leader.catch_up(&world);
    let txn = leader.txn_of_backfill(&world, "a");
    (world, leader, txn)
}

fn backfilling() -> (World, Leader, Txn) {
    backfilled(&minutely())
}

fn backfilling_where_runs_may_overlap() -> (World, Leader, Txn) {
    backfilled(&job("a", "0 * * * * *"))
}

fn backfilling_on_a_calendar() -> (World, Leader, Txn) {
    backfilled(&Job { calendars: vec!["cn".into()], ..job("a", "0 * * * * *") })
}

fn calendar(excluded: &[&str]) -> Calendar {
    let name = CalendarName::new("cn").unwrap();
    let excluded = excluded.iter().map(|days| days.parse().unwrap()).collect();
    Calendar { name, remark: String::new(), excluded, included: Vec::new(), version: 1, updated_at: None }
}

fn a_day_is_left_out(world: &mut World, _: &mut Leader, _: &Txn) {
    world.save_calendar(&calendar(&["2027-01-15"]));
}

fn backfill_is_cancelled(world: &mut World, _: &mut Leader, _: &Txn) {
    world.cancel_backfill("a");
}

/// A run that has ended, of a job that another one follows.
fn followed() -> (World, Leader, Txn) {
    let (mut world, mut leader) = Leader::of_segments(16);
    assert!(world.segments.segment_of(&id("s")) != world.segments.segment_of(&id("a")));
    world.register("c-1", 10);
    world.save(&minutely());
    world.save(&after("s", &["a"]));
    leader.catch_up(&world);
    world.pass(MINUTE);
    leader.dispatch(&mut world);
    world.execute(&fire(), Outcome::Succeeded);
    leader.catch_up(&world);
    let txn = leader.txn_of(&world, &fire());
    (world, leader, txn)
}

/// A broadcast to two clients, which is about to be spread.
fn unspread() -> (World, Leader, Txn) {
    let (mut world, mut leader) = broadcast_to(2);
    let txn = leader.txn_of(&world, &fire());
    assert!(world.spread(&fire()).is_none());
    world.pass(SECOND);
    (world, leader, txn)
}

fn broadcast_to(clients: usize) -> (World, Leader) {
    let (mut world, mut leader) = Leader::of_one_segment();
    (0..clients).for_each(|n| world.register(&format!("c-{n:03}"), 10));
    world.save(&Job { routing: Routing::Broadcast, ..minutely() });
    leader.catch_up(&world);
    world.pass(MINUTE);
    leader.dispatch(&mut world);
    (world, leader)
}

/// One to more clients than one transaction has shards.
fn half_spread() -> (World, Leader, Txn) {
    let (mut world, mut leader) = broadcast_to(130);
    let txn = leader.txn_of(&world, &fire());
    assert!(matches!(world.commit(&txn), Committed::Applied { .. }));
    leader.catch_up(&world);
    let txn = leader.txn_of(&world, &fire());
    (world, leader, txn)
}

/// Two that have ended, at the second instant, of jobs that a third one follows.
fn followed_with_another() -> (World, Leader, Txn) {
    both_ended(2)
}

fn followed_with_another_first() -> (World, Leader, Txn) {
    both_ended(1)
}

fn both_ended(minutes: i64) -> (World, Leader, Txn) {
    let (mut world, mut leader) = Leader::of_one_segment();
    world.register("c-1", 10);
    world.save(&minutely());
    world.save(&forbidding("b", "0 * * * * *"));
    world.save(&after("s", &["a", "b"]));
    for minute in 1..=minutes {
        leader.settle(&mut world);
        world.pass(MINUTE);
        leader.dispatch(&mut world);
        for job in ["a", "b"] {
            world.execute(&World::fire(job, START + minute * MINUTE), Outcome::Succeeded);
        }
    }
    leader.catch_up(&world);
    let txn = leader.txn_of(&world, &World::fire("a", START + minutes * MINUTE));
    (world, leader, txn)
}

fn the_other_ended(world: &mut World, leader: &mut Leader, _: &Txn) {
    let other = World::fire("b", world.now_ms);
    let txn = leader.txn_of(world, &other);
    assert!(matches!(world.commit(&txn), Committed::Applied { .. }));
}

fn applied_and_followed(world: &mut World, leader: &mut Leader, txn: &Txn) {
    world.commit(txn);
    leader.settle(world);
    let (_, run) = world.given().pop().unwrap();
    world.execute(&run, Outcome::Succeeded);
    world.collect();
}

/// Which does not concern the jobs that it follows.
fn follower_is_deleted(world: &mut World, _: &mut Leader, _: &Txn) {
    world.delete_job("s");
}

/// Saved by a node whose clock is behind.
fn another_follows(world: &mut World, _: &mut Leader, _: &Txn) {
    world.save(&after("another", &["a"]));
}

fn spread() -> (World, Leader) {
    let (mut world, mut leader) = broadcast_to(2);
    leader.settle(&mut world);
    (world, leader)
}

fn first_shard() -> RunId {
    fire().shard_run(0).unwrap()
}

fn shard_ended() -> (World, Leader, Txn) {
    let (mut world, mut leader) = spread();
    world.execute(&first_shard(), Outcome::Succeeded);
    leader.catch_up(&world);
    let txn = leader.txn_of(&world, &fire());
    (world, leader, txn)
}

fn cancelled_spread() -> (World, Leader, Txn) {
    let (mut world, mut leader) = spread();
    world.ask_cancel(&fire());
    leader.catch_up(&world);
    let txn = leader.txn_of_request(&world);
    (world, leader, txn)
}

/// A shard whose parent the leader's view does not have.
fn orphan() -> (World, Leader, Txn) {
    let (mut world, mut leader) = spread();
    world.execute(&first_shard(), Outcome::Succeeded);
    leader.catch_up(&world);
    let (key, revision) = (world.keys.spread(&group(), &fire()), leader.view.revision());
    leader.view.apply(Change::Deleted { key, revision: revision + 1 }, world.now());
    let txn = leader.txn_of(&world, &first_shard());
    (world, leader, txn)
}

fn nothing(_: &mut World, _: &mut Leader, _: &Txn) {}

fn parent_is_cancelled(world: &mut World, leader: &mut Leader, _: &Txn) {
    world.ask_cancel(&fire());
    leader.catch_up(world);
    let txn = leader.txn_of_request(world);
    assert!(matches!(world.commit(&txn), Committed::Applied { .. }));
}

fn shard_is_settled(world: &mut World, leader: &mut Leader, _: &Txn) {
    world.execute(&first_shard(), Outcome::Succeeded);
    leader.catch_up(world);
    let txn = leader.txn_of(world, &fire());
    assert!(matches!(world.commit(&txn), Committed::Applied { .. }));
}

/// The transaction was applied once, and the shards have been done and are forgotten.
fn applied_and_executed_by_all(world: &mut World, leader: &mut Leader, txn: &Txn) {
    world.commit(txn);
    leader.settle(world);
    for (_, run) in world.given() {
        world.execute(&run, Outcome::Succeeded);
    }
    leader.settle(world);
    world.collect();
    assert!(world.places(&fire()).is_empty());
}
