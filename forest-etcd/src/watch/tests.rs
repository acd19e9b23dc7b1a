//! The watcher over an etcd in the same process.

use std::time::Duration;

use embedded_etcd::{Etcd, TokioClock};
use etcd_client::proto::PbCompactionRequest;
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

#[tokio::test(start_paused = true)]
async fn readers_are_told_that_changes_are_missing_when_etcd_has_compacted_them() {
    let clock = TokioClock::shared();
    let etcd = Etcd::new(clock);
    let transport = Transport::new(etcd.routes());
    let store = Store::new(&EtcdConfig::in_process(transport)).expect("nothing is opened");
    store.commit(Txn::new().put("/a/1", "1")).await.expect("written");
    let config = WatchConfig { buffer: 1, ..WatchConfig::new(KeyRange::prefix("/a/")) };
    let (watcher, mut stream) = Watcher::new(store.clone(), config);
    let mut tasks = Tasks::new();
    tasks.spawn(watcher.run(CancellationToken::new()));
    let first = next(&mut stream).await;
    assert_eq!(first.first(), Some(&Change::ListStarted), "the first listing is no gap: {first:?}");
    while !next(&mut stream).await.iter().any(|change| matches!(change, Change::ListEnded { .. })) {}

    let mut told = Vec::new();
    for round in 0.. {
        // The reader stands still: its stream is closed, and what it has not seen is compacted.
        for n in 0..8 {
            store.commit(Txn::new().put("/a/1", format!("{round} {n}"))).await.expect("written");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let request = PbCompactionRequest { revision: etcd.revision(), physical: false };
        etcd.compact(&request).expect("compacted");
        while let Ok(Some(changes)) = timeout(Duration::from_secs(1), stream.next()).await {
            told.extend(changes);
        }
        let gap = told.iter().position(|change| *change == Change::Gap);
        if let Some(gap) = gap {
            assert_eq!(told.get(gap + 1), Some(&Change::ListStarted), "{told:?}");
            return;
        }
        assert!(round < 20, "never: {told:?}");
    }
}
