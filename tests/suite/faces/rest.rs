//! What is asked for of the REST API.

use reqwest::{Client, Method};
use serde_json::{Map, Value, json};

use super::ask::{Ask, Said};

/// `None`: the API cannot say it.
pub(super) async fn ask(http: &Client, server: &str, ask: &Ask) -> Option<Said> {
    let mut with = ask.with.clone();
    let version = with.remove("VERSION");
    let key = with.remove("KEY");
    let on = encoded(&ask.on);
    let named = |mut with: Map<String, Value>| {
        with.insert("name".into(), json!(ask.on));
        with
    };
    let (method, path, body) = match ask.verb {
        "group add" => (Method::POST, "/groups".into(), Some(named(with))),
        "group edit" => (Method::PATCH, format!("/groups/{on}"), Some(with)),
        "group get" => (Method::GET, format!("/groups/{on}"), None),
        "group delete" => (Method::DELETE, format!("/groups/{on}"), None),
        "job add" => (Method::POST, "/jobs".into(), Some(with)),
        "job edit" => (Method::PATCH, format!("/jobs/{on}"), Some(with)),
        "job get" => (Method::GET, format!("/jobs/{on}"), None),
        "job delete" => (Method::DELETE, format!("/jobs/{on}"), None),
        "job enable" | "job disable" => (Method::POST, format!("/jobs/{on}/{}", &ask.verb[4..]), Some(with)),
        "job run" => (Method::POST, format!("/jobs/{on}/run"), Some(with)),
        "job next" => (Method::GET, format!("/jobs/{on}/next{}", query(&with)), None),
        "job explain" => (Method::GET, format!("/jobs/{on}/explain{}", query(&with)), None),
        "cron next" => {
            with.insert("cron".into(), json!(ask.on));
            (Method::GET, format!("/cron/next{}", query(&with)), None)
        }
        "backfill start" => (Method::POST, format!("/jobs/{on}/backfill"), Some(with)),
        "backfill cancel" => (Method::DELETE, format!("/jobs/{on}/backfill"), None),
        "calendar set" => (Method::PUT, format!("/calendars/{on}"), Some(with)),
        "calendar get" => (Method::GET, format!("/calendars/{on}"), None),
        "calendar delete" => (Method::DELETE, format!("/calendars/{on}"), None),
        "run get" => (Method::GET, format!("/executions/{on}"), None),
        "run cancel" => (Method::POST, format!("/executions/{on}/cancel"), None),
        "run list" => {
            let outcome = with.remove("outcome");
            with.extend(outcome.map(|outcome| ("status".to_owned(), outcome)));
            (Method::GET, format!("/executions{}", query(&with)), None)
        }
        "group list" | "job list" | "backfill list" | "calendar list" | "client list" | "user list"
        | "token list" => {
            let kind = ask.verb.split(' ').next().unwrap_or_default();
            (Method::GET, format!("/{kind}s{}", query(&with)), None)
        }
        "plan" => (Method::GET, format!("/plan{}", query(&with)), None),
        "pending list" => (Method::GET, format!("/pending{}", query(&with)), None),
        "audit list" => (Method::GET, format!("/audit{}", query(&with)), None),
        "user add" => (Method::POST, "/users".into(), Some(with_grants(named(with)))),
        "user edit" => (Method::PATCH, format!("/users/{on}"), Some(with)),
        "user delete" => (Method::DELETE, format!("/users/{on}"), None),
        "token add" => (Method::POST, "/tokens".into(), Some(with_grants(named(with)))),
        "token revoke" => (Method::DELETE, format!("/tokens/{on}"), None),
        verb => panic!("REST knows no {verb}: say what it is"),
    };
    // Another path altogether: nothing is asked for.
    if path.contains("//") || path.ends_with('/') || path.contains("/./") || path.contains("/../") {
        return None;
    }
    let mut request = http.request(method, format!("{server}/api/v1{path}"));
    if let Some(body) = body {
        request = request.json(&Value::Object(body));
    }
    if let Some(version) = version {
        request = request.header("if-match", format!("\"{version}\""));
    }
    if let Some(key) = key {
        let key = reqwest::header::HeaderValue::from_str(key.as_str()?).ok()?;
        request = request.header("idempotency-key", key);
    }
    let response = request.send().await.expect("an answer");
    let status = response.status();
    let kind = response.headers().get("content-type").map(|kind| kind.to_str().expect("text").to_owned());
    let text = response.text().await.expect("a body");
    if status.is_success() {
        return Some(Said { text, ..Said::default() });
    }
    assert_eq!(kind.as_deref(), Some("application/problem+json"), "{ask:?}: {status} {text}");
    assert!(status.is_client_error(), "{ask:?}: {status} {text}");
    let problem: Value = serde_json::from_str(&text).expect("JSON");
    let word = |name: &str| problem[name].as_str().map(str::to_owned);
    let (field, detail) = (word("field"), word("detail").expect("a detail"));
    let reason = match &field {
        Some(field) => detail.strip_prefix(&format!("{field}: ")).unwrap_or(&detail).to_owned(),
        None => detail,
    };
    let chinese = word("detail_zh");
    Some(Said { refused: true, code: word("code"), field, reason: Some(reason), chinese, text })
}

fn with_grants(mut with: Map<String, Value>) -> Map<String, Value> {
    with.entry("grants").or_insert(json!({}));
    with
}

fn query(with: &Map<String, Value>) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let pairs: Vec<_> =
        with.iter().map(|(name, value)| format!("{name}={}", encoded(&text(value)))).collect();
    format!("?{}", pairs.join("&"))
}

/// Percent-encoded, so that it is one part of a path or a value of a query.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let bytes = text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") });
    bytes.collect()
}
