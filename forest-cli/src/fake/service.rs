//! The fake server: it keeps groups and jobs in memory, remembers what it was asked and answers
//! everything else with fixed data.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use forest_proto::admin::v1::admin_server::Admin;
use forest_proto::admin::v1::*;
use serde_json::{Map, Value};
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::State;

/// 2026-11-18T11:06:40Z
const T0: i64 = 1_795_000_000_000;
const HOUR: i64 = 3_600_000;

pub(super) struct Service(pub(super) Arc<Mutex<State>>);

type Answer<T> = Result<Response<T>, Status>;

fn answer<T>(message: T) -> Answer<T> {
    Ok(Response::new(message))
}

fn refusal(code: Code, message: impl Into<String>, reason: &str) -> Status {
    Status::with_error_details(code, message, ErrorDetails::with_error_info(reason, "forest", HashMap::new()))
}

fn page<T: Clone>(all: &[T], size: u32, token: &str, max: usize) -> (Vec<T>, String) {
    let from: usize = token.parse().unwrap_or(0);
    let to = all.len().min(from + (size as usize).min(max));
    (all[from..to].to_vec(), if to < all.len() { to.to_string() } else { String::new() })
}

fn job(document: &Map<String, Value>) -> Job {
    Job {
        document: Value::Object(document.clone()).to_string(),
        revision: 101,
        next_fire_at: if document["status"] == 1 { T0 } else { 0 },
        notes: document.get("time_zone").map(|_| "a note".to_owned()).into_iter().collect(),
        after: links(document.get("trigger").and_then(|trigger| trigger.get("jobs"))),
        followers: links(document.get("followers")),
    }
}

fn links(ids: Option<&Value>) -> Vec<JobLink> {
    let ids = ids.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    ids.map(|id| JobLink { id: id.into(), name: if id == "gone" { "" } else { "bill" }.into() }).collect()
}

fn log_level(node: String, filter: &str, expires_at: i64) -> LogLevel {
    let by = if expires_at == 0 { "" } else { "user:ann" };
    LogLevel { node, filter: filter.into(), configured: "info".into(), expires_at, by: by.into() }
}

fn runs() -> (Run, Run) {
    let live = Run {
        id: "20261118110640000-10-1".into(),
        job_id: "10".into(),
        job_name: "bill".into(),
        group: "trade".into(),
        target: "bill".into(),
        state: "pending".into(),
        scheduled_at: T0,
        created_at: T0,
        attempt: 1,
        max_attempts: 3,
        origin: "schedule".into(),
        params: "{}".into(),
        node: "n1".into(),
        term: 42,
        ..Run::default()
    };
    let finished = Run {
        id: "20261118110640000-11-1".into(),
        job_id: "11".into(),
        client: "w1-7f3a9".into(),
        state: "finished".into(),
        outcome: "failed".into(),
        started_at: T0 + 120,
        finished_at: T0 + 1620,
        duration_ms: 1500,
        result: "line one\nline two".into(),
        fencing_token: 77,
        ..live.clone()
    };
    (live, finished)
}

impl Service {
    fn state(&self) -> Result<MutexGuard<'_, State>, Status> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.calls += 1;
        match &state.refuse_all {
            Some(status) => Err(status.clone()),
            None => Ok(state),
        }
    }
}

fn find<'a>(state: &'a mut State, id: &str) -> Result<&'a mut Map<String, Value>, Status> {
    let found = state.jobs.iter_mut().find(|job| job["id"] == id);
    found.ok_or_else(|| Status::not_found(format!("no job {id}")))
}

#[tonic::async_trait]
impl Admin for Service {
    async fn get_cluster(&self, _: Request<GetClusterRequest>) -> Answer<Cluster> {
        drop(self.state()?);
        answer(Cluster {
            version: "0.1.0".into(),
            node: "n1".into(),
            leader: "n1".into(),
            term: 42,
            segments: 16,
            jobs: 3,
            enabled_jobs: 2,
            groups: 1,
            clients: 2,
            runs_pending: 1,
            runs_running: 4,
            oldest_pending_ms: 90_000,
            etcd_version: "3.4.23".into(),
            history_available: true,
            max_clock_skew_ms: 12,
            ..Cluster::default()
        })
    }

