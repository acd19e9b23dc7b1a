//! What the provider says of itself, and its keys. Both are kept for a while.

use std::sync::Arc;
use std::time::Duration;

use forest_etcd::SharedClock;
use jsonwebtoken::jwk::JwkSet;
use reqwest::Url;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use tokio::sync::Mutex;

use super::OidcError;
use super::fetch::Http;

const KEPT: Duration = Duration::from_secs(3600);
/// Tokens with keys that nobody knows do not make us ask more often.
const KEYS_AT_MOST_EVERY: Duration = Duration::from_secs(5);

/// The part of the provider's document that matters here.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Provider {
    issuer: String,
    #[serde(deserialize_with = "url")]
    pub(super) authorization_endpoint: Url,
    #[serde(deserialize_with = "url")]
    pub(super) token_endpoint: Url,
    #[serde(deserialize_with = "url")]
    jwks_uri: Url,
    /// How clients prove themselves; the first one if nothing is said.
    #[serde(default = "basic")]
    pub(super) token_endpoint_auth_methods_supported: Vec<String>,
}

fn url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Url, D::Error> {
    Url::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

fn basic() -> Vec<String> {
    vec!["client_secret_basic".into()]
}

/// What was last heard, and when, since boot.
pub(super) struct Discovery {
    clock: SharedClock,
    provider: Mutex<Option<(Duration, Arc<Provider>)>>,
    keys: Mutex<Option<(Duration, Arc<JwkSet>)>>,
}

impl Discovery {
    pub(super) fn new(clock: SharedClock) -> Self {
        Self { clock, provider: Mutex::new(None), keys: Mutex::new(None) }
    }

    pub(super) async fn provider(&self, http: &Http, issuer: &Url) -> Result<Arc<Provider>, OidcError> {
        let (mut known, now) = (self.provider.lock().await, self.clock.boot());
        if let Some((_, provider)) = known.as_ref().filter(|(at, _)| now < *at + KEPT) {
            return Ok(provider.clone());
        }
        let wrong = |why: &str| OidcError::Provider(format!("{issuer}: {why}"));
        let place = format!("{}/.well-known/openid-configuration", issuer.as_str().trim_end_matches('/'));
        let place = Url::parse(&place).map_err(|error| wrong(&error.to_string()))?;
        let provider: Provider = http.get(&place).await?;
        if provider.issuer.trim_end_matches('/') != issuer.as_str().trim_end_matches('/') {
            return Err(wrong(&format!("it calls itself {:?}", provider.issuer)));
        }
        let places = [&provider.authorization_endpoint, &provider.token_endpoint, &provider.jwks_uri];
        if let Some(open) = places.into_iter().find(|place| !is_safe(place)) {
            return Err(wrong(&format!("{open} is not encrypted")));
        }
        let provider = Arc::new(provider);
        *known = Some((now, provider.clone()));
        Ok(provider)
    }

    /// `anew`: one was missing.
    pub(super) async fn keys(
        &self,
        http: &Http,
        provider: &Provider,
        anew: bool,
    ) -> Result<Arc<JwkSet>, OidcError> {
        let (mut known, now) = (self.keys.lock().await, self.clock.boot());
        let kept = if anew { KEYS_AT_MOST_EVERY } else { KEPT };
        if let Some((_, keys)) = known.as_ref().filter(|(at, _)| now < *at + kept) {
            return Ok(keys.clone());
        }
        let keys: Arc<JwkSet> = Arc::new(http.get(&provider.jwks_uri).await?);
        *known = Some((now, keys.clone()));
        Ok(keys)
    }
}

/// Encrypted, or on this machine.
pub(crate) fn is_safe(url: &Url) -> bool {
    let here = match url.host_str().unwrap_or_default().trim_matches(['[', ']']) {
        "localhost" => true,
        host => host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback()),
    };
    url.scheme() == "https" || url.scheme() == "http" && here
}
