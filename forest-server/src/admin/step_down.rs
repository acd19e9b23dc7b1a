//! Asking the leader to give up the leadership: by a document that it follows, through whatever node.

use std::time::Duration;

use forest_etcd::Txn;
use forest_proto::NodeId;
use forest_proto::record::{Role, StepDown, encode};

use super::audit::Deed;
use super::write::Written;
use super::{Admin, AdminError};
use crate::access::Scope;

/// How long the old leader leaves the leadership to others, unless somebody says.
const HOLD: Duration = Duration::from_secs(10);
const MAX_HOLD: Duration = Duration::from_secs(600);
/// The wish does not outlive this.
const WISH: Duration = Duration::from_secs(30);
/// How long a caller waits for the next leader.
const PATIENCE: Duration = Duration::from_secs(8);

/// What came of it.
#[derive(Debug, Clone)]
pub(crate) struct SteppedDown {
    pub(crate) from: String,
    pub(crate) term: i64,
    /// The nodes that could take it.
    pub(crate) others: usize,
    /// The next leader and its term; `None`: there was none before the caller's patience ended.
    pub(crate) next: Option<(String, i64)>,
    /// From the request to what is known of the next leader.
    pub(crate) took: Duration,
}

impl Admin {
    /// Asks the leader to give up the leadership and waits for the next one. `node`: only if it is this one; empty:
    /// whoever leads.
    pub(crate) async fn step_down(
        &self,
        node: &str,
        hold: Option<Duration>,
    ) -> Result<SteppedDown, AdminError> {
        self.require(Role::Admin, Scope::Everywhere)?;
        let hold = hold.unwrap_or(HOLD);
        if hold > MAX_HOLD {
            return Err(AdminError::invalid("hold_ms", "must be at most 600,000, which are 10 minutes"));
        }
        let found = self.read(|now| {
            let leader = now.view.leader().map(|leader| (leader.node.clone(), leader.term))?;
            let others = now.view.nodes.iter().filter(|(node, _)| node.as_str() != leader.0).count();
            Some((leader, others))
        });
        let no_leader = || AdminError::Unavailable("there is no leader at the moment".into());
        let ((leader, term), others) = found.await?.ok_or_else(no_leader)?;
        if !node.is_empty() && node != leader {
            let what =
                format!("node {:?} does not lead: {leader} does", node.chars().take(80).collect::<String>());
            return Err(AdminError::NotNow { reason: "NOT_LEADER", what });
        }
        let asked = StepDown {
            // What a node wrote is one of ours.
            node: NodeId::new(&leader).map_err(|_| no_leader())?,
            term,
            hold_ms: u64::try_from(hold.as_millis()).unwrap_or(u64::MAX),
            at: self.now(),
            by: self.caller.who.to_string(),
        };
        let begun = self.inner.clock.boot();
        self.ask_to_step_down(&asked).await?;
        let next = move |now: &crate::scheduler::Reading<'_>| {
            let leader = now.view.leader().filter(|leader| leader.term > term)?;
            Some((leader.node.clone(), leader.term))
        };
        let next = self.inner.scheduler.until(PATIENCE, next).await?;
        let took = self.inner.clock.boot().saturating_sub(begun);
        Ok(SteppedDown { from: leader, term, others, next, took })
    }

    /// Only the leader of this term can be asked: the next one has not been meant.
    async fn ask_to_step_down(&self, asked: &StepDown) -> Result<(), AdminError> {
        let keys = &self.inner.keys;
        let (key, leader, value) = (keys.step_down(), keys.leader(), encode(asked));
        let lease = self.inner.store.grant(WISH).await?;
        let txn = Txn::new().created(leader, asked.term).put_leased(key, value, lease);
        let deed = Deed::new("node.step_down", asked.node.as_str(), None).saying("hold_ms", asked.hold_ms);
        match self.commit(self.audited(txn, deed)).await? {
            Written::Done => Ok(()),
            Written::Refused(_) => Err(AdminError::Conflict { what: "the leadership".into() }),
        }
    }
}
