#![allow(clippy::unwrap_used)]

use super::*;

fn put_of(key: &str) -> PbPutRequest {
    PbPutRequest { key: key.into(), value: b"new".into(), ..PbPutRequest::default() }
}

fn put(key: &str) -> PbTxnOpRequest {
    PbTxnOpRequest::RequestPut(put_of(key))
}

fn delete(key: &str, range_end: &str) -> PbTxnOpRequest {
    let (key, range_end) = (key.into(), range_end.into());
    PbTxnOpRequest::RequestDeleteRange(PbDeleteRequest { key, range_end, prev_kv: false })
}

fn get_at(key: &str, revision: i64) -> PbTxnOpRequest {
    let request = etcd_client::proto::PbRangeRequest { key: key.into(), revision, ..Default::default() };
    PbTxnOpRequest::RequestRange(request)
}

fn ops(requests: impl IntoIterator<Item = PbTxnOpRequest>) -> Vec<PbTxnRequestOp> {
    requests.into_iter().map(|request| PbTxnRequestOp { request: Some(request) }).collect()
}

fn all(requests: impl IntoIterator<Item = PbTxnOpRequest>) -> PbTxnRequest {
    PbTxnRequest { success: ops(requests), ..PbTxnRequest::default() }
}

fn nested(request: PbTxnRequest) -> PbTxnOpRequest {
    PbTxnOpRequest::RequestTxn(request)
}

/// Both branches of a transaction of its own.
fn either(then: Vec<PbTxnOpRequest>, otherwise: Vec<PbTxnOpRequest>) -> PbTxnOpRequest {
    nested(PbTxnRequest { compare: Vec::new(), success: ops(then), failure: ops(otherwise) })
}

struct Store {
    mvcc: Mvcc,
    leases: Leases,
}

impl Store {
    /// With these keys, one a revision from 2 on.
    fn of(keys: &[&str]) -> Self {
        let mut store = Self { mvcc: Mvcc::new(), leases: Leases::default() };
        for key in keys {
            store.run(&all([put(key)])).unwrap();
        }
        store
    }

    fn run(&mut self, request: &PbTxnRequest) -> Result<PbTxnResponse, Fault> {
        check(request)?;
        let mut tables = Tables { mvcc: &mut self.mvcc, leases: &mut self.leases };
        let answer = txn(&mut tables, request)?;
        self.mvcc.commit();
        Ok(answer)
    }

    fn keys(&self) -> Vec<String> {
        let everything = Span::everything();
        let found = self.mvcc.range(&everything, i64::MAX);
        found.map(|(key, _, _)| String::from_utf8_lossy(key).into_owned()).collect()
    }

    fn succeeds(&mut self, compare: PbCompare) -> bool {
        self.run(&PbTxnRequest { compare: vec![compare], ..PbTxnRequest::default() }).unwrap().succeeded
    }
}

#[test]
fn a_key_is_written_once_whichever_branches_are_taken() {
    let duplicate = Err(Fault::DuplicateKey);
    let cases = [
        (vec![put("a"), put("b")], Ok(())),
        (vec![put("a"), put("a")], duplicate),
        (vec![put("a"), delete("a", "")], duplicate),
        (vec![delete("a", "c"), put("b")], duplicate),
        (vec![delete("a", ""), delete("a", "c")], Ok(())),
        (vec![delete("a", "c"), put("c")], Ok(())),
        // etcd does not look at all from a key on.
        (vec![delete("a", "\0"), put("b")], Ok(())),
        (vec![put("a"), either(vec![put("b")], vec![put("b")])], Ok(())),
        (vec![put("a"), either(vec![], vec![put("a")])], duplicate),
        (vec![either(vec![put("a")], vec![]), either(vec![], vec![put("a")])], duplicate),
        (vec![either(vec![delete("a", "")], vec![put("a")])], Ok(())),
        (vec![either(vec![delete("a", "")], vec![]), put("a")], duplicate),
        (vec![either(vec![delete("a", "")], vec![]), either(vec![put("a")], vec![])], duplicate),
        // Nor at this order.
        (vec![either(vec![put("a")], vec![]), either(vec![delete("a", "")], vec![])], Ok(())),
    ];
    for (requests, expected) in cases {
        let story = format!("{requests:?}");
        assert_eq!(check(&all(requests)), expected, "{story}");
    }
}

#[test]
fn a_nested_transaction_has_what_its_parent_left_of_the_limit() {
    let reads = |n: usize| (0..n).map(|_| get_at("a", 0));
    let with = |outer: usize, inner: usize| check(&all(reads(outer - 1).chain([nested(all(reads(inner)))])));
    assert_eq!(check(&all(reads(128))), Ok(()));
    assert_eq!(check(&all(reads(129))), Err(Fault::TooManyOps));
    assert_eq!(with(100, 28), Ok(()));
    assert_eq!(with(100, 29), Err(Fault::TooManyOps));
    let in_both = all([nested(all(reads(127))), nested(all(reads(126)))]);
    assert_eq!(check(&in_both), Err(Fault::TooManyOps));
    let each_fits = all([nested(all(reads(126))), nested(all(reads(126)))]);
    assert_eq!(check(&each_fits), Ok(()));
}

