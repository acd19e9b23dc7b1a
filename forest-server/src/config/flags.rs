//! The command line: a flag for each setting, `check-config`, `example-config`, and the flags of the original.
//!
//! The flags are made from the table of settings rather than derived from a struct, so that a setting cannot
//! exist as a flag and be missing in the file or the environment. The environment is not read here.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Command as Clap};

use super::fields::{CONFIG_FILE, FIELDS, Field};
use super::{Exit, dev, example};

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    Serve,
    CheckConfig,
}

/// A command line.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) command: Command,
    /// Keys of settings with the texts that were given.
    pub(super) values: Vec<(&'static str, String)>,
}

/// Flags of the original, with the ones of ours that they became. It takes them with one dash or two.
const OLD_FLAGS: [(&str, &str); 4] = [
    ("etcd-endpoints", "etcd-endpoints"),
    ("etcd-dailtimeout", "etcd-timeout"),
    ("db-url", "db-url"),
    ("http-address", "listen"),
];

/// The original gives this one in seconds.
const OLD_SECONDS: &str = "etcd-dailtimeout";

/// The subcommand that prints the example file.
const EXAMPLE: &str = "example-config";

/// Reads a command line, or says what to tell the user instead.
pub(super) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Request, Exit> {
    let root = clap().try_get_matches_from(modernised(args)).map_err(|error| {
        let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
        Exit { text: error.to_string(), code: if asked { 0 } else { 2 } }
    })?;
    Ok(match root.subcommand() {
        Some((dev::NAME, _)) => return Err(dev::misplaced()),
        Some((EXAMPLE, matches)) => return Err(example_of(matches)),
        Some((_, matches)) => Request { command: Command::CheckConfig, values: values(matches) },
        None => Request { command: Command::Serve, values: values(&root) },
    })
}

fn example_of(matches: &ArgMatches) -> Exit {
    if values(matches).is_empty() {
        return Exit { text: example::file(), code: 0 };
    }
    let text = format!("error: `{EXAMPLE}` takes no settings: it prints all of them with their defaults");
    Exit { text, code: 2 }
}

fn values(matches: &ArgMatches) -> Vec<(&'static str, String)> {
    let settings = std::iter::once(&CONFIG_FILE).chain(FIELDS).filter(|field| field.flag.is_some());
    settings
        .filter_map(|field| matches.get_one::<String>(field.key).map(|text| (field.key, text.clone())))
        .collect()
}

fn clap() -> Clap {
    let settings = std::iter::once(&CONFIG_FILE).chain(FIELDS);
    Clap::new("forest-server")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A scheduler node of Forest")
        .after_help(
            "Each setting is taken from its flag, else from its environment variable, else from the file, else \
             it has its default. The etcd password has no flag: FOREST_ETCD_PASSWORD, etcd_password in the \
             file, or a file of its own. The flags -etcd-endpoints, -etcd-dailtimeout (seconds), -db-url and \
             -http-address are understood as well.",
        )
        .args(settings.filter_map(argument))
        .subcommand(
            Clap::new("check-config")
                .about("Print the effective configuration and where each value comes from, or what is wrong with it"),
        )
        .subcommand(
            Clap::new(EXAMPLE).about("Print a file with every setting, what it means and its default"),
        )
        .subcommand(Clap::new(dev::NAME).about(dev::ABOUT))
}

fn argument(field: &'static Field) -> Option<Arg> {
    let default = field.default.map(|text| format!(" [default: {text}]")).unwrap_or_default();
    let argument = Arg::new(field.key)
        .long(field.flag?)
        .value_name("VALUE")
        // What is given twice may be a mistake, but programs that wrap this one rely on the last.
        .overrides_with(field.key)
        .global(true)
        .help(format!("{} [env: {}]{default}", field.help, field.env));
    Some(match field.default {
        Some("false") => argument.num_args(0..=1).require_equals(true).default_missing_value("true"),
        _ => argument,
    })
}

