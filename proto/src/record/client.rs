//! A registration: `client/{group}/clients/{client}`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::is_default;
use crate::name::TargetName;
use crate::time::Instant;

/// How many runs at once a client is thought to take that does not say.
pub const DEFAULT_CAPACITY: u32 = 16;

/// What a client says of itself.
///
/// The original's SDKs write their bare name instead of a document; that reads as a client that serves
/// every target.
///
/// ```
/// use forest_proto::record::{ClientRecord, DEFAULT_CAPACITY};
/// let old = ClientRecord::read(b"192.168.1.1").unwrap();
/// assert_eq!((old.name.as_str(), old.targets.as_ref(), old.capacity), ("192.168.1.1", None, DEFAULT_CAPACITY));
/// assert_eq!(ClientRecord::read(&old.write()), Some(old));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientRecord {
    /// A name for people; several clients may share it.
    pub name: String,
    /// Where it runs.
    #[serde(default)]
    pub address: String,
    /// How many runs it executes at once.
    #[serde(default = "default_capacity")]
    pub capacity: u32,
    /// The targets it serves. `None`: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets: Option<Vec<TargetName>>,
    /// Labels that a job may ask for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Version of its SDK.
    #[serde(default)]
    pub version: String,
    /// When it registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Instant>,
    /// The time to live of its lease, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// It finishes what it runs and takes nothing new.
    #[serde(default, skip_serializing_if = "is_default")]
    pub draining: bool,
}

fn default_capacity() -> u32 {
    DEFAULT_CAPACITY
}

impl ClientRecord {
    /// Reads a document or a bare name. `None` for what is neither: broken JSON, or not printable text
    /// of at most 256 bytes.
    #[must_use]
    pub fn read(value: &[u8]) -> Option<Self> {
        if value.trim_ascii_start().starts_with(b"{") {
            return serde_json::from_slice(value).ok();
        }
        let text = std::str::from_utf8(value).ok()?.trim().trim_matches('"');
        let printable = text.len() <= 256 && !text.chars().any(char::is_control);
        printable.then(|| Self {
            name: text.to_owned(),
            address: text.to_owned(),
            capacity: DEFAULT_CAPACITY,
            targets: None,
            labels: BTreeMap::new(),
            version: String::new(),
            started_at: None,
            ttl_ms: None,
            draining: false,
        })
    }

    /// The document.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        super::encode(self)
    }
}
