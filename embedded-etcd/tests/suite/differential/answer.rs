//! Answers, made comparable: without what must differ (members, terms, seconds that passed) and without the order of
//! what etcd itself does not order.

use embedded_etcd::proto::{
    PbDeleteResponse, PbLeaseGrantResponse, PbLeaseKeepAliveResponse, PbLeaseLeasesResponse,
    PbLeaseTimeToLiveResponse, PbPutResponse, PbRangeRequest, PbRangeResponse, PbResponseHeader,
    PbTxnOpRequest, PbTxnOpResponse, PbTxnRequest, PbTxnResponse, PbWatchResponse,
};
use tonic::{Code, Status};

/// A lease may have lost so many seconds of its time since it was granted.
const SECONDS: i64 = 600;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Answer {
    Range(PbRangeResponse),
    Put(PbPutResponse),
    Delete(PbDeleteResponse),
    Txn(PbTxnResponse),
    Grant(PbLeaseGrantResponse),
    KeepAlive(PbLeaseKeepAliveResponse),
    TimeToLive(PbLeaseTimeToLiveResponse),
    Leases(PbLeaseLeasesResponse),
    /// Nothing but a revision.
    Done(Option<PbResponseHeader>),
    Watch(PbWatchResponse),
    Refused(Code, String),
}

impl Answer {
    pub(super) fn of<T>(answer: Result<T, Status>, as_answer: impl FnOnce(T) -> Self) -> Self {
        match answer {
            Ok(answer) => as_answer(answer),
            // etcd's Go server, which counts its own way, puts the size in its text.
            Err(status) if status.message().starts_with("grpc: received message larger than max") => {
                Self::Refused(status.code(), "grpc: received message larger than max".into())
            }
            Err(status) => Self::Refused(status.code(), status.message().to_owned()),
        }
    }

    /// The newest revision, as far as this answer knows.
    pub(super) fn revision(&self) -> Option<i64> {
        let header = match self {
            Self::Range(answer) => &answer.header,
            Self::Put(answer) => &answer.header,
            Self::Delete(answer) => &answer.header,
            Self::Txn(answer) => &answer.header,
            Self::Grant(answer) => &answer.header,
            Self::KeepAlive(answer) => &answer.header,
            Self::TimeToLive(answer) => &answer.header,
            Self::Leases(answer) => &answer.header,
            Self::Done(header) => header,
            Self::Watch(_) | Self::Refused(..) => &None,
        };
        header.as_ref().map(|header| header.revision)
    }
}

pub(super) fn range(request: &PbRangeRequest, mut answer: PbRangeResponse) -> PbRangeResponse {
    only_revision(&mut answer.header);
    // etcd's sort is not stable: among equals, any order is right, and with a limit any of them.
    if request.sort_target != 0 {
        if answer.more {
            answer.kvs.iter_mut().for_each(|kv| *kv = by_target(request.sort_target, kv));
        } else {
            answer.kvs.sort_by(|a, b| a.key.cmp(&b.key));
        }
    }
    answer
}

/// What it is sorted by, alone.
fn by_target(target: i32, kv: &embedded_etcd::proto::PbKeyValue) -> embedded_etcd::proto::PbKeyValue {
    let mut only = embedded_etcd::proto::PbKeyValue::default();
    match target {
        1 => only.version = kv.version,
        2 => only.create_revision = kv.create_revision,
        3 => only.mod_revision = kv.mod_revision,
        4 => only.value = kv.value.clone(),
        _ => {}
    }
    only
}

pub(super) fn txn(request: &PbTxnRequest, mut answer: PbTxnResponse) -> PbTxnResponse {
    only_revision(&mut answer.header);
    let ops = if answer.succeeded { &request.success } else { &request.failure };
    for (op, part) in ops.iter().zip(&mut answer.responses) {
        match (&op.request, &mut part.response) {
            (Some(PbTxnOpRequest::RequestRange(request)), Some(PbTxnOpResponse::ResponseRange(part))) => {
                *part = range(request, std::mem::take(part));
            }
            (Some(PbTxnOpRequest::RequestTxn(request)), Some(PbTxnOpResponse::ResponseTxn(part))) => {
                *part = txn(request, std::mem::take(part));
            }
            _ => {}
        }
    }
    answer
}

pub(super) fn time_to_live(mut answer: PbLeaseTimeToLiveResponse) -> PbLeaseTimeToLiveResponse {
    only_revision(&mut answer.header);
    answer.keys.sort();
    if answer.ttl > 0 && (0..=SECONDS).contains(&(answer.granted_ttl - answer.ttl)) {
        answer.ttl = answer.granted_ttl;
    }
    answer
}

pub(super) fn leases(mut answer: PbLeaseLeasesResponse) -> PbLeaseLeasesResponse {
    only_revision(&mut answer.header);
    answer.leases.sort_by_key(|lease| lease.id);
    answer
}

pub(super) fn only_revision(header: &mut Option<PbResponseHeader>) {
    *header =
        header.take().map(|header| PbResponseHeader { revision: header.revision, ..Default::default() });
}
