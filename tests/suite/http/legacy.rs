//! The original's contract: what its console sends, and what it expects back.

use std::time::Duration;

use forest_tests::wait::eventually;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Portal, Reply, send, without_token};

async fn call(portal: &Portal, path: &str, body: &Value) -> Reply {
    let request = portal.request(Method::POST, path).header("content-type", "application/json;charset=utf-8");
    send(request.body(body.to_string())).await
}

/// Every answer is a 200 with exactly these three keys.
fn assert_envelope(reply: &Reply) {
    assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
    let mut keys: Vec<_> = reply.body.as_object().unwrap_or_else(|| panic!("{reply:?}")).keys().collect();
    keys.sort();
    assert_eq!(keys, ["code", "data", "message"], "{reply:?}");
    assert!(reply.body["code"].is_i64() && reply.body["message"].is_string(), "{reply:?}");
}

async fn done(portal: &Portal, path: &str, body: Value, message: &str) -> Value {
    let reply = call(portal, path, &body).await;
    assert_envelope(&reply);
    assert_eq!((&reply.body["code"], &reply.body["message"]), (&json!(0), &json!(message)), "{path} {body}");
    reply.body["data"].clone()
}

async fn refused(portal: &Portal, path: &str, body: Value, message: &str) {
    let reply = call(portal, path, &body).await;
    assert_envelope(&reply);
    assert_eq!((&reply.body["code"], &reply.body["data"]), (&json!(-1), &Value::Null), "{path} {body}");
    let said = reply.body["message"].as_str().expect("text");
    assert!(said.starts_with(message), "{path} {body}: {said}");
}

#[tokio::test]
async fn its_console_can_do_all_it_could() {
    let Some(portal) = Portal::open(&[]).await else { return };
    let p = &portal;
    refused(p, "/group/add", json!(null), "请求参数不能为空").await;
    refused(p, "/group/add", json!({"name": ""}), "任务集群名称不能为空").await;
    refused(p, "/group/add", json!({"name": "trade", "remark": ""}), "任务集群描述").await;
    let group = done(p, "/group/add", json!({"name": "trade", "remark": "交易"}), "添加成功").await;
    assert_eq!(group, json!({"name": "trade", "remark": "交易"}));
    refused(p, "/group/add", json!({"name": "trade", "remark": "x"}), "此任务集群已存在").await;
    assert_eq!(done(p, "/group/list", json!({}), "查询成成功").await, json!([group]));

    let form = json!({"name": "账单", "group": "trade", "cron": "0 0 2 * * ?", "target": "bill", "status": 1,
        "params": "a", "mobile": "123", "remark": "r"});
    let with = |field: &str, value: Value| {
        let mut form = form.clone();
        form[field] = value;
        form
    };
    refused(p, "/job/add", json!([]), "请求参数不能为空").await;
    refused(p, "/job/add", with("name", json!("")), "任务名称不能为空").await;
    refused(p, "/job/add", with("group", json!("")), "任务分组不能为空").await;
    refused(p, "/job/add", with("cron", json!("")), "任务Cron表达式不能为空").await;
    refused(p, "/job/add", with("cron", json!("0 0 2 * * 7")), "非法的Cron表达式").await;
    refused(p, "/job/add", with("target", json!("")), "任务Target不能为空").await;
    refused(p, "/job/add", with("status", json!(0)), "任务状态不能为空").await;
    refused(p, "/job/add", with("group", json!("nobody")), "任务集群不存在").await;
    let job = done(p, "/job/add", form.clone(), "创建成功").await;
    let id = job["id"].as_str().expect("text").to_owned();
    assert!(id.len() == 20 && id.bytes().all(|b| b.is_ascii_digit()), "{id}");
    let expected = json!({"id": id, "name": "账单", "group": "trade", "cron": "0 0 2 * * *", "status": 1,
        "target": "bill", "params": "a", "mobile": "123", "remark": "r", "version": 1});
    let mut comparable = job.clone();
    if comparable["cron"] == "0 0 2 * * ?" {
        comparable["cron"] = json!("0 0 2 * * *");
    }
    assert_eq!(comparable, expected);
    assert_eq!(done(p, "/job/list", json!({"name": ""}), "查询成成功").await, json!([job]));
    assert_eq!(done(p, "/job/list", json!({"name": "other"}), "查询成成功").await, json!([]));
    assert_eq!(done(p, "/job/list", json!({"id": id}), "查询成成功").await, json!([job]));

    let mut row = job.clone();
    row["remark"] = json!("changed");
    row["status"] = json!("2");
    let edited = done(p, "/job/edit", row.clone(), "修改成功").await;
    assert_eq!(
        (&edited["version"], &edited["status"], &edited["remark"]),
        (&json!(2), &json!(2), &json!("changed"))
    );
    row["id"] = json!("");
    refused(p, "/job/edit", row.clone(), "此任务记录不存在").await;
    row["id"] = json!("12345678901234567890");
    refused(p, "/job/edit", row, "此任务配置记录不存在").await;
    assert_eq!(done(p, "/plan/list", json!({}), "").await, json!([]), "stopped jobs are not in the plan");
    let mut row = edited;
    row["status"] = json!(1);
    done(p, "/job/edit", row, "修改成功").await;
    let plan = done(p, "/plan/list", json!({}), "").await;
    assert_eq!((&plan[0]["id"], &plan[0]["status"]), (&json!(id), &json!(0)));
    assert!(plan[0]["nextTime"].as_str().is_some_and(|at| at.ends_with("T02:00:00+00:00")), "{plan}");
    assert_eq!(plan[0].as_object().map(serde_json::Map::len), Some(12), "{plan}");

    refused(p, "/job/execute", json!({}), "非法的参数").await;
    refused(p, "/job/execute", json!({"id": "1"}), "此任务配置不存在").await;
    refused(p, "/job/execute", json!({"id": id}), "没有找到此要执行的任务作业节点").await;
    refused(p, "/client/list", json!({}), "请选择任务集群").await;
    refused(p, "/client/list", json!({"group": "nobody"}), "此任务集群不存在").await;
    assert_eq!(done(p, "/client/list", json!({"group": "trade"}), "查询成成功").await, json!([]));
    let nodes = done(p, "/node/list", json!({}), "查询成成功").await;
    assert_eq!((nodes.as_array().map(Vec::len), &nodes[0]["state"]), (Some(1), &json!(1)));

    refused(p, "/job/delete", json!({}), "此任务记录不存在").await;
    refused(p, "/job/delete", json!({"id": "1"}), "此任务配置记录不存在").await;
    let echoed = done(p, "/job/delete", json!({"id": id}), "删除成功").await;
    assert_eq!(echoed["id"], json!(id));
    assert_eq!(done(p, "/job/list", json!({}), "查询成成功").await, json!([]));
}

