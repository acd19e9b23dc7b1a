//! Bodies of requests that nobody read to their end, because the request was refused before.
//!
//! Closing an HTTP/1 connection on bytes that are still coming resets it: the caller may lose the refusal, and one that keeps its
//! connections sends its next request into the end of this one. So what is left is read and thrown away, to a limit.

use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use tokio::sync::mpsc;

/// What is read and thrown away of a body, at most.
const MAX_BYTES: usize = 16 * 1024 * 1024;
/// And for how long.
const PATIENCE: Duration = Duration::from_secs(5);

/// The body of a request. What is left of it when it is dropped goes back to its connection.
pub(super) struct Drained(Option<Incoming>, Leftovers);

/// Where a connection gets back what nobody read.
pub(super) type Leftovers = mpsc::UnboundedSender<Incoming>;

impl Drained {
    pub(super) fn new(body: Incoming, leftovers: Leftovers) -> Self {
        Self(Some(body), leftovers)
    }
}

impl Body for Drained {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.0 else { return Poll::Ready(None) };
        Pin::new(body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        if let Some(body) = self.0.take().filter(|body| !body.is_end_stream()) {
            // A connection that has ended needs nothing back.
            let _ = self.1.send(body);
        }
    }
}

/// Reads what comes back, one body after the other, as requests come on HTTP/1. Its end is that
/// of the connection.
pub(super) async fn drain_all(mut leftovers: mpsc::UnboundedReceiver<Incoming>) -> Infallible {
    while let Some(body) = leftovers.recv().await {
        let _ = tokio::time::timeout(PATIENCE, drain(body)).await;
    }
    pending().await
}

async fn drain(mut body: Incoming) {
    let mut read = 0;
    while read <= MAX_BYTES
        && let Some(Ok(frame)) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await
    {
        read += frame.data_ref().map_or(0, Bytes::len);
    }
}
