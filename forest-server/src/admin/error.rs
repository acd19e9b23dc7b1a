//! Why an operation was refused: what a caller can do about it decides the variant.

use super::{chinese, shape};
use crate::access::{Denied, LoginError, OidcError};
use crate::scheduler::Unanswered;
use crate::store::StoreError;

#[derive(Debug, thiserror::Error)]
pub(crate) enum AdminError {
    #[error("{field}: {reason}")]
    Invalid { field: String, reason: String },
    #[error("no {kind} {name:?}")]
    NotFound { kind: &'static str, name: String },
    #[error("{kind} {name:?} exists already")]
    Exists { kind: &'static str, name: String },
    #[error("{what} was changed by somebody else meanwhile: read it again and repeat the change")]
    Conflict { what: String },
    #[error("group {name:?} still has {what}: remove them first")]
    InUse { name: String, what: String },
    #[error("calendar {name:?} is used by {what}: take it out of them first")]
    CalendarInUse { name: String, what: String },
    #[error("job {job} has a backfill already: wait for its end, or cancel it")]
    BackfillExists { job: String },
    #[error("job {name:?} is followed by {what}: take it out of them first")]
    JobInUse { name: String, what: String },
    /// The word is for programs.
    #[error("{what}")]
    NotNow { reason: &'static str, what: String },
    #[error("this node's clock is {skew_ms} ms off the other nodes': set it right, or use another node")]
    ClockSkew { skew_ms: i64 },
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error("{0}")]
    Unauthenticated(String),
    #[error("too many requests: wait {seconds} s")]
    TooMany { seconds: u64 },
    #[error(
        "there are {limit} streams of yours already, or too many on this node: end some, or use another node"
    )]
    TooManyStreams { limit: usize },
    #[error("{0}")]
    Unavailable(String),
}

impl AdminError {
    pub(crate) fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), reason: reason.into() }
    }

    /// A value of another form than its field has.
    pub(crate) fn shape(field: &str, error: &dyn std::fmt::Display) -> Self {
        let (within, reason) = shape::said(&error.to_string());
        Self::invalid(within.map_or_else(|| field.to_owned(), |name| shape::path(field, &name)), reason)
    }

    /// The same about a field that the caller knows under another name.
    pub(crate) fn about(self, ours: &str, theirs: &str) -> Self {
        match self {
            Self::Invalid { field, reason } if field == ours => Self::invalid(theirs, reason),
            other => other,
        }
    }

    /// All that it says, in Chinese.
    pub(crate) fn chinese(&self) -> String {
        match self {
            Self::Invalid { field, reason } => format!("{field}：{}", chinese(reason)),
            other => chinese(&other.to_string()),
        }
    }

    pub(crate) fn not_found(kind: &'static str, name: impl AsRef<str>) -> Self {
        Self::NotFound { kind, name: name.as_ref().chars().take(80).collect() }
    }

    /// A word for programs. Stable.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "INVALID_FIELD",
            Self::NotFound { .. } => "NOT_FOUND",
            Self::Exists { kind: "group", .. } => "GROUP_EXISTS",
            Self::Exists { .. } => "EXISTS",
            Self::Conflict { .. } => "VERSION_CONFLICT",
            Self::InUse { .. } => "GROUP_IN_USE",
            Self::CalendarInUse { .. } => "CALENDAR_IN_USE",
            Self::BackfillExists { .. } => "BACKFILL_EXISTS",
            Self::JobInUse { .. } => "JOB_IN_USE",
            Self::NotNow { reason, .. } => reason,
            Self::ClockSkew { .. } => "CLOCK_SKEW",
            Self::Denied(_) => "DENIED",
            Self::Unauthenticated(_) => "UNAUTHENTICATED",
            Self::TooMany { .. } => "TOO_MANY_REQUESTS",
            Self::TooManyStreams { .. } => "TOO_MANY_STREAMS",
            Self::Unavailable(_) => "UNAVAILABLE",
        }
    }
}

impl From<Unanswered> for AdminError {
    fn from(error: Unanswered) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<forest_etcd::Error> for AdminError {
    fn from(error: forest_etcd::Error) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<StoreError> for AdminError {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<LoginError> for AdminError {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::Required | LoginError::Wrong => Self::Unauthenticated(error.to_string()),
            LoginError::Refused(why) => Self::Unauthenticated(why),
            LoginError::TooMany(seconds) => Self::TooMany { seconds },
            LoginError::Unavailable(cause) => Self::Unavailable(cause),
        }
    }
}

impl From<OidcError> for AdminError {
    fn from(error: OidcError) -> Self {
        match error {
            OidcError::Refused(why) => Self::Unauthenticated(why),
            OidcError::Provider(_) => Self::Unavailable(error.to_string()),
        }
    }
}
