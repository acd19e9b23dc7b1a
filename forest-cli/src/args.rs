//! The command line: what can be said, and the forms of durations, instants, zones and addresses.
//!
//! What only the server can know (whether a cron expression is sound, which zones it has) is not checked
//! here.

mod access;
mod backfill;
mod backoff;
mod calendar;
mod context;
mod etcd;
mod events;
mod files;
mod job;
mod login;
mod stats;

use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use forest_proto::language::Language;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};

pub(crate) use access::{AuditCommand, EditUser, GrantFlags, TokenCommand, UserCommand};
pub(crate) use backfill::{BackfillCommand, StartBackfill};
pub(crate) use calendar::{CalendarCommand, CronCommand, ExplainCron, NextOfCron, SetCalendar};
pub(crate) use context::ContextCommand;
pub(crate) use etcd::{EtcdCommand, RoleCommand};
pub(crate) use events::{Events, Top};
pub(crate) use files::{ApplyJobs, DiffJobs, Files, PruneFlags, ValidateJobs};
pub(crate) use job::{
    AddJob, DeleteJob, EditJob, JobCommand, JobFlags, ListJobs, NextFires, ParamsFlags, RunJob, TriggerFlags,
};
pub(crate) use stats::{By, Stats};

pub(crate) use login::LoginCommand;

use crate::error::Exit;
use crate::paging::Paging;

/// Operates a Forest cluster.
#[derive(Debug, Clone, Parser)]
#[command(name = "forest-cli", version, after_help = Exit::help())]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Addresses of servers; the first that answers is used. Default: those of the context, or
    /// http://127.0.0.1:2856.
    #[arg(
        long,
        global = true,
        env = "FOREST_SERVER",
        value_name = "URL,..",
        value_delimiter = ',',
        value_parser = server
    )]
    pub(crate) server: Vec<String>,
    /// Servers and files that `context set` stored under this name, in place of the current ones.
    #[arg(long, global = true, env = "FOREST_CONTEXT", value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// File with the token to show. Without it the one in the variable FOREST_TOKEN is shown, if there is one.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) token_file: Option<String>,
    /// Certificates (PEM) of the authorities that https:// servers are trusted by, in place of the machine's.
    #[arg(long, global = true, env = "FOREST_CA_FILE", value_name = "FILE")]
    pub(crate) ca_file: Option<String>,
    /// Our certificate (PEM), for https:// servers that ask for one.
    #[arg(long, global = true, env = "FOREST_CERT_FILE", value_name = "FILE")]
    pub(crate) cert_file: Option<String>,
    /// The key (PEM) of --cert-file.
    #[arg(long, global = true, env = "FOREST_KEY_FILE", value_name = "FILE")]
    pub(crate) key_file: Option<String>,
    /// How to show data. `wide` has more columns and wraps none. `json` and `yaml` are one document, `jsonl` is
    /// one a line, with instants as RFC 3339 in UTC. `name` is ids alone, one a line.
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
    /// Show instants in `utc`, in the `local` zone or in an IANA zone such as Asia/Shanghai.
    #[arg(long, global = true, value_name = "ZONE", default_value = "local", value_parser = zone)]
    pub(crate) time: TimeZone,
    /// What to say headings and messages in: `en` or `zh`. Default: that of the context, or of the locale
    /// (LC_ALL, LC_MESSAGES, LANG). Documents are the same in both.
    #[arg(long, global = true, env = "FOREST_LANG", value_name = "LANGUAGE")]
    pub(crate) lang: Option<Language>,
    /// Show a list again every 2 s, until it is stopped with Ctrl-C.
    #[arg(short, long, global = true)]
    pub(crate) watch: bool,
    /// How long to wait for each server and for each answer.
    #[arg(long, global = true, default_value = "5s", value_parser = duration)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Wide,
    Json,
    Jsonl,
    Yaml,
    Name,
}

