//! The program: reads its configuration, starts logging, and runs a node, or a whole Forest for development, until a
//! signal.

use std::process::ExitCode;

use forest_server::config::{self, LogFormat, Task};
use forest_server::{dev, logging, node};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    let ended = match config::dev::from_process() {
        Some(Ok(config)) => {
            logging::start(&config.log_level, LogFormat::Text);
            until_signalled(|shutdown| dev::run(config, shutdown))
        }
        Some(Err(exit)) => return exit.report(),
        None => match config::from_process() {
            Task::Serve(config) => {
                logging::start(&config.log_level, config.log_format);
                config.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
                until_signalled(|shutdown| node::run(*config, shutdown))
            }
            Task::Exit(exit) => return exit.report(),
        },
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the node failed");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn until_signalled<F>(run: impl FnOnce(CancellationToken) -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    let shutdown = CancellationToken::new();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut next_signal = async move || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let mut running = std::pin::pin!(run(shutdown.clone()));
    tokio::select! {
        ended = &mut running => return ended,
        () = next_signal() => tracing::info!("shutting down; a second signal ends at once"),
    }
    shutdown.cancel();
    tokio::select! {
        ended = &mut running => ended,
        () = next_signal() => anyhow::bail!("ended by a second signal"),
    }
}
