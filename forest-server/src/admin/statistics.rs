//! What became of runs, in numbers: read from the counters beside the history, never from its rows.

use std::collections::BTreeMap;

use forest_proto::time::Instant;
use forest_proto::{GroupName, JobId};

use super::{Admin, AdminError, PageRequest};
use crate::store::{By, Tallied, TallyFilter};

const HOUR_MS: i64 = 3_600_000;
/// How far back is looked unless somebody says.
const USUAL_MS: i64 = 24 * HOUR_MS;
/// The longest time that is counted at once.
const LONGEST_MS: i64 = 400 * 24 * HOUR_MS;

#[derive(Debug, Clone, Default)]
pub(crate) struct StatisticsQuery {
    pub(crate) by: By,
    pub(crate) group: String,
    pub(crate) job_id: String,
    pub(crate) since: Option<Instant>,
    pub(crate) until: Option<Instant>,
}

/// Counts of one hour, day, job or group.
#[derive(Debug, Clone)]
pub(crate) struct Statistic {
    pub(crate) by: By,
    pub(crate) tallied: Tallied,
    /// Of a job that is there, and that the caller may see.
    pub(crate) job_name: String,
}

#[derive(Debug)]
pub(crate) struct StatisticsPage {
    pub(crate) items: Vec<Statistic>,
    pub(crate) next: String,
    /// Whole hours.
    pub(crate) since: Instant,
    pub(crate) until: Instant,
}

impl Admin {
    pub(crate) async fn statistics(
        &self,
        query: StatisticsQuery,
        page: PageRequest,
    ) -> Result<StatisticsPage, AdminError> {
        let group = self.listed_group(&query.group)?.into_owned();
        let size = page.size()?;
        let (since, until) = self.counted_time(&query)?;
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let filter = TallyFilter {
            by: query.by,
            group: given(&group),
            job_id: given(&query.job_id),
            since,
            until,
            after: after(query.by, &page)?,
        };
        let mut found = self.inner.history.tallies(&filter, size + 1).await?;
        let more = found.len() > size;
        found.truncate(size);
        let next = found.last().filter(|_| more).map(|last| token(query.by, last)).unwrap_or_default();
        let names = if query.by == By::Job { self.job_names(&found, group).await? } else { BTreeMap::new() };
        let items = found.into_iter().map(|tallied| Statistic {
            by: query.by,
            job_name: names.get(&tallied.key).cloned().unwrap_or_default(),
            tallied,
        });
        Ok(StatisticsPage { items: items.collect(), next, since, until })
    }

    /// In whole hours, as they are counted.
    fn counted_time(&self, query: &StatisticsQuery) -> Result<(Instant, Instant), AdminError> {
        let until = query.until.unwrap_or_else(|| self.now());
        let since = query.since.unwrap_or_else(|| Instant::from_ms(until.as_ms() - USUAL_MS));
        if since >= until {
            return Err(AdminError::invalid("since", "must be before until"));
        }
        if until.as_ms() - since.as_ms() > LONGEST_MS {
            return Err(AdminError::invalid("since", "must be at most 400 days before until"));
        }
        let floor = |ms: i64| Instant::from_ms(ms / HOUR_MS * HOUR_MS);
        Ok((floor(since.as_ms()), floor(until.as_ms() + HOUR_MS - 1)))
    }

    async fn job_names(
        &self,
        found: &[Tallied],
        group: String,
    ) -> Result<BTreeMap<String, String>, AdminError> {
        let ids: Vec<_> = found.iter().filter_map(|tallied| JobId::new(&tallied.key).ok()).collect();
        self.read(move |now| {
            let seen = |id: &JobId| {
                let job = now.view.jobs.get(id)?.job()?;
                (group.is_empty() || job.group.as_str() == group).then(|| (id.to_string(), job.name))
            };
            ids.iter().filter_map(seen).collect()
        })
        .await
    }
}

fn token(by: By, last: &Tallied) -> String {
    match (by, last.at()) {
        (By::Hour | By::Day, Some(at)) => at.as_ms().to_string(),
        _ => last.key.clone(),
    }
}

/// The key behind which the page begins.
fn after(by: By, page: &PageRequest) -> Result<Option<String>, AdminError> {
    Ok(match by {
        By::Hour | By::Day => page.after::<i64>()?.map(|ms| by.key_at(Instant::from_ms(ms))),
        By::Job => page.after::<JobId>()?.map(|id| id.to_string()),
        By::Group => page.after::<GroupName>()?.map(|name| name.to_string()),
    })
}
