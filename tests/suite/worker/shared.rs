//! What handlers share, on a real etcd: its leases, its watches, and answers that are lost on the way.

use std::time::Duration;

use forest_client::shared::{Lock, Shared, SharedError, StateChange};
use forest_client::{Builder, JobContext};
use forest_tests::proxy::{Protocol, Proxy};
use forest_tests::require;
use forest_tests::services::shared_etcd;
use forest_tests::wait::eventually;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::bench::{Bench, SOON};

const HOUR: Duration = Duration::from_secs(3600);

/// A worker with what it shares; it ends with the drop guard.
struct Sharing {
    shared: Shared,
    _shutdown: tokio_util::sync::DropGuard,
}

fn start(builder: Builder) -> Sharing {
    let worker = builder.build().unwrap();
    let (shared, shutdown) = (worker.shared(), CancellationToken::new());
    tokio::spawn(worker.run_until(shutdown.clone()));
    Sharing { shared, _shutdown: shutdown.drop_guard() }
}

async fn nothing(_: JobContext) -> Result<(), String> {
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_passes_on_when_its_holder_is_cut_off_and_that_one_writes_nothing_more() {
    let etcd = require!(shared_etcd().await);
    let mut bench = Bench::new(etcd).await;
    let other = start(bench.worker().job("other", nothing));
    let second = bench.client(None).await;
    let proxy = Proxy::start(etcd.address(), Protocol::Http2).await;
    bench.endpoint = proxy.endpoint();
    let (hand_out, mut locks) = mpsc::channel::<Lock>(1);
    let holds = move |ctx: JobContext| {
        let hand_out = hand_out.clone();
        async move {
            let lock = ctx.shared().lock("ledger").limit(HOUR).acquire().await?;
            hand_out.send(lock).await.unwrap();
            ctx.cancelled().await;
            Ok::<_, SharedError>(())
        }
    };
    let _holding = start(bench.worker().job("holds", holds).lease_ttl(Duration::from_secs(3)));
    let first = bench.client(Some(&second)).await;
    let run = bench.give(&first, &bench.snapshot(1, "holds", "")).await;
    let lock = tokio::time::timeout(SOON, locks.recv()).await.unwrap().unwrap();
    let holder = other.shared.holder("ledger").await.unwrap().unwrap();
    assert_eq!((holder.client.as_str(), holder.run), (first.as_str(), Some(run)));
    assert_eq!(holder.fencing_token, lock.fencing_token());
    let state = lock.guarded().state();
    state.put("total", "1").await.unwrap();
    assert!(other.shared.lock("ledger").try_acquire().await.unwrap().is_none());

    proxy.black_hole().await;
    let next = tokio::time::timeout(SOON, other.shared.lock("ledger").acquire()).await.unwrap().unwrap();
    assert!(!lock.is_held() && next.is_held() && next.fencing_token() > lock.fencing_token());
    next.guarded().state().put("total", "2").await.unwrap();
    proxy.pass().await;
    let refused = async || matches!(state.put("total", "3").await, Err(SharedError::NotHeld { .. }));
    eventually("a refusal", SOON, refused).await;
    assert_eq!(other.shared.state().get("total").await.unwrap().unwrap().value, b"2");
    next.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_shared_survives_lost_answers_of_a_real_etcd() {
    let etcd = require!(shared_etcd().await);
    let mut bench = Bench::new(etcd).await;
    let proxy = Proxy::start(etcd.address(), Protocol::Http2).await;
    bench.endpoint = proxy.endpoint();
    let worker = start(bench.worker().job("nothing", nothing).lease_ttl(Duration::from_secs(60)));
    bench.client(None).await;
    let (shared, queue) = (&worker.shared, worker.shared.queue("mail").unwrap());
    let below = |rest: &str| format!("-shared/{}/{rest}", bench.group);
    for round in 0..3 {
        let mut lost = proxy.lose_reply_to(below("lock/ledger/holder"));
        let lock = shared.lock("ledger").acquire().await.unwrap();
        lost.happened(SOON).await;
        lock.release().await.unwrap();

        let mut lost = proxy.lose_reply_to(below("queue/mail/item/"));
        assert_eq!(queue.push(format!("{round}")).await.unwrap(), round + 1);
        lost.happened(SOON).await;
        let mut lost = proxy.lose_reply_to(below("queue/mail/claim/0"));
        let item = queue.take().await.unwrap().unwrap();
        lost.happened(SOON).await;
        assert_eq!(item.value(), format!("{round}").as_bytes());
        let mut lost = proxy.lose_reply_to(below("queue/mail/claim/0"));
        item.done().await.unwrap();
        lost.happened(SOON).await;
        assert!(queue.is_empty().await.unwrap());
    }
    let (state, mut version) = (shared.state(), 0);
    for round in 1..=5_u8 {
        let mut lost = proxy.lose_reply_to(below("state/sum"));
        let entry = state.put_if("sum", [round], version).await.unwrap();
        lost.happened(SOON).await;
        assert!(entry.version > version);
        version = entry.version;
    }
    let mut watch = state.watch("sum").unwrap();
    let seen = tokio::time::timeout(SOON, watch.next()).await.unwrap();
    assert!(matches!(seen, Some(StateChange::Set(entry)) if entry.value == [5] && entry.version == version));
    state.delete_if("sum", version).await.unwrap();
    let seen = tokio::time::timeout(SOON, watch.next()).await.unwrap();
    assert_eq!(seen, Some(StateChange::Gone));
}
