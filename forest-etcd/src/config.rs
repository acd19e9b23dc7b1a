//! How to reach etcd: addresses, user, TLS, time limits. Refuses what can only be a mistake, with
//! the address named, and never shows a password.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use etcd_client::{Certificate, Identity, TlsOptions};
use http::Uri;
use tonic::transport::Endpoint;

use crate::{Error, Transport};

/// More addresses than any etcd cluster has members.
pub const MAX_ENDPOINTS: usize = 32;

/// Unread bytes that one stream may keep waiting here.
const STREAM_WINDOW: u32 = 4 << 20;
/// Unread bytes of all streams of a connection together. Far above one stream's share, so that a
/// stream which is not read for a moment does not stall the calls beside it.
const CONNECTION_WINDOW: u32 = 64 << 20;

/// How to reach etcd and how long to wait for it.
#[derive(Clone)]
pub struct EtcdConfig {
    /// `host:port`, `http://host:port` or `https://host:port`, one for each member.
    pub endpoints: Vec<String>,
    pub user: Option<String>,
    pub password: Option<String>,
    pub tls: Option<TlsConfig>,
    /// Limit for opening a TCP connection.
    pub connect_timeout: Duration,
    /// Limit for one call until the answer begins; also how long a stream may take to open.
    pub call_timeout: Duration,
    /// A connection with calls or streams under way that was silent for so long is asked for a sign
    /// of life. etcd closes connections that ask more often than its `--grpc-keepalive-min-time`,
    /// which is 5 s unless set otherwise.
    pub ping_interval: Duration,
    /// A connection that gives no sign of life for so long is closed.
    pub ping_timeout: Duration,
    /// In place of a network; the endpoints are only names then.
    pub transport: Option<Transport>,
}

/// Certificates, all PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// The authorities that etcd's certificate must come from.
    pub ca_file: PathBuf,
    /// Our own certificate, if etcd asks for one; together with `key_file`.
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    /// The name that etcd's certificate must carry, if it is not the endpoint's host.
    pub server_name: Option<String>,
}

impl Default for EtcdConfig {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            user: None,
            password: None,
            tls: None,
            connect_timeout: Duration::from_secs(2),
            call_timeout: Duration::from_secs(3),
            ping_interval: Duration::from_secs(6),
            ping_timeout: Duration::from_secs(2),
            transport: None,
        }
    }
}

impl fmt::Debug for EtcdConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoints: Vec<String> = self.endpoints.iter().map(|e| without_secret(e)).collect();
        f.debug_struct("EtcdConfig")
            .field("endpoints", &endpoints)
            .field("user", &self.user)
            .field("password", &self.password.as_ref().map(|_| "***"))
            .field("tls", &self.tls)
            .field("connect_timeout", &self.connect_timeout)
            .field("call_timeout", &self.call_timeout)
            .field("ping_interval", &self.ping_interval)
            .field("ping_timeout", &self.ping_timeout)
            .field("transport", &self.transport)
            .finish()
    }
}

