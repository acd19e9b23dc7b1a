//! What etcd refuses, in its own codes and words: clients compare them.

use tonic::{Code, Status};

/// A request that is refused and has changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    EmptyKey,
    KeyNotFound,
    ValueProvided,
    LeaseProvided,
    TooManyOps,
    DuplicateKey,
    Compacted,
    FutureRevision,
    LeaseNotFound,
    LeaseExists,
    LeaseTtlTooLarge,
    RequestTooLarge,
    InvalidSortOption,
}

impl From<Fault> for Status {
    fn from(fault: Fault) -> Self {
        let (code, text) = match fault {
            Fault::EmptyKey => (Code::InvalidArgument, "etcdserver: key is not provided"),
            Fault::KeyNotFound => (Code::InvalidArgument, "etcdserver: key not found"),
            Fault::ValueProvided => (Code::InvalidArgument, "etcdserver: value is provided"),
            Fault::LeaseProvided => (Code::InvalidArgument, "etcdserver: lease is provided"),
            Fault::TooManyOps => (Code::InvalidArgument, "etcdserver: too many operations in txn request"),
            Fault::DuplicateKey => (Code::InvalidArgument, "etcdserver: duplicate key given in txn request"),
            Fault::Compacted => (Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted"),
            Fault::FutureRevision => {
                (Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision")
            }
            Fault::LeaseNotFound => (Code::NotFound, "etcdserver: requested lease not found"),
            Fault::LeaseExists => (Code::FailedPrecondition, "etcdserver: lease already exists"),
            Fault::LeaseTtlTooLarge => (Code::OutOfRange, "etcdserver: too large lease TTL"),
            Fault::RequestTooLarge => (Code::InvalidArgument, "etcdserver: request is too large"),
            Fault::InvalidSortOption => (Code::InvalidArgument, "etcdserver: invalid sort option"),
        };
        Self::new(code, text)
    }
}
