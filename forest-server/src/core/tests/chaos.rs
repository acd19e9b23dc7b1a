//! Everything at once: leaders that change, clients that come, drain and die, edits, requests, cancels, lost
//! answers. The audit watches every revision; in the end nothing may be left undone.

use fastrand::Rng;
use forest_etcd::Txn;
use forest_proto::record::{ClientRecord, Job, Misfire, OnLost, Outcome, Routing};
use forest_proto::time::Instant;

use super::leader::Leader;
use super::world::{World, client};
use super::{HOUR, MINUTE, SECOND, forbidding, job};
use crate::core::steps::Step;

const STORIES: u64 = 60;
const TURNS: usize = 120;

struct Story {
    rng: Rng,
    world: World,
    leader: Leader,
    deposed: Option<Leader>,
    under_way: Vec<Txn>,
    clients: Vec<String>,
    jobs: Vec<String>,
    counter: usize,
}

impl Story {
    fn new(seed: u64) -> Self {
        let mut world = World::new(2);
        let leader = Leader::elect(&mut world);
        let rng = Rng::with_seed(seed);
        let mut story = Self {
            rng,
            world,
            leader,
            deposed: None,
            under_way: vec![],
            clients: vec![],
            jobs: vec![],
            counter: 0,
        };
        story.leader.dispatch(&mut story.world);
        (0..6).for_each(|_| story.create_job());
        (0..2).for_each(|_| story.come());
        story
    }

    fn name(&mut self, kind: &str) -> String {
        self.counter += 1;
        format!("{kind}-{}", self.counter)
    }

    fn create_job(&mut self) {
        let name = self.name("job");
        let cron = ["*/2 * * * * *", "*/30 * * * * *", "0 * * * * *", "@every 45s"][self.rng.usize(..4)];
        let base = if self.rng.u8(..3) > 0 { forbidding(&name, cron) } else { job(&name, cron) };
        let job = Job {
            effective_after: Some(Instant::from_ms(self.world.now_ms)),
            misfire: if self.rng.bool() { Misfire::Skip } else { Misfire::FireOnce },
            max_attempts: self.rng.u32(1..4),
            on_lost: if self.rng.bool() { OnLost::Retry } else { OnLost::Fail },
            retry_delays_ms: vec![5_000, 20_000],
            start_deadline_ms: self.rng.bool().then_some(60_000),
            routing: if self.rng.u8(..4) == 0 { Routing::Broadcast } else { Routing::RoundRobin },
            ..base
        };
        self.world.save(&job);
        self.jobs.push(name);
    }

    fn any_job(&mut self) -> Option<String> {
        let at = self.rng.usize(..self.jobs.len().max(1));
        self.jobs.get(at).cloned()
    }

    fn come(&mut self) {
        let name = self.name("c");
        let capacity = self.rng.u32(1..4);
        self.world.register(&name, capacity);
        self.clients.push(name);
    }

    fn edit(&mut self) {
        let Some(name) = self.any_job() else { return };
        match self.rng.u8(..4) {
            0 => {
                self.world.delete_job(&name);
                self.jobs.retain(|job| *job != name);
                self.create_job();
            }
            1 => self.world.disable(&name),
            2 => self.world.enable(&name),
            _ => {
                let stored = self.world.audit.tally.get(&super::id(&name)).unwrap().clone();
                self.world.save(&Job { params: "other".into(), ..stored });
            }
        }
    }

    fn leave(&mut self) {
        if self.clients.is_empty() {
            return;
        }
        let at = self.rng.usize(..self.clients.len());
        if self.rng.bool() {
            let name = self.clients.swap_remove(at);
            self.world.vanish(&name);
        } else {
            let name = self.clients[at].clone();
            self.world.register_as(&name, &ClientRecord { draining: true, ..client(&name, 1) });
        }
    }

    fn clients_work(&mut self) {
        for (seat, run) in self.world.given() {
            if self.rng.u8(..3) > 0 {
                self.world.claim(&seat, &run);
            }
        }
        for (seat, run) in self.world.running() {
            if self.rng.u8(..3) == 0 {
                let outcomes = [Outcome::Succeeded, Outcome::Succeeded, Outcome::Failed, Outcome::TimedOut];
                // Also one that was cut off, as long as nobody gave up on it.
                self.world.complete(&seat, &run, outcomes[self.rng.usize(..4)]);
            }
        }
    }

    fn ask(&mut self) {
        let cancelled = self.world.given().pop().or_else(|| self.world.running().pop());
        match (self.rng.bool(), cancelled, self.any_job()) {
            (_, _, Some(job)) if self.rng.u8(..4) == 0 => self.backfill(&job),
            (true, Some((_, run)), _) => {
                let whole = run.parent().filter(|_| self.rng.bool());
                self.world.ask_cancel(&whole.unwrap_or(run));
            }
            (_, _, Some(job)) => drop(self.world.ask_run(&job)),
            _ => {}
        }
    }

    /// Unless there is one already: that ends, now and then.
    fn backfill(&mut self, job: &str) {
        if self.world.backfills().contains(&super::id(job)) {
            if self.rng.u8(..4) == 0 {
                self.world.cancel_backfill(job);
            }
            return;
        }
        let to = self.world.now_ms - self.rng.i64(0..60) * SECOND;
        self.world.backfill(job, to - self.rng.i64(1..120) * SECOND, to);
    }

