//! `/statistics`: what became of runs, in numbers.

use axum::Json;
use forest_proto::admin::v1 as api;
use forest_proto::time::Instant;
use serde::Deserialize;
use utoipa::IntoParams;

use super::paging::Paging;
use crate::admin::StatisticsQuery;
use crate::grpc::by;
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
    /// The hour (UTC) of this instant and later ones; unless given, 24 hours before `until`.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Instant>,
    /// Hours that begin before this instant; now, unless given. At most 400 days after `since`.
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<Instant>,
    /// `hour` (unless given), `day`, `job` or `group`.
    #[serde(default)]
    by: String,
}

/// What became of runs, counted by hour, day, job or group, from counters that are kept beside the history.
#[utoipa::path(get, path = "/statistics", tag = "executions", params(Wanted, Paging),
    responses((status = 200, body = api::GetStatisticsResponse), (status = "default", body = Problem)))]
pub(super) async fn get(
    Acting(admin): Acting,
    Params(wanted): Params<Wanted>,
    Params(paging): Params<Paging>,
) -> Result<Json<api::GetStatisticsResponse>, Problem> {
    let by = by(&wanted.by)?;
    let Wanted { group, job, since, until, .. } = wanted;
    let query = StatisticsQuery { by, group, job_id: job, since, until };
    Ok(Json(admin.statistics(query, paging.into()).await?.into()))
}
