//! One connection to a cluster: sticks to one endpoint and goes to the next when that one fails.
//!
//! Reasons to go on: the connection cannot be made or breaks, the answer does not begin before the
//! call's deadline, the member says `UNAVAILABLE`, or a caller whose stream fell silent says so. A
//! member that works keeps the connection, however often another one restarts.
//!
//! It never sends a request twice: by the time it fails, the request may have been executed. Its
//! [`Fault`] says whether it can have been.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::watch;
use tonic::Code;
use tonic::transport::Endpoint;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Service, ServiceExt};

use crate::error::with_sources;
use crate::transport::{Exchange, NotSent, Request, Response, Transport};

/// A call that got no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// The request did not leave this process.
    #[error("no connection to {endpoint}: {cause}")]
    Connect { endpoint: String, cause: String },
    /// The connection died while the request was under way.
    #[error("the connection to {endpoint} broke: {cause}")]
    Broken { endpoint: String, cause: String },
    #[error("no answer from {endpoint} within {after:?}")]
    Deadline { endpoint: String, after: Duration },
}

/// Sticky fail-over among a cluster's endpoints. Clones share the endpoint in use.
#[derive(Clone)]
pub(crate) struct Failover {
    shared: Arc<Shared>,
}

struct Shared {
    slots: Vec<Slot>,
    /// Index of the slot in use.
    current: AtomicUsize,
    deadline: Duration,
}

struct Slot {
    name: String,
    endpoint: Endpoint,
    /// Changes when a call over it got no answer, for the sake of the streams over it.
    failed: watch::Sender<()>,
    /// Made by the first call, because making it needs a running runtime.
    channel: OnceLock<Exchange>,
}

impl Failover {
    /// `endpoints` must not be empty. Opens nothing.
    pub(crate) fn new(endpoints: Vec<Endpoint>, transport: Option<&Transport>, deadline: Duration) -> Self {
        let slots = endpoints.into_iter().map(|endpoint| Slot {
            name: endpoint.uri().to_string(),
            endpoint,
            failed: watch::Sender::new(()),
            channel: transport.map_or_else(OnceLock::new, |transport| transport.0.clone().into()),
        });
        let shared = Shared { slots: slots.collect(), current: AtomicUsize::new(0), deadline };
        Self { shared: Arc::new(shared) }
    }

    pub(crate) fn channel(&self) -> etcd_client::Channel {
        etcd_client::Channel::Custom(BoxCloneSyncService::new(self.clone()))
    }

    pub(crate) fn endpoints(&self) -> usize {
        self.shared.slots.len()
    }

    /// The slot in use, to be handed to [`suspect`](Self::suspect) should its stream fail later.
    pub(crate) fn current(&self) -> usize {
        self.shared.current.load(Ordering::Acquire)
    }

    /// A stream over this slot fell silent: the next call goes elsewhere.
    pub(crate) fn suspect(&self, slot: usize) {
        self.shared.fail(slot, "a stream fell silent");
    }

    /// Waits, from now on, until calls leave this slot because it does not answer. A stream has no
    /// deadline of its own, and would notice much later.
    pub(crate) fn failure(&self, slot: usize) -> watch::Receiver<()> {
        self.shared.slots[slot].failed.subscribe()
    }
}

impl Service<Request> for Failover {
    type Response = Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move { shared.send(request).await.map_err(Into::into) })
    }
}

impl Shared {
    async fn send(&self, request: Request) -> Result<Response, Fault> {
        let index = self.current.load(Ordering::Acquire);
        let slot = &self.slots[index];
        let mut channel = slot.channel.get_or_init(|| slot.connect()).clone();
        let exchange = async { channel.ready().await?.call(request).await };
        let fault = match tokio::time::timeout(self.deadline, exchange).await {
            Ok(Ok(response)) => {
                if is_unavailable(&response) {
                    self.leave(index, "the member is unavailable");
                }
                return Ok(response);
            }
            Ok(Err(e)) => slot.fault(e.as_ref()),
            Err(_) => Fault::Deadline { endpoint: slot.name.clone(), after: self.deadline },
        };
        self.fail(index, &fault.to_string());
        Err(fault)
    }

    /// Leaves a slot that does not answer, and tells the streams over it.
    fn fail(&self, index: usize, cause: &str) {
        if self.leave(index, cause) {
            self.slots[index].failed.send_replace(());
        }
    }

    /// Goes to the slot after `index`, unless that is the only one or somebody already left it.
    fn leave(&self, index: usize, cause: &str) -> bool {
        let next = (index + 1) % self.slots.len();
        if next == index {
            return false;
        }
        let moved = self.current.compare_exchange(index, next, Ordering::AcqRel, Ordering::Acquire);
        if moved.is_ok() {
            let (from, to) = (&self.slots[index].name, &self.slots[next].name);
            tracing::warn!(from, to, cause, "etcd endpoint changed");
        }
        moved.is_ok()
    }
}

impl Slot {
    fn connect(&self) -> Exchange {
        Transport::new(self.endpoint.connect_lazy()).0
    }

    fn fault(&self, error: &(dyn std::error::Error + 'static)) -> Fault {
        let (endpoint, cause) = (self.name.clone(), with_sources(error));
        if is_connect_error(error) {
            Fault::Connect { endpoint, cause }
        } else {
            Fault::Broken { endpoint, cause }
        }
    }
}

fn is_connect_error(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<tonic::ConnectError>() || error.is::<NotSent>() {
            return true;
        }
        next = error.source();
    }
    false
}

/// Whether the answer is nothing but the status `UNAVAILABLE`.
fn is_unavailable(response: &Response) -> bool {
    let status = response.headers().get("grpc-status");
    status.is_some_and(|status| Code::from_bytes(status.as_bytes()) == Code::Unavailable)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tonic::body::Body;

    use super::*;
    use crate::EtcdConfig;

    fn failover(endpoints: &[&str]) -> Failover {
        let endpoints = EtcdConfig::new(endpoints.iter().copied()).build().unwrap();
        Failover::new(endpoints, None, Duration::from_millis(200))
    }

    #[test]
    fn many_failures_of_one_endpoint_move_on_by_one() {
        let failover = failover(&["a:1", "b:1", "c:1"]);
        let seen = failover.current();
        failover.suspect(seen);
        failover.suspect(seen);
        assert_eq!(failover.current(), 1);
        failover.suspect(1);
        failover.suspect(2);
        assert_eq!(failover.current(), 0);
    }

    #[test]
    fn streams_learn_that_calls_over_their_endpoint_fail() {
        let failover = failover(&["a:1", "b:1"]);
        let (first, second) = (failover.failure(0), failover.failure(1));
        failover.suspect(0);
        assert!(first.has_changed().unwrap());
        assert!(!second.has_changed().unwrap());
    }

    #[test]
    fn a_single_endpoint_is_never_left() {
        let failover = failover(&["a:1"]);
        failover.suspect(0);
        assert_eq!(failover.current(), 0);
    }

    #[tokio::test]
    async fn a_refused_connection_is_known_to_be_unsent() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut failover = failover(&[&closed.to_string(), "b:1"]);
        let error = failover.call(Request::new(Body::empty())).await.unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(Fault::Connect { .. })), "{error}");
        assert_eq!(failover.current(), 1);
    }

    #[tokio::test]
    async fn a_member_that_accepts_but_never_answers_is_left_at_the_deadline() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut failover = failover(&[&silent.local_addr().unwrap().to_string(), "b:1"]);
        let error = failover.call(Request::new(Body::empty())).await.unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(Fault::Deadline { .. })), "{error}");
        assert_eq!(failover.current(), 1);
    }
}
