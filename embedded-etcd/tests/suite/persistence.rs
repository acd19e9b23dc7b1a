//! The data outlives the process, however that ended.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use embedded_etcd::proto::{
    PbCompactionRequest, PbDeleteRequest, PbEvent, PbKeyValue, PbLeaseGrantRequest, PbLeaseRevokeRequest,
    PbLeaseTimeToLiveRequest, PbPutRequest, PbRangeRequest, PbWatchRequest, PbWatchRequestUnion,
};
use embedded_etcd::{Etcd, OpenError, TokioClock};
use tokio_util::sync::CancellationToken;

/// With it, this test program is the child that is killed.
const CHILD: &str = "EMBEDDED_ETCD_TEST_CHILD";
/// Writes that the child has acknowledged when it is killed.
const ACKNOWLEDGED: usize = 500;

fn open(path: &Path) -> Etcd {
    Etcd::open(path, TokioClock::shared()).unwrap()
}

fn put(etcd: &Etcd, key: &str, value: &str, lease: i64) -> i64 {
    let request = PbPutRequest { key: key.into(), value: value.into(), lease, ..PbPutRequest::default() };
    etcd.put(&request).unwrap().header.unwrap().revision
}

fn delete(etcd: &Etcd, key: &str) {
    etcd.delete_range(&PbDeleteRequest { key: key.into(), ..PbDeleteRequest::default() }).unwrap();
}

fn compact(etcd: &Etcd, revision: i64) {
    etcd.compact(&PbCompactionRequest { revision, physical: true }).unwrap();
}

/// All keys at a revision, or the error.
fn state(etcd: &Etcd, revision: i64) -> Result<Vec<PbKeyValue>, String> {
    let all = PbRangeRequest { key: vec![0], range_end: vec![0], revision, ..PbRangeRequest::default() };
    etcd.range(&all).map(|answer| answer.kvs).map_err(|status| status.message().to_owned())
}

/// What a watch from a revision on is told, or the revision that is compacted.
fn told(etcd: &Etcd, start_revision: i64) -> Result<Vec<PbEvent>, i64> {
    let mut union = PbWatchRequestUnion::CreateRequest(Default::default());
    if let PbWatchRequestUnion::CreateRequest(create) = &mut union {
        (create.range_end, create.start_revision, create.prev_kv) = (vec![0], start_revision, true);
    }
    let mut watch = etcd.watch();
    watch.request(PbWatchRequest { request_union: Some(union) });
    let mut events = Vec::new();
    while let Some(response) = watch.try_next() {
        if response.canceled {
            return Err(response.compact_revision);
        }
        events.extend(response.events);
    }
    Ok(events)
}

/// Everything that can be asked for.
fn everything(etcd: &Etcd) -> impl PartialEq + std::fmt::Debug + use<> {
    let revisions = 1..=etcd.revision();
    let states: Vec<_> = revisions.clone().map(|revision| state(etcd, revision)).collect();
    let tales: Vec<_> = revisions.map(|revision| told(etcd, revision)).collect();
    let keys = |id| {
        let answer = etcd.lease_time_to_live(&PbLeaseTimeToLiveRequest { id, keys: true });
        (id, answer.granted_ttl, answer.keys)
    };
    let leases: Vec<_> = etcd.leases().leases.iter().map(|lease| keys(lease.id)).collect();
    (etcd.revision(), states, tales, leases)
}

/// Something of each kind.
fn write_some(etcd: &Etcd) {
    etcd.lease_grant(&PbLeaseGrantRequest { id: 7, ttl: 50 }).unwrap();
    etcd.lease_grant(&PbLeaseGrantRequest { id: 8, ttl: 60 }).unwrap();
    etcd.lease_grant(&PbLeaseGrantRequest { id: 0, ttl: 70 }).unwrap();
    for n in 0..20 {
        put(etcd, &format!("key/{}", n % 6), &format!("value {n}"), [0, 7, 8][n % 3]);
    }
    delete(etcd, "key/2");
    etcd.lease_revoke(&PbLeaseRevokeRequest { id: 8 }).unwrap();
}

