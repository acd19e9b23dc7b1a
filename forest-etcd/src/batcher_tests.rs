#![allow(clippy::unwrap_used)]

use super::*;
use crate::EtcdConfig;

fn job(txn: Txn) -> Job {
    Job { txn, reply: oneshot::channel().0 }
}

fn queue(txns: impl IntoIterator<Item = Txn>) -> Queue {
    let mut queue = Queue::default();
    txns.into_iter().for_each(|txn| queue.push(job(txn)));
    queue
}

/// The keys written by the next request, which then stays in flight for the rest of the test.
fn next(queue: &mut Queue) -> Vec<String> {
    let batch = queue.take().unwrap_or_default();
    batch.iter().flat_map(|job| job.txn.ops.iter().map(|op| op.key().to_owned())).collect()
}

fn put(key: &str) -> Txn {
    Txn::new().put(key, "")
}

#[test]
fn what_gathered_goes_in_one_request() {
    let mut queue = queue([put("/a"), put("/b"), put("/c")]);
    assert_eq!(next(&mut queue), ["/a", "/b", "/c"]);
    assert!(queue.take().is_none());
}

#[test]
fn a_key_in_flight_keeps_its_next_transaction_waiting() {
    let mut queue = queue([put("/a"), put("/a"), put("/b")]);
    let first = queue.take().unwrap();
    assert_eq!(first.len(), 2);
    assert!(queue.take().is_none());
    let verdicts = vec![Ok(Outcome::Applied { revision: 1 }); 2];
    queue.land(first, verdicts);
    assert_eq!(next(&mut queue), ["/a"]);
}

#[test]
fn nobody_overtakes_an_earlier_transaction_on_the_same_key() {
    let mut queue = queue([put("/a")]);
    let flying = queue.take().unwrap();
    // The second waits for /a; the third would be free if it did not come after the second.
    queue.push(job(put("/a").put("/b", "")));
    queue.push(job(put("/b")));
    queue.push(job(put("/c")));
    assert_eq!(next(&mut queue), ["/c"]);
    queue.land(flying, vec![Ok(Outcome::Applied { revision: 1 })]);
    assert_eq!(next(&mut queue), ["/a", "/b"]);
}

#[test]
fn a_request_is_cut_where_etcd_would_refuse_it() {
    let mut queue = queue((0..200).map(|n| put(&format!("/{n}"))));
    assert_eq!(next(&mut queue).len(), 127);
    assert_eq!(next(&mut queue).len(), 73);
}

fn unreachable() -> Store {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    Store::new(&EtcdConfig::new([closed.to_string()])).unwrap()
}

#[tokio::test]
async fn what_was_accepted_before_the_shutdown_gets_its_verdict() {
    let (batcher, handle) = Batcher::new(unreachable(), 2, 8);
    let shutdown = CancellationToken::new();
    let submits = async {
        let verdicts = tokio::join!(handle.submit(put("/a")), handle.submit(put("/a")), async {
            tokio::task::yield_now().await;
            shutdown.cancel();
        });
        (verdicts.0, verdicts.1)
    };
    let (ended, (first, second)) = tokio::join!(batcher.run(shutdown.clone()), submits);
    ended.unwrap();
    for verdict in [first, second] {
        assert!(matches!(verdict, Err(Error::Unavailable { .. })), "{verdict:?}");
    }
    assert_eq!(handle.submit(put("/a")).await, Err(Error::Closed));
}

#[tokio::test]
async fn a_batcher_without_submitters_ends() {
    let (batcher, handle) = Batcher::new(unreachable(), 1, 1);
    drop(handle);
    batcher.run(CancellationToken::new()).await.unwrap();
}
