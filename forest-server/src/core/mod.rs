//! The pure core of a node: what it knows and what it decides, without I/O, clock or randomness.
//!
//! * [`view`]: the mirror of our keys in etcd, kept up to date by one ordered stream of changes. Every node
//!   has it; only the leader acts on it.
//! * [`jobs`]: the jobs with their ordered next fire times, the [`calendars`] they use, and which [follow](dependencies)
//!   which; [`runs`]: the runs that are alive;
//!   [`clients`]: who can execute them.
//! * [`dispatch`]: which fires of a segment are due, and what becomes of each, as one guarded transaction.
//! * [`skips`]: fires that are skipped one after the other, counted.
//! * [`steps`]: what a single run or request needs next, as one guarded transaction.
//! * [`compose`]: the documents that both write. [`routing`]: which client gets a run, and which
//!   run goes first; [`need`]: what a run asks of its client.
//! * [`access`]: who may administer the cluster.
//! * [`spread`]: what becomes of a broadcast and its shards, as documents.
//! * [`feed`]: what happened, for those who want to be told.
//! * [`step_down`]: a leader that is asked to give up the leadership.
//! * [`term`]: what a leader needs in order to write anything.
//! * [`clock_guard`]: whether the wall clock can be trusted.
//!
//! Everything in here is a function of the view, of the instants passed in, and of nothing else: two
//! leaders with the same view compute the same transactions.

pub(crate) mod access;
pub(crate) mod calendars;
pub(crate) mod clients;
pub(crate) mod clock_guard;
pub(crate) mod compose;
pub(crate) mod dependencies;
pub(crate) mod dispatch;
pub(crate) mod entry;
pub(crate) mod feed;
pub(crate) mod jobs;
pub(crate) mod need;
pub(crate) mod overlap;
pub(crate) mod quarantine;
pub(crate) mod roll;
pub(crate) mod routing;
pub(crate) mod runs;
pub(crate) mod skips;
pub(crate) mod spread;
pub(crate) mod step_down;
pub(crate) mod steps;
pub(crate) mod term;
pub(crate) mod timing;
pub(crate) mod trace;
pub(crate) mod view;

#[cfg(test)]
mod tests;
