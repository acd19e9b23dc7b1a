//! The log of the process: its form, and what of it is written, which can be changed while it runs.
//!
//! A node follows `server/log/{node}`, which hangs on a lease: when that is gone, what was configured counts again.

use std::sync::OnceLock;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use crate::config::LogFormat;

/// Bytes of a filter.
const MAX_FILTER: usize = 1_000;
const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Begins to log to standard error, once for the process. `level` has been checked.
pub fn start(level: &str, format: LogFormat) {
    let (filter, handle) = reload::Layer::new(EnvFilter::new(level));
    // A disk that is full costs lines, not the process: saying so on standard error would panic there too.
    let lines = fmt::layer().with_writer(std::io::stderr).log_internal_errors(false);
    let lines = match format {
        LogFormat::Json => {
            lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
        }
        LogFormat::Text => lines.boxed(),
    };
    tracing_subscriber::registry().with(filter).with(lines).init();
    let _ = FILTER.set(handle);
}

/// Reads a filter. What is neither a level nor `target=level` is refused: it would be taken for a target, of which
/// everything is logged and of all others nothing.
pub(crate) fn filter(text: &str) -> Result<EnvFilter, String> {
    const FORM: &str = "write error, warn, info, debug, trace, off, or target=level, separated by commas";
    if text.len() > MAX_FILTER {
        return Err(format!("is longer than {MAX_FILTER} bytes"));
    }
    for part in text.split(',') {
        let (target, level) = part.rsplit_once('=').unwrap_or(("", part));
        let named = target.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_:-.".contains(&byte));
        let known = LEVELS.iter().any(|known| known.eq_ignore_ascii_case(level));
        if !known || !named || (part.contains('=') && target.is_empty()) {
            let part: String = part.chars().take(60).collect();
            return Err(format!("{part:?} is no level: {FORM}"));
        }
    }
    EnvFilter::try_new(text).map_err(|error| format!("{error}: {FORM}"))
}

/// Whether this process logs through [`start`].
pub(crate) fn can_change() -> bool {
    FILTER.get().is_some()
}

/// Logs what `levels` says, and `configured` while it says nothing.
pub(crate) async fn follow(
    mut levels: watch::Receiver<Option<String>>,
    configured: &str,
    shutdown: &CancellationToken,
) {
    while let Some(Ok(())) = shutdown.run_until_cancelled(levels.changed()).await {
        let wanted = levels.borrow_and_update().clone();
        match wanted {
            Some(level) => apply(&level, "the log level was changed for a while"),
            None => apply(configured, "the log level is as configured again"),
        }
    }
}

fn apply(level: &str, what: &'static str) {
    let Some(handle) = FILTER.get() else { return };
    match filter(level).map(|filter| handle.reload(filter)) {
        Ok(Ok(())) => tracing::info!(level, "{what}"),
        Ok(Err(error)) => tracing::error!(level, %error, "the log level cannot be changed"),
        Err(error) => tracing::warn!(level, error, "not a log level: it stays as it was"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_levels_and_targets_with_a_level_are_filters() {
        for text in
            ["info", "INFO", "off", "info,forest_server=debug", "warn,forest_server::core=trace,h2=off"]
        {
            assert!(filter(text).is_ok(), "{text}");
        }
        let long = format!("info,{}=debug", "x".repeat(MAX_FILTER));
        let wrong = [
            "",
            "degub",
            "info,",
            "warn, h2=off",
            "=debug",
            "forest_server",
            "a=b=c",
            "===",
            "x=",
            "[span]=info",
            "a/b=info",
            &long,
        ];
        for text in wrong {
            assert!(filter(text).is_err(), "{text}");
        }
        assert!(filter("info,verbose").expect_err("no level").contains("\"verbose\""));
    }
}
