//! `group`: sets of clients.

use forest_proto::admin::v1::{
    AddGroupRequest, DeleteGroupRequest, EditGroupRequest, GetGroupRequest, Group, ListGroupsRequest,
};
use serde_json::{Value, json};

use super::Context;
use crate::args::GroupCommand;
use crate::connect::Client;
use crate::error::Failure;
use crate::output::{List, field};
use crate::paging::{Paging, collect};

pub(super) async fn run(context: &mut Context<'_>, command: GroupCommand) -> Result<(), Failure> {
    match command {
        GroupCommand::Add { name, remark, max_in_flight, dispatches_per_second } => {
            let request = AddGroupRequest { name, remark, max_in_flight, dispatches_per_second };
            let call = async |mut client: Client| client.add_group(request.clone()).await;
            let group = context.api.write("add the group", call).await?;
            show(context, &group)
        }
        GroupCommand::Edit { name, remark, max_in_flight, dispatches_per_second } => {
            let request = EditGroupRequest { name, remark, max_in_flight, dispatches_per_second };
            let call = async |mut client: Client| client.edit_group(request.clone()).await;
            let group = context.api.write("edit the group", call).await?;
            show(context, &group)
        }
        GroupCommand::List { paging } => list(context, paging).await,
        GroupCommand::Get { name } => {
            let group = get(context, name).await?;
            show(context, &group)
        }
        GroupCommand::Delete { name, yes } => {
            context.console.can_confirm(yes)?;
            if !yes {
                get(context, name.clone()).await?;
            }
            context.console.confirm(yes, &format!("Delete group {name}?"))?;
            let request = DeleteGroupRequest { name: name.clone() };
            let call = async |mut client: Client| client.delete_group(request.clone()).await;
            context.api.write("delete the group", call).await?;
            context.deleted("group", &name)
        }
    }
}

async fn get(context: &mut Context<'_>, name: String) -> Result<Group, Failure> {
    let request = GetGroupRequest { name };
    let call = async |mut client: Client| client.get_group(request.clone()).await;
    context.api.read("get the group", call).await
}

async fn list(context: &mut Context<'_>, paging: Paging) -> Result<(), Failure> {
    let listed = collect(paging, async |page_size, page_token| {
        let request = ListGroupsRequest { page_size, page_token };
        let call = async |mut client: Client| client.list_groups(request.clone()).await;
        let page = context.api.read("list the groups", call).await?;
        Ok((page.groups, page.next_page_token))
    });
    let listed = listed.await?;
    let row = |group: &Group| {
        let limit = |limit: Option<u32>| limit.map_or_else(|| "-".to_owned(), |limit| limit.to_string());
        vec![
            group.name.clone(),
            group.clients.to_string(),
            group.jobs.to_string(),
            group.remark.clone(),
            limit(group.max_in_flight),
            limit(group.dispatches_per_second),
        ]
    };
    let header = &["NAME", "CLIENTS", "JOBS", "REMARK", "MAX IN FLIGHT", "PER SECOND"];
    let list = List { id: &|group: &Group| group.name.clone(), header, narrow: 4, row: &row, json: &to_json };
    context.view.list(context.console, "groups", &listed, &list)
}

fn show(context: &mut Context<'_>, group: &Group) -> Result<(), Failure> {
    let mut fields = vec![
        field("name", group.name.as_str()),
        field("remark", group.remark.as_str()),
        field("clients", group.clients.to_string()),
        field("jobs", group.jobs.to_string()),
    ];
    let limits =
        [("max in flight", group.max_in_flight), ("dispatches per second", group.dispatches_per_second)];
    fields.extend(limits.into_iter().filter_map(|(name, limit)| Some(field(name, limit?.to_string()))));
    context.view.show(context.console, &group.name, &to_json(group), fields)
}

