//! A first-in-first-out queue whose items are handed out once each.
//!
//! An item is a key whose number is one higher than the last one's; every push writes the end of the queue with
//! it, so that numbers are in the order of the pushes' revisions, without gaps or doubles. To take an item is to
//! put a claim beside it, on the taker's lease; the item itself stays where it is. `done` deletes both, under the
//! guard of the claim; if the claim goes away without that, the item is there again, at its old place.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use forest_etcd::{Backoff, KeyRange, KeyValue, Tasks, Txn, WatchConfig, Watcher};
use forest_proto::record::{QueueTail, decode, encode};
use forest_proto::{SharedKey, SharedName};
use tokio_util::sync::CancellationToken;

use super::item::{self, Item};
use super::{Settled, Shared, SharedError, check_size, give_up_at, over, uncertain};

const PAGE: usize = 500;
/// Items looked at beyond those that are claimed: others take some while this one looks.
const SPARE: usize = 16;

/// A queue of the group. From [`Shared::queue`].
///
/// Items come out in the order in which they were pushed, except that one whose taker put it back, or died, comes
/// out again later. Pushes to one queue are one after another: some hundred per second.
///
/// ```
/// # use forest_client::{JobContext, shared::SharedError};
/// async fn producer(ctx: JobContext) -> Result<(), SharedError> {
///     let mail = ctx.shared().queue("mail")?.max_length(10_000);
///     mail.push("to: a@example.org").await?;
///     Ok(())
/// }
///
/// async fn consumer(ctx: JobContext) -> Result<u32, SharedError> {
///     let (mail, mut sent) = (ctx.shared().queue("mail")?, 0);
///     while let Some(item) = mail.take().await? {
///         // ... send item.value() ...
///         item.done().await?;
///         sent += 1;
///     }
///     Ok(sent)
/// }
/// ```
#[derive(Clone)]
pub struct Queue {
    pub(super) shared: Shared,
    pub(super) name: SharedName,
    max_length: Option<u64>,
}

impl Queue {
    pub(super) fn new(shared: Shared, name: SharedName) -> Self {
        Self { shared, name, max_length: None }
    }

    /// How many items there may be, those in work included, when this handle pushes. Default: any number.
    ///
    /// ```
    /// # use forest_client::{JobContext, shared::SharedError};
    /// async fn handler(ctx: JobContext) -> Result<bool, SharedError> {
    ///     match ctx.shared().queue("mail")?.max_length(100).push("one more").await {
    ///         Ok(_) => Ok(true),
    ///         Err(SharedError::QueueFull { .. }) => Ok(false),
    ///         Err(error) => Err(error),
    ///     }
    /// }
    /// ```
    #[must_use]
    pub fn max_length(mut self, max: u64) -> Self {
        self.max_length = Some(max);
        self
    }

    /// Adds an item of at most 64 KiB at the end; its number, which grows by one with every push.
    ///
    /// # Errors
    /// [`SharedError::TooLarge`], [`SharedError::QueueFull`], [`SharedError::Etcd`]: it was not pushed.
    /// [`SharedError::Uncertain`]: it may have been.
    ///
    /// ```
    /// # use forest_client::{JobContext, shared::SharedError};
    /// async fn handler(ctx: JobContext) -> Result<u64, SharedError> {
    ///     ctx.shared().queue("mail")?.push(b"any bytes".as_slice()).await
    /// }
    /// ```
    pub async fn push(&self, value: impl Into<Vec<u8>>) -> Result<u64, SharedError> {
        let value = value.into();
        let what = || format!("an item of queue {}", self.name);
        check_size(what, &value)?;
        let ground = &self.shared.ground;
        let tail_key = ground.keys.queue_tail(&ground.group, &self.name);
        let mut found = ground.store.get(&tail_key).await?;
        let mut backoff = Backoff::new(Duration::from_millis(2), Duration::from_millis(100));
        loop {
            let seen = found.as_ref().map_or(0, |kv| kv.mod_revision);
            let mut tail = read_tail(found.as_ref())?;
            // Between the look at the end and the write nobody else pushes, or the write is refused: so there
            // are at most as many as are counted now.
            self.check_room().await?;
            let mark = self.shared.mark();
            let number = tail.push(mark);
            let item_key = ground.keys.queue_item(&ground.group, &self.name, number);
            let txn = Txn::new()
                .modified(&tail_key, seen)
                .put(&tail_key, encode(&tail))
                .put(&item_key, value.clone())
                .or_get(&tail_key);
            let (now, doubt, fenced) = match self.shared.settle(&what(), txn).await? {
                Settled::Applied { .. } => return Ok(number),
                Settled::Refused { found, doubt, fenced } => {
                    (found.into_iter().flatten().next(), doubt, fenced)
                }
            };
            if let Some(cause) = doubt.as_deref() {
                match read_tail(now.as_ref())?.mark_of(number) {
                    Some(found) if found == mark => return Ok(number),
                    // Another push came in our place, and a write that expects what was before it comes to nothing.
                    Some(_) => {}
                    None if now.as_ref().map_or(0, |kv| kv.mod_revision) == seen => {}
                    None => return Err(uncertain(&what(), cause)),
                }
            }
            self.shared.check_fence(&what(), fenced, None)?;
            found = now;
            tokio::time::sleep(backoff.next_delay(fastrand::f64())).await;
        }
    }

