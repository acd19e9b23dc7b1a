//! What can go wrong, sorted by what the caller can do about it.
//!
//! Two layers: `Failure` is the verdict on one call and stays inside; it separates "never left
//! this process" and "etcd said no" from "the answer was lost", which is what decides whether a
//! write may be sent again. [`Error`] is what callers see.

use std::path::PathBuf;

use tonic::{Code, Status};

use crate::channel::Fault;

/// Why a call to etcd did not succeed. For a write each of these means: not applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("invalid etcd endpoint \"{endpoint}\": {reason}")]
    InvalidEndpoint { endpoint: String, reason: String },
    #[error("invalid TLS settings for etcd ({}): {reason}", file.display())]
    InvalidTls { file: PathBuf, reason: String },
    /// No answer, or no member that can answer. Try again later.
    #[error("cannot reach etcd: {cause}; is it running, and are the endpoints right?")]
    Unavailable { cause: String },
    /// Wrong user or password, or etcd asks for one and none is configured.
    #[error("etcd refuses the login: {cause}")]
    Auth { cause: String },
    #[error("the etcd user may not do this: {cause}")]
    PermissionDenied { cause: String },
    /// A key was to hang on a lease that has expired or was revoked.
    #[error("the etcd lease is gone")]
    LeaseGone,
    #[error("etcd's database is full (NOSPACE): compact and defragment it, or raise its quota")]
    NoSpace,
    /// The request, or a single value, is larger than etcd or this crate takes.
    #[error("too large for etcd: {cause}")]
    TooLarge { cause: String },
    /// The revision is no longer kept, or not yet known (etcd was restored from a backup).
    #[error("etcd cannot show revision {revision} (compacted, or lost in a restore)")]
    Compacted { revision: i64 },
    /// etcd understood the request and refuses it; sending it again will not help.
    #[error("etcd refuses the request: {cause}")]
    Rejected { cause: String },
    /// The component that would have done this has been shut down.
    #[error("shutting down")]
    Closed,
}

/// Verdict on one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No connection could be made, or etcd was too busy to look at it: certainly not applied.
    Unsent(String),
    /// The login is missing or has expired: certainly not applied.
    StaleLogin(String),
    /// etcd answered, but the answer is too large to be read: a write was applied.
    AnswerTooLarge(String),
    /// The revision asked for is compacted, or in the future.
    NoSuchRevision(String),
    /// The answer was lost: a write may have been applied.
    Lost(String),
    /// etcd said no: certainly not applied.
    Refused(Error),
}

impl Failure {
    /// In a word, for metrics.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Unsent(_) => "unsent",
            Self::Lost(_) => "lost",
            Self::StaleLogin(_) | Self::AnswerTooLarge(_) | Self::NoSuchRevision(_) | Self::Refused(_) => {
                "refused"
            }
        }
    }

    /// The error for a call that asked for `revision` (0 = the newest).
    pub(crate) fn into_error(self, revision: i64) -> Error {
        match self {
            Self::Unsent(cause) | Self::Lost(cause) => Error::Unavailable { cause },
            Self::StaleLogin(cause) => Error::Auth { cause },
            Self::AnswerTooLarge(cause) => Error::TooLarge { cause },
            Self::NoSuchRevision(_) => Error::Compacted { revision },
            Self::Refused(error) => error,
        }
    }

    pub(crate) fn from_client(error: &etcd_client::Error) -> Self {
        use etcd_client::Error as E;
        match error {
            E::GRpcStatus(status) => Self::from_status(status),
            E::InvalidArgs(_) | E::InvalidUri(_) => {
                Self::Refused(Error::Rejected { cause: error.to_string() })
            }
            E::InvalidMetadataValue(_) => Self::Refused(Error::Auth { cause: error.to_string() }),
            // How the library reports a keep-alive that was answered with "no such lease".
            E::LeaseKeepAliveError(text) if text == "lease not found" => Self::Refused(Error::LeaseGone),
            _ => Self::Lost(error.to_string()),
        }
    }

    pub(crate) fn from_status(status: &Status) -> Self {
        let fault = std::error::Error::source(status).and_then(|e| e.downcast_ref::<Fault>());
        if let Some(fault) = fault {
            return match fault {
                Fault::Connect { .. } => Self::Unsent(fault.to_string()),
                Fault::Broken { .. } | Fault::Deadline { .. } => Self::Lost(fault.to_string()),
            };
        }
        let text = status.message();
        let cause = || text.to_owned();
        if is_stale_login(status) {
            return Self::StaleLogin(cause());
        }
        match status.code() {
            Code::NotFound if text.contains("lease not found") => Self::Refused(Error::LeaseGone),
            Code::PermissionDenied => Self::Refused(Error::PermissionDenied { cause: cause() }),
            Code::ResourceExhausted if text.contains("space exceeded") => Self::Refused(Error::NoSpace),
            Code::ResourceExhausted if text.contains("larger than max") => {
                Self::Refused(Error::TooLarge { cause: cause() })
            }
            Code::ResourceExhausted if text.contains("too many requests") => Self::Unsent(cause()),
            Code::InvalidArgument if text.contains("too large") || text.contains("too many operations") => {
                Self::Refused(Error::TooLarge { cause: cause() })
            }
            Code::InvalidArgument if text.contains("authentication failed") => {
                Self::Refused(Error::Auth { cause: cause() })
            }
            Code::OutOfRange if text.contains("required revision") => Self::NoSuchRevision(cause()),
            // Said by our own decoder about an answer that did arrive.
            Code::OutOfRange if text.contains("decoded message length") => Self::AnswerTooLarge(cause()),
            Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::NotFound
            | Code::AlreadyExists
            | Code::Unimplemented => Self::Refused(Error::Rejected { cause: cause() }),
            code => Self::Lost(format!("{code:?}: {text}")),
        }
    }
}

