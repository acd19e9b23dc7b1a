//! Planted bugs: each row takes a history that keeps every promise, and spoils one thing in it.

use forest_proto::record::{
    After, Answer, Backfill, ClientRecord, Condition, Cursor, Delay, Execution, Job, JobStatus, Need, OnLost,
    Origin, Outcome, Overlap, Request, RequestKind, Routing, SkipReason, Skips, Snapshot, Spread, Trigger,
    Within, encode,
};
use forest_proto::time::Instant;
use forest_proto::{ClientId, GroupName, JobId, Keyspace, NodeId, RequestKey, RunId, Segment, SegmentCount};
use forest_server::store::Archived;

use super::{Promise, Terms, check};
use crate::clock::BEGIN_MS;
use crate::record::{Change, Entry, Happened, Kind, Writer};

const LEADER: Writer = Writer { machine: 0, life: 1, kind: Kind::Node };
const OTHER: Writer = Writer { machine: 1, life: 1, kind: Kind::Node };
const WORKER: Writer = Writer { machine: 2, life: 1, kind: Kind::Worker };
const TERM: i64 = 1;

/// A history in the making. Revisions are as far apart as the writer says.
struct Tale {
    keys: Keyspace,
    entries: Vec<Entry>,
    now_ms: u64,
    revision: i64,
    job: Job,
}

fn group() -> GroupName {
    GroupName::new("alpha").expect("valid")
}

fn client() -> ClientId {
    ClientId::new("worker-2-1").expect("valid")
}

fn at(second: i64) -> Instant {
    Instant::from_ms(BEGIN_MS + second * 1_000)
}

fn segment() -> Segment {
    SegmentCount::new(1).and_then(|count| count.all().next()).expect("there is one")
}

fn after(job: &JobId) -> Trigger {
    let (on, need, within) = (Condition::Success, Need::All, Within::Fire);
    Trigger::After(After { jobs: vec![job.clone()], on, need, within })
}

impl Tale {
    /// Another job that follows the first one.
    fn follower(&mut self) {
        let mut job = Job::new("s".parse().expect("valid"), "s", group(), "work".parse().expect("valid"));
        (job.trigger, job.status) = (after(&self.job.id), JobStatus::Enabled);
        self.write(OTHER, vec![(self.keys.job(&job.id), Some(encode(&job)))]);
    }

    /// A leader, a worker, and a job that fires at every second one.
    fn begin() -> Self {
        let id = JobId::new("j").expect("valid");
        let mut job = Job::new(id, "j", group(), "work".parse().expect("valid"));
        job.cron = "*/2 * * * * *".into();
        (job.status, job.effective_after, job.created_at) = (JobStatus::Enabled, Some(at(0)), Some(at(0)));
        (job.overlap, job.max_attempts, job.on_lost) = (Overlap::Forbid, 2, OnLost::Retry);
        let mut tale = Self { keys: Keyspace::default(), entries: Vec::new(), now_ms: 0, revision: 0, job };
        let node = NodeId::new("node-0").expect("valid");
        tale.write(LEADER, vec![(tale.keys.leader(), Some(node.as_str().into()))]);
        tale.write(OTHER, vec![(tale.keys.group(&group()), Some(b"{}".into()))]);
        tale.register();
        tale.save_job(OTHER);
        tale.cursor(0, LEADER, vec![]);
        tale
    }

    fn write(&mut self, by: Writer, changes: Vec<(String, Option<Vec<u8>>)>) {
        self.revision += 1;
        let create_revision = self.revision;
        let change = |(key, value)| Change { key, value, create_revision };
        let changes = changes.into_iter().map(change).collect();
        self.add(Happened::Revision { revision: self.revision, by: Some(by), changes });
    }

    fn add(&mut self, happened: Happened) {
        self.entries.push((self.now_ms, happened));
    }

    fn pass(&mut self, ms: u64) -> &mut Self {
        self.now_ms += ms;
        self
    }

    fn register(&mut self) {
        let record = ClientRecord {
            name: "worker-2".into(),
            address: String::new(),
            capacity: 4,
            targets: None,
            labels: Default::default(),
            version: String::new(),
            started_at: None,
            ttl_ms: None,
            draining: false,
        };
        self.write(WORKER, vec![(self.keys.client(&group(), &client()), Some(record.write()))]);
    }

