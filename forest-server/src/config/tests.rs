//! Precedence, refusals and secrecy of the whole configuration.

use std::collections::BTreeMap;

use super::fields::FIELDS;
use super::*;

const EXAMPLE: &str = include_str!("../../../deploy/forest-server.example.toml");

const DB: &str = "mysql://forest:s3cret@db:3306/forest";

/// What a node with this command line, environment and file does.
struct Given {
    line: Vec<String>,
    env: BTreeMap<String, String>,
    directory: tempfile::TempDir,
}

impl Given {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        Self { line: vec!["forest-server".into()], env: BTreeMap::new(), directory }
    }

    /// One with the required settings.
    fn valid() -> Self {
        Self::new().env("FOREST_DB_URL", DB)
    }

    fn flags(mut self, line: &str) -> Self {
        self.line.extend(line.split_whitespace().map(str::to_owned));
        self
    }

    fn env(mut self, name: &str, text: &str) -> Self {
        self.env.insert(name.into(), text.into());
        self
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) -> String {
        std::fs::write(self.path(name), text).expect("a file");
        self.path(name)
    }

    fn file(self, text: &str) -> Self {
        let path = self.write("forest.toml", text);
        self.flags("--config").flags(&path)
    }

    fn load(&self) -> Task {
        load(self.line.iter().map(OsString::from), &|name| self.env.get(name).cloned())
    }

    fn config(&self) -> Config {
        match self.load() {
            Task::Serve(config) => *config,
            Task::Exit(exit) => panic!("{}", exit.text),
        }
    }

    fn exit(&self) -> Exit {
        match self.load() {
            Task::Serve(config) => panic!("it was accepted: {config:?}"),
            Task::Exit(exit) => exit,
        }
    }

    /// Its only problem is `setting`, and it says `part`.
    fn refused(&self, setting: &str, part: &str) {
        let exit = self.exit();
        let problems: Vec<&str> = exit.text.lines().filter(|line| line.starts_with("  ")).collect();
        assert_eq!((exit.code, problems.len()), (2, 1), "{}", exit.text);
        assert!(problems[0].starts_with(&format!("  {setting}")), "{}", exit.text);
        assert!(problems[0].contains(part), "{part}: {}", exit.text);
    }
}

#[test]
fn the_defaults_are_those_that_are_documented() {
    let config = Given::valid().config();
    assert_eq!(config.etcd.endpoints, ["127.0.0.1:2379"]);
    assert_eq!(config.etcd.call_timeout, Duration::from_secs(3));
    assert_eq!(config.keyspace.all(), "/forest/");
    assert_eq!(config.listen.to_string(), "127.0.0.1:2856");
    assert_eq!(config.advertised(config.listen), "127.0.0.1:2856");
    assert_eq!(config.lease_ttl, Duration::from_secs(5));
    assert_eq!(config.time_zone, TimeZone::get("UTC").expect("bundled"));
    assert_eq!(config.segments, SegmentCount::DEFAULT);
    assert_eq!(config.misfire_threshold, Duration::from_secs(10));
    assert_eq!(config.start_deadline, Duration::from_secs(3600));
    assert_eq!((config.log_level.as_str(), config.log_format), ("info", LogFormat::Json));
    assert_eq!(config.warnings, Vec::<String>::new());
}

#[test]
fn a_flag_beats_the_environment_beats_the_file_beats_the_default() {
    let file = "lease_ttl = \"4s\"\nlost_grace = \"1s\"\nsegments = 8\nshutdown_grace = \"\"\n";
    let given = Given::valid()
        .file(file)
        .env("FOREST_LEASE_TTL", "6s")
        .env("FOREST_LOST_GRACE", "2s")
        .env("FOREST_SEGMENTS", "")
        .flags("--lease-ttl 7s");
    let config = given.config();
    assert_eq!(config.lease_ttl, Duration::from_secs(7), "flag");
    assert_eq!(config.lost_grace, Duration::from_secs(2), "environment");
    assert_eq!(config.segments.get(), 8, "file, because an empty variable is no setting");
    assert_eq!(config.shutdown_grace, Duration::from_secs(10), "default");

    let exit = given.flags("check-config").exit();
    assert_eq!(exit.code, 0);
    for part in [
        "lease_ttl = \"7s\"  # flag --lease-ttl\n",
        "lost_grace = \"2s\"  # environment FOREST_LOST_GRACE\n",
        "segments = \"8\"  # file /",
        "shutdown_grace = \"10s\"  # default\n",
        "# etcd_user is not set\n",
    ] {
        assert!(exit.text.contains(part), "{part}:\n{}", exit.text);
    }
}

