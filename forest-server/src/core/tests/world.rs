//! etcd, the time, and everybody who writes beside the leader: administrators, clients, the collector.

use std::time::Duration;

use forest_etcd::{Outcome as Committed, Txn};
use forest_proto::record::{
    Backfill, Calendar, ClientRecord, Drain, Execution, Job, JobStatus, Outcome, Request, RequestKind,
    Snapshot, Spread, Status, decode, encode,
};
use forest_proto::time::Instant;
use forest_proto::{ClientId, JobId, Key, Keyspace, RequestKey, RunId, Segment, SegmentCount, TargetName};
use jiff::tz::TimeZone;

use super::audit::{Audit, Promise};
use super::fake::Fake;
use super::{CLIENT_TTL, MINUTE, START, group, id, target};
use crate::core::clients::Seat;
use crate::core::compose::Defaults;
use crate::core::dependencies::followed_by;
use crate::core::view::Now;

pub(super) struct World {
    pub(super) etcd: Fake,
    pub(super) audit: Audit,
    pub(super) keys: Keyspace,
    pub(super) segments: SegmentCount,
    pub(super) now_ms: i64,
    pub(super) boot: Duration,
    pub(super) defaults: Defaults,
    asked: u32,
}

/// A client's document that serves the one target of these stories.
pub(super) fn client(name: &str, capacity: u32) -> ClientRecord {
    ClientRecord {
        capacity,
        targets: Some(vec![target()]),
        ttl_ms: Some(u64::try_from(CLIENT_TTL.as_millis()).unwrap()),
        ..ClientRecord::read(name.as_bytes()).unwrap()
    }
}

impl World {
    pub(super) fn new(segments: u16) -> Self {
        let (keys, segments) = (Keyspace::default(), SegmentCount::new(segments).unwrap());
        let defaults = Defaults {
            misfire_threshold_ms: 5_000,
            start_deadline_ms: 60 * MINUTE,
            zone_name: "UTC".into(),
            zone: TimeZone::UTC,
            trace_ratio: None,
        };
        Self {
            etcd: Fake::default(),
            audit: Audit::new(keys.clone(), segments),
            keys,
            segments,
            now_ms: START,
            boot: Duration::from_secs(1_000),
            defaults,
            asked: 0,
        }
    }

    pub(super) fn now(&self) -> Now {
        Now { wall_ms: self.now_ms, boot: self.boot }
    }

    pub(super) fn pass(&mut self, ms: i64) {
        self.now_ms += ms;
        self.boot += Duration::from_millis(u64::try_from(ms).unwrap());
    }

    pub(super) fn commit(&mut self, txn: &Txn) -> Committed {
        let before = self.etcd.revision();
        match self.etcd.commit(txn) {
            Ok(outcome) => {
                for (_, changes) in self.etcd.after(before) {
                    self.audit.observe(self.now_ms, changes);
                }
                outcome
            }
            Err(why) => {
                self.audit.breaks(Promise::EtcdTakesIt, why);
                Committed::Refused { revision: before, found: Vec::new() }
            }
        }
    }

    /// Somebody writes whatever he likes. The audit does not look at what it could not read either.
    pub(super) fn commit_raw(&mut self, key: &str, value: &[u8]) -> Committed {
        let before = self.etcd.revision();
        let outcome = self.etcd.commit(&Txn::new().put(key, value)).unwrap();
        if matches!(self.keys.parse(key), Some(Key::Job(_))) {
            for (_, changes) in self.etcd.after(before) {
                self.audit.observe(self.now_ms, changes);
            }
        }
        outcome
    }

    fn must(&mut self, txn: &Txn) {
        let outcome = self.commit(txn);
        assert!(matches!(outcome, Committed::Applied { .. }), "{outcome:?}");
    }

    /// Stores a calendar as an administrator does: with the generation of every segment.
    pub(super) fn save_calendar(&mut self, calendar: &Calendar) {
        let put = Txn::new().put(self.keys.calendar(&calendar.name), encode(calendar));
        let put = self
            .segments
            .all()
            .fold(put, |txn, segment| txn.put(self.keys.jobgen(segment), calendar.name.as_str()));
        self.must(&put);
    }

