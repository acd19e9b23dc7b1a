#![allow(clippy::unwrap_used)]

use etcd_client::proto::{PbCompactionRequest, PbPutRequest, PbTxnOpRequest, PbTxnRequest, PbTxnRequestOp};

use super::*;
use crate::clock::TokioClock;

/// What a test asks of a watch.
#[derive(Default)]
struct Wish {
    key: &'static str,
    range_end: &'static str,
    start_revision: i64,
    watch_id: i64,
    prev_kv: bool,
    progress_notify: bool,
    filters: Vec<i32>,
}

const ALL: Wish = Wish {
    key: "",
    range_end: "\0",
    start_revision: 0,
    watch_id: 0,
    prev_kv: false,
    progress_notify: false,
    filters: Vec::new(),
};

fn create(stream: &mut WatchStream, wish: Wish) -> PbWatchResponse {
    let mut union = PbWatchRequestUnion::CreateRequest(Default::default());
    if let PbWatchRequestUnion::CreateRequest(create) = &mut union {
        (create.key, create.range_end) = (wish.key.into(), wish.range_end.into());
        (create.start_revision, create.watch_id) = (wish.start_revision, wish.watch_id);
        (create.prev_kv, create.progress_notify, create.filters) =
            (wish.prev_kv, wish.progress_notify, wish.filters);
    }
    stream.request(PbWatchRequest { request_union: Some(union) });
    stream.try_next().unwrap()
}

fn cancel(stream: &mut WatchStream, watch_id: i64) {
    let mut union = PbWatchRequestUnion::CancelRequest(Default::default());
    if let PbWatchRequestUnion::CancelRequest(cancel) = &mut union {
        cancel.watch_id = watch_id;
    }
    stream.request(PbWatchRequest { request_union: Some(union) });
}

fn ask_for_progress(stream: &mut WatchStream) {
    let union = PbWatchRequestUnion::ProgressRequest(Default::default());
    stream.request(PbWatchRequest { request_union: Some(union) });
}

fn put_request(key: &str, value: Vec<u8>) -> PbPutRequest {
    PbPutRequest { key: key.into(), value, ..PbPutRequest::default() }
}

fn put(etcd: &Etcd, key: &str) {
    etcd.put(&put_request(key, b"1".into())).unwrap();
}

fn delete(etcd: &Etcd, key: &str) {
    let request = etcd_client::proto::PbDeleteRequest { key: key.into(), ..Default::default() };
    etcd.delete_range(&request).unwrap();
}

fn compact(etcd: &Etcd, revision: i64) {
    etcd.compact(&PbCompactionRequest { revision, physical: false }).unwrap();
}

fn etcd() -> Etcd {
    Etcd::new(TokioClock::shared())
}

/// (watch, revision, key) of all that is there to be told.
fn told(stream: &mut WatchStream) -> Vec<(i64, i64, String)> {
    let mut told = Vec::new();
    while let Some(response) = stream.try_next() {
        for kv in response.events.into_iter().filter_map(|event| event.kv) {
            told.push((response.watch_id, kv.mod_revision, String::from_utf8(kv.key).unwrap()));
        }
    }
    told
}

#[tokio::test]
async fn a_watch_begins_where_it_is_told_to() {
    for (start_revision, expected) in [(0, 5..6), (1, 2..6), (4, 4..6), (5, 5..6), (6, 6..6)] {
        let etcd = etcd();
        ["a", "b", "c"].iter().for_each(|key| put(&etcd, key));
        let mut stream = etcd.watch();
        create(&mut stream, Wish { start_revision, ..ALL });
        put(&etcd, "d");
        let revisions: Vec<_> = told(&mut stream).into_iter().map(|(_, revision, _)| revision).collect();
        assert_eq!(revisions, expected.collect::<Vec<_>>(), "from {start_revision}");
    }
}

#[tokio::test]
async fn a_watch_hears_of_its_keys_and_of_the_kinds_it_wants() {
    let etcd = etcd();
    let mut stream = etcd.watch();
    create(&mut stream, Wish { key: "b", range_end: "", ..ALL });
    create(&mut stream, Wish { key: "b", range_end: "d", ..ALL });
    create(&mut stream, Wish { filters: vec![NO_PUT], ..ALL });
    create(&mut stream, Wish { filters: vec![NO_DELETE], ..ALL });
    ["a", "b", "c", "d"].iter().for_each(|key| put(&etcd, key));
    delete(&etcd, "b");
    let mut revisions = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
    for (watch, revision, _) in told(&mut stream) {
        revisions[usize::try_from(watch).unwrap()].push(revision);
    }
    assert_eq!(revisions, [vec![3, 6], vec![3, 4, 6], vec![6], vec![2, 3, 4, 5]]);
}

