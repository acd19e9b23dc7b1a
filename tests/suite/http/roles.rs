//! Every call of the REST API against every role: who has less is refused, who has it is let in.

use std::collections::BTreeMap;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Portal, send, without_token};

/// What each call needs: a role in the group it is about, or everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    /// Anybody who has logged in.
    Login,
    /// This role in the group `trade`, or in some group where the call is about none.
    InGroup(usize),
    Everywhere(usize),
}

const ROLES: [&str; 4] = ["viewer", "operator", "editor", "admin"];
const VIEWER: usize = 0;
const OPERATOR: usize = 1;
const EDITOR: usize = 2;
const ADMIN: usize = 3;

/// A call that is not here fails the test: it must be decided what it needs.
fn needs(call: &str) -> Option<Needs> {
    use Needs::{Everywhere, InGroup, Login};
    Some(match call {
        "GET /session"
        | "DELETE /session"
        | "PUT /session/password"
        | "GET /tokens"
        | "DELETE /tokens/{id}" => Login,
        "GET /jobs"
        | "GET /jobs/{id}"
        | "GET /jobs/{id}/next"
        | "GET /jobs/{id}/explain"
        | "GET /cron/next" => InGroup(VIEWER),
        "GET /executions" | "GET /executions/{id}" | "GET /executions/{id}/attempts" => InGroup(VIEWER),
        "GET /groups" | "GET /groups/{name}" | "GET /calendars" | "GET /calendars/{name}" => InGroup(VIEWER),
        "GET /cluster" | "GET /nodes" | "GET /clients" | "GET /plan" | "GET /pending" => InGroup(VIEWER),
        "GET /events" => InGroup(VIEWER),
        "GET /backfills" | "GET /statistics" => InGroup(VIEWER),
        "GET /nodes/{node}/log-level" => InGroup(VIEWER),
        "PUT /nodes/{node}/log-level" | "DELETE /nodes/{node}/log-level" => Everywhere(ADMIN),
        "POST /jobs/{id}/run" | "POST /jobs/{id}/enable" | "POST /jobs/{id}/disable" => InGroup(OPERATOR),
        "POST /executions/{id}/cancel" | "POST /executions/{id}/retry" => InGroup(OPERATOR),
        "POST /groups/{name}/clients/{id}/drain" | "POST /groups/{name}/clients/{id}/undrain" => {
            InGroup(OPERATOR)
        }
        "POST /jobs/{id}/backfill" | "DELETE /jobs/{id}/backfill" => InGroup(OPERATOR),
        "POST /jobs" | "PUT /jobs/{id}" | "PATCH /jobs/{id}" | "DELETE /jobs/{id}" => InGroup(EDITOR),
        "PUT /calendars/{name}" | "DELETE /calendars/{name}" => Everywhere(EDITOR),
        "POST /groups" | "PATCH /groups/{name}" | "DELETE /groups/{name}" => InGroup(ADMIN),
        "GET /users" | "POST /users" | "PATCH /users/{name}" | "DELETE /users/{name}" => Everywhere(ADMIN),
        "POST /nodes/step-down" => Everywhere(ADMIN),
        // A token that belongs to nobody is made by administrators alone, and these here are such.
        "POST /tokens" | "GET /audit" => Everywhere(ADMIN),
        _ => return None,
    })
}

/// Bodies and places that are in order as far as anything is, so that only the role can be at fault.
fn body(call: &str) -> Value {
    match call {
        "POST /jobs" | "PUT /jobs/{id}" => {
            json!({"name": "n", "group": "trade", "target": "t", "cron": "0 0 0 1 1 ?"})
        }
        "POST /nodes/step-down" => json!({"node": "another"}),
        "PATCH /jobs/{id}" => json!({"remark": "r"}),
        "POST /groups" => json!({"name": "trade"}),
        "PUT /calendars/{name}" => json!({"days": "2027-01-01"}),
        "POST /users" => json!({"name": "root", "password": "twelve letters", "grants": {}}),
        "POST /tokens" => json!({"name": "t", "grants": {}}),
        "PUT /nodes/{node}/log-level" => json!({"filter": "info"}),
        "PUT /session/password" => json!({"old": "x", "new": "twelve letters"}),
        "POST /jobs/{id}/backfill" => json!({"from": "2026-01-01T00:00:00Z", "to": "2026-01-01T00:00:00Z"}),
        _ => json!({}),
    }
}