#[tokio::test]
async fn everything_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let etcd = open(&path);
    write_some(&etcd);
    let before = everything(&etcd);
    drop(etcd);
    let etcd = open(&path);
    assert_eq!(everything(&etcd), before);
    compact(&etcd, 15);
    put(&etcd, "key/2", "again", 7);
    let before = everything(&etcd);
    drop(etcd);
    let etcd = open(&path);
    assert_eq!(everything(&etcd), before);
}

#[tokio::test]
async fn the_id_of_a_lease_is_not_given_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let mut given = Vec::new();
    for n in 0..4 {
        let etcd = open(&path);
        // The largest there is, which is somebody's choice.
        let chosen = PbLeaseGrantRequest { id: i64::MAX, ttl: 10 };
        assert_eq!(etcd.lease_grant(&chosen).is_ok(), n == 0);
        let id = etcd.lease_grant(&PbLeaseGrantRequest { id: 0, ttl: 10 }).unwrap().id;
        etcd.lease_revoke(&PbLeaseRevokeRequest { id }).unwrap();
        assert!(!given.contains(&id), "{id:x} was given before: {given:x?}");
        given.push(id);
        if n == 2 {
            write_anew(&etcd).await;
        }
    }
}

/// Lets it grow until it writes its file anew.
async fn write_anew(etcd: &Etcd) {
    let large = "x".repeat(1_000_000);
    for _ in 0..20 {
        put(etcd, "large", &large, 0);
    }
    compact(etcd, etcd.revision());
    run_once(etcd).await;
}

/// What is to be done at the end is done.
async fn run_once(etcd: &Etcd) {
    let shutdown = CancellationToken::new();
    shutdown.cancel();
    etcd.run(shutdown).await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_comes_back_with_its_whole_time_and_its_keys() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let etcd = open(&path);
    etcd.lease_grant(&PbLeaseGrantRequest { id: 7, ttl: 50 }).unwrap();
    put(&etcd, "held", "", 7);
    tokio::time::sleep(Duration::from_secs(49)).await;
    drop(etcd);
    let etcd = open(&path);
    tokio::time::sleep(Duration::from_secs(49)).await;
    assert_eq!(etcd.expire(), Some(Duration::from_secs(1)));
    assert_eq!(state(&etcd, 0).unwrap().len(), 1);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(etcd.expire(), None);
    drop(etcd);
    assert_eq!(state(&open(&path), 0).unwrap(), []);
}

#[tokio::test]
async fn what_was_not_written_whole_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let etcd = open(&path);
    write_some(&etcd);
    let before = everything(&etcd);
    let whole = std::fs::metadata(&path).unwrap().len();
    put(&etcd, "last", "one", 0);
    drop(etcd);
    let bytes = std::fs::read(&path).unwrap();
    for length in whole..bytes.len() as u64 {
        std::fs::write(&path, &bytes[..usize::try_from(length).unwrap()]).unwrap();
        let etcd = open(&path);
        assert_eq!(everything(&etcd), before, "cut at {length}");
        assert_eq!(std::fs::metadata(&path).unwrap().len(), whole);
        put(&etcd, "last", "once more", 0);
        drop(etcd);
        assert_eq!(state(&open(&path), 0).unwrap().last().unwrap().value, b"once more");
    }
    // As after a loss of power: the file has its new length, and nothing in it.
    let mut zeros = bytes[..usize::try_from(whole).unwrap()].to_vec();
    zeros.resize(bytes.len() + 5_000, 0);
    std::fs::write(&path, zeros).unwrap();
    assert_eq!(everything(&open(&path)), before);
}