impl EtcdConfig {
    /// These endpoints, and the defaults for the rest.
    pub fn new<E: Into<String>>(endpoints: impl IntoIterator<Item = E>) -> Self {
        Self { endpoints: endpoints.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// An etcd in the same process, and the defaults for the rest.
    pub fn in_process(transport: Transport) -> Self {
        Self { transport: Some(transport), ..Self::new(["http://in-process:2379"]) }
    }

    /// The user with the password, if one is configured.
    pub(crate) fn credentials(&self) -> Result<Option<(String, String)>, Error> {
        match (&self.user, &self.password) {
            (None, None) => Ok(None),
            (Some(user), Some(password)) if !user.is_empty() => Ok(Some((user.clone(), password.clone()))),
            _ => Err(Error::Auth { cause: "the etcd user and its password must be given together".into() }),
        }
    }

    /// The checked endpoints in their order, each once. Opens nothing but the certificate files.
    pub(crate) fn build(&self) -> Result<Vec<Endpoint>, Error> {
        let refuse = |endpoint: &str, reason: &str| {
            Err(Error::InvalidEndpoint { endpoint: endpoint.into(), reason: reason.into() })
        };
        if self.endpoints.is_empty() {
            return refuse("", "no etcd endpoint is configured");
        }
        if let Some(extra) = self.endpoints.get(MAX_ENDPOINTS) {
            return refuse(&without_secret(extra), "too many endpoints; 32 are allowed");
        }
        let tls = self.tls.as_ref().map(TlsConfig::load).transpose()?;
        let mut uris: Vec<Uri> = Vec::new();
        for endpoint in &self.endpoints {
            let uri = parse(endpoint, tls.is_some())?;
            if !uris.contains(&uri) {
                uris.push(uri);
            }
        }
        uris.into_iter().map(|uri| self.endpoint(uri, tls.as_ref())).collect()
    }

    fn endpoint(&self, uri: Uri, tls: Option<&TlsOptions>) -> Result<Endpoint, Error> {
        let endpoint = Endpoint::from(uri)
            .connect_timeout(self.connect_timeout)
            .http2_keep_alive_interval(self.ping_interval)
            .keep_alive_timeout(self.ping_timeout)
            // On a connection without any stream, etcd takes even rare pings for an attack.
            .keep_alive_while_idle(false)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .tcp_nodelay(true);
        match tls {
            Some(tls) => endpoint.tls_config(tls.clone()).map_err(|e| Error::InvalidTls {
                file: PathBuf::new(),
                reason: crate::error::with_sources(&e),
            }),
            None => Ok(endpoint),
        }
    }
}

impl TlsConfig {
    fn load(&self) -> Result<TlsOptions, Error> {
        let mut tls =
            TlsOptions::new().ca_certificate(Certificate::from_pem(read(&self.ca_file, "CERTIFICATE")?));
        match (&self.cert_file, &self.key_file) {
            (None, None) => {}
            (Some(cert), Some(key)) => {
                tls = tls.identity(Identity::from_pem(read(cert, "CERTIFICATE")?, read(key, "PRIVATE KEY")?));
            }
            (Some(one), None) | (None, Some(one)) => {
                let reason = "a client certificate and its key must be given together".into();
                return Err(Error::InvalidTls { file: one.clone(), reason });
            }
        }
        if let Some(name) = &self.server_name {
            tls = tls.domain_name(name);
        }
        Ok(tls)
    }
}

/// A PEM file with at least one item of that kind: the TLS library takes one without for empty.
fn read(file: &Path, kind: &str) -> Result<Vec<u8>, Error> {
    let refuse = |reason: String| Error::InvalidTls { file: file.into(), reason };
    let pem = std::fs::read(file).map_err(|e| refuse(e.to_string()))?;
    let text = String::from_utf8_lossy(&pem);
    if !text.lines().any(|line| line.starts_with("-----BEGIN ") && line.contains(kind)) {
        return Err(refuse(format!("no {kind} in this file")));
    }
    Ok(pem)
}

/// An endpoint as the user wrote it, as an absolute address.
fn parse(endpoint: &str, tls: bool) -> Result<Uri, Error> {
    let refuse = |reason: &str| Error::InvalidEndpoint {
        endpoint: without_secret(endpoint),
        reason: reason.to_owned(),
    };
    let trimmed = endpoint.trim();
    let full = match (trimmed.contains("://"), tls) {
        (true, _) => trimmed.to_owned(),
        (false, true) => format!("https://{trimmed}"),
        (false, false) => format!("http://{trimmed}"),
    };
    let uri: Uri = full.parse().map_err(|e| refuse(&format!("not an address: {e}")))?;
    match (uri.scheme_str(), tls) {
        (Some("http"), false) | (Some("https"), true) => {}
        (Some("http"), true) => return Err(refuse("TLS is configured, but the address says http")),
        (Some("https"), false) => return Err(refuse("the address says https, but no CA file is configured")),
        _ => return Err(refuse("only http:// and https:// are known")),
    }
    let authority = uri.authority().ok_or_else(|| refuse("no host"))?;
    if authority.as_str().contains('@') {
        return Err(refuse("a user belongs in the configuration, not in the address"));
    }
    if authority.host().is_empty() {
        return Err(refuse("no host"));
    }
    match authority.port_u16() {
        None | Some(0) => return Err(refuse("no port; etcd listens on 2379 unless told otherwise")),
        Some(_) => {}
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(refuse("an etcd address has no path"));
    }
    Ok(uri)
}

/// The endpoint without a user and password that somebody wrote into it.
fn without_secret(endpoint: &str) -> String {
    match endpoint.rsplit_once('@') {
        Some((_, host)) => format!("***@{host}"),
        None => endpoint.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn addresses(endpoints: &[&str]) -> Result<Vec<String>, Error> {
        let built = EtcdConfig::new(endpoints.iter().copied()).build()?;
        Ok(built.iter().map(|e| e.uri().to_string()).collect())
    }

    #[test]
    fn an_endpoint_without_a_scheme_is_plain_http() {
        assert_eq!(
            addresses(&["a:2379", "http://b:1/", "[::1]:2379"]).unwrap(),
            ["http://a:2379/", "http://b:1/", "http://[::1]:2379/"]
        );
    }

    #[test]
    fn with_tls_an_endpoint_without_a_scheme_is_https() {
        assert_eq!(parse("a:2379", true).unwrap().to_string(), "https://a:2379/");
        assert!(parse("http://a:2379", true).is_err());
    }

    #[test]
    fn an_endpoint_given_twice_is_used_once() {
        assert_eq!(addresses(&["a:2379", "http://a:2379"]).unwrap(), ["http://a:2379/"]);
    }

    #[test]
    fn nonsense_is_refused_and_named() {
        for bad in
            ["", "a", "a:", "a:0", "a:99999", "ftp://a:1", "https://a:1", "a:1/x", "a:1?b", "a b:1", "://"]
        {
            let error = addresses(&["ok:2379", bad]).unwrap_err();
            let Error::InvalidEndpoint { endpoint, .. } = &error else { panic!("{bad}: {error:?}") };
            assert_eq!(endpoint, bad);
        }
        assert!(addresses(&[]).unwrap_err().to_string().contains("no etcd endpoint"));
        let many: Vec<String> = (0..33).map(|n| format!("h{n}:1")).collect();
        assert!(EtcdConfig::new(many).build().is_err());
    }

    #[test]
    fn no_password_is_ever_shown() {
        let mut config = EtcdConfig::new(["http://root:hunter2@a:2379"]);
        config.user = Some("root".into());
        config.password = Some("hunter3".into());
        let shown = format!("{config:?} {}", config.build().unwrap_err());
        assert!(!shown.contains("hunter"), "{shown}");
    }

    #[test]
    fn a_user_without_a_password_is_refused() {
        let config = EtcdConfig { user: Some("root".into()), ..EtcdConfig::new(["a:1"]) };
        assert!(matches!(config.credentials(), Err(Error::Auth { .. })));
    }

    #[test]
    fn a_file_without_a_certificate_is_named() {
        let tls = TlsConfig {
            ca_file: "/nonexistent/ca.pem".into(),
            cert_file: None,
            key_file: None,
            server_name: None,
        };
        let error = EtcdConfig { tls: Some(tls), ..EtcdConfig::new(["a:1"]) }.build().unwrap_err();
        assert!(error.to_string().contains("/nonexistent/ca.pem"), "{error}");
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let error = read(Path::new(manifest), "CERTIFICATE").unwrap_err();
        assert!(error.to_string().contains("no CERTIFICATE"), "{error}");
    }
}
