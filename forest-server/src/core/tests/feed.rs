//! What is told of what happens, and where readers are told that they lack something.

use forest_etcd::{Change, KeyValue};
use forest_proto::record::{Job, JobStatus, Outcome, encode};
use forest_proto::time::Instant;
use forest_proto::{GroupName, Keyspace, NodeId, RunId, SegmentCount};

use super::{START, job, seat};
use crate::core::feed::{About, Event, Fresh, MAX_FRESH};
use crate::core::view::{Now, View};

struct Stream {
    view: View,
    keys: Keyspace,
}

fn kv(key: String, value: Vec<u8>, mod_revision: i64, version: i64) -> KeyValue {
    KeyValue { key, value, create_revision: mod_revision - version + 1, mod_revision, version, lease: 0 }
}

impl Stream {
    /// A listing of these at revision 10.
    fn after_a_listing(listed: Vec<KeyValue>) -> Self {
        let keys = Keyspace::default();
        let mut stream = Self { view: View::new(keys.clone(), SegmentCount::DEFAULT, "UTC".into()), keys };
        stream.list(listed, 10);
        stream.view.feed.take();
        stream
    }

    fn list(&mut self, listed: Vec<KeyValue>, revision: i64) {
        self.apply(Change::ListStarted);
        listed.into_iter().for_each(|kv| self.apply(Change::Listed(kv)));
        self.apply(Change::ListEnded { revision });
    }

    fn apply(&mut self, change: Change) {
        self.view.apply(change, Now { wall_ms: START, boot: std::time::Duration::ZERO });
    }

    fn put(&mut self, key: String, value: Vec<u8>, revision: i64, version: i64) {
        self.apply(Change::Put(kv(key, value, revision, version)));
    }

    fn delete(&mut self, key: String, revision: i64) {
        self.apply(Change::Deleted { key, revision });
    }

    fn save(&mut self, job: &Job, revision: i64, version: i64) {
        self.put(self.keys.job(&job.id), encode(job), revision, version);
    }

    fn take(&mut self) -> (Option<i64>, Vec<String>) {
        let Fresh { floor, events, .. } = self.view.feed.take();
        (floor, events.iter().map(|event| line(event)).collect())
    }

    fn told(&mut self) -> Vec<String> {
        let (floor, told) = self.take();
        assert_eq!(floor, None, "{told:?}");
        told
    }
}

fn line(event: &Event) -> String {
    let group = event.group.as_ref().map_or("-", GroupName::as_str);
    let about = match &event.about {
        About::Job { id, version, enabled, .. } => format!("{id} v{version} {enabled}"),
        About::Run { run, client, state, outcome, .. } => {
            let client = client.as_ref().map_or("-", |client| client.as_str());
            format!("{} {client} {state} {}", run.job(), outcome.map_or("-", Outcome::as_str))
        }
        About::Leader { node, term } => format!("{node} {term}"),
        About::Calendar(name) => name.to_string(),
        About::Client(client) => client.to_string(),
        About::Node(node) => node.to_string(),
        About::Group => String::new(),
    };
    format!("{} {} {group} {about}", event.id, event.kind.as_str()).trim_end().to_owned()
}

#[test]
fn a_job_is_told_from_its_creation_to_its_end() {
    let mut stream = Stream::after_a_listing(Vec::new());
    let created = job("bill", "0 0 2 * * *");
    let paused = Job { status: JobStatus::Disabled, version: 2, ..created.clone() };
    let resumed = Job { status: JobStatus::Enabled, version: 3, ..created.clone() };
    let elsewhere = Job { group: GroupName::new("other").expect("valid"), version: 4, ..created.clone() };
    stream.save(&created, 11, 1);
    stream.save(&paused, 12, 2);
    stream.save(&resumed, 13, 3);
    stream.save(&Job { remark: "x".into(), ..resumed }, 14, 4);
    stream.save(&elsewhere, 15, 5);
    stream.delete(stream.keys.job(&created.id), 16);
    let group = created.group.as_str();
    assert_eq!(
        stream.told(),
        [
            format!("11.1 job.created {group} bill v{} true", created.version),
            format!("12.1 job.paused {group} bill v2 false"),
            format!("13.1 job.resumed {group} bill v3 true"),
            format!("14.1 job.updated {group} bill v3 true"),
            format!("15.0 job.left {group} bill v4 true"),
            "15.1 job.updated other bill v4 true".to_owned(),
            "16.1 job.deleted other bill v0 false".to_owned(),
        ]
    );
}