/// The same command line with the original's flags replaced by ours.
fn modernised(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut new = Vec::new();
    let mut args = args.into_iter();
    new.extend(args.next());
    while let Some(arg) = args.next() {
        if arg == "--" {
            new.push(arg);
            break;
        }
        let Some((name, ours, value)) = arg.to_str().and_then(old_flag) else {
            new.push(arg);
            continue;
        };
        let in_seconds = |value: OsString| match value.to_str() {
            Some(text) if name == OLD_SECONDS && text.parse::<u32>().is_ok() => format!("{text}s").into(),
            _ => value,
        };
        let mut flag = OsString::from(format!("--{ours}"));
        match value {
            Some(value) => {
                flag.push("=");
                flag.push(in_seconds(value.into()));
                new.push(flag);
            }
            None => {
                new.push(flag);
                new.extend(args.next().map(in_seconds));
            }
        }
    }
    new.extend(args);
    new
}

/// Name, our name, and value of one of the original's flags.
fn old_flag(arg: &str) -> Option<(&'static str, &'static str, Option<&str>)> {
    let bare = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-'))?;
    let (name, value) = match bare.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (bare, None),
    };
    OLD_FLAGS.iter().find(|(old, _)| *old == name).map(|(old, ours)| (*old, *ours, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Request, Exit> {
        parse(std::iter::once("forest-server").chain(line.split_whitespace()).map(OsString::from))
    }

    #[test]
    fn the_command_line_definition_is_sound() {
        clap().debug_assert();
    }

    #[test]
    fn the_originals_flags_are_understood() {
        let check = |line: &str, expected: &[(&str, &str)]| {
            let values = parsed(line).expect(line).values;
            let values: Vec<(&str, &str)> = values.iter().map(|(key, text)| (*key, text.as_str())).collect();
            assert_eq!(values, expected, "{line}");
        };
        check(
            "-etcd-endpoints a:1,b:2 -etcd-dailtimeout 5 -db-url u:p@tcp(h:1)/d?charset=utf8 -http-address :2856",
            &[
                ("etcd_endpoints", "a:1,b:2"),
                ("etcd_timeout", "5s"),
                ("db_url", "u:p@tcp(h:1)/d?charset=utf8"),
                ("listen", ":2856"),
            ],
        );
        check("-etcd-dailtimeout=7 --http-address=:1", &[("etcd_timeout", "7s"), ("listen", ":1")]);
        check("--etcd-dailtimeout 200ms", &[("etcd_timeout", "200ms")]);
        check("--lease-ttl 7s --lease-ttl=9s", &[("lease_ttl", "9s")]);
        check("--insecure-listen", &[("insecure_listen", "true")]);
        check("--insecure-listen=false", &[("insecure_listen", "false")]);
    }

    #[test]
    fn settings_may_stand_on_either_side_of_the_subcommand() {
        for line in ["check-config --listen :1 --config f", "--listen :1 --config f check-config"] {
            let request = parsed(line).expect(line);
            assert_eq!(request.command, Command::CheckConfig, "{line}");
            assert_eq!(request.values, [("config", "f".to_owned()), ("listen", ":1".to_owned())], "{line}");
        }
    }

    #[test]
    fn the_example_is_printed_and_takes_no_settings() {
        let example = parsed("example-config").expect_err("a text");
        assert!(example.code == 0 && example.text.contains("#lease_ttl = \"5s\""), "{}", example.text);
        let refused = parsed("example-config --lease-ttl 7s").expect_err("a text");
        assert_eq!(refused.code, 2);
    }

    #[test]
    fn help_succeeds_and_mistakes_do_not() {
        let help = parsed("--help").expect_err("a text");
        assert_eq!(help.code, 0);
        for field in FIELDS {
            assert!(help.text.contains(field.env), "{}", field.env);
        }
        assert_eq!(parsed("--version").expect_err("a text").code, 0);
        for line in ["--no-such-flag", "-x", "serve", "--etcd-password x", "-db-url"] {
            let exit = parsed(line).expect_err(line);
            assert!(exit.code == 2 && exit.text.contains("error"), "{line}: {exit:?}");
        }
    }

    #[test]
    fn a_misspelt_flag_does_not_print_its_value() {
        for line in
            ["--db-ulr mysql://u:s3cret@h/d", "--db-ulr=mysql://u:s3cret@h/d", "-db-ulr=mysql://u:s3cret@h/d"]
        {
            let exit = parsed(line).expect_err(line);
            assert!(!exit.text.contains("s3cret"), "{line}: {}", exit.text);
        }
    }
}
