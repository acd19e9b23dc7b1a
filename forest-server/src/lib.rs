//! `forest-server`: one node of a Forest cluster. See the README for how to run it.
//!
//! A library only so that a simulator can run the very same node on a clock, an etcd and a database of its own;
//! nothing here is promised to other programs.

mod access;
mod admin;
mod collect;
pub mod config;
mod core;
pub mod dev;
mod events;
mod grpc;
mod http;
pub mod logging;
mod metrics;
pub mod node;
mod port;
mod scheduler;
pub mod store;
mod traces;

pub use grpc::{AdminApi, AdminServer};
