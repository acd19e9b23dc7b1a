//! TLS to etcd, with a certificate of our own and a user: node and worker.

use std::time::Duration;

use forest_tests::names::{key_root, unique};
use forest_tests::process::{ServerOptions, ServerProcess, WorkerProcess};
use forest_tests::services::etcd::USER;
use forest_tests::services::{Authority, Etcd, EtcdOptions, EtcdTls, Signed, available, shared_mariadb};
use forest_tests::wait::eventually;
use serde_json::json;

use super::text;
use crate::stage::SOON;

/// What node and worker are told.
struct Way<'a> {
    etcd: &'a Etcd,
    trusted: &'a Authority,
    shown: &'a Signed,
    password: &'a str,
    key_root: String,
}

impl Way<'_> {
    fn node(&self, db_url: &str) -> ServerProcess {
        let endpoints = vec![self.etcd.secure_endpoint()];
        let mut options = ServerOptions::new(endpoints, &self.key_root, db_url, &unique("node"));
        options.variables = [
            ("FOREST_ETCD_CA_FILE", text(self.trusted.file())),
            ("FOREST_ETCD_CERT_FILE", text(&self.shown.cert)),
            ("FOREST_ETCD_KEY_FILE", text(&self.shown.key)),
            ("FOREST_ETCD_USER", USER.0),
            ("FOREST_ETCD_PASSWORD", self.password),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        ServerProcess::start(&ServerOptions { log_level: "info".into(), ..options }).expect("the node starts")
    }

    fn worker(&self) -> WorkerProcess {
        let endpoint = self.etcd.secure_endpoint();
        let arguments = [
            ["--etcd", &endpoint],
            ["--etcd-ca", text(self.trusted.file())],
            ["--etcd-cert", text(&self.shown.cert)],
            ["--etcd-key", text(&self.shown.key)],
            ["--etcd-user", USER.0],
            ["--etcd-password", self.password],
            ["--key-root", &self.key_root],
            ["--group", "trade"],
        ];
        let arguments = arguments.as_flattened().iter().map(|argument| (*argument).to_owned()).collect();
        WorkerProcess::start("worker", arguments).expect("the worker starts")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn node_and_worker_reach_an_etcd_that_wants_a_certificate_and_a_user() {
    let (own, clients) = (Authority::new(), Authority::new());
    let options = EtcdOptions { users: true, tls: Some(EtcdTls::new(&own, &clients)), ..Default::default() };
    let Some(etcd) = available(Etcd::start(options).await) else { return };
    let Some(mariadb) = available(shared_mariadb().await) else { return };
    let database = mariadb.database("forest").await;
    let shown = clients.sign(&["forest-node"]);
    let good =
        Way { etcd: &etcd, trusted: &own, shown: &shown, password: USER.1, key_root: key_root("forest") };
    let node = good.node(&database.url);
    node.wait_ready().await;
    node.admin().add_group("trade").await.expect("a group");
    let _worker = good.worker();
    let job =
        json!({"name": "j", "group": "trade", "target": "echo", "cron": "@every 1s", "params": "hello"});
    let job = node.admin().add_job(&job).await.expect("a job");
    eventually("a run succeeds", SOON, async || {
        let runs = node.admin().runs_of(&job).await.unwrap_or_default();
        runs.iter().any(|run| run.outcome == "succeeded" && run.result == "hello")
    })
    .await;

    // Each of these alone is enough to stay outside.
    let stranger = Authority::new();
    let foreign = stranger.sign(&["forest-node"]);
    for (what, way) in [
        ("an authority that is not trusted", Way { trusted: &stranger, ..good_like(&good) }),
        ("a certificate of another authority", Way { shown: &foreign, ..good_like(&good) }),
        ("a wrong password", Way { password: "guessed", ..good_like(&good) }),
    ] {
        let way = Way { key_root: key_root("outside"), ..way };
        let (node, worker) = (way.node(&database.url), way.worker());
        let refused = async || {
            let said = [node.output(), worker.output()];
            said.iter().all(|said| said.contains("WARN") || said.contains("ERROR")).then_some(said)
        };
        let said = eventually(what, SOON, refused).await;
        assert!(said.iter().all(|said| !said.contains("guessed")), "no password in a log: {said:?}");
        let written = etcd.gateway().await.count(&format!("{}/", way.key_root)).await.expect("a count");
        assert_eq!(written, 0, "{what}");
    }
}

fn good_like<'a>(way: &Way<'a>) -> Way<'a> {
    Way { key_root: way.key_root.clone(), ..*way }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_not_what_it_should_be_is_refused_by_its_name() {
    let (own, clients) = (Authority::new(), Authority::new());
    let options = EtcdOptions { tls: Some(EtcdTls::new(&own, &clients)), ..Default::default() };
    let Some(etcd) = available(Etcd::start(options).await) else { return };
    let shown = clients.sign(&["forest-node"]);
    let start = |name: &str| {
        let endpoints = vec![etcd.secure_endpoint()];
        let folder = tempfile::tempdir().expect("a folder");
        let db_url = format!("sqlite://{}", folder.path().join("history.db").display());
        let mut options = ServerOptions::new(endpoints, &key_root("forest"), &db_url, &unique("node"));
        options.arguments = [
            ["--etcd-ca-file", text(own.file())],
            ["--etcd-cert-file", text(&shown.cert)],
            ["--etcd-key-file", text(&shown.key)],
            ["--etcd-server-name", name],
        ]
        .as_flattened()
        .iter()
        .map(|argument| (*argument).to_owned())
        .collect();
        (
            ServerProcess::start(&ServerOptions { log_level: "info".into(), ..options })
                .expect("the node starts"),
            folder,
        )
    };
    // Reached by its address, and known by another name that its certificate has.
    let (known, _folder) = start("localhost");
    known.wait_ready().await;
    let (other, _other_folder) = start("etcd.example");
    other.wait_for_line("waiting for etcd", Duration::from_secs(30)).await;
    assert!(other.is_running(), "{}", other.output());
}
