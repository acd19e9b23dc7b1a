//! The one port: accepts connections, with or without TLS, and answers gRPC and HTTP on them.
//!
//! Owns what an unknown caller can cost: how many connections, how long a handshake, a beginning or a header may take,
//! how large a header may be. What is called, and by whom, is not decided here.

mod body;
mod opening;
mod peer;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use forest_etcd::Tasks;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use body::{Drained, drain_all};
use opening::Opening;
pub(crate) use peer::{CSRF_HEADER, Peer, SESSION_COOKIE, session};
pub(crate) use tls::Tls;
pub use tls::TlsFiles;

/// Connections at once; more wait until one ends.
const CONNECTIONS: usize = 4_096;
/// Until the TLS handshake is done, until a connection begins, and until a request's header is there.
const PATIENCE: Duration = Duration::from_secs(10);
const HEADER_BYTES: u32 = 32 * 1024;
/// Calls at once on one HTTP/2 connection.
const STREAMS: u32 = 256;
/// HTTP/2 connections that are silent are asked for a sign of life.
const PING_EVERY: Duration = Duration::from_secs(20);
/// How long calls may go on after the shutdown; the node's own grace may be shorter.
const GRACE: Duration = Duration::from_secs(5);

/// Answers until the shutdown, then lets calls that have begun come to their end.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    router: Router,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let local = listener.local_addr()?;
    tracing::info!(%local, tls = tls.is_some(), "the API answers");
    let tls = tls.map(Arc::new);
    let (server, room, graceful) = (server(), Arc::new(Semaphore::new(CONNECTIONS)), GracefulShutdown::new());
    let mut connections = Tasks::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listener, &room) => accepted,
        };
        let (stream, address, permit) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Mostly too many open files; the next attempt would fail as fast.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (server, router, tls, watcher) =
            (server.clone(), router.clone(), tls.clone(), graceful.watcher());
        connections.spawn(async move {
            let _permit = permit;
            let _ = stream.set_nodelay(true);
            let ended = match &tls {
                None => answer(&server, stream, Peer::new(address, None), router, watcher).await,
                Some(tls) => match tokio::time::timeout(PATIENCE, tls.accept(stream)).await {
                    Ok(Ok((stream, certificate))) => {
                        answer(&server, stream, Peer::new(address, certificate), router, watcher).await
                    }
                    Ok(Err(error)) => Err(error.into()),
                    Err(_) => Err("the TLS handshake took too long".into()),
                },
            };
            if let Err(error) = ended {
                tracing::debug!(%address, %error, "a connection ended");
            }
        });
    }
    let _ = tokio::time::timeout(GRACE, graceful.shutdown()).await;
    Ok(())
}

type Permit = tokio::sync::OwnedSemaphorePermit;

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, SocketAddr, Permit)> {
    let permit = room.clone().acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, address) = listener.accept().await?;
    Ok((stream, address, permit))
}

fn server() -> Builder<TokioExecutor> {
    let mut server = Builder::new(TokioExecutor::new());
    let max = usize::try_from(HEADER_BYTES).unwrap_or(usize::MAX);
    server.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_buf_size(max);
    let mut http2 = server.http2();
    http2.timer(TokioTimer::new()).max_header_list_size(HEADER_BYTES).max_concurrent_streams(STREAMS);
    http2.keep_alive_interval(PING_EVERY).keep_alive_timeout(PATIENCE);
    server
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn answer<S>(
    server: &Builder<TokioExecutor>,
    stream: S,
    peer: Peer,
    router: Router,
    watcher: hyper_util::server::graceful::Watcher,
) -> Result<(), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (leftovers, rest) = mpsc::unbounded_channel();
    let service = router.map_request(move |mut request: http::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(peer.clone());
        // HTTP/2 ends a call by itself, and the connection goes on.
        let is_http2 = request.version() == http::Version::HTTP_2;
        request.map(
            |body| if is_http2 { Body::new(body) } else { Body::new(Drained::new(body, leftovers.clone())) },
        )
    });
    let stream = TokioIo::new(Opening::new(stream, PATIENCE));
    let connection = server.serve_connection_with_upgrades(stream, TowerToHyperService::new(service));
    tokio::select! {
        ended = watcher.watch(connection.into_owned()) => ended,
        never = drain_all(rest) => match never {},
    }
}
