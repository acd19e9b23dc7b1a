//! Watches: requests come in on one half of the stream, responses go out on the other.

use std::pin::Pin;

use etcd_client::proto::{PbWatchRequest, PbWatchResponse, PbWatchService};
use futures_util::{Stream, stream};
use tonic::{Request, Response, Status, Streaming};

use crate::{Etcd, WatchStream};

struct Conversation {
    requests: Streaming<PbWatchRequest>,
    watches: WatchStream,
    /// Whether more requests may come.
    asks: bool,
}

#[tonic::async_trait]
impl PbWatchService for Etcd {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<PbWatchResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<Streaming<PbWatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let begin = Conversation { requests: request.into_inner(), watches: self.watch(), asks: true };
        let responses = stream::unfold(begin, |mut conversation| async move {
            let response = conversation.next().await?;
            Some((response, conversation))
        });
        Ok(Response::new(Box::pin(responses)))
    }
}

impl Conversation {
    async fn next(&mut self) -> Option<Result<PbWatchResponse, Status>> {
        loop {
            tokio::select! {
                biased;
                request = self.requests.message(), if self.asks => match request {
                    Ok(Some(request)) => self.watches.request(request),
                    // Half closed: what is watched goes on.
                    Ok(None) => self.asks = false,
                    Err(status) => return Some(Err(status)),
                },
                response = self.watches.next() => return Some(Ok(response)),
            }
        }
    }
}
