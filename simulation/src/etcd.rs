//! etcd as the processes of a simulation reach it: the embedded one behind the network, with every revision recorded.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use embedded_etcd::proto::{
    PbCompactionRequest, PbCompactionResponse, PbDeleteRequest, PbDeleteResponse, PbKeyValue, PbKvServer,
    PbKvService, PbLeaseGrantRequest, PbLeaseGrantResponse, PbLeaseKeepAliveRequest,
    PbLeaseKeepAliveResponse, PbLeaseLeasesRequest, PbLeaseLeasesResponse, PbLeaseRevokeRequest,
    PbLeaseRevokeResponse, PbLeaseServer, PbLeaseService, PbLeaseTimeToLiveRequest,
    PbLeaseTimeToLiveResponse, PbPutRequest, PbPutResponse, PbRangeRequest, PbRangeResponse,
    PbRangeStreamResponse, PbTxnRequest, PbTxnResponse, PbWatchRequest, PbWatchRequestUnion, PbWatchResponse,
    PbWatchServer, PbWatchService,
};
use embedded_etcd::{Etcd, TokioClock, WatchStream};
use forest_etcd::{NotSent, Transport};
use futures_util::Stream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};
use tower::{BoxError, ServiceExt, service_fn};

use crate::mutant::{Defect, without_limit};
use crate::network::{Network, Peer};
use crate::plan::MachineId;
use crate::record::{Change, Happened, Record, Writer};

/// As etcd, which looks for ended leases twice a second.
const EXPIRE_EVERY: Duration = Duration::from_millis(500);
/// Messages of a stream that may wait for a frozen process.
const STREAM: usize = 1_024;

/// The one etcd of a simulation. Clones are the same one.
#[derive(Clone)]
pub struct Cluster {
    etcd: Etcd,
    network: Network,
    record: Record,
    everything: Arc<Mutex<WatchStream>>,
    /// What is to happen to the next messages of a machine's watches.
    spoiled: Arc<Mutex<BTreeMap<MachineId, Spoiled>>>,
    defect: Option<Defect>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Spoiled {
    dropped: u32,
    doubled: u32,
}

impl Cluster {
    #[must_use]
    pub fn new(network: Network, record: Record, defect: Option<Defect>) -> Self {
        let etcd = Etcd::new(TokioClock::shared());
        let mut everything = etcd.watch();
        let mut request = PbWatchRequestUnion::CreateRequest(Default::default());
        if let PbWatchRequestUnion::CreateRequest(create) = &mut request {
            (create.key, create.range_end) = (vec![0], vec![0]);
        }
        everything.request(PbWatchRequest { request_union: Some(request) });
        let everything = Arc::new(Mutex::new(everything));
        Self { etcd, network, record, everything, spoiled: Arc::default(), defect }
    }

    /// Ends leases in time, as long as the simulation lasts.
    pub async fn run(self) {
        loop {
            self.etcd.expire();
            self.note(None);
            tokio::time::sleep(EXPIRE_EVERY).await;
        }
    }

    /// The way to it for one process.
    #[must_use]
    pub fn way(&self, writer: Writer) -> Transport {
        let face = Face { cluster: self.clone(), writer };
        let routes = Routes::new(PbKvServer::new(face.clone()))
            .add_service(PbWatchServer::new(face.clone()))
            .add_service(PbLeaseServer::new(face.clone()))
            .prepare();
        Transport::new(service_fn(move |request| {
            let (routes, refused) = (routes.clone(), face.cluster.network.refuses(face.link()));
            async move {
                if refused {
                    return Err(BoxError::from(NotSent));
                }
                routes.oneshot(request).await.map_err(BoxError::from)
            }
        }))
    }

    /// All keys with this prefix, as they are now.
    #[must_use]
    pub fn list(&self, prefix: &str) -> Vec<PbKeyValue> {
        let mut range_end = prefix.as_bytes().to_vec();
        if let Some(last) = range_end.last_mut() {
            *last += 1;
        }
        let request = PbRangeRequest { key: prefix.into(), range_end, ..PbRangeRequest::default() };
        self.etcd.range(&request).map(|answer| answer.kvs).unwrap_or_default()
    }

    pub fn compact(&self) {
        let revision = self.etcd.revision();
        // It may have been compacted there already.
        let _ = self.etcd.compact(&PbCompactionRequest { revision, physical: false });
    }

