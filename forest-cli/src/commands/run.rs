//! `run`: runs, live and finished.

mod logs;

use std::time::Duration;

use forest_proto::admin::v1::{
    CancelRunRequest, GetRunRequest, ListRunsRequest, Progress, RetryRunRequest, Run,
};
use serde_json::{Value, json};

use super::{Context, job};
use crate::args::{ListRuns, RunCommand, instant_ms};
use crate::clock;
use crate::connect::{Api, Client};
use crate::error::Failure;
use crate::output::{Field, List, View, field, instant_json, or_dash, span};
use crate::paging::collect;

pub(super) async fn run(context: &mut Context<'_>, command: RunCommand) -> Result<(), Failure> {
    match command {
        RunCommand::List(args) => list(context, args).await,
        RunCommand::Get { run } => {
            let run = get(&mut context.api, run).await?;
            context.view.show(context.console, &run.id, &to_json(&run), fields(&context.view, &run))
        }
        RunCommand::Wait { run, wait_timeout } => {
            let waited = job::wait(&mut context.api, &run, wait_timeout).await;
            if let Some(run) = &waited.last {
                context.view.show(context.console, &run.id, &to_json(run), fields(&context.view, run))?;
            }
            job::judge(context, &run, waited, wait_timeout)
        }
        RunCommand::Cancel { run } => cancel(context, run).await,
        RunCommand::Retry { run, key, wait, wait_timeout } => {
            retry(context, run, key, wait.then_some(wait_timeout)).await
        }
        RunCommand::Logs { run, follow } => logs::show(context, run, follow).await,
    }
}

async fn cancel(context: &mut Context<'_>, id: String) -> Result<(), Failure> {
    let request = CancelRunRequest { id };
    let call = async |mut client: Client| client.cancel_run(request.clone()).await;
    context.api.write("cancel the run", call).await?;
    let message = format!("run {} was asked to stop, see `run get`", request.id);
    context.done("cancel_requested", "run", &request.id, &message)
}

async fn retry(
    context: &mut Context<'_>,
    id: String,
    key: String,
    wait: Option<Duration>,
) -> Result<(), Failure> {
    let request = RetryRunRequest { id, idempotency_key: key };
    let call = async |mut client: Client| client.retry_run(request.clone()).await;
    // Asking again gives the same run.
    let id = context.api.read("run it again", call).await?.run_id;
    job::started(context, id, wait).await
}

pub(super) async fn get(api: &mut Api, id: String) -> Result<Run, Failure> {
    let request = GetRunRequest { id };
    api.read("get the run", async |mut client: Client| client.get_run(request.clone()).await).await
}

async fn list(context: &mut Context<'_>, args: ListRuns) -> Result<(), Failure> {
    let since = match &args.since {
        Some(text) => instant_ms(text, clock::now(), &context.view.zone)
            .map_err(|why| Failure::usage(format!("--since: {why}")))?,
        None => 0,
    };
    let job_id = match &args.job {
        Some(name) => job::find(&mut context.api, name).await?.id,
        None => String::new(),
    };
    let filter = ListRunsRequest {
        group: args.group,
        job_id,
        client: args.client,
        outcome: args.outcome,
        since,
        live_only: args.live,
        ..ListRunsRequest::default()
    };
    let listed = collect(args.paging, async |page_size, page_token| {
        let request = ListRunsRequest { page_size, page_token, ..filter.clone() };
        let call = async |mut client: Client| client.list_runs(request.clone()).await;
        let page = context.api.read("list the runs", call).await?;
        Ok(([page.live, page.runs].concat(), page.next_page_token))
    });
    let listed = listed.await?;
    let view = &context.view;
    let row = |run: &Run| {
        vec![
            run.id.clone(),
            format!("{}{}", run.job_name, shard_mark(run)),
            view.second(run.created_at),
            how_far(run),
            run.group.clone(),
            or_dash(&run.client),
            format!("{}/{}", run.attempt, run.max_attempts),
            run.origin.clone(),
            view.second(run.scheduled_at),
            run.job_id.clone(),
        ]
    };
    let list = List {
        id: &|run: &Run| run.id.clone(),
        header: &[
            "RUN",
            "JOB",
            "CREATED",
            "STATE",
            "GROUP",
            "CLIENT",
            "ATTEMPT",
            "ORIGIN",
            "SCHEDULED",
            "JOB ID",
        ],
        narrow: 4,
        row: &row,
        json: &to_json,
    };
    view.list(context.console, "runs", &listed, &list)
}

