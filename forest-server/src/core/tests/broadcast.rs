//! Broadcasts: one run for each client, and one end of all of them.
//!
//! That each shard is created once and with its parent, and that the parent ends after all of them and with what became
//! of them, is asked by the audit at every revision.

use forest_proto::record::{
    ClientRecord, Execution, Group, Job, OnLost, Outcome, Overlap, Routing, ShardParams, Snapshot, decode,
    encode,
};
use forest_proto::{Key, RunId};

use super::leader::Leader;
use super::world::{World, client};
use super::{HOUR, MINUTE, SECOND, START, group, id, job, seat};

fn minutely() -> Job {
    let shard_params: ShardParams = "0=Beijing,1=Shanghai".parse().unwrap();
    Job { routing: Routing::Broadcast, shard_params, overlap: Overlap::Forbid, ..job("a", "0 * * * * *") }
}

/// A job with so many clients, each with room for ten runs.
fn with(clients: usize, job: &Job) -> (World, Leader) {
    let (mut world, mut leader) = Leader::of_one_segment();
    (0..clients).for_each(|n| world.register(&format!("c-{n:03}"), 10));
    world.save(job);
    leader.catch_up(&world);
    (world, leader)
}

fn fired(clients: usize, job: &Job) -> (World, Leader) {
    let (mut world, mut leader) = with(clients, job);
    next_minute(&mut world, &mut leader);
    (world, leader)
}

fn next_minute(world: &mut World, leader: &mut Leader) {
    world.pass(MINUTE);
    leader.dispatch(world);
    leader.settle(world);
}

fn fire(n: i64) -> RunId {
    World::fire("a", START + n * MINUTE)
}

fn shard(n: i64, index: u32) -> RunId {
    fire(n).shard_run(index).unwrap()
}

fn end(world: &mut World, leader: &mut Leader, run: &RunId, outcome: Outcome) {
    world.execute(run, outcome);
    leader.settle(world);
}

fn given(world: &World, run: &RunId) -> Option<Snapshot> {
    let (seat, _) = world.given().into_iter().find(|(_, given)| given == run)?;
    let kv = world.etcd.get(&world.keys.snapshot(&seat.0, &seat.1, run))?;
    Some(decode(&kv.value).unwrap())
}

/// What the parent's record says.
fn result(world: &World, run: &RunId) -> (Outcome, String) {
    let ended: &Execution = &world.audit.ended[run];
    assert!(ended.decided && ended.snapshot.ip.is_empty());
    (ended.outcome.unwrap(), ended.result.clone())
}

#[test]
fn every_able_client_gets_one_shard_and_the_whole_ends_with_the_last() {
    let (mut world, mut leader) = with(3, &minutely());
    world.register_as("c-other", &World::serving(&["other"], "c-other"));
    world.register_as("c-drains", &ClientRecord { draining: true, ..client("c-drains", 10) });
    leader.catch_up(&world);
    next_minute(&mut world, &mut leader);
    assert_eq!(world.places(&fire(1)), [Key::Spread { group: group(), run: fire(1) }]);
    for (index, params) in [(0, Some("Beijing")), (1, Some("Shanghai")), (2, None)] {
        let given = given(&world, &shard(1, index)).unwrap();
        assert_eq!(given.ip, format!("c-{index:03}"));
        let of = given.shard.unwrap();
        assert_eq!((of.index, of.total, of.parent, of.params.as_deref()), (index, 3, fire(1), params));
        assert!(given.followed && given.shard_params.is_empty());
    }
    assert_eq!(world.given().len(), 3);
    for index in [1, 0, 2] {
        assert!(world.spread(&fire(1)).is_some());
        world.pass(SECOND);
        end(&mut world, &mut leader, &shard(1, index), Outcome::Succeeded);
    }
    assert_eq!(result(&world, &fire(1)), (Outcome::Succeeded, "3 of 3 shards succeeded".into()));
    let ended = &world.audit.ended[&fire(1)];
    assert_eq!((ended.duration_ms, ended.started_at.unwrap().as_ms()), (3_000, START + MINUTE));
    world.collect();
    leader.catch_up(&world);
    assert_eq!(leader.view.runs.len(), 0);
    world.audit.assert_kept();
}

