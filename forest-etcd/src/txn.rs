//! Guarded transactions as plain data, and the arithmetic of putting independent ones into one
//! request. No I/O.
//!
//! Independent transactions travel as the nested transactions of one unguarded outer one. etcd
//! evaluates all guards of such a request before it writes anything, so two transactions may share
//! a request only if neither writes a key that the other one reads, guards or writes: then the
//! result is the same as sending them one after another.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::ops::Range;

use crate::KeyValue;

/// etcd's limit for guards, for operations and for reads of one request.
pub const MAX_OPS: usize = 128;
/// Requests are cut at this size. etcd's own limit is 1.5 MiB, so a larger transaction may still
/// pass on its own.
pub const MAX_BYTES: usize = 1 << 20;

/// What etcd's encoding adds to a key and value, rounded up.
const OP_OVERHEAD: usize = 32;

/// A condition on one key; revision 0 = the key does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guard {
    /// The key came into being at this revision and was not deleted since.
    Created { key: String, revision: i64 },
    /// The key was last written at this revision.
    Modified { key: String, revision: i64 },
}

/// A write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Lease 0 = none. A put without the lease of its key takes the key off that lease.
    Put { key: String, value: Vec<u8>, lease: i64 },
    /// Deleting a key that does not exist is no error.
    Delete { key: String },
}

/// If all guards hold, all operations; otherwise only the reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    pub guards: Vec<Guard>,
    pub ops: Vec<Op>,
    /// Keys to read when a guard fails.
    pub otherwise: Vec<String>,
}

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The guards held and everything is written, at this revision.
    Applied { revision: i64 },
    /// A guard failed and nothing is written. `found` is in the order of [`Txn::otherwise`].
    Refused { revision: i64, found: Vec<Option<KeyValue>> },
    /// The answer was lost: written or not, only reading the keys again will tell.
    Unknown { cause: String },
}

impl Guard {
    pub fn key(&self) -> &str {
        match self {
            Self::Created { key, .. } | Self::Modified { key, .. } => key,
        }
    }
}

impl Op {
    pub fn key(&self) -> &str {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Put { key, value, .. } => key.len() + value.len() + OP_OVERHEAD,
            Self::Delete { key } => key.len() + OP_OVERHEAD,
        }
    }
}

impl Txn {
    pub fn new() -> Self {
        Self::default()
    }

    /// Only if the key came into being at `revision`.
    #[must_use]
    pub fn created(mut self, key: impl Into<String>, revision: i64) -> Self {
        self.guards.push(Guard::Created { key: key.into(), revision });
        self
    }

    /// Only if the key was last written at `revision`.
    #[must_use]
    pub fn modified(mut self, key: impl Into<String>, revision: i64) -> Self {
        self.guards.push(Guard::Modified { key: key.into(), revision });
        self
    }

    /// Only if the key does not exist.
    #[must_use]
    pub fn absent(self, key: impl Into<String>) -> Self {
        self.created(key, 0)
    }

    #[must_use]
    pub fn put(self, key: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.put_leased(key, value, 0)
    }

    /// The key vanishes with the lease.
    #[must_use]
    pub fn put_leased(mut self, key: impl Into<String>, value: impl Into<Vec<u8>>, lease: i64) -> Self {
        self.ops.push(Op::Put { key: key.into(), value: value.into(), lease });
        self
    }

    #[must_use]
    pub fn delete(mut self, key: impl Into<String>) -> Self {
        self.ops.push(Op::Delete { key: key.into() });
        self
    }

    /// Reads the key if a guard fails.
    #[must_use]
    pub fn or_get(mut self, key: impl Into<String>) -> Self {
        self.otherwise.push(key.into());
        self
    }

    /// Nearly its size on the wire, rather too much than too little.
    pub fn bytes(&self) -> usize {
        let guards: usize = self.guards.iter().map(|g| g.key().len() + OP_OVERHEAD).sum();
        let ops: usize = self.ops.iter().map(Op::bytes).sum();
        let reads: usize = self.otherwise.iter().map(|key| key.len() + OP_OVERHEAD).sum();
        guards + ops + reads + OP_OVERHEAD
    }