fn to_json(group: &Group) -> Value {
    let mut json = json!({
        "name": group.name,
        "remark": group.remark,
        "clients": group.clients,
        "jobs": group.jobs,
    });
    let limits =
        [("max_in_flight", group.max_in_flight), ("dispatches_per_second", group.dispatches_per_second)];
    for (name, limit) in limits {
        if let Some(limit) = limit {
            json[name] = limit.into();
        }
    }
    json
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::error::Exit;
    use crate::fake::Fake;

    #[tokio::test]
    async fn a_group_is_added_listed_shown_and_deleted() {
        let fake = Fake::start().await;
        let added = fake.cli(&["group", "add", "trade", "--remark", "交易", "-o", "json"]).await;
        let group = json!({ "name": "trade", "remark": "交易", "clients": 0, "jobs": 0 });
        assert_eq!((added.exit, added.json()), (Exit::Ok, group.clone()));

        let listed = fake.cli(&["group", "list"]).await;
        assert_eq!(listed.stdout, "NAME   CLIENTS  JOBS  REMARK\ntrade  0        0     交易\n");
        let listed = fake.cli(&["group", "list", "-o", "json"]).await;
        assert_eq!(listed.json(), json!({ "groups": [group], "more": false }));

        let shown = fake.cli(&["group", "get", "trade"]).await;
        assert_eq!(shown.stdout, "name     trade\nremark   交易\nclients  0\njobs     0\n");

        let deleted = fake.cli(&["group", "delete", "trade", "--yes"]).await;
        assert_eq!((deleted.exit, deleted.stdout.as_str()), (Exit::Ok, ""));
        assert_eq!(deleted.stderr, "forest-cli: deleted group trade\n");
        assert_eq!(fake.cli(&["group", "get", "trade"]).await.exit, Exit::NotFound);
    }

    #[tokio::test]
    async fn one_list_in_every_form() {
        let fake = Fake::start().await;
        fake.cli(&["group", "add", "trade", "--remark", "交易: all of it", "--max-in-flight", "5"]).await;
        fake.cli(&["group", "add", "mail"]).await;
        let list = async |form| fake.cli(&["group", "list", "--limit", "1", "-o", form]).await;
        let wide = "\
NAME   CLIENTS  JOBS  REMARK           MAX IN FLIGHT  PER SECOND
trade  0        0     交易: all of it  5              -
";
        assert_eq!(list("wide").await.stdout, wide);
        let yaml = "\
groups:
- clients: 0
  jobs: 0
  max_in_flight: 5
  name: trade
  remark: '交易: all of it'
more: true
";
        assert_eq!(list("yaml").await.stdout, yaml);
        let lines = list("jsonl").await;
        let line = r#"{"clients":0,"jobs":0,"max_in_flight":5,"name":"trade","remark":"交易: all of it"}"#;
        assert_eq!(lines.stdout, format!("{line}\n"));
        assert_eq!(lines.stderr, "forest-cli: there are more groups: use --limit N or --all\n");
        assert_eq!(list("name").await.stdout, "trade\n");
    }

    #[tokio::test]
    async fn one_thing_in_every_form() {
        let fake = Fake::start().await;
        fake.cli(&["group", "add", "mail"]).await;
        let get = async |form| fake.cli(&["group", "get", "mail", "-o", form]).await.stdout;
        assert_eq!(get("yaml").await, "clients: 0\njobs: 0\nname: mail\nremark: ''\n");
        assert_eq!(get("jsonl").await, "{\"clients\":0,\"jobs\":0,\"name\":\"mail\",\"remark\":\"\"}\n");
        assert_eq!(get("name").await, "mail\n");
        assert_eq!(get("wide").await, get("table").await);
        let nameless = fake.cli(&["status", "-o", "name"]).await;
        assert_eq!((nameless.exit, nameless.stdout.as_str()), (Exit::Usage, ""));
        let deleted = fake.cli(&["group", "delete", "mail", "--yes", "-o", "name"]).await;
        assert_eq!(deleted.stdout, "mail\n");
    }

    #[tokio::test]
    async fn limits_are_set_changed_and_taken_away() {
        let fake = Fake::start().await;
        let added = fake.cli(&["group", "add", "trade", "--max-in-flight", "5"]).await;
        assert!(added.stdout.contains("max in flight") && !added.stdout.contains("dispatches"));
        let edit =
            ["group", "edit", "trade", "--max-in-flight", "0", "--dispatches-per-second", "9", "-o", "json"];
        let expected =
            json!({ "name": "trade", "remark": "", "clients": 0, "jobs": 0, "dispatches_per_second": 9 });
        assert_eq!(fake.cli(&edit).await.json(), expected);
        assert_eq!(fake.cli(&["group", "edit", "other"]).await.exit, Exit::NotFound);
    }

    #[tokio::test]
    async fn an_empty_list_prints_no_data() {
        let fake = Fake::start().await;
        let listed = fake.cli(&["group", "list"]).await;
        assert_eq!((listed.exit, listed.stdout.as_str()), (Exit::Ok, ""));
        assert_eq!(listed.stderr, "forest-cli: no groups\n");
        let json = fake.cli(&["group", "list", "-o", "json"]).await.json();
        assert_eq!(json, json!({ "groups": [], "more": false }));
    }

    #[tokio::test]
    async fn lists_turn_pages_by_themselves() {
        let fake = Fake::start().await;
        for n in 0..7 {
            fake.cli(&["group", "add", &format!("g{n}")]).await;
        }
        fake.state().max_page = 2;
        let all = fake.cli(&["group", "list", "--all"]).await;
        assert_eq!((all.stdout.lines().count(), all.stderr.as_str()), (8, ""));
        let some = fake.cli(&["group", "list", "--limit", "5"]).await;
        assert_eq!(some.stdout.lines().count(), 6);
        assert_eq!(some.stderr, "forest-cli: there are more groups: use --limit N or --all\n");
    }

    #[tokio::test]
    async fn deleting_without_a_terminal_needs_the_flag() {
        let fake = Fake::start().await;
        fake.cli(&["group", "add", "trade"]).await;
        let refused = fake.cli(&["group", "delete", "trade"]).await;
        assert_eq!(refused.exit, Exit::Usage);
        assert_eq!(refused.stderr, "forest-cli: deleting needs --yes where nobody can be asked\n");
        assert_eq!(fake.cli(&["group", "get", "trade"]).await.exit, Exit::Ok, "it is still there");
    }

    #[tokio::test]
    async fn a_refusal_is_one_line_with_advice() {
        let fake = Fake::start().await;
        fake.cli(&["group", "add", "trade"]).await;
        let taken = fake.cli(&["group", "add", "trade"]).await;
        assert_eq!((taken.exit, taken.stdout.as_str()), (Exit::Refused, ""));
        assert_eq!(taken.stderr, "forest-cli: cannot add the group: group trade exists [GROUP_EXISTS]\n");
        fake.state().groups[0].jobs = 2;
        let used = fake.cli(&["group", "delete", "trade", "-y"]).await;
        let expected = "forest-cli: cannot delete the group: group trade still has 2 jobs: remove them first [GROUP_IN_USE]\n";
        assert_eq!((used.exit, used.stderr.as_str()), (Exit::Refused, expected));
    }
}
