//! What there is at the moment: the cluster, its nodes, its clients.

use std::time::Duration;

use forest_proto::record::{ClientRecord, Drain, Node, Role};
use forest_proto::{ClientId, GroupName};

use super::{Admin, AdminError, Page, PageRequest};
use crate::access::Scope;
use crate::core::clients::Client;
use crate::core::runs::Place;
use crate::core::view::View;

const PING_PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Default)]
pub(crate) struct ClusterSummary {
    pub(crate) node: String,
    pub(crate) leader: Option<(String, i64)>,
    pub(crate) segments: usize,
    pub(crate) jobs: usize,
    pub(crate) enabled_jobs: usize,
    pub(crate) groups: usize,
    /// In which runs wait.
    pub(crate) groups_without_client: usize,
    pub(crate) clients: usize,
    pub(crate) pending: usize,
    pub(crate) queued: usize,
    pub(crate) running: usize,
    pub(crate) delayed: usize,
    pub(crate) uncollected: usize,
    pub(crate) oldest_pending_ms: i64,
    pub(crate) etcd_version: String,
    pub(crate) history_available: bool,
    pub(crate) held: bool,
    pub(crate) quarantined: usize,
    pub(crate) max_skew_ms: i64,
    /// How long this node has heard nothing from etcd.
    pub(crate) watch_age: Duration,
}

#[derive(Debug, Clone)]
pub(crate) struct NodeSummary {
    pub(crate) node: Node,
    pub(crate) leads: bool,
    pub(crate) skew_ms: i64,
}

#[derive(Debug, Clone)]
pub(crate) struct ClientSummary {
    pub(crate) id: ClientId,
    pub(crate) group: GroupName,
    pub(crate) record: ClientRecord,
    /// Who said that it is to get no new runs, and when.
    pub(crate) drain: Option<Drain>,
    pub(crate) queued: usize,
    pub(crate) running: usize,
}

impl Admin {
    pub(crate) async fn cluster(&self) -> Result<ClusterSummary, AdminError> {
        self.require(Role::Viewer, Scope::Somewhere)?;
        let now_ms = self.now().as_ms();
        let mut summary = self
            .read(move |now| {
                let mut summary = count(now.view, now_ms);
                summary.node = now.node.to_string();
                summary.held = now.held;
                summary.watch_age = now.watch_age;
                let others = now.view.heartbeats.iter().filter(|(node, _)| *node != now.node);
                summary.max_skew_ms = others.map(|(_, beat)| beat.skew_ms.abs()).max().unwrap_or(0);
                summary
            })
            .await?;
        summary.etcd_version =
            self.inner.store.status().await.map(|status| status.version).unwrap_or_default();
        let ping = tokio::time::timeout(PING_PATIENCE, self.inner.history.ping()).await;
        summary.history_available = matches!(ping, Ok(Ok(())));
        Ok(summary)
    }

    /// Up to where this node knows what etcd has.
    pub(crate) async fn view_revision(&self) -> Result<i64, AdminError> {
        self.require(Role::Viewer, Scope::Somewhere)?;
        self.read(|now| now.view.revision()).await
    }

    pub(crate) async fn nodes(&self) -> Result<Vec<NodeSummary>, AdminError> {
        self.require(Role::Viewer, Scope::Somewhere)?;
        self.read(|now| {
            let leader = now.view.leader();
            let summary = |node: &Node| NodeSummary {
                leads: leader.is_some_and(|leader| leader.node == node.name.as_str()),
                skew_ms: now.view.heartbeats.get(&node.name).map_or(0, |beat| beat.skew_ms),
                node: node.clone(),
            };
            now.view.nodes.iter().map(|(_, node)| summary(node)).collect()
        })
        .await
    }

    /// The clients of one group, or of all.
    pub(crate) async fn clients(
        &self,
        group: &str,
        page: PageRequest,
    ) -> Result<Page<ClientSummary>, AdminError> {
        let (size, after) = (page.size()?, page.after::<ClientToken>()?);
        let group = self.listed_group(group)?;
        let only = match group.as_ref() {
            "" => None,
            name => {
                Some(GroupName::new(name).map_err(|error| AdminError::invalid("group", error.to_string()))?)
            }
        };
        let clients =
            self.read(move |now| list_clients(now.view, only.as_ref(), after.as_ref(), size + 1)).await?;
        Ok(Page::of(clients, size, |client| format!("{}/{}", client.group, client.id)))
    }
}

struct ClientToken(GroupName, ClientId);

impl std::str::FromStr for ClientToken {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let (group, client) = text.split_once('/').ok_or(())?;
        Ok(Self(group.parse().map_err(|_| ())?, client.parse().map_err(|_| ())?))
    }
}

fn list_clients(
    view: &View,
    only: Option<&GroupName>,
    after: Option<&ClientToken>,
    limit: usize,
) -> Vec<ClientSummary> {
    let mut groups: Vec<_> =
        view.clients.groups().filter(|group| only.is_none_or(|only| only == *group)).collect();
    groups.sort_unstable();
    let clients = groups.into_iter().flat_map(|group| {
        let clients = view.clients.of_group(group).into_iter().flatten();
        clients.map(move |(id, entry)| (group, id, &entry.value))
    });
    let is_after = |group: &GroupName, id: &ClientId| after.is_none_or(|at| (group, id) > (&at.0, &at.1));
    let wanted = clients.filter(|(group, id, _)| is_after(group, id)).take(limit);
    wanted.map(|(group, id, client)| client_summary(view, group, id, client)).collect()
}

pub(super) fn client_summary(
    view: &View,
    group: &GroupName,
    id: &ClientId,
    client: &Client,
) -> ClientSummary {
    let seat = (group.clone(), id.clone());
    let load = view.runs.load(&seat);
    ClientSummary {
        id: id.clone(),
        group: group.clone(),
        record: client.record.clone(),
        drain: view.drains.get(&seat).cloned(),
        queued: load.map_or(0, |load| load.queued.len()),
        running: load.map_or(0, |load| load.running.len()),
    }
}

fn count(view: &View, now_ms: i64) -> ClusterSummary {
    let mut summary = ClusterSummary {
        leader: view.leader().map(|leader| (leader.node.clone(), leader.term)),
        segments: view.jobs.count().get(),
        jobs: view.jobs.len(),
        enabled_jobs: view.jobs.enabled(),
        groups: view.groups.len(),
        clients: view.clients.len(),
        uncollected: view.runs.settled_len() + view.late.len(),
        quarantined: view.quarantine.len(),
        ..ClusterSummary::default()
    };
    for (_, run) in view.runs.iter() {
        match run.place {
            Place::Delayed { .. } => summary.delayed += 1,
            Place::Pending { .. } => summary.pending += 1,
            Place::Queued { .. } => summary.queued += 1,
            Place::Running { .. } => summary.running += 1,
            Place::Spread { .. } | Place::Ended { .. } => {}
        }
    }
    let deserted = |group: &GroupName| view.clients.of_group(group).is_none_or(|clients| clients.is_empty());
    let waiting = view.runs.parked_groups().filter_map(|(group, mut runs)| runs.next().map(|_| group));
    summary.groups_without_client = waiting.filter(|group| deserted(group)).count();
    let oldest = view.runs.parked_groups().flat_map(|(_, runs)| runs).map(|run| run.at().as_ms()).min();
    summary.oldest_pending_ms = oldest.map_or(0, |at| (now_ms - at).max(0));
    summary
}
