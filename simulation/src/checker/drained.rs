//! Some time after the last fault everything that was due is done, and nothing newer is stuck.

use forest_proto::record::{Execution, Group, Job, Snapshot, Status, decode};
use forest_proto::{GroupName, JobId, Key, Keyspace, RunId};

use super::fires::Fires;
use super::{Broken, Promise, Store, seconds};
use crate::clock::BEGIN_MS;

/// A fire may be decided so long after it was due on the checker's clock: the leader's may be behind.
const FIRE_MS: i64 = 4_500;
/// What nobody has to wait for may be there so long.
const PASSING_MS: u64 = 5_000;
/// A handler takes so long at most, and what is on its way to it a little more.
const RUNNING_MS: u64 = 10_000;

pub(super) fn check(store: &Store, keys: &Keyspace, fires: &Fires, calm_at: u64, broken: &mut Broken) {
    let end = broken.now_ms;
    let wall = BEGIN_MS + i64::try_from(end).unwrap_or(i64::MAX);
    for (job, fire) in fires.overdue(wall - FIRE_MS) {
        broken.note(Promise::Drained, format!("the fire of {job} at {fire} is not decided"));
    }
    for (job, fire) in fires.unrecorded(wall - FIRE_MS) {
        broken.note(Promise::Drained, format!("the fire of {job} at {fire} is counted and not recorded"));
    }
    for (text, stored) in store {
        let Some(key) = keys.parse(text) else { continue };
        if let Key::Pending { group, .. } = &key
            && !store.keys().any(|other| {
                matches!(keys.parse(other), Some(Key::Client { group: of, client }) if of == *group
                    && !store.contains_key(&keys.drain(&of, &client)))
            })
        {
            // Nobody could take it.
            continue;
        }
        if let Key::Pending { run, .. } = &key
            && (decode::<Snapshot>(&stored.value).is_ok_and(|snapshot| snapshot.waits)
                || is_limited(store, keys, run))
            && others_of_job(store, keys, run)
        {
            continue;
        }
        if let Key::Pending { group, run } = &key
            && is_limited_group(store, keys, group)
            && others_of_group(store, keys, group, run)
        {
            continue;
        }
        if let Key::Backfill { job, .. } = &key
            && (!is_enabled(store, keys, job) || is_any(store, keys, |run| run.job() == job.as_str()))
        {
            // It waits its turn, or for somebody.
            continue;
        }
        let patience = match key {
            // Its shards tell themselves when they are there for too long.
            Key::Spread { ref run, .. } if shards_are_there(store, keys, run) => continue,
            Key::Delay { due, .. } if due.as_ms() > wall - FIRE_MS => continue,
            Key::Request { .. }
            | Key::Backfill { .. }
            | Key::Delay { .. }
            | Key::Late { .. }
            | Key::Spread { .. } => PASSING_MS,
            Key::Pending { .. } | Key::Snapshot { .. } => RUNNING_MS,
            Key::Execution { .. } => match decode::<Execution>(&stored.value) {
                Ok(execution) if execution.status == Status::Running => RUNNING_MS,
                _ => PASSING_MS,
            },
            _ => continue,
        };
        let age = end.saturating_sub(stored.at_ms);
        // What was there when the faults ended has had time enough, whatever it is.
        if age > patience || stored.at_ms < calm_at {
            broken.note(Promise::Drained, format!("{text} is there for {:.1} s", seconds(age)));
        }
    }
}

/// Whether only so many runs of a run's job may be on their way at once: more than that may fall due.
fn is_limited(store: &Store, keys: &Keyspace, run: &RunId) -> bool {
    let conf = JobId::new(run.job()).map(|job| keys.job(&job));
    conf.ok()
        .and_then(|conf| store.get(&conf))
        .is_some_and(|stored| decode::<Job>(&stored.value).is_ok_and(|job| job.max_in_flight.is_some()))
}

fn is_limited_group(store: &Store, keys: &Keyspace, group: &GroupName) -> bool {
    let stored = store.get(&keys.group(group));
    stored
        .is_some_and(|stored| decode::<Group>(&stored.value).is_ok_and(|group| group.max_in_flight.is_some()))
}

/// Whether clients of the group have other runs, for which a run may have to wait.
fn others_of_group(store: &Store, keys: &Keyspace, group: &GroupName, run: &RunId) -> bool {
    store.keys().any(|key| match keys.parse(key) {
        Some(
            Key::Snapshot { group: of, run: other, .. }
            | Key::Execution { group: of, run: other, client: Some(_) },
        ) => of == *group && other != *run,
        _ => false,
    })
}

fn is_enabled(store: &Store, keys: &Keyspace, job: &JobId) -> bool {
    let stored = store.get(&keys.job(job));
    stored.is_none_or(|stored| decode::<Job>(&stored.value).is_ok_and(|job| job.is_enabled()))
}

/// Whether other runs of a run's job are there, for which it may have to wait.
fn others_of_job(store: &Store, keys: &Keyspace, run: &RunId) -> bool {
    is_any(store, keys, |other| other != run && other.job() == run.job())
}

fn is_any(store: &Store, keys: &Keyspace, is: impl Fn(&RunId) -> bool) -> bool {
    store.keys().any(|key| match keys.parse(key) {
        Some(
            Key::Pending { run, .. }
            | Key::Spread { run, .. }
            | Key::Snapshot { run, .. }
            | Key::Delay { run, .. }
            | Key::Execution { run, .. },
        ) => is(&run),
        _ => false,
    })
}

fn shards_are_there(store: &Store, keys: &Keyspace, parent: &RunId) -> bool {
    store.iter().any(|(key, stored)| match keys.parse(key) {
        Some(Key::Pending { run, .. } | Key::Snapshot { run, .. } | Key::Delay { run, .. }) => {
            run.parent().as_ref() == Some(parent)
        }
        Some(Key::Execution { run, .. }) => {
            let settled = decode::<Execution>(&stored.value).is_ok_and(|execution| execution.decided);
            run.parent().as_ref() == Some(parent) && !settled
        }
        _ => false,
    })
}
