//! From texts to a [`Config`]: every rule about one setting or several, and the text of `check-config`.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use forest_proto::{Keyspace, NodeId, SegmentCount};
use jiff::tz::TimeZone;

use super::fields::{Problem, Source, Value, Values};
use super::{Config, LegacyApi, LogFormat, Login, TraceConfig, is_loopback};
use crate::port::TlsFiles;
use crate::store::DbUrl;

/// Room in a node's id for what makes it unique.
pub(super) const MAX_NODE_NAME: usize = 48;

/// What a watch drops is rare, and a full listing is not cheap.
const VIEW_AUDIT: Duration = Duration::from_secs(600);

/// A new leader needs the old one's lease to end, and then about this long to begin.
const TAKE_OVER: Duration = Duration::from_secs(2);

pub(super) const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// Settings whose values are never shown. The password within `db_url` is hidden by its own type.
const SECRETS: [&str; 1] = ["etcd_password"];

/// Takes values out of the texts and notes what is wrong with them.
pub(super) struct Checker<'a> {
    pub(super) values: &'a Values,
    problems: &'a mut Vec<Problem>,
}

/// The configuration, or `None` if one of the added problems stands in its way.
pub(super) fn check(values: &Values, problems: &mut Vec<Problem>) -> Option<Config> {
    let mut checker = Checker { values, problems };
    // Each of these notes its own problems; only then does the first `?` end the work.
    let etcd = checker.etcd();
    let keyspace = checker.parsed("key_root", Keyspace::new);
    let db_url = checker.db_url();
    let login = checker.parsed("login", |text| match text {
        "off" => Ok(Login::Off),
        "on" => Ok(Login::On),
        _ => Err("must be on or off"),
    });
    let oidc = checker.oidc(login);
    let tls = checker.tls();
    let listen = checker.listen(login, tls.is_some());
    let submissions_per_minute = checker.parsed("submissions_per_minute", |text| {
        text.parse::<u32>().map_err(|_| "must be a whole number; 0 for any number")
    });
    let legacy_api = checker.legacy_api();
    let legacy_ui_dir = checker.folder("legacy_ui_dir");
    let advertise = checker.advertise();
    let node_name = checker.node_name();
    let lease_ttl = checker.duration("lease_ttl", 2 * SECOND, 60 * SECOND);
    let lease_ttl = checker.whole_seconds("lease_ttl", lease_ttl);
    let time_zone = checker.time_zone();
    let segments = checker.parsed("segments", |text| {
        text.parse().ok().and_then(SegmentCount::new).ok_or("must be a number from 1 to 64")
    });
    let misfire_threshold = checker.misfire_threshold(lease_ttl);
    let lost_grace = checker.duration("lost_grace", Duration::ZERO, HOUR);
    let start_deadline = checker.duration("start_deadline", SECOND, 30 * 24 * HOUR);
    let shutdown_grace = checker.duration("shutdown_grace", Duration::ZERO, 600 * SECOND);
    let log_level = checker.parsed("log_level", |text| crate::logging::filter(text).map(|_| text.to_owned()));
    let log_format = checker.parsed("log_format", |text| match text {
        "json" => Ok(LogFormat::Json),
        "text" => Ok(LogFormat::Text),
        _ => Err("must be json or text"),
    });
    let traces = checker.traces();
    let db_url = db_url?;
    Some(Config {
        warnings: checker.warnings(&db_url),
        etcd: etcd?,
        keyspace: keyspace?,
        db_url,
        listen: listen?,
        login: login?,
        oidc,
        tls,
        submissions_per_minute: submissions_per_minute?,
        legacy_api: legacy_api?,
        legacy_ui_dir,
        advertise,
        node_name: node_name?,
        lease_ttl: lease_ttl?,
        time_zone: time_zone?,
        segments: segments?,
        misfire_threshold: misfire_threshold?,
        lost_grace: lost_grace?,
        start_deadline: start_deadline?,
        shutdown_grace: shutdown_grace?,
        view_audit: VIEW_AUDIT,
        log_level: log_level?,
        log_format: log_format?,
        traces,
    })
}

