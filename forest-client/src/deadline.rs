//! Until when a handler may take, on the clock that goes on while the machine sleeps.

use std::time::Duration;

use forest_etcd::SharedClock;
use forest_proto::time::Instant;

/// A machine that slept finds its deadlines passed at most this much after it woke.
const LOOK_EVERY: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    /// On the clock since boot.
    pub(crate) boot: Duration,
    /// The same on the wall clock, as that was when the handler started.
    pub(crate) wall: Instant,
}

impl Deadline {
    pub(crate) fn after(timeout_ms: u64, clock: &SharedClock) -> Self {
        let timeout = Duration::from_millis(timeout_ms);
        let wait = i64::try_from(timeout_ms).unwrap_or(i64::MAX);
        Self {
            boot: clock.boot().saturating_add(timeout),
            wall: Instant::from_ms(clock.wall_ms().saturating_add(wait)),
        }
    }

    pub(crate) fn remaining(&self, clock: &SharedClock) -> Duration {
        self.boot.saturating_sub(clock.boot())
    }
}

/// Waits until the clock since boot shows `at`; for ever without an `at`.
pub(crate) async fn passed(at: Option<Duration>, clock: &SharedClock) {
    let Some(at) = at else { return std::future::pending().await };
    loop {
        let left = at.saturating_sub(clock.boot());
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(LOOK_EVERY)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use forest_etcd::Clock;

    use super::*;

    /// Follows paused time, and sleeps once for an hour in between.
    struct Sleepy {
        begin: tokio::time::Instant,
        asleep_after: Duration,
    }

    impl Clock for Sleepy {
        fn boot(&self) -> Duration {
            let awake = self.begin.elapsed();
            if awake < self.asleep_after { awake } else { awake + Duration::from_secs(3_600) }
        }

        fn wall_ms(&self) -> i64 {
            1_795_000_000_000
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_machine_that_slept_finds_the_deadline_passed_when_it_wakes() {
        let begin = tokio::time::Instant::now();
        let clock: SharedClock = Arc::new(Sleepy { begin, asleep_after: Duration::from_secs(60) });
        let deadline = Deadline::after(600_000, &clock);
        assert_eq!(deadline.remaining(&clock), Duration::from_secs(600));
        passed(Some(deadline.boot), &clock).await;
        assert!(begin.elapsed() <= Duration::from_secs(60) + LOOK_EVERY, "{:?}", begin.elapsed());
        assert_eq!(deadline.remaining(&clock), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_passes_on_time() {
        let begin = tokio::time::Instant::now();
        let clock: SharedClock = Arc::new(Sleepy { begin, asleep_after: Duration::MAX });
        passed(Some(Deadline::after(12_300, &clock).boot), &clock).await;
        let late = begin.elapsed().saturating_sub(Duration::from_millis(12_300));
        assert!(late < Duration::from_millis(5), "{late:?}");
    }
}
