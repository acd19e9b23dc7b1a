//! Whether the process lives, and whether it is of use. For load balancers and supervisors: without a login, and
//! without anything that an unknown caller should not learn. Metrics are for viewers.

use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::json;

use super::Web;
use super::caller::Acting;
use super::problem::Problem;

pub(super) fn router() -> Router<Web> {
    Router::new().route("/livez", get(live)).route("/readyz", get(ready)).route("/metrics", get(metrics))
}

/// In Prometheus' text form.
async fn metrics(State(web): State<Web>, Acting(admin): Acting) -> Result<Response, Problem> {
    let Some(recorder) = &web.recorder else {
        return Err(Problem::new(StatusCode::NOT_FOUND, "NOT_FOUND", "this process records no metrics"));
    };
    let (cluster, revision) = (admin.cluster().await?, admin.view_revision().await?);
    crate::metrics::observe(&cluster, revision);
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], recorder.render()).into_response())
}

/// It answers, so it lives.
async fn live() -> &'static str {
    "ok\n"
}

#[derive(Deserialize)]
struct Asked {
    verbose: Option<String>,
}

/// It has caught up with etcd. A history that is away makes no node useless: scheduling goes on without.
async fn ready(State(web): State<Web>, Query(asked): Query<Asked>) -> Response {
    let checks = web.admin.readiness().await;
    let ready = checks.view_is_current;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if asked.verbose.is_none() {
        return (status, if ready { "ok\n" } else { "not ready: add ?verbose for why\n" }).into_response();
    }
    let checks = json!({
        "ready": ready,
        "view_is_current": checks.view_is_current,
        "etcd": checks.etcd,
        "history": checks.history,
        "leads": checks.leads,
    });
    (status, Json(checks)).into_response()
}
