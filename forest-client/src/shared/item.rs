//! One item of a queue in somebody's hands: claimed, and then done or put back.

use std::fmt;

use forest_etcd::{KeyValue, Txn};

use super::chores::{Chore, ChoreList, Claimed};
use super::queue::Queue;
use super::{Settled, SharedError, no_lease, uncertain};

/// An item that this handler alone works on, as long as its worker has its lease. If it is dropped it goes back,
/// soon, to its old place.
///
/// ```
/// # use forest_client::{JobContext, shared::SharedError};
/// # fn send(_: &[u8], _token: i64) -> bool { true }
/// async fn handler(ctx: JobContext) -> Result<(), SharedError> {
///     let Some(item) = ctx.shared().queue("mail")?.take().await? else { return Ok(()) };
///     if item.is_held() && send(item.value(), item.fencing_token()) {
///         return item.done().await;
///     }
///     item.put_back().await
/// }
/// ```
#[must_use = "an item that is dropped goes back into the queue"]
pub struct Item {
    queue: Queue,
    number: u64,
    pub(super) value: Vec<u8>,
    claim: Claim,
    /// The worker's, which the claim hangs on.
    lease: i64,
}

/// A claim, given back when this is dropped.
struct Claim {
    chores: ChoreList,
    keys: Claimed,
    /// The key's create revision; 0 = not known.
    created: i64,
    /// It is not there and cannot come.
    over: bool,
}

/// `None`: somebody else has it.
pub(super) async fn claim(queue: &Queue, number: u64, item: &KeyValue) -> Result<Option<Item>, SharedError> {
    let (ground, lease) = (&queue.shared.ground, queue.shared.lease()?);
    let key = ground.keys.queue_claim(&ground.group, &queue.name, number);
    let mark = queue.shared.mark().to_string().into_bytes();
    let txn = Txn::new()
        .modified(&item.key, item.mod_revision)
        .absent(&key)
        .put_leased(&key, mark.clone(), lease)
        .or_get(&key);
    let keys = Claimed { claim_key: key, mark, item_key: item.key.clone() };
    let mut claim = Claim { chores: ground.chores.clone(), keys, created: 0, over: false };
    let what = format!("a claim on item {number} of queue {}", queue.name);
    claim.created = match queue.shared.settle(&what, txn).await.map_err(no_lease)? {
        Settled::Applied { revision } => revision,
        Settled::Refused { found, doubt, fenced } => {
            match found.into_iter().flatten().find(|kv| kv.value == claim.keys.mark) {
                Some(own) => own.create_revision,
                None => {
                    // It is not there: nobody else deletes it while the lease lasts. But it may be on its way.
                    claim.over = doubt.is_none();
                    queue.shared.check_fence(&what, fenced, doubt.as_deref())?;
                    return Ok(None);
                }
            }
        }
    };
    // It stays as long as the claim does.
    match ground.store.get(&item.key).await? {
        Some(kv) => Ok(Some(Item { queue: queue.clone(), number, value: kv.value, claim, lease })),
        None => Ok(None),
    }
}

impl Item {
    /// What was pushed.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        &self.value
    }

    /// The number that [`Queue::push`] gave it.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// A number that grows whenever the item is taken again: to be handed to what refuses smaller ones.
    #[must_use]
    pub fn fencing_token(&self) -> i64 {
        self.claim.created
    }

    /// Whether the item can be relied on to be in nobody else's hands. Costs no request.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.queue.shared.ground.session.is_trusted(self.lease)
    }

    /// Removes the item from the queue: its work is done.
    ///
    /// # Errors
    /// [`SharedError::NotHeld`] if it was given to somebody else meanwhile, because the lease had ended.
    /// [`SharedError::Uncertain`]: it may have been removed. [`SharedError::Etcd`]: it goes back.
    pub async fn done(mut self) -> Result<(), SharedError> {
        let Claimed { claim_key, item_key, .. } = &self.claim.keys;
        let txn = Txn::new()
            .created(claim_key, self.claim.created)
            .delete(item_key)
            .delete(claim_key)
            .or_get(claim_key);
        self.end(txn).await
    }

    /// Gives the item back to its old place, for whoever takes next.
    ///
    /// # Errors
    /// As [`done`](Self::done). After [`SharedError::Etcd`] it goes back all the same, with the lease at the latest.
    pub async fn put_back(mut self) -> Result<(), SharedError> {
        let Claimed { claim_key, item_key, .. } = &self.claim.keys;
        // Written anew, so that no earlier attempt to claim it can still come to anything.
        let txn = Txn::new()
            .created(claim_key, self.claim.created)
            .put(item_key, self.value.clone())
            .delete(claim_key)
            .or_get(claim_key);
        self.end(txn).await
    }

    async fn end(&mut self, txn: Txn) -> Result<(), SharedError> {
        let what = format!("item {} of queue {}", self.number, self.queue.name);
        let (found, doubt, fenced) = match self.queue.shared.settle(&what, txn).await? {
            Settled::Applied { .. } => {
                self.claim.over = true;
                return Ok(());
            }
            Settled::Refused { found, doubt, fenced } => (found, doubt, fenced),
        };
        if found.into_iter().flatten().any(|kv| kv.create_revision == self.claim.created) {
            // The claim stands; it was the lock that did not.
            self.queue.shared.check_fence(&what, fenced, None)?;
            return Err(SharedError::NotHeld { what });
        }
        self.claim.over = true;
        match doubt {
            // The lease has lasted up to now, so nothing but this very write can have removed the claim.
            Some(_) if self.is_held() => Ok(()),
            Some(cause) => Err(uncertain(&what, &cause)),
            None => Err(SharedError::NotHeld { what }),
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.over {
            self.chores.leave(Chore { claim: Some(self.keys.clone()), ..Chore::default() });
        }
    }
}

impl fmt::Debug for Item {
    /// Without the value: it may hold what does not belong into a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Item")
            .field("queue", &self.queue.name)
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}
