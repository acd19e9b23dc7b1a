//! The file in which the data outlives the process: one record for each revision, and for each lease.
//!
//! A record is written when its change is made, so a process that is killed loses nothing; it is forced to the disk
//! some milliseconds later, so a machine that loses power may. The history is not kept: who watches from an
//! earlier revision after a restart hears that it was compacted. When the file has grown to several times what is
//! alive, it is written anew.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use etcd_client::proto::{PbEvent, PbKeyValue, PbLeaseGrantResponse, PbLeaseRevokeRequest, PbWatchResponse};
use prost::Message;

use crate::clock::SharedClock;
use crate::etcd::{Etcd, header};
use crate::lease::Leases;
use crate::mvcc::{Change, Live, Mvcc, Version};

const MAGIC: &[u8] = b"embedded-etcd 1\n";
/// Length and checksum.
const HEAD: usize = 8;
const CHANGED: u8 = 1;
const GRANTED: u8 = 2;
const REVOKED: u8 = 3;
/// Between two times that the file is forced to the disk.
const SYNC_EVERY: Duration = Duration::from_millis(100);
/// The file is written anew when it is so many times as large as it was then, and this much larger.
const GROWTH: u64 = 4;
const GROWTH_BYTES: u64 = 16 * 1024 * 1024;
/// Keys of one record of a file that is written anew.
const KEYS_A_RECORD: usize = 1_000;

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It cannot be read or written.
    #[error("{path}: {cause}")]
    Io { path: PathBuf, cause: io::Error },
    /// Another process has it.
    #[error("{path} is in use by another process")]
    InUse { path: PathBuf },
    /// It is not one of ours.
    #[error("{path} is no data of an embedded etcd: choose another file")]
    Foreign { path: PathBuf },
    /// A record in the middle cannot be understood. One at the end would be what a crash leaves.
    #[error("{path} is damaged at byte {at}: restore it from a copy, or move it away and begin anew")]
    Damaged { path: PathBuf, at: usize },
}

pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    size: u64,
    /// When it was written anew.
    base: u64,
    unsynced: bool,
    broken: bool,
}

impl Etcd {
    /// One whose data is kept in a file, which is created if it is not there. Leases come back with their whole
    /// time.
    ///
    /// # Errors
    /// [`OpenError`] says what is wrong with the file.
    pub fn open(path: impl AsRef<Path>, clock: SharedClock) -> Result<Self, OpenError> {
        let path = path.as_ref().to_owned();
        let failed = |cause| OpenError::Io { path: path.clone(), cause };
        let mut options = OpenOptions::new();
        let file = options.read(true).append(true).create(true).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse { path }),
            Err(TryLockError::Error(cause)) => return Err(failed(cause)),
        }
        let mut bytes = Vec::new();
        (&file).read_to_end(&mut bytes).map_err(failed)?;
        if !MAGIC.starts_with(&bytes[..bytes.len().min(MAGIC.len())]) {
            return Err(OpenError::Foreign { path });
        }
        let (content, whole) = read(&bytes, &path)?;
        if whole < bytes.len() {
            tracing::warn!(path = %path.display(), lost = bytes.len() - whole, "cut off what was not written whole");
            file.set_len(whole as u64).map_err(failed)?;
        }
        if whole == 0 {
            (&file).write_all(MAGIC).map_err(failed)?;
        }
        let size = whole.max(MAGIC.len()) as u64;
        let journal = Journal { path, file, size, base: size, unsynced: true, broken: false };
        let (mvcc, leases) = content.restore(clock.now());
        Ok(Self::with(mvcc, leases, Some(journal), clock))
    }
}

/// What a file says.
#[derive(Default)]
struct Content {
    revision: i64,
    keys: BTreeMap<Vec<u8>, Version>,
    leases: BTreeMap<i64, i64>,
}

/// The content, and how many bytes are whole records.
fn read(bytes: &[u8], path: &Path) -> Result<(Content, usize), OpenError> {
    let mut content = Content { revision: 1, ..Content::default() };
    if bytes.len() < MAGIC.len() {
        return Ok((content, 0));
    }
    let mut at = MAGIC.len();
    while let Some((record, end)) = record_at(bytes, at) {
        let understood = record.is_some_and(|record| content.apply(record).is_some());
        match understood {
            true => at = end,
            // The last thing that a process did.
            false if end >= bytes.len() => break,
            false => return Err(OpenError::Damaged { path: path.to_owned(), at }),
        }
    }
    Ok((content, at))
}

/// The record at a place and where it ends; `Some((None, ..))` if it does not match its checksum.
fn record_at(bytes: &[u8], at: usize) -> Option<(Option<&[u8]>, usize)> {
    let head = bytes.get(at..at + HEAD)?;
    let (length, sum) = head.split_at(HEAD / 2);
    let length = u32::from_le_bytes(length.try_into().ok()?) as usize;
    let end = at + HEAD + length;
    let record = bytes.get(at + HEAD..end);
    let matches = record.is_some_and(|record| crc32fast::hash(record).to_le_bytes() == sum);
    Some((record.filter(|_| matches), end))
}

