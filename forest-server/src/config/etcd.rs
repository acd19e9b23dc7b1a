//! The settings of the etcd session: account, TLS and endpoints.
//!
//! What the session itself would refuse at its first use is refused here already, with the setting's name.

use std::path::PathBuf;
use std::time::Duration;

use forest_etcd::{EtcdConfig, TlsConfig};

use super::check::{Checker, SECOND};

/// Connecting is one part of a call.
const MAX_CONNECT: Duration = Duration::from_secs(2);

impl Checker<'_> {
    pub(super) fn etcd(&mut self) -> Option<EtcdConfig> {
        let list = self.text("etcd_endpoints").unwrap_or_default();
        let endpoints: Vec<String> =
            list.split(',').map(|one| one.trim().to_owned()).filter(|one| !one.is_empty()).collect();
        if endpoints.is_empty() {
            self.problem("etcd_endpoints", "names no endpoint: write host:port, separated by commas");
        }
        let password = self.etcd_password();
        let user = self.text("etcd_user").map(str::to_owned);
        match (&user, &password) {
            (Some(_), None) if !self.has("etcd_password") && !self.has("etcd_password_file") => {
                self.problem("etcd_user", "has no password: set FOREST_ETCD_PASSWORD or etcd_password_file");
            }
            (None, _) if self.has("etcd_password") => {
                self.problem("etcd_password", "is set, but etcd_user is not");
            }
            (None, _) if self.has("etcd_password_file") => {
                self.problem("etcd_password_file", "is set, but etcd_user is not");
            }
            _ => {}
        }
        let tls = self.etcd_tls();
        for endpoint in &endpoints {
            self.endpoint(endpoint, tls.is_some());
        }
        let call_timeout = self.duration("etcd_timeout", SECOND / 10, 60 * SECOND)?;
        let connect_timeout = call_timeout.min(MAX_CONNECT);
        Some(EtcdConfig { user, password, tls, connect_timeout, call_timeout, ..EtcdConfig::new(endpoints) })
    }

    /// An endpoint with a user in it may hold a password: it is not quoted.
    fn endpoint(&mut self, endpoint: &str, tls: bool) {
        let (scheme, address) = endpoint.split_once("://").unwrap_or(("", endpoint));
        let address = address.strip_suffix('/').unwrap_or(address);
        let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        let wrong = match (scheme, tls) {
            _ if address.contains('@') => "has a user in it: use etcd_user and etcd_password".into(),
            ("http", true) => format!("{endpoint:?} says http, but a CA file is set: write https"),
            ("https", false) => format!("{endpoint:?} says https: set etcd_ca_file too"),
            ("" | "http" | "https", _) => match port {
                None | Some(0) => format!("{endpoint:?} has no port: etcd's is 2379 unless told otherwise"),
                Some(_) if address.starts_with(':') => format!("{endpoint:?} has no host"),
                Some(_) => return,
            },
            _ => format!("{endpoint:?} has an unknown scheme: write host:port, http://... or https://..."),
        };
        self.problem("etcd_endpoints", wrong);
    }

    fn etcd_password(&mut self) -> Option<String> {
        // Spaces may be part of a password.
        let password = self.values.get("etcd_password").map(|value| value.text.clone());
        let Some(file) = self.text("etcd_password_file").map(str::to_owned) else { return password };
        if password.is_some() {
            self.problem("etcd_password_file", "is set beside etcd_password: set one of them");
            return password;
        }
        match std::fs::read_to_string(&file) {
            Ok(text) if text.trim().is_empty() => {
                self.problem("etcd_password_file", format!("{file} is empty"));
            }
            Ok(text) => return Some(text.trim_end_matches(['\r', '\n']).to_owned()),
            Err(error) => {
                self.problem("etcd_password_file", format!("cannot read {file}: {error}"));
            }
        }
        None
    }

    fn etcd_tls(&mut self) -> Option<TlsConfig> {
        let ca_file = self.pem("etcd_ca_file");
        let cert_file = self.pem("etcd_cert_file");
        let key_file = self.pem("etcd_key_file");
        for (one, other) in [("etcd_cert_file", "etcd_key_file"), ("etcd_key_file", "etcd_cert_file")] {
            if self.has(one) && !self.has(other) {
                self.problem(one, format!("is set without {other}: set both or none"));
            }
        }
        for key in ["etcd_cert_file", "etcd_server_name"] {
            if self.has(key) && !self.has("etcd_ca_file") {
                self.problem(key, "needs etcd_ca_file, which turns TLS on");
            }
        }
        let server_name = self.text("etcd_server_name").map(str::to_owned);
        Some(TlsConfig { ca_file: ca_file?, cert_file, key_file, server_name })
    }

    pub(super) fn pem(&mut self, key: &str) -> Option<PathBuf> {
        let file = PathBuf::from(self.text(key)?);
        if let Err(error) = std::fs::read(&file) {
            self.problem(key, format!("cannot read {}: {error}", file.display()));
        }
        Some(file)
    }
}
