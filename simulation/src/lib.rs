//! Whole Forest clusters in one thread, on virtual time, with faults from a seed.
//!
//! Nodes and workers are those of production, down to the etcd client library; they are given another clock, a way
//! to an etcd in the same process, and a database that is none. Nothing else moves: no thread, no socket, no real
//! time. So a seed always tells the same story, in milliseconds, and a seed that breaks a promise can be looked at
//! for as long as it takes.
//!
//! ```text
//!  plan ──▶ run ──▶ record ──▶ checker ──▶ violations
//!   ▲        │ machines, network, etcd, database      │
//!   └────────┴──────────── shrink ◀───────────────────┘
//! ```
//!
//! | module | owns |
//! | --- | --- |
//! | [`plan`] | what a seed stands for |
//! | [`run`] | running a plan |
//! | [`machine`], [`clock`] | the processes, and what they are told of time |
//! | [`foreign`] | a worker that is not ours |
//! | [`network`], [`etcd`], [`database`] | what is between and around them |
//! | [`act`] | what people ask for |
//! | [`record`] | what happened |
//! | [`checker`] | whether it keeps the promises |
//! | [`mutant`] | the protocol without one of its guards |
//! | [`shrink`], [`story`] | what matters of a failing plan, and how it is told |

pub mod act;
pub mod checker;
pub mod clock;
pub mod database;
pub mod etcd;
pub mod foreign;
pub mod machine;
pub mod mutant;
pub mod network;
pub mod plan;
pub mod record;
pub mod run;
pub mod shrink;
pub mod story;