/// A worker of the original registers a bare name, takes its snapshot, and writes what it did without asking.
#[tokio::test]
async fn its_workers_go_on_and_their_runs_are_listed() {
    let Some(portal) = Portal::open(&[]).await else { return };
    let p = &portal;
    done(p, "/group/add", json!({"name": "trade", "remark": "x"}), "添加成功").await;
    let etcd = forest_tests::services::shared_etcd().await.expect("etcd");
    let gateway = etcd.gateway().await;
    let root = &portal.key_root;
    let registration = format!("{root}/client/trade/clients/10.0.0.7");
    gateway.put(&registration, "10.0.0.7").await.expect("stored");
    eventually("the worker is known", Duration::from_secs(20), async || {
        call(p, "/client/list", &json!({"group": "trade"})).await.body["data"]
            .as_array()
            .is_some_and(|c| c.len() == 1)
    })
    .await;
    let clients = done(p, "/client/list", json!({"group": "trade"}), "查询成成功").await;
    assert_eq!(clients, json!([{"name": "10.0.0.7", "group": "trade", "path": registration}]));
    let form = json!({"name": "j", "group": "trade", "cron": "0 0 0 1 1 *", "target": "t", "status": 2});
    let job = done(p, "/job/add", form, "创建成功").await;
    done(p, "/job/execute", json!({"id": job["id"]}), "手动执行任务请求已提交").await;
    let list = async |filter: Value| call(p, "/snapshot/list", &filter).await.body["data"].clone();
    eventually("a run is handed over", Duration::from_secs(20), async || {
        list(json!({})).await.as_array().is_some_and(|runs| runs.len() == 1)
    })
    .await;
    let given = list(json!({"group": "trade", "ip": "10.0.0.7"})).await[0].clone();
    let id = given["id"].as_str().expect("text").to_owned();
    assert_eq!(given.as_object().map(serde_json::Map::len), Some(11), "{given}");
    for filter in [json!({"id": id}), json!({"ip": "10.0.0.7"}), json!({"id": id, "group": "", "ip": ""})] {
        assert_eq!(list(filter.clone()).await[0]["id"], json!(id), "{filter}");
    }
    for filter in [json!({"id": "x"}), json!({"ip": "other"}), json!({"group": "other"})] {
        assert_eq!(list(filter.clone()).await, json!([]), "{filter}");
    }

    let key = format!("{root}/client/snapshot/trade/10.0.0.7/{id}");
    gateway.delete(&key).await.expect("taken");
    let mut record = given.clone();
    for (name, value) in [
        ("startTime", json!("2027-01-01 00:00:00")),
        ("finishTime", json!("2027-01-01 00:00:02")),
        ("times", json!(2)),
        ("status", json!(2)),
        ("result", json!("done")),
    ] {
        record[name] = value;
    }
    let key = format!("{root}/client/execute/snapshot/trade/10.0.0.7/{id}");
    gateway.put(&key, &record.to_string()).await.expect("written");
    let page = async |filter: Value| call(p, "/execute/snapshot/list", &filter).await.body["data"].clone();
    eventually("its run is in the history", Duration::from_secs(20), async || {
        page(json!({"id": id, "status": ""})).await["totalCount"] == 1
    })
    .await;
    let found = page(
        json!({"pageNo": 1, "pageSize": 20, "id": id, "group": "trade", "ip": "10.0.0.7", "status": "2"}),
    )
    .await;
    assert_eq!((&found["totalPage"], &found["totalCount"]), (&json!(1), &json!(1)));
    let run = &found["list"][0];
    assert_eq!(
        (&run["status"], &run["times"], &run["result"]),
        (&json!(2), &json!(2), &json!("done")),
        "{run}"
    );
    assert_eq!(run.as_object().map(serde_json::Map::len), Some(16), "{run}");
    let past = page(json!({"pageNo": 9, "id": id})).await;
    assert_eq!((&past["list"], &past["totalCount"]), (&json!([]), &json!(1)));
    assert_eq!(page(json!({"status": 77})).await["totalCount"], 0);

    // Another one can be taken back before the worker takes it.
    done(p, "/job/execute", json!({"id": job["id"]}), "手动执行任务请求已提交").await;
    eventually("another run is handed over", Duration::from_secs(20), async || {
        list(json!({})).await.as_array().is_some_and(|runs| runs.len() == 1)
    })
    .await;
    let second = list(json!({})).await[0].clone();
    refused(p, "/snapshot/delete", json!({"id": second["id"]}), "非法的请求参数").await;
    done(p, "/snapshot/delete", second.clone(), "删除成功").await;
    eventually("it is gone", Duration::from_secs(20), async || list(json!({})).await == json!([])).await;
    let kept = gateway.list(&format!("{root}/client/snapshot/")).await.expect("listed");
    assert!(kept.is_empty(), "{kept:?}");
}

