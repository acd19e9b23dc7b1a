//! Logins at a provider of OpenID Connect: the authorisation code flow with PKCE.
//!
//! Owns what is asked of the provider and every check of what it answers. Who may do what in Forest is not decided
//! here: only the name, the subject and the roles that the provider vouches for come out.
//!
//! A login that has begun is known to nobody but the browser. Its cookie holds one random secret, of which state, nonce
//! and verifier are derived; so any node takes the browser back, and nobody can fill a store with logins.

mod discovery;
mod fetch;
mod keys;
mod person;
mod token;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use forest_etcd::SharedClock;
use forest_proto::UserName;
use forest_proto::record::Grants;
use reqwest::Url;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use discovery::Discovery;
pub(crate) use discovery::is_safe;
use fetch::Http;
pub use person::RoleMap;

/// How the provider is reached, and whom of those it knows Forest lets in.
#[derive(Clone)]
pub struct OidcSettings {
    /// As the provider calls itself, to the letter.
    pub issuer: Url,
    pub client_id: String,
    /// `None`: a public client, which PKCE alone protects.
    pub client_secret: Option<String>,
    /// Where the provider sends browsers back to.
    pub redirect_url: Url,
    pub scopes: String,
    /// The claim with the user's name.
    pub user_claim: String,
    /// In place of that claim: users are what is before the @ of a verified address of this domain.
    pub email_domain: Option<String>,
    /// The claim that `roles` looks at.
    pub roles_claim: String,
    /// `None`: only users that are in Forest already may log in, with the roles they have there.
    pub roles: Option<RoleMap>,
    /// Authorities of the provider's certificate; else those of the machine.
    pub ca_file: Option<PathBuf>,
}

impl fmt::Debug for OidcSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secret = self.client_secret.as_ref().map(|_| "***");
        f.debug_struct("OidcSettings")
            .field("issuer", &self.issuer.as_str())
            .field("client_id", &self.client_id)
            .field("client_secret", &secret)
            .field("redirect_url", &self.redirect_url.as_str())
            .finish_non_exhaustive()
    }
}

/// Why somebody does not come in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OidcError {
    /// The provider does not answer, or not as one.
    #[error("the login provider cannot be used: {0}")]
    Provider(String),
    /// What was brought back proves nothing.
    #[error("{0}")]
    Refused(String),
}

/// Whom the provider vouches for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Person {
    pub(crate) name: UserName,
    /// What the provider never gives to anybody else.
    pub(crate) subject: String,
    /// `None`: Forest knows itself what its users may do.
    pub(crate) grants: Option<Grants>,
}

/// A provider. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Oidc {
    inner: Arc<Inner>,
}

struct Inner {
    settings: OidcSettings,
    http: Http,
    discovery: Discovery,
}

/// A login under way, as its browser knows it.
pub(crate) struct Attempt(String);

impl Attempt {
    /// 256 random bits.
    pub(crate) fn random() -> Result<Self, OidcError> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|error| OidcError::Provider(error.to_string()))?;
        Ok(Self(BASE64_URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// What a browser shows again.
    pub(crate) fn of(secret: &str) -> Self {
        Self(secret.to_owned())
    }

    pub(crate) fn secret(&self) -> &str {
        &self.0
    }

    fn derived(&self, what: &str) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(format!("forest oidc {what} {}", self.0)))
    }

    fn state(&self) -> String {
        self.derived("state")
    }

    fn nonce(&self) -> String {
        self.derived("nonce")
    }

    /// The provider is told its hash first, and itself only by whoever brings the code.
    fn verifier(&self) -> String {
        self.derived("verifier")
    }
}

impl Oidc {
    /// Asks nobody yet: a provider that is away does not keep a node from starting.
    pub(crate) fn new(settings: OidcSettings, clock: SharedClock) -> Result<Self, OidcError> {
        keys::use_ring();
        let http = Http::new(settings.ca_file.as_deref())?;
        let discovery = Discovery::new(clock);
        Ok(Self { inner: Arc::new(Inner { settings, http, discovery }) })
    }

    /// Where the browser is to go.
    pub(crate) async fn begin(&self, attempt: &Attempt) -> Result<Url, OidcError> {
        let Inner { settings, http, discovery } = &*self.inner;
        let provider = discovery.provider(http, &settings.issuer).await?;
        let mut url = provider.authorization_endpoint.clone();
        let challenge = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(attempt.verifier()));
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &settings.client_id)
            .append_pair("redirect_uri", settings.redirect_url.as_str())
            .append_pair("scope", &settings.scopes)
            .append_pair("state", &attempt.state())
            .append_pair("nonce", &attempt.nonce())
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256");
        Ok(url)
    }

    /// Who has come back with this code and state.
    pub(crate) async fn finish(
        &self,
        attempt: &Attempt,
        code: &str,
        state: &str,
    ) -> Result<Person, OidcError> {
        if !bool::from(attempt.state().as_bytes().ct_eq(state.as_bytes())) {
            return Err(OidcError::Refused("the state is not that of this browser: begin again".into()));
        }
        let Inner { settings, http, discovery } = &*self.inner;
        let provider = discovery.provider(http, &settings.issuer).await?;
        let id_token = token::redeem(http, settings, &provider, code, &attempt.verifier()).await?;
        let keys = discovery.keys(http, &provider, false).await?;
        let nonce = attempt.nonce();
        let claims = match token::verify(&id_token, &keys, settings, &nonce) {
            // Providers change their keys now and then.
            Err(token::Unproved::UnknownKey) => {
                let keys = discovery.keys(http, &provider, true).await?;
                token::verify(&id_token, &keys, settings, &nonce)
            }
            verified => verified,
        };
        let claims = claims.map_err(|why| OidcError::Refused(why.to_string()))?;
        person::of(&claims, settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_derived_tells_nothing_of_the_rest() {
        let attempt = Attempt::random().expect("random");
        let all = [attempt.state(), attempt.nonce(), attempt.verifier(), attempt.secret().to_owned()];
        for (n, one) in all.iter().enumerate() {
            // As PKCE wants a verifier to be.
            assert!(one.len() == 43 && one.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)));
            assert!(all[n + 1..].iter().all(|other| other != one));
        }
        assert_eq!(Attempt::of(attempt.secret()).state(), attempt.state(), "any node knows it again");
    }
}
