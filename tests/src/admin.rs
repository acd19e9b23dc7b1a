//! The admin API for tests: any node will do, dead ones are passed over.
//!
//! What only reads is tried again on another node until it succeeds. What changes something is tried again
//! only where no request can have been sent: a test must see an answer that was lost.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use forest_proto::admin::v1::admin_client::AdminClient;
use forest_proto::admin::v1::{
    AddGroupRequest, AddJobRequest, Calendar, CancelRunRequest, Client, Cluster, DeleteCalendarRequest,
    DeleteGroupRequest, DeleteJobRequest, DrainClientRequest, EditJobRequest, GetClusterRequest,
    GetJobRequest, GetRunRequest, GetStatisticsRequest, Group, Job, ListClientsRequest, ListGroupsRequest,
    ListJobsRequest, ListNodesRequest, ListPendingRequest, ListPlanRequest, ListRunsRequest,
    ListRunsResponse, NextFiresRequest, NextFiresResponse, Node, PlannedFire, Run, RunJobRequest,
    SetCalendarRequest, SetJobEnabledRequest, Statistics, StepDownRequest, StepDownResponse,
    UndrainClientRequest,
};
use serde_json::Value;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};

/// How long one call may take, connecting and all tries included.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long one try of a read may take: a frozen node shall not use up the whole.
const TRY: Duration = Duration::from_secs(2);
const CONNECT: Duration = Duration::from_millis(500);
const BETWEEN_TRIES: Duration = Duration::from_millis(20);
/// The largest page there is.
const PAGE: u32 = 200;

/// What every call gives.
pub type Answer<T> = Result<T, Status>;

/// A client of one or more nodes.
#[derive(Debug)]
pub struct Admin {
    nodes: Vec<SocketAddr>,
    /// The node that answered last, and the connection to it.
    current: Mutex<(usize, Option<Channel>)>,
}

impl Admin {
    /// A client of these nodes. Connects when it is first asked.
    ///
    /// # Panics
    /// Without a node.
    pub fn new(nodes: Vec<SocketAddr>) -> Self {
        assert!(!nodes.is_empty(), "no node to ask");
        Self { nodes, current: Mutex::new((0, None)) }
    }

    /// Some node's view of the cluster.
    ///
    /// # Errors
    /// As every call: the server's refusal, or `Unavailable` if no node answers within ten seconds.
    pub async fn cluster(&self) -> Answer<Cluster> {
        self.read(async |mut c| c.get_cluster(GetClusterRequest {}).await).await
    }

    /// All nodes.
    ///
    /// # Errors
    /// As every call.
    pub async fn list_nodes(&self) -> Answer<Vec<Node>> {
        Ok(self.read(async |mut c| c.list_nodes(ListNodesRequest {}).await).await?.nodes)
    }

    /// Asks the leader to give up the leadership.
    ///
    /// # Errors
    /// As every call.
    pub async fn step_down(&self, node: &str) -> Answer<StepDownResponse> {
        let request = StepDownRequest { node: node.into(), hold_ms: None };
        self.change(async |mut c| c.step_down(request.clone()).await).await
    }

    /// Creates a group.
    ///
    /// # Errors
    /// As every call.
    pub async fn add_group(&self, name: &str) -> Answer<Group> {
        let request = AddGroupRequest { name: name.into(), ..Default::default() };
        self.change(async |mut c| c.add_group(request.clone()).await).await
    }

    /// The first page of the groups.
    ///
    /// # Errors
    /// As every call.
    pub async fn list_groups(&self) -> Answer<Vec<Group>> {
        let request = ListGroupsRequest { page_size: PAGE, ..Default::default() };
        Ok(self.read(async |mut c| c.list_groups(request.clone()).await).await?.groups)
    }

    /// Deletes a group.
    ///
    /// # Errors
    /// As every call.
    pub async fn delete_group(&self, name: &str) -> Answer<()> {
        let request = DeleteGroupRequest { name: name.into() };
        self.change(async |mut c| c.delete_group(request.clone()).await).await.map(drop)
    }

