//! What most tests set up: a cluster with a group, workers with a journal, and how to read both.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use forest_etcd::{EtcdConfig, Store, Txn};
use forest_proto::record::{Job, encode};
use forest_proto::time::Instant;
use forest_proto::{JobId, Keyspace, RunId, SegmentCount};
use forest_tests::cluster::{Cluster, ClusterBuilder};
use forest_tests::history::HistoryRow;
use forest_tests::names::unique;
use forest_tests::process::WorkerProcess;
use forest_tests::services::available;
use forest_tests::wait::eventually;
use serde_json::{Value, json};

/// How long something may take that no lease has to run out for, on a machine that is busy with other tests.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// A cluster, a group, and a journal that all workers of the stage write.
pub(crate) struct Stage {
    pub(crate) cluster: Cluster,
    pub(crate) group: String,
    journal: PathBuf,
    _folder: tempfile::TempDir,
}

/// What the journal says of one run.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Played {
    pub(crate) started: usize,
    pub(crate) ended: usize,
    pub(crate) tokens: Vec<i64>,
}

impl Stage {
    /// `None`, and a word about it, where a service is not installed.
    pub(crate) async fn set(builder: ClusterBuilder) -> Option<Self> {
        let cluster = available(builder.start().await)?;
        cluster.leader().await;
        let group = unique("group");
        cluster.admin().add_group(&group).await.expect("a group can be added");
        let folder = tempfile::tempdir().expect("a folder for the journal");
        let journal = folder.path().join("journal");
        Some(Self { cluster, group, journal, _folder: folder })
    }

    /// Starts a worker and waits until the cluster knows it. `extra`: further arguments.
    pub(crate) async fn worker(&self, name: &str, extra: &[&str]) -> WorkerProcess {
        let before = self.clients().await;
        let worker =
            WorkerProcess::start(name, self.worker_arguments(name, extra)).expect("the worker starts");
        eventually("the worker registers", Duration::from_secs(20), async || self.clients().await > before)
            .await;
        worker
    }

    pub(crate) fn worker_arguments(&self, name: &str, extra: &[&str]) -> Vec<String> {
        let journal = self.journal.to_string_lossy();
        let endpoint = self.cluster.etcd().endpoint();
        let own = ["--etcd", &endpoint, "--key-root", self.cluster.key_root(), "--group", &self.group];
        let own = own.into_iter().chain(["--name", name, "--journal", &journal]);
        own.chain(extra.iter().copied()).map(str::to_owned).collect()
    }

    pub(crate) async fn clients(&self) -> usize {
        self.cluster.admin().list_clients(&self.group).await.map_or(0, |clients| clients.len())
    }

    /// A job of this stage's group, with these fields beside or in place of the ordinary ones.
    pub(crate) async fn job(&self, fields: Value) -> String {
        let mut job = json!({
            "name": unique("job"), "group": self.group, "target": "echo", "cron": "0 0 0 1 1 ?", "overlap": "allow",
        });
        for (name, value) in fields.as_object().expect("an object") {
            job[name] = value.clone();
        }
        self.cluster.admin().add_job(&job).await.expect("the job can be added")
    }

    pub(crate) async fn rows(&self, job: &str) -> Vec<HistoryRow> {
        // Until a node has brought the table to its shape, there are none.
        let read = async || self.cluster.history().rows(job).await.ok();
        eventually("the history can be read", SOON, read).await
    }

    /// Asks for a run of a job now.
    pub(crate) async fn run(&self, job: &str) -> String {
        self.cluster.admin().run_job(job, None, None).await.expect("a run can be asked for")
    }

    /// The row of a run, once it has ended.
    pub(crate) async fn ended(&self, run: &str) -> HistoryRow {
        self.ended_within(run, SOON).await
    }

    pub(crate) async fn ended_within(&self, run: &str, within: Duration) -> HistoryRow {
        let (history, admin) = (self.cluster.history(), self.cluster.admin());
        eventually("the run has ended", within, async || {
            let row = history.row(run).await.map_err(|e| e.to_string())?;
            if let Some(row) = row.filter(|row| row.outcome.is_some()) {
                return Ok(row);
            }
            Err(format!("{run} is {:?}", admin.get_run(run).await.map(|run| run.state)))
        })
        .await
    }

    /// Waits until a run is in this state: pending, queued, running, ...
    pub(crate) async fn until(&self, run: &str, state: &str) {
        let admin = self.cluster.admin();
        eventually(&format!("the run is {state}"), SOON, async || {
            let seen = admin.get_run(run).await.map_err(|e| e.to_string())?;
            if seen.state == state {
                Ok(())
            } else {
                Err(format!("{run} is {} {}", seen.state, seen.outcome))
            }
        })
        .await;
    }

