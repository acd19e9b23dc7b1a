//! The program: reads its configuration, starts logging, and runs a node until a signal.

use std::process::ExitCode;

use forest_server::config::{self, Config, LogFormat, Task};
use forest_server::node;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let config = match config::from_process() {
        Task::Serve(config) => *config,
        Task::Exit(exit) => return exit.report(),
    };
    start_logging(&config);
    config.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the node failed");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run(config: Config) -> anyhow::Result<()> {
    let shutdown = CancellationToken::new();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut next_signal = async move || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let mut node = std::pin::pin!(node::run(config, shutdown.clone()));
    tokio::select! {
        ended = &mut node => return ended,
        () = next_signal() => tracing::info!("shutting down; a second signal ends at once"),
    }
    shutdown.cancel();
    tokio::select! {
        ended = &mut node => ended,
        () = next_signal() => anyhow::bail!("ended by a second signal"),
    }
}

fn start_logging(config: &Config) {
    // Checked when the configuration was read.
    let filter = EnvFilter::try_new(&config.log_level).unwrap_or_default();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match config.log_format {
        LogFormat::Json => {
            builder.json().flatten_event(true).with_current_span(false).with_span_list(false).init()
        }
        LogFormat::Text => builder.init(),
    }
}
