//! `audit`: who changed what.

use forest_proto::admin::v1::{AuditRecord, ListAuditRequest};
use serde_json::{Map, Value, json};

use super::Context;
use crate::args::AuditCommand;
use crate::connect::Client;
use crate::error::Failure;
use crate::output::{List, instant_json, or_dash};
use crate::paging::collect;

pub(super) async fn run(context: &mut Context<'_>, command: AuditCommand) -> Result<(), Failure> {
    let AuditCommand::List(args) = command;
    let filter = ListAuditRequest {
        who: args.who,
        action: args.action,
        target: args.target,
        group: args.group,
        ..ListAuditRequest::default()
    };
    let listed = collect(args.paging, async |page_size, page_token| {
        let request = ListAuditRequest { page_size, page_token, ..filter.clone() };
        let call = async |mut client: Client| client.list_audit(request.clone()).await;
        let page = context.api.read("list the audit", call).await?;
        Ok((page.records, page.next_page_token))
    });
    let listed = listed.await?;
    let view = &context.view;
    let row = |record: &AuditRecord| {
        let text = [&record.who, &record.action, &record.target, &record.group].map(|text| or_dash(text));
        let more = [summary(&record.changes), or_dash(&record.from), record.face.clone(), record.id.clone()];
        std::iter::once(view.second(record.at)).chain(text).chain(more).collect()
    };
    let list = List {
        id: &|record: &AuditRecord| record.id.clone(),
        header: &["AT", "WHO", "ACTION", "TARGET", "GROUP", "CHANGES", "FROM", "BY", "RECORD"],
        narrow: 6,
        row: &row,
        json: &to_json,
    };
    view.list(context.console, "records", &listed, &list)
}

/// `cron: 0 0 2 * * * -> 0 0 3 * * *; remark: -> new`
fn summary(changes: &str) -> String {
    let Ok(fields) = serde_json::from_str::<Map<String, Value>>(changes) else { return changes.to_owned() };
    let text = |value: &Value| match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let change = |(name, change): (&String, &Value)| match (&change["from"], &change["to"]) {
        (Value::Null, Value::Null) => format!("{name}: {}", text(change)),
        (from, to) => format!("{name}: {} -> {}", text(from), text(to)).replace(":  ->", ": ->"),
    };
    fields.iter().map(change).collect::<Vec<_>>().join("; ")
}

fn to_json(record: &AuditRecord) -> Value {
    let changes: Value =
        serde_json::from_str(&record.changes).unwrap_or_else(|_| record.changes.clone().into());
    json!({
        "id": record.id,
        "at": instant_json(record.at),
        "who": record.who,
        "from": record.from,
        "face": record.face,
        "action": record.action,
        "target": record.target,
        "group": record.group,
        "changes": changes,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::summary;
    use crate::fake::Fake;

    #[tokio::test]
    async fn the_audit_says_who_changed_what() {
        let fake = Fake::start().await;
        let expected = "\
AT                      WHO       ACTION    TARGET  GROUP  CHANGES
2026-11-18 11:06:40+00  user:ann  job.edit  10      trade  cron: 0 0 2 * * * ->
                                                           0 0 3 * * *
";
        let listed = fake.cli(&["audit", "list", "--limit", "1"]).await;
        assert_eq!(listed.stdout, expected);
        assert_eq!(listed.stderr, "forest-cli: there are more records: use --limit N or --all\n");
        let lines = fake.cli(&["audit", "list", "-o", "jsonl", "--who", "user:ann"]).await.stdout;
        let lines: Vec<serde_json::Value> =
            lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0]["changes"]["cron"], json!({ "from": "0 0 2 * * *", "to": "0 0 3 * * *" }));
        let none = fake.cli(&["audit", "list", "--who", "user:bob"]).await;
        assert_eq!((none.stdout.as_str(), none.stderr.as_str()), ("", "forest-cli: no records\n"));
    }

    #[tokio::test]
    async fn every_filter_is_passed_on() {
        let fake = Fake::start().await;
        let line = ["audit", "list", "--action", "job.edit", "--target", "10", "--group", "trade"];
        fake.cli(&line).await;
        let asked = fake.state().audit_asked.clone().expect("was asked");
        assert_eq!(
            (asked.action.as_str(), asked.target.as_str(), asked.group.as_str()),
            ("job.edit", "10", "trade")
        );
    }

    #[test]
    fn changes_in_a_line() {
        assert_eq!(
            summary(r#"{"a":{"from":null,"to":1},"b":{"from":"x","to":null},"name":"ci"}"#),
            "a: -> 1; b: x -> ; name: ci"
        );
        assert_eq!(summary("not JSON"), "not JSON");
    }
}
