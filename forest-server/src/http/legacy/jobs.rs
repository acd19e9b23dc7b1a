//! The contract's calls about jobs.

use serde_json::{Value, json};

use super::fields::Call;
use super::objects::JobConf;
use super::reply::{Answer, Reply};
use super::{all_pages, refused};
use crate::admin::{Admin, AdminError, FireQuery, JobFilter, PageRequest, StoredJob};
use forest_schedule::normalise_original;

pub(super) async fn list(call: Call) -> Answer {
    let (id, name, group) = (call.text("id"), call.text("name"), call.text("group"));
    let filter = JobFilter { group, name, enabled: None };
    let jobs = all_pages(|page| call.admin.jobs(filter.clone(), page)).await;
    let jobs = jobs.map_err(|error| Reply::of(&error, "查询失败"))?;
    let mut jobs: Vec<_> = jobs.into_iter().map(|stored| JobConf::from(stored.job)).collect();
    jobs.retain(|job| id.is_empty() || job.id == id);
    Ok(Reply::done(jobs, "查询成成功"))
}

pub(super) async fn add(call: Call) -> Answer {
    let cron = checked(&call, None).await?;
    let mut document = form(&call);
    document["cron"] = cron.into();
    let added = call.admin.add_job(&document.to_string()).await;
    let added = added.map_err(|error| Reply::of(&error, "创建失败,请重试！"))?;
    Ok(Reply::done(JobConf::from(added.job), "创建成功"))
}

/// What its console's form has, but for the cron text.
fn form(call: &Call) -> Value {
    json!({
        "name": call.text("name"),
        "group": call.text("group"),
        "target": call.text("target"),
        "status": call.number("status"),
        "params": call.text("params"),
        "mobile": call.text("mobile"),
        "remark": call.text("remark"),
    })
}

/// The checks of the original in its order. The cron text in our dialect; `None`: the job has none.
async fn checked(call: &Call, stored: Option<&StoredJob>) -> Result<Option<String>, Reply> {
    let required = |name: &str, message: &str| {
        if call.text(name).is_empty() { Err(refused(message)) } else { Ok(()) }
    };
    if !call.is_object() {
        return Err(refused("请求参数不能为空"));
    }
    required("name", "任务名称不能为空")?;
    required("group", "任务分组不能为空")?;
    let cron = match stored {
        // It has a trigger that the original does not know; its console sends back the empty text that it got.
        Some(stored) if stored.job.cron.is_empty() && call.text("cron").is_empty() => None,
        // As it is stored, which is in our dialect already.
        Some(stored) if stored.job.cron == call.text("cron") => None,
        _ => {
            required("cron", "任务Cron表达式不能为空")?;
            Some(understood(&call.admin, &call.text("cron")).await?)
        }
    };
    required("target", "任务Target不能为空")?;
    if call.number("status") == 0 {
        return Err(refused("任务状态不能为空"));
    }
    match call.admin.group(&call.text("group")).await {
        Err(AdminError::NotFound { .. }) => Err(refused("任务集群不存在")),
        Err(error) => Err(Reply::of(&error, "查询失败")),
        Ok(_) => Ok(cron),
    }
}

/// The original's cron text in our dialect, if it has one meaning in it.
async fn understood(admin: &Admin, cron: &str) -> Result<String, Reply> {
    let invalid = |error: AdminError| refused(format!("非法的Cron表达式 ({})", error.chinese()));
    let cron = normalise_original(cron)
        .map_err(|error| invalid(AdminError::invalid(error.field(), error.reason())))?;
    let query = FireQuery { cron: cron.clone(), count: 1, ..FireQuery::default() };
    match admin.next_fires("", query).await {
        Ok(_) => Ok(cron),
        Err(error @ AdminError::Invalid { .. }) => Err(invalid(error)),
        Err(error) => Err(Reply::of(&error, "查询失败")),
    }
}

pub(super) async fn edit(call: Call) -> Answer {
    if !call.is_object() {
        return Err(refused("请求参数不能为空"));
    }
    let id = call.text("id");
    if id.is_empty() {
        return Err(refused("此任务记录不存在"));
    }
    let stored = found(&call.admin, &id).await?;
    let cron = checked(&call, Some(&stored)).await?;
    let mut patch = form(&call);
    if let Some(cron) = cron {
        patch["cron"] = cron.into();
    }
    let edited = call.admin.edit_job(&id, &patch.to_string(), 0).await;
    let edited = edited.map_err(|error| Reply::of(&error, "修改失败,请重试！"))?;
    Ok(Reply::done(JobConf::from(edited.job), "修改成功"))
}

pub(super) async fn delete(call: Call) -> Answer {
    if !call.is_object() {
        return Err(refused("请求参数不能为空"));
    }
    let id = call.text("id");
    if id.is_empty() {
        return Err(refused("此任务记录不存在"));
    }
    found(&call.admin, &id).await?;
    call.admin.delete_job(&id, 0).await.map_err(|error| Reply::of(&error, "删除失败,请重试！"))?;
    let sent = JobConf {
        id,
        name: call.text("name"),
        group: call.text("group"),
        cron: call.text("cron"),
        status: call.number("status"),
        target: call.text("target"),
        params: call.text("params"),
        mobile: call.text("mobile"),
        remark: call.text("remark"),
        version: u64::try_from(call.number("version")).unwrap_or(0),
    };
    Ok(Reply::done(sent, "删除成功"))
}

async fn found(admin: &Admin, id: &str) -> Result<StoredJob, Reply> {
    admin.job(id).await.map_err(|error| match error {
        AdminError::NotFound { .. } => refused("此任务配置记录不存在"),
        error => Reply::of(&error, "查询失败"),
    })
}

pub(super) async fn execute(call: Call) -> Answer {
    let id = call.text("id");
    if id.is_empty() {
        return Err(refused("非法的参数"));
    }
    let stored = call.admin.job(&id).await.map_err(|error| match error {
        AdminError::NotFound { .. } => refused("此任务配置不存在"),
        error => refused(format!("查询任务配置出现异常:{}", error.chinese())),
    })?;
    let page = PageRequest { size: 1, token: String::new() };
    let clients = call.admin.clients(stored.job.group.as_str(), page).await;
    let clients = clients.map_err(|error| Reply::of(&error, "手动执行任务失败,请重试"))?;
    if clients.items.is_empty() {
        return Err(refused("没有找到此要执行的任务作业节点"));
    }
    let asked = call.admin.run_job(&id, None, "", "").await;
    asked.map_err(|error| Reply::of(&error, "手动执行任务失败,请重试"))?;
    Ok(Reply::done(Value::Null, "手动执行任务请求已提交"))
}