    /// Ends the leases of all keys that contain one of these texts.
    pub fn revoke(&self, root: &str, parts: &[String]) {
        let holds = |kv: &PbKeyValue| {
            let key = String::from_utf8_lossy(&kv.key).into_owned();
            kv.lease != 0 && parts.iter().any(|part| key.contains(part.as_str()))
        };
        for kv in self.list(root).iter().filter(|kv| holds(kv)) {
            // Several keys may hang on one.
            let _ = self.etcd.lease_revoke(&PbLeaseRevokeRequest { id: kv.lease });
        }
        self.note(None);
    }

    pub fn drop_events(&self, machine: MachineId, messages: u32) {
        self.spoiled().entry(machine).or_default().dropped += messages;
    }

    pub fn double_events(&self, machine: MachineId, messages: u32) {
        self.spoiled().entry(machine).or_default().doubled += messages;
    }

    pub fn spoil_nothing(&self) {
        self.spoiled().clear();
    }

    fn spoiled(&self) -> MutexGuard<'_, BTreeMap<MachineId, Spoiled>> {
        self.spoiled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records what was just written.
    fn note(&self, by: Option<Writer>) {
        let mut everything = self.everything.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(response) = everything.try_next() {
            let mut revisions: BTreeMap<i64, Vec<Change>> = BTreeMap::new();
            for kv in response.events.into_iter().filter_map(|event| event.kv) {
                let change = Change {
                    key: String::from_utf8_lossy(&kv.key).into_owned(),
                    value: (kv.version > 0).then_some(kv.value),
                    create_revision: kv.create_revision,
                };
                revisions.entry(kv.mod_revision).or_default().push(change);
            }
            for (revision, changes) in revisions {
                self.record.add(Happened::Revision { revision, by, changes });
            }
        }
    }
}

/// etcd as one process sees it.
#[derive(Clone)]
struct Face {
    cluster: Cluster,
    writer: Writer,
}

type Answer<T> = Result<Response<T>, Status>;

impl Face {
    fn link(&self) -> (MachineId, Peer) {
        (self.writer.machine, Peer::Etcd)
    }

    async fn call<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&Etcd) -> Result<T, Status> + Send + 'static,
    ) -> Answer<T> {
        let (cluster, writer) = (self.cluster.clone(), self.writer);
        let effect = move || {
            let answer = operation(&cluster.etcd);
            cluster.note(Some(writer));
            answer
        };
        self.cluster.network.call(self.link(), effect).await.map(Response::new)
    }

    /// A stream broke on its way: some end at once, some are just never heard of again.
    async fn break_off<T>(&self, out: &mpsc::Sender<Result<T, Status>>) {
        if self.cluster.network.chance(50) {
            out.closed().await;
        } else {
            let _ = out.send(Err(Status::unavailable("the connection broke"))).await;
        }
    }

    fn hide_limits<'a>(&self, read: impl Iterator<Item = &'a mut PbKeyValue>) {
        if self.cluster.defect == Some(Defect::LimitUnread) && self.writer.is_node() {
            read.for_each(|kv| without_limit(&mut kv.value));
        }
    }

    /// How often a message of a watch arrives.
    fn copies(&self, response: &PbWatchResponse) -> usize {
        if response.events.is_empty() {
            return 1;
        }
        let mut spoiled = self.cluster.spoiled();
        let Some(next) = spoiled.get_mut(&self.writer.machine) else { return 1 };
        if next.dropped > 0 {
            next.dropped -= 1;
            return 0;
        }
        if next.doubled > 0 {
            next.doubled -= 1;
            return 2;
        }
        1
    }
}

fn not_simulated<T>() -> Answer<T> {
    Err(Status::unimplemented("not simulated"))
}

#[tonic::async_trait]
impl PbKvService for Face {
    type RangeStreamStream = Pin<Box<dyn Stream<Item = Result<PbRangeStreamResponse, Status>> + Send>>;

    async fn range(&self, request: Request<PbRangeRequest>) -> Answer<PbRangeResponse> {
        let mut answer = self.call(move |etcd| etcd.range(request.get_ref())).await?;
        self.hide_limits(answer.get_mut().kvs.iter_mut());
        Ok(answer)
    }

