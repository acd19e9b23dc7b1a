//! Watches: requests come in on one half of the stream, responses go out on the other.

use etcd_client::proto::{PbWatchRequest, PbWatchResponse, PbWatchService};
use futures_util::stream;
use tonic::{Request, Response, Status, Streaming};

use super::{Answers, Streams};
use crate::WatchStream;

struct Conversation {
    requests: Streaming<PbWatchRequest>,
    watches: WatchStream,
    /// Whether more requests may come.
    asks: bool,
}

#[tonic::async_trait]
impl PbWatchService for Streams {
    type WatchStream = Answers<PbWatchResponse>;

    async fn watch(
        &self,
        request: Request<Streaming<PbWatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let begin = Conversation { requests: request.into_inner(), watches: self.etcd.watch(), asks: true };
        let responses = stream::unfold(begin, |mut conversation| async move {
            let response = conversation.next().await?;
            Some((response, conversation))
        });
        Ok(Response::new(self.answers(responses)))
    }
}

impl Conversation {
    async fn next(&mut self) -> Option<Result<PbWatchResponse, Status>> {
        loop {
            tokio::select! {
                biased;
                request = self.requests.message(), if self.asks => match request {
                    Ok(Some(request)) => {
                        self.watches.request(request);
                        // Before the next request is taken: who does not read may not ask for ever.
                        if let Some(answer) = self.watches.try_answer() {
                            return Some(Ok(answer));
                        }
                    }
                    // Half closed: what is watched goes on.
                    Ok(None) => self.asks = false,
                    Err(status) => return Some(Err(status)),
                },
                response = self.watches.next() => return Some(Ok(response)),
            }
        }
    }
}