    /// Stores the days of a calendar.
    ///
    /// # Errors
    /// As every call.
    pub async fn set_calendar(&self, name: &str, days: &str) -> Answer<Calendar> {
        let request = SetCalendarRequest { name: name.into(), days: days.into(), ..Default::default() };
        self.change(async |mut c| c.set_calendar(request.clone()).await).await
    }

    /// Deletes a calendar.
    ///
    /// # Errors
    /// As every call.
    pub async fn delete_calendar(&self, name: &str) -> Answer<()> {
        let request = DeleteCalendarRequest { name: name.into() };
        self.change(async |mut c| c.delete_calendar(request.clone()).await).await.map(drop)
    }

    /// Creates a job from its document and gives its id.
    ///
    /// # Errors
    /// As every call, and if the stored document has no id.
    pub async fn add_job(&self, document: &Value) -> Answer<String> {
        let request = AddJobRequest { document: document.to_string() };
        let job = self.change(async |mut c| c.add_job(request.clone()).await).await?;
        let stored = document_of(&job)?;
        stored["id"].as_str().map(str::to_owned).ok_or_else(|| Status::internal("a stored job has no id"))
    }

    /// A job as it is stored.
    ///
    /// # Errors
    /// As every call.
    pub async fn get_job(&self, id: &str) -> Answer<Job> {
        let request = GetJobRequest { id: id.into() };
        self.read(async |mut c| c.get_job(request.clone()).await).await
    }

    /// The first page of a group's jobs.
    ///
    /// # Errors
    /// As every call.
    pub async fn list_jobs(&self, group: &str) -> Answer<Vec<Job>> {
        let request = ListJobsRequest { page_size: PAGE, group: group.into(), ..Default::default() };
        Ok(self.read(async |mut c| c.list_jobs(request.clone()).await).await?.jobs)
    }

    /// Changes the fields of `patch`, whatever the stored version is.
    ///
    /// # Errors
    /// As every call.
    pub async fn edit_job(&self, id: &str, patch: &Value) -> Answer<Job> {
        self.edit_job_version(id, patch, 0).await
    }

    /// Changes the fields of `patch` if the stored version is `version`.
    ///
    /// # Errors
    /// As every call.
    pub async fn edit_job_version(&self, id: &str, patch: &Value, version: u64) -> Answer<Job> {
        let request = EditJobRequest { id: id.into(), patch: patch.to_string(), version };
        self.change(async |mut c| c.edit_job(request.clone()).await).await
    }

    /// Lets a job fire.
    ///
    /// # Errors
    /// As every call.
    pub async fn enable(&self, id: &str) -> Answer<Job> {
        self.set_enabled(id, true).await
    }

    /// Keeps a job from firing.
    ///
    /// # Errors
    /// As every call.
    pub async fn disable(&self, id: &str) -> Answer<Job> {
        self.set_enabled(id, false).await
    }

    async fn set_enabled(&self, id: &str, enabled: bool) -> Answer<Job> {
        let request = SetJobEnabledRequest { id: id.into(), enabled, reason: String::new() };
        self.change(async |mut c| c.set_job_enabled(request.clone()).await).await
    }

    /// Deletes a job, whatever the stored version is.
    ///
    /// # Errors
    /// As every call.
    pub async fn delete_job(&self, id: &str) -> Answer<()> {
        let request = DeleteJobRequest { id: id.into(), version: 0 };
        self.change(async |mut c| c.delete_job(request.clone()).await).await.map(drop)
    }

    /// Asks for a run now and gives its id. With the same idempotency key it is the same run; without one it
    /// is a new run each time.
    ///
    /// # Errors
    /// As every call.
    pub async fn run_job(&self, id: &str, params: Option<&str>, key: Option<&str>) -> Answer<String> {
        let request = RunJobRequest {
            id: id.into(),
            params: params.map(Into::into),
            idempotency_key: key.unwrap_or_default().into(),
            client: String::new(),
        };
        let call = async |mut c: AdminClient<Channel>| c.run_job(request.clone()).await;
        // With a key it is safe to ask twice: that is what the key is for.
        let run = if key.is_some() { self.read(call).await? } else { self.change(call).await? };
        Ok(run.run_id)
    }