    async fn range_stream(&self, _: Request<PbRangeRequest>) -> Answer<Self::RangeStreamStream> {
        not_simulated()
    }

    async fn put(&self, request: Request<PbPutRequest>) -> Answer<PbPutResponse> {
        self.call(move |etcd| etcd.put(request.get_ref())).await
    }

    async fn delete_range(&self, request: Request<PbDeleteRequest>) -> Answer<PbDeleteResponse> {
        self.call(move |etcd| etcd.delete_range(request.get_ref())).await
    }

    async fn txn(&self, request: Request<PbTxnRequest>) -> Answer<PbTxnResponse> {
        let mut request = request.into_inner();
        if let Some(defect) = self.cluster.defect {
            defect.spoil(&mut request);
        }
        self.call(move |etcd| etcd.txn(&request)).await
    }

    async fn compact(&self, _: Request<PbCompactionRequest>) -> Answer<PbCompactionResponse> {
        not_simulated()
    }
}

#[tonic::async_trait]
impl PbLeaseService for Face {
    type LeaseKeepAliveStream = ReceiverStream<Result<PbLeaseKeepAliveResponse, Status>>;

    async fn lease_grant(&self, request: Request<PbLeaseGrantRequest>) -> Answer<PbLeaseGrantResponse> {
        self.call(move |etcd| etcd.lease_grant(request.get_ref())).await
    }

    async fn lease_revoke(&self, request: Request<PbLeaseRevokeRequest>) -> Answer<PbLeaseRevokeResponse> {
        self.call(move |etcd| etcd.lease_revoke(request.get_ref())).await
    }

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<PbLeaseKeepAliveRequest>>,
    ) -> Answer<Self::LeaseKeepAliveStream> {
        let (out, answers) = mpsc::channel(STREAM);
        let (face, mut requests) = (self.clone(), request.into_inner());
        self.cluster.network.run(async move {
            let (network, link) = (face.cluster.network.clone(), face.link());
            while let Ok(Some(request)) = requests.message().await {
                if !network.there(link).await {
                    return face.break_off(&out).await;
                }
                let answer = face.cluster.etcd.lease_keep_alive(request.id);
                if !network.back(link).await {
                    return face.break_off(&out).await;
                }
                if out.send(Ok(answer)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }

    async fn lease_time_to_live(
        &self,
        _: Request<PbLeaseTimeToLiveRequest>,
    ) -> Answer<PbLeaseTimeToLiveResponse> {
        not_simulated()
    }

    async fn lease_leases(&self, _: Request<PbLeaseLeasesRequest>) -> Answer<PbLeaseLeasesResponse> {
        not_simulated()
    }
}

#[tonic::async_trait]
impl PbWatchService for Face {
    type WatchStream = ReceiverStream<Result<PbWatchResponse, Status>>;

    async fn watch(&self, request: Request<Streaming<PbWatchRequest>>) -> Answer<Self::WatchStream> {
        let (out, responses) = mpsc::channel(STREAM);
        let conversation = converse(self.clone(), request.into_inner(), out);
        self.cluster.network.run(conversation);
        Ok(Response::new(ReceiverStream::new(responses)))
    }
}

async fn converse(
    face: Face,
    mut requests: Streaming<PbWatchRequest>,
    out: mpsc::Sender<Result<PbWatchResponse, Status>>,
) {
    let (network, link) = (face.cluster.network.clone(), face.link());
    let (mut watches, mut asks) = (face.cluster.etcd.watch(), true);
    loop {
        tokio::select! {
            biased;
            () = out.closed() => return,
            request = requests.message(), if asks => match request {
                Ok(Some(mut request)) => {
                    if !network.there(link).await {
                        return face.break_off(&out).await;
                    }
                    if let (Some(Defect::WatchFromNow), Some(PbWatchRequestUnion::CreateRequest(create))) =
                        (face.cluster.defect, &mut request.request_union)
                    {
                        create.start_revision = 0;
                    }
                    watches.request(request);
                }
                Ok(None) | Err(_) => asks = false,
            },
            mut response = watches.next() => {
                face.hide_limits(response.events.iter_mut().filter_map(|event| event.kv.as_mut()));
                for _ in 0..face.copies(&response) {
                    if !network.back(link).await {
                        return face.break_off(&out).await;
                    }
                    if out.send(Ok(response.clone())).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}
