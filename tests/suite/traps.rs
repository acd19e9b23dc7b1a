//! The measured traps of etcd and of its client, on real servers, through the layer that is to hide them.
//!
//! | trap | test |
//! | --- | --- |
//! | dead endpoints stay in the library's balancer; a stopped member answers nobody; the leader dies | `a_member_that_dies_or_stands_still_costs_a_few_calls` |
//! | unread watches stall every call of their connection | `watches_that_nobody_reads_hold_up_no_call` |
//! | no call has a deadline; connecting succeeds always; endpoints without a scheme | `no_call_waits_for_ever`, `a_dead_port_is_named_at_once` |
//! | a dead lease is acknowledged with TTL 0; keep-alives are only queued | `a_lease_that_ended_is_noticed_and_replaced` |
//! | watches do not come back by themselves, after an end, a silence, or a compaction | `a_watch_survives_restarts_and_compactions_and_shows_everything` |
//! | a watch that begins at the revision of a compaction misses the deletions in it | `a_deletion_in_the_very_revision_of_a_compaction_is_not_missed` |
//! | tokens expire, and a refused watch looks like an opened one | `an_expired_login_is_renewed_by_calls_watches_and_sessions` |
//! | answers over 4 MiB fail | `a_hundred_thousand_keys_are_listed_at_one_revision` |
//! | 128 operations, 1.5 MiB, one put for each key, dead leases, a full database | `limits_are_kept_or_named` |
//! | without a quorum watches and calls hang | `without_a_quorum_calls_fail_and_afterwards_they_succeed` |
//!
//! Lock and election calls of the library are not used at all; its version is pinned in the workspace.

use std::collections::BTreeMap;
use std::time::Duration;

use forest_etcd::{
    Change, Error, EtcdConfig, KeyRange, Outcome, Session, Store, SystemClock, Txn, WatchConfig, Watcher,
};
use forest_tests::names::key_root;
use forest_tests::proxy::{Protocol, Proxy};
use forest_tests::require;
use forest_tests::services::etcd::USER;
use forest_tests::services::{Etcd, EtcdOptions, cluster_of, free_address, shared_etcd};
use forest_tests::wait::eventually;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_secs(30);

fn store(etcd: &Etcd) -> Store {
    Store::new(&EtcdConfig::new([etcd.endpoint()])).unwrap()
}

fn applied(result: &Result<Outcome, Error>) -> bool {
    matches!(result, Ok(Outcome::Applied { .. }))
}

async fn put(store: &Store, key: &str, value: &str) -> Result<Outcome, Error> {
    store.commit(Txn::new().put(key, value)).await
}

/// A copy of a range, kept by the reader's rule.
#[derive(Default)]
struct Copy {
    entries: BTreeMap<String, (i64, Vec<u8>, u32)>,
    listing: u32,
}

