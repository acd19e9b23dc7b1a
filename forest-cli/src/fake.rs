//! For tests: a small server in this process, and the program run against it with its streams in hand.

mod service;
mod tls;

use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clap::Parser as _;
use forest_proto::admin::v1::admin_server::AdminServer;
use forest_proto::admin::v1::{
    Backfill, Calendar, EditJobRequest, Event, GetStatisticsRequest, Group, ListAttemptsResponse,
    ListAuditRequest, ListRunsRequest, NextFiresRequest, Run, RunJobRequest, StartBackfillRequest,
    StepDownRequest, Token, User, WatchEventsRequest,
};
use serde_json::{Map, Value};
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinSet;
use tonic::Status;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use self::service::Service;
pub(crate) use self::tls::Tls;
use crate::args::Cli;
use crate::commands;
use crate::console::Console;
use crate::error::Exit;
use crate::settings::Surroundings;

pub(crate) struct State {
    pub(crate) calls: u32,
    pub(crate) refuse_all: Option<Status>,
    pub(crate) refuse_next: Option<Status>,
    pub(crate) max_page: usize,
    pub(crate) groups: Vec<Group>,
    pub(crate) users: Vec<User>,
    pub(crate) tokens: Vec<Token>,
    pub(crate) passwords: Vec<String>,
    /// The last `authorization` header.
    pub(crate) shown: Option<String>,
    pub(crate) calendars: Vec<Calendar>,
    pub(crate) backfill: Option<Backfill>,
    pub(crate) backfill_asked: Option<StartBackfillRequest>,
    pub(crate) jobs: Vec<Map<String, Value>>,
    pub(crate) jobs_added: u32,
    pub(crate) patch: Option<EditJobRequest>,
    pub(crate) deleted_version: Option<u64>,
    pub(crate) next_asked: Option<NextFiresRequest>,
    pub(crate) run_asked: Option<RunJobRequest>,
    pub(crate) cancelled: Vec<String>,
    /// What was said about the first client, one after the other.
    pub(crate) drained: Vec<bool>,
    pub(crate) runs_asked: Option<ListRunsRequest>,
    pub(crate) retried: Vec<(String, String)>,
    /// The answers to whoever asks for attempts, one by one; the last one stays.
    pub(crate) attempts: VecDeque<ListAttemptsResponse>,
    pub(crate) step_down_asked: Option<StepDownRequest>,
    pub(crate) statistics_asked: Option<GetStatisticsRequest>,
    pub(crate) audit_asked: Option<ListAuditRequest>,
    /// What each listener is told, one after the other. Who comes after them is not let in.
    pub(crate) told: VecDeque<Vec<Result<Event, Status>>>,
    pub(crate) events_asked: Vec<WatchEventsRequest>,
    /// The answers to polls for the run `r7`, one by one; the last one stays.
    pub(crate) polls: VecDeque<Result<Run, Status>>,
}

pub(crate) struct Fake {
    state: Arc<Mutex<State>>,
    url: String,
    /// Ends with this value.
    _serving: JoinSet<()>,
}

impl Fake {
    pub(crate) async fn start() -> Self {
        Self::serve("http", Server::builder())
    }

    /// One that is reached with TLS alone, by clients that show a certificate.
    pub(crate) async fn start_with_tls(tls: &Tls) -> Self {
        Self::serve("https", Server::builder().tls_config(tls.server()).expect("good certificates"))
    }