    /// Stores a job as an administrator does: with a new version, and the generation of its segment and of
    /// those of the jobs that it follows.
    pub(super) fn save(&mut self, job: &Job) {
        let version = self.audit.tally.get(&job.id).map_or(1, |before| before.version + 1);
        let (segment, job) = (self.segments.segment_of(&job.id), Job { version, ..job.clone() });
        let mut segments: std::collections::BTreeSet<_> =
            followed_by(&job).iter().map(|followed| self.segments.segment_of(followed)).collect();
        segments.insert(segment);
        let txn = Txn::new().put(self.keys.job(&job.id), encode(&job));
        let put = |txn: Txn, segment| txn.put(self.keys.jobgen(segment), job.id.as_str());
        self.must(&segments.into_iter().fold(txn, put));
    }

    pub(super) fn delete_job(&mut self, job: &str) {
        let id = id(job);
        let txn = Txn::new().put(self.keys.jobgen(self.segments.segment_of(&id)), job);
        self.must(&txn.delete(self.keys.job(&id)));
    }

    pub(super) fn disable(&mut self, job: &str) {
        let stored = self.audit.tally.get(&id(job)).unwrap().clone();
        self.save(&Job { status: JobStatus::Disabled, ..stored });
    }

    /// Enabled again, a job counts from now on.
    pub(super) fn enable(&mut self, job: &str) {
        let stored = self.audit.tally.get(&id(job)).unwrap().clone();
        let effective_after = Some(Instant::from_ms(self.now_ms));
        self.save(&Job { status: JobStatus::Enabled, effective_after, ..stored });
    }

    pub(super) fn register(&mut self, name: &str, capacity: u32) {
        self.register_as(name, &client(name, capacity));
    }

    pub(super) fn register_as(&mut self, name: &str, record: &ClientRecord) {
        let key = self.keys.client(&group(), &ClientId::new(name).unwrap());
        self.must(&Txn::new().put(key, record.write()));
    }

    pub(super) fn vanish(&mut self, name: &str) {
        let key = self.keys.client(&group(), &ClientId::new(name).unwrap());
        self.must(&Txn::new().delete(key));
    }

    /// Somebody says that a client is to get no new runs.
    pub(super) fn drain(&mut self, name: &str) {
        let drain = Drain { at: Instant::from_ms(self.now_ms), by: "user:ann".into() };
        let key = self.keys.drain(&group(), &ClientId::new(name).unwrap());
        self.must(&Txn::new().put(key, encode(&drain)));
    }

    pub(super) fn undrain(&mut self, name: &str) {
        let key = self.keys.drain(&group(), &ClientId::new(name).unwrap());
        self.must(&Txn::new().delete(key));
    }

    pub(super) fn ask_run(&mut self, job: &str) -> RunId {
        self.asked += 1;
        let key = RequestKey::new(format!("ask-{}", self.asked)).unwrap();
        let run = RunId::manual(&id(job), Instant::from_ms(self.now_ms), &key);
        self.ask(RequestKind::Run, run.clone(), key);
        run
    }

    pub(super) fn ask_cancel(&mut self, run: &RunId) {
        self.asked += 1;
        let key = RequestKey::new(format!("cancel-{}", self.asked)).unwrap();
        self.ask(RequestKind::Cancel, run.clone(), key);
    }

    /// Somebody has an ended run run again, with these parameters.
    pub(super) fn ask_again(&mut self, of: &RunId, scheduled_at: i64, params: &str) -> RunId {
        self.asked += 1;
        let key = RequestKey::new(format!("again-{}", self.asked)).unwrap();
        let job = JobId::new(of.job()).unwrap();
        let run = RunId::manual(&job, Instant::from_ms(self.now_ms), &key);
        let request = Request {
            kind: RequestKind::Run,
            job: job.clone(),
            run: run.clone(),
            requested_at: Instant::from_ms(self.now_ms),
            params: Some(params.into()),
            client: None,
            by: String::new(),
            retry_of: Some(of.clone()),
            scheduled_at: Some(Instant::from_ms(scheduled_at)),
            traceparent: None,
        };
        let key = self.keys.request(self.segments.segment_of(&job), &key);
        self.must(&Txn::new().absent(key.clone()).put(key, encode(&request)));
        run
    }

    fn ask(&mut self, kind: RequestKind, run: RunId, key: RequestKey) {
        let job = JobId::new(run.job()).unwrap();
        let request = Request {
            kind,
            job: job.clone(),
            run,
            requested_at: Instant::from_ms(self.now_ms),
            params: None,
            client: None,
            by: String::new(),
            retry_of: None,
            scheduled_at: None,
            traceparent: None,
        };
        let key = self.keys.request(self.segments.segment_of(&job), &key);
        self.must(&Txn::new().absent(key.clone()).put(key, encode(&request)));
    }

