//! The gRPC face: translates between the admin API, version 1, and the administration. It decides nothing.

mod convert;
mod error;

use forest_proto::admin::v1::admin_server::Admin as Service;
use forest_proto::admin::v1::{self as api};
use forest_proto::time::Instant;
use tonic::{Request, Response, Status};

use crate::admin::{Admin, BackfillQuery, FireQuery, JobFilter, PageRequest, RunFilter};

pub use forest_proto::admin::v1::admin_server::AdminServer;

/// The service to mount.
pub struct AdminApi {
    admin: Admin,
}

type Answer<T> = Result<Response<T>, Status>;

impl AdminApi {
    pub(crate) fn new(admin: Admin) -> Self {
        Self { admin }
    }
}

fn page(size: u32, token: String) -> PageRequest {
    PageRequest { size, token }
}

/// An instant, where 0 means none.
fn instant(ms: i64) -> Option<Instant> {
    (ms != 0).then(|| Instant::from_ms(ms))
}

#[tonic::async_trait]
impl Service for AdminApi {
    async fn get_cluster(&self, _: Request<api::GetClusterRequest>) -> Answer<api::Cluster> {
        Ok(Response::new(self.admin.cluster().await.map_err(error::status)?.into()))
    }

    async fn list_nodes(&self, _: Request<api::ListNodesRequest>) -> Answer<api::ListNodesResponse> {
        let nodes = self.admin.nodes().await.map_err(error::status)?;
        Ok(Response::new(api::ListNodesResponse { nodes: nodes.into_iter().map(Into::into).collect() }))
    }

    async fn add_group(&self, request: Request<api::AddGroupRequest>) -> Answer<api::Group> {
        let request = request.into_inner();
        let limits = (request.max_in_flight, request.dispatches_per_second);
        let group =
            self.admin.add_group(&request.name, &request.remark, limits).await.map_err(error::status)?;
        Ok(Response::new(group.into()))
    }

    async fn edit_group(&self, request: Request<api::EditGroupRequest>) -> Answer<api::Group> {
        let request = request.into_inner();
        let limits = (request.max_in_flight, request.dispatches_per_second);
        let group = self.admin.edit_group(&request.name, request.remark, limits).await;
        Ok(Response::new(group.map_err(error::status)?.into()))
    }

    async fn get_group(&self, request: Request<api::GetGroupRequest>) -> Answer<api::Group> {
        let group = self.admin.group(&request.into_inner().name).await.map_err(error::status)?;
        Ok(Response::new(group.into()))
    }

    async fn list_groups(&self, request: Request<api::ListGroupsRequest>) -> Answer<api::ListGroupsResponse> {
        let request = request.into_inner();
        let groups =
            self.admin.groups(page(request.page_size, request.page_token)).await.map_err(error::status)?;
        let next_page_token = groups.next;
        let groups = groups.items.into_iter().map(Into::into).collect();
        Ok(Response::new(api::ListGroupsResponse { groups, next_page_token }))
    }

    async fn delete_group(
        &self,
        request: Request<api::DeleteGroupRequest>,
    ) -> Answer<api::DeleteGroupResponse> {
        self.admin.delete_group(&request.into_inner().name).await.map_err(error::status)?;
        Ok(Response::new(api::DeleteGroupResponse {}))
    }

    async fn add_job(&self, request: Request<api::AddJobRequest>) -> Answer<api::Job> {
        let job = self.admin.add_job(&request.into_inner().document).await.map_err(error::status)?;
        Ok(Response::new(job.into()))
    }

    async fn get_job(&self, request: Request<api::GetJobRequest>) -> Answer<api::Job> {
        let job = self.admin.job(&request.into_inner().id).await.map_err(error::status)?;
        Ok(Response::new(job.into()))
    }

    async fn list_jobs(&self, request: Request<api::ListJobsRequest>) -> Answer<api::ListJobsResponse> {
        let request = request.into_inner();
        let filter = JobFilter { group: request.group, name: request.name, enabled: request.enabled };
        let jobs = self
            .admin
            .jobs(filter, page(request.page_size, request.page_token))
            .await
            .map_err(error::status)?;
        let next_page_token = jobs.next;
        let jobs = jobs.items.into_iter().map(Into::into).collect();
        Ok(Response::new(api::ListJobsResponse { jobs, next_page_token }))
    }

