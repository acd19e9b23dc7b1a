//! `/session/oidc`: log in at a provider, for browsers. The provider sends them back here.

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use forest_proto::record::Face;
use http::header::{CACHE_CONTROL, COOKIE, LOCATION};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;
use utoipa::IntoParams;

use super::session::{LoggedIn, add_cookie, logged_in, set_cookie};
use crate::access::{Attempt, Oidc, SESSION};
use crate::admin::AdminError;
use crate::http::Web;
use crate::http::body::Params;
use crate::http::problem::Problem;
use crate::port::Peer;

/// The cookie of a login under way. It has to come along from the provider's page, so it is not a strict one.
const COOKIE_NAME: &str = "forest_oidc";
/// How long somebody may take at the provider's.
const SECONDS: u64 = 600;
const RETURN_BYTES: usize = 512;

/// The provider, if there is one, asked by somebody who has not asked too often.
pub(super) struct Asked {
    oidc: Oidc,
    from: String,
}

impl FromRequestParts<Web> for Asked {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, web: &Web) -> Result<Self, Problem> {
        let missing = "no login provider is configured here: see oidc_issuer";
        let oidc =
            web.oidc.clone().ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "NOT_FOUND", missing))?;
        let from = parts.extensions.get::<Peer>().map(Peer::address).unwrap_or_default();
        web.gate.may_try_from(&from).map_err(AdminError::from)?;
        Ok(Self { oidc, from })
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Begin {
    /// A path of this server to go to in the end; without it the answer is that of `POST /session`.
    return_to: Option<String>,
}

/// Sends the browser to the login provider.
#[utoipa::path(get, path = "/session/oidc", tag = "access", params(Begin), security(()),
    responses((status = 303, description = "To the provider"), (status = "default", body = Problem)))]
pub(super) async fn begin(
    State(web): State<Web>,
    asked: Asked,
    Params(begin): Params<Begin>,
) -> Result<Response, Problem> {
    let return_to = begin.return_to.unwrap_or_default();
    if !return_to.is_empty() && !is_local(&return_to) {
        return Err(Problem::field("return_to", "must be a path of this server, such as /duck/"));
    }
    let attempt = Attempt::random().map_err(AdminError::from)?;
    let place = asked.oidc.begin(&attempt).await.map_err(AdminError::from)?;
    let kept = format!("{}.{}", attempt.secret(), BASE64_URL_SAFE_NO_PAD.encode(return_to));
    let mut response = to(place.as_str());
    keep(&mut response, &kept, SECONDS, web.tls);
    Ok(response)
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Back {
    code: Option<String>,
    state: Option<String>,
    /// The provider did not let them in.
    error: Option<String>,
}

/// Takes a browser back from the login provider, with a session as `POST /session` gives one.
#[utoipa::path(get, path = "/session/oidc/callback", tag = "access", params(Back), security(()),
    responses((status = 200, body = LoggedIn), (status = 303, description = "To return_to"),
        (status = "default", body = Problem)))]
pub(super) async fn finish(
    State(web): State<Web>,
    asked: Asked,
    headers: HeaderMap,
    Params(back): Params<Back>,
) -> Result<Response, Problem> {
    let mut response = match come_in(&web, &asked, &headers, back).await {
        Ok(response) => response,
        Err(error) => {
            tracing::warn!(from = asked.from, %error, "a login by the provider was refused");
            Problem::from(error).into_response()
        }
    };
    // A login that has been taken back counts no more, however it went.
    keep(&mut response, "", 0, web.tls);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

async fn come_in(web: &Web, asked: &Asked, headers: &HeaderMap, back: Back) -> Result<Response, AdminError> {
    let refused = |why: &str| AdminError::Unauthenticated(why.to_owned());
    let kept = kept(headers).ok_or_else(|| refused("no login was begun in this browser: begin again"))?;
    let (secret, return_to) = kept.split_once('.').unwrap_or((kept, ""));
    if let Some(error) = back.error {
        let error: String = error.chars().filter(|c| !c.is_control()).take(80).collect();
        return Err(AdminError::Unauthenticated(format!("the provider says {error:?}")));
    }
    let (Some(code), Some(state)) = (back.code, back.state) else {
        return Err(refused("the provider gave no code: begin again"));
    };
    let person = asked.oidc.finish(&Attempt::of(secret), &code, &state).await?;
    if let Some(grants) = &person.grants {
        web.admin.of_provider(&asked.from).provide_user(&person.name, &person.subject, grants).await?;
    }
    let entered = web.gate.enter(&person, &asked.from, Face::Rest).await?;
    let return_to =
        BASE64_URL_SAFE_NO_PAD.decode(return_to).ok().and_then(|path| String::from_utf8(path).ok());
    let session = entered.session.clone();
    let mut response = match return_to.filter(|path| is_local(path)) {
        Some(path) => to(&path),
        None => Json(logged_in(web, entered)).into_response(),
    };
    set_cookie(&mut response, &session, SESSION.as_secs(), web.tls);
    Ok(response)
}

/// Not to another site, in whatever way browsers could be made to take it for one.
fn is_local(path: &str) -> bool {
    let plain = |c: char| c.is_ascii_graphic() && c != '\\';
    path.starts_with('/') && !path.starts_with("//") && path.len() <= RETURN_BYTES && path.chars().all(plain)
}

fn to(place: &str) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    if let Ok(place) = HeaderValue::from_str(place) {
        response.headers_mut().insert(LOCATION, place);
    }
    response
}

fn kept(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs
        .into_iter()
        .find(|(name, _)| *name == COOKIE_NAME)
        .map(|(_, value)| value)
        .filter(|kept| !kept.is_empty())
}

fn keep(response: &mut Response, value: &str, seconds: u64, secure: bool) {
    let secure = if secure { "; Secure" } else { "" };
    let cookie = format!(
        "{COOKIE_NAME}={value}; Path=/api/v1/session/oidc; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}"
    );
    add_cookie(response, &cookie);
}

#[cfg(test)]
mod tests {
    use super::is_local;

    #[test]
    fn nobody_is_sent_to_another_site() {
        assert!(is_local("/") && is_local("/duck/?a=b#c"));
        for elsewhere in
            ["", "duck", "//evil.example", "/\\evil.example", "https://evil.example", "/a\r\nb", "/ä"]
        {
            assert!(!is_local(elsewhere), "{elsewhere:?}");
        }
    }
}
