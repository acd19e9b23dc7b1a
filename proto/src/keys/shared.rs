//! Keys of what handlers share: locks, queues, state. Beside the root, where no node watches.

use std::fmt;

use super::Keyspace;
use crate::name::{GroupName, SharedName};

/// Digits of an item's number: as many as the largest one has, so that keys sort as numbers do.
const DIGITS: usize = 20;
/// Digits of the random part of a ticket or permit.
const RANDOM_DIGITS: usize = 16;

/// What a key of the shared space names.
///
/// ```
/// use forest_proto::{GroupName, Keyspace, SharedKey, SharedName};
/// let (keys, group) = (Keyspace::default(), GroupName::new("trade").unwrap());
/// let name = SharedName::new("mail").unwrap();
/// let text = keys.queue_item(&group, &name, 7);
/// assert_eq!(text, "/forest-shared/trade/queue/mail/item/00000000000000000007");
/// assert_eq!(keys.parse_shared(&text), Some((group, SharedKey::Item { queue: name, number: 7 })));
/// assert_eq!(keys.parse(&text), None, "no node takes it for one of its own");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // The table of the parent module says what each is.
pub enum SharedKey {
    LockHolder { lock: SharedName },
    LockSession { lock: SharedName },
    LockTicket { lock: SharedName, ticket: u64 },
    Tail { queue: SharedName },
    Item { queue: SharedName, number: u64 },
    Claim { queue: SharedName, number: u64 },
    State { key: SharedName },
    Permit { number: u64 },
}

impl Keyspace {
    fn below(&self, group: &GroupName, rest: fmt::Arguments<'_>) -> String {
        format!("{}-shared/{group}/{rest}", self.root)
    }

    /// The prefix of everything that the handlers of a group share.
    #[must_use]
    pub fn shared(&self, group: &GroupName) -> String {
        self.below(group, format_args!(""))
    }
    /// The prefix of a lock.
    #[must_use]
    pub fn lock(&self, group: &GroupName, lock: &SharedName) -> String {
        self.below(group, format_args!("lock/{lock}/"))
    }
    /// See the [parent module's table](super), as for all that follow.
    #[must_use]
    pub fn lock_holder(&self, group: &GroupName, lock: &SharedName) -> String {
        self.below(group, format_args!("lock/{lock}/holder"))
    }
    #[must_use]
    #[allow(missing_docs)]
    pub fn lock_session(&self, group: &GroupName, lock: &SharedName) -> String {
        self.below(group, format_args!("lock/{lock}/session"))
    }
    #[must_use]
    #[allow(missing_docs)]
    pub fn lock_ticket(&self, group: &GroupName, lock: &SharedName, ticket: u64) -> String {
        self.below(group, format_args!("lock/{lock}/ticket/{ticket:0RANDOM_DIGITS$x}"))
    }
    /// The prefix of a queue.
    #[must_use]
    pub fn queue(&self, group: &GroupName, queue: &SharedName) -> String {
        self.below(group, format_args!("queue/{queue}/"))
    }
    #[must_use]
    #[allow(missing_docs)]
    pub fn queue_tail(&self, group: &GroupName, queue: &SharedName) -> String {
        self.below(group, format_args!("queue/{queue}/tail"))
    }
    /// The prefix of the items of a queue. Its keys sort in the order of the pushes.
    #[must_use]
    pub fn queue_items(&self, group: &GroupName, queue: &SharedName) -> String {
        self.below(group, format_args!("queue/{queue}/item/"))
    }
    #[must_use]
    #[allow(missing_docs)]
    pub fn queue_item(&self, group: &GroupName, queue: &SharedName, number: u64) -> String {
        self.below(group, format_args!("queue/{queue}/item/{number:0DIGITS$}"))
    }
    /// The prefix of the claims on items of a queue.
    #[must_use]
    pub fn queue_claims(&self, group: &GroupName, queue: &SharedName) -> String {
        self.below(group, format_args!("queue/{queue}/claim/"))
    }
    #[must_use]
    #[allow(missing_docs)]
    pub fn queue_claim(&self, group: &GroupName, queue: &SharedName, number: u64) -> String {
        self.below(group, format_args!("queue/{queue}/claim/{number:0DIGITS$}"))
    }
    /// The prefix of the shared state of a group.
    #[must_use]
    pub fn states(&self, group: &GroupName) -> String {
        self.below(group, format_args!("state/"))
    }
    #[must_use]
    #[allow(missing_docs)]
    pub fn state(&self, group: &GroupName, key: &SharedName) -> String {
        self.below(group, format_args!("state/{key}"))
    }
    #[must_use]
    #[allow(missing_docs)]
    pub fn permit(&self, group: &GroupName, number: u64) -> String {
        self.below(group, format_args!("permit/{number:0RANDOM_DIGITS$x}"))
    }

