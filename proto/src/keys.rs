//! The keyspace in etcd: the only place where the text of a key is built or read.
//!
//! Everything lives under one root (default `/forest`). The keys marked *published* are the layout of
//! the original, which other programs read and write; they never change.
//!
//! | key | what |
//! | --- | --- |
//! | `server/elect/leader` | *published*: the leading node, on its lease |
//! | `server/node/{node}` | *published*: a node, on its lease |
//! | `server/group/{group}` | *published*: a group |
//! | `server/conf/{job}` | *published*: a job |
//! | `server/calendar/{calendar}` | days that jobs leave out or put in |
//! | `server/meta` | schema version and segment count, written once |
//! | `server/stepdown` | the leader is to give up the leadership; on a lease |
//! | `server/cursor/{segment}` | how far the fires of a segment are decided |
//! | `server/jobgen/{segment}` | put with every change of a job of the segment, or of a calendar |
//! | `server/delay/{segment}/{due}.{run}` | a run to create later |
//! | `server/request/{segment}/{key}` | something an administrator asked for |
//! | `server/backfill/{segment}/{job}` | fires of the past that are being run, and how far that is |
//! | `server/answer/{segment}/{key}` | what a request with that idempotency key became, on a lease |
//! | `server/user/{user}` | somebody who may log in |
//! | `server/token/{token}` | a secret for programs |
//! | `server/session/{session}` | somebody who is logged in, on a lease |
//! | `server/log/{node}` | how much a node logs for a while, on a lease |
//! | `server/audit/{time}.{random}` | who changed what, until it is in the history |
//! | `server/join/{segment}/{job}` | which of the jobs that a job follows have ended, and when |
//! | `server/drain/{group}/{client}` | this client is to get no new runs; on the lease of its registration |
//! | `server/pending/{group}/{run}` | a run with no client to give it to |
//! | `server/spread/{group}/{run}` | a broadcast that has become one run for each client, until all of them have ended |
//! | `client/{group}/clients/{client}` | *published*: a registration, on the client's lease |
//! | `client/snapshot/{group}/{client}/{run}` | *published*: given, not yet claimed |
//! | `client/execute/snapshot/{group}/{client}/{run}` | *published*: claimed or ended |
//! | `client/execute/late/{group}/{client}/{run}` | a completion that came too late |
//! | `client/cancel/{group}/{client}/{run}` | please stop this run |
//!
//! What handlers share among each other is beside that root and not below it, so that no node ever sees it:
//!
//! | key | what |
//! | --- | --- |
//! | `{root}-shared/{group}/lock/{name}/holder` | who holds the lock, on a lease as long as its limit |
//! | `{root}-shared/{group}/lock/{name}/session` | written together with it, on the holder's own lease |
//! | `{root}-shared/{group}/lock/{name}/ticket/{random}` | a place in the line, on the waiting client's lease |
//! | `{root}-shared/{group}/queue/{name}/tail` | the number of the last item, and who pushed lately |
//! | `{root}-shared/{group}/queue/{name}/item/{number}` | an item, as it was pushed |
//! | `{root}-shared/{group}/queue/{name}/claim/{number}` | the item is in work, on the taker's lease |
//! | `{root}-shared/{group}/state/{key}` | an entry of the shared state |
//! | `{root}-shared/{group}/permit/{random}` | lets one write happen once, for a few seconds |
//!
//! So no two clusters on one etcd may have roots of which one is the other with `-shared` behind it.
//!
//! A decision that concerns no client (a skipped fire, say) is an execution with `-` in the client's place,
//! which no client can be called.

mod roles;
mod shared;

pub use roles::EtcdRole;
pub use shared::SharedKey;

use crate::name::{CalendarName, ClientId, GroupName, JobId, NodeId, RequestKey, SecretId, UserName};
use crate::run_id::{RunId, parse_stamp, stamp};
use crate::segment::Segment;
use crate::time::Instant;

const NO_CLIENT: &str = "-";

/// A root and the keys below it.
///
/// ```
/// use forest_proto::{GroupName, Key, Keyspace};
/// let keys = Keyspace::default();
/// let group = GroupName::new("trade").unwrap();
/// assert_eq!(keys.group(&group), "/forest/server/group/trade");
/// assert_eq!(keys.parse("/forest/server/group/trade"), Some(Key::Group(group)));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyspace {
    root: String,
}

