//! `/nodes/{node}/log-level`.

use std::time::Duration;

use axum::Json;
use axum::extract::Path;
use forest_proto::admin::v1 as api;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::http::body::Body;
use crate::http::caller::Acting;
use crate::http::problem::Problem;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewLogLevel {
    /// A level (error, warn, info, debug, trace, off), or levels by target, separated by commas: info,sqlx=debug.
    filter: String,
    /// Milliseconds, from ten seconds to one day. Absent: ten minutes.
    lives_ms: Option<u64>,
}

/// How much a node logs.
#[utoipa::path(get, path = "/nodes/{node}/log-level", tag = "cluster", params(("node" = String, Path)),
    responses((status = 200, body = api::LogLevel), (status = "default", body = Problem)))]
pub(super) async fn get(
    Acting(admin): Acting,
    Path(node): Path<String>,
) -> Result<Json<api::LogLevel>, Problem> {
    Ok(Json(admin.log_level(&node).await?.into()))
}

/// Changes how much a node logs, for a while. Any node takes the call.
#[utoipa::path(put, path = "/nodes/{node}/log-level", tag = "cluster", params(("node" = String, Path)),
    request_body = NewLogLevel,
    responses((status = 200, body = api::LogLevel), (status = "default", body = Problem)))]
pub(super) async fn set(
    Acting(admin): Acting,
    Path(node): Path<String>,
    Body(level): Body<NewLogLevel>,
) -> Result<Json<api::LogLevel>, Problem> {
    let lives = level.lives_ms.map(Duration::from_millis);
    Ok(Json(admin.set_log_level(&node, &level.filter, lives).await?.into()))
}

/// Sets it back at once to what is configured.
#[utoipa::path(delete, path = "/nodes/{node}/log-level", tag = "cluster", params(("node" = String, Path)),
    responses((status = 200, body = api::LogLevel), (status = "default", body = Problem)))]
pub(super) async fn reset(
    Acting(admin): Acting,
    Path(node): Path<String>,
) -> Result<Json<api::LogLevel>, Problem> {
    Ok(Json(admin.reset_log_level(&node).await?.into()))
}
