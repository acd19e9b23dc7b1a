//! One of the two servers, with the streams of watches that were opened on it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use embedded_etcd::proto::{PbEvent, PbWatchRequest, PbWatchRequestUnion, PbWatchResponse};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::answer::{self, Answer};
use super::operation::{Operation, STREAMS};
use crate::wire::Wire;

/// Nothing takes so long, but a server that hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a watch was told.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Told {
    Event(PbEvent),
    /// Canceled, with the compacted revision.
    Compacted(i64),
    /// What no server may say.
    Wrong(String),
}

/// What was told on a stream, for each watch.
pub(super) type Tales = BTreeMap<i64, VecDeque<Told>>;

pub(super) struct Side {
    wire: Wire,
    streams: Vec<Stream>,
    _readers: JoinSet<()>,
}

struct Stream {
    requests: mpsc::Sender<PbWatchRequest>,
    answers: mpsc::UnboundedReceiver<PbWatchResponse>,
    tales: Arc<Mutex<Tales>>,
}

impl Side {
    pub(super) async fn new(wire: Wire) -> Self {
        let (mut streams, mut readers) = (Vec::new(), JoinSet::new());
        for _ in 0..STREAMS {
            let (requests, to_send) = mpsc::channel(1);
            let (out, answers) = mpsc::unbounded_channel();
            let tales = Arc::new(Mutex::new(Tales::new()));
            let (wire, written) = (wire.clone(), Arc::clone(&tales));
            readers.spawn(async move {
                // etcd answers such a call only with its first response.
                if let Ok(responses) = wire.watch(ReceiverStream::new(to_send)).await {
                    read(responses, &out, &written).await;
                }
            });
            streams.push(Stream { requests, answers, tales });
        }
        Self { wire, streams, _readers: readers }
    }

    pub(super) async fn perform(&mut self, operation: &Operation) -> Answer {
        match timeout(PATIENCE, self.answer(operation)).await {
            Ok(answer) => answer,
            Err(_) => Answer::Refused(tonic::Code::Unknown, "the test lost its patience".into()),
        }
    }

    async fn answer(&mut self, operation: &Operation) -> Answer {
        let wire = &self.wire;
        match operation.clone() {
            Operation::Range(request) => {
                let answer = wire.range(request.clone()).await;
                Answer::of(answer, |answer| Answer::Range(answer::range(&request, answer)))
            }
            Operation::Put(request) => Answer::of(wire.put(request).await, |mut answer| {
                answer::only_revision(&mut answer.header);
                Answer::Put(answer)
            }),
            Operation::Delete(request) => Answer::of(wire.delete_range(request).await, |mut answer| {
                answer::only_revision(&mut answer.header);
                Answer::Delete(answer)
            }),
            Operation::Txn(request) => {
                let answer = wire.txn(request.clone()).await;
                Answer::of(answer, |answer| Answer::Txn(answer::txn(&request, answer)))
            }
            Operation::Compact(request) => Answer::of(wire.compact(request).await, |mut answer| {
                answer::only_revision(&mut answer.header);
                Answer::Done(answer.header)
            }),
            Operation::Grant(request) => Answer::of(wire.grant(request).await, |mut answer| {
                answer::only_revision(&mut answer.header);
                Answer::Grant(answer)
            }),
            Operation::Revoke(request) => Answer::of(wire.revoke(request).await, |mut answer| {
                answer::only_revision(&mut answer.header);
                Answer::Done(answer.header)
            }),
            Operation::KeepAlive(id) => Answer::of(wire.keep_alive(id).await, |mut answer| {
                answer::only_revision(&mut answer.header);
                Answer::KeepAlive(answer)
            }),
            Operation::TimeToLive(request) => {
                let answer = wire.time_to_live(request).await;
                Answer::of(answer, |answer| Answer::TimeToLive(answer::time_to_live(answer)))
            }
            Operation::Leases => {
                Answer::of(wire.leases().await, |answer| Answer::Leases(answer::leases(answer)))
            }
            Operation::Watch(stream, request) => self.ask(stream, request).await,
        }
    }

    async fn ask(&mut self, stream: usize, request: PbWatchRequest) -> Answer {
        let stream = &mut self.streams[stream];
        if stream.requests.send(request).await.is_err() {
            return Answer::Refused(tonic::Code::Unknown, "the stream has ended".into());
        }
        let Some(mut answer) = stream.answers.recv().await else {
            return Answer::Refused(tonic::Code::Unknown, "the stream has ended".into());
        };
        answer::only_revision(&mut answer.header);
        Answer::Watch(answer)
    }

    /// Sends a request that has no answer.
    pub(super) async fn tell(&self, stream: usize, request: PbWatchRequest) {
        // A stream that has ended is noticed by the next answer.
        let _ = self.streams[stream].requests.send(request).await;
    }

    pub(super) fn tales(&self, stream: usize) -> Arc<Mutex<Tales>> {
        Arc::clone(&self.streams[stream].tales)
    }
}

/// Whether a request is one to end a watch.
pub(super) fn canceled_watch(request: &PbWatchRequest) -> Option<i64> {
    match &request.request_union {
        Some(PbWatchRequestUnion::CancelRequest(cancel)) => Some(cancel.watch_id),
        _ => None,
    }
}

/// Whether a request is one for a watch that begins in the past.
pub(super) fn looks_back(request: &PbWatchRequest) -> bool {
    matches!(&request.request_union, Some(PbWatchRequestUnion::CreateRequest(create)) if create.start_revision != 0)
}

async fn read(
    mut responses: Streaming<PbWatchResponse>,
    answers: &mpsc::UnboundedSender<PbWatchResponse>,
    tales: &Mutex<Tales>,
) {
    let mut seen = BTreeMap::new();
    loop {
        let response = match responses.message().await {
            Ok(Some(response)) => response,
            ended => {
                let why = match ended {
                    Ok(_) => Status::ok("no error"),
                    Err(status) => status,
                };
                let wrong = Told::Wrong(format!("the stream ended: {:?} {}", why.code(), why.message()));
                tales.lock().unwrap().entry(-1).or_default().push_back(wrong);
                return;
            }
        };
        let is_answer = response.events.is_empty() && response.compact_revision == 0;
        if is_answer {
            seen.remove(&response.watch_id);
            if answers.send(response).is_err() {
                return;
            }
            continue;
        }
        let told = tell(&mut seen, response);
        let mut tales = tales.lock().unwrap();
        for (watch, told) in told {
            tales.entry(watch).or_default().push_back(told);
        }
    }
}

/// What a response tells, which is checked for what a client relies on.
fn tell(seen: &mut BTreeMap<i64, i64>, response: PbWatchResponse) -> Vec<(i64, Told)> {
    let watch = response.watch_id;
    let newest = response.header.map_or(0, |header| header.revision);
    let mut told = Vec::new();
    let seen = seen.entry(watch).or_default();
    let last = *seen;
    for event in response.events {
        let revision = event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
        if revision > newest {
            told.push((watch, Told::Wrong(format!("revision {revision} in a response of {newest}"))));
        }
        if revision == last {
            told.push((watch, Told::Wrong(format!("revision {revision} in two responses"))));
        }
        *seen = revision;
        told.push((watch, Told::Event(event)));
    }
    if response.compact_revision != 0 {
        *seen = 0;
        if !response.canceled {
            told.push((watch, Told::Wrong("compacted and not canceled".into())));
        }
        told.push((watch, Told::Compacted(response.compact_revision)));
    }
    told
}
