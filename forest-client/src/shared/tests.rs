//! What handlers share, over an etcd in the same process whose time is paused.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod locks;
mod queues;
mod states;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use embedded_etcd::{Etcd, TokioClock};
use forest_etcd::{Clock, EtcdConfig, Session, SystemClock, Tasks, Transport};
use futures_util::future::BoxFuture;
use tower::Service;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const TTL: Duration = Duration::from_secs(5);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// For handlers in tests that share nothing.
pub(crate) fn nothing_shared() -> Shared {
    let config = EtcdConfig::new(["127.0.0.1:1"]);
    let store = Store::new(&config).unwrap();
    let (_, session) = Session::new(&config, TTL, SystemClock::shared()).unwrap();
    shared(store, session, SystemClock::shared()).0
}

fn shared(store: Store, session: SessionHandle, clock: SharedClock) -> (Shared, Janitor) {
    let (janitor, chores) = Janitor::new(store.clone());
    let group = GroupName::new("trade").unwrap();
    let (keys, random) = (Keyspace::default(), || fastrand::u64(..));
    (Shared::new(Ground { store, session, clock, random, keys, group, chores }, "w"), janitor)
}

/// Tokio's time, which the tests pause.
struct Paused(tokio::time::Instant);

impl Clock for Paused {
    fn boot(&self) -> Duration {
        self.0.elapsed()
    }

    fn wall_ms(&self) -> i64 {
        1_795_000_000_000 + i64::try_from(self.boot().as_millis()).unwrap()
    }
}

/// Passes everything on to etcd, but fails one transaction in so many: it is applied and its answer lost, or it
/// reaches etcd when nobody waits for it any more.
#[derive(Clone)]
struct Lossy<S> {
    etcd: S,
    troubles: Arc<Troubles>,
}

#[derive(Default)]
struct Troubles {
    /// 0 = none.
    one_in: AtomicU32,
    seen: AtomicU32,
    failed: AtomicU32,
    /// How much later they reach etcd, in milliseconds.
    late_ms: AtomicU32,
}

impl Troubles {
    fn hit(&self, path: &str) -> bool {
        let one_in = self.one_in.load(Ordering::Relaxed);
        let hit = one_in > 0
            && path.ends_with("KV/Txn")
            && self.seen.fetch_add(1, Ordering::Relaxed).is_multiple_of(one_in);
        self.failed.fetch_add(u32::from(hit), Ordering::Relaxed);
        hit
    }
}

impl<S, B> Service<http::Request<B>> for Lossy<S>
where
    S: Service<http::Request<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    S::Response: Send,
    B: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<S::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.etcd.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        if !self.troubles.hit(request.uri().path()) {
            let answer = self.etcd.call(request);
            return Box::pin(async move { answer.await.map_err(Into::into) });
        }
        let late = Duration::from_millis(self.troubles.late_ms.load(Ordering::Relaxed).into());
        let mut etcd = self.etcd.clone();
        let arrives = tokio::spawn(async move {
            tokio::time::sleep(late).await;
            let _ = etcd.call(request).await;
        });
        Box::pin(async move {
            if late.is_zero() {
                arrives.await?;
            }
            Err("no answer".into())
        })
    }
}

/// One etcd and the clock.
struct World {
    etcd: Etcd,
    clock: SharedClock,
    troubles: Arc<Troubles>,
    _running: Tasks<()>,
}

/// A worker: its lease ends soon after this is dropped.
struct Member {
    shared: Shared,
    _running: Tasks<()>,
}

impl World {
    fn new() -> Self {
        let etcd = Etcd::new(TokioClock::shared());
        let mut running = Tasks::new();
        let own = etcd.clone();
        running.spawn(async move { own.run(Default::default()).await });
        let clock = Arc::new(Paused(tokio::time::Instant::now()));
        Self { etcd, clock, troubles: Arc::default(), _running: running }
    }

    /// From now on the answer to one transaction in so many is lost.
    fn lose_one_in(&self, n: u32) {
        self.troubles.one_in.store(n, Ordering::Relaxed);
    }

