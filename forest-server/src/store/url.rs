//! `db_url`: where the history is.
//!
//! Accepts `mysql://` and `mariadb://` URLs, `sqlite://` with a path, and the DSN of the original's Go driver,
//! `user:password@tcp(host:port)/db?charset=utf8`. The password is shown by nothing here: not by `Display`,
//! not by `Debug`, not by an error.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use sqlx::mysql::MySqlSslMode;

/// Parameters of the original's driver that mean nothing here: text is always utf8mb4, time always UTC.
const MOOT: [&str; 8] = [
    "charset",
    "collation",
    "parsetime",
    "loc",
    "timezone",
    "time-zone",
    "multistatements",
    "allownativepasswords",
];

/// A checked `db_url`.
#[derive(Clone, PartialEq, Eq)]
pub struct DbUrl {
    target: Target,
    ignored: Vec<String>,
}

#[derive(Clone, PartialEq, Eq)]
pub(super) enum Target {
    MySql(Server),
    Sqlite(PathBuf),
}

/// A MySQL or MariaDB server, an account and a database.
#[derive(Clone, PartialEq, Eq, Default)]
pub(super) struct Server {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) socket: Option<PathBuf>,
    pub(super) user: String,
    pub(super) password: Option<String>,
    pub(super) database: String,
    pub(super) ssl_mode: Option<String>,
    pub(super) ssl_ca: Option<PathBuf>,
    pub(super) ssl_cert: Option<PathBuf>,
    pub(super) ssl_key: Option<PathBuf>,
}

/// Why a `db_url` was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("db_url {0}; write mysql://user:password@host:3306/database, or sqlite:///path/file.db")]
pub struct UrlError(&'static str);

impl DbUrl {
    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// Names of parameters that are not understood and have no effect.
    pub(crate) fn ignored(&self) -> &[String] {
        &self.ignored
    }

    pub(crate) fn has_password(&self) -> bool {
        matches!(&self.target, Target::MySql(server) if server.password.is_some())
    }

    /// Whether this is a file of one node, which no second node can share.
    pub(crate) fn is_sqlite(&self) -> bool {
        matches!(self.target, Target::Sqlite(_))
    }
}

impl FromStr for DbUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let text = text.trim();
        match text.split_once("://") {
            Some(("mysql" | "mariadb", rest)) => url(rest),
            Some(("sqlite", rest)) => sqlite(rest),
            // A password of the Go form may contain anything, "://" too.
            _ if text.contains("@tcp(") || text.contains("@unix(") || text.contains("@/") => go_dsn(text),
            Some(_) => Err(UrlError("has an unknown scheme")),
            None if text.is_empty() => Err(UrlError("is empty")),
            None => Err(UrlError("is not a URL")),
        }
    }
}

fn sqlite(rest: &str) -> Result<DbUrl, UrlError> {
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    if path.is_empty() || path == ":memory:" {
        return Err(UrlError("has no path of a file"));
    }
    let ignored = pairs(query).map(|(key, _)| key.to_owned()).collect();
    let path = decode(path).ok_or(UrlError("has a wrong % escape in its path"))?;
    Ok(DbUrl { target: Target::Sqlite(path.into()), ignored })
}

fn url(rest: &str) -> Result<DbUrl, UrlError> {
    let (authority, path) = rest.split_once('/').ok_or(UrlError("names no database"))?;
    let (database, query) = path.split_once('?').unwrap_or((path, ""));
    let (account, address) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = match account.split_once(':') {
        Some((user, password)) => (user, Some(password)),
        None => (account, None),
    };
    let escape = UrlError("has a wrong % escape");
    let mut server = Server {
        user: decode(user).ok_or(escape.clone())?,
        password: password.map(|p| decode(p).ok_or(escape.clone())).transpose()?,
        database: decode(database).ok_or(escape.clone())?,
        ..Server::default()
    };
    server.set_address(address)?;
    let mut ignored = Vec::new();
    for (key, value) in pairs(query) {
        let value = decode(value).ok_or(escape.clone())?;
        if !server.set_parameter(key, &value)? {
            ignored.push(key.to_owned());
        }
    }
    server.checked(ignored)
}

