//! The stream of events, wherever it comes from: if one server fails, the next one goes on where it stopped.

use std::time::Duration;

use forest_proto::admin::v1::{Event, WatchEventsRequest};
use tokio::time::{sleep, timeout};
use tonic::{Code, Status, Streaming};

use crate::connect::{Api, Client};
use crate::console::Console;
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

    /// The next event, reset or heartbeat; `None` at the end, if one was asked for. Cancel-safe but for what is told on
    /// stderr.
    pub(in crate::commands) async fn next(
        &mut self,
        api: &mut Api,
        console: &mut Console,
    ) -> Result<Option<Event>, Failure> {
        loop {
            let Some(stream) = &mut self.stream else {
                self.open(api, console).await?;
                continue;
            };
            let stopped = match timeout(SILENCE, stream.message()).await {
                Ok(Ok(Some(event))) => {
                    self.request.since.clone_from(&event.id);
                    return Ok(Some(event));
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
                Stopped::AtTheEnd => return Ok(None),
                Stopped::Lost => api.leave(),
                Stopped::Refused(status) => return Err(Failure::from_status("listen", &status)),
            }
        }
    }

    /// Whoever has listened before waits until a server answers again.
    async fn open(&mut self, api: &mut Api, console: &mut Console) -> Result<(), Failure> {
        let request = self.request.clone();
        let call = async |mut client: Client| client.watch_events(request.clone()).await;
        match api.read("listen", call).await {
            Ok(stream) => {
                self.stream = Some(stream);
                (self.opened, self.complained) = (true, false);
                Ok(())
            }
            Err(failure) if self.opened && failure.exit == Exit::Unreachable => {
                if !std::mem::replace(&mut self.complained, true) {
                    console.note(&format!("{failure}; trying again"));
                }
                sleep(PAUSE).await;
                Ok(())
            }
            Err(failure) => Err(failure),
        }
    }
}
