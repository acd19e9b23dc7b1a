//! One thing that happened, small enough to be kept by the thousand. Texts are made of it when somebody reads it.

use std::fmt;
use std::str::FromStr;

use forest_proto::record::Outcome;
use forest_proto::{CalendarName, ClientId, GroupName, JobId, NodeId, RunId};

/// Which one, the same on every node: etcd's revision and a number within it. As text `120.3`; `120` stands for the
/// end of the revision, behind all of its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct EventId {
    pub(crate) revision: i64,
    pub(crate) index: u32,
}

/// A text that is not the id of an event.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not the id of an event, such as 120.3")]
pub(crate) struct EventIdError;

impl EventId {
    pub(crate) fn end_of(revision: i64) -> Self {
        Self { revision, index: u32::MAX }
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index {
            u32::MAX => write!(f, "{}", self.revision),
            index => write!(f, "{}.{index}", self.revision),
        }
    }
}

impl FromStr for EventId {
    type Err = EventIdError;

    fn from_str(text: &str) -> Result<Self, EventIdError> {
        // Numbers may be parsed with a sign in front; ids have none.
        let number =
            |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.to_owned());
        let (revision, index) = match text.split_once('.') {
            Some((revision, index)) => (revision, Some(index)),
            None => (text, None),
        };
        let revision = number(revision).and_then(|digits| digits.parse().ok()).ok_or(EventIdError)?;
        match index.map(|digits| number(digits).and_then(|digits| digits.parse().ok())) {
            None => Ok(Self::end_of(revision)),
            Some(Some(index)) => Ok(Self { revision, index }),
            Some(None) => Err(EventIdError),
        }
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal,)*) => {
        /// What happened.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Kind { $($(#[$doc])* $kind),* }

        impl Kind {
            pub(crate) const ALL: &[Self] = &[$(Self::$kind),*];

            /// Its name in the API. Stable.
            pub(crate) fn as_str(self) -> &'static str {
                match self { $(Self::$kind => $name),* }
            }
        }
    };
}

kinds! {
    JobCreated = "job.created",
    JobUpdated = "job.updated",
    /// It was enabled, and is not any more.
    JobPaused = "job.paused",
    JobResumed = "job.resumed",
    JobDeleted = "job.deleted",
    /// It belongs to another group now. Told to those who see the group it had.
    JobLeft = "job.left",
    RunCreated = "run.created",
    /// It is elsewhere: due, given to a client, parked again.
    RunMoved = "run.moved",
    RunClaimed = "run.claimed",
    /// Its client is asked to stop it.
    RunCancelling = "run.cancelling",
    /// For good, whatever follows from it is settled.
    RunEnded = "run.ended",
    GroupCreated = "group.created",
    GroupUpdated = "group.updated",
    GroupDeleted = "group.deleted",
    CalendarCreated = "calendar.created",
    CalendarUpdated = "calendar.updated",
    CalendarDeleted = "calendar.deleted",
    ClientJoined = "client.joined",
    ClientUpdated = "client.updated",
    ClientLeft = "client.left",
    NodeJoined = "node.joined",
    NodeLeft = "node.left",
    LeaderChanged = "leader.changed",
    LeaderLeft = "leader.left",
}

/// What it happened to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum About {
    Job {
        id: JobId,
        name: Box<str>,
        version: u64,
        enabled: bool,
    },
    Run {
        run: RunId,
        client: Option<ClientId>,
        state: &'static str,
        outcome: Option<Outcome>,
        duration_ms: u64,
    },
    Group,
    Calendar(CalendarName),
    Client(ClientId),
    Node(NodeId),
    Leader {
        node: Box<str>,
        term: i64,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) id: EventId,
    /// When this node heard of it, by its own clock.
    pub(crate) at_ms: i64,
    pub(crate) kind: Kind,
    /// Whose it is. `None`: it belongs to no group, or its document cannot be read.
    pub(crate) group: Option<GroupName>,
    pub(crate) about: About,
}

impl Event {
    /// Whether it belongs to a group, known or not.
    pub(crate) fn is_of_a_group(&self) -> bool {
        !matches!(self.about, About::Calendar(_) | About::Node(_) | About::Leader { .. })
    }

    /// The id of the job that it is about, or whose run it is about.
    pub(crate) fn job(&self) -> Option<&str> {
        match &self.about {
            About::Job { id, .. } => Some(id.as_str()),
            About::Run { run, .. } => Some(run.job()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_written_and_nothing_else_is() {
        for id in [EventId { revision: 120, index: 3 }, EventId { revision: 0, index: 0 }, EventId::end_of(7)]
        {
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        assert!(EventId { revision: 7, index: 4 } < EventId::end_of(7));
        for text in [
            "",
            ".",
            "1.",
            ".1",
            "+1",
            "-1",
            "1.+2",
            "1.2.3",
            "x",
            "1 ",
            "99999999999999999999",
            "1.4294967296",
        ] {
            assert_eq!(text.parse::<EventId>(), Err(EventIdError), "{text:?}");
        }
    }

    #[test]
    fn each_kind_has_a_name_of_its_own_and_a_bit() {
        let names: std::collections::BTreeSet<_> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
        assert_eq!(names.len(), Kind::ALL.len());
        assert!(Kind::ALL.len() <= 32 && names.iter().all(|name| name.contains('.')));
        assert!(Kind::ALL.iter().enumerate().all(|(at, kind)| *kind as usize == at));
    }
}
