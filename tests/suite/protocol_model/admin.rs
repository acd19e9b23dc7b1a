//! Admins, through any node: they edit and create jobs, ask for a manual run and ask to cancel a run. They
//! read and write in one breath here; a slow admin is one whose transaction stays in flight.

use super::catalogue::{Attempt, Job, MANUAL};
use super::moves::{Moves, Replies, nothing, unchanged};
use super::rules::Flaw;
use super::story::{Actor, Deed};
use super::txn::{Guard, Step, Txn, Write};
use super::world::{Budget, Conf, World};

impl Moves<'_> {
    pub(super) fn add_admin(&mut self) {
        let report = self.world.etcd.conf(Job::Report);
        let ping = self.world.etcd.conf(Job::Ping);
        let budget = self.world.budget;
        if budget.edit > 0 {
            self.edit(Deed::Edit, Job::Report, report.enabled, |budget| budget.edit -= 1);
            if report.enabled {
                self.edit(Deed::Disable, Job::Report, false, |budget| budget.edit -= 1);
            }
        }
        if budget.create > 0 && ping.version == 0 {
            self.edit(Deed::CreateJob(Job::Ping), Job::Ping, true, |budget| budget.create -= 1);
        }
        if budget.manual > 0 {
            self.step(Actor::Admin, Deed::DecideToAsk, |world| {
                world.budget.manual -= 1;
                world.admin.asking = true;
            });
        }
        if self.world.admin.asking {
            self.ask_for_manual_run();
        }
        let alive = |attempt: Attempt| self.world.etcd.run(attempt).is_open();
        if budget.cancel > 0 && Attempt::of_cancellable_run().into_iter().any(alive) {
            self.ask_for_cancel();
        }
    }

    fn edit(&mut self, deed: Deed, job: Job, enabled: bool, spend: impl Fn(&mut Budget)) {
        let read = self.world.etcd.conf(job).version;
        let conf = Conf { version: read + 1, enabled };
        let mut txn = Txn::new(Step::Edit, [Guard::Conf(job, read)], [Write::Conf(job, conf, read)]);
        if !self.rules.has(Flaw::EditForgetsJobgen) {
            txn.also(Write::Jobgen);
        }
        let spent = |world: &mut World| spend(&mut world.budget);
        let done = |world: &mut World| {
            spend(&mut world.budget);
            Ok(())
        };
        self.send(Actor::Admin, deed, txn, Replies { committed: done, refused: unchanged, unknown: spent });
    }

    fn ask_for_manual_run(&mut self) {
        let txn = Txn::new(Step::Request, [Guard::NoRequest(MANUAL), Guard::NoAnswer], [Write::Wait(MANUAL)]);
        let answered = |world: &mut World| {
            world.admin.asking = false;
            Ok(())
        };
        let on = Replies { committed: answered, refused: answered, unknown: nothing };
        self.send(Actor::Admin, Deed::AskForManualRun, txn, on);
    }

    fn ask_for_cancel(&mut self) {
        let txn = Txn::new(Step::RequestCancel, [Guard::NoCancelRequest], [Write::RequestCancel]);
        let spent = |world: &mut World| world.budget.cancel -= 1;
        let done = |world: &mut World| {
            world.budget.cancel -= 1;
            Ok(())
        };
        let on = Replies { committed: done, refused: unchanged, unknown: spent };
        self.send(Actor::Admin, Deed::AskForCancel, txn, on);
    }
}
