//! Reads, listings and guarded writes over one connection.
//!
//! Every read is linearizable. A listing comes in pages that all show the same revision. A write is
//! sent once: when its answer is lost, the caller is told so and nothing is tried again.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{
    Compare, CompareOp, DeleteOptions, GetOptions, PutOptions, TxnOp, TxnOpResponse, TxnResponse,
    WatchOptions, WatchRequestSender, WatchResponseStream,
};

use crate::connection::Connection;
use crate::error::{Error, Failure};
use crate::txn::{self, Guard, MAX_OPS, Op, Outcome, Txn};
use crate::{EtcdConfig, KeyRange, KeyValue};

/// Largest page of a listing, in keys.
pub const MAX_PAGE: usize = 20_000;
/// A listing's pages grow up to about so many bytes: etcd looks at the whole rest of the range for every page, so
/// many small pages of a large range cost it the square of its size.
const PAGE_BYTES: usize = 4 * 1024 * 1024;
/// How often a listing starts again because its revision was compacted while it was read.
const LIST_ATTEMPTS: u32 = 3;

/// A connection to etcd. Clones share it.
#[derive(Clone)]
pub struct Store {
    connection: Arc<Connection>,
}

/// All keys of a range as they were at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    pub revision: i64,
    /// In the order of their keys.
    pub items: Vec<KeyValue>,
}

/// What a member says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// As etcd writes it, for example `3.5.16`.
    pub version: String,
    /// Id of the cluster's leader; 0 = there is none.
    pub leader: u64,
    pub db_bytes: i64,
}

/// A version that can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
    pub patch: u32,
}

impl Version {
    /// The oldest etcd that has everything used here.
    pub const MINIMUM: Self = Self { major: 3, minor: 4, patch: 0 };

    /// Reads `3.5.16` and `3.6.0-rc.1`; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let release = text.trim().trim_start_matches('v').split(['-', '+']).next()?;
        let mut parts = release.split('.').map(|part| part.parse().ok());
        let version = Self { major: parts.next()??, minor: parts.next()??, patch: parts.next()?? };
        parts.next().is_none().then_some(version)
    }
}

