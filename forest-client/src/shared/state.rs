//! The key-value state of a group: small values, each with a version that grows with every write.
//!
//! A version is the revision of the entry's last write. Every write names the version it was made from, or reads it
//! itself; so of two writers that have seen the same version one is refused. Stored values begin with a mark of
//! their write, by which a writer recognises its own write after a lost answer.

use std::fmt;
use std::time::Duration;

use forest_etcd::{Backoff, Change, KeyRange, KeyValue, Tasks, Txn, WatchConfig, WatchStream, Watcher};
use forest_proto::record::StateValue;
use forest_proto::{SharedKey, SharedName};
use tokio_util::sync::CancellationToken;

use super::permit::Permit;
use super::{Settled, Shared, SharedError, check_size, uncertain};

/// Attempts of [`State::update`] and [`State::put`] against others that write the same entry.
const ATTEMPTS: u32 = 100;
const MAX_PAGE: usize = 1_000;

/// The state that the handlers of a group share. From [`Shared::state`].
///
/// Keys are names of at most 128 characters (`A-Z a-z 0-9 . _ -`); values are any bytes, at most 64 KiB.
#[derive(Clone)]
pub struct State {
    shared: Shared,
}

/// A value and its version.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// Under which it is stored.
    pub key: SharedName,
    /// As it was written.
    pub value: Vec<u8>,
    /// Grows with every write of any entry; never 0.
    pub version: i64,
}

/// What has become of an entry. From [`StateWatch::next`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateChange {
    /// It has this value now.
    Set(Entry),
    /// There is none.
    Gone,
}

/// The changes of one entry. From [`State::watch`]. Survives whatever etcd does; of changes that follow each other
/// quickly while the connection is interrupted some may be left out, but never the last one.
pub struct StateWatch {
    key: SharedName,
    stream: WatchStream,
    view: View,
    waiting: std::collections::VecDeque<StateChange>,
    /// Ends with this.
    _watching: Tasks<Result<(), forest_etcd::Error>>,
}

/// What was last said about the entry.
#[derive(Debug, Default)]
struct View {
    /// The version; 0 = gone, -1 = nothing was said yet.
    version: i64,
    /// Whether the listing under way has shown the entry.
    listed: bool,
}

impl State {
    pub(super) fn new(shared: Shared) -> Self {
        Self { shared }
    }

    /// An entry; `None` if there is none.
    ///
    /// # Errors
    /// [`SharedError::Name`], [`SharedError::Etcd`].
    ///
    /// ```
    /// # use forest_client::{JobContext, shared::SharedError};
    /// async fn handler(ctx: JobContext) -> Result<Vec<u8>, SharedError> {
    ///     let entry = ctx.shared().state().get("import.cursor").await?;
    ///     Ok(entry.map_or(b"0".to_vec(), |entry| entry.value))
    /// }
    /// ```
    pub async fn get(&self, key: impl AsRef<str>) -> Result<Option<Entry>, SharedError> {
        self.read(&SharedName::new(key)?).await
    }

    /// Writes an entry whatever is there; the new entry. For values that do not depend on the old one.
    ///
    /// # Errors
    /// As [`update`](Self::update).
    ///
    /// ```
    /// # use forest_client::{JobContext, shared::SharedError};
    /// async fn handler(ctx: JobContext) -> Result<(), SharedError> {
    ///     ctx.shared().state().put("maintenance", "on").await?;
    ///     Ok(())
    /// }
    /// ```
    pub async fn put(&self, key: impl AsRef<str>, value: impl Into<Vec<u8>>) -> Result<Entry, SharedError> {
        let value = value.into();
        self.update(key, |_| value.clone()).await
    }

    /// Writes an entry if it has this version; 0 = if there is none. The new entry, with its version.
    ///
    /// # Errors
    /// [`SharedError::Conflict`] says which version was found. [`SharedError::TooLarge`], [`SharedError::Name`],
    /// [`SharedError::Etcd`]: not written. [`SharedError::Uncertain`]: perhaps.
    ///
    /// ```
    /// # use forest_client::{JobContext, shared::SharedError};
    /// async fn handler(ctx: JobContext) -> Result<bool, SharedError> {
    ///     match ctx.shared().state().put_if("leader-of-the-day", ctx.run_id().to_string(), 0).await {
    ///         Ok(_) => Ok(true),
    ///         Err(SharedError::Conflict { .. }) => Ok(false),
    ///         Err(error) => Err(error),
    ///     }
    /// }
    /// ```
    pub async fn put_if(
        &self,
        key: impl AsRef<str>,
        value: impl Into<Vec<u8>>,
        version: i64,
    ) -> Result<Entry, SharedError> {
        let (name, value) = (SharedName::new(key)?, value.into());
        let what = || format!("entry {name}");
        check_size(what, &value)?;
        let key = self.key(&name);
        let stored = StateValue { mark: self.shared.mark(), value };
        let mut txn = Txn::new().modified(&key, version).put(&key, stored.write()).or_get(&key);
        let permit = if version == 0 { Some(Permit::new(&self.shared, &what()).await?) } else { None };
        if let Some(permit) = &permit {
            txn = permit.allow(txn);
        }
        let entry = |version| Entry { key: name.clone(), value: stored.value.clone(), version };
        match self.shared.settle(&what(), txn).await? {
            Settled::Applied { revision } => Ok(entry(revision)),
            Settled::Refused { found, doubt, fenced } => {
                let now = found.into_iter().flatten().next();
                match (now, doubt) {
                    (Some(kv), Some(_)) if StateValue::read(&kv.value).mark == stored.mark => {
                        Ok(entry(kv.mod_revision))
                    }
                    (now, Some(cause)) if version_of(now.as_ref()) != version => {
                        Err(uncertain(&what(), &cause))
                    }
                    (now, _) => {
                        self.shared.check_fence(&what(), fenced, None)?;
                        // Nothing is in the way: so its permit has ended, and a permit that was used leaves an entry
                        // unless that was deleted since.
                        if version_of(now.as_ref()) == version {
                            return Err(uncertain(&what(), "its permit is gone"));
                        }
                        Err(conflict(&name, version, now.as_ref()))
                    }
                }
            }
        }
    }