    fn elect(&mut self) {
        let next = Leader::elect(&mut self.world);
        self.deposed = Some(std::mem::replace(&mut self.leader, next));
    }

    /// The leader's turn: what it commits may be lost, or come late.
    fn lead(&mut self) {
        let behind = if self.rng.u8(..4) == 0 { self.rng.usize(..4) } else { usize::MAX };
        self.leader.see(&self.world, behind);
        for segment in self.world.segments.all() {
            let Some(batch) = self.leader.decide(&self.world, segment) else { continue };
            if self.rng.u8(..8) == 0 {
                // The answer is lost. Its jobs stay under way until the segment is decided again.
                if self.rng.bool() {
                    self.world.commit(&batch.txn);
                }
                self.under_way.push(batch.txn.clone());
                batch.promised.iter().for_each(|seat| self.leader.router.release(seat));
                self.leader.catch_up(&self.world);
                continue;
            }
            let outcome = self.world.commit(&batch.txn);
            self.leader.answered(batch, &outcome);
        }
        self.steps();
    }

    fn steps(&mut self) {
        for request in self.world.requests() {
            let Step::Commit(planned) = self.leader.look_at_request(&self.world, &request) else { continue };
            self.leader.release(&planned);
            self.send(planned.txn);
        }
        for job in self.world.backfills() {
            let Step::Commit(planned) = self.leader.look_at_backfill(&self.world, &job) else { continue };
            self.leader.release(&planned);
            self.send(planned.txn);
        }
        self.leader.view.runs.mark_all();
        while let Some(run) = self.leader.view.runs.next_marked() {
            let Some(planned) = self.leader.plan(&self.world, &run) else { continue };
            self.leader.release(&planned);
            self.send(planned.txn);
            if self.rng.bool() {
                self.leader.catch_up(&self.world);
            }
        }
    }

    /// It arrives, or it comes late, or it comes twice.
    fn send(&mut self, txn: Txn) {
        match self.rng.u8(..8) {
            0 => self.under_way.push(txn),
            1 => {
                self.world.commit(&txn);
                self.under_way.push(txn);
            }
            _ => drop(self.world.commit(&txn)),
        }
    }

    fn something_happens(&mut self) {
        match self.rng.u8(..14) {
            0 => self.elect(),
            1 | 2 => self.ask(),
            3 => self.edit(),
            4 => self.leave(),
            5 => self.come(),
            6 => self.world.collect(),
            7 => {
                if let Some(txn) = self.under_way.pop() {
                    self.world.commit(&txn);
                }
            }
            8 => {
                if let Some(mut old) = self.deposed.take() {
                    for segment in self.world.segments.all() {
                        old.decide(&self.world, segment)
                            .iter()
                            .for_each(|batch| drop(self.world.commit(&batch.txn)));
                    }
                    self.deposed = Some(old);
                }
            }
            9 if self.rng.u8(..4) == 0 => self.world.pass(self.rng.i64(0..20) * MINUTE),
            _ => self.clients_work(),
        }
    }

    fn run(&mut self) {
        for _ in 0..TURNS {
            self.world.pass(self.rng.i64(0..8) * SECOND);
            (0..3).for_each(|_| self.something_happens());
            self.lead();
        }
    }

    /// No more faults, and no more fires: what there is must come to its end.
    fn heal(&mut self) {
        std::mem::take(&mut self.jobs).iter().for_each(|name| self.world.disable(name));
        self.elect();
        self.world.backfills().iter().for_each(|job| self.world.cancel_backfill(job.as_str()));
        self.world.register("last", 1_000);
        for _ in 0..12 {
            self.leader.catch_up(&self.world);
            self.leader.dispatch(&mut self.world);
            self.leader.settle(&mut self.world);
            for (seat, run) in self.world.given() {
                self.world.claim(&seat, &run);
            }
            for (seat, run) in self.world.running() {
                let there = self.leader.view.clients.get(&seat).is_some();
                assert!(!there || self.world.complete(&seat, &run, Outcome::Succeeded));
            }
            self.leader.settle(&mut self.world);
            self.world.collect();
            self.world.pass(MINUTE);
        }
        self.world.pass(HOUR);
        self.leader.settle(&mut self.world);
        self.world.collect();
        self.leader.catch_up(&self.world);
    }
}

#[test]
fn whatever_happens_no_promise_is_broken_and_nothing_is_left_undone() {
    let mut created = 0;
    for seed in 0..STORIES {
        let mut story = Story::new(seed);
        story.run();
        story.heal();
        let (world, view) = (&story.world, &story.leader.view);
        let broken = &world.audit.broken;
        assert!(broken.is_empty(), "seed {seed}: {:#?}", &broken[..broken.len().min(3)]);
        assert!(world.audit.tally.overdue(world.now_ms).is_empty(), "seed {seed}");
        assert!(world.audit.tally.unrecorded().is_empty(), "seed {seed}");
        let left: Vec<_> = view.runs.iter().map(|(run, now)| (run, &now.place)).collect();
        assert!(left.is_empty(), "seed {seed}: {left:?}");
        assert!(world.requests().is_empty(), "seed {seed}");
        created += world.audit.created();
    }
    println!("{created} runs and records");
    assert!(created > 5_000, "{created}: the stories are too short to tell anything");
}
