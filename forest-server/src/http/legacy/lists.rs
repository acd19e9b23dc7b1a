//! The contract's other calls: groups, nodes, the plan, clients, and runs.

use forest_proto::record::Status;

use super::fields::Call;
use super::objects::{
    GroupConf, JobClient, JobConf, JobExecuteSnapshot, JobSnapshot, Node, Page, SchedulePlan,
};
use super::reply::{Answer, Reply};
use super::{PAGE, all_pages, refused};
use crate::admin::{AdminError, OriginalFilter};

const SNAPSHOTS: usize = 500;
/// What the original says of a job that has not fired yet.
const NEVER: &str = "0001-01-01T00:00:00Z";

fn failed(error: AdminError) -> Reply {
    Reply::of(&error, "查询失败")
}

pub(super) async fn add_group(call: Call) -> Answer {
    if !call.is_object() {
        return Err(refused("请求参数不能为空"));
    }
    let (name, remark) = (call.text("name"), call.text("remark"));
    if name.is_empty() {
        return Err(refused("任务集群名称不能为空"));
    }
    if remark.is_empty() {
        return Err(refused("任务集群描述"));
    }
    let added = call.admin.add_group(&name, &remark, (None, None)).await.map_err(|error| match error {
        AdminError::Exists { .. } => refused("此任务集群已存在"),
        error => Reply::of(&error, "添加失败,请重试！"),
    })?;
    let (name, remark) = (added.group.name.to_string(), added.group.remark);
    Ok(Reply::done(GroupConf { name, remark }, "添加成功"))
}

pub(super) async fn groups(call: Call) -> Answer {
    let groups = all_pages(|page| call.admin.groups(page)).await.map_err(failed)?;
    let groups = groups
        .into_iter()
        .map(|summary| GroupConf { name: summary.group.name.to_string(), remark: summary.group.remark });
    Ok(Reply::done(groups.collect::<Vec<_>>(), "查询成成功"))
}

pub(super) async fn nodes(call: Call) -> Answer {
    let nodes = call.admin.nodes().await.map_err(failed)?;
    let nodes =
        nodes.into_iter().map(|node| Node { name: node.node.name.to_string(), state: i64::from(node.leads) });
    Ok(Reply::done(nodes.collect::<Vec<_>>(), "查询成成功"))
}

pub(super) async fn plan(call: Call) -> Answer {
    let plan = call.admin.whole_plan().await.map_err(failed)?;
    let shown = plan.into_iter().map(|planned| SchedulePlan {
        job: JobConf { status: 0, ..planned.job.into() },
        next_time: planned.next,
        before_time: planned.before.unwrap_or_else(|| NEVER.into()),
    });
    Ok(Reply::done(shown.collect::<Vec<_>>(), ""))
}

pub(super) async fn clients(call: Call) -> Answer {
    let group = call.text("group");
    if group.is_empty() {
        return Err(refused("请选择任务集群"));
    }
    call.admin.group(&group).await.map_err(|error| match error {
        AdminError::NotFound { .. } => refused("此任务集群不存在"),
        error => failed(error),
    })?;
    let clients = all_pages(|page| call.admin.clients(&group, page)).await.map_err(failed)?;
    let clients = clients.into_iter().map(|client| JobClient {
        path: call.admin.client_path(&client),
        name: client.id.to_string(),
        group: client.group.to_string(),
    });
    Ok(Reply::done(clients.collect::<Vec<_>>(), "查询成成功"))
}

pub(super) async fn snapshots(call: Call) -> Answer {
    let (id, group, client) = (call.text("id"), call.text("group"), call.text("ip"));
    let found = call.admin.handed_over(&id, &group, &client, SNAPSHOTS).await.map_err(failed)?;
    Ok(Reply::done(found.into_iter().map(JobSnapshot::from).collect::<Vec<_>>(), "查询成成功"))
}

pub(super) async fn delete_snapshot(call: Call) -> Answer {
    let (id, group, client) = (call.text("id"), call.text("group"), call.text("ip"));
    if id.is_empty() || group.is_empty() || client.is_empty() {
        return Err(refused("非法的请求参数"));
    }
    let found = call.admin.handed_over(&id, &group, &client, 1).await.map_err(failed)?;
    if found.is_empty() {
        return Err(refused("此任务快照不存在"));
    }
    call.admin.cancel_run(&id).await.map_err(|error| Reply::of(&error, "删除失败,请重试！"))?;
    Ok(Reply::done(serde_json::Value::Null, "删除成功"))
}

pub(super) async fn executions(call: Call) -> Answer {
    let positive =
        |number: i64, otherwise: u64| u64::try_from(number).ok().filter(|n| *n > 0).unwrap_or(otherwise);
    let (number, size) = (positive(call.number("pageNo"), 1), positive(call.number("pageSize"), 10));
    let status = match call.text("status").as_str() {
        "" => None,
        _ => match Status::from_code(call.number("status")) {
            Some(status) => Some(status),
            None => {
                return Ok(Reply::done(
                    Page { total_page: 0, total_count: 0, list: Vec::new() },
                    "查询成成功",
                ));
            }
        },
    };
    let filter = OriginalFilter {
        id: call.text("id"),
        group: call.text("group"),
        client: call.text("ip"),
        name: call.text("name"),
        job_id: call.text("jobId"),
        status,
    };
    let size = size.min(u64::from(PAGE));
    let (entries, count) = call.admin.numbered_page(filter, number, size).await.map_err(failed)?;
    let list = entries.into_iter().map(JobExecuteSnapshot::from).collect();
    let page = Page { total_page: count.div_ceil(size), total_count: count, list };
    Ok(Reply::done(page, "查询成成功"))
}