impl Checker<'_> {
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(|value| value.text.trim())
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.values.get(key).is_some()
    }

    /// Whether it is more than a default.
    pub(super) fn is_given(&self, key: &str) -> bool {
        self.values.get(key).is_some_and(|value| value.source != Source::Default)
    }

    pub(super) fn problem(&mut self, key: &str, text: impl Display) {
        let source = self.values.get(key).map(|value| value.source.clone());
        self.problems.push(Problem { key: key.into(), source, text: text.to_string() });
    }

    /// The value that `parse` makes of the text, if there is one.
    pub(super) fn parsed<T, E: Display>(
        &mut self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        match parse(self.text(key)?) {
            Ok(value) => Some(value),
            Err(error) => {
                self.problem(key, error);
                None
            }
        }
    }

    pub(super) fn duration(&mut self, key: &str, min: Duration, max: Duration) -> Option<Duration> {
        let shown = humantime::format_duration;
        self.parsed(key, |text| {
            let value = humantime::parse_duration(text)
                .map_err(|_| format!("{text:?} is no duration: write 500ms, 5s, 10m or 1h"))?;
            if value < min || value > max {
                return Err(format!("must be from {} to {}", shown(min), shown(max)));
            }
            Ok(value)
        })
    }

    fn whole_seconds(&mut self, key: &str, value: Option<Duration>) -> Option<Duration> {
        if value.is_some_and(|value| value.subsec_nanos() != 0) {
            self.problem(key, "must be whole seconds, because etcd counts them so");
            return None;
        }
        value
    }

    fn db_url(&mut self) -> Option<DbUrl> {
        if !self.has("db_url") {
            self.problem(
                "db_url",
                "is required: set --db-url, FOREST_DB_URL or db_url in the file, for example \
                 mysql://forest:password@127.0.0.1:3306/forest",
            );
        }
        // Its errors begin with its name; the line does already.
        self.parsed("db_url", |text| {
            text.parse::<DbUrl>().map_err(|error| error.to_string().trim_start_matches("db_url ").to_owned())
        })
    }

    fn insecure(&mut self) -> Option<bool> {
        self.parsed("insecure_listen", |text| match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("must be true or false"),
        })
    }

    fn listen(&mut self, login: Option<Login>, tls: bool) -> Option<SocketAddr> {
        let allowed = self.insecure()?;
        let address = self.parsed("listen", listen_address)?;
        if is_loopback(address.ip()) || allowed {
            return Some(address);
        }
        let danger = match (login?, tls) {
            (Login::On, true) => return Some(address),
            (Login::On, false) => {
                "there is no TLS: whoever listens on the way learns passwords and tokens. Set tls_cert_file and \
                 tls_key_file"
            }
            (Login::Off, _) => {
                "login is off: whoever reaches it can create and run jobs. Set login = on, with tls_cert_file and \
                 tls_key_file"
            }
        };
        self.problem(
            "listen",
            format!(
                "{address} can be reached from other machines, and {danger}; or listen on 127.0.0.1:{}; or put it \
                 behind a firewall or a proxy with a login and add --insecure-listen",
                address.port()
            ),
        );
        Some(address)
    }

    fn tls(&mut self) -> Option<TlsFiles> {
        let path = |checker: &Self, key| checker.text(key).map(PathBuf::from);
        let (cert, key) = (path(self, "tls_cert_file"), path(self, "tls_key_file"));
        let client_ca = path(self, "tls_client_ca_file");
        match (cert, key) {
            (Some(cert), Some(key)) => return Some(TlsFiles { cert, key, client_ca }),
            (Some(_), None) => self.problem("tls_cert_file", "needs tls_key_file as well"),
            (None, Some(_)) => self.problem("tls_key_file", "needs tls_cert_file as well"),
            (None, None) if client_ca.is_some() => {
                self.problem("tls_client_ca_file", "needs tls_cert_file and tls_key_file as well");
            }
            (None, None) => {}
        }
        None
    }

    fn legacy_api(&mut self) -> Option<LegacyApi> {
        let api = self.parsed("legacy_api", |text| match text {
            "off" => Ok(LegacyApi::Off),
            "same-origin" => Ok(LegacyApi::SameOrigin),
            "open" => Ok(LegacyApi::Open),
            _ => Err("must be off, same-origin or open"),
        })?;
        let outside = listen_address(self.text("listen")?).is_ok_and(|at| !is_loopback(at.ip()));
        if api == LegacyApi::Open && outside && !self.insecure()? {
            self.problem(
                "legacy_api",
                "open lets every page that a colleague visits create jobs: keep same-origin, listen on 127.0.0.1, or \
                 add --insecure-listen",
            );
        }
        Some(api)
    }

    fn traces(&mut self) -> Option<TraceConfig> {
        let ratio = self.parsed("otlp_sample_ratio", |text| match text.parse::<f64>() {
            Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(ratio),
            _ => Err("must be a number from 0 to 1, such as 0.1"),
        })?;
        let endpoint = self.parsed("otlp_endpoint", |text| {
            let scheme = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
            let address = scheme.map(|rest| rest.trim_end_matches('/'));
            let port =
                address.and_then(|address| address.rsplit_once(':')).map(|(_, port)| port.parse::<u16>());
            match port {
                Some(Ok(port)) if port != 0 && text.parse::<http::Uri>().is_ok() => Ok(text.to_owned()),
                _ => Err("must be http://host:port or https://host:port"),
            }
        })?;
        Some(TraceConfig { endpoint, ratio })
    }

    fn folder(&mut self, key: &str) -> Option<PathBuf> {
        self.parsed(key, |text| {
            let path = PathBuf::from(text);
            if path.join("index.html").is_file() { Ok(path) } else { Err("has no index.html") }
        })
    }

    fn advertise(&mut self) -> Option<String> {
        self.parsed("advertise", |text| match text.rsplit_once(':') {
            Some((host, port))
                if !host.is_empty()
                    && host.chars().all(|c| c.is_ascii_alphanumeric() || ".-_:[]".contains(c))
                    && port.parse::<u16>().is_ok_and(|port| port != 0) =>
            {
                Ok(text.to_owned())
            }
            _ => Err("must be host:port, as others reach this node"),
        })
    }

    fn node_name(&mut self) -> Option<String> {
        if !self.has("node_name") {
            return Some(cleaned(&host_name()));
        }
        self.parsed("node_name", |text| {
            NodeId::new(text).map_err(|error| error.to_string())?;
            if text.len() > MAX_NODE_NAME {
                return Err(format!("is too long: at most {MAX_NODE_NAME} characters"));
            }
            Ok(text.to_owned())
        })
    }

    fn time_zone(&mut self) -> Option<TimeZone> {
        self.parsed("time_zone", |text| {
            let zone = TimeZone::get(text);
            zone.map_err(|_| {
                format!("{text:?} is no IANA time zone: write UTC, Asia/Shanghai, Europe/Berlin, ...")
            })
        })
    }

    fn misfire_threshold(&mut self, lease_ttl: Option<Duration>) -> Option<Duration> {
        let threshold = self.duration("misfire_threshold", SECOND, 24 * HOUR)?;
        let least = lease_ttl? + TAKE_OVER;
        if threshold < least {
            let shown = humantime::format_duration;
            self.problem(
                "misfire_threshold",
                format!(
                    "{} is less than lease_ttl + 2s = {}: while another node takes over, fires wait up to that \
                     long, and all of them would count as missed. Raise it or lower lease_ttl",
                    shown(threshold),
                    shown(least)
                ),
            );
            return None;
        }
        Some(threshold)
    }

    fn warnings(&self, db_url: &DbUrl) -> Vec<String> {
        let mut warnings = Vec::new();
        if !db_url.ignored().is_empty() {
            let names = db_url.ignored().join(", ");
            warnings.push(format!("db_url: these parameters are not known and have no effect: {names}"));
        }
        if db_url.is_sqlite() {
            warnings.push("db_url: SQLite is for a single development node; nodes cannot share it".into());
        }
        let of_flag = self.values.get("db_url").is_some_and(|value| matches!(value.source, Source::Flag(_)));
        if of_flag && db_url.has_password() {
            warnings.push(
                "db_url: a password on the command line is seen by every user of the machine: use FOREST_DB_URL \
                 or the file"
                    .into(),
            );
        }
        warnings
    }
}