    async fn check_room(&self) -> Result<(), SharedError> {
        match self.max_length {
            Some(max) if self.len().await? >= max => {
                Err(SharedError::QueueFull { queue: self.name.to_string(), max })
            }
            _ => Ok(()),
        }
    }

    /// How many items there are, those in work included.
    ///
    /// # Errors
    /// [`SharedError::Etcd`].
    ///
    /// ```
    /// # use forest_client::{JobContext, shared::SharedError};
    /// async fn handler(ctx: JobContext) -> Result<u64, SharedError> {
    ///     ctx.shared().queue("mail")?.len().await
    /// }
    /// ```
    pub async fn len(&self) -> Result<u64, SharedError> {
        let ground = &self.shared.ground;
        let items = KeyRange::prefix(&ground.keys.queue_items(&ground.group, &self.name));
        Ok(ground.store.count(&items).await?)
    }

    /// Whether there is no item at all, not even in work.
    ///
    /// # Errors
    /// [`SharedError::Etcd`].
    pub async fn is_empty(&self) -> Result<bool, SharedError> {
        Ok(self.len().await? == 0)
    }

    /// The value of the first item that nobody works on, and leaves it there.
    ///
    /// # Errors
    /// [`SharedError::Etcd`].
    ///
    /// ```
    /// # use forest_client::{JobContext, shared::SharedError};
    /// async fn handler(ctx: JobContext) -> Result<Option<Vec<u8>>, SharedError> {
    ///     ctx.shared().queue("mail")?.peek().await
    /// }
    /// ```
    pub async fn peek(&self) -> Result<Option<Vec<u8>>, SharedError> {
        loop {
            let Some((_, first)) = self.unclaimed().await?.into_iter().next() else { return Ok(None) };
            if let Some(kv) = self.shared.ground.store.get(&first.key).await? {
                return Ok(Some(kv.value));
            }
        }
    }

    /// Takes the first item out for good; `None` if there is none that nobody works on. If this process dies on
    /// the way, the item comes back unless it was already removed.
    ///
    /// # Errors
    /// [`SharedError::NotHeld`] if the worker's lease ended on the way: the item goes to somebody else.
    /// [`SharedError::Uncertain`]: it may have been removed. [`SharedError::NoLease`], [`SharedError::Etcd`].
    ///
    /// ```
    /// # use forest_client::{JobContext, shared::SharedError};
    /// async fn handler(ctx: JobContext) -> Result<Option<Vec<u8>>, SharedError> {
    ///     ctx.shared().queue("mail")?.pop().await
    /// }
    /// ```
    pub async fn pop(&self) -> Result<Option<Vec<u8>>, SharedError> {
        let Some(mut item) = self.take().await? else { return Ok(None) };
        let value = std::mem::take(&mut item.value);
        item.done().await.map(|()| Some(value))
    }

