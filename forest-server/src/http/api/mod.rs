//! The REST API, version 1. The handlers' attributes are its OpenAPI document.
//!
//! Objects have the fields of the messages of the gRPC API under the same names; instants are RFC 3339 in UTC, or
//! null. A job is its stored document with three fields beside.

mod access;
mod backfills;
mod calendars;
mod clients;
mod cluster;
mod document;
mod events;
mod executions;
mod groups;
mod jobs;
mod log_level;
mod oidc;
mod paging;
mod session;
mod statistics;

use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use utoipa::OpenApi;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Web;
use super::problem::Problem;
use crate::port::SESSION_COOKIE;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Forest",
        version = "1",
        description = "Administration of a Forest cluster. Any node answers any call.",
    ),
    components(schemas(Problem)),
    security(("token" = []), ("session" = [])),
    tags(
        (name = "jobs", description = "What runs, when and where"),
        (name = "executions", description = "What ran, and what is running"),
        (name = "groups", description = "Sets of clients that serve the same targets"),
        (name = "calendars", description = "Days that jobs leave out or put in"),
        (name = "cluster", description = "Nodes, clients and the plan"),
        (name = "events", description = "What happens, as it happens"),
        (name = "access", description = "Users, tokens, sessions and the audit"),
    )
)]
struct Document;

fn routes() -> OpenApiRouter<Web> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(jobs::list, jobs::add))
        .routes(routes!(jobs::get, jobs::replace, jobs::change, jobs::delete))
        .routes(routes!(jobs::run))
        .routes(routes!(jobs::enable))
        .routes(routes!(jobs::disable))
        .routes(routes!(jobs::next))
        .routes(routes!(jobs::explain))
        .routes(routes!(jobs::cron_next))
        .routes(routes!(backfills::list))
        .routes(routes!(backfills::start, backfills::cancel))
        .routes(routes!(executions::list))
        .routes(routes!(executions::get))
        .routes(routes!(executions::cancel))
        .routes(routes!(executions::retry))
        .routes(routes!(executions::attempts))
        .routes(routes!(statistics::get))
        .routes(routes!(groups::list, groups::add))
        .routes(routes!(groups::get, groups::change, groups::delete))
        .routes(routes!(clients::drain))
        .routes(routes!(clients::undrain))
        .routes(routes!(calendars::list))
        .routes(routes!(calendars::get, calendars::set, calendars::delete))
        .routes(routes!(cluster::cluster))
        .routes(routes!(cluster::nodes))
        .routes(routes!(cluster::step_down))
        .routes(routes!(log_level::get, log_level::set, log_level::reset))
        .routes(routes!(cluster::clients))
        .routes(routes!(cluster::plan))
        .routes(routes!(cluster::pending))
        .routes(routes!(events::watch))
        .routes(routes!(session::get, session::log_in, session::log_out))
        .routes(routes!(session::change_password))
        .routes(routes!(oidc::begin))
        .routes(routes!(oidc::finish))
        .routes(routes!(access::list_users, access::add_user))
        .routes(routes!(access::change_user, access::delete_user))
        .routes(routes!(access::list_tokens, access::add_token))
        .routes(routes!(access::revoke_token))
        .routes(routes!(access::audit))
}

pub(super) fn router() -> Router<Web> {
    let (router, _) = routes().split_for_parts();
    router.route("/openapi.json", get(|| async { Json(document()) })).fallback(not_found)
}

/// The OpenAPI document.
fn document() -> utoipa::openapi::OpenApi {
    let (_, mut document) = routes().split_for_parts();
    document::complete(&mut document);
    document.servers = Some(vec![utoipa::openapi::Server::new("/api/v1")]);
    let components = document.components.get_or_insert_default();
    let token = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
    let session = SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::new(SESSION_COOKIE)));
    components.add_security_scheme("token", token);
    components.add_security_scheme("session", session);
    document
}

async fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "NOT_FOUND", "there is no such path: see /api/v1/openapi.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `make openapi` writes it.
    #[test]
    fn the_stored_document_is_that_of_the_code() {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto/api/openapi.json");
        let text = serde_json::to_string_pretty(&document()).expect("JSON") + "\n";
        if std::env::var_os("FOREST_WRITE_OPENAPI").is_some() {
            std::fs::write(&file, &text).expect("written");
        }
        let stored = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(stored == text, "proto/api/openapi.json is not that of the code: run make openapi");
    }
}
