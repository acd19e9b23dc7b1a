//! What is asked for from the command line.

use std::process::Stdio;
use std::time::Duration;

use forest_tests::services::build_dir;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;

use super::ask::{Ask, Said};

/// What has a name, be it empty.
const NAMED: [&str; 5] = ["group add", "cron next", "calendar set", "user add", "token add"];

/// `None`: the command line cannot say it.
pub(super) async fn ask(server: &str, ask: &Ask) -> Option<Said> {
    let mut words: Vec<String> = ask.verb.split(' ').map(str::to_owned).collect();
    let mut stdin = None;
    match ask.verb {
        "job add" | "job edit" => {
            let mut document = ask.with.clone();
            // It takes out what only the server sets.
            if document.contains_key("effective_after") {
                return None;
            }
            let version = document.remove("VERSION");
            stdin = Some(Value::Object(document).to_string());
            words.extend(["-f".to_owned(), "-".to_owned()]);
            words.extend(version.map(|version| format!("--version={version}")));
        }
        "calendar set" => {
            stdin = Some(ask.text("days")?);
            words.extend(["-f".to_owned(), "-".to_owned()]);
            words.extend(flags(ask, &["days"])?);
        }
        "user add" | "user edit" | "token add" => {
            if let Some(password) = ask.with.get("password") {
                stdin = Some(password.as_str()?.to_owned());
                words.push("--password-stdin".into());
            }
            words.extend(grants(ask)?);
            if let Some(lives) = ask.with.get("lives_ms") {
                words.push(format!("--expires-in={}ms", lives.as_i64()?));
            }
        }
        "job delete" if ask.with.contains_key("VERSION") => return None,
        "job delete" | "group delete" | "calendar delete" | "user delete" => words.push("--yes".into()),
        // Its job may be a name, and a page is no more than the server gives.
        "job next" | "plan" | "job explain" | "job run" | "job disable" | "job enable" | "cron next"
        | "backfill start" | "backfill cancel" | "group add" | "group edit" | "run list" | "audit list" => {
            words.extend(flags(ask, &[])?);
        }
        _ if ask.with.is_empty() => {}
        _ => return None,
    }
    if !ask.on.is_empty() || NAMED.contains(&ask.verb) {
        words.push("--".into());
        words.push(ask.on.clone());
    }
    // No operating system passes it on.
    if words.iter().any(|word| word.contains('\0')) {
        return None;
    }
    let mut command = tokio::process::Command::new(build_dir().join("forest-cli"));
    command.args(&words).env("FOREST_SERVER", server).env("TZ", "UTC").env("LANG", "C.UTF-8");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().expect("forest-cli is built");
    let mut pipe = child.stdin.take().expect("a pipe");
    let said = tokio::time::timeout(Duration::from_secs(60), async {
        // Who is refused before stdin is read closes it.
        let _ = pipe.write_all(stdin.unwrap_or_default().as_bytes()).await;
        drop(pipe);
        child.wait_with_output().await.expect("it ends")
    });
    let output = said.await.expect("in time");
    let text = String::from_utf8(output.stderr).expect("text");
    assert!(!text.contains("panicked"), "{ask:?}: {text}");
    let code = output.status.code().expect("not killed");
    let code = match code {
        0 => return Some(Said { text, ..Said::default() }),
        // It found out by itself.
        2 => "USAGE",
        1 => "REFUSED",
        3 => "NOT_FOUND",
        4 => "VERSION_CONFLICT",
        other => panic!("{ask:?}: exit code {other}: {text}"),
    };
    Some(Said { refused: true, code: Some(code.into()), text, ..Said::default() })
}

/// Each field as the flag of its name.
fn flags(ask: &Ask, but: &[&str]) -> Option<Vec<String>> {
    let mut words = Vec::new();
    for (field, value) in ask.with.iter().filter(|(field, _)| !but.contains(&field.as_str())) {
        let flag = match field.as_str() {
            "KEY" => "key".to_owned(),
            "max_fires" => "max".into(),
            "page_size" => "limit".into(),
            "page_token" => return None,
            "time_zone" if ask.verb == "cron next" => "zone".into(),
            "dst_gap" if ask.verb == "cron next" => "gap".into(),
            "dst_fold" if ask.verb == "cron next" => "fold".into(),
            "calendars" if ask.verb == "cron next" => "calendar".into(),
            other => other.replace('_', "-"),
        };
        // The list is cut into pages by the program itself.
        if flag == "limit" && ask.verb != "plan" {
            return None;
        }
        match value {
            Value::String(text) => words.push(format!("--{flag}={text}")),
            Value::Number(number) if field != "remark" => words.push(format!("--{flag}={number}")),
            _ => return None,
        }
    }
    Some(words)
}

fn grants(ask: &Ask) -> Option<Vec<String>> {
    let Some(grants) = ask.with.get("grants") else { return Some(Vec::new()) };
    let mut words = Vec::new();
    if let Some(role) = grants.get("everywhere") {
        words.push(format!("--role={}", role.as_str()?));
    }
    for (group, role) in grants.get("groups").and_then(Value::as_object).into_iter().flatten() {
        words.push(format!("--grant={group}={}", role.as_str()?));
    }
    Some(words)
}

/// Whether a message names a field, or the flag or the argument that gives it.
pub(super) fn names(text: &str, field: &str) -> bool {
    let flag = match field {
        "count" => "--count",
        "time_zone" => "--zone",
        "dst_gap" => "--gap",
        "dst_fold" => "--fold",
        "lives_ms" => "--expires-in",
        "max_fires" => "--max",
        "page_size" => "--limit",
        "idempotency_key" => "--key",
        "grants" | "everywhere" => "--role",
        "groups" | "trade" => "--grant",
        _ => "",
    };
    text.contains(field)
        || text.contains(&field.replace('_', "-"))
        || (!flag.is_empty() && text.contains(flag))
}
