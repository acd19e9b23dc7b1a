//! Secrets: random ones of tokens and sessions, and the hashes of passwords.

use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use forest_proto::SecretId;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// What every token begins with, so that scanners for leaked secrets know one.
const PREFIX: &str = "forest_";
const ID_BYTES: usize = 8;
const SECRET_BYTES: usize = 32;

/// A new secret, in the only place where it can be read.
pub(crate) struct Secret {
    pub(crate) id: SecretId,
    /// What its owner keeps: `forest_{id}_{secret}`.
    pub(crate) text: String,
    /// What is stored.
    pub(crate) hash: String,
}

impl Secret {
    /// 256 random bits from the operating system.
    pub(crate) fn random() -> Result<Self, getrandom::Error> {
        let (mut id, mut secret) = ([0; ID_BYTES], [0; SECRET_BYTES]);
        getrandom::fill(&mut id)?;
        getrandom::fill(&mut secret)?;
        let (id, secret) = (hex(&id), BASE64_URL_SAFE_NO_PAD.encode(secret));
        let hash = hash_text(&secret);
        let text = format!("{PREFIX}{id}_{secret}");
        let id = SecretId::new(id).unwrap_or_else(|_| unreachable!("hexadecimal digits are a valid id"));
        Ok(Self { id, text, hash })
    }

    /// The id and the secret of such a text.
    pub(crate) fn split(text: &str) -> Option<(SecretId, &str)> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        Some((SecretId::new(id).ok()?, secret))
    }
}

/// The SHA-256 of a text, in hexadecimal digits.
pub(crate) fn hash_text(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

/// Whether a secret has this hash; how long that takes says nothing.
pub(super) fn matches(secret: &str, hash: &str) -> bool {
    hash_text(secret).as_bytes().ct_eq(hash.as_bytes()).into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The argon2id hash of a password. Takes tens of milliseconds and 19 MiB: not on a task's thread.
pub(crate) fn hash_password(password: &str) -> Result<String, String> {
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).map_err(|error| error.to_string())?;
    let salt = SaltString::encode_b64(&salt).map_err(|error| error.to_string())?;
    let hash = Argon2::default().hash_password(password.as_bytes(), &salt);
    Ok(hash.map_err(|error| error.to_string())?.to_string())
}

/// As long, and the same for one that cannot be read.
pub(super) fn password_matches(password: &str, hash: &str) -> bool {
    PasswordHash::new(hash)
        .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_known_by_its_hash_alone() {
        let secret = Secret::random().expect("random");
        let (id, text) = Secret::split(&secret.text).expect("one of ours");
        assert_eq!(id, secret.id);
        assert!(matches(text, &secret.hash) && !matches("other", &secret.hash) && !matches(text, ""));
        assert!(!secret.hash.contains(text));
        assert_ne!(Secret::random().expect("random").text, secret.text);
        for text in ["", "forest_", "forest_a", "Bearer x", "forest_/_x"] {
            assert!(Secret::split(text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn passwords_are_argon2id() {
        let hash = hash_password("correct horse").expect("hashed");
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(password_matches("correct horse", &hash));
        assert!(!password_matches("correct horsE", &hash) && !password_matches("x", "no hash"));
    }
}
