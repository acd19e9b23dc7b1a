//! What is done to both: random requests over few keys, so that they meet, with a good share of bad ones.

use embedded_etcd::proto::{
    PbCompactionRequest, PbCompare, PbDeleteRequest, PbLeaseGrantRequest, PbLeaseRevokeRequest,
    PbLeaseTimeToLiveRequest, PbPutRequest, PbRangeRequest, PbTargetUnion, PbTxnOpRequest, PbTxnRequest,
    PbTxnRequestOp, PbWatchRequest, PbWatchRequestUnion,
};
use fastrand::Rng;

/// Revisions around this one count from the newest, whatever that is when the request is sent.
const NEWEST: i64 = 1 << 40;
const RELATIVE_FROM: i64 = NEWEST - (1 << 20);
/// Streams that carry the watches.
pub(crate) const STREAMS: usize = 2;
/// Leases are asked for by these ids, so that both servers have the same.
const LEASES: i64 = 5;
const KEYS: [&[u8]; 14] = [
    b"a",
    b"a/1",
    b"a/2",
    b"a/3",
    b"a\0",
    b"b",
    b"b/1",
    b"b/2",
    b"c",
    b"d",
    b"e",
    b"e\xff",
    b"\0",
    b"\xff\xff",
];
/// etcd's own, in a transaction.
const MAX_OPS: usize = 128;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Operation {
    Range(PbRangeRequest),
    Put(PbPutRequest),
    Delete(PbDeleteRequest),
    Txn(PbTxnRequest),
    Compact(PbCompactionRequest),
    Grant(PbLeaseGrantRequest),
    Revoke(PbLeaseRevokeRequest),
    KeepAlive(i64),
    TimeToLive(PbLeaseTimeToLiveRequest),
    Leases,
    Watch(usize, PbWatchRequest),
}

/// `length` operations, always the same for a seed.
pub(crate) fn operations(seed: u64, length: usize) -> Vec<Operation> {
    let mut rng = Rng::with_seed(seed);
    (0..length).map(|_| operation(&mut rng)).collect()
}

fn operation(rng: &mut Rng) -> Operation {
    match rng.u32(0..100) {
        0..18 => Operation::Range(range(rng)),
        18..42 => Operation::Put(put(rng)),
        42..52 => Operation::Delete(delete(rng)),
        52..78 => Operation::Txn(txn(rng, 0)),
        78..80 => Operation::Compact(PbCompactionRequest { revision: some_revision(rng), physical: true }),
        80..85 => Operation::Grant(grant(rng)),
        85 => Operation::Revoke(PbLeaseRevokeRequest { id: some_lease(rng) }),
        86..88 => Operation::KeepAlive(some_lease(rng)),
        88..90 => Operation::TimeToLive(PbLeaseTimeToLiveRequest { id: some_lease(rng), keys: rng.bool() }),
        90 => Operation::Leases,
        91..97 => Operation::Watch(rng.usize(0..STREAMS), create(rng)),
        97..99 => {
            let mut union = PbWatchRequestUnion::CancelRequest(Default::default());
            if let PbWatchRequestUnion::CancelRequest(cancel) = &mut union {
                cancel.watch_id = rng.i64(0..12);
            }
            Operation::Watch(rng.usize(0..STREAMS), PbWatchRequest { request_union: Some(union) })
        }
        _ => Operation::Watch(rng.usize(0..STREAMS), progress()),
    }
}

pub(crate) fn progress() -> PbWatchRequest {
    PbWatchRequest { request_union: Some(PbWatchRequestUnion::ProgressRequest(Default::default())) }
}

fn one_in(rng: &mut Rng, n: u32) -> bool {
    rng.u32(0..n) == 0
}

fn key(rng: &mut Rng) -> Vec<u8> {
    match one_in(rng, 200) {
        true => Vec::new(),
        false => KEYS[rng.usize(0..KEYS.len())].to_vec(),
    }
}

fn range_end(rng: &mut Rng, key: &[u8]) -> Vec<u8> {
    match rng.u32(0..10) {
        0..3 => Vec::new(),
        3 => vec![0],
        4..7 => {
            let mut end = key.to_vec();
            if let Some(last) = end.last_mut() {
                *last = last.saturating_add(1);
            }
            end
        }
        _ => KEYS[rng.usize(0..KEYS.len())].to_vec(),
    }
}

/// One that may exist, mostly.
fn some_revision(rng: &mut Rng) -> i64 {
    match rng.u32(0..20) {
        0..6 => NEWEST - rng.i64(0..4),
        6..12 => NEWEST - rng.i64(0..30),
        12..16 => NEWEST - rng.i64(0..300),
        16 => NEWEST + rng.i64(1..3),
        17 if one_in(rng, 3) => 1,
        18 if one_in(rng, 3) => rng.i64(-3..0),
        _ => 0,
    }
}

