//! How fast a group's clients are given runs.
//!
//! Runs are spaced evenly; what comes in a burst may be ahead of that by a tenth of a second. A new leader starts
//! without anything saved up, so a change of leaders does not add to the rate either.

use std::time::Duration;

/// How far ahead of its even spacing a run may be given.
const AHEAD: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(crate) struct Rate {
    /// When the next run would be given, were all spaced evenly.
    next: Duration,
    /// Whether a run was kept waiting since the last look.
    pub(crate) kept_waiting: bool,
}

fn interval(per_second: u32) -> Duration {
    Duration::from_secs(1) / per_second.max(1)
}

impl Rate {
    pub(crate) fn new(per_second: u32, now: Duration) -> Self {
        Self { next: now + AHEAD.max(interval(per_second)), kept_waiting: false }
    }

    /// When the next run may be given.
    pub(crate) fn opens_at(&self, per_second: u32) -> Duration {
        self.next.saturating_sub(AHEAD.saturating_sub(interval(per_second)))
    }

    /// How many may be given now.
    pub(crate) fn room(&self, per_second: u32, now: Duration) -> usize {
        let opens = self.opens_at(per_second);
        if opens > now {
            return 0;
        }
        let most = (AHEAD.as_nanos() / interval(per_second).as_nanos()).max(1);
        let gathered = (now - opens).as_nanos() / interval(per_second).as_nanos() + 1;
        usize::try_from(gathered.min(most)).unwrap_or(usize::MAX)
    }

    /// One was given.
    pub(crate) fn take(&mut self, per_second: u32, now: Duration) {
        self.next = self.next.max(now) + interval(per_second);
    }
}