    async fn list_nodes(&self, _: Request<ListNodesRequest>) -> Answer<ListNodesResponse> {
        let node = |n: u8, leader, clock_skew_ms| Node {
            id: format!("n{n}"),
            address: format!("10.0.0.{n}:2856"),
            version: "0.1.0".into(),
            leader,
            started_at: T0,
            clock_skew_ms,
        };
        answer(ListNodesResponse { nodes: vec![node(1, true, 0), node(2, false, -12)] })
    }

    async fn step_down(&self, request: Request<StepDownRequest>) -> Answer<StepDownResponse> {
        let request = request.into_inner();
        let node = request.node.clone();
        self.state()?.step_down_asked = Some(request);
        if node == "n2" {
            return Err(refusal(
                Code::FailedPrecondition,
                "node \"n2\" does not lead: n1 does",
                "NOT_LEADER",
            ));
        }
        let (from, leader) = ("n1".into(), "n2".into());
        answer(StepDownResponse { from, term: 42, others: 1, leader, leader_term: 43, took_ms: 12 })
    }

    async fn get_log_level(&self, request: Request<GetLogLevelRequest>) -> Answer<LogLevel> {
        answer(log_level(request.into_inner().node, "info", 0))
    }

    async fn set_log_level(&self, request: Request<SetLogLevelRequest>) -> Answer<LogLevel> {
        let request = request.into_inner();
        if request.node == "n3" {
            return Err(Status::not_found("no node \"n3\""));
        }
        answer(log_level(request.node, &request.filter, T0 + request.lives_ms))
    }

    async fn reset_log_level(&self, request: Request<ResetLogLevelRequest>) -> Answer<LogLevel> {
        answer(log_level(request.into_inner().node, "info", 0))
    }

    async fn add_group(&self, request: Request<AddGroupRequest>) -> Answer<Group> {
        let AddGroupRequest { name, remark, max_in_flight, dispatches_per_second } = request.into_inner();
        let mut state = self.state()?;
        if state.groups.iter().any(|group| group.name == name) {
            return Err(refusal(Code::AlreadyExists, format!("group {name} exists"), "GROUP_EXISTS"));
        }
        state.groups.push(Group { name, remark, max_in_flight, dispatches_per_second, ..Group::default() });
        answer(state.groups.last().cloned().unwrap_or_default())
    }

    async fn edit_group(&self, request: Request<EditGroupRequest>) -> Answer<Group> {
        let change = request.into_inner();
        let mut state = self.state()?;
        let found = state.groups.iter_mut().find(|group| group.name == change.name);
        let group = found.ok_or_else(|| Status::not_found(format!("no group {}", change.name)))?;
        let changed = |new: Option<u32>, old| new.map_or(old, |new| (new > 0).then_some(new));
        group.remark = change.remark.unwrap_or_else(|| group.remark.clone());
        group.max_in_flight = changed(change.max_in_flight, group.max_in_flight);
        group.dispatches_per_second = changed(change.dispatches_per_second, group.dispatches_per_second);
        answer(group.clone())
    }

    async fn get_group(&self, request: Request<GetGroupRequest>) -> Answer<Group> {
        let name = request.into_inner().name;
        let found = self.state()?.groups.iter().find(|group| group.name == name).cloned();
        answer(found.ok_or_else(|| Status::not_found(format!("no group {name}")))?)
    }

    async fn list_groups(&self, request: Request<ListGroupsRequest>) -> Answer<ListGroupsResponse> {
        let request = request.into_inner();
        let state = self.state()?;
        let (groups, next_page_token) =
            page(&state.groups, request.page_size, &request.page_token, state.max_page);
        answer(ListGroupsResponse { groups, next_page_token })
    }

    async fn delete_group(&self, request: Request<DeleteGroupRequest>) -> Answer<DeleteGroupResponse> {
        let name = request.into_inner().name;
        let mut state = self.state()?;
        let Some(at) = state.groups.iter().position(|group| group.name == name) else {
            return Err(Status::not_found(format!("no group {name}")));
        };
        let jobs = state.groups[at].jobs;
        if jobs > 0 {
            let message = format!("group {name} still has {jobs} jobs: remove them first");
            return Err(refusal(Code::FailedPrecondition, message, "GROUP_IN_USE"));
        }
        state.groups.remove(at);
        answer(DeleteGroupResponse {})
    }