    /// From now on one transaction in so many reaches etcd so much later, and gets no answer.
    fn delay_one_in(&self, n: u32, late: Duration) {
        self.troubles.late_ms.store(u32::try_from(late.as_millis()).unwrap(), Ordering::Relaxed);
        self.lose_one_in(n);
    }

    /// No more troubles; how many there were.
    fn calm(&self) -> u32 {
        self.lose_one_in(0);
        self.troubles.failed.load(Ordering::Relaxed)
    }

    /// The keys of what is shared.
    fn keys(&self, below: &str) -> Vec<String> {
        let prefix = format!("/forest-shared/trade/{below}");
        let range_end = format!("{}0", prefix.trim_end_matches('/'));
        let request = embedded_etcd::proto::PbRangeRequest {
            key: prefix.into(),
            range_end: range_end.into(),
            ..Default::default()
        };
        let found = self.etcd.range(&request).unwrap().kvs;
        found.into_iter().map(|kv| String::from_utf8(kv.key).unwrap()).collect()
    }

    async fn member(&self) -> Member {
        let etcd = self.etcd.routes().prepare();
        let lossy = Lossy { etcd, troubles: Arc::clone(&self.troubles) };
        let config = EtcdConfig::in_process(Transport::new(lossy));
        let (session, handle) = Session::new(&config, TTL, Arc::clone(&self.clock)).unwrap();
        let (shared, janitor) = shared(Store::new(&config).unwrap(), handle.clone(), Arc::clone(&self.clock));
        let mut running = Tasks::new();
        running.spawn(async move { session.run(Default::default()).await.unwrap() });
        running.spawn(async move { janitor.run(Default::default()).await.unwrap() });
        let mut opened = handle;
        opened.opened().await;
        Member { shared, _running: running }
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_used_is_refused_by_name() {
    let world = World::new();
    let member = world.member().await;
    let shared = &member.shared;
    let name = shared.lock("a/b").acquire().await.unwrap_err();
    assert!(name.to_string().contains("shared name \"a/b\""), "{name}");
    assert!(matches!(shared.queue(""), Err(SharedError::Name(_))));
    let long = "x".repeat(129);
    assert!(matches!(shared.state().get(&long).await, Err(SharedError::Name(_))));
    let limit = shared.lock("a").limit(Duration::ZERO).try_acquire().await.unwrap_err();
    assert!(limit.to_string().starts_with("limit: 0ns is not from"), "{limit}");
    let big = vec![0; MAX_VALUE + 1];
    let pushed = shared.queue("q").unwrap().push(big.clone()).await.unwrap_err();
    assert_eq!(pushed.to_string(), "an item of queue q has 65537 bytes; 65536 are allowed");
    let put = shared.state().put("k", big).await.unwrap_err();
    assert_eq!(put.to_string(), "entry k has 65537 bytes; 65536 are allowed");
    assert_eq!(shared.state().put("k", vec![0; MAX_VALUE]).await.unwrap().value.len(), MAX_VALUE);
}

#[tokio::test(start_paused = true)]
async fn a_handler_whose_registration_has_ended_can_lock_nothing_any_more() {
    let world = World::new();
    let member = world.member().await;
    let lease = member.shared.ground.session.current().unwrap().id;
    let run: RunId = "20261118110640000-j1-1".parse().unwrap();
    let ended = member.shared.of_run("w-1", run.clone(), lease + 1);
    assert_eq!(ended.lock("a").acquire().await.unwrap_err(), SharedError::NoLease);
    ended.queue("q").unwrap().push("1").await.unwrap();
    assert_eq!(ended.queue("q").unwrap().take().await.unwrap_err(), SharedError::NoLease);

    let alive = member.shared.of_run("w-1", run.clone(), lease);
    let lock = alive.lock("a").acquire().await.unwrap();
    let holder = member.shared.holder("a").await.unwrap().unwrap();
    assert_eq!((holder.client.as_str(), holder.run.as_ref()), ("w-1", Some(&run)));
    assert_eq!(holder.fencing_token, lock.fencing_token());
    assert_eq!(holder.until.as_ms() - holder.since.as_ms(), 60_000);
}
