//! A request of the contract: who sends it, and its fields, read as leniently as the original's users expect.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use forest_proto::record::Face;
use serde_json::{Map, Value};

use super::reply::Reply;
use crate::admin::Admin;
use crate::http::caller::{Proven, identified};
use crate::http::{LegacyApi, Web, origin};
use crate::port::Peer;

/// A call in the name of its caller.
pub(super) struct Call {
    pub(super) admin: Admin,
    /// `None`: there is no JSON object.
    fields: Option<Map<String, Value>>,
}

impl FromRequest<Web> for Call {
    type Rejection = Reply;

    async fn from_request(request: Request, web: &Web) -> Result<Self, Reply> {
        let (headers, host) = (request.headers(), request.uri().authority());
        let open = web.legacy == LegacyApi::Open;
        let elsewhere = !web.gate.login_is_on() && !origin::is_plainly_here(headers, host);
        if !open && (elsewhere || !origin::is_own(headers, host)) {
            return Err(Reply::refused("来源不被允许: 此页面不属于本服务"));
        }
        let peer = request.extensions().get::<Peer>().cloned();
        let admin = identified(web, peer.as_ref(), headers, Face::Legacy).await;
        let Proven(admin, _) = admin.map_err(|error| Reply::of(&error, "未登录或登录已过期"))?;
        let body = Bytes::from_request(request, web).await.map_err(|_| Reply::refused("非法的请求参数"))?;
        let fields = match serde_json::from_slice(&body) {
            Ok(Value::Object(fields)) => Some(fields),
            _ => None,
        };
        Ok(Self { admin, fields })
    }
}

impl Call {
    pub(super) fn is_object(&self) -> bool {
        self.fields.is_some()
    }

    /// A field as text: empty if it is not there, is null, or is no scalar.
    pub(super) fn text(&self, name: &str) -> String {
        match self.fields.as_ref().and_then(|fields| fields.get(name)) {
            Some(Value::String(text)) => text.trim().to_owned(),
            Some(Value::Number(number)) => number.to_string(),
            Some(Value::Bool(truth)) => truth.to_string(),
            _ => String::new(),
        }
    }

    /// A field as a whole number, also if it is written as text; 0 for everything else.
    pub(super) fn number(&self, name: &str) -> i64 {
        let text = self.text(name);
        text.parse().ok().or_else(|| text.parse::<f64>().ok().map(|number| number as i64)).unwrap_or(0)
    }
}
