//! Becoming and ceasing to be the leader.
//!
//! The leader key hangs on this node's lease and is only ever created, never overwritten. A campaign whose
//! answer was lost is repeated: if the key is then found to be ours, it had succeeded.

use std::time::Duration;

use forest_etcd::{Error, KeyRange, KeyValue, Outcome, Store, Txn};
use forest_proto::Keyspace;

use super::leading::Leading;
use super::{Answer, RESIGN_GRACE, Role, Scheduler};
use crate::core::clock_guard;
use crate::core::roll::Roll;
use crate::core::term::Term;
use crate::core::view::Now;

/// Pause after a campaign that told nothing.
const TRY_AGAIN: Duration = Duration::from_millis(200);
/// Runs per page of the roll.
const PAGE: usize = 5_000;

/// A follower's attempts to lead.
/// A leader that was asked to give up the leadership and begins nothing new: what is in flight comes to its end first.
#[derive(Debug, Clone, Copy)]
pub(super) struct GivingUp {
    /// For so long it leaves the leadership to others.
    hold: Duration,
    /// Time since boot at which it gives up whatever is in flight, or tries again to.
    next_at: Duration,
    /// Whether it has told etcd so and waits for the answer.
    told: bool,
}

#[derive(Debug, Default)]
pub(super) struct Campaign {
    running: bool,
    /// Time since boot at which to look again although a leader is known.
    next_at: Duration,
    /// The leader key was seen in etcd as of this revision: no use trying before the view is as far.
    not_before: i64,
    /// The leadership is left to others until one has taken it.
    holds: bool,
}

impl Campaign {
    pub(super) fn until_next(&self, now: Now) -> Duration {
        if self.running { Duration::MAX } else { self.next_at.saturating_sub(now.boot) }
    }

    fn pause(&mut self, now: Now) {
        self.not_before = 0;
        self.next_at = now.boot + TRY_AGAIN;
    }
}

impl GivingUp {
    pub(super) fn until_next(&self, now: Now) -> Duration {
        if self.told { Duration::MAX } else { self.next_at.saturating_sub(now.boot) }
    }
}

impl Scheduler {
    pub(super) fn check_leadership(&mut self, now: Now) {
        match &self.role {
            Role::Leader(leading) => {
                if let Some(reason) = self.reason_to_step_down(leading) {
                    tracing::warn!(term = leading.term_number(), reason, "no longer the leader");
                    self.step_down(now);
                } else if self.guard.is_disowned() {
                    let term = leading.term_number();
                    tracing::error!(
                        term,
                        "resigning: the wall clock was set, and the other nodes do not agree with it"
                    );
                    let (store, txn) = (self.store.clone(), leading.resignation(&self.config.keys));
                    // Whatever becomes of it, it is no leader any more; and the view will tell.
                    self.in_flight
                        .spawn(async move { Answer::Resigned { term, result: store.commit(txn).await } });
                    self.step_down(now);
                } else {
                    self.give_up_if_asked(now);
                }
            }
            Role::Follower(_) => self.campaign_if_needed(now),
        }
    }