    fn vanish(&mut self) {
        self.write(WORKER, vec![(self.keys.client(&group(), &client()), None)]);
    }

    fn save_job(&mut self, by: Writer) {
        self.write(by, vec![(self.keys.job(&self.job.id), Some(encode(&self.job)))]);
    }

    /// Moves the cursor, and with it whatever else the revision writes.
    fn cursor(&mut self, second: i64, by: Writer, mut also: Vec<(String, Option<Vec<u8>>)>) {
        let cursor = Cursor::at(at(second), "j", TERM);
        also.push((self.keys.cursor(segment()), Some(encode(&cursor))));
        self.write(by, also);
    }

    /// Skips the fires up to `second`, of which `counted` are only counted, from `first` on.
    fn counted(&mut self, second: i64, first: i64, count: u64, also: Vec<(String, Option<Vec<u8>>)>) {
        let mut cursor = Cursor::at(at(second), "j", TERM);
        let why = SkipReason::StillAlive;
        let skips = Skips { why, first: at(first), last: at(second), count, group: group(), job_revision: 1 };
        cursor.skips.insert(self.job.id.clone(), skips);
        let mut changes = also;
        changes.push((self.keys.cursor(segment()), Some(encode(&cursor))));
        self.write(LEADER, changes);
    }

    fn run(second: i64) -> RunId {
        RunId::scheduled(&JobId::new("j").expect("valid"), at(second), 1)
    }

    fn snapshot(&self, run: &RunId) -> Snapshot {
        let text = format!(
            r#"{{"id":"{run}","jobId":"j","group":"alpha","target":"work","max_attempts":2,"on_lost":"retry"}}"#
        );
        let mut snapshot: Snapshot = forest_proto::record::decode(text.as_bytes()).expect("a snapshot");
        (snapshot.job_version, snapshot.attempt, snapshot.term) = (self.job.version, run.attempt(), TERM);
        if run.backfill_mark().is_some() {
            snapshot.origin = Origin::Backfill;
        }
        snapshot
    }

    fn given(&self, run: &RunId) -> (String, Option<Vec<u8>>) {
        (self.keys.snapshot(&group(), &client(), run), Some(encode(&self.snapshot(run))))
    }

    fn executed(&self, run: &RunId, outcome: Option<Outcome>) -> (String, Option<Vec<u8>>) {
        let mut execution = Execution::claimed(self.snapshot(run), at(0));
        if let Some(outcome) = outcome {
            execution.finish(outcome, String::new(), at(0), 1);
        }
        (self.keys.execution(&group(), Some(&client()), run), Some(encode(&execution)))
    }

    fn skipped(&self, run: &RunId, missed: u64) -> (String, Option<Vec<u8>>) {
        let mut snapshot = self.snapshot(run);
        (snapshot.missed_fires, snapshot.origin) = (missed, Origin::Misfire);
        let ended = Execution::never_started(snapshot, Outcome::MisfireSkipped, "", at(0));
        (self.keys.execution(&group(), None, run), Some(encode(&ended)))
    }

    /// Misses the fires up to this one.
    fn skip_to(&mut self, second: i64) {
        let others = second.unsigned_abs() / 2 - 1;
        let skip = self.skipped(&Self::run(second), others);
        self.cursor(second, LEADER, vec![skip]);
    }

    fn dispatch(&mut self, second: i64) -> RunId {
        let run = Self::run(second);
        self.cursor(second, LEADER, vec![self.given(&run)]);
        run
    }

    fn claim(&mut self, run: &RunId) {
        let snapshot = (self.keys.snapshot(&group(), &client(), run), None);
        self.write(WORKER, vec![snapshot, self.executed(run, None)]);
    }

    fn start(&mut self, run: &RunId) {
        let fencing_token = self.revision;
        self.add(Happened::Started { machine: 2, run: run.clone(), fencing_token });
    }

    fn end(&mut self, by: Writer, run: &RunId, outcome: Outcome) {
        self.write(by, vec![self.executed(run, Some(outcome))]);
    }

    fn save(&mut self, run: &RunId, outcome: Outcome) {
        let mut execution = Execution::claimed(self.snapshot(run), at(0));
        execution.finish(outcome, String::new(), at(0), 1);
        self.add(Happened::Saved { rows: vec![Archived { execution, fencing_token: 1, late: false }] });
    }

