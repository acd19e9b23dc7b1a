use proptest::prelude::*;

use super::*;

/// A transaction that writes `keys`, each with a value of that size.
fn writer(keys: &[&str], bytes: usize) -> Txn {
    keys.iter().fold(Txn::new(), |txn, key| txn.put(*key, vec![0; bytes]))
}

fn many(count: usize, width: usize) -> Vec<Txn> {
    let txn = |n: usize| (0..width).fold(Txn::new(), |txn, m| txn.delete(format!("/{n}/{m}")));
    (0..count).map(txn).collect()
}

fn sizes(txns: &[Txn]) -> Vec<usize> {
    pack(txns).iter().map(ExactSizeIterator::len).collect()
}

#[test]
fn independent_transactions_share_requests_up_to_etcds_limit() {
    // 126 nested ones of width 2 are exactly 128.
    assert_eq!(sizes(&many(126, 2)), [126]);
    assert_eq!(sizes(&many(127, 2)), [126, 1]);
    assert_eq!(sizes(&many(2, 126)), [2]);
    assert_eq!(sizes(&many(2, 127)), [1, 1]);
    assert_eq!(sizes(&many(3, 128)), [1, 1, 1]);
    assert_eq!(sizes(&[]), [0; 0]);
}

#[test]
fn a_transaction_that_is_too_wide_for_anything_stays_alone() {
    let mut txns = many(2, 1);
    txns.insert(1, many(1, 500).remove(0));
    assert_eq!(sizes(&txns), [1, 1, 1]);
}

#[test]
fn transactions_on_the_same_key_travel_apart() {
    let same = [writer(&["/a"], 1), writer(&["/b"], 1), writer(&["/a"], 1)];
    assert_eq!(sizes(&same), [2, 1]);
    let guard_of_a_write = [writer(&["/a"], 1), Txn::new().absent("/a").put("/b", "")];
    assert_eq!(sizes(&guard_of_a_write), [1, 1]);
    let read_of_a_write = [writer(&["/a"], 1), Txn::new().put("/b", "").or_get("/a")];
    assert_eq!(sizes(&read_of_a_write), [1, 1]);
    let write_of_a_guard = [Txn::new().absent("/a").put("/b", ""), writer(&["/a"], 1)];
    assert_eq!(sizes(&write_of_a_guard), [1, 1]);
}

#[test]
fn a_guard_in_common_keeps_nobody_apart() {
    let leader = |key: &str| Txn::new().created("/leader", 7).put(key, "").or_get("/leader");
    assert_eq!(sizes(&[leader("/a"), leader("/b"), leader("/c")]), [3]);
}

#[test]
fn requests_are_cut_by_size() {
    let half = MAX_BYTES / 2 - 200;
    let txns = [writer(&["/a"], half), writer(&["/b"], half), writer(&["/c"], half)];
    assert_eq!(sizes(&txns), [2, 1]);
    let large = [writer(&["/a"], MAX_BYTES), writer(&["/b"], 1)];
    assert_eq!(sizes(&large), [1, 1]);
}

#[test]
fn the_builder_says_what_etcd_will_be_asked() {
    let txn = Txn::new().absent("/a").modified("/b", 5).put_leased("/a", "1", 9).delete("/b").or_get("/a");
    assert_eq!(
        txn.guards,
        [Guard::Created { key: "/a".into(), revision: 0 }, Guard::Modified { key: "/b".into(), revision: 5 }]
    );
    assert_eq!(
        txn.ops,
        [Op::Put { key: "/a".into(), value: b"1".to_vec(), lease: 9 }, Op::Delete { key: "/b".into() }]
    );
    assert_eq!(txn.otherwise, ["/a"]);
    assert_eq!(txn.width(), 2);
    assert!(txn.bytes() > 10);
}

#[test]
fn a_claim_is_free_again_when_its_last_holder_gives_it_back() {
    let (reader, other) = (Txn::new().absent("/a"), Txn::new().absent("/a"));
    let mut claims = Claims::default();
    claims.add(&reader);
    claims.add(&other);
    claims.remove(&reader);
    assert!(!claims.admit(&writer(&["/a"], 1)));
    claims.remove(&other);
    assert!(claims.admit(&writer(&["/a"], 1)));
    assert!(claims.keys.is_empty());
}

fn any_txn() -> impl Strategy<Value = Txn> {
    let key = (0..60u8).prop_map(|n| format!("/k/{n}"));
    let ops = prop::collection::vec((key.clone(), 0..40_000usize, any::<bool>()), 0..6);
    let reads = prop::collection::vec(key, 0..4);
    (ops, reads, 0..140usize).prop_map(|(ops, reads, padding)| {
        let mut txn = reads.iter().fold(Txn::new(), |txn, key| txn.absent(key).or_get(key));
        for (key, bytes, delete) in ops {
            txn = if delete { txn.delete(key) } else { txn.put(key, vec![0; bytes]) };
        }
        // A few are nearly or really too wide; most are narrow.
        let width = if padding > 120 { padding } else { 0 };
        (0..width).fold(txn, |txn, n| txn.absent(format!("/padding/{n}")))
    })
}

/// Whether sending one after the other could differ from sending both at once.
fn collide(a: &Txn, b: &Txn) -> bool {
    let touches = |txn: &Txn, key: &str| txn.reads().chain(txn.writes()).any(|other| other == key);
    a.writes().any(|key| touches(b, key)) || b.writes().any(|key| touches(a, key))
}

proptest! {
    #[test]
    fn packing_keeps_the_order_and_every_limit(txns in prop::collection::vec(any_txn(), 0..80)) {
        let requests = pack(&txns);
        let mut next = 0;
        for request in &requests {
            prop_assert_eq!(request.start, next);
            prop_assert!(request.end > request.start);
            next = request.end;
            let part = &txns[request.clone()];
            if part.len() > 1 {
                let widest = part.iter().map(Txn::width).max().unwrap_or(0);
                prop_assert!(part.len() + widest <= MAX_OPS);
                prop_assert!(part.iter().map(Txn::bytes).sum::<usize>() <= MAX_BYTES);
            }
            for (index, a) in part.iter().enumerate() {
                for b in &part[index + 1..] {
                    prop_assert!(!collide(a, b));
                }
            }
        }
        prop_assert_eq!(next, txns.len());
    }

    #[test]
    fn claims_given_back_leave_nothing_behind(txns in prop::collection::vec(any_txn(), 0..20)) {
        let mut claims = Claims::default();
        txns.iter().for_each(|txn| claims.add(txn));
        txns.iter().for_each(|txn| claims.remove(txn));
        prop_assert!(claims.keys.is_empty());
    }
}
