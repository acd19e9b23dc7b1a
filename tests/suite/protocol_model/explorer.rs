//! Breadth-first search over all states: the first violation found has a shortest story. A state is kept as a
//! 64-bit fingerprint, its parent and the event that led to it; only the frontier holds whole worlds. With
//! the 28 million states of a long run, two different states share a fingerprint with a chance of 1 in
//! 50,000.
//!
//! After an exhausted search the same edges answer the question of progress: can every state still come to
//! the drained end by steps that are no fault? (No wedge, and no endless round from which nothing leads out.)

use std::collections::{HashMap, VecDeque, hash_map::Entry};
use std::fmt;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::time::{Duration, Instant};

use super::invariants::{self, Broken};
use super::mixes::Mix;
use super::moves::{Move, Moves};
use super::rules::Rules;
use super::story::Event;
use super::symmetry;
use super::world::World;

/// A finding and how it came about.
pub(super) struct Violation {
    pub(super) broken: Broken,
    pub(super) story: Vec<Event>,
    /// What lies around when nothing moves any more.
    pub(super) left: String,
}

pub(super) struct Exploration {
    pub(super) states: usize,
    /// Every reachable state was seen; otherwise the limit was reached first.
    pub(super) exhausted: bool,
    pub(super) took: Duration,
    pub(super) violation: Option<Violation>,
}

struct Explorer<'a, V> {
    rules: &'a Rules,
    mix: &'a Mix,
    visitor: V,
    index_of: HashMap<u64, u32, BuildHasherDefault<Ready>>,
    /// Parent and event of each state, by index.
    origins: Vec<(u32, Option<Event>)>,
    frontier: VecDeque<World>,
    /// Steps that are no fault, from and to.
    free_steps: Vec<(u32, u32)>,
    drained: Vec<bool>,
}

/// Explores until a promise is broken, all is seen, or `limit` states are stored.
pub(super) fn explore(mix: &Mix, rules: &Rules, limit: usize) -> Exploration {
    explore_with(mix, rules, limit, |_| {})
}

/// As [`explore`], and shows every new state to `visitor`.
pub(super) fn explore_with(
    mix: &Mix,
    rules: &Rules,
    limit: usize,
    visitor: impl FnMut(&World),
) -> Exploration {
    let began = Instant::now();
    let mut explorer = Explorer {
        rules,
        mix,
        visitor,
        index_of: HashMap::default(),
        origins: Vec::new(),
        frontier: VecDeque::new(),
        free_steps: Vec::new(),
        drained: Vec::new(),
    };
    explorer.store(World::new(mix.budget), 0, None);
    let violation = explorer.search(limit).or_else(|| explorer.find_stuck());
    Exploration {
        states: explorer.origins.len(),
        exhausted: explorer.frontier.is_empty(),
        took: began.elapsed(),
        violation,
    }
}

impl<V: FnMut(&World)> Explorer<'_, V> {
    fn search(&mut self, limit: usize) -> Option<Violation> {
        let mut moves = Vec::new();
        let mut current = 0;
        while self.origins.len() < limit
            && let Some(world) = self.frontier.pop_front()
        {
            Moves::list(&world, self.rules, self.mix.fires, &mut moves);
            for Move { event, next } in &moves {
                let reached = match next {
                    Ok(next) => self.visit(next, current, *event),
                    Err(broken) => Err(*broken),
                };
                match reached {
                    Ok(reached) if !event.is_fault() && reached != current => {
                        self.free_steps.push((current, reached));
                    }
                    Ok(_) => {}
                    Err(broken) => return Some(self.violation(broken, current, Some(*event))),
                }
            }
            current += 1;
        }
        None
    }

    fn visit(&mut self, world: &World, from: u32, event: Event) -> Result<u32, Broken> {
        let known = self.origins.len();
        let reached = self.store(*world, from, Some(event));
        if reached as usize == known {
            invariants::check(world)?;
        }
        Ok(reached)
    }

    fn store(&mut self, world: World, from: u32, event: Option<Event>) -> u32 {
        let index = self.origins.len() as u32;
        match self.index_of.entry(fingerprint(&symmetry::canonical(&world))) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(free) => {
                free.insert(index);
                self.origins.push((from, event));
                self.drained.push(invariants::is_drained(&world, self.mix.fires));
                (self.visitor)(&world);
                self.frontier.push_back(world);
                index
            }
        }
    }

    /// Goes back from the drained states along the free steps. Most steps lead to a later state, so that a
    /// few passes from the end suffice.
    fn find_stuck(&mut self) -> Option<Violation> {
        if !self.frontier.is_empty() {
            return None;
        }
        let mut changed = true;
        while changed {
            changed = false;
            for &(from, to) in self.free_steps.iter().rev() {
                if self.drained[to as usize] && !self.drained[from as usize] {
                    self.drained[from as usize] = true;
                    changed = true;
                }
            }
        }
        let stuck = self.drained.iter().position(|drained| !drained)?;
        let mut violation = self.violation(Broken::Stuck, stuck as u32, None);
        violation.left = self.replay(&violation.story);
        Some(violation)
    }

    fn violation(&self, broken: Broken, mut at: u32, last: Option<Event>) -> Violation {
        let mut story: Vec<Event> = last.into_iter().collect();
        while let (parent, Some(event)) = self.origins[at as usize] {
            story.push(event);
            at = parent;
        }
        story.reverse();
        Violation { broken, story, left: String::new() }
    }

    /// What is left at the end of a story.
    fn replay(&self, story: &[Event]) -> String {
        let mut world = World::new(self.mix.budget);
        let mut moves = Vec::new();
        for event in story {
            let before = world;
            Moves::list(&before, self.rules, self.mix.fires, &mut moves);
            let taken = moves.iter().find(|candidate| candidate.event == *event);
            if let Some(Move { next: Ok(next), .. }) = taken {
                world = *next;
            }
        }
        invariants::leftovers(&world)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} (after {} steps)", self.broken, self.story.len())?;
        for (number, event) in self.story.iter().enumerate() {
            writeln!(f, "    {:>2}. {event}", number + 1)?;
        }
        if !self.left.is_empty() {
            writeln!(f, "    left: {}", self.left)?;
        }
        Ok(())
    }
}

fn fingerprint(world: &World) -> u64 {
    let mut mixer = Mixer(0x9e37_79b9_7f4a_7c15);
    world.hash(&mut mixer);
    mixer.finish()
}

/// A multiply-and-shift hash. Each round is a bijection of the state, so no information is lost on the way;
/// and in a debug build it takes a tenth of the standard hasher's time.
struct Mixer(u64);

impl Mixer {
    fn mix(&mut self, word: u64) {
        let mixed = (self.0 ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd);
        self.0 = mixed ^ (mixed >> 29);
    }
}

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        let mixed = (self.0 ^ (self.0 >> 32)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        mixed ^ (mixed >> 33)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.mix(u64::from(*byte));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.mix(u64::from(value));
    }

    fn write_usize(&mut self, value: usize) {
        self.mix(value as u64);
    }

    fn write_isize(&mut self, value: isize) {
        self.mix(value.cast_unsigned() as u64);
    }
}

/// Passes fingerprints on: they are mixed already.
#[derive(Default)]
struct Ready(u64);

impl Hasher for Ready {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("the explorer's map has keys of one type");
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}
