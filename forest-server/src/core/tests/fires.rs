//! Every due fire gets one decision, whatever happens to the leaders. Random stories; the audit works out the
//! fires for itself and compares them at every move of a cursor.

use fastrand::Rng;
use forest_etcd::{Outcome as Committed, Txn};
use forest_proto::Segment;
use forest_proto::record::{DstFold, DstGap, Job, JobStatus, Misfire};
use forest_proto::time::Instant;

use super::leader::{Leader, deliver, listed_view};
use super::world::World;
use super::{DAY, HOUR, MINUTE, SECOND, START, forbidding, id, job};
use crate::core::dispatch::Batch;

const STORIES: u64 = 60;
const SPECS: [(&str, &str); 12] = [
    ("* * * * * *", ""),
    ("*/7 * * * * *", "Asia/Shanghai"),
    ("10/20 * * * * *", ""),
    ("0 * * * * *", "Europe/Berlin"),
    ("0 0/5 * * * *", "Asia/Kolkata"),
    ("0 0 * * * *", "America/New_York"),
    ("0 30 2 * * *", "America/New_York"),
    ("0 15 1,2,3 * * *", "Europe/Berlin"),
    ("0 0/15 8-18 * * MON-FRI", "Australia/Lord_Howe"),
    ("@every 90s", ""),
    ("@every 17s", ""),
    ("@every 2h", ""),
];

/// The days around which clocks change in Berlin and New York, and a plain one.
const STARTS: [i64; 4] =
    [START, START + 66 * DAY + 14 * HOUR, START + 71 * DAY + 14 * HOUR, START + 288 * DAY + 14 * HOUR];

struct Story {
    rng: Rng,
    world: World,
    leader: Leader,
    /// Those that do not know that their term is over.
    deposed: Vec<Leader>,
    /// Transactions of which nobody knows what became.
    under_way: Vec<Txn>,
    jobs: usize,
    jumps: bool,
}

impl Story {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut world = World::new(rng.u16(1..=3));
        world.now_ms = STARTS[rng.usize(..STARTS.len())];
        world.register("c-1", 100_000);
        let leader = Leader::elect(&mut world);
        let jumps = rng.bool();
        let mut story = Self { rng, world, leader, deposed: vec![], under_way: vec![], jobs: 0, jumps };
        (0..story.rng.usize(2..20)).for_each(|_| story.create());
        story
    }

    fn create(&mut self) {
        let (cron, zone) = SPECS[self.rng.usize(..SPECS.len())];
        let name = format!("{:04}-{}", self.rng.u32(..10_000), self.jobs);
        self.jobs += 1;
        let base = if self.rng.u8(..4) == 0 { forbidding(&name, cron) } else { job(&name, cron) };
        let job = Job {
            time_zone: zone.into(),
            misfire: if self.rng.bool() { Misfire::Skip } else { Misfire::FireOnce },
            misfire_threshold_ms: self.rng.bool().then(|| self.rng.u64(1..120) * 1_000),
            dst_gap: if self.rng.bool() { DstGap::Skip } else { DstGap::NextValid },
            dst_fold: if self.rng.bool() { DstFold::Both } else { DstFold::First },
            effective_after: Some(Instant::from_ms(self.world.now_ms)),
            ..base
        };
        self.world.save(&job);
    }

    fn edit(&mut self) {
        let known: Vec<_> =
            self.leader.view.jobs.page(None, 100).into_iter().map(|(id, _)| id.clone()).collect();
        let Some(id) = known.get(self.rng.usize(..known.len().max(1))) else { return };
        let Some(stored) = self.world.audit.tally.get(id).cloned() else { return };
        let now = Some(Instant::from_ms(self.world.now_ms));
        match self.rng.u8(..4) {
            0 => self.world.delete_job(id.as_str()),
            1 => self.world.save(&Job { params: "other".into(), ..stored }),
            2 => self.world.save(&Job { cron: "*/13 * * * * *".into(), effective_after: now, ..stored }),
            _ => {
                let flipped = if stored.is_enabled() { JobStatus::Disabled } else { JobStatus::Enabled };
                self.world.save(&Job { status: flipped, effective_after: now, ..stored });
            }
        }
    }

    fn pass(&mut self) {
        let ms = match self.rng.u8(..20) {
            0 if self.jumps => self.rng.i64(1..4) * HOUR + self.rng.i64(0..HOUR),
            0..=2 => self.rng.i64(0..10) * MINUTE,
            _ => self.rng.i64(0..4 * SECOND),
        };
        self.world.pass(ms);
    }

    fn elect(&mut self) {
        let next = match self.rng.bool() {
            true => Leader::elect(&mut self.world),
            false => {
                let view = listed_view(&self.world);
                self.pass();
                Leader::elect_warm(&mut self.world, view)
            }
        };
        self.deposed.push(std::mem::replace(&mut self.leader, next));
        if self.deposed.len() > 2 {
            self.deposed.remove(0);
        }
    }

    fn dispatch(&mut self, segment: Segment) {
        let Some(batch) = self.leader.decide(&self.world, segment) else { return };
        match self.rng.u8(..10) {
            0 => self.lose_answer(batch, true),
            1 => self.lose_answer(batch, false),
            _ => {
                let outcome = self.world.commit(&batch.txn);
                self.leader.answered(batch, &outcome);
            }
        }
        // Sometimes the view is behind.
        if self.rng.u8(..4) > 0 {
            self.leader.catch_up(&self.world);
        } else {
            self.leader.see(&self.world, self.rng.usize(..3));
        }
    }

    /// The leader reads the cursor again, and goes on when its view has what it found.
    fn lose_answer(&mut self, batch: Batch, applied: bool) {
        if applied {
            self.world.commit(&batch.txn);
        }
        self.under_way.push(batch.txn.clone());
        let unknown = Committed::Unknown { cause: "the answer was lost".into() };
        self.leader.answered(batch, &unknown);
        self.leader.catch_up(&self.world);
    }

    fn something_goes_wrong(&mut self) {
        let segments = self.world.segments.get();
        let any = self.world.segments.all().nth(self.rng.usize(..segments)).unwrap();
        match self.rng.u8(..10) {
            0 => self.elect(),
            1..=3 => {
                if let Some(old) = self.deposed.last_mut()
                    && let Some(batch) = old.decide(&self.world, any)
                {
                    let outcome = self.world.commit(&batch.txn);
                    assert!(matches!(outcome, Committed::Refused { .. }), "an old term has committed");
                    deliver(&mut old.view, &self.world, self.rng.usize(..5));
                }
            }
            4..=5 => {
                if let Some(txn) = self.under_way.pop() {
                    self.world.commit(&txn);
                }
            }
            6 => self.create(),
            7..=8 => self.edit(),
            _ => self.leader.catch_up(&self.world),
        }
    }

    fn run(&mut self) {
        for _ in 0..80 {
            self.pass();
            if self.rng.u8(..3) == 0 {
                self.something_goes_wrong();
            }
            for segment in self.world.segments.all() {
                self.dispatch(segment);
            }
        }
        self.leader.catch_up(&self.world);
        self.leader.dispatch(&mut self.world);
    }
}

