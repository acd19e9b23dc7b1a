//! How many calls of each face were answered, how, and after how long.

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use forest_etcd::{Clock, SystemClock};

use crate::metrics;

/// The routes of a face, with their calls counted.
pub(crate) fn counted(face: &'static str, router: Router) -> Router {
    router.layer(from_fn(move |request, next| count(face, request, next)))
}

/// Counts a call and the time until its answer begins.
async fn count(face: &'static str, request: Request, next: Next) -> Response {
    let begun = SystemClock.boot();
    let response = next.run(request).await;
    // gRPC says what went wrong before its body only if there is no body.
    let status = match (face, response.headers().get("grpc-status")) {
        ("grpc", status) => status.and_then(|status| status.to_str().ok()).unwrap_or("0").to_owned(),
        _ => response.status().as_str().to_owned(),
    };
    metrics::answered(face, status, SystemClock.boot().saturating_sub(begun));
    response
}