    async fn edit_job(&self, request: Request<api::EditJobRequest>) -> Answer<api::Job> {
        let request = request.into_inner();
        let job =
            self.admin.edit_job(&request.id, &request.patch, request.version).await.map_err(error::status)?;
        Ok(Response::new(job.into()))
    }

    async fn set_job_enabled(&self, request: Request<api::SetJobEnabledRequest>) -> Answer<api::Job> {
        let request = request.into_inner();
        let changed = self.admin.set_enabled(&request.id, request.enabled, &request.reason).await;
        Ok(Response::new(changed.map_err(error::status)?.into()))
    }

    async fn delete_job(&self, request: Request<api::DeleteJobRequest>) -> Answer<api::DeleteJobResponse> {
        let request = request.into_inner();
        self.admin.delete_job(&request.id, request.version).await.map_err(error::status)?;
        Ok(Response::new(api::DeleteJobResponse {}))
    }

    async fn run_job(&self, request: Request<api::RunJobRequest>) -> Answer<api::RunJobResponse> {
        let request = request.into_inner();
        let run =
            self.admin.run_job(&request.id, request.params, &request.idempotency_key, &request.client).await;
        Ok(Response::new(api::RunJobResponse { run_id: run.map_err(error::status)?.to_string() }))
    }

    async fn next_fires(&self, request: Request<api::NextFiresRequest>) -> Answer<api::NextFiresResponse> {
        let request = request.into_inner();
        let query = FireQuery {
            cron: request.cron,
            time_zone: request.time_zone,
            gap: convert::choice("dst_gap", &request.dst_gap, "next_valid, skip").map_err(error::status)?,
            fold: convert::choice("dst_fold", &request.dst_fold, "first, both").map_err(error::status)?,
            calendars: request.calendars,
            anchor: None,
            count: request.count,
            after: instant(request.after),
        };
        let (fires, query) = self.admin.next_fires(&request.id, query).await.map_err(error::status)?;
        let fires = fires.into_iter().map(Into::into).collect();
        Ok(Response::new(api::NextFiresResponse { fires, cron: query.cron, time_zone: query.time_zone }))
    }

    async fn explain_fire(
        &self,
        request: Request<api::ExplainFireRequest>,
    ) -> Answer<api::ExplainFireResponse> {
        let request = request.into_inner();
        let at = forest_proto::time::Instant::from_ms(request.at);
        let found = self.admin.explain(&request.id, at).await.map_err(error::status)?;
        let ms = |at: Option<forest_proto::time::Instant>| at.map_or(0, |at| at.as_ms());
        Ok(Response::new(api::ExplainFireResponse {
            outcome: found.outcome,
            reason: found.reason,
            run: found.run.map(Into::into),
            before: ms(found.before),
            after: ms(found.after),
        }))
    }

    async fn start_backfill(
        &self,
        request: Request<api::StartBackfillRequest>,
    ) -> Answer<api::StartBackfillResponse> {
        let request = request.into_inner();
        let query = BackfillQuery {
            job: request.job_id,
            from: instant(request.from),
            to: instant(request.to),
            dry_run: request.dry_run,
            max_fires: request.max_fires,
            params: request.params,
        };
        let plan = self.admin.start_backfill(query).await.map_err(error::status)?;
        Ok(Response::new(plan.into()))
    }

    async fn get_backfill(&self, request: Request<api::GetBackfillRequest>) -> Answer<api::Backfill> {
        let found = self.admin.backfill(&request.into_inner().job_id).await.map_err(error::status)?;
        Ok(Response::new(found.into()))
    }

    async fn list_backfills(
        &self,
        request: Request<api::ListBackfillsRequest>,
    ) -> Answer<api::ListBackfillsResponse> {
        let request = request.into_inner();
        let found = self.admin.backfills(page(request.page_size, request.page_token)).await;
        let found = found.map_err(error::status)?;
        let backfills = found.items.into_iter().map(Into::into).collect();
        Ok(Response::new(api::ListBackfillsResponse { backfills, next_page_token: found.next }))
    }

    async fn cancel_backfill(
        &self,
        request: Request<api::CancelBackfillRequest>,
    ) -> Answer<api::CancelBackfillResponse> {
        self.admin.cancel_backfill(&request.into_inner().job_id).await.map_err(error::status)?;
        Ok(Response::new(api::CancelBackfillResponse {}))
    }