impl Store {
    /// Checks the configuration and reads the certificate files. The first call connects.
    pub fn new(config: &EtcdConfig) -> Result<Self, Error> {
        Ok(Self { connection: Arc::new(Connection::new(config)?) })
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Keys left out so far because they are not UTF-8.
    pub fn unreadable_keys(&self) -> u64 {
        self.connection.unreadable.count()
    }

    pub async fn get(&self, key: &str) -> Result<Option<KeyValue>, Error> {
        let answer = self.connection.read(|| {
            let mut kv = self.connection.kv.clone();
            async move { kv.get(key, None).await }
        });
        let mut answer = answer.await.map_err(|failure| failure.into_error(0))?;
        Ok(answer.take_kvs().pop().and_then(|kv| self.connection.unreadable.decode(kv)))
    }

    /// All keys as they were at one revision, in the order asked for, and that revision.
    pub async fn get_many(&self, keys: &[String]) -> Result<(i64, Vec<Option<KeyValue>>), Error> {
        let mut attempts = LIST_ATTEMPTS;
        loop {
            attempts -= 1;
            match self.get_pinned(keys).await {
                Err(Error::Compacted { .. }) if attempts > 0 => {}
                verdict => return verdict,
            }
        }
    }

    async fn get_pinned(&self, keys: &[String]) -> Result<(i64, Vec<Option<KeyValue>>), Error> {
        let (mut revision, mut found) = (0, Vec::with_capacity(keys.len()));
        // An empty list still asks once: the caller wants the revision.
        let parts = keys.chunks(MAX_OPS).chain(keys.is_empty().then_some(&[][..]));
        for part in parts {
            let options = GetOptions::new().with_revision(revision);
            let gets: Vec<TxnOp> =
                part.iter().map(|key| TxnOp::get(key.as_str(), Some(options.clone()))).collect();
            let request = etcd_client::Txn::new().and_then(gets);
            let answer = self.connection.read(|| {
                let (mut kv, request) = (self.connection.kv.clone(), request.clone());
                async move { kv.txn(request).await }
            });
            let answer = answer.await.map_err(|failure| failure.into_error(revision))?;
            if revision == 0 {
                revision = revision_of(answer.header());
            }
            found.extend(self.gets(&answer, part.len()));
        }
        Ok((revision, found))
    }

    /// All keys of the range at one revision; starts again if that revision is compacted meanwhile.
    pub async fn list(&self, range: &KeyRange, page_limit: usize) -> Result<Listing, Error> {
        let mut attempts = LIST_ATTEMPTS;
        loop {
            attempts -= 1;
            match self.list_pinned(range, page_limit).await {
                Err(Error::Compacted { revision }) if attempts > 0 => {
                    tracing::info!(range = range.label(), revision, "listing overtaken by compaction, again");
                }
                verdict => return verdict,
            }
        }
    }

    async fn list_pinned(&self, range: &KeyRange, page_limit: usize) -> Result<Listing, Error> {
        let (mut pager, mut items) = (self.pager(range, page_limit), Vec::new());
        while let Some(page) = pager.next().await? {
            items.extend(page);
        }
        Ok(Listing { revision: pager.revision(), items })
    }

    /// Reads a range page by page, all at the revision of the first page.
    pub fn pager(&self, range: &KeyRange, page_limit: usize) -> Pager {
        Pager {
            store: self.clone(),
            rest: Some(range.clone()),
            limit: page_limit.clamp(1, MAX_PAGE),
            revision: 0,
            keys_only: false,
        }
    }

    /// Runs one transaction. `Err` means that it was certainly not applied.
    pub async fn commit(&self, txn: Txn) -> Result<Outcome, Error> {
        self.commit_one(&txn).await
    }

    async fn commit_one(&self, txn: &Txn) -> Result<Outcome, Error> {
        if txn.width() > MAX_OPS {
            let cause = format!("a transaction of {} operations; {MAX_OPS} are allowed", txn.width());
            return Err(Error::TooLarge { cause });
        }
        match self.send(|| request(txn)).await {
            Ok(answer) => Ok(self.outcome(txn, &answer, revision_of(answer.header()))),
            Err(failure) => settle(failure),
        }
    }

    /// Runs independent transactions in as few requests as possible, one request after another.
    /// The answers are in the order of the transactions.
    pub async fn commit_all(&self, txns: Vec<Txn>) -> Vec<Result<Outcome, Error>> {
        let mut outcomes = Vec::with_capacity(txns.len());
        for part in txn::pack(&txns) {
            outcomes.extend(self.commit_together(&txns[part]).await);
        }
        outcomes
    }

    /// Runs transactions that [`txn::pack`] allows in one request. If etcd refuses the request as a
    /// whole, each is tried alone, so that one bad transaction does not fail its neighbours.
    pub(crate) async fn commit_together(&self, txns: &[Txn]) -> Vec<Result<Outcome, Error>> {
        if let [txn] = txns {
            return vec![self.commit_one(txn).await];
        }
        let nested = || {
            let nested: Vec<TxnOp> = txns.iter().map(|txn| TxnOp::txn(request(txn))).collect();
            etcd_client::Txn::new().and_then(nested)
        };
        let failure = match self.send(nested).await {
            Ok(answer) => return self.nested_outcomes(txns, &answer),
            Err(failure) => failure,
        };
        let blameless = settle(failure);
        match blameless {
            Err(
                Error::LeaseGone
                | Error::PermissionDenied { .. }
                | Error::Rejected { .. }
                | Error::TooLarge { .. },
            ) => {
                let mut outcomes = Vec::with_capacity(txns.len());
                for txn in txns {
                    outcomes.push(self.commit_one(txn).await);
                }
                outcomes
            }
            same_for_all => vec![same_for_all; txns.len()],
        }
    }

    async fn send(&self, request: impl Fn() -> etcd_client::Txn) -> Result<TxnResponse, Failure> {
        let call = self.connection.call(|| {
            let (mut kv, request) = (self.connection.kv.clone(), request());
            async move { kv.txn(request).await }
        });
        call.await
    }

    fn nested_outcomes(&self, txns: &[Txn], answer: &TxnResponse) -> Vec<Result<Outcome, Error>> {
        let revision = revision_of(answer.header());
        let mut answers = answer.op_responses().into_iter();
        let outcomes = txns.iter().map(|txn| match answers.next() {
            Some(TxnOpResponse::Txn(nested)) => Ok(self.outcome(txn, &nested, revision)),
            _ => Ok(Outcome::Unknown { cause: "etcd's answer does not match the request".into() }),
        });
        outcomes.collect()
    }

    fn outcome(&self, txn: &Txn, answer: &TxnResponse, revision: i64) -> Outcome {
        if answer.succeeded() {
            Outcome::Applied { revision }
        } else {
            Outcome::Refused { revision, found: self.gets(answer, txn.otherwise.len()) }
        }
    }

    /// The single-key reads among a transaction's answers.
    fn gets(&self, answer: &TxnResponse, expected: usize) -> Vec<Option<KeyValue>> {
        let found = answer.op_responses().into_iter().filter_map(|part| match part {
            TxnOpResponse::Get(mut get) => {
                Some(get.take_kvs().pop().and_then(|kv| self.connection.unreadable.decode(kv)))
            }
            _ => None,
        });
        let mut found: Vec<_> = found.collect();
        found.resize(expected, None);
        found
    }

    /// Asks the member in use for its version. Users without the root role may be refused by
    /// etcd 3.5 ([`Error::PermissionDenied`]): then it is at least reachable.
    pub async fn status(&self) -> Result<Status, Error> {
        let answer = self.connection.read(|| {
            let mut maintenance = self.connection.maintenance.clone();
            async move { maintenance.status().await }
        });
        let answer = answer.await.map_err(|failure| failure.into_error(0))?;
        Ok(Status { version: answer.version().into(), leader: answer.leader(), db_bytes: answer.db_size() })
    }

    /// A lease that nobody keeps alive: what hangs on it is deleted by etcd after `ttl`. If the answer is lost
    /// another one is asked for; the first ends unused.
    pub async fn grant(&self, ttl: Duration) -> Result<i64, Error> {
        let seconds = i64::try_from(ttl.as_secs().max(1)).unwrap_or(i64::MAX);
        let answer = self.connection.read(|| {
            let mut lease = self.connection.lease.clone();
            async move { lease.grant(seconds, None).await }
        });
        Ok(answer.await.map_err(|failure| failure.into_error(0))?.id())
    }

    /// Ends a lease at once, and with it every key that hangs on it. `false`: it had ended before, or an attempt
    /// whose answer was lost has ended it.
    pub async fn revoke(&self, lease_id: i64) -> Result<bool, Error> {
        let answer = self.connection.read(|| {
            let mut lease = self.connection.lease.clone();
            async move { lease.revoke(lease_id).await }
        });
        match answer.await {
            Ok(_) => Ok(true),
            Err(Failure::Refused(Error::LeaseGone)) => Ok(false),
            Err(failure) => Err(failure.into_error(0)),
        }
    }

    /// How many keys there are in a range. Costs etcd a walk over them.
    pub async fn count(&self, range: &KeyRange) -> Result<u64, Error> {
        let mut options = GetOptions::new().with_count_only();
        if !range.end.is_empty() {
            options = options.with_range(range.end.clone());
        }
        let answer = self.connection.read(|| {
            let (mut kv, options) = (self.connection.kv.clone(), options.clone());
            let start = range.start.clone();
            async move { kv.get(start, Some(options)).await }
        });
        let answer = answer.await.map_err(|failure| failure.into_error(0))?;
        Ok(u64::try_from(answer.count()).unwrap_or(0))
    }

    pub(crate) async fn open_watch(
        &self,
        range: &KeyRange,
        from: i64,
    ) -> Result<(WatchRequestSender, WatchResponseStream), Failure> {
        let mut options = WatchOptions::new().with_start_revision(from).with_progress_notify();
        if !range.end.is_empty() {
            options = options.with_range(range.end.clone());
        }
        let opened = self.connection.call(|| {
            let (mut watch, options) = (self.connection.watch.clone(), options.clone());
            let start = range.start.clone();
            async move { watch.watch(start, Some(options)).await }
        });
        Ok(opened.await?.split())
    }
}

/// Reads a range page by page at one revision. From [`Store::pager`].
pub struct Pager {
    store: Store,
    /// What was not read yet; `None` at the end.
    rest: Option<KeyRange>,
    limit: usize,
    revision: i64,
    keys_only: bool,
}

impl Pager {
    /// Leaves the values out.
    #[must_use]
    pub fn keys_only(mut self) -> Self {
        self.keys_only = true;
        self
    }

