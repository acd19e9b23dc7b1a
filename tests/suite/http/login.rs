//! Passwords, sessions, tokens, and what browsers are made to do by other sites.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use forest_tests::wait::eventually;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{PASSWORD, Portal, cookie, send, without_token};
use crate::cli::call_in;

#[tokio::test]
async fn the_first_token_makes_one_administrator_and_ends() {
    let Some(portal) = Portal::open(&["--login", "on"]).await else { return };
    let who = portal.get("/api/v1/session").await;
    assert_eq!(who.body["who"], "token:bootstrap");
    let weak = json!({"name": "root", "password": "short", "grants": {"everywhere": "admin"}});
    let refused = portal.post("/api/v1/users", weak).await;
    assert_eq!((refused.status, &refused.body["field"]), (StatusCode::BAD_REQUEST, &json!("password")));
    let root = json!({"name": "root", "password": PASSWORD, "grants": {"everywhere": "admin"}});
    assert_eq!(portal.post("/api/v1/users", root).await.status, StatusCode::CREATED);
    assert_eq!(portal.get("/api/v1/session").await.status, StatusCode::UNAUTHORIZED, "it has ended");
    assert_eq!(portal.log_in("root", PASSWORD).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_session_is_a_cookie_that_pages_of_other_sites_cannot_use() {
    let Some(portal) = Portal::with_login().await else { return };
    let logged_in = portal.log_in("root", PASSWORD).await;
    let set = logged_in.header("set-cookie").to_owned();
    for part in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"] {
        assert!(set.contains(part), "{set}");
    }
    let (session, csrf) =
        (cookie(&logged_in), logged_in.body["csrf_token"].as_str().expect("text").to_owned());
    let own = format!("http://{}", portal.server.address());
    let add = |name: &str| {
        without_token(&portal, Method::POST, "/api/v1/groups")
            .json(&json!({"name": name}))
            .header("cookie", &session)
    };
    let refused = send(add("a")).await;
    assert_eq!((refused.status, refused.code()), (StatusCode::FORBIDDEN, "CSRF"));
    let refused = send(add("a").header("x-csrf-token", "guessed")).await;
    assert_eq!(refused.code(), "CSRF");
    let foreign = send(add("a").header("x-csrf-token", &csrf).header("origin", "http://evil.example")).await;
    assert_eq!((foreign.status, foreign.code()), (StatusCode::FORBIDDEN, "FOREIGN_ORIGIN"));
    let taken = send(add("a").header("x-csrf-token", &csrf).header("origin", &own)).await;
    assert_eq!(taken.status, StatusCode::CREATED, "{taken:?}");
    let who = send(without_token(&portal, Method::GET, "/api/v1/session").header("cookie", &session)).await;
    assert_eq!((&who.body["who"], &who.body["csrf_token"]), (&json!("user:root"), &json!(csrf)));

    let out = without_token(&portal, Method::DELETE, "/api/v1/session").header("cookie", &session);
    let out = send(out.header("x-csrf-token", &csrf)).await;
    assert_eq!(out.status, StatusCode::NO_CONTENT);
    assert!(out.header("set-cookie").contains("Max-Age=0"));
    let after = send(without_token(&portal, Method::GET, "/api/v1/session").header("cookie", &session)).await;
    assert_eq!(after.status, StatusCode::UNAUTHORIZED, "the session ended everywhere");
}

#[tokio::test]
async fn who_is_disabled_or_has_a_new_password_is_out_at_once() {
    let Some(portal) = Portal::with_login().await else { return };
    let ann = json!({"name": "ann", "password": PASSWORD, "grants": {"everywhere": "editor"}});
    portal.post("/api/v1/users", ann).await;
    let logged_in = portal.log_in("ann", PASSWORD).await;
    let (session, csrf) =
        (cookie(&logged_in), logged_in.body["csrf_token"].as_str().expect("text").to_owned());
    let as_ann = |method: Method, path: &str| {
        without_token(&portal, method, path).header("cookie", &session).header("x-csrf-token", &csrf)
    };
    // Ann's own token may do what she may, and no more.
    let made = send(
        as_ann(Method::POST, "/api/v1/tokens")
            .json(&json!({"name": "x", "grants": {"everywhere": "editor"}})),
    )
    .await;
    let token = made.body["secret"].as_str().expect("a secret").to_owned();
    let more = send(
        as_ann(Method::POST, "/api/v1/tokens").json(&json!({"name": "x", "grants": {"everywhere": "admin"}})),
    )
    .await;
    assert_eq!(more.body["field"], "grants", "{more:?}");
    let by_token = async |method: Method, path: &str, body: Value| {
        send(without_token(&portal, method, path).bearer_auth(&token).json(&body)).await
    };
    let add = json!({"name": "j", "group": "trade", "target": "t", "cron": "0 0 0 1 1 ?"});
    assert_eq!(by_token(Method::POST, "/api/v1/jobs", add.clone()).await.status, StatusCode::CREATED);
    let patch =
        async |body: Value| send(portal.request(Method::PATCH, "/api/v1/users/ann").json(&body)).await;
    patch(json!({"grants": {"everywhere": "viewer"}})).await;
    assert_eq!(
        by_token(Method::POST, "/api/v1/jobs", add).await.status,
        StatusCode::FORBIDDEN,
        "she was demoted"
    );
    patch(json!({"password": "another password"})).await;
    assert_eq!(send(as_ann(Method::GET, "/api/v1/session")).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(by_token(Method::GET, "/api/v1/jobs", json!({})).await.status, StatusCode::OK, "tokens go on");
    patch(json!({"disabled": true})).await;
    assert_eq!(by_token(Method::GET, "/api/v1/jobs", json!({})).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(portal.log_in("ann", "another password").await.status, StatusCode::UNAUTHORIZED);

    let last = send(portal.request(Method::DELETE, "/api/v1/users/root")).await;
    assert!(last.body["detail"].as_str().is_some_and(|text| text.contains("last administrator")), "{last:?}");
    let users = portal.get("/api/v1/users").await.body.to_string();
    assert!(!users.contains("argon2") && !users.contains("hash"), "{users}");
    let tokens = portal.get("/api/v1/tokens").await.body.to_string();
    assert!(!tokens.contains("hash"), "{tokens}");
}

#[tokio::test]
async fn passwords_cannot_be_guessed_fast() {
    let Some(portal) = Portal::with_login().await else { return };
    let mut last = None;
    for _ in 0..11 {
        last = Some(portal.log_in("root", "wrong password").await);
    }
    let last = last.expect("tried");
    assert_eq!((last.status, last.code()), (StatusCode::TOO_MANY_REQUESTS, "TOO_MANY_REQUESTS"));
    assert!(last.header("retry-after").parse::<u64>().is_ok_and(|seconds| seconds <= 60), "{last:?}");
    assert_eq!(
        portal.get("/api/v1/session").await.status,
        StatusCode::OK,
        "tokens are not locked out by that"
    );
}

#[tokio::test]
async fn every_change_is_written_down_with_who_made_it() {
    let Some(portal) = Portal::with_login().await else { return };
    let job = portal.job().await;
    let patch = portal.request(Method::PATCH, &format!("/api/v1/jobs/{job}")).json(&json!({"remark": "new"}));
    assert_eq!(send(patch).await.status, StatusCode::OK);
    let refused = portal.request(Method::PATCH, &format!("/api/v1/jobs/{job}")).json(&json!({"cron": "x"}));
    assert_eq!(send(refused).await.status, StatusCode::BAD_REQUEST);
    let path = format!("/api/v1/audit?target={job}");
    eventually("both changes are in the history", Duration::from_secs(20), async || {
        portal.get(&path).await.body["items"].as_array().is_some_and(|items| items.len() == 2)
    })
    .await;
    let audit = portal.get(&path).await;
    let edit = &audit.body["items"][0];
    assert_eq!(
        (&edit["action"], &edit["face"], &edit["group"]),
        (&json!("job.edit"), &json!("rest"), &json!("trade"))
    );
    assert_eq!(edit["changes"]["remark"], json!({"from": "", "to": "new"}));
    assert_eq!(edit["from"], "127.0.0.1");
    assert!(edit["who"].as_str().is_some_and(|who| who.starts_with("token:")), "{edit}");
    let all = portal.get("/api/v1/audit?page_size=200").await.body.to_string();
    assert!(all.contains("\"user.add\"") && !all.contains("argon2") && !all.contains(PASSWORD), "{all}");
}

#[tokio::test]
async fn without_a_login_only_this_machine_is_answered() {
    let Some(portal) = Portal::open(&[]).await else { return };
    assert_eq!(portal.get("/api/v1/session").await.body["who"], "anonymous");
    let add = || portal.request(Method::POST, "/api/v1/groups").json(&json!({"name": "g"}));
    let foreign = send(add().header("origin", "https://evil.example")).await;
    assert_eq!((foreign.status, foreign.code()), (StatusCode::FORBIDDEN, "FOREIGN_ORIGIN"));
    let rebound = send(add().header("host", "evil.example")).await;
    assert_eq!((rebound.status, rebound.code()), (StatusCode::FORBIDDEN, "FOREIGN_ORIGIN"));
    let form = portal
        .request(Method::POST, "/api/v1/groups")
        .header("content-type", "text/plain")
        .body("{\"name\":\"g\"}");
    assert_eq!(send(form).await.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(send(add()).await.status, StatusCode::CREATED);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_logs_in_and_out() {
    let Some(portal) = Portal::open(&["--login", "on"]).await else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path().to_str().expect("text").to_owned();
    let url = portal.url("");
    let cli = async |arguments: &[&str], stdin: &str| {
        call_in(&[("XDG_CONFIG_HOME", &home), ("FOREST_TOKEN", "")], arguments, stdin).await
    };
    // As the server says on a first start.
    let first = [("XDG_CONFIG_HOME", home.as_str()), ("FOREST_TOKEN", &portal.token)];
    let add = ["user", "add", "ann", "--role", "admin", "--password-stdin", "--server", &url];
    let added = call_in(&first, &add, PASSWORD).await;
    assert_eq!(added.code, 0, "{added:?}");
    let said = cli(&["login", "ann", "--password-stdin", "--server", &url], PASSWORD).await;
    assert!(said.code == 0 && said.err.contains("logged in as user:ann"), "{said:?}");
    let file = folder.path().join("forest/cli.toml");
    assert_eq!(std::fs::metadata(&file).expect("it is there").permissions().mode() & 0o777, 0o600);
    let who = cli(&["whoami", "-o", "json"], "").await;
    assert!(who.out.contains("\"user:ann\""), "{who:?}");
    assert_eq!(cli(&["group", "add", "trade"], "").await.code, 0);

    // What programs show is no cookie: REST takes it as well, without a token against other sites' pages.
    let kept = std::fs::read_to_string(&file).expect("text");
    let session = kept.lines().find_map(|line| line.strip_prefix("session = ")).expect("a session");
    let session = session.trim_matches('"').to_owned();
    let add = without_token(&portal, Method::POST, "/api/v1/groups").bearer_auth(&session);
    assert_eq!(send(add.json(&json!({"name": "other"}))).await.status, StatusCode::CREATED);

    assert_eq!(cli(&["logout"], "").await.code, 0);
    assert!(!std::fs::read_to_string(&file).expect("text").contains("session"));
    let nobody = cli(&["whoami"], "").await;
    assert!(nobody.code == 6 && nobody.err.contains("`login` does that"), "{nobody:?}");
    let after = without_token(&portal, Method::GET, "/api/v1/session").bearer_auth(&session);
    assert_eq!(send(after).await.status, StatusCode::UNAUTHORIZED, "it has ended everywhere");

    let again = cli(&["login", "ann", "--password-stdin"], PASSWORD).await;
    assert_eq!(again.code, 0, "{again:?}");
    let audit = async || {
        let said = cli(&["audit", "list", "--target", "ann", "-o", "json"], "").await;
        let records: Value = serde_json::from_str(&said.out).unwrap_or_default();
        let records = records["records"].as_array().cloned().unwrap_or_default();
        let actions = records.iter().map(|record| record["action"].as_str().unwrap_or_default().to_owned());
        (actions.collect::<Vec<_>>(), records)
    };
    eventually("logins are written down", Duration::from_secs(20), async || {
        audit().await.0 == ["session.open", "session.close", "session.open", "user.add"]
    })
    .await;
    let (_, records) = audit().await;
    assert_eq!((&records[0]["who"], &records[0]["face"]), (&json!("user:ann"), &json!("grpc")));
}

#[tokio::test(flavor = "multi_thread")]
async fn guesses_count_together_whichever_way_they_come() {
    let Some(portal) = Portal::with_login().await else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path().to_str().expect("text").to_owned();
    let url = portal.url("");
    let guess = async || {
        let line = ["login", "root", "--password-stdin", "--server", &url];
        call_in(&[("XDG_CONFIG_HOME", &home)], &line, "a wrong guess").await
    };
    for _ in 0..5 {
        assert_eq!(portal.log_in("root", "a wrong guess").await.status, StatusCode::UNAUTHORIZED);
    }
    // One place becomes free every six seconds.
    let mut wrong = 0;
    let throttled = loop {
        let said = guess().await;
        match said.code {
            6 if wrong < 20 => wrong += 1,
            _ => break said,
        }
    };
    assert!(throttled.code == 1 && throttled.err.contains("too many requests"), "{wrong}: {throttled:?}");
    assert_eq!(portal.log_in("root", PASSWORD).await.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(!folder.path().join("forest/cli.toml").exists(), "nothing is kept of it");
}
