//! Time, for leases alone. Replaced by whoever wants another one.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

/// A clock that never goes back.
pub trait Clock: Send + Sync + 'static {
    /// Time since any one moment.
    fn now(&self) -> Duration;
}

pub type SharedClock = Arc<dyn Clock>;

/// Follows tokio's time, so that a runtime whose time is paused drives leases too.
#[derive(Debug)]
pub struct TokioClock(Instant);

impl TokioClock {
    /// To be called inside a runtime.
    #[must_use]
    pub fn shared() -> SharedClock {
        Arc::new(Self(Instant::now()))
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}