#[tokio::test]
async fn a_revision_comes_in_one_response_and_many_may_share_one() {
    let etcd = etcd();
    let mut stream = etcd.watch();
    create(&mut stream, ALL);
    let puts = |n: usize| {
        let op = |n| PbTxnOpRequest::RequestPut(put_request(&format!("key/{n}"), vec![0; 10_000]));
        let success = (0..n).map(|n| PbTxnRequestOp { request: Some(op(n)) }).collect();
        PbTxnRequest { success, ..PbTxnRequest::default() }
    };
    // Each of half a megabyte, so that two fill a response.
    for _ in 0..5 {
        etcd.txn(&puts(60)).unwrap();
    }
    let mut sizes = Vec::new();
    while let Some(response) = stream.try_next() {
        sizes.push(response.events.len());
    }
    assert_eq!(sizes, [120, 120, 60]);
    for _ in 0..MAX_REVISIONS + 1 {
        put(&etcd, "a");
    }
    assert_eq!(stream.try_next().unwrap().events.len(), MAX_REVISIONS);
    assert_eq!(stream.try_next().unwrap().events.len(), 1);
}

#[tokio::test]
async fn prev_kv_is_what_was_before_the_whole_revision() {
    let etcd = etcd();
    let mut stream = etcd.watch();
    create(&mut stream, Wish { prev_kv: true, ..ALL });
    let value = |response: &PbWatchResponse| response.events[0].prev_kv.as_ref().map(|kv| kv.mod_revision);
    put(&etcd, "a");
    put(&etcd, "a");
    delete(&etcd, "a");
    let response = stream.try_next().unwrap();
    let before: Vec<_> =
        response.events.iter().map(|event| event.prev_kv.as_ref().map(|kv| kv.mod_revision)).collect();
    assert_eq!(before, [None, Some(2), Some(3)]);
    assert_eq!(response.events[2].kv.as_ref().unwrap().value, b"");
    // Nobody knows any more.
    put(&etcd, "a");
    put(&etcd, "a");
    compact(&etcd, 6);
    assert_eq!(value(&stream.try_next().unwrap()), None);
}

#[tokio::test]
async fn ids_are_given_kept_and_freed_as_by_etcd() {
    let etcd = etcd();
    let mut stream = etcd.watch();
    let mut id = |watch_id| {
        let answer = create(&mut stream, Wish { watch_id, ..ALL });
        (answer.watch_id, answer.canceled)
    };
    assert_eq!([id(0), id(2), id(0), id(0)], [(0, false), (2, false), (1, false), (3, false)]);
    assert_eq!(id(2), (NO_WATCH, true));
    let empty = create(&mut stream, Wish { key: "b", range_end: "a", ..ALL });
    assert_eq!((empty.watch_id, empty.cancel_reason.as_str()), (NO_WATCH, "mvcc: watcher range is empty"));
    cancel(&mut stream, 77);
    assert_eq!(stream.try_next(), None);
    cancel(&mut stream, 2);
    let answer = stream.try_next().unwrap();
    assert_eq!((answer.watch_id, answer.canceled), (2, true));
    put(&etcd, "a");
    let watches: Vec<_> = told(&mut stream).into_iter().map(|(watch, _, _)| watch).collect();
    assert_eq!(watches, [0, 1, 3]);
}

#[tokio::test]
async fn a_new_watch_of_what_is_compacted_is_told_so_and_ends() {
    let etcd = etcd();
    ["a", "b", "c"].iter().for_each(|key| put(&etcd, key));
    compact(&etcd, 3);
    let mut stream = etcd.watch();
    let answer = create(&mut stream, Wish { start_revision: 2, ..ALL });
    assert_eq!((answer.created, answer.canceled), (true, false));
    let end = stream.try_next().unwrap();
    assert_eq!((end.canceled, end.compact_revision, end.cancel_reason.as_str()), (true, 3, ""));
    assert_eq!(stream.try_next(), None);
    put(&etcd, "d");
    assert_eq!(stream.try_next(), None);
    create(&mut stream, Wish { start_revision: 3, ..ALL });
    assert_eq!(told(&mut stream).len(), 3);
}