    /// The revision all pages show; 0 before the first page.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The next page, `None` after the last. [`Error::Compacted`]: the revision is gone, begin with
    /// a new pager. After another error the same page may be asked for again.
    pub async fn next(&mut self) -> Result<Option<Vec<KeyValue>>, Error> {
        let Some(rest) = self.rest.clone() else { return Ok(None) };
        let mut answer = loop {
            match self.page(&rest).await {
                Err(Failure::AnswerTooLarge(_)) if self.limit > 1 => self.limit /= 2,
                Err(failure) => return Err(failure.into_error(self.revision)),
                Ok(answer) => break answer,
            }
        };
        if self.revision == 0 {
            self.revision = revision_of(answer.header());
        }
        let bytes: usize = answer.kvs().iter().map(|kv| kv.key().len() + kv.value().len()).sum();
        if bytes < PAGE_BYTES / 4 {
            self.limit = (self.limit * 4).min(MAX_PAGE);
        }
        let more = answer.more();
        let kvs = answer.take_kvs();
        self.rest = kvs.last().filter(|_| more).map(|last| rest.after(last.key()));
        let unreadable = &self.store.connection.unreadable;
        Ok(Some(kvs.into_iter().filter_map(|kv| unreadable.decode(kv)).collect()))
    }

    async fn page(&self, rest: &KeyRange) -> Result<etcd_client::GetResponse, Failure> {
        let limit = i64::try_from(self.limit).unwrap_or(i64::MAX);
        let mut options = GetOptions::new().with_limit(limit).with_revision(self.revision);
        if !rest.end.is_empty() {
            options = options.with_range(rest.end.clone());
        }
        if self.keys_only {
            options = options.with_keys_only();
        }
        let connection = self.store.connection();
        let answer = connection.read(|| {
            let (mut kv, options) = (connection.kv.clone(), options.clone());
            let start = rest.start.clone();
            async move { kv.get(start, Some(options)).await }
        });
        answer.await
    }
}

/// The revision a header tells; 0 if etcd left it out.
pub(crate) fn revision_of(header: Option<&etcd_client::ResponseHeader>) -> i64 {
    header.map_or(0, etcd_client::ResponseHeader::revision)
}

/// A failed write as its caller sees it.
fn settle(failure: Failure) -> Result<Outcome, Error> {
    match failure {
        Failure::Lost(cause) | Failure::AnswerTooLarge(cause) => Ok(Outcome::Unknown { cause }),
        failure => Err(failure.into_error(0)),
    }
}

fn request(txn: &Txn) -> etcd_client::Txn {
    let guards: Vec<Compare> = txn.guards.iter().map(compare).collect();
    let ops: Vec<TxnOp> = txn.ops.iter().map(operation).collect();
    let reads: Vec<TxnOp> = txn.otherwise.iter().map(|key| TxnOp::get(key.as_str(), None)).collect();
    etcd_client::Txn::new().when(guards).and_then(ops).or_else(reads)
}

fn compare(guard: &Guard) -> Compare {
    match guard {
        Guard::Created { key, revision } => {
            Compare::create_revision(key.as_str(), CompareOp::Equal, *revision)
        }
        Guard::Modified { key, revision } => Compare::mod_revision(key.as_str(), CompareOp::Equal, *revision),
    }
}

fn operation(op: &Op) -> TxnOp {
    match op {
        Op::Put { key, value, lease } => {
            let options = PutOptions::new().with_lease(*lease);
            TxnOp::put(key.as_str(), value.clone(), Some(options))
        }
        Op::Delete { key } => TxnOp::delete(key.as_str(), Some(DeleteOptions::new())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_compared() {
        let version = |major, minor, patch| Version { major, minor, patch };
        assert_eq!(Version::parse("3.4.23"), Some(version(3, 4, 23)));
        assert_eq!(Version::parse("3.6.0-rc.1"), Some(version(3, 6, 0)));
        assert_eq!(Version::parse("v3.5.16+git"), Some(version(3, 5, 16)));
        for bad in ["", "3", "3.4", "3.4.x", "3.4.5.6", "3..4"] {
            assert_eq!(Version::parse(bad), None, "{bad}");
        }
        assert!(Version::parse("3.3.27") < Some(Version::MINIMUM));
        assert!(Version::parse("3.10.0") > Version::parse("3.9.9"));
    }

    #[test]
    fn a_write_is_unknown_only_if_it_may_have_been_applied() {
        let lost = settle(Failure::Lost("x".into()));
        assert_eq!(lost, Ok(Outcome::Unknown { cause: "x".into() }));
        assert!(matches!(settle(Failure::AnswerTooLarge("x".into())), Ok(Outcome::Unknown { .. })));
        assert!(matches!(settle(Failure::Unsent("x".into())), Err(Error::Unavailable { .. })));
        assert!(matches!(settle(Failure::StaleLogin("x".into())), Err(Error::Auth { .. })));
        assert_eq!(settle(Failure::Refused(Error::LeaseGone)), Err(Error::LeaseGone));
    }
}
