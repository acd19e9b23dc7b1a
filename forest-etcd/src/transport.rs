//! A way to an etcd that is not a network: in the same process, for the embedded mode and for simulations.

use std::fmt;

use tonic::body::Body;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Service, ServiceExt};

pub(crate) type Request = http::Request<Body>;
pub(crate) type Response = http::Response<Body>;
pub(crate) type Exchange = BoxCloneSyncService<Request, Response, BoxError>;

/// Answers calls to etcd. Clones are the same one.
#[derive(Clone)]
pub struct Transport(pub(crate) Exchange);

/// As the error of a [`Transport`], or as a source of it: the request certainly did not leave this process.
#[derive(Debug, thiserror::Error)]
#[error("not sent")]
pub struct NotSent;

impl Transport {
    /// Over a service that takes gRPC requests, for example the routes of a server in the same process.
    pub fn new<S>(service: S) -> Self
    where
        S: Service<Request, Response = Response> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
    {
        Self(BoxCloneSyncService::new(service.map_err(Into::into)))
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transport")
    }
}
