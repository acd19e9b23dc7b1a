//! What is asked of the leader: to run a job now, to stop a run.
//!
//! A request is a durable key that the leader consumes in the transaction that does what it says.

use std::time::Duration;

use forest_etcd::Txn;
use forest_proto::record::{Answer, Request, RequestKind, Role, decode, encode};
use forest_proto::time::Instant;
use forest_proto::{ClientId, GroupName, JobId, NameError, RequestKey, RunId};

use super::audit::Deed;
use super::jobs::StoredJob;
use super::write::{Written, random_key};
use super::{Admin, AdminError, validate};

/// How long the answer to a request with an idempotency key is remembered.
const REMEMBER: Duration = Duration::from_secs(3600);

/// What distinguishes a run that is asked for from others of its job.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// In place of the job's.
    pub(super) params: Option<String>,
    /// The only client that may take it.
    pub(super) client: Option<ClientId>,
    /// The run that it repeats, and the time which that was for.
    pub(super) retry_of: Option<RunId>,
    pub(super) scheduled_at: Option<Instant>,
}

impl Admin {
    /// Asks for a run. The same key within an hour gives the same run.
    pub(crate) async fn run_job(
        &self,
        id: &str,
        params: Option<String>,
        key: &str,
        client: &str,
    ) -> Result<RunId, AdminError> {
        params.as_deref().map_or(Ok(()), validate::check_params)?;
        let job = self.job(id).await?;
        self.require_in(Role::Operator, &job.job.group)?;
        let client = self.named_client(&job.job.group, client).await?;
        let wanted = Wanted { params, client, ..Wanted::default() };
        self.ask_run(job, wanted, key, Deed::new("job.run", id, None)).await
    }

    /// Asks for a run in the name of somebody who may; `deed` says what that is called.
    pub(super) async fn ask_run(
        &self,
        before: StoredJob,
        wanted: Wanted,
        key: &str,
        deed: Deed<'_>,
    ) -> Result<RunId, AdminError> {
        let (job, group) = (before.job.id, before.job.group);
        let named = !key.is_empty();
        let wrong = |error: NameError| AdminError::invalid("idempotency_key", error.to_string());
        let key = if named { RequestKey::new(key).map_err(wrong)? } else { random_key() };
        let now = self.now();
        let run = RunId::manual(&job, now, &key);
        let span = self.traces.requesting(&self.inner.clock, &run, self.traceparent);
        let by = self.caller.who.to_string();
        let request = Request {
            kind: RequestKind::Run,
            job: job.clone(),
            run: run.clone(),
            requested_at: now,
            params: wanted.params,
            client: wanted.client,
            by,
            retry_of: wanted.retry_of,
            scheduled_at: wanted.scheduled_at,
            traceparent: self.traceparent,
        };
        let (segment, keys) = (self.segment_of(&job).await?, &self.inner.keys);
        let (request_key, answer_key) = (keys.request(segment, &key), keys.answer(segment, &key));
        let value = encode(&request);
        let mut txn = Txn::new().absent(request_key.clone()).modified(keys.job(&job), before.revision);
        txn = txn.put(request_key.clone(), value.clone()).or_get(request_key);
        if named {
            let lease = self.inner.store.grant(REMEMBER).await?;
            let answer = encode(&Answer { job: job.clone(), run: run.clone() });
            txn = txn.absent(answer_key.clone()).put_leased(answer_key.clone(), answer, lease);
            txn = txn.or_get(answer_key);
        }
        let deed = Deed { group: Some(&group), ..deed.saying("run", run.as_str()) };
        let found = match self.commit(self.audited(txn, deed)).await? {
            Written::Done => {
                self.traces.ended(span, &self.inner.clock);
                return Ok(run);
            }
            Written::Refused(found) => found,
        };
        match found.into_iter().nth(1).flatten().map(|kv| decode::<Answer>(&kv.value)) {
            Some(Ok(earlier)) if earlier.job == job => Ok(earlier.run),
            Some(_) => {
                Err(AdminError::invalid("idempotency_key", "was used for another job: choose a new one"))
            }
            None => Err(AdminError::Conflict { what: format!("job {job}") }),
        }
    }

    /// A client that somebody named. It must be there now; that it may be gone before it takes the run is what
    /// start deadlines are for.
    async fn named_client(&self, group: &GroupName, client: &str) -> Result<Option<ClientId>, AdminError> {
        if client.is_empty() {
            return Ok(None);
        }
        let id = ClientId::new(client).map_err(|error| AdminError::invalid("client", error.to_string()))?;
        let seat = (group.clone(), id.clone());
        if self.read(move |now| now.view.clients.get(&seat).is_some()).await? {
            return Ok(Some(id));
        }
        Err(AdminError::invalid("client", format!("no client {id} is registered in the group {group}")))
    }

    /// Asks for a run to be stopped, or not to be started.
    pub(crate) async fn cancel_run(&self, id: &str) -> Result<(), AdminError> {
        let run: RunId = id.parse().map_err(|_| AdminError::not_found("run", id))?;
        let looked = run.clone();
        let group = self.read(move |now| now.view.runs.get(&looked).map(|run| run.group.clone())).await?;
        let job = JobId::new(run.job()).map_err(|_| AdminError::not_found("run", id))?;
        let group = group.ok_or_else(|| AdminError::not_found("live run", id))?;
        self.require_in(Role::Operator, &group)?;
        let key = RequestKey::new(format!("cancel-{:016x}", fastrand::u64(..)));
        let key = key.map_err(|error| AdminError::Unavailable(error.to_string()))?;
        let by = self.caller.who.to_string();
        let request = Request {
            kind: RequestKind::Cancel,
            job: job.clone(),
            run,
            requested_at: self.now(),
            params: None,
            client: None,
            by,
            retry_of: None,
            scheduled_at: None,
            traceparent: None,
        };
        let key = self.inner.keys.request(self.segment_of(&job).await?, &key);
        let value = encode(&request);
        let txn = Txn::new().absent(key.clone()).put(key, value);
        let deed = Deed::new("run.cancel", id, Some(&group));
        match self.commit(self.audited(txn, deed)).await? {
            Written::Done => Ok(()),
            Written::Refused(_) => Err(AdminError::Conflict { what: format!("run {id}") }),
        }
    }
}
