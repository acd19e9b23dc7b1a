#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::clock::{Clock, TokioClock};

/// Moves when it is told to.
#[derive(Default)]
struct Hand(AtomicU64);

impl Clock for Hand {
    fn now(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}

fn etcd() -> (Etcd, Arc<Hand>) {
    let hand = Arc::new(Hand::default());
    (Etcd::new(hand.clone()), hand)
}

fn put(etcd: &Etcd, key: &str, lease: i64) {
    let request = PbPutRequest { key: key.into(), lease, ..PbPutRequest::default() };
    etcd.put(&request).unwrap();
}

fn keys(etcd: &Etcd) -> Vec<String> {
    let all = PbRangeRequest { key: vec![0], range_end: vec![0], ..PbRangeRequest::default() };
    etcd.range(&all).unwrap().kvs.into_iter().map(|kv| String::from_utf8(kv.key).unwrap()).collect()
}

fn grant(etcd: &Etcd, id: i64, ttl: i64) -> i64 {
    etcd.lease_grant(&PbLeaseGrantRequest { id, ttl }).unwrap().id
}

fn time_to_live(etcd: &Etcd, id: i64) -> PbLeaseTimeToLiveResponse {
    etcd.lease_time_to_live(&PbLeaseTimeToLiveRequest { id, keys: true })
}

#[test]
fn a_lease_takes_its_keys_with_it_in_one_revision() {
    let (etcd, hand) = etcd();
    grant(&etcd, 7, 10);
    for key in ["b", "a", "other"] {
        put(&etcd, key, 7);
    }
    put(&etcd, "other", 0);
    hand.0.store(9_999, Ordering::Relaxed);
    assert_eq!(etcd.expire(), Some(Duration::from_millis(1)));
    assert_eq!(time_to_live(&etcd, 7).keys, [b"a", b"b"]);
    let revision = etcd.revision();
    hand.0.store(10_000, Ordering::Relaxed);
    assert_eq!(etcd.expire(), None);
    assert_eq!((keys(&etcd), etcd.revision()), (vec!["other".to_owned()], revision + 1));
    assert_eq!((time_to_live(&etcd, 7).ttl, etcd.lease_keep_alive(7).ttl), (-1, 0));
}

#[test]
fn a_lease_that_is_kept_alive_has_its_whole_time_again() {
    let (etcd, hand) = etcd();
    grant(&etcd, 7, 10);
    for now in [9_000, 18_000, 27_000] {
        hand.0.store(now, Ordering::Relaxed);
        assert_eq!(etcd.lease_keep_alive(7).ttl, 10);
    }
    assert_eq!(etcd.expire(), Some(Duration::from_secs(10)));
    hand.0.store(30_500, Ordering::Relaxed);
    assert_eq!((time_to_live(&etcd, 7).ttl, time_to_live(&etcd, 7).granted_ttl), (6, 10));
    // Too late, even if nobody has looked yet.
    hand.0.store(37_000, Ordering::Relaxed);
    assert_eq!(etcd.lease_keep_alive(7).ttl, 0);
}

#[test]
fn leases_are_granted_and_refused_as_by_etcd() {
    let (etcd, _) = etcd();
    let (one, other) = (grant(&etcd, 0, 5), grant(&etcd, 0, 5));
    assert!(one != 0 && other != 0 && one != other);
    assert_eq!(etcd.lease_grant(&PbLeaseGrantRequest { id: 3, ttl: 1 }).unwrap().ttl, 2);
    let refused = |request| etcd.lease_grant(&request).unwrap_err();
    let exists = refused(PbLeaseGrantRequest { id: 3, ttl: 5 });
    assert_eq!(
        (exists.code(), exists.message()),
        (tonic::Code::FailedPrecondition, "etcdserver: lease already exists")
    );
    let too_long = refused(PbLeaseGrantRequest { id: 4, ttl: 9_000_000_001 });
    assert_eq!(too_long.message(), "etcdserver: too large lease TTL");
    let unknown = etcd.lease_revoke(&PbLeaseRevokeRequest { id: 4 }).unwrap_err();
    assert_eq!(
        (unknown.code(), unknown.message()),
        (tonic::Code::NotFound, "etcdserver: requested lease not found")
    );
    assert_eq!(etcd.leases().leases.len(), 3);
}

#[test]
fn a_key_hangs_on_the_last_lease_it_was_given() {
    let (etcd, _) = etcd();
    grant(&etcd, 1, 60);
    grant(&etcd, 2, 60);
    put(&etcd, "a", 1);
    put(&etcd, "a", 2);
    etcd.lease_revoke(&PbLeaseRevokeRequest { id: 1 }).unwrap();
    assert_eq!(keys(&etcd), ["a"]);
    let same = PbPutRequest { key: b"a".into(), ignore_lease: true, ..PbPutRequest::default() };
    etcd.put(&same).unwrap();
    etcd.lease_revoke(&PbLeaseRevokeRequest { id: 2 }).unwrap();
    assert!(keys(&etcd).is_empty());
}

#[test]
fn an_empty_step_is_no_revision() {
    let (etcd, _) = etcd();
    let nothing = PbDeleteRequest { key: b"absent".into(), ..PbDeleteRequest::default() };
    assert_eq!(etcd.delete_range(&nothing).unwrap().header.unwrap().revision, 1);
    etcd.txn(&PbTxnRequest::default()).unwrap();
    grant(&etcd, 1, 60);
    etcd.lease_revoke(&PbLeaseRevokeRequest { id: 1 }).unwrap();
    assert_eq!(etcd.revision(), 1);
}

#[test]
fn a_request_may_be_no_larger_than_etcd_takes() {
    let (etcd, _) = etcd();
    let sized = |size| PbPutRequest { key: b"a".into(), value: vec![0; size], ..PbPutRequest::default() };
    etcd.put(&sized(1_500_000)).unwrap();
    let refused = etcd.put(&sized(1_600_000)).unwrap_err();
    assert_eq!(refused.message(), "etcdserver: request is too large");
}

/// Nobody calls it by hand: paused time moves on when nothing is left to do.
#[tokio::test(start_paused = true)]
async fn leases_end_in_time_while_it_runs() {
    let etcd = Etcd::new(TokioClock::shared());
    let (runner, shutdown) = (etcd.clone(), CancellationToken::new());
    let begin = tokio::time::Instant::now();
    let watching = async {
        grant(&etcd, 1, 100);
        tokio::time::sleep(Duration::from_secs(1)).await;
        // Sooner than the one that is waited for.
        grant(&etcd, 2, 5);
        put(&etcd, "a", 2);
        while !keys(&etcd).is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        shutdown.cancel();
    };
    tokio::join!(watching, runner.run(shutdown.clone()));
    let took = begin.elapsed();
    assert!((6_000..6_100).contains(&took.as_millis()), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn old_revisions_are_forgotten_while_it_runs() {
    let etcd = Etcd::new(TokioClock::shared());
    let (runner, shutdown) = (etcd.clone(), CancellationToken::new());
    for _ in 0..KEPT_CHANGES + 10 {
        put(&etcd, "a", 0);
    }
    let waiting = async {
        tokio::time::sleep(COMPACT_EVERY * 2).await;
        shutdown.cancel();
    };
    tokio::join!(waiting, runner.run(shutdown.clone()));
    let at = |revision| {
        let request = PbRangeRequest { key: b"a".into(), revision, ..PbRangeRequest::default() };
        etcd.range(&request).is_ok()
    };
    let kept = i64::try_from(KEPT_CHANGES).expect("a number");
    let oldest = etcd.revision() - kept;
    assert_eq!((at(oldest - 1), at(oldest)), (false, true));
}
