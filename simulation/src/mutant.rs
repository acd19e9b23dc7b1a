//! The protocol with one of its guards taken away, to see that the checker notices.
//!
//! Nothing is changed in the programs: a guard is taken out of a transaction on its way to etcd, by the step that
//! the transaction is. So what dies here is exactly what runs in production, but for that one comparison.

use embedded_etcd::proto::{
    PbCompare, PbCompareTarget, PbTargetUnion, PbTxnOpRequest, PbTxnRequest, PbTxnRequestOp,
};

use forest_proto::record::{Cursor, decode, encode};

use crate::plan::Stage;

/// A step of the protocol, recognised by what its transaction writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Campaign,
    Dispatch,
    Retry,
    RequestRun,
    Assign,
    /// Makes shards of a broadcast.
    Spread,
    /// Settles shards with their parent.
    Shards,
    Move,
    Lost,
    Settle,
    Cancel,
    Backfill,
    Claim,
    Complete,
    Collect,
    ChangeJob,
    AddJob,
    Ask,
    AskBackfill,
    DeleteGroup,
    /// A leader gives the leadership back.
    Resign,
}

/// What a comparison is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    Created,
    Modified,
}

/// A defect to be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// The comparison of a key that contains this text is left out.
    Without { step: Step, key: &'static str, about: About },
    /// The collector deletes what it has not saved yet.
    DeleteBeforeSave,
    /// A watch begins where etcd is, not where its listing was.
    WatchFromNow,
    /// A run that somebody asks for takes the counters of skipped fires away.
    CountersForgotten,
    /// Nodes do not read how many runs of a job or a group may be at clients.
    LimitUnread,
}

/// A defect with its name and the number of seeds within which it must have been found.
#[derive(Debug, Clone, Copy)]
pub struct Mutant {
    pub name: &'static str,
    pub defect: Defect,
    /// Where it shows most easily.
    pub stage: Stage,
    pub within: u64,
}

const fn without(
    name: &'static str,
    step: Step,
    key: &'static str,
    about: About,
    stage: Stage,
    within: u64,
) -> Mutant {
    Mutant { name, defect: Defect::Without { step, key, about }, stage, within }
}

const LEADER: &str = "/server/elect/leader";
const CURSOR: &str = "/server/cursor/";
const JOBGEN: &str = "/server/jobgen/";
const DELAY: &str = "/server/delay/";
const REQUEST: &str = "/server/request/";
const BACKFILL: &str = "/server/backfill/";
const ANSWER: &str = "/server/answer/";
const PENDING: &str = "/server/pending/";
const SPREAD: &str = "/server/spread/";
const CONF: &str = "/server/conf/";
const JOIN: &str = "/server/join/";
const GROUP: &str = "/server/group/";
const SNAPSHOT: &str = "/client/snapshot/";
const EXECUTION: &str = "/client/execute/snapshot/";
const CANCEL: &str = "/client/cancel/";
const REGISTRATION: &str = "/clients/";

use About::{Created, Modified};
use Stage::{
    Any, Backfilled, Cancelled, Chained, Deaf, Deposed, Forgetful, Frozen, Hasty, Late, Regrouped, Resigning,
    Returning, Scattered, Unanswered,
};