    /// Fire times of a job or an expression.
    ///
    /// # Errors
    /// As every call.
    pub async fn next_fires(&self, request: NextFiresRequest) -> Answer<NextFiresResponse> {
        self.read(async |mut c| c.next_fires(request.clone()).await).await
    }

    /// What became of a fire.
    ///
    /// # Errors
    /// As every call.
    pub async fn explain(
        &self,
        job: &str,
        at: forest_proto::time::Instant,
    ) -> Answer<forest_proto::admin::v1::ExplainFireResponse> {
        let request = forest_proto::admin::v1::ExplainFireRequest { id: job.into(), at: at.as_ms() };
        self.read(async |mut c| c.explain_fire(request.clone()).await).await
    }

    /// A run, live or finished.
    ///
    /// # Errors
    /// As every call.
    pub async fn get_run(&self, id: &str) -> Answer<Run> {
        let request = GetRunRequest { id: id.into() };
        self.read(async |mut c| c.get_run(request.clone()).await).await
    }

    /// Asks for a live run to be stopped, or not to be started.
    ///
    /// # Errors
    /// As every call.
    pub async fn cancel_run(&self, id: &str) -> Answer<()> {
        let request = CancelRunRequest { id: id.into() };
        self.change(async |mut c| c.cancel_run(request.clone()).await).await.map(drop)
    }

    /// Says that a client is to get no new runs.
    ///
    /// # Errors
    /// As every call.
    pub async fn drain_client(&self, group: &str, client: &str) -> Answer<Client> {
        let request = DrainClientRequest { group: group.into(), client: client.into() };
        self.change(async |mut c| c.drain_client(request.clone()).await).await
    }

    /// Says that a client is to get runs again.
    ///
    /// # Errors
    /// As every call.
    pub async fn undrain_client(&self, group: &str, client: &str) -> Answer<Client> {
        let request = UndrainClientRequest { group: group.into(), client: client.into() };
        self.change(async |mut c| c.undrain_client(request.clone()).await).await
    }

    /// What became of the runs of a job or a group, or of all, by hour, day, job or group.
    ///
    /// # Errors
    /// As every call.
    pub async fn statistics(&self, request: GetStatisticsRequest) -> Answer<Vec<Statistics>> {
        let request = GetStatisticsRequest { page_size: PAGE, ..request };
        Ok(self.read(async |mut c| c.get_statistics(request.clone()).await).await?.items)
    }

    /// One page of runs.
    ///
    /// # Errors
    /// As every call.
    pub async fn list_runs(&self, request: ListRunsRequest) -> Answer<ListRunsResponse> {
        self.read(async |mut c| c.list_runs(request.clone()).await).await
    }

    /// All runs of a job, live ones first, then finished ones from the newest on, over all pages.
    ///
    /// # Errors
    /// As every call.
    pub async fn runs_of(&self, job: &str) -> Answer<Vec<Run>> {
        let mut request = ListRunsRequest { page_size: PAGE, job_id: job.into(), ..Default::default() };
        let mut runs = Vec::new();
        loop {
            let page = self.list_runs(request.clone()).await?;
            runs.extend(page.live);
            runs.extend(page.runs);
            if page.next_page_token.is_empty() {
                return Ok(runs);
            }
            request.page_token = page.next_page_token;
        }
    }

    /// The fires to come, soonest first.
    ///
    /// # Errors
    /// As every call.
    pub async fn plan(&self, group: &str) -> Answer<Vec<PlannedFire>> {
        let request = ListPlanRequest { page_size: PAGE, group: group.into() };
        Ok(self.read(async |mut c| c.list_plan(request.clone()).await).await?.fires)
    }

    /// The first page of a group's clients.
    ///
    /// # Errors
    /// As every call.
    pub async fn list_clients(&self, group: &str) -> Answer<Vec<Client>> {
        let request = ListClientsRequest { group: group.into(), page_size: PAGE, page_token: String::new() };
        Ok(self.read(async |mut c| c.list_clients(request.clone()).await).await?.clients)
    }

