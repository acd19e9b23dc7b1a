//! `/jobs` and `/cron`.

use axum::Json;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use forest_proto::RunId;
use forest_proto::admin::v1 as api;
use forest_proto::record::{DstFold, DstGap, Job};
use forest_proto::time::Instant;
use http::header::{ETAG, IF_MATCH, IF_NONE_MATCH, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::paging::{Paged, Paging};
use crate::admin::{Admin, FireQuery, JobFilter, StoredJob};
use crate::http::body::{Body, Params, Text};
use crate::http::caller::Acting;
use crate::http::problem::Problem;

/// A job as it is stored, and what follows from it. Its ETag is its version.
#[derive(Serialize, ToSchema)]
pub(super) struct JobView {
    #[serde(flatten)]
    job: Job,
    /// etcd's mod revision.
    revision: i64,
    #[schema(value_type = Option<String>, format = DateTime)]
    next_fire_at: Option<Instant>,
    /// What is worth knowing, such as why it does not fire.
    notes: Vec<String>,
}

impl From<StoredJob> for JobView {
    fn from(stored: StoredJob) -> Self {
        let notes = stored.problem.map(|problem| format!("it does not fire: {problem}"));
        Self {
            job: stored.job,
            revision: stored.revision,
            next_fire_at: stored.next_fire_ms.map(Instant::from_ms),
            notes: notes.into_iter().collect(),
        }
    }
}

impl IntoResponse for JobView {
    fn into_response(self) -> Response {
        let etag = format!("\"{}\"", self.job.version);
        let mut response = Json(self).into_response();
        response.headers_mut().extend(HeaderValue::from_str(&etag).ok().map(|etag| (ETAG, etag)));
        response
    }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    #[serde(default)]
    group: String,
    /// Exactly this name.
    #[serde(default)]
    name: String,
    enabled: Option<bool>,
}

/// Jobs in the order of their ids.
#[utoipa::path(get, path = "/jobs", tag = "jobs", params(Wanted, Paging),
    responses((status = 200, body = Paged<JobView>), (status = "default", body = Problem)))]
pub(super) async fn list(
    Acting(admin): Acting,
    Params(wanted): Params<Wanted>,
    Params(paging): Params<Paging>,
) -> Result<Json<Paged<JobView>>, Problem> {
    let filter = JobFilter { group: wanted.group, name: wanted.name, enabled: wanted.enabled };
    Ok(Json(Paged::of(admin.jobs(filter, paging.into()).await?)))
}

/// Adds a job. Required are `name`, `group`, `target` and what makes it fire: `cron` or `trigger`.
#[utoipa::path(post, path = "/jobs", tag = "jobs",
    request_body(content = Job, example = json!({"name": "bill", "group": "trade", "target": "bill", "cron": "0 30 2 * * *",
        "time_zone": "Asia/Shanghai", "max_attempts": 3, "overlap": "queue_one", "remark": "each night"})),
    responses((status = 201, body = JobView), (status = "default", body = Problem)))]
pub(super) async fn add(Acting(admin): Acting, Text(document): Text) -> Result<Response, Problem> {
    let added = JobView::from(admin.add_job(&document).await?);
    let location = HeaderValue::from_str(&format!("/api/v1/jobs/{}", added.job.id)).ok();
    let mut response = added.into_response();
    *response.status_mut() = StatusCode::CREATED;
    response.headers_mut().extend(location.map(|location| (LOCATION, location)));
    Ok(response)
}

/// A job.
#[utoipa::path(get, path = "/jobs/{id}", tag = "jobs",
    params(("id" = String, Path), ("If-None-Match" = Option<String>, Header, description = "answers 304 if it is still this version")),
    responses((status = 200, body = JobView), (status = 304), (status = "default", body = Problem)))]
pub(super) async fn get(
    Acting(admin): Acting,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let job = JobView::from(admin.job(&id).await?);
    let known = version(&headers, &IF_NONE_MATCH).unwrap_or(None);
    if known == Some(job.job.version) {
        return Ok(StatusCode::NOT_MODIFIED.into_response());
    }
    Ok(job.into_response())
}

/// Replaces a job: what is not given gets its default.
#[utoipa::path(put, path = "/jobs/{id}", tag = "jobs",
    request_body(content = Job, example = json!({"name": "bill", "group": "trade", "target": "bill", "cron": "@every 90s"})),
    params(("id" = String, Path), ("If-Match" = Option<String>, Header, pattern = r#"^("[1-9][0-9]{0,8}"|\*)$"#, description = "refused with 412 if the version is another")),
    responses((status = 200, body = JobView), (status = "default", body = Problem)))]