impl Content {
    fn apply(&mut self, record: &[u8]) -> Option<()> {
        let (kind, message) = record.split_first()?;
        match *kind {
            CHANGED => {
                let changed = PbWatchResponse::decode(message).ok()?;
                self.revision = self.revision.max(changed.header?.revision);
                for event in changed.events {
                    let kv = event.kv?;
                    match kv.version {
                        0 => drop(self.keys.remove(&kv.key)),
                        _ => drop(self.keys.insert(kv.key.clone(), version(kv))),
                    }
                }
            }
            GRANTED => {
                let granted = PbLeaseGrantResponse::decode(message).ok()?;
                self.leases.insert(granted.id, granted.ttl);
            }
            REVOKED => {
                self.leases.remove(&PbLeaseRevokeRequest::decode(message).ok()?.id);
            }
            _ => return None,
        }
        Some(())
    }

    fn restore(self, now: Duration) -> (Mvcc, Leases) {
        let (mut mvcc, mut leases) = (Mvcc::new(), Leases::default());
        for (id, ttl) in self.leases {
            leases.restore(id, ttl, now);
        }
        for (key, version) in &self.keys {
            leases.move_key(key, 0, version.live.as_ref().map_or(0, |live| live.lease));
        }
        mvcc.restore(self.revision, self.keys.into_iter());
        (mvcc, leases)
    }
}

fn version(kv: PbKeyValue) -> Version {
    let PbKeyValue { value, create_revision, mod_revision, version, lease, .. } = kv;
    let live = Live { value: value.into(), create_revision, version, lease };
    Version { revision: mod_revision, live: Some(live) }
}

impl Journal {
    pub(crate) fn changed(&mut self, changes: &[Change]) {
        let revision = changes.first().map_or(0, |change| change.after.revision);
        let kv = |change: &Change| change.after.message(&change.key);
        self.append(&encode(CHANGED, &of_keys(revision, changes.iter().map(kv))));
    }

    pub(crate) fn granted(&mut self, id: i64, ttl: i64) {
        self.append(&encode(GRANTED, &PbLeaseGrantResponse { id, ttl, ..PbLeaseGrantResponse::default() }));
    }

    pub(crate) fn revoked(&mut self, id: i64) {
        self.append(&encode(REVOKED, &PbLeaseRevokeRequest { id }));
    }

    fn append(&mut self, record: &[u8]) {
        if self.broken {
            return;
        }
        let written = self.file.write_all(record);
        self.size += record.len() as u64;
        self.unsynced = true;
        self.check(written, "write");
    }

    /// Goes on in memory alone: whoever develops with it would rather work on.
    fn check(&mut self, done: io::Result<()>, doing: &'static str) {
        if let Err(error) = done {
            tracing::error!(path = %self.path.display(), %error, doing, "nothing is kept from now on");
            self.broken = true;
        }
    }

    /// Forces to the disk what was written, and writes the file anew if it has grown; when to come again.
    pub(crate) fn flush(&mut self, mvcc: &Mvcc, leases: &Leases) -> Duration {
        if self.size > GROWTH * self.base + GROWTH_BYTES && !self.broken {
            let renewed = self.renew(mvcc, leases);
            self.check(renewed, "write anew");
        }
        if std::mem::take(&mut self.unsynced) && !self.broken {
            let synced = self.file.sync_data();
            self.check(synced, "sync");
        }
        SYNC_EVERY
    }

    fn renew(&mut self, mvcc: &Mvcc, leases: &Leases) -> io::Result<()> {
        let new = self.path.with_extension("new");
        let file = OpenOptions::new().append(true).create(true).open(&new)?;
        file.set_len(0)?;
        file.try_lock().map_err(io::Error::from)?;
        let mut bytes = MAGIC.to_vec();
        for id in leases.ids() {
            let ttl = leases.get(id).map_or(0, |lease| lease.ttl);
            bytes.extend(encode(
                GRANTED,
                &PbLeaseGrantResponse { id, ttl, ..PbLeaseGrantResponse::default() },
            ));
        }
        let keys: Vec<PbKeyValue> = mvcc
            .live()
            .map(|(key, revision, live)| Version { revision, live: Some(live.clone()) }.message(key))
            .collect();
        for part in keys.chunks(KEYS_A_RECORD) {
            bytes.extend(encode(CHANGED, &of_keys(mvcc.revision(), part.iter().cloned())));
        }
        bytes.extend(encode(CHANGED, &of_keys(mvcc.revision(), std::iter::empty())));
        (&file).write_all(&bytes)?;
        file.sync_data()?;
        std::fs::rename(&new, &self.path)?;
        self.file = file;
        self.size = bytes.len() as u64;
        self.base = self.size;
        Ok(())
    }
}

fn of_keys(revision: i64, keys: impl Iterator<Item = PbKeyValue>) -> PbWatchResponse {
    let events = keys.map(|kv| PbEvent { kv: Some(kv), ..PbEvent::default() }).collect();
    PbWatchResponse { header: header(revision), events, ..PbWatchResponse::default() }
}

fn encode(kind: u8, message: &impl Message) -> Vec<u8> {
    let mut record = vec![kind];
    record.extend(message.encode_to_vec());
    let length = u32::try_from(record.len()).unwrap_or(u32::MAX);
    let mut framed = length.to_le_bytes().to_vec();
    framed.extend(crc32fast::hash(&record).to_le_bytes());
    framed.append(&mut record);
    framed
}