impl Format {
    /// Whether a document is wanted, which carries everything.
    pub(crate) fn is_document(self) -> bool {
        matches!(self, Self::Json | Self::Jsonl | Self::Yaml)
    }
}

#[derive(Debug, Clone, Subcommand)]
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
    /// What became of runs, in numbers: by hour, day, job or group.
    Stats(Stats),
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
    /// Who you are for the server, and what you may do.
    Whoami,
    /// Logs in with a password, for twelve hours. The session is kept with the context.
    Login(LoginCommand),
    /// Ends the session of the context, everywhere.
    Logout,
    /// Users: those who log in with a password.
    #[command(subcommand)]
    User(UserCommand),
    /// Tokens: secrets for programs, in place of passwords.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Who changed what.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// What happens: one line an event.
    Events(Events),
    /// The cluster as it is now, on the whole screen: nodes, clients, runs and next fires. `q` ends it.
    Top(Top),
    /// Looks for what is wrong with the cluster, and says what to do.
    Doctor,
    /// What etcd, below the cluster, has to be told. No server is asked.
    #[command(subcommand)]
    Etcd(EtcdCommand),
    /// Servers by name.
    #[command(subcommand)]
    Context(ContextCommand),
    /// Prints a script by which a shell completes commands: `source <(forest-cli completion bash)`.
    Completion { shell: clap_complete::Shell },
    /// Prints the manual page, or that of a command: `forest-cli man job apply | man -l -`.
    Man {
        #[arg(value_name = "COMMAND")]
        words: Vec<String>,
    },
}

impl Command {
    /// Whether it only shows what may be another thing a moment later.
    pub(crate) fn can_be_watched(&self) -> bool {
        matches!(
            self,
            Self::Status
                | Self::Plan(_)
                | Self::Stats(_)
                | Self::Group(GroupCommand::List { .. })
                | Self::Job(JobCommand::List(_))
                | Self::Backfill(BackfillCommand::List { .. })
                | Self::Calendar(CalendarCommand::List { .. })
                | Self::Run(RunCommand::List(_) | RunCommand::Get { .. })
                | Self::Client(_)
                | Self::Node(NodeCommand::List)
                | Self::Pending(_)
                | Self::User(UserCommand::List { .. })
                | Self::Token(TokenCommand::List { .. })
                | Self::Audit(_)
        )
    }
}

#[derive(Debug, Clone, Subcommand)]
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

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum RunCommand {
    /// Lists runs: the live ones, then the finished ones, newest first.
    List(ListRuns),
    /// Shows one run with its parameters and its result.
    Get { run: String },
    /// Waits until a run has finished, and shows it. Succeeds only if the run does.
    Wait {
        run: String,
        /// How long to wait.
        #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
        wait_timeout: Duration,
    },
    /// Asks for a live run to be stopped, or not to be started. It may still end otherwise before that.
    Cancel { run: String },
    /// Runs an ended run again: its job, for the same time, with the same parameters. Within an hour the same run gives
    /// the same new one.
    Retry {
        run: String,
        /// Makes it another request: the same key gives the same new run for an hour.
        #[arg(long, default_value = "", hide_default_value = true)]
        key: String,
        /// Wait until the new run has finished. Succeeds only if it does.
        #[arg(long)]
        wait: bool,
        /// How long to wait.
        #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration, requires = "wait")]
        wait_timeout: Duration,
    },
    /// Tells what became of all attempts of a run, one line for each thing that happened.
    Logs {
        run: String,
        /// Go on until the last attempt has ended.
        #[arg(short, long)]
        follow: bool,
    },
}

#[derive(Debug, Clone, Args)]
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

