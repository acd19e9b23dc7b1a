//! `/executions`: runs, those alive and those of the history.

use axum::Json;
use axum::extract::Path;
use forest_proto::admin::v1 as api;
use forest_proto::time::Instant;
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::jobs::{Started, idempotency_key};
use super::paging::Paging;
use crate::admin::RunFilter;
use crate::http::body::Params;
use crate::http::caller::Acting;
use crate::http::problem::Problem;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    #[serde(default)]
    group: String,
    /// The id of a job.
    #[serde(default)]
    job: String,
    /// The id of a client.
    #[serde(default)]
    client: String,
    /// `live`, or the outcome of ended ones: succeeded, failed, timed_out, cancelled, lost, no_client,
    /// overlap_skipped, misfire_skipped.
    #[serde(default)]
    status: String,
    /// Only those created at this instant or later.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Instant>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Executions {
    /// Those that have not ended, newest first; on the first page only.
    live: Vec<api::Run>,
    /// Those that have, newest first.
    items: Vec<api::Run>,
    /// Where the next, older page begins; empty at the end.
    next_page_token: String,
    /// Where the page before, with newer ones, begins; empty at the beginning.
    previous_page_token: String,
}

/// Runs, newest first.
#[utoipa::path(get, path = "/executions", tag = "executions", params(Wanted, Paging),
    responses((status = 200, body = Executions), (status = "default", body = Problem)))]
pub(super) async fn list(
    Acting(admin): Acting,
    Params(wanted): Params<Wanted>,
    Params(paging): Params<Paging>,
) -> Result<Json<Executions>, Problem> {
    let live_only = wanted.status == "live";
    let filter = RunFilter {
        group: wanted.group,
        job_id: wanted.job,
        client: wanted.client,
        outcome: if live_only { String::new() } else { wanted.status },
        since: wanted.since,
        live_only,
    };
    let (live, page) =
        admin.runs(filter, paging.into()).await.map_err(|error| error.about("outcome", "status"))?;
    Ok(Json(Executions {
        live: live.into_iter().map(Into::into).collect(),
        items: page.items.into_iter().map(Into::into).collect(),
        next_page_token: page.next,
        previous_page_token: page.previous,
    }))
}

/// A run, with the whole of its parameters and its result.
#[utoipa::path(get, path = "/executions/{id}", tag = "executions", params(("id" = String, Path)),
    responses((status = 200, body = api::Run), (status = "default", body = Problem)))]
pub(super) async fn get(Acting(admin): Acting, Path(id): Path<String>) -> Result<Json<api::Run>, Problem> {
    Ok(Json(admin.run(&id).await?.into()))
}

/// All attempts of a run, the first one first, and whether that is all.
#[utoipa::path(get, path = "/executions/{id}/attempts", tag = "executions", params(("id" = String, Path)),
    responses((status = 200, body = api::ListAttemptsResponse), (status = "default", body = Problem)))]
pub(super) async fn attempts(
    Acting(admin): Acting,
    Path(id): Path<String>,
) -> Result<Json<api::ListAttemptsResponse>, Problem> {
    Ok(Json(admin.attempts(&id).await?.into()))
}

/// Asks for an ended run to be run again, with the same parameters and for the same time; `cause` of the new one says
/// which it repeats. Without an Idempotency-Key all who ask for it within an hour get the same new run.
#[utoipa::path(post, path = "/executions/{id}/retry", tag = "executions",
    params(("id" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 202, body = Started), (status = "default", body = Problem)))]
pub(super) async fn retry(
    Acting(admin): Acting,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<(StatusCode, Json<Started>), Problem> {
    let run = admin.retry_run(&id, &idempotency_key(&headers)?).await?;
    Ok((StatusCode::ACCEPTED, Json(Started::new(&run))))
}

/// Asks for a run to be stopped, or not to be started.
#[utoipa::path(post, path = "/executions/{id}/cancel", tag = "executions", params(("id" = String, Path)),
    responses((status = 202), (status = "default", body = Problem)))]
pub(super) async fn cancel(Acting(admin): Acting, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    admin.cancel_run(&id).await?;
    Ok(StatusCode::ACCEPTED)
}
