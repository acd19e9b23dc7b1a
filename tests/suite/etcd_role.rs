//! The roles that `forest-cli etcd role` prints are enough for workers and nodes, and nothing more.

use std::time::Duration;

use forest_client::{JobContext, Worker};
use forest_etcd::EtcdConfig;
use forest_tests::names::unique;
use forest_tests::process::{ServerOptions, ServerProcess};
use forest_tests::services::etcd::ROOT;
use forest_tests::services::gateway::GatewayError;
use forest_tests::services::{Etcd, EtcdOptions, Gateway, available, shared_mariadb};
use forest_tests::wait::eventually;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::cli::call_in;
use crate::stage::SOON;

const WORKER: (&str, &str) = ("worker", "worker-of-the-test");
const NODE: (&str, &str) = ("node", "node-of-the-test");

/// Makes a user with the role that the printed commands make.
async fn user(etcd: &Etcd, (name, password): (&str, &str), who: &[&str]) {
    let printed = call_in(&[], &[&["etcd", "role"], who].concat(), "").await;
    assert_eq!((printed.code, printed.err.as_str()), (0, ""), "{printed:?}");
    let mut shell = tokio::process::Command::new("sh");
    shell.args(["-e", "-c", &printed.out]).kill_on_drop(true);
    shell.env("ETCDCTL_API", "3").env("ETCDCTL_ENDPOINTS", etcd.endpoint());
    let applied =
        shell.env("ETCDCTL_USER", format!("{}:{}", ROOT.0, ROOT.1)).output().await.expect("a shell");
    assert!(applied.status.success(), "{printed:?}: {applied:?}");
    let role =
        printed.out.lines().next().and_then(|line| line.rsplit(' ').next()).expect("a name").to_owned();
    let gateway = etcd.gateway().await;
    let added = json!({"name": name, "password": password});
    gateway.call("auth/user/add", &added).await.expect("a user");
    gateway.call("auth/user/grant", &json!({"user": name, "role": role})).await.expect("granted");
}

async fn everything(ctx: JobContext) -> Result<String, forest_client::shared::SharedError> {
    let shared = ctx.shared();
    let lock = shared.lock("ledger").limit(Duration::from_secs(60)).acquire().await?;
    shared.queue("mail")?.push("a letter").await?;
    let letter = shared.queue("mail")?.take_within(Duration::from_secs(20)).await?;
    if let Some(letter) = letter {
        letter.done().await?;
    }
    lock.guarded().state().put("last", "now").await?;
    lock.release().await?;
    Ok("all of it".into())
}

async fn patient(ctx: JobContext) -> Result<(), String> {
    ctx.cancelled().await;
    Err("stopped".into())
}

fn is_denied<T: std::fmt::Debug>(answer: Result<T, GatewayError>) -> bool {
    matches!(&answer, Err(GatewayError::Refused(why)) if why.contains("permission denied"))
}

#[tokio::test(flavor = "multi_thread")]
async fn printed_roles_are_enough_and_open_nothing_else() {
    let Some(etcd) = available(Etcd::start(EtcdOptions { users: true, ..Default::default() }).await) else {
        return;
    };
    let Some(mariadb) = available(shared_mariadb().await) else { return };
    let database = mariadb.database("forest").await;
    user(&etcd, WORKER, &["worker", "trade"]).await;
    user(&etcd, NODE, &["node"]).await;

    let mut options = ServerOptions::new(vec![etcd.endpoint()], "/forest", &database.url, &unique("node"));
    options.variables =
        vec![("FOREST_ETCD_USER".into(), NODE.0.into()), ("FOREST_ETCD_PASSWORD".into(), NODE.1.into())];
    let node = ServerProcess::start(&options).expect("the node starts");
    node.wait_ready().await;
    let admin = node.admin();
    for group in ["trade", "other"] {
        admin.add_group(group).await.expect("a group");
    }
    let (name, password) = (Some(WORKER.0.to_owned()), Some(WORKER.1.to_owned()));
    let config = EtcdConfig { user: name, password, ..EtcdConfig::new([etcd.endpoint()]) };
    let worker = Worker::builder("trade").etcd_config(config).job("all", everything).job("patient", patient);
    let shutdown = CancellationToken::new();
    let working = tokio::spawn(worker.build().expect("a worker").run_until(shutdown.clone()));

    let job = async |target: &str| {
        let job = json!({"name": target, "group": "trade", "target": target, "cron": "0 0 0 1 1 ?", "max_attempts": 1});
        let job = admin.add_job(&job).await.expect("a job");
        admin.run_job(&job, None, Some("once")).await.expect("a run")
    };
    let ended = async |run: &str, outcome: &str| {
        eventually("the run ends", SOON, async || {
            let run = admin.get_run(run).await.map_err(|status| status.to_string())?;
            if run.outcome == outcome { Ok(()) } else { Err(format!("{run:?}")) }
        })
        .await;
    };
    ended(&job("all").await, "succeeded").await;
    let stopped = job("patient").await;
    eventually("it runs", SOON, async || {
        admin.get_run(&stopped).await.is_ok_and(|run| run.state == "running")
    })
    .await;
    admin.cancel_run(&stopped).await.expect("asked to stop");
    ended(&stopped, "cancelled").await;
    assert!(!working.is_finished(), "the worker lives");

    nothing_else(&etcd).await;
    shutdown.cancel();
    working.await.expect("no panic").expect("it ends in order");
    eventually("its registration is gone", SOON, async || {
        admin.list_clients("trade").await.is_ok_and(|clients| clients.is_empty())
    })
    .await;
}

/// Tries what each user must not reach.
async fn nothing_else(etcd: &Etcd) {
    let gateway = Gateway::new(etcd.address());
    let worker = gateway.signed_in(WORKER.0, WORKER.1).await.expect("the worker");
    let foreign = [
        "client/other/clients/c",
        "client/snapshot/other/c/r",
        "client/execute/snapshot/other/c/r",
        "client/execute/late/other/c/r",
        "client/cancel/other/c/r",
        "client/trade.r/clients/c",
        "server/user/root",
        "server/token/t",
        "server/session/s",
        "server/audit/a",
        "server/conf/1",
        "server/group/trade",
        "server/elect/leader",
        "server/node/n",
        "server/meta",
        "server/pending/trade/r",
        "server/request/0/k",
    ];
    let foreign = foreign.iter().map(|rest| format!("/forest/{rest}"));
    for key in foreign.chain(["/forest-shared/other/state/x".into(), "/elsewhere".into()]) {
        assert!(is_denied(worker.get(&key).await), "{key} is read");
        assert!(is_denied(worker.put(&key, "x").await), "{key} is written");
        assert!(is_denied(worker.delete(&key).await), "{key} is deleted");
    }
    assert!(is_denied(worker.list("/forest/").await), "everything is listed");
    assert!(is_denied(worker.list("/forest/client/").await), "all groups are listed");
    assert!(worker.list("/forest/client/trade/clients/").await.is_ok(), "its own group is there");
    assert!(worker.call("auth/user/list", &json!({})).await.is_err(), "it is no administrator of etcd");

    let node = gateway.signed_in(NODE.0, NODE.1).await.expect("the node");
    for key in ["/forest-shared/trade/state/last", "/elsewhere"] {
        assert!(is_denied(node.get(key).await), "{key} is read");
        assert!(is_denied(node.put(key, "x").await), "{key} is written");
    }
    assert!(node.call("auth/user/list", &json!({})).await.is_err(), "it is no administrator of etcd");
}
