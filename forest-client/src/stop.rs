//! Asking a handler to stop, and remembering why: the first reason counts, because later ones find the
//! handler already stopping.

use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

/// Why a handler is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StopReason {
    /// Somebody cancelled the run, or it took longer than its job allows.
    Requested,
    /// This process may have lost its registration: the server may already have given up on the run,
    /// and with `on_lost = retry` another attempt may be running elsewhere.
    LeaseLost,
    /// The worker shuts down and the time for draining is over.
    Shutdown,
}

/// A token with a reason. Clones share both.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop {
    token: CancellationToken,
    reason: Arc<OnceLock<StopReason>>,
}

impl Stop {
    pub(crate) fn stop(&self, reason: StopReason) {
        // The reason comes first: whoever sees the token cancelled must find it.
        let _ = self.reason.set(reason);
        self.token.cancel();
    }

    pub(crate) fn reason(&self) -> Option<StopReason> {
        self.reason.get().copied()
    }

    pub(crate) fn token(&self) -> &CancellationToken {
        &self.token
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_counts() {
        let stop = Stop::default();
        assert_eq!(stop.reason(), None);
        let other = stop.clone();
        other.stop(StopReason::Requested);
        stop.stop(StopReason::LeaseLost);
        assert_eq!((stop.reason(), stop.token().is_cancelled()), (Some(StopReason::Requested), true));
    }
}
