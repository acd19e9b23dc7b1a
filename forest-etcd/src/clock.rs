//! Time of the machine: the only place that reads the wall clock or the time since boot.
//!
//! The wall clock decides what is due. Every deadline is kept on the time since boot, which never
//! steps and goes on while the machine sleeps, so a holder that was frozen or suspended finds its
//! deadline passed when it wakes.

use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Source of time; replaced by a hand-driven one in tests.
pub trait Clock: Send + Sync + 'static {
    /// Time since boot, time asleep included. Never goes back.
    fn boot(&self) -> Duration;
    /// Milliseconds since 1970-01-01 UTC. May step either way.
    fn wall_ms(&self) -> i64;
}

/// A clock that several components read.
pub type SharedClock = Arc<dyn Clock>;

/// The clocks of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl SystemClock {
    pub fn shared() -> SharedClock {
        Arc::new(Self)
    }
}

#[cfg(target_os = "linux")]
const SINCE_BOOT: ClockId = ClockId::Boottime;
/// Elsewhere the monotonic clock is the nearest there is.
#[cfg(not(target_os = "linux"))]
const SINCE_BOOT: ClockId = ClockId::Monotonic;

impl Clock for SystemClock {
    fn boot(&self) -> Duration {
        let now = clock_gettime(SINCE_BOOT);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        let nanos = u32::try_from(now.tv_nsec).unwrap_or(0);
        Duration::new(seconds, nanos)
    }

    fn wall_ms(&self) -> i64 {
        let now = clock_gettime(ClockId::Realtime);
        now.tv_sec.saturating_mul(1_000).saturating_add(now.tv_nsec / 1_000_000)
    }
}

/// Follows tokio's clock, so a test with paused time drives both.
#[cfg(test)]
pub(crate) struct TokioClock(tokio::time::Instant);

#[cfg(test)]
impl TokioClock {
    pub(crate) fn shared() -> SharedClock {
        Arc::new(Self(tokio::time::Instant::now()))
    }
}

#[cfg(test)]
impl Clock for TokioClock {
    fn boot(&self) -> Duration {
        self.0.elapsed()
    }

    fn wall_ms(&self) -> i64 {
        i64::try_from(self.0.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_is_sane() {
        let clock = SystemClock;
        let earlier = clock.boot();
        assert!(clock.boot() >= earlier);
        // 2020-01-01: a machine without any clock says 1970.
        assert!(clock.wall_ms() > 1_577_836_800_000);
    }
}
