//! Who may administer the cluster, and what they did that is not in the history yet, as the view mirrors it.

use forest_proto::record::{Session, Token, User, decode};
use forest_proto::{Key, Keyspace, SecretId, UserName};

use super::entry::Table;

#[derive(Default)]
pub(crate) struct Access {
    pub(crate) users: Table<UserName, User>,
    pub(crate) tokens: Table<SecretId, Token>,
    pub(crate) sessions: Table<SecretId, Session>,
    /// The documents of changes, by key: in the order of their time.
    pub(crate) audits: Table<String, Vec<u8>>,
    /// Grows when what somebody shows may have ceased to count.
    pub(crate) changes: u64,
}

impl Access {
    /// Takes a key of this family.
    pub(super) fn put(
        &mut self,
        key: Key,
        text: &str,
        value: &[u8],
        revision: i64,
        listing: u32,
    ) -> Result<(), String> {
        self.changes += u64::from(!matches!(key, Key::Audit { .. }));
        match key {
            Key::User(name) => self.users.put(name, read(value)?, revision, listing),
            Key::Token(id) => self.tokens.put(id, read(value)?, revision, listing),
            Key::Session(id) => self.sessions.put(id, read(value)?, revision, listing),
            _ => self.audits.put(text.to_owned(), value.to_vec(), revision, listing),
        };
        Ok(())
    }

    pub(super) fn remove(&mut self, key: &Key, text: &str, revision: i64) {
        self.changes += u64::from(!matches!(key, Key::Audit { .. }));
        match key {
            Key::User(name) => drop(self.users.remove(name, revision)),
            Key::Token(id) => drop(self.tokens.remove(id, revision)),
            Key::Session(id) => drop(self.sessions.remove(id, revision)),
            _ => drop(self.audits.remove(&text.to_owned(), revision)),
        }
    }

    /// The keys that a listing did not name.
    pub(super) fn stale(&self, keys: &Keyspace, listing: u32, revision: i64) -> Vec<String> {
        let users = self.users.stale(listing, revision).into_iter().map(|name| keys.user(&name));
        let tokens = self.tokens.stale(listing, revision).into_iter().map(|id| keys.token(&id));
        let sessions = self.sessions.stale(listing, revision).into_iter().map(|id| keys.session(&id));
        let audits = self.audits.stale(listing, revision).into_iter();
        users.chain(tokens).chain(sessions).chain(audits).collect()
    }
}

fn read<'a, T: serde::Deserialize<'a>>(value: &'a [u8]) -> Result<T, String> {
    decode(value).map_err(|error| error.to_string())
}
