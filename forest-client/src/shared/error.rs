//! What can go wrong with what handlers share.

use forest_proto::NameError;

/// Why something shared could not be read or written. Unless a variant says otherwise, nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SharedError {
    /// A name cannot be used. Correct it.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A setting cannot be used. Correct it.
    #[error("{setting}: {reason}")]
    Setting {
        /// The method that takes it.
        setting: &'static str,
        /// What is wrong and what is allowed.
        reason: String,
    },
    /// A value is larger than 64 KiB. Put it elsewhere, and a reference to it here.
    #[error("{what} has {bytes} bytes; {} are allowed", forest_proto::record::MAX_VALUE)]
    TooLarge {
        /// The item or entry.
        what: String,
        /// Its size.
        bytes: usize,
    },
    /// The queue has as many items as it may have. Push again later.
    #[error("queue {queue} is full: it has {max} items, and no more are allowed")]
    QueueFull {
        /// Its name.
        queue: String,
        /// The [`max_length`](super::Queue::max_length) it was pushed with.
        max: u64,
    },
    /// Somebody else has the lock and patience is over.
    #[error("lock {lock} is held by somebody else")]
    Busy {
        /// Its name.
        lock: String,
    },
    /// The entry is not at the version that was expected. Read it again and decide again.
    #[error("entry {key} was changed meanwhile: expected version {expected}, found {found}")]
    Conflict {
        /// The entry's key.
        key: String,
        /// As the caller said; 0 = absent.
        expected: i64,
        /// The version in etcd; 0 = absent.
        found: i64,
    },
    /// What this depends on is not held any more: the lock has reached its limit or was released, or the item
    /// has gone back into the queue. Somebody else may have it by now; stop what depends on it.
    #[error("{what} is not held any more")]
    NotHeld {
        /// The lock or item.
        what: String,
    },
    /// There is no lease that a lock or a claim could hang on: the worker is not running, is cut off from etcd,
    /// or this run's registration has ended.
    #[error("the worker has no lease at the moment: it is not running, or cut off from etcd")]
    NoLease,
    /// The answer of etcd was lost, and reading could not tell what became of the write: **it may have been
    /// applied.** Only possible while etcd or the network is failing.
    #[error("{what}: it is unknown whether this was written: {cause}")]
    Uncertain {
        /// What was to be written.
        what: String,
        /// Why the answer was lost.
        cause: String,
    },
    /// What was read is not what this library writes. Somebody has to look at that key.
    #[error("cannot read {key}: {cause}")]
    Unreadable {
        /// In etcd.
        key: String,
        /// What is wrong.
        cause: String,
    },
    /// etcd cannot be reached or refuses. Certainly nothing was written.
    #[error("etcd: {0}")]
    Etcd(#[from] forest_etcd::Error),
}

impl SharedError {
    pub(super) fn setting(setting: &'static str, reason: impl Into<String>) -> Self {
        Self::Setting { setting, reason: reason.into() }
    }
}