    /// What a key of the shared space names, and whose it is; `None` for a key that is not ours to understand.
    #[must_use]
    pub fn parse_shared(&self, key: &str) -> Option<(GroupName, SharedKey)> {
        let rest = key.strip_prefix(&self.root)?.strip_prefix("-shared/")?;
        let mut parts = rest.split('/');
        let group = parts.next()?.parse().ok()?;
        let (family, name) = (parts.next()?, parts.next()?.parse::<SharedName>().ok()?);
        let key = match (family, parts.next()) {
            ("state", None) => SharedKey::State { key: name },
            ("permit", None) => SharedKey::Permit { number: random(name.as_str())? },
            ("lock", Some("holder")) => SharedKey::LockHolder { lock: name },
            ("lock", Some("session")) => SharedKey::LockSession { lock: name },
            ("lock", Some("ticket")) => SharedKey::LockTicket { lock: name, ticket: random(parts.next()?)? },
            ("queue", Some("tail")) => SharedKey::Tail { queue: name },
            ("queue", Some("item")) => SharedKey::Item { queue: name, number: number(parts.next()?)? },
            ("queue", Some("claim")) => SharedKey::Claim { queue: name, number: number(parts.next()?)? },
            _ => return None,
        };
        parts.next().is_none().then_some((group, key))
    }
}

fn number(text: &str) -> Option<u64> {
    fixed(text, DIGITS)?.parse().ok()
}

fn random(text: &str) -> Option<u64> {
    u64::from_str_radix(fixed(text, RANDOM_DIGITS)?, 16).ok()
}

/// A sign would be read as a part of a number.
fn fixed(text: &str, digits: usize) -> Option<&str> {
    (text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_shared_key_is_read_as_what_was_written(word in "[A-Za-z0-9][A-Za-z0-9._-]{0,127}", n in any::<u64>()) {
            let keys = Keyspace::new("/a/b").expect("valid");
            let (group, name) = (GroupName::new("trade").expect("valid"), SharedName::new(&word).expect("valid"));
            let own = || name.clone();
            let all = [
                (keys.lock_holder(&group, &name), SharedKey::LockHolder { lock: own() }),
                (keys.lock_session(&group, &name), SharedKey::LockSession { lock: own() }),
                (keys.lock_ticket(&group, &name, n), SharedKey::LockTicket { lock: own(), ticket: n }),
                (keys.queue_tail(&group, &name), SharedKey::Tail { queue: own() }),
                (keys.queue_item(&group, &name, n), SharedKey::Item { queue: own(), number: n }),
                (keys.queue_claim(&group, &name, n), SharedKey::Claim { queue: own(), number: n }),
                (keys.state(&group, &name), SharedKey::State { key: own() }),
                (keys.permit(&group, n), SharedKey::Permit { number: n }),
            ];
            for (text, key) in all {
                prop_assert_eq!(keys.parse_shared(&text), Some((group.clone(), key)), "{}", text);
                prop_assert_eq!(keys.parse_shared(&format!("{text}/x")), None);
                prop_assert!(text.starts_with(&keys.shared(&group)) && !text.starts_with(&keys.all()));
            }
            let (item, next) = (keys.queue_item(&group, &name, n), keys.queue_item(&group, &name, n.saturating_add(1)));
            prop_assert!(item <= next, "{} {}", item, next);
        }

        #[test]
        fn shared_garbage_is_refused(text in any::<String>()) {
            let keys = Keyspace::default();
            prop_assert_eq!(keys.parse_shared(&text), None);
            let _ = keys.parse_shared(&format!("/forest-shared/trade/{text}"));
            prop_assert_eq!(keys.parse_shared("/forest-shared/trade/queue/a/item/+0000000000000000007"), None);
        }
    }
}
