//! TLS between real processes: on the port, to etcd and to the database; and callers who are slow on purpose.

mod database;
mod etcd;
mod port;
mod slow;

use std::path::Path;
use std::sync::Arc;

use forest_tests::services::{Authority, Signed};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("a path of ASCII characters")
}

/// How a client knows its server, and what it shows.
pub(crate) fn config(trusted: &Authority, shown: Option<&Signed>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(trusted.file()).expect("a file") {
        roots.add(certificate.expect("a certificate")).expect("an authority");
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    let Some(shown) = shown else { return builder.with_no_client_auth() };
    let chain = CertificateDer::pem_file_iter(&shown.cert).expect("a file");
    let key = PrivateKeyDer::from_pem_file(&shown.key).expect("a key");
    let chain = chain.collect::<Result<_, _>>().expect("certificates");
    builder.with_client_auth_cert(chain, key).expect("they belong together")
}

/// What a server shows.
pub(crate) fn served(shown: &Signed) -> ServerConfig {
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().expect("versions").with_no_client_auth();
    let chain = CertificateDer::pem_file_iter(&shown.cert).expect("a file");
    let key = PrivateKeyDer::from_pem_file(&shown.key).expect("a key");
    builder
        .with_single_cert(chain.collect::<Result<_, _>>().expect("certificates"), key)
        .expect("they belong together")
}

/// A new connection for each request: what a server shows now is what counts.
fn client(trusted: &Authority, shown: Option<&Signed>) -> reqwest::Client {
    let builder = reqwest::Client::builder().timeout(crate::http::PATIENCE).pool_max_idle_per_host(0);
    builder.tls_backend_preconfigured(config(trusted, shown)).build().expect("a client")
}
