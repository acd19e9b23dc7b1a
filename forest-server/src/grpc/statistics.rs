//! Statistics as messages.

use forest_proto::admin::v1 as api;
use forest_proto::record::Outcome;
use tonic::Status;

use super::{convert, error, instant};
use crate::admin::{AdminError, Statistic, StatisticsPage, StatisticsQuery};
use crate::store::{By, Lengths, OUTCOMES};

/// What counts are told apart by; the empty text is the default.
pub(crate) fn by(text: &str) -> Result<By, AdminError> {
    convert::choice("by", text)
}

pub(super) fn query(request: &api::GetStatisticsRequest) -> Result<StatisticsQuery, Status> {
    Ok(StatisticsQuery {
        by: by(&request.by).map_err(error::status)?,
        group: request.group.clone(),
        job_id: request.job_id.clone(),
        since: instant("since", request.since)?,
        until: instant("until", request.until)?,
    })
}

impl From<StatisticsPage> for api::GetStatisticsResponse {
    fn from(page: StatisticsPage) -> Self {
        Self {
            items: page.items.into_iter().map(Into::into).collect(),
            next_page_token: page.next,
            since: page.since.as_ms(),
            until: page.until.as_ms(),
        }
    }
}

impl From<Statistic> for api::Statistics {
    fn from(statistic: Statistic) -> Self {
        let Statistic { by, tallied, job_name } = statistic;
        let is = |wanted: By| if by == wanted { tallied.key.clone() } else { String::new() };
        let tally = &tallied.tally;
        let of = |outcome: Outcome| {
            let index = OUTCOMES.iter().position(|known| *known == outcome);
            count(index.map_or(0, |index| tally.outcomes[index]))
        };
        Self {
            at: match by {
                By::Hour | By::Day => tallied.at().map_or(0, |at| at.as_ms()),
                By::Job | By::Group => 0,
            },
            job_id: is(By::Job),
            job_name,
            group: is(By::Group),
            runs: count(tally.runs()),
            succeeded: of(Outcome::Succeeded),
            failed: of(Outcome::Failed),
            timed_out: of(Outcome::TimedOut),
            cancelled: of(Outcome::Cancelled),
            lost: of(Outcome::Lost),
            no_client: of(Outcome::NoClient),
            overlap_skipped: of(Outcome::OverlapSkipped),
            misfire_skipped: of(Outcome::MisfireSkipped),
            missed_fires: count(tally.missed_fires),
            started: count(tally.started),
            duration: Some(lengths(&tally.duration, tally.started)),
            delay: Some(lengths(&tally.delay, tally.started)),
        }
    }
}

/// `all`: how many lengths there are. Those that are in no part are longer than the last one's bound.
fn lengths(lengths: &Lengths, all: i64) -> api::Lengths {
    let beyond = all - lengths.parts.iter().sum::<i64>();
    api::Lengths {
        sum_ms: count(lengths.sum_ms),
        max_ms: count(lengths.max_ms),
        parts: lengths.parts.iter().chain([&beyond]).map(|part| count(*part)).collect(),
    }
}

fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
