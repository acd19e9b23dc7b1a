//! The HTTP faces of a node that wants a login: who may do what, the REST API, and the original's contract.

mod fuzz;
mod legacy;
mod limits;
mod login;
mod oidc;
mod rest;
mod roles;

use std::time::Duration;

use forest_tests::names::{key_root, unique};
use forest_tests::process::{ServerOptions, ServerProcess};
use forest_tests::services::{Database, available, shared_etcd, shared_mariadb};
use forest_tests::wait::eventually;
use reqwest::header::{AUTHORIZATION, HeaderMap};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

pub(crate) const PASSWORD: &str = "correct horse battery";
/// How long one request may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A node, and the token that it printed for the first administrator.
pub(crate) struct Portal {
    pub(crate) server: ServerProcess,
    scheme: &'static str,
    _database: Database,
    key_root: String,
    pub(crate) http: reqwest::Client,
    /// Of an administrator of everything; empty where nobody has to log in.
    pub(crate) token: String,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    headers: HeaderMap,
    pub(crate) body: Value,
}

impl Reply {
    pub(crate) fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().expect("text")).unwrap_or_default()
    }
}

impl Portal {
    /// `None`, and a word about it, where a service is not installed.
    pub(crate) async fn open(arguments: &[&str]) -> Option<Self> {
        forest_tests::use_ring();
        let http = reqwest::Client::builder().timeout(PATIENCE).build().expect("a client");
        Self::open_as("http", http, arguments).await
    }

    /// The same, reached with this client.
    pub(crate) async fn open_as(
        scheme: &'static str,
        http: reqwest::Client,
        arguments: &[&str],
    ) -> Option<Self> {
        let etcd = available(shared_etcd().await)?;
        let database = available(shared_mariadb().await)?.database("forest").await;
        let key_root = key_root("forest");
        let mut options =
            ServerOptions::new(vec![etcd.endpoint()], &key_root, &database.url, &unique("node"));
        options.lease_ttl = Some(Duration::from_secs(3));
        options.arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let server = ServerProcess::start(&options).expect("the server starts");
        let token = String::new();
        let mut portal = Self { server, scheme, _database: database, key_root, http, token };
        eventually("the node leads", Duration::from_secs(30), async || {
            let ready = portal.http.get(portal.url("/readyz?verbose")).send().await;
            let Ok(ready) = ready else { return false };
            ready.json::<Value>().await.is_ok_and(|checks| checks["leads"] == true && checks["ready"] == true)
        })
        .await;
        if arguments.contains(&"--login") {
            let line = portal.server.wait_for_line("FOREST_TOKEN=", Duration::from_secs(10)).await;
            let token = line.trim().strip_prefix("FOREST_TOKEN=").and_then(|rest| rest.split(' ').next());
            portal.token = token.expect("a token").to_owned();
        }
        Some(portal)
    }

    /// With a login, an administrator `root`, and a group.
    pub(crate) async fn with_login() -> Option<Self> {
        let mut portal = Self::open(&["--login", "on"]).await?;
        portal.enter().await;
        Some(portal)
    }

    /// Makes the administrator `root`, a token and a group.
    pub(crate) async fn enter(&mut self) {
        let portal = self;
        let root = json!({"name": "root", "password": PASSWORD, "grants": {"everywhere": "admin"}});
        let added = portal.post("/api/v1/users", root).await;
        assert_eq!(added.status, StatusCode::CREATED, "{added:?}");
        let logged_in = portal.log_in("root", PASSWORD).await;
        let (cookie, csrf) =
            (cookie(&logged_in), logged_in.body["csrf_token"].as_str().expect("text").to_owned());
        let token = json!({"name": "tests", "grants": {"everywhere": "admin"}});
        let request = portal.http.post(portal.url("/api/v1/tokens")).json(&token);
        let made = send(request.header("cookie", cookie).header("x-csrf-token", csrf)).await;
        portal.token = made.body["secret"].as_str().expect("a secret").to_owned();
        portal.post("/api/v1/groups", json!({"name": "trade"})).await;
    }

    pub(crate) fn address(&self) -> std::net::SocketAddr {
        self.server.address()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.server.address())
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, self.url(path));
        if self.token.is_empty() { request } else { request.bearer_auth(&self.token) }
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        send(self.request(Method::GET, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Reply {
        send(self.request(Method::POST, path).json(&body)).await
    }

    pub(crate) async fn log_in(&self, user: &str, password: &str) -> Reply {
        let body = json!({"user": user, "password": password});
        send(self.http.post(self.url("/api/v1/session")).json(&body)).await
    }

    /// A token with these grants.
    pub(crate) async fn token_for(&self, grants: Value) -> String {
        let made = self.post("/api/v1/tokens", json!({"name": unique("token"), "grants": grants})).await;
        made.body["secret"].as_str().unwrap_or_else(|| panic!("{made:?}")).to_owned()
    }

    /// A job of the group `trade`; its id.
    pub(crate) async fn job(&self) -> String {
        let job = json!({"name": unique("job"), "group": "trade", "target": "t", "cron": "0 0 0 1 1 ?"});
        let added = self.post("/api/v1/jobs", job).await;
        added.body["id"].as_str().unwrap_or_else(|| panic!("{added:?}")).to_owned()
    }
}

pub(crate) async fn send(request: reqwest::RequestBuilder) -> Reply {
    let response = request.send().await.expect("an answer");
    let (status, headers) = (response.status(), response.headers().clone());
    let text = response.text().await.expect("a body");
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Reply { status, headers, body }
}

/// The session's cookie, as it is sent back.
pub(crate) fn cookie(reply: &Reply) -> String {
    reply.header("set-cookie").split(';').next().unwrap_or_default().to_owned()
}

/// A request of nobody in particular.
pub(crate) fn without_token(portal: &Portal, method: Method, path: &str) -> reqwest::RequestBuilder {
    let request = portal.request(method, path).build().expect("a request");
    let mut headers = request.headers().clone();
    headers.remove(AUTHORIZATION);
    portal.http.request(request.method().clone(), request.url().clone()).headers(headers)
}
