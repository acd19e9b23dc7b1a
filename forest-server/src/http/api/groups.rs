//! `/groups`.

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
pub(super) struct NewGroup {
    /// A-Z a-z 0-9 . _ -, at most 63 characters.
    #[schema(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$", example = "orders")]
    name: String,
    #[serde(default)]
    remark: String,
    /// Runs with the group's clients at once. Absent: any number.
    #[schema(minimum = 1, maximum = 1_000_000)]
    max_in_flight: Option<u32>,
    /// Runs a second given to the group's clients. Absent: any number.
    #[schema(minimum = 1, maximum = 1_000_000)]
    dispatches_per_second: Option<u32>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GroupPatch {
    #[schema(max_length = 255, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$", example = "new")]
    remark: Option<String>,
    /// 0: any number.
    #[schema(maximum = 1_000_000)]
    max_in_flight: Option<u32>,
    /// 0: any number.
    #[schema(maximum = 1_000_000)]
    dispatches_per_second: Option<u32>,
}

/// The groups, by name.
#[utoipa::path(get, path = "/groups", tag = "groups", params(Paging),
    responses((status = 200, body = Paged<api::Group>), (status = "default", body = Problem)))]
pub(super) async fn list(
    Acting(admin): Acting,
    Params(paging): Params<Paging>,
) -> Result<Json<Paged<api::Group>>, Problem> {
    Ok(Json(Paged::of(admin.groups(paging.into()).await?)))
}

/// A group.
#[utoipa::path(get, path = "/groups/{name}", tag = "groups", params(("name" = String, Path)),
    responses((status = 200, body = api::Group), (status = "default", body = Problem)))]
pub(super) async fn get(
    Acting(admin): Acting,
    Path(name): Path<String>,
) -> Result<Json<api::Group>, Problem> {
    Ok(Json(admin.group(&name).await?.into()))
}

/// Adds a group.
#[utoipa::path(post, path = "/groups", tag = "groups", request_body = NewGroup,
    responses((status = 201, body = api::Group), (status = "default", body = Problem)))]
pub(super) async fn add(
    Acting(admin): Acting,
    Body(group): Body<NewGroup>,
) -> Result<(StatusCode, Json<api::Group>), Problem> {
    let limits = (group.max_in_flight, group.dispatches_per_second);
    let added = admin.add_group(&group.name, &group.remark, limits).await?;
    Ok((StatusCode::CREATED, Json(added.into())))
}

/// Changes the given fields of a group. A changed limit counts at once.
#[utoipa::path(patch, path = "/groups/{name}", tag = "groups", params(("name" = String, Path)),
    request_body = GroupPatch,
    responses((status = 200, body = api::Group), (status = "default", body = Problem)))]
pub(super) async fn change(
    Acting(admin): Acting,
    Path(name): Path<String>,
    Body(patch): Body<GroupPatch>,
) -> Result<Json<api::Group>, Problem> {
    let limits = (patch.max_in_flight, patch.dispatches_per_second);
    Ok(Json(admin.edit_group(&name, patch.remark, limits).await?.into()))
}

/// Deletes a group that has neither jobs nor clients nor runs.
#[utoipa::path(delete, path = "/groups/{name}", tag = "groups", params(("name" = String, Path)),
    responses((status = 204), (status = "default", body = Problem)))]
pub(super) async fn delete(Acting(admin): Acting, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    admin.delete_group(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}