#[test]
fn a_client_leaves_the_end_of_a_shard_to_the_leader_and_many_are_settled_at_once() {
    let (mut world, mut leader) = fired(120, &minutely());
    for (_, run) in world.given() {
        world.execute(&run, Outcome::Succeeded);
        assert!(!world.audit.ended[&run].decided);
    }
    let before = world.etcd.revision();
    leader.settle(&mut world);
    assert_eq!(world.etcd.revision() - before, 5, "twenty-five at once");
    assert_eq!(result(&world, &fire(1)).0, Outcome::Succeeded);
    world.audit.assert_kept();
}

#[test]
fn a_failed_shard_is_tried_again_alone_and_where_it_was() {
    let job = Job { max_attempts: 2, retry_delays_ms: vec![10_000], on_lost: OnLost::Retry, ..minutely() };
    let (mut world, mut leader) = fired(3, &job);
    end(&mut world, &mut leader, &shard(1, 1), Outcome::Failed);
    for index in [0, 2] {
        end(&mut world, &mut leader, &shard(1, index), Outcome::Succeeded);
    }
    assert_eq!(world.spread(&fire(1)).unwrap().ended.len(), 2, "one is still to be tried again");
    world.pass(10 * SECOND);
    leader.settle(&mut world);
    let again = shard(1, 1).with_attempt(2);
    let snapshot = given(&world, &again).unwrap();
    assert_eq!((snapshot.ip.as_str(), snapshot.attempt), ("c-001", 2));
    assert_eq!(snapshot.shard.as_ref().and_then(|shard| shard.params.as_deref()), Some("Shanghai"));
    assert_eq!(world.given().len(), 1);
    end(&mut world, &mut leader, &again, Outcome::Failed);
    assert_eq!(result(&world, &fire(1)), (Outcome::Failed, "2 of 3 shards succeeded; failed: 1".into()));
    world.audit.assert_kept();
}

#[test]
fn a_lost_shard_is_tried_again_at_another_client_or_counted_as_lost() {
    for (on_lost, expected) in
        [(OnLost::Retry, "2 of 2 shards succeeded"), (OnLost::Fail, "1 of 2 shards succeeded; lost: 0")]
    {
        let job = Job { max_attempts: 2, retry_delays_ms: vec![10_000], on_lost, ..minutely() };
        let (mut world, mut leader) = fired(2, &job);
        world.claim_run(&shard(1, 0));
        world.vanish("c-000");
        leader.catch_up(&world);
        world.pass(10 * SECOND);
        leader.settle(&mut world);
        assert_eq!(world.end_of(&shard(1, 0)), Some(Outcome::Lost));
        world.pass(10 * SECOND);
        leader.settle(&mut world);
        for (seat, run) in world.given() {
            assert_eq!(seat.1.as_str(), "c-001");
            end(&mut world, &mut leader, &run, Outcome::Succeeded);
        }
        assert_eq!(result(&world, &fire(1)).1, expected);
        world.audit.assert_kept();
    }
}

#[test]
fn a_shard_that_nobody_claimed_moves_and_keeps_its_number() {
    let (mut world, mut leader) = fired(2, &minutely());
    world.vanish("c-000");
    leader.settle(&mut world);
    let moved = given(&world, &shard(1, 0)).unwrap();
    assert_eq!(
        (moved.ip.as_str(), moved.shard.map(|shard| (shard.index, shard.total))),
        ("c-001", Some((0, 2)))
    );
    world.vanish("c-001");
    leader.settle(&mut world);
    assert_eq!(world.pending(), [shard(1, 0), shard(1, 1)]);
    world.register("c-new", 10);
    leader.settle(&mut world);
    for index in [0, 1] {
        end(&mut world, &mut leader, &shard(1, index), Outcome::Succeeded);
    }
    assert_eq!(result(&world, &fire(1)).0, Outcome::Succeeded);
    world.audit.assert_kept();
}

#[test]
fn without_a_client_it_waits_and_then_is_given_up() {
    let (mut world, mut leader) = fired(0, &minutely());
    assert_eq!(world.pending(), [fire(1)]);
    world.register("c-1", 10);
    leader.settle(&mut world);
    end(&mut world, &mut leader, &shard(1, 0), Outcome::Succeeded);
    assert_eq!(result(&world, &fire(1)).1, "1 of 1 shards succeeded");
    let (mut world, mut leader) = fired(0, &minutely());
    world.disable("a");
    world.pass(2 * HOUR);
    leader.settle(&mut world);
    assert_eq!(world.end_of(&fire(1)), Some(Outcome::NoClient));
    world.audit.assert_kept();
}