    fn collect(&mut self, run: &RunId) {
        self.write(LEADER, vec![(self.keys.execution(&group(), Some(&client()), run), None)]);
    }

    /// A run from its fire to its row.
    fn whole(&mut self, second: i64) -> RunId {
        let run = self.dispatch(second);
        self.played(&run);
        run
    }

    /// A run that failed, decided, with its next attempt to come.
    fn failed(&mut self, second: i64) -> (RunId, RunId) {
        let run = self.dispatch(second);
        self.claim(&run);
        self.start(&run);
        let next = run.with_attempt(2);
        (run, next)
    }

    fn delay(&self, next: &RunId) -> (String, Option<Vec<u8>>) {
        let delay = Delay {
            run: next.clone(),
            job: self.job.id.clone(),
            group: group(),
            scheduled_at: next.at(),
            origin: Origin::Retry,
            client: None,
            params: None,
            planned_for: None,
            checkpoint: None,
            cause: None,
            shard: None,
            traceparent: None,
        };
        (self.keys.delay(segment(), at(90), next), Some(encode(&delay)))
    }

    fn settled(&self, run: &RunId) -> (String, Option<Vec<u8>>) {
        let mut execution = Execution::claimed(self.snapshot(run), at(0));
        execution.finish(Outcome::Failed, String::new(), at(0), 1);
        execution.decided = true;
        (self.keys.execution(&group(), Some(&client()), run), Some(encode(&execution)))
    }

    fn backfilled(second: i64) -> RunId {
        RunId::backfilled(&JobId::new("j").expect("valid"), at(second), &RequestKey::new("b").expect("valid"))
    }

    /// Writes a backfill of the fires at -10, -8 and -6, as it is before its fire at `next`, or takes it away. With it
    /// the run of one of them.
    fn backfill(&mut self, by: Writer, next: Option<i64>, run: Option<i64>) {
        let backfill = |next: i64| Backfill {
            id: RequestKey::new("b").expect("valid"),
            job: self.job.id.clone(),
            from: at(-10),
            to: at(-4),
            next: at(next),
            created: u32::try_from((next + 10) / 2).expect("not before the first"),
            total: 3,
            max_fires: 3,
            requested_at: at(0),
            params: None,
        };
        let document = next.map(|next| encode(&backfill(next)));
        let mut changes = vec![(self.keys.backfill(segment(), &self.job.id), document)];
        changes.extend(run.map(|second| self.given(&Self::backfilled(second))));
        self.write(by, changes);
    }

    /// What becomes of a run once it is given.
    fn played(&mut self, run: &RunId) {
        self.claim(run);
        self.start(run);
        self.end(WORKER, run, Outcome::Succeeded);
        self.save(run, Outcome::Succeeded);
        self.collect(run);
    }

    /// A broadcast of two shards, from its fire on.
    fn spread(&mut self, second: i64) -> Spread {
        let run = Self::run(second);
        let snapshot = Snapshot { routing: Routing::Broadcast, ..self.snapshot(&run) };
        let parked = self.keys.pending(&group(), &run);
        self.cursor(second, LEADER, vec![(parked.clone(), Some(encode(&snapshot)))]);
        let spread = Spread {
            snapshot,
            spread_at: at(0),
            clients: vec![client(); 2],
            created: 2,
            ended: Default::default(),
            stopping: None,
        };
        let shards = [0, 1].map(|index| self.shard(&spread, index));
        self.write(LEADER, [vec![(parked, None), self.told(&spread)], shards.into()].concat());
        spread
    }

    fn shard(&self, spread: &Spread, index: u32) -> (String, Option<Vec<u8>>) {
        let id = spread.snapshot.id.shard_run(index).expect("fits");
        let key = self.keys.pending(&group(), &id);
        let shard =
            Snapshot { id, shard: Some(spread.shard(index)), followed: true, ..spread.snapshot.clone() };
        (key, Some(encode(&shard)))
    }

    fn told(&self, spread: &Spread) -> (String, Option<Vec<u8>>) {
        (self.keys.spread(&group(), &spread.snapshot.id), Some(encode(spread)))
    }

