//! What can go wrong with a worker as a whole. What goes wrong with a single run is that run's result
//! and never appears here.

/// Why a worker could not be built, or stopped other than asked to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting cannot be used. Correct it; nothing was started.
    #[error("worker setting `{field}`: {reason}")]
    Config {
        /// The builder's method.
        field: &'static str,
        /// What is wrong and what is allowed.
        reason: String,
    },
    /// The process cannot listen to signals.
    #[error("cannot listen to signals: {0}")]
    Signals(#[source] std::io::Error),
    /// A second signal came while the worker was draining. Handlers were dropped where they stood; the
    /// server declares their runs lost.
    #[error("stopped by a second signal before all handlers had ended")]
    Aborted,
    /// A part of the worker ended that must not: a bug in this crate.
    #[error("the worker's {part} ended: {cause}")]
    Broken {
        /// Which part.
        part: &'static str,
        /// What it said.
        cause: String,
    },
}

impl Error {
    pub(crate) fn config(field: &'static str, reason: impl std::fmt::Display) -> Self {
        Self::Config { field, reason: format!("{reason}") }
    }
}
