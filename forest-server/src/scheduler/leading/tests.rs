//! What the leader keeps in mind beside the view.

use std::time::Duration;

use forest_etcd::{Change, KeyValue, Outcome};
use forest_proto::record::{ClientRecord, Execution, Job, encode};
use forest_proto::time::Instant;
use forest_proto::{ClientId, GroupName, JobId, Keyspace, NodeId, RunId, SegmentCount, TargetName};
use jiff::tz::TimeZone;

use super::looks::SCAN_EVERY;
use super::*;
use crate::core::clients::Seat;
use crate::core::compose::{Composer, Occasion};

const TERM: i64 = 10;

fn config() -> SchedulerConfig {
    let defaults = Defaults {
        misfire_threshold_ms: 10_000,
        start_deadline_ms: 3_600_000,
        zone_name: "UTC".into(),
        zone: TimeZone::UTC,
        trace_ratio: None,
    };
    SchedulerConfig {
        node: NodeId::new("node-1").expect("valid"),
        keys: Keyspace::default(),
        segments: SegmentCount::DEFAULT,
        lease_ttl: Duration::from_secs(5),
        lost_grace: Duration::from_secs(3),
        defaults,
        traces: Default::default(),
    }
}

fn at(seconds: u64) -> Now {
    let boot = Duration::from_secs(seconds);
    Now { wall_ms: 1_800_000_000_000 + i64::try_from(seconds).expect("small") * 1_000, boot }
}

fn put(key: String, value: Vec<u8>, revision: i64) -> Change {
    Change::Put(KeyValue {
        key,
        value,
        create_revision: revision,
        mod_revision: revision,
        version: 1,
        lease: 0,
    })
}

/// A leader, and the changes after which a client runs something.
fn running(config: &SchedulerConfig) -> (Leading, View, Seat) {
    let term = Term::new(TERM, config.node.clone(), &config.keys);
    let composer = Composer { term: &term, defaults: &config.defaults, now_ms: at(0).wall_ms };
    let seat = (GroupName::new("trade").expect("valid"), ClientId::new("c-1").expect("valid"));
    let target = TargetName::new("bill").expect("valid");
    let job = Job::new(JobId::new("1").expect("valid"), "a", seat.0.clone(), target);
    let run = RunId::scheduled(&job.id, Instant::from_ms(at(0).wall_ms), 1);
    let snapshot = composer.snapshot(&job, Occasion::fire(run.clone(), None));
    let execution = Execution::claimed(snapshot, composer.now());
    let mut view = View::new(config.keys.clone(), config.segments, String::new());
    view.apply(Change::ListStarted, at(0));
    view.apply(Change::ListEnded { revision: TERM }, at(0));
    view.apply(put(config.keys.job(&job.id), encode(&job), 11), at(0));
    view.apply(put(config.keys.execution(&seat.0, Some(&seat.1), &run), encode(&execution), 12), at(0));
    (Leading::new(term, 1, config, at(0)), view, seat)
}

fn registered(config: &SchedulerConfig, seat: &Seat, revision: i64) -> Change {
    let record = ClientRecord::read(seat.1.as_str().as_bytes()).expect("a bare name is a registration");
    put(config.keys.client(&seat.0, &seat.1), encode(&record), revision)
}

#[test]
fn a_client_that_changed_and_vanished_at_once_is_missed() {
    let config = config();
    let (mut leading, mut view, seat) = running(&config);
    view.apply(registered(&config, &seat, 13), at(0));
    leading.drive(&mut view, at(1), true);
    assert!(leading.gone.is_empty(), "it is there");
    let gone = Change::Deleted { key: config.keys.client(&seat.0, &seat.1), revision: 15 };
    view.apply(registered(&config, &seat, 14), at(2));
    view.apply(gone, at(2));
    leading.drive(&mut view, at(2), true);
    let stopped = leading.gone.get(&seat).copied();
    assert_eq!(stopped, Some(at(2).boot + CLIENT_TTL + config.lost_grace));
}

#[test]
fn a_client_that_was_never_seen_is_missed_and_one_that_returns_is_not() {
    let config = config();
    let (mut leading, mut view, seat) = running(&config);
    leading.drive(&mut view, at(1), true);
    assert!(leading.gone.contains_key(&seat));
    view.apply(registered(&config, &seat, 13), at(2));
    leading.drive(&mut view, at(2), true);
    assert!(leading.gone.is_empty());
}

#[test]
fn the_slow_scan_misses_clients_too() {
    let config = config();
    let (mut leading, mut view, seat) = running(&config);
    leading.drive(&mut view, at(1), true);
    leading.gone.clear();
    leading.drive(&mut view, at(2), true);
    assert!(leading.gone.is_empty());
    leading.drive(&mut view, Now { boot: at(1).boot + SCAN_EVERY, ..at(40) }, true);
    assert!(leading.gone.contains_key(&seat));
}

