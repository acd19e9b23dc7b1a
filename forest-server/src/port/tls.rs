//! TLS of the port. Certificates are read again when their files change, without a restart.

use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use forest_etcd::{Clock, SystemClock};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto, version};
use tokio_rustls::server::TlsStream;

/// How often the files are looked at, at most, when somebody connects.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
    /// Authorities of client certificates; without it none is asked for.
    pub client_ca: Option<PathBuf>,
}

/// Accepts TLS connections.
pub(crate) struct Tls {
    files: TlsFiles,
    state: Mutex<State>,
}

struct State {
    acceptor: TlsAcceptor,
    changed: Vec<Option<SystemTime>>,
    /// Since boot.
    looked: Duration,
}

impl TlsFiles {
    fn all(&self) -> impl Iterator<Item = &Path> {
        [&self.cert, &self.key].into_iter().chain(self.client_ca.as_ref()).map(PathBuf::as_path)
    }

    fn changed(&self) -> Vec<Option<SystemTime>> {
        let changed = |path| std::fs::metadata(path).and_then(|metadata: Metadata| metadata.modified()).ok();
        self.all().map(changed).collect()
    }

    fn load(&self) -> anyhow::Result<TlsAcceptor> {
        let file = |what: &'static str, path: &Path| format!("{what}: cannot read {}", path.display());
        let certificates = |what, path: &Path| -> anyhow::Result<Vec<CertificateDer<'static>>> {
            let found: Vec<_> = CertificateDer::pem_file_iter(path)
                .and_then(Iterator::collect)
                .with_context(|| file(what, path))?;
            anyhow::ensure!(!found.is_empty(), "{what}: no certificate in {}", path.display());
            Ok(found)
        };
        let provider = Arc::new(crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates("tls_client_ca_file", path)? {
                    roots.add(certificate).with_context(|| file("tls_client_ca_file", path))?;
                }
                // Whoever shows none has a token or a session.
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
                builder.with_client_cert_verifier(verifier.allow_unauthenticated().build()?)
            }
        };
        let key = PrivateKeyDer::from_pem_file(&self.key).with_context(|| file("tls_key_file", &self.key))?;
        let chain = certificates("tls_cert_file", &self.cert)?;
        let mut config = builder
            .with_single_cert(chain, key)
            .context("tls_cert_file and tls_key_file do not belong together")?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

impl Tls {
    pub(crate) fn new(files: TlsFiles) -> anyhow::Result<Self> {
        let changed = files.changed();
        let state = State { acceptor: files.load()?, changed, looked: SystemClock.boot() };
        Ok(Self { files, state: Mutex::new(state) })
    }

    /// The stream, and the first name in the client's certificate, if it showed one.
    pub(super) async fn accept(
        &self,
        stream: TcpStream,
    ) -> io::Result<(TlsStream<TcpStream>, Option<String>)> {
        let stream = self.acceptor().accept(stream).await?;
        let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let name = shown.and_then(first_name);
        Ok((stream, name))
    }

    /// With the files as they are now; those of before, as long as new ones cannot be used.
    fn acceptor(&self) -> TlsAcceptor {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = SystemClock.boot();
        if now >= state.looked + LOOK_EVERY {
            state.looked = now;
            let changed = self.files.changed();
            if changed != state.changed {
                match self.files.load() {
                    Ok(acceptor) => {
                        tracing::info!("the certificates have been read again");
                        (state.acceptor, state.changed) = (acceptor, changed);
                    }
                    Err(error) => tracing::warn!(
                        error = format!("{error:#}"),
                        "the new certificates cannot be used: going on with those of before"
                    ),
                }
            }
        }
        state.acceptor.clone()
    }
}

/// The first DNS name that a certificate is for.
fn first_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    certificate.valid_dns_names().next().map(str::to_owned)
}
