//! The command line of `backfill`.

use clap::{Args, Subcommand};

use super::ParamsFlags;
use crate::paging::Paging;

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum BackfillCommand {
    /// Runs the fires that a job has in a range of the past, one after the other.
    #[command(after_help = OVERLAP)]
    Start(StartBackfill),
    /// Lists the backfills that still have runs to create.
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// Ends a backfill: no further runs are created, those that there are go on.
    Cancel {
        /// The job: its id or its exact name.
        job: String,
    },
}

const OVERLAP: &str = "\
It obeys the job's overlap: unless that is allow, the next run is created when nothing else of the job is
alive; fires of the schedule that come meanwhile are decided as always. With allow up to 100 runs are alive at
once. While the job is disabled the backfill waits. Every fire of the range gets a run, also one that was
run in its time.";

#[derive(Debug, Clone, Args)]
pub(crate) struct StartBackfill {
    /// The job: its id or its exact name. Of cron, or of a fixed rate.
    pub(crate) job: String,
    /// The begin of the range: an instant, or a duration before now (24h).
    #[arg(long, value_name = "WHEN")]
    pub(crate) from: String,
    /// The end of the range, which is not in it: an instant, or a duration before now.
    #[arg(long, value_name = "WHEN")]
    pub(crate) to: String,
    /// Only show how many fires there are.
    #[arg(long, conflicts_with_all = ["wait", "params", "params_file"])]
    pub(crate) dry_run: bool,
    /// Refused if there are more fires than this.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) max: u32,
    #[command(flatten)]
    pub(crate) params: ParamsFlags,
    /// Wait until all its runs have ended, however they do.
    #[arg(long)]
    pub(crate) wait: bool,
}
