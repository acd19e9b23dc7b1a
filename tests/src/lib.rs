//! What Forest's tests, demo and benchmark across processes stand on: real etcd and MariaDB servers,
//! real Forest processes, a network that can be broken on purpose, and waits that end.
//!
//! * [`services`]: etcd and MariaDB as children of the test, on loopback, in folders of their own.
//! * [`proxy`]: a TCP proxy with faults that are switched at run time.
//! * [`process`]: Forest's own binaries as children. [`cluster`]: several server nodes with all they need.
//! * [`admin`] and [`history`]: what a test asks of a cluster, and what it reads from the history database.
//! * [`wait`]: bounded waits for a state. [`names`]: names that no other test has.
//!
//! The library looks at etcd through its HTTP gateway and at the history through SQL, never through the
//! crates under test. All children die with the test process, however it ends.

pub mod admin;
pub mod cluster;
pub mod history;
pub mod names;
pub mod otlp;
pub mod process;
pub mod proxy;
pub mod services;
pub mod wait;

/// Makes `ring` the cryptography of all TLS in this process. reqwest, with which tests call servers, wants that to be
/// said before its first client is made, also of one that speaks no TLS; whoever starts a program of ours has said it.
pub fn use_ring() {
    // Another one may have said it before.
    let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
}
