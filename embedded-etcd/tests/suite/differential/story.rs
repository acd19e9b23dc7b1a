//! What random operations do not come to: time that passes, and a long history.

use std::time::Duration;

use embedded_etcd::proto::{
    PbCompactionRequest, PbDeleteRequest, PbLeaseGrantRequest, PbLeaseTimeToLiveRequest, PbPutRequest,
    PbRangeRequest, PbTxnOpRequest, PbTxnRequest, PbTxnRequestOp, PbWatchRequest, PbWatchRequestUnion,
};
use tokio::time::sleep;

use super::Pair;
use super::answer::Answer;
use super::operation::Operation;
use super::side::Side;
use crate::real_etcd::program;

impl Pair {
    async fn must(&mut self, operation: Operation) {
        if let Err(story) = self.perform(&operation).await {
            panic!("{story}");
        }
    }

    async fn must_agree(&mut self) {
        if let Err(story) = self.agree().await {
            panic!("{story}");
        }
    }
}

fn put(key: &str, lease: i64) -> Operation {
    Operation::Put(PbPutRequest { key: key.into(), value: b"1".into(), lease, ..PbPutRequest::default() })
}

fn watch_all(start_revision: i64) -> Operation {
    let mut union = PbWatchRequestUnion::CreateRequest(Default::default());
    if let PbWatchRequestUnion::CreateRequest(create) = &mut union {
        (create.range_end, create.start_revision, create.prev_kv) = (vec![0], start_revision, true);
    }
    Operation::Watch(0, PbWatchRequest { request_union: Some(union) })
}

async fn gone(side: &mut Side, lease: i64) {
    let look = Operation::TimeToLive(PbLeaseTimeToLiveRequest { id: lease, keys: false });
    loop {
        match side.perform(&look).await {
            Answer::TimeToLive(answer) if answer.ttl == -1 => return,
            Answer::TimeToLive(_) => sleep(Duration::from_millis(20)).await,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_end_alike() {
    let Some(program) = program() else { return };
    let mut pair = Pair::start(&program).await;
    pair.must(watch_all(0)).await;
    pair.must(Operation::Grant(PbLeaseGrantRequest { id: 7, ttl: -5 })).await;
    // Much later than the first: of those that end at once, etcd takes any first.
    pair.must(Operation::Grant(PbLeaseGrantRequest { id: 8, ttl: 4 })).await;
    for key in ["c", "a", "b", "detached"] {
        pair.must(put(key, 7)).await;
    }
    pair.must(put("detached", 0)).await;
    pair.must(put("moved", 8)).await;
    pair.must(Operation::Delete(PbDeleteRequest { key: b"b".into(), ..PbDeleteRequest::default() })).await;
    pair.must(Operation::KeepAlive(8)).await;
    tokio::join!(gone(&mut pair.real, 7), gone(&mut pair.embedded, 7));
    pair.must(Operation::KeepAlive(7)).await;
    tokio::join!(gone(&mut pair.real, 8), gone(&mut pair.embedded, 8));
    pair.must(Operation::Leases).await;
    pair.must(put("x", 7)).await;
    let everything = PbRangeRequest { key: vec![0], range_end: vec![0], ..PbRangeRequest::default() };
    pair.must(Operation::Range(everything)).await;
    pair.must_agree().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_history_is_told_whole() {
    let Some(program) = program() else { return };
    let mut pair = Pair::start(&program).await;
    // More than etcd puts into one response.
    for n in 0..1_500 {
        pair.must(put(&format!("key/{}", n % 40), 0)).await;
    }
    for start_revision in [1, 2, 700, 1_501, 1_502] {
        pair.must(watch_all(start_revision)).await;
    }
    pair.must(put("last", 0)).await;
    pair.must_agree().await;
    assert_eq!(pair.figures.events, 1_501 + 1_501 + 803 + 2 + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_from_the_compacted_revision_misses_the_same() {
    let Some(program) = program() else { return };
    let mut pair = Pair::start(&program).await;
    for key in ["a", "b", "c"] {
        pair.must(put(key, 0)).await;
    }
    pair.must(watch_all(0)).await;
    // Writes twice what it puts.
    let delete = |key: &str, range_end: &[u8]| PbDeleteRequest {
        key: key.into(),
        range_end: range_end.into(),
        ..PbDeleteRequest::default()
    };
    let put_c = PbPutRequest { key: b"c".into(), ..PbPutRequest::default() };
    let requests = [PbTxnOpRequest::RequestDeleteRange(delete("b", &[0])), PbTxnOpRequest::RequestPut(put_c)];
    let success = requests.map(|request| PbTxnRequestOp { request: Some(request) }).to_vec();
    pair.must(Operation::Txn(PbTxnRequest { success, ..PbTxnRequest::default() })).await;
    pair.must_agree().await;
    pair.must(Operation::Compact(PbCompactionRequest { revision: 5, physical: true })).await;
    pair.must(watch_all(5)).await;
    pair.must_agree().await;
    pair.must(Operation::Delete(delete("a", b""))).await;
    pair.must_agree().await;
    pair.must(Operation::Compact(PbCompactionRequest { revision: 6, physical: true })).await;
    pair.must(watch_all(6)).await;
    pair.must(put("d", 0)).await;
    pair.must_agree().await;
}
