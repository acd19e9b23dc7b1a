//! Transactions: first which branch of each is taken, then whether all of it can be done, then all of it.
//!
//! Comparisons see what was before the transaction, those of a nested one too. Reads inside see what was written
//! before them.

use std::cmp::Ordering;

use etcd_client::proto::{
    PbCompare, PbDeleteRequest, PbDeleteResponse, PbPutRequest, PbPutResponse, PbResponseOp, PbTargetUnion,
    PbTxnOpRequest, PbTxnOpResponse, PbTxnRequest, PbTxnRequestOp, PbTxnResponse,
};

use crate::fault::Fault;
use crate::lease::Leases;
use crate::mvcc::{Live, Mvcc};
use crate::range;
use crate::span::Span;

/// etcd's limit of comparisons and of operations in each branch.
const MAX_OPS: usize = 128;

/// Keys and leases, which change together.
pub(crate) struct Tables<'a> {
    pub(crate) mvcc: &'a mut Mvcc,
    pub(crate) leases: &'a mut Leases,
}

/// What can be refused by looking at the request alone.
pub(crate) fn check(request: &PbTxnRequest) -> Result<(), Fault> {
    check_ops(request)?;
    check_branch(&request.success)?;
    check_branch(&request.failure)?;
    check_duplicates(&request.success)?;
    check_duplicates(&request.failure)
}

fn check_ops(request: &PbTxnRequest) -> Result<(), Fault> {
    let sizes = [request.compare.len(), request.success.len(), request.failure.len()];
    if sizes.iter().any(|size| *size > MAX_OPS) {
        return Err(Fault::TooManyOps);
    }
    match request.compare.iter().any(|compare| compare.key.is_empty()) {
        true => Err(Fault::EmptyKey),
        false => Ok(()),
    }
}

fn check_branch(ops: &[PbTxnRequestOp]) -> Result<(), Fault> {
    ops.iter().try_for_each(|op| match &op.request {
        Some(PbTxnOpRequest::RequestRange(request)) => range::check(request),
        Some(PbTxnOpRequest::RequestPut(request)) => check_put(request),
        Some(PbTxnOpRequest::RequestDeleteRange(request)) => check_delete(request),
        Some(PbTxnOpRequest::RequestTxn(nested)) => {
            check_ops(nested)?;
            check_branch(&nested.success)?;
            check_branch(&nested.failure)
        }
        None => Err(Fault::KeyNotFound),
    })
}

pub(crate) fn check_put(request: &PbPutRequest) -> Result<(), Fault> {
    if request.key.is_empty() {
        return Err(Fault::EmptyKey);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(Fault::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Fault::LeaseProvided);
    }
    Ok(())
}

pub(crate) fn check_delete(request: &PbDeleteRequest) -> Result<(), Fault> {
    if request.key.is_empty() { Err(Fault::EmptyKey) } else { Ok(()) }
}

/// What a list of operations writes: single keys that are put, and ranges that are deleted.
#[derive(Default)]
struct Written {
    puts: Vec<Vec<u8>>,
    deletes: Vec<Span>,
}

impl Written {
    fn clashes(&self, other: &Self) -> bool {
        self.puts
            .iter()
            .any(|key| other.puts.contains(key) || other.deletes.iter().any(|span| span.contains(key)))
            || other.puts.iter().any(|key| self.deletes.iter().any(|span| span.contains(key)))
    }

    fn add(&mut self, other: Self) {
        self.puts.extend(other.puts);
        self.deletes.extend(other.deletes);
    }
}

fn check_duplicates(ops: &[PbTxnRequestOp]) -> Result<(), Fault> {
    written(ops).map(|_| ())
}

