//! The code for a token, and every check of that token.

use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use reqwest::header::CONTENT_TYPE;
use reqwest::{RequestBuilder, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value};
use subtle::ConstantTimeEq;

use super::discovery::Provider;
use super::fetch::{Http, read};
use super::keys::ALGORITHMS;
use super::{OidcError, OidcSettings};

/// How much clocks may differ, in seconds.
const LEEWAY: u64 = 60;

/// What the provider says of somebody.
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    pub(super) sub: String,
    nonce: Option<String>,
    azp: Option<String>,
    aud: Audience,
    #[serde(flatten)]
    pub(super) rest: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    Many(Vec<String>),
    One(serde::de::IgnoredAny),
}

/// Why a token proves nothing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unproved {
    #[error("the provider has no such key")]
    UnknownKey,
    #[error("the token is not signed as it has to be")]
    Algorithm,
    #[error("the token does not count: {0}")]
    Invalid(String),
    #[error("the token is not for this login")]
    Nonce,
    #[error("the token is for others as well, and was given to another one")]
    Party,
}

#[derive(Deserialize)]
struct Redeemed {
    id_token: String,
}

#[derive(Deserialize)]
struct Complaint {
    error: String,
}

/// The identity token for a code.
pub(super) async fn redeem(
    http: &Http,
    settings: &OidcSettings,
    provider: &Provider,
    code: &str,
    verifier: &str,
) -> Result<String, OidcError> {
    let place = &provider.token_endpoint;
    let request = request(http, settings, provider, code, verifier);
    let (status, body) = http.send(request).await?;
    if status == StatusCode::OK {
        return Ok(read::<Redeemed>(place, &body)?.id_token);
    }
    match serde_json::from_slice::<Complaint>(&body) {
        Ok(complaint) if complaint.error == "invalid_grant" => {
            Err(OidcError::Refused("the provider does not take the code (any more): begin again".into()))
        }
        Ok(complaint) => {
            Err(OidcError::Provider(format!("{place} answers {status}: {:.80}", complaint.error)))
        }
        Err(_) => Err(OidcError::Provider(format!("{place} answers {status}"))),
    }
}

fn request(
    http: &Http,
    settings: &OidcSettings,
    provider: &Provider,
    code: &str,
    verifier: &str,
) -> RequestBuilder {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "authorization_code")
        .append_pair("code", code)
        .append_pair("redirect_uri", settings.redirect_url.as_str())
        .append_pair("code_verifier", verifier);
    let mut request = http.post(&provider.token_endpoint);
    let methods = &provider.token_endpoint_auth_methods_supported;
    match &settings.client_secret {
        Some(secret) if methods.iter().any(|method| method == "client_secret_basic") => {
            // The standard wants both to be written as in a form first.
            let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            request = request.basic_auth(encoded(&settings.client_id), Some(encoded(secret)));
        }
        Some(secret) => {
            form.append_pair("client_id", &settings.client_id).append_pair("client_secret", secret);
        }
        None => {
            form.append_pair("client_id", &settings.client_id);
        }
    }
    request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form.finish())
}

/// The claims, if the provider has made them, for us, for this login, and they still count.
pub(super) fn verify(
    token: &str,
    keys: &JwkSet,
    settings: &OidcSettings,
    nonce: &str,
) -> Result<Claims, Unproved> {
    let invalid = |error: jsonwebtoken::errors::Error| Unproved::Invalid(error.to_string());
    // "none" is no algorithm for it.
    let header = decode_header(token).map_err(|_| Unproved::Algorithm)?;
    if !ALGORITHMS.contains(&header.alg) {
        return Err(Unproved::Algorithm);
    }
    let fitting = keys.keys.iter().filter(|key| fits(key, header.alg, header.kid.as_deref()));
    let mut validation = Validation::new(header.alg);
    validation.leeway = LEEWAY;
    validation.validate_nbf = true;
    validation.set_audience(&[&settings.client_id]);
    let issuer = settings.issuer.as_str();
    // A URL without a path is written with and without a slash.
    validation.set_issuer(&[issuer, issuer.trim_end_matches('/')]);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    let mut last = Unproved::UnknownKey;
    for key in fitting {
        let Ok(key) = DecodingKey::from_jwk(key) else { continue };
        match decode::<Claims>(token, &key, &validation) {
            Ok(data) => return checked(data.claims, settings, nonce),
            Err(error) => last = invalid(error),
        }
    }
    Err(last)
}

fn checked(claims: Claims, settings: &OidcSettings, nonce: &str) -> Result<Claims, Unproved> {
    let shown = claims.nonce.as_deref().unwrap_or_default();
    if !bool::from(shown.as_bytes().ct_eq(nonce.as_bytes())) {
        return Err(Unproved::Nonce);
    }
    let several = matches!(&claims.aud, Audience::Many(all) if all.len() > 1);
    let party = claims.azp.as_deref();
    if party.is_some_and(|party| party != settings.client_id) || several && party.is_none() {
        return Err(Unproved::Party);
    }
    if claims.sub.is_empty() || claims.sub.len() > 255 {
        return Err(Unproved::Invalid("it names nobody".into()));
    }
    Ok(claims)
}

/// Whether a token that names this key, or none, may have been signed with it.
fn fits(key: &Jwk, algorithm: Algorithm, kid: Option<&str>) -> bool {
    let common = &key.common;
    let named = kid.is_none() || common.key_id.as_deref() == kid;
    let signs = matches!(common.public_key_use, None | Some(PublicKeyUse::Signature));
    let for_it = common.key_algorithm.is_none_or(|of_key| of_key.to_string() == format!("{algorithm:?}"));
    named && signs && for_it
}