#[test]
fn a_job_that_cannot_be_read_is_nobodys() {
    let mut stream = Stream::after_a_listing(Vec::new());
    let bill = job("bill", "0 0 2 * * *");
    let key = stream.keys.job(&bill.id);
    stream.put(key.clone(), b"{".to_vec(), 11, 1);
    // Its group can be read, though it cannot be scheduled.
    stream.save(&Job { cron: "x".into(), ..bill.clone() }, 12, 2);
    stream.put(key.clone(), b"[]".to_vec(), 13, 3);
    stream.delete(key, 14);
    let group = bill.group.as_str();
    let told = [
        "11.1 job.created - bill v0 false".to_owned(),
        format!("12.1 job.updated {group} bill v{} true", bill.version),
        "13.1 job.updated - bill v0 false".to_owned(),
        "14.1 job.deleted - bill v0 false".to_owned(),
    ];
    assert_eq!(stream.told(), told);
}

#[test]
fn what_lives_beside_jobs_is_told_when_it_comes_and_goes_but_not_when_it_beats() {
    let mut stream = Stream::after_a_listing(Vec::new());
    let (node, (group, client)) = (NodeId::new("n-1").expect("valid"), seat("c-1"));
    let keys = stream.keys.clone();
    let calendar = "days".parse().expect("valid");
    stream.put(keys.node(&node), b"{}".to_vec(), 11, 1);
    stream.put(keys.node(&node), b"{}".to_vec(), 12, 2);
    stream.put(keys.leader(), b"n-1".to_vec(), 13, 1);
    stream.put(keys.group(&group), b"{}".to_vec(), 14, 1);
    stream.put(keys.group(&group), b"{}".to_vec(), 15, 2);
    stream.put(keys.calendar(&calendar), b"{}".to_vec(), 16, 1);
    stream.put(keys.client(&group, &client), b"c-1".to_vec(), 17, 1);
    stream.put(keys.client(&group, &client), b"c-1".to_vec(), 18, 2);
    for key in [keys.client(&group, &client), keys.calendar(&calendar), keys.group(&group), keys.leader()] {
        stream.delete(key, 19);
    }
    stream.delete(keys.node(&node), 20);
    let told = [
        "11.1 node.joined - n-1".to_owned(),
        "13.1 leader.changed - n-1 13".to_owned(),
        format!("14.1 group.created {group}"),
        format!("15.1 group.updated {group}"),
        "16.1 calendar.created - days".to_owned(),
        format!("17.1 client.joined {group} c-1"),
        format!("18.1 client.updated {group} c-1"),
        format!("19.1 client.left {group} c-1"),
        "19.3 calendar.deleted - days".to_owned(),
        format!("19.5 group.deleted {group}"),
        "19.7 leader.left - n-1 13".to_owned(),
        "20.1 node.left - n-1".to_owned(),
    ];
    assert_eq!(stream.told(), told);
}