#[rustfmt::skip]
pub const MUTANTS: &[Mutant] = &[
    without("campaign-leader", Step::Campaign, LEADER, Created, Any, 100),
    without("dispatch-term", Step::Dispatch, LEADER, Created, Deposed, 100),
    without("dispatch-cursor", Step::Dispatch, CURSOR, Modified, Any, 100),
    without("dispatch-jobgen", Step::Dispatch, JOBGEN, Modified, Any, 100),
    without("retry-term", Step::Retry, LEADER, Created, Deposed, 100),
    without("retry-delay", Step::Retry, DELAY, Modified, Deposed, 100),
    without("retry-job", Step::Retry, CONF, Modified, Any, 200),
    without("request-term", Step::RequestRun, LEADER, Created, Deposed, 400),
    without("request-request", Step::RequestRun, REQUEST, Modified, Any, 2500),
    without("request-job", Step::RequestRun, CONF, Modified, Any, 800),
    without("request-cursor", Step::RequestRun, CURSOR, Modified, Unanswered, 300),
    without("assign-term", Step::Assign, LEADER, Created, Deposed, 200),
    without("assign-pending", Step::Assign, PENDING, Modified, Deposed, 200),
    without("spread-term", Step::Spread, LEADER, Created, Scattered, 100),
    without("spread-pending", Step::Spread, PENDING, Modified, Scattered, 100),
    without("shards-term", Step::Shards, LEADER, Created, Scattered, 100),
    without("shards-parent", Step::Shards, SPREAD, Modified, Scattered, 100),
    without("cancel-parent", Step::Cancel, SPREAD, Modified, Scattered, 600),
    without("move-term", Step::Move, LEADER, Created, Deposed, 100),
    without("move-snapshot", Step::Move, SNAPSHOT, Modified, Frozen, 100),
    without("lost-term", Step::Lost, LEADER, Created, Deposed, 1200),
    without("lost-execution", Step::Lost, EXECUTION, Modified, Frozen, 200),
    without("lost-registration", Step::Lost, REGISTRATION, Created, Returning, 100),
    without("lost-cancel", Step::Lost, CANCEL, Created, Cancelled, 200),
    without("settle-term", Step::Settle, LEADER, Created, Deposed, 100),
    without("settle-execution", Step::Settle, EXECUTION, Modified, Frozen, 100),
    without("settle-cancel", Step::Settle, CANCEL, Created, Deaf, 1300),
    without("settle-job", Step::Settle, CONF, Modified, Chained, 200),
    without("settle-jobgen", Step::Settle, JOBGEN, Modified, Chained, 2000),
    without("settle-join", Step::Settle, JOIN, Modified, Chained, 300),
    without("collect-execution", Step::Collect, EXECUTION, Modified, Hasty, 2100),
    without("cancel-term", Step::Cancel, LEADER, Created, Deposed, 100),
    without("cancel-request", Step::Cancel, REQUEST, Modified, Cancelled, 200),
    without("cancel-snapshot", Step::Cancel, SNAPSHOT, Modified, Frozen, 100),
    without("backfill-term", Step::Backfill, LEADER, Created, Backfilled, 200),
    without("backfill-document", Step::Backfill, BACKFILL, Modified, Backfilled, 400),
    without("backfill-job", Step::Backfill, CONF, Modified, Backfilled, 100),
    without("backfill-cursor", Step::Backfill, CURSOR, Modified, Backfilled, 1300),
    without("claim-snapshot", Step::Claim, SNAPSHOT, Modified, Deposed, 1300),
    without("claim-registration", Step::Claim, REGISTRATION, Created, Late, 100),
    without("complete-execution", Step::Complete, EXECUTION, Modified, Frozen, 100),
    without("change-job", Step::ChangeJob, CONF, Modified, Any, 100),
    without("add-job-group", Step::AddJob, GROUP, Modified, Regrouped, 300),
    without("delete-group-jobgen", Step::DeleteGroup, JOBGEN, Modified, Regrouped, 100),
    without("ask-request", Step::Ask, REQUEST, Created, Forgetful, 300),
    without("ask-answer", Step::Ask, ANSWER, Created, Any, 100),
    without("ask-backfill", Step::AskBackfill, BACKFILL, Created, Backfilled, 100),
    without("resign-term", Step::Resign, LEADER, Created, Resigning, 400),
    Mutant { name: "delete-before-save", defect: Defect::DeleteBeforeSave, stage: Any, within: 100 },
    Mutant { name: "counters-forgotten", defect: Defect::CountersForgotten, stage: Any, within: 100 },
    Mutant { name: "limit-unread", defect: Defect::LimitUnread, stage: Any, within: 100 },
    Mutant { name: "watch-from-now", defect: Defect::WatchFromNow, stage: Any, within: 100 },
];

impl Defect {
    /// Spoils a request on its way to etcd.
    pub fn spoil(self, request: &mut PbTxnRequest) {
        for op in request.success.iter_mut().chain(&mut request.failure) {
            if let Some(PbTxnOpRequest::RequestTxn(nested)) = &mut op.request {
                self.spoil(nested);
            }
        }
        if self == Self::CountersForgotten && step_of(request) == Some(Step::RequestRun) {
            request.success.iter_mut().for_each(forget_counters);
        }
        let Self::Without { step, key, about } = self else { return };
        if step_of(request) == Some(step) {
            request
                .compare
                .retain(|compare| !(contains(&compare.key, key) && subject(compare) == Some(about)));
        }
    }
}

