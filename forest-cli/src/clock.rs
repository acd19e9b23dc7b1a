//! The wall clock. Nothing else in this crate reads it.

use jiff::Timestamp;

/// Now.
#[allow(clippy::disallowed_methods)] // This is the one module that may.
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}
