//! `/session`: log in with a password, for browsers.

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::response::{IntoResponse, Response};
use forest_proto::admin::v1 as api;
use forest_proto::record::Face;
use http::header::SET_COOKIE;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::access::{self, Credentials, SESSION};
use crate::admin::AdminError;
use crate::http::body::Body;
use crate::http::caller::{Acting, csrf};
use crate::http::problem::Problem;
use crate::http::{Web, origin};
use crate::port::{Peer, SESSION_COOKIE, session};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Password {
    user: String,
    password: String,
}

#[derive(Serialize, ToSchema)]
pub(super) struct LoggedIn {
    #[serde(flatten)]
    identity: api::Identity,
    /// To be sent as X-CSRF-Token with every change that a page makes with the session's cookie. Empty without one.
    csrf_token: String,
}

/// Where a login comes from.
pub(super) struct From(String);

impl FromRequestParts<Web> for From {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Web) -> Result<Self, Problem> {
        if !origin::is_own(&parts.headers, parts.uri.authority()) {
            let reason = "the request comes from a page of another site";
            return Err(Problem::new(StatusCode::FORBIDDEN, "FOREIGN_ORIGIN", reason));
        }
        Ok(Self(parts.extensions.get::<Peer>().map(Peer::address).unwrap_or_default()))
    }
}

/// Logs in. The session is a cookie that scripts cannot read and other sites cannot send; it lives 12 hours.
#[utoipa::path(post, path = "/session", tag = "access", request_body = Password, security(()),
    responses((status = 200, body = LoggedIn), (status = "default", body = Problem)))]
pub(super) async fn log_in(
    State(web): State<Web>,
    From(from): From,
    Body(given): Body<Password>,
) -> Result<Response, Problem> {
    let logged_in = web.gate.log_in(&given.user, &given.password, &from, Face::Rest).await;
    let logged_in = logged_in.map_err(AdminError::from)?;
    let session = logged_in.session.clone();
    let mut response = Json(self::logged_in(&web, logged_in)).into_response();
    set_cookie(&mut response, &session, SESSION.as_secs(), web.tls);
    Ok(response)
}

/// What a page learns of a new session.
pub(super) fn logged_in(web: &Web, entered: access::LoggedIn) -> LoggedIn {
    let identity = web.admin.acting(entered.caller).identity(web.gate.login_is_on());
    LoggedIn { identity, csrf_token: csrf(&entered.session) }
}

/// Who is calling.
#[utoipa::path(get, path = "/session", tag = "access",
    responses((status = 200, body = LoggedIn), (status = "default", body = Problem)))]
pub(super) async fn get(
    State(web): State<Web>,
    Acting(admin): Acting,
    headers: HeaderMap,
) -> Result<Json<LoggedIn>, Problem> {
    let csrf_token = session(&headers).map(csrf).unwrap_or_default();
    Ok(Json(LoggedIn { identity: admin.identity(web.gate.login_is_on()), csrf_token }))
}

/// Logs out: the session ends everywhere.
#[utoipa::path(delete, path = "/session", tag = "access",
    responses((status = 204), (status = "default", body = Problem)))]
pub(super) async fn log_out(
    State(web): State<Web>,
    Acting(admin): Acting,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    if let Credentials::Session(shown) | Credentials::Bearer(shown) = Peer::credentials_of(None, &headers) {
        web.gate.log_out(shown, admin.caller()).await.map_err(AdminError::from)?;
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    set_cookie(&mut response, "", 0, web.tls);
    Ok(response)
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewPassword {
    old: String,
    /// 12 to 256 characters.
    new: String,
}

/// Changes the caller's own password, and ends all sessions of theirs.
#[utoipa::path(put, path = "/session/password", tag = "access", request_body = NewPassword,
    responses((status = 204), (status = "default", body = Problem)))]
pub(super) async fn change_password(
    State(web): State<Web>,
    Acting(admin): Acting,
    Body(given): Body<NewPassword>,
) -> Result<StatusCode, Problem> {
    web.gate.confirm(admin.caller(), &given.old).await.map_err(AdminError::from)?;
    admin.change_password(&given.new).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) fn set_cookie(response: &mut Response, value: &str, seconds: u64, secure: bool) {
    let secure = if secure { "; Secure" } else { "" };
    let cookie =
        format!("{SESSION_COOKIE}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
    add_cookie(response, &cookie);
}

pub(super) fn add_cookie(response: &mut Response, cookie: &str) {
    if let Ok(cookie) = HeaderValue::from_str(cookie) {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
}
