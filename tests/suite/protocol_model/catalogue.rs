//! The jobs, fires and attempts of the modelled cluster: just enough to make every rule of the protocol
//! matter.
//!
//! `report` forbids overlap, has two attempts and `on_lost = retry`; `ping` allows overlap, has one attempt
//! and exists only after an admin created it. Both are in one segment, so one cursor passes all three fires.

use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Job {
    Report,
    Ping,
}

/// One (job, fire time) pair. The cursor counts how many of [`FIRES`] are decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fire {
    pub(super) job: Job,
    pub(super) at: u8,
    pub(super) attempt: Attempt,
}

pub(super) const FIRES: [Fire; 3] = [
    Fire { job: Job::Report, at: 1, attempt: Attempt(0) },
    Fire { job: Job::Report, at: 2, attempt: Attempt(2) },
    Fire { job: Job::Ping, at: 2, attempt: Attempt(4) },
];

/// One try of one run: what gets an id, a snapshot, an execute record and a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Attempt(u8);

pub(super) const ATTEMPTS: usize = 6;
pub(super) const MANUAL: Attempt = Attempt(5);

const NAMES: [&str; ATTEMPTS] =
    ["report@1 try 1", "report@1 try 2", "report@2 try 1", "report@2 try 2", "ping@2", "manual report"];

impl Attempt {
    pub(super) fn all() -> impl Iterator<Item = Attempt> {
        (0..ATTEMPTS as u8).map(Attempt)
    }

    /// The run an admin may cancel: both tries of the first fire.
    pub(super) fn of_cancellable_run() -> [Attempt; 2] {
        [Attempt(0), Attempt(1)]
    }

    pub(super) fn is_of_cancellable_run(self) -> bool {
        self.0 < 2
    }

    pub(super) fn index(self) -> usize {
        usize::from(self.0)
    }

    pub(super) fn job(self) -> Job {
        if self.0 == 4 { Job::Ping } else { Job::Report }
    }

    /// The attempt that follows when this one fails, if any is left.
    pub(super) fn next(self) -> Option<Attempt> {
        matches!(self.0, 0 | 2).then_some(Attempt(self.0 + 1))
    }

    /// The attempt whose failure this one answers.
    pub(super) fn previous(self) -> Option<Attempt> {
        matches!(self.0, 1 | 3).then(|| Attempt(self.0 - 1))
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAMES[self.index()])
    }
}
