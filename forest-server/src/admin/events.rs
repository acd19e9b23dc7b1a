//! Listening to what happens: who may, to what, and from where on.

use std::time::Duration;

use forest_proto::{GroupName, JobId};

use super::{Admin, AdminError};
use crate::access::Proof;
use crate::core::feed::EventId;
use crate::events::{Filter, Listener, PER_CALLER, Start};
use crate::scheduler::Unanswered;

/// How long this node may take to reach what the caller has read elsewhere. Beyond that, etcd must have been set back.
const CATCH_UP: Duration = Duration::from_secs(3);

/// What somebody wants to be told.
#[derive(Debug, Clone, Default)]
pub(crate) struct EventQuery {
    /// The id of the last event that is known; `0`: the oldest is wanted; empty: only new ones.
    pub(crate) since: String,
    /// Empty: all that the caller sees.
    pub(crate) group: String,
    pub(crate) job: String,
    /// Names of kinds or families; none: all.
    pub(crate) types: Vec<String>,
    /// Whether to go on with what happens from now on.
    pub(crate) follow: bool,
}

impl Admin {
    pub(crate) async fn listen(&self, query: EventQuery, proof: Proof) -> Result<Listener, AdminError> {
        let filter = filter(&query)?;
        self.caller.may_listen(filter.group.as_ref())?;
        let start = start(&query.since)?;
        let scheduler = &self.inner.scheduler;
        // The first listing has to be in, and what the caller has read at another node.
        scheduler.caught_up(0, super::write::VIEW_PATIENCE).await?;
        let wanted = if let Start::After(id) = start { id.revision } else { 0 };
        let reset = match scheduler.caught_up(wanted, CATCH_UP).await {
            Ok(()) => false,
            Err(Unanswered::Behind(_)) => true,
            Err(ended) => return Err(ended.into()),
        };
        let events = &scheduler.events;
        let proof = proof.is_asked_for().then_some(proof);
        let listener = events.listen(start, reset, query.follow, filter, self.caller.clone(), proof);
        listener.ok_or(AdminError::TooManyStreams { limit: PER_CALLER })
    }
}

fn start(since: &str) -> Result<Start, AdminError> {
    Ok(match since {
        "" => Start::Now,
        "0" => Start::Oldest,
        text => {
            let id: Result<EventId, _> = text.parse();
            Start::After(id.map_err(|error| AdminError::invalid("since", format!("{text:?} {error}")))?)
        }
    })
}

fn filter(query: &EventQuery) -> Result<Filter, AdminError> {
    let invalid = |field: &str, error: &dyn std::fmt::Display| AdminError::invalid(field, error.to_string());
    let mut filter = Filter::default();
    if !query.group.is_empty() {
        filter.group = Some(GroupName::new(&query.group).map_err(|error| invalid("group", &error))?);
    }
    if !query.job.is_empty() {
        filter.job = Some(JobId::new(&query.job).map_err(|error| invalid("job_id", &error))?);
    }
    for name in &query.types {
        filter.add_type(name).map_err(|error| invalid("types", &error))?;
    }
    Ok(filter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_is_nothing_the_oldest_or_an_id() {
        let read = |since| start(since).map_err(|error| error.to_string());
        assert_eq!(read(""), Ok(Start::Now));
        assert_eq!(read("0"), Ok(Start::Oldest));
        assert_eq!(read("12.3"), Ok(Start::After(EventId { revision: 12, index: 3 })));
        let refused = read("yesterday").expect_err("no id");
        assert_eq!(refused, "since: \"yesterday\" is not the id of an event, such as 120.3");
    }

    #[test]
    fn a_filter_names_the_field_that_is_wrong() {
        let check = |query: EventQuery, field: &str| {
            let refused = filter(&query).expect_err(field);
            assert!(
                matches!(&refused, AdminError::Invalid { field: named, .. } if named == field),
                "{refused}"
            );
        };
        check(EventQuery { group: "a/b".into(), ..EventQuery::default() }, "group");
        check(EventQuery { job: "a/b".into(), ..EventQuery::default() }, "job_id");
        check(EventQuery { types: vec!["job".into(), "jobs".into()], ..EventQuery::default() }, "types");
    }
}
