//! What can go wrong, and the exit code of each.
//!
//! Every failure is one line of text: what was attempted, which field is to blame, what to do. What the
//! server sends is escaped before it is shown, so that it can neither add lines nor steer a terminal.

use std::fmt::Write as _;

use forest_proto::language::Language;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::chinese::said;
use crate::output::printable_line;

/// The exit codes. `--help` shows this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0
    Ok,
    /// 1
    Refused,
    /// 2: the code that clap uses too.
    Usage,
    /// 3
    NotFound,
    /// 4
    Conflict,
    /// 5
    Unreachable,
    /// 6
    Denied,
}

impl Exit {
    const ALL: [Self; 7] = [
        Self::Ok,
        Self::Refused,
        Self::Usage,
        Self::NotFound,
        Self::Conflict,
        Self::Unreachable,
        Self::Denied,
    ];

    /// The number that the shell sees.
    pub(crate) fn code(self) -> u8 {
        self as u8
    }

    fn meaning(self) -> &'static str {
        match self {
            Self::Ok => "done; `job run --wait`, `run wait`: it succeeded; `job diff`: no difference",
            Self::Refused => {
                "refused or failed; `job run --wait`, `run wait`: no success; `job diff`: a difference; \
                 `doctor`: something is wrong"
            }
            Self::Usage => {
                "the command line or an input file is wrong, nothing was changed; `job diff`: it failed"
            }
            Self::NotFound => "there is no such group, job, run, user, ...",
            Self::Conflict => "somebody else changed the job meanwhile (version conflict)",
            Self::Unreachable => "no server could be reached, or it did not answer in time",
            Self::Denied => "not logged in, or not allowed",
        }
    }

    /// The list of all codes, for `--help`.
    pub(crate) fn help() -> String {
        let mut text = String::from("Exit codes:\n");
        for exit in Self::ALL {
            let _ = writeln!(text, "  {}  {}", exit.code(), exit.meaning());
        }
        text
    }
}

/// A command that did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
#[error("{line}")]
pub(crate) struct Failure {
    /// With which code the process ends.
    pub(crate) exit: Exit,
    /// For people. Empty: nothing is to be said.
    line: String,
    /// The same in Chinese, where a server has said it.
    chinese: Option<String>,
}

impl Failure {
    fn new(exit: Exit, line: impl Into<String>) -> Self {
        Self { exit, line: line.into(), chinese: None }
    }

    /// The command line or a file is wrong.
    pub(crate) fn usage(line: impl Into<String>) -> Self {
        Self::new(Exit::Usage, line)
    }

    /// The server, or the person at the terminal, said no; or something failed.
    pub(crate) fn refused(line: impl Into<String>) -> Self {
        Self::new(Exit::Refused, line)
    }

    /// There is nothing of that name.
    pub(crate) fn not_found(line: impl Into<String>) -> Self {
        Self::new(Exit::NotFound, line)
    }

    /// No server answered.
    pub(crate) fn unreachable(line: impl Into<String>) -> Self {
        Self::new(Exit::Unreachable, line)
    }

    /// The reader of our output has gone away, as `head` does: that ends the command and is no error.
    pub(crate) fn output_closed() -> Self {
        Self::new(Exit::Ok, "")
    }

    /// What is wrong has been shown as data already.
    pub(crate) fn told(exit: Exit) -> Self {
        Self::new(exit, "")
    }

    /// The same with more to say.
    pub(crate) fn saying(self, more: &str) -> Self {
        let chinese = self.chinese.map(|line| line + more);
        Self { exit: self.exit, line: format!("{}{more}", self.line), chinese }
    }

    /// Whether nothing is to be said about it.
    pub(crate) fn is_silent(&self) -> bool {
        self.line.is_empty()
    }

    /// What a server answered when asked to do `action` ("add the job").
    pub(crate) fn from_status(action: &str, status: &Status) -> Self {
        let exit = match status.code() {
            Code::NotFound => Exit::NotFound,
            Code::Aborted => Exit::Conflict,
            Code::Unauthenticated | Code::PermissionDenied => Exit::Denied,
            _ => Exit::Refused,
        };
        let mut line = format!("cannot {action}: {}", complaint(status));
        if let Some(advice) = advice(status.code()) {
            let _ = write!(line, " - {advice}");
        }
        let chinese = in_chinese(action, status);
        Self { exit, line, chinese }
    }

    /// The line in a language.
    pub(crate) fn said(&self, language: Language) -> String {
        match (language, &self.chinese) {
            (Language::Chinese, Some(line)) => line.clone(),
            _ => said(language, &self.line),
        }
    }
}

/// What the server said in Chinese, if it did, in our sentence.
fn in_chinese(action: &str, status: &Status) -> Option<String> {
    let why = printable_line(&status.get_details_localized_message()?.message);
    let chinese = |english: &str| said(Language::Chinese, english);
    let flag = status.get_details_bad_request().and_then(|bad| flag_of(&bad.field_violations.first()?.field));
    let mut line = format!("无法{}：{why}", chinese(action));
    if let Some(flag) = flag {
        let _ = write!(line, "（{}）", flag.replace(" or ", " 或 "));
    }
    if let Some(advice) = advice(status.code()) {
        let _ = write!(line, " —— {}", chinese(advice));
    }
    Some(line)
}

