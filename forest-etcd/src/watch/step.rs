//! What one message of a watch stream means: a pure function of the position and the message.

use crate::kv::Unreadable;
use crate::store::revision_of;
use crate::watch::Change;

/// etcd's id for messages that are about no watch in particular: answers to a progress request.
const NO_WATCH: i64 = -1;

/// A message, reduced to what matters.
#[derive(Clone, Debug, Default)]
pub(super) struct Message {
    pub(super) watch_id: i64,
    pub(super) created: bool,
    pub(super) canceled: bool,
    pub(super) compact_revision: i64,
    pub(super) cancel_reason: String,
    /// etcd's revision when it sent this; 0 = not told.
    pub(super) revision: i64,
    /// In the order of their revisions.
    pub(super) changes: Vec<Change>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Hand on; everything up to `upto` is then delivered.
    Deliver { changes: Vec<Change>, upto: i64 },
    /// A sign of life and no more.
    Alive,
    /// The stream cannot go on where it was: list again.
    Relist(&'static str),
    /// etcd refuses the watch; with a new login it may take it, at the same position.
    Refused(String),
}

/// `seen`: everything up to this revision was delivered before.
pub(super) fn step(seen: i64, message: Message) -> Step {
    // First, because a watch that is refused is reported as created and canceled at once.
    if message.canceled {
        return if message.compact_revision > 0 {
            Step::Relist("the changes since then are compacted")
        } else {
            Step::Refused(message.cancel_reason)
        };
    }
    // The answer to a progress request and changes under way may overtake each other (etcd before
    // 3.4.25 and 3.5.8), so its revision proves nothing, neither forwards nor backwards.
    if message.watch_id == NO_WATCH {
        return Step::Alive;
    }
    if message.revision > 0 && message.revision < seen {
        // Restored from a backup, or a member that lags behind: the listing will tell.
        return Step::Relist("etcd is at an older revision than this watch");
    }
    if message.created {
        return Step::Alive;
    }
    if !message.changes.is_empty() {
        return deliver(seen, message.changes);
    }
    // A notice about this watch alone, which comes in order with its changes.
    if message.revision <= seen {
        return Step::Alive;
    }
    let upto = message.revision;
    Step::Deliver { changes: vec![Change::Progress { revision: upto }], upto }
}

/// The header's revision is of no use here: it may be far ahead of these changes.
fn deliver(seen: i64, changes: Vec<Change>) -> Step {
    let changes: Vec<Change> = changes.into_iter().filter(|change| revision(change) > seen).collect();
    match changes.last().map(revision) {
        Some(upto) => Step::Deliver { changes, upto },
        None => Step::Alive,
    }
}

fn revision(change: &Change) -> i64 {
    match change {
        Change::Put(kv) | Change::Listed(kv) => kv.mod_revision,
        Change::Deleted { revision, .. } | Change::ListEnded { revision } | Change::Progress { revision } => {
            *revision
        }
        Change::Reset | Change::Gap | Change::ListStarted => 0,
    }
}

impl Message {
    pub(super) fn new(response: &etcd_client::WatchResponse, unreadable: &Unreadable) -> Self {
        let kvs = response.events().iter().filter_map(etcd_client::Event::kv);
        Self {
            watch_id: response.watch_id(),
            created: response.created(),
            canceled: response.canceled(),
            compact_revision: response.compact_revision(),
            cancel_reason: response.cancel_reason().to_owned(),
            revision: revision_of(response.header()),
            changes: kvs.filter_map(|kv| change(kv, unreadable)).collect(),
        }
    }
}

/// Only an existing key has a version. The event's own type is not asked for, because the library
/// panics on a type that it does not know.
fn change(kv: &etcd_client::KeyValue, unreadable: &Unreadable) -> Option<Change> {
    if kv.version() > 0 {
        return unreadable.decode(kv.clone()).map(Change::Put);
    }
    let key = unreadable.text(kv.key().to_vec())?;
    Some(Change::Deleted { key, revision: kv.mod_revision() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KeyValue;

    fn put(key: &str, mod_revision: i64) -> Change {
        let (create_revision, version, lease) = (mod_revision, 1, 0);
        Change::Put(KeyValue {
            key: key.into(),
            value: vec![],
            create_revision,
            mod_revision,
            version,
            lease,
        })
    }

    fn deleted(key: &str, revision: i64) -> Change {
        Change::Deleted { key: key.into(), revision }
    }

    fn message(revision: i64) -> Message {
        Message { revision, ..Message::default() }
    }

    #[test]
    fn changes_are_handed_on_up_to_the_last_one_and_not_to_the_header() {
        let changes = vec![put("a", 11), deleted("b", 12)];
        let step = step(10, Message { changes: changes.clone(), ..message(99) });
        assert_eq!(step, Step::Deliver { changes, upto: 12 });
    }

    #[test]
    fn what_was_delivered_before_is_left_out() {
        let changes = vec![put("a", 10), put("b", 11)];
        let again = step(10, Message { changes: changes.clone(), ..message(11) });
        assert_eq!(again, Step::Deliver { changes: vec![put("b", 11)], upto: 11 });
        assert_eq!(step(11, Message { changes, ..message(11) }), Step::Alive);
    }

    #[test]
    fn a_refused_watch_is_not_taken_for_a_created_one() {
        let refused = Message {
            created: true,
            canceled: true,
            cancel_reason: "etcdserver: invalid auth token".into(),
            ..message(10)
        };
        assert_eq!(step(10, refused), Step::Refused("etcdserver: invalid auth token".into()));
    }

    #[test]
    fn compaction_leads_to_a_listing_whatever_else_the_message_says() {
        for created in [false, true] {
            let compacted = Message { canceled: true, created, compact_revision: 50, ..message(0) };
            assert!(matches!(step(10, compacted), Step::Relist(_)));
        }
    }

    #[test]
    fn an_etcd_that_went_back_leads_to_a_listing() {
        assert!(matches!(step(10, Message { created: true, ..message(9) }), Step::Relist(_)));
        assert!(matches!(step(10, Message { changes: vec![put("a", 9)], ..message(9) }), Step::Relist(_)));
        assert_eq!(step(10, Message { created: true, ..message(10) }), Step::Alive);
    }

    #[test]
    fn a_notice_about_this_watch_is_progress() {
        let progress = Step::Deliver { changes: vec![Change::Progress { revision: 20 }], upto: 20 };
        assert_eq!(step(10, message(20)), progress);
        assert_eq!(step(20, message(20)), Step::Alive);
    }

    #[test]
    fn the_answer_to_a_progress_request_is_only_a_sign_of_life() {
        for revision in [9, 10, 20] {
            assert_eq!(step(10, Message { watch_id: NO_WATCH, ..message(revision) }), Step::Alive);
        }
    }

    #[test]
    fn a_message_without_a_header_is_no_step_back() {
        let changes = vec![put("a", 11)];
        let step = step(10, Message { changes: changes.clone(), ..message(0) });
        assert_eq!(step, Step::Deliver { changes, upto: 11 });
    }
}
