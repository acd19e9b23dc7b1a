//! The file in which the data outlives the process: one record for each revision, lease and compaction.
//!
//! A record is written when its change is made, so a process that is killed loses nothing; it is forced to the disk
//! some 100 milliseconds later, so a machine that loses power may. When the file has grown to several times what
//! it must say, it is written anew.

mod content;
mod record;

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::SharedClock;
use crate::etcd::Etcd;
use crate::lease::Leases;
use crate::mvcc::{Change, Mvcc};

use content::Content;
use record::Record;

const MAGIC: &[u8] = b"embedded-etcd 2\n";
/// The file is written anew when it is so many times as large as it was then, and this much larger.
const GROWTH: u64 = 4;
const GROWTH_BYTES: u64 = 16 * 1024 * 1024;

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
    file: Arc<File>,
    size: u64,
    /// When it was written anew.
    base: u64,
    unsynced: bool,
    /// Nothing is written any more.
    broken: bool,
}

impl Etcd {
    /// One whose data is kept in a file, which is created if it is not there. Everything comes back as it was, history
    /// included, and leases with their whole time. [`Etcd::run`] forces to the disk what was written.
    ///
    /// # Errors
    /// [`OpenError`] says what is wrong with the file.
    pub fn open(path: impl AsRef<Path>, clock: SharedClock) -> Result<Self, OpenError> {
        let path = path.as_ref().to_owned();
        let failed = |cause| OpenError::Io { path: path.clone(), cause };
        let mut options = OpenOptions::new();
        let file = options.read(true).append(true).create(true).open(&path).map_err(failed)?;
        if !lock(&file, &path).map_err(failed)? {
            return Err(OpenError::InUse { path });
        }
        let mut bytes = Vec::new();
        (&file).read_to_end(&mut bytes).map_err(failed)?;
        if !MAGIC.starts_with(&bytes[..bytes.len().min(MAGIC.len())]) {
            return Err(OpenError::Foreign { path });
        }
        let (content, whole) =
            read(&bytes, clock.now()).map_err(|at| OpenError::Damaged { path: path.clone(), at })?;
        if whole < bytes.len() {
            tracing::warn!(path = %path.display(), lost = bytes.len() - whole, "cut off what was not written whole");
            file.set_len(whole as u64).map_err(failed)?;
        }
        if whole == 0 {
            (&file).write_all(MAGIC).map_err(failed)?;
        }
        let size = whole.max(MAGIC.len()) as u64;
        let journal = Journal { path, file: Arc::new(file), size, base: size, unsynced: true, broken: false };
        let (mvcc, leases) = content.restore();
        Ok(Self::with(mvcc, leases, Some(journal), clock))
    }
}

/// Whether the file is ours now, and still the one at the path: another process may just have written it anew.
fn lock(file: &File, path: &Path) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(file.metadata()?.ino() == std::fs::metadata(path)?.ino()),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(cause)) => Err(cause),
    }
}

/// The content and how many bytes are whole records, or where it is damaged.
fn read(bytes: &[u8], now: Duration) -> Result<(Content, usize), usize> {
    let mut content = Content::new(now);
    if bytes.len() < MAGIC.len() {
        return Ok((content, 0));
    }
    let mut at = MAGIC.len();
    while let Some((body, length)) = record::next(&bytes[at..]).map_err(|record::Damaged| at)? {
        let record = Record::decode(body).ok_or(at)?;
        content.apply(record).ok_or(at)?;
        at += length;
    }
    Ok((content, at))
}

impl Journal {
    pub(crate) fn changed(&mut self, (revision, changes): &(i64, Vec<Change>)) {
        self.append(&Record::changed(*revision, changes));
    }

    pub(crate) fn granted(&mut self, id: i64, ttl: i64) {
        self.append(&Record::Granted { id, ttl });
    }

    pub(crate) fn revoked(&mut self, id: i64) {
        self.append(&Record::Revoked { id });
    }

    pub(crate) fn compacted(&mut self, revision: i64) {
        self.append(&Record::Compacted { revision });
    }

    fn append(&mut self, record: &Record) {
        if self.broken {
            return;
        }
        let record = record.encode();
        let written = self.file.as_ref().write_all(&record);
        self.size += record.len() as u64;
        self.unsynced = true;
        self.check(written, "write");
    }

    /// Goes on in memory alone: whoever develops with it would rather work on.
    pub(crate) fn check(&mut self, done: io::Result<()>, doing: &'static str) {
        if let Err(error) = done {
            tracing::error!(path = %self.path.display(), %error, doing, "nothing is kept from now on");
            self.broken = true;
        }
    }

    /// Writes the file anew if it has grown.
    pub(crate) fn tidy(&mut self, mvcc: &Mvcc, leases: &Leases) {
        if self.size > GROWTH * self.base + GROWTH_BYTES && !self.broken {
            let renewed = self.renew(mvcc, leases);
            self.check(renewed, "write anew");
        }
    }

    /// The file, if it has something that is not on the disk yet.
    pub(crate) fn take_unsynced(&mut self) -> Option<Arc<File>> {
        let unsynced = std::mem::take(&mut self.unsynced) && !self.broken;
        unsynced.then(|| Arc::clone(&self.file))
    }

    fn renew(&mut self, mvcc: &Mvcc, leases: &Leases) -> io::Result<()> {
        let mut name = self.path.clone().into_os_string();
        name.push(".new");
        let new = PathBuf::from(name);
        // One that a crash left behind is of no use.
        let _ = std::fs::remove_file(&new);
        let file = OpenOptions::new().read(true).append(true).create_new(true).open(&new)?;
        file.try_lock().map_err(io::Error::from)?;
        let mut out = io::BufWriter::new(&file);
        out.write_all(MAGIC)?;
        let mut size = MAGIC.len();
        for record in content::everything(mvcc, leases) {
            let record = record.encode();
            out.write_all(&record)?;
            size += record.len();
        }
        out.flush()?;
        drop(out);
        file.sync_data()?;
        std::fs::rename(&new, &self.path)?;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
        self.file = Arc::new(file);
        self.size = size as u64;
        self.base = self.size;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_replaced_meanwhile_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let (path, new) = (folder.path().join("data"), folder.path().join("new"));
        let opened = File::create(&path).unwrap();
        assert!(lock(&opened, &path).unwrap());
        opened.unlock().unwrap();
        File::create(&new).unwrap();
        std::fs::rename(&new, &path).unwrap();
        assert!(!lock(&opened, &path).unwrap());
    }
}