    async fn set_calendar(&self, request: Request<api::SetCalendarRequest>) -> Answer<api::Calendar> {
        let request = request.into_inner();
        let (remark, days) = (request.remark.as_deref(), &request.days);
        let calendar = self.admin.set_calendar(&request.name, remark, days, request.version).await;
        Ok(Response::new(calendar.map_err(error::status)?.into()))
    }

    async fn get_calendar(&self, request: Request<api::GetCalendarRequest>) -> Answer<api::Calendar> {
        let calendar = self.admin.calendar(&request.into_inner().name).await.map_err(error::status)?;
        Ok(Response::new(calendar.into()))
    }

    async fn list_calendars(
        &self,
        request: Request<api::ListCalendarsRequest>,
    ) -> Answer<api::ListCalendarsResponse> {
        let request = request.into_inner();
        let calendars = self.admin.calendars(page(request.page_size, request.page_token)).await;
        let calendars = calendars.map_err(error::status)?;
        let next_page_token = calendars.next;
        let calendars = calendars.items.into_iter().map(Into::into).collect();
        Ok(Response::new(api::ListCalendarsResponse { calendars, next_page_token }))
    }

    async fn delete_calendar(
        &self,
        request: Request<api::DeleteCalendarRequest>,
    ) -> Answer<api::DeleteCalendarResponse> {
        self.admin.delete_calendar(&request.into_inner().name).await.map_err(error::status)?;
        Ok(Response::new(api::DeleteCalendarResponse {}))
    }

    async fn get_run(&self, request: Request<api::GetRunRequest>) -> Answer<api::Run> {
        let run = self.admin.run(&request.into_inner().id).await.map_err(error::status)?;
        Ok(Response::new(run.into()))
    }

    async fn cancel_run(&self, request: Request<api::CancelRunRequest>) -> Answer<api::CancelRunResponse> {
        self.admin.cancel_run(&request.into_inner().id).await.map_err(error::status)?;
        Ok(Response::new(api::CancelRunResponse {}))
    }

    async fn list_runs(&self, request: Request<api::ListRunsRequest>) -> Answer<api::ListRunsResponse> {
        let request = request.into_inner();
        let filter = RunFilter {
            group: request.group,
            job_id: request.job_id,
            client: request.client,
            outcome: request.outcome,
            since: instant(request.since),
            live_only: request.live_only,
        };
        let runs = self.admin.runs(filter, page(request.page_size, request.page_token)).await;
        let (live, ended) = runs.map_err(error::status)?;
        Ok(Response::new(api::ListRunsResponse {
            live: live.into_iter().map(Into::into).collect(),
            runs: ended.items.into_iter().map(Into::into).collect(),
            next_page_token: ended.next,
        }))
    }

    async fn list_plan(&self, request: Request<api::ListPlanRequest>) -> Answer<api::ListPlanResponse> {
        let request = request.into_inner();
        let plan = self.admin.plan(&request.group, request.page_size).await.map_err(error::status)?;
        let fires = plan.into_iter().map(convert::planned_fire).collect();
        Ok(Response::new(api::ListPlanResponse { fires }))
    }

    async fn list_clients(
        &self,
        request: Request<api::ListClientsRequest>,
    ) -> Answer<api::ListClientsResponse> {
        let request = request.into_inner();
        let clients = self.admin.clients(&request.group, page(request.page_size, request.page_token)).await;
        let clients = clients.map_err(error::status)?;
        let next_page_token = clients.next;
        let clients = clients.items.into_iter().map(Into::into).collect();
        Ok(Response::new(api::ListClientsResponse { clients, next_page_token }))
    }

    async fn list_pending(
        &self,
        request: Request<api::ListPendingRequest>,
    ) -> Answer<api::ListPendingResponse> {
        let request = request.into_inner();
        let waiting = match request.page_token.as_str() {
            "" => self.admin.waiting(&request.group).await.map_err(error::status)?,
            _ => Vec::new(),
        };
        let waiting = waiting.into_iter().map(Into::into).collect();
        let runs = self.admin.pending(&request.group, page(request.page_size, request.page_token)).await;
        let runs = runs.map_err(error::status)?;
        let next_page_token = runs.next;
        Ok(Response::new(api::ListPendingResponse {
            runs: runs.items.into_iter().map(Into::into).collect(),
            next_page_token,
            waiting,
        }))
    }
}
