//! The API over gRPC. Each call is one call of [`Etcd`]; nothing is decided here.

mod cluster;
mod kv;
mod lease;
mod maintenance;
mod watch;

use std::net::SocketAddr;
use std::pin::Pin;

use etcd_client::proto::{PbClusterServer, PbKvServer, PbLeaseServer, PbMaintenanceServer, PbWatchServer};
use futures_util::{Stream, StreamExt};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;
use tonic::{Code, Status};

use crate::Etcd;

/// So large that what etcd does not take can be refused in its words.
const MAX_MESSAGE: usize = 32 * 1024 * 1024;

/// The services whose answers go on until either side ends them.
#[derive(Clone)]
struct Streams {
    etcd: Etcd,
    shutdown: CancellationToken,
}

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// It has no login, so it answers this machine alone.
    #[error("the embedded etcd answers on loopback addresses only, not on {0}")]
    NotLoopback(SocketAddr),
    /// The listener is broken.
    #[error("the embedded etcd cannot listen: {0}")]
    Listener(#[from] std::io::Error),
    /// The server failed.
    #[error("the embedded etcd failed: {0}")]
    Server(#[from] tonic::transport::Error),
}

impl Etcd {
    /// The services, to be called in memory, without a socket and without HTTP/2.
    #[must_use]
    pub fn routes(&self) -> Routes {
        self.routes_until(CancellationToken::new())
    }

    fn routes_until(&self, shutdown: CancellationToken) -> Routes {
        let streams = Streams { etcd: self.clone(), shutdown };
        Routes::new(PbKvServer::new(self.clone()).max_decoding_message_size(MAX_MESSAGE))
            .add_service(PbWatchServer::new(streams.clone()))
            .add_service(PbLeaseServer::new(streams))
            .add_service(PbClusterServer::new(self.clone()))
            .add_service(PbMaintenanceServer::new(self.clone()))
    }

    /// Answers on a loopback port until the shutdown.
    ///
    /// # Errors
    /// [`ServeError`] if the port is one that others reach, or fails.
    pub async fn serve(self, listener: TcpListener, shutdown: CancellationToken) -> Result<(), ServeError> {
        let local = listener.local_addr()?;
        if !local.ip().to_canonical().is_loopback() {
            return Err(ServeError::NotLoopback(local));
        }
        let routes = self.routes_until(shutdown.clone());
        let server = tonic::transport::Server::builder().add_routes(routes);
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        Ok(server.serve_with_incoming_shutdown(incoming, shutdown.cancelled_owned()).await?)
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Streams {
    /// Ends with the shutdown, as the server waits for all of them.
    fn answers<T: 'static>(
        &self,
        answers: impl Stream<Item = Result<T, Status>> + Send + 'static,
    ) -> Answers<T> {
        Box::pin(answers.take_until(self.shutdown.clone().cancelled_owned()))
    }
}

fn unimplemented<T>(what: &str) -> Result<T, Status> {
    Err(Status::new(Code::Unimplemented, format!("the embedded etcd has no {what}")))
}