    async fn add_job(&self, request: Request<AddJobRequest>) -> Answer<Job> {
        let mut document: Map<String, Value> =
            serde_json::from_str(&request.into_inner().document).expect("an object");
        if document.get("time_zone").is_some_and(|zone| zone == "Mars") {
            let details = ErrorDetails::with_bad_request_violation("time_zone", "no such zone");
            return Err(Status::with_error_details(Code::InvalidArgument, "invalid", details));
        }
        let mut state = self.state()?;
        state.jobs_added += 1;
        document.insert("id".into(), state.jobs_added.to_string().into());
        document.insert("version".into(), 1.into());
        state.jobs.push(document.clone());
        answer(job(&document))
    }

    async fn get_job(&self, request: Request<GetJobRequest>) -> Answer<Job> {
        let id = request.into_inner().id;
        let mut state = self.state()?;
        answer(job(find(&mut state, &id)?))
    }

    async fn list_jobs(&self, request: Request<ListJobsRequest>) -> Answer<ListJobsResponse> {
        let request = request.into_inner();
        let state = self.state()?;
        let wanted = |job: &&Map<String, Value>| {
            (request.name.is_empty() || job["name"] == request.name.as_str())
                && (request.group.is_empty() || job["group"] == request.group.as_str())
                && request.enabled.is_none_or(|enabled| (job["status"] == 1) == enabled)
        };
        let all: Vec<Job> = state.jobs.iter().filter(wanted).map(job).collect();
        let (jobs, next_page_token) = page(&all, request.page_size, &request.page_token, state.max_page);
        answer(ListJobsResponse { jobs, next_page_token })
    }

    async fn edit_job(&self, request: Request<EditJobRequest>) -> Answer<Job> {
        let request = request.into_inner();
        let mut state = self.state()?;
        state.patch = Some(request.clone());
        let document = find(&mut state, &request.id)?;
        let version = document["version"].as_u64().unwrap_or(0);
        if request.version != 0 && request.version != version {
            let message = format!("the job is at version {version}, not {}", request.version);
            return Err(refusal(Code::Aborted, message, "VERSION_CONFLICT"));
        }
        let patch: Map<String, Value> = serde_json::from_str(&request.patch).expect("an object");
        for (name, value) in patch {
            if value.is_null() {
                document.remove(&name)
            } else {
                document.insert(name, value)
            };
        }
        document.insert("version".into(), (version + 1).into());
        answer(job(document))
    }

    async fn set_job_enabled(&self, request: Request<SetJobEnabledRequest>) -> Answer<Job> {
        let request = request.into_inner();
        let mut state = self.state()?;
        let document = find(&mut state, &request.id)?;
        document.insert("status".into(), if request.enabled { 1 } else { 2 }.into());
        document.insert("pause_reason".into(), request.reason.into());
        answer(job(document))
    }

    async fn delete_job(&self, request: Request<DeleteJobRequest>) -> Answer<DeleteJobResponse> {
        let request = request.into_inner();
        let mut state = self.state()?;
        find(&mut state, &request.id)?;
        state.jobs.retain(|job| job["id"] != request.id.as_str());
        state.deleted_version = Some(request.version);
        answer(DeleteJobResponse {})
    }

    async fn run_job(&self, request: Request<RunJobRequest>) -> Answer<RunJobResponse> {
        let request = request.into_inner();
        let run_id = format!("r{}", request.id);
        self.state()?.run_asked = Some(request);
        answer(RunJobResponse { run_id })
    }

    async fn next_fires(&self, request: Request<NextFiresRequest>) -> Answer<NextFiresResponse> {
        let request = request.into_inner();
        let mut state = self.state()?;
        if let Some(status) = state.refuse_next.take() {
            return Err(status);
        }
        state.next_asked = Some(request.clone());
        let fire = |n: u32| Fire {
            at: T0 + i64::from(n) * HOUR,
            local: format!("2026-11-18T{}:06:40+01:00", 12 + n),
            note: if n == 0 { "after a gap".into() } else { String::new() },
        };
        let fires = (0..request.count).map(fire).collect();
        answer(NextFiresResponse { fires, cron: request.cron, time_zone: "Europe/Paris".into() })
    }

