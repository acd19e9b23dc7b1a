//! For tests: an authority, and certificates that it has signed, in files.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

pub(crate) struct Tls {
    folder: tempfile::TempDir,
    authority: String,
    server: (String, String),
}

impl Tls {
    /// Writes `ca.pem`, `client.pem` and `client.key`.
    pub(crate) fn make() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority");
        let sign = |name: &str| {
            let key = KeyPair::generate().expect("a key");
            let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
            let certificate = params.signed_by(&key, &issuer).expect("signed");
            (certificate.pem(), key.serialize_pem())
        };
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
        let (server, client, authority) = (sign("127.0.0.1"), sign("ann"), issuer.pem());
        write("ca.pem", &authority);
        write("client.pem", &client.0);
        write("client.key", &client.1);
        Self { folder, authority, server }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().expect("text").to_owned()
    }

    pub(crate) fn server(&self) -> ServerTlsConfig {
        let identity = Identity::from_pem(&self.server.0, &self.server.1);
        ServerTlsConfig::new().identity(identity).client_ca_root(Certificate::from_pem(&self.authority))
    }
}
