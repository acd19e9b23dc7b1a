//! etcd for Forest: the only crate that names the etcd client library.
//!
//! | module | owns |
//! | --- | --- |
//! | [`config`] | addresses, user, TLS and time limits of one connection |
//! | [`store`] | linearizable reads, pinned page-wise listings, guarded transactions |
//! | [`txn`] | transactions as plain data, and how independent ones share a request |
//! | [`batcher`] | many small independent transactions, one request in flight |
//! | [`session`] | a lease with a deadline that its holder can check without asking etcd |
//! | [`watch`] | list, then watch: one supervised stream of changes |
//! | [`clock`] | the only reader of the wall clock and of the time since boot |
//! | [`backoff`] | the only retry delay |
//! | [`transport`] | a way to an etcd in the same process |
//! | [`process`] | tasks, and the process they belong to |
//!
//! Rules that hold for the whole crate:
//!
//! - Every remote call has a deadline, and every retry waits with [`Backoff`].
//! - A write is never repeated once it may have reached etcd. A lost reply is [`Outcome::Unknown`]:
//!   the caller reads again and decides.
//! - Nothing is spawned here. A component has `run(self, shutdown)`, which its owner spawns.
//! - Whatever etcd sends, nothing panics: what cannot be decoded is counted and left out.
//!
//! ```no_run
//! # async fn example() -> Result<(), forest_etcd::Error> {
//! use forest_etcd::{EtcdConfig, Outcome, Store, Txn};
//!
//! let store = Store::new(&EtcdConfig::new(["127.0.0.1:2379"]))?;
//! let txn = Txn::new().absent("/forest/a").put("/forest/a", "1").or_get("/forest/a");
//! match store.commit(txn).await? {
//!     Outcome::Applied { revision } => println!("written at {revision}"),
//!     Outcome::Refused { found, .. } => println!("already there: {found:?}"),
//!     Outcome::Unknown { cause } => println!("read it again: {cause}"),
//! }
//! # Ok(())
//! # }
//! ```

mod auth;
pub mod backoff;
pub mod batcher;
mod channel;
pub mod clock;
pub mod config;
mod connection;
pub mod error;
mod keep;
pub mod kv;
pub mod process;
pub mod session;
pub mod store;
pub mod transport;
pub mod txn;
pub mod watch;

pub use backoff::Backoff;
pub use batcher::{Batcher, BatcherHandle};
pub use clock::{Clock, SharedClock, SystemClock};
pub use config::{EtcdConfig, TlsConfig};
pub use error::Error;
pub use kv::{KeyRange, KeyValue};
pub use process::{Process, Tasks};
pub use session::{Lease, Session, SessionHandle};
pub use store::{Listing, Pager, Status, Store, Version};
pub use transport::{NotSent, Transport};
pub use txn::{Guard, Op, Outcome, Txn};
pub use watch::{Change, WatchConfig, WatchStats, WatchStream, Watcher};