    async fn explain_fire(&self, request: Request<ExplainFireRequest>) -> Answer<ExplainFireResponse> {
        let request = request.into_inner();
        find(&mut *self.state()?, &request.id)?;
        answer(ExplainFireResponse {
            outcome: "overlap_skipped".into(),
            reason: "an earlier run of the job was still alive".into(),
            run: Some(Run { id: "r1".into(), ..Run::default() }),
            before: request.at - HOUR,
            after: 0,
        })
    }

    async fn start_backfill(&self, request: Request<StartBackfillRequest>) -> Answer<StartBackfillResponse> {
        let asked = request.into_inner();
        let mut state = self.state()?;
        find(&mut state, &asked.job_id)?;
        state.backfill_asked = Some(asked.clone());
        let max_fires = if asked.max_fires == 0 { 100 } else { asked.max_fires };
        let plan = StartBackfillResponse {
            fires: 3,
            first_at: T0 - 3 * HOUR,
            last_at: T0 - HOUR,
            beyond_max: 3_u64.saturating_sub(max_fires.into()),
            ..StartBackfillResponse::default()
        };
        if asked.dry_run {
            return answer(plan);
        }
        if state.backfill.is_some() {
            let message = format!("job {} has a backfill already", asked.job_id);
            return Err(refusal(Code::FailedPrecondition, message, "BACKFILL_EXISTS"));
        }
        let backfill = Backfill {
            id: "5eed".into(),
            job_id: asked.job_id,
            job_name: "bill".into(),
            from: asked.from,
            to: asked.to,
            next: T0 - 3 * HOUR,
            total: 3,
            max_fires,
            requested_at: T0,
            state: "running".into(),
            params: asked.params,
            ..Backfill::default()
        };
        state.backfill = Some(backfill.clone());
        answer(StartBackfillResponse { backfill: Some(backfill), last_run_id: "r7".into(), ..plan })
    }

    /// Each time it is asked for, one more run has been created.
    async fn get_backfill(&self, request: Request<GetBackfillRequest>) -> Answer<Backfill> {
        let job = request.into_inner().job_id;
        let mut state = self.state()?;
        let Some(mut backfill) = state.backfill.take().filter(|known| known.job_id == job) else {
            return Err(Status::not_found(format!("no backfill of job {job}")));
        };
        (backfill.created, backfill.next) = (backfill.created + 1, backfill.next + HOUR);
        state.backfill = Some(backfill.clone()).filter(|known| known.created < known.total);
        answer(backfill)
    }

    async fn list_backfills(&self, _: Request<ListBackfillsRequest>) -> Answer<ListBackfillsResponse> {
        let backfills = self.state()?.backfill.clone().into_iter().collect();
        answer(ListBackfillsResponse { backfills, next_page_token: String::new() })
    }

    async fn cancel_backfill(
        &self,
        request: Request<CancelBackfillRequest>,
    ) -> Answer<CancelBackfillResponse> {
        let job = request.into_inner().job_id;
        match self.state()?.backfill.take() {
            Some(_) => answer(CancelBackfillResponse {}),
            None => Err(Status::not_found(format!("no backfill of job {job}"))),
        }
    }

    async fn set_calendar(&self, request: Request<SetCalendarRequest>) -> Answer<Calendar> {
        let request = request.into_inner();
        let days = |plus: bool| {
            let lines = request.days.lines().filter(|line| line.starts_with('+') == plus);
            lines.map(|line| line.trim_start_matches('+').to_owned()).collect()
        };
        let calendar = Calendar {
            name: request.name.clone(),
            remark: request.remark.clone().unwrap_or_default(),
            excluded: days(false),
            included: days(true),
            version: 1,
            updated_at: T0,
            ..Calendar::default()
        };
        self.state()?.calendars.push(calendar.clone());
        answer(calendar)
    }

