//! Bodies of requests as JSON, with refusals that say what is wrong with them.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;

use super::problem::Problem;

/// A body of this shape. Fields that are not known are refused by the shapes themselves.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let text = Text::from_request(request, state).await?;
        let mut reader = serde_json::Deserializer::from_str(&text.0);
        let read = serde_path_to_error::deserialize(&mut reader);
        let value = read.map_err(|error| {
            let path = error.path().to_string();
            Problem::shape(&path, error.inner())
        })?;
        reader.end().map_err(|error| invalid(&error))?;
        Ok(Self(value))
    }
}

/// A body that is JSON, as it is.
pub(super) struct Text(pub(super) String);

impl<S: Send + Sync> FromRequest<S> for Text {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        // Pages of other sites can send text without asking, and JSON only after asking.
        if !is_json(request.headers()) {
            let reason = "send JSON, with the header Content-Type: application/json";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "INVALID_BODY", reason));
        }
        let bytes = Bytes::from_request(request, state).await.map_err(|refused| {
            let status = refused.status();
            Problem::new(status, "INVALID_BODY", refused.body_text())
        })?;
        String::from_utf8(bytes.into()).map(Self).map_err(|error| invalid(&error))
    }
}

fn invalid(error: &dyn std::fmt::Display) -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "INVALID_BODY",
        format!("the body is not what is expected: {error}"),
    )
}

fn is_json(headers: &HeaderMap) -> bool {
    let sent = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = sent.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json") || kind.eq_ignore_ascii_case("application/merge-patch+json")
}

/// The parameters behind the question mark.
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let query = parts.uri.query().unwrap_or_default();
        let pairs = serde_urlencoded::Deserializer::new(form_urlencoded::parse(query.as_bytes()));
        let params = serde_path_to_error::deserialize(pairs).map_err(|error| {
            let path = error.path().to_string();
            Problem::shape(if path == "." { "query" } else { &path }, error.inner())
        })?;
        Ok(Self(params))
    }
}
