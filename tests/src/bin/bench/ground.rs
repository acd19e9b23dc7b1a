//! What a part of the benchmark stands on: an etcd of its own, nodes, and jobs written straight into etcd
//! under the same rules as the admin API's.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};
use forest_etcd::{EtcdConfig, KeyRange, Outcome, Store, Txn, WatchConfig, WatchStream, Watcher};
use forest_proto::record::{ClientRecord, Cursor, Job, JobStatus, Overlap, decode, encode};
use forest_proto::time::Instant;
use forest_proto::{ClientId, GroupName, JobId, Key, Keyspace, SegmentCount, TargetName};
use forest_tests::cluster::{Cluster, ClusterNode};
use forest_tests::services::EtcdOptions;
use forest_tests::wait::{eventually, within_or_last};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::observe::{EtcdCounters, Processes, pid_with_argument};
use crate::options::Options;

/// Leases of nodes: the server's default.
pub(crate) const LEASE_TTL: Duration = Duration::from_secs(5);
/// How long anything may take that is waited for but not measured.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);
/// Writes in flight while jobs are stored.
const WRITERS: usize = 4;
/// Operations per transaction, of which one says that the segment's jobs changed.
const OPS: usize = 128;
/// A million jobs outgrow etcd's default.
const QUOTA: u64 = 8 << 30;
const HOUR_MS: i64 = 3_600_000;

pub(crate) const TARGET: &str = "work";

pub(crate) struct Ground {
    pub(crate) cluster: Cluster,
    pub(crate) store: Store,
    pub(crate) keys: Keyspace,
    pub(crate) group: GroupName,
}

/// Jobs that are all due at one instant.
pub(crate) struct Burst {
    pub(crate) due_ms: i64,
    /// The last of each segment that has any.
    last: BTreeMap<usize, JobId>,
}

/// When a burst was dispatched, in microseconds since it was due.
pub(crate) struct Dispatched {
    pub(crate) first_us: i64,
    pub(crate) last_us: i64,
}

/// A watch that ends with its owner.
pub(crate) struct Watching {
    pub(crate) stream: WatchStream,
    _task: JoinSet<Result<(), forest_etcd::Error>>,
}

pub(crate) fn wall_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

pub(crate) fn wall_ms() -> i64 {
    wall_us() / 1_000
}

/// The first whole second after so long, in milliseconds.
pub(crate) fn second_after(wait: Duration) -> i64 {
    let wait = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
    (wall_ms() + wait).div_euclid(1_000) * 1_000 + 1_000
}

pub(crate) async fn sleep_until(wall_ms_wanted: i64) {
    let left = u64::try_from(wall_ms_wanted - wall_ms()).unwrap_or(0);
    tokio::time::sleep(Duration::from_millis(left)).await;
}

pub(crate) fn etcd_options(options: &Options) -> EtcdOptions {
    let mut etcd = EtcdOptions { quota_bytes: Some(QUOTA), ..EtcdOptions::default() };
    if !options.no_fsync {
        // The tests' etcd runs without; what is given last counts.
        etcd.arguments.push("--unsafe-no-fsync=false".into());
    }
    etcd
}

impl Ground {
    pub(crate) async fn start(options: &Options, nodes: usize) -> anyhow::Result<Self> {
        let builder = Cluster::builder().nodes(nodes).private_etcd(etcd_options(options));
        let builder = builder.lease_ttl(LEASE_TTL).configure(|node| node.log_level = "info".into());
        let cluster = builder.start().await?;
        let store = Store::new(&EtcdConfig::new([cluster.etcd().endpoint()]))?;
        let keys = Keyspace::new(cluster.key_root())?;
        let group: GroupName = "bench".parse()?;
        Ok(Self { cluster, store, keys, group })
    }

    /// The only node.
    pub(crate) fn node(&self) -> &ClusterNode {
        &self.cluster.nodes()[0]
    }

    pub(crate) async fn counters(&self) -> anyhow::Result<EtcdCounters> {
        EtcdCounters::read(self.cluster.etcd().address()).await
    }

    pub(crate) fn processes(&self) -> Processes {
        let mut processes = Processes::default();
        processes.add("etcd", pid_with_argument(&self.cluster.etcd().endpoint()));
        for node in self.cluster.nodes() {
            processes.add("node", node.server.pid());
        }
        let port = format!("--port={}", self.cluster.mariadb().address().port());
        processes.add("MariaDB", pid_with_argument(&port));
        processes.add("bench", Some(std::process::id()));
        processes
    }

