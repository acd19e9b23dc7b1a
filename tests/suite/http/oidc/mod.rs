//! Logins at a provider: who comes in, as whom, and every way in which nobody does.

mod provider;

use std::sync::Arc;
use std::time::Duration;

use forest_tests::services::Authority;
use forest_tests::wait::eventually;
use reqwest::redirect::Policy;
use reqwest::{Method, StatusCode, Url};
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;

use super::{PASSWORD, Portal, Reply, send};
use crate::tls;
use provider::{CLIENT, Lie, Provider, REDIRECT, SECRET};

/// A node that lets people log in at a provider, and their browser.
struct World {
    portal: Portal,
    provider: Provider,
    browser: reqwest::Client,
    _folder: tempfile::TempDir,
}

/// A login that has been at the provider's.
struct Return {
    /// What the browser keeps of it.
    cookie: String,
    /// Path and query.
    place: String,
}

impl World {
    async fn with(further: &[&str]) -> Option<Self> {
        forest_tests::use_ring();
        let browser = reqwest::Client::builder().redirect(Policy::none()).timeout(super::PATIENCE);
        Self::at(Provider::start().await, browser.build().expect("a client"), further).await
    }

    async fn at(provider: Provider, browser: reqwest::Client, further: &[&str]) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let secret = folder.path().join("secret");
        std::fs::write(&secret, format!("{SECRET}\n")).expect("written");
        let arguments = [
            ["--login", "on"],
            ["--oidc-issuer", &provider.issuer],
            ["--oidc-client-id", CLIENT],
            ["--oidc-client-secret-file", secret.to_str().expect("text")],
            ["--oidc-redirect-url", REDIRECT],
        ];
        let arguments = [arguments.as_flattened(), further].concat();
        let mut portal = Portal::open(&arguments).await?;
        portal.enter().await;
        Some(Self { portal, provider, browser, _folder: folder })
    }

    async fn begin(&self, query: &str) -> Reply {
        send(self.browser.get(self.portal.url(&format!("/api/v1/session/oidc{query}")))).await
    }

    /// To the provider, and with what it says back to the door.
    async fn to_the_provider_and_back(&self, query: &str) -> Return {
        let begun = self.begin(query).await;
        assert_eq!(begun.status, StatusCode::SEE_OTHER, "{begun:?}");
        let set = begun.header("set-cookie").to_owned();
        for part in ["HttpOnly", "SameSite=Lax", "Path=/api/v1/session/oidc", "Max-Age=600"] {
            assert!(set.contains(part), "{set}");
        }
        let cookie = super::cookie(&begun);
        let at_provider = send(self.browser.get(begun.header("location"))).await;
        assert_eq!(at_provider.status, StatusCode::SEE_OTHER, "{at_provider:?}");
        let back = Url::parse(at_provider.header("location")).expect("a URL");
        Return { cookie, place: format!("{}?{}", back.path(), back.query().unwrap_or_default()) }
    }

    async fn knock(&self, cookie: &str, place: &str) -> Reply {
        send(self.browser.get(self.portal.url(place)).header("cookie", cookie)).await
    }

    async fn log_in(&self) -> Reply {
        let back = self.to_the_provider_and_back("").await;
        self.knock(&back.cookie, &back.place).await
    }

    /// Who is meant from now on.
    fn says(&self, claims: Value) {
        self.provider.state().claims = claims;
    }

    async fn who(&self, session: &str) -> Reply {
        send(self.browser.get(self.portal.url("/api/v1/session")).header("cookie", session)).await
    }
}

/// The cookie of the session among those that are set, if there is one.
fn session(reply: &Reply) -> Option<String> {
    let set = reply.headers.get_all("set-cookie").iter().map(|value| value.to_str().expect("text"));
    let pairs = set.filter_map(|set| set.split(';').next());
    pairs.filter(|pair| pair.starts_with("forest_session=") && pair.len() > 20).map(str::to_owned).next()
}

