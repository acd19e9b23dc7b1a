//! A TCP proxy on loopback whose faults are switched while connections are open.
//!
//! | fault | new connections | open connections |
//! | --- | --- | --- |
//! | [`Proxy::pass`] | served | go on, with what was held |
//! | [`Proxy::cut`] | refused | reset |
//! | [`Proxy::black_hole`] | accepted, nothing moves | stay open, nothing moves |
//! | [`Proxy::hold_replies`] | requests pass, replies are held | the same |
//! | [`Proxy::delay_requests`] | requests arrive later | the same |
//! | [`Proxy::reset_every`] | served | reset all at once, each time |
//! | [`Proxy::lose_reply_to`] | served | the reply to one request is swallowed, then a reset |
//!
//! Requests that have reached the proxy are delivered even if the client has gone meanwhile: that is how a
//! write takes effect after everybody gave up on it.
//!
//! Proxies run on a thread of their own, so that a test that blocks its own runtime does not stop them.

mod connection;
mod frames;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use crate::services::free_address;
use connection::Connection;

/// What is spoken through the proxy; [`Proxy::lose_reply_to`] must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC: etcd, the admin API.
    Http2,
    /// One request, one reply: MariaDB.
    Plain,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Pass,
    Cut,
    BlackHole,
    HoldReplies,
    DelayRequests(Duration),
    ResetEvery(Duration),
}

/// What all connections look at.
#[derive(Debug)]
struct State {
    upstream: SocketAddr,
    protocol: Protocol,
    fault: watch::Sender<Fault>,
    /// Counts up to reset every open connection.
    resets: watch::Sender<u64>,
    /// Whether the port is open. Follows the fault.
    listening: watch::Sender<bool>,
    /// The reply to lose, until some connection takes it.
    loss: Mutex<Option<Loss>>,
    accepted: AtomicU64,
    calls: AtomicU64,
}

#[derive(Debug)]
struct Loss {
    pattern: Vec<u8>,
    happened: watch::Sender<bool>,
}

/// A proxy in front of one server. Open connections are closed when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
    task: AbortHandle,
}

/// Whether a reply has been lost.
#[derive(Debug)]
pub struct LostReply(watch::Receiver<bool>);

impl LostReply {
    /// Waits until the server has answered and the answer has been swallowed.
    ///
    /// # Panics
    /// If no such request was answered within `within`.
    pub async fn happened(&mut self, within: Duration) {
        let lost = tokio::time::timeout(within, self.0.wait_for(|happened| *happened)).await;
        assert!(matches!(lost, Ok(Ok(_))), "no reply was lost within {within:?}");
    }
}

