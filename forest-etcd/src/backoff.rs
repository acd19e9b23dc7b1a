//! The one retry delay: exponential, jittered, interruptible.
//!
//! Each delay lies between half of the current step and the whole of it, so that many nodes which
//! failed together do not return together, and none returns at once.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// First step unless told otherwise.
pub const FIRST: Duration = Duration::from_millis(50);
/// Largest step unless told otherwise.
pub const LARGEST: Duration = Duration::from_secs(2);

/// While something keeps failing, one failure in so many is worth a warning.
const WARN_EVERY: u32 = 30;

/// Delays between attempts. [`reset`](Self::reset) after a success.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    largest: Duration,
    attempts: u32,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new(FIRST, LARGEST)
    }
}

impl Backoff {
    pub fn new(first: Duration, largest: Duration) -> Self {
        Self { first, largest: largest.max(first), attempts: 0 }
    }

    /// Starts again from the first step.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }

    /// Failures since the last reset.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Whether the failure at hand should be logged as a warning: the first one, and then now and
    /// again. To be asked before waiting.
    pub fn is_notable(&self) -> bool {
        self.attempts.is_multiple_of(WARN_EVERY)
    }

    /// The next delay; `random` is from 0 to 1 and chooses the place inside the step.
    pub fn next_delay(&mut self, random: f64) -> Duration {
        let step = self.first.saturating_mul(1 << self.attempts.min(20)).min(self.largest);
        self.attempts = self.attempts.saturating_add(1);
        step.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
    }

    /// Waits for the next delay; `false` if the shutdown came first.
    pub async fn wait(&mut self, shutdown: &CancellationToken) -> bool {
        let delay = self.next_delay(fastrand::f64());
        tokio::select! {
            biased;
            () = shutdown.cancelled() => false,
            () = tokio::time::sleep(delay) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_largest_and_restart_after_a_reset() {
        let mut backoff = Backoff::default();
        let steps: Vec<u128> = (0..8).map(|_| backoff.next_delay(1.0).as_millis()).collect();
        assert_eq!(steps, [50, 100, 200, 400, 800, 1_600, 2_000, 2_000]);
        assert_eq!(backoff.attempts(), 8);
        assert!(!backoff.is_notable());
        backoff.reset();
        assert!(backoff.is_notable());
        assert_eq!(backoff.next_delay(0.0), Duration::from_millis(25));
    }

    #[test]
    fn a_delay_is_never_shorter_than_half_its_step_and_never_overflows() {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::MAX);
        for attempt in 0..200 {
            let step = Duration::from_millis(50).saturating_mul(1 << attempt.min(20));
            let delay = backoff.next_delay(f64::from(attempt % 10) / 10.0);
            assert!(delay >= step / 2 && delay <= step, "attempt {attempt}: {delay:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_shutdown_ends_the_wait() {
        let shutdown = CancellationToken::new();
        let mut backoff = Backoff::default();
        assert!(backoff.wait(&shutdown).await);
        shutdown.cancel();
        assert!(!backoff.wait(&shutdown).await);
    }
}
