//! Refusals as `application/problem+json` (RFC 9457): a stable code, the field, and what is wrong, in English and
//! Chinese.

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use crate::admin::{AdminError, chinese};

/// What is wrong with a request.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// `about:blank`: the code says it.
    r#type: &'static str,
    /// The status in words.
    title: &'static str,
    status: u16,
    /// Stable, for programs: `INVALID_FIELD`, `NOT_FOUND`, `VERSION_CONFLICT`, ...
    code: &'static str,
    /// Which field of the request is to blame.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<Box<str>>,
    /// What is wrong, and what to do, in English.
    detail: Box<str>,
    /// The same in Chinese.
    detail_zh: Box<str>,
    #[serde(skip)]
    wait: Option<u64>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        let detail = detail.into().into_boxed_str();
        let detail_zh = chinese(&detail).into_boxed_str();
        let title = status.canonical_reason().unwrap_or("Error");
        let status = status.as_u16();
        Self { r#type: "about:blank", title, status, code, field: None, detail, detail_zh, wait: None }
    }

    pub(crate) fn field(field: &str, reason: impl std::fmt::Display) -> Self {
        AdminError::invalid(field, reason.to_string()).into()
    }

    /// A value of another form than its field has; what is nobody's fault but the whole's is about no field.
    pub(super) fn shape(field: &str, error: &dyn std::fmt::Display) -> Self {
        match AdminError::shape(field, error) {
            AdminError::Invalid { field, reason } if field == "." => {
                let detail = format!("the body is not what is expected: {reason}");
                Self::new(StatusCode::BAD_REQUEST, "INVALID_BODY", detail)
            }
            refused => refused.into(),
        }
    }

    pub(super) fn too_slow() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "TIMED_OUT", "the request was not done within 30 s: try again")
    }

    /// A version that was asked for is not the stored one.
    pub(super) fn precondition(self) -> Self {
        let status = StatusCode::PRECONDITION_FAILED;
        Self { status: status.as_u16(), title: "Precondition Failed", ..self }
    }

    pub(super) fn is_conflict(&self) -> bool {
        self.code == "VERSION_CONFLICT"
    }
}

impl From<AdminError> for Problem {
    fn from(error: AdminError) -> Self {
        let status = match &error {
            AdminError::Invalid { .. } => StatusCode::BAD_REQUEST,
            AdminError::NotFound { .. } => StatusCode::NOT_FOUND,
            AdminError::Exists { .. }
            | AdminError::Conflict { .. }
            | AdminError::InUse { .. }
            | AdminError::CalendarInUse { .. }
            | AdminError::JobInUse { .. }
            | AdminError::BackfillExists { .. }
            | AdminError::NotNow { .. }
            | AdminError::ClockSkew { .. } => StatusCode::CONFLICT,
            AdminError::Denied(_) => StatusCode::FORBIDDEN,
            AdminError::Unauthenticated(_) => StatusCode::UNAUTHORIZED,
            AdminError::TooMany { .. } | AdminError::TooManyStreams { .. } => StatusCode::TOO_MANY_REQUESTS,
            AdminError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        let mut problem = Self::new(status, error.reason(), error.to_string());
        problem.detail_zh = error.chinese().into_boxed_str();
        match error {
            AdminError::Invalid { field, .. } => problem.field = Some(field.into()),
            AdminError::TooMany { seconds } => problem.wait = Some(seconds),
            AdminError::Unavailable(_) => problem.wait = Some(1),
            _ => {}
        }
        problem
    }
}

impl From<Problem> for Response {
    fn from(problem: Problem) -> Self {
        problem.into_response()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(&self)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.wait {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}
