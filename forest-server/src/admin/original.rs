//! What only the original's contract asks for: whole lists, and pages by number.

use forest_proto::record::{Job, Snapshot, Status, decode};
use forest_proto::{GroupName, RunId};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{Admin, AdminError, ClientSummary};
use crate::core::jobs::PlannedJob;
use crate::core::runs::Place;
use crate::store::{Entry, Filter};
use forest_schedule::find_zone;

const DAY_MS: i64 = 24 * 3600 * 1000;
/// How far back a job's last fire is looked for.
const BACK_MS: i64 = 400 * DAY_MS;
/// Jobs looked at in one go.
const SCAN: usize = 1_000;

/// A job with its last and its next fire, on the clock of the server's zone.
#[derive(Debug)]
pub(crate) struct OriginalPlan {
    pub(crate) job: Job,
    pub(crate) next: String,
    pub(crate) before: Option<String>,
}

/// Which rows of the history; an empty text matches all.
#[derive(Debug, Default)]
pub(crate) struct OriginalFilter {
    pub(crate) id: String,
    pub(crate) group: String,
    pub(crate) client: String,
    pub(crate) name: String,
    pub(crate) job_id: String,
    pub(crate) status: Option<Status>,
}

impl Admin {
    /// Every job that will fire, by id.
    pub(crate) async fn whole_plan(&self) -> Result<Vec<OriginalPlan>, AdminError> {
        let group = self.listed_group("")?.into_owned();
        let (now_ms, zone) = (self.now().as_ms(), self.zone());
        let mut plan = Vec::new();
        let mut after = None;
        loop {
            let (from, group, zone) = (after.clone(), group.clone(), zone.clone());
            let (mut part, last) = self
                .read(move |now| {
                    let batch = now.view.jobs.page(from.as_ref(), SCAN);
                    let last = batch.last().filter(|_| batch.len() == SCAN).map(|(id, _)| (*id).clone());
                    let shown = batch.into_iter().filter_map(|(id, planned)| {
                        let seen = group.is_empty() || planned.group.as_str() == group;
                        let next = now.view.next_of(id).filter(|_| seen)?;
                        let next = local(next, &zone);
                        let before = fired_before(planned, now_ms).map(|at| local(at, &zone));
                        Some(OriginalPlan { job: planned.job()?, next, before })
                    });
                    (shown.collect::<Vec<_>>(), last)
                })
                .await?;
            plan.append(&mut part);
            match last {
                Some(last) => after = Some(last),
                None => return Ok(plan),
            }
        }
    }

    fn zone(&self) -> TimeZone {
        find_zone(&self.inner.default_zone).unwrap_or(TimeZone::UTC)
    }

    /// Where a client's registration is in etcd.
    pub(crate) fn client_path(&self, client: &ClientSummary) -> String {
        self.inner.keys.client(&client.group, &client.id)
    }

    /// The runs that clients were given and have not claimed, newest first.
    pub(crate) async fn handed_over(
        &self,
        id: &str,
        group: &str,
        client: &str,
        limit: usize,
    ) -> Result<Vec<Snapshot>, AdminError> {
        let (id, client) = (id.to_owned(), client.to_owned());
        let group = self.listed_group(group)?.into_owned();
        self.read(move |now| {
            let loads = now.view.runs.loads().filter(|((of, at), _)| {
                (group.is_empty() || of.as_str() == group) && (client.is_empty() || at.as_str() == client)
            });
            let queued = loads.flat_map(|(_, load)| &load.queued);
            let mut runs: Vec<&RunId> = queued.filter(|run| id.is_empty() || run.as_str() == id).collect();
            runs.sort_unstable_by(|a, b| b.cmp(a));
            let given = runs.into_iter().take(limit).filter_map(|run| {
                let run = now.view.runs.get(run).filter(|run| matches!(run.place, Place::Queued { .. }))?;
                decode(run.value.as_deref()?).ok()
            });
            given.collect()
        })
        .await
    }

    /// A page of the history by its number, and how many rows there are in all.
    pub(crate) async fn numbered_page(
        &self,
        filter: OriginalFilter,
        number: u64,
        size: u64,
    ) -> Result<(Vec<Entry>, u64), AdminError> {
        let given = |text: String| Some(text).filter(|text| !text.is_empty());
        let group = match GroupName::new(&filter.group) {
            // A group that the original let somebody name so is seen by those who see all.
            Err(_) if !filter.group.is_empty() && self.caller.confined_to().is_none() => filter.group,
            _ => self.listed_group(&filter.group)?.into_owned(),
        };
        let filter = Filter {
            id: given(filter.id),
            group: given(group),
            client: given(filter.client),
            name: given(filter.name),
            job_id: given(filter.job_id),
            status: filter.status,
            ..Filter::default()
        };
        Ok(self.inner.history.numbered_page(&filter, number, size).await?)
    }
}

/// The last fire of a job by its schedule, since it counts.
fn fired_before(planned: &PlannedJob, now_ms: i64) -> Option<i64> {
    let timing = planned.timing.as_ref()?;
    // Of a job that fires every second a day is enough, and of one that fires once a year a day is quick.
    let within = |back: i64| timing.count_between((now_ms - back).max(0), now_ms).1;
    within(DAY_MS).or_else(|| within(BACK_MS))
}

fn local(at_ms: i64, zone: &TimeZone) -> String {
    let at = Timestamp::from_millisecond(at_ms).unwrap_or_default();
    at.to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
}
