//! Time of a simulated machine: virtual, the same for all, but for what its wall clock is off.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use forest_etcd::Clock;
use tokio::time::Instant;

/// When every simulation begins: 2026-03-02 00:00:00 UTC. A full minute, so that stories are easy to read.
pub const BEGIN_MS: i64 = 1_772_409_600_000;

/// Milliseconds since the simulation began.
#[must_use]
pub fn elapsed_ms(origin: Instant) -> u64 {
    u64::try_from(origin.elapsed().as_millis()).unwrap_or(u64::MAX)
}

thread_local! {
    static ORIGIN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// From now on is the time of the simulation on this thread, for [`simulated_ms`].
pub fn begin(origin: Instant) {
    ORIGIN.set(Some(origin));
}

/// Milliseconds since the simulation on this thread began; 0 outside of one.
#[must_use]
pub fn simulated_ms() -> u64 {
    ORIGIN.get().map_or(0, elapsed_ms)
}

/// The clocks of one machine. They survive its processes.
#[derive(Debug)]
pub struct MachineClock {
    origin: Instant,
    off_ms: AtomicI64,
    /// The millisecond of the last look, and how many looks there were in it.
    looks: (AtomicU64, AtomicU64),
}

/// Whoever looks at the clock so often while no time passes is in a loop that never ends: real time would pass, and
/// a processor would be burnt.
const MAX_LOOKS: u64 = 200_000;

impl MachineClock {
    #[must_use]
    pub fn new(origin: Instant, off_ms: i64) -> Arc<Self> {
        Arc::new(Self { origin, off_ms: AtomicI64::new(off_ms), looks: Default::default() })
    }

    fn elapsed(&self) -> u64 {
        let now = elapsed_ms(self.origin);
        if self.looks.0.swap(now, Ordering::Relaxed) != now {
            self.looks.1.store(0, Ordering::Relaxed);
        }
        let looks = self.looks.1.fetch_add(1, Ordering::Relaxed);
        assert!(looks < MAX_LOOKS, "a loop that never ends: {looks} looks at the clock in one millisecond");
        now
    }

    /// How far the wall clock is off from now on.
    pub fn set_off(&self, off_ms: i64) {
        self.off_ms.store(off_ms, Ordering::Relaxed);
    }
}

impl Clock for MachineClock {
    fn boot(&self) -> Duration {
        // Nothing counts from zero: a machine has been up for a while when a process starts.
        Duration::from_millis(1_000_000 + self.elapsed())
    }

    fn wall_ms(&self) -> i64 {
        let elapsed = i64::try_from(self.elapsed()).unwrap_or(i64::MAX);
        BEGIN_MS + elapsed + self.off_ms.load(Ordering::Relaxed)
    }
}
