//! `calendar`: days that jobs leave out or put in.

use forest_proto::admin::v1::{
    Calendar, DeleteCalendarRequest, GetCalendarRequest, ListCalendarsRequest, SetCalendarRequest,
};
use serde_json::{Value, json};

use super::Context;
use crate::args::{CalendarCommand, Format, SetCalendar};
use crate::connect::Client;
use crate::error::Failure;
use crate::output::{List, View, field, instant_json, printable_line};
use crate::paging::{Paging, collect};

/// The server takes no more.
const MAX_FILE: usize = 1 << 20;

pub(super) async fn run(context: &mut Context<'_>, command: CalendarCommand) -> Result<(), Failure> {
    match command {
        CalendarCommand::Set(args) => set(context, args).await,
        CalendarCommand::List { paging } => list(context, paging).await,
        CalendarCommand::Get { name } => {
            let calendar = get(context, name).await?;
            match context.view.format {
                Format::Json | Format::Jsonl | Format::Yaml | Format::Name => {
                    context.view.show(context.console, &calendar.name, &to_json(&calendar), Vec::new())
                }
                Format::Table | Format::Wide => context.console.print(&file(&calendar, &context.view)),
            }
        }
        CalendarCommand::Delete { name, yes } => {
            context.console.can_confirm(yes)?;
            if !yes {
                get(context, name.clone()).await?;
            }
            context.console.confirm(yes, &format!("Delete calendar {name}?"))?;
            let request = DeleteCalendarRequest { name: name.clone() };
            let call = async |mut client: Client| client.delete_calendar(request.clone()).await;
            context.api.write("delete the calendar", call).await?;
            context.deleted("calendar", &name)
        }
    }
}

async fn set(context: &mut Context<'_>, args: SetCalendar) -> Result<(), Failure> {
    let days = context.console.read_text(&args.file, MAX_FILE)?;
    let version = args.version.unwrap_or(0);
    let request = SetCalendarRequest { name: args.name, remark: args.remark, days, version };
    let call = async |mut client: Client| client.set_calendar(request.clone()).await;
    let calendar = context.api.write("set the calendar", call).await?;
    let fields = vec![
        field("name", calendar.name.as_str()),
        field("remark", calendar.remark.as_str()),
        field("version", calendar.version.to_string()),
        field("excluded", calendar.excluded.join("\n")),
        field("included", calendar.included.join("\n")),
        field("jobs", calendar.jobs.to_string()),
    ];
    context.view.show(context.console, &calendar.name, &to_json(&calendar), fields)
}

async fn get(context: &mut Context<'_>, name: String) -> Result<Calendar, Failure> {
    let request = GetCalendarRequest { name };
    let call = async |mut client: Client| client.get_calendar(request.clone()).await;
    context.api.read("get the calendar", call).await
}

async fn list(context: &mut Context<'_>, paging: Paging) -> Result<(), Failure> {
    let listed = collect(paging, async |page_size, page_token| {
        let request = ListCalendarsRequest { page_size, page_token };
        let call = async |mut client: Client| client.list_calendars(request.clone()).await;
        let page = context.api.read("list the calendars", call).await?;
        Ok((page.calendars, page.next_page_token))
    });
    let listed = listed.await?;
    let row = |calendar: &Calendar| {
        vec![
            calendar.name.clone(),
            calendar.excluded.len().to_string(),
            calendar.included.len().to_string(),
            calendar.jobs.to_string(),
            calendar.version.to_string(),
            calendar.remark.clone(),
            context.view.second(calendar.updated_at),
        ]
    };
    let header = &["NAME", "EXCLUDED", "INCLUDED", "JOBS", "VERSION", "REMARK", "CHANGED"];
    let list = List {
        id: &|calendar: &Calendar| calendar.name.clone(),
        header,
        narrow: 6,
        row: &row,
        json: &to_json,
    };
    context.view.list(context.console, "calendars", &listed, &list)
}

/// What `calendar set` reads.
fn file(calendar: &Calendar, view: &View) -> String {
    let Calendar { name, version, jobs, .. } = calendar;
    let changed = view.second(calendar.updated_at);
    let mut text = format!("# calendar {name}, version {version} of {changed}, used by {jobs} jobs\n");
    if !calendar.remark.is_empty() {
        text += &format!("# {}\n", printable_line(&calendar.remark));
    }
    calendar.excluded.iter().for_each(|days| text += &format!("{days}\n"));
    calendar.included.iter().for_each(|days| text += &format!("+{days}\n"));
    text
}

fn to_json(calendar: &Calendar) -> Value {
    json!({
        "name": calendar.name,
        "remark": calendar.remark,
        "excluded": calendar.excluded,
        "included": calendar.included,
        "version": calendar.version,
        "updated_at": instant_json(calendar.updated_at),
        "jobs": calendar.jobs,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::error::Exit;
    use crate::fake::Fake;

    #[tokio::test]
    async fn a_calendar_is_set_listed_shown_and_deleted() {
        let fake = Fake::start().await;
        let days = "2027-10-01..2027-10-07\n+2027-10-09\n";
        let set =
            fake.cli_with_stdin(&["calendar", "set", "cn", "--file", "-", "--remark", "假日"], days).await;
        assert_eq!(set.exit, Exit::Ok, "{}", set.stderr);
        assert!(set.stdout.contains("excluded  2027-10-01..2027-10-07\n"), "{}", set.stdout);
        let listed = fake.cli(&["calendar", "list"]).await;
        let table = "NAME  EXCLUDED  INCLUDED  JOBS  VERSION  REMARK\ncn    1         1         0     1        假日\n";
        assert_eq!(listed.stdout, table);
        let shown = fake.cli(&["calendar", "get", "cn", "--time", "utc"]).await.stdout;
        assert!(shown.ends_with(&format!("# 假日\n{days}")), "what was set can be set again: {shown}");
        let json = fake.cli(&["calendar", "get", "cn", "-o", "json"]).await.json();
        assert_eq!((&json["excluded"], &json["version"]), (&json!(["2027-10-01..2027-10-07"]), &json!(1)));

        let refused = fake.cli(&["calendar", "delete", "cn"]).await;
        assert_eq!(refused.exit, Exit::Usage);
        let deleted = fake.cli(&["calendar", "delete", "cn", "--yes"]).await;
        assert_eq!(deleted.stderr, "forest-cli: deleted calendar cn\n");
        assert_eq!(fake.cli(&["calendar", "get", "cn"]).await.exit, Exit::NotFound);
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_read_changes_nothing() {
        let fake = Fake::start().await;
        let set = fake.cli(&["calendar", "set", "cn", "--file", "/nowhere/days.txt"]).await;
        assert_eq!((set.exit, fake.state().calls), (Exit::Usage, 0));
        assert!(set.stderr.contains("/nowhere/days.txt"), "{}", set.stderr);
    }
}