#[test]
fn a_view_that_stays_behind_what_etcd_acknowledged_is_doubted() {
    let config = config();
    let (mut leading, mut view, _) = running(&config);
    leading.drive(&mut view, at(1), true);
    leading.acknowledged(20, at(2));
    assert!(!leading.takes_doubts(&view, at(2)), "it may be on its way");
    assert!(leading.takes_doubts(&view, at(3)), "the watch is silent");
    view.apply(Change::Progress { revision: 20 }, at(3));
    assert!(!leading.takes_doubts(&view, at(4)));
    leading.acknowledged(21, at(9));
    assert!(!leading.takes_doubts(&view, at(9)), "each time anew");
}

/// A leader, a client, and two runs of one job that wait for it, of which one may be at clients at once. The first
/// one is for that client only.
fn limited(config: &SchedulerConfig) -> (Leading, View, Seat, [RunId; 2]) {
    let term = Term::new(TERM, config.node.clone(), &config.keys);
    let composer = Composer { term: &term, defaults: &config.defaults, now_ms: at(0).wall_ms };
    let seat = (GroupName::new("trade").expect("valid"), ClientId::new("c-1").expect("valid"));
    let target = TargetName::new("bill").expect("valid");
    let job = Job::new(JobId::new("1").expect("valid"), "a", seat.0.clone(), target);
    let job = Job { max_in_flight: Some(1), ..job };
    let mut view = View::new(config.keys.clone(), config.segments, String::new());
    view.apply(Change::ListStarted, at(0));
    view.apply(Change::ListEnded { revision: TERM }, at(0));
    view.apply(put(config.keys.job(&job.id), encode(&job), 11), at(0));
    view.apply(registered(config, &seat, 12), at(0));
    let runs = [0, 1].map(|n| RunId::scheduled(&job.id, Instant::from_ms(at(n).wall_ms), 1));
    for (run, pinned) in runs.iter().zip([Some(seat.1.clone()), None]) {
        let snapshot = composer.snapshot(&job, Occasion { pinned, ..Occasion::fire(run.clone(), None) });
        let revision = view.revision() + 1;
        view.apply(put(config.keys.pending(&seat.0, run), encode(&snapshot), revision), at(0));
    }
    (Leading::new(term, 1, config, at(0)), view, seat, runs)
}

/// What is sent, and the runs it is about.
fn sent(leading: &mut Leading, view: &mut View, now: Now) -> (Vec<RunId>, Vec<(Subject, Option<Counted>)>) {
    let steps = leading.drive(view, now, true).steps.into_iter().flatten();
    let steps: Vec<_> = steps.map(|(subject, counted, _)| (subject, counted)).collect();
    let runs = steps.iter().filter_map(|(subject, _)| match subject {
        Subject::Run(run) => Some(run.clone()),
        _ => None,
    });
    (runs.collect(), steps)
}

/// Sends what there is to send, whose answer is lost.
fn lose(leading: &mut Leading, view: &mut View, now: Now) -> Vec<RunId> {
    let (runs, steps) = sent(leading, view, now);
    let lost = runs.iter().map(|_| Ok(Outcome::Unknown { cause: "the connection broke".into() }));
    leading.stepped(view, steps, lost.collect(), now);
    runs
}

#[test]
fn the_place_of_a_step_whose_answer_was_lost_is_given_to_no_other_run() {
    let config = config();
    let (mut leading, mut view, seat, [first, second]) = limited(&config);
    assert_eq!(lose(&mut leading, &mut view, at(1)), std::slice::from_ref(&first));
    view.runs.mark(&second);
    assert!(sent(&mut leading, &mut view, at(1)).0.is_empty(), "the first one may be at the client");
    assert_eq!(
        lose(&mut leading, &mut view, at(2)),
        std::slice::from_ref(&first),
        "it is tried again, with its own place"
    );
    // One of the two was applied, and the run has ended since.
    let pending = config.keys.pending(&seat.0, &first);
    view.apply(Change::Deleted { key: pending, revision: 20 }, at(2));
    assert_eq!(sent(&mut leading, &mut view, at(2)).0, [second]);
}

#[test]
fn a_place_that_no_run_takes_is_let_go_in_the_end() {
    let config = config();
    let (mut leading, mut view, seat, [first, second]) = limited(&config);
    assert_eq!(lose(&mut leading, &mut view, at(1)), [first]);
    let other = (seat.0.clone(), ClientId::new("c-2").expect("valid"));
    view.apply(Change::Deleted { key: config.keys.client(&seat.0, &seat.1), revision: 20 }, at(1));
    view.apply(registered(&config, &other, 21), at(1));
    for second in [2, 3, 10, 30] {
        assert!(sent(&mut leading, &mut view, at(second)).0.is_empty(), "it may arrive yet");
    }
    assert_eq!(sent(&mut leading, &mut view, at(31)).0, [second]);
}
