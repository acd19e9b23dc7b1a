//! etcd's v3 API in one process, for development and tests. **Not for production**: one copy of the data, in memory,
//! written to a file a moment later if at all, and nobody else to ask when it is wrong.
//!
//! What Forest uses of etcd behaves as etcd 3.4 does, down to codes and words of errors: ranges at any revision,
//! transactions, nested and with comparisons of ranges, watches from any revision, compaction, leases. A client
//! cannot tell the difference; a test that sends thousands of random operations to both keeps it so.
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
//! It lacks login and roles, members and their changes, snapshots, alarms, hashes and defragmentation; calls
//! for these are answered with `UNIMPLEMENTED`. A watch is never fragmented.
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
