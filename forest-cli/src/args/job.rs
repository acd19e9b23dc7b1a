//! The command line of `job`.

use std::time::Duration;

use clap::{Args, Subcommand};
use forest_proto::record::{ShardParams, ShardParamsError};

use forest_proto::record::RetryBackoff;

use super::backoff::backoff;
use super::files::{ApplyJobs, DiffJobs, ExportJobs, ValidateJobs, WHAT_FILES_SAY};
use super::{duration, duration_ms};
use crate::paging::Paging;

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum JobCommand {
    /// Creates a job and shows when it fires. It is enabled unless told otherwise.
    Add(Box<AddJob>),
    /// Lists jobs.
    List(ListJobs),
    /// Shows a job.
    Get {
        /// Its id or its exact name.
        job: String,
    },
    /// Changes the given fields of a job.
    #[command(after_help = EDIT_WHOLE)]
    Edit(Box<EditJob>),
    /// Lets a job fire again. What it missed while it was disabled is not caught up on.
    Enable {
        /// Its id or its exact name.
        job: String,
    },
    /// Stops a job from firing. It can still be run by hand.
    Disable {
        /// Its id or its exact name.
        job: String,
        /// Why, in words.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Deletes a job. Runs that no client has taken yet are cancelled, running ones finish.
    Delete(DeleteJob),
    /// Runs a job now, also a disabled one, and shows the id of the run.
    Run(RunJob),
    /// Shows when a job fires, or when an expression would.
    Next(NextFires),
    /// Writes jobs as YAML documents, for a file that is kept and applied.
    Export(ExportJobs),
    /// Checks files with jobs; nothing is changed.
    #[command(after_help = WHAT_FILES_SAY)]
    Validate(ValidateJobs),
    /// Shows what `job apply` would change. Ends with 1 if that is anything.
    #[command(after_help = WHAT_FILES_SAY)]
    Diff(DiffJobs),
    /// Makes the jobs be as files say. All files are checked before anything is changed.
    #[command(after_help = WHAT_FILES_SAY)]
    Apply(ApplyJobs),
    /// Says what became of one fire of a job, and why.
    Explain {
        /// Its id or its exact name.
        job: String,
        /// The fire time: 2027-10-01T08:00:00+08:00.
        #[arg(long, value_name = "TIME", value_parser = instant)]
        at: String,
    },
}

const EDIT_WHOLE: &str = "\
To edit all of a job in an editor:
  forest-cli job get JOB -o json | jq .document > job.json
  forest-cli job edit JOB -f job.json
This is refused if somebody else changed the job in between.";

#[derive(Debug, Clone, Args)]
pub(crate) struct AddJob {
    #[command(flatten)]
    pub(crate) flags: JobFlags,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct EditJob {
    /// Its id or its exact name.
    pub(crate) job: String,
    #[command(flatten)]
    pub(crate) flags: JobFlags,
    /// Only if the job is still at this version, as `job get` shows it.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) version: Option<u64>,
}

/// The fields of a job. A flag that is not given leaves its field alone.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct JobFlags {
    /// JSON object with fields of the job, `-` for stdin. Flags override it. When editing, null puts a
    /// field back to its default.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<String>,
    /// A label for people.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Which clients may run it.
    #[arg(long)]
    pub(crate) group: Option<String>,
    /// Which handler of the clients it calls.
    #[arg(long)]
    pub(crate) target: Option<String>,
    /// When it fires: "SEC MIN HOUR DAY MONTH WEEKDAY", @daily, "@every 90s".
    #[arg(long, value_name = "EXPR", conflicts_with = "every")]
    pub(crate) cron: Option<String>,
    /// How often it fires: short for --cron "@every ...".
    #[arg(long, value_name = "DURATION", value_parser = every)]
    pub(crate) every: Option<String>,
    /// What makes it fire, in place of --cron and --every.
    #[command(flatten)]
    pub(crate) trigger: TriggerFlags,
    #[command(flatten)]
    pub(crate) chain: ChainFlags,
    /// No fire before this time: 2027-10-01T08:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    pub(crate) starts_at: Option<String>,
    /// No fire after this time.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    pub(crate) ends_at: Option<String>,
    /// Spread the fires of jobs over this time, each job by an amount of its own.
    #[arg(long, value_name = "DURATION", value_parser = duration_ms)]
    pub(crate) jitter: Option<u64>,
    /// IANA time zone of --cron, and of the hours and days of --after-within.
    #[arg(long, value_name = "ZONE")]
    pub(crate) time_zone: Option<String>,
    /// What becomes of a fire whose local time does not exist.
    #[arg(long, value_parser = ["next_valid", "skip"])]
    pub(crate) dst_gap: Option<String>,
    /// What becomes of a fire whose local time comes twice.
    #[arg(long, value_parser = ["first", "both"])]
    pub(crate) dst_fold: Option<String>,
    /// Calendars whose days are left out or put in: NAME,.. Empty for none.
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    pub(crate) calendars: Option<Vec<String>>,
    #[command(flatten)]
    pub(crate) params: ParamsFlags,
    /// What becomes of a fire while an earlier run is alive.
    #[arg(long, value_parser = ["forbid", "allow", "queue_one", "queue_all", "cancel_running"])]
    pub(crate) overlap: Option<String>,
    /// How many fires wait with --overlap queue_all.
    #[arg(long, value_name = "N")]
    pub(crate) queue_limit: Option<u32>,
    /// Which of the able clients gets a run.
    #[arg(long, value_parser = [
        "round_robin", "first", "last", "random", "consistent_hash", "least_frequently_used",
        "least_recently_used", "failover", "busy_over", "least_loaded", "broadcast",
    ])]
    pub(crate) routing: Option<String>,
    /// What single shards get with --routing broadcast, by index from 0: "0=Beijing,1=Shanghai". "" for nothing.
    #[arg(long, value_name = "INDEX=TEXT,..", value_parser = shard_params)]
    pub(crate) shard_params: Option<ShardParams>,
    /// Only clients with this label; more than once for several. "" for none.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub(crate) labels: Vec<(String, String)>,
    /// Larger goes first within a group.
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub(crate) priority: Option<i32>,
    /// How many runs may be given to clients or executed at once.
    #[arg(long, value_name = "N")]
    pub(crate) max_in_flight: Option<u32>,
    /// How long a run may take.
    #[arg(long, value_name = "DURATION", value_parser = duration_ms)]
    pub(crate) run_timeout: Option<u64>,
    /// What becomes of fires that are late by more than the threshold.
    #[arg(long, value_parser = ["skip", "fire_once", "fire_all"])]
    pub(crate) misfire: Option<String>,
    /// How many late fires are made up for with --misfire fire_all.
    #[arg(long, value_name = "N")]
    pub(crate) misfire_cap: Option<u32>,
    /// How late a fire may be.
    #[arg(long, value_name = "DURATION", value_parser = duration_ms)]
    pub(crate) misfire_threshold: Option<u64>,
    /// How often a run is tried in all.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) max_attempts: Option<u32>,
    /// How long to wait before the second, third, ... attempt: 1m,5m.
    #[arg(long, value_name = "DURATION,..", value_delimiter = ',', value_parser = duration_ms)]
    pub(crate) retry_delays: Option<Vec<u64>>,
    /// Growing delays in place of a list: first=10s,max=10m,factor=2,jitter=20. Only `first` must be said;
    /// the others are 1h, 2 and 0. `jitter` is the share in percent that may be taken off each delay.
    #[arg(long, value_name = "NAME=VALUE,..", value_parser = backoff, conflicts_with = "retry_delays")]
    pub(crate) retry_backoff: Option<RetryBackoff>,
    /// Which ends are tried again; all failures if not given.
    #[arg(long, value_name = "OUTCOME,..", value_delimiter = ',', value_parser = ["failed", "timed_out", "lost"])]
    pub(crate) retry_if: Option<Vec<String>>,
    /// What becomes of a run whose client vanished.
    #[arg(long, value_parser = ["fail", "retry"])]
    pub(crate) on_lost: Option<String>,
    /// How long a run may wait for a client.
    #[arg(long, value_name = "DURATION", value_parser = duration_ms)]
    pub(crate) start_deadline: Option<u64>,
    /// It does not fire.
    #[arg(long)]
    pub(crate) disabled: bool,
    /// What it is for, in words.
    #[arg(long)]
    pub(crate) remark: Option<String>,
}

