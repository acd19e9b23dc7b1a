//! The command line: what can be said, and the forms of durations, instants, zones and addresses.
//!
//! What only the server can know (whether a cron expression is sound, which zones it has) is not checked
//! here.

mod backfill;
mod backoff;
mod calendar;
mod job;

use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

pub(crate) use backfill::{BackfillCommand, StartBackfill};
pub(crate) use calendar::{CalendarCommand, CronCommand, SetCalendar};
pub(crate) use job::{
    AddJob, DeleteJob, EditJob, JobCommand, JobFlags, ListJobs, NextFires, ParamsFlags, RunJob, TriggerFlags,
};

use crate::error::Exit;
use crate::paging::Paging;

/// Operates a Forest cluster.
#[derive(Debug, Parser)]
#[command(name = "forest-cli", version, after_help = Exit::help())]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Addresses of servers; the first that answers is used.
    #[arg(
        long,
        global = true,
        env = "FOREST_SERVER",
        value_name = "URL,..",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:2856",
        value_parser = server
    )]
    pub(crate) server: Vec<String>,
    /// How to show data. `wide` is a table with all columns. `json` is one document, with instants as RFC 3339 in UTC.
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
    /// Show instants in `utc`, in the `local` zone or in an IANA zone such as Asia/Shanghai.
    #[arg(long, global = true, value_name = "ZONE", default_value = "local", value_parser = zone)]
    pub(crate) time: TimeZone,
    /// How long to wait for each server and for each answer.
    #[arg(long, global = true, default_value = "5s", value_parser = duration)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    /// The same, with more columns where a list has them.
    Wide,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// How the cluster is.
    Status,
    /// Groups of clients.
    #[command(subcommand)]
    Group(GroupCommand),
    /// Jobs.
    #[command(subcommand)]
    Job(JobCommand),
    /// Backfills: runs of the fires of a range of the past.
    #[command(subcommand)]
    Backfill(BackfillCommand),
    /// Calendars: days that jobs leave out or put in.
    #[command(subcommand)]
    Calendar(CalendarCommand),
    /// Cron expressions that are not saved.
    #[command(subcommand)]
    Cron(CronCommand),
    /// Runs, live and finished.
    #[command(subcommand)]
    Run(RunCommand),
    /// The next fires of all enabled jobs, soonest first.
    Plan(Plan),
    /// Clients: the worker processes.
    #[command(subcommand)]
    Client(ClientCommand),
    /// Nodes: the server processes.
    #[command(subcommand)]
    Node(NodeCommand),
    /// Runs that wait for a client.
    #[command(subcommand)]
    Pending(PendingCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum GroupCommand {
    /// Creates a group.
    Add {
        name: String,
        /// What it is for, in words.
        #[arg(long, default_value = "")]
        remark: String,
        /// How many runs may be with the group's clients at once. Default: any number.
        #[arg(long, value_name = "RUNS")]
        max_in_flight: Option<u32>,
        /// How many runs a second are given to the group's clients. Default: any number.
        #[arg(long, value_name = "RUNS")]
        dispatches_per_second: Option<u32>,
    },
    /// Changes the given options of a group.
    Edit {
        name: String,
        /// What it is for, in words.
        #[arg(long)]
        remark: Option<String>,
        /// How many runs may be with the group's clients at once. 0: any number.
        #[arg(long, value_name = "RUNS")]
        max_in_flight: Option<u32>,
        /// How many runs a second are given to the group's clients. 0: any number.
        #[arg(long, value_name = "RUNS")]
        dispatches_per_second: Option<u32>,
    },
    /// Lists the groups.
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// Shows one group.
    Get { name: String },
    /// Deletes a group that has no jobs, clients or runs.
    Delete {
        name: String,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum RunCommand {
    /// Lists runs: the live ones, then the finished ones, newest first.
    List(ListRuns),
    /// Shows one run with its parameters and its result.
    Get { run: String },
    /// Asks for a live run to be stopped, or not to be started. It may still end otherwise before that.
    Cancel { run: String },
}

#[derive(Debug, Args)]
pub(crate) struct ListRuns {
    /// Only runs of this group.
    #[arg(long, default_value = "")]
    pub(crate) group: String,
    /// Only runs of this job: its id or its exact name.
    #[arg(long)]
    pub(crate) job: Option<String>,
    /// Only runs of this client.
    #[arg(long, default_value = "")]
    pub(crate) client: String,
    /// Only runs that ended so: succeeded, failed, timed_out, cancelled, lost, ...
    #[arg(long, default_value = "")]
    pub(crate) outcome: String,
    /// Only runs created since: an instant, or a duration before now (1h).
    #[arg(long, value_name = "WHEN")]
    pub(crate) since: Option<String>,
    /// Only live runs.
    #[arg(long)]
    pub(crate) live: bool,
    #[command(flatten)]
    pub(crate) paging: Paging,
}

#[derive(Debug, Args)]
pub(crate) struct Plan {
    /// Only jobs of this group.
    #[arg(long, default_value = "")]
    pub(crate) group: String,
    /// How many fires to show.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=200))]
    pub(crate) limit: u32,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ClientCommand {
    /// Lists the clients.
    List(OfGroup),
}

#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// Lists the nodes.
    List,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PendingCommand {
    /// Lists runs that wait for a client, oldest first.
    List(OfGroup),
}

#[derive(Debug, Args)]
pub(crate) struct OfGroup {
    /// Only this group.
    #[arg(long, default_value = "")]
    pub(crate) group: String,
    #[command(flatten)]
    pub(crate) paging: Paging,
}

/// `http://host:port`, or `host:port` for short.
fn server(text: &str) -> Result<String, String> {
    let text = text.trim();
    let url = match text.split_once("://") {
        None => format!("http://{text}"),
        Some(("http", _)) => text.to_owned(),
        Some(_) => return Err("only http:// addresses can be reached".to_owned()),
    };
    let authority = url.trim_start_matches("http://").trim_end_matches('/');
    let valid = !authority.is_empty() && tonic::transport::Endpoint::from_shared(url.clone()).is_ok();
    if valid { Ok(url) } else { Err("must look like http://host:port".to_owned()) }
}

fn zone(text: &str) -> Result<TimeZone, String> {
    match text {
        "utc" | "UTC" => Ok(TimeZone::UTC),
        "local" => Ok(TimeZone::system()),
        name => TimeZone::get(name).map_err(|_| "is neither utc, local nor an IANA time zone".to_owned()),
    }
}

/// Reads `90s`, `1h30m`, `500ms`.
fn duration(text: &str) -> Result<Duration, String> {
    let parsed: SignedDuration =
        text.trim().parse().map_err(|_| "must look like 90s, 5m, 1h30m or 500ms".to_owned())?;
    if parsed.subsec_nanos() % 1_000_000 != 0 {
        return Err("is finer than a millisecond".to_owned());
    }
    Duration::try_from(parsed).map_err(|_| "must not be negative".to_owned())
}

/// A duration in whole milliseconds, as the job's document has it.
fn duration_ms(text: &str) -> Result<u64, String> {
    u64::try_from(duration(text)?.as_millis()).map_err(|_| "is too long".to_owned())
}

/// Milliseconds since the epoch of an instant (RFC 3339, or a date and time in `zone`) or of that long
/// before `now`.
pub(crate) fn instant_ms(text: &str, now: Timestamp, zone: &TimeZone) -> Result<i64, String> {
    let text = text.trim();
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at.as_millisecond());
    }
    if let Ok(local) = text.parse::<DateTime>() {
        let at = local.to_zoned(zone.clone()).map_err(|error| error.to_string())?;
        return Ok(at.timestamp().as_millisecond());
    }
    let ago = duration(text).map_err(|_| {
        format!("{text:?} is neither an instant (2026-11-18T11:06:40Z, 2026-11-18 12:00) nor a duration (1h)")
    })?;
    now.checked_sub(ago).map(|at| at.as_millisecond()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use clap::error::ErrorKind;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("forest-cli").chain(line.split_whitespace()))
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_of_the_root_documents_the_exit_codes() {
        let help = Cli::command().render_help().to_string();
        assert!(help.contains("Exit codes:") && help.contains("  5  no server could be reached"), "{help}");
    }

    #[test]
    fn global_flags_stand_anywhere() {
        let cli =
            parse("job list -o json --server a:1,http://b:2 --timeout 250ms --time utc").expect("valid");
        assert_eq!(cli.global.server, ["http://a:1", "http://b:2"]);
        assert_eq!((cli.global.output, cli.global.timeout), (Format::Json, Duration::from_millis(250)));
        assert_eq!(cli.global.time, TimeZone::UTC);
        assert!(matches!(cli.command, Command::Job(JobCommand::List(_))));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let check = |line: &str, kind: ErrorKind| {
            let error = parse(line).map(|_| ()).expect_err(line);
            assert_eq!((error.kind(), error.exit_code()), (kind, 2), "{line}: {error}");
        };
        check("status --server https://a:1", ErrorKind::ValueValidation);
        check("status --server http://a:1,", ErrorKind::ValueValidation);
        check("status --time Mars/Olympus", ErrorKind::ValueValidation);
        check("status --timeout soon", ErrorKind::ValueValidation);
        check("status --timeout -5s", ErrorKind::UnknownArgument);
        check("status --timeout=-5s", ErrorKind::ValueValidation);
        check("plan --limit 0", ErrorKind::ValueValidation);
        check("run list --limit 5 --all", ErrorKind::ArgumentConflict);
        check("group add", ErrorKind::MissingRequiredArgument);
        check("pending get", ErrorKind::InvalidSubcommand);
    }

    #[test]
    fn instants_are_absolute_local_or_relative() {
        let now = Timestamp::from_millisecond(1_795_000_000_000).expect("valid");
        let shanghai = TimeZone::get("Asia/Shanghai").expect("bundled");
        let check = |text: &str, ms: i64| assert_eq!(instant_ms(text, now, &shanghai), Ok(ms), "{text}");
        check("2026-11-18T11:06:40Z", 1_795_000_000_000);
        check("2026-11-18 19:06:40", 1_795_000_000_000);
        check("2026-11-18", 1_794_931_200_000);
        check("1h", 1_795_000_000_000 - 3_600_000);
        assert!(instant_ms("yesterday", now, &shanghai).is_err_and(|line| line.contains("\"yesterday\"")));
    }
}
