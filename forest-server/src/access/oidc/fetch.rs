//! Requests to the provider: with a deadline, a limit for the answer, and no redirects, which could lead anywhere.

use std::path::Path;
use std::time::Duration;

use reqwest::header::ACCEPT;
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, RequestBuilder, StatusCode, Url};
use serde::de::DeserializeOwned;

use super::OidcError;

const PATIENCE: Duration = Duration::from_secs(10);
/// Far above any document of a provider.
const ANSWER_BYTES: usize = 1 << 20;

pub(super) struct Http(Client);

impl Http {
    pub(super) fn new(ca_file: Option<&Path>) -> Result<Self, OidcError> {
        let unusable = |why: String| OidcError::Provider(why);
        let mut builder = Client::builder()
            .timeout(PATIENCE)
            .redirect(Policy::none())
            .user_agent(concat!("forest-server/", env!("CARGO_PKG_VERSION")));
        if let Some(file) = ca_file {
            let pem = std::fs::read(file)
                .map_err(|error| unusable(format!("oidc_ca_file: {}: {error}", file.display())))?;
            let certificates = Certificate::from_pem_bundle(&pem)
                .map_err(|error| unusable(format!("oidc_ca_file: {}: {error}", file.display())))?;
            builder = builder.tls_certs_only(certificates);
        }
        builder.build().map(Self).map_err(|error| unusable(with_causes(&error)))
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, url: &Url) -> Result<T, OidcError> {
        let (status, body) = self.send(self.0.get(url.clone())).await?;
        if status != StatusCode::OK {
            return Err(OidcError::Provider(format!("{url} answers {status}")));
        }
        read(url, &body)
    }

    pub(super) fn post(&self, url: &Url) -> RequestBuilder {
        self.0.post(url.clone())
    }

    /// Status and body.
    pub(super) async fn send(&self, request: RequestBuilder) -> Result<(StatusCode, Vec<u8>), OidcError> {
        let away = |error: reqwest::Error| OidcError::Provider(with_causes(&error.without_url()));
        let mut response = request.header(ACCEPT, "application/json").send().await.map_err(away)?;
        let (status, mut body) = (response.status(), Vec::new());
        while let Some(chunk) = response.chunk().await.map_err(away)? {
            if body.len() + chunk.len() > ANSWER_BYTES {
                return Err(OidcError::Provider(format!("an answer is longer than {ANSWER_BYTES} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((status, body))
    }
}

pub(super) fn read<T: DeserializeOwned>(url: &Url, body: &[u8]) -> Result<T, OidcError> {
    serde_json::from_slice(body).map_err(|error| OidcError::Provider(format!("{url}: {error}")))
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}
