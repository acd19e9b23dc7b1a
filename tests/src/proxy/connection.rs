//! One connection through the proxy: two directions, each held, delayed or swallowed as the fault says.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::frames::{Frames, Seen};
use super::{Fault, Loss, Protocol, State};

const CHUNK: usize = 16 * 1024;
/// Chunks under way from the client; with more, the client feels it.
const QUEUED: usize = 1024;
/// How long the server's side outlives the client's, so that requests delivered late are carried out and
/// not cancelled by the end of their connection.
const LINGER: Duration = Duration::from_secs(1);

type Delayed = (Instant, Vec<u8>);

pub(super) struct Connection {
    state: Arc<State>,
    fault: watch::Receiver<Fault>,
    resets: watch::Receiver<u64>,
}

/// How a direction ended.
enum End {
    /// Its source has no more.
    Quiet,
    /// The reply has been swallowed: reset.
    Lost,
}

/// The request whose reply is to be lost on this connection: its stream, 0 where the protocol is plain.
type Doomed = Option<(u32, watch::Sender<bool>)>;

impl Connection {
    /// Sees all that is switched from now on.
    pub(super) fn new(state: Arc<State>) -> Self {
        let (fault, mut resets) = (state.fault.subscribe(), state.resets.subscribe());
        resets.mark_unchanged();
        Self { state, fault, resets }
    }

    pub(super) async fn run(self, client: TcpStream) {
        let mut resets = self.resets.clone();
        let reset = tokio::select! {
            biased;
            _ = resets.changed() => true,
            end = self.carry(&client) => end.is_err() || matches!(end, Ok(End::Lost)),
        };
        if reset {
            // Closing becomes a reset instead of an orderly end.
            let _ = client.set_zero_linger();
        }
    }

    async fn carry(&self, client: &TcpStream) -> io::Result<End> {
        let _ = client.set_nodelay(true);
        self.moving(|fault| fault != Fault::BlackHole).await;
        let server = TcpStream::connect(self.state.upstream).await?;
        server.set_nodelay(true)?;
        let (mut from_server, mut to_server) = server.into_split();
        let (doom, doomed) = watch::channel::<Doomed>(None);
        let (queue, queued) = mpsc::channel(QUEUED);
        let requests = async {
            tokio::join!(self.take_requests(client, queue, &doom), self.deliver(queued, &mut to_server));
            tokio::time::sleep(LINGER).await;
            let _ = to_server.shutdown().await;
            io::Result::Ok(End::Quiet)
        };
        tokio::select! {
            end = requests => end,
            end = self.replies(client, &mut from_server, doomed) => end,
        }
    }

    /// Waits until the fault lets bytes of a direction move.
    async fn moving(&self, moves: impl Fn(Fault) -> bool) {
        // An error means that the proxy is going away, and this connection with it.
        let _ = self.fault.clone().wait_for(|fault| moves(*fault)).await;
    }

    /// Client to queue, each chunk with the instant at which it may arrive.
    async fn take_requests(
        &self,
        client: &TcpStream,
        queue: mpsc::Sender<Delayed>,
        doom: &watch::Sender<Doomed>,
    ) {
        let mut frames = Frames::from_client();
        loop {
            self.moving(|fault| fault != Fault::BlackHole).await;
            let Ok(bytes) = read(client).await else { return };
            let delay = match *self.fault.borrow() {
                Fault::DelayRequests(by) => by,
                _ => Duration::ZERO,
            };
            self.look(&mut frames, &bytes, doom);
            if queue.send((Instant::now() + delay, bytes)).await.is_err() {
                return;
            }
        }
    }

    /// Queue to server, in order.
    async fn deliver(&self, mut queued: mpsc::Receiver<Delayed>, server: &mut OwnedWriteHalf) {
        while let Some((due, bytes)) = queued.recv().await {
            tokio::time::sleep_until(due).await;
            self.moving(|fault| fault != Fault::BlackHole).await;
            if server.write_all(&bytes).await.is_err() {
                return;
            }
        }
    }

    /// Server to client. Goes on reading when the client has gone, so that the server is not held up.
    async fn replies(
        &self,
        client: &TcpStream,
        server: &mut OwnedReadHalf,
        doomed: watch::Receiver<Doomed>,
    ) -> io::Result<End> {
        let mut frames = Frames::from_server();
        let mut buffer = vec![0; CHUNK];
        let mut client_gone = false;
        loop {
            self.moving(|fault| fault != Fault::BlackHole).await;
            let count = server.read(&mut buffer).await?;
            if count == 0 {
                return Ok(End::Quiet);
            }
            let bytes = &buffer[..count];
            let seen = if self.state.protocol == Protocol::Http2 { frames.feed(bytes) } else { Vec::new() };
            // Taken before the wait below: a reply that is held can still be lost.
            if let Some((stream, happened)) = doomed.borrow().as_ref() {
                if self.state.protocol == Protocol::Plain || seen.contains(&Seen::Ended(*stream)) {
                    happened.send_replace(true);
                    return Ok(End::Lost);
                }
                continue;
            }
            self.moving(|fault| !matches!(fault, Fault::BlackHole | Fault::HoldReplies)).await;
            client_gone = client_gone || write_all(client, bytes).await.is_err();
        }
    }

    /// Counts calls, and finds the request whose reply is to be lost.
    fn look(&self, frames: &mut Frames, bytes: &[u8], doom: &watch::Sender<Doomed>) {
        if self.state.protocol == Protocol::Plain {
            self.doom_if(doom, 0, |pattern| contains(bytes, pattern));
            return;
        }
        for seen in frames.feed(bytes) {
            match seen {
                Seen::Opened(stream) => {
                    self.state.calls.fetch_add(1, Ordering::Relaxed);
                    self.doom_if(doom, stream, <[u8]>::is_empty);
                }
                Seen::Body(stream, body) => {
                    self.doom_if(doom, stream, |pattern| !pattern.is_empty() && contains(&body, pattern));
                }
                Seen::Ended(_) => {}
            }
        }
    }

    fn doom_if(&self, doom: &watch::Sender<Doomed>, stream: u32, matches: impl Fn(&[u8]) -> bool) {
        let mut loss = self.state.loss.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Loss { happened, .. }) = loss.take_if(|loss| matches(&loss.pattern)) {
            doom.send_replace(Some((stream, happened)));
        }
    }
}

async fn read(client: &TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(CHUNK);
    loop {
        client.readable().await?;
        match client.try_read_buf(&mut bytes) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => return Ok(bytes),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
    }
}

async fn write_all(client: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        client.writable().await?;
        match client.try_write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn contains(bytes: &[u8], pattern: &[u8]) -> bool {
    pattern.is_empty() || bytes.windows(pattern.len()).any(|window| window == pattern)
}
