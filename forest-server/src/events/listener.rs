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
    /// `None`: nobody has to show anything.
    proof: Option<Proof>,
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
        proof: Option<Proof>,
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
        let until = if self.proof.is_some() { self.next_beat.min(self.next_check) } else { self.next_beat };
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
        if let Some(proof) = self.proof.as_ref().filter(|_| due) {
            (self.access, self.next_check) = (bell.access, Instant::now() + CHECK);
            self.caller = proof.caller().await?;
            self.caller.may_listen(self.filter.group.as_ref())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use forest_proto::NodeId;

    use super::*;
    use crate::core::feed::{About, Fresh, Kind};
    use crate::events::{Teller, channel};

    fn fresh(revisions: std::ops::RangeInclusive<i64>, kind: Kind) -> Fresh {
        let seen = *revisions.end();
        let event = |revision| {
            let about = About::Node(NodeId::new("n-1").expect("valid"));
            Arc::new(Event { id: EventId { revision, index: 1 }, at_ms: 0, kind, group: None, about })
        };
        Fresh { floor: None, events: revisions.map(event).collect(), seen }
    }

    /// A ring that begins behind revision 10, and one who listens to it.
    fn listening(start: Start, follows: bool, types: &[&str]) -> (Teller, Listener) {
        let (teller, events) = channel();
        teller.tell(Fresh { floor: Some(10), seen: 10, ..Fresh::default() }, 0);
        teller.tell(fresh(11..=12, Kind::NodeJoined), 0);
        let mut filter = Filter::default();
        types.iter().for_each(|name| filter.add_type(name).expect("known"));
        let listener = events.listen(start, false, follows, filter, Caller::server(), None);
        (teller, listener.expect("there is room"))
    }

    async fn told(listener: &mut Listener) -> String {
        match listener.next().await {
            Some(Ok(Told::Events(events))) => {
                let ids: Vec<_> = events.iter().map(|event| event.id.to_string()).collect();
                ids.join(" ")
            }
            Some(Ok(Told::Reset(at))) => format!("reset {at}"),
            Some(Ok(Told::Alive(at))) => format!("alive {at}"),
            Some(Err(refused)) => refused.to_string(),
            None => "end".to_owned(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_begins_where_it_is_told_to() {
        let (_teller, mut listener) = listening(Start::Oldest, false, &[]);
        assert_eq!(told(&mut listener).await, "alive 10");
        assert_eq!(told(&mut listener).await, "11.1 12.1");
        assert_eq!(told(&mut listener).await, "end");
        let (_teller, mut listener) = listening(Start::After(EventId { revision: 11, index: 1 }), false, &[]);
        assert_eq!([told(&mut listener).await, told(&mut listener).await], ["alive 11.1", "12.1"]);
        let (teller, mut listener) = listening(Start::Now, true, &[]);
        assert_eq!(told(&mut listener).await, "alive 12");
        teller.tell(fresh(13..=13, Kind::NodeLeft), 0);
        assert_eq!(told(&mut listener).await, "13.1");
        let (_teller, mut listener) = listening(Start::After(EventId::end_of(9)), true, &[]);
        assert_eq!([told(&mut listener).await, told(&mut listener).await], ["alive 9", "reset 12"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_quiet_one_moves_on_and_lives() {
        let (teller, mut listener) = listening(Start::Now, true, &["node.left"]);
        let begun = Instant::now();
        assert_eq!(told(&mut listener).await, "alive 12");
        teller.tell(fresh(13..=2000, Kind::NodeJoined), 0);
        assert_eq!(told(&mut listener).await, "alive 2000", "it got nothing, and is behind all of it");
        assert_eq!(begun.elapsed().as_secs(), 15);
        assert_eq!(told(&mut listener).await, "alive 2000");
        assert_eq!(begun.elapsed().as_secs(), 30);
        teller.tell(fresh(2001..=2001, Kind::NodeLeft), 0);
        assert_eq!(told(&mut listener).await, "2001.1");
        assert_eq!(begun.elapsed().as_secs(), 30, "at once");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_one_holds_nothing_and_is_told_to_begin_anew() {
        let (teller, mut listener) = listening(Start::Now, true, &[]);
        assert_eq!(told(&mut listener).await, "alive 12");
        teller.tell(fresh(13..=1000, Kind::NodeJoined), 0);
        let first = told(&mut listener).await;
        assert_eq!(first.split(' ').count(), PAGE);
        assert!(first.starts_with("13.1 ") && first.ends_with(" 268.1"), "{first}");
        let many = 1001..=1000 + i64::try_from(crate::events::CAPACITY).expect("fits");
        teller.tell(fresh(many.clone(), Kind::NodeJoined), 0);
        assert_eq!(told(&mut listener).await, format!("reset {}", many.end()));
        teller.tell(fresh(99_000..=99_000, Kind::NodeJoined), 0);
        assert_eq!(told(&mut listener).await, "99000.1");
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_with_its_node() {
        let (teller, mut listener) = listening(Start::Now, true, &[]);
        assert_eq!(told(&mut listener).await, "alive 12");
        let (waits, ()) = tokio::join!(told(&mut listener), async { teller.close() });
        assert!(waits.contains("shutting down"), "{waits}");
        assert_eq!([told(&mut listener).await, told(&mut listener).await], ["end", "end"]);
        let (teller, mut listener) = listening(Start::Now, true, &[]);
        assert_eq!(told(&mut listener).await, "alive 12");
        let (waits, ()) = tokio::join!(told(&mut listener), async { drop(teller) });
        assert!(waits.contains("shutting down"), "{waits}");
    }
}
