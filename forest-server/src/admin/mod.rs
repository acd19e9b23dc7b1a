//! The administration: operations, validation and their errors in one place. Faces only translate.
//!
//! Any node serves any call. Reads come from the node's own view and from the history; writes go to etcd as
//! guarded transactions and are answered once the node's own view shows them.
//!
//! Each operation asks by itself whether its caller may do it, on the group of what is stored, and each change is
//! committed together with the record of who made it.

mod access;
mod attempts;
mod audit;
mod backfills;
mod calendars;
mod chinese;
mod cluster;
mod dependencies;
mod drains;
mod error;
mod events;
pub(crate) mod explain;
mod fires;
mod groups;
mod jobs;
mod log_level;
mod original;
mod probes;
mod requests;
mod retries;
mod runs;
mod shape;
mod shards;
mod statistics;
mod step_down;
mod validate;
mod write;

use std::borrow::Cow;
use std::num::NonZeroU32;
use std::sync::Arc;

use forest_etcd::{SharedClock, Store};
use forest_proto::record::Role;
use forest_proto::time::Instant;
use forest_proto::{GroupName, Keyspace, TraceParent};
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

pub(crate) use access::{TokenSummary, UserPatch, UserSummary};
pub(crate) use attempts::Attempts;
pub(crate) use backfills::{BackfillPlan, BackfillQuery, BackfillSummary};
pub(crate) use calendars::StoredCalendar;
pub(crate) use chinese::chinese;
pub(crate) use cluster::{ClientSummary, ClusterSummary, NodeSummary};
pub(crate) use dependencies::Link;
pub(crate) use error::AdminError;
pub(crate) use events::EventQuery;
pub(crate) use explain::Explanation;
pub(crate) use fires::{Fire, FireQuery};
pub(crate) use groups::GroupSummary;
pub(crate) use jobs::{JobFilter, StoredJob};
pub(crate) use log_level::LogLevelSummary;
pub(crate) use original::OriginalFilter;
pub(crate) use runs::{RunFilter, RunState, RunSummary};
pub(crate) use statistics::{Statistic, StatisticsPage, StatisticsQuery};
pub(crate) use step_down::SteppedDown;

use crate::access::{Caller, Scope, Who};
use crate::core::clock_guard::MAX_SKEW_MS;
use crate::scheduler::{Reading, SchedulerHandle};
use crate::store::History;
use crate::traces::Traces;

/// The administration, for whoever turns out to call. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Administration {
    inner: Arc<Inner>,
    traces: Traces,
}

/// What a caller can do. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Admin {
    inner: Arc<Inner>,
    traces: Traces,
    caller: Caller,
    /// The trace that the call is part of.
    traceparent: Option<TraceParent>,
}

struct Inner {
    store: Store,
    scheduler: SchedulerHandle,
    history: History,
    clock: SharedClock,
    keys: Keyspace,
    /// The zone of jobs that do not say.
    default_zone: String,
    marks: write::Marks,
    /// Changes by caller; `None`: any number.
    submissions: Option<DefaultKeyedRateLimiter<String>>,
}

/// A page of at most so many, after an opaque token.
#[derive(Debug, Clone, Default)]
pub(crate) struct PageRequest {
    pub(crate) size: u32,
    pub(crate) token: String,
}

/// Callers whose changes are counted before those are forgotten that have made none for a while.
const CALLERS: usize = 10_000;

const PAGE: u32 = 50;
const MAX_PAGE: u32 = 200;

impl PageRequest {
    fn size(&self) -> Result<usize, AdminError> {
        match self.size {
            0 => Ok(PAGE as usize),
            size if size <= MAX_PAGE => Ok(size as usize),
            size => Err(AdminError::invalid("page_size", format!("{size} is more than {MAX_PAGE}"))),
        }
    }

    /// The name after which the page begins.
    fn after<T: std::str::FromStr>(&self) -> Result<Option<T>, AdminError> {
        match self.token.as_str() {
            "" => Ok(None),
            token => token.parse().map(Some).map_err(|_| {
                AdminError::invalid(
                    "page_token",
                    "is not one that an earlier page gave: begin again without one",
                )
            }),
        }
    }
}

/// A page and where the next one begins; empty at the end.
#[derive(Debug)]
pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    pub(crate) next: String,
    /// Where the page before begins, for lists that can be read both ways; else empty.
    pub(crate) previous: String,
}

impl<T> Page<T> {
    /// From one item more than the page holds, if there is one.
    fn of(mut items: Vec<T>, size: usize, token: impl Fn(&T) -> String) -> Self {
        let more = items.len() > size;
        items.truncate(size);
        let next = items.last().filter(|_| more).map(token).unwrap_or_default();
        Self { items, next, previous: String::new() }
    }
}

