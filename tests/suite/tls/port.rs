//! The port with TLS: whom its callers trust, certificates as a login, certificates that are replaced.

use std::time::Duration;

use forest_tests::names::{key_root, unique};
use forest_tests::process::{ServerOptions, ServerProcess};
use forest_tests::services::{Authority, Signed};
use forest_tests::wait::eventually;
use reqwest::StatusCode;
use serde_json::json;

use super::{client, text};
use crate::cli::{Said, call_in};
use crate::http::{PASSWORD, Portal, send};

/// The files of a server, and who signs what.
struct Papers {
    servers: Authority,
    clients: Authority,
    own: Signed,
}

impl Papers {
    fn new() -> Self {
        let servers = Authority::new();
        let own = servers.sign(&["localhost", "127.0.0.1"]);
        Self { servers, clients: Authority::new(), own }
    }

    /// A node that serves TLS and wants a login, with an administrator, and takes client certificates.
    async fn portal(&self) -> Option<Portal> {
        let arguments = [
            ["--login", "on"],
            ["--tls-cert-file", text(&self.own.cert)],
            ["--tls-key-file", text(&self.own.key)],
            ["--tls-client-ca-file", text(self.clients.file())],
        ];
        let http = client(&self.servers, None);
        let mut portal = Portal::open_as("https", http, arguments.as_flattened()).await?;
        portal.enter().await;
        Some(portal)
    }
}

