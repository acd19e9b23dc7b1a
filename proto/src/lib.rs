//! What Forest's processes say to each other.
//!
//! * [`name`] and [`run_id`]: validated names and ids. Whatever becomes part of a key has passed here.
//! * [`keys`]: the keyspace in etcd. No other module of any crate builds or parses a key.
//! * [`record`]: the JSON documents under those keys, with the original's field names.
//! * [`segment`]: which part of the jobs a job belongs to.
//! * [`time`]: instants on the wire.
//! * [`trace`]: the trace a run belongs to.
//! * `admin` (feature `admin`): the gRPC admin API, version 1, generated from `api/`.
//!
//! This crate does no I/O and knows no clock.
#![warn(missing_docs)]

pub mod keys;
pub mod language;
pub mod name;
pub mod record;
pub mod run_id;
pub mod segment;
pub mod time;
pub mod trace;

pub use keys::{EtcdRole, Key, Keyspace, SharedKey};
pub use name::{
    CalendarName, ClientId, GroupName, JobId, NameError, NodeId, RequestKey, SecretId, SharedName,
    TargetName, UserName,
};
pub use run_id::RunId;
pub use segment::{Segment, SegmentCount};
pub use trace::TraceParent;

/// The gRPC admin API, version 1. Generated from `api/forest/admin/v1/admin.proto`.
#[cfg(feature = "admin")]
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod admin {
    /// Version 1, package `forest.admin.v1`.
    pub mod v1 {
        tonic::include_proto!("forest.admin.v1");

        /// The description of the service, for gRPC reflection.
        pub const DESCRIPTORS: &[u8] = tonic::include_file_descriptor_set!("admin");
    }
}