#[test]
fn a_transaction_that_is_refused_has_changed_nothing() {
    let mut store = Store::of(&["a"]);
    let unleased = PbTxnOpRequest::RequestPut(PbPutRequest { lease: 9, ..put_of("z") });
    let untouched = PbTxnOpRequest::RequestPut(PbPutRequest { ignore_lease: true, ..put_of("z") });
    let cases = [
        (unleased.clone(), Fault::LeaseNotFound),
        (untouched, Fault::KeyNotFound),
        (get_at("a", 99), Fault::FutureRevision),
        // What is put is looked at before what is read, wherever it stands.
        (nested(all([get_at("a", 99), unleased])), Fault::LeaseNotFound),
    ];
    for (last, fault) in cases {
        let request = all([put("b"), delete("a", ""), last]);
        assert_eq!(store.run(&request), Err(fault));
        assert_eq!((store.keys(), store.mvcc.revision()), (vec!["a".to_owned()], 2));
    }
}

#[test]
fn comparisons_see_what_was_before_and_reads_what_was_done() {
    let mut store = Store::of(&["a"]);
    let is_absent = PbCompare {
        target: 1,
        key: b"b".into(),
        target_union: Some(PbTargetUnion::CreateRevision(0)),
        ..PbCompare::default()
    };
    let inner =
        PbTxnRequest { compare: vec![is_absent], success: ops([put("c")]), ..PbTxnRequest::default() };
    let answer = store.run(&all([get_at("b", 0), put("b"), get_at("b", 0), nested(inner)])).unwrap();
    let counts: Vec<_> = answer
        .responses
        .iter()
        .filter_map(|response| match &response.response {
            Some(PbTxnOpResponse::ResponseRange(range)) => {
                Some((range.count, range.header.unwrap().revision))
            }
            _ => None,
        })
        .collect();
    assert_eq!((counts, store.keys()), (vec![(0, 2), (1, 3)], vec!["a".into(), "b".into(), "c".into()]));
    assert_eq!(store.mvcc.revision(), 3, "one revision for all of it");
}

#[test]
fn a_comparison_of_a_range_holds_for_every_key_of_it() {
    let mut store = Store::of(&["a1", "a2", "b"]);
    let newer_than = |revision, range_end: &str| PbCompare {
        result: 1,
        target: 2,
        key: b"a".into(),
        range_end: range_end.into(),
        target_union: Some(PbTargetUnion::ModRevision(revision)),
    };
    assert!(store.succeeds(newer_than(1, "b")));
    assert!(!store.succeeds(newer_than(2, "b")));
    assert!(store.succeeds(newer_than(1, "\0")));
    assert!(!store.succeeds(newer_than(0, "a1")), "an empty range is a key of revision 0");
}

#[test]
fn every_target_compares_and_an_absent_value_never_does() {
    let mut store = Store::of(&["a", "a"]);
    let compare = |key: &str, result, target_union| PbCompare {
        result,
        target: match target_union {
            PbTargetUnion::Version(_) => 0,
            PbTargetUnion::CreateRevision(_) => 1,
            PbTargetUnion::ModRevision(_) => 2,
            PbTargetUnion::Value(_) => 3,
            PbTargetUnion::Lease(_) => 4,
        },
        key: key.into(),
        range_end: Vec::new(),
        target_union: Some(target_union),
    };
    for of_a in [
        PbTargetUnion::Version(2),
        PbTargetUnion::CreateRevision(2),
        PbTargetUnion::ModRevision(3),
        PbTargetUnion::Value(b"new".into()),
        PbTargetUnion::Lease(0),
    ] {
        let holds: Vec<_> = (0..4).map(|result| store.succeeds(compare("a", result, of_a.clone()))).collect();
        assert_eq!(holds, [true, false, false, false], "equal, greater, less, not equal: {of_a:?}");
    }
    for result in 0..4 {
        assert!(!store.succeeds(compare("absent", result, PbTargetUnion::Value(Vec::new()))));
    }
    assert!(store.succeeds(compare("absent", 0, PbTargetUnion::Version(0))));
}

#[test]
fn an_empty_operation_is_refused() {
    let request = PbTxnRequest { failure: vec![PbTxnRequestOp { request: None }], ..PbTxnRequest::default() };
    assert_eq!(check(&request), Err(Fault::KeyNotFound));
    assert_eq!(check(&all([put("")])), Err(Fault::EmptyKey));
    let with_value = PbPutRequest { ignore_value: true, ..put_of("a") };
    assert_eq!(check_put(&with_value), Err(Fault::ValueProvided));
    let with_lease = PbPutRequest { ignore_lease: true, lease: 1, ..put_of("a") };
    assert_eq!(check_put(&with_lease), Err(Fault::LeaseProvided));
}
