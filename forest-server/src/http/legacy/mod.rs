//! The original's HTTP contract, so that its console and its users' scripts go on working.
//!
//! Thirteen calls, all `POST` at the root. The status is always 200: what happened is in `code` (0 or -1), `data` and
//! `message`, and the messages are those that its users know. Requests are read leniently: unknown fields are
//! ignored, numbers may be text, and what is not there is empty.

mod fields;
mod jobs;
mod lists;
mod objects;
mod reply;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, post};
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, VARY,
};
use http::{HeaderValue, Method, StatusCode};
use tower_http::services::{ServeDir, ServeFile};

use super::{LegacyApi, Web};
use crate::admin::{AdminError, Page, PageRequest};
use reply::Reply;

pub(super) fn router(api: LegacyApi, ui: Option<&std::path::Path>) -> Router<Web> {
    let mut router = Router::new();
    if api != LegacyApi::Off {
        let calls: [(&str, MethodRouter<Web>); 13] = [
            ("/job/list", post(jobs::list)),
            ("/job/add", post(jobs::add)),
            ("/job/edit", post(jobs::edit)),
            ("/job/delete", post(jobs::delete)),
            ("/job/execute", post(jobs::execute)),
            ("/group/add", post(lists::add_group)),
            ("/group/list", post(lists::groups)),
            ("/node/list", post(lists::nodes)),
            ("/plan/list", post(lists::plan)),
            ("/client/list", post(lists::clients)),
            ("/snapshot/list", post(lists::snapshots)),
            ("/snapshot/delete", post(lists::delete_snapshot)),
            ("/execute/snapshot/list", post(lists::executions)),
        ];
        for (path, call) in calls {
            router = router.route(path, call.options(preflight));
        }
    }
    if api == LegacyApi::Open {
        router = router.layer(from_fn(for_every_page));
    }
    if let Some(folder) = ui {
        let index = ServeFile::new(folder.join("index.html"));
        router = router
            .route_service("/duck/", index.clone())
            .route_service("/duck", index)
            .nest_service("/dist", ServeDir::new(folder.join("dist")));
    }
    router
}

/// What browsers ask before they send JSON to another site.
async fn preflight(State(web): State<Web>) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    if web.legacy == LegacyApi::Open {
        let headers = response.headers_mut();
        let methods = HeaderValue::from_static("GET,HEAD,PUT,PATCH,POST,DELETE");
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
        let allowed = HeaderValue::from_static("Origin,Content-Type,Accept,Access-Control-Allow-Origin");
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    }
    response
}

async fn for_every_page(request: Request, next: Next) -> Response {
    let asked = request.method() == Method::OPTIONS;
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    if asked {
        headers.insert(VARY, HeaderValue::from_static("Origin"));
    }
    response
}

/// The largest page there is.
const PAGE: u32 = 200;

/// A whole list, which the contract wants, page by page.
async fn all_pages<T, F>(page_of: impl Fn(PageRequest) -> F) -> Result<Vec<T>, AdminError>
where
    F: Future<Output = Result<Page<T>, AdminError>>,
{
    let (mut all, mut token) = (Vec::new(), String::new());
    loop {
        let page = page_of(PageRequest { size: PAGE, token }).await?;
        all.extend(page.items);
        token = page.next;
        if token.is_empty() {
            return Ok(all);
        }
    }
}

/// A refusal in the contract's words.
fn refused(message: impl Into<String>) -> Reply {
    Reply::refused(message)
}
