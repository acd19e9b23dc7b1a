//! A worker under test, its key root, and handlers that wait for the test.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use forest_client::{Builder, JobContext, Worker};
use forest_proto::record::{ClientRecord, Execution, Snapshot, Status, decode, encode};
use forest_proto::time::Instant;
use forest_proto::{ClientId, GroupName, JobId, Key, Keyspace, RunId};
use forest_tests::names::key_root;
use forest_tests::services::{Etcd, Gateway};
use forest_tests::wait::eventually;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(super) const SOON: Duration = Duration::from_secs(20);
pub(super) const FIRST_FIRE_MS: i64 = 1_795_000_000_000;

/// A key root of its own in an etcd, and the server's view of it.
pub(super) struct Bench {
    pub(super) gateway: Gateway,
    pub(super) endpoint: String,
    pub(super) keys: Keyspace,
    pub(super) group: GroupName,
}

/// A worker in a task of the test.
pub(super) struct Running {
    pub(super) shutdown: CancellationToken,
    task: JoinHandle<Result<(), forest_client::Error>>,
}

impl Running {
    pub(super) fn start(builder: Builder) -> Self {
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(builder.build().unwrap().run_until(shutdown.clone()));
        Self { shutdown, task }
    }

    /// Drains it, and returns when it has ended.
    pub(super) async fn drain(self) {
        self.shutdown.cancel();
        tokio::time::timeout(SOON, self.task).await.expect("the worker ends").unwrap().unwrap();
    }
}

impl Bench {
    pub(super) async fn new(etcd: &Etcd) -> Self {
        let keys = Keyspace::new(&key_root("worker")).unwrap();
        let group = GroupName::new("trade").unwrap();
        Self { gateway: etcd.gateway().await, endpoint: etcd.endpoint(), keys, group }
    }

    pub(super) fn worker(&self) -> Builder {
        let root = self.keys.all();
        Worker::builder(self.group.as_str())
            .etcd([&self.endpoint])
            .key_root(root.trim_end_matches('/'))
            .name("w")
    }

    /// All registrations.
    pub(super) async fn clients(&self) -> HashMap<ClientId, (ClientRecord, i64)> {
        let entries = self.gateway.list(&self.keys.all()).await.unwrap_or_default();
        let clients = entries.into_iter().filter_map(|entry| match self.keys.parse(&entry.key)? {
            Key::Client { client, .. } => {
                Some((client, (ClientRecord::read(entry.value.as_bytes())?, entry.lease)))
            }
            _ => None,
        });
        clients.collect()
    }

    /// Waits for a registration under another id than `old`.
    pub(super) async fn client(&self, old: Option<&ClientId>) -> ClientId {
        let look = async || self.clients().await.into_keys().find(|client| Some(client) != old);
        eventually("a registration", SOON, look).await
    }

    pub(super) fn snapshot(&self, number: i64, target: &str, params: &str) -> Snapshot {
        let fire = Instant::from_ms(FIRST_FIRE_MS + number * 1000);
        let run = RunId::scheduled(&JobId::new("j1").unwrap(), fire, 1);
        let document = serde_json::json!({
            "id": run, "jobId": "j1", "name": "a job", "group": self.group, "target": target, "params": params,
            "scheduled_at": fire, "created_at": fire,
        });
        decode(document.to_string().as_bytes()).unwrap()
    }

    pub(super) async fn give(&self, client: &ClientId, snapshot: &Snapshot) -> RunId {
        let key = self.keys.snapshot(&self.group, client, &snapshot.id);
        self.gateway.put(&key, &text(snapshot)).await.unwrap();
        snapshot.id.clone()
    }

    pub(super) async fn execution(&self, client: &ClientId, run: &RunId) -> Option<Execution> {
        let key = self.keys.execution(&self.group, Some(client), run);
        let entry = self.gateway.get(&key).await.ok()??;
        Some(decode(entry.value.as_bytes()).unwrap())
    }

    pub(super) async fn ended(&self, client: &ClientId, run: &RunId) -> Execution {
        let look = async || self.execution(client, run).await.filter(|e| e.status != Status::Running);
        eventually("the end of the run", SOON, look).await
    }

    pub(super) async fn started(&self, client: &ClientId, run: &RunId) {
        eventually("the claim", SOON, async || self.execution(client, run).await.is_some()).await;
    }
}

pub(super) fn text(record: &impl serde::Serialize) -> String {
    String::from_utf8(encode(record)).unwrap()
}

pub(super) type Answer = Pin<Box<dyn Future<Output = Result<String, String>> + Send>>;

/// A handler that counts its calls and returns when the gate lets it.
#[derive(Clone)]
pub(super) struct Gated {
    gate: Arc<Semaphore>,
    calls: Arc<AtomicUsize>,
}

impl Gated {
    pub(super) fn new() -> Self {
        Self { gate: Arc::new(Semaphore::new(0)), calls: Arc::default() }
    }

    pub(super) fn handler(&self) -> impl Fn(JobContext) -> Answer + Send + Sync + 'static {
        let own = self.clone();
        move |_ctx| {
            let own = own.clone();
            Box::pin(async move {
                own.calls.fetch_add(1, Ordering::SeqCst);
                own.gate.acquire().await.map_err(|e| e.to_string())?.forget();
                Ok("let through".into())
            })
        }
    }

    pub(super) fn open(&self) {
        self.gate.add_permits(1);
    }

    pub(super) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}