#[test]
fn the_file_may_be_named_by_the_environment_and_must_be_there() {
    let given = Given::valid();
    let path = given.write("f.toml", "segments = 4");
    assert_eq!(given.env("FOREST_CONFIG", &path).config().segments.get(), 4);
    Given::valid()
        .flags("--config /no/such/file")
        .refused("config (flag --config)", "cannot read /no/such/file");
}

#[test]
fn all_problems_are_reported_at_once_with_their_sources() {
    let given = Given::new()
        .file("lease_tll = \"4s\"\ntime_zone = \"Mars/Olympus\"\n")
        .env("FOREST_SEGMENTS", "129")
        .flags("--listen nowhere --log-format xml check-config");
    let exit = given.exit();
    assert_eq!(exit.code, 2);
    for part in [
        "lease_tll (file /",
        "did you mean lease_ttl?",
        "time_zone (file /",
        "segments (environment FOREST_SEGMENTS): must be a number from 1 to 64",
        "listen (flag --listen): must be address:port",
        "log_format (flag --log-format): must be json or text",
        "db_url: is required",
    ] {
        assert!(exit.text.contains(part), "{part}:\n{}", exit.text);
    }
    assert_eq!(exit.text.lines().filter(|line| line.starts_with("  ")).count(), 6, "{}", exit.text);
}