    fn serve(scheme: &str, mut server: Server) -> Self {
        let state = Arc::new(Mutex::new(State {
            calls: 0,
            refuse_all: None,
            refuse_next: None,
            max_page: 200,
            groups: Vec::new(),
            users: Vec::new(),
            tokens: Vec::new(),
            passwords: Vec::new(),
            shown: None,
            calendars: Vec::new(),
            backfill: None,
            backfill_asked: None,
            jobs: Vec::new(),
            jobs_added: 0,
            patch: None,
            deleted_version: None,
            next_asked: None,
            run_asked: None,
            cancelled: Vec::new(),
            drained: Vec::new(),
            runs_asked: None,
            retried: Vec::new(),
            attempts: VecDeque::new(),
            step_down_asked: None,
            statistics_asked: None,
            audit_asked: None,
            told: VecDeque::new(),
            events_asked: Vec::new(),
            polls: VecDeque::new(),
        }));
        let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into()).expect("a free port");
        let url = format!("{scheme}://{}", incoming.local_addr().expect("bound"));
        let service = AdminServer::new(Service(Arc::clone(&state)));
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let served = server.add_service(service).serve_with_incoming(incoming).await;
            served.expect("it serves until it is dropped");
        });
        Self { state, url, _serving: serving }
    }

    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add_job(&self, id: &str, name: &str) {
        let text = format!(r#"{{"id":"{id}","name":"{name}","group":"trade","version":1,"status":1}}"#);
        self.state().jobs.push(serde_json::from_str(&text).expect("an object"));
    }

    /// What is stored of a job.
    pub(crate) fn document(&self, id: &str) -> Value {
        let state = self.state();
        Value::Object(state.jobs.iter().find(|job| job["id"] == id).expect("stored").clone())
    }

    pub(crate) async fn cli(&self, args: &[&str]) -> Ran {
        cli(&self.url, args, "").await
    }

    /// With this in the environment.
    pub(crate) async fn cli_with_token(&self, token: &str, args: &[&str]) -> Ran {
        let around = Surroundings { token: Some(token.to_owned()), ..Surroundings::default() };
        run_cli(&self.url, args, "", false, &around).await
    }

    pub(crate) async fn cli_with_stdin(&self, args: &[&str], stdin: &str) -> Ran {
        cli(&self.url, args, stdin).await
    }

    pub(crate) async fn cli_at_terminal(&self, args: &[&str], stdin: &str) -> Ran {
        run_cli(&self.url, args, stdin, true, &Surroundings::default()).await
    }
}

/// What a call of the program left behind.
pub(crate) struct Ran {
    pub(crate) exit: Exit,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// The one document on stdout.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }
}

/// A stream whose text can be looked at.
#[derive(Clone, Default)]
pub(crate) struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    pub(crate) fn text(&self) -> String {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8(bytes.clone()).expect("text")
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

pub(crate) async fn cli(url: &str, args: &[&str], stdin: &str) -> Ran {
    run_cli(url, args, stdin, false, &Surroundings::default()).await
}

/// Without a server on the command line.
pub(crate) async fn cli_around(args: &[&str], around: &Surroundings) -> Ran {
    run_cli("", args, "", false, around).await
}

/// The same with this on stdin.
pub(crate) async fn cli_around_with_stdin(args: &[&str], around: &Surroundings, stdin: &str) -> Ran {
    run_cli("", args, stdin, false, around).await
}

async fn run_cli(url: &str, args: &[&str], stdin: &str, interactive: bool, around: &Surroundings) -> Ran {
    let mut line = vec!["forest-cli"];
    if !url.is_empty() {
        line.extend(["--server", url]);
    }
    if !args.contains(&"--time") {
        line.extend(["--time", "utc"]);
    }
    let cli = Cli::try_parse_from(line.iter().chain(args)).expect("a valid line");
    let (stdout, stderr) = (Sink::default(), Sink::default());
    let mut console = Console {
        stdout: Box::new(stdout.clone()),
        stderr: Box::new(stderr.clone()),
        interactive,
        ..Console::for_test(stdin)
    };
    let exit = commands::run(cli, around, &mut console).await;
    Ran { exit, stdout: stdout.text(), stderr: stderr.text() }
}

/// A port that takes connections and never says a word, as a stopped process does.
pub(crate) struct Silent(tokio::net::TcpListener);

impl Silent {
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.0.local_addr().expect("bound"))
    }
}

pub(crate) async fn silent_server() -> Silent {
    // The kernel completes connections that nobody accepts.
    Silent(tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port"))
}

/// A port that answers every connection with `words` and closes it. Its tasks end with the set.
pub(crate) async fn rude_server(words: &'static str) -> (String, JoinSet<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // The caller may hang up first.
            let _ = stream.write_all(words.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    (url, serving)
}

/// The run `r7` on its way.
pub(crate) fn run_in(state: &str, outcome: &str) -> Run {
    Run {
        id: "r7".into(),
        state: state.into(),
        outcome: outcome.into(),
        duration_ms: 1500,
        result: "line one\nline two".into(),
        ..Run::default()
    }
}
