//! What most tests set up: a cluster with a group, workers with a journal, and how to read both.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use forest_proto::RunId;
use forest_proto::time::Instant;
use forest_tests::cluster::{Cluster, ClusterBuilder};
use forest_tests::history::HistoryRow;
use forest_tests::names::unique;
use forest_tests::process::WorkerProcess;
use forest_tests::services::available;
use forest_tests::wait::eventually;
use serde_json::{Value, json};

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
        self.cluster.history().rows(job).await.expect("the history can be read")
    }

    pub(crate) fn journal(&self) -> &Path {
        &self.journal
    }

    /// The journal by run, of all workers together.
    pub(crate) fn played(&self) -> BTreeMap<String, Played> {
        let mut played: BTreeMap<String, Played> = BTreeMap::new();
        for line in std::fs::read_to_string(&self.journal).unwrap_or_default().lines() {
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
