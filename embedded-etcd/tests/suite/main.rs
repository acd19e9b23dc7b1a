//! The embedded etcd from outside: beside a real one, under an unmodified client, and over the end of its process.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod client;
mod differential;
mod persistence;
mod real_etcd;
mod wire;
