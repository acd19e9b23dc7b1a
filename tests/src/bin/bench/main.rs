//! `make bench`: what a Forest cluster does on this machine, as ratios to what etcd itself does here.
//!
//! | part | what | aim |
//! | --- | --- | --- |
//! | raw | transactions of 128 puts; from a put to its watch event | |
//! | a | dispatch alone: many jobs due at once, clients that never claim | >= 0.5 of the raw keys/s |
//! | b | from due to collected and deleted, with worker processes and MariaDB | >= 0.5 of the raw keys/s |
//! | c | from fire to start at a steady rate | p99 <= 5 times that of put to event |
//! | d | a million jobs: memory, and how soon a new leader dispatches | <= 600 B each, <= 1 s |
//! | e | from the end of a leader to the first snapshot of the next | <= TTL + 1 s, <= 300 ms |
//!
//! Nothing is asserted about speed: an aim is printed beside its figure. What is asserted is that a
//! measurement measured what it says, such as that every run is in the history.

mod delay;
mod dispatch;
mod failover;
mod ground;
mod million;
mod observe;
mod options;
mod path;
mod raw;
mod report;
mod stats;
mod worker;

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

use options::{Command, Options, Output, Part};
use report::Report;

#[tokio::main]
async fn main() -> ExitCode {
    let mut options = Options::parse();
    let done = match options.command.take() {
        Some(Command::Worker(worker)) => worker::run(worker).await,
        None => bench(&options).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Progress, on stderr.
fn say(text: impl AsRef<str>) {
    eprintln!("{}", text.as_ref());
}

async fn bench(options: &Options) -> anyhow::Result<()> {
    let mut report = Report::default();
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    report.circumstance("processors", processors.to_string());
    let fsync = if options.no_fsync { "off: etcd acknowledges what is not on the disk" } else { "on" };
    report.circumstance("etcd's fsync", fsync);
    report.circumstance(
        "build",
        if cfg!(debug_assertions) { "debug: the figures mean little" } else { "release" },
    );
    let began = Instant::now();
    for part in [Part::Raw, Part::A, Part::B, Part::C, Part::D, Part::E] {
        if !options.only.contains(&part) {
            continue;
        }
        say(format!("== {part:?}, after {:.0} s", began.elapsed().as_secs_f64()));
        match part {
            Part::Raw => raw::measure(options, &mut report).await?,
            Part::A => dispatch::measure(options, &mut report).await?,
            Part::B => path::measure(options, &mut report).await?,
            Part::C => delay::measure(options, &mut report).await?,
            Part::D => million::measure(options, &mut report).await?,
            Part::E => failover::measure(options, &mut report).await?,
        }
    }
    report.circumstance("took", format!("{:.0} s", began.elapsed().as_secs_f64()));
    match options.output {
        Output::Table => println!("{}", report.table()),
        Output::Json => println!("{}", report.json()),
    }
    Ok(())
}