fn forget_counters(op: &mut PbTxnRequestOp) {
    if let Some(PbTxnOpRequest::RequestPut(put)) = &mut op.request
        && contains(&put.key, CURSOR)
        && let Ok(mut cursor) = decode::<Cursor>(&put.value)
    {
        cursor.skips.clear();
        put.value = encode(&cursor);
    }
}

/// A document without its limit, as long as it was.
pub fn without_limit(value: &mut [u8]) {
    let name = b"max_in_flight";
    if let Some(at) = value.windows(name.len()).position(|window| window == name) {
        value[at] = b'-';
    }
}

fn contains(key: &[u8], part: &str) -> bool {
    key.windows(part.len()).any(|window| window == part.as_bytes())
}

/// A revision of 0 says for creation and for change the same: the key is absent.
fn subject(compare: &PbCompare) -> Option<About> {
    match (PbCompareTarget::try_from(compare.target), &compare.target_union) {
        (Ok(PbCompareTarget::Create), Some(PbTargetUnion::CreateRevision(_))) => Some(About::Created),
        (Ok(PbCompareTarget::Mod), Some(PbTargetUnion::ModRevision(_))) => Some(About::Modified),
        _ => None,
    }
}

/// Which step a transaction is; `None` for others, such as heartbeats.
#[must_use]
pub fn step_of(request: &PbTxnRequest) -> Option<Step> {
    let puts =
        |part: &str| request.success.iter().any(|op| put_key(op).is_some_and(|key| contains(key, part)));
    let deletes =
        |part: &str| request.success.iter().any(|op| deleted_key(op).is_some_and(|key| contains(key, part)));
    let compares = |part: &str| request.compare.iter().any(|compare| contains(&compare.key, part));
    let leads = compares(LEADER);
    Some(match () {
        () if puts(LEADER) => Step::Campaign,
        () if deletes(LEADER) => Step::Resign,
        // One that ends a run compares the jobs that follow it.
        () if leads && deletes(REQUEST) && (deletes(PENDING) || deletes(SNAPSHOT) || deletes(DELAY)) => {
            Step::Cancel
        }
        () if leads && deletes(REQUEST) && compares(CONF) => Step::RequestRun,
        () if leads && deletes(REQUEST) => Step::Cancel,
        () if leads && (puts(BACKFILL) || deletes(BACKFILL)) => Step::Backfill,
        () if leads && puts(CURSOR) => Step::Dispatch,
        () if leads && deletes(DELAY) => Step::Retry,
        () if leads && puts(SPREAD) && puts(PENDING) => Step::Spread,
        () if leads && (puts(SPREAD) || deletes(SPREAD)) => Step::Shards,
        () if leads && deletes(PENDING) => Step::Assign,
        () if leads && deletes(SNAPSHOT) => Step::Move,
        () if leads && puts(EXECUTION) && compares(REGISTRATION) => Step::Lost,
        () if leads && puts(EXECUTION) => Step::Settle,
        () if deletes(SNAPSHOT) && puts(EXECUTION) => Step::Claim,
        () if puts(EXECUTION) => Step::Complete,
        () if deletes(EXECUTION) => Step::Collect,
        () if (puts(CONF) || deletes(CONF)) && compares(GROUP) => Step::AddJob,
        () if puts(CONF) || deletes(CONF) => Step::ChangeJob,
        () if puts(REQUEST) => Step::Ask,
        () if puts(BACKFILL) => Step::AskBackfill,
        () if deletes(GROUP) => Step::DeleteGroup,
        () => return None,
    })
}

fn put_key(op: &PbTxnRequestOp) -> Option<&[u8]> {
    match &op.request {
        Some(PbTxnOpRequest::RequestPut(put)) => Some(&put.key),
        _ => None,
    }
}

fn deleted_key(op: &PbTxnRequestOp) -> Option<&[u8]> {
    match &op.request {
        Some(PbTxnOpRequest::RequestDeleteRange(delete)) => Some(&delete.key),
        _ => None,
    }
}