    /// Waits until no run is alive and nothing is left to collect.
    pub(crate) async fn quiet(&self, within: Duration) {
        let admin = self.cluster.admin();
        eventually("nothing is on its way", within, async || {
            let c = admin.cluster().await.map_err(|e| e.to_string())?;
            let alive = [c.runs_delayed, c.runs_pending, c.runs_queued, c.runs_running, c.runs_uncollected];
            if alive.iter().sum::<u64>() == 0 { Ok(()) } else { Err(format!("{alive:?}")) }
        })
        .await;
    }

    /// Stores jobs past the admin API, as any program may that knows the layout. All are due at the same
    /// second, which is `ahead` from now.
    pub(crate) async fn jobs_due_together(
        &self,
        count: usize,
        ahead: Duration,
        fields: Value,
    ) -> Vec<String> {
        let keys = Keyspace::new(self.cluster.key_root()).expect("a valid root");
        let store =
            Store::new(&EtcdConfig::new([&self.cluster.etcd().endpoint()])).expect("a valid endpoint");
        let now = jiff::Timestamp::now();
        let due = (now + ahead).to_zoned(jiff::tz::TimeZone::UTC);
        let since = Instant::from_ms(now.as_millisecond() / 1000 * 1000);
        let mut template = json!({
            "group": self.group, "target": "echo", "status": 1, "version": 1, "overlap": "allow",
            "cron": due.strftime("%-S %-M %-H %-d %-m ?").to_string(),
            "created_at": since, "effective_after": since,
        });
        for (name, value) in fields.as_object().expect("an object") {
            template[name] = value.clone();
        }
        let mut segments: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let mut ids = Vec::new();
        let first = fastrand::u32(..1_000_000);
        for number in 0..count {
            let id = format!("{:06}{number:08}", first);
            let mut job = template.clone();
            (job["id"], job["name"]) = (json!(id), json!(format!("together-{number}")));
            let job: Job = serde_json::from_value(job).expect("a job");
            let segment = SegmentCount::DEFAULT.segment_of(&JobId::new(&id).expect("valid"));
            segments.entry(segment).or_default().push(job);
            ids.push(id);
        }
        let mut txns = Vec::new();
        for (segment, jobs) in segments {
            for part in jobs.chunks(100) {
                let txn = Txn::new().put(keys.jobgen(segment), "together");
                txns.push(part.iter().fold(txn, |txn, job| txn.put(keys.job(&job.id), encode(job))));
            }
        }
        for verdict in store.commit_all(txns).await {
            assert!(matches!(verdict, Ok(forest_etcd::Outcome::Applied { .. })), "{verdict:?}");
        }
        ids
    }

    /// Every run that the workers started was started once and ended, and it is these many.
    pub(crate) fn assert_played_once(&self, runs: usize) {
        let played = self.played();
        let odd: Vec<_> = played.iter().filter(|(_, p)| (p.started, p.ended) != (1, 1)).collect();
        assert!(odd.is_empty(), "not played once: {odd:?}");
        assert_eq!(played.len(), runs);
    }

    /// A registered client's id, by its name.
    pub(crate) async fn client_named(&self, name: &str) -> String {
        let admin = self.cluster.admin();
        eventually("the client is registered", SOON, async || {
            let clients = admin.list_clients(&self.group).await.map_err(|e| e.to_string())?;
            let found = clients.iter().find(|client| client.name == name).map(|client| client.id.clone());
            found.ok_or_else(|| format!("{clients:?}"))
        })
        .await
    }

    pub(crate) fn journal(&self) -> &Path {
        &self.journal
    }

    /// The journal by run, of all workers together.
    pub(crate) fn played(&self) -> BTreeMap<String, Played> {
        let mut played: BTreeMap<String, Played> = BTreeMap::new();
        for line in std::fs::read_to_string(self.journal()).unwrap_or_default().lines() {
            let words: Vec<_> = line.split(' ').collect();
            let [what, run, _, token] = words[..] else { panic!("a torn line in the journal: {line:?}") };
            let entry = played.entry(run.to_owned()).or_default();
            match what {
                "START" => entry.started += 1,
                _ => entry.ended += 1,
            }
            entry.tokens.push(token.parse().expect("a number"));
        }
        played
    }
}

/// The fire times of an every-second schedule in `from..=to`, as instants.
pub(crate) fn seconds(from: Instant, to: Instant) -> Vec<Instant> {
    (from.as_ms() / 1000..=to.as_ms() / 1000).map(|second| Instant::from_ms(second * 1000)).collect()
}

/// The fire time in a run's id.
pub(crate) fn fire_of(run: &str) -> Instant {
    run.parse::<RunId>().expect("a run id").at()
}

pub(crate) fn now() -> Instant {
    Instant::from_ms(jiff::Timestamp::now().as_millisecond())
}
