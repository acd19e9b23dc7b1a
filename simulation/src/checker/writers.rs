//! Who writes what: the leader alone what leads to runs, and nobody over what he did not know.

use forest_proto::record::{Cursor, Job, Request, decode};
use forest_proto::{Key, Keyspace};

use super::{Broken, Promise, Store, Touched};
use crate::record::Writer;

#[derive(Default)]
pub(super) struct Writers {
    leader: Option<Writer>,
    /// The create revision of the leader key.
    term: i64,
}

impl Writers {
    pub(super) fn check(
        &mut self,
        by: Option<Writer>,
        touched: &Touched<'_>,
        store: &Store,
        keys: &Keyspace,
        broken: &mut Broken,
    ) {
        match touched.key {
            Key::Leader => self.elected(by, touched, broken),
            Key::Job(_) => changed_job(touched, store, keys, broken),
            Key::Group(group) if touched.after.is_none() => {
                let of_group = |value: &[u8]| decode::<Job>(value).is_ok_and(|job| job.group == *group);
                let mut jobs = store.iter().filter(|(key, _)| matches!(keys.parse(key), Some(Key::Job(_))));
                if let Some((key, _)) = jobs.find(|(_, stored)| of_group(&stored.value)) {
                    broken
                        .note(Promise::NoLostUpdate, format!("group {group} is deleted, but {key} is in it"));
                }
            }
            Key::Request { .. } if touched.after.is_some() => asked(touched, broken),
            Key::Cursor(segment) => {
                let cursor = touched.after.and_then(|value| decode::<Cursor>(value).ok());
                if let Some(cursor) = cursor {
                    self.check_term(&format_args!("cursor {segment}"), cursor.term, broken);
                }
            }
            _ => {}
        }
        if is_leaders(by, touched) && by.is_some() && by != self.leader {
            let what = format!("{} by {by:?}, while {:?} leads", touched.text, self.leader);
            broken.note(Promise::OneTerm, what);
        }
    }

    fn elected(&mut self, by: Option<Writer>, touched: &Touched<'_>, broken: &mut Broken) {
        if touched.after.is_some() && touched.before.is_some() {
            broken.note(Promise::OneTerm, format!("{by:?} took the leadership from {:?}", self.leader));
        }
        if touched.after.is_none() && by.is_some() && by != self.leader {
            broken.note(Promise::OneTerm, format!("{by:?} deposed {:?}", self.leader));
        }
        self.leader = touched.after.and(by);
        self.term = if touched.after.is_some() { touched.create_revision } else { 0 };
    }

    /// What says in whose term it is written.
    pub(super) fn check_term(&self, what: &dyn std::fmt::Display, term: i64, broken: &mut Broken) {
        if term != self.term {
            let what = format!("{what} is written in term {term}, while it is {}", self.term);
            broken.note(Promise::OneTerm, what);
        }
    }
}

/// What nobody but the leader writes.
fn is_leaders(by: Option<Writer>, touched: &Touched<'_>) -> bool {
    let is_node = by.is_some_and(|writer| writer.is_node());
    match touched.key {
        Key::Cursor(_) | Key::Delay { .. } | Key::Pending { .. } | Key::Spread { .. } => true,
        Key::Join { .. } => touched.after.is_some(),
        Key::Snapshot { .. } => is_node || touched.after.is_some(),
        Key::Execution { .. } => is_node && touched.after.is_some(),
        Key::Cancel { .. } => touched.after.is_some() || is_node,
        Key::Request { .. } => touched.after.is_none(),
        // Who asks for one writes it once; nobody cancels one here.
        Key::Backfill { .. } => touched.before.is_some(),
        _ => false,
    }
}

fn changed_job(touched: &Touched<'_>, store: &Store, keys: &Keyspace, broken: &mut Broken) {
    let version = |value: &[u8]| decode::<Job>(value).map(|job| job.version).ok();
    let before = touched.before.and_then(|stored| version(&stored.value));
    let Some(job) = touched.after.and_then(|value| decode::<Job>(value).ok()) else { return };
    if job.version != before.unwrap_or(0) + 1 {
        let what = format!("{} has version {} after {before:?}", touched.text, job.version);
        broken.note(Promise::NoLostUpdate, what);
    }
    if !store.contains_key(&keys.group(&job.group)) {
        broken.note(
            Promise::NoLostUpdate,
            format!("{} is in group {}, which is gone", touched.text, job.group),
        );
    }
}

/// A request that is there is answered already: nobody may put another in its place.
fn asked(touched: &Touched<'_>, broken: &mut Broken) {
    let run = |value: &[u8]| decode::<Request>(value).map(|request| request.run).ok();
    let Some(before) = touched.before else { return };
    if run(&before.value) != touched.after.and_then(run) {
        broken.note(Promise::AskedOnce, format!("{} is for another run now", touched.text));
    }
}