    async fn get_calendar(&self, request: Request<GetCalendarRequest>) -> Answer<Calendar> {
        let name = request.into_inner().name;
        let found = self.state()?.calendars.iter().find(|calendar| calendar.name == name).cloned();
        answer(found.ok_or_else(|| Status::not_found(format!("no calendar {name}")))?)
    }

    async fn list_calendars(&self, request: Request<ListCalendarsRequest>) -> Answer<ListCalendarsResponse> {
        let request = request.into_inner();
        let state = self.state()?;
        let (calendars, next_page_token) =
            page(&state.calendars, request.page_size, &request.page_token, state.max_page);
        answer(ListCalendarsResponse { calendars, next_page_token })
    }

    async fn delete_calendar(
        &self,
        request: Request<DeleteCalendarRequest>,
    ) -> Answer<DeleteCalendarResponse> {
        let name = request.into_inner().name;
        self.state()?.calendars.retain(|calendar| calendar.name != name);
        answer(DeleteCalendarResponse {})
    }

    async fn get_run(&self, request: Request<GetRunRequest>) -> Answer<Run> {
        let id = request.into_inner().id;
        let mut state = self.state()?;
        if id == "r7" && !state.polls.is_empty() {
            let last = state.polls.len() == 1;
            let poll = if last { state.polls.front().cloned() } else { state.polls.pop_front() };
            return poll.unwrap_or_else(|| Err(Status::internal("no answer is left"))).map(Response::new);
        }
        let (live, finished) = runs();
        let found = [live, finished].into_iter().find(|run| run.id == id);
        answer(found.ok_or_else(|| Status::not_found(format!("no run {id}")))?)
    }

    async fn cancel_run(&self, request: Request<CancelRunRequest>) -> Answer<CancelRunResponse> {
        let id = request.into_inner().id;
        if id != runs().0.id {
            return Err(refusal(Code::NotFound, format!("no live run {id}"), "NOT_FOUND"));
        }
        self.state()?.cancelled.push(id);
        answer(CancelRunResponse {})
    }

    async fn list_runs(&self, request: Request<ListRunsRequest>) -> Answer<ListRunsResponse> {
        let request = request.into_inner();
        let (live, finished) = runs();
        let runs = if request.live_only { Vec::new() } else { vec![finished] };
        self.state()?.runs_asked = Some(request);
        answer(ListRunsResponse { live: vec![live], runs, next_page_token: String::new() })
    }

    async fn retry_run(&self, request: Request<RetryRunRequest>) -> Answer<RetryRunResponse> {
        let RetryRunRequest { id, idempotency_key } = request.into_inner();
        if id == "r7" {
            return Err(refusal(Code::FailedPrecondition, "run r7 has not ended", "RUN_ALIVE"));
        }
        self.state()?.retried.push((id, idempotency_key));
        answer(RetryRunResponse { run_id: "r7".into() })
    }

    async fn list_attempts(&self, request: Request<ListAttemptsRequest>) -> Answer<ListAttemptsResponse> {
        let (mut state, id) = (self.state()?, request.into_inner().id);
        let next = if state.attempts.len() > 1 {
            state.attempts.pop_front()
        } else {
            state.attempts.front().cloned()
        };
        let found = next.filter(|found| found.attempts.iter().any(|attempt| attempt.id == id));
        answer(found.ok_or_else(|| Status::not_found(format!("no run {id}")))?)
    }

    async fn get_statistics(&self, request: Request<GetStatisticsRequest>) -> Answer<GetStatisticsResponse> {
        self.state()?.statistics_asked = Some(request.into_inner());
        let duration = Lengths { sum_ms: 1_000, max_ms: 1_500, parts: vec![8, 1, 1, 0, 0, 0] };
        let delay = Lengths { sum_ms: 200, max_ms: 90, parts: vec![10, 0, 0, 0, 0, 0] };
        let first = Statistics {
            at: T0 / HOUR * HOUR,
            job_id: "10".into(),
            job_name: "bill".into(),
            runs: 12,
            succeeded: 9,
            failed: 2,
            timed_out: 1,
            started: 10,
            duration: Some(duration),
            delay: Some(delay),
            ..Statistics::default()
        };
        let second = Statistics { at: first.at + HOUR, runs: 3, misfire_skipped: 3, ..Statistics::default() };
        answer(GetStatisticsResponse { items: vec![first, second], ..GetStatisticsResponse::default() })
    }