#[tokio::test]
async fn a_watch_from_the_compacted_revision_misses_a_deletion_in_it() {
    let etcd = etcd();
    ["a", "b"].iter().for_each(|key| put(&etcd, key));
    let mut earlier = etcd.watch();
    create(&mut earlier, ALL);
    delete(&etcd, "a");
    compact(&etcd, 4);
    put(&etcd, "c");
    let mut later = etcd.watch();
    create(&mut later, Wish { start_revision: 4, ..ALL });
    assert_eq!(told(&mut later), [(0, 5, "c".into())]);
    assert_eq!(told(&mut earlier), [(0, 4, "a".into()), (0, 5, "c".into())]);
    // Compacted once more, to where nothing was deleted, before the last one looks.
    create(&mut later, Wish { start_revision: 4, ..ALL });
    compact(&etcd, 5);
    let end = later.try_next().unwrap();
    assert_eq!((end.watch_id, end.compact_revision), (1, 5));
    let mut later = etcd.watch();
    create(&mut later, Wish { start_revision: 5, ..ALL });
    assert_eq!(told(&mut later), [(0, 5, "c".into())]);
}

#[tokio::test]
async fn a_slow_watch_survives_a_compaction_until_it_is_far_behind() {
    let etcd = etcd();
    let mut stream = etcd.watch();
    create(&mut stream, ALL);
    put(&etcd, "a");
    put(&etcd, "a");
    compact(&etcd, etcd.revision());
    assert_eq!(told(&mut stream).len(), 2);
    for _ in 0..2_000 {
        put(&etcd, "a");
    }
    compact(&etcd, etcd.revision());
    let end = stream.try_next().unwrap();
    assert_eq!((end.canceled, end.compact_revision), (true, etcd.revision()));
}

#[tokio::test]
async fn no_watch_of_a_stream_starves() {
    let etcd = etcd();
    let mut stream = etcd.watch();
    create(&mut stream, ALL);
    create(&mut stream, ALL);
    let mut turns = Vec::new();
    for _ in 0..6 {
        put(&etcd, "a");
        turns.push(stream.try_next().unwrap().watch_id);
    }
    assert_eq!(turns, [0, 1, 0, 1, 0, 1]);
}

#[tokio::test]
async fn progress_is_told_after_all_that_came_before() {
    let etcd = etcd();
    let mut stream = etcd.watch();
    create(&mut stream, ALL);
    put(&etcd, "a");
    ask_for_progress(&mut stream);
    assert_eq!(stream.try_next().unwrap().events.len(), 1);
    let progress = stream.try_next().unwrap();
    assert_eq!((progress.watch_id, progress.header.unwrap().revision), (NO_WATCH, 2));
    assert_eq!(stream.try_next(), None);
}

#[tokio::test(start_paused = true)]
async fn a_quiet_watch_that_asked_for_it_hears_every_ten_minutes() {
    let etcd = etcd();
    let mut stream = etcd.watch();
    create(&mut stream, ALL);
    // Even one that begins in the future says no more than is true.
    let id = create(&mut stream, Wish { progress_notify: true, start_revision: 3, ..ALL }).watch_id;
    for _ in 0..2 {
        let begin = Instant::now();
        let response = stream.next().await;
        assert_eq!((response.watch_id, response.events.len()), (id, 0));
        assert_eq!((response.header.unwrap().revision, begin.elapsed()), (1, PROGRESS_EVERY));
    }
    tokio::time::sleep(PROGRESS_EVERY / 2).await;
    put(&etcd, "a");
    put(&etcd, "a");
    assert_eq!(told(&mut stream).len(), 3);
    let begin = Instant::now();
    assert_eq!(stream.next().await.watch_id, id);
    assert_eq!(begin.elapsed(), PROGRESS_EVERY, "counted from the last event");
}

#[tokio::test]
async fn a_stream_that_waits_is_woken_and_one_that_is_gone_leaves_nothing() {
    let etcd = etcd();
    let mut stream = etcd.watch();
    create(&mut stream, ALL);
    let writer = async {
        tokio::task::yield_now().await;
        put(&etcd, "a");
    };
    let (response, ()) = tokio::join!(stream.next(), writer);
    assert_eq!(response.events.len(), 1);
    assert!(futures_util::FutureExt::now_or_never(stream.next()).is_none());
    assert_eq!(etcd.lock().waiting.len(), 1);
    drop(stream);
    assert!(etcd.lock().waiting.is_empty());
}
