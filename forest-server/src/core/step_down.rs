//! A leader that somebody asks to give up the leadership: whether it is meant, and what it writes.

use std::time::Duration;

use forest_etcd::Txn;
use forest_proto::Keyspace;

use super::term::Term;
use super::view::View;

/// How long the leader of this term is to leave the leadership to others, if somebody asked it to. A leader that is alone
/// may take it again at once.
pub(crate) fn asked(view: &View, term: &Term) -> Option<Duration> {
    let (_, asked) = view.step_down.iter().next()?;
    let meant = asked.term == term.number() && asked.node == *term.node();
    meant.then(|| if is_alone(view, term) { Duration::ZERO } else { Duration::from_millis(asked.hold_ms) })
}

fn is_alone(view: &View, term: &Term) -> bool {
    view.nodes.iter().all(|(node, _)| node == term.node())
}

/// Gives the leadership back, and takes the request with it: one that is there is about this term, or about none any more.
pub(crate) fn resignation(keys: &Keyspace, term: &Term) -> Txn {
    term.txn().delete(keys.leader()).delete(keys.step_down())
}
