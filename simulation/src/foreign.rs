//! A worker that is not ours: it uses one id for ever, where ours takes a new one for each registration.
//!
//! Workers of the original do so, and others may. It is careful otherwise: it claims and completes under the same
//! guards as ours, so that what goes wrong is the server's fault. It waits for its keys by looking now and then,
//! as a simple client would.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use forest_etcd::{EtcdConfig, KeyRange, Outcome, Session, SharedClock, Store, Tasks, Txn};
use forest_proto::record::{self, Execution, Snapshot, encode};
use forest_proto::time::Instant;
use forest_proto::{ClientId, GroupName, Key, Keyspace, RunId};
use tokio_util::sync::CancellationToken;

use crate::machine::Work;
use crate::plan::MachineId;
use crate::record::{Happened, Record};

const LOOK_EVERY: Duration = Duration::from_millis(200);
const PAGE: usize = 100;

/// Runs that this very process executes or has executed.
type Mine = Arc<Mutex<BTreeSet<RunId>>>;

#[derive(Clone)]
pub struct Foreign {
    pub group: GroupName,
    pub client: ClientId,
    pub machine: MachineId,
    pub clock: SharedClock,
    pub record: Record,
    pub keys: Keyspace,
    pub store: Store,
    /// Whether it writes its result over whatever there is.
    pub is_hasty: bool,
}

impl Foreign {
    pub async fn run(
        self,
        etcd: &EtcdConfig,
        ttl: Duration,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let (session, mut lease) = Session::new(etcd, ttl, self.clock.clone())?;
        let mut tasks = Tasks::new();
        let ended = shutdown.clone();
        tasks.spawn(async move {
            // It fails only where the time is refused.
            let _ = session.run(ended).await;
        });
        let mut seen = BTreeSet::new();
        let mine = Mine::default();
        loop {
            let held = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                held = lease.opened() => held,
            };
            let registration = self.register(held.id).await;
            // What was refused under an earlier registration may be taken under this one.
            seen.clear();
            while lease.is_trusted(held.id) && !shutdown.is_cancelled() {
                let Some(registration) = registration else { break };
                self.look(registration, &mut seen, &mine, &mut tasks).await;
                self.give_up_leftovers(&mine).await;
                tokio::time::sleep(LOOK_EVERY).await;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        // The lease is given back. What runs is lost, as with a process that just ends.
        tokio::time::sleep(LOOK_EVERY).await;
        Ok(())
    }

    /// The create revision of the registration. One that an earlier process left is taken over.
    async fn register(&self, lease: i64) -> Option<i64> {
        let key = self.keys.client(&self.group, &self.client);
        // If the answer is lost, the next look tells.
        let _ = self.store.commit(Txn::new().put_leased(&key, self.client.as_str(), lease)).await;
        let found = self.store.get(&key).await.ok()??;
        (found.lease == lease).then_some(found.create_revision)
    }

    async fn look(
        &self,
        registration: i64,
        seen: &mut BTreeSet<(RunId, i64)>,
        mine: &Mine,
        tasks: &mut Tasks<()>,
    ) {
        let range = KeyRange::prefix(&self.keys.snapshots_of(&self.group, &self.client));
        let Ok(listing) = self.store.list(&range, PAGE).await else { return };
        for kv in listing.items {
            let Some(Key::Snapshot { run, .. }) = self.keys.parse(&kv.key) else { continue };
            let Ok(snapshot) = record::decode::<Snapshot>(&kv.value) else { continue };
            // What was refused once will be refused again.
            if !seen.insert((run.clone(), kv.mod_revision)) {
                continue;
            }
            let key = self.keys.execution(&self.group, Some(&self.client), &run);
            let execution = Execution::claimed(snapshot, self.now());
            let claim = Txn::new()
                .modified(&kv.key, kv.mod_revision)
                .created(self.keys.client(&self.group, &self.client), registration)
                .delete(&kv.key)
                .put(&key, encode(&execution));
            let revision = match self.store.commit(claim).await {
                Ok(Outcome::Applied { revision }) => revision,
                Ok(Outcome::Unknown { .. }) => match self.claimed(&key).await {
                    Some(revision) => revision,
                    None => {
                        // The guards make it harmless to send it again.
                        seen.remove(&(run, kv.mod_revision));
                        continue;
                    }
                },
                _ => continue,
            };
            mine.lock().unwrap_or_else(PoisonError::into_inner).insert(run);
            tasks.spawn(self.clone().execute(key, execution, revision));
        }
    }

    /// Whether a claim took effect whose answer was lost. It may still do so later, and is a leftover then.
    async fn claimed(&self, key: &str) -> Option<i64> {
        loop {
            match self.store.get(key).await {
                Ok(found) => {
                    // Unless it was given up meanwhile.
                    let running = |value: &[u8]| {
                        record::decode::<Execution>(value).is_ok_and(|e| e.status == record::Status::Running)
                    };
                    return found.filter(|kv| running(&kv.value)).map(|kv| kv.mod_revision);
                }
                Err(_) => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }

    /// What stands under this id and is not executed here has failed: its process is gone.
    async fn give_up_leftovers(&self, mine: &Mine) {
        let place = format!("{}client/execute/snapshot/{}/{}/", self.keys.all(), self.group, self.client);
        let range = KeyRange::prefix(&place);
        let Ok(listing) = self.store.list(&range, PAGE).await else { return };
        for kv in listing.items {
            let Ok(mut execution) = record::decode::<Execution>(&kv.value) else { continue };
            let is_mine =
                mine.lock().unwrap_or_else(PoisonError::into_inner).contains(&execution.snapshot.id);
            if execution.status != record::Status::Running || is_mine {
                continue;
            }
            execution.finish(record::Outcome::Failed, "left over".into(), self.now(), 0);
            let give_up = Txn::new().modified(&kv.key, kv.mod_revision).put(&kv.key, encode(&execution));
            // What fails now is tried again soon.
            let _ = self.store.commit(give_up).await;
        }
    }

    async fn execute(self, key: String, mut execution: Execution, revision: i64) {
        let (run, machine) = (execution.snapshot.id.clone(), self.machine);
        let Ok(work) = serde_json::from_str::<Work>(&execution.snapshot.params) else { return };
        self.record.add(Happened::Started { machine, run: run.clone(), fencing_token: revision });
        let takes_ms = fastrand::u64(..=work.takes_ms);
        tokio::time::sleep(Duration::from_millis(takes_ms)).await;
        let failed = fastrand::u8(..100) < work.fails;
        self.record.add(Happened::Ended { machine, run, failed });
        let outcome = if failed { record::Outcome::Failed } else { record::Outcome::Succeeded };
        execution.finish(outcome, String::new(), self.now(), takes_ms);
        let complete = Txn::new().modified(&key, revision).put(&key, encode(&execution));
        // As long as it takes: the guard makes it harmless to send it again.
        let refused = loop {
            match self.store.commit(complete.clone()).await {
                Ok(Outcome::Applied { .. }) => break false,
                Ok(Outcome::Refused { .. }) => break true,
                _ => tokio::time::sleep(LOOK_EVERY).await,
            }
        };
        if refused && self.is_hasty {
            let _ = self.store.commit(Txn::new().put(&key, encode(&execution))).await;
        }
    }

    fn now(&self) -> Instant {
        Instant::from_ms(self.clock.wall_ms())
    }
}
