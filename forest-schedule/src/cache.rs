//! One compiled schedule for all jobs that say the same.
//!
//! Owns the map from a spec to its [`Schedule`], and no schedule: it holds weak references, so one lives
//! as long as a job uses it. Dead entries are swept whenever the map has doubled since the last sweep; so its
//! size is bounded by twice the schedules in use, and sweeping costs nothing that counts.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use forest_proto::record::{DstFold, DstGap};

use super::days::Days;
use super::trigger::{Schedule, ScheduleError};

/// A smaller map is not worth a sweep.
const MIN_SWEEP: usize = 64;

/// Shares compiled schedules. Cheap to ask; safe to ask from many threads.
#[derive(Debug, Default)]
pub struct ScheduleCache {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<Key, Weak<Schedule>>,
    sweep_at: usize,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    spec: Box<str>,
    zone: Box<str>,
    gap: DstGap,
    fold: DstFold,
    /// Compared by what it says.
    days: Option<Arc<Days>>,
}

impl ScheduleCache {
    /// The schedule of a spec: the one in use by other jobs, or newly compiled as [`Schedule::compile`] does.
    pub fn intern(
        &self,
        spec: &str,
        zone: &str,
        gap: DstGap,
        fold: DstFold,
        days: Option<&Arc<Days>>,
    ) -> Result<Arc<Schedule>, ScheduleError> {
        let key = Key { spec: spec.into(), zone: zone.into(), gap, fold, days: days.cloned() };
        // A panic under this lock leaves the map as it was.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(schedule) = state.entries.get(&key).and_then(Weak::upgrade) {
            return Ok(schedule);
        }
        let schedule = Arc::new(Schedule::compile_on(spec, zone, gap, fold, days)?);
        state.sweep_if_grown();
        state.entries.insert(key, Arc::downgrade(&schedule));
        Ok(schedule)
    }

    /// How many entries are held, dead ones included.
    #[cfg(test)]
    pub fn distinct(&self) -> usize {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).entries.len()
    }
}

impl State {
    fn sweep_if_grown(&mut self) {
        if self.entries.len() >= self.sweep_at.max(MIN_SWEEP) {
            self.entries.retain(|_, schedule| schedule.strong_count() > 0);
            self.sweep_at = self.entries.len() * 2;
        }
    }
}
