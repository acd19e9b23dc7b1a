//! Which events somebody wants, and may see.

use forest_proto::{GroupName, JobId};

use crate::access::Caller;
use crate::core::feed::{Event, Kind};

/// What somebody wants.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    pub(crate) group: Option<GroupName>,
    pub(crate) job: Option<JobId>,
    /// A bit for each kind; `None`: all.
    kinds: Option<u32>,
}

fn bit(kind: Kind) -> u32 {
    1 << kind as u32
}

impl Filter {
    /// Takes a name of a kind, or of a family of kinds: `job.created`, `run`.
    pub(crate) fn add_type(&mut self, name: &str) -> Result<(), String> {
        let family = name.strip_suffix(".*").unwrap_or(name);
        let is_meant = |kind: &&Kind| {
            let known = kind.as_str();
            known == name || known.strip_prefix(family).is_some_and(|rest| rest.starts_with('.'))
        };
        match Kind::ALL.iter().filter(is_meant).fold(0, |bits, kind| bits | bit(*kind)) {
            0 => {
                let known: Vec<_> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
                Err(format!(
                    "{name:?} is none of {}; job, run and so on stand for all of theirs",
                    known.join(", ")
                ))
            }
            bits => {
                self.kinds = Some(self.kinds.unwrap_or(0) | bits);
                Ok(())
            }
        }
    }

    /// Whether an event is wanted, and the caller may see it.
    pub(super) fn lets_pass(&self, event: &Event, caller: &Caller) -> bool {
        let wanted = self.kinds.is_none_or(|kinds| kinds & bit(event.kind) != 0)
            && self.group.as_ref().is_none_or(|group| event.group.as_ref() == Some(group))
            && self.job.as_ref().is_none_or(|job| event.job() == Some(job.as_str()));
        wanted
            && match &event.group {
                Some(group) => caller.sees(group),
                // Nobody knows whose it is.
                None => !event.is_of_a_group() || caller.confined_to().is_none(),
            }
    }
}

#[cfg(test)]
mod tests {
    use forest_proto::NodeId;
    use forest_proto::record::{Grants, Role};

    use super::*;
    use crate::core::feed::{About, EventId};

    fn job(kind: Kind, group: Option<&str>, id: &str) -> Event {
        let id = JobId::new(id).expect("valid");
        let about = About::Job { id, name: "bill".into(), version: 1, enabled: true };
        event(kind, group, about)
    }

    fn event(kind: Kind, group: Option<&str>, about: About) -> Event {
        let group = group.map(|name| GroupName::new(name).expect("valid"));
        Event { id: EventId::end_of(1), at_ms: 0, kind, group, about }
    }

    fn node() -> Event {
        event(Kind::NodeJoined, None, About::Node(NodeId::new("n-1").expect("valid")))
    }

    #[test]
    fn who_sees_a_group_sees_what_is_its_and_what_is_nobodys() {
        let trade = GroupName::new("trade").expect("valid");
        let grants = Grants { everywhere: None, groups: [(trade, Role::Viewer)].into() };
        let confined = Caller { grants, ..Caller::server() };
        let all = Filter::default();
        let sees = |caller: &Caller| {
            let events = [
                job(Kind::JobCreated, Some("trade"), "1"),
                job(Kind::JobCreated, Some("other"), "1"),
                job(Kind::JobCreated, None, "1"),
                node(),
            ];
            events.map(|event| all.lets_pass(&event, caller))
        };
        assert_eq!(sees(&confined), [true, false, false, true]);
        assert_eq!(sees(&Caller::server()), [true; 4]);
    }

    #[test]
    fn a_filter_takes_groups_jobs_kinds_and_families() {
        let passes = |filter: &Filter| {
            let events = [
                job(Kind::JobCreated, Some("trade"), "1"),
                job(Kind::JobPaused, Some("trade"), "2"),
                job(Kind::JobPaused, Some("other"), "1"),
                node(),
            ];
            events.map(|event| filter.lets_pass(&event, &Caller::server()))
        };
        let of_group = Filter { group: GroupName::new("trade").ok(), ..Filter::default() };
        assert_eq!(passes(&of_group), [true, true, false, false]);
        let of_job = Filter { job: JobId::new("1").ok(), ..Filter::default() };
        assert_eq!(passes(&of_job), [true, false, true, false]);
        let of_kind = |names: &[&str]| {
            let mut filter = Filter::default();
            names.iter().for_each(|name| filter.add_type(name).expect("known"));
            filter
        };
        assert_eq!(passes(&of_kind(&["job.paused"])), [false, true, true, false]);
        assert_eq!(passes(&of_kind(&["job"])), [true, true, true, false]);
        assert_eq!(passes(&of_kind(&["node.*", "job.created"])), [true, false, false, true]);
        for name in ["", "jobs", "jo", "job.", "job.created.", "*"] {
            let refused = Filter::default().add_type(name).expect_err(name);
            assert!(refused.contains("job.created, job.updated"), "{refused}");
        }
    }
}