#[tokio::test]
async fn damage_in_the_middle_is_refused_wherever_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let etcd = open(&path);
    write_some(&etcd);
    let last = usize::try_from(std::fs::metadata(&path).unwrap().len()).unwrap();
    put(&etcd, "last", "one", 0);
    drop(etcd);
    let bytes = std::fs::read(&path).unwrap();
    for at in 0..last {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        std::fs::write(&path, &damaged).unwrap();
        match Etcd::open(&path, TokioClock::shared()) {
            Err(OpenError::Damaged { at: found, .. }) => assert!(found <= at, "{found} and not {at}"),
            Err(OpenError::Foreign { .. }) => assert!(at < 16, "at {at}"),
            Err(other) => panic!("at {at}: {other}"),
            Ok(_) => panic!("damage at {at} was not seen"),
        }
        assert_eq!(std::fs::read(&path).unwrap(), damaged, "a damaged file is left as it is");
    }
    std::fs::write(&path, b"something else\n").unwrap();
    let error = Etcd::open(&path, TokioClock::shared()).err().unwrap();
    assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
}

#[tokio::test]
async fn a_second_one_is_kept_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let first = open(&path);
    let second = Etcd::open(&path, TokioClock::shared()).err().unwrap();
    assert!(matches!(second, OpenError::InUse { .. }), "{second}");
    drop(first);
    open(&path);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_has_grown_is_written_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let etcd = open(&path);
    write_some(&etcd);
    let large = "x".repeat(100_000);
    for n in 0..400 {
        put(&etcd, &format!("key/{}", n % 10), &large, 0);
    }
    compact(&etcd, etcd.revision() - 20);
    let grown = std::fs::metadata(&path).unwrap().len();
    let before = everything(&etcd);
    run_once(&etcd).await;
    let size = std::fs::metadata(&path).unwrap().len();
    assert!(grown > 40_000_000 && size < 4_000_000, "{grown} became {size}");
    assert!(matches!(Etcd::open(&path, TokioClock::shared()), Err(OpenError::InUse { .. })));
    assert_eq!(everything(&etcd), before);
    drop(etcd);
    let etcd = open(&path);
    assert_eq!(everything(&etcd), before);
    put(&etcd, "key/0", "after", 7);
    let before = everything(&etcd);
    drop(etcd);
    assert_eq!(everything(&open(&path)), before);
}

/// What the child does until it is killed.
async fn write_for_ever(path: &str) {
    let etcd = open(Path::new(path));
    let runner = etcd.clone();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move { runner.run(CancellationToken::new()).await });
    let mut out = std::io::stdout();
    for n in 0.. {
        let revision = put(&etcd, &format!("key/{}", n % 50), &format!("value {n}"), 0);
        writeln!(out, "acknowledged {n} {revision}").unwrap();
        out.flush().unwrap();
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_killed_process_loses_nothing_that_it_acknowledged() {
    if let Ok(path) = std::env::var(CHILD) {
        return write_for_ever(&path).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    for _ in 0..3 {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "--nocapture"]);
        command.arg("persistence::a_killed_process_loses_nothing_that_it_acknowledged");
        let mut child = command.env(CHILD, &path).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut acknowledged = Vec::new();
        for line in lines {
            if let Some((n, revision)) =
                line.strip_prefix("acknowledged ").and_then(|rest| rest.split_once(' '))
            {
                acknowledged.push((n.parse::<usize>().unwrap(), revision.parse::<i64>().unwrap()));
            }
            if acknowledged.len() == ACKNOWLEDGED {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(acknowledged.len() >= ACKNOWLEDGED, "the child wrote {} times", acknowledged.len());
        let etcd = open(&path);
        for (n, revision) in acknowledged {
            let events = told(&etcd, revision).unwrap();
            let kv = events[0].kv.as_ref().unwrap();
            assert_eq!((kv.mod_revision, kv.value.clone()), (revision, format!("value {n}").into_bytes()));
        }
    }
}
