//! Leases: which keys hang on each, and until when it lasts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::fault::Fault;

/// etcd grants no less, with its usual election timeout.
const MIN_TTL: i64 = 2;
/// And no more.
const MAX_TTL: i64 = 9_000_000_000;
/// Ids that are given count from here: far from the small numbers that people choose.
const FIRST_ID: i64 = 0x0665_0000_0000_0000;
/// One beyond is certainly somebody's choice.
const LAST_ID: i64 = 0x0665_ffff_ffff_ffff;

#[derive(Debug)]
pub(crate) struct Leases {
    leases: BTreeMap<i64, Lease>,
    /// The last id that was given, which is never given again.
    last_id: i64,
}

impl Default for Leases {
    fn default() -> Self {
        Self { leases: BTreeMap::new(), last_id: FIRST_ID }
    }
}

#[derive(Debug)]
pub(crate) struct Lease {
    /// Seconds, as granted.
    pub(crate) ttl: i64,
    pub(crate) ends_at: Duration,
    pub(crate) keys: BTreeSet<Vec<u8>>,
}

fn lasting(ttl: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl).unwrap_or(0))
}

impl Leases {
    pub(crate) fn exists(&self, id: i64) -> bool {
        self.leases.contains_key(&id)
    }

    pub(crate) fn get(&self, id: i64) -> Option<&Lease> {
        self.leases.get(&id)
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = i64> {
        self.leases.keys().copied()
    }

    /// The id and the seconds that are granted; an id of 0 asks for a new one.
    pub(crate) fn grant(&mut self, id: i64, ttl: i64, now: Duration) -> Result<(i64, i64), Fault> {
        if ttl > MAX_TTL {
            return Err(Fault::LeaseTtlTooLarge);
        }
        let id = if id == 0 { self.new_id() } else { id };
        if self.exists(id) {
            return Err(Fault::LeaseExists);
        }
        let ttl = ttl.max(MIN_TTL);
        self.leases.insert(id, Lease { ttl, ends_at: now + lasting(ttl), keys: BTreeSet::new() });
        Ok((id, ttl))
    }

    fn new_id(&mut self) -> i64 {
        loop {
            self.last_id += 1;
            if !self.exists(self.last_id) {
                return self.last_id;
            }
        }
    }

    /// Gives a lease its whole time again; its seconds, or `None` if it is gone.
    pub(crate) fn renew(&mut self, id: i64, now: Duration) -> Option<i64> {
        let lease = self.leases.get_mut(&id).filter(|lease| lease.ends_at > now)?;
        lease.ends_at = now + lasting(lease.ttl);
        Some(lease.ttl)
    }

    /// Takes a lease away; its keys are the caller's to delete.
    pub(crate) fn remove(&mut self, id: i64) -> Option<Lease> {
        self.leases.remove(&id)
    }

    /// A key changes from one lease to another; 0 is none.
    pub(crate) fn move_key(&mut self, key: &[u8], from: i64, to: i64) {
        if from == to {
            return;
        }
        if let Some(lease) = self.leases.get_mut(&from) {
            lease.keys.remove(key);
        }
        if let Some(lease) = self.leases.get_mut(&to) {
            lease.keys.insert(key.to_vec());
        }
    }

    /// The ones whose time is over.
    pub(crate) fn ended(&self, now: Duration) -> Vec<i64> {
        self.leases.iter().filter(|(_, lease)| lease.ends_at <= now).map(|(id, _)| *id).collect()
    }

    /// When the next one ends.
    pub(crate) fn next_end(&self) -> Option<Duration> {
        self.leases.values().map(|lease| lease.ends_at).min()
    }

    /// The last id that was given, or the number before the first.
    pub(crate) fn last_id(&self) -> i64 {
        self.last_id
    }

    /// Puts back a lease of an earlier process, with its whole time.
    pub(crate) fn restore(&mut self, id: i64, ttl: i64, now: Duration) {
        if (FIRST_ID..LAST_ID).contains(&id) {
            self.last_id = self.last_id.max(id);
        }
        self.leases.insert(id, Lease { ttl, ends_at: now + lasting(ttl), keys: BTreeSet::new() });
    }
}
