//! Servers that tests need, as children of the test process on loopback.
//!
//! A service that is not installed is skipped loudly on a developer's machine and a failure where `CI=true`:
//! tests take services through [`require!`](crate::require).
//!
//! Shared instances live as long as the test process; each test uses a key root or a database of its own
//! there. A test that stops, kills or fills a service starts a private one.

pub mod certificates;
pub mod child;
pub mod etcd;
pub mod gateway;
pub mod mariadb;
mod place;

pub use certificates::{Authority, Signed};
pub use child::Child;
pub use etcd::{Etcd, EtcdOptions, EtcdTls, cluster_of, shared_etcd};
pub use gateway::Gateway;
pub use mariadb::{Database, MariaDb, shared_mariadb};
pub use place::{DataDir, build_dir, free_address};

/// Why a service cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// It is not installed.
    #[error("{program} is not installed (make deps installs it, package {package})")]
    Missing {
        /// What was looked for.
        program: String,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// It is there but does not work.
    #[error("{what} failed: {why}")]
    Failed {
        /// Which service.
        what: String,
        /// Why, with the end of its output.
        why: String,
    },
}

impl ServiceError {
    pub(crate) fn failed(what: impl Into<String>, why: impl std::fmt::Display) -> Self {
        Self::Failed { what: what.into(), why: why.to_string() }
    }
}

/// What [`require!`](crate::require) does: `None` if the test has to be skipped.
///
/// # Panics
/// If the service is broken, or missing where `CI=true`.
pub fn available<T>(service: Result<T, ServiceError>) -> Option<T> {
    use std::io::Write;
    match service {
        Ok(service) => Some(service),
        Err(missing @ ServiceError::Missing { .. }) if !in_ci() => {
            let test = std::thread::current().name().unwrap_or("a test").to_owned();
            // Past the test runner's capture, which would hide it: nobody notices a silent skip.
            let _ = writeln!(std::io::stderr(), "SKIPPED: {test}: {missing}");
            None
        }
        Err(e) => panic!("{e}"),
    }
}

fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|ci| ci == "true" || ci == "1")
}

/// Takes a service, or returns from a test that returns nothing: skipped locally, failed in CI.
///
/// ```no_run
/// # use forest_tests::{require, services::shared_etcd};
/// async fn some_test() {
///     let etcd = require!(shared_etcd().await);
///     println!("{}", etcd.endpoint());
/// }
/// ```
#[macro_export]
macro_rules! require {
    ($service:expr) => {
        match $crate::services::available($service) {
            Some(service) => service,
            None => return,
        }
    };
}

/// Where a program is: the environment variable, then PATH, then the folders of system daemons, which are
/// not on every user's PATH.
pub(crate) fn program(
    name: &str,
    variable: &str,
    package: &'static str,
) -> Result<std::path::PathBuf, ServiceError> {
    let missing = |program: String| ServiceError::Missing { program, package };
    if let Some(chosen) = std::env::var_os(variable) {
        let chosen = std::path::PathBuf::from(chosen);
        return if chosen.is_file() {
            Ok(chosen)
        } else {
            Err(missing(format!("{} ({variable})", chosen.display())))
        };
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin", "/usr/bin", "/usr/local/bin"].map(Into::into))
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| missing(name.into()))
}
