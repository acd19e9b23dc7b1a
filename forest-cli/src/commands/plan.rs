//! `plan`: the next fires of all enabled jobs.

use forest_proto::admin::v1::{ListPlanRequest, PlannedFire};
use serde_json::{Value, json};

use super::Context;
use crate::args::Plan;
use crate::connect::Client;
use crate::error::Failure;
use crate::output::{List, instant_json};
use crate::paging::Listed;

pub(super) async fn show(context: &mut Context<'_>, plan: &Plan) -> Result<(), Failure> {
    let request = ListPlanRequest { page_size: plan.limit, group: plan.group.clone() };
    let call = async |mut client: Client| client.list_plan(request.clone()).await;
    let planned = context.api.read("list the plan", call).await?;
    let view = &context.view;
    let row = |fire: &PlannedFire| {
        let text = [&fire.job_id, &fire.job_name, &fire.group, &fire.cron];
        std::iter::once(view.second(fire.at)).chain(text.into_iter().cloned()).collect()
    };
    let list = List {
        id: &|fire: &PlannedFire| fire.job_id.clone(),
        header: &["FIRES", "JOB", "NAME", "GROUP", "CRON"],
        narrow: 5,
        row: &row,
        json: &to_json,
    };
    view.list(context.console, "fires", &Listed::whole(planned.fires), &list)
}

fn to_json(fire: &PlannedFire) -> Value {
    json!({
        "at": instant_json(fire.at),
        "job_id": fire.job_id,
        "job_name": fire.job_name,
        "group": fire.group,
        "cron": fire.cron,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::fake::Fake;

    #[tokio::test]
    async fn the_plan_in_the_zone_asked_for() {
        let fake = Fake::start().await;
        let plan = fake.cli(&["plan", "--time", "Asia/Shanghai"]).await;
        let expected = "\
FIRES                   JOB   NAME  GROUP  CRON
2026-11-18 19:06:40+08  1001  bill  trade  0 0 2 * * ?
2026-11-18 19:07:40+08  1002  账单  trade  @every 90s
";
        assert_eq!(plan.stdout, expected);
    }

    #[tokio::test]
    async fn json_does_not_depend_on_the_zone() {
        let fake = Fake::start().await;
        let plan = fake.cli(&["plan", "-o", "json", "--time", "Asia/Shanghai"]).await.json();
        let first = json!({
            "at": "2026-11-18T11:06:40.000Z",
            "job_id": "1001",
            "job_name": "bill",
            "group": "trade",
            "cron": "0 0 2 * * ?",
        });
        assert_eq!(plan["fires"][0], first);
        assert_eq!(plan.as_object().map(serde_json::Map::len), Some(1));
    }
}