    /// Registers clients that take whatever they are given and never claim it.
    pub(crate) async fn register_idle_clients(&self, count: usize) -> anyhow::Result<()> {
        for n in 0..count {
            let client = ClientId::new(format!("idle-{n}"))?;
            let record = ClientRecord {
                name: format!("idle-{n}"),
                address: "nowhere".into(),
                capacity: 100_000_000,
                targets: None,
                labels: BTreeMap::new(),
                version: String::new(),
                started_at: None,
                ttl_ms: None,
                draining: false,
            };
            self.commit(Txn::new().put(self.keys.client(&self.group, &client), record.write())).await?;
        }
        self.wait_for_clients(count).await;
        Ok(())
    }

    pub(crate) async fn wait_for_clients(&self, count: usize) {
        let admin = self.cluster.admin();
        eventually("the clients", PATIENCE, async || match admin.cluster().await {
            Ok(cluster) if usize::try_from(cluster.clients) == Ok(count) => Ok(()),
            Ok(cluster) => Err(format!("{} clients", cluster.clients)),
            Err(e) => Err(e.to_string()),
        })
        .await;
    }

    /// Whether a node has so many jobs in its memory within this time.
    pub(crate) async fn knows_jobs(&self, node: &ClusterNode, count: usize, within: Duration) -> bool {
        let admin = node.server.admin();
        let known = within_or_last(within, async || match admin.cluster().await {
            Ok(cluster) if usize::try_from(cluster.jobs) == Ok(count) => Ok(()),
            Ok(cluster) => Err(format!("{} jobs", cluster.jobs)),
            Err(e) => Err(e.to_string()),
        });
        known.await.is_ok()
    }

    async fn commit(&self, txn: Txn) -> anyhow::Result<()> {
        commit(self.store.clone(), txn).await
    }

    pub(crate) fn job(&self, id: String) -> anyhow::Result<Job> {
        let mut job = Job::new(JobId::new(id)?, "a job", self.group.clone(), TargetName::new(TARGET)?);
        job.status = JobStatus::Enabled;
        job.overlap = Overlap::Allow;
        job.created_at = Some(Instant::from_ms(wall_ms()));
        job.effective_after = job.created_at;
        Ok(job)
    }

    /// Stores jobs, or deletes those without a document. A change of a job and the word of it are one
    /// transaction, as for every writer.
    pub(crate) async fn write(
        &self,
        jobs: impl Iterator<Item = (JobId, Option<Vec<u8>>)>,
    ) -> anyhow::Result<()> {
        let mut open: BTreeMap<_, Txn> = BTreeMap::new();
        let mut writers = JoinSet::new();
        for (id, document) in jobs {
            let segment = SegmentCount::DEFAULT.segment_of(&id);
            let txn = std::mem::take(open.entry(segment).or_default());
            let key = self.keys.job(&id);
            let txn = match document {
                Some(document) => txn.put(key, document),
                None => txn.delete(key),
            };
            if txn.ops.len() < OPS - 1 {
                open.insert(segment, txn);
                continue;
            }
            if writers.len() == WRITERS {
                finished(writers.join_next().await)?;
            }
            writers.spawn(commit(self.store.clone(), txn.put(self.keys.jobgen(segment), "")));
        }
        let rest = open.into_iter().filter(|(_, txn)| !txn.ops.is_empty());
        for (segment, txn) in rest {
            writers.spawn(commit(self.store.clone(), txn.put(self.keys.jobgen(segment), "")));
        }
        while let Some(joined) = writers.join_next().await {
            finished(Some(joined))?;
        }
        Ok(())
    }

    /// Stores jobs that are all due at once, soon, and waits until the node knows them.
    pub(crate) async fn load_burst(&self, count: usize, keys_per_second: f64) -> anyhow::Result<Burst> {
        let lead = Duration::from_secs_f64(4.0 + 4.0 * crate::stats::number(count) / keys_per_second);
        let due_ms = second_after(lead);
        let (mut jobs, mut last) = (Vec::new(), BTreeMap::new());
        for n in 0..count {
            let mut job = self.job(format!("{n:08}"))?;
            job.cron = "@every 1h".into();
            job.effective_after = Some(Instant::from_ms(due_ms - HOUR_MS));
            last.insert(SegmentCount::DEFAULT.segment_of(&job.id).index(), job.id.clone());
            jobs.push((job.id.clone(), Some(encode(&job))));
        }
        self.write(jobs.into_iter()).await?;
        ensure!(self.knows_jobs(self.node(), count, PATIENCE).await, "the node does not see the jobs");
        ensure!(wall_ms() < due_ms - 200, "the jobs were due before they were stored: take fewer");
        Ok(Burst { due_ms, last })
    }