#[test]
fn shards_that_no_client_takes_in_time_end_and_their_parent_with_them() {
    let (mut world, mut leader) = fired(2, &minutely());
    world.disable("a");
    end(&mut world, &mut leader, &shard(1, 1), Outcome::Succeeded);
    world.vanish("c-000");
    world.vanish("c-001");
    leader.settle(&mut world);
    world.pass(2 * HOUR);
    leader.settle(&mut world);
    assert_eq!(world.end_of(&shard(1, 0)), Some(Outcome::NoClient));
    assert_eq!(result(&world, &fire(1)), (Outcome::Failed, "1 of 2 shards succeeded; no_client: 0".into()));
    world.audit.assert_kept();
}

#[test]
fn a_full_client_gets_its_shard_when_it_has_room_and_limits_count_shards() {
    let job = Job { max_in_flight: Some(2), ..minutely() };
    let (mut world, mut leader) = fired(4, &job);
    assert_eq!((world.given().len(), world.pending().len()), (2, 2));
    for expected in [3, 2, 1, 0] {
        let (_, run) = world.given().remove(0);
        end(&mut world, &mut leader, &run, Outcome::Succeeded);
        assert_eq!(world.given().len() + world.pending().len(), expected);
    }
    assert_eq!(result(&world, &fire(1)).0, Outcome::Succeeded);

    let (mut world, mut leader) = with(0, &Job { overlap: Overlap::Allow, ..minutely() });
    world.register("c-000", 1);
    world.register("c-001", 10);
    leader.catch_up(&world);
    (0..3).for_each(|_| next_minute(&mut world, &mut leader));
    assert_eq!(world.pending(), [shard(3, 0)], "no other client may have it");
    end(&mut world, &mut leader, &shard(1, 0), Outcome::Succeeded);
    assert_eq!(given(&world, &shard(3, 0)).unwrap().ip, "c-000");
    world.audit.assert_kept();
}

#[test]
fn a_parked_shard_goes_elsewhere_once_its_client_is_gone() {
    let (mut world, mut leader) = with(0, &Job { overlap: Overlap::Allow, ..minutely() });
    world.register("c-000", 1);
    world.register("c-001", 10);
    leader.catch_up(&world);
    (0..3).for_each(|_| next_minute(&mut world, &mut leader));
    assert_eq!(world.pending(), [shard(3, 0)]);
    world.register_as("c-000", &ClientRecord { draining: true, ..client("c-000", 1) });
    leader.settle(&mut world);
    assert_eq!(given(&world, &shard(3, 0)).unwrap().ip, "c-001");
    world.audit.assert_kept();
}

#[test]
fn a_cancelled_broadcast_stops_its_shards_wherever_they_are() {
    let job = Job { max_attempts: 2, retry_delays_ms: vec![60_000], max_in_flight: Some(3), ..minutely() };
    let (mut world, mut leader) = fired(5, &job);
    end(&mut world, &mut leader, &shard(1, 0), Outcome::Failed);
    end(&mut world, &mut leader, &shard(1, 1), Outcome::Succeeded);
    let seat = world.claim_run(&shard(1, 2));
    leader.settle(&mut world);
    assert!(!world.delayed().is_empty() && given(&world, &shard(1, 3)).is_some());
    world.ask_cancel(&fire(1));
    leader.settle(&mut world);
    assert!(world.spread(&fire(1)).is_some(), "one is still running");
    let asked = world.keys.cancel(&seat.0, &seat.1, &shard(1, 2));
    assert!(world.etcd.get(&asked).is_some());
    for run in [shard(1, 0).with_attempt(2), shard(1, 3), shard(1, 4)] {
        assert_eq!(world.end_of(&run), Some(Outcome::Cancelled), "{run}");
    }
    assert!(world.complete(&seat, &shard(1, 2), Outcome::Cancelled));
    leader.settle(&mut world);
    let expected = "1 of 5 shards succeeded; cancelled: 0, 2, 3, 4; cancelled on request";
    assert_eq!(result(&world, &fire(1)), (Outcome::Cancelled, expected.into()));
    assert!(world.etcd.get(&asked).is_none() && world.requests().is_empty());
    world.audit.assert_kept();
}

#[test]
fn one_shard_can_be_cancelled_alone() {
    let (mut world, mut leader) = fired(2, &minutely());
    world.ask_cancel(&shard(1, 1));
    leader.settle(&mut world);
    end(&mut world, &mut leader, &shard(1, 0), Outcome::Succeeded);
    assert_eq!(result(&world, &fire(1)), (Outcome::Failed, "1 of 2 shards succeeded; cancelled: 1".into()));
    world.audit.assert_kept();
}

