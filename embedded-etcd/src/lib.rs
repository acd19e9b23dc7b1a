//! etcd's v3 API in one process, for development and tests. **Not for production**: one copy of the data, in memory,
//! written to a file a moment later if at all, and nobody else to ask when it is wrong.
//!
//! What Forest uses of etcd behaves as etcd 3.4 does, down to codes and words of errors: ranges at any revision,
//! transactions, nested and with comparisons of ranges, watches from any revision, compaction, leases. A client
//! cannot tell the difference; a test that sends thousands of random operations to both keeps it so.
//!
//! Every request is one step under one lock, in the order of arrival; nothing depends on chance, on the machine's
//! clock or on threads. So whoever gives it a clock and paused time, as a simulation does, sees the same run twice.
//! [`Etcd::run`] must run beside it, or leases do not end and the file is not forced to the disk; or else
//! [`Etcd::expire`] is called by hand.
//!
//! | module | owns |
//! | --- | --- |
//! | [`etcd`] | the store as a whole; each request is one step |
//! | `mvcc` | keys and their history |
//! | `range`, `txn`, `lease`, `watch` | one part of the API each |
//! | `journal` | the file, if the data is to outlive the process |
//! | `service` | the same over gRPC: on a loopback port, or in memory without any |
//! | [`clock`] | time, which can be replaced |
//!
//! # What it lacks
//!
//! - Login and roles, other members, server-side locks and elections (those that clients make of keys and leases work),
//!   snapshots, hashes, defragmentation, alarms but their empty list: such calls are answered with `UNIMPLEMENTED`.
//! - Watches are not fragmented. The size in the status is always 0, and there is no quota.
//! - TLS, and any address but loopback ones.
//! - Speed with millions of keys: all are in memory, and a count walks over what it counts.
//!
//! # Where it differs
//!
//! - Revisions older than the newest 50,000 are compacted by and by, as with etcd's automatic compaction.
//! - A request for progress is answered when everything up to the answer's revision was told. etcd 3.4 does not wait,
//!   later ones do.
//! - A response of a watch ends after 1 MiB, with the revision that is the last then; etcd's may be larger than its
//!   clients take.
//! - Leases end at their time; etcd looks twice a second. Of several that end at once it takes any first, this one the
//!   one with the smaller id. Ids of leases are given by a counter.
//! - An unknown target of a sort, which kills etcd 3.4, is refused, as by later ones. Nor does a transaction kill it that
//!   deletes a key and then puts it without its value.
//!
//! ```
//! use embedded_etcd::proto::{PbPutRequest, PbRangeRequest};
//! use embedded_etcd::{Etcd, TokioClock};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tonic::Status> {
//! let etcd = Etcd::new(TokioClock::shared());
//! etcd.put(&PbPutRequest { key: b"a".into(), value: b"1".into(), ..Default::default() })?;
//! let answer = etcd.range(&PbRangeRequest { key: b"a".into(), ..Default::default() })?;
//! assert_eq!(answer.kvs[0].value, b"1");
//! # Ok(())
//! # }
//! ```

pub mod clock;
pub mod etcd;
mod fault;
mod journal;
mod lease;
mod mvcc;
mod range;
mod service;
mod span;
mod txn;
mod watch;

pub use clock::{Clock, SharedClock, TokioClock};
pub use etcd::Etcd;
pub use journal::OpenError;
pub use service::ServeError;
pub use watch::WatchStream;

/// The messages of etcd's API, as a client library generates them.
pub use etcd_client::proto;
