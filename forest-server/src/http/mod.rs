//! The HTTP faces: the REST API below `/api/v1` and the original's contract at the root. They translate and decide
//! nothing; who calls is found out by [`crate::access`], what they may do by [`crate::admin`].

mod api;
mod body;
mod caller;
mod counting;
mod legacy;
mod origin;
mod probes;
mod problem;

use std::path::PathBuf;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use metrics_exporter_prometheus::PrometheusHandle;
use tower_http::compression::CompressionLayer;

pub(crate) use self::counting::counted;
use crate::access::{Gate, Oidc};
use crate::admin::Administration;

/// Larger than any job or calendar in JSON.
const BODY_BYTES: usize = 2 * 1024 * 1024;
/// How long a request's body and its answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who may use the original's contract, which knows no login of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LegacyApi {
    Off,
    /// Programs, and pages that this server itself has sent.
    SameOrigin,
    /// Pages of all sites.
    Open,
}

/// What the faces share. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Web {
    pub(crate) admin: Administration,
    pub(crate) gate: Gate,
    /// `None`: no login provider.
    pub(crate) oidc: Option<Oidc>,
    /// Whether the port speaks TLS.
    pub(crate) tls: bool,
    pub(crate) legacy: LegacyApi,
    pub(crate) legacy_ui: Option<PathBuf>,
    /// `None`: this process records no metrics.
    pub(crate) recorder: Option<PrometheusHandle>,
}

/// Everything but gRPC.
pub(crate) fn router(web: Web) -> Router {
    Router::new()
        .merge(probes::router())
        .nest("/api/v1", api::router())
        .merge(legacy::router(web.legacy, web.legacy_ui.as_deref()))
        .layer(axum::middleware::from_fn(patience))
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .layer(CompressionLayer::new())
        .with_state(web)
}

/// A caller that is slow to send its request, or an answer that does not come, is given up.
async fn patience(request: axum::extract::Request, next: axum::middleware::Next) -> axum::response::Response {
    match tokio::time::timeout(PATIENCE, next.run(request)).await {
        Ok(response) => response,
        Err(_) => problem::Problem::too_slow().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{Body, Bytes};
    use axum::routing::post;
    use http::{Request, StatusCode};
    use tower::ServiceExt as _;

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_ends_is_given_up() {
        let router: Router = Router::new()
            .route("/", post(|_: Bytes| async { "taken" }))
            .layer(axum::middleware::from_fn(patience));
        let begun = tokio::time::Instant::now();
        let endless = futures_util::stream::once(async { Ok::<_, std::io::Error>(Bytes::from("{")) });
        let endless = futures_util::StreamExt::chain(endless, futures_util::stream::pending());
        let request = Request::post("/").body(Body::from_stream(endless)).expect("a request");
        let response = router.clone().oneshot(request).await.expect("an answer");
        assert_eq!(response.status(), StatusCode::REQUEST_TIMEOUT);
        assert!(begun.elapsed() >= PATIENCE && begun.elapsed() < 2 * PATIENCE, "{:?}", begun.elapsed());
        let request = Request::post("/").body(Body::from("{}")).expect("a request");
        let response = router.oneshot(request).await.expect("an answer");
        assert_eq!(response.status(), StatusCode::OK);
    }
}
