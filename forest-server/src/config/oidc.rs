//! The settings of logins at a provider of OpenID Connect. Off unless `oidc_issuer` is set.

use reqwest::Url;

use super::check::Checker;
use super::{Login, OidcSettings, RoleMap};
use crate::access::is_safe_for_logins;

/// Where browsers come back to.
const CALLBACK: &str = "/api/v1/session/oidc/callback";

const KEYS: [&str; 9] = [
    "oidc_client_id",
    "oidc_client_secret_file",
    "oidc_redirect_url",
    "oidc_user_claim",
    "oidc_email_domain",
    "oidc_roles",
    "oidc_roles_claim",
    "oidc_scopes",
    "oidc_ca_file",
];

impl Checker<'_> {
    pub(super) fn oidc(&mut self, login: Option<Login>) -> Option<OidcSettings> {
        if !self.has("oidc_issuer") {
            for key in KEYS.into_iter().filter(|key| self.is_given(key)).collect::<Vec<_>>() {
                self.problem(key, "is set, but oidc_issuer is not");
            }
            return None;
        }
        if login == Some(Login::Off) {
            self.problem("oidc_issuer", "is of no use while login is off: set login = on");
        }
        for key in ["oidc_client_id", "oidc_redirect_url"] {
            if !self.has(key) {
                self.problem(key, "is required with oidc_issuer");
            }
        }
        let issuer = self.safe_url("oidc_issuer");
        let redirect_url = self.safe_url("oidc_redirect_url");
        if redirect_url.as_ref().is_some_and(|url| !url.path().ends_with(CALLBACK)) {
            self.problem(
                "oidc_redirect_url",
                format!("must end with {CALLBACK}, where browsers come back to"),
            );
        }
        let secret = self.secret("oidc_client_secret_file");
        let roles = self.parsed("oidc_roles", str::parse::<RoleMap>);
        let scopes = self.text("oidc_scopes").unwrap_or_default().to_owned();
        if !scopes.split(' ').any(|scope| scope == "openid") {
            self.problem("oidc_scopes", "must contain openid");
        }
        let owned = |checker: &Self, key| checker.text(key).unwrap_or_default().to_owned();
        let ca_file = self.pem("oidc_ca_file");
        Some(OidcSettings {
            issuer: issuer?,
            client_id: self.text("oidc_client_id")?.to_owned(),
            client_secret: secret,
            redirect_url: redirect_url?,
            scopes,
            user_claim: owned(self, "oidc_user_claim"),
            email_domain: self.text("oidc_email_domain").map(str::to_owned),
            roles_claim: owned(self, "oidc_roles_claim"),
            roles,
            ca_file,
        })
    }

    fn safe_url(&mut self, key: &str) -> Option<Url> {
        self.parsed(key, |text| {
            let url = Url::parse(text).map_err(|error| format!("is no URL: {error}"))?;
            match is_safe_for_logins(&url) && url.query().is_none() && url.fragment().is_none() {
                true => Ok(url),
                false => Err("must be https:// (http:// on loopback alone) without anything behind the path"
                    .to_owned()),
            }
        })
    }

    /// The first line of a file.
    fn secret(&mut self, key: &str) -> Option<String> {
        let file = self.text(key)?.to_owned();
        match std::fs::read_to_string(&file) {
            Ok(text) if text.trim().is_empty() => self.problem(key, format!("{file} is empty")),
            Ok(text) => return Some(text.trim().to_owned()),
            Err(error) => self.problem(key, format!("cannot read {file}: {error}")),
        }
        None
    }
}
