//! `stats`: what became of runs, in numbers.

use forest_proto::admin::v1::{GetStatisticsRequest, Lengths, Statistics};
use serde_json::{Value, json};

use super::{Context, job};
use crate::args::{By, Stats, instant_ms};
use crate::clock;
use crate::connect::Client;
use crate::error::Failure;
use crate::output::{List, View, instant_json, or_dash, span};
use crate::paging::collect;

pub(super) async fn show(context: &mut Context<'_>, args: Stats) -> Result<(), Failure> {
    let now = clock::now();
    let instant = |flag: &str, text: &str| {
        instant_ms(text, now, &context.view.zone).map_err(|why| Failure::usage(format!("{flag}: {why}")))
    };
    let since = instant("--since", &args.since)?;
    let until = args.until.as_deref().map_or(Ok(0), |text| instant("--until", text))?;
    let job_id = match &args.job {
        Some(name) => job::find(&mut context.api, name).await?.id,
        None => String::new(),
    };
    let by = args.by.as_str().to_owned();
    let filter = GetStatisticsRequest { group: args.group, job_id, since, until, by, ..Default::default() };
    let listed = collect(args.paging, async |page_size, page_token| {
        let request = GetStatisticsRequest { page_size, page_token, ..filter.clone() };
        let call = async |mut client: Client| client.get_statistics(request.clone()).await;
        let page = context.api.read("get the statistics", call).await?;
        Ok((page.items, page.next_page_token))
    });
    let listed = listed.await?;
    let (view, by) = (&context.view, args.by);
    let what = match by {
        By::Hour => "HOUR",
        By::Day => "DAY",
        By::Job => "JOB",
        By::Group => "GROUP",
    };
    let header = [what, "RUNS", "OK", "FAILED", "OTHER", "TIME", "LONGEST", "DELAY", "LATEST"];
    let more = ["TIMED OUT", "CANCELLED", "LOST", "NO CLIENT", "OVERLAP", "MISFIRE", "MISSED", "NAME"];
    let list = List {
        id: &|counted: &Statistics| key(counted, by, view),
        header: &[header.as_slice(), &more].concat(),
        narrow: 9,
        row: &|counted| row(counted, by, view),
        json: &to_json,
    };
    view.list(context.console, "statistics", &listed, &list)
}

fn key(counted: &Statistics, by: By, view: &View) -> String {
    match by {
        By::Hour => view.second(counted.at),
        // The days are those of UTC, whatever the zone.
        By::Day => instant_json(counted.at).as_str().unwrap_or_default().chars().take(10).collect(),
        By::Job => counted.job_id.clone(),
        By::Group => counted.group.clone(),
    }
}

fn row(counted: &Statistics, by: By, view: &View) -> Vec<String> {
    let other = counted.runs - (counted.succeeded + counted.failed).min(counted.runs);
    let (duration, delay) = (lengths(&counted.duration), lengths(&counted.delay));
    let shown = |ms: u64| if counted.started == 0 { or_dash("") } else { span(whole(ms)) };
    let average = |of: &Lengths| shown(of.sum_ms / counted.started.max(1));
    let counts = [counted.runs, counted.succeeded, counted.failed, other].map(|count| count.to_string());
    let times = [average(&duration), shown(duration.max_ms), average(&delay), shown(delay.max_ms)];
    let rest = [counted.timed_out, counted.cancelled, counted.lost, counted.no_client];
    let skipped = [counted.overlap_skipped, counted.misfire_skipped, counted.missed_fires];
    let rest = rest.into_iter().chain(skipped).map(|count| count.to_string());
    let key = std::iter::once(key(counted, by, view));
    key.chain(counts).chain(times).chain(rest).chain([or_dash(&counted.job_name)]).collect()
}

fn lengths(of: &Option<Lengths>) -> Lengths {
    of.clone().unwrap_or_default()
}

fn whole(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

fn to_json(counted: &Statistics) -> Value {
    let length = |of: &Option<Lengths>| {
        let Lengths { sum_ms, max_ms, parts } = lengths(of);
        json!({ "sum_ms": sum_ms, "max_ms": max_ms, "parts": parts })
    };
    json!({
        "at": instant_json(counted.at),
        "job_id": counted.job_id,
        "job_name": counted.job_name,
        "group": counted.group,
        "runs": counted.runs,
        "succeeded": counted.succeeded,
        "failed": counted.failed,
        "timed_out": counted.timed_out,
        "cancelled": counted.cancelled,
        "lost": counted.lost,
        "no_client": counted.no_client,
        "overlap_skipped": counted.overlap_skipped,
        "misfire_skipped": counted.misfire_skipped,
        "missed_fires": counted.missed_fires,
        "started": counted.started,
        "duration": length(&counted.duration),
        "delay": length(&counted.delay),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::error::Exit;
    use crate::fake::Fake;

    #[tokio::test]
    async fn counts_as_a_table() {
        let fake = Fake::start().await;
        let shown = fake.cli(&["stats", "--since", "2026-11-18T10:00:00Z"]).await;
        let expected = "\
HOUR                    RUNS  OK  FAILED  OTHER  TIME   LONGEST  DELAY  LATEST
2026-11-18 11:00:00+00  12    9   2       1      100ms  1.5s     20ms   90ms
2026-11-18 12:00:00+00  3     0   0       3      -      -        -      -
";
        assert_eq!((shown.stdout.as_str(), shown.stderr.as_str()), (expected, ""));
        let wide = fake.cli(&["stats", "--by", "job", "-o", "wide"]).await.stdout;
        assert!(wide.starts_with("JOB") && wide.contains("bill"), "{wide}");
        assert!(fake.cli(&["stats", "--by", "day"]).await.stdout.contains("\n2026-11-18  12"));
    }

    #[tokio::test]
    async fn the_filter_is_passed_on() {
        let fake = Fake::start().await;
        fake.add_job("10", "bill");
        let line = ["stats", "--job", "bill", "--group", "trade", "--by", "group", "-o", "json"];
        let until = ["--since", "2026-11-18T10:00:00Z", "--until", "2026-11-18T12:00:00Z"];
        let json = fake.cli(&[line.as_slice(), &until].concat()).await.json();
        let asked = fake.state().statistics_asked.clone().expect("asked");
        assert_eq!(
            (asked.job_id.as_str(), asked.group.as_str(), asked.by.as_str()),
            ("10", "trade", "group")
        );
        assert_eq!(asked.until - asked.since, 2 * 3_600_000);
        let first = &json["statistics"][0];
        assert_eq!((&first["runs"], &first["duration"]["parts"]), (&json!(12), &json!([8, 1, 1, 0, 0, 0])));
        assert_eq!(fake.cli(&["stats", "--since", "soon"]).await.exit, Exit::Usage);
    }
}
