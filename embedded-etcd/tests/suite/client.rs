//! An unmodified etcd client, in memory and over TCP: the same conversation with both.

use std::time::Duration;

use embedded_etcd::{Etcd, ServeError, TokioClock};
use etcd_client::{
    AlarmAction, AlarmType, Channel, Client, Compare, CompareOp, EventType, GetOptions, PutOptions, Txn,
    TxnOp, WatchOptions,
};
use futures_util::TryFutureExt;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::codegen::http;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, ServiceExt, service_fn};

async fn in_memory(etcd: &Etcd) -> Client {
    let routes = etcd.routes().prepare();
    let service = service_fn(move |request: http::Request<tonic::body::Body>| {
        routes.clone().oneshot(request).map_err(BoxError::from)
    });
    Client::from_channel(Channel::Custom(BoxCloneSyncService::new(service)), None).await.unwrap()
}

async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

/// What Forest does with its etcd.
async fn converse(client: Client) {
    let mut kv = client.kv_client();
    let put = kv.put("/job/1", "one", None).await.unwrap();
    let revision = put.header().unwrap().revision();

    let mut watch = client.watch_client();
    let options = WatchOptions::new().with_prefix().with_start_revision(revision).with_prev_key();
    let mut events = watch.watch("/job/", Some(options)).await.unwrap();

    let absent = Compare::create_revision("/job/1", CompareOp::Equal, 0);
    let txn = Txn::new().when([absent]).and_then([TxnOp::put("/job/1", "never", None)]);
    let txn = txn.or_else([TxnOp::put("/job/1", "two", None), TxnOp::get("/job/1", None)]);
    assert!(!kv.txn(txn).await.unwrap().succeeded());

    let mut leases = client.lease_client();
    let lease = leases.grant(5, None).await.unwrap().id();
    kv.put("/job/2", "leased", Some(PutOptions::new().with_lease(lease))).await.unwrap();
    leases.revoke(lease).await.unwrap();

    let mut told = Vec::new();
    while told.len() < 4 {
        let response = timeout(Duration::from_secs(10), events.message()).await.unwrap().unwrap().unwrap();
        for event in response.events() {
            let (kv, before) =
                (event.kv().unwrap(), event.prev_kv().map(|kv| kv.value_str().unwrap().to_owned()));
            told.push((event.event_type(), kv.key_str().unwrap().to_owned(), before));
        }
    }
    let one = |key: &str, before: Option<&str>, kind| (kind, key.to_owned(), before.map(str::to_owned));
    let expected = [
        one("/job/1", None, EventType::Put),
        one("/job/1", Some("one"), EventType::Put),
        one("/job/2", None, EventType::Put),
        one("/job/2", Some("leased"), EventType::Delete),
    ];
    assert_eq!(told, expected);
    let left = kv.get("/job/", Some(GetOptions::new().with_prefix())).await.unwrap();
    assert_eq!(left.kvs().iter().map(|kv| kv.value_str().unwrap()).collect::<Vec<_>>(), ["two"]);
}

/// Paused time moves on only when nobody has anything to do: the lease ends at once, and without a keep-alive.
async fn outlive_a_lease(client: Client) {
    let (mut keeper, mut answers) = {
        let lease = client.lease_client().grant(5, None).await.unwrap().id();
        client.kv_client().put("held", "", Some(PutOptions::new().with_lease(lease))).await.unwrap();
        client.lease_client().keep_alive(lease).await.unwrap()
    };
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(3)).await;
        keeper.keep_alive().await.unwrap();
        assert_eq!(answers.message().await.unwrap().unwrap().ttl(), 5);
    }
    assert_eq!(client.kv_client().get("held", None).await.unwrap().count(), 1);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(client.kv_client().get("held", None).await.unwrap().count(), 0);
    keeper.keep_alive().await.unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap().ttl(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_works_in_memory_and_on_paused_time() {
    let etcd = Etcd::new(TokioClock::shared());
    let mut tasks = JoinSet::new();
    let runner = etcd.clone();
    tasks.spawn(async move { runner.run(CancellationToken::new()).await });
    converse(in_memory(&etcd).await).await;
    outlive_a_lease(in_memory(&etcd).await).await;
}

#[tokio::test]
async fn a_client_works_over_tcp_and_a_shutdown_ends_its_streams() {
    let etcd = Etcd::new(TokioClock::shared());
    let (listener, address) = listener().await;
    let shutdown = CancellationToken::new();
    let mut server = JoinSet::new();
    server.spawn(etcd.serve(listener, shutdown.clone()));
    let client = Client::connect([address], None).await.unwrap();
    converse(client.clone()).await;
    let mut events = client.watch_client().watch("", None).await.unwrap();
    let lease = client.lease_client().grant(60, None).await.unwrap().id();
    let (_keeper, mut answers) = client.lease_client().keep_alive(lease).await.unwrap();
    shutdown.cancel();
    let ended = timeout(Duration::from_secs(20), server.join_next()).await.unwrap();
    ended.unwrap().unwrap().unwrap();
    let ends = async {
        // What was said before may still be there.
        while let Ok(Some(_)) = events.message().await {}
        while let Ok(Some(_)) = answers.message().await {}
    };
    timeout(Duration::from_secs(20), ends).await.unwrap();
}

#[tokio::test]
async fn nobody_else_can_reach_it() {
    let etcd = Etcd::new(TokioClock::shared());
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let refused = etcd.serve(listener, CancellationToken::new()).await;
    assert!(matches!(refused, Err(ServeError::NotLoopback(_))), "{refused:?}");
}

#[tokio::test]
async fn what_it_lacks_is_unimplemented() {
    let client = in_memory(&Etcd::new(TokioClock::shared())).await;
    let code = |error: etcd_client::Error| match error {
        etcd_client::Error::GRpcStatus(status) => status.code(),
        other => panic!("{other}"),
    };
    let unimplemented = tonic::Code::Unimplemented;
    assert_eq!(code(client.auth_client().user_list().await.unwrap_err()), unimplemented);
    assert_eq!(code(client.maintenance_client().defragment().await.unwrap_err()), unimplemented);
    assert_eq!(code(client.lock_client().lock("a", None).await.unwrap_err()), unimplemented);
    let alarms = client.maintenance_client().alarm(AlarmAction::Get, AlarmType::None, None).await.unwrap();
    assert!(alarms.alarms().is_empty());
    let status = client.maintenance_client().status().await.unwrap();
    assert_eq!((status.version(), status.leader()), ("3.4.23", 1));
    assert_eq!(client.cluster_client().member_list().await.unwrap().members().len(), 1);
}

/// A client that reads slowly stops only itself, and misses nothing.
#[tokio::test]
async fn a_watch_that_is_not_read_holds_nobody_up() {
    const WRITES: usize = 3_000;
    let etcd = Etcd::new(TokioClock::shared());
    let (listener, address) = listener().await;
    let mut server = JoinSet::new();
    server.spawn(etcd.serve(listener, CancellationToken::new()));
    let slow = Client::connect([&address], None).await.unwrap();
    let mut events = slow.watch_client().watch("a", None).await.unwrap();
    let mut kv = Client::connect([&address], None).await.unwrap().kv_client();
    // Far more than the buffers of a connection take.
    for _ in 0..WRITES {
        kv.put("a", vec![0; 10_000], None).await.unwrap();
    }
    let mut seen = 0;
    while seen < WRITES {
        seen += timeout(Duration::from_secs(20), events.message())
            .await
            .unwrap()
            .unwrap()
            .unwrap()
            .events()
            .len();
    }
    assert_eq!(seen, WRITES);
}
