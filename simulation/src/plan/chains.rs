//! Jobs that follow others, and what people do with them.
//!
//! Drawn from numbers of their own, so that all else of a seed is the same with and without them.

use fastrand::Rng;
use forest_proto::record::{Condition, Misfire, Need, Overlap, Within};

use super::{Act, AfterSpec, BUSY_MS, CALM_MS, Event, Fires, JobSpec, Stage};

/// What the seed's own numbers are changed by.
const APART: u64 = 0x5EED_0FC4_A145;

pub(super) fn events(seed: u64, stage: Stage, jobs: usize) -> Vec<(u64, Event)> {
    let random = &mut Rng::with_seed(seed ^ APART);
    let (many, acts) = match stage {
        Stage::Chained => (random.usize(3..=5), 40),
        Stage::Any if random.bool() => (random.usize(1..=4), random.usize(0..=10)),
        _ => return Vec::new(),
    };
    let mut events = Vec::new();
    let mut act = |at: u64, act: Act| events.push((at, Event::Act(act)));
    for number in 0..many {
        // When those that it follows are there.
        let at = CALM_MS + 400 * number as u64 + random.u64(..300);
        act(at, Act::Add { spec: spec(random, jobs + number) });
    }
    let all = jobs + many;
    for _ in 0..acts {
        let (at, job) = (random.u64(CALM_MS + 2_500..BUSY_MS), jobs + random.usize(..many));
        match random.u8(..10) {
            // Also one that would follow itself, or make a circle.
            0..=2 => act(at, Act::Edit { job, spec: spec(random, all) }),
            3..=4 => {
                // Two who do not know of each other.
                let other = jobs + random.usize(..many);
                let follow =
                    |job| AfterSpec { first: job, second: None, ..after(&mut Rng::with_seed(at), all) };
                act(
                    at,
                    Act::Edit {
                        job,
                        spec: JobSpec { fires: Fires::After(follow(other)), ..spec(random, all) },
                    },
                );
                act(
                    at,
                    Act::Edit {
                        job: other,
                        spec: JobSpec { fires: Fires::After(follow(job)), ..spec(random, all) },
                    },
                );
            }
            5..=6 => {
                act(at, Act::Enable { job, enabled: false });
                act(at + random.u64(..1_500), Act::Enable { job, enabled: true });
            }
            7 if random.u8(..4) == 0 => act(at, Act::Delete { job }),
            7 => act(at, Act::Delete { job: random.usize(..jobs) }),
            8 => act(at, Act::Run { job, key: 1_000_000 + at }),
            _ => act(at, Act::Run { job: random.usize(..jobs), key: 1_000_000 + at }),
        }
    }
    events
}

/// A job that follows some of the first `jobs`.
fn spec(random: &mut Rng, jobs: usize) -> JobSpec {
    JobSpec {
        fires: Fires::After(after(random, jobs)),
        overlap: [Overlap::Forbid, Overlap::Allow, Overlap::Allow, Overlap::QueueOne][random.usize(..4)],
        misfire: Misfire::Skip,
        max_in_flight: None,
        max_attempts: random.u32(1..=2),
        retry_lost: false,
        takes_ms: [5, 200][random.usize(..2)],
        ..JobSpec::any(random)
    }
}

fn after(random: &mut Rng, jobs: usize) -> AfterSpec {
    let first = random.usize(..jobs);
    AfterSpec {
        first,
        second: Some(random.usize(..jobs)).filter(|second| *second != first && random.u8(..5) > 1),
        on: [Condition::Success, Condition::End, Condition::Failure][random.usize(..3)],
        need: if random.bool() { Need::All } else { Need::Any },
        within: [Within::Fire, Within::Fire, Within::Fire, Within::Hour, Within::Day][random.usize(..5)],
    }
}
