//! etcd's API as it is on the wire: nothing is hidden, defaulted or repaired by a client library.

use std::net::SocketAddr;

use embedded_etcd::proto::{
    PbCompactionRequest, PbCompactionResponse, PbDeleteRequest, PbDeleteResponse, PbLeaseGrantRequest,
    PbLeaseGrantResponse, PbLeaseKeepAliveRequest, PbLeaseKeepAliveResponse, PbLeaseLeasesRequest,
    PbLeaseLeasesResponse, PbLeaseRevokeRequest, PbLeaseRevokeResponse, PbLeaseTimeToLiveRequest,
    PbLeaseTimeToLiveResponse, PbPutRequest, PbPutResponse, PbRangeRequest, PbRangeResponse, PbStatusRequest,
    PbStatusResponse, PbTxnRequest, PbTxnResponse, PbWatchRequest, PbWatchResponse,
};
use futures_util::Stream;
use prost::Message;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

const MAX_MESSAGE: usize = 64 * 1024 * 1024;

#[derive(Clone)]
pub(crate) struct Wire(Grpc<Channel>);

macro_rules! calls {
    ($($name:ident: $path:literal, $request:ty => $response:ty;)*) => {
        $(pub(crate) async fn $name(&self, request: $request) -> Result<$response, Status> {
            self.call($path, request).await
        })*
    };
}

impl Wire {
    pub(crate) fn lazy(address: SocketAddr) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap().tcp_nodelay(true);
        Self(Grpc::new(endpoint.connect_lazy()).max_decoding_message_size(MAX_MESSAGE))
    }

    async fn call<Q, A>(&self, path: &'static str, request: Q) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut grpc = self.0.clone();
        grpc.ready().await.map_err(|e| Status::unavailable(e.to_string()))?;
        let codec = ProstCodec::<Q, A>::default();
        let answer = grpc.unary(Request::new(request), PathAndQuery::from_static(path), codec).await?;
        Ok(answer.into_inner())
    }

    async fn stream<Q, A>(
        &self,
        path: &'static str,
        requests: impl Stream<Item = Q> + Send + 'static,
    ) -> Result<Streaming<A>, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut grpc = self.0.clone();
        grpc.ready().await.map_err(|e| Status::unavailable(e.to_string()))?;
        let codec = ProstCodec::<Q, A>::default();
        let answer = grpc.streaming(Request::new(requests), PathAndQuery::from_static(path), codec).await?;
        Ok(answer.into_inner())
    }

    calls! {
        range: "/etcdserverpb.KV/Range", PbRangeRequest => PbRangeResponse;
        put: "/etcdserverpb.KV/Put", PbPutRequest => PbPutResponse;
        delete_range: "/etcdserverpb.KV/DeleteRange", PbDeleteRequest => PbDeleteResponse;
        txn: "/etcdserverpb.KV/Txn", PbTxnRequest => PbTxnResponse;
        compact: "/etcdserverpb.KV/Compact", PbCompactionRequest => PbCompactionResponse;
        grant: "/etcdserverpb.Lease/LeaseGrant", PbLeaseGrantRequest => PbLeaseGrantResponse;
        revoke: "/etcdserverpb.Lease/LeaseRevoke", PbLeaseRevokeRequest => PbLeaseRevokeResponse;
        time_to_live: "/etcdserverpb.Lease/LeaseTimeToLive",
            PbLeaseTimeToLiveRequest => PbLeaseTimeToLiveResponse;
    }

    pub(crate) async fn leases(&self) -> Result<PbLeaseLeasesResponse, Status> {
        self.call("/etcdserverpb.Lease/LeaseLeases", PbLeaseLeasesRequest {}).await
    }

    pub(crate) async fn status(&self) -> Result<PbStatusResponse, Status> {
        self.call("/etcdserverpb.Maintenance/Status", PbStatusRequest {}).await
    }

    /// One request on a stream of its own.
    pub(crate) async fn keep_alive(&self, id: i64) -> Result<PbLeaseKeepAliveResponse, Status> {
        let requests = futures_util::stream::iter([PbLeaseKeepAliveRequest { id }]);
        let mut answers = self.stream("/etcdserverpb.Lease/LeaseKeepAlive", requests).await?;
        answers.message().await?.ok_or_else(|| Status::unknown("the stream ended without an answer"))
    }

    pub(crate) async fn watch(
        &self,
        requests: impl Stream<Item = PbWatchRequest> + Send + 'static,
    ) -> Result<Streaming<PbWatchResponse>, Status> {
        self.stream("/etcdserverpb.Watch/Watch", requests).await
    }
}
