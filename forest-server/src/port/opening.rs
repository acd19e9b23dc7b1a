//! The beginning of a connection, which has to come in time.
//!
//! Which version of HTTP is spoken is told by the first bytes. Nothing else limits how long they take: the time for a
//! header begins behind them.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// What a connection of HTTP/2 begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream that fails if its beginning does not come in time.
pub(super) struct Opening<S> {
    stream: S,
    /// How much of the preface has come.
    seen: usize,
    /// `None`: the version is known.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<S> Opening<S> {
    pub(super) fn new(stream: S, within: Duration) -> Self {
        Self { stream, seen: 0, deadline: Some(Box::pin(tokio::time::sleep(within))) }
    }

    fn note(&mut self, bytes: &[u8]) {
        let rest = &PREFACE[self.seen..];
        let expected = &rest[..bytes.len().min(rest.len())];
        self.seen += expected.len();
        if !bytes.starts_with(expected) || self.seen == PREFACE.len() {
            self.deadline = None;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Opening<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let Some(deadline) = &mut self.deadline else { return read };
        match read {
            Poll::Pending => match deadline.as_mut().poll(context) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            },
            Poll::Ready(done) => {
                self.note(&buffer.filled()[before..]);
                Poll::Ready(done)
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Opening<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    const PATIENCE: Duration = Duration::from_secs(10);

    /// Whether it is still listened to long after these bytes.
    async fn goes_on_after(beginning: &[u8]) -> bool {
        let (mut client, server) = duplex(1024);
        let mut server = Opening::new(server, PATIENCE);
        let listening = async move {
            let mut bytes = [0; 1024];
            loop {
                match server.read(&mut bytes).await {
                    Ok(0) => return true,
                    Ok(_) => {}
                    Err(error) => return error.kind() != io::ErrorKind::TimedOut,
                }
            }
        };
        let calling = async move {
            for bytes in beginning.chunks(5) {
                // It may have hung up.
                let _ = client.write_all(bytes).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            tokio::time::sleep(3 * PATIENCE).await;
        };
        tokio::join!(listening, calling).0
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_has_to_begin() {
        assert!(!goes_on_after(b"").await);
        assert!(!goes_on_after(b"PRI * HTTP/2.0\r\n").await, "half a preface");
        // From here on others watch the time.
        assert!(goes_on_after(b"G").await);
        assert!(goes_on_after(b"PRI x").await);
        assert!(goes_on_after(PREFACE).await);
        assert!(goes_on_after(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nmore").await);
    }
}
