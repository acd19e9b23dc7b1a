//! One record: its length, a checksum of the length, a checksum of the rest, a kind, a message.
//!
//! The length has a checksum of its own, because a wrong one would make all that follows look like a record that was
//! not written whole.

use etcd_client::proto::{
    PbCompactionRequest, PbEvent, PbKeyValue, PbLeaseGrantResponse, PbLeaseRevokeRequest, PbWatchResponse,
};
use prost::Message;

use crate::etcd::header;
use crate::mvcc::{Change, Live, Version};

/// Length and two checksums, of four bytes each.
const HEAD: usize = 12;
const CHANGED: u8 = 1;
const GRANTED: u8 = 2;
const REVOKED: u8 = 3;
const COMPACTED: u8 = 4;
const ALIVE: u8 = 5;

pub(super) type Keys = Vec<(Vec<u8>, Version)>;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Record {
    Changed {
        revision: i64,
        keys: Keys,
    },
    Granted {
        id: i64,
        ttl: i64,
    },
    Revoked {
        id: i64,
    },
    Compacted {
        revision: i64,
    },
    /// A part of what was alive at the compacted revision. Only at the beginning of a file.
    Alive {
        compacted: i64,
        keys: Keys,
    },
}

/// Neither a record nor what a crash leaves of one.
#[derive(Debug, PartialEq)]
pub(super) struct Damaged;

/// The first record and its length with its head; `None` at the end, or if the rest was not written whole.
pub(super) fn next(bytes: &[u8]) -> Result<Option<(&[u8], usize)>, Damaged> {
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
    let Some((of_length, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
    let Some((of_body, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
    if crc32fast::hash(length).to_le_bytes() != *of_length {
        // A machine that lost power may have made the file longer without writing it.
        return if bytes.iter().all(|byte| *byte == 0) { Ok(None) } else { Err(Damaged) };
    }
    let length = u32::from_le_bytes(*length) as usize;
    let Some((body, after)) = rest.split_at_checked(length) else { return Ok(None) };
    if crc32fast::hash(body).to_le_bytes() != *of_body {
        return if after.iter().all(|byte| *byte == 0) { Ok(None) } else { Err(Damaged) };
    }
    Ok(Some((body, HEAD + length)))
}

impl Record {
    pub(super) fn changed(revision: i64, changes: &[Change]) -> Self {
        let keys = changes.iter().map(|change| (change.key.to_vec(), change.after.clone()));
        Self::Changed { revision, keys: keys.collect() }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let (kind, message) = match self {
            Self::Changed { revision, keys } => (CHANGED, of_keys(*revision, keys)),
            Self::Granted { id, ttl } => {
                (GRANTED, PbLeaseGrantResponse { id: *id, ttl: *ttl, ..Default::default() }.encode_to_vec())
            }
            Self::Revoked { id } => (REVOKED, PbLeaseRevokeRequest { id: *id }.encode_to_vec()),
            Self::Compacted { revision } => {
                (COMPACTED, PbCompactionRequest { revision: *revision, physical: false }.encode_to_vec())
            }
            Self::Alive { compacted, keys } => (ALIVE, of_keys(*compacted, keys)),
        };
        let body = [&[kind], message.as_slice()].concat();
        // A request is far smaller than 4 GiB.
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes();
        let sums = [crc32fast::hash(&length), crc32fast::hash(&body)].map(u32::to_le_bytes);
        [&length[..], &sums.concat(), &body].concat()
    }

    pub(super) fn decode(body: &[u8]) -> Option<Self> {
        let (kind, message) = body.split_first()?;
        Some(match *kind {
            CHANGED => {
                let (revision, keys) = to_keys(message)?;
                Self::Changed { revision, keys }
            }
            GRANTED => {
                let PbLeaseGrantResponse { id, ttl, .. } = Message::decode(message).ok()?;
                Self::Granted { id, ttl }
            }
            REVOKED => Self::Revoked { id: PbLeaseRevokeRequest::decode(message).ok()?.id },
            COMPACTED => Self::Compacted { revision: PbCompactionRequest::decode(message).ok()?.revision },
            ALIVE => {
                let (compacted, keys) = to_keys(message)?;
                Self::Alive { compacted, keys }
            }
            _ => return None,
        })
    }
}

fn of_keys(revision: i64, keys: &Keys) -> Vec<u8> {
    let event = |(key, version): &(Vec<u8>, Version)| PbEvent {
        kv: Some(version.message(key)),
        ..PbEvent::default()
    };
    let events = keys.iter().map(event).collect();
    PbWatchResponse { header: header(revision), events, ..PbWatchResponse::default() }.encode_to_vec()
}

fn to_keys(message: &[u8]) -> Option<(i64, Keys)> {
    let message = PbWatchResponse::decode(message).ok()?;
    let keys = message.events.into_iter().map(|event| event.kv.map(version)).collect::<Option<_>>()?;
    Some((message.header?.revision, keys))
}

/// A key that exists has been written at least once.
fn version(kv: PbKeyValue) -> (Vec<u8>, Version) {
    let PbKeyValue { key, value, create_revision, mod_revision, version, lease } = kv;
    let live = Live { value: value.into(), create_revision, version, lease };
    (key, Version { revision: mod_revision, live: (version > 0).then_some(live) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys() -> impl Strategy<Value = Keys> {
        let live = (prop::collection::vec(any::<u8>(), 0..20), 1..9_i64, 1..9_i64, 0..9_i64);
        let key = (prop::collection::vec(any::<u8>(), 1..5), 1..99_i64, prop::option::of(live));
        let key = key.prop_map(|(key, revision, live)| {
            let live = live.map(|(value, create_revision, version, lease)| Live {
                value: value.into(),
                create_revision,
                version,
                lease,
            });
            (key, Version { revision, live })
        });
        prop::collection::vec(key, 0..4)
    }

    fn record() -> impl Strategy<Value = Record> {
        prop_oneof![
            (any::<i64>(), keys()).prop_map(|(revision, keys)| Record::Changed { revision, keys }),
            (any::<i64>(), any::<i64>()).prop_map(|(id, ttl)| Record::Granted { id, ttl }),
            any::<i64>().prop_map(|id| Record::Revoked { id }),
            any::<i64>().prop_map(|revision| Record::Compacted { revision }),
            (any::<i64>(), keys()).prop_map(|(compacted, keys)| Record::Alive { compacted, keys }),
        ]
    }

    proptest! {
        #[test]
        fn a_record_is_read_as_it_was_written(record in record(), rest in any::<[u8; 3]>()) {
            let bytes = record.encode();
            let followed = [&bytes[..], &rest].concat();
            let (body, length) = next(&followed).unwrap().unwrap();
            prop_assert_eq!(length, bytes.len());
            prop_assert_eq!(Record::decode(body), Some(record));
        }

        #[test]
        fn a_part_of_a_record_is_no_record_and_no_damage(record in record(), cut in any::<prop::sample::Index>()) {
            let bytes = record.encode();
            prop_assert_eq!(next(&bytes[..cut.index(bytes.len())]), Ok(None));
        }

        #[test]
        fn a_wrong_bit_before_another_record_is_damage(record in record(), bit in any::<prop::sample::Index>()) {
            let bytes = record.encode();
            let mut damaged = [&bytes[..], &bytes].concat();
            let bit = bit.index(bytes.len() * 8);
            damaged[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(next(&damaged), Err(Damaged));
        }
    }
}
