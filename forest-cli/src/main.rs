//! `forest-cli`: operates a Forest cluster through its admin API.
//!
//! Stdout carries data only, stderr messages only, and the exit code says which kind of failure it was
//! ([`error::Exit`]). This file only ties the parts together.

mod args;
mod chinese;
mod clock;
mod commands;
mod connect;
mod console;
mod contexts;
mod credentials;
mod error;
#[cfg(test)]
mod fake;
mod output;
mod paging;
mod settings;
#[cfg(test)]
mod transcript;
mod yaml;

use std::process::ExitCode;

use clap::Parser;

use crate::args::Cli;
use crate::console::Console;
use crate::error::{Exit, Failure};
use crate::settings::Surroundings;

fn main() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|error| error.exit());
    let mut console = Console::of_process();
    let exit = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(commands::run(cli, &Surroundings::of_process(), &mut console)),
        Err(error) => {
            console.note(&Failure::refused(format!("cannot start: {error}")).to_string());
            Exit::Refused
        }
    };
    ExitCode::from(exit.code())
}
