//! A history as people read it: one line for each thing that happened, and nothing that only passes the time.

use std::fmt::Write;

use forest_proto::record::{Cursor, Execution, Job, Snapshot, Status, decode};
use forest_proto::{Key, Keyspace};

use crate::checker::{Violation, seconds};
use crate::plan::{Event, MachineId, Plan};
use crate::record::{Change, Entry, Happened, Writer};

/// The plan's own events, numbered as they can be left out.
#[must_use]
pub fn plan(plan: &Plan) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{} nodes, {} workers, {} segments, leases of {:?}, clocks off by {:?} ms",
        plan.nodes,
        plan.workers.len(),
        plan.segments,
        plan.lease_ttl,
        plan.clocks_off_ms
    );
    for (at, event) in &plan.events {
        let _ = match event {
            Event::Fault(fault) => writeln!(text, "{:8.3}  fault  {fault:?}", seconds(*at)),
            Event::Act(act) => writeln!(text, "{:8.3}  act    {act:?}", seconds(*at)),
        };
    }
    text
}

/// What happened, with the violations where they were noticed.
#[must_use]
pub fn history(plan: &Plan, entries: &[Entry], violations: &[Violation]) -> String {
    let keys = Keyspace::default();
    let (mut text, mut violations) = (String::new(), violations.iter().peekable());
    for (at, happened) in entries {
        for line in lines(plan, &keys, happened) {
            let _ = writeln!(text, "{:8.3}  {line}", seconds(*at));
        }
        while let Some(violation) = violations.next_if(|violation| violation.at_ms <= *at) {
            let _ = writeln!(text, "          *** {violation}");
        }
    }
    violations.for_each(|violation| {
        let _ = writeln!(text, "          *** {violation}");
    });
    text
}

fn name(plan: &Plan, machine: MachineId) -> String {
    if machine < plan.nodes { format!("node-{machine}") } else { format!("worker-{machine}") }
}

fn lines(plan: &Plan, keys: &Keyspace, happened: &Happened) -> Vec<String> {
    match happened {
        Happened::Revision { revision, by, changes } => {
            let who = by.map_or("etcd".into(), |Writer { machine, .. }| name(plan, machine));
            let told = changes.iter().filter_map(|change| line(keys, change));
            told.map(|line| format!("r{revision} {who} {line}")).collect()
        }
        Happened::Started { machine, run, fencing_token } => {
            vec![format!("{} starts {run} with token {fencing_token}", name(plan, *machine))]
        }
        Happened::Ended { machine, run, failed } => {
            let how = if *failed { "fails" } else { "finishes" };
            vec![format!("{} {how} {run}", name(plan, *machine))]
        }
        Happened::Saved { rows } => {
            let row = |row: &forest_server::store::Archived| {
                let outcome = row.execution.outcome.map_or("-", |outcome| outcome.as_str());
                format!("{}={outcome}{}", row.execution.snapshot.id, if row.late { " (late)" } else { "" })
            };
            vec![format!("database has {}", rows.iter().map(row).collect::<Vec<_>>().join(", "))]
        }
        Happened::Told(what) => vec![format!("--- {what}")],
        Happened::Broke(what) => vec![format!("!!! {what}")],
    }
}

fn line(keys: &Keyspace, change: &Change) -> Option<String> {
    let Some(key) = keys.parse(&change.key) else {
        return Some(format!("puts the foreign key {}", change.key));
    };
    let value = change.value.as_deref();
    let text = || value.map(|value| String::from_utf8_lossy(value).into_owned()).unwrap_or_default();
    Some(match (&key, value) {
        // They only pass the time.
        (Key::Node(_), Some(_))
        | (Key::Meta, _)
        | (Key::Jobgen(_) | Key::Answer { .. } | Key::Mark(_), Some(_)) => {
            return None;
        }
        (Key::Cursor(segment), Some(value)) => {
            let cursor: Option<Cursor> = decode(value).ok();
            let at = cursor.map(|cursor| format!("{} {}", cursor.fire_at, cursor.job)).unwrap_or_default();
            format!("cursor {segment} to {at}")
        }
        (Key::Job(id), Some(value)) => {
            let job: Option<Job> = decode(value).ok();
            let said = job.map(|job| {
                let enabled = if job.is_enabled() { "on" } else { "off" };
                format!("version {} {enabled} {} {:?} {:?}", job.version, job.cron, job.overlap, job.misfire)
            });
            format!("job {id}: {}", said.unwrap_or_default())
        }
        (Key::Snapshot { client, run, .. }, Some(value)) => {
            let version = decode::<Snapshot>(value).map(|snapshot| snapshot.job_version).unwrap_or_default();
            format!("gives {run} (version {version}) to {client}")
        }
        (Key::Execution { client, run, .. }, Some(value)) => {
            let client = client.as_ref().map_or("-", |client| client.as_str());
            let said = decode::<Execution>(value).map(|execution| match execution.status {
                Status::Running => "claimed".to_owned(),
                _ => {
                    let settled = if execution.decided { "settled" } else { "may be tried again" };
                    format!("{} ({settled})", execution.outcome.map_or("-", |outcome| outcome.as_str()))
                }
            });
            format!("{run} at {client}: {}", said.unwrap_or_default())
        }
        (_, None) => format!("deletes {}", change.key),
        (_, Some(_)) => format!("puts {} = {}", change.key, text().chars().take(120).collect::<String>()),
    })
}
