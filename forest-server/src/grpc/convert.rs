//! Domain types as messages.

use forest_proto::RunId;
use forest_proto::admin::v1 as api;
use forest_proto::record::{DayRange, Execution, Grants, Job, Outcome, Role, Snapshot, encode};
use forest_proto::time::Instant;

use crate::access::Caller;
use crate::admin::{
    Admin, AdminError, Attempts, BackfillPlan, BackfillSummary, ClientSummary, ClusterSummary, Explanation,
    Fire, GroupSummary, Link, LogLevelSummary, NodeSummary, RunState, RunSummary, SteppedDown,
    StoredCalendar, StoredJob, TokenSummary, UserSummary,
};
use crate::core::routing::queue::{Reason, Waiting};
use crate::store::{Audited, Entry};

/// A choice by its name; the empty text is the default.
pub(super) fn choice<T: Default + serde::de::DeserializeOwned>(
    field: &str,
    text: &str,
) -> Result<T, AdminError> {
    if text.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_value(text.into()).map_err(|error| AdminError::shape(field, &error))
}

fn text(json: Vec<u8>) -> String {
    String::from_utf8(json).unwrap_or_default()
}

fn ms(at: Option<Instant>) -> i64 {
    at.map_or(0, Instant::as_ms)
}

fn count(number: usize) -> u64 {
    number as u64
}

fn unsigned<T: TryFrom<i64> + Default>(number: i64) -> T {
    T::try_from(number).unwrap_or_default()
}

impl From<ClusterSummary> for api::Cluster {
    fn from(c: ClusterSummary) -> Self {
        let (leader, term) = c.leader.unwrap_or_default();
        Self {
            version: env!("CARGO_PKG_VERSION").into(),
            node: c.node,
            leader,
            term,
            segments: u32::try_from(c.segments).unwrap_or(0),
            jobs: count(c.jobs),
            enabled_jobs: count(c.enabled_jobs),
            groups: count(c.groups),
            clients: count(c.clients),
            runs_pending: count(c.pending),
            runs_queued: count(c.queued),
            runs_running: count(c.running),
            runs_delayed: count(c.delayed),
            runs_uncollected: count(c.uncollected),
            oldest_pending_ms: c.oldest_pending_ms,
            etcd_version: c.etcd_version,
            history_available: c.history_available,
            dispatch_held: c.held,
            quarantined: count(c.quarantined),
            max_clock_skew_ms: c.max_skew_ms,
        }
    }
}

impl From<NodeSummary> for api::Node {
    fn from(n: NodeSummary) -> Self {
        Self {
            id: n.node.name.to_string(),
            address: n.node.address,
            version: n.node.version,
            leader: n.leads,
            started_at: n.node.started_at.as_ms(),
            clock_skew_ms: n.skew_ms,
        }
    }
}

impl From<Attempts> for api::ListAttemptsResponse {
    fn from(attempts: Attempts) -> Self {
        let ended = attempts.ended;
        Self { attempts: attempts.runs.into_iter().map(Into::into).collect(), ended }
    }
}

