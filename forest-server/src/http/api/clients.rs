//! `/groups/{name}/clients/{id}`: what can be said to a client.

use axum::Json;
use axum::extract::Path;
use forest_proto::admin::v1 as api;

use crate::http::caller::Acting;
use crate::http::problem::Problem;

/// The client gets no new runs until it is undrained or its registration ends. It finishes what it runs; what it has
/// not begun goes to others.
#[utoipa::path(post, path = "/groups/{name}/clients/{id}/drain", tag = "groups",
    params(("name" = String, Path, description = "The group"), ("id" = String, Path)),
    responses((status = 200, body = api::Client), (status = "default", body = Problem)))]
pub(super) async fn drain(
    Acting(admin): Acting,
    Path((group, id)): Path<(String, String)>,
) -> Result<Json<api::Client>, Problem> {
    Ok(Json(admin.drain_client(&group, &id).await?.into()))
}

/// The client gets runs again.
#[utoipa::path(post, path = "/groups/{name}/clients/{id}/undrain", tag = "groups",
    params(("name" = String, Path, description = "The group"), ("id" = String, Path)),
    responses((status = 200, body = api::Client), (status = "default", body = Problem)))]
pub(super) async fn undrain(
    Acting(admin): Acting,
    Path((group, id)): Path<(String, String)>,
) -> Result<Json<api::Client>, Problem> {
    Ok(Json(admin.undrain_client(&group, &id).await?.into()))
}
