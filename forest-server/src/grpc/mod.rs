//! The gRPC face: translates between the admin API, version 1, and the administration. It decides nothing.

mod convert;
mod error;
mod events;
mod statistics;

use std::time::Duration;

use forest_proto::admin::v1::admin_server::Admin as Service;
use forest_proto::admin::v1::{self as api};
use forest_proto::record::Face;
use forest_proto::time::Instant;
use tonic::{Request, Response, Status};

use crate::access::{Credentials, Gate, Proof};
use crate::admin::{
    Admin, AdminError, Administration, BackfillQuery, EventQuery, FireQuery, JobFilter, PageRequest,
    RunFilter, UserPatch,
};
use crate::store::AuditFilter;

use crate::port::Peer;

pub(crate) use convert::planned_fire;
pub(crate) use events::messages;
pub use forest_proto::admin::v1::admin_server::AdminServer;
pub(crate) use statistics::by;

/// The service to mount.
pub struct AdminApi {
    admin: Administration,
    gate: Gate,
}

type Answer<T> = Result<Response<T>, Status>;

impl AdminApi {
    pub(crate) fn new(admin: Administration, gate: Gate) -> Self {
        Self { admin, gate }
    }

    /// In the name of who calls.
    async fn acting<T>(&self, request: &Request<T>) -> Result<Admin, Status> {
        self.proven(request).await.map(|(admin, _)| admin)
    }

    /// The same, and what they have shown.
    async fn proven<T>(&self, request: &Request<T>) -> Result<(Admin, Proof), Status> {
        let peer = request.extensions().get::<Peer>();
        let header = request.metadata().get("authorization").map(|value| value.as_bytes());
        let shown = Peer::credentials(peer, header);
        let from = peer.map(Peer::address).unwrap_or_default();
        let proof = Proof::new(&self.gate, shown, from, Face::Grpc);
        let caller = proof.caller().await.map_err(|refused| error::status(refused.into()))?;
        let trace = request.metadata().get("traceparent").and_then(|value| value.to_str().ok());
        Ok((self.admin.acting(caller).within(trace), proof))
    }
}

/// How long a request may take to be sent, and until its answer begins.
const PATIENCE: Duration = Duration::from_secs(30);

/// A caller that is slow to send its request, or an answer that does not begin, is given up.
async fn patience(request: axum::extract::Request, next: axum::middleware::Next) -> axum::response::Response {
    match tokio::time::timeout(PATIENCE, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Status::deadline_exceeded("the call was not done within 30 s: try again").into_http(),
    }
}

