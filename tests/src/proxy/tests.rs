//! Every fault, against a server that echoes, and the loss of one reply against etcd.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::*;
use crate::names::key_root;
use crate::require;
use crate::services::shared_etcd;
use crate::wait::{eventually, holds};

const SOON: Duration = Duration::from_secs(10);
/// Long enough for a byte to get through that should not.
const A_WHILE: Duration = Duration::from_millis(150);

/// Answers every byte with the same byte, and remembers what it got.
struct Echo {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<u8>>>,
    _task: JoinSet<()>,
}

impl Echo {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let heard = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&heard);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let heard = Arc::clone(&all);
                connections.spawn(async move {
                    let mut byte = [0; 1];
                    while stream.read_exact(&mut byte).await.is_ok() {
                        heard.lock().expect("no panic").push(byte[0]);
                        let _ = stream.write_all(&byte).await;
                    }
                });
            }
        });
        Self { address, heard, _task: task }
    }

    fn heard(&self) -> String {
        String::from_utf8_lossy(&self.heard.lock().expect("no panic")).into_owned()
    }

    async fn hears(&self, text: &str) {
        eventually("the server hears it", SOON, async || {
            let heard = self.heard();
            if heard == text { Ok(()) } else { Err(heard) }
        })
        .await;
    }
}

async fn pair() -> (Echo, Proxy) {
    let echo = Echo::start().await;
    let proxy = Proxy::start(echo.address, Protocol::Plain).await;
    (echo, proxy)
}

async fn connect(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.address()).await.expect("the proxy accepts")
}

async fn say(client: &mut TcpStream, text: &str) {
    client.write_all(text.as_bytes()).await.expect("the proxy takes it");
}

async fn hear(client: &mut TcpStream, text: &str) {
    let mut answer = vec![0; text.len()];
    let read = tokio::time::timeout(SOON, client.read_exact(&mut answer)).await;
    read.expect("in time").expect("an answer");
    assert_eq!(String::from_utf8_lossy(&answer), text);
}

async fn hears_nothing(client: &mut TcpStream) {
    let read = tokio::time::timeout(A_WHILE, client.read_u8()).await;
    assert!(read.is_err(), "nothing comes and the connection stays open: {read:?}");
}

async fn is_reset(client: &mut TcpStream) {
    let read = tokio::time::timeout(SOON, client.read_u8()).await.expect("in time");
    assert_eq!(read.map_err(|e| e.kind()), Err(std::io::ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn a_cut_resets_and_refuses_until_it_is_healed() {
    let (_echo, proxy) = pair().await;
    let mut client = connect(&proxy).await;
    say(&mut client, "a").await;
    hear(&mut client, "a").await;
    proxy.cut().await;
    is_reset(&mut client).await;
    let refused = TcpStream::connect(proxy.address()).await.map_err(|e| e.kind());
    assert!(matches!(refused, Err(std::io::ErrorKind::ConnectionRefused)), "{refused:?}");
    proxy.pass().await;
    let mut client = connect(&proxy).await;
    say(&mut client, "b").await;
    hear(&mut client, "b").await;
    assert_eq!(proxy.connections(), 2, "switching is not counted");
}

#[tokio::test]
async fn a_black_hole_keeps_connections_open_and_moves_nothing() {
    let (echo, proxy) = pair().await;
    let mut before = connect(&proxy).await;
    say(&mut before, "a").await;
    hear(&mut before, "a").await;
    proxy.black_hole().await;
    let mut after = connect(&proxy).await;
    say(&mut before, "b").await;
    say(&mut after, "c").await;
    hears_nothing(&mut before).await;
    hears_nothing(&mut after).await;
    assert_eq!(echo.heard(), "a");
    proxy.pass().await;
    hear(&mut before, "b").await;
    hear(&mut after, "c").await;
}

#[tokio::test]
async fn held_replies_come_later_or_never() {
    let (echo, proxy) = pair().await;
    let mut client = connect(&proxy).await;
    proxy.hold_replies().await;
    say(&mut client, "ab").await;
    echo.hears("ab").await;
    hears_nothing(&mut client).await;
    proxy.pass().await;
    hear(&mut client, "ab").await;

    proxy.hold_replies().await;
    say(&mut client, "c").await;
    echo.hears("abc").await;
    proxy.reset();
    is_reset(&mut client).await;
}

#[tokio::test]
async fn a_delayed_request_arrives_although_its_client_has_gone() {
    let (echo, proxy) = pair().await;
    let delay = Duration::from_millis(400);
    proxy.delay_requests(delay).await;
    let started = Instant::now();
    let mut client = connect(&proxy).await;
    say(&mut client, "a").await;
    drop(client);
    holds("nothing yet", delay / 2, async || echo.heard().is_empty()).await;
    echo.hears("a").await;
    assert!(started.elapsed() >= delay);
}

#[tokio::test]
async fn connections_are_reset_again_and_again() {
    let (_echo, proxy) = pair().await;
    proxy.reset_every(Duration::from_millis(50)).await;
    for _ in 0..3 {
        // On a busy machine the reset may come before the connection is even reported.
        if let Ok(mut client) = TcpStream::connect(proxy.address()).await {
            is_reset(&mut client).await;
        }
    }
    assert!(proxy.connections() >= 3);
    proxy.pass().await;
    let mut client = connect(&proxy).await;
    hears_nothing(&mut client).await;
}

#[tokio::test]
async fn one_reply_is_lost_and_no_other() {
    let (echo, proxy) = pair().await;
    let mut client = connect(&proxy).await;
    let mut lost = proxy.lose_reply_to("b");
    say(&mut client, "a").await;
    hear(&mut client, "a").await;
    say(&mut client, "b").await;
    lost.happened(SOON).await;
    is_reset(&mut client).await;
    assert_eq!(echo.heard(), "ab", "the request arrived");
    let mut client = connect(&proxy).await;
    say(&mut client, "b").await;
    hear(&mut client, "b").await;
}

#[tokio::test]
async fn etcd_carries_out_the_put_whose_reply_is_lost() {
    let etcd = require!(shared_etcd().await);
    let program = require!(crate::services::program("etcdctl", "FOREST_TEST_ETCDCTL", "etcd-client"));
    let proxy = Proxy::start(etcd.address(), Protocol::Http2).await;
    let put = async |key: &str| {
        let mut command = tokio::process::Command::new(&program);
        command.env("ETCDCTL_API", "3").args(["--endpoints", &proxy.endpoint(), "--command-timeout=5s"]);
        command
            .args(["put", key, "x"])
            .kill_on_drop(true)
            .output()
            .await
            .expect("etcdctl runs")
            .status
            .success()
    };
    let root = key_root("proxy");
    let (kept, unlucky) = (format!("{root}/kept"), format!("{root}/unlucky"));
    let mut lost = proxy.lose_reply_to(&unlucky);
    assert!(put(&kept).await, "another request is not touched");
    assert!(!put(&unlucky).await, "the client does not know");
    lost.happened(SOON).await;
    assert!(proxy.calls() >= 2);
    let gateway = etcd.gateway().await;
    let entry = gateway.get(&unlucky).await.expect("get").expect("etcd has carried it out");
    assert_eq!(entry.create_revision, entry.mod_revision, "once");
    assert!(put(&unlucky).await, "only one reply is lost");
}