/// What makes a job fire beside cron.
#[derive(Debug, Clone, Default, Args)]
#[group(multiple = false, conflicts_with_all = ["cron", "every"])]
pub(crate) struct TriggerFlags {
    /// Every so often, however long runs take.
    #[arg(long, value_name = "DURATION", value_parser = duration_ms)]
    pub(crate) rate: Option<u64>,
    /// So long after the end of the run before.
    #[arg(long, value_name = "DURATION", value_parser = duration_ms)]
    pub(crate) delay: Option<u64>,
    /// Once, at this time: 2027-10-01T08:00:00+08:00.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    pub(crate) at: Option<String>,
    /// Once, in so long.
    #[arg(long = "in", value_name = "DURATION", value_parser = duration_ms)]
    pub(crate) after: Option<u64>,
    /// Only when somebody asks for it.
    #[arg(long)]
    pub(crate) manual: bool,
    /// When this job has ended, by its id or exact name; more than once for several.
    #[arg(long = "after", value_name = "JOB")]
    pub(crate) follows: Vec<String>,
}

/// How a job follows those of --after.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ChainFlags {
    /// Which of their ends count; success if not given.
    #[arg(long, value_parser = ["success", "failure", "end"], requires = "follows")]
    pub(crate) after_on: Option<String>,
    /// Whether all of them must have ended, or any; all if not given.
    #[arg(long, value_parser = ["all", "any"], requires = "follows")]
    pub(crate) after_need: Option<String>,
    /// Which of their runs belong together: those of one fire time, hour or day; fire if not given.
    #[arg(long, value_parser = ["fire", "hour", "day"], requires = "follows")]
    pub(crate) after_within: Option<String>,
}

