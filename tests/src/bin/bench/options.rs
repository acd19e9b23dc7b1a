//! What is measured, how much of it, and how it is printed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Measures a Forest cluster on this machine, with a real etcd and a real MariaDB.
///
/// Everything it starts ends with it. Progress goes to stderr, the figures to stdout.
#[derive(Debug, Parser)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// Measure only these parts.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "raw,a,b,c,d,e")]
    pub(crate) only: Vec<Part>,
    /// How the figures are printed.
    #[arg(short, long, value_enum, default_value = "table")]
    pub(crate) output: Output,
    /// Let etcd acknowledge what is not on the disk yet. Faster, and no measure of a real cluster.
    #[arg(long)]
    pub(crate) no_fsync: bool,
    /// How long each raw rate is measured, in seconds.
    #[arg(long, default_value_t = 2)]
    pub(crate) raw_seconds: u64,
    /// Jobs of part a, all due in the same second.
    #[arg(long, default_value_t = 50_000)]
    pub(crate) burst_jobs: usize,
    /// Runs of part b, all due in the same second.
    #[arg(long, default_value_t = 20_000)]
    pub(crate) runs: usize,
    /// Worker processes of parts b and c.
    #[arg(long, default_value_t = 4)]
    pub(crate) workers: usize,
    /// Capacity of each worker in parts b and c. The default has room for all runs, so that none is parked.
    #[arg(long, default_value_t = 5_000)]
    pub(crate) capacity: u32,
    /// Runs per second of part c; the aim is measured at the last.
    #[arg(long, value_delimiter = ',', default_value = "100,1000")]
    pub(crate) rates: Vec<usize>,
    /// How long part c measures at each rate, in seconds.
    #[arg(long, default_value_t = 5)]
    pub(crate) delay_seconds: u64,
    /// Jobs of part d.
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) jobs: usize,
    /// How often part e kills the leader.
    #[arg(long, default_value_t = 3)]
    pub(crate) kills: usize,
    /// How often part e tells the leader to end.
    #[arg(long, default_value_t = 5)]
    pub(crate) terms: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// What etcd can do here.
    Raw,
    /// Dispatch alone.
    A,
    /// From due to collected and deleted.
    B,
    /// From fire to start.
    C,
    /// Many jobs: memory, and how soon a new leader dispatches.
    D,
    /// Fail-over.
    E,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Table,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The benchmark's own worker process.
    #[command(hide = true)]
    Worker(WorkerOptions),
}

#[derive(Debug, Args)]
pub(crate) struct WorkerOptions {
    #[arg(long)]
    pub(crate) etcd: String,
    #[arg(long)]
    pub(crate) key_root: String,
    #[arg(long)]
    pub(crate) group: String,
    #[arg(long)]
    pub(crate) name: String,
    #[arg(long)]
    pub(crate) capacity: u32,
    /// Where to write when each run started; nowhere unless given.
    #[arg(long)]
    pub(crate) starts: Option<PathBuf>,
}
