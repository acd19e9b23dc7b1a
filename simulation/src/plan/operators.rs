//! What operators do to a cluster at work: clients are drained and undrained, leaders are asked to step down.
//!
//! Drawn from numbers of their own, so that all else of a seed is the same with and without them.

use fastrand::Rng;

use super::{Act, BUSY_MS, CALM_MS, Event, Stage};

/// What the seed's own numbers are changed by.
const APART: u64 = 0x00D4_A145_7E9D_0311;

pub(super) fn events(seed: u64, stage: Stage) -> Vec<(u64, Event)> {
    let random = &mut Rng::with_seed(seed ^ APART);
    let (drains, steps) = match stage {
        Stage::Any if random.bool() => (random.usize(0..=8), random.usize(0..=3)),
        Stage::Resigning => (0, 40),
        _ => return Vec::new(),
    };
    let mut events = Vec::new();
    for _ in 0..drains {
        let (at, pick) = (random.u64(CALM_MS..BUSY_MS), random.usize(..1_000));
        events.push((at, Event::Act(Act::Drain { pick, drained: true })));
        // Another one perhaps, and also one that was never drained.
        let pick = if random.u8(..4) == 0 { random.usize(..1_000) } else { pick };
        events.push((at + random.u64(..6_000), Event::Act(Act::Drain { pick, drained: false })));
    }
    for _ in 0..steps {
        let act = Act::StepDown { hold_ms: random.u64(..3_000) };
        events.push((random.u64(CALM_MS..BUSY_MS), Event::Act(act)));
    }
    events
}
