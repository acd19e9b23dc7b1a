//! How many listeners there are, of each caller and together.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Listeners of one caller; where nobody logs in, of one address.
pub(crate) const PER_CALLER: usize = 32;
/// Listeners of one node: a quarter of its connections.
pub(crate) const PER_NODE: usize = 1_024;

#[derive(Debug, Default)]
struct Taken {
    of_caller: BTreeMap<String, usize>,
    total: usize,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Places(Arc<Mutex<Taken>>);

/// One listener's. It becomes free again with this value.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    caller: String,
}

impl Places {
    /// `None`: there are enough.
    pub(super) fn take(&self, caller: &str) -> Option<Place> {
        let mut taken = self.lock();
        let of_caller = taken.of_caller.get(caller).copied().unwrap_or(0);
        if of_caller >= PER_CALLER || taken.total >= PER_NODE {
            return None;
        }
        taken.of_caller.insert(caller.to_owned(), of_caller + 1);
        taken.total += 1;
        Some(Place { places: self.clone(), caller: caller.to_owned() })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.total -= 1;
        match taken.of_caller.get_mut(&self.caller) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(taken.of_caller.remove(&self.caller)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_by_caller_and_in_all_and_given_back() {
        let places = Places::default();
        let mine: Vec<_> = (0..PER_CALLER).map(|_| places.take("ann").expect("room")).collect();
        assert!(places.take("ann").is_none());
        let other = places.take("bob").expect("room for another one");
        drop(mine);
        assert!(places.take("ann").is_some());
        drop(other);
        assert!(places.lock().of_caller.is_empty() && places.lock().total == 0);
        let all: Vec<_> = (0..PER_NODE).filter_map(|n| places.take(&format!("caller {}", n / 8))).collect();
        assert_eq!(all.len(), PER_NODE);
        assert!(places.take("somebody else").is_none());
    }
}