/// A root that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "key root {0:?} must be like /forest: one or more parts of A-Z, a-z, 0-9, '.', '_', '-', each after a slash"
)]
pub struct RootError(String);

/// What a key names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // The module's table says what each is.
pub enum Key {
    Leader,
    Meta,
    StepDown,
    Node(NodeId),
    Group(GroupName),
    Job(JobId),
    Calendar(CalendarName),
    Cursor(Segment),
    Jobgen(Segment),
    Delay { segment: Segment, due: Instant, run: RunId },
    Request { segment: Segment, key: RequestKey },
    Backfill { segment: Segment, job: JobId },
    Answer { segment: Segment, key: RequestKey },
    Mark(RequestKey),
    User(UserName),
    Token(SecretId),
    Session(SecretId),
    LogLevel(NodeId),
    Audit { at: Instant, id: RequestKey },
    Join { segment: Segment, job: JobId },
    Drain { group: GroupName, client: ClientId },
    Pending { group: GroupName, run: RunId },
    Spread { group: GroupName, run: RunId },
    Client { group: GroupName, client: ClientId },
    Snapshot { group: GroupName, client: ClientId, run: RunId },
    Execution { group: GroupName, client: Option<ClientId>, run: RunId },
    Late { group: GroupName, client: ClientId, run: RunId },
    Cancel { group: GroupName, client: ClientId, run: RunId },
}

impl Default for Keyspace {
    fn default() -> Self {
        Self { root: "/forest".into() }
    }
}