#[tokio::test]
async fn each_call_needs_its_role_and_no_more() {
    let Some(portal) = Portal::with_login().await else { return };
    // As long as it has a job, the group stays.
    portal.job().await;
    let mut tokens = BTreeMap::new();
    for (index, role) in ROLES.iter().enumerate() {
        tokens.insert((index, true), portal.token_for(json!({"everywhere": role})).await);
        tokens.insert((index, false), portal.token_for(json!({"groups": {"trade": role}})).await);
    }
    let elsewhere = portal.token_for(json!({"groups": {"other": "admin"}})).await;
    let document = portal.get("/api/v1/openapi.json").await.body;
    let paths = document["paths"].as_object().expect("paths").clone();
    let mut calls = 0;
    for (path, methods) in paths {
        for method in methods.as_object().expect("methods").keys() {
            let method: Method = method.to_uppercase().parse().expect("a method");
            let call = format!("{method} {path}");
            // By these one logs in.
            if call == "POST /session" || path.starts_with("/session/oidc") {
                continue;
            }
            let needs = needs(&call).unwrap_or_else(|| panic!("say what {call} needs"));
            calls += 1;
            let job =
                if path.contains("jobs/{id}") { portal.job().await } else { "20270101000000000-1-1".into() };
            let place = path.replace("{id}", &job).replace("{name}", "trade").replace("{node}", "none");
            let query = match call.as_str() {
                "GET /jobs/{id}/explain" => "?at=2026-01-01T00:00:00Z",
                "GET /cron/next" => "?cron=0+0+0+*+*+*",
                "GET /events" => "?follow=false",
                _ => "",
            };
            let url = format!("/api/v1{place}{query}");
            let ask = async |token: &str| {
                let request = without_token(&portal, method.clone(), &url).json(&body(&call));
                send(if token.is_empty() { request } else { request.bearer_auth(token) }).await
            };
            assert_eq!(ask("").await.status, StatusCode::UNAUTHORIZED, "{call} by nobody");
            assert_eq!(ask("forest_0_0").await.status, StatusCode::UNAUTHORIZED, "{call} by a wrong token");
            for ((role, everywhere), token) in &tokens {
                let enough = match needs {
                    Needs::Login => true,
                    Needs::InGroup(least) => *role >= least,
                    Needs::Everywhere(least) => *everywhere && *role >= least,
                };
                // What an earlier role was allowed to delete is no more there for the later ones.
                let reply = ask(token).await;
                let where_ = if *everywhere { "everywhere" } else { "in the group" };
                let denied = reply.status == StatusCode::FORBIDDEN;
                // A run that is not there is told to everybody alike.
                let about_nothing = reply.status == StatusCode::NOT_FOUND;
                assert!(denied != enough || about_nothing, "{call} by {} {where_}: {reply:?}", ROLES[*role]);
            }
            let of_group = path.contains('{') && path.contains("jobs") && !path.contains("cron");
            if let (Needs::InGroup(_), true) = (needs, of_group) {
                let reply = ask(&elsewhere).await;
                let hidden = [StatusCode::FORBIDDEN, StatusCode::NOT_FOUND];
                assert!(
                    hidden.contains(&reply.status),
                    "{call} by an administrator of another group: {reply:?}"
                );
            }
        }
    }
    assert!(calls >= 35, "only {calls} calls");
}

#[tokio::test]
async fn lists_show_what_one_may_see() {
    let Some(portal) = Portal::with_login().await else { return };
    portal.post("/api/v1/groups", json!({"name": "other"})).await;
    let job = portal.job().await;
    let trade = portal.token_for(json!({"groups": {"trade": "viewer"}})).await;
    let other = portal.token_for(json!({"groups": {"other": "viewer"}})).await;
    let both = portal.token_for(json!({"groups": {"other": "viewer", "trade": "viewer"}})).await;
    let list = async |token: &str, path: &str| {
        send(without_token(&portal, Method::GET, path).bearer_auth(token)).await
    };
    let ids = |reply: &super::Reply| {
        let items = reply.body["items"].as_array().unwrap_or_else(|| panic!("{reply:?}"));
        items.iter().map(|item| item["id"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&list(&trade, "/api/v1/jobs").await), std::slice::from_ref(&job));
    assert!(ids(&list(&other, "/api/v1/jobs").await).is_empty());
    assert_eq!(list(&other, "/api/v1/jobs?group=trade").await.status, StatusCode::FORBIDDEN);
    let which = list(&both, "/api/v1/jobs").await;
    assert_eq!(which.body["field"], "group", "{which:?}");
    assert_eq!(ids(&list(&both, "/api/v1/jobs?group=trade").await), [job]);
    let groups = list(&trade, "/api/v1/groups").await;
    assert_eq!(groups.body["items"].as_array().map(Vec::len), Some(1), "{groups:?}");
}
