//! The command lines of `calendar` and `cron`.

use clap::{Args, Subcommand};

use crate::paging::Paging;

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum CalendarCommand {
    /// Stores days in place of those of before, or a new calendar.
    #[command(after_help = DAYS)]
    Set(SetCalendar),
    /// Lists the calendars.
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// Shows one calendar. As a table it is a file for `calendar set`, with comments.
    Get { name: String },
    /// Deletes a calendar that no job names.
    Delete {
        name: String,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
}

const DAYS: &str = "\
The file has one day or range a line:
  2027-10-01..2027-10-07  # jobs do not fire
  -2027-12-25             # the same
  +2027-10-09             # counts as matching, whatever the weekday
or it is an iCalendar file (.ics), of which all-day events are days without fires.";

#[derive(Debug, Clone, Args)]
pub(crate) struct SetCalendar {
    pub(crate) name: String,
    /// The days, `-` for stdin.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: String,
    /// What it is for, in words. Not given: as it is.
    #[arg(long)]
    pub(crate) remark: Option<String>,
    /// Only if the calendar is still at this version, as `calendar get` shows it.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) version: Option<u64>,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum CronCommand {
    /// Shows when an expression would fire, and what clock changes and calendars do to that.
    Next(NextOfCron),
    /// Says what an expression means, field by field, and when it would fire. No server is asked.
    Explain(ExplainCron),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ExplainCron {
    /// "SEC MIN HOUR DAY MONTH WEEKDAY", @daily, "@every 90s".
    #[arg(value_name = "EXPR")]
    pub(crate) cron: String,
    /// IANA time zone.
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    pub(crate) zone: String,
    /// Fires after this instant, in place of now.
    #[arg(long, value_name = "INSTANT")]
    pub(crate) after: Option<String>,
    /// How many fires to show.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub(crate) count: u32,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct NextOfCron {
    /// "SEC MIN HOUR DAY MONTH WEEKDAY", @daily, "@every 90s".
    #[arg(value_name = "EXPR")]
    pub(crate) cron: String,
    /// IANA time zone. The server's if not given.
    #[arg(long, value_name = "ZONE", default_value = "", hide_default_value = true)]
    pub(crate) zone: String,
    /// What becomes of a fire whose local time does not exist.
    #[arg(long, value_parser = ["next_valid", "skip"], default_value = "next_valid")]
    pub(crate) gap: String,
    /// What becomes of a fire whose local time comes twice.
    #[arg(long, value_parser = ["first", "both"], default_value = "first")]
    pub(crate) fold: String,
    /// A calendar whose days are left out or put in. May be given several times.
    #[arg(long = "calendar", value_name = "NAME")]
    pub(crate) calendars: Vec<String>,
    /// Fires after this instant, in place of now.
    #[arg(long, value_name = "INSTANT")]
    pub(crate) after: Option<String>,
    /// How many fires to show.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) count: u32,
}
