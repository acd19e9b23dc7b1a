//! Where the servers are and what is shown to them: flags go before the environment, the environment before the
//! context.
//!
//! A secret goes to the servers that it was given for: a context's token and key are not shown to servers that
//! were named in another place, unless the context is asked for by name as well.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use forest_proto::language::Language;

use crate::args::Global;
use crate::connect::Api;
use crate::console::Console;
use crate::contexts::{self, Contexts, Known};
use crate::credentials::Sources;
use crate::error::Failure;

/// Where a server is if nobody says.
const HERE: &str = "http://127.0.0.1:2856";

/// What the process finds around it, besides its command line. It holds a secret, so it cannot be printed.
#[derive(Clone, Default)]
pub(crate) struct Surroundings {
    /// `FOREST_TOKEN`.
    pub(crate) token: Option<String>,
    /// The file of contexts.
    pub(crate) config: Option<PathBuf>,
    /// `LC_ALL`, `LC_MESSAGES` or `LANG`: the first that is set.
    pub(crate) locale: String,
    /// How often `--watch` looks.
    pub(crate) watch_every: Duration,
}

impl Surroundings {
    /// Of this process.
    pub(crate) fn of_process() -> Self {
        let folder = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Self {
            token: std::env::var("FOREST_TOKEN").ok().filter(|token| !token.is_empty()),
            config: contexts::file(folder("XDG_CONFIG_HOME"), folder("HOME")),
            locale: ["LC_ALL", "LC_MESSAGES", "LANG"]
                .into_iter()
                .find_map(|name| std::env::var(name).ok().filter(|locale| !locale.is_empty()))
                .unwrap_or_default(),
            watch_every: Duration::from_secs(2),
        }
    }
}

/// How the cluster is reached.
pub(crate) fn api(global: &Global, around: &Surroundings, console: &mut Console) -> Result<Api, Failure> {
    let mut known = known(global, around)?;
    if global.token_file.is_some() {
        known.session = None;
    }
    api_of(known, around.token.clone(), global, console)
}

/// The servers that are named, else those of the context.
pub(crate) fn servers(global: &Global, known: &Known) -> Vec<String> {
    let named = [&global.server, &known.server].into_iter().find(|servers| !servers.is_empty());
    named.cloned().unwrap_or_else(|| vec![HERE.to_owned()])
}

/// How the servers of a context are reached, with this token from the environment.
pub(crate) fn api_of(
    known: Known,
    token: Option<String>,
    global: &Global,
    console: &mut Console,
) -> Result<Api, Failure> {
    let servers = servers(global, &known);
    let encrypted = servers.iter().any(|server| server.starts_with("https://"));
    if !encrypted && (global.ca_file.is_some() || global.cert_file.is_some()) {
        let line = "--ca-file and --cert-file are for https:// servers, and none of these is one";
        return Err(Failure::usage(format!("{line}: {}", servers.join(", "))));
    }
    let pair = [(&global.cert_file, &global.key_file), (&known.cert_file, &known.key_file)];
    let (cert_file, key_file) = if pair[0] == (&None, &None) { pair[1] } else { pair[0] };
    let sources = Sources {
        // A file that is named goes before what happens to be in the environment.
        token: token.filter(|_| global.token_file.is_none()),
        session: known.session.map(|session| session.0),
        token_file: global.token_file.clone().or(known.token_file),
        ca_file: global.ca_file.clone().or(known.ca_file),
        cert_file: cert_file.clone(),
        key_file: key_file.clone(),
    };
    let credentials = sources.read(console)?;
    if credentials.bearer.is_some() {
        for server in servers.iter().filter(|server| is_open(server)) {
            console.note(&format!("the token goes to {server} unencrypted: better https://"));
        }
    }
    Ok(Api::new(servers, global.timeout, credentials))
}

/// What to speak. A file of contexts that cannot be read is complained of later.
pub(crate) fn language(global: &Global, around: &Surroundings) -> Language {
    let of_context = || {
        let contexts = Contexts::load(around.config.as_deref()).ok()?;
        contexts.contexts.get(global.context.as_ref().or(contexts.current.as_ref())?)?.lang
    };
    global.lang.or_else(of_context).unwrap_or_else(|| Language::of_locale(&around.locale))
}

/// Whether others may read along on the way to this address.
pub(crate) fn is_open(server: &str) -> bool {
    let Some(authority) = server.strip_prefix("http://") else { return false };
    let host = authority.trim_end_matches('/').rsplit_once(':').map_or(authority, |(host, _)| host);
    let host = host.trim_matches(['[', ']']);
    let is_loopback = host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    !(is_loopback || host == "localhost")
}

/// The context that counts; nothing if none does.
fn known(global: &Global, around: &Surroundings) -> Result<Known, Failure> {
    if global.context.is_none() && !global.server.is_empty() {
        return Ok(Known::default());
    }
    let contexts = Contexts::load(around.config.as_deref())?;
    match global.context.as_ref().or(contexts.current.as_ref()) {
        Some(name) => contexts.get(name).cloned(),
        None => Ok(Known::default()),
    }
}

#[cfg(test)]
mod tests {
    use super::is_open;

    #[test]
    fn only_this_machine_is_reached_unseen_without_tls() {
        for closed in
            ["http://127.0.0.1:1", "http://[::1]:1/", "http://localhost:1", "http://localhost", "https://a:1"]
        {
            assert!(!is_open(closed), "{closed}");
        }
        for open in ["http://10.0.0.1:1", "http://forest", "http://forest:1/", "http://[2001:db8::1]:1"] {
            assert!(is_open(open), "{open}");
        }
    }
}
