//! The network between the machines on one side and etcd and the database on the other.
//!
//! Every message takes a while. What is sent over a link that is cut is lost, or arrives when the link is whole
//! again, as TCP would bring it: so a request can take effect long after its sender has given it up. What a
//! message does at its other end is done by a task of the network, because the sender may be frozen or dead
//! by then.

use std::collections::BTreeMap;
use std::future::{Future, pending};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::clock::simulated_ms;
use crate::plan::MachineId;

/// What a message over a whole link takes at most.
const USUAL_MS: u64 = 3;

/// What one that is late takes at most.
const LATE_MS: u64 = 15_000;

/// One of the two that machines talk to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    Etcd,
    Database,
}

/// What is wrong with a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Trouble {
    /// No connection can be made.
    pub refused: bool,
    /// Nothing gets from the machine to the peer.
    pub requests_cut: bool,
    /// Nothing gets from the peer to the machine.
    pub replies_cut: bool,
    /// Each message takes up to so many milliseconds more.
    pub slow_ms: u64,
    /// Of a hundred requests, so many take effect and are never answered.
    pub lost_replies: u8,
    /// Of a hundred requests, so many arrive late, by as much as fifteen seconds.
    pub late_requests: u8,
}

#[derive(Clone, Copy)]
enum Way {
    There,
    Back,
}

type LinkId = (MachineId, Peer);

#[derive(Clone)]
pub struct Network {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    /// When the faults end.
    calm_at: u64,
    random: fastrand::Rng,
    troubles: BTreeMap<LinkId, Trouble>,
    deliveries: JoinSet<()>,
    messages: u64,
}

impl Network {
    #[must_use]
    pub fn new(seed: u64, calm_at: u64) -> Self {
        let state = State {
            calm_at,
            random: fastrand::Rng::with_seed(seed),
            troubles: BTreeMap::new(),
            deliveries: JoinSet::new(),
            messages: 0,
        };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), changed: Notify::new() }) }
    }

    /// From now on this is wrong with a link; the default is nothing.
    pub fn set(&self, link: LinkId, trouble: Trouble) {
        self.lock().troubles.insert(link, trouble);
        self.shared.changed.notify_waiters();
    }

    pub fn heal(&self) {
        self.lock().troubles.clear();
        self.shared.changed.notify_waiters();
    }

    /// So many messages were sent.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.lock().messages
    }

    /// Whether a request does not even leave the machine.
    #[must_use]
    pub fn refuses(&self, link: LinkId) -> bool {
        self.lock().trouble(link).refused
    }

    /// Sends a request, does at the peer what it asks for, and brings the answer back. An answer that is lost
    /// never comes.
    pub async fn call<T: Send + 'static>(
        &self,
        link: LinkId,
        effect: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let (sender, answer) = oneshot::channel();
        let network = self.clone();
        let delivery = async move {
            if !network.pass(link, Way::There).await {
                return;
            }
            let result = effect();
            if network.pass(link, Way::Back).await {
                let _ = sender.send(result);
            }
        };
        self.lock().deliver(delivery);
        match answer.await {
            Ok(answer) => answer,
            Err(_) => pending().await,
        }
    }

    /// Runs something of the network's own, such as a stream, to its end.
    pub fn run(&self, stream: impl Future<Output = ()> + Send + 'static) {
        self.lock().deliver(stream);
    }

    /// The way of one message of a stream from a machine to its peer. `false`: the connection breaks.
    pub async fn there(&self, link: LinkId) -> bool {
        self.pass(link, Way::There).await
    }

    /// The way back; see [`there`](Self::there).
    pub async fn back(&self, link: LinkId) -> bool {
        self.pass(link, Way::Back).await
    }

    /// Whether something happens that happens in so many of a hundred cases.
    #[must_use]
    pub fn chance(&self, percent: u8) -> bool {
        self.lock().random.u8(..100) < percent
    }

    async fn pass(&self, link: LinkId, way: Way) -> bool {
        let (delay, lost) = self.lock().draw(link, way);
        if delay > 0 {
            sleep(Duration::from_millis(delay)).await;
        }
        if lost {
            return false;
        }
        while self.is_cut(link, way) {
            if self.chance(50) {
                return false;
            }
            let changed = self.shared.changed.notified();
            if self.is_cut(link, way) {
                changed.await;
            }
        }
        true
    }

    fn is_cut(&self, link: LinkId, way: Way) -> bool {
        let trouble = self.lock().trouble(link);
        match way {
            Way::There => trouble.requests_cut,
            Way::Back => trouble.replies_cut,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn deliver(&mut self, delivery: impl Future<Output = ()> + Send + 'static) {
        self.messages += 1;
        while self.deliveries.try_join_next().is_some() {}
        // Apart from the sender's process, whatever becomes of that.
        self.deliveries.spawn(delivery);
    }

    fn trouble(&self, link: LinkId) -> Trouble {
        self.troubles.get(&link).copied().unwrap_or_default()
    }

    /// The milliseconds that a message takes, and whether it is lost on the way.
    fn draw(&mut self, link: LinkId, way: Way) -> (u64, bool) {
        let trouble = self.trouble(link);
        let usual = self.random.u64(..=USUAL_MS) + self.random.u64(..=trouble.slow_ms);
        match way {
            Way::There if self.random.u8(..100) < trouble.late_requests => {
                let most = if self.random.bool() { 3_000 } else { LATE_MS };
                // Faults end some day.
                let left = self.calm_at.saturating_sub(simulated_ms());
                (self.random.u64(500..most).min(left.max(usual)), false)
            }
            Way::There => (usual, false),
            Way::Back => (usual, self.random.u8(..100) < trouble.lost_replies),
        }
    }
}