    /// What etcd counts against [`MAX_OPS`].
    pub fn width(&self) -> usize {
        self.guards.len().max(self.ops.len()).max(self.otherwise.len())
    }

    fn reads(&self) -> impl Iterator<Item = &str> {
        self.guards.iter().map(Guard::key).chain(self.otherwise.iter().map(String::as_str))
    }

    fn writes(&self) -> impl Iterator<Item = &str> {
        self.ops.iter().map(Op::key)
    }
}

/// Keys in use by a set of transactions, to find out who would get in whose way. Told apart by their hashes: two
/// keys with the same one only wait for each other.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    keys: HashMap<u64, Claim>,
}

#[derive(Debug, Default)]
struct Claim {
    readers: u32,
    writers: u32,
}

impl Claims {
    /// Whether the transaction is independent of all that are in the set.
    pub(crate) fn admit(&self, txn: &Txn) -> bool {
        txn.writes().all(|key| !self.keys.contains_key(&self.hash(key)))
            && txn.reads().all(|key| self.keys.get(&self.hash(key)).is_none_or(|claim| claim.writers == 0))
    }

    fn hash(&self, key: &str) -> u64 {
        self.keys.hasher().hash_one(key)
    }

    pub(crate) fn add(&mut self, txn: &Txn) {
        for key in txn.reads() {
            self.claim(key).readers += 1;
        }
        for key in txn.writes() {
            self.claim(key).writers += 1;
        }
    }

    pub(crate) fn remove(&mut self, txn: &Txn) {
        for key in txn.reads() {
            self.release(key, |claim| claim.readers -= 1);
        }
        for key in txn.writes() {
            self.release(key, |claim| claim.writers -= 1);
        }
    }

    fn claim(&mut self, key: &str) -> &mut Claim {
        self.keys.entry(self.hash(key)).or_default()
    }

    fn release(&mut self, key: &str, give_back: impl FnOnce(&mut Claim)) {
        let key = self.hash(key);
        if let Some(claim) = self.keys.get_mut(&key) {
            give_back(claim);
            if claim.readers == 0 && claim.writers == 0 {
                self.keys.remove(&key);
            }
        }
    }
}

/// The size of a request of nested transactions while it is being filled.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Load {
    count: usize,
    widest: usize,
    bytes: usize,
}

impl Load {
    /// The load with one transaction more, or `None` if etcd would refuse that. The first always
    /// fits, because it travels un-nested when it stays alone.
    pub(crate) fn with(self, txn: &Txn) -> Option<Self> {
        let load = Self {
            count: self.count + 1,
            widest: self.widest.max(txn.width()),
            bytes: self.bytes + txn.bytes() + OP_OVERHEAD,
        };
        // etcd takes the width of the outer transaction off what each nested one may have.
        let fits = load.count + load.widest <= MAX_OPS && load.bytes <= MAX_BYTES;
        (fits || self.count == 0).then_some(load)
    }
}

/// Cuts a list of transactions into requests, in order. A range of one is sent as it is; a longer
/// one is sent nested.
pub fn pack(txns: &[Txn]) -> Vec<Range<usize>> {
    let mut requests = Vec::new();
    let mut start = 0;
    let (mut load, mut claims) = (Load::default(), Claims::default());
    for (index, txn) in txns.iter().enumerate() {
        load = match load.with(txn).filter(|_| claims.admit(txn)) {
            Some(load) => load,
            None => {
                requests.push(start..index);
                start = index;
                claims = Claims::default();
                Load::default().with(txn).unwrap_or_default()
            }
        };
        claims.add(txn);
    }
    if start < txns.len() {
        requests.push(start..txns.len());
    }
    requests
}

#[cfg(test)]
#[path = "txn_tests.rs"]
mod tests;