    async fn list_plan(&self, _: Request<ListPlanRequest>) -> Answer<ListPlanResponse> {
        let fire = |at, id: &str, name: &str, cron: &str| PlannedFire {
            at,
            job_id: id.into(),
            job_name: name.into(),
            group: "trade".into(),
            cron: cron.into(),
        };
        let fires =
            vec![fire(T0, "1001", "bill", "0 0 2 * * ?"), fire(T0 + 60_000, "1002", "账单", "@every 90s")];
        answer(ListPlanResponse { fires })
    }

    async fn list_clients(&self, request: Request<ListClientsRequest>) -> Answer<ListClientsResponse> {
        let group = request.into_inner().group;
        let drained = self.state()?.drained.last().copied().unwrap_or_default();
        let first = Client {
            drained,
            id: "w1-7f3a9".into(),
            name: "w1".into(),
            group: "trade".into(),
            address: "10.0.0.1".into(),
            version: "0.1.0".into(),
            capacity: 16,
            queued: 1,
            running: 2,
            targets: vec!["bill".into(), "tax".into()],
            started_at: T0,
            labels: [("zone", "a"), ("size", "small")].map(|(key, value)| (key.into(), value.into())).into(),
            ..Client::default()
        };
        let second = Client {
            id: "w2".into(),
            group: "trade".into(),
            capacity: 1,
            any_target: true,
            draining: true,
            ..Client::default()
        };
        let wanted = |client: &Client| group.is_empty() || client.group == group;
        let clients = [first, second].into_iter().filter(wanted).collect();
        answer(ListClientsResponse { clients, next_page_token: String::new() })
    }

    async fn drain_client(&self, request: Request<DrainClientRequest>) -> Answer<Client> {
        self.state()?.drained.push(true);
        let DrainClientRequest { group, client } = request.into_inner();
        answer(Client { id: client, group, queued: 1, running: 2, drained: true, ..Client::default() })
    }

    async fn undrain_client(&self, request: Request<UndrainClientRequest>) -> Answer<Client> {
        self.state()?.drained.push(false);
        let UndrainClientRequest { group, client } = request.into_inner();
        answer(Client { id: client, group, ..Client::default() })
    }

    async fn list_pending(&self, _: Request<ListPendingRequest>) -> Answer<ListPendingResponse> {
        let run = runs().0;
        let waiting = Waiting {
            group: run.group.clone(),
            target: run.target.clone(),
            count: 1,
            oldest_scheduled_at: run.created_at,
            reason: "no_client".into(),
        };
        let (runs, waiting) = (vec![run], vec![waiting]);
        answer(ListPendingResponse { runs, waiting, next_page_token: String::new() })
    }

    async fn who_am_i(&self, request: Request<WhoAmIRequest>) -> Answer<Identity> {
        let mut state = self.state()?;
        let shown = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        state.shown = shown.map(str::to_owned);
        let who = if shown.is_some() { "token:1f2e" } else { "anonymous" };
        let grants = Some(Grants { everywhere: "admin".into(), ..Grants::default() });
        answer(Identity { who: who.into(), grants, login: shown.is_some() })
    }

    async fn login(&self, request: Request<LoginRequest>) -> Answer<LoginResponse> {
        let request = request.into_inner();
        if request.password != "right password" {
            return Err(Status::unauthenticated("the password is wrong"));
        }
        let identity = Identity { who: format!("user:{}", request.user), grants: None, login: true };
        let (session, expires_at) = ("forest_5e55_session".into(), 1_900_000_000_000);
        answer(LoginResponse { session, expires_at, identity: Some(identity) })
    }

    async fn logout(&self, request: Request<LogoutRequest>) -> Answer<LogoutResponse> {
        let shown = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        self.state()?.shown = shown.map(str::to_owned);
        answer(LogoutResponse { ended: true })
    }

    async fn list_users(&self, request: Request<ListUsersRequest>) -> Answer<ListUsersResponse> {
        let (state, request) = (self.state()?, request.into_inner());
        let (users, next_page_token) =
            page(&state.users, request.page_size, &request.page_token, state.max_page);
        answer(ListUsersResponse { users, next_page_token })
    }