/// How a run is in one word: a finished one by its outcome.
pub(super) fn state(run: &Run) -> &str {
    if run.outcome.is_empty() { &run.state } else { &run.outcome }
}

/// How a run is, and what there is to say of its time: how long it took, or how far it is.
fn how_far(run: &Run) -> String {
    let more = match &run.progress {
        _ if run.finished_at != 0 => format!(" in {}", span(run.duration_ms)),
        Some(progress) => format!(" {}", progress_text(progress)),
        None => String::new(),
    };
    format!("{}{more}", state(run))
}

/// Of a shard, its index and how many there are.
fn shard_mark(run: &Run) -> String {
    match &run.shard {
        Some(shard) if shard.total > 0 => format!(" [{}/{}]", shard.index, shard.total),
        Some(shard) => format!(" [{}]", shard.index),
        None => String::new(),
    }
}

fn shard_fields(run: &Run) -> Vec<Field> {
    let mut fields = Vec::new();
    if let Some(shard) = &run.shard {
        let total = if shard.total > 0 { format!(" of {}", shard.total) } else { String::new() };
        let params = if shard.params.is_empty() { String::new() } else { format!(": {}", shard.params) };
        fields.push(field("shard", format!("{}{total}{params}", shard.index)));
        fields.push(field("broadcast", shard.parent.as_str()));
    }
    if !run.shards.is_empty() {
        let line = |shard: &Run| {
            let index = shard.shard.as_ref().map_or(0, |shard| shard.index);
            format!("{index}  {}  {}  {}", state(shard), or_dash(&shard.client), shard.id)
        };
        fields.push(field("shards", run.shards.iter().map(line).collect::<Vec<_>>().join("\n")));
    }
    fields
}

/// How far a run is, as its handler says.
fn progress_text(progress: &Progress) -> String {
    let text = if progress.text.is_empty() { String::new() } else { format!(" {}", progress.text) };
    format!("{} %{text}", progress.percent)
}

pub(super) fn fields(view: &View, run: &Run) -> Vec<Field> {
    let cut = if run.result_truncated { " (cut)" } else { "" };
    let mut fields = vec![
        field("id", run.id.as_str()),
        field("job", format!("{} ({})", run.job_name, run.job_id)),
        field("group", run.group.as_str()),
        field("target", run.target.as_str()),
        field("state", state(run)),
        field("attempt", format!("{} of {}", run.attempt, run.max_attempts)),
        field("origin", run.origin.as_str()),
        field("client", or_dash(&run.client)),
        field("scheduled", view.instant(run.scheduled_at)),
        field("created", view.instant(run.created_at)),
        field("started", view.instant(run.started_at)),
        field("finished", view.instant(run.finished_at)),
        field("took", if run.finished_at == 0 { "-".to_owned() } else { span(run.duration_ms) }),
        field("fencing token", run.fencing_token.to_string()),
        field("created by", format!("{} (term {})", run.node, run.term)),
    ];
    if !run.cause.is_empty() {
        // Of its own job it repeats one, of another job it follows one.
        let repeats = run.cause.contains(&format!("-{}-", run.job_id));
        fields.push(field(if repeats { "retry of" } else { "after" }, run.cause.as_str()));
    }
    if run.missed_fires > 0 {
        fields.push(field("missed fires", run.missed_fires.to_string()));
    }
    if let Some(progress) = &run.progress {
        let told = format!("{}, told {}", progress_text(progress), view.instant(progress.at));
        fields.push(field("progress", told));
    }
    fields.extend(shard_fields(run));
    fields.push(field("params", run.params.as_str()));
    fields.push(field(&format!("result{cut}"), run.result.as_str()));
    fields
}