async fn cli(portal: &Portal, trusted: &Authority, shown: Option<&Signed>, line: &[&str]) -> Said {
    let url = portal.url("");
    let mut variables = vec![("FOREST_SERVER", url.as_str()), ("FOREST_CA_FILE", text(trusted.file()))];
    match shown {
        Some(shown) => {
            variables.extend([("FOREST_CERT_FILE", text(&shown.cert)), ("FOREST_KEY_FILE", text(&shown.key))])
        }
        None => variables.push(("FOREST_TOKEN", &portal.token)),
    }
    call_in(&variables, line, "").await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_port_is_trusted_by_its_authority_alone() {
    let papers = Papers::new();
    let Some(portal) = papers.portal().await else { return };
    assert_eq!(portal.get("/api/v1/groups").await.status, StatusCode::OK);
    let said = cli(&portal, &papers.servers, None, &["group", "list", "-o", "name"]).await;
    assert_eq!((said.code, said.out.as_str()), (0, "trade\n"), "{said:?}");
    let session = portal.log_in("root", PASSWORD).await;
    assert!(session.header("set-cookie").contains("; Secure"), "{session:?}");

    let stranger = Authority::new();
    let refused = client(&stranger, None).get(portal.url("/livez")).send().await;
    let refused = format!("{:?}", refused.expect_err("an authority that is not trusted"));
    assert!(refused.contains("UnknownIssuer"), "{refused}");
    let said = cli(&portal, &stranger, None, &["status"]).await;
    assert!(said.code == 5 && said.err.contains("certificate"), "{said:?}");

    let plain = reqwest::Client::builder().timeout(Duration::from_secs(20)).build().expect("a client");
    let unencrypted = plain.get(format!("http://{}/livez", portal.server.address())).send().await;
    assert!(unencrypted.is_err(), "nothing is said without TLS: {unencrypted:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_a_login_as_the_user_of_its_first_name() {
    let papers = Papers::new();
    let Some(portal) = papers.portal().await else { return };
    let ci = json!({"name": "ci", "password": PASSWORD, "grants": {"groups": {"trade": "editor"}}});
    assert_eq!(portal.post("/api/v1/users", ci).await.status, StatusCode::CREATED);
    // Only the first name counts: the second one would be an administrator.
    let shown = papers.clients.sign(&["ci", "root"]);
    let http = client(&papers.servers, Some(&shown));
    let who = send(http.get(portal.url("/api/v1/session"))).await;
    assert_eq!((who.status, &who.body["who"]), (StatusCode::OK, &json!("certificate:ci")), "{who:?}");
    assert_eq!(who.body["grants"]["groups"]["trade"], "editor");
    let said = cli(&portal, &papers.servers, Some(&shown), &["whoami", "-o", "json"]).await;
    assert!(said.code == 0 && said.out.contains("certificate:ci"), "{said:?}");
    let add = ["job", "add", "--group", "trade", "--name", "j", "--target", "t", "--cron", "@daily"];
    let said = cli(&portal, &papers.servers, Some(&shown), &add).await;
    assert_eq!(said.code, 0, "an editor of this group: {said:?}");
    let said = cli(&portal, &papers.servers, Some(&shown), &["group", "add", "other"]).await;
    assert_eq!(said.code, 6, "and no more: {said:?}");
    let refused = send(http.post(portal.url("/api/v1/groups")).json(&json!({"name": "other"}))).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{refused:?}");
    // A token goes before it.
    let both = send(http.get(portal.url("/api/v1/session")).bearer_auth(&portal.token)).await;
    assert!(both.body["who"].as_str().is_some_and(|who| who.starts_with("token:")), "{both:?}");

    for names in [&["nobody"][..], &["127.0.0.1"], &["*.example"], &[]] {
        let unknown = papers.clients.sign(names);
        let refused = client(&papers.servers, Some(&unknown)).get(portal.url("/api/v1/session"));
        let refused = send(refused).await;
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{names:?}: {refused:?}");
        let said = cli(&portal, &papers.servers, Some(&unknown), &["whoami"]).await;
        assert_eq!(said.code, 6, "{names:?}: {said:?}");
    }

    let stranger = Authority::new();
    let foreign = stranger.sign(&["ci"]);
    let handshake = client(&papers.servers, Some(&foreign)).get(portal.url("/livez")).send().await;
    assert!(handshake.is_err(), "even what needs no login is not answered: {handshake:?}");
    let said = cli(&portal, &papers.servers, Some(&foreign), &["whoami"]).await;
    assert_eq!(said.code, 5, "{said:?}");

    let disabled =
        send(portal.request(reqwest::Method::PATCH, "/api/v1/users/ci").json(&json!({"disabled": true})));
    assert_eq!(disabled.await.status, StatusCode::OK);
    let out = send(http.get(portal.url("/api/v1/session"))).await;
    assert_eq!(out.status, StatusCode::UNAUTHORIZED, "{out:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn new_certificates_are_served_without_a_restart_and_broken_ones_are_not() {
    let papers = Papers::new();
    let Some(portal) = papers.portal().await else { return };
    let served_by =
        async |authority: &Authority| client(authority, None).get(portal.url("/livez")).send().await.is_ok();
    let next = Authority::new();
    assert!(served_by(&papers.servers).await && !served_by(&next).await);
    next.sign(&["127.0.0.1"]).replace(&papers.own);
    eventually("the new certificate is served", Duration::from_secs(30), async || served_by(&next).await)
        .await;
    assert!(!served_by(&papers.servers).await, "and no more the old one");

    std::fs::write(&papers.own.cert, "-----BEGIN CERTIFICATE-----\nAAAA\n").expect("written");
    let said = async || {
        // It looks when somebody connects.
        assert!(served_by(&next).await, "the one of before is still served");
        portal.server.output().contains("the new certificates cannot be used")
    };
    eventually("the broken one is noticed", Duration::from_secs(30), said).await;
    assert!(served_by(&next).await);

    papers.servers.sign(&["127.0.0.1"]).replace(&papers.own);
    let again = async || served_by(&papers.servers).await;
    eventually("a good one is taken again", Duration::from_secs(30), again).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_others_reach_needs_login_and_tls() {
    let papers = Papers::new();
    let tls = ["--tls-cert-file", text(&papers.own.cert), "--tls-key-file", text(&papers.own.key)];
    let start = async |arguments: &[&str]| {
        // The configuration is refused before anything is connected to.
        let nowhere = vec!["http://127.0.0.1:1".to_owned()];
        let mut options =
            ServerOptions::new(nowhere, &key_root("forest"), "mysql://root@127.0.0.1:1/x", &unique("node"));
        options.arguments = ["--listen", "0.0.0.0:0"].iter().chain(arguments).map(|a| (*a).into()).collect();
        ServerProcess::start(&ServerOptions { log_level: "info".into(), ..options }).expect("it starts")
    };
    for (arguments, why) in
        [(&[][..], "login is off"), (&["--login", "on"], "there is no TLS"), (&tls, "login is off")]
    {
        let server = start(arguments).await;
        let ended = server.wait_exit(Duration::from_secs(30)).await;
        assert_eq!(ended.code(), Some(2), "{}", server.output());
        assert!(server.output().contains(why), "{why}: {}", server.output());
    }
    for arguments in
        [&["--login", "on"].iter().chain(&tls).copied().collect::<Vec<_>>()[..], &["--insecure-listen"]]
    {
        let server = start(arguments).await;
        server.wait_for_line("waiting", Duration::from_secs(30)).await;
        assert!(server.is_running(), "{}", server.output());
    }
}