fn assert_refused(reply: &Reply, why: &str) {
    assert_eq!(
        (reply.status, reply.code()),
        (StatusCode::UNAUTHORIZED, "UNAUTHENTICATED"),
        "{why}: {reply:?}"
    );
    assert_eq!(session(reply), None, "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_of_the_providers_name_comes_in_and_only_once_with_a_code() {
    let Some(world) = World::with(&[]).await else { return };
    let ann = json!({"name": "ann", "password": PASSWORD, "grants": {"everywhere": "viewer"}});
    assert_eq!(world.portal.post("/api/v1/users", ann).await.status, StatusCode::CREATED);
    world.says(json!({"preferred_username": "ann", "groups": ["admin"]}));

    let back = world.to_the_provider_and_back("").await;
    assert_refused(&world.knock("", &back.place).await, "another browser");
    let other = world.to_the_provider_and_back("").await;
    assert_refused(&world.knock(&other.cookie, &back.place).await, "the state of another login");
    let entered = world.knock(&back.cookie, &back.place).await;
    assert_eq!((entered.status, &entered.body["who"]), (StatusCode::OK, &json!("user:ann")), "{entered:?}");
    assert!(entered.body["csrf_token"].as_str().is_some_and(|token| !token.is_empty()));
    assert_eq!(entered.header("cache-control"), "no-store");
    let who = world.who(&session(&entered).expect("a session")).await;
    assert_eq!(who.body["grants"]["everywhere"], "viewer", "roles are Forest's own: {who:?}");
    assert_refused(&world.knock(&back.cookie, &back.place).await, "a code that was used");

    // With the other kind of key, and to a page of ours.
    world.provider.state().elliptic = true;
    let back = world.to_the_provider_and_back("?return_to=/duck/").await;
    let entered = world.knock(&back.cookie, &back.place).await;
    assert_eq!(
        (entered.status, entered.header("location")),
        (StatusCode::SEE_OTHER, "/duck/"),
        "{entered:?}"
    );
    assert!(session(&entered).is_some());
    let elsewhere = world.begin("?return_to=//evil.example/").await;
    assert_eq!((elsewhere.status, &elsewhere.body["field"]), (StatusCode::BAD_REQUEST, &json!("return_to")));

    world.says(json!({"preferred_username": "bob"}));
    assert_refused(&world.log_in().await, "nobody here is called so");
    world.says(json!({"preferred_username": "ann; drop"}));
    assert_refused(&world.log_in().await, "no name at all");
    world.says(json!({"name": "ann"}));
    assert_refused(&world.log_in().await, "another claim");
    world.says(json!({"preferred_username": "ann"}));
    let change = world.portal.request(Method::PATCH, "/api/v1/users/ann").json(&json!({"disabled": true}));
    assert_eq!(send(change).await.status, StatusCode::OK);
    assert_refused(&world.log_in().await, "a disabled user");
    let denied = world.to_the_provider_and_back("").await;
    let reply =
        world.knock(&denied.cookie, "/api/v1/session/oidc/callback?error=access_denied&state=x").await;
    assert_refused(&reply, "the provider did not let them in");

    eventually("the logins are written down", Duration::from_secs(20), async || {
        let audit = world.portal.get("/api/v1/audit?action=session.open&who=user:ann").await;
        audit.body["items"].as_array().is_some_and(|items| items.len() == 2)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_lie_of_a_token_is_believed() {
    let Some(world) = World::with(&[]).await else { return };
    let ann = json!({"name": "ann", "password": PASSWORD, "grants": {"everywhere": "viewer"}});
    assert_eq!(world.portal.post("/api/v1/users", ann).await.status, StatusCode::CREATED);
    world.says(json!({"preferred_username": "ann"}));
    let lies = [
        Lie::WrongNonce,
        Lie::NoNonce,
        Lie::WrongAudience,
        Lie::ForOthersToo,
        Lie::WrongIssuer,
        Lie::Expired,
        Lie::NotYet,
        Lie::Nobody,
        Lie::Unsigned,
        Lie::SignedByAnother,
        Lie::PublicKeyAsSecret,
        Lie::ChangedAfterwards,
    ];
    for lie in lies {
        world.provider.state().lie = lie;
        assert_refused(&world.log_in().await, &format!("{lie:?}"));
    }
    assert_eq!(world.provider.state().redeemed, 12, "each of them came as far as the token");
    world.provider.state().lie = Lie::Nothing;
    let entered = world.log_in().await;
    assert!(session(&entered).is_some(), "the same without a lie: {entered:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_provider_may_say_who_may_do_what() {
    let roles = "ops=admin,dev=viewer,dev=editor:trade";
    let domain = ["--oidc-roles", roles, "--oidc-email-domain", "work.example"];
    let Some(world) = World::with(&domain).await else { return };
    let eve = |groups: Value| json!({"sub": "s-eve", "email": "eve@Work.example", "email_verified": true, "groups": groups});
    world.says(eve(json!(["dev", "others"])));
    let entered = world.log_in().await;
    assert_eq!(entered.body["who"], "user:eve", "{entered:?}");
    assert_eq!(entered.body["grants"], json!({"everywhere": "viewer", "groups": {"trade": "editor"}}));
    let first = session(&entered).expect("a session");
    // There is no password that would fit.
    for password in ["", PASSWORD] {
        assert_eq!(world.portal.log_in("eve", password).await.status, StatusCode::UNAUTHORIZED);
    }
    world.says(eve(json!(["ops"])));
    assert_eq!(world.log_in().await.body["grants"]["everywhere"], "admin");
    let who = world.who(&first).await;
    assert_eq!(who.body["grants"]["everywhere"], "admin", "roles are those of now: {who:?}");
    world.says(eve(json!(["others"])));
    assert_refused(&world.log_in().await, "no role");

    let with = |claims: Value| {
        let mut all = eve(json!(["ops"]));
        all.as_object_mut().expect("an object").extend(claims.as_object().expect("an object").clone());
        all
    };
    for (claims, why) in [
        (json!({"email_verified": false}), "an address that anybody may claim"),
        (json!({"email": "eve@evil.example"}), "an address of elsewhere"),
        (json!({"sub": "s-other"}), "the name of somebody else at the provider"),
        (json!({"email": "root@work.example"}), "the name of a user whom the provider has not brought"),
    ] {
        world.says(with(claims));
        assert_refused(&world.log_in().await, why);
    }
    let root = world.portal.get("/api/v1/session").await;
    assert_eq!(root.status, StatusCode::OK, "{root:?}");
    eventually("it is written down", Duration::from_secs(20), async || {
        let audit = world.portal.get("/api/v1/audit?target=eve&who=server").await.body;
        let actions =
            audit["items"].as_array()?.iter().map(|item| item["action"].as_str().unwrap_or_default());
        (actions.collect::<Vec<_>>() == ["user.edit", "user.add"]).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_is_trusted_by_its_authority_alone() {
    let (own, stranger) = (Authority::new(), Authority::new());
    let acceptor = TlsAcceptor::from(Arc::new(tls::served(&own.sign(&["127.0.0.1"]))));
    for (trusted, comes_in) in [(&own, true), (&stranger, false)] {
        let browser = reqwest::Client::builder().redirect(Policy::none()).timeout(super::PATIENCE);
        let browser = browser.tls_backend_preconfigured(tls::config(&own, None)).build().expect("a client");
        let provider = Provider::start_with(Some(acceptor.clone())).await;
        let file = ["--oidc-ca-file", tls::text(trusted.file())];
        let Some(world) = World::at(provider, browser, &file).await else { return };
        let ann = json!({"name": "ann", "password": PASSWORD, "grants": {"everywhere": "viewer"}});
        assert_eq!(world.portal.post("/api/v1/users", ann).await.status, StatusCode::CREATED);
        world.says(json!({"preferred_username": "ann"}));
        if comes_in {
            assert!(session(&world.log_in().await).is_some());
        } else {
            let begun = world.begin("").await;
            assert_eq!(
                (begun.status, begun.code()),
                (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE"),
                "{begun:?}"
            );
            assert!(
                begun.body["detail"].as_str().is_some_and(|why| why.contains("certificate")),
                "{begun:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_may_change_its_keys_and_be_away() {
    let Some(world) = World::with(&[]).await else { return };
    let ann = json!({"name": "ann", "password": PASSWORD, "grants": {"everywhere": "viewer"}});
    assert_eq!(world.portal.post("/api/v1/users", ann).await.status, StatusCode::CREATED);
    world.says(json!({"preferred_username": "ann"}));
    assert!(session(&world.log_in().await).is_some());
    world.provider.state().generation = 2;
    // Its keys are asked for again, though not at every token with an unknown one.
    eventually("the new keys are known", Duration::from_secs(40), async || {
        tokio::time::sleep(Duration::from_secs(3)).await;
        session(&world.log_in().await)
    })
    .await;
    let World { portal, provider, browser, .. } = world;
    drop(provider);
    let away = send(browser.get(portal.url("/api/v1/session/oidc/callback?code=c&state=s"))).await;
    assert_eq!(away.status, StatusCode::UNAUTHORIZED, "{away:?}");
    assert_eq!(portal.log_in("ann", PASSWORD).await.status, StatusCode::OK, "passwords go on");

    let Some(without) = Portal::open(&["--login", "on"]).await else { return };
    let none = send(browser.get(without.url("/api/v1/session/oidc"))).await;
    assert_eq!((none.status, none.code()), (StatusCode::NOT_FOUND, "NOT_FOUND"), "off unless configured");
}