#[test]
fn every_due_fire_is_decided_once_and_in_order_whatever_happens_to_the_leaders() {
    let (mut decisions, mut moves) = (0, 0);
    for seed in 0..STORIES {
        let mut story = Story::new(seed);
        story.run();
        let audit = &story.world.audit;
        assert!(audit.broken.is_empty(), "seed {seed}: {:#?}", &audit.broken[..audit.broken.len().min(3)]);
        assert!(audit.tally.overdue(story.world.now_ms).is_empty(), "seed {seed}");
        decisions += audit.tally.decisions.len();
        moves += audit.tally.moves;
    }
    println!("{decisions} decisions in {moves} moves of cursors");
    assert!(decisions > 5_000, "{decisions}: the stories are too short to tell anything");
}

#[test]
fn the_new_leader_goes_on_where_the_old_one_stopped() {
    let (mut world, mut leader) = Leader::of_one_segment();
    world.save(&job("a", "* * * * * *"));
    leader.catch_up(&world);
    for _ in 0..50 {
        world.pass(SECOND);
        leader.dispatch(&mut world);
        leader = Leader::elect(&mut world);
    }
    world.audit.assert_kept();
    let fires: Vec<_> = world.audit.tally.decisions.iter().map(|made| made.at).collect();
    assert_eq!(fires, (1..=50).map(|n| START + n * SECOND).collect::<Vec<_>>());
}

#[test]
fn a_batch_that_is_applied_twice_or_late_changes_nothing() {
    let (mut world, mut leader) = Leader::of_one_segment();
    world.save(&job("a", "* * * * * *"));
    leader.catch_up(&world);
    world.pass(SECOND);
    let batch = leader.batch(&world).unwrap();
    assert!(matches!(world.commit(&batch.txn), Committed::Applied { .. }));
    assert!(matches!(world.commit(&batch.txn), Committed::Refused { .. }));
    leader.catch_up(&world);
    assert!(leader.batch(&world).is_none(), "a lost answer is made up for by the view");
    world.pass(SECOND);
    let late = leader.batch(&world).unwrap();
    Leader::elect(&mut world);
    assert!(matches!(world.commit(&late.txn), Committed::Refused { .. }));
    world.audit.assert_kept();
}

#[test]
fn a_missing_cursor_starts_at_now() {
    let mut world = World::new(1);
    world.save(&job("a", "0 * * * * *"));
    world.pass(DAY);
    let mut leader = Leader::elect(&mut world);
    let first = leader.batch(&world).unwrap();
    assert_eq!((first.cursor.fire_at.as_ms(), first.cursor.job.as_str()), (world.now_ms, ""));
    let outcome = world.commit(&first.txn);
    leader.answered(first, &outcome);
    assert_eq!(
        leader.view.jobs.get(&id("a")).unwrap().next_ms(),
        Some(world.now_ms),
        "a fire of this very moment"
    );
    leader.dispatch(&mut world);
    assert_eq!(world.audit.tally.decisions.len(), 1);
    world.audit.assert_kept();
}