pub(super) fn listen_address(text: &str) -> Result<SocketAddr, &'static str> {
    const FORM: &str = "must be address:port, such as 127.0.0.1:2856, [::1]:2856, localhost:2856 or :2856";
    let port = |port: &str| port.parse::<u16>().map_err(|_| FORM);
    if let Some(rest) = text.strip_prefix(':') {
        return Ok((Ipv4Addr::UNSPECIFIED, port(rest)?).into());
    }
    if let Some(rest) = text.strip_prefix("localhost:") {
        return Ok((IpAddr::from(Ipv4Addr::LOCALHOST), port(rest)?).into());
    }
    text.parse().map_err(|_| FORM)
}

pub(super) fn host_name() -> String {
    gethostname::gethostname().to_string_lossy().into_owned()
}

/// A host name as the beginning of a node's id.
fn cleaned(host: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let name: String = host.chars().map(allowed).collect();
    let name = name.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    let name = &name[..name.len().min(MAX_NODE_NAME)];
    if name.is_empty() { "node".into() } else { name.into() }
}

/// The text of `check-config`: a line for each setting, with its source.
pub(super) fn effective(values: &Values, config: &Config) -> String {
    let shown = |key: &str, value: &Value| match key {
        "db_url" => config.db_url.to_string(),
        _ if SECRETS.contains(&key) => "***".into(),
        _ => value.text.trim().to_owned(),
    };
    let lines = values.each().map(|(field, value)| match (value, field.key) {
        (Some(value), key) => format!("{key} = {:?}  # {}\n", shown(key, value), value.source),
        (None, "node_name") => format!("node_name = {:?}  # name of the host\n", config.node_name),
        (None, key) => format!("# {key} is not set\n"),
    });
    let warnings = config.warnings.iter().map(|warning| format!("# warning: {warning}\n"));
    lines.chain(warnings).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_takes_addresses_and_the_short_forms() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(listen_address(text).ok().map(|a| a.to_string()).as_deref(), expected, "{text}");
        };
        check("127.0.0.1:2856", Some("127.0.0.1:2856"));
        check(":2856", Some("0.0.0.0:2856"));
        check("localhost:0", Some("127.0.0.1:0"));
        check("[::1]:1", Some("[::1]:1"));
        for text in ["2856", "127.0.0.1", ":", ":99999", "host:1", "::1:1:"] {
            check(text, None);
        }
    }

    #[test]
    fn any_host_name_becomes_the_beginning_of_a_node_id() {
        let check = |host: &str, expected: &str| assert_eq!(cleaned(host), expected, "{host}");
        check("web-1.example.org", "web-1.example.org");
        check("my host_ü", "my-host_-");
        check("--", "node");
        check("", "node");
        check(&"h".repeat(200), &"h".repeat(MAX_NODE_NAME));
        assert!(NodeId::new(cleaned(&host_name())).is_ok());
    }
}