    /// Takes the first item that nobody works on, to be ended with [`Item::done`]; `None` if there is none.
    ///
    /// # Errors
    /// [`SharedError::NoLease`], [`SharedError::Etcd`], [`SharedError::Uncertain`].
    ///
    /// ```
    /// # use forest_client::{JobContext, shared::SharedError};
    /// # fn send(_: &[u8]) -> bool { true }
    /// async fn handler(ctx: JobContext) -> Result<(), SharedError> {
    ///     let Some(item) = ctx.shared().queue("mail")?.take().await? else { return Ok(()) };
    ///     if send(item.value()) { item.done().await } else { item.put_back().await }
    /// }
    /// ```
    pub async fn take(&self) -> Result<Option<Item>, SharedError> {
        loop {
            let candidates = self.unclaimed().await?;
            if candidates.is_empty() {
                return Ok(None);
            }
            for (number, item) in candidates {
                if let Some(item) = item::claim(self, number, &item).await? {
                    return Ok(Some(item));
                }
            }
        }
    }

    /// As [`take`](Self::take), but waits for an item; `None` if there was none for so long.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use forest_client::{JobContext, shared::SharedError};
    /// async fn handler(ctx: JobContext) -> Result<(), SharedError> {
    ///     let mail = ctx.shared().queue("mail")?;
    ///     while let Some(item) = mail.take_within(Duration::from_secs(60)).await? {
    ///         item.done().await?;
    ///     }
    ///     Ok(())
    /// }
    /// ```
    pub async fn take_within(&self, patience: Duration) -> Result<Option<Item>, SharedError> {
        let give_up = give_up_at(Some(patience));
        if let Some(item) = self.take().await? {
            return Ok(Some(item));
        }
        let ground = &self.shared.ground;
        let config = WatchConfig::new(KeyRange::prefix(&ground.keys.queue(&ground.group, &self.name)));
        let (watcher, mut stream) = Watcher::new(ground.store.clone(), config);
        let mut watching = Tasks::new();
        watching.spawn(watcher.run(CancellationToken::new()));
        let (lease, mut session) = (self.shared.lease()?, ground.session.clone());
        loop {
            tokio::select! {
                biased;
                () = session.lost(lease) => return Err(SharedError::NoLease),
                batch = stream.next() => drop(batch.ok_or(forest_etcd::Error::Closed)?),
                () = over(give_up) => return Ok(None),
            }
            // What has piled up meanwhile says the same.
            while stream.try_next().is_some() {}
            if let Some(item) = self.take().await? {
                return Ok(Some(item));
            }
        }
    }

    /// The first items without a claim, in order, without their values.
    async fn unclaimed(&self) -> Result<Vec<(u64, KeyValue)>, SharedError> {
        let ground = &self.shared.ground;
        let number = |key: &str| match ground.keys.parse_shared(key)? {
            (_, SharedKey::Item { number, .. } | SharedKey::Claim { number, .. }) => Some(number),
            _ => None,
        };
        let claims = KeyRange::prefix(&ground.keys.queue_claims(&ground.group, &self.name));
        let claims = ground.store.list(&claims, PAGE).await?.items;
        let claimed: BTreeSet<u64> = claims.iter().filter_map(|kv| number(&kv.key)).collect();
        let items = KeyRange::prefix(&ground.keys.queue_items(&ground.group, &self.name));
        let mut pager = ground.store.pager(&items, claimed.len() + SPARE).keys_only();
        while let Some(page) = pager.next().await? {
            let numbered = page.into_iter().filter_map(|kv| Some((number(&kv.key)?, kv)));
            let free: Vec<_> = numbered.filter(|(number, _)| !claimed.contains(number)).collect();
            if !free.is_empty() {
                return Ok(free);
            }
        }
        Ok(Vec::new())
    }
}

fn read_tail(found: Option<&KeyValue>) -> Result<QueueTail, SharedError> {
    let Some(kv) = found else { return Ok(QueueTail::default()) };
    decode(&kv.value).map_err(|e| SharedError::Unreadable { key: kv.key.clone(), cause: e.to_string() })
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("name", &self.name)
            .field("max_length", &self.max_length)
            .finish_non_exhaustive()
    }
}
