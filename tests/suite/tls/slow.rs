//! Who is slow on purpose is hung up on: in a handshake, before a request, in its header.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use forest_tests::services::Authority;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{client, config, text};
use crate::http::Portal;

/// The server's patience is 10 s; machines are busy.
const AT_MOST: Duration = Duration::from_secs(25);

/// Writes and then says nothing more, or a little every second. How long until the server hangs up.
async fn outlast<S>(what: &str, mut stream: S, first: &[u8], drip: &[u8]) -> Duration
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let begun = Instant::now();
    stream.write_all(first).await.expect("the beginning is taken");
    let mut buffer = [0; 4096];
    loop {
        assert!(begun.elapsed() < AT_MOST, "{what}: it is still listened to after {:?}", begun.elapsed());
        match tokio::time::timeout(Duration::from_secs(1), stream.read(&mut buffer)).await {
            Ok(Ok(0) | Err(_)) => return begun.elapsed(),
            Ok(Ok(_)) => {}
            Err(_) if drip.is_empty() => {}
            Err(_) => {
                if stream.write_all(drip).await.is_err() {
                    return begun.elapsed();
                }
            }
        }
    }
}

async fn dial(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.expect("it listens")
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_callers_are_hung_up_on_and_others_are_answered_meanwhile() {
    let servers = Authority::new();
    let own = servers.sign(&["127.0.0.1"]);
    let arguments = ["--tls-cert-file", text(&own.cert), "--tls-key-file", text(&own.key)];
    let http = client(&servers, None);
    let Some(secure) = Portal::open_as("https", http, &arguments).await else { return };
    let Some(plain) = Portal::open(&[]).await else { return };
    let (tls_port, port) = (secure.server.address(), plain.server.address());
    let encrypted = async || {
        let connector = TlsConnector::from(Arc::new(config(&servers, None)));
        let name = ServerName::try_from("127.0.0.1").expect("an address");
        connector.connect(name, dial(tls_port).await).await.expect("a handshake")
    };
    // The header of a TLS record that promises a hundred bytes.
    let hello = [22, 3, 1, 0, 100];
    let header = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n";
    let (silent, half, unsaid, unsaid_in_tls, endless, dripping, in_tls) = tokio::join!(
        async { outlast("no handshake", dial(tls_port).await, b"", b"").await },
        async { outlast("half a handshake", dial(tls_port).await, &hello, b"").await },
        async { outlast("nothing said", dial(port).await, b"", b"").await },
        async { outlast("nothing said in TLS", encrypted().await, b"", b"").await },
        async { outlast("an endless header", dial(port).await, header, b"").await },
        async { outlast("a dripping header", dial(port).await, header, b"X").await },
        async { outlast("a dripping header in TLS", encrypted().await, header, b"X").await },
    );
    for took in [silent, half, unsaid, unsaid_in_tls, endless, dripping, in_tls] {
        assert!(took > Duration::from_secs(5), "a slow line is not hung up on: {took:?}");
    }
    assert!(
        plain.http.get(plain.url("/livez")).send().await.is_ok_and(|answer| answer.status().is_success())
    );
}
