//! The API over gRPC. Each call is one call of [`Etcd`]; nothing is decided here.

mod cluster;
mod kv;
mod lease;
mod maintenance;
mod watch;

use std::net::SocketAddr;

use etcd_client::proto::{PbClusterServer, PbKvServer, PbLeaseServer, PbMaintenanceServer, PbWatchServer};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Code, Status};

use crate::Etcd;

/// Larger than any request that is taken; what is beyond is refused by its size.
const MAX_MESSAGE: usize = 8 * 1024 * 1024;

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
        Routes::new(PbKvServer::new(self.clone()).max_decoding_message_size(MAX_MESSAGE))
            .add_service(PbWatchServer::new(self.clone()))
            .add_service(PbLeaseServer::new(self.clone()))
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
        let server = tonic::transport::Server::builder().tcp_nodelay(true).add_routes(self.routes());
        let incoming = TcpListenerStream::new(listener);
        Ok(server.serve_with_incoming_shutdown(incoming, shutdown.cancelled_owned()).await?)
    }
}

fn unimplemented<T>(what: &str) -> Result<T, Status> {
    Err(Status::new(Code::Unimplemented, format!("the embedded etcd has no {what}")))
}