pub(super) fn to_json(run: &Run) -> Value {
    json!({
        "id": run.id,
        "job_id": run.job_id,
        "job_name": run.job_name,
        "group": run.group,
        "target": run.target,
        "client": run.client,
        "state": run.state,
        "outcome": run.outcome,
        "scheduled_at": instant_json(run.scheduled_at),
        "created_at": instant_json(run.created_at),
        "started_at": instant_json(run.started_at),
        "finished_at": instant_json(run.finished_at),
        "duration_ms": run.duration_ms,
        "attempt": run.attempt,
        "max_attempts": run.max_attempts,
        "origin": run.origin,
        "cause": (!run.cause.is_empty()).then_some(run.cause.as_str()),
        "params": run.params,
        "result": run.result,
        "fencing_token": run.fencing_token,
        "node": run.node,
        "term": run.term,
        "missed_fires": run.missed_fires,
        "result_truncated": run.result_truncated,
        "progress": run.progress.as_ref().map(|progress| json!({
            "percent": progress.percent, "text": progress.text, "at": instant_json(progress.at),
        })),
        "shard": run.shard.as_ref().map(|shard| json!({
            "index": shard.index, "total": shard.total, "parent": shard.parent, "params": shard.params,
        })),
        "shards": run.shards.iter().map(to_json).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use forest_proto::admin::v1::{Progress, Shard};

    use super::{how_far, shard_mark};
    use crate::error::Exit;
    use crate::fake::{Fake, run_in};

    #[tokio::test]
    async fn live_runs_come_first() {
        let fake = Fake::start().await;
        let expected = "\
RUN                     JOB   CREATED                 STATE
20261118110640000-10-1  bill  2026-11-18 11:06:40+00  pending
20261118110640000-11-1  bill  2026-11-18 11:06:40+00  failed in 1.5s
";
        assert_eq!(fake.cli(&["run", "list"]).await.stdout, expected);
        let live = fake.cli(&["run", "list", "--live", "-o", "json"]).await.json();
        assert_eq!(live["runs"].as_array().map(Vec::len), Some(1));
    }

    #[tokio::test]
    async fn filters_are_passed_on() {
        let fake = Fake::start().await;
        fake.add_job("10", "bill");
        let line =
            ["run", "list", "--job", "bill", "--outcome", "failed", "--client", "w1", "--group", "trade"];
        let line = [&line[..], &["--since", "2026-11-18 12:06:40", "--time", "Europe/Paris"]].concat();
        assert_eq!(fake.cli(&line).await.exit, Exit::Ok);
        let asked = fake.state().runs_asked.clone().expect("was asked");
        let filter =
            (asked.job_id.as_str(), asked.outcome.as_str(), asked.client.as_str(), asked.group.as_str());
        assert_eq!(filter, ("10", "failed", "w1", "trade"));
        assert_eq!((asked.since, asked.live_only, asked.page_size), (1_795_000_000_000, false, 50));
        let wrong = fake.cli(&["run", "list", "--since", "yesterday"]).await;
        assert_eq!(wrong.exit, Exit::Usage);
        assert!(
            wrong.stderr.starts_with("forest-cli: --since: \"yesterday\" is neither"),
            "{}",
            wrong.stderr
        );
    }

    #[tokio::test]
    async fn a_run_with_all_it_has() {
        let fake = Fake::start().await;
        let expected = "\
id             20261118110640000-11-1
job            bill (11)
group          trade
target         bill
state          failed
attempt        1 of 3
origin         schedule
client         w1-7f3a9
scheduled      2026-11-18 11:06:40+00
created        2026-11-18 11:06:40+00
started        2026-11-18 11:06:40.120+00
finished       2026-11-18 11:06:41.620+00
took           1.5s
fencing token  77
created by     n1 (term 42)
params         {}
result         line one
               line two
";
        assert_eq!(fake.cli(&["run", "get", "20261118110640000-11-1"]).await.stdout, expected);
        let json = fake.cli(&["run", "get", "20261118110640000-11-1", "-o", "json"]).await.json();
        assert_eq!(json.as_object().map(serde_json::Map::len), Some(27));
        assert_eq!((&json["state"], &json["outcome"]), (&json!("finished"), &json!("failed")));
        assert_eq!(json["started_at"], "2026-11-18T11:06:40.120Z");
        let pending = fake.cli(&["run", "get", "20261118110640000-10-1", "-o", "json"]).await.json();
        assert_eq!((&pending["started_at"], &pending["outcome"]), (&Value::Null, &json!("")));
    }

    #[tokio::test]
    async fn a_run_shows_how_far_it_is() {
        let told = Progress { percent: 40, text: "page 4".into(), at: 1_795_000_001_000 };
        let mut run = run_in("running", "");
        assert_eq!(how_far(&run), "running");
        run.progress = Some(Progress { text: String::new(), ..told.clone() });
        assert_eq!(how_far(&run), "running 40 %");
        run.progress = Some(told);
        assert_eq!(how_far(&run), "running 40 % page 4");

        let fake = Fake::start().await;
        fake.state().polls = [Ok(run.clone()), Ok(run)].into();
        let table = fake.cli(&["run", "get", "r7"]).await.stdout;
        let line = table.lines().find(|line| line.starts_with("progress")).map(str::to_owned);
        let expected = "progress       40 % page 4, told 2026-11-18 11:06:41+00";
        assert_eq!(line.as_deref(), Some(expected), "{table}");
        let json = fake.cli(&["run", "get", "r7", "-o", "json"]).await.json();
        let expected = json!({"percent": 40, "text": "page 4", "at": "2026-11-18T11:06:41.000Z"});
        assert_eq!(json["progress"], expected);
    }

    #[tokio::test]
    async fn waiting_shows_the_run_and_succeeds_if_it_does() {
        let fake = Fake::start().await;
        fake.state().polls = [Ok(run_in("running", "")), Ok(run_in("finished", "succeeded"))].into();
        let ran = fake.cli(&["run", "wait", "r7"]).await;
        assert_eq!((ran.exit, ran.stderr.as_str()), (Exit::Ok, "forest-cli: run r7 succeeded after 1.5s\n"));
        assert!(ran.stdout.contains("state          succeeded\n"), "{}", ran.stdout);
        fake.state().polls = [Ok(run_in("finished", "failed"))].into();
        let ran = fake.cli(&["run", "wait", "r7", "-o", "jsonl"]).await;
        assert_eq!((ran.exit, ran.json()["outcome"].clone()), (Exit::Refused, json!("failed")));
        let missing = fake.cli(&["run", "wait", "x", "--wait-timeout", "1ms"]).await;
        assert_eq!((missing.exit, missing.stdout.as_str()), (Exit::NotFound, ""));
    }

    #[tokio::test]
    async fn a_shard_shows_its_index_and_a_broadcast_its_shards() {
        let parent = "20261118110640000-10-1";
        let mut shard = run_in("running", "");
        (shard.id, shard.job_name, shard.client) = (format!("{parent}s1"), "bill".into(), "w1".into());
        shard.shard = Some(Shard { index: 1, total: 4, parent: parent.into(), params: "Shanghai".into() });
        let mut whole = run_in("running", "");
        whole.shards = vec![shard.clone()];
        assert_eq!((shard_mark(&shard).as_str(), shard_mark(&whole).as_str()), (" [1/4]", ""));
        let fake = Fake::start().await;
        fake.state().polls = [Ok(shard.clone()), Ok(whole), Ok(shard)].into();
        let table = fake.cli(&["run", "get", "r7"]).await.stdout;
        assert!(
            table.contains("shard          1 of 4: Shanghai\nbroadcast      20261118110640000-10-1\n"),
            "{table}"
        );
        let table = fake.cli(&["run", "get", "r7"]).await.stdout;
        assert!(table.contains("shards         1  running  w1  20261118110640000-10-1s1\n"), "{table}");
        let json = fake.cli(&["run", "get", "r7", "-o", "json"]).await.json();
        assert_eq!(json["shard"], json!({"index": 1, "total": 4, "parent": parent, "params": "Shanghai"}));
    }

    #[tokio::test]
    async fn cancelling_asks_and_says_so() {
        let fake = Fake::start().await;
        let id = "20261118110640000-10-1";
        let asked = fake.cli(&["run", "cancel", id]).await;
        assert_eq!((asked.exit, asked.stdout.as_str()), (Exit::Ok, ""));
        assert_eq!(asked.stderr, format!("forest-cli: run {id} was asked to stop, see `run get`\n"));
        let json = fake.cli(&["run", "cancel", id, "-o", "json"]).await.json();
        assert_eq!(json, json!({ "cancel_requested": { "run": id } }));
        assert_eq!(fake.state().cancelled, [id, id]);
        assert_eq!(fake.cli(&["run", "cancel", "x"]).await.exit, Exit::NotFound);
    }

    #[tokio::test]
    async fn a_run_that_is_not_there() {
        let fake = Fake::start().await;
        let ran = fake.cli(&["run", "get", "x"]).await;
        assert_eq!((ran.exit, ran.stdout.as_str()), (Exit::NotFound, ""));
        assert_eq!(ran.stderr, "forest-cli: cannot get the run: no run x\n");
    }

    #[tokio::test]
    async fn an_ended_run_is_run_again() {
        let fake = Fake::start().await;
        let again = fake.cli(&["run", "retry", "20261118110640000-10-1"]).await;
        assert_eq!((again.exit, again.stdout.as_str()), (Exit::Ok, "r7\n"));
        fake.state().polls = [Ok(run_in("finished", "succeeded"))].into();
        let waited = fake.cli(&["run", "retry", "20261118110640000-10-1", "--key", "k", "--wait"]).await;
        assert_eq!((waited.exit, waited.stdout.as_str()), (Exit::Ok, "r7\n"));
        let id = "20261118110640000-10-1".to_owned();
        assert_eq!(fake.state().retried, [(id.clone(), String::new()), (id, "k".to_owned())]);
        assert_eq!(fake.cli(&["run", "retry", "r7"]).await.exit, Exit::Refused);
    }
}