impl From<SteppedDown> for api::StepDownResponse {
    fn from(stepped: SteppedDown) -> Self {
        let (leader, leader_term) = stepped.next.unwrap_or_default();
        Self {
            from: stepped.from,
            term: stepped.term,
            others: count(stepped.others),
            leader,
            leader_term,
            took_ms: u64::try_from(stepped.took.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

impl From<LogLevelSummary> for api::LogLevel {
    fn from(level: LogLevelSummary) -> Self {
        let (filter, expires_at, by) = match level.changed {
            Some(changed) => (changed.filter, changed.until.as_ms(), changed.by),
            None => (level.configured.clone(), 0, String::new()),
        };
        Self { node: level.node.to_string(), filter, configured: level.configured, expires_at, by }
    }
}

impl From<Waiting> for api::Waiting {
    fn from(w: Waiting) -> Self {
        Self {
            group: w.group.to_string(),
            target: w.target,
            count: count(w.count),
            oldest_scheduled_at: w.oldest_ms,
            reason: w.reason.map_or("", Reason::as_str).to_owned(),
        }
    }
}

impl From<GroupSummary> for api::Group {
    fn from(g: GroupSummary) -> Self {
        Self {
            name: g.group.name.to_string(),
            remark: g.group.remark,
            max_in_flight: g.group.max_in_flight,
            dispatches_per_second: g.group.dispatches_per_second,
            clients: count(g.clients),
            jobs: count(g.jobs),
        }
    }
}

impl From<StoredJob> for api::Job {
    fn from(j: StoredJob) -> Self {
        Self {
            document: text(encode(&j.job)),
            revision: j.revision,
            next_fire_at: j.next_fire_ms.unwrap_or(0),
            notes: notes(&j),
            after: j.after.into_iter().map(Into::into).collect(),
            followers: j.followers.into_iter().map(Into::into).collect(),
        }
    }
}

fn notes(job: &StoredJob) -> Vec<String> {
    let problem = job.problem.iter().map(|problem| format!("it does not fire: {problem}"));
    let missing = job.after.iter().filter(|link| link.name.is_none());
    let missing = missing.map(|link| format!("it follows job {}, which does not exist", link.id));
    problem.chain(missing).collect()
}

impl From<Link> for api::JobLink {
    fn from(link: Link) -> Self {
        Self { id: link.id.to_string(), name: link.name.unwrap_or_default() }
    }
}

impl From<StoredCalendar> for api::Calendar {
    fn from(stored: StoredCalendar) -> Self {
        let calendar = stored.calendar;
        let days = |ranges: &[DayRange]| ranges.iter().map(ToString::to_string).collect();
        Self {
            name: calendar.name.to_string(),
            remark: calendar.remark.clone(),
            excluded: days(&calendar.excluded),
            included: days(&calendar.included),
            version: calendar.version,
            updated_at: ms(calendar.updated_at),
            revision: stored.revision,
            jobs: count(stored.jobs),
        }
    }
}

impl From<BackfillSummary> for api::Backfill {
    fn from(summary: BackfillSummary) -> Self {
        let backfill = summary.backfill;
        Self {
            id: backfill.id.to_string(),
            job_id: backfill.job.to_string(),
            job_name: summary.job_name,
            from: backfill.from.as_ms(),
            to: backfill.to.as_ms(),
            next: backfill.next.as_ms(),
            created: backfill.created,
            total: backfill.total,
            max_fires: backfill.max_fires,
            requested_at: backfill.requested_at.as_ms(),
            live: u32::try_from(summary.live).unwrap_or(u32::MAX),
            state: if summary.paused { "paused" } else { "running" }.into(),
            params: backfill.params,
        }
    }
}

impl From<BackfillPlan> for api::StartBackfillResponse {
    fn from(plan: BackfillPlan) -> Self {
        let (backfill, last) = plan.stored.unzip();
        Self {
            fires: plan.fires,
            first_at: ms(plan.first),
            last_at: ms(plan.last),
            beyond_max: plan.beyond_max,
            backfill: backfill.map(Into::into),
            last_run_id: last.map(|run| run.to_string()).unwrap_or_default(),
        }
    }
}

impl From<Fire> for api::Fire {
    fn from(f: Fire) -> Self {
        Self { at: f.at.as_ms(), local: f.local, note: f.note }
    }
}

pub(crate) fn planned_fire((at, job): (i64, Job)) -> api::PlannedFire {
    api::PlannedFire {
        at,
        job_id: job.id.to_string(),
        job_name: job.name,
        group: job.group.to_string(),
        cron: job.cron,
    }
}

impl From<ClientSummary> for api::Client {
    fn from(c: ClientSummary) -> Self {
        Self {
            id: c.id.to_string(),
            name: c.record.name,
            group: c.group.to_string(),
            address: c.record.address,
            version: c.record.version,
            capacity: c.record.capacity,
            queued: u32::try_from(c.queued).unwrap_or(u32::MAX),
            running: u32::try_from(c.running).unwrap_or(u32::MAX),
            any_target: c.record.targets.is_none(),
            targets: c.record.targets.into_iter().flatten().map(|target| target.to_string()).collect(),
            draining: c.record.draining,
            started_at: ms(c.record.started_at),
            labels: c.record.labels.into_iter().collect(),
            drained: c.drain.is_some(),
            drained_at: c.drain.as_ref().map_or(0, |drain| drain.at.as_ms()),
            drained_by: c.drain.map(|drain| drain.by).unwrap_or_default(),
        }
    }
}

impl From<RunSummary> for api::Run {
    fn from(summary: RunSummary) -> Self {
        let mut run = match (summary.entry, summary.execution, summary.snapshot) {
            (Some(entry), _, _) => of_entry(*entry),
            (None, Some(execution), _) => of_execution(*execution),
            (None, None, Some(snapshot)) => of_snapshot(*snapshot),
            (None, None, None) => Self::default(),
        };
        let state = match summary.state {
            RunState::Delayed => "delayed",
            RunState::Pending => "pending",
            RunState::Queued => "queued",
            RunState::Running => "running",
            RunState::Finished => "finished",
        };
        run.state = state.into();
        (run.id, run.group, run.job_id) = (summary.id, summary.group, summary.job_id);
        (run.client, run.fencing_token) = (summary.client, summary.fencing_token);
        run.shard = run.shard.or_else(|| shard_of(&run.id));
        run.shards = summary.shards.into_iter().map(Self::from).collect();
        run
    }
}

/// What an id alone tells.
fn shard_of(id: &str) -> Option<api::Shard> {
    let run: RunId = id.parse().ok()?;
    let (index, parent) = (run.shard()?, run.parent()?.to_string());
    Some(api::Shard { index, parent, ..api::Shard::default() })
}

fn of_snapshot(s: Snapshot) -> api::Run {
    let shard = s.shard.map(|shard| api::Shard {
        index: shard.index,
        total: shard.total,
        parent: shard.parent.to_string(),
        params: shard.params.unwrap_or_default(),
    });
    api::Run {
        shard,
        job_name: s.name,
        target: s.target.to_string(),
        scheduled_at: s.scheduled_at.as_ms(),
        created_at: s.created_at.as_ms(),
        attempt: s.attempt,
        max_attempts: s.max_attempts,
        origin: s.origin.as_str().into(),
        params: s.params,
        node: s.node,
        term: s.term,
        missed_fires: s.missed_fires,
        cause: s.cause.map(String::from).unwrap_or_default(),
        checkpoint: s.checkpoint.unwrap_or_default(),
        ..api::Run::default()
    }
}

fn of_execution(e: Execution) -> api::Run {
    api::Run {
        outcome: e
            .outcome
            .or_else(|| Outcome::of(e.status))
            .map(|outcome| outcome.as_str().into())
            .unwrap_or_default(),
        started_at: ms(e.started_at),
        finished_at: ms(e.finished_at),
        duration_ms: i64::try_from(e.duration_ms).unwrap_or(i64::MAX),
        result: e.result,
        result_truncated: e.result_truncated,
        progress: e.progress.map(|progress| api::Progress {
            percent: progress.percent.into(),
            text: progress.text,
            at: progress.at.as_ms(),
        }),
        ..of_snapshot(e.snapshot)
    }
}

fn of_entry(e: Entry) -> api::Run {
    api::Run {
        job_name: e.name,
        target: e.target,
        outcome: e
            .outcome
            .or_else(|| Outcome::of(e.status))
            .map(|outcome| outcome.as_str().into())
            .unwrap_or_default(),
        scheduled_at: ms(e.scheduled_at),
        created_at: ms(e.created_at),
        started_at: ms(e.started_at),
        finished_at: ms(e.finished_at),
        duration_ms: e.duration_ms,
        attempt: unsigned(e.attempt),
        max_attempts: unsigned(e.max_attempts),
        origin: e.origin,
        params: e.params,
        result: e.result,
        node: e.node,
        term: e.term,
        missed_fires: unsigned(e.missed_fires),
        cause: e.cause,
        result_truncated: e.result_truncated,
        ..api::Run::default()
    }
}

impl From<Explanation> for api::ExplainFireResponse {
    fn from(found: Explanation) -> Self {
        Self {
            outcome: found.outcome,
            reason: found.reason,
            run: found.run.map(Into::into),
            before: ms(found.before),
            after: ms(found.after),
        }
    }
}

impl Admin {
    /// Who calls, as it is told to them.
    pub(crate) fn identity(&self, login: bool) -> api::Identity {
        let Caller { who, grants, .. } = self.caller();
        api::Identity { who: who.to_string(), grants: granted(grants.clone()), login }
    }
}

fn granted(grants: Grants) -> Option<api::Grants> {
    let groups = grants.groups.into_iter().map(|(group, role)| (group.to_string(), role.to_string()));
    let everywhere = grants.everywhere.map(|role| role.to_string()).unwrap_or_default();
    Some(api::Grants { everywhere, groups: groups.collect() })
}

/// What somebody is to be granted.
pub(super) fn grants(given: Option<api::Grants>) -> Result<Grants, AdminError> {
    let given = given.unwrap_or_default();
    let role = |field: String, text: &str| {
        serde_json::from_value::<Role>(text.into()).map_err(|error| AdminError::shape(&field, &error))
    };
    let everywhere = match given.everywhere.as_str() {
        "" => None,
        text => Some(role("grants.everywhere".into(), text)?),
    };
    let groups = given.groups.iter().map(|(group, text)| {
        let field = format!("grants.groups.{group}");
        let name = group.parse().map_err(|error: forest_proto::NameError| {
            AdminError::invalid(field.clone(), error.to_string())
        })?;
        Ok((name, role(field, text)?))
    });
    Ok(Grants { everywhere, groups: groups.collect::<Result<_, AdminError>>()? })
}

impl From<UserSummary> for api::User {
    fn from(UserSummary(user): UserSummary) -> Self {
        Self {
            name: user.name.to_string(),
            grants: granted(user.grants),
            disabled: user.disabled,
            created_at: user.created_at.as_ms(),
        }
    }
}

impl From<TokenSummary> for api::Token {
    fn from(summary: TokenSummary) -> Self {
        let token = summary.token;
        Self {
            id: summary.id.to_string(),
            name: token.name,
            grants: granted(token.grants),
            user: token.user.map(|user| user.to_string()).unwrap_or_default(),
            created_at: token.created_at.as_ms(),
            expires_at: ms(token.expires_at),
        }
    }
}

impl From<Audited> for api::AuditRecord {
    fn from(audited: Audited) -> Self {
        let audit = audited.audit;
        let face = serde_json::to_value(audit.face).unwrap_or_default();
        Self {
            id: audited.id,
            at: audit.at.as_ms(),
            who: audit.who,
            from: audit.from,
            face: face.as_str().unwrap_or_default().to_owned(),
            action: audit.action,
            target: audit.target,
            group: audit.group.map(|group| group.to_string()).unwrap_or_default(),
            changes: serde_json::to_string(&audit.changes).unwrap_or_default(),
        }
    }
}
