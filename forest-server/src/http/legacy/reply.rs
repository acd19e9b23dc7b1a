//! Answers of the contract.

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};

use crate::admin::AdminError;

/// What a handler gives: its data and a message, or a refusal.
pub(super) type Answer = Result<Reply, Reply>;

#[derive(Debug)]
pub(super) struct Reply {
    code: i32,
    data: Value,
    message: String,
}

impl Reply {
    pub(super) fn done(data: impl Serialize, message: &str) -> Self {
        Self { code: 0, data: json!(data), message: message.to_owned() }
    }

    pub(super) fn refused(message: impl Into<String>) -> Self {
        Self { code: -1, data: Value::Null, message: message.into() }
    }

    /// A refusal for which the contract has a text of its own; who may not, and what is away, is said anyway.
    pub(super) fn of(error: &AdminError, message: &str) -> Self {
        match error {
            AdminError::Unauthenticated(_) => Self::refused("未登录或登录已过期"),
            error @ AdminError::Denied(_) => Self::refused(format!("权限不足: {}", error.chinese())),
            AdminError::TooMany { seconds } => Self::refused(format!("请求过于频繁,请{seconds}秒后重试")),
            AdminError::Conflict { .. } => Self::refused(message),
            error => Self::refused(format!("{message} ({})", error.chinese())),
        }
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        Json(json!({ "code": self.code, "data": self.data, "message": self.message })).into_response()
    }
}
