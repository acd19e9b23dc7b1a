//! `stats`.

use clap::{Args, ValueEnum};

use crate::paging::Paging;

#[derive(Debug, Clone, Args)]
pub(crate) struct Stats {
    /// Only runs of this job: its id or its exact name.
    #[arg(long)]
    pub(crate) job: Option<String>,
    /// Only runs of this group.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) group: String,
    /// Runs created since: an instant, or a duration before now (12h), down to the whole hour.
    #[arg(long, value_name = "WHEN", default_value = "24h")]
    pub(crate) since: String,
    /// Runs created until: an instant, or a duration before now, up to the whole hour. Now if not given.
    #[arg(long, value_name = "WHEN")]
    pub(crate) until: Option<String>,
    /// What to count by. Hours and days are those of UTC.
    #[arg(long, value_enum, default_value_t = By::Hour)]
    pub(crate) by: By,
    #[command(flatten)]
    pub(crate) paging: Paging,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    Hour,
    Day,
    Job,
    Group,
}

impl By {
    /// Its name in the API.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Job => "job",
            Self::Group => "group",
        }
    }
}
