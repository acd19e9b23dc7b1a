//! Whether this node is of use, for load balancers and supervisors. Asks nobody who they are.

use std::time::Duration;

use super::Administration;

/// A probe must answer before the one who asks gives up.
const PATIENCE: Duration = Duration::from_millis(800);

#[derive(Debug, Clone, Copy)]
pub(crate) struct Readiness {
    /// This node's view has everything that etcd had a moment ago.
    pub(crate) view_is_current: bool,
    pub(crate) etcd: bool,
    pub(crate) history: bool,
    pub(crate) leads: bool,
}

impl Administration {
    pub(crate) async fn readiness(&self) -> Readiness {
        let inner = &self.inner;
        let view_is_current = inner.scheduler.caught_up(0, PATIENCE).await.is_ok();
        let leads = inner
            .scheduler
            .read(|now| now.view.leader().is_some_and(|leader| leader.node == now.node.as_str()));
        let etcd = tokio::time::timeout(PATIENCE, inner.store.status());
        let history = tokio::time::timeout(PATIENCE, inner.history.ping());
        let (leads, etcd, history) = tokio::join!(leads, etcd, history);
        Readiness {
            view_is_current,
            etcd: matches!(etcd, Ok(Ok(_))),
            history: matches!(history, Ok(Ok(()))),
            leads: leads.unwrap_or(false),
        }
    }
}
