//! Names that no other test, process or run has: key roots, databases, groups.
//!
//! A name is a lower-case prefix, the process id and a counter, so it is valid as a key part, as a database
//! name and as a group name, and a leftover can be traced to its process.

use std::sync::atomic::{AtomicU32, Ordering};

static NEXT: AtomicU32 = AtomicU32::new(1);

/// `{prefix}_{process id}_{counter}`. The prefix must be lower-case letters, digits and underscores.
pub fn unique(prefix: &str) -> String {
    assert!(
        prefix.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'),
        "{prefix:?} would not be valid everywhere"
    );
    format!("{prefix}_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A key root of the test's own, such as `/orders_812_3`.
pub fn key_root(prefix: &str) -> String {
    format!("/{}", unique(prefix))
}
