//! The options of `forest-server dev`. Few, and none of them a setting of a node: neither the environment nor a file
//! is asked, so that whatever belongs to a real cluster cannot leak into a development one, or the other way round.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Command as Clap, ValueHint};

use super::check::listen_address;
use super::{Exit, is_loopback};

/// The name of the command.
pub(super) const NAME: &str = "dev";
/// In one line.
pub(super) const ABOUT: &str =
    "Run a whole Forest in this process, with its own etcd, database and sample jobs: for development only";

/// Checked options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevConfig {
    /// A loopback address for the API. `None`: the usual port if it is free, else another.
    pub listen: Option<SocketAddr>,
    /// The same for etcd's API.
    pub etcd_listen: Option<SocketAddr>,
    /// Where everything is kept. `None`: nowhere.
    pub data: Option<PathBuf>,
    /// Directives for an `EnvFilter`, which takes them.
    pub log_level: String,
}

/// The options of this process; `None` if it is asked for something else.
#[must_use]
pub fn from_process() -> Option<Result<DevConfig, Exit>> {
    parse(std::env::args_os().collect())
}

/// What to say if the command comes after settings of a node, which it does not take.
pub(super) fn misplaced() -> Exit {
    let text = "error: `dev` comes first and takes no settings of a node; see forest-server dev --help";
    Exit { text: text.into(), code: 2 }
}

/// For `dev ..` and `help dev`.
fn parse(args: Vec<OsString>) -> Option<Result<DevConfig, Exit>> {
    let word = |place: usize| args.get(place).and_then(|word| word.to_str());
    let args = match (word(1), word(2)) {
        (Some(NAME), _) => args.into_iter().skip(1).collect(),
        (Some("help"), Some(NAME)) => vec![NAME.into(), "--help".into()],
        _ => return None,
    };
    let matches = clap().try_get_matches_from(args).map_err(|error| {
        let asked = error.kind() == ErrorKind::DisplayHelp;
        Exit { text: error.to_string(), code: if asked { 0 } else { 2 } }
    });
    Some(matches.and_then(|matches| check(&matches)))
}

fn clap() -> Clap {
    let option = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help).overrides_with(name)
    };
    let directory = option(
        "data",
        "DIR",
        "Keep jobs and history in this folder, which is created if need be. Without it everything is in a new \
         temporary folder that is removed at the end",
    );
    Clap::new(NAME)
        .bin_name("forest-server dev")
        .about(ABOUT)
        .after_help(
            "One process, without etcd, MySQL or Docker: a node, an etcd in memory that other workers can reach, \
             the history in SQLite, and a worker with four sample jobs. Everything listens on this machine \
             alone, without a login. Ctrl-C ends it, a second one at once. Settings of a node (FOREST_..., \
             --config) have no effect here.",
        )
        .arg(
            option(
                "listen",
                "ADDRESS",
                "Loopback address of the API; port 0 is any free one [default: 127.0.0.1:2856, or another port \
                 if that is taken]",
            ),
        )
        .arg(option(
            "etcd-listen",
            "ADDRESS",
            "Loopback address of the etcd [default: 127.0.0.1:2379, or another port if that is taken]",
        ))
        .arg(directory.value_hint(ValueHint::DirPath))
        .arg(
            option("log-level", "LEVEL", "error, warn, info, debug, trace, or directives such as warn,forest_server=debug")
                .default_value("warn"),
        )
}

fn check(matches: &ArgMatches) -> Result<DevConfig, Exit> {
    let mut problems = Vec::new();
    let mut address = |name: &str| {
        let text = matches.get_one::<String>(name)?;
        let problem = match listen_address(text) {
            Ok(address) if is_loopback(address.ip()) => return Some(address),
            Ok(_) => "must be a loopback address, such as 127.0.0.1:2856: there is no login".to_owned(),
            Err(problem) => problem.to_owned(),
        };
        problems.push(format!("--{name}: {problem}"));
        None
    };
    let (listen, etcd_listen) = (address("listen"), address("etcd-listen"));
    let data = matches.get_one::<String>("data").map(PathBuf::from);
    if data.as_ref().is_some_and(|data| data.as_os_str().is_empty()) {
        problems.push("--data: must name a folder".into());
    }
    let log_level = matches.get_one::<String>("log-level").cloned().unwrap_or_default();
    if let Err(error) = crate::logging::filter(&log_level) {
        problems.push(format!("--log-level: {error}"));
    }
    if problems.is_empty() {
        return Ok(DevConfig { listen, etcd_listen, data, log_level });
    }
    let list: String = problems.iter().map(|problem| format!("error: {problem}\n")).collect();
    Err(Exit { text: format!("{list}see forest-server dev --help"), code: 2 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Task, load};

    fn arguments(line: &str) -> Vec<OsString> {
        std::iter::once("forest-server").chain(line.split_whitespace()).map(OsString::from).collect()
    }

    fn parsed(line: &str) -> Result<DevConfig, Exit> {
        parse(arguments(line)).expect(line)
    }

    #[test]
    fn the_options_are_sound_and_none_is_needed() {
        clap().debug_assert();
        let none = DevConfig { listen: None, etcd_listen: None, data: None, log_level: "warn".into() };
        assert_eq!(parsed("dev"), Ok(none));
        let all =
            parsed("dev --listen localhost:0 --etcd-listen=[::1]:7 --data a/b --log-level info,sqlx=warn");
        let expected = DevConfig {
            listen: Some("127.0.0.1:0".parse().expect("valid")),
            etcd_listen: Some("[::1]:7".parse().expect("valid")),
            data: Some("a/b".into()),
            log_level: "info,sqlx=warn".into(),
        };
        assert_eq!(all, Ok(expected));
    }

    #[test]
    fn help_is_its_own() {
        for line in ["dev --help", "dev -h", "help dev"] {
            let help = parsed(line).expect_err(line);
            assert_eq!(help.code, 0, "{line}");
            assert!(
                help.text.contains("--data") && !help.text.contains("--key-root"),
                "{line}: {}",
                help.text
            );
        }
    }

    #[test]
    fn mistakes_are_named_all_at_once() {
        let check = |line: &str, parts: &[&str]| {
            let exit = parsed(line).expect_err(line);
            assert_eq!(exit.code, 2, "{line}");
            for part in parts {
                assert!(exit.text.contains(part), "{line}: {}", exit.text);
            }
        };
        check(
            "dev --listen 0.0.0.0:1 --etcd-listen x --log-level a=b=c",
            &["--listen: must be a loopback", "--etcd-listen: must be address:port", "--log-level"],
        );
        check("dev --listen :2856", &["loopback"]);
        check("dev --db-url mysql://u:s3cret@h/d", &["unexpected argument '--db-url'"]);
        check("dev --lisen x", &["--listen"]);
        check("dev now", &["unexpected argument"]);
    }

    #[test]
    fn a_node_is_not_taken_for_it() {
        for line in ["", "check-config", "--listen :1", "help", "--config dev"] {
            assert!(parse(arguments(line)).is_none(), "{line}");
        }
        let late = "--listen 127.0.0.1:1 dev";
        assert!(parse(arguments(late)).is_none());
        let Task::Exit(exit) = load(arguments(late), &|_| None) else { panic!("it is refused") };
        assert!(exit.code == 2 && exit.text.contains("comes first"), "{exit:?}");
    }
}