/// The fields that are to blame, or else the server's sentence and its stable word for the reason.
fn complaint(status: &Status) -> String {
    let violations = status.get_details_bad_request().map(|bad| bad.field_violations).unwrap_or_default();
    let fields: Vec<String> = violations
        .iter()
        .map(|violation| {
            let field = printable_line(&violation.field);
            let flag = flag_of(&field).map(|flag| format!(" ({flag})")).unwrap_or_default();
            format!("{field}{flag}: {}", printable_line(&violation.description))
        })
        .collect();
    if !fields.is_empty() {
        return fields.join("; ");
    }
    let message = match printable_line(status.message()) {
        message if message.is_empty() => format!("the server answered {:?}", status.code()),
        message => message,
    };
    match status.get_details_error_info() {
        Some(info) => format!("{message} [{}]", printable_line(&info.reason)),
        None => message,
    }
}

/// What to do, where the server's sentence does not say it.
fn advice(code: Code) -> Option<&'static str> {
    match code {
        Code::Unavailable | Code::ResourceExhausted => Some("try again in a moment"),
        Code::Unauthenticated => Some(
            "`login` does that; or give a token that counts with --token-file or FOREST_TOKEN: `token add` or an \
             administrator makes one",
        ),
        Code::PermissionDenied => Some(
            "`whoami` shows what you may do; an administrator may allow more with `user edit --role` or `--grant`",
        ),
        Code::Unimplemented => Some("is this the address of a Forest server, and of this version?"),
        _ => None,
    }
}

/// The flag of a field of the job's document, where the two are named differently.
fn flag_of(field: &str) -> Option<&'static str> {
    let field = field.rsplit('.').next().unwrap_or(field);
    let field = field.split('[').next().unwrap_or(field);
    Some(match field {
        "cron" => "--cron or --every",
        "every_ms" => "--rate or --delay",
        "at" => "--at or --in",
        "jobs" => "--after",
        "starts_at" => "--starts-at",
        "ends_at" => "--ends-at",
        "jitter_ms" => "--jitter",
        "queue_limit" => "--queue-limit",
        "misfire_cap" => "--misfire-cap",
        "max_in_flight" => "--max-in-flight",
        "timeout_ms" => "--run-timeout",
        "retry_if" => "--retry-if",
        "labels" => "--label",
        "time_zone" => "--time-zone",
        "dst_gap" => "--dst-gap",
        "dst_fold" => "--dst-fold",
        "misfire_threshold_ms" => "--misfire-threshold",
        "max_attempts" => "--max-attempts",
        "retry_delays_ms" => "--retry-delays",
        "on_lost" => "--on-lost",
        "start_deadline_ms" => "--start-deadline",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::ErrorDetails;

    use super::*;

    fn check(code: Code, message: &str, details: ErrorDetails, exit: Exit, line: &str) {
        let status = Status::with_error_details(code, message, details);
        let failure = Failure::from_status("edit the job", &status);
        assert_eq!((failure.exit, failure.to_string().as_str()), (exit, line));
    }

    fn reason(reason: &str) -> ErrorDetails {
        ErrorDetails::with_error_info(reason, "forest", HashMap::new())
    }

    #[test]
    fn a_line_names_the_field_and_its_flag() {
        let mut details = ErrorDetails::with_bad_request_violation("retry_delays_ms[1]", "must be positive");
        details.add_bad_request_violation("name", "is empty");
        check(
            Code::InvalidArgument,
            "invalid job",
            details,
            Exit::Refused,
            "cannot edit the job: retry_delays_ms[1] (--retry-delays): must be positive; name: is empty",
        );
    }

    #[test]
    fn a_conflict_is_told_with_its_stable_word() {
        check(
            Code::Aborted,
            "job 7 was changed by somebody else meanwhile: read it again and repeat the change",
            reason("VERSION_CONFLICT"),
            Exit::Conflict,
            "cannot edit the job: job 7 was changed by somebody else meanwhile: read it again and repeat the \
             change [VERSION_CONFLICT]",
        );
    }

    #[test]
    fn each_code_has_its_exit() {
        let none = ErrorDetails::new;
        check(Code::NotFound, "no job 7", none(), Exit::NotFound, "cannot edit the job: no job 7");
        check(Code::AlreadyExists, "taken", none(), Exit::Refused, "cannot edit the job: taken");
        let line = "cannot edit the job: etcd is away - try again in a moment";
        check(Code::Unavailable, "etcd is away", none(), Exit::Refused, line);
        check(Code::Internal, "", none(), Exit::Refused, "cannot edit the job: the server answered Internal");
        let line = "cannot edit the job: a login is required [UNAUTHENTICATED] - `login` does that; or give \
                    a token that counts with --token-file or FOREST_TOKEN: `token add` or an administrator makes one";
        check(Code::Unauthenticated, "a login is required", reason("UNAUTHENTICATED"), Exit::Denied, line);
        let line = "cannot edit the job: needs editor in trade - `whoami` shows what you may do; an administrator \
                    may allow more with `user edit --role` or `--grant`";
        check(Code::PermissionDenied, "needs editor in trade", none(), Exit::Denied, line);
    }

    #[test]
    fn a_server_cannot_steer_the_terminal_nor_add_lines() {
        let line = "cannot edit the job: a\u{fffd}[31m b";
        check(Code::Internal, "a\u{1b}[31m\nb", ErrorDetails::new(), Exit::Refused, line);
    }

    #[test]
    fn help_lists_every_code_once() {
        let help = Exit::help();
        for code in 0..=6 {
            assert_eq!(help.matches(&format!("\n  {code}  ")).count(), 1, "{code}: {help}");
        }
    }
}