    /// A backfill as an administrator would write it.
    pub(super) fn backfill_of(&mut self, job: &str, from: i64, to: i64) -> Backfill {
        self.asked += 1;
        let (from, to) = (Instant::from_ms(from), Instant::from_ms(to));
        Backfill {
            id: RequestKey::new(format!("backfill-{}", self.asked)).unwrap(),
            job: id(job),
            from,
            to,
            next: from,
            created: 0,
            total: 0,
            max_fires: 10_000,
            requested_at: Instant::from_ms(self.now_ms),
            params: None,
        }
    }

    pub(super) fn backfill(&mut self, job: &str, from: i64, to: i64) -> Backfill {
        self.backfill_with(job, from, to, |_| {})
    }

    pub(super) fn backfill_with(
        &mut self,
        job: &str,
        from: i64,
        to: i64,
        change: impl FnOnce(&mut Backfill),
    ) -> Backfill {
        let mut backfill = self.backfill_of(job, from, to);
        change(&mut backfill);
        let key = self.keys.backfill(self.segments.segment_of(&backfill.job), &backfill.job);
        self.must(&Txn::new().absent(key.clone()).put(key, encode(&backfill)));
        backfill
    }

    pub(super) fn cancel_backfill(&mut self, job: &str) {
        self.audit.backfills.cancelled.insert(id(job));
        let key = self.keys.backfill(self.segments.segment_of(&id(job)), &id(job));
        self.must(&Txn::new().delete(key));
    }

    /// The jobs that have one.
    pub(super) fn backfills(&self) -> Vec<JobId> {
        self.parsed(|key| match key {
            Key::Backfill { job, .. } => Some(job),
            _ => None,
        })
    }

    /// The open requests.
    pub(super) fn requests(&self) -> Vec<(Segment, RequestKey)> {
        self.parsed(|key| match key {
            Key::Request { segment, key } => Some((segment, key)),
            _ => None,
        })
    }

    /// Given and not claimed.
    pub(super) fn given(&self) -> Vec<(Seat, RunId)> {
        self.parsed(|key| match key {
            Key::Snapshot { group, client, run } => Some(((group, client), run)),
            _ => None,
        })
    }

    pub(super) fn running(&self) -> Vec<(Seat, RunId)> {
        let executions = self.parsed(|key| match key {
            Key::Execution { group, client, run } => Some(((group, client?), run)),
            _ => None,
        });
        let running = |(seat, run): &(Seat, RunId)| {
            let kv = self.etcd.get(&self.keys.execution(&seat.0, Some(&seat.1), run));
            kv.is_some_and(|kv| decode::<Execution>(&kv.value).unwrap().status == Status::Running)
        };
        executions.into_iter().filter(running).collect()
    }

    fn parsed<T>(&self, pick: impl Fn(Key) -> Option<T>) -> Vec<T> {
        self.etcd.all().filter_map(|kv| pick(self.keys.parse(&kv.key)?)).collect()
    }

    /// The keys of a run, whatever they are.
    pub(super) fn places(&self, run: &RunId) -> Vec<Key> {
        self.parsed(|key| match &key {
            Key::Delay { run: found, .. }
            | Key::Pending { run: found, .. }
            | Key::Spread { run: found, .. }
            | Key::Snapshot { run: found, .. }
            | Key::Execution { run: found, .. } => (found == run).then_some(key),
            _ => None,
        })
    }

    /// The document of a broadcast.
    pub(super) fn spread(&self, run: &RunId) -> Option<Spread> {
        self.etcd.get(&self.keys.spread(&group(), run)).map(|kv| decode(&kv.value).unwrap())
    }

    pub(super) fn pending(&self) -> Vec<RunId> {
        self.parsed(|key| match key {
            Key::Pending { run, .. } => Some(run),
            _ => None,
        })
    }

    pub(super) fn delayed(&self) -> Vec<(i64, RunId)> {
        self.parsed(|key| match key {
            Key::Delay { due, run, .. } => Some((due.as_ms(), run)),
            _ => None,
        })
    }

    /// A client's claim, with a client's guards.
    pub(super) fn claim(&mut self, seat: &Seat, run: &RunId) -> bool {
        let txn = self.claim_txn(seat, run);
        txn.is_some_and(|txn| matches!(self.commit(&txn), Committed::Applied { .. }))
    }

