//! The configuration of a node: flags over environment over file over defaults.
//!
//! Owns the names, defaults and limits of all settings (`fields.rs`), and reads them once, at the start; nothing
//! is read again later. It sets nothing up: no logging, no connections.
//!
//! Invariants:
//! * All problems are reported at once; each names its setting, where it came from, and what to do.
//! * A password is shown by nothing: no message, no `Debug`, no `check-config`.
//! * Whoever has a [`Config`] has one that passed every check.

mod check;
pub mod dev;
mod etcd;
mod example;
mod fields;
mod file;
mod flags;
mod oidc;

use std::ffi::OsString;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use forest_etcd::EtcdConfig;
use forest_proto::{Keyspace, SegmentCount};
use jiff::tz::TimeZone;

pub use crate::access::{Login, OidcSettings, RoleMap};
pub use crate::http::LegacyApi;
pub use crate::port::TlsFiles;
use crate::store::DbUrl;
pub use crate::traces::TraceConfig;

/// A checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    pub etcd: EtcdConfig,
    /// The root under which everything of this cluster lies in etcd.
    pub keyspace: Keyspace,
    pub db_url: DbUrl,
    pub listen: SocketAddr,
    pub login: Login,
    /// Where people may log in as well; off unless configured.
    pub oidc: Option<OidcSettings>,
    pub tls: Option<TlsFiles>,
    /// Changes that one caller may ask for in a minute; 0: any number.
    pub submissions_per_minute: u32,
    pub legacy_api: LegacyApi,
    pub legacy_ui_dir: Option<PathBuf>,
    /// `host:port` at which others reach this node, if it is not [`Self::listen`].
    pub advertise: Option<String>,
    /// What this node's id begins with; at most 48 characters.
    pub node_name: String,
    /// Whole seconds.
    pub lease_ttl: Duration,
    /// For jobs that name no zone, and for local times in records.
    pub time_zone: TimeZone,
    /// Only for a cluster that is not initialised yet.
    pub segments: SegmentCount,
    /// For jobs that name none.
    pub misfire_threshold: Duration,
    /// How long after its lease a client is given before its runs are declared lost.
    pub lost_grace: Duration,
    /// For jobs that name none.
    pub start_deadline: Duration,
    pub shutdown_grace: Duration,
    /// How often the view is compared with a full listing of etcd; not a setting.
    pub view_audit: Duration,
    /// Directives for an `EnvFilter`, which takes them.
    pub log_level: String,
    pub log_format: LogFormat,
    /// Where spans go; `None`: there are none.
    pub traces: Option<TraceConfig>,
    /// What is allowed but was perhaps not meant: to be logged once logging works.
    pub warnings: Vec<String>,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Json,
    Text,
}

/// What the command line asks for, unless it is [`dev`].
#[derive(Debug)]
pub enum Task {
    Serve(Box<Config>),
    /// Nothing more to do than to say this.
    Exit(Exit),
}

/// A text for the user, and whether it is a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    pub text: String,
    pub code: u8,
}

impl Exit {
    /// Prints the text, to standard error if it is a failure.
    pub fn report(&self) -> ExitCode {
        let text = self.text.trim_end();
        // Nobody reading (`| head`) is no failure, and there is nobody to tell of another one.
        let _ = if self.code == 0 {
            writeln!(std::io::stdout(), "{text}")
        } else {
            writeln!(std::io::stderr(), "{text}")
        };
        ExitCode::from(self.code)
    }
}

impl Config {
    /// The defaults and these settings, by key; neither a file nor the environment is asked.
    pub(crate) fn with(settings: &[(&'static str, String)]) -> Result<Self, String> {
        let (values, mut problems) = fields::gather(settings, &|_| None);
        match check::check(&values, &mut problems) {
            Some(config) if problems.is_empty() => Ok(config),
            _ => Err(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
        }
    }

    /// The address that others are told, given the one that is really listened on (its port may have been 0).
    pub fn advertised(&self, bound: SocketAddr) -> String {
        match (&self.advertise, bound.ip()) {
            (Some(address), _) => address.clone(),
            // "All interfaces" is no address for others.
            (None, ip) if ip.is_unspecified() => format!("{}:{}", check::host_name(), bound.port()),
            (None, _) => bound.to_string(),
        }
    }
}

/// Reads the configuration of this process, which is not asked for [`dev`].
pub fn from_process() -> Task {
    load(std::env::args_os(), &|name| std::env::var(name).ok())
}

/// Reads a configuration. `args` begin with the program's name; `env` answers for the environment.
pub fn load(args: impl IntoIterator<Item = OsString>, env: &dyn Fn(&str) -> Option<String>) -> Task {
    let request = match flags::parse(args) {
        Ok(request) => request,
        Err(exit) => return Task::Exit(exit),
    };
    let (values, mut problems) = fields::gather(&request.values, env);
    let checked = check::check(&values, &mut problems);
    match checked {
        Some(config) if problems.is_empty() => match request.command {
            flags::Command::Serve => Task::Serve(Box::new(config)),
            flags::Command::CheckConfig => {
                Task::Exit(Exit { text: check::effective(&values, &config), code: 0 })
            }
        },
        _ => {
            let list: String = problems.iter().map(|problem| format!("  {problem}\n")).collect();
            let text = format!("the configuration cannot be used:\n{list}see --help for all settings");
            Task::Exit(Exit { text, code: 2 })
        }
    }
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests;