#[test]
fn each_rule_refuses_what_breaks_it() {
    let check = |flags: &str, setting: &str, part: &str| Given::valid().flags(flags).refused(setting, part);
    check("--lease-ttl 1s", "lease_ttl", "from 2s to 1m");
    check("--lease-ttl 61s", "lease_ttl", "from 2s to 1m");
    check("--lease-ttl 2500ms", "lease_ttl", "whole seconds");
    check("--lease-ttl 5", "lease_ttl", "is no duration");
    check("--misfire-threshold 6s", "misfire_threshold", "lease_ttl + 2s = 7s");
    check("--lease-ttl 9s", "misfire_threshold (default)", "lower lease_ttl");
    check("--segments 0", "segments", "1 to 64");
    check("--key-root forest", "key_root", "");
    check("--node-name a/b", "node_name", "may contain only");
    check("--node-name aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "node_name", "at most 48");
    check("--advertise 2856", "advertise", "host:port");
    check("--advertise h:0", "advertise", "host:port");
    check("--etcd-endpoints ,", "etcd_endpoints", "no endpoint");
    check("--etcd-endpoints h", "etcd_endpoints", "has no port");
    check("--etcd-endpoints https://h:1", "etcd_endpoints", "etcd_ca_file");
    check("--etcd-endpoints ftp://h:1", "etcd_endpoints", "unknown scheme");
    check("--etcd-user u", "etcd_user", "no password");
    check("--etcd-server-name n", "etcd_server_name", "needs etcd_ca_file");
    check("--etcd-ca-file /no/such/ca.pem", "etcd_ca_file", "cannot read");
    check("--etcd-timeout 1ms", "etcd_timeout", "100ms");
    check("--log-level ===", "log_level", "");
    check("--log-level degub", "log_level", "is no level");
    check("--otlp-endpoint localhost:4317", "otlp_endpoint", "http://host:port");
    check("--otlp-endpoint http://localhost", "otlp_endpoint", "http://host:port");
    check("--otlp-sample-ratio 1.5", "otlp_sample_ratio", "0 to 1");
    check("--otlp-sample-ratio NaN", "otlp_sample_ratio", "0 to 1");
    check("--db-url postgres://h/d", "db_url (flag --db-url)", "unknown scheme");
}

#[test]
fn an_address_that_others_reach_needs_a_decision() {
    for listen in [":2856", "0.0.0.0:1", "192.0.2.1:2856", "[::]:2856"] {
        let flags = format!("--listen {listen}");
        Given::valid().flags(&flags).refused("listen (flag --listen)", "--insecure-listen");
        let config = Given::valid().flags(&flags).flags("--insecure-listen").config();
        assert!(!is_loopback(config.listen.ip()));
    }
    for listen in ["127.0.0.9:1", "[::1]:1", "localhost:1", "[::ffff:127.0.0.1]:1"] {
        assert!(is_loopback(Given::valid().flags(&format!("--listen {listen}")).config().listen.ip()));
    }
    let config = Given::valid().flags("--listen :7 --insecure-listen").config();
    assert!(!config.advertised(config.listen).starts_with("0.0.0.0"));
    let config = Given::valid().flags("--advertise forest.example.org:80").config();
    assert_eq!(config.advertised(config.listen), "forest.example.org:80");
}

#[test]
fn the_etcd_account_and_its_tls_reach_the_session() {
    let files = Given::new();
    let password = files.write("password", "from the file\n");
    let pem = files.write("ca.pem", "any");
    let config = Given::valid()
        .flags(&format!("--etcd-user u --etcd-password-file {password} --etcd-ca-file {pem}"))
        .flags(&format!("--etcd-cert-file {pem} --etcd-key-file {pem} --etcd-server-name etcd"))
        .flags("--etcd-endpoints a:1,https://b:2/")
        .config();
    assert_eq!(config.etcd.password.as_deref(), Some("from the file"));
    assert_eq!(config.etcd.endpoints, ["a:1", "https://b:2/"]);
    let tls = config.etcd.tls.expect("it is on");
    assert_eq!((tls.ca_file.display().to_string(), tls.server_name.as_deref()), (pem.clone(), Some("etcd")));

    let account = || Given::valid().env("FOREST_ETCD_PASSWORD", " p ");
    assert_eq!(account().flags("--etcd-user u").config().etcd.password.as_deref(), Some(" p "));
    account().refused("etcd_password (environment FOREST_ETCD_PASSWORD)", "etcd_user is not");
    account().flags("--etcd-user u --etcd-password-file /x").refused("etcd_password_file", "one of them");
    Given::valid()
        .flags(&format!("--etcd-ca-file {pem} --etcd-cert-file {pem}"))
        .refused("etcd_cert_file", "without etcd_key_file");
}

#[test]
fn the_originals_unit_file_still_starts() {
    let config = Given::new()
        .flags("-etcd-endpoints 10.0.0.1:2379,10.0.0.2:2379 -etcd-dailtimeout 5 -http-address :2856")
        .flags("-db-url root:s3cret@tcp(127.0.0.1:3306)/forest?charset=utf8 --insecure-listen")
        .config();
    assert_eq!(config.etcd.endpoints.len(), 2);
    assert_eq!(config.etcd.call_timeout, Duration::from_secs(5));
    assert_eq!(config.listen.to_string(), "0.0.0.0:2856");
    assert_eq!(config.db_url.to_string(), "mysql://root:***@127.0.0.1:3306/forest");
    assert!(config.warnings.iter().any(|warning| warning.contains("command line")), "{:?}", config.warnings);
}

#[test]
fn no_password_is_shown_anywhere() {
    let given = || Given::valid().env("FOREST_ETCD_PASSWORD", "s3cret").flags("--etcd-user u");
    let shown = format!("{:?}", given().config());
    assert!(shown.contains("***") && !shown.contains("s3cret"), "{shown}");
    let exit = given().flags("check-config").exit();
    assert!(exit.text.contains("etcd_password = \"***\"") && !exit.text.contains("s3cret"), "{}", exit.text);
    for wrong in [
        Given::new().env("FOREST_DB_URL", "mysql://u:s3cret@h"),
        Given::new().env("FOREST_DB_URL", "u:s3cret@tcp(h:1)/d?tls=own"),
        Given::new().file("db_url = mysql://u:s3cret@h/d"),
        Given::new().file("etcd_password = [1, \"s3cret\"]"),
        Given::valid().flags("--etcd-endpoints http://u:s3cret@h:1"),
    ] {
        let exit = wrong.exit();
        assert!(exit.code == 2 && !exit.text.contains("s3cret"), "{}", exit.text);
    }
}

#[test]
fn sqlite_and_parameters_without_effect_are_warned_of() {
    let warned = |url: &str| Given::new().env("FOREST_DB_URL", url).config().warnings.join("\n");
    assert!(warned("sqlite:///tmp/x.db").contains("single development node"));
    assert!(warned("mysql://u:p@h/d?colour=red").contains("colour"));
    assert_eq!(warned("mysql://u:p@h/d?charset=utf8"), "");
}

#[test]
fn every_setting_has_a_flag_and_a_variable_of_its_own_name() {
    for field in FIELDS {
        assert_eq!(field.env, format!("FOREST_{}", field.key.to_uppercase()));
        match field.flag {
            Some(flag) => assert_eq!(flag, field.key.replace('_', "-")),
            None => assert_eq!(field.key, "etcd_password"),
        }
    }
}

#[test]
fn a_login_provider_is_checked_before_anybody_is_sent_there() {
    const BACK: &str = "https://forest.example/api/v1/session/oidc/callback";
    let given = |issuer: &str, back: &str, further: &str| {
        let line =
            format!("--login on --oidc-issuer {issuer} --oidc-client-id forest --oidc-redirect-url {back}");
        Given::valid().flags(&line).flags(further)
    };
    let good = "https://login.example/realm";
    let config = given(good, BACK, "--oidc-roles ops=admin,dev=editor:billing").config();
    let oidc = config.oidc.expect("it is on");
    assert_eq!((oidc.user_claim.as_str(), oidc.roles_claim.as_str()), ("preferred_username", "groups"));
    assert!(oidc.roles.is_some() && oidc.client_secret.is_none());
    assert!(Given::valid().config().oidc.is_none(), "off unless configured");

    given("http://login.example", BACK, "").refused("oidc_issuer", "https://");
    given("login.example", BACK, "").refused("oidc_issuer", "URL");
    given("http://127.0.0.1:9/realm", BACK, "").config();
    given(good, "https://forest.example/", "").refused("oidc_redirect_url", "/api/v1/session/oidc/callback");
    given(good, BACK, "--oidc-roles ops=king").refused("oidc_roles", "king");
    given(good, BACK, "--oidc-scopes profile").refused("oidc_scopes", "openid");
    given(good, BACK, "--oidc-client-secret-file /nowhere").refused("oidc_client_secret_file", "/nowhere");
    given(good, BACK, "--oidc-ca-file /nowhere").refused("oidc_ca_file", "/nowhere");
    given(good, BACK, "--login off").refused("oidc_issuer", "login");
    Given::valid().flags("--oidc-client-id forest").refused("oidc_client_id", "oidc_issuer");
    let line = format!("--login on --oidc-issuer {good} --oidc-redirect-url {BACK}");
    Given::valid().flags(&line).refused("oidc_client_id", "required");

    let kept = Given::valid();
    let secret = kept.write("secret", "of the provider\n");
    let line = format!("--login on --oidc-issuer {good} --oidc-client-id f --oidc-redirect-url {BACK}");
    let kept = kept.flags(&line).flags(&format!("--oidc-client-secret-file {secret}"));
    let config = kept.config();
    assert!(!format!("{config:?}").contains("of the provider"));
    assert_eq!(config.oidc.and_then(|oidc| oidc.client_secret).as_deref(), Some("of the provider"));
}

#[test]
fn the_example_file_has_every_setting_with_its_default() {
    let mut seen = Vec::new();
    for block in EXAMPLE.split("\n\n").skip(1) {
        let setting =
            block.lines().last().and_then(|line| line.strip_prefix("#")).expect("a setting that is off");
        let table: toml::Table = setting.parse().expect("TOML, once its # is gone");
        let (key, value) = table.into_iter().next().expect("one setting");
        let field = FIELDS.iter().find(|field| field.key == key).expect("a known setting");
        let text = file::plain(&value).expect("a plain value");
        match field.default {
            Some(default) => assert_eq!(text, default, "{key}"),
            None => assert!(block.contains("No default."), "{key}"),
        }
        assert!(block.contains(field.env), "{key}");
        seen.push(key);
    }
    let known: Vec<&str> = FIELDS.iter().map(|field| field.key).collect();
    assert_eq!(seen, known);
    assert!(Given::valid().file(EXAMPLE).config().warnings.is_empty(), "as it is, it changes nothing");
}