fn some_lease(rng: &mut Rng) -> i64 {
    match one_in(rng, 20) {
        true => [0, LEASES + 1][rng.usize(0..2)],
        false => rng.i64(1..=LEASES),
    }
}

fn value(rng: &mut Rng) -> Vec<u8> {
    match rng.u32(0..1_000) {
        0 => vec![b'x'; 1_400_000],
        // Above what etcd takes, and above what its server reads at all.
        1 => vec![b'x'; 1_600_000],
        2 => vec![b'x'; 3_000_000],
        3..100 => Vec::new(),
        _ => vec![b'0' + rng.u8(0..10); rng.usize(1..3)],
    }
}

fn range(rng: &mut Rng) -> PbRangeRequest {
    let key = key(rng);
    let range_end = range_end(rng, &key);
    let mut request = PbRangeRequest { key, range_end, ..PbRangeRequest::default() };
    if one_in(rng, 3) {
        request.revision = some_revision(rng);
    }
    if one_in(rng, 3) {
        request.limit = rng.i64(-1..8);
    }
    if one_in(rng, 3) {
        request.sort_order = rng.i32(0..3);
        request.sort_target = rng.i32(0..5);
    }
    if one_in(rng, 50) {
        // Of an unknown target etcd 3.4 dies.
        request.sort_order = rng.i32(-1..5);
    }
    (request.serializable, request.keys_only, request.count_only) =
        (one_in(rng, 8), one_in(rng, 8), one_in(rng, 8));
    for bound in [
        &mut request.min_mod_revision,
        &mut request.max_mod_revision,
        &mut request.min_create_revision,
        &mut request.max_create_revision,
    ] {
        if one_in(rng, 12) {
            *bound = some_revision(rng);
        }
    }
    request
}

fn put(rng: &mut Rng) -> PbPutRequest {
    let lease = if one_in(rng, 5) { some_lease(rng) } else { 0 };
    let ignores = (one_in(rng, 20), one_in(rng, 20));
    PbPutRequest {
        key: key(rng),
        value: if ignores.0 && !one_in(rng, 5) { Vec::new() } else { value(rng) },
        lease: if ignores.1 && !one_in(rng, 5) { 0 } else { lease },
        prev_kv: rng.bool(),
        ignore_value: ignores.0,
        ignore_lease: ignores.1,
    }
}

fn delete(rng: &mut Rng) -> PbDeleteRequest {
    let key = key(rng);
    let range_end = if one_in(rng, 2) { Vec::new() } else { range_end(rng, &key) };
    PbDeleteRequest { key, range_end, prev_kv: rng.bool() }
}

fn txn(rng: &mut Rng, depth: u32) -> PbTxnRequest {
    let compares = if one_in(rng, 3) { 0 } else { rng.usize(1..4) };
    let mut request = PbTxnRequest {
        compare: (0..compares).map(|_| compare(rng)).collect(),
        success: operations_of(rng, depth),
        failure: operations_of(rng, depth),
    };
    if depth == 0 && one_in(rng, 30) {
        fill(rng, &mut request);
    }
    if depth == 0 && deletes_all_from(&request) {
        // Such a deletion is not looked at when etcd looks for keys that are written twice. If it takes away what a
        // put then relies on, etcd panics.
        rely_on_nothing(&mut request);
    }
    request
}

fn operations_of(rng: &mut Rng, depth: u32) -> Vec<PbTxnRequestOp> {
    (0..rng.usize(0..5)).map(|_| PbTxnRequestOp { request: operation_of(rng, depth) }).collect()
}

fn operation_of(rng: &mut Rng, depth: u32) -> Option<PbTxnOpRequest> {
    Some(match rng.u32(0..100) {
        0..30 => PbTxnOpRequest::RequestRange(range(rng)),
        30..65 => PbTxnOpRequest::RequestPut(put(rng)),
        65..82 => PbTxnOpRequest::RequestDeleteRange(delete(rng)),
        82..99 if depth < 3 => PbTxnOpRequest::RequestTxn(txn(rng, depth + 1)),
        82..99 => PbTxnOpRequest::RequestRange(range(rng)),
        _ if one_in(rng, 5) => return None,
        _ => PbTxnOpRequest::RequestPut(put(rng)),
    })
}

/// Makes a transaction about as large as etcd takes, or a little larger.
fn fill(rng: &mut Rng, request: &mut PbTxnRequest) {
    let read = |n: usize| {
        let read = PbRangeRequest { key: format!("fill/{n}").into(), ..PbRangeRequest::default() };
        PbTxnRequestOp { request: Some(PbTxnOpRequest::RequestRange(read)) }
    };
    let nested = rng.usize(0..MAX_OPS);
    let inner = PbTxnRequest { success: (0..nested).map(read).collect(), ..PbTxnRequest::default() };
    let inner = PbTxnRequestOp { request: Some(PbTxnOpRequest::RequestTxn(inner)) };
    let outer = (MAX_OPS + rng.usize(0..3)).saturating_sub(if rng.bool() { nested + 1 } else { 1 });
    request.success = (0..outer).map(read).chain([inner]).collect();
}