pub(super) async fn replace(
    Acting(admin): Acting,
    Path(id): Path<String>,
    headers: HeaderMap,
    Body(mut fields): Body<Map<String, Value>>,
) -> Result<JobView, Problem> {
    for ours in SET_BY_SERVER {
        fields.remove(ours);
    }
    for name in Job::FIELDS.into_iter().filter(|name| !SET_BY_SERVER.contains(name) && *name != "status") {
        fields.entry(name).or_insert(Value::Null);
    }
    edit(&admin, &id, &headers, &Value::Object(fields).to_string()).await
}

/// What `GET` shows and only the server sets: a document that was read can be sent back.
const SET_BY_SERVER: [&str; 8] =
    ["id", "version", "effective_after", "created_at", "updated_at", "revision", "next_fire_at", "notes"];

/// Changes the given fields; `null` is back to the default. A changed schedule only counts from now on.
#[utoipa::path(patch, path = "/jobs/{id}", tag = "jobs",
    request_body(content = Object, content_type = "application/merge-patch+json", example = json!({"remark": "new", "mobile": null})),
    params(("id" = String, Path), ("If-Match" = Option<String>, Header, pattern = r#"^("[1-9][0-9]{0,8}"|\*)$"#, description = "refused with 412 if the version is another")),
    responses((status = 200, body = JobView), (status = "default", body = Problem)))]
pub(super) async fn change(
    Acting(admin): Acting,
    Path(id): Path<String>,
    headers: HeaderMap,
    Text(patch): Text,
) -> Result<JobView, Problem> {
    edit(&admin, &id, &headers, &patch).await
}

async fn edit(admin: &Admin, id: &str, headers: &HeaderMap, patch: &str) -> Result<JobView, Problem> {
    let wanted = version(headers, &IF_MATCH)?;
    let edited = admin.edit_job(id, patch, wanted.unwrap_or(0)).await;
    edited.map(JobView::from).map_err(|error| lost_race(error.into(), wanted))
}

/// Deletes a job. Runs not yet claimed are cancelled; running ones finish.
#[utoipa::path(delete, path = "/jobs/{id}", tag = "jobs",
    params(("id" = String, Path), ("If-Match" = Option<String>, Header, pattern = r#"^("[1-9][0-9]{0,8}"|\*)$"#, description = "refused with 412 if the version is another")),
    responses((status = 204), (status = "default", body = Problem)))]
pub(super) async fn delete(
    Acting(admin): Acting,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let wanted = version(&headers, &IF_MATCH)?;
    let deleted = admin.delete_job(&id, wanted.unwrap_or(0)).await;
    deleted.map_err(|error| lost_race(error.into(), wanted))?;
    Ok(StatusCode::NO_CONTENT)
}

/// 412 for a version that was asked for, 409 for a race that nobody expected.
fn lost_race(problem: Problem, wanted: Option<u64>) -> Problem {
    if wanted.is_some() && problem.is_conflict() { problem.precondition() } else { problem }
}

/// The version in a header; `*` is any.
fn version(headers: &HeaderMap, name: &HeaderName) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let version = text.trim_start_matches("W/").trim_matches('"').parse().ok().filter(|version| *version > 0);
    version
        .map(Some)
        .ok_or_else(|| Problem::field(name.as_str(), "must be the ETag of a job, such as \"3\", or *"))
}

#[derive(Deserialize, Default, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RunRequest {
    /// In place of the job's.
    params: Option<String>,
    /// The only client that may take it.
    #[serde(default)]
    client: String,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Started {
    /// See `/executions/{id}`.
    run_id: String,
}

impl Started {
    pub(super) fn new(run: &RunId) -> Self {
        Self { run_id: run.to_string() }
    }
}

/// The empty text if there is none.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<String, Problem> {
    let key = headers.get("idempotency-key").map(|value| String::from_utf8_lossy(value.as_bytes()));
    match key.as_deref() {
        Some("") => {
            Err(Problem::field("idempotency_key", "is empty: say something, or leave the header out"))
        }
        key => Ok(key.unwrap_or_default().to_owned()),
    }
}

/// Asks for a run now, also of a disabled job. The same Idempotency-Key gives the same run for an hour.
#[utoipa::path(post, path = "/jobs/{id}/run", tag = "jobs", request_body = RunRequest,
    params(("id" = String, Path), ("Idempotency-Key" = Option<String>, Header, pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")),
    responses((status = 202, body = Started), (status = "default", body = Problem)))]
pub(super) async fn run(
    Acting(admin): Acting,
    Path(id): Path<String>,
    headers: HeaderMap,
    Body(request): Body<RunRequest>,
) -> Result<(StatusCode, Json<Started>), Problem> {
    let key = idempotency_key(&headers)?;
    let run = admin.run_job(&id, request.params, &key, &request.client).await?;
    Ok((StatusCode::ACCEPTED, Json(Started::new(&run))))
}