    async fn add_user(&self, request: Request<AddUserRequest>) -> Answer<User> {
        let (mut state, request) = (self.state()?, request.into_inner());
        let user = User { name: request.name, grants: request.grants, disabled: false, created_at: T0 };
        state.users.push(user.clone());
        state.passwords.push(request.password);
        answer(user)
    }

    async fn edit_user(&self, request: Request<EditUserRequest>) -> Answer<User> {
        let (mut state, request) = (self.state()?, request.into_inner());
        state.passwords.extend(request.password);
        let found = state.users.iter_mut().find(|user| user.name == request.name);
        let user = found.ok_or_else(|| Status::not_found(format!("no user {:?}", request.name)))?;
        user.grants = request.grants.or_else(|| user.grants.clone());
        user.disabled = request.disabled.unwrap_or(user.disabled);
        answer(user.clone())
    }

    async fn delete_user(&self, request: Request<DeleteUserRequest>) -> Answer<DeleteUserResponse> {
        let (mut state, request) = (self.state()?, request.into_inner());
        state.users.retain(|user| user.name != request.name);
        answer(DeleteUserResponse {})
    }

    async fn list_tokens(&self, request: Request<ListTokensRequest>) -> Answer<ListTokensResponse> {
        let (state, request) = (self.state()?, request.into_inner());
        let (tokens, next_page_token) =
            page(&state.tokens, request.page_size, &request.page_token, state.max_page);
        answer(ListTokensResponse { tokens, next_page_token })
    }

    async fn add_token(&self, request: Request<AddTokenRequest>) -> Answer<AddTokenResponse> {
        let (mut state, request) = (self.state()?, request.into_inner());
        let (created_at, expires_at) =
            (T0, T0 + if request.lives_ms == 0 { 90 * 24 * HOUR } else { request.lives_ms });
        let id = format!("1f2e{}", state.tokens.len());
        let token = Token {
            id: id.clone(),
            name: request.name,
            grants: request.grants,
            user: "ann".into(),
            created_at,
            expires_at,
        };
        state.tokens.push(token.clone());
        answer(AddTokenResponse { token: Some(token), secret: format!("forest_{id}_secret") })
    }

    async fn revoke_token(&self, request: Request<RevokeTokenRequest>) -> Answer<RevokeTokenResponse> {
        let (mut state, request) = (self.state()?, request.into_inner());
        let before = state.tokens.len();
        state.tokens.retain(|token| token.id != request.id);
        if state.tokens.len() == before {
            return Err(Status::not_found(format!("no token {:?}", request.id)));
        }
        answer(RevokeTokenResponse {})
    }

    async fn list_audit(&self, request: Request<ListAuditRequest>) -> Answer<ListAuditResponse> {
        let (mut state, request) = (self.state()?, request.into_inner());
        state.audit_asked = Some(request.clone());
        let record = |n: usize| AuditRecord {
            id: format!("20261118110640000.{n}"),
            at: T0,
            who: "user:ann".into(),
            from: "10.0.0.9".into(),
            face: "grpc".into(),
            action: "job.edit".into(),
            target: "10".into(),
            group: "trade".into(),
            changes: r#"{"cron":{"from":"0 0 2 * * *","to":"0 0 3 * * *"}}"#.into(),
        };
        let records: Vec<_> =
            (0..3).map(record).filter(|r| request.who.is_empty() || r.who == request.who).collect();
        let (records, next_page_token) =
            page(&records, request.page_size, &request.page_token, state.max_page);
        answer(ListAuditResponse { records, next_page_token })
    }

    type WatchEventsStream = tokio_stream::Iter<std::vec::IntoIter<Result<Event, Status>>>;

    async fn watch_events(&self, request: Request<WatchEventsRequest>) -> Answer<Self::WatchEventsStream> {
        let mut state = self.state()?;
        state.events_asked.push(request.into_inner());
        let told = state.told.pop_front().ok_or_else(|| Status::permission_denied("nothing more is told"))?;
        answer(tokio_stream::iter(told))
    }
}