/// Whether a new login can cure it. Services that etcd builds on its own client lose the code.
fn is_stale_login(status: &Status) -> bool {
    let text = status.message();
    match status.code() {
        Code::Unauthenticated => true,
        Code::Unknown => text.contains("invalid auth token"),
        Code::InvalidArgument => {
            text.contains("revision of auth store is old") || text.contains("user name is empty")
        }
        _ => false,
    }
}

/// An error with everything that caused it, on one line.
pub(crate) fn with_sources(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Wrappers often repeat what they wrap.
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(code: Code, text: &str) -> Failure {
        Failure::from_status(&Status::new(code, text))
    }

    #[test]
    fn what_etcd_refuses_was_not_applied() {
        for (code, text, error) in [
            (Code::NotFound, "etcdserver: requested lease not found", Error::LeaseGone),
            (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded", Error::NoSpace),
        ] {
            assert_eq!(verdict(code, text), Failure::Refused(error));
        }
        for (code, text) in [
            (Code::InvalidArgument, "etcdserver: request is too large"),
            (Code::InvalidArgument, "etcdserver: too many operations in txn request"),
            (Code::ResourceExhausted, "grpc: received message larger than max (2097165 vs. 2097152)"),
        ] {
            assert!(matches!(verdict(code, text), Failure::Refused(Error::TooLarge { .. })), "{text}");
        }
        let duplicate = verdict(Code::InvalidArgument, "etcdserver: duplicate key given in txn request");
        assert!(matches!(duplicate, Failure::Refused(Error::Rejected { .. })));
        let denied = verdict(Code::PermissionDenied, "etcdserver: permission denied");
        assert!(matches!(denied, Failure::Refused(Error::PermissionDenied { .. })));
        let login = "etcdserver: authentication failed, invalid user ID or password";
        assert!(matches!(verdict(Code::InvalidArgument, login), Failure::Refused(Error::Auth { .. })));
    }

    #[test]
    fn whatever_may_have_been_applied_counts_as_lost() {
        for (code, text) in [
            (Code::Unavailable, "etcdserver: request timed out"),
            (Code::Unavailable, "etcdserver: leader changed"),
            (Code::Unavailable, "etcdserver: no leader"),
            (Code::Cancelled, "context canceled"),
            (Code::DeadlineExceeded, "context deadline exceeded"),
            (Code::Unknown, "h2 protocol error: error reading a body"),
            (Code::Internal, "stream terminated"),
            (Code::Aborted, ""),
            (Code::DataLoss, "etcdserver: corrupt cluster"),
            (Code::ResourceExhausted, "something new"),
        ] {
            assert!(matches!(verdict(code, text), Failure::Lost(_)), "{code:?} {text}");
        }
    }

    #[test]
    fn only_a_failed_connection_counts_as_unsent() {
        let wrap = |fault: Fault| Failure::from_status(&Status::from_error(Box::new(fault)));
        let (endpoint, cause) = ("http://a:1/".to_owned(), "refused".to_owned());
        let connect = wrap(Fault::Connect { endpoint: endpoint.clone(), cause: cause.clone() });
        assert!(matches!(connect, Failure::Unsent(_)));
        assert!(matches!(wrap(Fault::Broken { endpoint: endpoint.clone(), cause }), Failure::Lost(_)));
        let after = std::time::Duration::from_secs(3);
        assert!(matches!(wrap(Fault::Deadline { endpoint, after }), Failure::Lost(_)));
    }

    #[test]
    fn an_expired_login_is_recognised_in_all_its_forms() {
        for (code, text) in [
            (Code::Unauthenticated, "etcdserver: invalid auth token"),
            (Code::Unknown, "etcdserver: invalid auth token"),
            (Code::InvalidArgument, "etcdserver: revision of auth store is old"),
            (Code::InvalidArgument, "etcdserver: user name is empty"),
        ] {
            assert!(matches!(verdict(code, text), Failure::StaleLogin(_)), "{text}");
        }
    }

    #[test]
    fn a_compacted_revision_and_a_large_answer_are_told_apart() {
        let compacted = verdict(Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted");
        assert_eq!(compacted.into_error(7), Error::Compacted { revision: 7 });
        let large =
            "Error, decoded message length too large: found 6291600 bytes, the limit is: 4194304 bytes";
        assert!(matches!(verdict(Code::OutOfRange, large), Failure::AnswerTooLarge(_)));
    }
}
