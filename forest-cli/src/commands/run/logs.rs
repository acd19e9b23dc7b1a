//! `run logs`: what became of all attempts of a run, one line for each thing that happened.
//!
//! The server keeps what there is now, not what there was: of a handler that tells how far it is, the last word is
//! shown, and with `--follow` each one that was seen.

use std::collections::BTreeSet;
use std::time::Duration;

use forest_proto::admin::v1::{ListAttemptsRequest, ListAttemptsResponse, Run};
use serde_json::{Value, json};

use super::{progress_text, state};
use crate::args::Format;
use crate::commands::Context;
use crate::connect::Client;
use crate::error::Failure;
use crate::output::{View, instant_json, or_dash, printable, span};

/// Between two looks at a run that is followed.
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);

/// Something that happened to an attempt.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    /// 0: nobody has said when.
    at: i64,
    attempt: u32,
    /// Of what kind, in the order in which they happen.
    kind: Kind,
    text: String,
    client: String,
    run: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Created,
    Waiting,
    Started,
    Progress,
    Checkpoint,
    Ended,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Waiting => "waiting",
            Self::Started => "started",
            Self::Progress => "progress",
            Self::Checkpoint => "checkpoint",
            Self::Ended => "ended",
        }
    }
}

pub(super) async fn show(context: &mut Context<'_>, id: String, follow: bool) -> Result<(), Failure> {
    let request = ListAttemptsRequest { id };
    let mut shown = BTreeSet::new();
    loop {
        let call = async |mut client: Client| client.list_attempts(request.clone()).await;
        let ListAttemptsResponse { attempts, ended } = context.api.read("get the attempts", call).await?;
        let events: Vec<_> = attempts.iter().flat_map(events).collect();
        let format = context.view.format;
        if matches!(format, Format::Json | Format::Yaml) {
            // One document: it can only be written when it is whole.
            if ended || !follow {
                let json =
                    json!({ "events": events.iter().map(to_json).collect::<Vec<_>>(), "ended": ended });
                return context.view.data(context.console, &json);
            }
        } else {
            let new: Vec<_> = events.into_iter().filter(|event| shown.insert(event.clone())).collect();
            let lines: String = new.iter().map(|event| line(event, &context.view)).collect();
            context.console.print(&lines)?;
        }
        if ended || !follow {
            return Ok(());
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
}

/// What is known of one attempt, in the order in which it happened.
fn events(run: &Run) -> Vec<Event> {
    let event = |kind: Kind, at: i64, text: String| Event {
        at,
        attempt: run.attempt,
        kind,
        text,
        client: run.client.clone(),
        run: run.id.clone(),
    };
    let mut events = Vec::new();
    if run.created_at != 0 {
        let cause = if run.cause.is_empty() { String::new() } else { format!(", because of {}", run.cause) };
        events.push(event(Kind::Created, run.created_at, format!("{}{cause}", run.origin)));
    }
    if run.state == "delayed" || run.state == "pending" || run.state == "queued" {
        events.push(event(Kind::Waiting, 0, run.state.clone()));
    }
    if run.started_at != 0 {
        events.push(event(Kind::Started, run.started_at, format!("on {}", or_dash(&run.client))));
    }
    if let Some(progress) = &run.progress {
        events.push(event(Kind::Progress, progress.at, progress_text(progress)));
    }
    if !run.checkpoint.is_empty() {
        events.push(event(Kind::Checkpoint, 0, run.checkpoint.clone()));
    }
    if run.state == "finished" {
        let took =
            if run.started_at == 0 { String::new() } else { format!(" after {}", span(run.duration_ms)) };
        let cut = if run.result_truncated { " (cut)" } else { "" };
        let result = if run.result.is_empty() { String::new() } else { format!("{cut}: {}", run.result) };
        events.push(event(Kind::Ended, run.finished_at, format!("{}{took}{result}", state(run))));
    }
    events
}

fn line(event: &Event, view: &View) -> String {
    match view.format {
        Format::Jsonl => format!("{}\n", to_json(event)),
        Format::Name => format!("{}\n", printable(&event.run)),
        // Lines of a result stand below each other.
        _ => {
            let text = printable(&event.text).replace('\n', "\n    ");
            let at = if event.at == 0 { String::new() } else { format!("{} ", view.instant(event.at)) };
            format!("{at}attempt {} {}: {text}\n", event.attempt, event.kind.as_str())
        }
    }
}

fn to_json(event: &Event) -> Value {
    json!({
        "at": instant_json(event.at),
        "run": event.run,
        "attempt": event.attempt,
        "event": event.kind.as_str(),
        "text": event.text,
        "client": event.client,
    })
}

#[cfg(test)]
mod tests {
    use forest_proto::admin::v1::{ListAttemptsResponse, Progress, Run};
    use serde_json::json;

    use crate::error::Exit;
    use crate::fake::Fake;

    const T0: i64 = 1_795_000_000_000;

    /// A failed attempt, and another one that is under way.
    fn attempts() -> [Run; 2] {
        let failed = Run {
            id: "r-1".into(),
            client: "w1".into(),
            state: "finished".into(),
            outcome: "failed".into(),
            origin: "schedule".into(),
            attempt: 1,
            created_at: T0,
            started_at: T0 + 20,
            finished_at: T0 + 1_520,
            duration_ms: 1_500,
            result: "line one\nline two".into(),
            ..Run::default()
        };
        let running = Run {
            id: "r-2".into(),
            state: "running".into(),
            outcome: String::new(),
            origin: "retry".into(),
            attempt: 2,
            created_at: T0 + 60_000,
            started_at: T0 + 60_000,
            finished_at: 0,
            result: String::new(),
            progress: Some(Progress { percent: 40, text: "page 4".into(), at: T0 + 61_000 }),
            checkpoint: "page 3".into(),
            ..failed.clone()
        };
        [failed, running]
    }

    fn answer(attempts: &[Run], ended: bool) -> ListAttemptsResponse {
        ListAttemptsResponse { attempts: attempts.to_vec(), ended }
    }

    const LINES: &str = "\
2026-11-18 11:06:40+00 attempt 1 created: schedule
2026-11-18 11:06:40.020+00 attempt 1 started: on w1
2026-11-18 11:06:41.520+00 attempt 1 ended: failed after 1.5s: line one
    line two
2026-11-18 11:07:40+00 attempt 2 created: retry
2026-11-18 11:07:40+00 attempt 2 started: on w1
2026-11-18 11:07:41+00 attempt 2 progress: 40 % page 4
attempt 2 checkpoint: page 3
";

    #[tokio::test]
    async fn every_attempt_is_told_in_order() {
        let fake = Fake::start().await;
        fake.state().attempts = [answer(&attempts(), false)].into();
        assert_eq!(fake.cli(&["run", "logs", "r-2"]).await.stdout, LINES);
        let json = fake.cli(&["run", "logs", "r-2", "-o", "json"]).await.json();
        assert_eq!((&json["ended"], json["events"].as_array().map(Vec::len)), (&json!(false), Some(7)));
        assert_eq!(json["events"][2]["text"], "failed after 1.5s: line one\nline two");
        assert_eq!(fake.cli(&["run", "logs", "x"]).await.exit, Exit::NotFound);
    }

    #[tokio::test]
    async fn what_is_followed_is_told_once_until_its_end() {
        let fake = Fake::start().await;
        let [failed, running] = attempts();
        let ended = Run {
            state: "finished".into(),
            outcome: "succeeded".into(),
            finished_at: T0 + 62_000,
            duration_ms: 2_000,
            progress: None,
            checkpoint: String::new(),
            ..running.clone()
        };
        let last = answer(&[failed.clone(), ended], true);
        fake.state().attempts = [answer(&[failed, running], false), last].into();
        let told = fake.cli(&["run", "logs", "r-1", "--follow"]).await.stdout;
        assert_eq!(told, format!("{LINES}2026-11-18 11:07:42+00 attempt 2 ended: succeeded after 2s\n"));
    }
}