impl Copy {
    fn apply(&mut self, change: Change) {
        match change {
            Change::Reset => self.entries.clear(),
            Change::ListStarted => self.listing += 1,
            Change::Listed(kv) | Change::Put(kv) => {
                let entry = self.entries.entry(kv.key).or_default();
                if kv.mod_revision > entry.0 {
                    (entry.0, entry.1) = (kv.mod_revision, kv.value);
                }
                entry.2 = self.listing;
            }
            Change::Deleted { key, revision } => {
                if self.entries.get(&key).is_some_and(|entry| entry.0 < revision) {
                    self.entries.remove(&key);
                }
            }
            Change::ListEnded { revision } => {
                self.entries.retain(|_, entry| entry.2 == self.listing || entry.0 > revision);
            }
            Change::Gap | Change::Progress { .. } => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_dies_or_stands_still_costs_a_few_calls() {
    let members = require!(cluster_of(3).await);
    let dead = format!("http://{}", free_address());
    let endpoints = std::iter::once(dead).chain(members.iter().map(Etcd::endpoint));
    let store = Store::new(&EtcdConfig::new(endpoints)).unwrap();
    let root = key_root("members");
    let mut failed = 0;
    for n in 0..120 {
        match n {
            20 => members[0].stop().await,
            60 => members[0].cont().await,
            80 => members[1].kill(),
            _ => {}
        }
        failed += u32::from(!applied(&put(&store, &format!("{root}/{n}"), "x").await));
    }
    assert!(failed <= 12, "{failed} of 120 writes failed");
    let listing = store.list(&KeyRange::prefix(&format!("{root}/")), 100).await.unwrap();
    assert!(listing.items.len() >= 108, "{} written", listing.items.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_that_nobody_reads_hold_up_no_call() {
    let etcd = require!(shared_etcd().await);
    let (store, root) = (store(etcd), key_root("unread"));
    let (shutdown, mut tasks, mut streams) = (CancellationToken::new(), JoinSet::new(), Vec::new());
    for _ in 0..6 {
        let config = WatchConfig { buffer: 2, ..WatchConfig::new(KeyRange::prefix(&format!("{root}/"))) };
        let (watcher, stream) = Watcher::new(store.clone(), config);
        tasks.spawn(watcher.run(shutdown.clone()));
        streams.push(stream);
    }
    let big = "x".repeat(1024 * 1024);
    for n in 0..12 {
        assert!(applied(&put(&store, &format!("{root}/{n}"), &big).await));
        let asked = tokio::time::timeout(Duration::from_secs(3), store.get(&format!("{root}/0"))).await;
        assert!(matches!(asked, Ok(Ok(Some(_)))), "a read beside unread watches: {asked:?}");
    }
    for stream in &mut streams {
        let mut copy = Copy::default();
        while copy.entries.len() < 12 {
            stream.next().await.unwrap().into_iter().for_each(|change| copy.apply(change));
        }
    }
    shutdown.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_waits_for_ever() {
    let etcd = require!(Etcd::start(EtcdOptions::default()).await);
    let store = store(&etcd);
    assert!(applied(&put(&store, "/a", "1").await));
    etcd.stop().await;
    let calls = async { (store.get("/a").await, put(&store, "/a", "2").await, store.status().await) };
    let (read, written, status) =
        tokio::time::timeout(Duration::from_secs(60), calls).await.expect("they end");
    assert!(read.is_err() && status.is_err(), "{read:?} {status:?}");
    assert!(!applied(&written), "{written:?}");
    etcd.cont().await;
    eventually("it answers again", SOON, async || store.get("/a").await.is_ok()).await;
}

#[tokio::test]
async fn a_dead_port_is_named_at_once() {
    let address = free_address();
    // Without a scheme, too.
    let store = Store::new(&EtcdConfig::new([address.to_string()])).unwrap();
    let error = store.get("/a").await.expect_err("nobody listens").to_string();
    assert!(error.contains("is it running") && error.contains(&address.port().to_string()), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_ended_is_noticed_and_replaced() {
    let etcd = require!(Etcd::start(EtcdOptions::default()).await);
    let config = EtcdConfig::new([etcd.endpoint()]);
    // A second is raised to two by etcd; what was granted counts.
    let (session, mut handle) = Session::new(&config, Duration::from_secs(1), SystemClock::shared()).unwrap();
    let (shutdown, mut tasks) = (CancellationToken::new(), JoinSet::new());
    tasks.spawn(session.run(shutdown.clone()));
    let first = handle.opened().await;
    assert!(first.ttl >= Duration::from_secs(2), "{first:?}");
    etcd.gateway().await.revoke(first.id).await.unwrap();
    tokio::time::timeout(SOON, handle.lost(first.id)).await.expect("the revocation is noticed");
    let second = tokio::time::timeout(SOON, handle.opened()).await.expect("there is another");
    assert_ne!(first.id, second.id);
    etcd.stop().await;
    tokio::time::timeout(SOON, handle.lost(second.id)).await.expect("its time is over, whatever etcd does");
    assert!(!handle.is_trusted(second.id));
    let dead = Txn::new().put_leased("/a", "1", first.id);
    etcd.cont().await;
    let store = store(&etcd);
    eventually("a put on the dead lease is refused by name", SOON, async || {
        matches!(store.commit(dead.clone()).await, Err(Error::LeaseGone))
    })
    .await;
    tokio::time::timeout(SOON, handle.opened()).await.expect("and a third lease comes");
    shutdown.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_survives_restarts_and_compactions_and_shows_everything() {
    let etcd = require!(Etcd::start(EtcdOptions::default()).await);
    let (reader, writer) = (store(&etcd), store(&etcd));
    let config = WatchConfig {
        silent_after: Duration::from_secs(2),
        buffer: 2,
        ..WatchConfig::new(KeyRange::prefix("/w/"))
    };
    let (watcher, mut stream) = Watcher::new(reader, config);
    let (shutdown, mut tasks) = (CancellationToken::new(), JoinSet::new());
    tasks.spawn(watcher.run(shutdown.clone()));
    let mut copy = Copy::default();
    for round in 0..4 {
        for n in 0..40 {
            let txn = match (n + round) % 5 {
                0 => Txn::new().delete(format!("/w/{n}")),
                _ => Txn::new().put(format!("/w/{n}"), format!("{round}")),
            };
            eventually("written", SOON, async || {
                writer.commit(txn.clone()).await.is_ok_and(|o| matches!(o, Outcome::Applied { .. }))
            })
            .await;
        }
        let gateway = etcd.gateway().await;
        let revision = gateway.revision().await.unwrap();
        match round {
            // The reader stands still, its buffer is full, and what it has not seen is compacted.
            0 => gateway.compact(revision).await.unwrap(),
            1 => {
                etcd.kill();
                etcd.restart().await;
            }
            2 => {
                etcd.stop().await;
                tokio::time::sleep(Duration::from_secs(4)).await;
                etcd.cont().await;
            }
            _ => {}
        }
        let wanted =
            eventually("etcd answers", SOON, async || writer.list(&KeyRange::prefix("/w/"), 100).await).await;
        let wanted: BTreeMap<_, _> = wanted.items.into_iter().map(|kv| (kv.key, kv.value)).collect();
        let shows = |copy: &Copy| {
            copy.entries.iter().map(|(k, e)| (k.clone(), e.1.clone())).collect::<BTreeMap<_, _>>() == wanted
        };
        let caught_up = async {
            while !shows(&copy) {
                stream.next().await.unwrap().into_iter().for_each(|change| copy.apply(change));
            }
        };
        tokio::time::timeout(SOON, caught_up).await.unwrap_or_else(|_| panic!("round {round} is not shown"));
    }
    assert!(stream.stats().reopens() > 0);
    shutdown.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_in_the_very_revision_of_a_compaction_is_not_missed() {
    let etcd = require!(Etcd::start(EtcdOptions::default()).await);
    let proxy = Proxy::start(etcd.address(), Protocol::Http2).await;
    let writer = store(&etcd);
    put(&writer, "/w/1", "a").await.expect("written");
    put(&writer, "/w/2", "b").await.expect("written");
    let reader = Store::new(&EtcdConfig::new([proxy.endpoint()])).expect("nothing is opened");
    let (watcher, mut stream) = Watcher::new(reader, WatchConfig::new(KeyRange::prefix("/w/")));
    let mut tasks = JoinSet::new();
    tasks.spawn(watcher.run(CancellationToken::new()));
    let mut copy = Copy::default();
    while copy.entries.len() < 2 {
        stream.next().await.expect("it runs").into_iter().for_each(|change| copy.apply(change));
    }
    proxy.cut().await;
    // Exactly the next revision: what a watcher that has seen everything else asks for.
    let Ok(Outcome::Applied { revision }) = writer.commit(Txn::new().delete("/w/1")).await else {
        panic!("not deleted")
    };
    etcd.gateway().await.compact(revision).await.expect("compacted");
    proxy.pass().await;
    let gone = async {
        while copy.entries.len() > 1 {
            stream.next().await.expect("it runs").into_iter().for_each(|change| copy.apply(change));
        }
    };
    tokio::time::timeout(SOON, gone).await.expect("the deletion is shown");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_login_is_renewed_by_calls_watches_and_sessions() {
    let options =
        EtcdOptions { users: true, token_ttl: Some(Duration::from_secs(2)), ..EtcdOptions::default() };
    let etcd = require!(Etcd::start(options).await);
    let login = forest_tests::services::etcd::ROOT;
    let config = EtcdConfig {
        user: Some(login.0.into()),
        password: Some(login.1.into()),
        ..EtcdConfig::new([etcd.endpoint()])
    };
    let store = Store::new(&config).unwrap();
    let (session, mut handle) = Session::new(&config, Duration::from_secs(3), SystemClock::shared()).unwrap();
    let (watcher, mut stream) = Watcher::new(store.clone(), WatchConfig::new(KeyRange::prefix("/w/")));
    let (shutdown, mut tasks) = (CancellationToken::new(), JoinSet::new());
    tasks.spawn(session.run(shutdown.clone()));
    tasks.spawn(watcher.run(shutdown.clone()));
    let lease = handle.opened().await;
    for round in 0..3 {
        // Longer than a token lives that is not used.
        tokio::time::sleep(Duration::from_secs(4)).await;
        let key = format!("/w/{round}");
        eventually("a write goes through", SOON, async || applied(&put(&store, &key, "x").await)).await;
        let seen = async {
            loop {
                let changes = stream.next().await.unwrap();
                let is_it =
                    |change: &Change| matches!(change, Change::Put(kv) | Change::Listed(kv) if kv.key == key);
                if changes.iter().any(is_it) {
                    break;
                }
            }
        };
        tokio::time::timeout(SOON, seen).await.expect("the watch shows it");
    }
    assert!(handle.is_trusted(lease.id), "the session kept its lease over three tokens");
    let stranger = EtcdConfig { user: Some(USER.0.into()), password: Some("wrong".into()), ..config };
    let refused = Store::new(&stranger).unwrap().get("/w/0").await;
    assert!(matches!(refused, Err(Error::Auth { .. })), "{refused:?}");
    shutdown.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_keys_are_listed_at_one_revision() {
    const KEYS: usize = 100_000;
    let etcd = require!(Etcd::start(EtcdOptions::default()).await);
    let store = store(&etcd);
    for first in (0..KEYS).step_by(120) {
        let keys = first..(first + 120).min(KEYS);
        let txn = keys.fold(Txn::new(), |txn, n| txn.put(format!("/k/{n:06}"), format!("{n:0100}")));
        eventually("written", SOON, async || store.commit(txn.clone()).await.map(|_| ())).await;
    }
    let listing = store.list(&KeyRange::prefix("/k/"), 500).await.unwrap();
    assert_eq!(listing.items.len(), KEYS);
    assert!(listing.items.is_sorted_by(|a, b| a.key < b.key));
    assert!(listing.items.iter().all(|kv| kv.mod_revision <= listing.revision));
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_kept_or_named() {
    let etcd = require!(shared_etcd().await);
    let (store, root) = (store(etcd), key_root("limits"));
    let wide = (0..129).fold(Txn::new(), |txn, n| txn.put(format!("{root}/{n}"), "x"));
    assert!(matches!(store.commit(wide).await, Err(Error::TooLarge { .. })));
    let big = Txn::new().put(format!("{root}/big"), vec![b'x'; 2 * 1024 * 1024]);
    assert!(matches!(store.commit(big).await, Err(Error::TooLarge { .. })));
    let twice = Txn::new().put(format!("{root}/a"), "1").put(format!("{root}/a"), "2");
    assert!(matches!(store.commit(twice).await, Err(Error::Rejected { .. })));
    // Many independent transactions, some of which must be refused, and two of which want the same key.
    let key = |n: usize| format!("{root}/n/{}", n.min(298));
    let txns = (0..300).map(|n| match n % 3 {
        0 => Txn::new().modified(key(n), 7).put(key(n), "x").or_get(key(n)),
        _ => Txn::new().absent(key(n)).put(key(n), "x").or_get(key(n)),
    });
    let results = store.commit_all(txns.collect()).await;
    let expected = |n: usize| !n.is_multiple_of(3) && n != 299;
    for (n, result) in results.iter().enumerate() {
        assert_eq!(applied(result), expected(n), "{n}: {result:?}");
    }
    let full = require!(
        Etcd::start(EtcdOptions { quota_bytes: Some(16 * 1024 * 1024), ..EtcdOptions::default() }).await
    );
    let store = Store::new(&EtcdConfig::new([full.endpoint()])).unwrap();
    let mut last = Ok(Outcome::Applied { revision: 0 });
    for n in 0..64 {
        last = store.commit(Txn::new().put(format!("/f/{n}"), vec![b'x'; 1024 * 1024])).await;
        if last.is_err() {
            break;
        }
    }
    assert!(matches!(last, Err(Error::NoSpace)), "{last:?}");
    assert!(applied(&store.commit(Txn::new().delete("/f/0")).await), "deleting goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_calls_fail_and_afterwards_they_succeed() {
    let members = require!(cluster_of(3).await);
    let store = Store::new(&EtcdConfig::new([members[0].endpoint()])).unwrap();
    eventually("written", SOON, async || applied(&put(&store, "/a", "1").await)).await;
    members[1].stop().await;
    members[2].stop().await;
    let (read, written) = tokio::time::timeout(Duration::from_secs(90), async {
        (store.get("/a").await, put(&store, "/a", "2").await)
    })
    .await
    .expect("they end");
    assert!(read.is_err() && !applied(&written), "{read:?} {written:?}");
    members[1].cont().await;
    members[2].cont().await;
    eventually("written again", SOON, async || applied(&put(&store, "/a", "3").await)).await;
}