impl Administration {
    pub(crate) fn new(
        store: Store,
        scheduler: SchedulerHandle,
        history: History,
        clock: SharedClock,
        keys: Keyspace,
        default_zone: String,
        submissions_per_minute: u32,
    ) -> Self {
        let submissions =
            NonZeroU32::new(submissions_per_minute).map(|count| RateLimiter::keyed(Quota::per_minute(count)));
        let inner = Inner {
            store,
            scheduler,
            history,
            clock,
            keys,
            default_zone,
            marks: write::Marks::default(),
            submissions,
        };
        Self { inner: Arc::new(inner), traces: Traces::default() }
    }

    /// In the name of the login provider, for somebody who calls from there.
    pub(crate) fn of_provider(&self, from: &str) -> Admin {
        self.acting(Caller { from: from.to_owned(), ..Caller::server() })
    }

    /// With spans of calls that ask for runs.
    pub(crate) fn with_traces(self, traces: Traces) -> Self {
        Self { traces, ..self }
    }

    /// In the name of a caller.
    pub(crate) fn acting(&self, caller: Caller) -> Admin {
        Admin { inner: self.inner.clone(), traces: self.traces.clone(), caller, traceparent: None }
    }
}

impl Admin {
    /// As part of a trace, by its header. What is no context counts as none, as the W3C has it.
    pub(crate) fn within(self, traceparent: Option<&str>) -> Self {
        Self { traceparent: traceparent.and_then(|text| text.parse().ok()), ..self }
    }

    /// Refuses a caller who has not this role there.
    fn require(&self, role: Role, scope: Scope<'_>) -> Result<(), AdminError> {
        Ok(self.caller.require(role, scope)?)
    }

    /// Refuses a caller who has changed too much within a minute. Where nobody has to log in, nobody is told apart.
    fn within_rate(&self) -> Result<(), AdminError> {
        let Some(limiter) = &self.inner.submissions else { return Ok(()) };
        if matches!(self.caller.who, Who::Anonymous | Who::Server) {
            return Ok(());
        }
        if limiter.len() > CALLERS {
            limiter.retain_recent();
        }
        limiter.check_key(&self.caller.who.to_string()).map_err(|not_yet| {
            let wait = not_yet.wait_time_from(DefaultClock::default().now());
            AdminError::TooMany { seconds: wait.as_secs() + 1 }
        })
    }

    fn require_in(&self, role: Role, group: &GroupName) -> Result<(), AdminError> {
        self.require(role, Scope::Group(group))
    }

    /// The group of a list: the given one, or all, if the caller sees all. Somebody who sees some groups has to
    /// say which.
    fn listed_group<'a>(&self, group: &'a str) -> Result<Cow<'a, str>, AdminError> {
        self.require(Role::Viewer, Scope::Somewhere)?;
        let Some(seen) = self.caller.confined_to() else { return Ok(group.into()) };
        match (GroupName::new(group), seen.as_slice()) {
            (Ok(name), _) => {
                self.require_in(Role::Viewer, &name)?;
                Ok(group.into())
            }
            (Err(_), [only]) if group.is_empty() => Ok(only.to_string().into()),
            (Err(_), _) => {
                let seen: Vec<_> = seen.iter().map(GroupName::as_str).collect();
                Err(AdminError::invalid("group", format!("name one that you may see: {}", seen.join(", "))))
            }
        }
    }

    fn now(&self) -> Instant {
        Instant::from_ms(self.inner.clock.wall_ms())
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reading<'_>) -> T + Send + 'static,
    ) -> Result<T, AdminError> {
        self.inner.scheduler.caught_up(0, write::VIEW_PATIENCE).await?;
        Ok(self.inner.scheduler.read(read).await?)
    }

    /// For a change that rests on what is not there: refused while this node knows that its view lacks something.
    async fn read_whole<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reading<'_>) -> T + Send + 'static,
    ) -> Result<T, AdminError> {
        let whole = self.read(move |now| (!now.view.jobs.is_doubted()).then(|| read(now))).await?;
        whole.ok_or_else(|| {
            AdminError::Unavailable("this node has missed changes and reads them anew: try again".into())
        })
    }

    /// A change of a schedule counts from the wall clock of the node that takes it: not from a wrong one. Whole
    /// seconds, so that intervals fire on them.
    async fn trusted_now(&self) -> Result<Instant, AdminError> {
        let skew_ms = self.read(|reading| reading.skew_ms).await?;
        if skew_ms.abs() > MAX_SKEW_MS {
            return Err(AdminError::ClockSkew { skew_ms });
        }
        Ok(Instant::from_ms(self.now().as_ms() / 1000 * 1000))
    }
}