    pub(super) fn claim_txn(&self, seat: &Seat, run: &RunId) -> Option<Txn> {
        let (from, registration) =
            (self.keys.snapshot(&seat.0, &seat.1, run), self.keys.client(&seat.0, &seat.1));
        let (given, client) = (self.etcd.get(&from)?, self.etcd.get(&registration)?);
        let snapshot: Snapshot = decode(&given.value).unwrap();
        let execution = Execution::claimed(snapshot, Instant::from_ms(self.now_ms));
        let txn = Txn::new()
            .modified(from.clone(), given.mod_revision)
            .created(registration, client.create_revision)
            .delete(from)
            .put(self.keys.execution(&seat.0, Some(&seat.1), run), encode(&execution));
        Some(txn)
    }

    /// Claims the run where it is.
    pub(super) fn claim_run(&mut self, run: &RunId) -> Seat {
        let (seat, _) = self.given().into_iter().find(|(_, given)| given == run).unwrap();
        assert!(self.claim(&seat, run));
        seat
    }

    /// A client's completion, with a client's guard.
    pub(super) fn complete(&mut self, seat: &Seat, run: &RunId, outcome: Outcome) -> bool {
        let txn = self.complete_txn(seat, run, outcome);
        txn.is_some_and(|txn| matches!(self.commit(&txn), Committed::Applied { .. }))
    }

    pub(super) fn complete_txn(&self, seat: &Seat, run: &RunId, outcome: Outcome) -> Option<Txn> {
        let key = self.keys.execution(&seat.0, Some(&seat.1), run);
        let kv = self.etcd.get(&key)?;
        let mut execution: Execution = decode(&kv.value).unwrap();
        if execution.status != Status::Running {
            return None;
        }
        execution.finish(outcome, format!("{outcome:?}"), Instant::from_ms(self.now_ms), 0);
        Some(Txn::new().modified(key.clone(), kv.mod_revision).put(key, encode(&execution)))
    }

    /// A client's handler saves a checkpoint, with a client's guard.
    pub(super) fn save_checkpoint(&mut self, seat: &Seat, run: &RunId, checkpoint: &str) {
        let key = self.keys.execution(&seat.0, Some(&seat.1), run);
        let kv = self.etcd.get(&key).unwrap();
        let (mut execution, revision): (Execution, _) = (decode(&kv.value).unwrap(), kv.mod_revision);
        execution.snapshot.checkpoint = Some(checkpoint.into());
        self.must(&Txn::new().modified(key.clone(), revision).put(key, encode(&execution)));
    }

    /// What a run that was given, and not claimed yet, has from the attempts before it.
    pub(super) fn given_checkpoint(&self, run: &RunId) -> Option<String> {
        let (seat, _) = self.given().into_iter().find(|(_, given)| given == run)?;
        let kv = self.etcd.get(&self.keys.snapshot(&seat.0, &seat.1, run))?;
        decode::<Snapshot>(&kv.value).unwrap().checkpoint
    }

    /// Claims and completes.
    pub(super) fn execute(&mut self, run: &RunId, outcome: Outcome) {
        let seat = self.claim_run(run);
        assert!(self.complete(&seat, run, outcome));
    }

    /// The collector takes what is settled.
    pub(super) fn collect(&mut self) {
        let settled = |value: &[u8]| decode::<Execution>(value).is_ok_and(|execution| execution.decided);
        let taken: Vec<_> = self
            .etcd
            .all()
            .filter(|kv| {
                matches!(self.keys.parse(&kv.key), Some(Key::Execution { .. })) && settled(&kv.value)
            })
            .map(|kv| (kv.key.clone(), kv.mod_revision))
            .collect();
        for (key, revision) in taken {
            self.must(&Txn::new().modified(key.clone(), revision).delete(key));
        }
    }

    pub(super) fn end_of(&self, run: &RunId) -> Option<Outcome> {
        self.audit.ended.get(run)?.outcome
    }

    /// The run of a fire.
    pub(super) fn fire(job: &str, at: i64) -> RunId {
        RunId::scheduled(&id(job), Instant::from_ms(at), 1)
    }

    /// A key of the leader's election, put anew: every earlier term is over.
    pub(super) fn new_term(&mut self) -> i64 {
        let key = self.keys.leader();
        self.commit(&Txn::new().delete(key.clone()));
        self.must(&Txn::new().absent(key.clone()).put(key, "node"));
        self.etcd.revision()
    }

    pub(super) fn serving(targets: &[&str], name: &str) -> ClientRecord {
        let targets = targets.iter().map(|text| TargetName::new(text).unwrap()).collect();
        ClientRecord { targets: Some(targets), ..client(name, 4) }
    }
}
