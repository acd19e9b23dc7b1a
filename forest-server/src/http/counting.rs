//! How many calls of each face were answered, how, and after how long.

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use forest_etcd::{Clock, SystemClock};
use http::StatusCode;

use crate::metrics;

/// gRPC's code for a method that there is not.
const UNIMPLEMENTED: &str = "12";

/// The routes of a face, with their calls counted.
pub(crate) fn counted(face: &'static str, router: Router) -> Router {
    router.layer(from_fn(move |request, next| count(face, request, next)))
}

/// Counts a call and the time until its answer begins.
async fn count(face: &'static str, request: Request, next: Next) -> Response {
    let begun = SystemClock.boot();
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = next.run(request).await;
    // gRPC says what went wrong before its body only if there is no body.
    let status = match (face, response.headers().get("grpc-status")) {
        ("grpc", status) => status.and_then(|status| status.to_str().ok()).unwrap_or("0").to_owned(),
        _ => response.status().as_str().to_owned(),
    };
    let known = match face {
        "grpc" => (status != UNIMPLEMENTED).then(|| path.rsplit('/').next().unwrap_or_default().to_owned()),
        _ if response.status() == StatusCode::METHOD_NOT_ALLOWED => None,
        _ => route.map(|route| format!("{method} {route}")),
    };
    let call = known.unwrap_or_else(|| "other".into());
    metrics::answered(face, call, status, SystemClock.boot().saturating_sub(begun));
    response
}