impl Proxy {
    /// A proxy that passes everything to `upstream`.
    ///
    /// # Panics
    /// If it cannot listen.
    pub async fn start(upstream: SocketAddr, protocol: Protocol) -> Self {
        let address = free_address();
        let state = Arc::new(State {
            upstream,
            protocol,
            fault: watch::Sender::new(Fault::Pass),
            resets: watch::Sender::new(0),
            listening: watch::Sender::new(false),
            loss: Mutex::new(None),
            accepted: AtomicU64::new(0),
            calls: AtomicU64::new(0),
        });
        let task = runtime().spawn(serve(Arc::clone(&state), address)).abort_handle();
        let proxy = Self { address, state, task };
        proxy.listening(true).await;
        proxy
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:port`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// No fault. What was held back is delivered.
    pub async fn pass(&self) {
        self.set(Fault::Pass).await;
    }

    /// Resets every connection and refuses new ones.
    pub async fn cut(&self) {
        self.set(Fault::Cut).await;
        self.reset();
    }

    /// Connections are accepted and stay open, but not a byte moves in either direction.
    pub async fn black_hole(&self) {
        self.set(Fault::BlackHole).await;
    }

    /// Requests reach the server; its replies wait for [`Proxy::pass`], or are lost with [`Proxy::reset`].
    pub async fn hold_replies(&self) {
        self.set(Fault::HoldReplies).await;
    }

    /// Requests reach the server this much later, also those whose client has given up.
    pub async fn delay_requests(&self, by: Duration) {
        self.set(Fault::DelayRequests(by)).await;
    }

    /// Resets every open connection once per period.
    pub async fn reset_every(&self, period: Duration) {
        self.set(Fault::ResetEvery(period)).await;
    }

    /// Resets every open connection once. New ones are served.
    pub fn reset(&self) {
        self.state.resets.send_modify(|count| *count += 1);
    }

    /// Lets the next request whose body contains `pattern` reach the server, swallows everything that the
    /// server says on that connection until the reply is complete, then resets the connection.
    ///
    /// With HTTP/2 the pattern must lie within one frame, as keys do; an empty one means the next call that
    /// is opened, whatever it is. Other faults stay as they are.
    pub fn lose_reply_to(&self, pattern: impl AsRef<[u8]>) -> LostReply {
        let (happened, told) = watch::channel(false);
        let loss = Loss { pattern: pattern.as_ref().to_vec(), happened };
        *self.state.loss.lock().unwrap_or_else(PoisonError::into_inner) = Some(loss);
        LostReply(told)
    }

    /// [`Proxy::lose_reply_to`] the next request, whatever it is.
    pub fn drop_replies_once(&self) -> LostReply {
        self.lose_reply_to([])
    }

    /// How many connections have been accepted so far.
    pub fn connections(&self) -> u64 {
        self.state.accepted.load(Ordering::Relaxed)
    }

    /// How many calls clients have opened so far. Always 0 where the protocol is plain.
    pub fn calls(&self) -> u64 {
        self.state.calls.load(Ordering::Relaxed)
    }

    /// Switches the fault; returns when a new connection sees it.
    async fn set(&self, fault: Fault) {
        self.state.fault.send_replace(fault);
        self.listening(fault != Fault::Cut).await;
    }

    async fn listening(&self, wanted: bool) {
        let mut listening = self.state.listening.subscribe();
        let reached = tokio::time::timeout(Duration::from_secs(10), listening.wait_for(|now| *now == wanted));
        assert!(matches!(reached.await, Ok(Ok(_))), "port {} is taken", self.address.port());
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // The connections belong to the task and go with it.
        self.task.abort();
    }
}

fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).thread_name("proxies").enable_all().build().expect("a thread can be had")
    })
}

/// Listens, as long as the fault allows it, until it is aborted.
async fn serve(state: Arc<State>, address: SocketAddr) {
    let mut fault = state.fault.subscribe();
    let mut connections = JoinSet::new();
    while fault.wait_for(|fault| *fault != Fault::Cut).await.is_ok() {
        let Ok(listener) = TcpListener::bind(address).await else {
            // Somebody else has it for the moment; whoever waits for the port says so in the end.
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        state.listening.send_replace(true);
        accept(&state, &listener, &mut connections).await;
        drop(listener);
        state.listening.send_replace(false);
    }
}

/// Serves connections until the fault is a cut.
async fn accept(state: &Arc<State>, listener: &TcpListener, connections: &mut JoinSet<()>) {
    let mut fault = state.fault.subscribe();
    let mut next_reset = tokio::time::Instant::now();
    loop {
        let period = match *fault.borrow_and_update() {
            Fault::Cut => return,
            Fault::ResetEvery(period) => Some(period),
            _ => None,
        };
        if let Some(period) = period {
            next_reset = next_reset.min(tokio::time::Instant::now() + period);
        }
        tokio::select! {
            biased;
            _ = fault.changed() => {}
            () = tokio::time::sleep_until(next_reset), if period.is_some() => {
                state.resets.send_modify(|count| *count += 1);
                next_reset = tokio::time::Instant::now() + period.unwrap_or_default();
            }
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                state.accepted.fetch_add(1, Ordering::Relaxed);
                connections.spawn(Connection::new(Arc::clone(state)).run(client));
            }
        }
    }
}