fn compare(rng: &mut Rng) -> PbCompare {
    let key = key(rng);
    let range_end = if one_in(rng, 3) { range_end(rng, &key) } else { Vec::new() };
    let target = rng.i32(0..5);
    let union = if one_in(rng, 20) { rng.i32(0..6) } else { target };
    let target_union = match union {
        0 => Some(PbTargetUnion::Version(rng.i64(0..4))),
        1 => Some(PbTargetUnion::CreateRevision(some_revision(rng))),
        2 => Some(PbTargetUnion::ModRevision(some_revision(rng))),
        3 => Some(PbTargetUnion::Value(value(rng))),
        4 => Some(PbTargetUnion::Lease(some_lease(rng))),
        _ => None,
    };
    let target = if one_in(rng, 50) { rng.i32(-1..7) } else { target };
    let result = if one_in(rng, 50) { rng.i32(-1..6) } else { rng.i32(0..4) };
    PbCompare { result, target, key, range_end, target_union }
}

fn grant(rng: &mut Rng) -> PbLeaseGrantRequest {
    let ttl = match rng.u32(0..10) {
        0 => 9_000_000_001,
        1 => 9_000_000_000,
        // Long enough to outlive the run.
        _ => rng.i64(3_600..5_000),
    };
    PbLeaseGrantRequest { ttl, id: rng.i64(1..=LEASES) }
}

fn create(rng: &mut Rng) -> PbWatchRequest {
    let mut union = PbWatchRequestUnion::CreateRequest(Default::default());
    if let PbWatchRequestUnion::CreateRequest(create) = &mut union {
        create.key = key(rng);
        create.range_end = range_end(rng, &create.key);
        if rng.bool() {
            create.start_revision = some_revision(rng).max(0);
        }
        (create.prev_kv, create.progress_notify) = (rng.bool(), rng.bool());
        if one_in(rng, 4) {
            create.filters.push(rng.i32(0..2));
        }
        if one_in(rng, 4) {
            create.watch_id = rng.i64(1..20);
        }
    }
    PbWatchRequest { request_union: Some(union) }
}

fn all_operations(request: &PbTxnRequest) -> impl Iterator<Item = &PbTxnOpRequest> {
    request.success.iter().chain(&request.failure).filter_map(|op| op.request.as_ref())
}

fn deletes_all_from(request: &PbTxnRequest) -> bool {
    all_operations(request).any(|op| match op {
        PbTxnOpRequest::RequestDeleteRange(delete) => delete.range_end == [0],
        PbTxnOpRequest::RequestTxn(nested) => deletes_all_from(nested),
        _ => false,
    })
}

fn rely_on_nothing(request: &mut PbTxnRequest) {
    for op in request.success.iter_mut().chain(&mut request.failure).filter_map(|op| op.request.as_mut()) {
        match op {
            PbTxnOpRequest::RequestPut(put) => (put.ignore_value, put.ignore_lease) = (false, false),
            PbTxnOpRequest::RequestTxn(nested) => rely_on_nothing(nested),
            _ => {}
        }
    }
}

impl Operation {
    /// The request to send when this is the newest revision.
    pub(crate) fn at(&self, newest: i64) -> Self {
        let mut operation = self.clone();
        let fix = |revision: &mut i64| {
            if *revision > RELATIVE_FROM {
                *revision = (*revision - NEWEST + newest).max(0);
            }
        };
        match &mut operation {
            Self::Range(request) => fix_range(request, fix),
            Self::Txn(request) => fix_txn(request, fix),
            Self::Compact(request) => fix(&mut request.revision),
            Self::Watch(
                _,
                PbWatchRequest { request_union: Some(PbWatchRequestUnion::CreateRequest(create)) },
            ) => {
                fix(&mut create.start_revision);
            }
            _ => {}
        }
        operation
    }
}

fn fix_range(request: &mut PbRangeRequest, fix: impl Fn(&mut i64)) {
    fix(&mut request.revision);
    fix(&mut request.min_mod_revision);
    fix(&mut request.max_mod_revision);
    fix(&mut request.min_create_revision);
    fix(&mut request.max_create_revision);
}

fn fix_txn(request: &mut PbTxnRequest, fix: impl Fn(&mut i64) + Copy) {
    for compare in &mut request.compare {
        if let Some(PbTargetUnion::CreateRevision(revision) | PbTargetUnion::ModRevision(revision)) =
            &mut compare.target_union
        {
            fix(revision);
        }
    }
    for op in request.success.iter_mut().chain(&mut request.failure).filter_map(|op| op.request.as_mut()) {
        match op {
            PbTxnOpRequest::RequestRange(range) => fix_range(range, fix),
            PbTxnOpRequest::RequestTxn(nested) => fix_txn(nested, fix),
            _ => {}
        }
    }
}
