//! Asking a handler to stop, and remembering why: the first reason counts, because later ones find the
//! handler already stopping.

use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

/// Why a handler is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StopReason {
    /// Somebody cancelled the run.
    Requested,
    /// The handler takes longer than its job allows.
    TimedOut,
    /// This process may have lost its registration: the server may already have given up on the run,
    /// and with `on_lost = retry` another attempt may be running elsewhere.
    LeaseLost,
    /// The worker shuts down and the time for draining is over.
    Shutdown,
}

impl StopReason {
    /// Whether the shorter grace time applies, because somebody else counts on the end.
    pub(crate) fn is_urgent(self) -> bool {
        matches!(self, Self::LeaseLost | Self::Shutdown)
    }
}

/// A token with a reason. Clones share both.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop {
    token: CancellationToken,
    urgent: CancellationToken,
    reason: Arc<OnceLock<StopReason>>,
}

impl Stop {
    pub(crate) fn stop(&self, reason: StopReason) {
        // The reason comes first: whoever sees the token cancelled must find it.
        let _ = self.reason.set(reason);
        self.token.cancel();
        if reason.is_urgent() {
            self.urgent.cancel();
        }
    }

    pub(crate) fn reason(&self) -> Option<StopReason> {
        self.reason.get().copied()
    }

    pub(crate) fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// Cancelled by an urgent reason, also when another one came first.
    pub(crate) fn urgent(&self) -> &CancellationToken {
        &self.urgent
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
        assert!(!stop.urgent().is_cancelled());
        stop.stop(StopReason::LeaseLost);
        assert_eq!((stop.reason(), stop.token().is_cancelled()), (Some(StopReason::Requested), true));
        assert!(other.urgent().is_cancelled(), "the shorter grace time applies all the same");
    }
}