    /// A shard ends without a client, and is still to be settled.
    fn end_shard(&mut self, spread: &Spread, index: u32) {
        let (parked, _) = self.shard(spread, index);
        let ended = self.ended_shard(spread, index, false);
        self.write(LEADER, vec![(parked, None), ended]);
    }

    fn ended_shard(&self, spread: &Spread, index: u32, decided: bool) -> (String, Option<Vec<u8>>) {
        let id = spread.snapshot.id.shard_run(index).expect("fits");
        let key = self.keys.execution(&group(), None, &id);
        let snapshot = Snapshot { id, ..spread.snapshot.clone() };
        let mut ended = Execution::never_started(snapshot, Outcome::NoClient, "", at(0));
        ended.decided = decided;
        (key, Some(encode(&ended)))
    }

    fn whole_ended(&self, spread: &Spread, outcome: Outcome) -> Vec<(String, Option<Vec<u8>>)> {
        let mut ended = Execution::claimed(spread.snapshot.clone(), at(0));
        ended.finish(outcome, String::new(), at(0), 1);
        ended.decided = true;
        let key = self.keys.execution(&group(), None, &spread.snapshot.id);
        vec![(self.told(spread).0, None), (key, Some(encode(&ended)))]
    }

    fn found(&self, ends_at: Option<u64>) -> Vec<Promise> {
        let terms = Terms {
            segments: SegmentCount::new(1).expect("valid"),
            calm_at: 0,
            ends_at,
            drops_events: false,
        };
        check(&self.entries, terms).into_iter().map(|violation| violation.promise).collect()
    }
}

#[test]
fn a_good_history_keeps_every_promise() {
    let mut tale = Tale::begin();
    tale.pass(2_000).whole(2);
    tale.pass(2_000).whole(4);
    let (run, next) = tale.pass(2_000).failed(6);
    tale.end(WORKER, &run, Outcome::Failed);
    tale.write(LEADER, vec![tale.settled(&run), tale.delay(&next)]);
    assert_eq!(tale.found(None), []);
    tale.counted(8, 8, 1, vec![]);
    tale.pass(4_000).counted(10, 8, 2, vec![]);
    let skip = tale.skipped(&Tale::run(12), 2);
    tale.pass(2_000).cursor(12, LEADER, vec![skip]);
    assert_eq!(tale.found(None), []);
    let mut past = Tale::begin();
    past.backfill(OTHER, Some(-10), None);
    for (next, run) in [(Some(-8), -10), (Some(-6), -8), (None, -6)] {
        past.backfill(LEADER, next, Some(run));
        past.played(&Tale::backfilled(run));
    }
    assert_eq!(past.found(None), []);
    let mut parts = Tale::begin();
    let mut spread = parts.pass(2_000).spread(2);
    parts.end_shard(&spread, 1);
    parts.end_shard(&spread, 0);
    spread.ended = [(0, Outcome::NoClient)].into();
    parts.write(LEADER, vec![parts.ended_shard(&spread, 0, true), parts.told(&spread)]);
    let last =
        [vec![parts.ended_shard(&spread, 1, true)], parts.whole_ended(&spread, Outcome::Failed)].concat();
    parts.write(LEADER, last);
    assert_eq!(parts.found(None), []);
    let mut drained = Tale::begin();
    drained.pass(2_000).whole(2);
    assert_eq!(drained.found(Some(4_500)), []);
}

/// Tells a good history up to a point, and then something that must not be.
type Plant = fn(&mut Tale);

