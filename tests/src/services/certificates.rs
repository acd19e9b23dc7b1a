//! Authorities, and certificates that they have signed, in PEM files.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use super::DataDir;
use crate::names::unique;

/// Somebody whom programs are told to trust.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    file: PathBuf,
    signed: AtomicU32,
    folder: DataDir,
}

/// A certificate and its key, as files that live as long as their authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Authority {
    /// One that nobody has heard of.
    ///
    /// # Panics
    /// If its files cannot be written.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, unique("authority"));
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority");
        let folder = DataDir::new("certificates");
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, issuer.pem()).expect("written");
        Self { issuer, file, signed: AtomicU32::new(0), folder }
    }

    /// The file with its own certificate.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// A certificate for these names and addresses, in files of its own. The first one is also its common name.
    ///
    /// # Panics
    /// If a name is none, or the files cannot be written.
    pub fn sign(&self, names: &[&str]) -> Signed {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let common = names.first().cloned().unwrap_or_else(|| "nobody".into());
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name.push(DnType::CommonName, common);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        let number = self.signed.fetch_add(1, Ordering::Relaxed);
        let write = |end: &str, text: String| {
            let file = self.folder.path().join(format!("{number}.{end}"));
            std::fs::write(&file, text).expect("written");
            file
        };
        Signed { cert: write("pem", certificate.pem()), key: write("key", key.serialize_pem()) }
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Signed {
    /// Puts this certificate and key where another one's are, as renewing programs do: each file at once.
    ///
    /// # Panics
    /// If the files cannot be written.
    pub fn replace(&self, other: &Self) {
        for (new, old) in [(&self.key, &other.key), (&self.cert, &other.cert)] {
            let beside = old.with_extension("new");
            std::fs::copy(new, &beside).expect("copied");
            std::fs::rename(&beside, old).expect("renamed");
        }
    }
}
