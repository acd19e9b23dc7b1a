//! The table of settings: one line for each, from which flags, environment, file, help and the example follow;
//! and where the value of each comes from.

use std::fmt;

use super::file;

/// A setting.
pub(super) struct Field {
    /// In the file and in messages.
    pub(super) key: &'static str,
    /// `None` for what must not be seen in a list of processes.
    pub(super) flag: Option<&'static str>,
    pub(super) env: &'static str,
    /// `None`: not set.
    pub(super) default: Option<&'static str>,
    pub(super) help: &'static str,
}

const fn field(
    key: &'static str,
    flag: &'static str,
    env: &'static str,
    default: Option<&'static str>,
    help: &'static str,
) -> Field {
    Field { key, flag: Some(flag), env, default, help }
}

/// All settings that a file may have, in the order in which they are shown.
pub(super) const FIELDS: &[Field] = &[
    field(
        "etcd_endpoints",
        "etcd-endpoints",
        "FOREST_ETCD_ENDPOINTS",
        Some("127.0.0.1:2379"),
        "Members of the etcd cluster: host:port, http://host:port or https://host:port, separated by commas",
    ),
    field("etcd_user", "etcd-user", "FOREST_ETCD_USER", None, "etcd user, if etcd asks for one"),
    Field {
        key: "etcd_password",
        flag: None,
        env: "FOREST_ETCD_PASSWORD",
        default: None,
        help: "Password of the etcd user; not a flag, because flags are seen by every user of the machine",
    },
    field(
        "etcd_password_file",
        "etcd-password-file",
        "FOREST_ETCD_PASSWORD_FILE",
        None,
        "File that holds the password of the etcd user, in place of etcd_password",
    ),
    field(
        "etcd_ca_file",
        "etcd-ca-file",
        "FOREST_ETCD_CA_FILE",
        None,
        "PEM file of the authorities that etcd's certificate must come from; turns TLS on",
    ),
    field(
        "etcd_cert_file",
        "etcd-cert-file",
        "FOREST_ETCD_CERT_FILE",
        None,
        "PEM file of this node's certificate, if etcd asks for one",
    ),
    field(
        "etcd_key_file",
        "etcd-key-file",
        "FOREST_ETCD_KEY_FILE",
        None,
        "PEM file of that certificate's key",
    ),
    field(
        "etcd_server_name",
        "etcd-server-name",
        "FOREST_ETCD_SERVER_NAME",
        None,
        "Name in etcd's certificate, if it is not the host of the endpoint",
    ),
    field(
        "etcd_timeout",
        "etcd-timeout",
        "FOREST_ETCD_TIMEOUT",
        Some("3s"),
        "How long one call to etcd may take; 100ms to 60s",
    ),
    field("key_root", "key-root", "FOREST_KEY_ROOT", Some("/forest"), "Root of this cluster's keys in etcd"),
    field(
        "db_url",
        "db-url",
        "FOREST_DB_URL",
        None,
        "Database of the history (required): mysql://user:password@host:3306/database, the original's \
         user:password@tcp(host:port)/database, or sqlite:///path/file.db for a single development node",
    ),
    field(
        "listen",
        "listen",
        "FOREST_LISTEN",
        Some("127.0.0.1:2856"),
        "Address of the API; :2856 is port 2856 of all interfaces",
    ),
    field(
        "insecure_listen",
        "insecure-listen",
        "FOREST_INSECURE_LISTEN",
        Some("false"),
        "Allow an address that other machines reach although login is off or there is no TLS: whoever reaches \
         it can create and run jobs, or whoever listens learns passwords and tokens",
    ),
    field(
        "login",
        "login",
        "FOREST_LOGIN",
        Some("off"),
        "on: callers need a token, a session or a client certificate; off: whoever reaches the port may do \
         everything",
    ),
    field(
        "oidc_issuer",
        "oidc-issuer",
        "FOREST_OIDC_ISSUER",
        None,
        "Provider of OpenID Connect at which people may log in as well, as it calls itself; turns that on",
    ),
    field(
        "oidc_client_id",
        "oidc-client-id",
        "FOREST_OIDC_CLIENT_ID",
        None,
        "How the provider knows this cluster",
    ),
    field(
        "oidc_client_secret_file",
        "oidc-client-secret-file",
        "FOREST_OIDC_CLIENT_SECRET_FILE",
        None,
        "File with the secret that goes with it; without it the client is a public one, with PKCE alone",
    ),
    field(
        "oidc_redirect_url",
        "oidc-redirect-url",
        "FOREST_OIDC_REDIRECT_URL",
        None,
        "Where the provider sends browsers back to, as they reach this cluster: \
         https://.../api/v1/session/oidc/callback",
    ),
    field(
        "oidc_user_claim",
        "oidc-user-claim",
        "FOREST_OIDC_USER_CLAIM",
        Some("preferred_username"),
        "Claim with the name of the user; one that people cannot choose for themselves",
    ),
    field(
        "oidc_email_domain",
        "oidc-email-domain",
        "FOREST_OIDC_EMAIL_DOMAIN",
        None,
        "In place of that claim: users are called by what is before the @ of a verified address of this domain",
    ),
    field(
        "oidc_roles",
        "oidc-roles",
        "FOREST_OIDC_ROLES",
        None,
        "What values of oidc_roles_claim may do: ops=admin,dev=viewer,dev=editor:billing. Users are made at their first \
         login. Without it those may log in who are users already",
    ),
    field(
        "oidc_roles_claim",
        "oidc-roles-claim",
        "FOREST_OIDC_ROLES_CLAIM",
        Some("groups"),
        "Claim at which oidc_roles looks",
    ),
    field(
        "oidc_scopes",
        "oidc-scopes",
        "FOREST_OIDC_SCOPES",
        Some("openid profile email"),
        "What the provider is asked for, separated by spaces",
    ),
    field(
        "oidc_ca_file",
        "oidc-ca-file",
        "FOREST_OIDC_CA_FILE",
        None,
        "PEM file of the authorities that the provider's certificate must come from, in place of the machine's",
    ),
    field(
        "tls_cert_file",
        "tls-cert-file",
        "FOREST_TLS_CERT_FILE",
        None,
        "PEM file of this node's certificate, with its chain; turns TLS on. Read again when it changes",
    ),
    field("tls_key_file", "tls-key-file", "FOREST_TLS_KEY_FILE", None, "PEM file of that certificate's key"),
    field(
        "tls_client_ca_file",
        "tls-client-ca-file",
        "FOREST_TLS_CLIENT_CA_FILE",
        None,
        "PEM file of authorities whose client certificates count as a login: as the user of the first DNS name",
    ),
    field(
        "submissions_per_minute",
        "submissions-per-minute",
        "FOREST_SUBMISSIONS_PER_MINUTE",
        Some("1000"),
        "Changes that one caller who has logged in may ask this node for in a minute; 0: any number",
    ),
    field(
        "legacy_api",
        "legacy-api",
        "FOREST_LEGACY_API",
        Some("same-origin"),
        "The original's HTTP contract: off; same-origin: not for pages of other sites; open: for every page, which \
         needs a loopback address or insecure_listen",
    ),
    field(
        "legacy_ui_dir",
        "legacy-ui-dir",
        "FOREST_LEGACY_UI_DIR",
        None,
        "Folder of the original's console, built with an empty baseURL: served at /duck/",
    ),
    field(
        "advertise",
        "advertise",
        "FOREST_ADVERTISE",
        None,
        "host:port at which others reach this node; the listening address unless set",
    ),
    field(
        "node_name",
        "node-name",
        "FOREST_NODE_NAME",
        None,
        "What this node's id begins with, A-Z a-z 0-9 . _ -; the host's name unless set",
    ),
    field(
        "lease_ttl",
        "lease-ttl",
        "FOREST_LEASE_TTL",
        Some("5s"),
        "After so long without a sign of life another node takes over; whole seconds, 2s to 60s",
    ),
    field(
        "time_zone",
        "time-zone",
        "FOREST_TIME_ZONE",
        Some("UTC"),
        "IANA time zone of jobs that name none, and of local times in records",
    ),
    field(
        "segments",
        "segments",
        "FOREST_SEGMENTS",
        Some("16"),
        "Parts into which a new cluster divides its jobs, 1 to 64; an existing cluster keeps its own",
    ),
    field(
        "misfire_threshold",
        "misfire-threshold",
        "FOREST_MISFIRE_THRESHOLD",
        Some("10s"),
        "A fire that is later counts as missed; at least lease_ttl + 2s",
    ),
    field(
        "lost_grace",
        "lost-grace",
        "FOREST_LOST_GRACE",
        Some("5s"),
        "How long after its lease a client may still report, before its runs are declared lost; 0s to 1h",
    ),
    field(
        "start_deadline",
        "start-deadline",
        "FOREST_START_DEADLINE",
        Some("1h"),
        "A run that no client takes for so long is given up, unless its job says otherwise; 1s to 30days",
    ),
    field(
        "shutdown_grace",
        "shutdown-grace",
        "FOREST_SHUTDOWN_GRACE",
        Some("10s"),
        "How long a stop may take to finish what is under way; 0s to 10m",
    ),
    field(
        "log_level",
        "log-level",
        "FOREST_LOG_LEVEL",
        Some("info"),
        "error, warn, info, debug, trace, or directives such as info,forest_server=debug",
    ),
    field("log_format", "log-format", "FOREST_LOG_FORMAT", Some("json"), "json or text"),
    field(
        "otlp_endpoint",
        "otlp-endpoint",
        "FOREST_OTLP_ENDPOINT",
        None,
        "http://host:port or https://host:port of an OpenTelemetry collector that takes OTLP over gRPC (usually port \
         4317): traces go there. Without it there are none",
    ),
    field(
        "otlp_sample_ratio",
        "otlp-sample-ratio",
        "FOREST_OTLP_SAMPLE_RATIO",
        Some("1"),
        "Part of the traces that is kept, 0 to 1; calls that come with a trace of their own decide for their runs",
    ),
];