    /// Makes a new value from the old one, again if somebody else wrote in between; the new entry. The closure may
    /// be called several times, so it should do nothing but compute.
    ///
    /// # Errors
    /// [`SharedError::Conflict`] if others were faster a hundred times; otherwise as [`put_if`](Self::put_if).
    ///
    /// ```
    /// # use forest_client::{JobContext, shared::SharedError};
    /// async fn handler(ctx: JobContext) -> Result<(), SharedError> {
    ///     let count = |old: Option<&[u8]>| {
    ///         let old: u64 = old.and_then(|old| std::str::from_utf8(old).ok()?.parse().ok()).unwrap_or(0);
    ///         (old + 1).to_string().into_bytes()
    ///     };
    ///     ctx.shared().state().update("orders", count).await?;
    ///     Ok(())
    /// }
    /// ```
    pub async fn update(
        &self,
        key: impl AsRef<str>,
        mut change: impl FnMut(Option<&[u8]>) -> Vec<u8>,
    ) -> Result<Entry, SharedError> {
        let name = SharedName::new(key)?;
        let mut backoff = Backoff::new(Duration::from_millis(2), Duration::from_millis(100));
        loop {
            let old = self.read(&name).await?;
            let value = change(old.as_ref().map(|old| &old.value[..]));
            match self.put_if(name.as_str(), value, old.map_or(0, |old| old.version)).await {
                Err(SharedError::Conflict { .. }) if backoff.attempts() < ATTEMPTS => {}
                verdict => return verdict,
            }
            tokio::time::sleep(backoff.next_delay(fastrand::f64())).await;
        }
    }

    /// Deletes an entry if it has this version.
    ///
    /// # Errors
    /// As [`put_if`](Self::put_if).
    ///
    /// ```
    /// # use forest_client::{JobContext, shared::SharedError};
    /// async fn handler(ctx: JobContext) -> Result<(), SharedError> {
    ///     let state = ctx.shared().state();
    ///     match state.get("maintenance").await? {
    ///         Some(entry) => state.delete_if("maintenance", entry.version).await,
    ///         None => Ok(()),
    ///     }
    /// }
    /// ```
    pub async fn delete_if(&self, key: impl AsRef<str>, version: i64) -> Result<(), SharedError> {
        let name = SharedName::new(key)?;
        if version == 0 {
            return Err(SharedError::setting("version", "0 is no version of an entry that can be deleted"));
        }
        let (key, what) = (self.key(&name), format!("the end of entry {name}"));
        let txn = Txn::new().modified(&key, version).delete(&key).or_get(&key);
        match self.shared.settle(&what, txn).await? {
            Settled::Applied { .. } => Ok(()),
            Settled::Refused { found, doubt, fenced } => {
                let now = found.into_iter().flatten().next();
                match doubt {
                    Some(cause) if version_of(now.as_ref()) != version => Err(uncertain(&what, &cause)),
                    _ => {
                        self.shared.check_fence(&what, fenced, None)?;
                        Err(conflict(&name, version, now.as_ref()))
                    }
                }
            }
        }
    }