    fn reason_to_step_down(&self, leading: &Leading) -> Option<&'static str> {
        if !self.session.is_trusted(leading.lease) {
            return Some("the lease may have ended");
        }
        if !self.view.is_complete() {
            return Some("etcd's history was replaced");
        }
        // Before the view has caught up with the campaign it shows what was before it.
        let caught_up = self.view.revision() >= leading.term_number();
        let leads = self.view.leader().is_some_and(|leader| leader.term == leading.term_number());
        (caught_up && !leads).then_some("the leader key is gone or another's")
    }

    /// What is asked of a leader is followed in good order: nothing new is begun, what is in flight gets some time to come
    /// to its end, and then the leadership is given back.
    fn give_up_if_asked(&mut self, now: Now) {
        let Role::Leader(leading) = &mut self.role else { return };
        if leading.giving_up.is_none() {
            let Some(hold) = leading.asked_to_step_down(&self.view) else { return };
            tracing::info!(term = leading.term_number(), ?hold, "stepping down, as somebody asked for it");
            leading.giving_up = Some(GivingUp { hold, next_at: now.boot + RESIGN_GRACE, told: false });
        }
        let Some(giving_up) = &mut leading.giving_up else { return };
        let due = self.in_flight.is_empty() || giving_up.next_at <= now.boot;
        if !due || giving_up.told {
            return;
        }
        giving_up.told = true;
        let (term, store) = (leading.term_number(), self.store.clone());
        let txn = leading.resignation(&self.config.keys);
        self.in_flight.spawn(async move { Answer::Resigned { term, result: store.commit(txn).await } });
    }

    /// etcd says whether the leadership was given back. If it does not, it is told again: a leader that leads no longer
    /// and is still called one would be in everybody's way.
    pub(super) fn resigned(&mut self, term: i64, result: Result<Outcome, Error>) {
        tracing::info!(term, ?result, "resigned");
        let now = self.now();
        let Role::Leader(leading) = &mut self.role else { return };
        let Some(giving_up) = leading.giving_up.as_mut().filter(|_| leading.term.number() == term) else {
            return;
        };
        if matches!(result, Ok(Outcome::Unknown { .. }) | Err(_)) {
            (giving_up.told, giving_up.next_at) = (false, now.boot + TRY_AGAIN);
            return;
        }
        let hold = giving_up.hold;
        self.role = Role::Follower(Campaign {
            next_at: now.boot + hold.max(TRY_AGAIN),
            holds: !hold.is_zero(),
            ..Campaign::default()
        });
    }

    fn step_down(&mut self, now: Now) {
        self.role = Role::Follower(Campaign { next_at: now.boot + TRY_AGAIN, ..Campaign::default() });
    }

    fn campaign_if_needed(&mut self, now: Now) {
        let Role::Follower(campaign) = &mut self.role else { return };
        if campaign.holds && self.view.leader().is_some_and(|leader| leader.node != self.config.node.as_str())
        {
            (campaign.holds, campaign.next_at) = (false, now.boot);
        }
        let vacant = self.view.leader().is_none() && self.view.revision() >= campaign.not_before;
        let due = (vacant && campaign.not_before > 0) || campaign.next_at <= now.boot;
        if campaign.running || !due || !self.view.is_complete() {
            return;
        }
        let Some(lease) = self.session.current() else {
            campaign.next_at = now.boot + TRY_AGAIN;
            return;
        };
        campaign.next_at = now.boot + self.config.lease_ttl;
        if self.guard.is_disowned() {
            return;
        }
        let skew = clock_guard::skew(
            now,
            self.view.heartbeats.iter().filter(|(n, _)| **n != self.config.node).map(|(_, b)| b),
        );
        if skew.abs() > clock_guard::MAX_SKEW_MS {
            tracing::error!(
                skew_ms = skew,
                "not campaigning: this node's clock is too far off the other nodes'"
            );
            return;
        }
        campaign.running = true;
        let key = self.config.keys.leader();
        let txn = Txn::new()
            .absent(key.clone())
            .put_leased(key.clone(), self.config.node.as_str(), lease.id)
            .or_get(key);
        let store = self.store.clone();
        self.in_flight
            .spawn(async move { Answer::Campaigned { lease: lease.id, result: store.commit(txn).await } });
    }

    pub(super) fn campaigned(&mut self, lease: i64, result: Result<Outcome, Error>) {
        let now = self.now();
        let (ttl, node) = (self.config.lease_ttl, self.config.node.clone());
        // Our name on our lease: an earlier campaign had succeeded and its answer was lost.
        let is_mine = |kv: &KeyValue| kv.value == node.as_str().as_bytes() && kv.lease == lease;
        let Role::Follower(campaign) = &mut self.role else { return };
        campaign.running = false;
        match result {
            Ok(Outcome::Applied { revision }) => self.lead(revision, lease, now),
            Ok(Outcome::Refused { found, .. }) => match found.into_iter().next().flatten() {
                Some(kv) if is_mine(&kv) => self.lead(kv.create_revision, lease, now),
                Some(kv) => {
                    campaign.not_before = kv.mod_revision;
                    campaign.next_at = now.boot + ttl;
                }
                None => campaign.pause(now),
            },
            Ok(Outcome::Unknown { cause }) => {
                tracing::warn!(cause, "the answer to a campaign was lost: trying again");
                campaign.pause(now);
            }
            Err(error) => {
                tracing::warn!(%error, "a campaign failed: trying again");
                campaign.pause(now);
            }
        }
    }

    fn lead(&mut self, number: i64, lease: i64, now: Now) {
        tracing::info!(term = number, node = %self.config.node, "leading");
        let term = Term::new(number, self.config.node.clone(), &self.config.keys);
        self.role = Role::Leader(Box::new(Leading::new(term, lease, &self.config, now)));
        let listing = list_runs(self.store.clone(), self.config.keys.clone());
        self.in_flight.spawn(async move { Answer::Rolled { term: number, result: listing.await } });
    }

    /// Gives the leadership back, so that nobody has to wait for the lease to end.
    pub(super) async fn resign(mut self) {
        let role = std::mem::replace(&mut self.role, Role::Follower(Campaign::default()));
        let Role::Leader(leading) = role else { return };
        let _ =
            tokio::time::timeout(RESIGN_GRACE, async { while self.in_flight.join_next().await.is_some() {} })
                .await;
        match self.store.commit(leading.resignation(&self.config.keys)).await {
            Ok(Outcome::Applied { .. }) => tracing::info!(term = leading.term_number(), "resigned"),
            other => tracing::warn!(?other, "could not resign: the lease's end will do it"),
        }
    }
}

/// Lists the runs, after the term began.
async fn list_runs(store: Store, keys: Keyspace) -> Result<Roll, Error> {
    let mut roll = Roll::new();
    for prefix in keys.runs() {
        let mut pager = store.pager(&KeyRange::prefix(&prefix), PAGE).keys_only();
        while let Some(page) = pager.next().await? {
            roll.extend(page.into_iter().map(|kv| (kv.key, kv.mod_revision)));
        }
    }
    Ok(roll)
}