/// Where the file is; the only setting that a file cannot have.
pub(super) const CONFIG_FILE: Field =
    field("config", "config", "FOREST_CONFIG", None, "TOML file with any of these settings");

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    Flag(&'static str),
    Env(&'static str),
    File(String),
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "flag --{flag}"),
            Self::Env(name) => write!(f, "environment {name}"),
            Self::File(path) => write!(f, "file {path}"),
            Self::Default => write!(f, "default"),
        }
    }
}

/// What is wrong with a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) key: String,
    /// `None`: it comes from nowhere.
    pub(super) source: Option<Source>,
    /// What is wrong, and what to do.
    pub(super) text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Some(source) => write!(f, "{} ({source}): {}", self.key, self.text),
            None => write!(f, "{}: {}", self.key, self.text),
        }
    }
}

/// The value of a setting, not checked yet.
#[derive(Clone)]
pub(super) struct Value {
    pub(super) text: String,
    pub(super) source: Source,
}

/// The values of all settings that have one, in the order of [`FIELDS`].
pub(super) struct Values(Vec<Option<Value>>);

impl Values {
    /// `key` is one of [`FIELDS`].
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        let index = FIELDS.iter().position(|field| field.key == key);
        debug_assert!(index.is_some(), "{key} is no setting");
        self.0.get(index?)?.as_ref()
    }

    pub(super) fn each(&self) -> impl Iterator<Item = (&'static Field, Option<&Value>)> {
        FIELDS.iter().zip(self.0.iter().map(Option::as_ref))
    }
}