/// Enables a job. What was due while it was disabled is not caught up on.
#[utoipa::path(post, path = "/jobs/{id}/enable", tag = "jobs", params(("id" = String, Path)),
    responses((status = 200, body = JobView), (status = "default", body = Problem)))]
pub(super) async fn enable(Acting(admin): Acting, Path(id): Path<String>) -> Result<JobView, Problem> {
    Ok(admin.set_enabled(&id, true, "").await?.into())
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Pause {
    /// Why.
    #[serde(default)]
    #[schema(max_length = 255, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$")]
    reason: String,
}

/// Disables a job.
#[utoipa::path(post, path = "/jobs/{id}/disable", tag = "jobs", params(("id" = String, Path)),
    request_body = Pause,
    responses((status = 200, body = JobView), (status = "default", body = Problem)))]
pub(super) async fn disable(
    Acting(admin): Acting,
    Path(id): Path<String>,
    Body(pause): Body<Pause>,
) -> Result<JobView, Problem> {
    Ok(admin.set_enabled(&id, false, &pause.reason).await?.into())
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct HowMany {
    /// At most 100: 5 unless given, or 0.
    #[param(minimum = 0, maximum = 100)]
    count: Option<u32>,
    /// Fires after this instant; now unless given.
    #[param(value_type = Option<String>, format = DateTime)]
    after: Option<Instant>,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Expression {
    /// Such as `0 0 2 * * *` or `@every 90s`.
    cron: String,
    /// IANA name; the server's zone unless given.
    #[serde(default)]
    time_zone: String,
    /// `next_valid` (default) or `skip`.
    #[serde(default)]
    #[param(value_type = Option<DstGap>)]
    dst_gap: DstGap,
    /// `first` (default) or `both`.
    #[serde(default)]
    #[param(value_type = Option<DstFold>)]
    dst_fold: DstFold,
    /// Names of calendars, separated by commas.
    #[serde(default)]
    calendars: String,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Fires {
    items: Vec<api::Fire>,
    /// As it was understood.
    cron: String,
    time_zone: String,
}

/// The next fires of a stored job.
#[utoipa::path(get, path = "/jobs/{id}/next", tag = "jobs", params(("id" = String, Path), HowMany),
    responses((status = 200, body = Fires), (status = "default", body = Problem)))]
pub(super) async fn next(
    Acting(admin): Acting,
    Path(id): Path<String>,
    Params(how_many): Params<HowMany>,
) -> Result<Json<Fires>, Problem> {
    fires(&admin, &id, FireQuery::default(), how_many).await
}

/// The next fires of an expression, before it is saved.
#[utoipa::path(get, path = "/cron/next", tag = "jobs", params(Expression, HowMany),
    responses((status = 200, body = Fires), (status = "default", body = Problem)))]
pub(super) async fn cron_next(
    Acting(admin): Acting,
    Params(expression): Params<Expression>,
    Params(how_many): Params<HowMany>,
) -> Result<Json<Fires>, Problem> {
    let names = expression.calendars.split(',').map(str::trim).filter(|name| !name.is_empty());
    let query = FireQuery {
        calendars: names.map(str::to_owned).collect(),
        cron: expression.cron,
        time_zone: expression.time_zone,
        gap: expression.dst_gap,
        fold: expression.dst_fold,
        ..FireQuery::default()
    };
    fires(&admin, "", query, how_many).await
}

async fn fires(admin: &Admin, id: &str, query: FireQuery, how_many: HowMany) -> Result<Json<Fires>, Problem> {
    let query = FireQuery { count: how_many.count.unwrap_or(0), after: how_many.after, ..query };
    let (fires, query) = admin.next_fires(id, query).await?;
    let items = fires.into_iter().map(Into::into).collect();
    Ok(Json(Fires { items, cron: query.cron, time_zone: query.time_zone }))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct When {
    /// The fire time.
    #[param(value_type = String, format = DateTime)]
    at: Instant,
}

/// What became of one fire of a job, and why.
#[utoipa::path(get, path = "/jobs/{id}/explain", tag = "jobs", params(("id" = String, Path), When),
    responses((status = 200, body = api::ExplainFireResponse), (status = "default", body = Problem)))]
pub(super) async fn explain(
    Acting(admin): Acting,
    Path(id): Path<String>,
    Params(when): Params<When>,
) -> Result<Json<api::ExplainFireResponse>, Problem> {
    Ok(Json(admin.explain(&id, when.at).await?.into()))
}
