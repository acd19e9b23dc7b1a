//! The REST API against its own OpenAPI document, asked by schemathesis: whatever is sent, an answer is one that the
//! document tells of.
//!
//! `make openapi-fuzz` installs it and says where it is. The seed is fixed, so that a run can be repeated.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::json;

use super::{Portal, send};

/// Names the program.
const PROGRAM: &str = "FOREST_SCHEMATHESIS";
/// How many cases an operation gets of each phase.
const CASES: &str = "20";
const PATIENCE: Duration = Duration::from_secs(1800);

/// What every answer is looked at for.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_headers_conformance,response_schema_conformance,negative_data_rejection,\
                      positive_data_acceptance,missing_required_header,unsupported_method";

fn program() -> Option<PathBuf> {
    let program = std::env::var_os(PROGRAM).map(PathBuf::from);
    if program.is_none() {
        println!("skipped: {PROGRAM} does not say where schemathesis is; see `make openapi-fuzz`");
    }
    program
}

fn setting(name: &str, otherwise: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| otherwise.to_owned())
}

/// What jobs are tried with.
async fn furnish(portal: &Portal) {
    portal.post("/api/v1/groups", json!({"name": "trade"})).await;
    portal.job().await;
    let days = portal.request(Method::PUT, "/api/v1/calendars/holidays").json(&json!({"days": "2027-01-01"}));
    assert_eq!(send(days).await.status, StatusCode::OK);
}

async fn ask(portal: &Portal, program: &Path, checks: &str, also: &[&str]) {
    let folder = tempfile::tempdir().expect("a folder");
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi/schemathesis.toml");
    let mut command = tokio::process::Command::new(program);
    command.arg("--config-file").arg(config).args(["--no-color", "run"]);
    command.arg(portal.url("/api/v1/openapi.json")).args(["--checks", checks, "--continue-on-failure"]);
    command.args(["--phases", "examples,coverage,fuzzing", "--generation-database", "none"]);
    command.args(["--seed", &setting("FOREST_OPENAPI_SEED", "1")]);
    command.args(["--max-examples", &setting("FOREST_OPENAPI_CASES", CASES)]);
    // A stream that has no end; `tests/suite/events` listens to it.
    command.args(["--exclude-path", "/events"]);
    command.args(also).current_dir(folder.path()).stdin(Stdio::null()).kill_on_drop(true);
    if !portal.token.is_empty() {
        command.args(["--header", &format!("Authorization: Bearer {}", portal.token)]);
    }
    let output = tokio::time::timeout(PATIENCE, command.output()).await.expect("in time").expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let figures = said.split("Test cases:").nth(1).unwrap_or_default();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    println!("{}", figures.split("===").next().unwrap_or_default().trim());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_is_as_its_document_says_without_a_login() {
    let Some(program) = program() else { return };
    let Some(portal) = Portal::open(&[]).await else { return };
    furnish(&portal).await;
    ask(&portal, &program, CHECKS, &[]).await;
    assert_eq!(portal.get("/api/v1/cluster").await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_is_as_its_document_says_for_an_administrator() {
    let Some(program) = program() else { return };
    let Some(portal) = Portal::with_login().await else { return };
    furnish(&portal).await;
    // It must not take away the token that it asks with.
    let checks = format!("{CHECKS},ignored_auth");
    ask(&portal, &program, &checks, &["--exclude-path", "/tokens/{id}"]).await;
    assert_eq!(portal.get("/api/v1/users").await.status, StatusCode::OK, "the token still counts");
}