/// Takes each setting from the first place that has it: `flags`, `env`, the file that those name, the default.
/// What is set to nothing counts as not set.
pub(super) fn gather(
    flags: &[(&'static str, String)],
    env: &dyn Fn(&str) -> Option<String>,
) -> (Values, Vec<Problem>) {
    let mut problems = Vec::new();
    let filled = |text: String| Some(text).filter(|text| !text.trim().is_empty());
    let outer = |field: &Field| {
        let flag = flags.iter().find(|(key, _)| *key == field.key).and_then(|(_, text)| filled(text.clone()));
        let of_flag = flag.zip(field.flag).map(|(text, flag)| Value { text, source: Source::Flag(flag) });
        let of_env =
            || env(field.env).and_then(filled).map(|text| Value { text, source: Source::Env(field.env) });
        of_flag.or_else(of_env)
    };
    let in_file = match outer(&CONFIG_FILE) {
        Some(path) => file::read(&path, &mut problems),
        None => Vec::new(),
    };
    let value = |field: &Field| {
        let of_file = || in_file.iter().find(|(key, _)| key == field.key).map(|(_, value)| value.clone());
        let default = || field.default.map(|text| Value { text: text.into(), source: Source::Default });
        outer(field).or_else(of_file).or_else(default)
    };
    (Values(FIELDS.iter().map(value).collect()), problems)
}
