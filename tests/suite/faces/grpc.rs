//! What is asked for over gRPC.

use std::collections::HashMap;

use forest_proto::admin::v1 as api;
use forest_proto::admin::v1::admin_client::AdminClient;
use tonic::Status;
use tonic::transport::Channel;
use tonic_types::StatusExt as _;

use super::ask::{Ask, Said};

/// `None`: the messages cannot say it.
pub(super) async fn ask(mut client: AdminClient<Channel>, ask: &Ask) -> Option<Said> {
    if ask.with.contains_key("colour") {
        return None;
    }
    let (on, text) = (ask.on.clone(), |field: &str| ask.text(field));
    macro_rules! call {
        ($call:ident, $request:expr) => {
            client.$call($request).await.map(drop)
        };
    }
    macro_rules! page {
        ($call:ident, $request:ident) => {{
            let (page_size, page_token) = (ask.number("page_size")?, text("page_token")?);
            call!($call, api::$request { page_size, page_token })
        }};
    }
    let answer = match ask.verb {
        "group add" => call!(
            add_group,
            api::AddGroupRequest {
                name: on,
                remark: text("remark")?,
                max_in_flight: ask.optional_number("max_in_flight")?,
                dispatches_per_second: ask.optional_number("dispatches_per_second")?,
            }
        ),
        "group edit" => call!(
            edit_group,
            api::EditGroupRequest {
                name: on,
                remark: ask.optional_text("remark")?,
                max_in_flight: ask.optional_number("max_in_flight")?,
                dispatches_per_second: ask.optional_number("dispatches_per_second")?,
            }
        ),
        "group get" => call!(get_group, api::GetGroupRequest { name: on }),
        "group delete" => call!(delete_group, api::DeleteGroupRequest { name: on }),
        "group list" => page!(list_groups, ListGroupsRequest),
        "job add" => call!(add_job, api::AddJobRequest { document: ask.document() }),
        "job edit" => {
            let mut patch = ask.with.clone();
            patch.remove("VERSION");
            let (patch, version) = (serde_json::Value::Object(patch).to_string(), ask.number("VERSION")?);
            call!(edit_job, api::EditJobRequest { id: on, patch, version })
        }
        "job get" => call!(get_job, api::GetJobRequest { id: on }),
        "job delete" => call!(delete_job, api::DeleteJobRequest { id: on, version: ask.number("VERSION")? }),
        "job enable" | "job disable" => call!(
            set_job_enabled,
            api::SetJobEnabledRequest { id: on, enabled: ask.verb == "job enable", reason: text("reason")? }
        ),
        "job run" => call!(
            run_job,
            api::RunJobRequest {
                id: on,
                params: ask.optional_text("params")?,
                idempotency_key: text("KEY")?,
                client: text("client")?,
            }
        ),
        "job next" => call!(
            next_fires,
            api::NextFiresRequest { id: on, count: ask.number("count")?, ..Default::default() }
        ),
        "job explain" => call!(explain_fire, api::ExplainFireRequest { id: on, at: ask.instant("at")? }),
        "job list" => call!(
            list_jobs,
            api::ListJobsRequest {
                page_size: ask.number("page_size")?,
                page_token: text("page_token")?,
                ..Default::default()
            }
        ),
        "cron next" => call!(
            next_fires,
            api::NextFiresRequest {
                cron: on,
                time_zone: text("time_zone")?,
                dst_gap: text("dst_gap")?,
                dst_fold: text("dst_fold")?,
                calendars: text("calendars")?
                    .split(',')
                    .filter(|c| !c.is_empty())
                    .map(str::to_owned)
                    .collect(),
                count: ask.number("count")?,
                ..Default::default()
            }
        ),
        "backfill start" => call!(
            start_backfill,
            api::StartBackfillRequest {
                job_id: on,
                from: ask.instant("from")?,
                to: ask.instant("to")?,
                max_fires: ask.number("max_fires")?,
                params: ask.optional_text("params")?,
                ..Default::default()
            }
        ),
        "backfill cancel" => call!(cancel_backfill, api::CancelBackfillRequest { job_id: on }),
        "backfill list" => page!(list_backfills, ListBackfillsRequest),
        "calendar set" => call!(
            set_calendar,
            api::SetCalendarRequest {
                name: on,
                remark: ask.optional_text("remark")?,
                days: text("days")?,
                version: ask.number("version")?,
            }
        ),
        "calendar get" => call!(get_calendar, api::GetCalendarRequest { name: on }),
        "calendar delete" => call!(delete_calendar, api::DeleteCalendarRequest { name: on }),
        "calendar list" => page!(list_calendars, ListCalendarsRequest),
        "run get" => call!(get_run, api::GetRunRequest { id: on }),
        "run cancel" => call!(cancel_run, api::CancelRunRequest { id: on }),
        "run list" => call!(
            list_runs,
            api::ListRunsRequest {
                page_size: ask.number("page_size")?,
                page_token: text("page_token")?,
                outcome: text("outcome")?,
                ..Default::default()
            }
        ),
        "plan" => call!(
            list_plan,
            api::ListPlanRequest { page_size: ask.number("page_size")?, ..Default::default() }
        ),
        "client list" => call!(
            list_clients,
            api::ListClientsRequest {
                page_size: ask.number("page_size")?,
                page_token: text("page_token")?,
                ..Default::default()
            }
        ),
        "pending list" => call!(
            list_pending,
            api::ListPendingRequest {
                page_size: ask.number("page_size")?,
                page_token: text("page_token")?,
                ..Default::default()
            }
        ),
        "user add" => call!(
            add_user,
            api::AddUserRequest { name: on, password: text("password")?, grants: Some(grants(ask)?) }
        ),
        "user edit" => call!(
            edit_user,
            api::EditUserRequest {
                name: on,
                password: ask.optional_text("password")?,
                grants: ask
                    .with
                    .contains_key("grants")
                    .then(|| grants(ask))
                    .map_or(Some(None), |g| g.map(Some))?,
                disabled: None,
            }
        ),
        "user delete" => call!(delete_user, api::DeleteUserRequest { name: on }),
        "user list" => page!(list_users, ListUsersRequest),
        "token add" => call!(
            add_token,
            api::AddTokenRequest { name: on, grants: Some(grants(ask)?), lives_ms: ask.number("lives_ms")? }
        ),
        "token revoke" => call!(revoke_token, api::RevokeTokenRequest { id: on }),
        "token list" => page!(list_tokens, ListTokensRequest),
        "audit list" => call!(
            list_audit,
            api::ListAuditRequest {
                page_size: ask.number("page_size")?,
                group: text("group")?,
                ..Default::default()
            }
        ),
        verb => panic!("gRPC knows no {verb}: say what it is"),
    };
    Some(answer.map_or_else(|status| said(&status), |()| Said::default()))
}

fn grants(ask: &Ask) -> Option<api::Grants> {
    let Some(grants) = ask.with.get("grants") else { return Some(api::Grants::default()) };
    let mut groups = HashMap::new();
    for (group, role) in grants.get("groups").and_then(|groups| groups.as_object()).into_iter().flatten() {
        groups.insert(group.clone(), role.as_str()?.to_owned());
    }
    let everywhere = grants.get("everywhere").map_or(Some(""), |role| role.as_str())?.to_owned();
    Some(api::Grants { everywhere, groups: groups.into_iter().collect() })
}

fn said(status: &Status) -> Said {
    let blamed = status.get_details_bad_request().and_then(|bad| bad.field_violations.into_iter().next());
    Said {
        refused: true,
        code: status.get_details_error_info().map(|info| info.reason),
        reason: Some(blamed.as_ref().map_or_else(|| status.message().to_owned(), |b| b.description.clone())),
        field: blamed.map(|blamed| blamed.field),
        chinese: status.get_details_localized_message().map(|said| said.message),
        text: status.message().to_owned(),
    }
}