/// The service with health and reflection, as routes.
pub(crate) fn router(api: AdminServer<AdminApi>) -> axum::Router {
    let (reporter, health) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(api::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1();
    let mut routes = tonic::service::Routes::new(api).add_service(health);
    if let Ok(reflection) = reflection {
        routes = routes.add_service(reflection);
    }
    drop(reporter);
    routes.prepare().into_axum_router().reset_fallback().layer(axum::middleware::from_fn(patience))
}

fn page(size: u32, token: String) -> PageRequest {
    PageRequest { size, token }
}

/// An instant, where 0 means none.
fn instant(field: &str, ms: i64) -> Result<Option<Instant>, Status> {
    let given = (ms != 0).then(|| Instant::checked(ms)).transpose();
    given.map_err(|refused| error::status(AdminError::invalid(field, refused.to_string())))
}

#[tonic::async_trait]
impl Service for AdminApi {
    async fn get_cluster(&self, request: Request<api::GetClusterRequest>) -> Answer<api::Cluster> {
        let admin = self.acting(&request).await?;
        Ok(Response::new(admin.cluster().await.map_err(error::status)?.into()))
    }

    async fn list_nodes(&self, request: Request<api::ListNodesRequest>) -> Answer<api::ListNodesResponse> {
        let admin = self.acting(&request).await?;
        let nodes = admin.nodes().await.map_err(error::status)?;
        Ok(Response::new(api::ListNodesResponse { nodes: nodes.into_iter().map(Into::into).collect() }))
    }

    async fn step_down(&self, request: Request<api::StepDownRequest>) -> Answer<api::StepDownResponse> {
        let admin = self.acting(&request).await?;
        let api::StepDownRequest { node, hold_ms } = request.into_inner();
        let stepped = admin.step_down(&node, hold_ms.map(Duration::from_millis)).await;
        Ok(Response::new(stepped.map_err(error::status)?.into()))
    }

    async fn get_log_level(&self, request: Request<api::GetLogLevelRequest>) -> Answer<api::LogLevel> {
        let admin = self.acting(&request).await?;
        let level = admin.log_level(&request.into_inner().node).await;
        Ok(Response::new(level.map_err(error::status)?.into()))
    }

    async fn set_log_level(&self, request: Request<api::SetLogLevelRequest>) -> Answer<api::LogLevel> {
        let admin = self.acting(&request).await?;
        let request = request.into_inner();
        let lives = (request.lives_ms != 0)
            .then(|| Duration::from_millis(u64::try_from(request.lives_ms).unwrap_or(0)));
        let level = admin.set_log_level(&request.node, &request.filter, lives).await;
        Ok(Response::new(level.map_err(error::status)?.into()))
    }

    async fn reset_log_level(&self, request: Request<api::ResetLogLevelRequest>) -> Answer<api::LogLevel> {
        let admin = self.acting(&request).await?;
        let level = admin.reset_log_level(&request.into_inner().node).await;
        Ok(Response::new(level.map_err(error::status)?.into()))
    }

    async fn add_group(&self, request: Request<api::AddGroupRequest>) -> Answer<api::Group> {
        let admin = self.acting(&request).await?;
        let request = request.into_inner();
        let limits = (request.max_in_flight, request.dispatches_per_second);
        let group = admin.add_group(&request.name, &request.remark, limits).await.map_err(error::status)?;
        Ok(Response::new(group.into()))
    }

    async fn edit_group(&self, request: Request<api::EditGroupRequest>) -> Answer<api::Group> {
        let admin = self.acting(&request).await?;
        let request = request.into_inner();
        let limits = (request.max_in_flight, request.dispatches_per_second);
        let group = admin.edit_group(&request.name, request.remark, limits).await;
        Ok(Response::new(group.map_err(error::status)?.into()))
    }

    async fn get_group(&self, request: Request<api::GetGroupRequest>) -> Answer<api::Group> {
        let admin = self.acting(&request).await?;
        let group = admin.group(&request.into_inner().name).await.map_err(error::status)?;
        Ok(Response::new(group.into()))
    }

    async fn list_groups(&self, request: Request<api::ListGroupsRequest>) -> Answer<api::ListGroupsResponse> {
        let admin = self.acting(&request).await?;
        let request = request.into_inner();
        let groups =
            admin.groups(page(request.page_size, request.page_token)).await.map_err(error::status)?;
        let next_page_token = groups.next;
        let groups = groups.items.into_iter().map(Into::into).collect();
        Ok(Response::new(api::ListGroupsResponse { groups, next_page_token }))
    }

    async fn delete_group(
        &self,
        request: Request<api::DeleteGroupRequest>,
    ) -> Answer<api::DeleteGroupResponse> {
        let admin = self.acting(&request).await?;
        admin.delete_group(&request.into_inner().name).await.map_err(error::status)?;
        Ok(Response::new(api::DeleteGroupResponse {}))
    }

    async fn add_job(&self, request: Request<api::AddJobRequest>) -> Answer<api::Job> {
        let admin = self.acting(&request).await?;
        let job = admin.add_job(&request.into_inner().document).await.map_err(error::status)?;
        Ok(Response::new(job.into()))
    }

    async fn get_job(&self, request: Request<api::GetJobRequest>) -> Answer<api::Job> {
        let admin = self.acting(&request).await?;
        let job = admin.job(&request.into_inner().id).await.map_err(error::status)?;
        Ok(Response::new(job.into()))
    }

    async fn list_jobs(&self, request: Request<api::ListJobsRequest>) -> Answer<api::ListJobsResponse> {
        let admin = self.acting(&request).await?;
        let request = request.into_inner();
        let filter = JobFilter { group: request.group, name: request.name, enabled: request.enabled };
        let jobs =
            admin.jobs(filter, page(request.page_size, request.page_token)).await.map_err(error::status)?;
        let next_page_token = jobs.next;
        let jobs = jobs.items.into_iter().map(Into::into).collect();
        Ok(Response::new(api::ListJobsResponse { jobs, next_page_token }))
    }

    async fn edit_job(&self, request: Request<api::EditJobRequest>) -> Answer<api::Job> {
        let admin = self.acting(&request).await?;
        let request = request.into_inner();
        let job =
            admin.edit_job(&request.id, &request.patch, request.version).await.map_err(error::status)?;
        Ok(Response::new(job.into()))
    }

    async fn set_job_enabled(&self, request: Request<api::SetJobEnabledRequest>) -> Answer<api::Job> {
        let admin = self.acting(&request).await?;
        let request = request.into_inner();
        let changed = admin.set_enabled(&request.id, request.enabled, &request.reason).await;
        Ok(Response::new(changed.map_err(error::status)?.into()))
    }

    async fn delete_job(&self, request: Request<api::DeleteJobRequest>) -> Answer<api::DeleteJobResponse> {
        let admin = self.acting(&request).await?;
        let request = request.into_inner();
        admin.delete_job(&request.id, request.version).await.map_err(error::status)?;
        Ok(Response::new(api::DeleteJobResponse {}))
    }

    async fn run_job(&self, request: Request<api::RunJobRequest>) -> Answer<api::RunJobResponse> {
        let admin = self.acting(&request).await?;
        let request = request.into_inner();
        let run = admin.run_job(&request.id, request.params, &request.idempotency_key, &request.client).await;
        Ok(Response::new(api::RunJobResponse { run_id: run.map_err(error::status)?.to_string() }))
    }

    async fn next_fires(&self, request: Request<api::NextFiresRequest>) -> Answer<api::NextFiresResponse> {
        let admin = self.acting(&request).await?;
        let request = request.into_inner();
        let query = FireQuery {
            cron: request.cron,
            time_zone: request.time_zone,
            gap: convert::choice("dst_gap", &request.dst_gap).map_err(error::status)?,
            fold: convert::choice("dst_fold", &request.dst_fold).map_err(error::status)?,
            calendars: request.calendars,
            anchor: None,
            count: request.count,
            after: instant("after", request.after)?,
        };
        let (fires, query) = admin.next_fires(&request.id, query).await.map_err(error::status)?;
        let fires = fires.into_iter().map(Into::into).collect();
        Ok(Response::new(api::NextFiresResponse { fires, cron: query.cron, time_zone: query.time_zone }))
    }

    async fn explain_fire(
        &self,
        request: Request<api::ExplainFireRequest>,
    ) -> Answer<api::ExplainFireResponse> {
        let admin = self.acting(&request).await?;
        let request = request.into_inner();
        let at = instant("at", request.at)?.unwrap_or_default();
        let found = admin.explain(&request.id, at).await.map_err(error::status)?;
        Ok(Response::new(found.into()))
    }

    async fn start_backfill(
        &self,
        request: Request<api::StartBackfillRequest>,
    ) -> Answer<api::StartBackfillResponse> {
        let admin = self.acting(&request).await?;
        let request = request.into_inner();
        let query = BackfillQuery {
            job: request.job_id,
            from: instant("from", request.from)?,
            to: instant("to", request.to)?,
            dry_run: request.dry_run,
            max_fires: request.max_fires,
            params: request.params,
        };
        let plan = admin.start_backfill(query).await.map_err(error::status)?;
        Ok(Response::new(plan.into()))
    }

    async fn get_backfill(&self, request: Request<api::GetBackfillRequest>) -> Answer<api::Backfill> {
        let admin = self.acting(&request).await?;
        let found = admin.backfill(&request.into_inner().job_id).await.map_err(error::status)?;
        Ok(Response::new(found.into()))
    }

    async fn list_backfills(
        &self,
        request: Request<api::ListBackfillsRequest>,
    ) -> Answer<api::ListBackfillsResponse> {
        let admin = self.acting(&request).await?;
        let request = request.into_inner();
        let found = admin.backfills(page(request.page_size, request.page_token)).await;
        let found = found.map_err(error::status)?;
        let backfills = found.items.into_iter().map(Into::into).collect();
        Ok(Response::new(api::ListBackfillsResponse { backfills, next_page_token: found.next }))
    }

    async fn cancel_backfill(
        &self,
        request: Request<api::CancelBackfillRequest>,
    ) -> Answer<api::CancelBackfillResponse> {
        let admin = self.acting(&request).await?;
        admin.cancel_backfill(&request.into_inner().job_id).await.map_err(error::status)?;
        Ok(Response::new(api::CancelBackfillResponse {}))
    }

    async fn set_calendar(&self, request: Request<api::SetCalendarRequest>) -> Answer<api::Calendar> {
        let admin = self.acting(&request).await?;
        let request = request.into_inner();
        let (remark, days) = (request.remark.as_deref(), &request.days);
        let calendar = admin.set_calendar(&request.name, remark, days, request.version).await;
        Ok(Response::new(calendar.map_err(error::status)?.into()))
    }

    async fn get_calendar(&self, request: Request<api::GetCalendarRequest>) -> Answer<api::Calendar> {
        let admin = self.acting(&request).await?;
        let calendar = admin.calendar(&request.into_inner().name).await.map_err(error::status)?;
        Ok(Response::new(calendar.into()))
    }

    async fn list_calendars(
        &self,
        request: Request<api::ListCalendarsRequest>,
    ) -> Answer<api::ListCalendarsResponse> {
        let admin = self.acting(&request).await?;
        let request = request.into_inner();
        let calendars = admin.calendars(page(request.page_size, request.page_token)).await;
        let calendars = calendars.map_err(error::status)?;
        let next_page_token = calendars.next;
        let calendars = calendars.items.into_iter().map(Into::into).collect();
        Ok(Response::new(api::ListCalendarsResponse { calendars, next_page_token }))
    }

    async fn delete_calendar(
        &self,
        request: Request<api::DeleteCalendarRequest>,
    ) -> Answer<api::DeleteCalendarResponse> {
        let admin = self.acting(&request).await?;
        admin.delete_calendar(&request.into_inner().name).await.map_err(error::status)?;
        Ok(Response::new(api::DeleteCalendarResponse {}))
    }

    async fn get_run(&self, request: Request<api::GetRunRequest>) -> Answer<api::Run> {
        let admin = self.acting(&request).await?;
        let run = admin.run(&request.into_inner().id).await.map_err(error::status)?;
        Ok(Response::new(run.into()))
    }

    async fn cancel_run(&self, request: Request<api::CancelRunRequest>) -> Answer<api::CancelRunResponse> {
        let admin = self.acting(&request).await?;
        admin.cancel_run(&request.into_inner().id).await.map_err(error::status)?;
        Ok(Response::new(api::CancelRunResponse {}))
    }

    async fn retry_run(&self, request: Request<api::RetryRunRequest>) -> Answer<api::RetryRunResponse> {
        let admin = self.acting(&request).await?;
        let request = request.into_inner();
        let run = admin.retry_run(&request.id, &request.idempotency_key).await.map_err(error::status)?;
        Ok(Response::new(api::RetryRunResponse { run_id: run.to_string() }))
    }

    async fn list_attempts(
        &self,
        request: Request<api::ListAttemptsRequest>,
    ) -> Answer<api::ListAttemptsResponse> {
        let admin = self.acting(&request).await?;
        let attempts = admin.attempts(&request.into_inner().id).await.map_err(error::status)?;
        Ok(Response::new(attempts.into()))
    }

    async fn list_runs(&self, request: Request<api::ListRunsRequest>) -> Answer<api::ListRunsResponse> {
        let admin = self.acting(&request).await?;
        let request = request.into_inner();
        let filter = RunFilter {
            group: request.group,
            job_id: request.job_id,
            client: request.client,
            outcome: request.outcome,
            since: instant("since", request.since)?,
            live_only: request.live_only,
        };
        let runs = admin.runs(filter, page(request.page_size, request.page_token)).await;
        let (live, ended) = runs.map_err(error::status)?;
        Ok(Response::new(api::ListRunsResponse {
            live: live.into_iter().map(Into::into).collect(),
            runs: ended.items.into_iter().map(Into::into).collect(),
            next_page_token: ended.next,
        }))
    }

    async fn get_statistics(
        &self,
        request: Request<api::GetStatisticsRequest>,
    ) -> Answer<api::GetStatisticsResponse> {
        let admin = self.acting(&request).await?;
        let request = request.into_inner();
        let query = statistics::query(&request)?;
        let found = admin.statistics(query, page(request.page_size, request.page_token)).await;
        Ok(Response::new(found.map_err(error::status)?.into()))
    }

    async fn list_plan(&self, request: Request<api::ListPlanRequest>) -> Answer<api::ListPlanResponse> {
        let admin = self.acting(&request).await?;
        let request = request.into_inner();
        let plan = admin.plan(&request.group, request.page_size).await.map_err(error::status)?;
        let fires = plan.into_iter().map(convert::planned_fire).collect();
        Ok(Response::new(api::ListPlanResponse { fires }))
    }

    async fn list_clients(
        &self,
        request: Request<api::ListClientsRequest>,
    ) -> Answer<api::ListClientsResponse> {
        let admin = self.acting(&request).await?;
        let request = request.into_inner();
        let clients = admin.clients(&request.group, page(request.page_size, request.page_token)).await;
        let clients = clients.map_err(error::status)?;
        let next_page_token = clients.next;
        let clients = clients.items.into_iter().map(Into::into).collect();
        Ok(Response::new(api::ListClientsResponse { clients, next_page_token }))
    }

    async fn drain_client(&self, request: Request<api::DrainClientRequest>) -> Answer<api::Client> {
        let admin = self.acting(&request).await?;
        let api::DrainClientRequest { group, client } = request.into_inner();
        let drained = admin.drain_client(&group, &client).await.map_err(error::status)?;
        Ok(Response::new(drained.into()))
    }

    async fn undrain_client(&self, request: Request<api::UndrainClientRequest>) -> Answer<api::Client> {
        let admin = self.acting(&request).await?;
        let api::UndrainClientRequest { group, client } = request.into_inner();
        let undrained = admin.undrain_client(&group, &client).await.map_err(error::status)?;
        Ok(Response::new(undrained.into()))
    }

    async fn list_pending(
        &self,
        request: Request<api::ListPendingRequest>,
    ) -> Answer<api::ListPendingResponse> {
        let admin = self.acting(&request).await?;
        let request = request.into_inner();
        let waiting = match request.page_token.as_str() {
            "" => admin.waiting(&request.group).await.map_err(error::status)?,
            _ => Vec::new(),
        };
        let waiting = waiting.into_iter().map(Into::into).collect();
        let runs = admin.pending(&request.group, page(request.page_size, request.page_token)).await;
        let runs = runs.map_err(error::status)?;
        let next_page_token = runs.next;
        Ok(Response::new(api::ListPendingResponse {
            runs: runs.items.into_iter().map(Into::into).collect(),
            next_page_token,
            waiting,
        }))
    }

    async fn who_am_i(&self, request: Request<api::WhoAmIRequest>) -> Answer<api::Identity> {
        let admin = self.acting(&request).await?;
        Ok(Response::new(admin.identity(self.gate.login_is_on())))
    }

    async fn login(&self, request: Request<api::LoginRequest>) -> Answer<api::LoginResponse> {
        let from = request.extensions().get::<Peer>().map(Peer::address).unwrap_or_default();
        let request = request.into_inner();
        let logged_in = self.gate.log_in(&request.user, &request.password, &from, Face::Grpc).await;
        let logged_in = logged_in.map_err(|refused| error::status(refused.into()))?;
        let identity = self.admin.acting(logged_in.caller).identity(self.gate.login_is_on());
        let (session, expires_at) = (logged_in.session, logged_in.expires_at.as_ms());
        Ok(Response::new(api::LoginResponse { session, expires_at, identity: Some(identity) }))
    }

    async fn logout(&self, request: Request<api::LogoutRequest>) -> Answer<api::LogoutResponse> {
        let admin = self.acting(&request).await?;
        let header = request.metadata().get("authorization").map(|value| value.as_bytes());
        let ended = match Peer::credentials(None, header) {
            Credentials::Bearer(shown) => self.gate.log_out(shown, admin.caller()).await,
            _ => Ok(false),
        };
        let ended = ended.map_err(|refused| error::status(refused.into()))?;
        Ok(Response::new(api::LogoutResponse { ended }))
    }

    async fn list_users(&self, request: Request<api::ListUsersRequest>) -> Answer<api::ListUsersResponse> {
        let admin = self.acting(&request).await?;
        let request = request.into_inner();
        let users = admin.users(page(request.page_size, request.page_token)).await.map_err(error::status)?;
        let next_page_token = users.next;
        let users = users.items.into_iter().map(Into::into).collect();
        Ok(Response::new(api::ListUsersResponse { users, next_page_token }))
    }

    async fn add_user(&self, request: Request<api::AddUserRequest>) -> Answer<api::User> {
        let admin = self.acting(&request).await?;
        let request = request.into_inner();
        let grants = convert::grants(request.grants).map_err(error::status)?;
        let user = admin.add_user(&request.name, &request.password, grants).await;
        Ok(Response::new(user.map_err(error::status)?.into()))
    }

    async fn edit_user(&self, request: Request<api::EditUserRequest>) -> Answer<api::User> {
        let admin = self.acting(&request).await?;
        let request = request.into_inner();
        let grants = request.grants.map(|grants| convert::grants(Some(grants))).transpose();
        let patch = UserPatch {
            password: request.password,
            grants: grants.map_err(error::status)?,
            disabled: request.disabled,
        };
        let user = admin.edit_user(&request.name, patch).await.map_err(error::status)?;
        Ok(Response::new(user.into()))
    }

    async fn delete_user(&self, request: Request<api::DeleteUserRequest>) -> Answer<api::DeleteUserResponse> {
        let admin = self.acting(&request).await?;
        admin.delete_user(&request.into_inner().name).await.map_err(error::status)?;
        Ok(Response::new(api::DeleteUserResponse {}))
    }

    async fn list_tokens(&self, request: Request<api::ListTokensRequest>) -> Answer<api::ListTokensResponse> {
        let admin = self.acting(&request).await?;
        let request = request.into_inner();
        let tokens =
            admin.tokens(page(request.page_size, request.page_token)).await.map_err(error::status)?;
        let next_page_token = tokens.next;
        let tokens = tokens.items.into_iter().map(Into::into).collect();
        Ok(Response::new(api::ListTokensResponse { tokens, next_page_token }))
    }

    async fn add_token(&self, request: Request<api::AddTokenRequest>) -> Answer<api::AddTokenResponse> {
        let admin = self.acting(&request).await?;
        let request = request.into_inner();
        let grants = convert::grants(request.grants).map_err(error::status)?;
        let lives_ms = Some(request.lives_ms).filter(|lives_ms| *lives_ms != 0);
        let (token, secret) =
            admin.add_token(&request.name, grants, lives_ms).await.map_err(error::status)?;
        Ok(Response::new(api::AddTokenResponse { token: Some(token.into()), secret }))
    }

    async fn revoke_token(
        &self,
        request: Request<api::RevokeTokenRequest>,
    ) -> Answer<api::RevokeTokenResponse> {
        let admin = self.acting(&request).await?;
        admin.revoke_token(&request.into_inner().id).await.map_err(error::status)?;
        Ok(Response::new(api::RevokeTokenResponse {}))
    }

    async fn list_audit(&self, request: Request<api::ListAuditRequest>) -> Answer<api::ListAuditResponse> {
        let admin = self.acting(&request).await?;
        let request = request.into_inner();
        let given = |text: String| Some(text).filter(|text| !text.is_empty());
        let filter = AuditFilter {
            who: given(request.who),
            action: given(request.action),
            target: given(request.target),
            group: given(request.group),
            before: None,
        };
        let audits = admin.audits(filter, page(request.page_size, request.page_token)).await;
        let audits = audits.map_err(error::status)?;
        let next_page_token = audits.next;
        let records = audits.items.into_iter().map(Into::into).collect();
        Ok(Response::new(api::ListAuditResponse { records, next_page_token }))
    }

    type WatchEventsStream = events::Messages;

    async fn watch_events(
        &self,
        request: Request<api::WatchEventsRequest>,
    ) -> Answer<Self::WatchEventsStream> {
        let (admin, proof) = self.proven(&request).await?;
        let request = request.into_inner();
        let query = EventQuery {
            since: request.since,
            group: request.group,
            job: request.job_id,
            types: request.types,
            follow: !request.until_now,
        };
        let listener = admin.listen(query, proof).await.map_err(error::status)?;
        Ok(Response::new(events::stream(listener)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{Body, Bytes};
    use axum::routing::post;
    use tower::ServiceExt as _;

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_never_sent_to_its_end_is_given_up() {
        let router: axum::Router = axum::Router::new()
            .route("/", post(|_: Bytes| async { "taken" }))
            .layer(axum::middleware::from_fn(patience));
        let endless = futures_util::stream::pending::<Result<Bytes, std::io::Error>>();
        let request = http::Request::post("/").body(Body::from_stream(endless)).expect("a request");
        let response = router.oneshot(request).await.expect("an answer");
        let status = response.headers().get("grpc-status").and_then(|status| status.to_str().ok());
        assert_eq!(status, Some("4"), "DEADLINE_EXCEEDED");
    }
}
