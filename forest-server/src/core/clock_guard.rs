//! Whether the wall clock can be trusted to say what is due.
//!
//! The wall clock is compared with the time since boot. When the two part by more than a second, somebody
//! set the clock; dispatch is then held until the clock agrees with that of another node, or until it has kept
//! its pace for a while and is about right as far as others can tell. Nodes whose clocks were never quite the
//! same must not hold dispatch for ever.
//!
//! A clock that is far off after that while is disowned: its node gives the leadership to those who disagree,
//! as long as there is one of them.
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
/// How long a stepped clock must keep its pace where nobody agrees with it.
const ON_PROBATION: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(crate) struct ClockGuard {
    /// Wall clock minus time since boot, when last looked at.
    offset_ms: Option<i64>,
    held_since: Option<Duration>,
    disowned: bool,
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
        self.disowned = false;
        let Some(since) = self.held_since else { return false };
        let fresh: Vec<_> = others.filter(|beat| is_fresh(beat, now)).collect();
        // Only what was heard after the step compares with the clock as it is now.
        let off_ms = fresh.iter().filter(|beat| beat.heard >= since).map(|beat| beat.skew_ms.abs()).min();
        let probation_over = now.boot.saturating_sub(since) >= ON_PROBATION;
        let trusted = match off_ms {
            Some(off_ms) => off_ms <= AGREES_MS || (probation_over && off_ms <= MAX_SKEW_MS),
            None => probation_over && fresh.is_empty(),
        };
        if trusted {
            tracing::warn!(?off_ms, "dispatch goes on with the wall clock as it is");
            self.held_since = None;
        } else {
            self.disowned = probation_over && off_ms.is_some();
        }
        self.held_since.is_some()
    }

    /// Whether others must lead, because they do not agree with this clock at all.
    pub(crate) fn is_disowned(&self) -> bool {
        self.disowned
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
    fn a_stepped_clock_that_is_about_right_is_trusted_after_its_probation() {
        let mut guard = ClockGuard::default();
        guard.check(at(100_000, 100), [].iter());
        assert!(guard.check(at(103_000, 101), [beat(-1_500, 101)].iter()), "nobody agrees");
        assert!(guard.check(at(112_900, 110), [beat(-1_500, 110)].iter()));
        assert!(!guard.check(at(113_000, 111), [beat(-1_500, 111)].iter()) && !guard.is_disowned());
    }

    #[test]
    fn a_stepped_clock_that_stays_wrong_is_disowned_while_there_is_somebody_else() {
        let mut guard = ClockGuard::default();
        guard.check(at(100_000, 100), [].iter());
        assert!(guard.check(at(900_000, 101), [beat(-800_000, 101)].iter()) && !guard.is_disowned());
        assert!(guard.check(at(909_000, 110), [beat(-800_000, 110)].iter()) && !guard.is_disowned());
        assert!(guard.check(at(910_000, 111), [beat(-800_000, 111)].iter()) && guard.is_disowned());
        assert!(guard.check(at(911_000, 112), [beat(-800_000, 111)].iter()) && guard.is_disowned());
        assert!(!guard.check(at(930_000, 131), [beat(-800_000, 111)].iter()), "the other is gone");
        assert!(!guard.is_disowned());
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
