//! What happens in the cluster, told to whoever listens.
//!
//! ```text
//!   changes of our keys ──▶ core::feed ──▶ ring ──▶ Listener ──▶ SSE, gRPC
//!                          (scheduler)       ▲
//!                                        each reads on by itself
//! ```
//!
//! The scheduler's task adds events to the ring and rings a bell; it does nothing else, whether anybody listens or
//! not. A listener keeps no events: it has a position in the ring, and reads on when its caller has taken what it
//! got. Who is too slow finds that what comes next is not there any more, and is told to begin anew.
//!
//! Refuses: more than [`PER_CALLER`] listeners for one caller, and more than [`places::PER_NODE`] together.

mod filter;
mod listener;
mod places;
mod ring;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

pub(crate) use filter::Filter;
pub(crate) use listener::{Listener, Start, Told};
pub(crate) use places::PER_CALLER;
use places::{Place, Places};
use ring::{Position, Ring};

use crate::core::feed::{Fresh, MAX_FRESH};

/// What is kept for those who were away: about 6 MB.
const CAPACITY: usize = MAX_FRESH;

/// What listeners wait for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Bell {
    /// How often there was news.
    rung: u64,
    /// How often users, tokens and sessions have changed.
    access: u64,
    /// The node shuts down.
    closed: bool,
}

/// Where the scheduler puts events.
pub(crate) struct Teller {
    ring: Arc<Mutex<Ring>>,
    bell: watch::Sender<Bell>,
}

/// Where listeners come from. A cheap clone each.
#[derive(Clone)]
pub(crate) struct Events {
    ring: Arc<Mutex<Ring>>,
    bell: watch::Receiver<Bell>,
    places: Places,
}

pub(crate) fn channel() -> (Teller, Events) {
    let ring = Arc::new(Mutex::new(Ring::new(CAPACITY)));
    let (sender, bell) = watch::channel(Bell::default());
    (Teller { ring: Arc::clone(&ring), bell: sender }, Events { ring, bell, places: Places::default() })
}

impl Teller {
    /// Tells what is new. `access`: how often users, tokens and sessions have changed.
    pub(crate) fn tell(&self, fresh: Fresh, access: u64) {
        let news = lock(&self.ring).add(fresh);
        self.bell.send_if_modified(|bell| {
            let changed = news || bell.access != access;
            bell.rung += u64::from(news);
            bell.access = access;
            changed
        });
    }

    /// Ends all listeners.
    pub(crate) fn close(&self) {
        self.bell.send_modify(|bell| bell.closed = true);
    }
}

impl Events {
    fn place(&self, caller: &str) -> Option<Place> {
        self.places.take(caller)
    }

    fn end(&self) -> Position {
        lock(&self.ring).end()
    }
}

fn lock(ring: &Mutex<Ring>) -> MutexGuard<'_, Ring> {
    ring.lock().unwrap_or_else(PoisonError::into_inner)
}
