//! `cron`: expressions that no job has yet.

use std::iter::successors;

use forest_proto::admin::v1::NextFiresRequest;
use forest_proto::record::{DstFold, DstGap};
use forest_schedule::{Schedule, ScheduleError, find_zone, on_clock, sentence};
use jiff::tz::TimeZone;
use serde_json::json;

use super::{Context, job};
use crate::args::{ExplainCron, NextOfCron, instant_ms};
use crate::clock;
use crate::console::Console;
use crate::error::Failure;
use crate::output::{View, field, instant_json};

/// What an expression means, as every node would read it.
pub(super) fn explain(args: ExplainCron, view: &View, console: &mut Console) -> Result<(), Failure> {
    let wrong = |error: ScheduleError| Failure::usage(error.to_string());
    let (expression, parts) = forest_schedule::explain(&args.cron).map_err(wrong)?;
    let (gap, fold) = (DstGap::default(), DstFold::default());
    let schedule = Schedule::compile(&args.cron, &args.zone, gap, fold).map_err(wrong)?;
    let zone = find_zone(&args.zone).unwrap_or(TimeZone::UTC);
    let now = clock::now();
    let after = args.after.map(|text| instant_ms(&text, now, &view.zone)).transpose();
    let after = after.map_err(|error| Failure::usage(format!("--after {error}")))?;
    let after = after.unwrap_or(now.as_millisecond());
    // An interval counts from when its job is saved: here from the instant after which fires are wanted.
    let fires = successors(Some(after), |at| schedule.next_after(*at, after)).skip(1);
    let fires = fires.take(args.count as usize).scan(after, |before, at| {
        let note = sentence(&schedule.notes(*before, at, after), &[]);
        *before = at;
        Some((at, note))
    });
    let fires: Vec<(i64, String)> = fires.collect();
    let local = |at: i64| on_clock(at, &zone);
    let json = json!({
        "cron": expression,
        "time_zone": args.zone,
        "fields": parts.iter().map(|part| json!({ "field": part.field, "values": part.values })).collect::<Vec<_>>(),
        "fires": fires.iter()
            .map(|(at, note)| json!({ "at": instant_json(*at), "local": local(*at), "note": note }))
            .collect::<Vec<_>>(),
    });
    let mut fields = vec![field("expression", expression.clone())];
    fields.extend(parts.iter().map(|part| field(part.field, part.values.clone())));
    fields.push(field("time zone", args.zone));
    let line = |(at, note): &(i64, String)| match note.as_str() {
        "" => local(*at),
        note => format!("{} ({note})", local(*at)),
    };
    let fires: Vec<_> = fires.iter().map(line).collect();
    fields.push(field("next fires", if fires.is_empty() { "-".to_owned() } else { fires.join("\n") }));
    view.show(console, &expression, &json, fields)
}

pub(super) async fn next(context: &mut Context<'_>, args: NextOfCron) -> Result<(), Failure> {
    let after = args.after.map(|text| instant_ms(&text, clock::now(), &context.view.zone));
    let after = after.transpose().map_err(|error| Failure::usage(format!("--after {error}")))?;
    let request = NextFiresRequest {
        cron: args.cron,
        time_zone: args.zone,
        dst_gap: args.gap,
        dst_fold: args.fold,
        calendars: args.calendars,
        count: args.count,
        after: after.unwrap_or(0),
        ..NextFiresRequest::default()
    };
    job::show_next(context, request).await
}

#[cfg(test)]
mod tests {
    use crate::error::Exit;
    use crate::fake::{Fake, cli_around};
    use crate::settings::Surroundings;

    #[tokio::test]
    async fn an_expression_is_explained_without_a_server() {
        let run = async |line: &[&str]| cli_around(line, &Surroundings::default()).await;
        let line = ["cron", "explain", "30 2 * * SUN", "--zone", "Europe/Paris", "-n", "2"];
        let said = run(&[&line[..], &["--after", "2027-03-20T00:00:00Z"]].concat()).await;
        let expected = "\
expression  0 30 2 * * SUN
second      0
minute      30
hour        2
day         any
month       any
weekday     SUN
year        any
time zone   Europe/Paris
next fires  2027-03-21 02:30:00 +01:00
            2027-03-28 03:00:00 +02:00 (02:30 does not exist on 2027-03-28:
            fires at 03:00)
";
        assert_eq!((said.exit, said.stdout.as_str()), (Exit::Ok, expected), "{}", said.stderr);
        let every = run(&[
            "cron",
            "explain",
            "@every 90s",
            "-n",
            "1",
            "--after",
            "2027-03-20T00:00:00Z",
            "-o",
            "json",
        ]);
        let every = every.await.json();
        assert_eq!(
            (&every["fields"], &every["fires"][0]["at"]),
            (&serde_json::json!([]), &"2027-03-20T00:01:30.000Z".into())
        );
        for wrong in [["0 0 25 * * *", "UTC"], ["@daily", "Mars/Olympus"]] {
            let said = run(&["cron", "explain", wrong[0], "--zone", wrong[1]]).await;
            assert_eq!(said.exit, Exit::Usage, "{}", said.stderr);
        }
    }

    #[tokio::test]
    async fn an_expression_is_asked_for_as_it_was_given() {
        let fake = Fake::start().await;
        let line =
            "cron next @daily --zone Europe/Paris --gap skip --fold both --calendar a --calendar b -n 7";
        let mut line: Vec<_> = line.split(' ').collect();
        line.extend(["--after", "2026-11-18T11:06:40Z"]);
        let shown = fake.cli(&line).await;
        assert_eq!((shown.exit, shown.stdout.lines().count()), (Exit::Ok, 8), "{}", shown.stderr);
        let asked = fake.state().next_asked.clone().expect("was asked");
        assert_eq!(
            (asked.id.as_str(), asked.cron.as_str(), asked.time_zone.as_str()),
            ("", "@daily", "Europe/Paris")
        );
        assert_eq!((asked.dst_gap.as_str(), asked.dst_fold.as_str(), asked.count), ("skip", "both", 7));
        assert_eq!((asked.calendars, asked.after), (vec!["a".to_owned(), "b".to_owned()], 1_795_000_000_000));
        let wrong = fake.cli(&["cron", "next", "@daily", "--after", "soon"]).await;
        assert_eq!(wrong.exit, Exit::Usage);
    }
}
