//! The commands: each asks the admin API and shows the answer.
//!
//! Wire types end here; no command touches a stream or a clock of its own but through [`Context`].

mod access;
mod audit;
mod backfill;
mod calendar;
mod client;
mod context;
mod cron;
mod doctor;
mod etcd;
mod events;
mod group;
mod job;
mod log_level;
mod login;
mod node;
mod pending;
mod plan;
mod run;
mod shell;
mod stats;
mod status;
mod top;

use serde_json::json;

use crate::args::{Cli, Command, CronCommand, Format};
use crate::connect::Api;
use crate::console::Console;
use crate::error::{Exit, Failure};
use crate::output::View;
use crate::settings::{self, Surroundings};

/// What every command needs.
struct Context<'a> {
    api: Api,
    view: View,
    console: &'a mut Console,
}

impl Context<'_> {
    /// Says that something is gone: data for programs, a message for people.
    fn deleted(&mut self, kind: &str, id: &str) -> Result<(), Failure> {
        self.done("deleted", kind, id, &format!("deleted {kind} {id}"))
    }

    /// The same of anything that leaves nothing to show.
    fn done(&mut self, done: &str, kind: &str, id: &str, message: &str) -> Result<(), Failure> {
        match self.view.format {
            Format::Json | Format::Jsonl | Format::Yaml | Format::Name => {
                self.view.show(self.console, id, &json!({ done: { kind: id } }), Vec::new())
            }
            Format::Table | Format::Wide => {
                self.console.note(message);
                Ok(())
            }
        }
    }
}

/// Does what the command line says. Failures are told on stderr.
pub(crate) async fn run(cli: Cli, around: &Surroundings, console: &mut Console) -> Exit {
    console.language = settings::language(&cli.global, around);
    match command(cli, around, console).await {
        Ok(()) => Exit::Ok,
        Err(failure) => {
            if !failure.is_silent() {
                console.tell(&failure);
            }
            failure.exit
        }
    }
}

async fn command(cli: Cli, around: &Surroundings, console: &mut Console) -> Result<(), Failure> {
    let Cli { global, command } = cli;
    if global.watch && !command.can_be_watched() {
        return Err(Failure::usage("--watch is for lists"));
    }
    let view = View { format: global.output, zone: global.time.clone() };
    match command {
        Command::Context(command) => return context::run(command, &global, around, &view, console),
        Command::Etcd(command) => return etcd::run(command, &view, console),
        Command::Cron(CronCommand::Explain(args)) => return cron::explain(args, &view, console),
        Command::Login(command) => return login::login(command, &global, around, view, console).await,
        Command::Logout => return login::logout(&global, around, view, console).await,
        Command::Completion { shell } => return shell::completion(shell, console),
        Command::Man { words } => return shell::man(&words, console),
        _ => {}
    }
    let api = settings::api(&global, around, console)?;
    let mut context = Context { api, view, console };
    if !global.watch {
        return cluster(&mut context, command).await;
    }
    loop {
        context.console.starts_anew();
        match cluster(&mut context, command.clone()).await {
            // It may come back.
            Err(failure) if failure.exit == Exit::Unreachable => context.console.tell(&failure),
            done => done?,
        }
        tokio::time::sleep(around.watch_every).await;
    }
}

/// What asks a server.
async fn cluster(context: &mut Context<'_>, command: Command) -> Result<(), Failure> {
    match command {
        Command::Status => status::show(context).await,
        Command::Group(command) => group::run(context, command).await,
        Command::Job(command) => job::run(context, command).await,
        Command::Backfill(command) => backfill::run(context, command).await,
        Command::Calendar(command) => calendar::run(context, command).await,
        Command::Cron(CronCommand::Next(args)) => cron::next(context, args).await,
        Command::Run(command) => run::run(context, command).await,
        Command::Stats(args) => stats::show(context, args).await,
        Command::Plan(plan) => plan::show(context, &plan).await,
        Command::Client(command) => client::run(context, command).await,
        Command::Node(command) => node::run(context, command).await,
        Command::Pending(command) => pending::run(context, command).await,
        Command::Whoami => access::whoami(context).await,
        Command::User(command) => access::user(context, command).await,
        Command::Token(command) => access::token(context, command).await,
        Command::Audit(command) => audit::run(context, command).await,
        Command::Events(args) => events::run(context, &args).await,
        Command::Top(args) => top::run(context, &args).await,
        Command::Doctor => doctor::run(context).await,
        // These ask no server, or as somebody else, and have been done.
        Command::Context(_)
        | Command::Cron(CronCommand::Explain(_))
        | Command::Etcd(_)
        | Command::Login(_)
        | Command::Logout
        | Command::Completion { .. }
        | Command::Man { .. } => Ok(()),
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
        let (stdout, said) = (Box::new(Closed), Box::new(stderr.clone()));
        let mut console = Console { stdout, stderr: said, ..Console::for_test("") };
        let line = ["forest-cli", "--server", &fake.url(), "client", "list"];
        let cli = Cli::try_parse_from(line).expect("a valid line");
        assert_eq!(run(cli, &Surroundings::default(), &mut console).await, Exit::Ok);
        assert_eq!(stderr.text(), "");
    }

    /// Takes so many pieces of data, then goes away.
    struct Screen(Sink, u32);
    impl Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
            self.1 = self.1.checked_sub(1).ok_or(ErrorKind::BrokenPipe)?;
            self.0.write(bytes)
        }
        fn flush(&mut self) -> Result<(), Error> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_watched_list_is_drawn_again_in_its_place() {
        let fake = Fake::start().await;
        let watch = async |screen: bool| {
            let shown = Sink::default();
            let stdout = Box::new(Screen(shown.clone(), 2));
            let mut console = Console { stdout, screen, ..Console::for_test("") };
            let line = ["forest-cli", "--server", &fake.url(), "node", "list", "-o", "name", "--watch"];
            let cli = Cli::try_parse_from(line).expect("a valid line");
            assert_eq!(run(cli, &Surroundings::default(), &mut console).await, Exit::Ok);
            shown.text()
        };
        assert_eq!(watch(true).await, "\x1b[H\x1b[2Jn1\nn2\n\x1b[H\x1b[2Jn1\nn2\n");
        assert_eq!(watch(false).await, "n1\nn2\nn1\nn2\n");
        assert_eq!(fake.cli(&["job", "delete", "1", "--yes", "--watch"]).await.exit, Exit::Usage);
    }
}