/// What the handler is given.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ParamsFlags {
    /// What the handler is given.
    #[arg(long, value_name = "TEXT", conflicts_with = "params_file", allow_hyphen_values = true)]
    pub(crate) params: Option<String>,
    /// The same from a file, `-` for stdin.
    #[arg(long, value_name = "FILE")]
    pub(crate) params_file: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ListJobs {
    /// Only jobs of this group.
    #[arg(long, default_value = "")]
    pub(crate) group: String,
    /// Only jobs of exactly this name.
    #[arg(long, default_value = "")]
    pub(crate) name: String,
    /// Only enabled jobs.
    #[arg(long, conflicts_with = "disabled")]
    pub(crate) enabled: bool,
    /// Only disabled jobs.
    #[arg(long)]
    pub(crate) disabled: bool,
    #[command(flatten)]
    pub(crate) paging: Paging,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct DeleteJob {
    /// Its id or its exact name.
    pub(crate) job: String,
    /// Do not ask.
    #[arg(short, long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RunJob {
    /// Its id or its exact name.
    pub(crate) job: String,
    #[command(flatten)]
    pub(crate) params: ParamsFlags,
    /// Makes the request repeatable: the same key gives the same run for an hour.
    #[arg(long, default_value = "")]
    pub(crate) key: String,
    /// Only this client may take the run: an id as `client list` shows it.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) client: String,
    /// Wait until the run has finished. Succeeds only if the run does.
    #[arg(long)]
    pub(crate) wait: bool,
    /// How long to wait.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration, requires = "wait")]
    pub(crate) wait_timeout: Duration,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct NextFires {
    /// The job's id or its exact name.
    #[arg(required_unless_present = "cron", conflicts_with_all = ["cron", "time_zone", "dst_gap", "dst_fold"])]
    pub(crate) job: Option<String>,
    /// An expression.
    #[arg(long, value_name = "EXPR")]
    pub(crate) cron: Option<String>,
    /// IANA time zone of the expression. The server's if not given.
    #[arg(long, value_name = "ZONE", default_value = "", hide_default_value = true)]
    pub(crate) time_zone: String,
    /// What becomes of a fire whose local time does not exist.
    #[arg(long, value_parser = ["next_valid", "skip"], default_value = "next_valid")]
    pub(crate) dst_gap: String,
    /// What becomes of a fire whose local time comes twice.
    #[arg(long, value_parser = ["first", "both"], default_value = "first")]
    pub(crate) dst_fold: String,
    /// How many fires to show.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) count: u32,
}

/// An instant, in UTC as the server writes it.
fn instant(text: &str) -> Result<String, String> {
    let at: jiff::Timestamp = text
        .parse()
        .map_err(|_| format!("{text:?} is not a time with its offset, such as 2027-10-01T08:00:00+08:00"))?;
    Ok(format!("{at:.3}"))
}

fn shard_params(text: &str) -> Result<ShardParams, String> {
    text.parse().map_err(|error: ShardParamsError| error.to_string())
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        None if text.is_empty() => Ok((String::new(), String::new())),
        _ => Err(format!("{text:?} is not of the form KEY=VALUE")),
    }
}

fn every(text: &str) -> Result<String, String> {
    duration(text).map(|_| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use clap::error::ErrorKind;

    use super::*;
    use crate::args::{Cli, Command};

    fn parse(line: &[&str]) -> Result<JobCommand, clap::Error> {
        let cli = Cli::try_parse_from(["forest-cli", "job"].iter().chain(line))?;
        match cli.command {
            Command::Job(command) => Ok(command),
            other => panic!("{other:?} is not a job command"),
        }
    }

    #[test]
    fn durations_become_milliseconds() {
        let line = ["edit", "7", "--retry-delays", "1m,5m", "--misfire-threshold", "1h30m", "--version", "3"];
        let Ok(JobCommand::Edit(edit)) = parse(&line) else { panic!("must parse") };
        assert_eq!((edit.job.as_str(), edit.version), ("7", Some(3)));
        assert_eq!(edit.flags.retry_delays, Some(vec![60_000, 300_000]));
        assert_eq!(edit.flags.misfire_threshold, Some(5_400_000));
        assert_eq!(edit.flags.start_deadline, None);
    }

    #[test]
    fn parameters_may_begin_with_a_hyphen() {
        let Ok(JobCommand::Run(run)) = parse(&["run", "7", "--params", "-v --all"]) else {
            panic!("must parse")
        };
        assert_eq!(run.params.params.as_deref(), Some("-v --all"));
        assert_eq!((run.wait, run.wait_timeout), (false, Duration::from_secs(60)));
    }

    #[test]
    fn contradictions_are_refused() {
        let check = |line: &[&str], kind: ErrorKind| {
            let error = parse(line).map(|_| ()).expect_err("contradicts itself");
            assert_eq!((error.kind(), error.exit_code()), (kind, 2), "{line:?}: {error}");
        };
        check(&["add", "--cron", "@daily", "--every", "5m"], ErrorKind::ArgumentConflict);
        check(&["add", "--params", "a", "--params-file", "-"], ErrorKind::ArgumentConflict);
        check(&["add", "--overlap", "maybe"], ErrorKind::InvalidValue);
        check(&["add", "--cron", "@daily", "--rate", "5m"], ErrorKind::ArgumentConflict);
        check(&["add", "--delay", "5m", "--manual"], ErrorKind::ArgumentConflict);
        check(&["add", "--after", "7", "--manual"], ErrorKind::ArgumentConflict);
        check(&["add", "--after", "7", "--cron", "@daily"], ErrorKind::ArgumentConflict);
        check(&["edit", "8", "--after-need", "any"], ErrorKind::MissingRequiredArgument);
        check(&["add", "--after", "7", "--after-within", "week"], ErrorKind::InvalidValue);
        check(&["add", "--at", "tomorrow"], ErrorKind::ValueValidation);
        check(&["add", "--label", "zone"], ErrorKind::ValueValidation);
        check(&["add", "--shard-params", "Beijing"], ErrorKind::ValueValidation);
        check(&["add", "--every", "often"], ErrorKind::ValueValidation);
        check(&["add", "--retry-backoff", "first=soon"], ErrorKind::ValueValidation);
        check(&["add", "--retry-backoff", "first=1s", "--retry-delays", "1m"], ErrorKind::ArgumentConflict);
        check(&["add", "--max-attempts", "101"], ErrorKind::ValueValidation);
        check(&["list", "--enabled", "--disabled"], ErrorKind::ArgumentConflict);
        check(&["next"], ErrorKind::MissingRequiredArgument);
        check(&["next", "7", "--cron", "@daily"], ErrorKind::ArgumentConflict);
        check(&["next", "7", "--time-zone", "UTC"], ErrorKind::ArgumentConflict);
        check(&["run", "7", "--wait-timeout", "5s"], ErrorKind::MissingRequiredArgument);
        check(&["edit", "7", "--version", "0"], ErrorKind::ValueValidation);
    }
}
