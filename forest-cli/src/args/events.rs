//! `events` and `top`.

use clap::Args;

/// What to be told.
#[derive(Debug, Clone, Args)]
pub(crate) struct Events {
    /// Go on with what happens from now on, until stopped with Ctrl-C. Without it, what the server remembers is shown.
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only of this group.
    #[arg(long, default_value = "")]
    pub(crate) group: String,
    /// Only of this job and its runs: its id or its exact name.
    #[arg(long)]
    pub(crate) job: Option<String>,
    /// Only these, such as job.created, run.ended or all of run. Repeat it, or put commas between them.
    #[arg(long = "type", value_name = "TYPE,..", value_delimiter = ',')]
    pub(crate) types: Vec<String>,
    /// Only what came behind the event of this id, or since: an instant, or a duration before now (10m). `0`: all
    /// that the server remembers.
    #[arg(long, value_name = "WHEN")]
    pub(crate) since: Option<String>,
}

/// What to show.
#[derive(Debug, Clone, Args)]
pub(crate) struct Top {
    /// Only clients, runs and fires of this group.
    #[arg(long, default_value = "")]
    pub(crate) group: String,
}
