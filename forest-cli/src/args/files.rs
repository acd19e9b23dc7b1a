//! The command lines of jobs that are kept in files.

use clap::Args;

/// Files with jobs.
#[derive(Debug, Clone, Args)]
pub(crate) struct Files {
    /// YAML or JSON documents, one for each job, `-` for stdin. Several files may follow.
    #[arg(short, long = "file", value_name = "FILE", num_args = 1.., required = true)]
    pub(crate) files: Vec<String>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ExportJobs {
    /// Only jobs of this group.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) group: String,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ValidateJobs {
    #[command(flatten)]
    pub(crate) files: Files,
    /// Ask no server: cron expressions are not looked at.
    #[arg(long)]
    pub(crate) offline: bool,
}

/// What is to be done with jobs that are in no file.
#[derive(Debug, Clone, Args)]
pub(crate) struct PruneFlags {
    /// Delete the jobs of --group that are in none of the files.
    #[arg(long, requires = "group")]
    pub(crate) prune: bool,
    /// The group that --prune is for, and no other.
    #[arg(long, requires = "prune", value_name = "GROUP")]
    pub(crate) group: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct DiffJobs {
    #[command(flatten)]
    pub(crate) files: Files,
    #[command(flatten)]
    pub(crate) prune: PruneFlags,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ApplyJobs {
    #[command(flatten)]
    pub(crate) files: Files,
    #[command(flatten)]
    pub(crate) prune: PruneFlags,
    /// Only say what would be done.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not ask before deleting.
    #[arg(short, long)]
    pub(crate) yes: bool,
}

pub(super) const WHAT_FILES_SAY: &str = "\
A document says all of a job: a field that it leaves out has its default. Only what it does not say about
`status` stays as it is, so that a job that was disabled by hand stays so; a new job is enabled.
A job is found by `id` if the document has one, else by `group` and `name`. What only the server sets
(version, created_at, ...) does not count. `job export` writes such documents.";
