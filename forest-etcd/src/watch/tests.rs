//! The watcher over an etcd in the same process.

use std::time::Duration;

use embedded_etcd::{Etcd, TokioClock};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{Change, WatchConfig, WatchStream, Watcher};
use crate::{EtcdConfig, KeyRange, Store, Tasks, Transport, Txn};

async fn next(stream: &mut WatchStream) -> Vec<Change> {
    timeout(Duration::from_secs(3), stream.next()).await.expect("in time").expect("the watcher runs")
}

#[tokio::test(start_paused = true)]
async fn a_doubt_lists_the_range_at_once_and_not_all_the_time() {
    let transport = Transport::new(Etcd::new(TokioClock::shared()).routes());
    let store = Store::new(&EtcdConfig::in_process(transport)).expect("nothing is opened");
    store.commit(Txn::new().put("/a/1", "1")).await.expect("written");
    let (watcher, mut stream) = Watcher::new(store, WatchConfig::new(KeyRange::prefix("/a/")));
    let mut tasks = Tasks::new();
    tasks.spawn(watcher.run(CancellationToken::new()));
    while !next(&mut stream).await.iter().any(|change| matches!(change, Change::ListEnded { .. })) {}

    let listed = |changes: &[Change]| changes.iter().any(|change| matches!(change, Change::Listed(_)));
    stream.doubt();
    assert!(listed(&next(&mut stream).await), "beside the stream");
    assert!(matches!(next(&mut stream).await[..], [Change::ListEnded { .. }]));
    let asked = tokio::time::Instant::now();
    stream.doubt();
    assert!(listed(&next(&mut stream).await));
    assert!(asked.elapsed() >= Duration::from_secs(1), "{:?}", asked.elapsed());
}
