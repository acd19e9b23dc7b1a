//! Transactions: first which branch of each is taken, then whether all of it can be done, then all of it.
//!
//! Comparisons see what was before the transaction, those of a nested one too. Reads inside see what was written
//! before them.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use etcd_client::proto::{
    PbCompare, PbDeleteRequest, PbDeleteResponse, PbPutRequest, PbPutResponse, PbRangeResponse,
    PbResponseHeader, PbResponseOp, PbTargetUnion, PbTxnOpRequest, PbTxnOpResponse, PbTxnRequest,
    PbTxnRequestOp, PbTxnResponse,
};

use crate::fault::Fault;
use crate::lease::Leases;
use crate::mvcc::{Live, Mvcc};
use crate::range;
use crate::span::{Span, is_all_from};

/// etcd's limit of comparisons and of operations in each branch.
const MAX_OPS: usize = 128;

/// Keys and leases, which change together.
pub(crate) struct Tables<'a> {
    pub(crate) mvcc: &'a mut Mvcc,
    pub(crate) leases: &'a mut Leases,
}

/// What can be refused by looking at the request alone.
pub(crate) fn check(request: &PbTxnRequest) -> Result<(), Fault> {
    check_ops(request, MAX_OPS)?;
    written(&request.success)?;
    written(&request.failure).map(|_| ())
}

/// A nested transaction may be as large as its parent has left of the limit.
fn check_ops(request: &PbTxnRequest, limit: usize) -> Result<(), Fault> {
    let size = request.compare.len().max(request.success.len()).max(request.failure.len());
    let left = limit.checked_sub(size).ok_or(Fault::TooManyOps)?;
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(Fault::EmptyKey);
    }
    request.success.iter().chain(&request.failure).try_for_each(|op| match &op.request {
        Some(PbTxnOpRequest::RequestRange(request)) => range::check(request),
        Some(PbTxnOpRequest::RequestPut(request)) => check_put(request),
        Some(PbTxnOpRequest::RequestDeleteRange(request)) => check_delete(request),
        Some(PbTxnOpRequest::RequestTxn(nested)) => check_ops(nested, left),
        None => Err(Fault::KeyNotFound),
    })
}

