//! One who listens to a node by HTTP.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::{Response, StatusCode};
use serde_json::Value;

/// How long the next thing may take to be told. A sign of life comes every 15 s.
const PATIENCE: Duration = Duration::from_secs(40);

/// What was told.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Told {
    Event(Value),
    /// With the position.
    Beat(String),
    /// With the error, if the node did not end it in order.
    End(String),
}

#[derive(Debug)]
pub(crate) struct Listener {
    response: Response,
    buffer: String,
    /// What a browser would send as `Last-Event-ID`.
    pub(crate) last: String,
}

impl Listener {
    /// `query`: with its question mark.
    pub(crate) async fn at(
        node: SocketAddr,
        query: &str,
        last: &str,
        token: &str,
    ) -> Result<Self, StatusCode> {
        let mut request = reqwest::Client::new().get(format!("http://{node}/api/v1/events{query}"));
        // Whoever offers to compress must not wait the longer for it.
        request = request.header("accept-encoding", "gzip");
        if !last.is_empty() {
            request = request.header("last-event-id", last);
        }
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.expect("the node answers");
        if response.status() != StatusCode::OK {
            return Err(response.status());
        }
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert!(!response.headers().contains_key("content-encoding"));
        Ok(Self { response, buffer: String::new(), last: last.to_owned() })
    }

    /// Listens from now on; when this returns, it does.
    pub(crate) async fn from_now(node: SocketAddr, query: &str, token: &str) -> Self {
        let mut listener = Self::at(node, query, "", token).await.expect("it is let in");
        let first = listener.next().await;
        assert!(matches!(first, Told::Beat(_)), "{first:?}");
        listener
    }

    pub(crate) async fn next(&mut self) -> Told {
        loop {
            if let Some(end) = self.buffer.find("\n\n") {
                let block: String = self.buffer.drain(..end + 2).collect();
                if let Some(told) = self.read(&block) {
                    return told;
                }
                continue;
            }
            let chunk = tokio::time::timeout(PATIENCE, self.response.chunk()).await;
            match chunk.expect("the node is not silent") {
                Ok(Some(bytes)) => self.buffer += std::str::from_utf8(&bytes).expect("text"),
                Ok(None) => return Told::End(String::new()),
                // A node that dies ends its streams in the middle.
                Err(error) => return Told::End(format!("{error:?}")),
            }
        }
    }

    fn read(&mut self, block: &str) -> Option<Told> {
        let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::trim_start);
        if let Some(id) = field("id:") {
            self.last = id.to_owned();
        }
        match (field("data:"), field(":")) {
            (Some(data), _) => {
                let event: Value = serde_json::from_str(data).expect("JSON");
                assert_eq!(event["id"], self.last.as_str());
                Some(Told::Event(event))
            }
            (None, Some(_)) => Some(Told::Beat(self.last.clone())),
            (None, None) => None,
        }
    }

    /// The next event, whatever the signs of life; `None` at the end.
    pub(crate) async fn event(&mut self) -> Option<Value> {
        loop {
            match self.next().await {
                Told::Event(event) => return Some(event),
                Told::Beat(_) => {}
                Told::End(_) => return None,
            }
        }
    }

    /// Events up to the one that is meant, which is the last of them.
    pub(crate) async fn until(&mut self, is_meant: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut events = Vec::new();
        loop {
            let event = self.event().await.unwrap_or_else(|| panic!("ended after {events:?}"));
            let last = is_meant(&event);
            events.push(event);
            if last {
                return events;
            }
        }
    }
}

/// A field of each event.
pub(crate) fn field<'a>(events: &'a [Value], name: &str) -> Vec<&'a str> {
    events.iter().map(|event| event[name].as_str().unwrap_or_default()).collect()
}
