//! Forest's tests across processes: real servers, real workers, real etcd, real MariaDB.
//!
//! Each test has a key root and a database of its own; those that hurt a service have the service to themselves.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod admin;
mod again;
mod architecture;
mod backfill;
mod broadcast;
mod calendars;
mod cli;
mod clients;
mod dependencies;
mod dev;
mod drains;
mod etcd_role;
mod events;
mod faces;
mod garbage;
mod history;
mod http;
mod leader;
mod load;
mod log_level;
mod metrics;
mod outages;
mod protocol_model;
mod stage;
mod statistics;
mod tls;
mod traces;
mod traps;
mod triggers;
mod worker;