impl Keyspace {
    /// A keyspace below `root`, such as `/forest`.
    ///
    /// # Errors
    /// [`RootError`] if the root is not a clean path.
    pub fn new(root: &str) -> Result<Self, RootError> {
        let part = |p: &str| {
            !p.is_empty()
                && p != "."
                && p != ".."
                && p.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        let valid = root.len() <= 128 && root.strip_prefix('/').is_some_and(|r| r.split('/').all(part));
        if valid { Ok(Self { root: root.into() }) } else { Err(RootError(root.chars().take(80).collect())) }
    }

    /// The prefix of everything, ending in a slash.
    #[must_use]
    pub fn all(&self) -> String {
        format!("{}/", self.root)
    }

    /// See the [module's table](self), as for all that follow.
    #[must_use]
    pub fn leader(&self) -> String {
        format!("{}/server/elect/leader", self.root)
    }
    #[must_use]
    #[allow(missing_docs)]
    pub fn meta(&self) -> String {
        format!("{}/server/meta", self.root)
    }
    #[must_use]
    #[allow(missing_docs)]
    pub fn step_down(&self) -> String {
        format!("{}/server/stepdown", self.root)
    }
    #[must_use]
    #[allow(missing_docs)]
    pub fn node(&self, node: &NodeId) -> String {
        format!("{}/server/node/{node}", self.root)
    }
    #[must_use]
    #[allow(missing_docs)]
    pub fn log_level(&self, node: &NodeId) -> String {
        format!("{}/server/log/{node}", self.root)
    }
    #[must_use]
    #[allow(missing_docs)]
    pub fn group(&self, group: &GroupName) -> String {
        format!("{}/server/group/{group}", self.root)
    }
    #[must_use]
    #[allow(missing_docs)]
    pub fn job(&self, job: &JobId) -> String {
        format!("{}/server/conf/{job}", self.root)
    }
    #[must_use]
    #[allow(missing_docs)]
    pub fn calendar(&self, calendar: &CalendarName) -> String {
        format!("{}/server/calendar/{calendar}", self.root)
    }
    #[must_use]
    #[allow(missing_docs)]
    pub fn cursor(&self, segment: Segment) -> String {
        format!("{}/server/cursor/{segment}", self.root)
    }
    #[must_use]
    #[allow(missing_docs)]
    pub fn jobgen(&self, segment: Segment) -> String {
        format!("{}/server/jobgen/{segment}", self.root)
    }
    #[must_use]
    #[allow(missing_docs)]
    pub fn delay(&self, segment: Segment, due: Instant, run: &RunId) -> String {
        format!("{}/server/delay/{segment}/{}.{run}", self.root, stamp(due))
    }
    #[must_use]
    #[allow(missing_docs)]
    pub fn request(&self, segment: Segment, key: &RequestKey) -> String {
        format!("{}/server/request/{segment}/{key}", self.root)
    }
    #[must_use]
    #[allow(missing_docs)]
    pub fn backfill(&self, segment: Segment, job: &JobId) -> String {
        format!("{}/server/backfill/{segment}/{job}", self.root)
    }
    #[must_use]
    #[allow(missing_docs)]
    pub fn answer(&self, segment: Segment, key: &RequestKey) -> String {
        format!("{}/server/answer/{segment}/{key}", self.root)
    }
    #[must_use]
    #[allow(missing_docs)]
    pub fn mark(&self, key: &RequestKey) -> String {
        format!("{}/server/mark/{key}", self.root)
    }
    #[must_use]
    #[allow(missing_docs)]
    pub fn user(&self, user: &UserName) -> String {
        format!("{}/server/user/{user}", self.root)
    }
    #[must_use]
    #[allow(missing_docs)]
    pub fn token(&self, token: &SecretId) -> String {
        format!("{}/server/token/{token}", self.root)
    }
    #[must_use]
    #[allow(missing_docs)]
    pub fn session(&self, session: &SecretId) -> String {
        format!("{}/server/session/{session}", self.root)
    }
    /// The prefix of all records of changes.
    #[must_use]
    pub fn audits(&self) -> String {
        format!("{}/server/audit/", self.root)
    }
    #[must_use]
    #[allow(missing_docs)]
    pub fn audit(&self, at: Instant, id: &RequestKey) -> String {
        format!("{}/server/audit/{}.{id}", self.root, stamp(at))
    }
    #[must_use]
    #[allow(missing_docs)]
    pub fn join(&self, segment: Segment, job: &JobId) -> String {
        format!("{}/server/join/{segment}/{job}", self.root)
    }
    #[must_use]
    #[allow(missing_docs)]
    pub fn drain(&self, group: &GroupName, client: &ClientId) -> String {
        format!("{}/server/drain/{group}/{client}", self.root)
    }
    #[must_use]
    #[allow(missing_docs)]
    pub fn pending(&self, group: &GroupName, run: &RunId) -> String {
        format!("{}/server/pending/{group}/{run}", self.root)
    }
    #[must_use]
    #[allow(missing_docs)]
    pub fn spread(&self, group: &GroupName, run: &RunId) -> String {
        format!("{}/server/spread/{group}/{run}", self.root)
    }
    #[must_use]
    #[allow(missing_docs)]
    pub fn client(&self, group: &GroupName, client: &ClientId) -> String {
        format!("{}/client/{group}/clients/{client}", self.root)
    }
    /// The prefix under which a client finds its snapshots.
    #[must_use]
    pub fn snapshots_of(&self, group: &GroupName, client: &ClientId) -> String {
        format!("{}/client/snapshot/{group}/{client}/", self.root)
    }
    #[must_use]
    #[allow(missing_docs)]
    pub fn snapshot(&self, group: &GroupName, client: &ClientId, run: &RunId) -> String {
        format!("{}/client/snapshot/{group}/{client}/{run}", self.root)
    }
    /// `client`: `None` for a decision that concerns no client.
    #[must_use]
    pub fn execution(&self, group: &GroupName, client: Option<&ClientId>, run: &RunId) -> String {
        let client = client.map_or(NO_CLIENT, ClientId::as_str);
        format!("{}/client/execute/snapshot/{group}/{client}/{run}", self.root)
    }
    #[must_use]
    #[allow(missing_docs)]
    pub fn late(&self, group: &GroupName, client: &ClientId, run: &RunId) -> String {
        format!("{}/client/execute/late/{group}/{client}/{run}", self.root)
    }
    /// The prefixes of all keys that stand for a run which is not over and done with.
    #[must_use]
    pub fn runs(&self) -> [String; 5] {
        ["server/delay", "server/pending", "server/spread", "client/snapshot", "client/execute/snapshot"]
            .map(|part| format!("{}/{part}/", self.root))
    }
    /// The prefix under which a client finds requests to stop.
    #[must_use]
    pub fn cancels_of(&self, group: &GroupName, client: &ClientId) -> String {
        format!("{}/client/cancel/{group}/{client}/", self.root)
    }
    #[must_use]
    #[allow(missing_docs)]
    pub fn cancel(&self, group: &GroupName, client: &ClientId, run: &RunId) -> String {
        format!("{}/client/cancel/{group}/{client}/{run}", self.root)
    }

    /// What a key names; `None` for a key that is not ours to understand.
    #[must_use]
    pub fn parse(&self, key: &str) -> Option<Key> {
        let rest = key.strip_prefix(&self.root)?.strip_prefix('/')?;
        let mut parts = rest.split('/');
        let key = match (parts.next()?, parts.next()?) {
            ("server", family) => parse_server(family, &mut parts)?,
            ("client", "snapshot") => {
                let (group, client, run) = place(&mut parts)?;
                Key::Snapshot { group, client: client?, run }
            }
            ("client", "cancel") => {
                let (group, client, run) = place(&mut parts)?;
                Key::Cancel { group, client: client?, run }
            }
            ("client", "execute") => match (parts.next()?, place(&mut parts)?) {
                ("snapshot", (group, client, run)) => Key::Execution { group, client, run },
                ("late", (group, client, run)) => Key::Late { group, client: client?, run },
                _ => return None,
            },
            ("client", group) if parts.next()? == "clients" => {
                Key::Client { group: group.parse().ok()?, client: parts.next()?.parse().ok()? }
            }
            _ => return None,
        };
        parts.next().is_none().then_some(key)
    }
}

type Parts<'a> = std::str::Split<'a, char>;

fn parse_server(family: &str, parts: &mut Parts<'_>) -> Option<Key> {
    match family {
        "meta" => return Some(Key::Meta),
        "stepdown" => return Some(Key::StepDown),
        _ => {}
    }
    let first = parts.next()?;
    let segment = || Segment::parse(first);
    Some(match family {
        "elect" if first == "leader" => Key::Leader,
        "node" => Key::Node(first.parse().ok()?),
        "group" => Key::Group(first.parse().ok()?),
        "conf" => Key::Job(first.parse().ok()?),
        "calendar" => Key::Calendar(first.parse().ok()?),
        "cursor" => Key::Cursor(segment()?),
        "jobgen" => Key::Jobgen(segment()?),
        "delay" => {
            let (due, run) = parts.next()?.split_once('.')?;
            Key::Delay { segment: segment()?, due: parse_stamp(due)?, run: run.parse().ok()? }
        }
        "request" => Key::Request { segment: segment()?, key: parts.next()?.parse().ok()? },
        "backfill" => Key::Backfill { segment: segment()?, job: parts.next()?.parse().ok()? },
        "answer" => Key::Answer { segment: segment()?, key: parts.next()?.parse().ok()? },
        "mark" => Key::Mark(first.parse().ok()?),
        "user" => Key::User(first.parse().ok()?),
        "token" => Key::Token(first.parse().ok()?),
        "session" => Key::Session(first.parse().ok()?),
        "log" => Key::LogLevel(first.parse().ok()?),
        "audit" => {
            let (at, id) = first.split_once('.')?;
            Key::Audit { at: parse_stamp(at)?, id: id.parse().ok()? }
        }
        "join" => Key::Join { segment: segment()?, job: parts.next()?.parse().ok()? },
        "drain" => Key::Drain { group: first.parse().ok()?, client: parts.next()?.parse().ok()? },
        "pending" => Key::Pending { group: first.parse().ok()?, run: parts.next()?.parse().ok()? },
        "spread" => Key::Spread { group: first.parse().ok()?, run: parts.next()?.parse().ok()? },
        _ => return None,
    })
}

/// `{group}/{client}/{run}`; the client is `None` where `-` stands in its place.
fn place(parts: &mut Parts<'_>) -> Option<(GroupName, Option<ClientId>, RunId)> {
    let group = parts.next()?.parse().ok()?;
    let client = match parts.next()? {
        NO_CLIENT => None,
        client => Some(client.parse().ok()?),
    };
    Some((group, client, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::SegmentCount;
    use proptest::prelude::*;

    fn every_key(keys: &Keyspace, word: &str, ms: i64) -> Vec<(String, Key)> {
        let group = GroupName::new(word).expect("valid");
        let client = ClientId::new(word).expect("valid");
        let node = NodeId::new(word).expect("valid");
        let job = JobId::new(&word[..word.len().min(32)]).expect("valid");
        let calendar = CalendarName::new(word).expect("valid");
        let key = RequestKey::new(word).expect("valid");
        let (user, secret) = (UserName::new(word).expect("valid"), SecretId::new(word).expect("valid"));
        let id = key.clone();
        let due = Instant::from_ms(ms);
        let run = RunId::scheduled(&job, due, 1);
        let segment = SegmentCount::DEFAULT.segment_of(&job);
        let (g, c, r) = (|| group.clone(), || client.clone(), || run.clone());
        vec![
            (keys.leader(), Key::Leader),
            (keys.meta(), Key::Meta),
            (keys.step_down(), Key::StepDown),
            (keys.log_level(&node), Key::LogLevel(node.clone())),
            (keys.node(&node), Key::Node(node)),
            (keys.group(&group), Key::Group(g())),
            (keys.job(&job), Key::Job(job.clone())),
            (keys.backfill(segment, &job), Key::Backfill { segment, job: job.clone() }),
            (keys.join(segment, &job), Key::Join { segment, job }),
            (keys.calendar(&calendar), Key::Calendar(calendar)),
            (keys.cursor(segment), Key::Cursor(segment)),
            (keys.jobgen(segment), Key::Jobgen(segment)),
            (keys.delay(segment, due, &run), Key::Delay { segment, due, run: r() }),
            (keys.request(segment, &key), Key::Request { segment, key: key.clone() }),
            (keys.mark(&key), Key::Mark(key.clone())),
            (keys.answer(segment, &key), Key::Answer { segment, key }),
            (keys.user(&user), Key::User(user)),
            (keys.token(&secret), Key::Token(secret.clone())),
            (keys.session(&secret), Key::Session(secret)),
            (keys.audit(due, &id), Key::Audit { at: due, id }),
            (keys.drain(&group, &client), Key::Drain { group: g(), client: c() }),
            (keys.pending(&group, &run), Key::Pending { group: g(), run: r() }),
            (keys.spread(&group, &run), Key::Spread { group: g(), run: r() }),
            (keys.client(&group, &client), Key::Client { group: g(), client: c() }),
            (keys.snapshot(&group, &client, &run), Key::Snapshot { group: g(), client: c(), run: r() }),
            (
                keys.execution(&group, Some(&client), &run),
                Key::Execution { group: g(), client: Some(c()), run: r() },
            ),
            (keys.execution(&group, None, &run), Key::Execution { group: g(), client: None, run: r() }),
            (keys.late(&group, &client, &run), Key::Late { group: g(), client: c(), run: r() }),
            (keys.cancel(&group, &client, &run), Key::Cancel { group: g(), client: c(), run: r() }),
        ]
    }

    proptest! {
        #[test]
        fn every_key_is_read_as_what_was_written(word in "[A-Za-z0-9][A-Za-z0-9._-]{0,62}", ms in 0_i64..4_000_000_000_000) {
            prop_assume!(!crate::name::RESERVED_GROUPS.contains(&word.as_str()));
            let keys = Keyspace::new("/a/b").expect("valid");
            let all = every_key(&keys, &word, ms);
            for (text, key) in &all {
                let read = keys.parse(text);
                prop_assert_eq!(read.as_ref(), Some(key), "{}", text);
                prop_assert!(text.starts_with(&keys.all()));
                prop_assert_eq!(keys.parse(&format!("{text}/x")), None);
            }
            let texts: std::collections::BTreeSet<_> = all.iter().map(|(text, _)| text).collect();
            prop_assert_eq!(texts.len(), all.len(), "two keys are the same text");
        }

        #[test]
        fn garbage_is_refused(text in any::<String>()) {
            let keys = Keyspace::default();
            let _ = keys.parse(&text);
            let _ = keys.parse(&format!("/forest/client/{text}"));
            let _ = keys.parse(&format!("/forest/server/{text}"));
        }
    }

    #[test]
    fn the_published_layout_is_kept() {
        let keys = Keyspace::default();
        let (group, client) =
            (GroupName::new("trade").expect("valid"), ClientId::new("192.168.1.1").expect("valid"));
        assert_eq!(keys.leader(), "/forest/server/elect/leader");
        assert_eq!(keys.client(&group, &client), "/forest/client/trade/clients/192.168.1.1");
        assert_eq!(keys.snapshots_of(&group, &client), "/forest/client/snapshot/trade/192.168.1.1/");
    }

    #[test]
    fn roots_are_checked() {
        assert!(Keyspace::new("/forest").is_ok() && Keyspace::new("/a.b/c_d-1").is_ok());
        for root in ["", "/", "forest", "/a/", "//a", "/a b", "/..", "/组"] {
            assert!(Keyspace::new(root).is_err(), "{root:?}");
        }
    }
}
