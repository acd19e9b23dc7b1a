//! What there is at the moment.

use std::time::Duration;

use axum::Json;
use forest_proto::admin::v1 as api;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::paging::{Paged, Paging};
use crate::grpc::planned_fire;
use crate::http::body::{Body, Params};
use crate::http::caller::Acting;
use crate::http::problem::Problem;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct OfGroup {
    /// Absent: all that the caller sees.
    #[serde(default)]
    group: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StepDown {
    /// Only if this node leads. Absent: whichever does.
    #[serde(default)]
    node: String,
    /// For so long it leaves the leadership to other nodes, if there are any and none takes it before. 10,000 unless
    /// given, at most 600,000.
    hold_ms: Option<u64>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Pending {
    items: Vec<api::Run>,
    /// Where the next page begins; empty at the end.
    next_page_token: String,
    /// What runs wait for, by group and target; on the first page only.
    waiting: Vec<api::Waiting>,
}

/// The cluster in numbers.
#[utoipa::path(get, path = "/cluster", tag = "cluster",
    responses((status = 200, body = api::Cluster), (status = "default", body = Problem)))]
pub(super) async fn cluster(Acting(admin): Acting) -> Result<Json<api::Cluster>, Problem> {
    Ok(Json(admin.cluster().await?.into()))
}

/// The nodes, and which of them leads.
#[utoipa::path(get, path = "/nodes", tag = "cluster",
    responses((status = 200, body = Paged<api::Node>), (status = "default", body = Problem)))]
pub(super) async fn nodes(Acting(admin): Acting) -> Result<Json<Paged<api::Node>>, Problem> {
    Ok(Json(Paged::all(admin.nodes().await?.into_iter().map(Into::into).collect())))
}

/// Asks the leader to give up the leadership in good order, and waits for the next one.
#[utoipa::path(post, path = "/nodes/step-down", tag = "cluster", request_body = StepDown,
    responses((status = 200, body = api::StepDownResponse), (status = "default", body = Problem)))]
pub(super) async fn step_down(
    Acting(admin): Acting,
    Body(asked): Body<StepDown>,
) -> Result<Json<api::StepDownResponse>, Problem> {
    Ok(Json(admin.step_down(&asked.node, asked.hold_ms.map(Duration::from_millis)).await?.into()))
}

/// The registered clients.
#[utoipa::path(get, path = "/clients", tag = "cluster", params(OfGroup, Paging),
    responses((status = 200, body = Paged<api::Client>), (status = "default", body = Problem)))]
pub(super) async fn clients(
    Acting(admin): Acting,
    Params(of): Params<OfGroup>,
    Params(paging): Params<Paging>,
) -> Result<Json<Paged<api::Client>>, Problem> {
    Ok(Json(Paged::of(admin.clients(&of.group, paging.into()).await?)))
}

/// The enabled jobs with their next fire times, soonest first. No further pages.
#[utoipa::path(get, path = "/plan", tag = "cluster", params(OfGroup, Paging),
    responses((status = 200, body = Paged<api::PlannedFire>), (status = "default", body = Problem)))]
pub(super) async fn plan(
    Acting(admin): Acting,
    Params(of): Params<OfGroup>,
    Params(paging): Params<Paging>,
) -> Result<Json<Paged<api::PlannedFire>>, Problem> {
    let plan = admin.plan(&of.group, paging.size()).await?;
    Ok(Json(Paged::all(plan.into_iter().map(planned_fire).collect())))
}

/// Runs that wait for a client, oldest first, and what they wait for.
#[utoipa::path(get, path = "/pending", tag = "cluster", params(OfGroup, Paging),
    responses((status = 200, body = Pending), (status = "default", body = Problem)))]
pub(super) async fn pending(
    Acting(admin): Acting,
    Params(of): Params<OfGroup>,
    Params(paging): Params<Paging>,
) -> Result<Json<Pending>, Problem> {
    let waiting = if paging.is_first() { admin.waiting(&of.group).await? } else { Vec::new() };
    let page = admin.pending(&of.group, paging.into()).await?;
    Ok(Json(Pending {
        items: page.items.into_iter().map(Into::into).collect(),
        next_page_token: page.next,
        waiting: waiting.into_iter().map(Into::into).collect(),
    }))
}