/// Whether nothing can be written, whichever branch is taken.
pub(crate) fn is_read_only(request: &PbTxnRequest) -> bool {
    request.success.iter().chain(&request.failure).all(|op| match &op.request {
        Some(PbTxnOpRequest::RequestRange(_)) => true,
        Some(PbTxnOpRequest::RequestTxn(nested)) => is_read_only(nested),
        _ => false,
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
    puts: BTreeSet<Vec<u8>>,
    deletes: Vec<Span>,
}

impl Written {
    fn put(&mut self, key: &[u8]) -> Result<(), Fault> {
        if self.deletes.iter().any(|span| span.contains(key)) || !self.puts.insert(key.to_vec()) {
            return Err(Fault::DuplicateKey);
        }
        Ok(())
    }
}

/// No key may be put twice, or put and deleted, whichever branches are taken. As in etcd, deleting twice is allowed,
/// a deletion of all keys from one on is not looked at, and neither is what a nested transaction puts before a
/// later one of the same list deletes it.
fn written(ops: &[PbTxnRequestOp]) -> Result<Written, Fault> {
    let mut all = Written::default();
    for op in ops {
        if let Some(PbTxnOpRequest::RequestDeleteRange(delete)) = &op.request
            && !is_all_from(&delete.range_end)
        {
            all.deletes.push(Span::new(&delete.key, &delete.range_end));
        }
    }
    for op in ops {
        let Some(PbTxnOpRequest::RequestTxn(nested)) = &op.request else { continue };
        let (then, otherwise) = (written(&nested.success)?, written(&nested.failure)?);
        // Only one of the two will happen.
        for key in then.puts.iter().chain(otherwise.puts.difference(&then.puts)) {
            all.put(key)?;
        }
        all.deletes.extend(then.deletes.into_iter().chain(otherwise.deletes));
    }
    for op in ops {
        if let Some(PbTxnOpRequest::RequestPut(put)) = &op.request {
            all.put(&put.key)?;
        }
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

    /// Every operation of the path that is no transaction itself, in order.
    fn for_each(&self, look: &mut impl FnMut(&PbTxnOpRequest) -> Result<(), Fault>) -> Result<(), Fault> {
        let mut nested = self.nested.iter();
        self.ops.iter().filter_map(|op| op.request.as_ref()).try_for_each(|request| match request {
            PbTxnOpRequest::RequestTxn(_) => nested.next().map_or(Ok(()), |path| path.for_each(look)),
            request => look(request),
        })
    }

    /// Whether everything on the path can be done: first what is put, then what is read.
    fn check(&self, tables: &Tables<'_>) -> Result<(), Fault> {
        self.for_each(&mut |request| match request {
            PbTxnOpRequest::RequestPut(put) => tables.has_earlier(put).and_then(|()| tables.has_lease(put)),
            _ => Ok(()),
        })?;
        self.for_each(&mut |request| match request {
            PbTxnOpRequest::RequestRange(range) => match range.revision {
                0 => Ok(()),
                // A negative one means the newest, but not here.
                revision if revision < tables.mvcc.compacted() => Err(Fault::Compacted),
                revision => tables.mvcc.check_revision(revision).map(|_| ()),
            },
            _ => Ok(()),
        })
    }

    fn apply(&self, tables: &mut Tables<'_>) -> Result<PbTxnResponse, Fault> {
        let mut nested = self.nested.iter();
        let mut responses = Vec::with_capacity(self.ops.len());
        for request in self.ops.iter().filter_map(|op| op.request.as_ref()) {
            let response = match request {
                PbTxnOpRequest::RequestRange(request) => {
                    let answer = range::range(tables.mvcc, request)?;
                    PbTxnOpResponse::ResponseRange(PbRangeResponse { header: tables.header(), ..answer })
                }
                PbTxnOpRequest::RequestPut(request) => {
                    let answer = tables.put(request);
                    PbTxnOpResponse::ResponsePut(PbPutResponse { header: tables.header(), ..answer })
                }
                PbTxnOpRequest::RequestDeleteRange(request) => {
                    let answer = tables.delete_range(request);
                    PbTxnOpResponse::ResponseDeleteRange(PbDeleteResponse {
                        header: tables.header(),
                        ..answer
                    })
                }
                PbTxnOpRequest::RequestTxn(_) => {
                    let Some(path) = nested.next() else { continue };
                    let header = Some(PbResponseHeader::default());
                    PbTxnOpResponse::ResponseTxn(PbTxnResponse { header, ..path.apply(tables)? })
                }
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
    /// What an operation of a transaction says of the store: the revision, with what came before it.
    fn header(&self) -> Option<PbResponseHeader> {
        Some(PbResponseHeader { revision: self.mvcc.newest(), ..PbResponseHeader::default() })
    }

    pub(crate) fn has_earlier(&self, request: &PbPutRequest) -> Result<(), Fault> {
        let needs = request.ignore_value || request.ignore_lease;
        if needs && self.mvcc.get(&request.key).is_none() { Err(Fault::KeyNotFound) } else { Ok(()) }
    }

    pub(crate) fn has_lease(&self, request: &PbPutRequest) -> Result<(), Fault> {
        let is_there = request.lease == 0 || self.leases.exists(request.lease);
        if is_there { Ok(()) } else { Err(Fault::LeaseNotFound) }
    }

    /// Only after [`has_earlier`](Self::has_earlier) and [`has_lease`](Self::has_lease).
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
            self.leases.move_key(key, before.lease(), 0);
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
    let span = Span::new(&compare.key, &compare.range_end);
    let mut any = false;
    for (_, mod_revision, live) in mvcc.range(&span, i64::MAX) {
        any = true;
        if !holds_for(compare, mod_revision, Some(live)) {
            return false;
        }
    }
    any || (compare.target != VALUE && holds_for(compare, 0, None))
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

#[cfg(test)]
mod tests;
