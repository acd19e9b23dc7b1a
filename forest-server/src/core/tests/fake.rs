//! etcd in memory: revisions, guarded transactions, a log of changes, and the limits of a request.

use std::collections::{BTreeMap, BTreeSet};

use forest_etcd::{Change, Guard, KeyValue, Op, Outcome, Txn};

const MAX_OPS: usize = 128;
const MAX_REQUEST: usize = 1536 * 1024;

pub(super) struct Fake {
    keys: BTreeMap<String, KeyValue>,
    revision: i64,
    /// The changes of each revision, in the order of the operations.
    log: Vec<(i64, Vec<Change>)>,
}

impl Default for Fake {
    fn default() -> Self {
        // An empty etcd is at revision 1.
        Self { keys: BTreeMap::new(), revision: 1, log: Vec::new() }
    }
}

impl Fake {
    pub(super) fn revision(&self) -> i64 {
        self.revision
    }

    pub(super) fn get(&self, key: &str) -> Option<&KeyValue> {
        self.keys.get(key)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &KeyValue> {
        self.keys.values()
    }

    /// The changes after a revision, one batch for each revision.
    pub(super) fn after(&self, revision: i64) -> &[(i64, Vec<Change>)] {
        let from = self.log.partition_point(|(at, _)| *at <= revision);
        &self.log[from..]
    }

    /// A listing of everything.
    pub(super) fn listing(&self) -> Vec<Change> {
        let listed = self.keys.values().cloned().map(Change::Listed);
        let end = Change::ListEnded { revision: self.revision };
        std::iter::once(Change::ListStarted).chain(listed).chain([end]).collect()
    }

    /// An error is a request that etcd refuses as such.
    pub(super) fn commit(&mut self, txn: &Txn) -> Result<Outcome, String> {
        check_limits(txn)?;
        if !txn.guards.iter().all(|guard| self.holds(guard)) {
            let found = txn.otherwise.iter().map(|key| self.keys.get(key).cloned()).collect();
            return Ok(Outcome::Refused { revision: self.revision, found });
        }
        let revision = self.revision + 1;
        let changes: Vec<_> = txn.ops.iter().filter_map(|op| self.write(op, revision)).collect();
        if !changes.is_empty() {
            self.revision = revision;
            self.log.push((revision, changes));
        }
        Ok(Outcome::Applied { revision: self.revision })
    }

    fn holds(&self, guard: &Guard) -> bool {
        let found = self.keys.get(guard.key());
        match guard {
            Guard::Created { revision, .. } => found.map_or(0, |kv| kv.create_revision) == *revision,
            Guard::Modified { revision, .. } => found.map_or(0, |kv| kv.mod_revision) == *revision,
        }
    }

    fn write(&mut self, op: &Op, revision: i64) -> Option<Change> {
        match op {
            Op::Put { key, value, lease } => {
                let before = self.keys.get(key);
                let kv = KeyValue {
                    key: key.clone(),
                    value: value.clone(),
                    create_revision: before.map_or(revision, |kv| kv.create_revision),
                    mod_revision: revision,
                    version: before.map_or(0, |kv| kv.version) + 1,
                    lease: *lease,
                };
                self.keys.insert(key.clone(), kv.clone());
                Some(Change::Put(kv))
            }
            Op::Delete { key } => {
                self.keys.remove(key)?;
                Some(Change::Deleted { key: key.clone(), revision })
            }
        }
    }
}

fn check_limits(txn: &Txn) -> Result<(), String> {
    let mut written = BTreeSet::new();
    if let Some(twice) = txn.ops.iter().find(|op| !written.insert(op.key())) {
        return Err(format!("duplicate key {}", twice.key()));
    }
    for (what, count) in
        [("guards", txn.guards.len()), ("operations", txn.ops.len()), ("reads", txn.otherwise.len())]
    {
        if count > MAX_OPS {
            return Err(format!("{count} {what}"));
        }
    }
    let bytes = txn.bytes();
    if bytes > MAX_REQUEST { Err(format!("{bytes} bytes")) } else { Ok(()) }
}

#[test]
fn the_fake_keeps_etcds_rules() {
    let mut etcd = Fake::default();
    let put = Txn::new().absent("a").put("a", "1");
    assert_eq!(etcd.commit(&put), Ok(Outcome::Applied { revision: 2 }));
    assert!(
        matches!(etcd.commit(&put.clone().or_get("a")), Ok(Outcome::Refused { found, .. }) if found[0].is_some())
    );
    assert_eq!(etcd.commit(&Txn::new().modified("a", 2).put("a", "2")), Ok(Outcome::Applied { revision: 3 }));
    let kv = etcd.get("a").unwrap();
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (2, 3, 2));
    assert_eq!(etcd.commit(&Txn::new().delete("b")), Ok(Outcome::Applied { revision: 3 }), "nothing changed");
    assert!(etcd.commit(&Txn::new().delete("a").put("a", "3")).is_err(), "a key twice");
    let many = (0..129).fold(Txn::new(), |txn, n| txn.put(format!("k{n}"), ""));
    assert!(etcd.commit(&many).is_err());
    assert!(etcd.commit(&Txn::new().put("a", vec![0; MAX_REQUEST])).is_err());
    assert_eq!(etcd.after(2).len(), 1);
}
