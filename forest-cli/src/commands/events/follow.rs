//! The stream of events, wherever it comes from: if one server fails, the next one goes on where it stopped.

use std::time::Duration;

use forest_proto::admin::v1::{Event, WatchEventsRequest};
use tokio::time::{sleep, timeout};
use tonic::{Code, Status, Streaming};

use crate::connect::{Api, Client};
use crate::error::{Exit, Failure};

/// A server says something every 15 s. One that says nothing for so long is not there any more.
const SILENCE: Duration = Duration::from_secs(40);
/// After no server could be reached.
const PAUSE: Duration = Duration::from_secs(1);

pub(in crate::commands) const HEARTBEAT: &str = "heartbeat";
pub(in crate::commands) const RESET: &str = "reset";

/// Why a stream has stopped.
enum Stopped {
    /// At the present, as asked.
    AtTheEnd,
    /// It may go on at another server.
    Lost,
    Refused(Status),
}

/// What comes.
pub(in crate::commands) enum Told {
    /// An event, a reset or a heartbeat.
    Event(Box<Event>),
    /// Nobody answers any more; it goes on as soon as somebody does. Told once.
    Silence(Failure),
    /// The present is reached, and no more was asked for.
    End,
}

pub(in crate::commands) struct Follow {
    request: WatchEventsRequest,
    stream: Option<Streaming<Event>>,
    /// Whether it has been open at all.
    opened: bool,
    /// Whether it was said that nobody answers.
    complained: bool,
}

impl Follow {
    pub(in crate::commands) fn new(request: WatchEventsRequest) -> Self {
        Self { request, stream: None, opened: false, complained: false }
    }

    /// What comes next. Cancel-safe.
    pub(in crate::commands) async fn next(&mut self, api: &mut Api) -> Result<Told, Failure> {
        loop {
            let Some(stream) = &mut self.stream else {
                if let Some(silence) = self.open(api).await? {
                    return Ok(silence);
                }
                continue;
            };
            let stopped = match timeout(SILENCE, stream.message()).await {
                Ok(Ok(Some(event))) => {
                    self.request.since.clone_from(&event.id);
                    return Ok(Told::Event(event.into()));
                }
                Ok(Ok(None)) if self.request.until_now => Stopped::AtTheEnd,
                Ok(Ok(None)) | Err(_) => Stopped::Lost,
                Ok(Err(status)) => match status.code() {
                    Code::Unauthenticated | Code::PermissionDenied => Stopped::Refused(status),
                    _ => Stopped::Lost,
                },
            };
            self.stream = None;
            match stopped {
                Stopped::AtTheEnd => return Ok(Told::End),
                Stopped::Lost => api.leave(),
                Stopped::Refused(status) => return Err(Failure::from_status("listen", &status)),
            }
        }
    }

    /// Whoever has listened before waits until a server answers again.
    async fn open(&mut self, api: &mut Api) -> Result<Option<Told>, Failure> {
        if self.complained {
            sleep(PAUSE).await;
        }
        let request = self.request.clone();
        let call = async |mut client: Client| client.watch_events(request.clone()).await;
        match api.read("listen", call).await {
            Ok(stream) => {
                self.stream = Some(stream);
                (self.opened, self.complained) = (true, false);
                Ok(None)
            }
            Err(failure) if self.opened && is_passing(&failure) => {
                let known = std::mem::replace(&mut self.complained, true);
                Ok((!known).then_some(Told::Silence(failure)))
            }
            Err(failure) => Err(failure),
        }
    }
}

/// Whether it may be over in a moment: nobody answers, or a node has only just started.
fn is_passing(failure: &Failure) -> bool {
    matches!(failure.exit, Exit::Unreachable | Exit::Refused)
}
