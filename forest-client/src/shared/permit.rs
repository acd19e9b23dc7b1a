//! Writing something once that was not there: a guard for what is absent holds again after it was deleted.
//!
//! A request that got no answer may reach etcd much later, long after it was sent again and done with: from a
//! member that stood still, say. One that expects some revision comes to nothing then, as a revision never comes
//! again. One that expects nothing at all could put back what was deleted meanwhile. So it also expects a permit
//! as it was created, and uses it up.

use std::time::Duration;

use forest_etcd::Txn;

use super::chores::{Chore, ChoreList};
use super::{SETTLE, Settled, Shared, SharedError, uncertain};

/// On a lease of its own, which ends it if it is not used: after every attempt to use it.
const LASTS: Duration = SETTLE.saturating_mul(3);

/// For one write. Taken back when this is dropped, used or not; then that write cannot happen any more.
pub(super) struct Permit {
    key: String,
    created: i64,
    lease: i64,
    chores: ChoreList,
}

impl Permit {
    pub(super) async fn new(shared: &Shared, what: &str) -> Result<Self, SharedError> {
        let ground = &shared.ground;
        let key = ground.keys.permit(&ground.group, shared.mark());
        let lease = ground.store.grant(LASTS).await?;
        let mut permit = Self { key, created: 0, lease, chores: ground.chores.clone() };
        let put = Txn::new().absent(&permit.key).put_leased(&permit.key, "", lease).or_get(&permit.key);
        permit.created = match shared.settle(what, put).await? {
            Settled::Applied { revision } => revision,
            Settled::Refused { found, doubt, fenced } => match found.into_iter().flatten().next() {
                Some(own) => own.create_revision,
                None => {
                    // Without the permit nothing can have been written.
                    shared.check_fence(what, fenced, None)?;
                    return Err(uncertain(what, doubt.as_deref().unwrap_or("its permit is gone")));
                }
            },
        };
        Ok(permit)
    }

    /// A write that uses the permit up.
    pub(super) fn allow(&self, txn: Txn) -> Txn {
        txn.created(&self.key, self.created).delete(&self.key)
    }

    /// To be ended by whoever takes care of the write from now on.
    pub(super) fn lease(&self) -> i64 {
        self.lease
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.chores.leave(Chore { leases: vec![self.lease], ..Chore::default() });
    }
}
