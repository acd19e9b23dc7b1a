//! `/users`, `/tokens` and `/audit`.

use axum::Json;
use axum::extract::Path;
use forest_proto::admin::v1 as api;
use forest_proto::record::{Audit, Grants};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::paging::{Paged, Paging};
use crate::admin::UserPatch;
use crate::http::body::{Body, Params};
use crate::http::caller::Acting;
use crate::http::problem::Problem;
use crate::store::{AuditFilter, Audited};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewUser {
    /// A-Z a-z 0-9 . _ -, at most 63 characters.
    #[schema(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$", example = "ann")]
    name: String,
    /// 12 to 256 characters.
    #[schema(min_length = 12, max_length = 256)]
    password: String,
    /// Not more than the caller's own.
    grants: Grants,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UserChange {
    /// Ends all sessions. 12 to 256 characters.
    #[schema(min_length = 12, max_length = 256)]
    password: Option<String>,
    grants: Option<Grants>,
    disabled: Option<bool>,
}

/// The users, by name.
#[utoipa::path(get, path = "/users", tag = "access", params(Paging),
    responses((status = 200, body = Paged<api::User>), (status = "default", body = Problem)))]
pub(super) async fn list_users(
    Acting(admin): Acting,
    Params(paging): Params<Paging>,
) -> Result<Json<Paged<api::User>>, Problem> {
    Ok(Json(Paged::of(admin.users(paging.into()).await?)))
}

/// Adds a user.
#[utoipa::path(post, path = "/users", tag = "access", request_body = NewUser,
    responses((status = 201, body = api::User), (status = "default", body = Problem)))]
pub(super) async fn add_user(
    Acting(admin): Acting,
    Body(user): Body<NewUser>,
) -> Result<(StatusCode, Json<api::User>), Problem> {
    let added = admin.add_user(&user.name, &user.password, user.grants).await?;
    Ok((StatusCode::CREATED, Json(added.into())))
}

/// Changes what is given of a user.
#[utoipa::path(patch, path = "/users/{name}", tag = "access", params(("name" = String, Path)),
    request_body = UserChange,
    responses((status = 200, body = api::User), (status = "default", body = Problem)))]
pub(super) async fn change_user(
    Acting(admin): Acting,
    Path(name): Path<String>,
    Body(change): Body<UserChange>,
) -> Result<Json<api::User>, Problem> {
    let patch = UserPatch { password: change.password, grants: change.grants, disabled: change.disabled };
    Ok(Json(admin.edit_user(&name, patch).await?.into()))
}

/// Deletes a user, and with them their sessions and tokens. The last administrator stays.
#[utoipa::path(delete, path = "/users/{name}", tag = "access", params(("name" = String, Path)),
    responses((status = 204), (status = "default", body = Problem)))]
pub(super) async fn delete_user(
    Acting(admin): Acting,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    admin.delete_user(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewToken {
    /// What it is for.
    #[schema(min_length = 1, max_length = 128)]
    name: String,
    /// Not more than the caller's own.
    grants: Grants,
    /// Milliseconds until it expires: at most 10 years, 90 days unless given.
    #[schema(minimum = 60_000, maximum = 316_224_000_000_i64)]
    lives_ms: Option<i64>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct AddedToken {
    token: api::Token,
    /// To be sent as `Authorization: Bearer ...`. It is shown here and nowhere else.
    secret: String,
}

/// The caller's own tokens; administrators see all.
#[utoipa::path(get, path = "/tokens", tag = "access", params(Paging),
    responses((status = 200, body = Paged<api::Token>), (status = "default", body = Problem)))]
pub(super) async fn list_tokens(
    Acting(admin): Acting,
    Params(paging): Params<Paging>,
) -> Result<Json<Paged<api::Token>>, Problem> {
    Ok(Json(Paged::of(admin.tokens(paging.into()).await?)))
}

/// Makes a token of the caller's own.
#[utoipa::path(post, path = "/tokens", tag = "access", request_body = NewToken,
    responses((status = 201, body = AddedToken), (status = "default", body = Problem)))]
pub(super) async fn add_token(
    Acting(admin): Acting,
    Body(token): Body<NewToken>,
) -> Result<(StatusCode, Json<AddedToken>), Problem> {
    let (token, secret) = admin.add_token(&token.name, token.grants, token.lives_ms).await?;
    Ok((StatusCode::CREATED, Json(AddedToken { token: token.into(), secret })))
}

/// Revokes a token.
#[utoipa::path(delete, path = "/tokens/{id}", tag = "access", params(("id" = String, Path)),
    responses((status = 204), (status = "default", body = Problem)))]
pub(super) async fn revoke_token(
    Acting(admin): Acting,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    admin.revoke_token(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    who: Option<String>,
    /// Such as `job.edit`.
    action: Option<String>,
    target: Option<String>,
    group: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct AuditView {
    id: String,
    #[serde(flatten)]
    audit: Audit,
}

impl From<Audited> for AuditView {
    fn from(audited: Audited) -> Self {
        Self { id: audited.id, audit: audited.audit }
    }
}

/// Who changed what, newest first.
#[utoipa::path(get, path = "/audit", tag = "access", params(Wanted, Paging),
    responses((status = 200, body = Paged<AuditView>), (status = "default", body = Problem)))]
pub(super) async fn audit(
    Acting(admin): Acting,
    Params(wanted): Params<Wanted>,
    Params(paging): Params<Paging>,
) -> Result<Json<Paged<AuditView>>, Problem> {
    let (who, action) = (wanted.who, wanted.action);
    let filter = AuditFilter { who, action, target: wanted.target, group: wanted.group, before: None };
    Ok(Json(Paged::of(admin.audits(filter, paging.into()).await?)))
}
