//! `/calendars`.

use axum::Json;
use axum::extract::Path;
use forest_proto::admin::v1 as api;
use http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use super::paging::{Paged, Paging};
use crate::http::body::{Body, Params};
use crate::http::caller::Acting;
use crate::http::problem::Problem;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CalendarDays {
    /// Absent: stays as it is.
    remark: Option<String>,
    /// One day or range a line: `2027-10-01` and `2027-10-01..2027-10-07 # why` are excluded, `+2027-10-09` is
    /// included. Or an iCalendar file, whose all-day events are excluded.
    #[schema(example = "2027-10-01..2027-10-07 # golden week")]
    days: String,
    /// Refused if the stored version is another; 0 or absent: whatever it is.
    #[serde(default)]
    version: u64,
}

/// The calendars, by name.
#[utoipa::path(get, path = "/calendars", tag = "calendars", params(Paging),
    responses((status = 200, body = Paged<api::Calendar>), (status = "default", body = Problem)))]
pub(super) async fn list(
    Acting(admin): Acting,
    Params(paging): Params<Paging>,
) -> Result<Json<Paged<api::Calendar>>, Problem> {
    Ok(Json(Paged::of(admin.calendars(paging.into()).await?)))
}

/// A calendar.
#[utoipa::path(get, path = "/calendars/{name}", tag = "calendars", params(("name" = String, Path)),
    responses((status = 200, body = api::Calendar), (status = "default", body = Problem)))]
pub(super) async fn get(
    Acting(admin): Acting,
    Path(name): Path<String>,
) -> Result<Json<api::Calendar>, Problem> {
    Ok(Json(admin.calendar(&name).await?.into()))
}

/// Stores days in place of those of before, or a new calendar. They count for every fire that is not decided yet.
#[utoipa::path(put, path = "/calendars/{name}", tag = "calendars", params(("name" = String, Path)),
    request_body = CalendarDays,
    responses((status = 200, body = api::Calendar), (status = "default", body = Problem)))]
pub(super) async fn set(
    Acting(admin): Acting,
    Path(name): Path<String>,
    Body(given): Body<CalendarDays>,
) -> Result<Json<api::Calendar>, Problem> {
    let stored = admin.set_calendar(&name, given.remark.as_deref(), &given.days, given.version).await?;
    Ok(Json(stored.into()))
}

/// Deletes a calendar that no job names.
#[utoipa::path(delete, path = "/calendars/{name}", tag = "calendars", params(("name" = String, Path)),
    responses((status = 204), (status = "default", body = Problem)))]
pub(super) async fn delete(Acting(admin): Acting, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    admin.delete_calendar(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}