fn go_dsn(text: &str) -> Result<DbUrl, UrlError> {
    let (front, path) = text.rsplit_once('/').ok_or(UrlError("names no database"))?;
    let (account, address) = front.rsplit_once('@').unwrap_or(("", front));
    let (user, password) = match account.split_once(':') {
        Some((user, password)) => (user, Some(password.to_owned())),
        None => (account, None),
    };
    let (database, query) = path.split_once('?').unwrap_or((path, ""));
    let mut server = Server { user: user.into(), password, database: database.into(), ..Server::default() };
    match address.strip_suffix(')').and_then(|a| a.split_once('(')) {
        Some(("tcp", address)) => server.set_address(address)?,
        Some(("unix", path)) => server.socket = Some(path.into()),
        None if address.is_empty() || address == "tcp" => server.set_address("127.0.0.1")?,
        _ => return Err(UrlError("has an address that is neither tcp(host:port) nor unix(/path)")),
    }
    let mut ignored = Vec::new();
    for (key, value) in pairs(query) {
        let value = decode(value).ok_or(UrlError("has a wrong % escape"))?;
        let mode = match (key, value.as_str()) {
            ("tls", "true") => "VERIFY_IDENTITY",
            ("tls", "skip-verify") => "REQUIRED",
            ("tls", "preferred") => "PREFERRED",
            ("tls", "false") => "DISABLED",
            // A name under which a Go program registered its own settings: guessing would be unsafe.
            ("tls", _) => {
                return Err(UrlError("has a tls= that only a Go program knows: use ssl-mode and ssl-ca"));
            }
            _ => {
                if !server.set_parameter(key, &value)? {
                    ignored.push(key.to_owned());
                }
                continue;
            }
        };
        server.ssl_mode = Some(mode.into());
    }
    server.checked(ignored)
}

impl Server {
    fn set_address(&mut self, address: &str) -> Result<(), UrlError> {
        let (host, port) = match address.rsplit_once(':') {
            // The colons of a bare IPv6 address are in brackets.
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (address, None),
        };
        self.host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        self.port = match port {
            Some(port) => {
                port.parse().map_err(|_| UrlError("has a port that is not a number up to 65535"))?
            }
            None => 3306,
        };
        Ok(())
    }

    /// Whether the parameter is known.
    fn set_parameter(&mut self, key: &str, value: &str) -> Result<bool, UrlError> {
        match key.to_ascii_lowercase().as_str() {
            "sslmode" | "ssl-mode" => {
                value.parse::<MySqlSslMode>().map_err(|_| {
                    UrlError("has an ssl-mode that is none of disabled, preferred, required, verify_ca, verify_identity")
                })?;
                self.ssl_mode = Some(value.to_ascii_uppercase());
            }
            "sslca" | "ssl-ca" => self.ssl_ca = Some(value.into()),
            "sslcert" | "ssl-cert" => self.ssl_cert = Some(value.into()),
            "sslkey" | "ssl-key" => self.ssl_key = Some(value.into()),
            "socket" => self.socket = Some(value.into()),
            key => return Ok(MOOT.contains(&key)),
        }
        Ok(true)
    }

    fn checked(self, ignored: Vec<String>) -> Result<DbUrl, UrlError> {
        if self.database.is_empty() {
            return Err(UrlError("names no database"));
        }
        if self.host.is_empty() && self.socket.is_none() {
            return Err(UrlError("names no host"));
        }
        Ok(DbUrl { target: Target::MySql(self), ignored })
    }
}

fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// Percent escapes, as bytes that must be UTF-8 in the end.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let code = digit(rest.next())? * 16 + digit(rest.next())?;
        bytes.push(u8::try_from(code).ok()?);
    }
    String::from_utf8(bytes).ok()
}

/// For people: the password is `***`, and parameters other than TLS are left out.
impl fmt::Display for DbUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let server = match &self.target {
            Target::Sqlite(path) => return write!(f, "sqlite://{}", path.display()),
            Target::MySql(server) => server,
        };
        let password = if server.password.is_some() { ":***" } else { "" };
        let account = format!("{}{password}", server.user);
        let at = if account.is_empty() { "" } else { "@" };
        let host = if server.host.contains(':') { format!("[{}]", server.host) } else { server.host.clone() };
        match &server.socket {
            Some(socket) => write!(f, "mysql://{account}{at}unix({})", socket.display())?,
            None => write!(f, "mysql://{account}{at}{host}:{}", server.port)?,
        }
        write!(f, "/{}", server.database)?;
        server.ssl_mode.iter().try_for_each(|mode| write!(f, "?ssl-mode={mode}"))
    }
}

