//! The example file and the table of the README, made from the table of settings: neither can tell anything else.

use super::fields::{FIELDS, Field};

/// Columns of the example file.
const WIDTH: usize = 100;

const HEAD: &str = "Settings of a node, each with its default. Each is taken from its flag (etcd_endpoints: --etcd-endpoints), else \
     from its environment variable, else from this file (--config FILE or FOREST_CONFIG), else it has its default. \
     Take the # away from what you change. Keys that are not known are refused. `forest-server check-config` shows the \
     result; `forest-server example-config` prints this file.";

/// What stands in the example for settings that have no default.
const SAMPLES: &[(&str, &str)] = &[
    ("etcd_user", "forest"),
    ("etcd_password", "..."),
    ("etcd_password_file", "/etc/forest/etcd-password"),
    ("etcd_ca_file", "/etc/forest/etcd-ca.pem"),
    ("etcd_cert_file", "/etc/forest/etcd-client.pem"),
    ("etcd_key_file", "/etc/forest/etcd-client-key.pem"),
    ("etcd_server_name", "etcd.example.org"),
    ("db_url", "mysql://forest:password@127.0.0.1:3306/forest"),
    ("tls_cert_file", "/etc/forest/tls.pem"),
    ("tls_key_file", "/etc/forest/tls-key.pem"),
    ("tls_client_ca_file", "/etc/forest/clients-ca.pem"),
    ("oidc_issuer", "https://id.example.org"),
    ("oidc_client_id", "forest"),
    ("oidc_client_secret_file", "/etc/forest/oidc-secret"),
    ("oidc_redirect_url", "https://forest.example.org/api/v1/session/oidc/callback"),
    ("oidc_email_domain", "example.org"),
    ("oidc_roles", "ops=admin,dev=editor:billing"),
    ("oidc_ca_file", "/etc/forest/oidc-ca.pem"),
    ("legacy_ui_dir", "/usr/share/duck"),
    ("otlp_endpoint", "http://127.0.0.1:4317"),
    ("advertise", "node-1.example.org:2856"),
    ("node_name", "node-1"),
];

/// The example file.
pub(super) fn file() -> String {
    let mut text = String::new();
    comment(&mut text, HEAD);
    for field in FIELDS {
        text.push('\n');
        comment(&mut text, &format!("{}.", field.help));
        let origin = match field.flag {
            Some(flag) => format!("Environment: {}. Flag: --{flag}.", field.env),
            None => format!("Environment: {}. No flag.", field.env),
        };
        let absent = if field.default.is_none() { " No default." } else { "" };
        comment(&mut text, &format!("{} {origin}{absent}", form(field)));
        text.push_str(&format!("#{} = {}\n", field.key, literal(value(field))));
    }
    text
}

fn value(field: &Field) -> &'static str {
    let sample = || SAMPLES.iter().find(|(key, _)| *key == field.key).map(|(_, text)| *text);
    field.default.or_else(sample).unwrap_or_default()
}

/// What a value looks like, and its unit.
fn form(field: &Field) -> &'static str {
    let text = value(field);
    if matches!(text, "true" | "false") {
        "True or false."
    } else if text.parse::<f64>().is_ok() {
        "A number."
    } else if humantime::parse_duration(text).is_ok() {
        "A time: ms, s, m, h, days."
    } else {
        "Text."
    }
}

fn literal(text: &str) -> String {
    match text.parse::<f64>() {
        Ok(_) => text.to_owned(),
        Err(_) if matches!(text, "true" | "false") => text.to_owned(),
        Err(_) => format!("{text:?}"),
    }
}

/// Adds lines that are no longer than [`WIDTH`], if no word is.
fn comment(text: &mut String, words: &str) {
    let mut line = String::from("#");
    for word in words.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            text.push_str(&line);
            text.push('\n');
            line.truncate(1);
        }
        line.push(' ');
        line.push_str(word);
    }
    text.push_str(&line);
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    const BEGIN: &str = "| setting | meaning | default |\n| --- | --- | --- |\n";

    /// The rows of the README's table.
    fn table() -> String {
        let row = |field: &Field| {
            let default = field.default.map_or_else(|| "none".to_owned(), |text| format!("`{text}`"));
            format!("| `{}` | {} | {default} |\n", field.key, field.help.replace('|', "\\|"))
        };
        FIELDS.iter().map(row).collect()
    }

    /// Compares a file with what it should be. `make settings` writes it.
    fn check(name: &str, expected: impl FnOnce(&str) -> String) {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
        let stored = std::fs::read_to_string(&path).unwrap_or_default();
        let expected = expected(&stored);
        if std::env::var_os("FOREST_WRITE_SETTINGS").is_some() {
            return std::fs::write(&path, expected).expect("written");
        }
        assert!(stored == expected, "{name} does not tell the settings as they are: run make settings");
    }

    #[test]
    fn the_example_file_is_that_of_the_settings() {
        check("deploy/forest-server.example.toml", |_| file());
    }

    #[test]
    fn the_table_in_the_readme_is_that_of_the_settings() {
        check("README.md", |text| {
            let (before, after) = text.split_once(BEGIN).expect("the table's head");
            let end = after.find("\n\n").map_or(after.len(), |at| at + 1);
            format!("{before}{BEGIN}{}{}", table(), &after[end..])
        });
    }

    #[test]
    fn every_setting_without_a_default_has_a_sample() {
        for field in FIELDS {
            let samples = SAMPLES.iter().filter(|(key, _)| *key == field.key).count();
            assert_eq!(samples, usize::from(field.default.is_none()), "{}", field.key);
        }
        let known = |key: &str| FIELDS.iter().any(|field| field.key == key);
        assert!(SAMPLES.iter().all(|(key, _)| known(key)), "no sample is left of a setting that is gone");
    }

    #[test]
    fn no_line_of_the_example_is_too_long() {
        for line in file().lines() {
            assert!(line.len() <= WIDTH, "{line}");
        }
    }
}
