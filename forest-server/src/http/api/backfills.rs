//! `/backfills`: fires of the past, run one after the other.

use axum::Json;
use axum::extract::Path;
use forest_proto::admin::v1 as api;
use forest_proto::time::Instant;
use http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use super::paging::{Paged, Paging};
use crate::admin::BackfillQuery;
use crate::http::body::{Body, Params};
use crate::http::caller::Acting;
use crate::http::problem::Problem;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Range {
    /// The first instant.
    #[schema(value_type = String, format = DateTime)]
    from: Instant,
    /// Exclusive; not in the future.
    #[schema(value_type = String, format = DateTime)]
    to: Instant,
    /// Only tell what it would do.
    #[serde(default)]
    dry_run: bool,
    /// Refused if there are more fires: 100 unless given, at most 10,000.
    #[schema(maximum = 10_000)]
    #[serde(default)]
    max_fires: u32,
    /// In place of the job's.
    params: Option<String>,
}

/// Backfills that still have runs to create, by job.
#[utoipa::path(get, path = "/backfills", tag = "jobs", params(Paging),
    responses((status = 200, body = Paged<api::Backfill>), (status = "default", body = Problem)))]
pub(super) async fn list(
    Acting(admin): Acting,
    Params(paging): Params<Paging>,
) -> Result<Json<Paged<api::Backfill>>, Problem> {
    Ok(Json(Paged::of(admin.backfills(paging.into()).await?)))
}

/// Runs the fires of a range of the past, or tells what that would be.
#[utoipa::path(post, path = "/jobs/{id}/backfill", tag = "jobs", params(("id" = String, Path)), request_body = Range,
    responses((status = 202, body = api::StartBackfillResponse), (status = "default", body = Problem)))]
pub(super) async fn start(
    Acting(admin): Acting,
    Path(id): Path<String>,
    Body(range): Body<Range>,
) -> Result<(StatusCode, Json<api::StartBackfillResponse>), Problem> {
    let query = BackfillQuery {
        job: id,
        from: Some(range.from),
        to: Some(range.to),
        dry_run: range.dry_run,
        max_fires: range.max_fires,
        params: range.params,
    };
    Ok((StatusCode::ACCEPTED, Json(admin.start_backfill(query).await?.into())))
}

/// Ends a job's backfill: no further runs are created.
#[utoipa::path(delete, path = "/jobs/{id}/backfill", tag = "jobs", params(("id" = String, Path)),
    responses((status = 204), (status = "default", body = Problem)))]
pub(super) async fn cancel(Acting(admin): Acting, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    admin.cancel_backfill(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}
