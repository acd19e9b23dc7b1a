//! `cron`: expressions that no job has yet.

use forest_proto::admin::v1::NextFiresRequest;

use super::{Context, job};
use crate::args::{CronCommand, instant_ms};
use crate::clock;
use crate::error::Failure;

pub(super) async fn run(context: &mut Context<'_>, command: CronCommand) -> Result<(), Failure> {
    let CronCommand::Next(args) = command;
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
    use crate::fake::Fake;

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