impl fmt::Debug for DbUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DbUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(text: &str) -> String {
        match text.parse::<DbUrl>() {
            Ok(url) => format!("{url} {:?}", url.ignored()),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn each_form_is_understood() {
        let check = |text: &str, expected: &str| assert_eq!(shown(text), expected, "{text}");
        check("mysql://u:p@db:3307/forest", "mysql://u:***@db:3307/forest []");
        check("mariadb://u@db/forest?ssl-mode=required", "mysql://u@db:3306/forest?ssl-mode=REQUIRED []");
        check("mysql://u:p@[::1]:3306/forest?x=1&charset=utf8", "mysql://u:***@[::1]:3306/forest [\"x\"]");
        check(
            "root:123456@tcp(127.0.0.1:3306)/forest?charset=utf8",
            "mysql://root:***@127.0.0.1:3306/forest []",
        );
        check("root:a@b/c:d@tcp(db)/forest?timeout=3s", "mysql://root:***@db:3306/forest [\"timeout\"]");
        check("u:p@unix(/run/my.sock)/forest", "mysql://u:***@unix(/run/my.sock)/forest []");
        check("u:p@/forest?tls=true", "mysql://u:***@127.0.0.1:3306/forest?ssl-mode=VERIFY_IDENTITY []");
        check("sqlite:///var/lib/forest.db", "sqlite:///var/lib/forest.db []");
        check("sqlite://forest.db?mode=rwc", "sqlite://forest.db [\"mode\"]");
    }

    #[test]
    fn escapes_in_a_url_are_decoded_and_passwords_of_the_go_form_are_taken_as_they_are() {
        let password = |text: &str| match text.parse::<DbUrl>().expect("valid").target {
            Target::MySql(server) => server.password,
            Target::Sqlite(_) => None,
        };
        assert_eq!(password("mysql://u:p%40%2f%E7%BB%84@h/d").as_deref(), Some("p@/组"));
        assert_eq!(password("u:p%40:/@x@tcp(h:1)/d").as_deref(), Some("p%40:/@x"));
    }

    #[test]
    fn errors_say_what_is_wrong_and_name_the_field() {
        let check = |text: &str, part: &str| {
            let error = text.parse::<DbUrl>().expect_err(text).to_string();
            assert!(error.starts_with("db_url ") && error.contains(part), "{text}: {error}");
            assert!(!error.contains("s3cret"), "{error}");
        };
        check("", "is empty");
        check("postgres://u:s3cret@h/d", "unknown scheme");
        check("just text", "not a URL");
        check("mysql://u:s3cret@h", "no database");
        check("mysql://u:s3cret@h/", "no database");
        check("mysql://u:s3cret@/d", "no host");
        check("mysql://u:s3cret@h:s3cret/d", "port");
        check("mysql://u:s3cret%zz@h/d", "escape");
        check("mysql://u:s3cret@h/d?ssl-mode=maybe", "ssl-mode");
        check("u:s3cret@tcp(h:1)/d?tls=custom", "tls=");
        check("u:s3cret@tcp(h:1", "no database");
        check("sqlite://", "no path");
        check("sqlite://:memory:", "no path");
    }

    proptest! {
        #[test]
        fn no_password_is_ever_shown(password in "[a-zA-Z0-9:]{6,20}", go in any::<bool>()) {
            let secret = format!("zq{password}qz");
            let text = if go { format!("u:{secret}@tcp(h:1)/d") } else { format!("mysql://u:{secret}@h:1/d") };
            let url: DbUrl = text.parse().map_err(|e: UrlError| TestCaseError::fail(e.to_string()))?;
            let shown = format!("{url} {url:?}");
            prop_assert!(!shown.contains(&secret));
        }

        #[test]
        fn any_text_is_read_or_refused(text in any::<String>()) {
            let _ = text.parse::<DbUrl>();
            let _ = format!("mysql://{text}").parse::<DbUrl>();
            let _ = format!("u@tcp({text}").parse::<DbUrl>();
        }
    }
}
