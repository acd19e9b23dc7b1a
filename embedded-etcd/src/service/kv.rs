//! Keys and values.

use std::pin::Pin;

use etcd_client::proto::{
    PbCompactionRequest, PbCompactionResponse, PbDeleteRequest, PbDeleteResponse, PbKvService, PbPutRequest,
    PbPutResponse, PbRangeRequest, PbRangeResponse, PbRangeStreamResponse, PbTxnRequest, PbTxnResponse,
};
use futures_util::Stream;
use prost::Message;
use tonic::{Request, Response, Status};

use super::unimplemented;
use crate::Etcd;

/// etcd's server does not even read what is larger, in bytes.
const MAX_MESSAGE: usize = 2 * 1024 * 1024;

/// A request that is not too large to be read.
fn read<T: Message>(request: &Request<T>) -> Result<&T, Status> {
    let size = request.get_ref().encoded_len();
    if size > MAX_MESSAGE {
        let why = format!("grpc: received message larger than max ({size} vs. {MAX_MESSAGE})");
        return Err(Status::resource_exhausted(why));
    }
    Ok(request.get_ref())
}

#[tonic::async_trait]
impl PbKvService for Etcd {
    type RangeStreamStream = Pin<Box<dyn Stream<Item = Result<PbRangeStreamResponse, Status>> + Send>>;

    async fn range(&self, request: Request<PbRangeRequest>) -> Result<Response<PbRangeResponse>, Status> {
        self.range(read(&request)?).map(Response::new)
    }

    async fn range_stream(
        &self,
        _: Request<PbRangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        unimplemented("range streams")
    }

    async fn put(&self, request: Request<PbPutRequest>) -> Result<Response<PbPutResponse>, Status> {
        self.put(read(&request)?).map(Response::new)
    }

    async fn delete_range(
        &self,
        request: Request<PbDeleteRequest>,
    ) -> Result<Response<PbDeleteResponse>, Status> {
        self.delete_range(read(&request)?).map(Response::new)
    }

    async fn txn(&self, request: Request<PbTxnRequest>) -> Result<Response<PbTxnResponse>, Status> {
        self.txn(read(&request)?).map(Response::new)
    }

    async fn compact(
        &self,
        request: Request<PbCompactionRequest>,
    ) -> Result<Response<PbCompactionResponse>, Status> {
        self.compact(read(&request)?).map(Response::new)
    }
}