#[test]
fn a_parked_broadcast_that_is_cancelled_is_never_spread() {
    let (mut world, mut leader) = fired(0, &minutely());
    world.ask_cancel(&fire(1));
    leader.settle(&mut world);
    world.register("c-1", 10);
    leader.settle(&mut world);
    assert_eq!((world.end_of(&fire(1)), world.given().len()), (Some(Outcome::Cancelled), 0));
    world.audit.assert_kept();
}

#[test]
fn runs_do_not_overlap_before_the_last_shard_has_ended() {
    let (mut world, mut leader) = fired(2, &minutely());
    end(&mut world, &mut leader, &shard(1, 0), Outcome::Succeeded);
    next_minute(&mut world, &mut leader);
    assert_eq!(world.end_of(&fire(2)), Some(Outcome::OverlapSkipped));
    end(&mut world, &mut leader, &shard(1, 1), Outcome::Succeeded);
    next_minute(&mut world, &mut leader);
    assert!(world.spread(&fire(3)).is_some());

    let (mut world, mut leader) = fired(2, &Job { overlap: Overlap::QueueOne, ..minutely() });
    next_minute(&mut world, &mut leader);
    assert_eq!(world.pending(), [fire(2)]);
    for index in [0, 1] {
        assert!(world.spread(&fire(2)).is_none());
        end(&mut world, &mut leader, &shard(1, index), Outcome::Succeeded);
    }
    assert!(world.spread(&fire(2)).is_some() && world.spread(&fire(1)).is_none());
    world.audit.assert_kept();
}

#[test]
fn a_newer_broadcast_replaces_an_older_one_with_all_its_shards() {
    let (mut world, mut leader) = fired(3, &Job { overlap: Overlap::CancelRunning, ..minutely() });
    let seat = world.claim_run(&shard(1, 0));
    leader.catch_up(&world);
    next_minute(&mut world, &mut leader);
    assert_eq!(world.pending(), [fire(2)]);
    assert_eq!(world.end_of(&shard(1, 1)), Some(Outcome::Cancelled));
    assert!(world.complete(&seat, &shard(1, 0), Outcome::Cancelled));
    leader.settle(&mut world);
    let (outcome, text) = result(&world, &fire(1));
    assert_eq!(outcome, Outcome::Cancelled);
    assert!(text.ends_with(&format!("replaced by {}", fire(2))), "{text}");
    assert_eq!(world.given().len(), 3);
    assert!(world.spread(&fire(2)).is_some());
    world.audit.assert_kept();
}

#[test]
fn a_deleted_job_lets_running_shards_finish() {
    let (mut world, mut leader) = fired(2, &Job { max_attempts: 3, ..minutely() });
    let seat = world.claim_run(&shard(1, 0));
    world.delete_job("a");
    leader.settle(&mut world);
    assert_eq!(world.end_of(&shard(1, 1)), Some(Outcome::Cancelled));
    assert!(world.complete(&seat, &shard(1, 0), Outcome::Failed));
    leader.settle(&mut world);
    assert_eq!(result(&world, &fire(1)).1, "0 of 2 shards succeeded; failed: 0; cancelled: 1");
    world.audit.assert_kept();
}

#[test]
fn what_is_left_of_an_earlier_term_is_found_in_the_keys_alone() {
    let job = Job { max_attempts: 2, retry_delays_ms: vec![10_000], ..minutely() };
    let (mut world, mut leader) = fired(4, &job);
    end(&mut world, &mut leader, &shard(1, 0), Outcome::Succeeded);
    end(&mut world, &mut leader, &shard(1, 1), Outcome::Failed);
    // These end while nobody leads.
    world.execute(&shard(1, 2), Outcome::Succeeded);
    world.execute(&shard(1, 3), Outcome::Failed);
    let mut next = Leader::elect(&mut world);
    next.settle(&mut world);
    assert_eq!(world.spread(&fire(1)).unwrap().ended.len(), 2);
    world.pass(10 * SECOND);
    let mut last = Leader::elect(&mut world);
    last.settle(&mut world);
    for index in [1, 3] {
        end(&mut world, &mut last, &shard(1, index).with_attempt(2), Outcome::Succeeded);
    }
    assert_eq!(result(&world, &fire(1)).0, Outcome::Succeeded);
    world.audit.assert_kept();
}