#[tokio::test]
async fn whatever_is_sent_is_answered_in_its_shape() {
    let Some(portal) = Portal::open(&[]).await else { return };
    let paths = [
        "/job/list",
        "/job/add",
        "/job/edit",
        "/job/delete",
        "/job/execute",
        "/group/add",
        "/group/list",
        "/node/list",
        "/plan/list",
        "/client/list",
        "/snapshot/list",
        "/snapshot/delete",
        "/execute/snapshot/list",
    ];
    let fields = [
        "id", "name", "group", "cron", "status", "target", "params", "mobile", "remark", "ip", "pageNo",
        "pageSize", "jobId", "version",
    ];
    let values = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1.5),
        json!(1e300),
        json!(""),
        json!("x"),
        json!("组/\u{0}"),
        json!([]),
        json!({}),
        json!("9".repeat(30)),
    ];
    for path in paths {
        for body in ["", "null", "[]", "{", "\"x\"", "{}", "\u{feff}{}"] {
            assert_envelope(&send(portal.request(Method::POST, path).body(body)).await);
        }
        for value in &values {
            let all: serde_json::Map<_, _> =
                fields.iter().map(|field| ((*field).to_owned(), value.clone())).collect();
            assert_envelope(&call(&portal, path, &Value::Object(all)).await);
        }
    }
    for _ in 0..150 {
        let path = paths[fastrand::usize(..paths.len())];
        let chosen = fields.iter().filter(|_| fastrand::bool());
        let body: serde_json::Map<_, _> = chosen
            .map(|field| ((*field).to_owned(), values[fastrand::usize(..values.len())].clone()))
            .collect();
        assert_envelope(&call(&portal, path, &Value::Object(body)).await);
    }
}

#[tokio::test]
async fn who_may_use_it_is_a_setting() {
    let Some(off) = Portal::open(&["--legacy-api", "off"]).await else { return };
    assert_eq!(call(&off, "/job/list", &json!({})).await.status, StatusCode::NOT_FOUND);
    let Some(open) = Portal::open(&["--legacy-api", "open"]).await else { return };
    let page = open.request(Method::POST, "/job/list").header("origin", "http://console.example").body("{}");
    let answer = send(page).await;
    assert_eq!((&answer.body["code"], answer.header("access-control-allow-origin")), (&json!(0), "*"));
    let asked =
        send(open.request(Method::OPTIONS, "/job/add").header("origin", "http://console.example")).await;
    assert_eq!(asked.status, StatusCode::NO_CONTENT);
    assert_eq!(asked.header("access-control-allow-methods"), "GET,HEAD,PUT,PATCH,POST,DELETE");

    let Some(own) = Portal::with_login().await else { return };
    let anonymous = send(without_token(&own, Method::POST, "/job/list").body("{}")).await;
    assert_envelope(&anonymous);
    assert_eq!(anonymous.body["message"], "未登录或登录已过期");
    let foreign =
        own.request(Method::POST, "/job/list").header("origin", "http://console.example").body("{}");
    let foreign = send(foreign).await;
    assert_envelope(&foreign);
    assert_eq!((&foreign.body["code"], foreign.header("access-control-allow-origin")), (&json!(-1), ""));
    let viewer = own.token_for(json!({"everywhere": "viewer"})).await;
    let job = own.job().await;
    let denied = without_token(&own, Method::POST, "/job/delete")
        .bearer_auth(viewer)
        .body(json!({"id": job}).to_string());
    let denied = send(denied).await;
    assert_envelope(&denied);
    assert!(denied.body["message"].as_str().is_some_and(|text| text.starts_with("权限不足")), "{denied:?}");
}