/// No key may be put twice, or put and deleted, on any path. Deleting twice is allowed.
fn written(ops: &[PbTxnRequestOp]) -> Result<Written, Fault> {
    let mut all = Written::default();
    for op in ops {
        if let Some(PbTxnOpRequest::RequestDeleteRange(delete)) = &op.request {
            all.deletes.push(Span::new(&delete.key, &delete.range_end));
        }
    }
    for op in ops {
        let Some(PbTxnOpRequest::RequestTxn(nested)) = &op.request else { continue };
        let mut either = written(&nested.success)?;
        let otherwise = written(&nested.failure)?;
        if all.clashes(&either) || all.clashes(&otherwise) {
            return Err(Fault::DuplicateKey);
        }
        either.add(otherwise);
        all.add(either);
    }
    for op in ops {
        let Some(PbTxnOpRequest::RequestPut(put)) = &op.request else { continue };
        let one = Written { puts: vec![put.key.clone()], deletes: Vec::new() };
        if all.clashes(&one) {
            return Err(Fault::DuplicateKey);
        }
        all.add(one);
    }
    Ok(all)
}

/// Which branch is taken, and within it of each nested transaction.
struct Path<'a> {
    succeeded: bool,
    ops: &'a [PbTxnRequestOp],
    nested: Vec<Path<'a>>,
}

impl<'a> Path<'a> {
    fn new(mvcc: &Mvcc, request: &'a PbTxnRequest) -> Self {
        let succeeded = request.compare.iter().all(|compare| holds(mvcc, compare));
        let ops = if succeeded { &request.success } else { &request.failure };
        let nested = ops.iter().filter_map(|op| match &op.request {
            Some(PbTxnOpRequest::RequestTxn(nested)) => Some(Self::new(mvcc, nested)),
            _ => None,
        });
        Self { succeeded, ops, nested: nested.collect() }
    }

