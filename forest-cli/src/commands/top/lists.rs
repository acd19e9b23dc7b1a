//! What is read as a whole.

use forest_proto::admin::v1::{
    Client as Worker, Cluster, GetClusterRequest, ListClientsRequest, ListNodesRequest, ListPendingRequest,
    ListPlanRequest, ListRunsRequest, Node, PlannedFire, Run, Waiting,
};

use crate::connect::{Api, Client};
use crate::error::Failure;

/// More lines than any screen has.
const PAGE: u32 = 200;

#[derive(Debug, Clone, Default)]
pub(super) struct Lists {
    pub(super) cluster: Cluster,
    pub(super) nodes: Vec<Node>,
    pub(super) clients: Vec<Worker>,
    pub(super) live: Vec<Run>,
    pub(super) waiting: Vec<Waiting>,
    pub(super) plan: Vec<PlannedFire>,
}

pub(super) async fn read(mut api: Api, group: String) -> Result<Lists, Failure> {
    let cluster = api.read("get the status", async |mut c: Client| c.get_cluster(GetClusterRequest {}).await);
    let cluster = cluster.await?;
    let nodes = api.read("list the nodes", async |mut c: Client| c.list_nodes(ListNodesRequest {}).await);
    let nodes = nodes.await?.nodes;
    let request = ListClientsRequest { group: group.clone(), page_size: PAGE, ..Default::default() };
    let call = async |mut c: Client| c.list_clients(request.clone()).await;
    let clients = api.read("list the clients", call).await?.clients;
    let request =
        ListRunsRequest { group: group.clone(), page_size: PAGE, live_only: true, ..Default::default() };
    let call = async |mut c: Client| c.list_runs(request.clone()).await;
    let live = api.read("list the runs", call).await?.live;
    let request = ListPendingRequest { group: group.clone(), page_size: 1, ..Default::default() };
    let call = async |mut c: Client| c.list_pending(request.clone()).await;
    let waiting = api.read("list the pending runs", call).await?.waiting;
    let request = ListPlanRequest { group, page_size: PAGE };
    let call = async |mut c: Client| c.list_plan(request.clone()).await;
    let plan = api.read("list the plan", call).await?.fires;
    Ok(Lists { cluster, nodes, clients, live, waiting, plan })
}