    /// The first page of a group's runs that wait for a client.
    ///
    /// # Errors
    /// As every call.
    pub async fn list_pending(&self, group: &str) -> Answer<Vec<Run>> {
        let request = ListPendingRequest { group: group.into(), page_size: PAGE, page_token: String::new() };
        Ok(self.read(async |mut c| c.list_pending(request.clone()).await).await?.runs)
    }

    async fn read<T>(
        &self,
        call: impl AsyncFn(AdminClient<Channel>) -> Result<Response<T>, Status>,
    ) -> Answer<T> {
        self.call(call, true).await
    }

    async fn change<T>(
        &self,
        call: impl AsyncFn(AdminClient<Channel>) -> Result<Response<T>, Status>,
    ) -> Answer<T> {
        self.call(call, false).await
    }

    async fn call<T>(
        &self,
        call: impl AsyncFn(AdminClient<Channel>) -> Result<Response<T>, Status>,
        repeatable: bool,
    ) -> Answer<T> {
        let end = Instant::now() + DEADLINE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let failure = match self.channel(repeatable).await {
                Err(unsent) => unsent,
                Ok(channel) => {
                    let within = if repeatable { left.min(TRY) } else { left };
                    let called = tokio::time::timeout(within, call(AdminClient::new(channel))).await;
                    match called.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time"))) {
                        Ok(answer) => return Ok(answer.into_inner()),
                        Err(refused) if !may_pass(&refused) => return Err(refused),
                        Err(failed) if repeatable => failed,
                        Err(failed) => {
                            self.next_node();
                            return Err(failed);
                        }
                    }
                }
            };
            self.next_node();
            if left <= BETWEEN_TRIES {
                return Err(failure);
            }
            tokio::time::sleep(BETWEEN_TRIES).await;
        }
    }

    /// A connection to the node that answered last. A change gets a new one: only a failure to connect
    /// tells for certain that nothing was sent, and an old connection may have died unnoticed.
    async fn channel(&self, reuse: bool) -> Answer<Channel> {
        let (index, channel) = self.current.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(channel) = channel.filter(|_| reuse) {
            return Ok(channel);
        }
        let address = self.nodes[index];
        let unavailable = |e: tonic::transport::Error| Status::unavailable(format!("{address}: {e}"));
        let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(unavailable)?;
        let channel = endpoint.connect_timeout(CONNECT).connect().await.map_err(unavailable)?;
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = (index, Some(channel.clone()));
        Ok(channel)
    }

    fn next_node(&self) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        *current = ((current.0 + 1) % self.nodes.len(), None);
    }
}

/// Whether another try, elsewhere or later, may succeed. `Unknown` and `Cancelled` are broken connections.
fn may_pass(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled | Code::DeadlineExceeded)
}

/// The JSON document of a job.
///
/// # Errors
/// If it is none.
pub fn document_of(job: &Job) -> Answer<Value> {
    serde_json::from_str(&job.document).map_err(|e| Status::internal(format!("the document is no JSON: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::{Protocol, Proxy};
    use crate::require;
    use crate::services::{free_address, shared_etcd};

    /// Any gRPC server will do: etcd answers, though only to say that it knows no such call.
    #[tokio::test]
    async fn a_read_goes_on_elsewhere_and_a_change_that_was_sent_is_not_sent_again() {
        let etcd = require!(shared_etcd().await);
        let proxy = Proxy::start(etcd.address(), Protocol::Http2).await;
        let admin = Admin::new(vec![free_address(), proxy.address()]);

        let answer = admin.delete_group("g").await.map_err(|s| s.code());
        assert_eq!((answer, proxy.calls()), (Err(Code::Unimplemented), 1), "the dead node is passed over");

        let mut lost = proxy.drop_replies_once();
        let status = admin.delete_group("g").await.expect_err("the answer is lost");
        lost.happened(Duration::from_secs(5)).await;
        assert!(may_pass(&status), "{status}");
        assert_eq!(proxy.calls(), 2);

        let mut lost = proxy.drop_replies_once();
        let answer = admin.cluster().await.map_err(|s| s.code());
        lost.happened(Duration::from_secs(5)).await;
        assert_eq!((answer, proxy.calls()), (Err(Code::Unimplemented), 4), "asked again");
    }
}
