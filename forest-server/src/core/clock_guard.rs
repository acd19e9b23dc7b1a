//! Whether the wall clock can be trusted to say what is due.
//!
//! The wall clock is compared with the time since boot. When the two part by more than a second, somebody
//! set the clock; dispatch is then held until the clock agrees with that of the other nodes, or, where
//! there is no other node to ask, until it has kept its pace for a while.
//!
//! A step back needs no hold to be safe, since a cursor never goes back, but it is held all the same:
//! it says that one of the two times was wrong.

use std::time::Duration;

use super::view::{Heartbeat, Now};

/// Between two looks, the clocks may part by this much; more is a step.
const STEP_MS: i64 = 1_000;
/// A clock agrees with another within this much, which includes the way of a heartbeat.
const AGREES_MS: i64 = 1_000;
/// A node whose clock is further off than this from all others does not campaign, and takes no edits.
pub(crate) const MAX_SKEW_MS: i64 = 5_000;
/// Heartbeats older than this say nothing.
const FRESH: Duration = Duration::from_secs(15);
/// How long a stepped clock must keep its pace where nobody else can be asked.
const ALONE: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(crate) struct ClockGuard {
    /// Wall clock minus time since boot, when last looked at.
    offset_ms: Option<i64>,
    held_since: Option<Duration>,
}

impl ClockGuard {
    /// Looks at both clocks; says whether dispatch is held.
    pub(crate) fn check<'a>(&mut self, now: Now, others: impl Iterator<Item = &'a Heartbeat>) -> bool {
        let offset = now.wall_ms - i64::try_from(now.boot.as_millis()).unwrap_or(i64::MAX);
        let stepped = self.offset_ms.is_some_and(|known| (offset - known).abs() > STEP_MS);
        self.offset_ms = Some(offset);
        if stepped {
            tracing::error!(
                wall_ms = now.wall_ms,
                "the wall clock was set: dispatch is held until other nodes agree with it"
            );
            self.held_since = Some(now.boot);
        }
        let Some(since) = self.held_since else { return false };
        let mut fresh = others.filter(|beat| is_fresh(beat, now)).peekable();
        let alone = fresh.peek().is_none();
        // Only what was heard after the step compares with the clock as it is now.
        let agreed = fresh.any(|beat| beat.heard >= since && beat.skew_ms.abs() <= AGREES_MS);
        if agreed || (alone && now.boot.saturating_sub(since) >= ALONE) {
            tracing::warn!(alone, "dispatch goes on with the wall clock as it is");
            self.held_since = None;
        }
        self.held_since.is_some()
    }

    pub(crate) fn is_held(&self) -> bool {
        self.held_since.is_some()
    }
}

fn is_fresh(beat: &Heartbeat, now: Now) -> bool {
    now.boot.saturating_sub(beat.heard) <= FRESH
}

/// How far this clock is off the others': the smallest difference to any of them. With fewer than two others
/// nobody can say whose clock is wrong, and the answer is 0.
pub(crate) fn skew<'a>(now: Now, others: impl Iterator<Item = &'a Heartbeat>) -> i64 {
    let skews: Vec<_> = others.filter(|beat| is_fresh(beat, now)).map(|beat| beat.skew_ms).collect();
    if skews.len() < 2 {
        return 0;
    }
    skews.into_iter().min_by_key(|skew| skew.abs()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(wall_ms: i64, boot_s: u64) -> Now {
        Now { wall_ms, boot: Duration::from_secs(boot_s) }
    }

    fn beat(skew_ms: i64, heard_s: u64) -> Heartbeat {
        Heartbeat { skew_ms, heard: Duration::from_secs(heard_s) }
    }

    #[test]
    fn a_step_holds_dispatch_until_another_node_agrees() {
        let mut guard = ClockGuard::default();
        assert!(!guard.check(at(100_000, 100), [].iter()));
        assert!(!guard.check(at(101_900, 101), [].iter()), "0.9 s is not a step");
        assert!(guard.check(at(3_600_000, 102), [].iter()), "an hour ahead");
        assert!(guard.check(at(3_601_000, 103), [beat(0, 101)].iter()), "heard before the step");
        assert!(guard.check(at(3_602_000, 104), [beat(-3_500_000, 104)].iter()), "it disagrees");
        assert!(!guard.check(at(3_603_000, 105), [beat(-3_500_000, 105), beat(300, 105)].iter()));
    }

    #[test]
    fn alone_a_stepped_clock_must_keep_its_pace() {
        let mut guard = ClockGuard::default();
        guard.check(at(100_000, 100), [].iter());
        assert!(guard.check(at(50_000, 101), [].iter()), "back");
        assert!(guard.check(at(55_000, 106), [].iter()));
        assert!(guard.check(at(99_000, 107), [].iter()), "and forth: the time starts again");
        assert!(guard.check(at(108_000, 116), [].iter()));
        assert!(!guard.check(at(109_000, 117), [].iter()));
    }

    #[test]
    fn only_a_majority_can_call_a_clock_wrong() {
        let now = at(100_000, 100);
        assert_eq!(skew(now, [beat(9_000, 99)].iter()), 0, "one other: nobody knows who is right");
        assert_eq!(skew(now, [beat(9_000, 99), beat(8_000, 99)].iter()), 8_000);
        assert_eq!(skew(now, [beat(9_000, 99), beat(10, 99)].iter()), 10);
        assert_eq!(skew(now, [beat(9_000, 10), beat(8_000, 99)].iter()), 0, "one is too old");
    }
}
