//! What is asked for by the original's contract, which knows little of it.

use reqwest::Client;
use serde_json::{Value, json};

use super::ask::{Ask, Said};

/// What its console's form has, in its own words.
const FIELDS: [(&str, &str); 8] = [
    ("group", "分组"),
    ("name", "名称"),
    ("group", "集群"),
    ("cron", "Cron"),
    ("target", "Target"),
    ("params", "params"),
    ("mobile", "mobile"),
    ("remark", "描述"),
];

/// The contract's own words for a field.
pub(super) fn words(field: &str) -> impl Iterator<Item = &'static str> {
    FIELDS.iter().filter(move |(known, _)| *known == field).map(|(_, word)| *word)
}

/// `None`: the contract cannot say it. `job`: the form of the stored job, which an edit sends back whole.
pub(super) async fn ask(http: &Client, server: &str, ask: &Ask, job: &Value) -> Option<Said> {
    let (path, body) = match ask.verb {
        "group add" => {
            let known = ask.with.iter().all(|(name, value)| name == "remark" && value.is_string());
            let remark = ask.with.get("remark").cloned().unwrap_or(json!("r"));
            known.then(|| ("/group/add", json!({"name": ask.on, "remark": remark})))?
        }
        "job add" => ("/job/add", form(ask, json!({"status": 1}))?),
        "job edit" => {
            let mut stored = job.clone();
            stored["id"] = json!(ask.on);
            ("/job/edit", form(ask, stored)?)
        }
        "job delete" if ask.with.is_empty() => ("/job/delete", json!({"id": ask.on})),
        "job run" if ask.with.is_empty() => ("/job/execute", json!({"id": ask.on})),
        "run cancel" => ("/snapshot/delete", json!({"id": ask.on, "group": job["group"], "ip": "client-1"})),
        _ => return None,
    };
    let response =
        http.post(format!("{server}{path}")).body(body.to_string()).send().await.expect("an answer");
    assert!(response.status().is_success(), "{ask:?}: {}", response.status());
    let reply: Value = response.json().await.expect("JSON");
    let text = reply["message"].as_str().expect("a message").to_owned();
    Some(Said { refused: reply["code"] != 0, text, ..Said::default() })
}

/// Its form ignores what it does not know, and takes numbers for text: such things cannot be said by it.
fn form(ask: &Ask, mut form: Value) -> Option<Value> {
    for (name, value) in &ask.with {
        let known = FIELDS.iter().any(|(field, _)| field == name);
        // Less than a second is a second for it.
        let rounded = value == "@every 0s" || value == "@every 1ms";
        if !known || !value.is_string() || rounded {
            return None;
        }
        form[name] = value.clone();
    }
    Some(form)
}
