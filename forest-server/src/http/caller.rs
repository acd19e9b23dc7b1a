//! In whose name a request is done. A handler has no other way to the administration.

use axum::extract::FromRequestParts;
use forest_proto::record::Face;
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};

use super::problem::Problem;
use super::{Web, origin};
use crate::access::{Credentials, Proof, hash_text};
use crate::admin::{Admin, AdminError};
use crate::port::{CSRF_HEADER, Peer};

/// The administration, in the name of the caller.
pub(super) struct Acting(pub(super) Admin);

/// The same, and what they have shown, for answers that take longer than that may count.
pub(super) struct Proven(pub(super) Admin, pub(super) Proof);

/// Who calls, by what the request shows, for whichever face.
pub(super) async fn identified(
    web: &Web,
    peer: Option<&Peer>,
    headers: &HeaderMap,
    face: Face,
) -> Result<Proven, AdminError> {
    let shown = Peer::credentials_of(peer, headers);
    let from = peer.map(Peer::address).unwrap_or_default();
    let proof = Proof::new(&web.gate, shown, from, face);
    let caller = proof.caller().await?;
    let trace = headers.get("traceparent").and_then(|value| value.to_str().ok());
    Ok(Proven(web.admin.acting(caller).within(trace), proof))
}

impl FromRequestParts<Web> for Acting {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, web: &Web) -> Result<Self, Problem> {
        Proven::from_request_parts(parts, web).await.map(|Proven(admin, _)| Self(admin))
    }
}

impl FromRequestParts<Web> for Proven {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, web: &Web) -> Result<Self, Problem> {
        let peer = parts.extensions.get::<Peer>();
        check_origin(parts, web, Peer::credentials_of(peer, &parts.headers))?;
        Ok(identified(web, peer, &parts.headers, Face::Rest).await?)
    }
}

/// What browsers do by themselves, without anybody's intent, changes nothing.
fn check_origin(parts: &Parts, web: &Web, shown: Credentials<'_>) -> Result<(), Problem> {
    let host = parts.uri.authority();
    let foreign = |reason| Err(Problem::new(StatusCode::FORBIDDEN, "FOREIGN_ORIGIN", reason));
    if !web.gate.login_is_on() && !origin::is_plainly_here(&parts.headers, host) {
        return foreign(
            "without a login this server answers only to its address or localhost, not to other names",
        );
    }
    if matches!(shown, Credentials::Bearer(_)) {
        return Ok(());
    }
    if !origin::is_own(&parts.headers, host) {
        return foreign("the request comes from a page of another site");
    }
    let changes = !matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
    if let Credentials::Session(session) = shown
        && changes
    {
        let sent = parts.headers.get(CSRF_HEADER).and_then(|value| value.to_str().ok());
        if sent != Some(csrf(session).as_str()) {
            let reason = "send what GET /api/v1/session gives as csrf_token in the header X-CSRF-Token";
            return Err(Problem::new(StatusCode::FORBIDDEN, "CSRF", reason));
        }
    }
    Ok(())
}

/// Known to pages of ours alone: others can make a browser send the cookie, and cannot read it.
pub(super) fn csrf(session: &str) -> String {
    hash_text(&format!("csrf {session}"))
}