fn execution(status: i64, more: &str) -> Vec<u8> {
    format!(r#"{{"id":"20261118110640000-bill-1","jobId":"bill","group":"trade","target":"pay","status":{status}{more}}}"#)
        .into_bytes()
}

#[test]
fn a_run_is_told_once_for_each_step_and_ends_once() {
    let mut stream = Stream::after_a_listing(Vec::new());
    let (group, client) = seat("c-1");
    let run = RunId::scheduled(&"bill".parse().expect("valid"), Instant::from_ms(START), 1);
    let keys = stream.keys.clone();
    let (pending, snapshot) = (keys.pending(&group, &run), keys.snapshot(&group, &client, &run));
    let document = execution(1, "");
    stream.put(pending.clone(), document.clone(), 11, 1);
    stream.delete(pending, 12);
    stream.put(snapshot.clone(), document.clone(), 12, 1);
    stream.delete(snapshot, 13);
    let claimed = keys.execution(&group, Some(&client), &run);
    stream.put(claimed.clone(), document.clone(), 13, 1);
    stream.put(claimed.clone(), document, 14, 2);
    stream.put(keys.cancel(&group, &client, &run), Vec::new(), 15, 1);
    // Its end, which its client leaves to the leader to settle.
    stream.put(claimed.clone(), execution(4, ""), 16, 3);
    stream.put(claimed.clone(), execution(4, r#","decided":true,"outcome":"timed_out""#), 17, 4);
    stream.delete(claimed, 18);
    let at = |id: &str, what: &str, where_: &str| format!("{id} run.{what} {group} bill {where_}");
    let told = [
        at("11.1", "created", "- pending -"),
        at("12.3", "moved", "c-1 queued -"),
        at("13.3", "claimed", "c-1 running -"),
        at("15.1", "cancelling", "c-1 running -"),
        at("17.1", "ended", "c-1 finished timed_out"),
    ];
    assert_eq!(stream.told(), told);
    // One that never was anywhere, and one of another program, which the leader settles without a word of its own.
    stream.put(
        keys.execution(&group, None, &run),
        execution(3, r#","decided":true,"outcome":"lost""#),
        20,
        1,
    );
    stream.put(keys.execution(&group, None, &run), execution(2, r#","decided":true"#), 21, 1);
    let told = [at("20.1", "ended", "- finished lost"), at("21.1", "ended", "- finished succeeded")];
    assert_eq!(stream.told(), told);
}

#[test]
fn the_leader_tells_what_it_has_written_itself_as_the_others_do() {
    let mut stream = Stream::after_a_listing(Vec::new());
    let (group, client) = seat("c-1");
    let run = RunId::scheduled(&"bill".parse().expect("valid"), Instant::from_ms(START), 1);
    let key = stream.keys.execution(&group, Some(&client), &run);
    let ended = execution(4, r#","decided":true,"outcome":"failed""#);
    // Its view has the end before the stream has the claim.
    stream.list(vec![kv(key.clone(), ended.clone(), 12, 2)], 12);
    stream.put(key.clone(), execution(1, ""), 11, 1);
    stream.put(key, ended, 12, 2);
    let told = [
        format!("11.1 run.claimed {group} bill c-1 running -"),
        format!("12.1 run.ended {group} bill c-1 finished failed"),
    ];
    assert_eq!(stream.told(), told);
}

#[test]
fn a_first_listing_and_a_gap_say_from_where_on_nothing_is_missing() {
    let bill = job("bill", "0 0 2 * * *");
    let keys = Keyspace::default();
    let mut stream = Stream { view: View::new(keys.clone(), SegmentCount::DEFAULT, "UTC".into()), keys };
    stream.apply(Change::ListStarted);
    assert_eq!(stream.take(), (None, Vec::new()), "nothing is known yet");
    let stored = kv(stream.keys.job(&bill.id), encode(&bill), 5, 1);
    stream.apply(Change::Listed(stored.clone()));
    stream.apply(Change::ListEnded { revision: 10 });
    assert_eq!(stream.take(), (Some(10), Vec::new()), "what was there already is no event");

    stream.save(&bill, 11, 2);
    stream.apply(Change::Gap);
    stream.list(vec![stored.clone()], 20);
    stream.save(&bill, 21, 9);
    let told = format!("21.1 job.updated {} bill v{} true", bill.group, bill.version);
    assert_eq!(stream.take(), (Some(20), vec![told]), "what came before the gap does not help any more");

    // Restored from a backup.
    stream.apply(Change::Reset);
    stream.list(vec![stored], 7);
    stream.delete(stream.keys.job(&bill.id), 8);
    assert_eq!(stream.take(), (Some(7), vec![format!("8.1 job.deleted {} bill v0 false", bill.group)]));
}

#[test]
fn a_listing_beside_the_stream_that_shows_nothing_new_is_no_gap() {
    let bill = job("bill", "0 0 2 * * *");
    let (group, client) = seat("c-1");
    let stored = kv(Keyspace::default().job(&bill.id), encode(&bill), 5, 1);
    let unreadable = kv("/forest/server/conf/odd".into(), b"{".to_vec(), 3, 1);
    let mut stream = Stream::after_a_listing(vec![stored.clone(), unreadable.clone()]);
    let key = stream.keys.client(&group, &client);
    stream.put(key.clone(), b"c-1".to_vec(), 11, 1);
    let registered = kv(key.clone(), b"c-1".to_vec(), 11, 1);
    for revision in [11, 12, 13] {
        stream.list(vec![stored.clone(), registered.clone(), unreadable.clone()], revision);
    }
    stream.apply(Change::Progress { revision: 20 });
    stream.delete(key, 22);
    assert_eq!(
        stream.told(),
        [format!("11.1 client.joined {group} c-1"), format!("22.1 client.left {group} c-1")]
    );
}

#[test]
fn what_a_listing_shows_before_the_stream_does_is_told_when_the_stream_does() {
    let bill = job("bill", "0 0 2 * * *");
    let stored = kv(Keyspace::default().job(&bill.id), encode(&bill), 5, 1);
    let mut stream = Stream::after_a_listing(vec![stored]);
    let (group, client) = seat("c-1");
    let key = stream.keys.client(&group, &client);
    // It names neither the job nor the client as they are in the view.
    stream.list(vec![kv(key.clone(), b"c-1".to_vec(), 12, 1)], 15);
    stream.put(key, b"c-1".to_vec(), 12, 1);
    stream.delete(stream.keys.job(&bill.id), 14);
    stream.apply(Change::Progress { revision: 99 });
    let told =
        [format!("12.1 client.joined {group} c-1"), format!("14.1 job.deleted {} bill v0 false", bill.group)];
    assert_eq!(stream.told(), told);
}

#[test]
fn what_the_stream_has_dropped_is_a_gap() {
    let bill = job("bill", "0 0 2 * * *");
    let stored = kv(Keyspace::default().job(&bill.id), encode(&bill), 5, 1);
    let (group, client) = seat("c-1");
    let joined = kv(Keyspace::default().client(&group, &client), b"c-1".to_vec(), 12, 1);
    let dropped = |listed: Vec<KeyValue>| {
        let mut stream = Stream::after_a_listing(vec![stored.clone()]);
        stream.apply(Change::Progress { revision: 13 });
        stream.list(listed, 13);
        stream.save(&bill, 30, 2);
        stream.take()
    };
    let told = vec![format!("30.1 job.updated {} bill v{} true", bill.group, bill.version)];
    assert_eq!(dropped(vec![stored.clone()]), (None, told.clone()));
    assert_eq!(dropped(vec![stored.clone(), joined]), (Some(29), told), "a client came");
    let created = vec![format!("30.1 job.updated {} bill v{} true", bill.group, bill.version)];
    assert_eq!(dropped(Vec::new()), (Some(29), created), "a job went");
}

#[test]
fn more_than_anybody_has_taken_is_a_gap_and_not_a_heap() {
    let mut stream = Stream::after_a_listing(Vec::new());
    let (group, client) = seat("c-1");
    let key = stream.keys.client(&group, &client);
    let many = i64::try_from(MAX_FRESH).expect("fits") + 5;
    (1..=many).for_each(|n| stream.put(key.clone(), b"c-1".to_vec(), 10 + n, n));
    let (floor, told) = stream.take();
    assert_eq!(floor, Some(10 + many - 4), "of those only what is behind it counts");
    assert_eq!(told.len(), 5, "the rest was too much");
}