#[test]
fn more_clients_than_one_transaction_takes_are_reached_in_several() {
    let (world, _) = fired(250, &minutely());
    assert_eq!((world.given().len(), world.spread(&fire(1)).unwrap().created), (250, 250));
    world.audit.assert_kept();

    let big = Job { params: "\u{1}".repeat(60_000), ..minutely() };
    let (world, _) = fired(6, &big);
    assert_eq!(world.given().len(), 6, "as long as one of them fits");
    world.audit.assert_kept();
}

#[test]
fn what_is_cancelled_half_way_creates_no_more_shards() {
    let (mut world, mut leader) = with(250, &minutely());
    world.pass(MINUTE);
    leader.dispatch(&mut world);
    let txn = leader.txn_of(&world, &fire(1));
    world.commit(&txn);
    leader.catch_up(&world);
    world.ask_cancel(&fire(1));
    leader.catch_up(&world);
    let txn = leader.txn_of_request(&world);
    world.commit(&txn);
    leader.settle(&mut world);
    let (outcome, text) = result(&world, &fire(1));
    assert_eq!(outcome, Outcome::Cancelled);
    assert!(
        text.starts_with("0 of 250 shards succeeded; cancelled: 0, 1,") && text.contains("and 230 more"),
        "{text}"
    );
    assert!(!world.audit.ended.contains_key(&shard(1, 120)));
    world.audit.assert_kept();
}

#[test]
fn too_many_clients_are_refused_rather_than_some_left_out() {
    let (world, _) = fired(501, &minutely());
    let (outcome, text) = result(&world, &fire(1));
    assert_eq!(outcome, Outcome::Failed);
    assert!(text.contains("501 clients") && text.contains("at most 500"), "{text}");
    world.audit.assert_kept();
}

#[test]
fn a_run_with_too_long_an_id_fails_where_others_are_spread() {
    let (mut world, mut leader) = Leader::of_one_segment();
    world.register("c-1", 10);
    let long = "j".repeat(32);
    world.save(&Job { routing: Routing::Broadcast, ..job(&long, "0 * * * * *") });
    world.save(&Job { routing: Routing::Broadcast, ..job(&long[..29], "0 * * * * *") });
    let (too_long, fits) = (world.ask_run(&long), world.ask_run(&long[..29]));
    leader.settle(&mut world);
    let (outcome, text) = result(&world, &too_long);
    assert!(outcome == Outcome::Failed && text.contains("29 characters"), "{text}");
    assert_eq!(world.given().remove(0).1.parent(), Some(fits));
    world.audit.assert_kept();
}

#[test]
fn a_worker_of_the_original_takes_a_shard_and_it_is_tried_again_as_that_shard() {
    let job = Job { max_attempts: 2, retry_delays_ms: vec![10_000], ..minutely() };
    let (mut world, mut leader) = fired(2, &job);
    let run = shard(1, 1);
    let client = seat("c-001");
    let (from, to) = (
        world.keys.snapshot(&client.0, &client.1, &run),
        world.keys.execution(&client.0, Some(&client.1), &run),
    );
    // Its words, and no others.
    let ended = format!(
        r#"{{"id":"{run}","jobId":"a","group":"trade","target":"bill","ip":"c-001","status":4,"result":"no"}}"#
    );
    world.commit(&forest_etcd::Txn::new().delete(from).put(to, ended));
    leader.settle(&mut world);
    world.pass(10 * SECOND);
    leader.settle(&mut world);
    let again = given(&world, &run.with_attempt(2)).unwrap();
    let of = again.shard.unwrap();
    assert_eq!((of.index, of.total, of.params.as_deref()), (1, 2, Some("Shanghai")));
    assert_eq!(id("a"), again.job_id);
}

#[test]
fn a_group_with_a_limit_is_given_shards_one_after_the_other() {
    let (mut world, mut leader) = with(3, &minutely());
    let limited =
        Group { name: group(), remark: String::new(), max_in_flight: Some(1), dispatches_per_second: None };
    world.commit_raw(&world.keys.group(&group()), &encode(&limited));
    leader.catch_up(&world);
    next_minute(&mut world, &mut leader);
    for index in [0, 1, 2] {
        assert_eq!(world.given().len(), 1);
        end(&mut world, &mut leader, &shard(1, index), Outcome::Succeeded);
    }
    assert_eq!(result(&world, &fire(1)).0, Outcome::Succeeded);
    world.audit.assert_kept();
}