    /// Whether everything on the path can be done.
    fn check(&self, tables: &Tables<'_>) -> Result<(), Fault> {
        let mut nested = self.nested.iter();
        for op in self.ops {
            match &op.request {
                Some(PbTxnOpRequest::RequestRange(request)) => {
                    tables.mvcc.check_revision(request.revision).map(|_| ())?;
                }
                Some(PbTxnOpRequest::RequestPut(request)) => tables.can_put(request)?,
                Some(PbTxnOpRequest::RequestTxn(_)) => {
                    if let Some(path) = nested.next() {
                        path.check(tables)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn apply(&self, tables: &mut Tables<'_>) -> Result<PbTxnResponse, Fault> {
        let mut nested = self.nested.iter();
        let mut responses = Vec::with_capacity(self.ops.len());
        for op in self.ops {
            let response = match &op.request {
                Some(PbTxnOpRequest::RequestRange(request)) => {
                    PbTxnOpResponse::ResponseRange(range::range(tables.mvcc, request)?)
                }
                Some(PbTxnOpRequest::RequestPut(request)) => {
                    PbTxnOpResponse::ResponsePut(tables.put(request))
                }
                Some(PbTxnOpRequest::RequestDeleteRange(request)) => {
                    PbTxnOpResponse::ResponseDeleteRange(tables.delete_range(request))
                }
                Some(PbTxnOpRequest::RequestTxn(_)) => match nested.next() {
                    Some(path) => PbTxnOpResponse::ResponseTxn(path.apply(tables)?),
                    None => continue,
                },
                None => continue,
            };
            responses.push(PbResponseOp { response: Some(response) });
        }
        Ok(PbTxnResponse { header: None, succeeded: self.succeeded, responses })
    }
}

/// A checked transaction, done or refused as a whole.
pub(crate) fn txn(tables: &mut Tables<'_>, request: &PbTxnRequest) -> Result<PbTxnResponse, Fault> {
    let path = Path::new(tables.mvcc, request);
    path.check(tables)?;
    path.apply(tables)
}

impl Tables<'_> {
    pub(crate) fn can_put(&self, request: &PbPutRequest) -> Result<(), Fault> {
        let exists = self.mvcc.get(&request.key).is_some();
        if (request.ignore_value || request.ignore_lease) && !exists {
            return Err(Fault::KeyNotFound);
        }
        if request.lease != 0 && !self.leases.exists(request.lease) {
            return Err(Fault::LeaseNotFound);
        }
        Ok(())
    }

    /// Only after [`can_put`](Self::can_put).
    pub(crate) fn put(&mut self, request: &PbPutRequest) -> PbPutResponse {
        let earlier = self.mvcc.get(&request.key).and_then(|version| version.live.as_ref());
        let held_by = earlier.map_or(0, |live| live.lease);
        let value = match earlier {
            Some(live) if request.ignore_value => live.value.clone(),
            _ => request.value.as_slice().into(),
        };
        let lease = if request.ignore_lease { held_by } else { request.lease };
        let before = self.mvcc.put(&request.key, value, lease);
        self.leases.move_key(&request.key, held_by, lease);
        let prev_kv = before.filter(|_| request.prev_kv).map(|version| version.message(&request.key));
        PbPutResponse { header: None, prev_kv }
    }

    pub(crate) fn delete_range(&mut self, request: &PbDeleteRequest) -> PbDeleteResponse {
        let span = Span::new(&request.key, &request.range_end);
        let newest = i64::MAX;
        let keys: Vec<Vec<u8>> = self.mvcc.range(&span, newest).map(|(key, _, _)| key.to_vec()).collect();
        let mut prev_kvs = Vec::new();
        for key in &keys {
            let Some(before) = self.mvcc.delete(key) else { continue };
            self.leases.move_key(key, before.live.as_ref().map_or(0, |live| live.lease), 0);
            if request.prev_kv {
                prev_kvs.push(before.message(key));
            }
        }
        let deleted = i64::try_from(keys.len()).unwrap_or(i64::MAX);
        PbDeleteResponse { header: None, deleted, prev_kvs }
    }
}

/// Whether a comparison holds for every key it is about. An absent key compares as one that is all zeros, but
/// never by its value.
fn holds(mvcc: &Mvcc, compare: &PbCompare) -> bool {
    let by_value = matches!(compare.target_union, Some(PbTargetUnion::Value(_)));
    let span = Span::new(&compare.key, &compare.range_end);
    let mut any = false;
    for (_, mod_revision, live) in mvcc.range(&span, i64::MAX) {
        any = true;
        if !holds_for(compare, mod_revision, Some(live)) {
            return false;
        }
    }
    any || (!by_value && compare.target != VALUE && holds_for(compare, 0, None))
}

const VALUE: i32 = 3;

fn holds_for(compare: &PbCompare, mod_revision: i64, live: Option<&Live>) -> bool {
    let number = |of: fn(&Live) -> i64| live.map_or(0, of);
    // A target without its value compares with zero, whatever else the request says.
    let wanted = |given: Option<i64>| given.unwrap_or(0);
    let order = match (compare.target, &compare.target_union) {
        (0, union) => number(|live| live.version).cmp(&wanted(match union {
            Some(PbTargetUnion::Version(v)) => Some(*v),
            _ => None,
        })),
        (1, union) => number(|live| live.create_revision).cmp(&wanted(match union {
            Some(PbTargetUnion::CreateRevision(v)) => Some(*v),
            _ => None,
        })),
        (2, union) => mod_revision.cmp(&wanted(match union {
            Some(PbTargetUnion::ModRevision(v)) => Some(*v),
            _ => None,
        })),
        (VALUE, union) => {
            let value = live.map_or(&[][..], |live| &live.value);
            value.cmp(match union {
                Some(PbTargetUnion::Value(value)) => value,
                _ => &[],
            })
        }
        (4, union) => number(|live| live.lease).cmp(&wanted(match union {
            Some(PbTargetUnion::Lease(v)) => Some(*v),
            _ => None,
        })),
        // etcd takes a target that it does not know for equal.
        _ => Ordering::Equal,
    };
    match compare.result {
        0 => order == Ordering::Equal,
        1 => order == Ordering::Greater,
        2 => order == Ordering::Less,
        3 => order != Ordering::Equal,
        _ => true,
    }
}
