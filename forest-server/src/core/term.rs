//! A term: one unbroken leadership. Leader code needs one in order to build a transaction, and every
//! transaction it builds is guarded by it.

use forest_etcd::Txn;
use forest_proto::{Keyspace, NodeId};

/// Proof that this node won a campaign. The number is etcd's create revision of the leader key, so a
/// later term has a larger one and a transaction of an earlier term can no longer commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Term {
    number: i64,
    node: NodeId,
    leader_key: String,
}

impl Term {
    pub(crate) fn new(number: i64, node: NodeId, keys: &Keyspace) -> Self {
        Self { number, node, leader_key: keys.leader() }
    }

    pub(crate) fn number(&self) -> i64 {
        self.number
    }

    pub(crate) fn node(&self) -> &NodeId {
        &self.node
    }

    /// A transaction that only this term can commit.
    pub(crate) fn txn(&self) -> Txn {
        Txn::new().created(self.leader_key.clone(), self.number)
    }
}
