//! What handlers share: the holder of a lock, the end of a queue, a value of the shared state.

use serde::{Deserialize, Serialize};

use crate::run_id::RunId;
use crate::time::Instant;

/// At most this many bytes of an item of a queue, or of an entry of the shared state.
pub const MAX_VALUE: usize = 64 * 1024;

/// How many pushes the end of a queue remembers.
pub const RECENT_PUSHES: usize = 64;

/// Digits of what marks a write, so that whoever lost the answer can recognise it.
const MARK_DIGITS: usize = 16;

/// `lock/{name}/holder`: who holds a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockHolder {
    /// The client's id; outside a handler the worker's name.
    pub client: String,
    /// The run whose handler holds it; `None` outside a handler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// When it was taken, on the holder's clock.
    pub since: Instant,
    /// When it ends at the latest, on the holder's clock.
    pub until: Instant,
    /// Marks the attempt that took it.
    #[serde(default)]
    pub mark: u64,
}

/// `queue/{name}/tail`: the number of the last item, and what marks the last pushes, oldest first.
///
/// ```
/// use forest_proto::record::QueueTail;
/// let mut tail = QueueTail::default();
/// assert_eq!(tail.push(77), 1);
/// assert_eq!((tail.mark_of(1), tail.mark_of(2)), (Some(77), None));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueTail {
    /// 0 as long as nothing was pushed.
    pub last: u64,
    /// At most [`RECENT_PUSHES`].
    #[serde(default)]
    pub recent: Vec<u64>,
}

impl QueueTail {
    /// Adds a push; the number of its item.
    pub fn push(&mut self, mark: u64) -> u64 {
        self.last = self.last.saturating_add(1);
        self.recent.push(mark);
        let extra = self.recent.len().saturating_sub(RECENT_PUSHES);
        self.recent.drain(..extra);
        self.last
    }

    /// What marks the push of this number; `None` if that is not remembered any more, or not yet there.
    #[must_use]
    pub fn mark_of(&self, number: u64) -> Option<u64> {
        let back = usize::try_from(self.last.checked_sub(number)?).ok()?;
        self.recent.iter().rev().nth(back).copied()
    }
}

/// `state/{key}`: a value behind the mark of its last write: 16 hexadecimal digits and a line feed.
///
/// ```
/// use forest_proto::record::StateValue;
/// let stored = StateValue { mark: 0xab, value: b"on".to_vec() }.write();
/// assert_eq!(stored, b"00000000000000ab\non");
/// assert_eq!(StateValue::read(&stored).value, b"on");
/// assert_eq!(StateValue::read(b"by hand").value, b"by hand");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateValue {
    /// Of the last write; 0 if it was written by hand.
    pub mark: u64,
    /// As the handler wrote it.
    pub value: Vec<u8>,
}

impl StateValue {
    /// What was stored. Whatever has no mark is a value as a whole, so that people can write some by hand.
    #[must_use]
    pub fn read(stored: &[u8]) -> Self {
        let marked = stored.split_at_checked(MARK_DIGITS).and_then(|(mark, rest)| {
            let lower = |b: &u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
            let mark = std::str::from_utf8(mark).ok().filter(|mark| mark.as_bytes().iter().all(lower))?;
            Some((u64::from_str_radix(mark, 16).ok()?, rest.strip_prefix(b"\n")?))
        });
        match marked {
            Some((mark, value)) => Self { mark, value: value.to_vec() },
            None => Self { mark: 0, value: stored.to_vec() },
        }
    }

    /// What to store.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let mut stored = format!("{:0MARK_DIGITS$x}\n", self.mark).into_bytes();
        stored.extend_from_slice(&self.value);
        stored
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_end_of_a_queue_remembers_the_last_pushes_and_no_more() {
        let mut tail = QueueTail::default();
        for mark in 1..=100 {
            assert_eq!(tail.push(mark), mark);
        }
        assert_eq!((tail.mark_of(100), tail.mark_of(37), tail.mark_of(36)), (Some(100), Some(37), None));
        assert_eq!((tail.mark_of(101), tail.recent.len()), (None, RECENT_PUSHES));
    }

    proptest! {
        #[test]
        fn values_of_the_state_come_back(mark in any::<u64>(), value in any::<Vec<u8>>()) {
            let stored = StateValue { mark, value };
            prop_assert_eq!(StateValue::read(&stored.write()), stored);
        }

        #[test]
        fn any_stored_bytes_are_some_value(stored in any::<Vec<u8>>()) {
            prop_assert!(StateValue::read(&stored).value.len() <= stored.len());
        }
    }
}