    /// At most `limit` (1 to 1,000) entries whose keys begin with `prefix`, which may be empty, in the order of
    /// their keys; only those after the key `after`. Each page is as of its own time.
    ///
    /// # Errors
    /// [`SharedError::Name`] for a prefix or key that no entry can have, [`SharedError::Setting`],
    /// [`SharedError::Etcd`].
    ///
    /// ```
    /// # use forest_client::{JobContext, shared::SharedError};
    /// async fn handler(ctx: JobContext) -> Result<usize, SharedError> {
    ///     let (state, mut after, mut count) = (ctx.shared().state(), None, 0);
    ///     loop {
    ///         let page = state.list("import.", after.as_deref(), 100).await?;
    ///         let Some(last) = page.last() else { return Ok(count) };
    ///         after = Some(last.key.to_string());
    ///         count += page.len();
    ///     }
    /// }
    /// ```
    pub async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Entry>, SharedError> {
        if !(1..=MAX_PAGE).contains(&limit) {
            return Err(SharedError::setting("limit", format!("{limit} is not from 1 to {MAX_PAGE}")));
        }
        for name in [Some(prefix).filter(|prefix| !prefix.is_empty()), after].into_iter().flatten() {
            SharedName::new(name)?;
        }
        let ground = &self.shared.ground;
        let root = ground.keys.states(&ground.group);
        let mut range = KeyRange::prefix(&format!("{root}{prefix}"));
        if let Some(after) = after {
            range = range.behind(&format!("{root}{after}"));
        }
        let (mut pager, mut entries) = (ground.store.pager(&range, limit), Vec::new());
        while entries.len() < limit
            && let Some(page) = pager.next().await?
        {
            entries.extend(page.iter().filter_map(|kv| self.entry(kv)));
        }
        entries.truncate(limit);
        Ok(entries)
    }

    /// The changes of one entry, beginning with how it is now.
    ///
    /// # Errors
    /// [`SharedError::Name`].
    ///
    /// ```
    /// # use forest_client::{JobContext, shared::{SharedError, StateChange}};
    /// async fn wait_for_the_end_of_maintenance(ctx: JobContext) -> Result<(), SharedError> {
    ///     let mut changes = ctx.shared().state().watch("maintenance")?;
    ///     while let Some(StateChange::Set(_)) = changes.next().await {}
    ///     Ok(())
    /// }
    /// ```
    pub fn watch(&self, key: impl AsRef<str>) -> Result<StateWatch, SharedError> {
        let key = SharedName::new(key)?;
        let config = WatchConfig::new(KeyRange::key(&self.key(&key)));
        let (watcher, stream) = Watcher::new(self.shared.ground.store.clone(), config);
        let mut watching = Tasks::new();
        watching.spawn(watcher.run(CancellationToken::new()));
        let view = View { version: -1, listed: false };
        Ok(StateWatch { key, stream, view, waiting: std::collections::VecDeque::new(), _watching: watching })
    }

    fn key(&self, name: &SharedName) -> String {
        let ground = &self.shared.ground;
        ground.keys.state(&ground.group, name)
    }

    async fn read(&self, name: &SharedName) -> Result<Option<Entry>, SharedError> {
        let found = self.shared.ground.store.get(&self.key(name)).await?;
        Ok(found.map(|kv| entry(name.clone(), &kv)))
    }

    fn entry(&self, kv: &KeyValue) -> Option<Entry> {
        match self.shared.ground.keys.parse_shared(&kv.key)? {
            (_, SharedKey::State { key }) => Some(entry(key, kv)),
            _ => None,
        }
    }
}

impl StateWatch {
    /// The next change; the first one is how the entry is now. `None` only if the program ends. Cancel-safe.
    pub async fn next(&mut self) -> Option<StateChange> {
        loop {
            if let Some(change) = self.waiting.pop_front() {
                return Some(change);
            }
            for change in self.stream.next().await? {
                self.waiting.extend(self.view.apply(&self.key, change));
            }
        }
    }
}

impl View {
    fn apply(&mut self, key: &SharedName, change: Change) -> Option<StateChange> {
        match change {
            // Versions begin anew: what there is now is news, whatever its version.
            Change::Reset => self.version = -1,
            Change::ListStarted => self.listed = false,
            Change::Listed(kv) | Change::Put(kv) => {
                self.listed = true;
                if kv.mod_revision > self.version {
                    self.version = kv.mod_revision;
                    return Some(StateChange::Set(entry(key.clone(), &kv)));
                }
            }
            Change::Deleted { revision, .. } if revision > self.version && self.version != 0 => {
                self.version = 0;
                return Some(StateChange::Gone);
            }
            Change::ListEnded { revision } => {
                if !self.listed && self.version != 0 && self.version <= revision {
                    self.version = 0;
                    return Some(StateChange::Gone);
                }
            }
            Change::Gap | Change::Deleted { .. } | Change::Progress { .. } => {}
        }
        None
    }
}

fn entry(key: SharedName, kv: &KeyValue) -> Entry {
    Entry { key, value: StateValue::read(&kv.value).value, version: kv.mod_revision }
}

fn version_of(found: Option<&KeyValue>) -> i64 {
    found.map_or(0, |kv| kv.mod_revision)
}

fn conflict(key: &SharedName, expected: i64, found: Option<&KeyValue>) -> SharedError {
    SharedError::Conflict { key: key.to_string(), expected, found: version_of(found) }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("group", &self.shared.ground.group).finish_non_exhaustive()
    }
}

impl fmt::Debug for Entry {
    /// Without the value: it may hold what does not belong into a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("key", &self.key)
            .field("bytes", &self.value.len())
            .field("version", &self.version)
            .finish()
    }
}

impl fmt::Debug for StateWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateWatch").field("key", &self.key).finish_non_exhaustive()
    }
}
