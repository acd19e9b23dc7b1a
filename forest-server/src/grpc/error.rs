//! Refusals as gRPC statuses with details that programs can read.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::admin::AdminError;

const DOMAIN: &str = "forest";
/// The message itself is English.
const CHINESE: &str = "zh-CN";

pub(super) fn status(error: AdminError) -> Status {
    let code = match &error {
        AdminError::Invalid { .. } => Code::InvalidArgument,
        AdminError::NotFound { .. } => Code::NotFound,
        AdminError::Exists { .. } => Code::AlreadyExists,
        AdminError::Conflict { .. } => Code::Aborted,
        AdminError::Denied(_) => Code::PermissionDenied,
        AdminError::Unauthenticated(_) => Code::Unauthenticated,
        AdminError::TooMany { .. } | AdminError::TooManyStreams { .. } => Code::ResourceExhausted,
        AdminError::InUse { .. }
        | AdminError::CalendarInUse { .. }
        | AdminError::BackfillExists { .. }
        | AdminError::JobInUse { .. }
        | AdminError::NotNow { .. }
        | AdminError::ClockSkew { .. } => Code::FailedPrecondition,
        AdminError::Unavailable(_) => Code::Unavailable,
    };
    let mut details = ErrorDetails::with_error_info(error.reason(), DOMAIN, std::collections::HashMap::new());
    match &error {
        AdminError::Invalid { field, reason } => {
            details.add_bad_request_violation(field, reason);
        }
        AdminError::TooMany { seconds } => {
            details.set_retry_info(Some(Duration::from_secs(*seconds)));
        }
        _ => {}
    }
    details.set_localized_message(CHINESE, error.chinese());
    Status::with_error_details(code, error.to_string(), details)
}
