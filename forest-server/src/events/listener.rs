//! One who listens: reads on from a position, and ends when it may not any more.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::places::Place;
use super::{Bell, Events, Filter, Position, lock};
use crate::access::{Caller, Proof};
use crate::admin::AdminError;
use crate::core::feed::{Event, EventId};

/// Events read at once.
const PAGE: usize = 256;
/// After so long without an event, a sign of life with the position.
const BEAT: Duration = Duration::from_secs(15);
/// So often the clock is asked whether what the caller has shown still counts. What is changed about it comes at once.
const CHECK: Duration = Duration::from_secs(2);
/// Between two looks at a ring that was read to its end: many events at once cost less than each by itself.
const REST: Duration = Duration::from_millis(20);

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// With what happens from now on.
    Now,
    /// With the oldest that is still here.
    Oldest,
    /// Behind this one.
    After(EventId),
}

/// What a listener is told.
#[derive(Debug)]
pub(crate) enum Told {
    Events(Vec<Arc<Event>>),
    /// Events are missing: read everything anew, and go on from here.
    Reset(EventId),
    /// Nothing up to here.
    Alive(EventId),
}

pub(crate) struct Listener {
    events: Events,
    bell: watch::Receiver<Bell>,
    access: u64,
    position: Position,
    filter: Filter,
    caller: Caller,
    proof: Proof,
    follows: bool,
    greeting: Option<Told>,
    next_beat: Instant,
    next_check: Instant,
    rests_until: Instant,
    ended: bool,
    _place: Place,
}

impl Events {
    /// `None`: the caller has enough of them. `reset`: that it cannot begin where it wants to is known already.
    pub(crate) fn listen(
        &self,
        start: Start,
        reset: bool,
        follows: bool,
        filter: Filter,
        caller: Caller,
        proof: Proof,
    ) -> Option<Listener> {
        let place = self.place(&caller.label())?;
        let position = {
            let ring = lock(&self.ring);
            match start {
                Start::After(id) if !reset => ring.at(id),
                Start::Oldest if !reset => ring.beginning(),
                _ => ring.end(),
            }
        };
        let greeting = if reset { Told::Reset(position.id) } else { Told::Alive(position.id) };
        let (bell, now) = (self.bell.clone(), Instant::now());
        let access = bell.borrow().access;
        Some(Listener {
            events: self.clone(),
            bell,
            access,
            position,
            filter,
            caller,
            proof,
            follows,
            greeting: Some(greeting),
            next_beat: now + BEAT,
            next_check: now + CHECK,
            rests_until: now,
            ended: false,
            _place: place,
        })
    }
}

impl Listener {
    /// The next thing to tell; `None` at the end. An error is the last thing. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Result<Told, AdminError>> {
        if self.ended {
            return None;
        }
        if let Some(greeting) = self.greeting.take() {
            return Some(Ok(greeting));
        }
        let told = self.told().await;
        self.ended = !matches!(told, Some(Ok(_)));
        told
    }

    async fn told(&mut self) -> Option<Result<Told, AdminError>> {
        loop {
            tokio::time::sleep_until(self.rests_until).await;
            if let Err(refused) = self.check().await {
                return Some(Err(refused));
            }
            let found = lock(&self.events.ring).after(self.position, PAGE);
            let Some((mut events, position)) = found else {
                self.position = self.events.end();
                return Some(Ok(Told::Reset(self.position.id)));
            };
            let all = events.len() < PAGE;
            self.position = position;
            if all {
                self.rests_until = Instant::now() + REST;
            }
            events.retain(|event| self.filter.lets_pass(event, &self.caller));
            if !events.is_empty() {
                self.next_beat = Instant::now() + BEAT;
                return Some(Ok(Told::Events(events)));
            }
            match (all, self.follows) {
                (false, _) => tokio::task::yield_now().await,
                (true, false) => return None,
                (true, true) if Instant::now() >= self.next_beat => {
                    self.next_beat = Instant::now() + BEAT;
                    return Some(Ok(Told::Alive(self.position.id)));
                }
                (true, true) => self.wait().await,
            }
        }
    }

    async fn wait(&mut self) {
        let until =
            if self.proof.is_asked_for() { self.next_beat.min(self.next_check) } else { self.next_beat };
        let gone = tokio::select! {
            biased;
            changed = self.bell.changed() => changed.is_err(),
            () = tokio::time::sleep_until(until) => false,
        };
        if gone {
            // The scheduler has ended without a word: the next look finds that out.
            self.rests_until = Instant::now() + REST;
        }
    }

    /// Whether it may go on, as what.
    async fn check(&mut self) -> Result<(), AdminError> {
        let bell = *self.bell.borrow();
        if bell.closed || self.bell.has_changed().is_err() {
            return Err(AdminError::Unavailable("the node is shutting down: go on at another one".into()));
        }
        let due = bell.access != self.access || Instant::now() >= self.next_check;
        if self.proof.is_asked_for() && due {
            (self.access, self.next_check) = (bell.access, Instant::now() + CHECK);
            self.caller = self.proof.caller().await?;
            self.caller.may_listen(self.filter.group.as_ref())?;
        }
        Ok(())
    }
}