#[rustfmt::skip]
const BUGS: &[(&str, Promise, Plant)] = &[
    ("a fire runs twice", Promise::CreatedOnce, |t| { t.pass(2_000).whole(2); t.write(LEADER, vec![t.given(&Tale::run(2))]); }),
    ("a fire is forgotten", Promise::EachFireDecided, |t| { t.pass(4_000).dispatch(4); }),
    ("a fire is decided that is not due", Promise::EachFireDecided, |t| { t.pass(3_000).dispatch(3); }),
    ("a record stands for too many fires", Promise::EachFireDecided, |t| { let skip = t.pass(6_000).skipped(&Tale::run(6), 7); t.cursor(6, LEADER, vec![skip]); }),
    ("a run appears without the cursor", Promise::EachFireDecided, |t| { t.pass(2_000); t.write(LEADER, vec![t.given(&Tale::run(2))]); }),
    ("a fire is counted twice", Promise::EachFireDecided, |t| { t.pass(4_000).counted(4, 2, 2, vec![]); t.counted(4, 2, 3, vec![]); }),
    ("a fire is counted and recorded", Promise::EachFireDecided, |t| { let skip = t.pass(2_000).skipped(&Tale::run(2), 0); t.counted(2, 2, 1, vec![skip]); }),
    ("a fire is not counted", Promise::EachFireDecided, |t| { t.pass(4_000).counted(2, 2, 1, vec![]); t.counted(4, 2, 1, vec![]); }),
    ("a counter is forgotten", Promise::EachFireDecided, |t| { t.pass(4_000).counted(2, 2, 1, vec![]); t.whole(4); }),
    ("a record leaves counted fires out", Promise::EachFireDecided, |t| { t.pass(8_000).counted(4, 2, 2, vec![]); let skip = t.skipped(&Tale::run(6), 1); t.cursor(6, LEADER, vec![skip]); }),
    ("a fire of a backfill is left out", Promise::Backfilled, |t| { t.backfill(OTHER, Some(-10), None); t.backfill(LEADER, Some(-6), Some(-8)); }),
    ("a backfill moves without a run", Promise::Backfilled, |t| { t.backfill(OTHER, Some(-10), None); t.backfill(LEADER, Some(-8), None); }),
    ("a backfill ends before its last fire", Promise::Backfilled, |t| { t.backfill(OTHER, Some(-10), None); t.backfill(LEADER, None, Some(-10)); }),
    ("a run of a backfill that is not there", Promise::Backfilled, |t| { t.write(LEADER, vec![t.given(&Tale::backfilled(-10))]); }),
    ("a follower moves a backfill", Promise::OneTerm, |t| { t.backfill(OTHER, Some(-10), None); t.backfill(OTHER, Some(-8), Some(-10)); }),
    ("the cursor goes back", Promise::CursorAdvances, |t| { t.pass(2_000).whole(2); t.cursor(1, LEADER, vec![]); }),
    ("the cursor runs ahead of the time", Promise::CursorAdvances, |t| { t.cursor(60, LEADER, vec![]); }),
    ("a run is in two places", Promise::OnePlace, |t| { let run = t.pass(2_000).dispatch(2); t.write(LEADER, vec![(t.keys.pending(&group(), &run), Some(encode(&t.snapshot(&run))))]); }),
    ("more runs than a job allows", Promise::WithinLimits, |t| { (t.job.max_in_flight, t.job.overlap, t.job.version) = (Some(1), Overlap::Allow, 2); t.save_job(OTHER); t.pass(20_000).skip_to(18); t.dispatch(20); t.pass(2_000).dispatch(22); }),
    ("more runs than a group allows", Promise::WithinLimits, |t| { t.write(OTHER, vec![(t.keys.group(&group()), Some(br#"{"name":"alpha","max_in_flight":1}"#.into()))]); t.job.overlap = Overlap::Allow; t.job.version = 2; t.save_job(OTHER); t.pass(20_000).skip_to(18); t.dispatch(20); t.pass(2_000).dispatch(22); }),
    ("two runs overlap", Promise::NoOverlap, |t| { t.pass(4_000).dispatch(2); t.dispatch(4); }),
    ("a snapshot vanishes", Promise::NoneVanishes, |t| { let run = t.pass(2_000).dispatch(2); t.write(LEADER, vec![(t.keys.snapshot(&group(), &client(), &run), None)]); }),
    ("an end is overwritten", Promise::EndStays, |t| { let run = t.pass(2_000).dispatch(2); t.claim(&run); t.end(WORKER, &run, Outcome::Cancelled); t.end(WORKER, &run, Outcome::Succeeded); }),
    ("a row is overwritten", Promise::EndStays, |t| { let run = t.pass(2_000).whole(2); t.save(&run, Outcome::Cancelled); }),
    ("a retry of what succeeded", Promise::RetryHasReason, |t| { let (run, next) = t.pass(2_000).failed(2); t.end(WORKER, &run, Outcome::Succeeded); t.write(LEADER, vec![t.delay(&next)]); }),
    ("a retry of what was cancelled", Promise::RetryHasReason, |t| { let (run, next) = t.pass(2_000).failed(2); t.write(LEADER, vec![(t.keys.cancel(&group(), &client(), &run), Some(b"{}".into()))]); t.end(WORKER, &run, Outcome::Failed); t.write(LEADER, vec![t.settled(&run), t.delay(&next)]); }),
    ("an old version fires", Promise::NoOldVersion, |t| { let given = t.given(&Tale::run(2)); t.job.version += 1; t.save_job(OTHER); t.pass(2_000).cursor(2, LEADER, vec![given]); }),
    ("a disabled job fires", Promise::NoOldVersion, |t| { t.job.version += 1; t.job.status = JobStatus::Disabled; t.save_job(OTHER); t.pass(2_000).dispatch(2); }),
    ("a run follows nothing", Promise::Followed, |t| { t.follower(); let run = RunId::following(&"s".parse().expect("valid"), at(2), None); t.write(LEADER, vec![t.delay(&run)]); }),
    ("a fire does not know that it is followed", Promise::Followed, |t| { t.follower(); t.pass(2_000).dispatch(2); }),
    ("an end is not followed", Promise::Followed, |t| { t.follower(); let run = t.pass(2_000).dispatch(2); t.claim(&run); t.write(LEADER, vec![t.executed(&run, Some(Outcome::Succeeded))]); }),
    ("a job follows itself", Promise::Followed, |t| { t.job.trigger = after(&t.job.id); t.job.version += 1; t.save_job(OTHER); }),
    ("a deposed leader writes", Promise::OneTerm, |t| { t.write(LEADER, vec![(t.keys.leader(), None)]); t.write(OTHER, vec![(t.keys.leader(), Some(b"node-1".into()))]); t.pass(2_000).dispatch(2); }),
    ("the leadership is taken away", Promise::OneTerm, |t| { t.write(OTHER, vec![(t.keys.leader(), Some(b"node-1".into()))]); }),
    ("a run is taken from a living client", Promise::LeftAlone, |t| { let run = t.pass(2_000).dispatch(2); t.write(LEADER, vec![(t.keys.snapshot(&group(), &client(), &run), None), (t.keys.pending(&group(), &run), Some(encode(&t.snapshot(&run))))]); }),
    ("a run of a living client is called lost", Promise::LeftAlone, |t| { let run = t.pass(2_000).dispatch(2); t.claim(&run); t.end(LEADER, &run, Outcome::Lost); }),
    ("a client without a registration claims", Promise::ClaimedByTheRegistered, |t| { let run = t.pass(2_000).dispatch(2); t.vanish(); t.claim(&run); }),
    ("a claim out of nothing", Promise::CreatedOnce, |t| { t.pass(2_000); t.claim(&Tale::run(2)); }),
    ("a handler starts twice", Promise::StartedOnce, |t| { let run = t.pass(2_000).dispatch(2); t.claim(&run); t.start(&run); t.start(&run); }),
    ("a later attempt has a smaller token", Promise::StartedOnce, |t| { let (_, next) = t.pass(2_000).failed(2); t.add(Happened::Started { machine: 2, run: next, fencing_token: 1 }); }),
    ("a result is deleted before it is saved", Promise::NoResultLost, |t| { let run = t.pass(2_000).dispatch(2); t.claim(&run); t.end(WORKER, &run, Outcome::Succeeded); t.collect(&run); }),
    ("an update is lost", Promise::NoLostUpdate, |t| { t.save_job(OTHER); }),
    ("a job is left without its group", Promise::NoLostUpdate, |t| { t.write(OTHER, vec![(t.keys.group(&group()), None)]); }),
    ("a shard comes out of nothing", Promise::PartsOfOne, |t| { let spread = t.pass(2_000).spread(2); let third = Spread { clients: vec![client(); 3], created: 3, ..spread }; let shard = t.shard(&third, 2); t.write(LEADER, vec![shard]); }),
    ("a broadcast tells of an end that is none", Promise::PartsOfOne, |t| { let spread = t.pass(2_000).spread(2); let told = t.told(&Spread { ended: [(0, Outcome::Succeeded)].into(), ..spread }); t.write(LEADER, vec![told]); }),
    ("a broadcast forgets an end", Promise::PartsOfOne, |t| { let spread = t.pass(2_000).spread(2); t.end_shard(&spread, 0); let told = t.told(&Spread { ended: [(0, Outcome::NoClient)].into(), ..spread.clone() }); t.write(LEADER, vec![t.ended_shard(&spread, 0, true), told]); t.write(LEADER, vec![t.told(&spread)]); }),
    ("a shard is settled without its parent", Promise::PartsOfOne, |t| { let spread = t.pass(2_000).spread(2); t.end_shard(&spread, 0); t.write(LEADER, vec![t.ended_shard(&spread, 0, true)]); }),
    ("a broadcast ends before its shards", Promise::PartsOfOne, |t| { let spread = t.pass(2_000).spread(2); t.write(LEADER, t.whole_ended(&spread, Outcome::Failed)); }),
    ("a broadcast overlaps another run", Promise::NoOverlap, |t| { t.pass(4_000).spread(2); t.dispatch(4); }),
    ("a request is replaced", Promise::AskedOnce, |t| { t.ask("k", 7); t.ask("k", 8); }),
    ("an answer is replaced", Promise::AskedOnce, |t| { t.answer("k", 7); t.answer("k", 8); }),
    ("a run is cancelled and nobody asks", Promise::AskedOnce, |t| { let run = t.pass(2_000).dispatch(2); t.claim(&run); t.write(LEADER, vec![(t.keys.cancel(&group(), &client(), &run), Some(b"{}".into()))]); }),
    ("a process ends by itself", Promise::Lives, |t| { t.add(Happened::Broke("node-0 panicked".into())); }),
];

impl Tale {
    fn manual(mark: u64) -> RunId {
        let key = RequestKey::new(format!("k{mark}")).expect("valid");
        RunId::manual(&JobId::new("j").expect("valid"), at(1), &key)
    }

    fn ask(&mut self, key: &str, mark: u64) {
        let request = Request {
            kind: RequestKind::Run,
            job: self.job.id.clone(),
            run: Self::manual(mark),
            requested_at: at(1),
            client: None,
            params: None,
            by: String::new(),
            retry_of: None,
            scheduled_at: None,
            traceparent: None,
        };
        let key = self.keys.request(segment(), &RequestKey::new(key).expect("valid"));
        self.write(OTHER, vec![(key, Some(encode(&request)))]);
    }

    fn answer(&mut self, key: &str, mark: u64) {
        let answer = Answer { job: self.job.id.clone(), run: Self::manual(mark) };
        let key = self.keys.answer(segment(), &RequestKey::new(key).expect("valid"));
        self.write(OTHER, vec![(key, Some(encode(&answer)))]);
    }
}

#[test]
fn every_planted_bug_is_found() {
    for (name, promise, plant) in BUGS {
        let mut tale = Tale::begin();
        assert_eq!(tale.found(None), [], "{name}: before it");
        plant(&mut tale);
        assert!(tale.found(None).contains(promise), "{name}: {:?}", tale.found(None));
    }
}

#[test]
fn what_is_not_done_in_the_end_is_found() {
    let stuck: [(&str, Plant); 6] = [
        ("a counter of a job that is gone", |t| {
            t.pass(2_000).counted(2, 2, 1, vec![]);
            t.write(OTHER, vec![(t.keys.job(&t.job.id), None)]);
        }),
        ("a backfill", |t| {
            t.pass(2_000).whole(2);
            t.backfill(OTHER, Some(-10), None);
        }),
        ("a fire", |t| {
            t.pass(2_000);
        }),
        ("a snapshot", |t| {
            t.pass(2_000).dispatch(2);
        }),
        ("a running execution", |t| {
            let run = t.pass(2_000).dispatch(2);
            t.claim(&run);
        }),
        ("a request", |t| {
            t.pass(2_000).whole(2);
            t.ask("k", 7);
        }),
    ];
    for (name, tell) in stuck {
        let mut tale = Tale::begin();
        tell(&mut tale);
        assert!(tale.found(Some(30_000)).contains(&Promise::Drained), "{name}");
    }
}

#[test]
fn an_end_that_is_saved_nowhere_is_found() {
    let mut tale = Tale::begin();
    let run = tale.pass(2_000).dispatch(2);
    tale.claim(&run);
    tale.end(WORKER, &run, Outcome::Succeeded);
    assert!(tale.found(Some(30_000)).contains(&Promise::NoResultLost));
}
