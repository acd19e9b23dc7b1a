//! The last events, as many as there is room for, and from where on none is missing.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::core::feed::{Event, EventId, Fresh};

/// How far somebody has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) id: EventId,
    /// Ids are compared only with those of the same generation: after a restore they may begin anew.
    generation: u64,
}

#[derive(Debug)]
pub(super) struct Ring {
    events: VecDeque<Arc<Event>>,
    capacity: usize,
    /// Everything behind it is here, up to `seen`.
    floor: EventId,
    seen: i64,
    generation: u64,
}

impl Ring {
    pub(super) fn new(capacity: usize) -> Self {
        Self { events: VecDeque::new(), capacity, floor: EventId::end_of(0), seen: 0, generation: 0 }
    }

    /// Takes in what is new; says whether readers have something to do.
    pub(super) fn add(&mut self, fresh: Fresh) -> bool {
        let news = fresh.floor.is_some() || !fresh.events.is_empty();
        if let Some(floor) = fresh.floor {
            self.events.clear();
            self.floor = EventId::end_of(floor);
            self.generation += 1;
        }
        for event in fresh.events {
            self.events.push_back(event);
            if self.events.len() > self.capacity
                && let Some(oldest) = self.events.pop_front()
            {
                self.floor = oldest.id;
            }
        }
        self.seen = fresh.seen;
        news
    }

    /// Behind everything that is here.
    pub(super) fn end(&self) -> Position {
        self.at(EventId::end_of(self.seen).max(self.floor))
    }

    /// Before everything that is here.
    pub(super) fn beginning(&self) -> Position {
        self.at(self.floor)
    }

    pub(super) fn at(&self, id: EventId) -> Position {
        Position { id, generation: self.generation }
    }

    /// At most `limit` events behind a position, and the position behind them; `None` if some are not here any more.
    pub(super) fn after(&self, position: Position, limit: usize) -> Option<(Vec<Arc<Event>>, Position)> {
        if position.generation != self.generation || position.id < self.floor {
            return None;
        }
        let from = self.events.partition_point(|event| event.id <= position.id);
        let found: Vec<_> = self.events.range(from..).take(limit).cloned().collect();
        let id = match found.last() {
            Some(last) if from + found.len() < self.events.len() => last.id,
            Some(_) | None => position.id.max(EventId::end_of(self.seen)),
        };
        Some((found, self.at(id)))
    }
}

#[cfg(test)]
mod tests {
    use forest_proto::NodeId;

    use super::*;
    use crate::core::feed::{About, Kind};

    fn event(revision: i64, index: u32) -> Arc<Event> {
        let about = About::Node(NodeId::new("n-1").expect("valid"));
        let id = EventId { revision, index };
        Arc::new(Event { id, at_ms: 0, kind: Kind::NodeJoined, group: None, about })
    }

    fn fresh(floor: Option<i64>, ids: &[(i64, u32)], seen: i64) -> Fresh {
        let events = ids.iter().map(|(revision, index)| event(*revision, *index)).collect();
        Fresh { floor, events, seen }
    }

    /// The ids behind a position, and where that ends.
    fn read(ring: &Ring, position: Position, limit: usize) -> Option<(Vec<String>, String)> {
        let (events, next) = ring.after(position, limit)?;
        Some((events.iter().map(|event| event.id.to_string()).collect(), next.id.to_string()))
    }

    fn some(ids: &[&str], next: &str) -> Option<(Vec<String>, String)> {
        Some((ids.iter().map(|id| (*id).to_owned()).collect(), next.to_owned()))
    }

    #[test]
    fn what_is_behind_a_position_is_read_in_pages() {
        let mut ring = Ring::new(10);
        assert!(ring.add(fresh(Some(5), &[], 5)));
        let start = ring.end();
        assert_eq!(start.id.to_string(), "5");
        assert!(!ring.add(fresh(None, &[], 6)), "nothing for anybody to do");
        assert!(ring.add(fresh(None, &[(7, 1), (7, 3), (9, 1)], 9)));
        assert_eq!(read(&ring, start, 2), some(&["7.1", "7.3"], "7.3"));
        assert_eq!(read(&ring, start, 3), some(&["7.1", "7.3", "9.1"], "9"));
        assert_eq!(read(&ring, ring.at(EventId { revision: 7, index: 1 }), 9), some(&["7.3", "9.1"], "9"));
        // Between two events, and behind all of them.
        assert_eq!(read(&ring, ring.at(EventId::end_of(8)), 9), some(&["9.1"], "9"));
        assert_eq!(read(&ring, ring.end(), 9), some(&[], "9"));
        ring.add(fresh(None, &[], 20));
        assert_eq!(
            read(&ring, ring.at(EventId::end_of(9)), 9),
            some(&[], "20"),
            "it moves on without events"
        );
    }

    #[test]
    fn what_was_pushed_out_is_missed_and_what_was_not_is_not() {
        let mut ring = Ring::new(2);
        ring.add(fresh(Some(5), &[(6, 1), (7, 1), (8, 1)], 8));
        assert_eq!(read(&ring, ring.at(EventId::end_of(5)), 9), None, "6.1 is gone");
        assert_eq!(read(&ring, ring.at(EventId { revision: 6, index: 0 }), 9), None);
        assert_eq!(read(&ring, ring.at(EventId { revision: 6, index: 1 }), 9), some(&["7.1", "8.1"], "8"));
        assert_eq!(read(&ring, ring.beginning(), 9), some(&["7.1", "8.1"], "8"));
        assert_eq!(ring.events.len(), 2);
    }

    #[test]
    fn after_a_gap_everybody_who_was_there_begins_anew_and_a_newcomer_may_know_enough() {
        let mut ring = Ring::new(10);
        ring.add(fresh(Some(5), &[(6, 1)], 6));
        let reader = ring.end();
        ring.add(fresh(Some(9), &[], 9));
        assert_eq!(read(&ring, reader, 9), None);
        assert_eq!(read(&ring, ring.at(EventId::end_of(8)), 9), None, "it lacks what nobody told");
        assert_eq!(read(&ring, ring.at(EventId::end_of(9)), 9), some(&[], "9"));
        assert_eq!(read(&ring, ring.end(), 9), some(&[], "9"));
        // Restored from a backup: the ids that readers have are larger than those to come.
        let reader = ring.end();
        ring.add(fresh(Some(3), &[(4, 1)], 4));
        assert_eq!(read(&ring, reader, 9), None);
        assert_eq!(read(&ring, ring.beginning(), 9), some(&["4.1"], "4"));
    }

    #[test]
    fn who_is_ahead_of_this_node_waits_and_gets_nothing_twice() {
        let mut ring = Ring::new(10);
        ring.add(fresh(Some(5), &[(6, 1)], 6));
        let ahead = ring.at(EventId { revision: 8, index: 1 });
        assert_eq!(read(&ring, ahead, 9), some(&[], "8.1"));
        ring.add(fresh(None, &[(7, 1), (8, 1), (8, 3)], 8));
        assert_eq!(read(&ring, ahead, 9), some(&["8.3"], "8"));
    }

    #[test]
    fn a_batch_larger_than_the_ring_leaves_its_end() {
        let mut ring = Ring::new(3);
        let ids: Vec<_> = (1..=50).map(|n| (10, n)).collect();
        ring.add(fresh(Some(5), &ids, 10));
        assert_eq!(read(&ring, ring.beginning(), 99), some(&["10.48", "10.49", "10.50"], "10"));
    }
}
