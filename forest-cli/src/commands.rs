//! The commands: each asks the admin API and shows the answer.
//!
//! Wire types end here; no command touches a stream or a clock of its own but through [`Context`].

mod backfill;
mod calendar;
mod client;
mod cron;
mod group;
mod job;
mod node;
mod pending;
mod plan;
mod run;
mod status;

use serde_json::json;

use crate::args::{Cli, Command, Format};
use crate::connect::Api;
use crate::console::Console;
use crate::error::{Exit, Failure};
use crate::output::View;

/// What every command needs.
struct Context<'a> {
    api: Api,
    view: View,
    console: &'a mut Console,
}

impl Context<'_> {
    /// Says that something is gone: data for programs, a message for people.
    fn deleted(&mut self, kind: &str, id: &str) -> Result<(), Failure> {
        match self.view.format {
            Format::Json => self.console.print(&format!("{:#}\n", json!({ "deleted": { kind: id } }))),
            Format::Table | Format::Wide => {
                self.console.note(&format!("deleted {kind} {id}"));
                Ok(())
            }
        }
    }
}

/// Does what the command line says. Failures are told on stderr.
pub(crate) async fn run(cli: Cli, console: &mut Console) -> Exit {
    let global = cli.global;
    let mut context = Context {
        api: Api::new(global.server, global.timeout),
        view: View { format: global.output, zone: global.time },
        console,
    };
    let done = match cli.command {
        Command::Status => status::show(&mut context).await,
        Command::Group(command) => group::run(&mut context, command).await,
        Command::Job(command) => job::run(&mut context, command).await,
        Command::Backfill(command) => backfill::run(&mut context, command).await,
        Command::Calendar(command) => calendar::run(&mut context, command).await,
        Command::Cron(command) => cron::run(&mut context, command).await,
        Command::Run(command) => run::run(&mut context, command).await,
        Command::Plan(plan) => plan::show(&mut context, &plan).await,
        Command::Client(command) => client::run(&mut context, command).await,
        Command::Node(command) => node::run(&mut context, command).await,
        Command::Pending(command) => pending::run(&mut context, command).await,
    };
    match done {
        Ok(()) => Exit::Ok,
        Err(failure) => {
            if !failure.is_silent() {
                console.note(&failure.to_string());
            }
            failure.exit
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind, Write};

    use clap::Parser as _;

    use super::*;
    use crate::fake::{Fake, Sink};

    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> Result<usize, Error> {
            Err(ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> Result<(), Error> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_closed_pipe_ends_the_command_quietly() {
        let fake = Fake::start().await;
        let stderr = Sink::default();
        let mut console = Console {
            stdin: Box::new(std::io::empty()),
            stdout: Box::new(Closed),
            stderr: Box::new(stderr.clone()),
            interactive: false,
            live: false,
            width: 80,
        };
        let line = ["forest-cli", "--server", &fake.url(), "client", "list"];
        let cli = Cli::try_parse_from(line).expect("a valid line");
        assert_eq!(run(cli, &mut console).await, Exit::Ok);
        assert_eq!(stderr.text(), "");
    }
}