    /// Waits until every job of the burst is dispatched: until every cursor stands on the last of its segment.
    pub(crate) async fn dispatched(&self, burst: &Burst) -> anyhow::Result<Dispatched> {
        let Some(segment) = SegmentCount::DEFAULT.all().next() else { bail!("no segment") };
        let mut watching = self.watch(&KeyRange::prefix(&above(&self.keys.cursor(segment), 1)))?;
        let (mut missing, mut first_us) = (burst.last.clone(), None);
        let waiting = async {
            while !missing.is_empty() {
                let changes = watching.stream.next().await.context("the watch ended")?;
                let now = wall_us();
                for change in changes {
                    let (forest_etcd::Change::Put(kv) | forest_etcd::Change::Listed(kv)) = change else {
                        continue;
                    };
                    let Some(Key::Cursor(segment)) = self.keys.parse(&kv.key) else { continue };
                    let cursor: Cursor = decode(&kv.value)?;
                    if cursor.fire_at.as_ms() < burst.due_ms {
                        continue;
                    }
                    first_us.get_or_insert(now);
                    if missing.get(&segment.index()).is_some_and(|last| last.as_str() == cursor.job) {
                        missing.remove(&segment.index());
                    }
                }
            }
            let (due_us, now) = (burst.due_ms * 1_000, wall_us());
            anyhow::Ok(Dispatched { first_us: first_us.unwrap_or(now) - due_us, last_us: now - due_us })
        };
        tokio::time::timeout(PATIENCE, waiting).await.context("the burst was not dispatched in time")?
    }

    pub(crate) fn watch(&self, range: &KeyRange) -> anyhow::Result<Watching> {
        let endpoint = self.cluster.etcd().endpoint();
        watch(&endpoint, range)
    }

    /// Snapshots of the group that nobody claimed, executions in etcd, and parked runs.
    pub(crate) async fn runs_in_etcd(&self) -> anyhow::Result<(usize, usize, usize)> {
        let client = ClientId::new("x")?;
        let run = forest_proto::RunId::scheduled(&JobId::new("x")?, Instant::from_ms(0), 1);
        let gateway = self.cluster.etcd().gateway().await;
        let snapshots = gateway.count(&above(&self.keys.snapshot(&self.group, &client, &run), 2)).await?;
        let executions = gateway.count(&above(&self.keys.execution(&self.group, None, &run), 2)).await?;
        let parked = gateway.count(&above(&self.keys.pending(&self.group, &run), 1)).await?;
        Ok((snapshots, executions, parked))
    }
}

/// A watch on a connection of its own.
pub(crate) fn watch(endpoint: &str, range: &KeyRange) -> anyhow::Result<Watching> {
    let store = Store::new(&EtcdConfig::new([endpoint]))?;
    let config = WatchConfig { buffer: 4_096, ..WatchConfig::new(range.clone()) };
    let (watcher, stream) = Watcher::new(store, config);
    let mut task = JoinSet::new();
    task.spawn(watcher.run(CancellationToken::new()));
    Ok(Watching { stream, _task: task })
}

/// The prefix that a key shares with its siblings of so many levels.
pub(crate) fn above(key: &str, levels: usize) -> String {
    let parts: Vec<&str> = key.split('/').collect();
    let kept = &parts[..parts.len().saturating_sub(levels)];
    format!("{}/", kept.join("/"))
}

pub(crate) async fn commit(store: Store, txn: Txn) -> anyhow::Result<()> {
    match store.commit(txn).await? {
        Outcome::Applied { .. } => Ok(()),
        other => bail!("a write of the benchmark did not take effect: {other:?}"),
    }
}

fn finished(joined: Option<Result<anyhow::Result<()>, tokio::task::JoinError>>) -> anyhow::Result<()> {
    joined.context("no write is under way")??
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_prefix_is_cut_off_by_levels() {
        assert_eq!(super::above("/r/client/snapshot/g/c/run", 2), "/r/client/snapshot/g/");
        assert_eq!(super::above("/r/server/cursor/0a", 1), "/r/server/cursor/");
    }
}