#[derive(Debug, Clone, Args)]
pub(crate) struct Plan {
    /// Only jobs of this group.
    #[arg(long, default_value = "")]
    pub(crate) group: String,
    /// How many fires to show.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=200))]
    pub(crate) limit: u32,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum ClientCommand {
    /// Lists the clients.
    List(OfGroup),
    /// Gives a client no new runs, until it is undrained or its process ends. It finishes what it runs; what it has not
    /// begun goes to others.
    Drain {
        #[command(flatten)]
        client: OneClient,
        /// Wait until it runs nothing any more.
        #[arg(long)]
        wait: bool,
        /// How long to wait.
        #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration, requires = "wait")]
        wait_timeout: Duration,
    },
    /// Gives a client runs again.
    Undrain {
        #[command(flatten)]
        client: OneClient,
    },
}

#[derive(Debug, Clone, Args)]
pub(crate) struct OneClient {
    /// The id of a client, or its name if no other client has it.
    pub(crate) client: String,
    /// Its group. Without it all groups that you see are searched.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) group: String,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum NodeCommand {
    /// Lists the nodes.
    List,
    /// Has the leader give up the leadership in good order, and waits for the next one.
    StepDown {
        /// Only if this node leads: its id, or the name in front of it. Whichever leads, if not given.
        #[arg(default_value = "", hide_default_value = true)]
        node: String,
        /// For how long it leaves the leadership to other nodes, if none takes it before.
        #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration_ms)]
        hold: u64,
    },
    /// Shows how much nodes log, or changes it for a while; then it is as configured again.
    LogLevel {
        /// A level (error, warn, info, debug, trace, off), or levels by target: info,sqlx=debug. Without it nothing is
        /// changed.
        filter: Option<String>,
        /// Only this node; may be repeated. Default: every node.
        #[arg(long)]
        node: Vec<String>,
        /// How long: from ten seconds to one day.
        #[arg(long = "for", value_name = "DURATION", default_value = "10m", value_parser = lifetime_ms)]
        lives: i64,
        /// Ends the change at once.
        #[arg(long, conflicts_with_all = ["filter", "lives"])]
        reset: bool,
    },
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum PendingCommand {
    /// Lists runs that wait for a client, oldest first.
    List(OfGroup),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct OfGroup {
    /// Only this group.
    #[arg(long, default_value = "")]
    pub(crate) group: String,
    #[command(flatten)]
    pub(crate) paging: Paging,
}

/// `http://host:port`, or `host:port` for short, or `https://host:port`.
pub(crate) fn server(text: &str) -> Result<String, String> {
    let text = text.trim();
    let (scheme, authority) = text.split_once("://").unwrap_or(("http", text));
    if !matches!(scheme, "http" | "https") {
        return Err("only http:// and https:// addresses can be reached".to_owned());
    }
    let url = format!("{scheme}://{authority}");
    let valid = !authority.trim_end_matches('/').is_empty()
        && tonic::transport::Endpoint::from_shared(url.clone()).is_ok();
    if valid { Ok(url) } else { Err("must look like http://host:port or https://host:port".to_owned()) }
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

/// Reads `30d`, `12h` as milliseconds. A day has 24 hours.
fn lifetime_ms(text: &str) -> Result<i64, String> {
    let wrong = || "must look like 30d, 12h or 1w".to_owned();
    let span: Span = text.trim().parse().map_err(|_| wrong())?;
    let length = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
    let ms = i64::try_from(length.as_millis()).map_err(|_| wrong())?;
    if ms > 0 { Ok(ms) } else { Err("must be longer than nothing".to_owned()) }
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
            parse("job list -o json --server a:1,https://b:2 --timeout 250ms --time utc").expect("valid");
        assert_eq!(cli.global.server, ["http://a:1", "https://b:2"]);
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
        check("status --server ftp://a:1", ErrorKind::ValueValidation);
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
    fn a_lifetime_is_in_days_of_24_hours() {
        assert_eq!(lifetime_ms("30d"), Ok(30 * 24 * 3_600_000));
        assert_eq!(lifetime_ms("1w 12h"), Ok((7 * 24 + 12) * 3_600_000));
        for wrong in ["", "soon", "0s", "-1d", "1mo", "1y"] {
            assert!(lifetime_ms(wrong).is_err(), "{wrong}");
        }
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
